"""All commands of the command line, those of a group too."""

from __future__ import annotations

from collections.abc import Iterator

import click


def every_command(group: click.Group) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """The words that lead to a command, and that command."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from (((name, *words), inner) for words, inner in every_command(command))
        else:
            yield (name,), command
