"""Replies to frames, for the daemon, and frames to replies, for clients.

::

    OK rid body [chunk]            native; body is a map, or for several appends an array of maps
    ERROR rid body                 native; body says code, message, retryable
                                   every such map says store_id as well
    PUBLISHED                      Rewind 0.3, an append
    PUBLISHED id                   gorewind, an append
    ERROR text                     both old dialects

What the old dialects answer to QUERY is in old.py. This file is long because what one side encodes stands
beside how the other decodes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec

from rewind.errors import (
    REQUEST_ERRORS,
    ConditionFailed,
    ConditionTooWide,
    CursorMoved,
    Internal,
    RequestError,
    WrongExpectedVersion,
)
from rewind.events import INT_MAX, Appended, Event, decode_events
from rewind.release import PROTOCOL
from rewind.wire.envelope import GOREWIND, NATIVE, REWIND, Request
from rewind.wire.native import LIMITS, encode
from rewind.wire.old import id_text

#: The topic of the message that says where the head is when a feed is idle.
HEAD_TOPIC = b"$head"
#: The topic of the message that says which store a feed is of.
STORE_TOPIC = b"$store"


# --- encoding ------------------------------------------------------------------


class ReadAnswer(msgspec.Struct, frozen=True):
    """Records, and how to go on: ``next`` replaces ``after`` going forwards, ``until`` backwards.

    ``chunk``: the ``count`` records as a msgpack array. ``head``: the last position. ``end``:
    nothing is left in the range. ``complete``: nothing can come into the range later either.
    ``version``: the stream's version, if a stream was asked for. ``appended``: the answer to the append
    that was asked for by its append id, if that is known.
    """

    count: int
    chunk: bytes
    next: int
    head: int
    end: bool
    complete: bool
    version: int | None
    appended: Appended | None = None

    @property
    def events(self) -> list[Event]:
        """The records decoded."""
        return decode_events(self.chunk)


def encode_appended(request: Request, appended: Appended) -> list[bytes]:
    """The reply to an append or a PUBLISH that is durable."""
    if request.dialect == REWIND:
        return [*request.route, b"PUBLISHED"]
    if request.dialect == GOREWIND:
        return [*request.route, b"PUBLISHED", id_text(appended.id_bytes[0])]
    return _native(request, b"OK", _appended_body(appended, request.store_id))


def encode_appends(request: Request, outcomes: Iterable[Appended | RequestError]) -> list[bytes]:
    """The reply to several appends: an array of the bodies that each would be answered with alone."""
    store_id = request.store_id
    bodies = [
        _error_body(outcome, store_id)
        if isinstance(outcome, RequestError)
        else _appended_body(outcome, store_id)
        for outcome in outcomes
    ]
    return _native(request, b"OK", bodies)


class _AppendReply(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An append's reply as it is encoded: a struct is made and encoded faster than a map."""

    first: int
    last: int
    ids: tuple[bytes, ...] = ()
    versions: dict[str, int]
    duplicate: bool
    durability: str
    store_id: bytes | msgspec.UnsetType = msgspec.UNSET


def _appended_body(
    appended: Appended, store_id: bytes | msgspec.UnsetType = msgspec.UNSET
) -> _AppendReply:
    return _AppendReply(
        first=appended.first,
        last=appended.last,
        ids=appended.id_bytes,
        versions=appended.versions,
        duplicate=appended.duplicate,
        durability=appended.durability,
        store_id=store_id,
    )


def encode_ok(request: Request, body: dict[str, Any], *chunks: bytes) -> list[bytes]:
    """A native reply to a read of any kind."""
    return _native(request, b"OK", {**body, "store_id": request.store_id}, *chunks)


def _native(request: Request, status: bytes, body: Any, *chunks: bytes) -> list[bytes]:
    return [*request.route, status, request.request_id, encode(body), *chunks]


def encode_error(request: Request, error: RequestError) -> list[bytes]:
    """The reply that says what was wrong, in the dialect of the request."""
    if request.dialect == NATIVE:
        return _native(request, b"ERROR", _error_body(error, request.store_id))
    return [*request.route, b"ERROR " + str(error).encode("ascii", "backslashreplace")]


def _error_body(error: RequestError, store_id: bytes) -> dict[str, Any]:
    return {
        "code": error.code,
        # A path in it may be any bytes, which are surrogates here.
        "message": str(error).encode(errors="backslashreplace").decode(),
        "retryable": error.retryable,
        **error.details(),
        "store_id": store_id,
    }


def encode_read(request: Request, answer: ReadAnswer) -> list[bytes]:
    """The reply to a READ: how to go on, and the records as one msgpack array."""
    body: dict[str, Any] = {
        "count": answer.count,
        "next": answer.next,
        "head": answer.head,
        "end": answer.end,
    }
    if answer.version is not None:
        body["version"] = answer.version
    if answer.appended is not None:
        body["appended"] = _appended_body(answer.appended)
    return encode_ok(request, body, answer.chunk)


