"""``rewind completion``: what Tab completes in a shell.

The script that it prints runs ``rewind`` with a variable set, and ``answer`` answers.
"""

from __future__ import annotations

import os

import click

from rewind.cli.terminal import emit

COMPLETE = "_REWIND_COMPLETE"
"""The variable by which a shell's completion script asks."""


def answer(commands: click.Command) -> int | None:
    """Answer a shell's question. Returns the exit code; None if none was asked."""
    if instruction := os.environ.get(COMPLETE):
        from click.shell_completion import shell_complete

        return shell_complete(commands, {}, "rewind", COMPLETE, instruction)
    return None


@click.command(
    epilog='For bash and zsh: eval "$(rewind completion bash)"; for fish: rewind completion fish | source'
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script for Tab in bash, zsh or fish.

    It completes commands and options. Put the line below into ~/.bashrc, ~/.zshrc or
    ~/.config/fish/config.fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    script = kind(context.find_root().command, {}, "rewind", COMPLETE)
    emit(script.source_template % script.source_vars())


COMMANDS = (completion,)
