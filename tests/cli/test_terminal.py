"""stdin, stdout and stderr: terminals, encodings, files that are closed."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shell import CLEAN, REWIND, events, fill, run, succeed

from rewind import NewEvent

pytest_plugins = "cli_fixtures"


def test_text_is_printed_on_a_terminal_that_knows_no_unicode(store: str) -> None:
    fill(store, "s", NewEvent("caf\u00e9", "\u4f60".encode()))
    text = succeed("read", "-e", store, env={"PYTHONIOENCODING": "ascii"})
    assert b"caf\\xe9" in text and b"\\u4f60" in text


def test_stdout_closed_from_the_start_harms_no_store(store: str) -> None:
    script = 'for n in 1 2 3; do "$@" >&- || exit; done'
    append = [*REWIND, "append", "s", "--data", "x", "-e", store]
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
    assert shown.endswith(b"\r" + b" " * 40 + b"\r")


def test_progress_is_shown_nowhere_else(at: list[str], stream: str) -> None:
    lines = b"".join(b'{"data":"%d"}\n' % n for n in range(2000))
    done = run("append", stream, "--json", *at, input=lines)
    assert (done.returncode, done.stderr) == (0, b"")


def test_typing_at_a_terminal_is_announced(at: list[str], stream: str) -> None:
    code, shown = on_terminal(["append", stream, *at], typed=b"typed\n\x04")
    assert code == 0 and b"until Ctrl-D" in shown
    assert succeed("read", "-s", stream, *at).rstrip().endswith(b"typed\\n")