def encode_streams(request: Request, streams: Sequence[tuple[str, int]], end: bool) -> list[bytes]:
    """The reply to a STREAMS. ``next`` is the name to go on after."""
    after = request.body.after
    return encode_ok(
        request,
        {"streams": streams, "next": streams[-1][0] if streams else after, "end": end},
    )


def encode_names(request: Request, names: Sequence[tuple[str, int]], end: bool) -> list[bytes]:
    """The reply to a NAMES. ``next`` is the name to go on after; None where none was given or found."""
    after = request.body.after
    return encode_ok(
        request, {"names": names, "next": names[-1][0] if names else after, "end": end}
    )


def encode_cursors(request: Request, cursors: Sequence[CursorRow], end: bool) -> list[bytes]:
    """The reply to a CURSORS. ``next`` is the name to go on after."""
    after = request.body.after
    return encode_ok(
        request, {"cursors": cursors, "next": cursors[-1].name if cursors else after, "end": end}
    )


def info_body(
    *,
    release: str,
    backend: str,
    durability: str,
    head: int,
    endpoints: dict[str, list[str]],
    event_bytes_max: int,
    insecure: bool,
    connections_max: int | None,
) -> dict[str, Any]:
    """What INFO answers, besides what every reply does."""
    limits = {**LIMITS, "event_bytes": event_bytes_max}
    if connections_max is not None:
        limits["connections"] = connections_max
    return {
        "name": "rewind",
        "release": release,
        "protocol": PROTOCOL,
        "backend": backend,
        "durability": durability,
        "head": head,
        "endpoints": endpoints,
        "limits": limits,
        "insecure": insecure,
    }


# --- decoding ------------------------------------------------------------------


#: What decoding raises when an answer is not as it must be; nesting without end has an error of its own.
MALFORMED = (msgspec.MsgspecError, ValueError, TypeError, RecursionError)

Number = Annotated[int, msgspec.Meta(ge=0, le=INT_MAX)]
Uuid = Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]


class Reply(msgspec.Struct, frozen=True):
    """A native reply: its request id, its body, and a READ's chunk (empty for other commands).

    The body is a map, or for several appends an array. What is in it is checked by whoever asked:
    ``read_of``, ``streams_of``, ``names_of``, ``cursors_of``, ``appended_of``, ``answer_in``.
    """

    request_id: bytes
    body: Any
    chunk: bytes

    @property
    def store_id(self) -> bytes | None:
        """The store that answered, 16 bytes; None if the daemon does not say it, as earlier ones."""
        return self.body.get("store_id") if isinstance(self.body, dict) else None


class ReadBody(msgspec.Struct, frozen=True):
    """What the answer to a READ says beside its records; see ``ReadAnswer``."""

    count: Number
    next: Number
    head: Number
    end: bool
    version: Number | None = None


class StreamsBody(msgspec.Struct, frozen=True):
    """The answer to a STREAMS: names and versions, and the name to go on after unless this is the end."""

    streams: list[tuple[str, Number]]
    next: str
    end: bool


class NamesBody(msgspec.Struct, frozen=True):
    """The answer to a NAMES: each name with its last position, and the name to go on after unless this is
    the end."""

    names: list[tuple[str, Number]]
    next: str | None
    end: bool


class CursorRow(msgspec.Struct, array_like=True, frozen=True):
    """A cursor as CURSORS answers it. One that does not exist is at position 0, and was never updated.

    ``updated_at_ns``: when it was moved last, in nanoseconds since 1970 UTC. ``lag_events``: how many
    events are behind its position. ``lag_ns``: how long ago the first of these was recorded.
    """

    name: str
    position: Number
    updated_at_ns: Number
    lag_events: Number
    lag_ns: Number


class CursorsBody(msgspec.Struct, frozen=True):
    """The answer to a CURSORS: cursors, and the name to go on after unless this is the end."""

    cursors: list[CursorRow]
    next: str
    end: bool


class _AppendedBody(msgspec.Struct, frozen=True):
    first: Number
    last: Number
    versions: dict[str, Number]
    duplicate: bool
    durability: str
    ids: tuple[Uuid, ...] = ()


class _FoundBody(msgspec.Struct, frozen=True):
    appended: _AppendedBody | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    code: str
    message: str = ""


# What a code promises besides, in the order that the error's class takes it.


class _WrongVersion(msgspec.Struct, frozen=True):
    stream: str
    expected: int
    actual: int


class _Failed(msgspec.Struct, frozen=True):
    condition: Number
    position: Number


class _TooWide(msgspec.Struct, frozen=True):
    condition: Number
    examined: Number


class _Moved(msgspec.Struct, frozen=True):
    cursor: str
    expected: Number | None
    actual: Number
    message: str = ""


_DETAILS: dict[str, type[msgspec.Struct]] = {
    WrongExpectedVersion.code: _WrongVersion,
    ConditionFailed.code: _Failed,
    ConditionTooWide.code: _TooWide,
    CursorMoved.code: _Moved,
}


