"""stdin, stdout and stderr: terminals, encodings, files that are closed."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from shell import CLEAN, REWIND, events, fill, run, succeed

from rewind import NewEvent
from rewind.cli.text import cells

pytest_plugins = "cli_fixtures"


def test_text_is_printed_on_a_terminal_that_knows_no_unicode(store: str) -> None:
    fill(store, "s", NewEvent("caf\u00e9", "\u4f60".encode()))
    text = succeed("read", "-e", store, env={"PYTHONIOENCODING": "ascii"})
    assert b"caf\\xe9" in text and b"\\u4f60" in text


def test_stdout_closed_from_the_start_harms_no_store(store: str) -> None:
    script = 'for n in 1 2 3; do "$@" >&- || exit; done'
    append = [*REWIND, "append", "s", "--data", "x", "-e", f"log:{store}"]
    subprocess.run(["sh", "-c", script, "sh", *append], check=True, env=CLEAN)
    assert len(events(succeed("read", "--format", "jsonl", "-e", store))) == 3


def on_terminal(arguments: Sequence[str], typed: bytes = b"", **popen: Any) -> tuple[int, bytes]:
    """Exit code, and what a command shows on the terminal that is its stderr (and stdin, if typed)."""
    master, slave = pty.openpty()
    stdin = {"stdin": slave} if typed else {}
    process = subprocess.Popen(
        [*REWIND, *arguments], **{**stdin, **popen}, stdout=subprocess.PIPE, stderr=slave, env=CLEAN
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the last process has closed the terminal
        while piece := os.read(master, 4096):
            shown += piece
            if typed and b"Ctrl-D" in shown:
                os.write(master, typed)
                typed = b""
    os.close(master)
    process.communicate()
    return process.returncode, shown


def test_progress_is_shown_on_a_terminal_and_cleared(
    at: list[str], stream: str, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f'{{"data":"{n}"}}\n' for n in range(2000)))
    with open(path, "rb") as lines:
        code, shown = on_terminal(["append", stream, "--json", *at], stdin=lines)
    assert code == 0
    assert b"500 events, 2" in shown and b" %" in shown
    assert shown.endswith(b"\r" + b" " * 60 + b"\r")


def test_progress_is_shown_nowhere_else(at: list[str], stream: str) -> None:
    lines = b"".join(b'{"data":"%d"}\n' % n for n in range(2000))
    done = run("append", stream, "--json", *at, input=lines)
    assert (done.returncode, done.stderr) == (0, b"")


def test_typing_at_a_terminal_is_announced(at: list[str], stream: str) -> None:
    code, shown = on_terminal(["append", stream, *at], typed=b"typed\n\x04")
    assert code == 0 and b"until Ctrl-D" in shown
    assert succeed("read", "-s", stream, *at).rstrip().endswith(b"typed\\n")


def test_lines_typed_at_a_terminal_are_not_overwritten_by_progress(
    at: list[str], stream: str
) -> None:
    typed = b'{"data":"one"}\n{"data":"two"}\n\x04'
    code, shown = on_terminal(["append", stream, "--json", *at], typed=typed)
    assert code == 0 and b"until Ctrl-D" in shown
    assert b"event" not in shown and b"\r " not in shown
    assert len(events(succeed("read", "-s", stream, "--format", "jsonl", *at))) == 2


# --- stdout on a terminal -----------------------------------------------------------


def shown_on_terminal(columns: int, *arguments: str, **env: str) -> str:
    """What a command shows on a terminal of this width."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, columns))
    process = subprocess.Popen(
        [*REWIND, *arguments], stdin=subprocess.DEVNULL, stdout=slave, stderr=slave,
        env={**CLEAN, "TERM": "xterm", **env},
    )  # fmt: skip
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the process has closed the terminal
        while piece := os.read(master, 4096):
            shown += piece
    os.close(master)
    assert process.wait() == 0, shown
    return shown.decode().replace("\r\n", "\n")


@pytest.fixture
def wide(store: str) -> str:
    """A store with events that are wider than a terminal."""
    fill(store, "a-stream-with-a-name", NewEvent("placed", b"x" * 500, tags=["vip"]),
         NewEvent("named", "\u4f60\u597d".encode() * 50, metadata={"by": "\u202ealice"}))  # fmt: skip
    return store


SGR = re.compile(r"\x1b\[[0-9]+m")


@pytest.mark.parametrize("columns", [40, 80, 150])
def test_lines_fit_the_terminal_and_have_colour(wide: str, columns: int) -> None:
    shown = shown_on_terminal(columns, "read", "-e", wide)
    assert shown.count("\n") == 2 and "\x1b[36ma-stream" in shown
    for line in shown.splitlines():
        plain = SGR.sub("", line)
        assert plain.isprintable() and cells(plain) <= columns
    assert "\x1b[" in shown_on_terminal(columns, "show", "1", "-e", wide)
    assert "\x1b[" in shown_on_terminal(columns, "info", "-e", wide)
    assert "\x1b[" in shown_on_terminal(columns, "streams", "-e", wide)
    assert "\x1b[" in shown_on_terminal(columns, "tail", "--after", "0", "-n", "2", "-e", wide)


def test_what_append_says_goes_on_below_between_words(store: str) -> None:
    append = ["append", "a-stream", "--data", "x", "--create", "-e", store]
    shown = shown_on_terminal(50, *append)
    assert re.fullmatch(r"a-stream version 1 position 1 id\n[0-9a-f-]{36}\n", shown)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colour_can_be_turned_off(wide: str, env: dict[str, str]) -> None:
    for command in (["read"], ["show", "1"], ["info"], ["streams"]):
        shown = shown_on_terminal(80, *command, "-e", wide, **env)
        assert "\x1b" not in shown
    assert all(
        cells(line) <= 80 for line in shown_on_terminal(80, "read", "-e", wide, **env).split("\n")
    )


def test_a_pipe_gets_neither_colour_nor_a_width(wide: str) -> None:
    for command in (["read"], ["show", "1"], ["info"], ["streams"]):
        printed = succeed(*command, "-e", wide, env={"TERM": "xterm", "COLUMNS": "40"}).decode()
        assert "\x1b" not in printed
    assert "x" * 100 in succeed("read", "-e", wide).decode()


def test_json_lines_on_a_terminal_are_as_in_a_pipe(wide: str) -> None:
    shown = shown_on_terminal(40, "read", "--format", "jsonl", "-e", wide)
    assert shown.encode() == succeed("read", "--format", "jsonl", "-e", wide)
