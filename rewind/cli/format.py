"""JSON lines, both ways: what a command prints for programs, and what ``append --json`` takes.

A JSON line holds everything an event is, so a store can be written out, looked through with other
tools and read in again::

    {"position":1,"recorded_at":"2025-11-23T10:00:00.123456789Z","id":"...","stream":"order-1",
     "version":1,"type":"placed","tags":[],"metadata":{},"data":"..."}

``data`` is text where the bytes are UTF-8, else ``data_base64`` takes its place. ``data_json``
beside it is the same data as the JSON value it is, where that is asked for and the event's
``content_type`` says JSON.

Nothing here knows Click or a socket. Lines for people are in text.py, how lines become appends is in
lines.py.
"""

from __future__ import annotations

import base64
import json
import re
import uuid
from typing import Any

import msgspec

from rewind.cli.escape import escape_json
from rewind.cli.times import time_text
from rewind.errors import BadRequest
from rewind.events import AppendEvent, Event, NewEvent

# --- printed --------------------------------------------------------------------


def json_line(event: Event, decode: bool = False) -> bytes:
    """The event as one line of JSON, its end included. ``decode`` adds ``data_json``."""
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
    if decode and _says_json(event) and _is_json(event.data):
        # The bytes are put in as they are, so that no number changes. A line's end can only stand
        # between two values, where a space does as well.
        fields["data_json"] = msgspec.Raw(re.sub(rb"\s", b" ", event.data))
    return json_text(fields) + b"\n"


def json_text(value: Any) -> bytes:
    """``value`` as JSON in UTF-8, everything unprintable escaped."""
    encoded = msgspec.json.encode(value)
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return escape_json(encoded.decode()).encode()


def _says_json(event: Event) -> bool:
    content_type = event.metadata.get("content_type")
    if not isinstance(content_type, str):
        return False
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _is_json(data: bytes) -> bool:
    """Whether ``append --json`` would take the data as a value."""
    try:
        _decode_json(data.decode())
    except (ValueError, BadRequest, RecursionError):
        return False
    return True


# --- taken ----------------------------------------------------------------------


class _Line(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a JSON line may say. Position, version and time are not looked at: Rewind gives its own."""

    stream: str | None = None
    type: str = ""
    tags: tuple[str, ...] = ()
    metadata: dict[str, Any] = {}
    data: str | None = None
    data_base64: str | None = None
    data_json: Any = msgspec.UNSET
    id: str | None = None
    position: Any = None
    version: Any = None
    recorded_at: Any = None


def parse_line(line: bytes, default_stream: str | None) -> AppendEvent:
    """The event in a JSON line. Raises ``BadRequest``, saying what is wrong with the line.

    Metadata beginning with ``$`` is left out, as position and time are: the store that takes the
    event in writes its own.
    """
    try:
        fields = _fields_of(line.decode())
    except (ValueError, RecursionError, BadRequest) as error:
        raise BadRequest(f"not an event in JSON: {_plain(error)}") from error
    stream = fields.stream if fields.stream is not None else default_stream
    if stream is None:
        raise BadRequest("it names no stream, and none was given as STREAM")
    data, defaults = _data_of(fields)
    metadata = {key: value for key, value in fields.metadata.items() if not key.startswith("$")}
    return AppendEvent(
        _id_of(fields.id), stream, fields.type, fields.tags, {**defaults, **metadata}, data
    )


def _fields_of(text: str) -> _Line:
    value = _decode_json(text)
    # Only an escape can make half of a surrogate pair of UTF-8.
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = ascii(error.object[error.start])[1:-1]
            raise BadRequest(
                f"{half} is half of a surrogate pair, which no text can hold"
            ) from error
    return msgspec.convert(value, _Line)


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ``BadRequest`` for a key that stands in it twice: which one is meant?"""
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise BadRequest(f"the key {twice!r} stands twice in an object")
    return value


def _no_number(word: str) -> Any:
    raise BadRequest(f"{word} is no number in JSON")


_decode_json = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number).decode


def _plain(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    if isinstance(error, RecursionError):
        return "it is nested too deep"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.colno}"
    text = str(error)
    if "`$.data`" in text:
        text += "; data is text: write a JSON value as data_json"
    return text


def _id_of(text: str | None) -> bytes | None:
    try:
        return None if text is None else uuid.UUID(text).bytes
    except ValueError as error:
        raise BadRequest(f"id {text!r} is not a UUID") from error


def _data_of(fields: _Line) -> tuple[bytes, dict[str, Any]]:
    """The data, and the metadata that its form implies."""
    if fields.data is not None and fields.data_base64 is not None:
        raise BadRequest("it has both data and data_base64")
    data = _bytes_of(fields)
    if fields.data_json is msgspec.UNSET:
        return data or b"", {}
    if data is None:
        try:
            event = NewEvent.from_json(fields.type, fields.data_json)
        except (ValueError, TypeError) as error:
            raise BadRequest(f"data_json cannot be written as JSON: {error}") from error
        return event.data, dict(event.metadata)
    # The bytes are what was stored, the value is for those who look: it may not say anything else.
    if not _is_json(data) or _decode_json(data.decode()) != fields.data_json:
        raise BadRequest("data and data_json differ: leave out the one that is not meant")
    return data, {}


def _bytes_of(fields: _Line) -> bytes | None:
    if fields.data_base64 is None:
        return None if fields.data is None else fields.data.encode()
    try:
        return base64.b64decode(fields.data_base64, validate=True)
    except ValueError as error:
        raise BadRequest(f"data_base64 is not base64: {error}") from error
