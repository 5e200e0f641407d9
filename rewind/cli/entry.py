"""The command line: ``rewind`` runs the daemon, the other commands are its clients.

Here are the entry, the group, and what a shell learns from an exit code. The client commands are in
read.py, options in options.py, the daemon's life in daemon/process.py. docs/cli.rst is the page
for users; a test holds it to what ``--help`` says.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Any

import click

from rewind.cli import read
from rewind.cli.options import serve_options
from rewind.cli.terminal import complain, emit, forget_stdout, open_standard_files
from rewind.daemon.settings import option, settings
from rewind.errors import RewindError, Unavailable
from rewind.release import __version__

COMPLETE = "_REWIND_COMPLETE"
"""The variable by which a shell's completion script asks."""

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
        error.show()
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        forget_stdout()  # whoever read it has what they wanted
        return 0
    except RewindError as error:
        complain(str(error))
        if isinstance(error, Unavailable):
            complain("start a daemon with `rewind`, or name another with -e ENDPOINT")
        return error.exit_code
    except OSError as error:
        complain(f"{error.filename or 'cannot read or write'}: {error.strerror or error}")
        return EXIT_IO
    except Exception:  # noqa: BLE001  whatever else is our mistake, and has to say so
        traceback.print_exc()
        complain(
            f"this is a mistake in Rewind {__version__}: please report it with the lines above"
        )
        return EXIT_BUG


def _dispatch(arguments: list[str]) -> int:
    # Click's own main would make exit code 1 of a closed stdout and of Ctrl-C.
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(commands, {}, "rewind", COMPLETE, instruction)
    try:
        with commands.make_context("rewind", arguments) as context:
            return commands.invoke(context) or 0
    except click.exceptions.Exit as ended:
        return ended.exit_code


class Commands(click.Group):
    """A group that lists its commands in the order of their definition."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


# --- the daemon -------------------------------------------------------------------


@click.group(
    cls=Commands,
    invoke_without_command=True,
    context_settings={"auto_envvar_prefix": "REWIND", "help_option_names": ["-h", "--help"]},
    epilog="Start one: rewind --store my-events. Try it: rewind demo.",
)
@serve_options
@click.version_option(__version__, prog_name="rewind", message="%(prog)s %(version)s", allow_from_autoenv=False)  # fmt: skip
@click.pass_context
def commands(context: click.Context, /, **options: Any) -> int:
    """An event store daemon that talks ZeroMQ, and its clients.

    Without a command it runs the daemon. Options of a command are also variables:
    REWIND_READ_FORMAT is --format of read.
    """
    given = {name: value for name, value in options.items() if value not in (None, ())}
    if context.invoked_subcommand is None:
        return _serve(given)
    if given and context.invoked_subcommand != "serve":
        raise click.UsageError(
            f"{option(next(iter(given)))} is the daemon's; options of a command come after its name"
        )
    context.obj = given
    return 0


@commands.command(
    epilog="Every option that takes EP can be repeated; an empty one turns a feed off."
)
@serve_options
@click.pass_context
def serve(context: click.Context, /, **options: Any) -> int:
    """Run the daemon (the same as no command)."""
    given = {name: value for name, value in options.items() if value not in (None, ())}
    return _serve({**context.obj, **given})


def _serve(options: dict[str, Any]) -> int:
    chosen = settings(options, os.environ)
    from rewind.daemon import process

    return process.serve(chosen)


for command in read.COMMANDS:
    commands.add_command(command)


@commands.command()
def demo() -> int:
    """Watch a daemon take, keep and republish events."""
    from rewind.demo import main as play

    return play()


@commands.command(
    epilog='For bash and zsh: eval "$(rewind completion bash)"; for fish: rewind completion fish | source'
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(shell: str) -> None:
    """Print a script for Tab in bash, zsh or fish.

    It completes commands and options. Put the line below into ~/.bashrc, ~/.zshrc or
    ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(commands, {}, "rewind", COMPLETE)
    emit(script.source_template % script.source_vars())
