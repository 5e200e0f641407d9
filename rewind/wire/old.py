"""The dialects of Rewind 0.3 and gorewind: their requests and their answers.

::

    PUBLISH data              Rewind 0.3    PUBLISHED
    QUERY from to             Rewind 0.3    id data id data ... [END]
    PUBLISH stream data       gorewind      PUBLISHED id
    QUERY stream from to      gorewind      EVENT id data, one message each; END

The number of frames tells them apart (envelope.py). Ids are 36 characters here. An error is
one frame in both, ``ERROR`` and a text (replies.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import msgspec

from rewind.checks import check_append, check_stream
from rewind.errors import BadRequest
from rewind.events import DEFAULT_STREAM, Append, AppendEvent

QUERY_EVENTS_MAX = 100  # Rewind 0.3 ends an answer here as well
QUERY_BYTES_MAX = 1024 * 1024  # an answer of large events has fewer of them

COMMANDS = (b"PUBLISH", b"QUERY")


class OldQuery(msgspec.Struct, frozen=True):
    """What a QUERY asks for: the events after one id until another, of 16 bytes; None has no bound."""

    after_id: bytes | None
    until_id: bytes | None
    stream: str | None = None


def decode_publish(frames: list[bytes], event_bytes_max: int, _: bytes) -> Append:
    """The append of one event, to whichever store. Raises the ``RequestError`` that refuses it."""
    stream = DEFAULT_STREAM if len(frames) == 2 else _text(frames[1], "stream")
    append = Append((AppendEvent(None, stream, "", (), {}, frames[-1]),))
    # In an event of the default stream nothing but the size of the data can be wrong.
    if stream != DEFAULT_STREAM or len(frames[-1]) > event_bytes_max:
        check_append(append, event_bytes_max)
    return append


def decode_query(frames: list[bytes], *_: object) -> OldQuery:
    """The query, of whichever store. Raises ``BadRequest``."""
    stream = None
    if len(frames) == 4:
        stream = _text(frames[1], "stream")
        check_stream(stream)
    return OldQuery(_old_id(frames[-2], "from"), _old_id(frames[-1], "to"), stream)


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


def id_text(id: bytes) -> bytes:
    """An event id as the old dialects write it: 36 lower-case characters."""
    digits = id.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}".encode()


def encode_query(
    route: list[bytes], events: Iterable[tuple[bytes, bytes]], end: bool
) -> list[bytes]:
    """A page of Rewind 0.3: id, data, id, data ... and END unless stopped short."""
    frames = list(route)
    for id, data in events:
        frames += (id_text(id), data)
    if end:
        frames.append(b"END")
    return frames


def encode_event(route: list[bytes], id: bytes, data: bytes) -> list[bytes]:
    """One message of gorewind's answer."""
    return [*route, b"EVENT", id_text(id), data]


def encode_end(route: list[bytes]) -> list[bytes]:
    """The last message of gorewind's answer."""
    return [*route, b"END"]
