"""What a client asks: each request as a ``Call``, and the rules of asking again.

A time-out or a passing refusal is retried with the same bytes, so with the same append id, until the
caller's time is up. Time comes in as an argument.

Not here: reads in pages (pages.py), subscriptions (follow.py), which calls are under way
(outstanding.py), sockets and clocks. Next: outstanding.py.
"""

from __future__ import annotations

import copy
import math
import random
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from rewind.arguments import text_of, wrong_kind
from rewind.checks import check_cursor, check_seconds
from rewind.client.appends import (
    Cursors,
    Pairs,
    advances_of,
    append_event,
    encode_append,
    new_append_id,
    pairs_of,
    version_of,
    versions_of,
    weight_of,
    with_stream,
)
from rewind.errors import (
    Closed,
    ConditionTooWide,
    Overloaded,
    RequestError,
    RewindError,
    ShuttingDown,
    StoreChanged,
    TooLarge,
    Unavailable,
    fresh,
    one_line,
)
from rewind.events import Advance, Append, Appended, Event, NewEvent, uuid_of
from rewind.query import AppendCondition, conditions_of
from rewind.wire import native
from rewind.wire.native import LIMITS, Read, encode, with_store_id
from rewind.wire.replies import (
    MALFORMED,
    Reply,
    appended_of,
    decode_answer,
    event_of,
    found_append_of,
    read_of,
    split_reply,
)

TIMEOUT_S = 10.0  # A daemon that restarts is back by then, with a store of any size.
ATTEMPT_S_MIN = 1.0  # This is far above any commit, so a slow disk is not asked twice.
ATTEMPT_S_MAX = 8.0
PAUSE_S_MIN, PAUSE_S_MAX = 0.02, 1.0  # A request refused for now is sent again after that.

T = TypeVar("T")
Id = uuid.UUID | str | bytes
Conditions = AppendCondition | Iterable[AppendCondition]


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


class Call(msgspec.Struct, Generic[T], eq=False):
    """One request until its outcome: how long to wait for it, whether to send it again. Used once.

    ``decode`` turns the reply into what the caller asked for; ``weight``: how much of a message an
    append takes (appends.py). ``store_id``: the store it is for, 16 bytes, which ``body`` says as well;
    None while it is for whichever answers. ``waited_s``: so much of its time-out went by before its
    answer was waited for. ``outcome``: the reply, or the exception to raise; None while neither is
    known. ``waiter`` belongs to whoever carries the call out.
    """

    where: str
    command: bytes
    body: bytes
    decode: Callable[[Reply], T]
    timeout_s: float
    append_id: bytes | None = None
    weight: int = 0
    store_id: bytes | None = None
    #: It goes before all that waits to be sent.
    first: bool = False
    waited_s: float = 0.0
    outcome: Any = None  # Reply | Exception | None; exceptions have no place in a msgspec union
    waiter: Any = None
    paused: bool = False
    #: The message it was sent in last; empty while it waits to be sent (see outstanding.py).
    message_id: bytes = b""
    sent_s: float = 0.0
    #: Something has to be done about it then, at the latest.
    due_s: float = math.inf
    #: The caller's time is up then; while this is infinite, nobody waits for the outcome.
    deadline_s: float = math.inf
    _attempt_s: float = 0.0
    _pause_s: float = 0.0

    def attempt(self, now_s: float) -> None:
        """It was sent, or somebody begins to wait for what was sent: sets when the answer is late."""
        self._attempt_s = min(self._attempt_s * 2, ATTEMPT_S_MAX) or ATTEMPT_S_MIN
        self.due_s = min(now_s + self._attempt_s, self.deadline_s)

    def pause(self, refused: RequestError, now_s: float) -> None:
        """Sets when to send it again after a refusal, to the store that refused it. Raises that
        refusal unless it passes soon.

        ``storage_full`` is retryable too, but by the caller: room is made in minutes, not seconds.
        A condition that was too wide is asked on at once, from where the store has come to.
        """
        if not passes_soon(refused):
            raise refused
        pause_s = 0.0
        if isinstance(refused, ConditionTooWide):
            self.body = narrowed(self.body, refused)
        else:
            self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX) or PAUSE_S_MIN
            # The pause is random, so that many callers do not come back at once.
            pause_s = self._pause_s * random.uniform(0.5, 1.0)
        if self.store_id is None and refused.store_id is not None:
            self.store_id = refused.store_id
            self.body = with_store_id(self.body, refused.store_id)
        self.due_s = now_s + pause_s
        if self.due_s >= self.deadline_s:
            raise self.unavailable(
                f"{self.where} refused for {self.timeout_s:g} s: {refused}"
            ) from refused

    def from_its_store(self, answer: Reply | RewindError) -> Reply | RewindError:
        """The answer, or ``StoreChanged`` in place of what another store answered."""
        if self.store_id is None or not isinstance(answer, Reply | RequestError):
            return answer
        if answer.store_id == self.store_id:
            return answer
        return store_changed(self.where, answer.store_id, self.store_id)

    def value(self, reply: Reply) -> T:
        """What was asked for, out of the reply. Raises ``Unavailable`` when it cannot be understood."""
        try:
            return self.decode(reply)
        except MALFORMED as error:
            raise self.failed(not_native(self.where, error)) from error

    def failed(self, error: Unavailable) -> Unavailable:
        """This call's own copy of an error that has ended it, perhaps with others."""
        return Unavailable(str(error), self.append_id)

    def no_answer(self) -> Unavailable:
        """The error of a call that was not answered in time."""
        return self.unavailable(f"no answer from {self.where} within {self.timeout_s:g} s")

    def unavailable(self, what: str) -> Unavailable:
        """The error of a call whose time is up: what is known, and what to do."""
        advice = "is the daemon running?"
        if self.command == b"APPEND":
            # Without an append id, the events carry ids, or there are none and only cursors move.
            again = "it again with the same append_id" if self.append_id else "the same again"
            advice += f" The append may have been stored; sending {again} is safe"
        return Unavailable(f"{what}: {advice}", self.append_id)

    def result(self) -> Reply:
        """The reply, once the outcome is known. Raises what the outcome is otherwise."""
        if isinstance(self.outcome, Reply):
            return self.outcome
        raise fresh(self.outcome)


