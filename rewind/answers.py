"""A request and a store to the reply: what the daemon and the embedded client both do.

Reads of every kind are answered by ``answer``, one function a kind: a new read command is a row in
``_ANSWERS`` here, and one in wire/native.py. Appends are made durable many at a time, by whoever
holds the store: ``appends_in`` takes them out of their requests, and ``answer_appends`` makes the
replies of what became of them.

Not here: reads that wait, and gorewind's answers of many messages (daemon/reads.py); who may ask
when, and locks. Next: store/, which decides; wire/replies.py, which encodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from rewind.errors import RequestError
from rewind.events import Append, Appended
from rewind.release import __version__
from rewind.store import Store
from rewind.wire import native, old, replies
from rewind.wire.envelope import Request
from rewind.wire.native import Appends, Cursors, Info, Names, Read, Streams
from rewind.wire.old import OldQuery


class About(msgspec.Struct, frozen=True):
    """What INFO says besides the store.

    ``endpoints``: by feed, as bound; empty without a daemon. ``event_bytes_max``: the bound of an
    event's data. ``insecure``: whether other machines may connect without a key.
    ``connections_max``: how many connections fit; None without a daemon.
    """

    endpoints: dict[str, list[str]]
    event_bytes_max: int
    insecure: bool
    connections_max: int | None = None


# --- reads ----------------------------------------------------------------------


def answer(request: Request, store: Store, about: About) -> list[bytes]:
    """The reply to a read of any kind, as the store is now: all frames, the route first.

    A READ's ``wait_ms`` is not looked at. Raises the ``RequestError`` that refuses the request, and
    ``StoreDamaged``; an error that is the request's body is answered like any other.
    """
    body = request.body
    if isinstance(body, RequestError):
        return replies.encode_error(request, body)
    return _ANSWERS[type(body)](request, store, about)


def _read(request: Request, store: Store, _: About) -> list[bytes]:
    return replies.encode_read(request, store.read(request.body))


def _streams(request: Request, store: Store, _: About) -> list[bytes]:
    body: Streams = request.body
    streams, end = store.streams(body.prefix, body.after, _limit(body))
    return replies.encode_streams(request, streams, end)


def _names(request: Request, store: Store, _: About) -> list[bytes]:
    body: Names = request.body
    names, end = store.names(body.kind, body.prefix, body.after, _limit(body))
    return replies.encode_names(request, names, end)


def _cursors(request: Request, store: Store, _: About) -> list[bytes]:
    body: Cursors = request.body
    if body.name is None:
        cursors, end = store.cursors(body.prefix, body.after, _limit(body))
    else:
        cursors, end = [store.cursor(body.name)], True
    rows = [replies.CursorRow(*msgspec.structs.astuple(cursor)) for cursor in cursors]
    return replies.encode_cursors(request, rows, end)


def _limit(body: Streams | Names | Cursors) -> int:
    return native.STREAMS_LIMIT_DEFAULT if body.limit is None else body.limit


def _info(request: Request, store: Store, about: About) -> list[bytes]:
    body = replies.info_body(
        release=__version__,
        backend=store.backend.scheme,
        durability=store.durability,
        head=store.head,
        endpoints=about.endpoints,
        event_bytes_max=about.event_bytes_max,
        insecure=about.insecure,
        connections_max=about.connections_max,
    )
    return replies.encode_ok(request, body)


def _old_query(request: Request, store: Store, _: About) -> list[bytes]:
    """A page of Rewind 0.3's QUERY, over the whole store."""
    body: OldQuery = request.body
    assert body.stream is None, "gorewind's QUERY is answered by many messages"
    after, until = store.range_between(body.after_id, body.until_id)
    page = Read(after=after, until=until, limit=old.QUERY_EVENTS_MAX, max_bytes=old.QUERY_BYTES_MAX)
    events = store.read(page).events
    # Stopped short by the count even exactly at the last event: clients of 0.3 ask once more.
    end = after + len(events) >= until and len(events) < old.QUERY_EVENTS_MAX
    pairs = ((event.id_bytes, event.data) for event in events)
    return old.encode_query(request.route, pairs, end)


_ANSWERS: dict[type, Callable[[Request, Store, About], list[bytes]]] = {
    Read: _read,
    Streams: _streams,
    Names: _names,
    Cursors: _cursors,
    Info: _info,
    OldQuery: _old_query,
}


# --- appends ---------------------------------------------------------------------


def appends_in(requests: Iterable[Request]) -> list[Append]:
    """The appends of these requests, in their order; those refused at the door are left out."""
    appends: list[Append] = []
    for request in requests:
        body = request.body
        if isinstance(body, Append):
            appends.append(body)
        elif isinstance(body, Appends):
            appends += [part for part in body.parts if isinstance(part, Append)]
    return appends


def answer_appends(request: Request, outcomes: Iterator[Appended | RequestError]) -> list[bytes]:
    """The reply to one of the requests that ``appends_in`` was given, an error among them.

    ``outcomes``: how its appends ended, which are taken from it, and then those of later requests.
    """
    body = request.body
    if isinstance(body, Appends):
        results = [next(outcomes) if isinstance(part, Append) else part for part in body.parts]
        return replies.encode_appends(request, results)
    outcome = next(outcomes) if isinstance(body, Append) else body
    if isinstance(outcome, RequestError):
        return replies.encode_error(request, outcome)
    return replies.encode_appended(request, outcome)
