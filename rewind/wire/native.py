"""Frames to requests and replies to frames, for all three dialects. No sockets, no store.

A request as the ROUTER hands it over::

    identity | envelope ... | command | arguments ...
               ends with an empty frame, or is absent (DEALER)

``decode_request`` never raises: what is wrong with a request becomes its body, an error, so that
every message has exactly one answer. The dialects differ by command and number of frames:

    PUBLISH data                      Rewind 0.3    PUBLISHED
    QUERY from to                     Rewind 0.3    id data id data ... [END]
    PUBLISH stream data               gorewind      PUBLISHED id
    QUERY stream from to              gorewind      EVENT id data, one message each; END
    APPEND|READ|STREAMS|INFO rid body native        OK rid body [chunk]  or  ERROR rid body

An APPEND's body may be an array of appends, each independent; an array of their results answers it.

Everything that comes in is decoded, checked and typed here, at the door; afterwards it is trusted.
The contract for other languages is docs/protocol.rst. Next: daemon/server.py (the turn), client/requests.py (clients).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from rewind.errors import (
    REQUEST_ERRORS,
    BadRequest,
    Internal,
    RequestError,
    TooLarge,
    UnknownCommand,
    WrongExpectedVersion,
)
from rewind.events import (
    DEFAULT_STREAM,
    EVENT_BYTES_MAX,
    EVENTS_PER_APPEND_MAX,
    EXPECTED_MAX,
    INT_MAX,
    METADATA_BYTES_MAX,
    READ_BYTES_MAX,
    READ_LIMIT_MAX,
    STREAM_BYTES_MAX,
    TYPES_MAX,
    Append,
    Appended,
    AppendEvent,
    ReadAnswer,
    ReadQuery,
    check_append,
    check_filters,
    check_stream,
)
from rewind.release import PROTOCOL

ENVELOPE_FRAMES_MAX = 8  # a client behind several proxies
ENVELOPE_BYTES_MAX = 8 * 256  # identities have at most 255 bytes; they come back with every reply
REQUEST_ID_BYTES_MAX = 64  # room for a UUID and a counter in text
REQUEST_BYTES_MAX = 16 * 1024 * 1024  # one commit stays well below a second
DROPPED_BYTES = 4 * REQUEST_BYTES_MAX  # a larger frame is no mistake: the connection is dropped
STREAMS_LIMIT_MAX = 10_000
STREAMS_LIMIT_DEFAULT = 1_000
WAIT_MS_MAX = 30_000  # shorter than the idle time-outs of what may lie between
PARKED_MAX = 1_024  # reads waiting at once
QUERY_EVENTS_MAX = 100  # an answer to QUERY, as Rewind 0.3 counted
QUERY_BYTES_MAX = 1024 * 1024

LIMITS = {
    "event_bytes": EVENT_BYTES_MAX,
    "metadata_bytes": METADATA_BYTES_MAX,
    "append_events": EVENTS_PER_APPEND_MAX,
    "append_expected": EXPECTED_MAX,
    "request_bytes": REQUEST_BYTES_MAX,
    "read_limit": READ_LIMIT_MAX,
    "read_bytes": READ_BYTES_MAX,
    "read_types": TYPES_MAX,
    "streams_limit": STREAMS_LIMIT_MAX,
    "wait_ms": WAIT_MS_MAX,
    "parked_reads": PARKED_MAX,
}
"""What INFO says under ``limits``; ``event_bytes`` follows ``--max-event-bytes``."""

#: Topic of the message that tells an idle feed where the head is.
HEAD_TOPIC = b"$head"

_OLD = (b"PUBLISH", b"QUERY")
_NATIVE = (b"APPEND", b"READ", b"STREAMS", b"INFO")
_KNOWN = frozenset(_OLD + _NATIVE)

encode = msgspec.msgpack.Encoder().encode


# --- requests -----------------------------------------------------------------


class Query(msgspec.Struct, frozen=True):
    """A QUERY of an old dialect: ids of 16 bytes, None for "from the start" and "to the end"."""

    after_id: bytes | None
    until_id: bytes | None
    stream: str | None = None


class StreamsQuery(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What STREAMS asks for."""

    prefix: str = ""
    after: str = ""
    limit: int | None = None


class InfoQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """INFO asks nothing."""


