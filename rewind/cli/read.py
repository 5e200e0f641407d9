"""``rewind read``, ``tail`` and ``show``: they print events, as text or as JSON lines.

What an event looks like in print is in text.py and format.py, where it is printed to is in
terminal.py. What is read in front of damage is damage.py's to say.
"""

from __future__ import annotations

import itertools
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import click

import rewind
from rewind.cli.connection import client_at, connection_options
from rewind.cli.damage import DAMAGED, good_events
from rewind.cli.format import json_line
from rewind.cli.names import CATEGORIES, STREAMS, names, near
from rewind.cli.options import (
    ID_OR_POSITION,
    JSON_FORMAT,
    NUMBER,
    PLACE,
    FilterCommand,
    count_option,
    decode_option,
    example,
    filter_options,
    format_option,
    option,
    refuse_decoded_text,
)
from rewind.cli.terminal import complain, encoded, look, stdout_has_no_reader
from rewind.cli.text import event_text, text_line
from rewind.errors import UnknownEvent
from rewind.events import INT_MAX, Event

STDOUT_LOOK_S = 1.0  # a quiet tail looks once a second whether anybody still reads what it prints

#: What read, tail and ``rewind.Client`` call alike: prefix, categories, types, tags, query, since.
Filters = dict[str, Any]


@click.command(
    cls=FilterCommand,
    epilog=example("The last ten of a stream:", "rewind read -s order-1 --backwards -n 10"),
)
@filter_options
@option("--after", type=NUMBER, default=0, metavar="N",
        help="Only after this position; with --stream, this version.")  # fmt: skip
@option("--until", type=NUMBER, metavar="N", help="Only up to this one.")
@option("--backwards", is_flag=True, help="The newest first.")
@count_option("At most so many.")
@format_option
@decode_option
@connection_options
def read(
    endpoint: str,
    timeout: float,
    format: str,
    decode: bool,
    stream: str | None,
    after: int,
    until: int | None,
    limit: int | None,
    backwards: bool,
    **filters: Any,
) -> None:
    """Print the events stored now, and end."""
    refuse_decoded_text(decode, format)
    filters = _filters(stream, **filters)
    with client_at(endpoint, timeout) as client:
        printed = 0
        line = _line_of(format, decode)
        for event in _events(client, stream, filters, after, until, limit, backwards):
            sys.stdout.buffer.write(line(event))
            printed += 1
        if not printed and limit != 0:
            _hint_at_names(client, stream, filters)


def _events(
    client: rewind.Client,
    stream: str | None,
    filters: Filters,
    after: int,
    until: int | None,
    limit: int | None,
    backwards: bool,
) -> Iterator[Event]:
    """The events asked for; those in front of damage are among them, whatever page they are in."""
    read = _read_of(client, stream, filters)
    number = _number_of(stream)
    given = 0
    try:
        for event in read(after=after, until=until, limit=limit, backwards=backwards):
            yield event
            given += 1
            if backwards:
                until = number(event) - 1
            else:
                after = number(event)
    except DAMAGED:
        newest = _newest(client, stream)
        rest = good_events(
            lambda low, high: read(after=low, until=high, backwards=backwards),
            after,
            newest if until is None else min(until, newest),
            backwards,
        )
        yield from itertools.islice(rest, None if limit is None else limit - given)


def _read_of(
    client: rewind.Client, stream: str | None, filters: Filters
) -> Callable[..., Iterator[Event]]:
    def read(**range: Any) -> Iterator[Event]:
        if stream is None:
            return client.read(**filters, **range)
        return client.read_stream(stream, **filters, **range)

    return read


def _number_of(stream: str | None) -> Callable[[Event], int]:
    """What an event's place is called where a stream is given or not."""
    return (lambda event: event.position) if stream is None else (lambda event: event.version)


def _filters(
    stream: str | None,
    prefix: str,
    category: tuple[str, ...],
    type: tuple[str, ...],
    tag: tuple[str, ...],
    query: tuple[rewind.QueryItem, ...],
    **since: int | None,
) -> Filters:
    """The filters of a read. Raises a usage error for options that do not go together."""
    where = {"--stream": stream is not None, "--prefix": prefix, "--category": category}
    given = [name for name, value in where.items() if value]
    if query:
        given += [name for name, value in (("--type", type), ("--tag", tag)) if value]
        if given:
            raise click.UsageError(
                f"give --query or {given[0]}, not both: an item of a query has the keys type, tag, "
                "category and stream"
            )
        return {"query": rewind.Query(*query), **since}
    if len(given) > 1:
        raise click.UsageError(f"give {given[0]} or {given[1]}, not both")
    filters: Filters = {"types": type, "tags": tag, **since}
    if prefix:
        filters["prefix"] = prefix
    if category:
        filters["categories"] = category
    return filters


