"""The client commands: append, read, tail, show, streams, info, ping.

Each opens a client of a daemon, or a store in this process, asks, and prints. What it raises
becomes an exit code in cli.py. What an event looks like is in format.py, where it is printed
to in terminal.py, how JSON lines become appends in lines.py.

Imported for every ``rewind --help``: whatever needs ZeroMQ or a store is imported when it runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rewind.cli.format import escape, event_text, info_text, json_line, json_text, text_line
from rewind.cli.options import (
    EXPECTED,
    ID_OR_POSITION,
    METADATA,
    NUMBER,
    SECONDS,
    TEXT,
    TIMEOUT_S,
    UUID,
    connection_options,
    count_option,
    endpoint_option,
    filter_options,
    format_option,
)
from rewind.cli.terminal import (
    Progress,
    announce_stdin,
    complain,
    emit,
    encoded,
    stdout_has_no_reader,
)
from rewind.errors import BadConfiguration, RewindError, StoreForeign, TooLarge, UnknownEvent
from rewind.events import INT_MAX, Event, NewEvent
from rewind.wire.native import REQUEST_BYTES_MAX

if TYPE_CHECKING:
    from rewind.cli.lines import Import
    from rewind.client.blocking import Client, Subscription

STDOUT_LOOK_S = 1.0  # between looks at whether anybody still reads what tail prints

# --- appending --------------------------------------------------------------------


@click.command(
    epilog="Copy a store: rewind read --format jsonl | rewind append --json -e other-store"
)
@click.argument("stream", type=TEXT, required=False)
@click.option("--type", type=TEXT, default="", metavar="T", help="What happened.")
@click.option("--tag", type=TEXT, multiple=True, metavar="T", help="Repeat for several.")
@click.option("--meta", type=METADATA, multiple=True, metavar="K=V",
               help="Metadata: a key and a text; repeat for several.")  # fmt: skip
@click.option("--data", metavar="TEXT", allow_from_autoenv=False,
              help="The data, instead of what is on stdin.")  # fmt: skip
@click.option("--id", type=UUID, metavar="UUID", allow_from_autoenv=False,
              help="The event's id: makes a repetition harmless.")  # fmt: skip
@click.option("--json", is_flag=True,
               help="stdin is JSON lines, as `read --format jsonl` writes them.")  # fmt: skip
@click.option("--expected-version", type=EXPECTED, metavar="N|none|exists",
               help="Refuse unless STREAM is at this version.")  # fmt: skip
@connection_options
def append(
    stream: str | None,
    json: bool,
    expected_version: int | None,
    endpoint: str,
    timeout: float,
    **event: Any,
) -> None:
    """Append an event, or many.

    stdin is the data of one event, appended to STREAM. With --json it is JSON lines, an event
    each; STREAM is for lines that name none.
    """
    if json:
        _append_lines(stream, expected_version, endpoint, timeout, event)
        return
    if stream is None:
        raise click.UsageError("Missing argument 'STREAM'.")
    made = NewEvent(
        event["type"],
        _stdin_data() if event["data"] is None else os.fsencode(event["data"]),
        id=event["id"],
        tags=event["tag"],
        metadata=dict(event["meta"]),
    )
    with client_at(endpoint, timeout, creates=True) as client:
        appended = client.append(stream, made, expected_version)
    id = made.id or appended.ids[0]
    again = " (it was stored before)" if appended.duplicate else ""
    emit(f"{stream} version {appended.versions[stream]} position {appended.last} id {id}{again}")


def _stdin_data() -> bytes:
    announce_stdin()
    data = sys.stdin.buffer.read(REQUEST_BYTES_MAX + 1)
    if len(data) > REQUEST_BYTES_MAX:
        raise TooLarge(f"stdin has more than {REQUEST_BYTES_MAX} bytes, too much for one event")
    return data


def _append_lines(
    stream: str | None,
    expected_version: int | None,
    endpoint: str,
    timeout: float,
    event: dict[str, Any],
) -> None:
    from rewind.cli.lines import Import

    given = [name for name, value in event.items() if value not in (None, "", ())]
    if given:
        raise click.UsageError(f"--{given[0]} is for one event; with --json each line has its own")
    if expected_version is not None and stream is None:
        raise click.UsageError("--expected-version is of STREAM, and none is given")
    announce_stdin()
    progress = Progress()
    with client_at(endpoint, timeout, creates=True) as client:
        lines = Import(
            client,
            stream=stream,
            expected_version=expected_version,
            event_bytes_max=client.info().limits["event_bytes"],
            progress=progress.show,
        )
        try:
            lines.run(sys.stdin.fileno())
        except (RewindError, KeyboardInterrupt, OSError):
            progress.clear()
            complain(f"stopped: {_stored(lines)}, up to line {lines.line}")
            raise
    progress.clear()
    emit(_stored(lines))


def _stored(lines: Import) -> str:
    text = f"{lines.appended} events appended"
    if lines.appended:
        text += f", the last at position {lines.position}"
    return f"{text}; {lines.known} were stored before" if lines.known else text


# --- reading ----------------------------------------------------------------------


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
        now = _newest(client, stream)  # asked in any case: an absent daemon is noticed here
        if since is not None:
            after = _before(client, stream, since, now)
        after = now if after is None else after
        subscription = client.subscribe(
            after=after, stream=stream, prefix=prefix, types=type, tags=tag
        )
        _follow(subscription, INT_MAX if limit is None else limit, _line_of(format))


def _follow(subscription: Subscription, left: int, line: Callable[[Event], bytes]) -> None:
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


def _newest(client: Client, stream: str | None) -> int:
    """The head, or the version of the stream."""
    if stream is None:
        return client.head()
    return next((event.version for event in client.read_stream(stream, backwards=True, limit=1)), 0)


def _before(client: Client, stream: str | None, since: int, newest: int) -> int:
    """The place in front of the first event recorded since then; the newest if there is none."""
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


def _event_at(client: Client, position: int) -> Event:
    for event in client.read(after=position - 1, until=position):
        return event
    raise UnknownEvent(f"no event is at position {position}")


@click.command()
@click.argument("prefix", type=TEXT, default="")
@format_option("text", "jsonl")
@connection_options
def streams(prefix: str, format: str, endpoint: str, timeout: float) -> None:
    """List streams and their versions.

    All of them, or those whose names begin with PREFIX.
    """
    with client_at(endpoint, timeout) as client:
        for name, version in client.streams(prefix):
            if format == "jsonl":
                sys.stdout.buffer.write(json_text({"stream": name, "version": version}) + b"\n")
            else:
                sys.stdout.buffer.write(encoded(f"{version:>8}  {escape(name)}"))


# --- about the daemon -------------------------------------------------------------


@click.command()
@format_option("text", "json")
@connection_options
def info(format: str, endpoint: str, timeout: float) -> None:
    """Print what the daemon says of itself.

    Its release, store, head and durability, where it is bound, and its limits.
    """
    with client_at(endpoint, timeout) as client:
        found = client.info()
    if format == "json":
        sys.stdout.buffer.write(json_text(found) + b"\n")
    else:
        emit(info_text(found))


@click.command(epilog="In a script, after starting a daemon: rewind ping --wait 30")
@click.option("--wait", type=SECONDS, metavar="S", default=TIMEOUT_S, show_default=True,
               help="Seconds to wait for the first answer.")  # fmt: skip
@endpoint_option
def ping(wait: float, endpoint: str) -> None:
    """Wait until the daemon answers, and say how fast."""
    with client_at(endpoint, wait) as client:
        client.head()  # which connects; the second request is the one to measure
        began_s = time.perf_counter()
        head = client.head()
        took_ms = (time.perf_counter() - began_s) * 1000
    emit(f"{endpoint} answers in {took_ms:.1f} ms, head {head}")


# --- clients and output -----------------------------------------------------------


@contextlib.contextmanager
def client_at(where: str, timeout: float, creates: bool = False) -> Iterator[Client]:
    """A client of the daemon at an endpoint, or of a store opened in this process.

    Only a command that ``creates`` may make a store where none is.
    """
    import logging

    from rewind.backends import is_store_url
    from rewind.client import blocking as clients

    logging.basicConfig(level=logging.WARNING, format="rewind: %(message)s")
    if "://" in where and not is_store_url(where):
        client = clients.connect(where, timeout=timeout)
    else:
        _check_store(where, creates)
        client = clients.open(where)
    try:
        yield client
    finally:
        client.close()


def _check_store(url: str, creates: bool) -> None:
    """Catch what would make a store out of a slip of the pen."""
    from rewind.backends import is_store_url
    from rewind.backends.directory import scheme_of
    from rewind.endpoints import without_transport

    if without_transport(url):
        raise BadConfiguration(f"{url}: write tcp://{url} for a daemon, ./{url} for a path")
    path = url.partition(":")[2] if is_store_url(url) else url
    if creates or not path or (":" in path and path == url):
        return
    if scheme_of(Path(path)) is None:
        raise StoreForeign(f"{path} holds no store; `rewind append` and `rewind serve` create one")


COMMANDS = (append, read, tail, show, streams, info, ping)
"""In the order of ``rewind --help``."""
