"""Bounded reads, a page a call: made in turn by ``call``, until it gives None.

A page's answer decides the next request, so the next one can be under way while the caller handles
this one's events. No sockets. Next: follow.py, for reads without an end.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from itertools import chain
from typing import Any

import msgspec

from rewind.arguments import flag_of, number_of, text_of, texts_of, time_ns_of
from rewind.checks import (
    STREAM_BYTES_MAX,
    TAG_BYTES_MAX,
    TYPE_BYTES_MAX,
    check_stream,
    check_text,
)
from rewind.client.requests import Call, Requests, not_native
from rewind.errors import BadRequest, StoreChanged, quoted
from rewind.events import INT_MAX, Event
from rewind.wire.native import READ_LIMIT_MAX, Read, Streams, encode
from rewind.wire.replies import MALFORMED, ReadBody, Reply, events_of, read_of, streams_of


class EventPages:
    """Events. The first answer's head fixes the upper bound, so that the read ends however many
    events others append meanwhile. Raises ``BadRequest``."""

    def __init__(self, requests: Requests, read: Read) -> None:
        self._requests = requests
        self._rest = ready_to_send(read)
        self._store_id: bytes | None = None  # The first answer that says it decides.
        self._head: int | None = None
        self._ended = read.limit == 0

    def call(self) -> Call[Iterable[Event]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._ended:
            return None
        left = self._rest.limit
        limit = READ_LIMIT_MAX if left is None else min(left, READ_LIMIT_MAX)
        page = msgspec.structs.replace(self._rest, limit=limit)
        return self._requests.call(b"READ", encode(page), self._receive, self._store_id)

    def _receive(self, reply: Reply) -> Iterable[Event]:
        self._store_id = self._store_id or reply.store_id
        said, rest = read_of(reply), self._rest
        after, until, left = rest.after, rest.until, rest.limit
        if self._head is None:
            self._head = said.head
            newest = newest_of(said, by_version=rest.stream is not None)
            until = newest if until is None else min(until, newest)
        elif said.head < self._head:
            raise store_went_back(self._requests.where, said.head, self._head)
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
        self._ended = said.end or left == 0 or after >= until
        self._rest = msgspec.structs.replace(rest, after=after, until=until, limit=left)
        # The events are decoded when they are iterated over: with the next request on its way.
        return chain.from_iterable(map(self._events, (reply,)))

    def _events(self, reply: Reply) -> list[Event]:
        try:
            return events_of(reply)
        except MALFORMED as error:
            raise not_native(self._requests.where, error) from error


class StreamPages:
    """Names and versions of the streams whose name begins with ``prefix``."""

    def __init__(self, requests: Requests, prefix: str) -> None:
        """Raises ``BadRequest``."""
        self._requests = requests
        self._prefix = text_of(prefix, "prefix")
        check_text(self._prefix, 0, STREAM_BYTES_MAX, "prefix")
        self._store_id: bytes | None = None  # The first answer that says it decides.
        self._after: str | None = ""

    def call(self) -> Call[list[tuple[str, int]]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._after is None:
            return None
        page = Streams(self._prefix, self._after)
        return self._requests.call(b"STREAMS", encode(page), self._receive, self._store_id)

    def _receive(self, reply: Reply) -> list[tuple[str, int]]:
        self._store_id = self._store_id or reply.store_id
        said = streams_of(reply)
        if not (said.end or said.next > (self._after or "")):
            raise ValueError(f"a page that goes on after {said.next!r}, where it was before")
        self._after = None if said.end else said.next
        return said.streams


Pages = EventPages | StreamPages


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
    after: int,
    until: int | None,
    limit: int | None,
    backwards: bool,
    stream: str | None,
    prefix: str,
    types: Iterable[str],
    tags: Iterable[str],
    since: int | datetime | None,
) -> Read:
    """A read from what a caller gave. Raises ``BadRequest``, which names the argument."""
    prefix = text_of(prefix, "prefix")
    check_text(prefix, 0, STREAM_BYTES_MAX, "prefix")
    read = Read(
        number_of(after, "after"),
        None if until is None else number_of(until, "until"),
        None if limit is None else number_of(limit, "limit"),
        None,
        flag_of(backwards, "backwards"),
        None if stream is None else text_of(stream, "stream"),
        prefix,
        texts_of(types, "types"),
        texts_of(tags, "tags"),
        None if since is None else time_ns_of(since, "since"),
    )
    for index, type in enumerate(read.types):
        check_text(type, 0, TYPE_BYTES_MAX, f"types[{index}]")
    for index, tag in enumerate(read.tags):
        check_text(tag, 1, TAG_BYTES_MAX, f"tags[{index}]")
    return read


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
