"""``rewind completion``: a script for Tab, and the answers to what that script asks.

The script runs ``rewind`` with ``_REWIND_COMPLETE`` set; ``answer_shell`` answers before any command
runs.
"""

from __future__ import annotations

import os
import sys

import click

from rewind.cli.options import example
from rewind.cli.terminal import encoded

COMPLETE = "_REWIND_COMPLETE"  # the script asks with this variable; Click prescribes its form


def answer_shell(commands: click.Command) -> int | None:
    """Print what may follow on the command line, if a script asks. Returns the exit code, or None."""
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(commands, {}, "rewind", COMPLETE, instruction)
    return None


@click.command(
    epilog=example(
        "For bash (and zsh), and for fish:",
        'eval "$(rewind completion bash)"',
        "rewind completion fish | source",
    )
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for Tab in bash, zsh or fish.

    It completes commands, options and, where a daemon answers, names. Put the line below into ~/.bashrc,
    ~/.zshrc or ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "rewind", COMPLETE)
    sys.stdout.buffer.write(encoded(script.source_template % script.source_vars()))


COMMANDS = (completion,)
