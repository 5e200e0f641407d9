"""The client's decisions: what to ask, when to ask again, how to follow a store without a gap.

Three shells carry them out: zmq_blocking.py (blocking), asynchronous.py (asyncio) and embedded.py (no
daemon at all). Time comes in as an argument, frames go in and out as bytes.

* ``Call``: one request until its answer. Time-outs and passing refusals are retried with the same
  bytes, so with the same append id, until the caller's time is up.
* ``EventPages``, ``StreamPages``: a bounded read, a page a call.
* ``Cursor``: where an endless read is. ``Follower``: how it goes on over lost connections, lost
  messages and restarts. ``Delivery``: how far its consumer has got.

Not here: sockets, threads, clocks, an event loop. Next: blocking.py.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rewind.checks import check_append, check_stream
from rewind.errors import (
    BadConfiguration,
    BadRequest,
    Internal,
    Overloaded,
    RequestError,
    ShuttingDown,
    StoreChanged,
    TooLarge,
    Unavailable,
)
from rewind.events import (
    INT_MAX,
    Append,
    Appended,
    AppendEvent,
    Event,
    NewEvent,
    decode_event,
    decode_events,
    join_records,
    uuid_of,
)
from rewind.wire import native
from rewind.wire.native import LIMITS, READ_LIMIT_MAX, Read, Streams, encode
from rewind.wire.replies import HEAD_TOPIC, Reply, answers_of, appended_of, decode_reply

TIMEOUT_S = 10.0  # a daemon that restarts is back by then, with a store of any size
ATTEMPT_S_MIN = 1.0  # far above any commit, so that a slow disk is not asked twice
ATTEMPT_S_MAX = 8.0
TOGETHER_EVENTS_MAX = 1_024  # of appends in one message; the daemon begins a commit with as many
TOGETHER_BYTES_MAX = 512 * 1024  # a message that no other one waits for long
PAUSE_S_MIN, PAUSE_S_MAX = 0.02, 1.0  # between attempts the daemon refused for now
REPLY_S = 5.0  # a subscription's answer later than this is lost: nobody waits for it meanwhile
WAIT_MS = 10_000  # of a subscription's READ: half a connection is noticed a little later
PROBE_MS = 1_000  # the same while the topic socket may deliver at any moment
SILENCE_S = 3.0  # of the topic socket, which speaks every second
TOPIC_RETRY_S = 10.0  # between tries at a topic socket that never delivered
REOPEN_S_MIN, REOPEN_S_MAX = 0.05, 2.0  # between tries at a daemon that is away
FOLLOW_LIMIT = 2_000  # events in a subscription's page: what a consumer holds at most twice

logger = logging.getLogger("rewind.client")

T = TypeVar("T")
Id = uuid.UUID | str | bytes


class Info(msgspec.Struct, frozen=True):
    """What a daemon says of itself, or an embedded store of itself.

    ``store_id``: a UUID made with the store and kept by its copies. ``head``: the last position.
    ``endpoints``: ``incoming``, ``streaming``, ``topic``, ``gorewind`` -> where each is bound.
    ``limits``: name -> number, as ``event_bytes``. ``durability``: ``fsync`` or ``memory``.
    """

    name: str
    release: str
    protocol: int
    store_id: uuid.UUID
    backend: str
    durability: str
    head: int
    endpoints: dict[str, list[str]]
    limits: dict[str, int]
    insecure: bool


# --- one request ----------------------------------------------------------------


class Call(Generic[T]):
    """One request until its answer: how long to wait for it, whether to send it again."""

    __slots__ = (
        "_attempt_s",
        "_deadline_s",
        "_pause_s",
        "append_id",
        "body",
        "command",
        "decode",
        "events",
        "timeout_s",
        "where",
    )

    def __init__(
        self,
        where: str,
        command: bytes,
        body: bytes,
        decode: Callable[[Reply], T],
        timeout_s: float,
        append_id: bytes | None = None,
        events: int = 0,
    ) -> None:
        self.where = where
        self.command = command
        #: How many an append has.
        self.events = events
        self.body = body
        #: The reply turned into what the caller asked for.
        self.decode = decode
        self.timeout_s = timeout_s
        self.append_id = append_id
        self._deadline_s: float | None = None
        self._attempt_s = ATTEMPT_S_MIN
        self._pause_s = PAUSE_S_MIN

    def attempt_s(self, now_s: float) -> float:
        """How long to wait for the answer to an attempt made now. Raises ``Unavailable``."""
        if self._deadline_s is None:
            self._deadline_s = now_s + self.timeout_s
        elif now_s >= self._deadline_s:
            raise self.unavailable(f"no answer from {self.where} within {self.timeout_s:g} s")
        attempt_s = min(self._attempt_s, self._deadline_s - now_s)
        self._attempt_s = min(self._attempt_s * 2, ATTEMPT_S_MAX)
        return attempt_s

    def pause_s(self, refused: RequestError, now_s: float) -> float:
        """How long to wait before the next attempt. Raises the refusal unless it passes soon.

        ``storage_full`` is retryable too, but by the caller: room is made in minutes, not seconds.
        """
        if not isinstance(refused, Overloaded | ShuttingDown):
            raise refused
        pause_s = self._pause_s * random.uniform(0.5, 1.0)  # so that many do not come back at once
        self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX)
        assert self._deadline_s is not None
        if now_s + pause_s >= self._deadline_s:
            raise self.unavailable(
                f"{self.where} refused for {self.timeout_s:g} s: {refused}"
            ) from refused
        return pause_s

    def unavailable(self, what: str) -> Unavailable:
        """The error of a call whose time is up: what is known, and what to do."""
        advice = f"is the daemon running? try: rewind info -e {self.where}"
        if self.command == b"APPEND":
            with_what = "the same append_id" if self.append_id else "the same event ids"
            advice += (
                f". The append may have been stored; sending it again with {with_what} is safe"
            )
        return Unavailable(f"{what}: {advice}", self.append_id)


def parse_reply(frames: Sequence[bytes], where: str) -> tuple[bytes, Reply | RequestError]:
    """The request id and the answer. Raises ``Unavailable`` when this is no native reply."""
    try:
        return decode_reply(frames)
    except (ValueError, KeyError, AttributeError, msgspec.DecodeError) as error:
        raise _foreign(where, error) from error


def _foreign(where: str, error: Exception) -> Unavailable:
    return Unavailable(
        f"{where} answers, but not in Rewind's native protocol ({error}): "
        "is it another program, or an older Rewind?"
    )


# Appends of several tasks or threads in one message. Each stays a request of its own: with its own
# answer, and sent again by itself or in other company.


def together(calls: Iterable[Call[Any]], most: int) -> int:
    """How many of these appends, from the first on, go in one message: at least one."""
    count = events = size = 0
    for call in calls:
        events += call.events
        size += len(call.body)
        if count and (events > TOGETHER_EVENTS_MAX or size > TOGETHER_BYTES_MAX):
            break
        count += 1
        if count == most:
            break
    return count


def body_of(calls: Sequence[Call[Any]]) -> bytes:
    """The body of the message with these appends."""
    return calls[0].body if len(calls) == 1 else join_records([call.body for call in calls])


def answers_to(
    calls: Sequence[Call[Any]], answer: Reply | RequestError
) -> Sequence[Reply | RequestError]:
    """Each append's own answer in that to their message. Raises ``Unavailable`` without them."""
    if len(calls) == 1 or isinstance(answer, RequestError):
        return [answer] * len(calls)
    try:
        return answers_of(answer, len(calls))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise _foreign(calls[0].where, error) from error


