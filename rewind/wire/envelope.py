"""A message as the ROUTER hands it over, cut into route and request; which dialect it speaks.

::

    identity | envelope ... | command | arguments ...
               ends with an empty frame, or is absent (DEALER)

An empty frame behind the identity is always the delimiter; a known command there means that none was
sent; otherwise everything through the first empty frame is the envelope of a client behind proxies.
Identity and envelope are the route, which goes back in front of every reply.

``decode_request`` never raises: what is wrong with a request becomes its body, an error, so that
every message has exactly one answer. This is the door: what passes it, native.py and old.py is decoded,
checked and typed, and trusted afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rewind.checks import EVENT_BYTES_MAX
from rewind.errors import BadRequest, RequestError, TooLarge, UnknownCommand, without_traceback
from rewind.wire import native, old

ENVELOPE_FRAMES_MAX = 8  # each proxy between client and daemon adds a frame or two
ENVELOPE_BYTES_MAX = 8 * 256  # an identity has at most 255 bytes, and comes back with every reply
FRAMES_MAX = 64  # a request has at most 12: an envelope of 8, a command, 3 arguments
# A request above its limit is answered. A frame above this is not even read: its connection is dropped.
FRAME_BYTES_MAX = 4 * native.REQUEST_BYTES_MAX

_KNOWN = frozenset(old.COMMANDS + native.COMMANDS)

REWIND, GOREWIND, NATIVE = "rewind", "gorewind", "native"


class Request(msgspec.Struct, frozen=True, gc=False):
    """A decoded request.

    ``route``: identity and envelope, sent back in front of every reply. ``body``: what to do, or
    the error to answer with. ``store_id``: of the store that answers; native replies say it.
    """

    route: list[bytes]
    dialect: str
    request_id: bytes
    body: Any  # it is a request or a RequestError; a msgspec union takes no exceptions
    store_id: bytes

    @property
    def peer(self) -> bytes:
        """The identity of the connection."""
        return self.route[0]


def decode_request(
    frames: list[bytes], event_bytes_max: int = EVENT_BYTES_MAX, store_id: bytes = b""
) -> Request:
    """The request in these frames, the identity first. It never raises: an error becomes the body.

    ``store_id``: 16 bytes, of the store that answers; empty where none does.
    """
    cut = _envelope_end(frames)
    route, rest = frames[:cut], frames[cut:]
    command, count = rest[0] if rest else b"", len(rest)
    request_id = b""
    decode: Callable[[list[bytes], int, bytes], Any]
    if command in native.COMMANDS:
        dialect, decode = NATIVE, native.decode
        if count > 1 and len(rest[1]) <= native.REQUEST_ID_BYTES_MAX:
            request_id = rest[1]
    elif command == b"PUBLISH" and 2 <= count <= 3:
        dialect, decode = REWIND if count == 2 else GOREWIND, old.decode_publish
    elif command == b"QUERY" and 3 <= count <= 4:
        dialect, decode = REWIND if count == 3 else GOREWIND, old.decode_query
    else:
        return _refuse(route, rest, store_id)
    try:
        body: Any = decode(rest, event_bytes_max, store_id)
    except RequestError as error:
        body = without_traceback(error)
    return Request(route, dialect, request_id, body, store_id)


def refuse_frames(frames: list[bytes], store_id: bytes = b"") -> Request:
    """The refusal of a message that begins with these frames and has more than ``FRAMES_MAX``."""
    request = decode_request(frames, store_id=store_id)
    too_many = TooLarge(f"the message has more than {FRAMES_MAX} frames")
    return msgspec.structs.replace(request, body=too_many)


def _envelope_end(frames: Sequence[bytes]) -> int:
    """How many frames are the route: the identity, and everything through the delimiter."""
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


def _refuse(route: list[bytes], rest: list[bytes], store_id: bytes) -> Request:
    """The refusal of an unknown command, or of a wrong number of frames."""
    dialect, request_id = REWIND, b""
    error: RequestError
    if not rest or rest[0] == b"":
        error = BadRequest("the request is empty: it has no command")
    elif rest[0] in old.COMMANDS:
        wanted = "2 (Rewind 0.3) or 3" if rest[0] == b"PUBLISH" else "3 (Rewind 0.3) or 4"
        error = BadRequest(
            f"{rest[0].decode()} has {len(rest)} frames; it takes {wanted} (gorewind), "
            "the command included"
        )
    else:
        error = UnknownCommand(
            f"unknown command {_shown(rest[0])}; known are "
            + b", ".join(old.COMMANDS + native.COMMANDS).decode()
        )
        if len(rest) == 3 and _begins_as_map(rest[2]):
            dialect = NATIVE
            request_id = rest[1] if len(rest[1]) <= native.REQUEST_ID_BYTES_MAX else b""
    return Request(route, dialect, request_id, error, store_id)


def _shown(command: bytes) -> str:
    return ascii(command[:32].decode("ascii", "backslashreplace"))


def _begins_as_map(body: bytes) -> bool:
    """Whether a native request is meant. What is in the map, keys of any kind, is not looked at."""
    return body[:1] != b"" and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF))
