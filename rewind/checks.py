"""The rules of what is asked for: the fields of an event, queries, cursors, an append whole; and durations.

Each check raises an error that names the part and says what is allowed. They run in a client before it
sends, and once at the daemon's door (wire/), behind which everything is trusted. They know no store.
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rewind.arguments import wrong_kind
from rewind.errors import BadRequest, TooLarge, one_line, quoted
from rewind.events import INT_MAX, Advance, Append, AppendEvent
from rewind.query import QueryItem

STREAM_BYTES_MAX = 255  # a name stays one short index key
TYPE_BYTES_MAX = 255
SHORT_TEXT_CHARS = 63  # 63 characters never exceed 252 bytes, so the exact count is skipped
TAGS_MAX = 32  # the index holds an entry a tag
TAG_BYTES_MAX = 255
METADATA_BYTES_MAX = 64 * 1024  # metadata is looked at by Rewind; data is not
METADATA_DEPTH_MAX = 16  # every decoder follows values nested as deep as this
EVENT_BYTES_MAX = 4 * 1024 * 1024  # --max-event-bytes replaces this default
EVENTS_PER_APPEND_MAX = 4_096
EXPECTED_MAX = EVENTS_PER_APPEND_MAX  # each stream that an append names is a look-up
QUERY_ITEMS_MAX = 64  # the items of a query are looked up one by one
CONDITIONS_MAX = 64  # in one message: each is a query
CURSORS_MAX = 64  # in one message: each is a look-up
NAMES_MAX = 1_024  # in all queries and conditions of one message: each is a list of the index
CURSOR_NAME_BYTES_MAX = 255  # as a stream's
SECONDS_MAX = 1e9  # 31 years: whatever waits as long waits for ever, and no clock overflows

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")

_encode = msgspec.msgpack.Encoder().encode


def check_append(append: Append, event_bytes_max: int = EVENT_BYTES_MAX) -> None:
    """Raise ``BadRequest`` or ``TooLarge``, which names the part, unless the append may be planned."""
    events = append.events
    if not events:
        _check_without_events(append)
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
                f"expected[{quoted(stream)}] is {quoted(version)}: a version is 0 (no stream), "
                f"-1 (exists) or 1 to {INT_MAX}"
            )
    if append.conditions or append.cursors:
        _check_conditions(append)
        _check_cursors(append)


def _check_without_events(append: Append) -> None:
    if not append.cursors:
        raise BadRequest("events is empty: an append carries at least one event, or cursors")
    if append.id is not None:
        raise BadRequest(
            "id goes with events: an append that only moves cursors may be repeated without one"
        )


def _check_conditions(append: Append) -> None:
    if len(append.conditions) > CONDITIONS_MAX:
        raise TooLarge(
            f"{len(append.conditions)} conditions in one append; at most {CONDITIONS_MAX} are allowed"
        )
    if (names := names_in(append)) > NAMES_MAX:
        raise TooLarge(
            f"the conditions have {names} names; at most {NAMES_MAX} are allowed in one append"
        )
    for index, condition in enumerate(append.conditions):
        check_query(condition.fail_if_events_match, f"conditions[{index}]")
        _check_number(condition.after, f"conditions[{index}]: after")


def _check_cursors(append: Append) -> None:
    if len(append.cursors) > CURSORS_MAX:
        raise TooLarge(
            f"{len(append.cursors)} cursors in one append; at most {CURSORS_MAX} are allowed"
        )
    for name, advance in append.cursors.items():
        check_cursor(name, "cursors")
        check_advance(advance, f"cursors[{quoted(name)}]", bool(append.events))


def check_advance(advance: Advance, where: str, beside_events: bool) -> None:
    """Raise ``BadRequest`` unless a cursor may be told to go there."""
    for part, number in (("position", advance.position), ("expected", advance.expected)):
        if number is not None:
            _check_number(number, f"{where}: {part}")
    if beside_events and advance.position is None:
        raise BadRequest(f"{where}: position is nil, which deletes it: that goes without events")
    if beside_events and advance.reset:
        raise BadRequest(f"{where}: reset goes without events, beside which a cursor moves forward")


def check_cursor(name: str, where: str = "cursor") -> None:
    """Raise ``BadRequest`` unless ``name`` may name a cursor."""
    check_name(name, 1, CURSOR_NAME_BYTES_MAX, where)
    if name.startswith("$"):
        raise BadRequest(f"{where} {quoted(name)} begins with '$', which is reserved for Rewind")


def check_query(items: Sequence[QueryItem] | None, where: str = "query") -> None:
    """Raise ``BadRequest`` or ``TooLarge`` unless these items may be asked for; None, every event, may.

    How many names they have is the message's matter: see ``NAMES_MAX``.
    """
    if items is None:
        return
    if not items:
        raise BadRequest(f"{where} is empty: give an item, or nil for every event")
    if len(items) > QUERY_ITEMS_MAX:
        raise TooLarge(f"{where} has {len(items)} items; at most {QUERY_ITEMS_MAX} are allowed")
    for index, item in enumerate(items):
        for type in item.types:
            check_text(type, 0, TYPE_BYTES_MAX, f"{where}[{index}]: type")
        for tag in item.tags:
            check_text(tag, 1, TAG_BYTES_MAX, f"{where}[{index}]: tag")
        for category in item.categories:
            check_stream(category, f"{where}[{index}]: category")
        for stream in item.streams:
            check_stream(stream, f"{where}[{index}]: stream")


def names_in(append: Append) -> int:
    """How many names the conditions of an append have: a message may have NAMES_MAX of them."""
    return sum(
        item.names
        for condition in append.conditions
        for item in condition.fail_if_events_match or ()
    )


def _check_number(number: int, where: str) -> None:
    if not 0 <= number <= INT_MAX:
        raise BadRequest(f"{where} is {quoted(number)}; 0 to {INT_MAX} is allowed")


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
            f"events[{index}]: stream {quoted(stream)} begins with '$', which is reserved for Rewind"
        )
    if len(event.data) > event_bytes_max:
        raise TooLarge(
            f"events[{index}]: data has {len(event.data)} bytes; at most {event_bytes_max} are allowed"
        )
    if len(event.type) > SHORT_TEXT_CHARS or not event.type.isprintable():
        check_name(event.type, 0, TYPE_BYTES_MAX, f"events[{index}]: type")
    if event.tags:
        if len(event.tags) > TAGS_MAX:
            raise BadRequest(
                f"events[{index}]: {len(event.tags)} tags; at most {TAGS_MAX} are allowed"
            )
        for tag in event.tags:
            if not 0 < len(tag) <= SHORT_TEXT_CHARS or not tag.isprintable():
                check_name(tag, 1, TAG_BYTES_MAX, f"events[{index}]: tag")
    if event.metadata:
        check_metadata(event.metadata, f"events[{index}]: metadata")


def check_stream(name: str, where: str = "stream") -> None:
    """Raise ``BadRequest`` unless ``name`` may name a stream."""
    check_name(name, 1, STREAM_BYTES_MAX, where)


def check_name(name: str, least: int, most: int, where: str) -> None:
    """Raise ``BadRequest`` unless a new stream, type or tag may have this name.

    Types and tags with control characters were taken once; reads ask for them with ``check_text``.
    """
    check_text(name, least, most, where)
    if not name.isprintable() and _CONTROL.search(name):
        raise BadRequest(f"{where} {quoted(name)} has a control character")


def check_text(text: str, least: int, most: int, where: str) -> None:
    """Raise ``BadRequest`` unless the text has ``least`` to ``most`` bytes of UTF-8."""
    try:
        size = len(text) if text.isascii() else len(text.encode())
    except UnicodeEncodeError as error:
        raise BadRequest(
            f"{where} {quoted(text)} has half of a surrogate pair, which UTF-8 cannot say"
        ) from error
    if not least <= size <= most:
        raise BadRequest(f"{where} has {size} bytes; {least} to {most} bytes of UTF-8 are allowed")


def check_metadata(metadata: Mapping[str, Any], where: str = "metadata") -> None:
    """Raise ``BadRequest`` unless it is a JSON-shaped map within its bounds."""
    for key in metadata:
        if isinstance(key, str) and key.startswith("$"):
            raise BadRequest(
                f"{where} key {quoted(key)} begins with '$', which is reserved for Rewind"
            )
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
        raise BadRequest(
            f"{where} has text with half of a surrogate pair, which UTF-8 cannot say"
        ) from error
    if size > METADATA_BYTES_MAX:
        raise BadRequest(f"{where} has {size} bytes; at most {METADATA_BYTES_MAX} are allowed")


def _children(value: Any, where: str) -> list[Any]:
    """The maps and arrays in a map or an array. Raises for a value that JSON has no form for."""
    if isinstance(value, dict):
        for key in value:
            if type(key) is not str:
                raise BadRequest(f"{where} has the key {quoted(key)}: keys must be text")
        values: Iterable[Any] = value.values()
    else:
        values = value
    containers = []
    for item in values:
        kind = type(item)
        if kind is dict or kind is list or kind is tuple:
            containers.append(item)
        elif item is None or kind is str or kind is bool:
            pass
        elif kind is int:
            if not -INT_MAX - 1 <= item <= INT_MAX:
                raise BadRequest(
                    f"{where} has the number {quoted(item)}, which does not fit 64 bits"
                )
        elif kind is float:
            if not math.isfinite(item):
                raise BadRequest(f"{where} has the number {item}: only finite numbers are allowed")
        else:
            raise BadRequest(
                f"{where} has a value of type {_WIRE_KINDS.get(kind.__name__, one_line(kind.__name__))}: "
                "null, bool, 64-bit integer, finite float, text, array and map are allowed"
            )
    return containers


_WIRE_KINDS = {"Ext": "msgpack extension", "datetime": "msgpack timestamp", "bytes": "bytes"}


def check_seconds(seconds: float, what: str) -> float:
    """A duration as a caller gave it, finite: 0 is "do not wait", infinity "as long as it takes".

    Raises ``BadRequest`` for a negative one and for NaN, ``WrongKind`` for what is no number; both
    name ``what``.
    """
    if not isinstance(seconds, numbers.Real) or isinstance(seconds, bool):
        raise wrong_kind(what, seconds, "give seconds, as a number")
    if not seconds >= 0:  # Every comparison with NaN is false.
        raise BadRequest(f"{what} is {seconds}: give seconds, 0 or more")
    return float(min(seconds, SECONDS_MAX))