# --- what a client asks ----------------------------------------------------------


class Session:
    """Makes a client's requests: its defaults and, once told, the daemon's limits."""

    def __init__(self, where: str, timeout_s: float) -> None:
        self.where = where
        self.timeout_s = timeout_s
        # Unknown until INFO says: what the daemon would take is not refused here.
        self._event_bytes_max = LIMITS["request_bytes"]
        self._request_bytes_max = LIMITS["request_bytes"]

    def append(
        self,
        stream: str,
        events: NewEvent | Iterable[NewEvent],
        expected_version: int | None,
        append_id: Id | None,
        timeout_s: float | None,
    ) -> Call[Appended]:
        """An append to one stream."""
        chosen = (events,) if isinstance(events, NewEvent) else events
        expected = {} if expected_version is None else {stream: expected_version}
        return self._append([(stream, event) for event in chosen], expected, append_id, timeout_s)

    def append_streams(
        self,
        events: Iterable[tuple[str, NewEvent]],
        expected: Mapping[str, int] | None,
        append_id: Id | None,
        timeout_s: float | None,
    ) -> Call[Appended]:
        """An append to several streams."""
        return self._append(list(events), dict(expected or {}), append_id, timeout_s)

    def _append(
        self,
        events: list[tuple[str, NewEvent]],
        expected: dict[str, int],
        append_id: Id | None,
        timeout_s: float | None,
    ) -> Call[Appended]:
        own_ids = bool(events) and events[0][1].id is not None
        id = None
        if append_id is not None:
            id = _append_id_of(append_id)
        elif not own_ids:
            id = new_append_id()
        append = Append(
            tuple(
                AppendEvent(
                    None if event.id is None else event.id.bytes,
                    stream,
                    event.type,
                    event.tags,
                    event.metadata,
                    event.data,
                )
                for stream, event in events
            ),
            id,
            expected,
        )
        body = _encode_append(append, self._event_bytes_max)
        return self._call(b"APPEND", body, _appended, timeout_s, id, len(events))

    def event(self, id: Id) -> Call[Event]:
        """One event by its id."""
        return self._call(b"READ", encode(Read(id=uuid_of(id).bytes)), _only_event)

    def head(self) -> Call[int]:
        """The last position."""
        return self._call(b"READ", encode(Read(limit=0)), _head)

    def info(self) -> Call[Info]:
        """What the daemon says of itself."""
        return self._call(b"INFO", encode(native.Info()), self._learn)

    def _learn(self, reply: Reply) -> Info:
        info = decode_info(reply)
        self._event_bytes_max = info.limits.get("event_bytes", self._event_bytes_max)
        self._request_bytes_max = info.limits.get("request_bytes", self._request_bytes_max)
        return info

    def read(
        self,
        *,
        after: int,
        until: int | None,
        limit: int | None,
        backwards: bool,
        types: Iterable[str],
        tags: Iterable[str],
        since: int | None,
        stream: str | None = None,
        prefix: str = "",
    ) -> EventPages:
        """A bounded read. Raises ``BadRequest``."""
        query = Read(
            after,
            until,
            limit,
            backwards=backwards,
            stream=stream,
            prefix=prefix or None,
            types=texts(types, "types"),
            tags=texts(tags, "tags"),
            since=since,
        )
        for name in ("after", "until", "limit", "since"):
            value = getattr(query, name)
            if value is not None and not 0 <= value <= INT_MAX:
                raise BadRequest(f"{name} is {value}; 0 to {INT_MAX} is allowed")
        if stream is not None:
            check_stream(stream)
        return EventPages(self, query)

    def streams(self, prefix: str) -> StreamPages:
        """Names and versions of streams."""
        return StreamPages(self, prefix)

    def subscribe(
        self,
        after: int,
        stream: str | None,
        prefix: str,
        types: Iterable[str],
        tags: Iterable[str],
    ) -> Cursor:
        """An endless read. Raises ``BadRequest``."""
        if not 0 <= after <= INT_MAX:
            raise BadRequest(f"after is {after}; 0 to {INT_MAX} is allowed")
        if stream is not None and prefix:
            raise BadRequest("give stream or prefix, not both")
        if stream is not None:
            check_stream(stream)
        return Cursor(after, stream, prefix or None, texts(types, "types"), texts(tags, "tags"))

    def _call(
        self,
        command: bytes,
        body: bytes,
        decode: Callable[[Reply], T],
        timeout_s: float | None = None,
        append_id: bytes | None = None,
        events: int = 0,
    ) -> Call[T]:
        if len(body) > self._request_bytes_max:
            raise TooLarge(
                f"the request has {len(body)} bytes; at most {self._request_bytes_max} are "
                "allowed: append fewer events at once"
            )
        timeout_s = self.timeout_s if timeout_s is None else timeout_s
        return Call(self.where, command, body, decode, timeout_s, append_id, events)


