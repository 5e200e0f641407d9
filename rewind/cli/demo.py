"""``rewind demo``: the command. The demo itself is a room of its own, rewind/demo/."""

from __future__ import annotations

import click


@click.command()
def demo() -> int:
    """Watch a daemon take, keep and republish events."""
    from rewind.demo import main as play

    return play()


COMMANDS = (demo,)
