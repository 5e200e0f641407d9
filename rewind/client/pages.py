"""Bounded reads, a page a call: made in turn by ``call``, until it gives None.

A page's answer decides the next request, so the next one can be under way while the caller handles
this one's events. No sockets. Next: reading.py, what a caller iterates over; follow.py, for reads
without an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import chain
from operator import length_hint
from typing import Any

import msgspec

from rewind.arguments import flag_of, number_of, text_of, texts_of, time_ns_of
from rewind.checks import (
    NAMES_MAX,
    STREAM_BYTES_MAX,
    TAG_BYTES_MAX,
    TYPE_BYTES_MAX,
    check_query,
    check_stream,
    check_text,
)
from rewind.client.names import NamePages
from rewind.client.requests import Call, Requests, not_native
from rewind.errors import BadRequest, StoreChanged, TooLarge, quoted
from rewind.events import INT_MAX, Event
from rewind.query import AppendCondition, Query, QueryItem, query_of
from rewind.wire.native import READ_LIMIT_MAX, Read, encode
from rewind.wire.replies import MALFORMED, ReadBody, Reply, events_of, read_of


class EventPages:
    """Events. The first answer's head fixes the upper bound, so that the read ends however many
    events others append meanwhile.

    ``head``: that head, and ``newest`` the same as a version, where a stream is read; None before the
    first answer. ``store_id``: the store that is read, 16 bytes; None while it is whichever answers.
    """

    def __init__(self, requests: Requests, read: Read, store_id: bytes | None = None) -> None:
        """Raises ``BadRequest``."""
        self.read = read
        self.head: int | None = None
        self.newest: int | None = None
        self.store_id = store_id
        self._requests = requests
        self._rest = ready_to_send(read)
        self._ended = read.limit == 0
        self._to_end = False  # The range is read to its end, and not only to its limit.
        # What is handed out is told by what the iterator has left: counting would cost each event.
        self._page: list[Event] = []
        self._left: Iterator[Event] | None = None
        self._before = 0 if read.stream is not None else read.after

    def call(self) -> Call[Iterable[Event]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._ended:
            return None
        left = self._rest.limit
        limit = READ_LIMIT_MAX if left is None else min(left, READ_LIMIT_MAX)
        page = msgspec.structs.replace(self._rest, limit=limit)
        return self._requests.call(b"READ", encode(page), self._receive, self.store_id)

    def _receive(self, reply: Reply) -> Iterable[Event]:
        self.store_id = self.store_id or reply.store_id
        said, rest = read_of(reply), self._rest
        after, until, left = rest.after, rest.until, rest.limit
        if self.head is None:
            self.head = said.head
            self.newest = newest = newest_of(said, by_version=rest.stream is not None)
            until = newest if until is None else min(until, newest)
        elif said.head < self.head:
            raise store_went_back(self._requests.where, said.head, self.head)
        assert until is not None
        if left is not None:
            left -= said.count
            if left < 0:
                raise ValueError(f"{said.count} events where {rest.limit} are allowed")
        if not (said.end or (said.next < until if rest.backwards else said.next > after)):
            raise ValueError(f"a page that goes on after {said.next}, where it was before")
        if rest.backwards:
            until = said.next
        else:
            after = said.next
        self._to_end = said.end or after >= until
        self._ended = self._to_end or left == 0
        self._rest = msgspec.structs.replace(rest, after=after, until=until, limit=left)
        self._before = self._page[-1].position if self._page else self._before
        self._page, self._left = [], None
        # The events are decoded when they are iterated over: with the next request on its way.
        return chain.from_iterable(map(self._events, (reply,)))

    def _events(self, reply: Reply) -> Iterator[Event]:
        try:
            self._page = events_of(reply)
        except MALFORMED as error:
            raise not_native(self._requests.where, error) from error
        self._left = iter(self._page)
        return self._left

    def condition(self) -> AppendCondition:
        """Fail if an event matches that this read has not handed out. Raises ``BadRequest``."""
        read = self.read
        for name in ("backwards", "since", "prefix", "until"):
            if getattr(read, name) not in (None, False, ""):
                raise BadRequest(
                    f"a read with {name} makes no condition, since it may leave out events that matter: "
                    "read forwards, by types, tags, categories or a query"
                )
        if self.head is None:
            raise BadRequest(
                "the read has not begun: iterate over it before its condition is asked for"
            )
        return AppendCondition(query_of_read(read), self._handed_out())

    def _handed_out(self) -> int:
        """The position up to which every event that matches was handed out."""
        if self._left is None:
            return self._before
        count = len(self._page) - length_hint(self._left)
        if count == len(self._page) and self._to_end:
            assert self.head is not None
            return self.head
        return self._page[count - 1].position if count else self._before


Pages = EventPages | NamePages[Any]


class PagesAhead:
    """The pages of a read, the next of them asked for while the caller handles this one."""

    def __init__(self, transport: Any, pages: Pages) -> None:
        """``transport``: a ``blocking.Transport``, or one for asyncio."""
        self._transport = transport
        self._pages = pages
        self.call: Call[Any] | None = None

    def __enter__(self) -> PagesAhead:
        self._ask()
        return self

    def _ask(self) -> None:
        self.call = self._pages.call()
        if self.call is not None:
            self._transport.ask(self.call)

    def take(self, reply: Reply) -> Iterable[Any]:
        """The items in the answer to ``call``, which is then the next one, or None at the end."""
        assert self.call is not None
        items: Iterable[Any] = self.call.value(reply)
        self._ask()
        return items

    def __exit__(self, *raised: object) -> None:
        if self.call is not None:
            self._transport.forget(self.call)


def ready_to_send(read: Read) -> Read:
    """A read as a caller gave it, made ready to be sent. Raises ``BadRequest``."""
    for name in ("after", "until", "limit", "since"):
        value = getattr(read, name)
        if value is not None and not 0 <= value <= INT_MAX:
            raise BadRequest(f"{name} is {quoted(value)}; 0 to {INT_MAX} is allowed")
    if read.stream is not None:
        if read.prefix:
            raise BadRequest("give stream or prefix, not both")
        check_stream(read.stream)
    return msgspec.structs.replace(read, prefix=read.prefix or None)


def to_read(
    *,
    after: int = 0,
    until: int | None = None,
    limit: int | None = None,
    backwards: bool = False,
    stream: str | None = None,
    prefix: str = "",
    types: Iterable[str] = (),
    tags: Iterable[str] = (),
    categories: Iterable[str] = (),
    query: Query | QueryItem | None = None,
    since: int | datetime | None = None,
) -> Read:
    """A read from what a caller gave. Raises ``BadRequest``, which names the argument."""
    prefix = text_of(prefix, "prefix")
    check_text(prefix, 0, STREAM_BYTES_MAX, "prefix")
    read = Read(
        after=number_of(after, "after"),
        until=None if until is None else number_of(until, "until"),
        limit=None if limit is None else number_of(limit, "limit"),
        backwards=flag_of(backwards, "backwards"),
        stream=None if stream is None else text_of(stream, "stream"),
        prefix=prefix,
        types=texts_of(types, "types"),
        tags=texts_of(tags, "tags"),
        since=None if since is None else time_ns_of(since, "since"),
    )
    for index, type in enumerate(read.types):
        check_text(type, 0, TYPE_BYTES_MAX, f"types[{index}]")
    for index, tag in enumerate(read.tags):
        check_text(tag, 1, TAG_BYTES_MAX, f"tags[{index}]")
    categories = texts_of(categories, "categories")
    if query is None and not categories:
        return read
    return _with_items(read, categories, query)


def _with_items(read: Read, categories: tuple[str, ...], query: Query | QueryItem | None) -> Read:
    """The read with a query, or with categories, which make one of its filters."""
    alone = {
        "stream": read.stream is not None,
        "prefix": bool(read.prefix),
        "types": query is not None and bool(read.types),
        "tags": query is not None and bool(read.tags),
        "categories": query is not None and bool(categories),
    }
    what = "categories" if query is None else "query"
    for name, given in alone.items():
        if given:
            raise BadRequest(f"give {what} or {name}, not both: a QueryItem takes all but a prefix")
    items: tuple[QueryItem, ...] | None
    if query is None:
        items = (QueryItem(types=read.types, tags=read.tags, categories=categories),)
    else:
        items = query_of(query).items
    check_query(items, what)
    if (names := sum(item.names for item in items or ())) > NAMES_MAX:
        raise TooLarge(f"{what} has {names} names; at most {NAMES_MAX} are allowed")
    return msgspec.structs.replace(read, types=(), tags=(), query=items)


def query_of_read(read: Read) -> Query:
    """The query that the events of a read match, whatever its range."""
    if read.query is not None:
        return Query(*read.query)
    if not (read.types or read.tags or read.stream):
        return Query.all()
    return Query(read.item())


def newest_of(said: ReadBody, by_version: bool) -> int:
    """The last number there is: a version where a stream was asked for. Raises ``ValueError``."""
    if not by_version:
        return said.head
    if said.version is None:
        raise ValueError("no version of the stream")
    return said.version


def store_went_back(where: str, newest: int, seen: int) -> StoreChanged:
    """The error of a store that has fewer events than it was seen to have."""
    return StoreChanged(
        f"{where} is at {newest}, but {seen} was seen before: another store, or an older copy of "
        "this one, has taken its place"
    )
