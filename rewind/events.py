"""The nouns: events, what an append carries, and the one encoding of an event.

A record is a msgpack array, the same bytes on disk, in a READ answer and on the topic
socket::

    [position, recorded_at, id, stream, version, type, tags, metadata, data]
     uint      uint ns      bin str     uint     str   [str] {str:any} bin

Readers ignore elements after ``data``. Source: https://github.com/msgpack/msgpack/blob/master/spec.md

This module knows no wire, no file and no clock. Next: checks.py (what the fields may hold), then
store/plan.py (the rules of appending) or wire/ (the frames).
"""

from __future__ import annotations

import enum
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from rewind.arguments import bytes_of, map_of, text_of, texts_of, wrong_kind
from rewind.as_json import of_json, to_json
from rewind.errors import BadJson, BadRequest, one_line, quoted
from rewind.query import Condition

ANY = None
"""Expected version: do not check."""
NO_STREAM = 0
"""Expected version: the stream must not exist yet."""
STREAM_EXISTS = -1
"""Expected version: the stream must exist, at whatever version."""


class Now(enum.Enum):
    """The kind of ``NOW``, for annotations."""

    NOW = "NOW"

    def __repr__(self) -> str:
        return "NOW"


NOW = Now.NOW
"""Where a subscription begins: behind everything there is when it is made."""

INT_MAX = 2**63 - 1  # every integer fits the signed 64 bits of SQLite, Java and Go

DEFAULT_STREAM = "default"
"""The stream of events published in the Rewind 0.3 dialect."""

