"""Commands of a shell, run as a user would run them: each is shown, and then what it really prints.

A command gets the terminal itself, where there is one, and so prints what it would print there, with
colour and a width that fits. Next: questions.py, which has the commands.
"""

from __future__ import annotations

import shlex
import sys
import textwrap

from rewind.demo.figures import DemoFailed
from rewind.testing import Process

COLUMNS = 79  # a terminal has eighty, and some begin a new line behind the last
ENDPOINT = "REWIND_ENDPOINT"  # with this variable the commands need no -e, and fit on a line


def say(text: str) -> None:
    """Print a paragraph without breaking a word."""
    print(textwrap.fill(text, COLUMNS, break_long_words=False, break_on_hyphens=False))


def show(command: str) -> None:
    """Print a command; a long one goes on behind a backslash, so that it can be pasted."""
    begin, indent, end = "  $ ", "      ", " \\"
    # The words of a command may be quoted, and then hold spaces.
    line = begin
    for word in map(shlex.quote, shlex.split(command)):
        if len(line) + len(word) + len(end) > COLUMNS and line.strip() != "$":
            print(line.rstrip() + end)
            line = indent
        line += word + " "
    print(line.rstrip(), flush=True)


def run(command: str, endpoint: str, code: int = 0) -> None:
    """Show a ``rewind`` command and run it, with the daemon at ``endpoint``.

    ``code``: the exit code it has to end with. Raises ``DemoFailed`` for another one.
    """
    show(command)
    process = Process(
        "command", shlex.split(command), env={ENDPOINT: endpoint}, stdout=sys.stdout.fileno()
    )
    with process:
        ended = process.wait(None)
    for line in process.log.splitlines():  # what it wrote to stderr
        say(line)
    if ended != code:
        raise DemoFailed(f"{command!r} ended with exit code {ended}, not {code}")
