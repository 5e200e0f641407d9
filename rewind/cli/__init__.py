"""The command line: ``rewind`` runs the daemon, the other commands are its clients.

entry.py runs a command and chooses its exit code. Each family of commands is a file beside it:
serve.py, append.py, read.py, about.py, cursors.py, upgrade.py, demo.py, completion.py. They share
connection.py (from -e to a client), options.py (kinds of values), terminal.py (stdout and stderr),
format.py (events as JSON) and text.py (what people read).
Only this folder knows Click. docs/cli.rst is the page for users; a test holds it to ``--help``.
"""

from rewind.cli.entry import main

__all__ = ["main"]
