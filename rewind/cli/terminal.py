"""A command's standard files: results on stdout, complaints and progress on stderr.

Text on stdout is written as bytes, because events are bytes and a terminal's encoding must not
refuse any; JSON lines and data never pass through an encoding at all. No click, no sockets.
"""

from __future__ import annotations

import os
import select
import stat
import sys
import time

from rewind.cli.format import escape

PROGRESS_S = 0.1  # between two pictures of the progress line
PROGRESS_WIDTH = 40  # of that line: it is overwritten with spaces

_ENCODING_ERRORS = "backslashreplace"


def emit(text: str) -> None:
    """Text and a line's end on stdout."""
    sys.stdout.buffer.write(encoded(text))


def encoded(text: str) -> bytes:
    """A line as stdout takes it."""
    return text.encode(sys.stdout.encoding, _ENCODING_ERRORS) + b"\n"


def complain(text: str) -> None:
    """One line on stderr."""
    print(f"rewind: {escape(text)}", file=sys.stderr, flush=True)


def announce_stdin() -> None:
    """Say what a command waits for, when nobody has given it an input."""
    if sys.stdin.isatty():
        complain("reading from the terminal until Ctrl-D")


class Progress:
    """A line on stderr that says how far an import is; only on a terminal."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        status = os.fstat(sys.stdin.fileno())
        self._total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else 0
        self._shown_s = 0.0

    def show(self, events: int, size: int) -> None:
        """So many events, so many bytes of the input."""
        if not self._on or time.monotonic() - self._shown_s < PROGRESS_S:
            return
        self._shown_s = time.monotonic()
        share = f", {min(100, 100 * size // self._total_bytes)} %" if self._total_bytes else ""
        self._write(f"{events} events{share}")

    def clear(self) -> None:
        """Leave the line empty for what is said next."""
        if self._shown_s:
            self._shown_s = 0.0
            self._write("")
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r{text:<{PROGRESS_WIDTH}}", end="\r", file=sys.stderr, flush=True)


def stdout_has_no_reader() -> bool:
    """Whether stdout is a pipe nobody reads: a command with nothing to write would never know."""
    looked = select.poll()
    looked.register(sys.stdout.fileno(), 0)
    return any(happened & select.POLLERR for _, happened in looked.poll(0))


def forget_stdout() -> None:
    """What is left in the buffer goes nowhere, so that Python does not complain at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)


def open_standard_files() -> None:
    """Give a closed stdin, stdout or stderr to nobody else.

    The next file opened would get its number, and a store's file must not get what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, "r")
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
