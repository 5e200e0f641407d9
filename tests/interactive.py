"""Python at a terminal, as a reader of the pages has it open: blocks are pasted into it, line by line.

A block that only runs as a file fails here: at the prompt a blank line ends a ``def``, and a line
behind an indented block needs a blank line before it.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from types import TracebackType

LINE_S = 60  # The longest line waits for a projection, on a machine that does other things too.
COLUMNS = 1_000  # A line that is wider would be wrapped by the terminal.
PROMPT = re.compile(rb"(?:^|\n)(>>>|\.\.\.) $")
ESCAPES = re.compile(rb"\x1b\[[?\d;]*[a-zA-Z]|\r")


class Interpreter:
    """The interactive interpreter on a pseudo-terminal of its own; a context manager."""

    def __init__(self, directory: Path, environment: dict[str, str] | None = None) -> None:
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, COLUMNS, 0, 0))
        plain = {"TERM": "dumb", "PYTHON_BASIC_REPL": "1", "PYTHON_HISTORY": os.devnull}
        self._python = subprocess.Popen(
            [sys.executable, "-q"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=directory,
            env={**os.environ, **(environment or {}), **plain},
            start_new_session=True,
        )
        os.close(theirs)
        self._until_prompt()

    def __enter__(self) -> Interpreter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._python.kill()
        self._python.wait()
        os.close(self._terminal)

    def paste(self, block: str) -> str:
        """What comes out when this is pasted, and Enter pressed. Raises ``AssertionError``.

        That is when Python reports an error, or still waits for the rest of a statement.
        """
        printed = ""
        for line in [*block.rstrip("\n").split("\n"), ""]:
            os.write(self._terminal, line.encode() + b"\n")
            came, prompt = self._until_prompt()
            printed += came.partition("\n")[2]  # Before it is the echo of what was pasted.
            assert not re.search(r"^(Traceback \(|\w*Error: |  File \")", printed, re.MULTILINE), (
                f"{line!r} came to\n{printed}"
            )
        assert prompt == ">>>", f"no end of a statement in\n{block}"
        return printed

    def _until_prompt(self) -> tuple[str, str]:
        """What comes before the next prompt, and that."""
        came = b""
        deadline_s = time.monotonic() + LINE_S
        while not (prompt := PROMPT.search(came)):
            assert select.select([self._terminal], [], [], deadline_s - time.monotonic())[0], (
                f"no prompt within {LINE_S} s behind {came!r}"
            )
            came = ESCAPES.sub(b"", came + os.read(self._terminal, 65_536))
        return came[: prompt.start(1)].decode(), prompt[1].decode()