_chance = random.Random(os.urandom(32))  # the system's own costs a call to it for every append
os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))


def new_append_id() -> bytes:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random ones.

    In order of time, because a store's index of append ids then grows at one end.
    """
    random_bits = _chance.getrandbits(80) & ~0xF000_C000_0000_0000_0000
    high = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80
    return (high | random_bits | 0x7000_8000_0000_0000_0000).to_bytes(16, "big")


def _append_id_of(id: Id) -> bytes:
    try:
        return uuid_of(id).bytes
    except BadRequest as error:
        raise BadRequest(
            f"{id!r} is not an append id: give a UUID, its text or 16 bytes"
        ) from error


def _encode_append(append: Append, event_bytes_max: int) -> bytes:
    try:
        check_append(append, event_bytes_max)
        return encode(append)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        # Of another type than the wire has words for, or not UTF-8.
        raise BadRequest(_wrong_type(append) or f"the append cannot be encoded: {error}") from error


def _wrong_type(append: Append) -> str:
    for index, event in enumerate(append.events):
        for name, kind in (("stream", str), ("type", str), ("data", bytes)):
            value = getattr(event, name)
            if not isinstance(value, kind):
                return f"events[{index}]: {name} is {type(value).__name__}, not {kind.__name__}"
    return ""


def texts(values: Iterable[str], what: str) -> tuple[str, ...]:
    """A tuple of texts. Raises ``BadRequest`` for a single text, which would be read as letters."""
    if isinstance(values, str):
        raise BadRequest(f"{what} is the text {values!r}: give a list, as [{values!r}]")
    return tuple(values)


def _appended(reply: Reply) -> Appended:
    return appended_of(reply.body)


def _head(reply: Reply) -> int:
    return int(reply.body["head"])


def _only_event(reply: Reply) -> Event:
    return _events(reply)[0]


def _events(reply: Reply) -> list[Event]:
    try:
        return decode_events(reply.chunk)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Internal(f"the answer to a READ holds something that is no event: {error}") from error


def decode_info(reply: Reply) -> Info:
    """The body of an INFO's reply; what a later release adds to it is left out."""
    body = reply.body
    try:
        return msgspec.convert(
            {**body, "store_id": uuid.UUID(bytes=body["store_id"])}, Info, strict=False
        )
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise Internal(f"the answer to INFO cannot be understood: {error}") from error


