"""What has a name, page by page in the order of the names: streams, types, tags, categories, cursors.

No sockets. Events are in pages.py.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, TypeVar

import msgspec

from rewind.arguments import text_of
from rewind.checks import STREAM_BYTES_MAX, check_cursor, check_text
from rewind.client.requests import Call, Requests
from rewind.wire.native import Cursors, Names, Streams, encode
from rewind.wire.replies import CursorRow, Reply, cursors_of, names_of, streams_of

Row = TypeVar("Row")

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class CursorInfo(msgspec.Struct, frozen=True):
    """Where a cursor stands.

    ``position``: of the last event its consumer is done with, 0 if there is no such cursor.
    ``updated_at``: when it was put there, UTC to the microsecond; None if there is no such cursor.
    ``lag_events``: how many events are behind it. ``lag_seconds``: for how long the first of them has
    been there, 0 at the head.
    """

    name: str
    position: int
    updated_at: datetime | None
    lag_events: int
    lag_seconds: float


def cursor_info(row: CursorRow) -> CursorInfo:
    """A cursor as a caller sees it."""
    updated_at = None
    if row.updated_at_ns:
        updated_at = _EPOCH + timedelta(microseconds=row.updated_at_ns // 1000)
    return CursorInfo(row.name, row.position, updated_at, row.lag_events, row.lag_ns / 1e9)


def cursor_row(reply: Reply) -> CursorRow:
    """The one cursor that was asked for. Raises one of ``MALFORMED``."""
    (row,) = cursors_of(reply).cursors
    return row


def ask_cursor(requests: Requests, name: str) -> Call[CursorInfo]:
    """Where one cursor stands. Raises ``BadRequest``."""
    name = text_of(name, "name")
    check_cursor(name, "name")
    body = encode(Cursors(name=name))
    return requests.call(b"CURSORS", body, lambda reply: cursor_info(cursor_row(reply)))


class NamePages(Generic[Row]):
    """Rows in the order of their names. The first answer decides which store all of them are of."""

    def __init__(
        self,
        requests: Requests,
        command: bytes,
        first: Streams | Names | Cursors,
        rows_of: Callable[[Reply], tuple[list[Row], str | None, bool]],
    ) -> None:
        """``first``: the request for the first page. ``rows_of``: an answer's rows, the name to go on
        after, and whether that was the end."""
        self._requests = requests
        self._command = command
        self._next: Any = first
        self._rows_of = rows_of
        self._store_id: bytes | None = None

    def call(self) -> Call[list[Row]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._next is None:
            return None
        body = encode(self._next)
        return self._requests.call(self._command, body, self._receive, self._store_id)

    def _receive(self, reply: Reply) -> list[Row]:
        self._store_id = self._store_id or reply.store_id
        rows, name, end = self._rows_of(reply)
        after = self._next.after
        if not end and (name is None or (after is not None and name <= after)):
            raise ValueError(f"a page that goes on after {name!r}, where it was before")
        self._next = None if end else msgspec.structs.replace(self._next, after=name)
        return rows


def stream_pages(requests: Requests, prefix: str) -> NamePages[tuple[str, int]]:
    """Streams and their versions. Raises ``BadRequest``."""
    return NamePages(requests, b"STREAMS", Streams(_prefix_of(prefix)), _streams)


def name_pages(requests: Requests, kind: str, prefix: str) -> NamePages[tuple[str, int]]:
    """Types, tags or categories by ``kind``, and the position of the last event of each.

    Raises ``BadRequest``.
    """
    return NamePages(requests, b"NAMES", Names(kind, _prefix_of(prefix)), _names)


def cursor_pages(requests: Requests, prefix: str) -> NamePages[CursorInfo]:
    """Cursors. Raises ``BadRequest``."""
    return NamePages(requests, b"CURSORS", Cursors(_prefix_of(prefix)), _cursors)


def _prefix_of(prefix: str) -> str:
    prefix = text_of(prefix, "prefix")
    check_text(prefix, 0, STREAM_BYTES_MAX, "prefix")
    return prefix


def _streams(reply: Reply) -> tuple[list[tuple[str, int]], str | None, bool]:
    said = streams_of(reply)
    return said.streams, said.next, said.end


def _names(reply: Reply) -> tuple[list[tuple[str, int]], str | None, bool]:
    said = names_of(reply)
    return said.names, said.next, said.end


def _cursors(reply: Reply) -> tuple[list[CursorInfo], str | None, bool]:
    said = cursors_of(reply)
    return list(map(cursor_info, said.cursors)), said.next, said.end
