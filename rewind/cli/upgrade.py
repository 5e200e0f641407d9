"""``rewind upgrade``: a store of an earlier release is brought up to date, with a bar to look at.

Whoever opens a store does the same first. How it goes on after an interruption is told in
rewind/backends/upgrade.py.
"""

from __future__ import annotations

import logging
import time

import click

from rewind.cli.connection import check_store
from rewind.cli.terminal import Progress, complain, emit
from rewind.errors import BadConfiguration

BAR_COLUMNS = 20  # with the numbers beside it, it fits on the line of progress


@click.command()
@click.argument("store", type=str)  # A path need not be UTF-8.
def upgrade(store: str) -> None:
    """Bring a store of an earlier release up to date.

    STORE is a URL or a path, and no daemon has it open. Whatever opens it to write does the same first.
    An earlier release cannot open it afterwards.
    """
    from rewind.backends import open_backend
    from rewind.backends.directory import format_of
    from rewind.backends.opening import locate

    _, path = locate(store)
    if path is None:
        raise BadConfiguration(f"{store} keeps nothing that could be out of date: name a store")
    check_store(store, None)
    progress = Progress()
    level = logging.WARNING if progress.is_shown else logging.INFO
    logging.basicConfig(level=level, format="rewind: %(message)s")
    format_before, began_s = format_of(path), time.monotonic()
    try:
        backend = open_backend(store, progress=lambda done, total: progress.show(bar(done, total)))
        events = backend.last().position
        backend.close()
    except KeyboardInterrupt:
        progress.clear()
        complain("interrupted: the next start, or the same command, goes on from there")
        raise
    finally:
        progress.clear()
    format_now = format_of(path)
    if format_now == format_before:
        emit(f"{store} is up to date already: its format is {format_now}")
        return
    took_s = time.monotonic() - began_s
    emit(
        f"{store} is up to date: its format was {format_before} and is {format_now}; {events:,} events, "
        f"{took_s:.1f} s"
    )


def bar(done: int, total: int) -> str:
    """How much is done, drawn and in numbers of events."""
    filled = BAR_COLUMNS * done // max(total, 1)
    return f"[{'#' * filled:.<{BAR_COLUMNS}}] {done:,} of {total:,} events"


COMMANDS = (upgrade,)