# --- bounded reads ----------------------------------------------------------------


class EventPages:
    """A bounded read, a page a call. The first answer's head fixes its upper bound, so it ends
    however many events others append meanwhile.
    """

    def __init__(self, session: Session, query: Read) -> None:
        self._session = session
        self._after = query.after
        self._until = query.until
        self._left = query.limit
        self._query = query
        self._head: int | None = None
        self._ended = query.limit == 0

    def call(self) -> Call[Iterable[Event]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._ended:
            return None
        limit = READ_LIMIT_MAX if self._left is None else min(self._left, READ_LIMIT_MAX)
        query = msgspec.structs.replace(
            self._query, after=self._after, until=self._until, limit=limit
        )
        return self._session._call(b"READ", encode(query), self._receive)

    def _receive(self, reply: Reply) -> Iterable[Event]:
        body = reply.body
        if self._head is None:
            self._head = body["head"]
            newest = body["version"] if self._query.stream is not None else body["head"]
            self._until = newest if self._until is None else min(self._until, newest)
        elif body["head"] < self._head:
            raise _behind(self._session.where, body["head"], self._head)
        if self._left is not None:
            self._left -= body["count"]
        if self._query.backwards:
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
        return iter(_events(self._reply))


class StreamPages:
    """Names and versions of streams, a page a call."""

    def __init__(self, session: Session, prefix: str) -> None:
        self._session = session
        self._prefix = prefix
        self._after: str | None = ""

    def call(self) -> Call[list[tuple[str, int]]] | None:
        """The request for the next page; None when there is none. Once for each page."""
        if self._after is None:
            return None
        query = Streams(self._prefix, self._after)
        return self._session._call(b"STREAMS", encode(query), self._receive)

    def _receive(self, reply: Reply) -> list[tuple[str, int]]:
        self._after = None if reply.body["end"] else reply.body["next"]
        return [(name, version) for name, version in reply.body["streams"]]


def _behind(where: str, head: int, seen: int) -> StoreChanged:
    return StoreChanged(
        f"{where} is at {head}, but {seen} was seen before: another store, or an older copy of this "
        "one, has taken its place"
    )


# --- subscriptions ----------------------------------------------------------------


class Cursor:
    """Where an endless read is.

    ``place``: everything up to here was received; a position or, with ``stream``, a version.
    ``at_end``: there was no more when the store was last asked, or told.
    """

    def __init__(
        self,
        after: int,
        stream: str | None = None,
        prefix: str | None = None,
        types: tuple[str, ...] = (),
        tags: tuple[str, ...] = (),
    ) -> None:
        self.place = after
        self.at_end = False
        self.by_version = stream is not None
        self.filtered = bool(stream is not None or prefix or types or tags)
        self._query = Read(
            after, limit=FOLLOW_LIMIT, stream=stream, prefix=prefix, types=types, tags=tags
        )

    def body(self, wait_ms: int = 0) -> bytes:
        """The READ that goes on from here."""
        return encode(msgspec.structs.replace(self._query, after=self.place, wait_ms=wait_ms))

    def receive(self, reply: Reply, where: str) -> list[Event]:
        """The events in the answer. Raises ``StoreChanged`` when the store has lost some."""
        newest = reply.body["version"] if self.by_version else reply.body["head"]
        if newest < self.place:
            raise _behind(where, newest, self.place)
        events = _events(reply)
        self.place = reply.body["next"]
        self.at_end = reply.body["end"]
        return events


class Follower:
    """Follows a store over one connection after another. No sockets: its shell has them.

    A shell opens a DEALER that never reconnects by itself, so that all its answers come from one
    daemon, and sends what ``request`` gives. Each connection begins with INFO (is it the same
    store?) and catches up with READ. An unfiltered subscription then goes live on the topic socket:

    * That socket is opened after INFO was answered and never reconnects either. Once it has
      delivered something, even ``$head``, and a READ sent after that was answered with nothing
      left, the daemon behind it is the one INFO was asked of, and nothing is missing.
    * Live, the next position is handed out, an earlier one is a repetition, a later one (or a
      ``$head`` beyond) a hole: READ again, and let the socket queue meanwhile.
    * Silence for ``SILENCE_S``: READ with ``wait_ms``, until the socket delivers again.

    Filtered subscriptions, and those that reach no topic socket, READ with ``wait_ms`` always.
    Whatever is lost, late or broken ends in ``lost``: a new connection, INFO, READ.
    """

    def __init__(self, cursor: Cursor, where: str, topic_endpoint: str | None = None) -> None:
        self.cursor = cursor
        #: Whether the topic socket is what events are handed out from.
        self.live = False
        #: When to open the next connection, if there is none.
        self.open_at_s = 0.0
        #: Where the topic socket is; None while unknown, or none is wanted.
        self.topic: str | None = None
        self._where = where
        self._topic_given = topic_endpoint
        self._store_id: uuid.UUID | None = None
        self._reopen_s = REOPEN_S_MIN
        self._told = False  # that the daemon is away; once for each time
        self._requests = 0
        self._reset()

    def _reset(self) -> None:
        self.live = False
        self.topic = None
        self.heard = False  # something came from the topic socket
        self._checked = False  # INFO was answered on this connection
        self._awaited: bytes | None = None
        self._parked = False  # what is awaited waits for events
        self._proves = False  # what is awaited was sent after the topic socket was heard
        self._late_s = 0.0  # when what is awaited, or live the next message, is late
        self._pause_until_s = 0.0
        self._pause_s = PAUSE_S_MIN
        self._topic_open_s = 0.0
        self._hurried = False

    @property
    def wants_topic(self) -> bool:
        """Whether messages of the topic socket are to be taken now, or left in their queue."""
        return self.live or not self.heard

    def hurry(self) -> None:
        """Somebody waits to hear how far this is: do not wait for the next matching event."""
        self._hurried = True

    # The connection

    def lost(self, now_s: float, why: str) -> None:
        """The connection is gone, or as good as gone; the shell has closed its sockets."""
        if not self._told:
            self._told = True
            logger.warning("lost %s (%s); trying again until it is back", self._where, why)
        self._reset()
        self.cursor.at_end = False
        self.open_at_s = now_s + self._reopen_s
        self._reopen_s = min(self._reopen_s * 2, REOPEN_S_MAX)

    def late(self, now_s: float) -> bool:
        """Whether an answer is overdue, so that the connection has to be given up."""
        return self._awaited is not None and now_s >= self._late_s

    def wait_s(self, now_s: float, connected: bool) -> float:
        """How long nothing will be due unless something arrives."""
        if not connected:
            return max(0.0, self.open_at_s - now_s)
        waits = self._awaited is not None or self.live
        due_s = self._late_s if waits else self._pause_until_s
        if self.topic is not None and not self.heard:
            due_s = min(due_s, self._topic_open_s)
        return max(0.0, due_s - now_s)

    # Requests and answers

    def request(self, now_s: float) -> tuple[bytes, bytes, bytes] | None:
        """Command, request id and body to send now, if anything is to be sent."""
        if self._parked and (self._hurried or self.heard) and not self.live:
            # Ask again without waiting: somebody wants to know, or the topic socket has spoken.
            # What the parked READ still answers is ignored; nothing is missed by that.
            self._awaited = None
        if self.live and now_s >= self._late_s:
            self.live = self.heard = False
            self._topic_open_s = now_s
        if self._awaited is not None or self.live or now_s < self._pause_until_s:
            return None
        wait_ms = self._wait_ms() if self._checked else 0
        command = b"READ" if self._checked else b"INFO"
        body = self.cursor.body(wait_ms) if self._checked else encode(native.Info())
        self._requests += 1
        self._awaited = self._requests.to_bytes(8, "big")
        self._parked = wait_ms > 0
        self._proves = self.heard
        self._late_s = now_s + wait_ms / 1000 + REPLY_S
        self._hurried = False
        return command, self._awaited, body

    def _wait_ms(self) -> int:
        """0 while there is more, and for the READ that may go live."""
        if not self.cursor.at_end or self.heard or self._hurried:
            return 0
        return WAIT_MS if self.topic is None else PROBE_MS

    def replied(self, frames: Sequence[bytes], now_s: float) -> list[Event]:
        """Take an answer. Raises ``StoreChanged``, or what the daemon refused for good."""
        request_id, answer = parse_reply(frames, self._where)
        if request_id != self._awaited:
            return []
        self._awaited = None
        self._parked = False
        if isinstance(answer, RequestError):
            self._refused(answer, now_s)
            return []
        self._pause_s = PAUSE_S_MIN
        if not self._checked:
            self._check(decode_info(answer))
            return []
        events = self.cursor.receive(answer, self._where)
        if self._proves and self.cursor.at_end:
            self.live = True
            self._late_s = now_s + SILENCE_S
        return events

    def _refused(self, refused: RequestError, now_s: float) -> None:
        if not isinstance(refused, Overloaded | ShuttingDown):
            raise refused
        self._pause_until_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX)

    def _check(self, info: Info) -> None:
        if self._store_id is None:
            self._store_id = info.store_id
        elif self._store_id != info.store_id:
            raise StoreChanged(
                f"{self._where} now serves the store {info.store_id}; this subscription is of "
                f"{self._store_id}: positions of one mean nothing in the other"
            )
        self._checked = True
        self._reopen_s = REOPEN_S_MIN
        if self._told:
            self._told = False
            logger.warning("%s is back", self._where)
        if not self.cursor.filtered:
            self.topic = self._topic_given or choose_topic(
                info.endpoints.get("topic", ()), self._where
            )

    # The topic socket

    def topic_due(self, now_s: float) -> bool:
        """Whether to open the topic socket now, or to replace it by a new one."""
        if self.topic is None or self.heard or now_s < self._topic_open_s:
            return False
        self._topic_open_s = now_s + TOPIC_RETRY_S
        return True

    def published(self, topic: bytes, record: bytes, now_s: float) -> Event | None:
        """Take a message of the topic socket; the event in it if it is the next one."""
        self._late_s = now_s + SILENCE_S
        place = self.cursor.place
        if topic[:1] == b"$":
            if topic == HEAD_TOPIC and _decode_head(record) > place:
                self._hole()
            return None
        try:
            event = decode_event(record)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._hole()  # the READ will say what is wrong with it, or bring it whole
            return None
        if event.position == place + 1:
            self.cursor.place = event.position
            return event
        if event.position > place:
            self._hole()
        return None

    def _hole(self) -> None:
        self.live = False
        self.cursor.at_end = False