def _hint_at_names(client: rewind.Client, stream: str | None, filters: Filters) -> None:
    """Say on stderr that a name is perhaps misspelt, if nothing has it."""
    prefix, categories = filters.get("prefix", ""), filters.get("categories", ())
    if stream is not None and _newest(client, stream) == 0:
        others = ", ".join(map(repr, near(stream, names(client, STREAMS))))
        there = f"near it: {others}" if others else "`rewind streams` lists those there are"
        complain(f"there is no stream {stream!r}; {there}")
    elif prefix and next(names(client, STREAMS, prefix), None) is None:
        complain(f"no stream begins with {prefix!r}; `rewind streams` lists those there are")
    for category in categories:
        if next(names(client, CATEGORIES, category), None) != category:
            complain(
                f"no stream is of category {category!r}; `rewind categories` lists those there are"
            )


@click.command(
    cls=FilterCommand,
    epilog=example(
        "Copy events as they come:",
        "rewind tail --format jsonl | rewind append --json -e sqlite:copy",
    ),
)
@filter_options
@option("--after", type=PLACE, metavar="N|now",
        help="From after this position (with --stream, this version); from now unless given.")  # fmt: skip
@count_option("End after so many.")
@format_option
@decode_option
@connection_options
def tail(
    endpoint: str,
    timeout: float,
    format: str,
    decode: bool,
    stream: str | None,
    after: int | str | None,
    since: int | None,
    limit: int | None,
    **filters: Any,
) -> None:
    """Print events as they are appended, for ever."""
    refuse_decoded_text(decode, format)
    filters = _filters(stream, **filters)
    if after is not None and since is not None:
        raise click.UsageError("give --after or --since, not both")
    with client_at(endpoint, timeout) as client:
        now = _newest(client, stream)  # this notices an absent daemon, even if --after was given
        if stream is not None and now == 0:
            _hint_at_names(client, stream, {})
        if since is not None:
            after = _before(client, stream, since, now)
        batches = _batches(client, stream, filters, after if isinstance(after, int) else now)
        _print(batches, since or 0, INT_MAX if limit is None else limit, format, decode)


def _batches(
    client: rewind.Client, stream: str | None, filters: Filters, after: int
) -> Iterator[list[Event]]:
    """The events of a subscription as they come; those in front of damage are among them."""
    subscription = client.subscribe(after=after, stream=stream, **filters)
    try:
        yield from subscription.batches(max_wait=STDOUT_LOOK_S)
    except DAMAGED:
        read = _read_of(client, stream, filters)
        rest = good_events(
            lambda low, high: read(after=low, until=high),
            subscription.position,
            _newest(client, stream),
        )
        for event in rest:
            yield [event]
        raise


def _print(
    batches: Iterable[list[Event]], since: int, left: int, format: str, decode: bool
) -> None:
    """Print events recorded since then until none are left to print, or nobody reads them."""
    if left == 0:
        return
    for batch in batches:
        events = [event for event in batch if event.recorded_at_ns >= since][:left]
        line = _line_of(format, decode)  # the terminal may have another width by now
        sys.stdout.buffer.writelines(map(line, events))
        sys.stdout.buffer.flush()
        left -= len(events)
        if left <= 0 or stdout_has_no_reader():
            return


def _newest(client: rewind.Client, stream: str | None) -> int:
    """The head, or the stream's version."""
    if stream is None:
        return client.head()
    return next((event.version for event in client.read_stream(stream, backwards=True, limit=1)), 0)


def _before(client: rewind.Client, stream: str | None, since: int, newest: int) -> int:
    """The number to read after for all events recorded since then; ``newest`` if there is none."""
    first = next(_read_of(client, stream, {"since": since})(limit=1), None)
    return newest if first is None else _number_of(stream)(first) - 1


def _line_of(format: str, decode: bool) -> Callable[[Event], bytes]:
    if format == JSON_FORMAT:
        return lambda event: json_line(event, decode)
    here = look()
    return lambda event: encoded(text_line(event, here))


@click.command()
@click.argument("id", type=ID_OR_POSITION)
@option("--data", is_flag=True, help="Its data alone, byte for byte.")
@format_option
@decode_option
@connection_options
def show(
    id: uuid.UUID | int, data: bool, format: str, decode: bool, endpoint: str, timeout: float
) -> None:
    """Print one event.

    ID is the event's id, or its position in the store.
    """
    refuse_decoded_text(decode, format)
    with client_at(endpoint, timeout) as client:
        event = client.event(id) if isinstance(id, uuid.UUID) else _event_at(client, id)
    if data:
        sys.stdout.buffer.write(event.data)
    elif format == JSON_FORMAT:
        sys.stdout.buffer.write(json_line(event, decode))
    else:
        sys.stdout.buffer.write(encoded(event_text(event, look())))


def _event_at(client: rewind.Client, position: int) -> Event:
    for event in client.read(after=position - 1, until=position):
        return event
    raise UnknownEvent(f"no event is at position {position}")


COMMANDS = (read, tail, show)
