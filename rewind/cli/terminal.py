"""A command's standard files: results on stdout, complaints and progress on stderr.

Text on stdout is written as bytes, because events are bytes and a terminal's encoding must not
refuse any; JSON lines and data never pass through an encoding at all. Nothing here knows Click or a
socket.
"""

from __future__ import annotations

import itertools
import os
import select
import shutil
import sys
import time
from collections.abc import Iterable

from rewind.cli.escape import escape
from rewind.cli.text import NO_TERMINAL, Look, folded

PROGRESS_S = 0.1  # the line of progress changes at most ten times a second
PROGRESS_WIDTH = 60  # every text of that line is padded to this, and so overwrites the one before

_ENCODING_ERRORS = "backslashreplace"


def look() -> Look:
    """What stdout shows now: colour and a width if it is a terminal, neither if it is a pipe or a file.

    ``NO_COLOR`` (https://no-color.org) and a dumb terminal have no colour.
    """
    if not sys.stdout.isatty():
        return NO_TERMINAL
    colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"
    return Look(colour, shutil.get_terminal_size().columns)


def emit(line: str) -> None:
    """Write a line on stdout, escaped; on a terminal it goes on below where it is too wide."""
    for part in folded(escape(line), look().columns):
        sys.stdout.buffer.write(encoded(part))


def encoded(text: str) -> bytes:
    """Escaped text, with its end, in the encoding of stdout; what that does not know is escaped too."""
    return text.encode(sys.stdout.encoding, _ENCODING_ERRORS) + b"\n"


def complain(text: str) -> None:
    """Write a line on stderr."""
    print(f"rewind: {escape(text)}", file=sys.stderr, flush=True)


def announce_stdin() -> None:
    """Say that a command waits for its input, when that comes from a terminal."""
    if sys.stdin.isatty():
        complain("reading from the terminal until Ctrl-D")


class Progress:
    """A line on stderr that says how far something is. It is shown on a terminal only.

    ``typed``: somebody types the input there, which it would overwrite.
    """

    def __init__(self, typed: bool = False) -> None:
        self.is_shown = sys.stderr.isatty() and not typed
        self._shown_s = 0.0

    def show(self, text: str) -> None:
        """Show a text in place of the one before, if that has stood there long enough to be read."""
        if not self.is_shown or time.monotonic() - self._shown_s < PROGRESS_S:
            return
        self._shown_s = time.monotonic()
        self._write(text)

    def clear(self) -> None:
        """Empty the line, so that what is said next begins on it."""
        if self._shown_s:
            self._shown_s = 0.0
            self._write("")
            self._write("")

    def _write(self, text: str) -> None:
        print(f"\r{text:<{PROGRESS_WIDTH}}", end="\r", file=sys.stderr, flush=True)


def can_redraw() -> bool:
    """Whether stdout is a terminal on which lines can be shown in place of others."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def redraw(lines: Iterable[bytes], rows: int) -> int:
    """Show lines on a terminal in place of the ``rows`` that are the last there. Returns how many it showed.

    They are as many as fit, and none may be wider than the terminal. Cursor up and erase in page are of
    ECMA-48, sections 8.3.22 and 8.3.39.
    """
    most = max(2, shutil.get_terminal_size().lines - 1)
    shown = list(itertools.islice(lines, most + 1))
    if len(shown) > most:
        shown[most - 1 :] = [b"...\n"]
    up = f"\x1b[{rows}A" if rows else ""
    sys.stdout.buffer.write(f"{up}\r\x1b[J".encode() + b"".join(shown))
    return len(shown)


def stdout_has_no_reader() -> bool:
    """Whether stdout is a pipe without a reader, which a command learns from no write as long as it writes nothing."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(events & select.POLLERR for _, events in poll.poll(0))


def forget_stdout() -> None:
    """Lead stdout to nowhere: Python flushes its buffer at the end, and would complain of the error."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)


def open_standard_files() -> None:
    """Open /dev/null for a stdin, stdout or stderr that is closed.

    Otherwise the next file opened would get its number, and a store's file what is printed.
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
