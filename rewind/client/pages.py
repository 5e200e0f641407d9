"""Bounded reads, a page a call: made in turn by ``call``, until it gives None.

A page's answer decides the next request, so the next one can be under way while the caller handles
this one's events. No sockets. Next: follow.py, for reads without an end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from rewind.checks import check_stream
from rewind.client.requests import Call, Requests, events_of
from rewind.errors import BadRequest, StoreChanged
from rewind.events import INT_MAX, Event
from rewind.wire.native import READ_LIMIT_MAX, Read, Streams, encode
from rewind.wire.replies import Reply


class EventPages:
    """Events. The first answer's head fixes the upper bound, so that the read ends however many
    events others append meanwhile. Raises ``BadRequest``."""

    def __init__(self, requests: Requests, read: Read) -> None:
        self._requests = requests
        self._read = checked(read)
        self._after = read.after
        self._until = read.until
        self._left = read.limit
        self._head: int | None = None
        self._ended = read.limit == 0

    def call(self) -> Call[Iterable[Event]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._ended:
            return None
        limit = READ_LIMIT_MAX if self._left is None else min(self._left, READ_LIMIT_MAX)
        page = msgspec.structs.replace(
            self._read, after=self._after, until=self._until, limit=limit
        )
        return self._requests.call(b"READ", encode(page), self._receive)

    def _receive(self, reply: Reply) -> Iterable[Event]:
        body = reply.body
        if self._head is None:
            self._head = body["head"]
            newest = body["version"] if self._read.stream is not None else body["head"]
            self._until = newest if self._until is None else min(self._until, newest)
        elif body["head"] < self._head:
            raise store_went_back(self._requests.where, body["head"], self._head)
        if self._left is not None:
            self._left -= body["count"]
        if self._read.backwards:
            self._until = body["next"]
        else:
            self._after = body["next"]
        assert self._until is not None
        self._ended = body["end"] or self._left == 0 or self._after >= self._until
        return Undecoded(reply)


class Undecoded:
    """The events of an answer, decoded when they are iterated over: with the next request sent."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply

    def __iter__(self) -> Iterator[Event]:
        return iter(events_of(self._reply))


class StreamPages:
    """Names and versions of the streams whose name begins with ``prefix``."""

    def __init__(self, requests: Requests, prefix: str) -> None:
        self._requests = requests
        self._prefix = prefix
        self._after: str | None = ""

    def call(self) -> Call[list[tuple[str, int]]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._after is None:
            return None
        page = Streams(self._prefix, self._after)
        return self._requests.call(b"STREAMS", encode(page), self._receive)

    def _receive(self, reply: Reply) -> list[tuple[str, int]]:
        self._after = None if reply.body["end"] else reply.body["next"]
        return [(name, version) for name, version in reply.body["streams"]]


def checked(read: Read) -> Read:
    """A read as a caller gave it, made ready to be sent. Raises ``BadRequest``."""
    for name in ("after", "until", "limit", "since"):
        value = getattr(read, name)
        if value is not None and not 0 <= value <= INT_MAX:
            raise BadRequest(f"{name} is {value}; 0 to {INT_MAX} is allowed")
    if read.stream is not None:
        if read.prefix:
            raise BadRequest("give stream or prefix, not both")
        check_stream(read.stream)
    return msgspec.structs.replace(read, prefix=read.prefix or None)


def filters(types: Iterable[str], tags: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The ``types`` and ``tags`` of a read as a caller gave them. Raises ``BadRequest``."""
    return _texts(types, "types"), _texts(tags, "tags")


def _texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """A tuple of texts. Raises ``BadRequest`` for a single text, which would be read as letters."""
    if isinstance(values, str):
        raise BadRequest(f"{what} is the text {values!r}: give a list, as [{values!r}]")
    return tuple(values)


def store_went_back(where: str, newest: int, seen: int) -> StoreChanged:
    """The error of a store that has fewer events than it was seen to have."""
    return StoreChanged(
        f"{where} is at {newest}, but {seen} was seen before: another store, or an older copy of "
        "this one, has taken its place"
    )