class Appends(msgspec.Struct, frozen=True):
    """Independent appends in one message: of each the ``Append``, or the error that refuses it."""

    parts: list[Any]  # Append | RequestError; exceptions have no place in a msgspec union


Body = Append | Appends | ReadQuery | StreamsQuery | InfoQuery | Query | RequestError

REWIND, GOREWIND, NATIVE = "rewind", "gorewind", "native"


class Request(msgspec.Struct, frozen=True, gc=False):
    """A decoded request.

    ``route``: identity and envelope, sent back in front of every reply. ``body``: what to do, or
    the error to answer with.
    """

    route: list[bytes]
    dialect: str
    request_id: bytes
    body: Any  # Body; exceptions have no place in a msgspec union

    @property
    def peer(self) -> bytes:
        """The identity of the connection."""
        return self.route[0]


def decode_request(frames: list[bytes], event_bytes_max: int = EVENT_BYTES_MAX) -> Request:
    """The request in these frames, identity first. Never raises: an error becomes the body."""
    cut = _envelope_end(frames)
    route, rest = frames[:cut], frames[cut:]
    command, count = rest[0] if rest else b"", len(rest)
    request_id = b""
    decode: Callable[[list[bytes], int], Body]
    if command in _NATIVE:
        dialect, decode = NATIVE, _decode_native
        if count > 1 and len(rest[1]) <= REQUEST_ID_BYTES_MAX:
            request_id = rest[1]
    elif command == b"PUBLISH" and 2 <= count <= 3:
        dialect, decode = REWIND if count == 2 else GOREWIND, _decode_publish
    elif command == b"QUERY" and 3 <= count <= 4:
        dialect, decode = REWIND if count == 3 else GOREWIND, _decode_query
    else:
        return _refuse(route, rest)
    try:
        body = decode(rest, event_bytes_max)
    except RequestError as refused:
        body = _bare(refused)
    return Request(route, dialect, request_id, body)


