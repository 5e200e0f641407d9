"""Events as text, both ways: JSON lines, lines for people, times.

A JSON line holds everything an event is, so a store can be written out, looked through with other
tools and read in again::

    {"position":1,"recorded_at":"2025-11-23T10:00:00.123456789Z","id":"...","stream":"order-1",
     "version":1,"type":"placed","tags":[],"metadata":{},"data":"..."}

``data`` is text where the bytes are UTF-8, else ``data_base64`` takes its place. A line for people
is shortened and escaped, and cannot be read back. Neither ever carries a control character: what a
stranger appended must not drive the terminal of the one who looks.

Nothing here knows Click or a socket. How lines become appends is in lines.py.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

import rewind
from rewind.errors import BadRequest
from rewind.events import INT_MAX, AppendEvent, Event

SHOWN_CHARACTERS = 100  # an event's data is cut here, so that the event fits on a line or two
_UTF8_BYTES_MAX = 4  # a character has at most four bytes
AGE_DAYS_MAX = 366_000  # a thousand years go back further than any clock

# --- JSON lines ---------------------------------------------------------------


def json_line(event: Event) -> bytes:
    """The event as one line of JSON, its end included."""
    fields: dict[str, Any] = {
        "position": event.position,
        "recorded_at": time_text(event.recorded_at_ns),
        "id": str(event.id),
        "stream": event.stream,
        "version": event.version,
        "type": event.type,
        "tags": event.tags,
        "metadata": event.metadata,
    }
    try:
        fields["data"] = event.data.decode()
    except UnicodeDecodeError:
        fields["data_base64"] = base64.b64encode(event.data).decode()
    return json_text(fields) + b"\n"


def json_text(value: Any) -> bytes:
    """``value`` as JSON in UTF-8, without a control character anywhere."""
    encoded = msgspec.json.encode(value)
    if b"\x7f" not in encoded and b"\xc2" not in encoded:
        return encoded
    # JSON asks for escapes below U+0020 only, but U+009B begins an escape sequence as well. These
    # bytes stand inside of strings only, where an escape may take their place.
    return _HIGH_CONTROL.sub(lambda match: b"\\u00" + match[0][-1:].hex().encode(), encoded)


_HIGH_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


class _Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a JSON line may say. Position, version and time are not looked at: Rewind gives its own."""

    stream: str | None = None
    type: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    data: str | None = None
    data_base64: str | None = None
    id: str | None = None
    position: Any = None
    version: Any = None
    recorded_at: Any = None


_decode_line = msgspec.json.Decoder(_Line).decode


def parse_line(line: bytes, default_stream: str | None) -> AppendEvent:
    """The event in a JSON line. Raises ``BadRequest``, saying what is wrong with the line.

    Metadata beginning with ``$`` is left out, as position and time are: the store that takes the
    event in writes its own.
    """
    try:
        fields = _decode_line(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"not an event in JSON: {_plain(error)}") from error
    stream = fields.stream if fields.stream is not None else default_stream
    if stream is None:
        raise BadRequest("it names no stream, and none was given as STREAM")
    return AppendEvent(
        _id_of(fields.id),
        stream,
        fields.type,
        fields.tags,
        {key: value for key, value in fields.metadata.items() if not key.startswith("$")},
        _data_of(fields),
    )


