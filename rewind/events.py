"""The nouns: events, what an append and a read carry, and the one encoding of an event.

A record is a msgpack array, the same bytes on disk, in a READ answer and on the topic
socket::

    [position, recorded_at, id, stream, version, type, tags, metadata, data]
     uint      uint ns      bin str     uint     str   [str] {str:any} bin

Readers ignore elements after ``data``. Source: https://github.com/msgpack/msgpack/blob/master/spec.md

This module knows no wire, no file and no clock. Next: store/ (the rules) or
wire/native.py (the frames).
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from rewind.errors import BadRequest, TooLarge

ANY = None
"""Expected version: do not check."""
NO_STREAM = 0
"""Expected version: the stream must not exist yet."""
STREAM_EXISTS = -1
"""Expected version: the stream must exist, at whatever version."""

INT_MAX = 2**63 - 1  # every integer fits the signed 64 bits of SQLite, Java and Go
STREAM_BYTES_MAX = 255  # a name stays one short index key
TYPE_BYTES_MAX = 255
SHORT_TEXT_CHARS = 63  # so many have at most 252 bytes, whatever they are
TAGS_MAX = 32  # a tag index will hold one entry a tag
TAG_BYTES_MAX = 255
METADATA_BYTES_MAX = 64 * 1024  # metadata is looked at by Rewind; data is not
METADATA_DEPTH_MAX = 16  # far below any decoder's recursion limit
EVENT_BYTES_MAX = 4 * 1024 * 1024  # default of --max-event-bytes
EVENTS_PER_APPEND_MAX = 4_096
EXPECTED_MAX = EVENTS_PER_APPEND_MAX  # streams an append may name: each is a look-up
TYPES_MAX = 256  # a read may ask for: each event is compared with them

READ_LIMIT_MAX = 10_000
READ_BYTES_MAX = 8 * 1024 * 1024
READ_BYTES_DEFAULT = 1024 * 1024  # a few milliseconds of work, and a page most clients like

DEFAULT_STREAM = "default"
"""The stream of events published in the Rewind 0.3 dialect."""

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_encode = msgspec.msgpack.Encoder().encode
_encode_sorted = msgspec.msgpack.Encoder(order="sorted").encode


class Event(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One stored fact. The order of the fields is the order in a record."""

    position: int
    #: Nanoseconds since 1970 UTC; never decreases with position.
    recorded_at_ns: int
    #: 16 bytes; ``id`` is the same as a UUID.
    id_bytes: bytes
    stream: str
    version: int
    type: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    data: bytes

    @property
    def id(self) -> uuid.UUID:
        """The event's id."""
        return uuid.UUID(bytes=self.id_bytes)

    @property
    def recorded_at(self) -> datetime:
        """When Rewind accepted the event, UTC, to the microsecond (``recorded_at_ns`` is exact)."""
        return _EPOCH + timedelta(microseconds=self.recorded_at_ns // 1000)

    def json(self) -> Any:
        """``data`` decoded as JSON. Raises ``ValueError`` if it is not JSON."""
        return json.loads(self.data)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event with its one encoding, as backends store it."""

    event: Event
    encoded: bytes


class AppendEvent(
    msgspec.Struct, array_like=True, frozen=True, gc=False, forbid_unknown_fields=True
):
    """One event as an APPEND carries it: ``[id or nil, stream, type, tags, metadata, data]``."""

    id: bytes | None
    stream: str
    type: str
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    data: bytes


class Append(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """An atomic write: its events, stored next to one another or not at all.

    ``id``: append id, 16 bytes. ``expected``: stream -> version, compared before the append.
    """

    events: tuple[AppendEvent, ...]
    id: bytes | None = None
    expected: dict[str, int] = {}


class Appended(msgspec.Struct, frozen=True):
    """The answer to an append.

    ``first``, ``last``: positions. ``id_bytes``: the events' ids, 16 bytes each, if Rewind made
    them, else empty; ``ids`` are the same as UUIDs.
    ``versions``: stream -> its version after the append. ``duplicate``: the append was known
    and this is its first answer again. ``durability``: ``fsync`` or ``memory``.
    """

    first: int
    last: int
    id_bytes: tuple[bytes, ...]
    versions: dict[str, int]
    duplicate: bool
    durability: str

    @property
    def ids(self) -> tuple[uuid.UUID, ...]:
        """The ids Rewind made for these events, in their order."""
        return tuple(uuid.UUID(bytes=id) for id in self.id_bytes)


class ReadQuery(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a READ asks for. With ``stream``, ``after`` and ``until`` count versions."""

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

    @property
    def filtered(self) -> bool:
        """Whether events have to be looked at one by one."""
        return bool(self.types or self.tags or self.prefix)

    def matches(self, event: Event) -> bool:
        """Whether the event passes the filters (not the range)."""
        if self.prefix and not event.stream.startswith(self.prefix):
            return False
        if self.types and event.type not in self.types:
            return False
        return not self.tags or set(self.tags) <= set(event.tags)


class ReadAnswer(msgspec.Struct, frozen=True):
    """Records, and how to go on: ``next`` replaces ``after`` going forwards, ``until`` backwards.

    ``chunk``: the ``count`` records as a msgpack array. ``head``: the last position. ``end``:
    nothing is left in the range. ``complete``: nothing can come into the range later either.
    ``version``: the stream's, if one was asked for.
    """

    count: int
    chunk: bytes
    next: int
    head: int
    end: bool
    complete: bool
    version: int | None

    @property
    def events(self) -> list[Event]:
        """The records decoded."""
        return decode_events(self.chunk)


class NewEvent:
    """An event still to be appended.

    ``type``: what happened. ``data``: bytes Rewind never looks into. ``id``: a UUID (or its
    text or 16 bytes) that makes a retry harmless; Rewind makes one if None. ``tags``: at most
    32 texts. ``metadata``: a JSON-shaped map, at most 64 KiB.
    """

    __slots__ = ("data", "id", "metadata", "tags", "type")

    def __init__(
        self,
        type: str,
        data: bytes = b"",
        *,
        id: uuid.UUID | str | bytes | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        self.type = type
        self.data = data
        self.id = None if id is None else uuid_of(id)
        self.tags = tuple(tags)
        self.metadata = dict(metadata or {})

    @classmethod
    def from_json(
        cls,
        type: str,
        value: Any,
        *,
        caused_by: Event | None = None,
        id: uuid.UUID | str | bytes | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> NewEvent:
        """An event whose data is ``value`` as JSON.

        ``caused_by`` sets ``causation_id``, and ``correlation_id`` from that event's own (or its
        id). Raises ``TypeError`` or ``ValueError`` when ``value`` is not JSON-shaped.
        """
        described = {"content_type": "application/json"}
        if caused_by is not None:
            described["causation_id"] = str(caused_by.id)
            described["correlation_id"] = str(
                caused_by.metadata.get("correlation_id", caused_by.id)
            )
        data = json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return cls(
            type, data.encode(), id=id, tags=tags, metadata={**described, **(metadata or {})}
        )

    def __repr__(self) -> str:
        return f"NewEvent({self.type!r}, {self.data!r})"


# --- encoding -----------------------------------------------------------------


def make_record(
    event: AppendEvent, *, position: int, recorded_at_ns: int, id: bytes, version: int
) -> Record:
    """Give an accepted event its place, and encode it."""
    placed = Event(
        position,
        recorded_at_ns,
        id,
        event.stream,
        version,
        event.type,
        event.tags,
        event.metadata,
        event.data,
    )
    return Record(placed, _encode(placed))


#: Record bytes -> Event. Raises ``msgspec.DecodeError`` on bytes that are no record.
decode_event = msgspec.msgpack.Decoder(Event).decode

#: A msgpack array of records -> list of events.
decode_events = msgspec.msgpack.Decoder(list[Event]).decode


class RecordKey(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The first fields of a record, for readers that need no more."""

    position: int
    recorded_at_ns: int
    id_bytes: bytes
    stream: str
    version: int


#: Record bytes -> RecordKey; cheaper than a whole event.
decode_key = msgspec.msgpack.Decoder(RecordKey).decode


def join_records(records: Sequence[bytes]) -> bytes:
    """The msgpack array of these records, without looking into them."""
    return array_of(len(records), records)


def array_of(count: int, pieces: Sequence[bytes]) -> bytes:
    """The msgpack array of ``count`` values, which lie one behind the other in these pieces."""
    if count < 16:
        head = bytes((0x90 | count,))
    elif count < 0x10000:
        head = b"\xdc" + count.to_bytes(2, "big")
    else:
        head = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((head, *pieces))


# --- ids ----------------------------------------------------------------------


def own_id_prefix(store_id: uuid.UUID) -> bytes:
    """The first 8 bytes of every id a store makes itself.

    A UUID of version 8 (RFC 9562, section 5.8) has 48 + 12 free bits before its variant; they
    are the store id's bits in the same places.
    """
    high = int.from_bytes(store_id.bytes[:8], "big")
    return ((high & ~0xF000) | 0x8000).to_bytes(8, "big")


def own_id(prefix: bytes, position: int) -> bytes:
    """The id a store makes for the event at ``position``: variant bits 10, then 62 bits of it."""
    return prefix + (0x8000_0000_0000_0000 | position).to_bytes(8, "big")


def own_id_position(prefix: bytes, id: bytes) -> int | None:
    """The position inside an id of the store's own making, or None for any other id.

    0 for an id with the store's prefix that it never makes: nobody else may choose one either,
    because backends tell own ids, which they do not index, by the prefix alone.
    """
    if not id.startswith(prefix):
        return None
    low = int.from_bytes(id[8:], "big")
    return low & 0x3FFF_FFFF_FFFF_FFFF if low >> 62 == 0b10 else 0


def uuid_of(id: uuid.UUID | str | bytes) -> uuid.UUID:
    """A UUID from itself, its text or its 16 bytes. Raises ``BadRequest`` for anything else."""
    try:
        if isinstance(id, uuid.UUID):
            return id
        return uuid.UUID(bytes=bytes(id)) if isinstance(id, bytes | bytearray) else uuid.UUID(id)
    except (ValueError, AttributeError, TypeError) as error:
        raise BadRequest(f"{id!r} is not an event id: give a UUID") from error


# --- the rules an event must keep ---------------------------------------------


def check_append(append: Append, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
    """Raise ``BadRequest`` or ``TooLarge``, naming the part, unless the append may be planned."""
    events = append.events
    if not events:
        raise BadRequest("events is empty: an append carries at least one event")
    if len(events) > EVENTS_PER_APPEND_MAX:
        raise TooLarge(
            f"{len(events)} events in one append; at most {EVENTS_PER_APPEND_MAX} are allowed"
        )
    for index, event in enumerate(events):
        check_event(event, index, event_bytes_max)
    if append.id is not None and len(append.id) != 16:
        raise BadRequest(f"id has {len(append.id)} bytes: an append id is 16 bytes, a UUID")
    if len(events) > 1:
        _check_ids(events)
    if len(append.expected) > EXPECTED_MAX:
        raise TooLarge(
            f"expected names {len(append.expected)} streams; at most {EXPECTED_MAX} are allowed"
        )
    for stream, version in append.expected.items():
        check_stream(stream, "expected")
        if not -1 <= version <= INT_MAX:
            raise BadRequest(
                f"expected[{stream!r}] is {version}: a version is 0 (no stream), "
                f"-1 (exists) or 1 to {INT_MAX}"
            )


def _check_ids(events: tuple[AppendEvent, ...]) -> None:
    ids = [event.id for event in events if event.id is not None]
    if not ids:
        return
    if len(ids) != len(events):
        raise BadRequest(
            f"{len(ids)} of {len(events)} events have an id: give one to all of them or to none"
        )
    if len(set(ids)) != len(ids):
        raise BadRequest("two events of the append have the same id")


def check_event(event: AppendEvent, index: int, event_bytes_max: int) -> None:
    """Raise ``BadRequest`` or ``TooLarge`` unless every field keeps its rule."""
    if event.id is not None and len(event.id) != 16:
        raise BadRequest(
            f"events[{index}]: id has {len(event.id)} bytes: it must be 16 bytes, a UUID"
        )
    stream = event.stream
    if not 0 < len(stream) <= SHORT_TEXT_CHARS or not stream.isprintable():
        check_stream(stream, f"events[{index}]: stream")
    if stream.startswith("$"):
        raise BadRequest(
            f"events[{index}]: stream {stream!r} begins with '$', which is reserved for Rewind"
        )
    if len(event.data) > event_bytes_max:
        raise TooLarge(
            f"events[{index}]: data has {len(event.data)} bytes; at most {event_bytes_max} are allowed"
        )
    if len(event.type) > SHORT_TEXT_CHARS:
        _check_text(event.type, 0, TYPE_BYTES_MAX, f"events[{index}]: type")
    if event.tags:
        if len(event.tags) > TAGS_MAX:
            raise BadRequest(
                f"events[{index}]: {len(event.tags)} tags; at most {TAGS_MAX} are allowed"
            )
        for tag in event.tags:
            _check_text(tag, 1, TAG_BYTES_MAX, f"events[{index}]: tag")
    if event.metadata:
        check_metadata(event.metadata, f"events[{index}]: metadata")


def check_stream(name: str, where: str = "stream") -> None:
    """Raise ``BadRequest`` unless ``name`` may name a stream."""
    _check_text(name, 1, STREAM_BYTES_MAX, where)
    if not name.isprintable() and _CONTROL.search(name):
        raise BadRequest(f"{where} {name!r} has a control character")


def check_filters(query: ReadQuery) -> None:
    """Raise ``BadRequest`` or ``TooLarge`` unless the filters of a read could match anything."""
    if len(query.types) > TYPES_MAX:
        raise TooLarge(f"READ: {len(query.types)} types; at most {TYPES_MAX} are allowed")
    if len(query.tags) > TAGS_MAX:
        raise TooLarge(f"READ: {len(query.tags)} tags; at most {TAGS_MAX} are allowed")
    for type in query.types:
        _check_text(type, 0, TYPE_BYTES_MAX, "READ: type")
    for tag in query.tags:
        _check_text(tag, 1, TAG_BYTES_MAX, "READ: tag")
    _check_text(query.prefix or "", 0, STREAM_BYTES_MAX, "READ: prefix")
    if query.stream is not None:
        check_stream(query.stream, "READ: stream")


def _check_text(text: str, least: int, most: int, where: str) -> None:
    size = len(text) if text.isascii() else len(text.encode())
    if not least <= size <= most:
        raise BadRequest(f"{where} has {size} bytes; {least} to {most} bytes of UTF-8 are allowed")


def check_metadata(metadata: Mapping[str, Any], where: str = "metadata") -> None:
    """Raise ``BadRequest`` unless it is a JSON-shaped map within its bounds."""
    for key in metadata:
        if isinstance(key, str) and key.startswith("$"):
            raise BadRequest(f"{where} key {key!r} begins with '$', which is reserved for Rewind")
    level: list[Any] = [metadata]
    for _ in range(METADATA_DEPTH_MAX):
        level = [child for value in level for child in _children(value, where)]
        if not level:
            break
    else:
        raise BadRequest(f"{where} is nested deeper than {METADATA_DEPTH_MAX} levels")
    try:
        size = len(_encode(metadata))
    except UnicodeEncodeError as error:
        raise BadRequest(f"{where} has text that is not UTF-8") from error
    if size > METADATA_BYTES_MAX:
        raise BadRequest(f"{where} has {size} bytes; at most {METADATA_BYTES_MAX} are allowed")


def _children(value: Any, where: str) -> list[Any]:
    """The maps and arrays inside a map or array; raises for anything JSON has no word for."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise BadRequest(f"{where} has the key {key!r}: keys must be text")
        values: Iterable[Any] = value.values()
    else:
        values = value
    found = []
    for item in values:
        kind = type(item)
        if kind is dict or kind is list or kind is tuple:
            found.append(item)
        elif item is None or kind is str or kind is bool:
            pass
        elif kind is int:
            if not -INT_MAX - 1 <= item <= INT_MAX:
                raise BadRequest(f"{where} has the number {item}, which does not fit 64 bits")
        elif kind is float:
            if not math.isfinite(item):
                raise BadRequest(f"{where} has the number {item}: only finite numbers are allowed")
        else:
            raise BadRequest(
                f"{where} has a value of type {_WIRE_KINDS.get(kind.__name__, kind.__name__)}: "
                "null, bool, 64-bit integer, finite float, text, array and map are allowed"
            )
    return found


_WIRE_KINDS = {"Ext": "msgpack extension", "datetime": "msgpack timestamp", "bytes": "bytes"}


def same_content(event: AppendEvent, stored: Event) -> bool:
    """Whether a retried event says what the stored one says (``$`` metadata aside)."""
    return (
        event.stream == stored.stream
        and event.type == stored.type
        and event.data == stored.data
        and tuple(event.tags) == stored.tags
        and _own_metadata(event.metadata) == _own_metadata(stored.metadata)
    )


def _own_metadata(metadata: dict[str, Any]) -> bytes:
    # Encoded, because Python holds 1 == 1.0 == True; sorted, because a map has no order.
    return _encode_sorted({key: metadata[key] for key in metadata if not key.startswith("$")})
