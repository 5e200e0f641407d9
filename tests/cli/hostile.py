"""Events as a stranger may have appended them, to drive the terminal of whoever looks."""

from __future__ import annotations

import sys
import unicodedata
from typing import Any

from rewind.events import Event

UNPRINTABLE = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Cf", "Zl", "Zp")
]
HOSTILE = "\x00\x07\b\t\n\r\x1b[31m\x1b]0;title\x07\x7f\x80\x85\x9b2J\u202e\u2028\u2066"
NASTY = [
    b"",
    b"plain",
    bytes(range(256)),
    HOSTILE.encode(),
    "h\u00e9 \u4f60 \U0001f600".encode(),
    b"\xed\xa0\x80",  # a surrogate, which is not UTF-8
    b"\xff\xfe",
    b'{"json": [1, 2.5, null]}',
    b"\\u0000 \\ \" '",
    b"\xf4\x90\x80\x80",
]


def event(data: bytes = b"", **fields: Any) -> Event:
    return Event(
        **{
            "position": 7,
            "recorded_at_ns": 1_763_894_280_123_456_789,
            "id_bytes": bytes(range(16)),
            "stream": "order-1",
            "version": 3,
            "type": "placed",
            "tags": (),
            "metadata": {},
            "data": data,
            **fields,
        }
    )


def unprintable(text: str) -> list[str]:
    """What a terminal should not be sent, in the order in which it stands there; ends of lines aside."""
    return [c for c in text if not c.isprintable() and c != "\n"]