def _plain(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    text = str(error)
    if "`$.data`" in text:
        text += "; data is text: write a JSON value inside as a string"
    return text


def _id_of(text: str | None) -> bytes | None:
    try:
        return None if text is None else uuid.UUID(text).bytes
    except ValueError as error:
        raise BadRequest(f"id {text!r} is not a UUID") from error


def _data_of(fields: _Line) -> bytes:
    if fields.data is not None and fields.data_base64 is not None:
        raise BadRequest("it has both data and data_base64")
    if fields.data_base64 is None:
        return (fields.data or "").encode()
    try:
        return base64.b64decode(fields.data_base64, validate=True)
    except ValueError as error:
        raise BadRequest(f"data_base64 is not base64: {error}") from error


# --- lines for people ---------------------------------------------------------


def text_line(event: Event) -> str:
    """The event on one line: position, time, stream and version, type, tags, metadata, data."""
    columns = [
        f"{event.position:>8}",
        short_time_text(event.recorded_at_ns),
        f"{event.stream} {event.version}".ljust(20),
        (event.type or "-").ljust(16),
    ]
    if event.tags:
        columns.append("[" + " ".join(event.tags) + "]")
    if event.metadata:
        columns.append(json_text(event.metadata).decode())
    columns.append(data_text(event.data))
    return escape("  ".join(columns)).rstrip()


def event_text(event: Event) -> str:
    """The event, a field a line."""
    fields = {
        "position": str(event.position),
        "recorded at": time_text(event.recorded_at_ns),
        "id": str(event.id),
        "stream": event.stream,
        "version": str(event.version),
        "type": event.type or "-",
        "tags": " ".join(event.tags) or "-",
        "metadata": json_text(event.metadata).decode(),
        "data": data_text(event.data),
    }
    return fields_text(fields)


def info_text(info: rewind.Info) -> str:
    """What a store says of itself, a field a line."""
    fields = {
        "release": f"{info.release}, protocol {info.protocol}",
        "store": f"{info.store_id}, {info.backend}",
        "head": str(info.head),
        "durability": info.durability,
        "insecure": "yes" if info.insecure else "no",
    }
    fields |= {name: " ".join(bound) or "off" for name, bound in info.endpoints.items()}
    fields |= {name.replace("_", " "): f"at most {limit}" for name, limit in info.limits.items()}
    return fields_text(fields)


def fields_text(fields: Mapping[str, str]) -> str:
    """``name  value`` lines, aligned and escaped."""
    width = max(map(len, fields))
    return "\n".join(f"{name:<{width}}  {escape(value)}".rstrip() for name, value in fields.items())


def data_text(data: bytes) -> str:
    """The data as text; long data is its beginning and its size."""
    text = data[: SHOWN_CHARACTERS * _UTF8_BYTES_MAX].decode("utf-8", "backslashreplace")
    if len(text) <= SHOWN_CHARACTERS and len(data) <= SHOWN_CHARACTERS * _UTF8_BYTES_MAX:
        return text
    return f"{text[:SHOWN_CHARACTERS]}... ({size_text(len(data))})"


def escape(text: str) -> str:
    """The text with everything unprintable written as Python would write it in a literal.

    Unprintable are control characters and what else changes how a line looks: right-to-left
    overrides, line separators, lone surrogates.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def size_text(size: int) -> str:
    """Bytes in a unit that reads well."""
    if size < 1024:
        return f"{size} bytes"
    if size < 1024 * 1024:
        return f"{size / 1024:.1f} KiB"
    return f"{size / 1024 / 1024:.1f} MiB"


# --- times --------------------------------------------------------------------


def time_text(time_ns: int) -> str:
    """RFC 3339 in UTC with nine decimals: the exact time."""
    return (
        f"{_EPOCH + timedelta(seconds=time_ns // 10**9):%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09d}Z"
    )


def short_time_text(time_ns: int) -> str:
    """RFC 3339 in UTC to the millisecond."""
    return time_text(time_ns)[:23] + "Z"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGE = re.compile(r"([0-9]{1,9})([smhdw])")
_AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def parse_time(text: str, now_ns: int) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time, or of an age such as ``10m`` before now.

    A time out of bounds is the bound: 0, or ``INT_MAX`` in 2262. Raises ``ValueError``, saying what to
    write instead.
    """
    if (age := _AGE.fullmatch(text)) is not None:
        seconds = int(age[1]) * _AGE_SECONDS[age[2]]
        if seconds <= AGE_DAYS_MAX * 86_400:
            return max(0, now_ns - seconds * 10**9)
    elif (time := _TIME.fullmatch(text)) is not None:
        day, clock, decimals, zone = time.groups()
        try:
            moment = datetime.fromisoformat(f"{day}T{clock}{zone.upper()}")
            since_epoch = moment - _EPOCH
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is not a time: {error}") from error
        seconds = since_epoch.days * 86_400 + since_epoch.seconds
        time_ns = seconds * 10**9 + int((decimals or "").ljust(9, "0"))
        return min(max(0, time_ns), INT_MAX)
    raise ValueError(
        f"{text!r} is not a time: write 2025-11-23T10:38:00Z, or an age such as 30s, 10m, 2h, 3d, 1w"
    )
