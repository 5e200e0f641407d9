"""``rewind read``, ``tail`` and ``show``: they print events, as text or as JSON lines.

What an event looks like in print is in format.py, where it is printed to is in terminal.py.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable
from typing import Any

import click

import rewind
from rewind.cli.connection import client_at, connection_options
from rewind.cli.format import event_text, json_line, text_line
from rewind.cli.options import (
    ID_OR_POSITION,
    NUMBER,
    count_option,
    filter_options,
    format_option,
)
from rewind.cli.terminal import emit, encoded, stdout_has_no_reader
from rewind.errors import UnknownEvent
from rewind.events import INT_MAX, Event

STDOUT_LOOK_S = 1.0  # a quiet tail looks once a second whether anybody still reads what it prints


@click.command(epilog="The last ten of a stream: rewind read -s order-1 --backwards -n 10")
@filter_options
@click.option("--after", type=NUMBER, default=0, metavar="N",
               help="Only after this position; with --stream, this version.")  # fmt: skip
@click.option("--until", type=NUMBER, metavar="N", help="Only up to this one.")
@click.option("--backwards", is_flag=True, help="The newest first.")
@count_option("At most so many.")
@format_option("text", "jsonl")
@connection_options
def read(
    endpoint: str,
    timeout: float,
    format: str,
    stream: str | None,
    prefix: str,
    type: tuple[str, ...],
    tag: tuple[str, ...],
    **query: Any,
) -> None:
    """Print the events stored now, and end."""
    _refuse_both(stream, prefix)
    query.update(types=type, tags=tag)
    with client_at(endpoint, timeout) as client:
        if stream is None:
            events = client.read(prefix=prefix, **query)
        else:
            events = client.read_stream(stream, **query)
        line = _line_of(format)
        for event in events:
            sys.stdout.buffer.write(line(event))


@click.command(
    epilog="Copy events as they come: rewind tail --format jsonl | rewind append --json -e other-store"
)
@filter_options
@click.option("--after", type=NUMBER, metavar="N",
               help="From after this position (with --stream, this version), not from now.")  # fmt: skip
@count_option("End after so many.")
@format_option("text", "jsonl")
@connection_options
def tail(
    endpoint: str,
    timeout: float,
    format: str,
    stream: str | None,
    after: int | None,
    since: int | None,
    limit: int | None,
    prefix: str,
    type: tuple[str, ...],
    tag: tuple[str, ...],
) -> None:
    """Print events as they are appended, for ever."""
    _refuse_both(stream, prefix)
    if after is not None and since is not None:
        raise click.UsageError("give --after or --since, not both")
    with client_at(endpoint, timeout) as client:
        now = _newest(client, stream)  # this notices an absent daemon, even if --after was given
        if since is not None:
            after = _before(client, stream, since, now)
        after = now if after is None else after
        subscription = client.subscribe(
            after=after, stream=stream, prefix=prefix, types=type, tags=tag
        )
        _follow(subscription, INT_MAX if limit is None else limit, _line_of(format))


def _follow(subscription: rewind.Subscription, left: int, line: Callable[[Event], bytes]) -> None:
    """Print events until none are left to print, or nobody reads them."""
    if left == 0:
        return
    for events in subscription.batches(max_wait=STDOUT_LOOK_S):
        sys.stdout.buffer.writelines(line(event) for event in events[:left])
        sys.stdout.buffer.flush()
        left -= len(events)
        if left <= 0 or stdout_has_no_reader():
            return


def _refuse_both(stream: str | None, prefix: str) -> None:
    if stream is not None and prefix:
        raise click.UsageError("give --stream or --prefix, not both")


def _newest(client: rewind.Client, stream: str | None) -> int:
    """The head, or the stream's version."""
    if stream is None:
        return client.head()
    return next((event.version for event in client.read_stream(stream, backwards=True, limit=1)), 0)


def _before(client: rewind.Client, stream: str | None, since: int, newest: int) -> int:
    """The number to read after for all events recorded since then; ``newest`` if there is none."""
    if stream is None:
        first = next(iter(client.read(since=since, limit=1)), None)
        return newest if first is None else first.position - 1
    first = next(iter(client.read_stream(stream, since=since, limit=1)), None)
    return newest if first is None else first.version - 1


def _line_of(format: str) -> Callable[[Event], bytes]:
    return json_line if format == "jsonl" else lambda event: encoded(text_line(event))


@click.command()
@click.argument("id", type=ID_OR_POSITION)
@click.option("--data", is_flag=True, help="Its data alone, byte for byte.")
@format_option("text", "jsonl")
@connection_options
def show(id: uuid.UUID | int, data: bool, format: str, endpoint: str, timeout: float) -> None:
    """Print one event.

    ID is the event's id, or its position in the store.
    """
    with client_at(endpoint, timeout) as client:
        event = client.event(id) if isinstance(id, uuid.UUID) else _event_at(client, id)
    if data:
        sys.stdout.buffer.write(event.data)
    elif format == "jsonl":
        sys.stdout.buffer.write(json_line(event))
    else:
        emit(event_text(event))


def _event_at(client: rewind.Client, position: int) -> Event:
    for event in client.read(after=position - 1, until=position):
        return event
    raise UnknownEvent(f"no event is at position {position}")


COMMANDS = (read, tail, show)