_encode = msgspec.msgpack.Encoder().encode


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
        """The event's id as a UUID."""
        return uuid.UUID(bytes=self.id_bytes)

    @property
    def recorded_at(self) -> datetime:
        """When Rewind accepted the event, UTC, to the microsecond (``recorded_at_ns`` is exact)."""
        return _EPOCH + timedelta(microseconds=self.recorded_at_ns // 1000)

    def json(self, type: Any = None, *, dec_hook: Callable[[Any, Any], Any] | None = None) -> Any:
        """``data`` decoded as JSON: into dicts, lists and the like or, with ``type``, into a value of it: a
        dataclass, a msgspec struct, ``list[int]`` and whatever else msgspec decodes into.

        ``dec_hook(type, value)`` makes what is of another type, of what JSON has in its place. Raises
        ``BadJson``, a ``ValueError`` that names the event.
        """
        try:
            return of_json(self.data, type, dec_hook)
        except BadJson as error:
            event = f"event {self.position}, {quoted(self.type)} of stream {quoted(self.stream)},"
            raise BadJson(f"the data of {event} {error}") from error.__cause__

    def __repr__(self) -> str:
        return _shown(
            "Event",
            position=self.position,
            recorded_at_ns=self.recorded_at_ns,
            id=self.id,
            stream=self.stream,
            version=self.version,
            type=self.type,
            tags=self.tags,
            metadata=self.metadata,
            data=self.data,
        )


SHOWN_CHARS_MAX = 200  # of a field in a repr: a list of events stays readable, and so does a log


def _shown(name: str, **fields: Any) -> str:
    """A value as ``repr`` shows it: one line, with the beginning of what is long."""
    return f"{name}({', '.join(f'{field}={_field(value)}' for field, value in fields.items())})"


def _field(value: Any) -> str:
    if isinstance(value, bytes | str):
        return quoted(value)
    return one_line(repr(value), SHOWN_CHARS_MAX)


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


class Advance(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Where a cursor goes: forward to ``position``, or None to delete it.

    ``position``: of the last event that its consumer is done with. ``expected``: where it must be
    before; one that does not exist is at 0. None: wherever it is. ``reset``: it may go back.
    """

    position: int | None
    expected: int | None = None
    reset: bool = False


class Append(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True, omit_defaults=True):
    """An atomic write: its events, stored next to one another or not at all, and its cursors.

    ``id``: append id, 16 bytes. ``expected``: stream -> version, compared before the append.
    ``conditions``: which events must not have come. ``cursors``: name -> where it goes; with them there
    may be no events. ``store_id``: the store it is meant for, 16 bytes; None: whichever is asked.
    """

    events: tuple[AppendEvent, ...]
    id: bytes | None = None
    expected: dict[str, int] = {}
    conditions: tuple[Condition, ...] = ()
    cursors: dict[str, Advance] = {}
    store_id: bytes | None = None


class Appended(msgspec.Struct, frozen=True):
    """The answer to an append.

    ``first``, ``last``: positions, 0 without events. ``id_bytes``: the events' ids, 16 bytes each, if
    Rewind made them, else empty; ``ids`` are the same as UUIDs. ``versions``: stream -> its version after
    the append. ``duplicate``: the append was known and this is its first answer again. ``durability``:
    ``fsync`` or ``memory``.
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

    def __repr__(self) -> str:
        return _shown(
            "Appended",
            first=self.first,
            last=self.last,
            ids=self.ids,
            versions=self.versions,
            duplicate=self.duplicate,
            durability=self.durability,
        )


class NewEvent:
    """An event still to be appended.

    ``type``: what happened. ``data``: bytes Rewind never looks into. ``id``: a UUID (or its
    text or 16 bytes) that makes a retry harmless; Rewind makes one if None. ``tags``: at most
    32 texts. ``metadata``: a JSON-shaped map, at most 64 KiB. Raises ``BadRequest`` for what is of
    another kind; bounds and characters are looked at by the append.

    ``caused_by``, an event that was read, sets ``causation_id`` in the metadata, and ``correlation_id``
    from that event's own (or its id), and passes its ``traceparent`` and ``tracestate`` on; ``metadata``
    goes first.
    """

    __slots__ = ("data", "id", "metadata", "tags", "type")

    def __init__(
        self,
        type: str,
        data: bytes | bytearray | memoryview = b"",
        *,
        id: uuid.UUID | str | bytes | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
        caused_by: Event | None = None,
    ) -> None:
        # The usual kinds are told here, because a call for each field would cost a tenth of an append.
        self.type = type if type.__class__ is str else text_of(type, "type")
        self.data = data if data.__class__ is bytes else bytes_of(data, "data")
        self.id = None if id is None else uuid_of(id)
        self.tags = () if tags.__class__ is tuple and not tags else texts_of(tags, "tags")
        self.metadata = {} if metadata is None else map_of(metadata, "metadata")
        if caused_by is not None:
            self.metadata = _consequence(caused_by, self.metadata) | self.metadata

    @classmethod
    def from_json(
        cls,
        type: str,
        value: Any,
        *,
        caused_by: Event | None = None,
        enc_hook: Callable[[Any], Any] | None = None,
        id: uuid.UUID | str | bytes | None = None,
        tags: Iterable[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> NewEvent:
        """An event whose data is ``value`` as JSON: what ``json.dumps`` takes, and dataclasses, msgspec
        structs, datetimes, UUIDs, Decimals, enums and sets. ``enc_hook`` makes such a value of any other.

        Its ``content_type`` is ``application/json`` unless ``metadata`` has one; the rest as in
        ``NewEvent``. Raises ``TypeError`` when ``value`` has no form in JSON, and ``BadJson``, a
        ``ValueError``, for NaN and infinity.
        """
        own = {"content_type": "application/json"} | map_of(metadata, "metadata")
        data = to_json(value, enc_hook)
        return cls(type, data, id=id, tags=tags, metadata=own, caused_by=caused_by)

    def __repr__(self) -> str:
        given = {name: getattr(self, name) for name in ("id", "tags", "metadata")}
        fields = {name: value for name, value in given.items() if value}
        more = _shown("", **fields)[1:-1]
        return f"NewEvent({', '.join(filter(None, (quoted(self.type), quoted(self.data), more)))})"


def _consequence(cause: Event, own: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of an event that another one led to, which has ``own`` already."""
    if not isinstance(cause, Event):
        raise wrong_kind("caused_by", cause, "give an Event, as a read gives it")
    correlation_id = cause.metadata.get("correlation_id", cause.id)
    found = {"causation_id": str(cause.id), "correlation_id": str(correlation_id)}
    if "traceparent" not in own:  # A trace state belongs to the parent that it came with.
        trace = ("traceparent", "tracestate")
        found |= {name: cause.metadata[name] for name in trace if name in cause.metadata}
    return found


# --- encoding -----------------------------------------------------------------


def make_record(
    event: AppendEvent, *, position: int, recorded_at_ns: int, id: bytes, version: int
) -> Record:
    """Give an accepted event its position, time, id and version, and encode it."""
    stored_event = Event(
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
    return Record(stored_event, _encode(stored_event))


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


class RecordNames(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The fields of a record up to its tags, for who looks only at what queries name."""

    position: int
    recorded_at_ns: int
    id_bytes: bytes
    stream: str
    version: int
    type: str
    tags: tuple[str, ...]


#: Record bytes -> RecordNames; cheaper than a whole event, whatever its metadata is.
decode_names = msgspec.msgpack.Decoder(RecordNames).decode


def join_records(records: Sequence[bytes]) -> bytes:
    """The msgpack array of these records, without looking into them."""
    return array_of(len(records), records)


def array_of(count: int, pieces: Sequence[bytes]) -> bytes:
    """The msgpack array of ``count`` values, which lie one behind the other in these pieces."""
    if count < 16:
        header = bytes((0x90 | count,))
    elif count < 0x10000:
        header = b"\xdc" + count.to_bytes(2, "big")
    else:
        header = b"\xdd" + count.to_bytes(4, "big")
    return b"".join((header, *pieces))


# --- ids ----------------------------------------------------------------------


def own_id_prefix(store_id: uuid.UUID) -> bytes:
    """The first 8 bytes of every id a store makes itself.

    A UUID of version 8 (RFC 9562, section 5.8) has 48 + 12 free bits before its variant. They hold
    the bits that the store id has there.
    """
    high = int.from_bytes(store_id.bytes[:8], "big")
    return ((high & ~0xF000) | 0x8000).to_bytes(8, "big")


def own_id(prefix: bytes, position: int) -> bytes:
    """The id a store makes for the event at ``position``: variant bits 10, then 62 bits of it."""
    return prefix + (0x8000_0000_0000_0000 | position).to_bytes(8, "big")


def own_id_position(prefix: bytes, id: bytes) -> int | None:
    """The position inside an id that the store made itself, or None for any other id.

    It is 0 for an id that has the store's prefix and that the store never makes. Nobody else may
    choose such an id either, because backends do not index ids that have the prefix.
    """
    if not id.startswith(prefix):
        return None
    low = int.from_bytes(id[8:], "big")
    return low & 0x3FFF_FFFF_FFFF_FFFF if low >> 62 == 0b10 else 0


def uuid_of(id: uuid.UUID | str | bytes, name: str = "id") -> uuid.UUID:
    """A UUID from itself, its text or its 16 bytes. Raises ``BadRequest`` for anything else."""
    if isinstance(id, uuid.UUID):
        return id
    advice = "give a UUID, its text or its 16 bytes"
    if not isinstance(id, str | bytes | bytearray):
        raise wrong_kind(name, id, advice)
    try:
        return uuid.UUID(id) if isinstance(id, str) else uuid.UUID(bytes=bytes(id))
    except ValueError as error:
        raise BadRequest(f"{name} is {quoted(id)}: {advice}") from error