_decode_any = msgspec.msgpack.Decoder().decode


def split_reply(frames: Sequence[bytes]) -> tuple[bytes, bytes, bytes, bytes]:
    """Status, request id, body and chunk. Raises ``ValueError`` when this is no native reply."""
    reply = frames[1:] if frames and frames[0] == b"" else frames
    if len(reply) not in (3, 4) or reply[0] not in (b"OK", b"ERROR"):
        raise ValueError(f"not a native reply: {len(frames)} frames")
    return reply[0], reply[1], reply[2], reply[3] if len(reply) == 4 else b""


def decode_answer(
    status: bytes, request_id: bytes, body: bytes, chunk: bytes
) -> Reply | RequestError:
    """The answer in the parts of a native reply. Raises one of ``MALFORMED``."""
    decoded = _decode_any(body)
    if status == b"ERROR":
        return error_of(decoded)
    if not isinstance(decoded, list):  # The answers to several appends are checked one by one.
        _check_map(decoded)
    return Reply(request_id, decoded, chunk)


def decode_reply(frames: Sequence[bytes]) -> tuple[bytes, Reply | RequestError]:
    """The request id and the answer: a ``Reply`` or the error in it. Raises one of ``MALFORMED``."""
    parts = split_reply(frames)
    return parts[1], decode_answer(*parts)


def answers_of(reply: Reply, count: int) -> list[Any]:
    """The bodies that answer ``count`` appends in one message; see ``answer_in``.

    Raises ``ValueError`` if there are not as many.
    """
    bodies = reply.body
    if not isinstance(bodies, list) or len(bodies) != count:
        raise ValueError(f"{count} appends, and no array of as many answers")
    return bodies


def answer_in(body: Any, request_id: bytes) -> Reply | RequestError:
    """The answer to one of several appends. Raises one of ``MALFORMED``."""
    _check_map(body)
    return error_of(body) if "code" in body else Reply(request_id, body, b"")


def _check_map(body: Any) -> None:
    """Raise ``ValueError`` unless this is a map whose ``store_id``, if it has one, is 16 bytes."""
    if not isinstance(body, dict):
        raise ValueError(f"a body that is {type(body).__name__}, not a map")
    store_id = body.get("store_id")
    if store_id is not None and not (isinstance(store_id, bytes) and len(store_id) == 16):
        raise ValueError("a store_id that is not 16 bytes")


def error_of(body: Any) -> RequestError:
    """The exception a native error reply stands for. Raises one of ``MALFORMED``."""
    _check_map(body)
    said = msgspec.convert(body, _ErrorBody)
    kind = REQUEST_ERRORS.get(said.code, Internal)
    if said.code in _DETAILS:
        error = kind(*msgspec.structs.astuple(msgspec.convert(body, _DETAILS[said.code])))
    else:
        error = kind(said.message or said.code)
    error.store_id = body.get("store_id")
    return error


def appended_of(reply: Reply) -> Appended:
    """The result in an APPEND's reply. Raises one of ``MALFORMED``."""
    return _appended(msgspec.convert(reply.body, _AppendedBody))


def _appended(said: _AppendedBody) -> Appended:
    return Appended(said.first, said.last, said.ids, said.versions, said.duplicate, said.durability)


def found_append_of(reply: Reply) -> Appended | None:
    """The first answer of an append, in the reply to a READ by its append id; None if none is stored
    under it. Raises one of ``MALFORMED``."""
    said = msgspec.convert(reply.body, _FoundBody).appended
    return None if said is None else _appended(said)


def read_of(reply: Reply) -> ReadBody:
    """What a READ's reply says beside its records. Raises one of ``MALFORMED``."""
    return msgspec.convert(reply.body, ReadBody)


def events_of(reply: Reply) -> list[Event]:
    """The events in a READ's reply. Raises one of ``MALFORMED``."""
    events, count = decode_events(reply.chunk), read_of(reply).count
    if len(events) != count:
        raise ValueError(f"{len(events)} events where {count} are said")
    return events


def event_of(reply: Reply) -> Event:
    """The one event in the answer to a READ of one. Raises one of ``MALFORMED``."""
    events = events_of(reply)
    if len(events) != 1:
        raise ValueError(f"{len(events)} events for one id")
    return events[0]


def streams_of(reply: Reply) -> StreamsBody:
    """A STREAMS's reply. Raises one of ``MALFORMED``."""
    return msgspec.convert(reply.body, StreamsBody)


def names_of(reply: Reply) -> NamesBody:
    """A NAMES's reply. Raises one of ``MALFORMED``."""
    return msgspec.convert(reply.body, NamesBody)


def cursors_of(reply: Reply) -> CursorsBody:
    """A CURSORS's reply. Raises one of ``MALFORMED``."""
    return msgspec.convert(reply.body, CursorsBody)
