"""``rewind cursors`` and ``rewind cursor``: where consumers are, and moving them.

What a cursor looks like in print is in text.py.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator

import click

import rewind
from rewind.cli.connection import client_at, connection_options
from rewind.cli.format import json_text
from rewind.cli.names import CURSORS, names, near
from rewind.cli.options import (
    CURSOR,
    JSON_FORMAT,
    NOW,
    PLACE,
    count_option,
    example,
    format_option,
    option,
)
from rewind.cli.terminal import can_redraw, emit, encoded, look, redraw, stdout_has_no_reader
from rewind.cli.text import CURSORS_HEAD, cursor_fields, cursor_text, cursor_time
from rewind.errors import RewindError

WATCH_S = 1.0  # whoever watches sees a cursor move, and a daemon notices nothing of it


@click.command(epilog=example("See consumers catch up:", "rewind cursors --watch"))
@click.argument("prefix", type=CURSOR, default="")
@option("--watch", is_flag=True, help="Again every second, until Ctrl-C.")
@count_option("At most so many.")
@format_option
@connection_options
def cursors(
    prefix: str, watch: bool, limit: int | None, format: str, endpoint: str, timeout: float
) -> None:
    """List cursors, and how far each is behind the head.

    All of them, or those whose names begin with PREFIX. The lag is in events, and in the time since the
    first of these was recorded.
    """
    with client_at(endpoint, timeout) as client:
        if watch:
            _watch(client, prefix, limit, format)
            return
        sys.stdout.buffer.writelines(_lines(_cursors(client, prefix, limit), format))


def _cursors(client: rewind.Client, prefix: str, limit: int | None) -> Iterator[rewind.CursorInfo]:
    return itertools.islice(client.cursors(prefix), limit)


def _lines(cursors: Iterable[rewind.CursorInfo], format: str, head: bool = True) -> Iterator[bytes]:
    """The cursors a line each, for people with a head above the first."""
    for cursor in cursors:
        if format == JSON_FORMAT:
            yield _json_line(cursor)
            continue
        if head:
            yield encoded(CURSORS_HEAD)
            head = False
        yield encoded(cursor_text(cursor, look()))


def _json_line(cursor: rewind.CursorInfo) -> bytes:
    fields = {
        "cursor": cursor.name,
        "position": cursor.position,
        "updated_at": cursor_time(cursor),
        "lag_events": cursor.lag_events,
        "lag_seconds": cursor.lag_seconds,
    }
    return json_text(fields) + b"\n"


def _watch(client: rewind.Client, prefix: str, limit: int | None, format: str) -> None:
    """Print the cursors again and again: in place on a terminal, elsewhere those that have changed."""
    in_place = format != JSON_FORMAT and can_redraw()
    rows = 0
    shown: list[rewind.CursorInfo] = []
    while not stdout_has_no_reader():
        found = _cursors(client, prefix, limit)
        if in_place:
            rows = redraw(_lines(found, format), rows)
        else:
            before, shown = shown, list(found)
            known = set(before)
            changed = [cursor for cursor in shown if cursor not in known]
            sys.stdout.buffer.writelines(_lines(changed, format, head=not before))
        sys.stdout.buffer.flush()
        time.sleep(WATCH_S)


@click.group(no_args_is_help=False)
def cursor() -> None:
    """Look at a cursor, or move it.

    A cursor is how far a consumer has come, kept in the store.
    """


@cursor.command()
@click.argument("name", type=CURSOR)
@format_option
@connection_options
def show(name: str, format: str, endpoint: str, timeout: float) -> None:
    """Print where a cursor is."""
    with client_at(endpoint, timeout) as client:
        found = _existing(client, name)
    if format == JSON_FORMAT:
        sys.stdout.buffer.write(_json_line(found))
    else:
        sys.stdout.buffer.write(encoded(cursor_fields(found, look())))


@cursor.command(
    epilog=example(
        "Handle everything again, or only what comes from now on:",
        "rewind cursor reset mailer",
        "rewind cursor reset mailer now",
    )
)
@click.argument("name", type=CURSOR)
@click.argument("position", type=PLACE, default=0)
@connection_options
def reset(name: str, position: int | str, endpoint: str, timeout: float) -> None:
    """Set a cursor, backwards too.

    POSITION is 0 unless given, or `now`. Stop its consumer first: it would set the cursor where it is
    itself.
    """
    with client_at(endpoint, timeout, writes=True) as client:
        before = client.cursor(name)
        place = client.head() if position == NOW else int(position)
        client.reset_cursor(name, place)
    was = f"was at {before.position}" if before.updated_at else "is new"
    emit(f"cursor {name} {was}; it is at {place} now")


@cursor.command()
@click.argument("name", type=CURSOR)
@connection_options
def delete(name: str, endpoint: str, timeout: float) -> None:
    """Forget a cursor.

    A consumer of that name would begin anew.
    """
    with client_at(endpoint, timeout, writes=True) as client:
        position = _existing(client, name).position
        client.delete_cursor(name)
    emit(f"cursor {name} was at {position}; it is deleted")


def _existing(client: rewind.Client, name: str) -> rewind.CursorInfo:
    """The cursor. Raises an error that names those near it, if it is not there."""
    found = client.cursor(name)
    if found.updated_at is None:
        others = ", ".join(map(repr, near(name, names(client, CURSORS))))
        there = f"near it: {others}" if others else "`rewind cursors` lists those there are"
        raise RewindError(f"there is no cursor {name!r}; {there}")
    return found


COMMANDS = (cursors, cursor)
