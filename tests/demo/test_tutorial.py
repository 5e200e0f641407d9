"""docs/tutorial.rst, followed to the letter: every block runs, what it shows is what comes out.

Python blocks are pasted into one interpreter at a terminal, console blocks into one shell. A Python
block with a caption is saved under that name instead. A text block shows what the Python block before it prints. The only change
is that the daemon gets free ports in place of the usual ones.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from interactive import Interpreter

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.rst"
END = "--- end of a command ---"
COMMAND_S = 40  # the longest is `rewind ping --wait 30`

Block = tuple[str, str, str, int]


def blocks(text: str) -> Iterator[Block]:
    """(language, caption, content, line number) of each code block."""
    pattern = r"^\.\. code-block:: (\w+)\n((?:   :\w+:.*\n)*)\n((?:(?:   .*)?\n)+)"
    for block in re.finditer(pattern, text, re.MULTILINE):
        caption = re.search(r":caption: (.*)", block[2])
        line = text.count("\n", 0, block.start()) + 1
        yield (
            block[1],
            caption[1] if caption else "",
            textwrap.dedent(block[3]).strip() + "\n",
            line,
        )


def test_no_block_is_overlooked() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    assert len(list(blocks(text))) == len(re.findall(r"^\s*\.\. code", text, re.MULTILINE))
    assert "::\n\n   " not in re.sub(r"\.\. code-block::.*\n(   :.*\n)*", "", text), (
        "a literal block"
    )


def matches(shown: str, came: str) -> bool:
    """Whether the output is what is shown; ``...`` is anything, and so is the space between words."""
    pattern = r"\s+".join(".*?".join(map(re.escape, word.split("..."))) for word in shown.split())
    return re.fullmatch(rf"\s*{pattern}\s*", came, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("shown", "came", "same"),
    [
        ("head 3\n", "head 3\n", True),
        ("head 3\n", "head 31\n", False),
        ("in ... ms, head 0", "in 0.3 ms, head 0\n", True),
        ("1  ...  x", "       1  2025 01  x\n", True),
        ("a", "", False),
    ],
)
def test_what_is_shown_is_compared(shown: str, came: str, same: bool) -> None:
    assert matches(shown, came) is same


class Shell:
    """One bash for all console blocks, so that ``&`` and ``$!`` work as they do for the reader."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._bash = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env=environment,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str) -> str:
        """What a command prints. Bash's own word about a killed job is not part of it."""
        assert self._bash.stdin and self._bash.stdout
        watchdog = threading.Timer(COMMAND_S, self._kill)
        watchdog.start()
        try:
            self._bash.stdin.write(f"{command}\necho '{END}'\n")
            self._bash.stdin.flush()
            printed = []
            for line in self._bash.stdout:
                if line.strip() == END:
                    return "".join(printed)
                if not re.match(r"bash: line \d+: +\d+ (Killed|Terminated)", line):
                    printed.append(line)
        finally:
            watchdog.cancel()
        raise AssertionError(f"no end of {command!r} within {COMMAND_S} s: {printed}")

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)

    def close(self) -> None:
        self._kill()
        self._bash.communicate()


def run_console(shell: Shell, content: str) -> Iterator[tuple[str, str]]:
    """(shown, came) for each command that shows something."""
    for part in re.split(r"^\$ ", content, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        came = shell.run(command)
        if shown.strip():
            yield shown, came


@pytest.fixture
def ports() -> list[str]:
    """Free ports for the three endpoints; the daemon that is restarted needs the same ones again."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    numbers = [str(listening.getsockname()[1]) for listening in sockets]
    for listening in sockets:
        listening.close()
    return numbers


@pytest.fixture
def shell(tmp_path: Path, ports: list[str]) -> Iterator[Shell]:
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, arguments in (("python", ""), ("rewind", "-m rewind")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments} "$@"\n')
        (commands / name).chmod(0o755)
    incoming, streaming, topic = (f"tcp://127.0.0.1:{port}" for port in ports)
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("REWIND_")
    }
    bash = Shell(
        tmp_path,
        inherited
        | {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "REWIND_ENDPOINT": incoming,
            "REWIND_INCOMING_BIND": incoming,
            "REWIND_STREAMING_BIND": streaming,
            "REWIND_TOPIC_BIND": topic,
        },
    )
    yield bash
    bash.close()


@pytest.fixture
def python(tmp_path: Path) -> Iterator[Interpreter]:
    with Interpreter(tmp_path, {"PYTHONPATH": str(ROOT)}) as interpreter:
        yield interpreter


def test_the_tutorial_does_what_it_says(
    tmp_path: Path, shell: Shell, ports: list[str], python: Interpreter
) -> None:
    printed = ""
    text = TUTORIAL.read_text(encoding="utf-8")
    for language, caption, content, line in blocks(text.replace(":9090", f":{ports[0]}")):
        where = f"docs/tutorial.rst, line {line}"
        if caption:
            (tmp_path / caption).write_text(content, encoding="utf-8")
        elif language == "python":
            printed = python.paste(content)
        elif language == "text":
            assert matches(content, printed), f"{where} shows\n{content}but this came:\n{printed}"
        else:
            assert language == "console", where
            for shown, came in run_console(shell, content):
                assert matches(shown, came), f"{where} shows\n{shown}but this came:\n{came}"