def _decode_head(message: bytes) -> int:
    try:
        return _decode_int(message)
    except msgspec.DecodeError:
        return 0  # of a later release; holes are seen without it


_decode_int = msgspec.msgpack.Decoder(int).decode


class Delivery:
    """Received events on their way to a subscription's consumer, and how far that has got.

    ``position``: of the last event handed out (with ``stream``, its version). ``handled``: the
    consumer asked for more after everything up to here. ``caught_up``: and there was no more.
    """

    def __init__(self, cursor: Cursor) -> None:
        self.position = self.handled = cursor.place
        self.caught_up = False
        self._cursor = cursor
        self._events: deque[Event] = deque()

    def __bool__(self) -> bool:
        return bool(self._events)

    def put(self, events: Iterable[Event]) -> None:
        """Events were received."""
        self.caught_up = False
        self._events.extend(events)

    def asked(self) -> None:
        """The consumer asks for more: what it got, it has handled."""
        if self._events:
            self.handled = self.position
        else:  # what did not match needs no handling
            self.handled = self._cursor.place
            self.caught_up = self._cursor.at_end

    def next(self) -> Event:
        """The next event, handed out."""
        event = self._events.popleft()
        self.position = event.version if self._cursor.by_version else event.position
        return event

    def take(self, limit: int) -> list[Event]:
        """The next events, at most so many, handed out."""
        return [self.next() for _ in range(min(limit, len(self._events)))]


