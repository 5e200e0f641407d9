"""The entry: it runs the command that a shell asks for and chooses its exit code.

The group of commands is here, the commands are not: each family is a file beside this one that
exports ``COMMANDS``. A new family is a new file and its name in ``FAMILIES``.

Imported for every ``rewind --help``, as are the families: whatever needs ZeroMQ or a store is
imported when a command needs it.
"""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click

from rewind import daemon
from rewind.cli import about, append, completion, cursors, demo, read, serve, upgrade
from rewind.cli.escape import escape
from rewind.cli.options import example
from rewind.cli.serve import given_options, run_daemon, serve_options
from rewind.cli.terminal import complain, forget_stdout, open_standard_files
from rewind.errors import RewindError, Unavailable
from rewind.release import __version__

# ``rewind --help`` lists them in this order.
FAMILIES = (serve, append, read, about, cursors, upgrade, demo, completion)

EXIT_BUG = 70
EXIT_IO = 74
EXIT_INTERRUPTED = 130


def main() -> None:
    """The ``rewind`` command."""
    sys.exit(run())


def run() -> int:
    """Run the command in ``sys.argv``. Returns its exit code."""
    open_standard_files()
    try:
        code = _dispatch(sys.argv[1:])
        sys.stdout.flush()
        return code
    except click.ClickException as error:
        # It quotes what was on the command line. Click has no other way to say what is shown.
        error.message = escape(error.message)  # type: ignore[misc]
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        forget_stdout()  # its reader has what it wanted
        return 0
    except RewindError as error:
        for text in (str(error), *getattr(error, "__notes__", ())):
            complain(text)
        if isinstance(error, Unavailable):
            complain(
                "start a daemon with `rewind`, or name another with -e ENDPOINT, not that of a feed"
            )
        return error.exit_code
    except OSError as error:
        complain(f"{error.filename or 'cannot read or write'}: {error.strerror or error}")
        return EXIT_IO
    except Exception:  # noqa: BLE001  anything else is a mistake in Rewind, and has to say so
        for line in traceback.format_exc().splitlines():
            print(escape(line), file=sys.stderr)
        complain(
            f"this is a mistake in Rewind {__version__}: please report it with the lines above"
        )
        return EXIT_BUG


def _dispatch(arguments: list[str]) -> int:
    if (code := completion.answer_shell(commands)) is not None:
        return code
    # Click's own main would make exit code 1 of a closed stdout and of Ctrl-C.
    try:
        with commands.make_context("rewind", arguments) as context:
            return commands.invoke(context) or 0
    except click.exceptions.Exit as ended:
        return ended.exit_code


class Commands(click.Group):
    """A group that lists its commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "REWIND", "help_option_names": ["-h", "--help"]},
    epilog=example("Start one, or see what it does:", "rewind --store my-events", "rewind demo"),
)
@serve_options
@click.version_option(__version__, prog_name="rewind", message="%(prog)s %(version)s", allow_from_autoenv=False)  # fmt: skip
@click.pass_context
def commands(context: click.Context, /, **options: Any) -> int:
    """An event store daemon that talks ZeroMQ, and its clients.

    Without a command it runs the daemon. Options of a command are also variables:
    REWIND_READ_FORMAT is --format of read.
    """
    given = given_options(options)
    if context.invoked_subcommand is None:
        return run_daemon(given)
    if given and context.invoked_subcommand != "serve":
        raise click.UsageError(
            f"{daemon.option(next(iter(given)))} is the daemon's; options of a command come after its name"
        )
    context.obj = given
    return 0


for family in FAMILIES:
    for command in family.COMMANDS:
        commands.add_command(command)
