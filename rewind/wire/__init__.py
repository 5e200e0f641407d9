"""The wire: requests and replies of the three dialects as values, and as frames of ZeroMQ.

envelope.py cuts a message into route and request and tells the dialects apart; native.py has the native
requests and all limits, old.py what Rewind 0.3 and gorewind ask and are answered; replies.py encodes
replies and decodes them again. All of these are pure: frames are bytes. messages.py brings them on and
off a socket, needs ZeroMQ, and is not handed on here. The contract for other languages is
docs/protocol.rst.
"""

from rewind.wire.envelope import GOREWIND, NATIVE, REWIND, Request, decode_request
from rewind.wire.native import (
    LIMITS,
    Appends,
    Cursors,
    Info,
    Names,
    Read,
    Streams,
    encode_request,
)
from rewind.wire.old import OldQuery
from rewind.wire.replies import ReadAnswer, Reply, decode_reply, encode_error

__all__ = [
    "GOREWIND",
    "LIMITS",
    "NATIVE",
    "REWIND",
    "Appends",
    "Cursors",
    "Info",
    "Names",
    "OldQuery",
    "Read",
    "ReadAnswer",
    "Reply",
    "Request",
    "Streams",
    "decode_reply",
    "decode_request",
    "encode_error",
    "encode_request",
]