def passes_soon(refused: RewindError) -> bool:
    """Whether a refusal is for now only, so that the request is sent again by itself."""
    return isinstance(refused, Overloaded | ShuttingDown | ConditionTooWide)


def narrowed(body: bytes, refused: ConditionTooWide) -> bytes:
    """The body of an append whose condition begins where the store has come to: nothing matches before.

    Raises the refusal if that is no further than before.
    """
    append = _decode_map(body)
    conditions = append.get("conditions", ())
    if not 0 <= refused.condition < len(conditions):
        raise refused
    condition = conditions[refused.condition]
    if condition.get("after", 0) >= refused.examined:
        raise refused
    condition["after"] = refused.examined
    return encode(append)


_decode_map = msgspec.msgpack.Decoder(dict[str, Any]).decode


# --- what a client asks ----------------------------------------------------------


class Requests:
    """Makes a client's calls: its defaults and, once INFO has told them, the daemon's limits.

    ``store_id``: the store that all of them are for, 16 bytes; None: each is for whichever answers.
    """

    def __init__(self, where: str, timeout_s: float, store_id: Id | None = None) -> None:
        """``timeout_s``, ``store_id``: as the caller gave them. Raises ``BadRequest`` and
        ``TypeError``."""
        self.where = where
        self.store_id = None if store_id is None else uuid_of(store_id, "store_id").bytes
        self._timeout_s = check_seconds(timeout_s, "timeout")
        # The daemon's limits are unknown until INFO says them: nothing it might take is refused.
        self._event_bytes_max = self._request_bytes_max = LIMITS["request_bytes"]

    def within(self, timeout_s: float) -> Requests:
        """The same with another time-out of each call. Raises ``BadRequest`` and ``WrongKind``."""
        other = copy.copy(self)
        other._timeout_s = check_seconds(timeout_s, "timeout")
        return other

    def store(self, store_id: Id | None) -> bytes | None:
        """The store a caller gave, 16 bytes, or else the client's. Raises ``BadRequest``."""
        return self.store_id if store_id is None else uuid_of(store_id, "store_id").bytes

    def append(
        self,
        stream: str,
        events: NewEvent | Iterable[NewEvent],
        expected_version: int | None = None,
        append_id: Id | None = None,
        timeout_s: float | None = None,
        conditions: Conditions = (),
        cursors: Cursors | None = None,
    ) -> Call[Appended]:
        """An append to one stream, as a caller gave it. Raises ``BadRequest`` and ``TooLarge``."""
        stream = text_of(stream, "stream")
        expected = {}
        if isinstance(expected_version, NewEvent):
            raise wrong_kind("expected_version", expected_version, "give several events as a list")
        if expected_version is not None:
            expected[stream] = version_of(expected_version, "expected_version")
        pairs = with_stream(stream, events)
        return self._append(pairs, expected, append_id, timeout_s, conditions, cursors)

    def append_streams(
        self,
        events: Pairs,
        expected: Mapping[str, int] | None = None,
        append_id: Id | None = None,
        timeout_s: float | None = None,
        conditions: Conditions = (),
        cursors: Cursors | None = None,
        store_id: bytes | None = None,
    ) -> Call[Appended]:
        """An append of (stream, event) pairs, as a caller gave it. Raises as ``append``."""
        pairs, versions = pairs_of(events), versions_of(expected)
        return self._append(pairs, versions, append_id, timeout_s, conditions, cursors, store_id)

    def advance(self, name: str, where: Advance, store_id: bytes | None = None) -> Call[Appended]:
        """A cursor's move, or its end. Raises ``BadRequest`` and ``WrongKind``."""
        name = text_of(name, "name")
        check_cursor(name, "name")
        return self._append([], {}, None, None, (), {name: where}, store_id)

    def _append(
        self,
        pairs: list[tuple[str, NewEvent]],
        expected: dict[str, int],
        append_id: Id | None,
        timeout_s: float | None,
        conditions: Conditions,
        cursors: Cursors | None,
        store_id: bytes | None = None,
    ) -> Call[Appended]:
        if timeout_s is not None:
            timeout_s = check_seconds(timeout_s, "timeout")
        id = None
        if append_id is not None:
            id = uuid_of(append_id, "append_id").bytes
        elif pairs and pairs[0][1].id is None:
            id = new_append_id()
        carried = tuple(append_event(stream, event) for stream, event in pairs)
        append = Append(carried, id, expected)
        if conditions != () or cursors is not None:
            append = Append(carried, id, expected, conditions_of(conditions), advances_of(cursors))
        body = encode_append(append, self._event_bytes_max)
        call = self.call(b"APPEND", body, appended_of, store_id)
        call.append_id, call.weight = id, len(carried)
        if append.expected or append.conditions or append.cursors:
            call.weight = weight_of(append)
        if timeout_s is not None:
            call.timeout_s = timeout_s
        return call

    def appended(self, append_id: Id, store_id: bytes | None = None) -> Call[Appended | None]:
        """What an append was answered with; None if none with this id is stored. Raises ``BadRequest``."""
        body = encode(Read(append_id=uuid_of(append_id, "append_id").bytes))
        return self.call(b"READ", body, found_append_of, store_id)

    def event(self, id: Id) -> Call[Event]:
        """One event by its id. Raises ``BadRequest``."""
        return self.call(b"READ", encode(Read(id=uuid_of(id).bytes)), event_of)

    def head(self) -> Call[int]:
        """The last position."""
        return self.call(b"READ", encode(Read(limit=0)), lambda reply: read_of(reply).head)

    def info(self) -> Call[Info]:
        """What the daemon says of itself."""
        return self.call(b"INFO", encode(native.Info()), self._learn)

    def _learn(self, reply: Reply) -> Info:
        info = info_of(reply)
        self._event_bytes_max = info.limits.get("event_bytes", self._event_bytes_max)
        self._request_bytes_max = info.limits.get("request_bytes", self._request_bytes_max)
        return info

    def call(
        self,
        command: bytes,
        body: bytes,
        decode: Callable[[Reply], T],
        store_id: bytes | None = None,
    ) -> Call[T]:
        """Any request, for the store ``store_id`` or else the client's. Raises ``TooLarge``."""
        store_id = store_id or self.store_id
        if store_id is not None:
            body = with_store_id(body, store_id)
        # INFO may always be asked: it brings the limits, and right ones if those were wrong.
        if len(body) > self._request_bytes_max and command != b"INFO":
            raise TooLarge(
                f"the request has {len(body)} bytes; at most {self._request_bytes_max} are "
                "allowed: append fewer events at once"
            )
        return Call(self.where, command, body, decode, self._timeout_s, store_id=store_id)


