"""Where a subscription begins: behind a position, at ``NOW``, or where a cursor stands.

``begin`` is a generator of steps, which each client carries out in its own way: it yields a call, is
sent what the call gives or thrown what it is refused with, and returns what was to be found out. So
the rules are written once, and know no socket and no loop. decide.py has steps too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from rewind.arguments import number_of, text_of
from rewind.checks import check_cursor
from rewind.client.names import cursor_row
from rewind.client.pages import newest_of, to_read
from rewind.client.requests import Call, Requests
from rewind.errors import BadRequest, CursorMoved
from rewind.events import NOW, Advance, Now
from rewind.query import Query, QueryItem
from rewind.wire.native import Cursors, Read, encode
from rewind.wire.replies import CursorRow, Reply, read_of

T = TypeVar("T")

#: It yields calls, pauses, and what else is to be waited for, and is sent what they give.
Steps = Generator[Any, Any, T]


class Pause(NamedTuple):
    """A step that waits for so many seconds."""

    seconds: float


class Beginning(NamedTuple):
    """Where a subscription begins, and in which store, 16 bytes; None: whichever answers first."""

    after: int
    store_id: bytes | None


def begin(
    requests: Requests, read: Read, given: Beginning, now: bool, cursor: str | None
) -> Steps[Beginning]:
    """Where a subscription begins that reads this: at the cursor, else behind all there is if ``now``,
    else at ``given``.

    A cursor that does not exist is put where the subscription begins ``now``, so that a consumer that
    ends before its first event skips nothing when it begins again.
    """
    if cursor is not None:
        row, store_id = yield _ask_cursor(requests, cursor, given.store_id)
        if row.updated_at_ns:
            return Beginning(row.position, store_id)
        if not now:
            return Beginning(given.after, store_id)
        head = row.position + row.lag_events
        try:
            yield requests.advance(cursor, Advance(head, expected=0), store_id)
        except CursorMoved as moved:  # Another consumer of this name has begun meanwhile.
            return Beginning(moved.actual, store_id)
        return Beginning(head, store_id)
    if now:
        newest: Beginning = yield _ask_newest(requests, read.stream, given.store_id)
        return newest
    return given


def subscription_read(
    *,
    after: int | Now,
    stream: str | None,
    prefix: str,
    types: Iterable[str],
    tags: Iterable[str],
    categories: Iterable[str],
    query: Query | QueryItem | None,
    since: int | datetime | None,
    cursor: str | None,
) -> Read:
    """What a subscription reads, from what a caller gave; ``NOW`` and a cursor aside.

    Raises ``BadRequest``, which names the argument.
    """
    read = to_read(
        after=0 if after is NOW else number_of(after, "after", "give a position or NOW"),
        stream=stream,
        prefix=prefix,
        types=types,
        tags=tags,
        categories=categories,
        query=query,
        since=since,
    )
    if cursor is not None:
        check_cursor(text_of(cursor, "cursor"), "cursor")
        if stream is not None:
            raise BadRequest(
                "give cursor or stream, not both: a cursor is a position and not a version; a query "
                "names streams too"
            )
    return read


# Whatever the caller asks for next comes after what these find: they go first.


def _ask_cursor(
    requests: Requests, name: str, store_id: bytes | None
) -> Call[tuple[CursorRow, bytes | None]]:
    def found(reply: Reply) -> tuple[CursorRow, bytes | None]:
        return cursor_row(reply), reply.store_id

    call = requests.call(b"CURSORS", encode(Cursors(name=name)), found, store_id)
    call.first = True
    return call


def _ask_newest(requests: Requests, stream: str | None, store_id: bytes | None) -> Call[Beginning]:
    def found(reply: Reply) -> Beginning:
        return Beginning(newest_of(read_of(reply), by_version=stream is not None), reply.store_id)

    call = requests.call(b"READ", encode(Read(limit=0, stream=stream)), found, store_id)
    call.first = True
    return call