def _bare(error: RequestError) -> RequestError:
    """An error that is kept: without the frames it came through, which hold the request."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def _envelope_end(frames: Sequence[bytes]) -> int:
    """How many frames are the route: identity, and everything through the delimiter."""
    if len(frames) < 2:
        return len(frames)
    if frames[1] == b"":
        return 2
    if frames[1] in _KNOWN:
        return 1
    size = len(frames[1])
    for index in range(2, min(len(frames), ENVELOPE_FRAMES_MAX + 1)):
        if frames[index] == b"":
            return index + 1 if size <= ENVELOPE_BYTES_MAX else 1
        size += len(frames[index])
    return 1


def _refuse(route: list[bytes], rest: list[bytes]) -> Request:
    """What is no command of any dialect, or has the wrong number of frames."""
    if not rest or rest[0] == b"":
        return Request(route, REWIND, b"", BadRequest("the request is empty: it has no command"))
    if rest[0] in _OLD:
        wanted = "2 (Rewind 0.3) or 3" if rest[0] == b"PUBLISH" else "3 (Rewind 0.3) or 4"
        return Request(
            route,
            REWIND,
            b"",
            BadRequest(
                f"{rest[0].decode()} has {len(rest)} frames; it takes {wanted} (gorewind), "
                "the command included"
            ),
        )
    error = UnknownCommand(
        f"unknown command {_shown(rest[0])}; known are PUBLISH, QUERY, APPEND, READ, STREAMS, INFO"
    )
    if len(rest) == 3 and len(rest[1]) <= REQUEST_ID_BYTES_MAX and _is_map(rest[2]):
        return Request(route, NATIVE, rest[1], error)
    return Request(route, REWIND, b"", error)


def _shown(command: bytes) -> str:
    return ascii(command[:32].decode("ascii", "backslashreplace"))


def _is_map(body: bytes) -> bool:
    try:
        return isinstance(_decode_any(body), dict)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False


_decode_any = msgspec.msgpack.Decoder().decode


# Old dialects


def _decode_publish(rest: list[bytes], event_bytes_max: int) -> Append:
    stream = DEFAULT_STREAM if len(rest) == 2 else _text(rest[1], "stream")
    append = Append((AppendEvent(None, stream, "", (), {}, rest[-1]),))
    if (
        stream != DEFAULT_STREAM or len(rest[-1]) > event_bytes_max
    ):  # else all of it is as it must be
        check_append(append, event_bytes_max)
    return append


def _decode_query(rest: list[bytes], _: int) -> Query:
    stream = None
    if len(rest) == 4:
        stream = _text(rest[1], "stream")
        check_stream(stream)
    return Query(_old_id(rest[-2], "from"), _old_id(rest[-1], "to"), stream)


_OLD_ID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def _old_id(frame: bytes, which: str) -> bytes | None:
    if not frame:
        return None
    if not _OLD_ID.fullmatch(frame):
        raise BadRequest(
            f"the {which} id is not an event id: 36 lower-case characters as in "
            "00000000-0000-8000-8000-000000000001, or empty"
        )
    return bytes.fromhex(frame.decode().replace("-", ""))


def _text(frame: bytes, what: str) -> str:
    try:
        return frame.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the {what} is not UTF-8") from error


# Native


def _decode_native(rest: list[bytes], event_bytes_max: int) -> Body:
    if len(rest) != 3:
        raise BadRequest(
            f"{rest[0].decode()} has {len(rest)} frames; it takes 3: the command, a request id and "
            "a body"
        )
    command, request_id, body = rest
    if len(request_id) > REQUEST_ID_BYTES_MAX:
        raise BadRequest(
            f"the request id has {len(request_id)} bytes; at most {REQUEST_ID_BYTES_MAX} are allowed"
        )
    if len(body) > REQUEST_BYTES_MAX:
        raise TooLarge(
            f"the request has {len(body)} bytes; at most {REQUEST_BYTES_MAX} are allowed"
        )
    if command == b"APPEND":
        length = _array_length(body)
        if length is not None:
            return _decode_appends(body, length, event_bytes_max)
        return _decode_append(body, event_bytes_max)
    query: Body = _decode_body(command, body)
    if isinstance(query, ReadQuery):
        _check_read(query)
    elif isinstance(query, StreamsQuery):
        _check_streams(query)
    return query


def _decode_append(body: bytes, event_bytes_max: int) -> Append:
    append: Append = _decode_body(b"APPEND", body)
    check_append(append, event_bytes_max)
    return append


def _array_length(body: bytes) -> int | None:
    """How many elements the msgpack array has, by its first bytes; None if it is no array."""
    first = body[0] if body else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    size = {0xDC: 3, 0xDD: 5}.get(first, 0)
    return int.from_bytes(body[1:size], "big") if 0 < size <= len(body) else None


def _decode_appends(body: bytes, length: int, event_bytes_max: int) -> Appends:
    """Several appends; what is wrong with one of them is that one's error."""
    if length == 0:
        raise BadRequest("APPEND: the array is empty: it carries at least one append")
    if length > EVENTS_PER_APPEND_MAX:
        raise _too_many(length, "appends", EVENTS_PER_APPEND_MAX)
    try:
        parts: list[Any] = _decode_all(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = _decode_each(body)
    appends = [part for part in parts if isinstance(part, Append)]
    if (events := sum(len(append.events) for append in appends)) > EVENTS_PER_APPEND_MAX:
        raise _too_many(events, "events", EVENTS_PER_APPEND_MAX)
    if (streams := sum(len(append.expected) for append in appends)) > EXPECTED_MAX:
        raise _too_many(streams, "expected versions", EXPECTED_MAX)
    for index, part in enumerate(parts):
        try:
            if isinstance(part, Append):
                check_append(part, event_bytes_max)
        except RequestError as refused:
            parts[index] = _bare(refused)
    return Appends(parts)


def _decode_each(body: bytes) -> list[Any]:
    """Appends one by one, because not all of them can be decoded."""
    parts: list[Any] = []
    for raw in _decode_body(b"APPEND", body, _decode_raws):
        try:
            parts.append(_decode_body(b"APPEND", raw))
        except RequestError as refused:
            parts.append(_bare(refused))
    return parts


def _too_many(count: int, what: str, most: int) -> TooLarge:
    return TooLarge(f"{count} {what} in one message; at most {most} are allowed")


_DECODERS: dict[bytes, Callable[[Any], Any]] = {
    b"APPEND": msgspec.msgpack.Decoder(Append).decode,
    b"READ": msgspec.msgpack.Decoder(ReadQuery).decode,
    b"STREAMS": msgspec.msgpack.Decoder(StreamsQuery).decode,
    b"INFO": msgspec.msgpack.Decoder(InfoQuery).decode,
}
_decode_all = msgspec.msgpack.Decoder(list[Append]).decode
_decode_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def _decode_body(command: bytes, body: bytes | msgspec.Raw, decode: Any = None) -> Any:
    """Decode a body, by its command unless told how. Raises ``BadRequest`` naming the command."""
    try:
        return (decode or _DECODERS[command])(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{command.decode()}: {error}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{command.decode()}: the body has text that is not UTF-8") from error
    except RecursionError as error:
        raise BadRequest(f"{command.decode()}: the body is nested too deep") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"{command.decode()}: the body is not msgpack: {error}") from error


def _check_read(query: ReadQuery) -> None:
    """Raise unless every field of a READ is in its bounds, and they go together."""
    if query.id is not None:
        if query != ReadQuery(id=query.id):
            raise BadRequest("READ: id goes alone, it asks for that one event")
        if len(query.id) != 16:
            raise BadRequest(f"READ: id has {len(query.id)} bytes: it must be 16 bytes, a UUID")
    for name in ("after", "until", "since", "limit", "max_bytes", "wait_ms"):
        value = getattr(query, name)
        if value is not None and not 0 <= value <= INT_MAX:
            raise BadRequest(f"READ: {name} is {value}; 0 to {INT_MAX} is allowed")
    if query.limit is not None and query.limit > READ_LIMIT_MAX:
        raise TooLarge(f"READ: limit is {query.limit}; at most {READ_LIMIT_MAX} is allowed")
    if query.max_bytes is not None and query.max_bytes > READ_BYTES_MAX:
        raise TooLarge(f"READ: max_bytes is {query.max_bytes}; at most {READ_BYTES_MAX} is allowed")
    if query.wait_ms > WAIT_MS_MAX:
        raise TooLarge(f"READ: wait_ms is {query.wait_ms}; at most {WAIT_MS_MAX} is allowed")
    if query.wait_ms and query.backwards:
        raise BadRequest("READ: wait_ms goes with a forward read, not with backwards")
    if query.stream is not None and query.prefix is not None:
        raise BadRequest("READ: give stream or prefix, not both")
    check_filters(query)


def _check_streams(query: StreamsQuery) -> None:
    for name, text in (("prefix", query.prefix), ("after", query.after)):
        if len(text.encode()) > STREAM_BYTES_MAX:
            raise BadRequest(f"STREAMS: {name} has more than {STREAM_BYTES_MAX} bytes of UTF-8")
    if query.limit is not None and not 0 <= query.limit <= INT_MAX:
        raise BadRequest(f"STREAMS: limit is {query.limit}; 0 to {INT_MAX} is allowed")
    if query.limit is not None and query.limit > STREAMS_LIMIT_MAX:
        raise TooLarge(f"STREAMS: limit is {query.limit}; at most {STREAMS_LIMIT_MAX} is allowed")


# --- replies ------------------------------------------------------------------


def id_text(id: bytes) -> bytes:
    """An event id as the old dialects write it: 36 lower-case characters."""
    digits = id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()


def encode_appended(request: Request, appended: Appended) -> list[bytes]:
    """The reply to an append or a PUBLISH that is durable."""
    if request.dialect == REWIND:
        return [*request.route, b"PUBLISHED"]
    if request.dialect == GOREWIND:
        return [*request.route, b"PUBLISHED", id_text(appended.id_bytes[0])]
    return encode_ok(request, _appended_body(appended))


def encode_appends(request: Request, outcomes: Iterable[Appended | RequestError]) -> list[bytes]:
    """The reply to several appends: of each what it would have been answered alone."""
    return encode_ok(
        request,
        [
            _error_body(outcome) if isinstance(outcome, RequestError) else _appended_body(outcome)
            for outcome in outcomes
        ],
    )


def _appended_body(appended: Appended) -> dict[str, Any]:
    body: dict[str, Any] = {"first": appended.first, "last": appended.last}
    if appended.id_bytes:
        body["ids"] = appended.id_bytes
    body["versions"] = appended.versions
    body["duplicate"] = appended.duplicate
    body["durability"] = appended.durability
    return body


def encode_ok(request: Request, body: Any, *chunks: bytes) -> list[bytes]:
    """A native reply."""
    return [*request.route, b"OK", request.request_id, encode(body), *chunks]


def encode_error(request: Request, error: RequestError) -> list[bytes]:
    """The reply that says what was wrong, in the dialect of the request."""
    if request.dialect == NATIVE:
        return [*request.route, b"ERROR", request.request_id, encode(_error_body(error))]
    return [*request.route, b"ERROR " + str(error).encode("ascii", "backslashreplace")]


def _error_body(error: RequestError) -> dict[str, Any]:
    return {
        "code": error.code,
        "message": str(error),
        "retryable": error.retryable,
        **error.details(),
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
    return encode_ok(request, body, answer.chunk)


def encode_streams(request: Request, streams: Sequence[tuple[str, int]], end: bool) -> list[bytes]:
    """The reply to a STREAMS. ``next`` is the name to go on after."""
    after = request.body.after
    return encode_ok(
        request,
        {"streams": streams, "next": streams[-1][0] if streams else after, "end": end},
    )


def encode_query(request: Request, events: Iterable[tuple[bytes, bytes]], end: bool) -> list[bytes]:
    """A page of Rewind 0.3: id, data, id, data ... and END unless stopped short."""
    frames = list(request.route)
    for id, data in events:
        frames += (id_text(id), data)
    if end:
        frames.append(b"END")
    return frames


def encode_event(request: Request, id: bytes, data: bytes) -> list[bytes]:
    """One message of gorewind's answer."""
    return [*request.route, b"EVENT", id_text(id), data]


def encode_end(request: Request) -> list[bytes]:
    """The last message of gorewind's answer."""
    return [*request.route, b"END"]


def info_body(
    *,
    release: str,
    store_id: uuid.UUID,
    backend: str,
    durability: str,
    head: int,
    endpoints: dict[str, list[str]],
    event_bytes_max: int,
    insecure: bool,
) -> dict[str, Any]:
    """What INFO answers."""
    return {
        "name": "rewind",
        "release": release,
        "protocol": PROTOCOL,
        "store_id": store_id.bytes,
        "backend": backend,
        "durability": durability,
        "head": head,
        "endpoints": endpoints,
        "limits": {**LIMITS, "event_bytes": event_bytes_max},
        "insecure": insecure,
    }


# --- the client's side of the same frames --------------------------------------


class Reply(msgspec.Struct, frozen=True):
    """A native reply: its request id, its body, and a READ's chunk (empty otherwise).

    The body is a map; of several appends, an array of maps.
    """

    request_id: bytes
    body: Any
    chunk: bytes


def encode_request(command: str, request_id: bytes, body: Any) -> list[bytes]:
    """The frames of a native request, the DEALER's empty delimiter first."""
    return [b"", command.encode(), request_id, encode(body)]


def decode_reply(frames: Sequence[bytes]) -> tuple[bytes, Reply | RequestError]:
    """The request id and the answer: a ``Reply`` or the error in it.

    Raises ``ValueError`` when the frames are no native reply.
    """
    rest = frames[1:] if frames and frames[0] == b"" else frames
    if len(rest) not in (3, 4) or rest[0] not in (b"OK", b"ERROR"):
        raise ValueError(f"not a native reply: {len(frames)} frames")
    body = _decode_any(rest[2])
    if rest[0] == b"OK":
        return rest[1], Reply(rest[1], body, rest[3] if len(rest) == 4 else b"")
    return rest[1], error_of(body)


def answers_of(reply: Reply, count: int) -> list[Reply | RequestError]:
    """The answer to each of ``count`` appends in one message. Raises ``ValueError`` without them."""
    bodies = reply.body
    if not isinstance(bodies, list) or len(bodies) != count:
        raise ValueError(f"{count} appends, and no array of as many answers")
    return [
        error_of(body) if "code" in body else Reply(reply.request_id, body, b"") for body in bodies
    ]


def error_of(body: dict[str, Any]) -> RequestError:
    """The exception a native error reply stands for."""
    code = body.get("code")
    if code == WrongExpectedVersion.code:
        return WrongExpectedVersion(body["stream"], body["expected"], body["actual"])
    kind = REQUEST_ERRORS.get(str(code), Internal)
    return kind(str(body.get("message", code)))


def appended_of(body: dict[str, Any]) -> Appended:
    """The result in an APPEND's reply body."""
    return Appended(
        body["first"],
        body["last"],
        tuple(body.get("ids", ())),
        body["versions"],
        body["duplicate"],
        body["durability"],
    )
