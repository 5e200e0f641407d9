"""Appends and their events in one line, for tests of what is done with them."""

from __future__ import annotations

from typing import Any

from rewind.events import Append, AppendEvent


def event(
    stream: str = "s", data: bytes = b"d", id: bytes | None = None, **more: Any
) -> AppendEvent:
    fields = {"type": "t", "tags": (), "metadata": {}, **more}
    return AppendEvent(id, stream, fields["type"], fields["tags"], fields["metadata"], data)


def append(*events: AppendEvent, id: bytes | None = None, **expected: int) -> Append:
    """An append of these events, or of one; ``expected``: stream = version."""
    return Append(events or (event(),), id, expected)


def key(number: int) -> bytes:
    """The id of this number, of an event or an append; never of the form a store makes."""
    return b"\x40" + number.to_bytes(15, "big")