# --- endpoints ----------------------------------------------------------------------

_TCP = re.compile(r"tcp://(?P<host>\[[^\]]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_ANY_HOST = ("*", "0.0.0.0", "[::]")


def check_endpoint(endpoint: str) -> None:
    """Raise ``BadConfiguration`` unless it is an endpoint to connect to."""
    match = _TCP.fullmatch(endpoint)
    if match is not None:
        if match["host"] in _ANY_HOST or not 0 < int(match["port"]) < 65536:
            raise BadConfiguration(
                f"endpoint {endpoint}: a host and a port of 1 to 65535 are needed"
            )
    elif not re.fullmatch(r"ipc://.+", endpoint):
        raise BadConfiguration(
            f"endpoint {endpoint}: write tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH"
        )


def choose_topic(bound: Iterable[str], connected: str) -> str | None:
    """The topic endpoint to connect to, of those the daemon has bound; None if none is reachable.

    A wildcard host is the one connected to. A loopback address is only of use on the same machine:
    elsewhere it would lead to another daemon.
    """
    match = _TCP.fullmatch(connected)
    host = match["host"] if match else "127.0.0.1"
    local = match is None or _is_loopback(host)
    ranked: list[tuple[int, str]] = []
    for endpoint in bound:
        other = _TCP.fullmatch(endpoint)
        if other is None:
            if local and endpoint.startswith("ipc://"):
                ranked.append((0 if match is None else 2, endpoint))
        elif other["host"] in _ANY_HOST:
            ranked.append((1, f"tcp://{host}:{other['port']}"))
        elif other["host"] == host:
            ranked.append((0, endpoint))
        elif local or not _is_loopback(other["host"]):
            ranked.append((3, endpoint))
    return min(ranked)[1] if ranked else None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "[::1]" or host.startswith("127.")
