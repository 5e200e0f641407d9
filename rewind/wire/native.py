"""The native dialect's requests: APPEND, READ, STREAMS, NAMES, CURSORS, INFO, as values and as frames.

::

    APPEND|READ|STREAMS|NAMES|CURSORS|INFO | request id | body        a body is one msgpack map

An APPEND's body may be an array of appends, each independent; an array of their results answers it.
Every body may have a ``store_id``: another store refuses it here, so nothing behind the door needs to look.
Limits are here as well, for both sides. A new read command is a value, a check and a row in
``_COMMANDS``; its answer is a row in answers.py.

Next: replies.py. The contract for other languages is docs/protocol.rst.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import msgspec

from rewind.checks import (
    CONDITIONS_MAX,
    CURSORS_MAX,
    EVENT_BYTES_MAX,
    EVENTS_PER_APPEND_MAX,
    EXPECTED_MAX,
    METADATA_BYTES_MAX,
    NAMES_MAX,
    QUERY_ITEMS_MAX,
    STREAM_BYTES_MAX,
    TAG_BYTES_MAX,
    TAGS_MAX,
    TYPE_BYTES_MAX,
    check_append,
    check_cursor,
    check_query,
    check_stream,
    check_text,
    names_in,
)
from rewind.errors import (
    BadRequest,
    RequestError,
    TooLarge,
    WrongStore,
    one_line,
    quoted,
    without_traceback,
)
from rewind.events import INT_MAX, Append
from rewind.query import NAME_KINDS, QueryItem

REQUEST_ID_BYTES_MAX = 64  # a UUID and a counter fit, both as text
REQUEST_BYTES_MAX = 16 * 1024 * 1024  # a commit of as much takes well below a second
READ_LIMIT_MAX = 10_000
READ_BYTES_MAX = 8 * 1024 * 1024
READ_BYTES_DEFAULT = 1024 * 1024  # a page of this size takes a few milliseconds
TYPES_MAX = 256  # each event of a read is compared with all of them
STREAMS_LIMIT_MAX = 10_000  # also of NAMES and CURSORS
STREAMS_LIMIT_DEFAULT = 1_000
WAIT_MS_MAX = 30_000  # proxies that drop idle connections wait longer than this
WAITING_READS_MAX = 1_024  # a waiting read costs a kilobyte, more where it has many names
WAITING_READS_EACH_MAX = WAITING_READS_MAX // 8  # no connection can take all of them

LIMITS = {
    "event_bytes": EVENT_BYTES_MAX,
    "metadata_bytes": METADATA_BYTES_MAX,
    "append_events": EVENTS_PER_APPEND_MAX,
    "append_expected": EXPECTED_MAX,
    "append_conditions": CONDITIONS_MAX,
    "append_cursors": CURSORS_MAX,
    "query_items": QUERY_ITEMS_MAX,
    "names": NAMES_MAX,
    "request_bytes": REQUEST_BYTES_MAX,
    "read_limit": READ_LIMIT_MAX,
    "read_bytes": READ_BYTES_MAX,
    "read_types": TYPES_MAX,
    "streams_limit": STREAMS_LIMIT_MAX,
    "wait_ms": WAIT_MS_MAX,
    "parked_reads": WAITING_READS_MAX,
    "parked_reads_each": WAITING_READS_EACH_MAX,
}
"""What INFO says under ``limits``; ``event_bytes`` follows ``--max-event-bytes``."""

encode = msgspec.msgpack.Encoder().encode


# --- values -------------------------------------------------------------------


class Read(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a READ asks for. With ``stream``, ``after`` and ``until`` count versions.

    ``query``: items, any of which an event matches; in place of stream, prefix, types and tags. ``id``
    and ``append_id`` each go alone.
    """

    after: int = 0
    until: int | None = None
    limit: int | None = None
    max_bytes: int | None = None
    backwards: bool = False
    stream: str | None = None
    prefix: str | None = None
    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since: int | None = None
    wait_ms: int = 0
    id: bytes | None = None
    append_id: bytes | None = None
    query: tuple[QueryItem, ...] | None = None
    store_id: bytes | None = None

    @property
    def filtered(self) -> bool:
        """Whether it has a filter other than a query, a stream and a time."""
        return bool(self.types or self.tags or self.prefix)

    @property
    def unfiltered(self) -> bool:
        """Whether it asks for every event in its range of positions."""
        in_all = self.stream is None and self.query is None and self.since is None
        return in_all and not self.filtered

    def item(self) -> QueryItem:
        """What its stream, types and tags, of which it has some, ask for in a query."""
        streams = () if self.stream is None else (self.stream,)
        return QueryItem(types=self.types, tags=self.tags, streams=streams)


