"""The command line, a room of its own: nothing else knows Click.

entry.py runs a command and chooses its exit code; a file beside it holds a family of commands.
"""

from rewind.cli.entry import main

__all__ = ["main"]