def closed() -> Closed:
    """The error of a client that is used after it was closed."""
    return Closed("this client was closed")


# --- what replies hold ------------------------------------------------------------


def parse_reply(frames: Sequence[bytes], where: str) -> tuple[bytes, Reply | RewindError]:
    """The request id and the answer, an ``Unavailable`` if that is not as it must be.

    Raises ``Unavailable`` when this is no native reply at all, so that nobody knows whose it is.
    """
    try:
        status, request_id, body, chunk = split_reply(frames)
    except ValueError as error:
        raise not_native(where, error) from error
    try:
        return request_id, decode_answer(status, request_id, body, chunk)
    except MALFORMED as error:
        return request_id, not_native(where, error)


def not_native(where: str, error: Exception) -> Unavailable:
    """The error of an answer that is not as it must be."""
    return Unavailable(
        f"{where} answers, but not in Rewind's native protocol ({one_line(str(error))}): "
        "is it another program, or an older Rewind?"
    )


def store_changed(where: str, found: bytes | None, wanted: bytes) -> StoreChanged:
    """The error of an answer by another store than the one wanted, both 16 bytes.

    ``found`` is None when the daemon does not say its store.
    """
    store = uuid.UUID(bytes=wanted)
    if found is None:
        return StoreChanged(
            f"{where} does not say which store it serves, as earlier releases of Rewind do not: it may "
            f"be another one than {store}; update that daemon, or ask without a store_id"
        )
    return StoreChanged(
        f"{where} serves the store {uuid.UUID(bytes=found)}, but this is about the store {store}: positions "
        "of one mean nothing in the other; ask the daemon of that store, or begin again with this one"
    )


def info_of(reply: Reply) -> Info:
    """The answer to INFO; what a later release adds to it is left out. Raises one of ``MALFORMED``."""
    if reply.store_id is None:
        raise ValueError("no store_id")
    store_id = uuid.UUID(bytes=reply.store_id)
    return msgspec.convert({**reply.body, "store_id": store_id}, Info, strict=False)