class Streams(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What STREAMS asks for."""

    prefix: str = ""
    after: str = ""
    limit: int | None = None
    store_id: bytes | None = None


class Names(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What NAMES asks for: types, tags or categories, by ``kind``: ``type``, ``tag``, ``category``.

    ``after``: a name; None: from the first one on, which is the empty type where there is one.
    """

    kind: str
    prefix: str = ""
    after: str | None = None
    limit: int | None = None
    store_id: bytes | None = None


class Cursors(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What CURSORS asks for: those whose name begins with ``prefix``, or the one called ``name``."""

    prefix: str = ""
    after: str = ""
    limit: int | None = None
    name: str | None = None
    store_id: bytes | None = None


class Info(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """INFO asks nothing."""

    store_id: bytes | None = None


class Appends(msgspec.Struct, frozen=True):
    """Independent appends in one message: each an ``Append``, or the error that refuses it."""

    parts: list[Any]  # each is an Append or a RequestError; a msgspec union takes no exceptions
    conditions: int = 0  # So many have the appends together.


# --- decoding ------------------------------------------------------------------


def decode(
    frames: list[bytes], event_bytes_max: int, store_id: bytes
) -> Append | Appends | Read | Streams | Names | Cursors | Info:
    """The request in these frames, the command first. Raises the ``RequestError`` that refuses it."""
    if len(frames) != 3:
        raise BadRequest(
            f"{frames[0].decode()} has {len(frames)} frames; it takes 3: the command, a request id and "
            "a body"
        )
    command, request_id, body = frames
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
            return _decode_appends(body, length, event_bytes_max, store_id)
        append: Append = _decode_body(b"APPEND", body, _decode_one)
        check_append(append, event_bytes_max)
        if append.store_id is not None:
            _check_store(append.store_id, store_id)
        return append
    decode_map, check = _COMMANDS[command]
    value = _decode_body(command, body, decode_map)
    if check is not None:
        check(value)
    if value.store_id is not None:
        _check_store(value.store_id, store_id)
    return value  # type: ignore[no-any-return]


def _check_store(asked: bytes, store_id: bytes) -> None:
    """Raise ``BadRequest`` or ``WrongStore`` unless the store asked for is this one."""
    if asked == store_id:
        return
    if len(asked) != 16:
        raise BadRequest(f"store_id has {len(asked)} bytes: it must be 16 bytes, a UUID")
    raise WrongStore(
        f"this is the store {uuid.UUID(bytes=store_id)}, and the request is for "
        f"{uuid.UUID(bytes=asked)}: positions and versions of one mean nothing in the other"
    )


def _array_length(body: bytes) -> int | None:
    """How many elements the msgpack array has, by its first bytes; None if it is no array."""
    first = body[0] if body else 0
    if 0x90 <= first <= 0x9F:
        return first & 0x0F
    size = {0xDC: 3, 0xDD: 5}.get(first, 0)
    return int.from_bytes(body[1:size], "big") if 0 < size <= len(body) else None


def _decode_appends(body: bytes, length: int, event_bytes_max: int, store_id: bytes) -> Appends:
    """Several appends. What is wrong with one of them becomes its error; the others are untouched."""
    if length == 0:
        raise BadRequest("APPEND: the array is empty: it carries at least one append")
    if length > EVENTS_PER_APPEND_MAX:
        raise _too_many(length, "appends", EVENTS_PER_APPEND_MAX)
    try:
        parts: list[Any] = _decode_all(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        parts = _decode_each(body)
    appends = [part for part in parts if isinstance(part, Append)]
    conditions = _check_counts(appends)
    for index, part in enumerate(parts):
        try:
            if isinstance(part, Append):
                check_append(part, event_bytes_max)
                if part.store_id is not None:
                    _check_store(part.store_id, store_id)
        except RequestError as error:
            parts[index] = without_traceback(error)
    return Appends(parts, conditions)


def _check_counts(appends: list[Append]) -> int:
    """How many conditions the appends have. Raises ``TooLarge`` unless a message may have all of this."""
    if (events := sum(len(append.events) for append in appends)) > EVENTS_PER_APPEND_MAX:
        raise _too_many(events, "events", EVENTS_PER_APPEND_MAX)
    if (streams := sum(len(append.expected) for append in appends)) > EXPECTED_MAX:
        raise _too_many(streams, "expected versions", EXPECTED_MAX)
    if (cursors := sum(len(append.cursors) for append in appends)) > CURSORS_MAX:
        raise _too_many(cursors, "cursors", CURSORS_MAX)
    conditions = sum(len(append.conditions) for append in appends)
    if conditions > CONDITIONS_MAX:
        raise _too_many(conditions, "conditions", CONDITIONS_MAX)
    if conditions and (names := sum(map(names_in, appends))) > NAMES_MAX:
        raise _too_many(names, "names in conditions", NAMES_MAX)
    return conditions


def _decode_each(body: bytes) -> list[Any]:
    """Appends one by one, because not all of them can be decoded."""
    parts: list[Any] = []
    for raw in _decode_body(b"APPEND", body, _decode_raws):
        try:
            parts.append(_decode_body(b"APPEND", raw, _decode_one))
        except RequestError as error:
            parts.append(without_traceback(error))
    return parts


def _too_many(count: int, what: str, most: int) -> TooLarge:
    return TooLarge(f"{count} {what} in one message; at most {most} are allowed")


_decode_one = msgspec.msgpack.Decoder(Append).decode
_decode_all = msgspec.msgpack.Decoder(list[Append]).decode
_decode_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


def _decode_body(
    command: bytes, body: bytes | msgspec.Raw, decode_map: Callable[[Any], Any]
) -> Any:
    """Decode a body. Raises ``BadRequest`` naming the command."""
    try:
        return decode_map(body)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{command.decode()}: {one_line(str(error))}") from error
    except UnicodeDecodeError as error:
        raise BadRequest(f"{command.decode()}: the body has text that is not UTF-8") from error
    except RecursionError as error:
        raise BadRequest(f"{command.decode()}: the body is nested too deep") from error
    except msgspec.DecodeError as error:
        raise BadRequest(f"{command.decode()}: the body is not msgpack: {error}") from error


# --- checks --------------------------------------------------------------------


def _check_read(read: Read) -> None:
    """Raise ``BadRequest`` or ``TooLarge`` unless each field is in its bounds and all go together."""
    if read.id is not None:
        if read != Read(id=read.id, store_id=read.store_id):
            raise BadRequest("READ: id goes alone, it asks for that one event")
        _check_id(read.id, "id")
    if read.append_id is not None:
        if read != Read(append_id=read.append_id, store_id=read.store_id):
            raise BadRequest("READ: append_id goes alone, it asks for the events of that append")
        _check_id(read.append_id, "append_id")
    for name in ("after", "until", "since", "limit", "max_bytes", "wait_ms"):
        value = getattr(read, name)
        if value is not None and not 0 <= value <= INT_MAX:
            raise BadRequest(f"READ: {name} is {value}; 0 to {INT_MAX} is allowed")
    if read.limit is not None and read.limit > READ_LIMIT_MAX:
        raise TooLarge(f"READ: limit is {read.limit}; at most {READ_LIMIT_MAX} is allowed")
    if read.max_bytes is not None and read.max_bytes > READ_BYTES_MAX:
        raise TooLarge(f"READ: max_bytes is {read.max_bytes}; at most {READ_BYTES_MAX} is allowed")
    if read.wait_ms > WAIT_MS_MAX:
        raise TooLarge(f"READ: wait_ms is {read.wait_ms}; at most {WAIT_MS_MAX} is allowed")
    if read.wait_ms and read.backwards:
        raise BadRequest("READ: wait_ms goes with a forward read, not with backwards")
    if read.stream is not None and read.prefix is not None:
        raise BadRequest("READ: give stream or prefix, not both")
    if read.query is not None:
        for name in ("stream", "prefix", "types", "tags"):
            if getattr(read, name):
                raise BadRequest(
                    f"READ: give query or {name}, not both: an item of a query has names of all kinds"
                )
        check_query(read.query, "READ: query")
        if (names := sum(item.names for item in read.query)) > NAMES_MAX:
            raise _too_many(names, "names", NAMES_MAX)
    _check_filters(read)


def _check_id(id: bytes, name: str) -> None:
    if len(id) != 16:
        raise BadRequest(f"READ: {name} has {len(id)} bytes: it must be 16 bytes, a UUID")


def _check_filters(read: Read) -> None:
    """Raise ``BadRequest`` or ``TooLarge`` unless the filters of a read could match anything."""
    if len(read.types) > TYPES_MAX:
        raise TooLarge(f"READ: {len(read.types)} types; at most {TYPES_MAX} are allowed")
    if len(read.tags) > TAGS_MAX:
        raise TooLarge(f"READ: {len(read.tags)} tags; at most {TAGS_MAX} are allowed")
    for type in read.types:
        check_text(type, 0, TYPE_BYTES_MAX, "READ: type")
    for tag in read.tags:
        check_text(tag, 1, TAG_BYTES_MAX, "READ: tag")
    check_text(read.prefix or "", 0, STREAM_BYTES_MAX, "READ: prefix")
    if read.stream is not None:
        check_stream(read.stream, "READ: stream")


def _check_streams(streams: Streams) -> None:
    _check_list("STREAMS", streams.prefix, streams.after, streams.limit)


def _check_names(names: Names) -> None:
    if names.kind not in NAME_KINDS:
        raise BadRequest(
            f"NAMES: kind is {quoted(names.kind)}: it is {', '.join(NAME_KINDS[:-1])} or {NAME_KINDS[-1]}"
        )
    _check_list("NAMES", names.prefix, names.after or "", names.limit)


def _check_cursors(cursors: Cursors) -> None:
    if cursors.name is None:
        _check_list("CURSORS", cursors.prefix, cursors.after, cursors.limit)
        return
    if cursors != Cursors(name=cursors.name, store_id=cursors.store_id):
        raise BadRequest("CURSORS: name goes alone, it asks for that one cursor")
    check_cursor(cursors.name, "CURSORS: name")


def _check_list(command: str, prefix: str, after: str, limit: int | None) -> None:
    """Raise ``BadRequest`` or ``TooLarge`` unless names may be listed so."""
    check_text(prefix, 0, STREAM_BYTES_MAX, f"{command}: prefix")
    check_text(after, 0, STREAM_BYTES_MAX, f"{command}: after")
    if limit is not None and not 0 <= limit <= INT_MAX:
        raise BadRequest(f"{command}: limit is {limit}; 0 to {INT_MAX} is allowed")
    if limit is not None and limit > STREAMS_LIMIT_MAX:
        raise TooLarge(f"{command}: limit is {limit}; at most {STREAMS_LIMIT_MAX} is allowed")


#: Command -> how its body is decoded, and what is checked besides its types. APPEND is decoded
#: otherwise, because its body may be an array.
_COMMANDS: dict[bytes, tuple[Callable[[Any], Any], Callable[[Any], None] | None]] = {
    b"READ": (msgspec.msgpack.Decoder(Read).decode, _check_read),
    b"STREAMS": (msgspec.msgpack.Decoder(Streams).decode, _check_streams),
    b"NAMES": (msgspec.msgpack.Decoder(Names).decode, _check_names),
    b"CURSORS": (msgspec.msgpack.Decoder(Cursors).decode, _check_cursors),
    b"INFO": (msgspec.msgpack.Decoder(Info).decode, None),
}

COMMANDS = (b"APPEND", *_COMMANDS)


# --- the client's side ----------------------------------------------------------


def encode_request(command: str, request_id: bytes, body: Any) -> list[bytes]:
    """The frames of a native request, the DEALER's empty delimiter first."""
    return [b"", command.encode(), request_id, encode(body)]


def with_store_id(body: bytes, store_id: bytes) -> bytes:
    """A request's body with a key more: the store it is for, 16 bytes.

    A map of fewer than 16 keys begins with a byte that counts them, 80 to 8f.
    """
    assert 0x80 <= body[0] < 0x8F, "a request has few keys"
    return b"".join((bytes((body[0] + 1,)), body[1:], _STORE_ID_KEY, store_id))


_STORE_ID_KEY = encode("store_id") + b"\xc4\x10"  # Bytes follow it, 16 of them.
