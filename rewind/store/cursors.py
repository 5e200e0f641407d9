"""Cursors: how far a consumer is, by name, kept in the store and changed in its commits.

A cursor is a *mark*, which is a name and bytes that a commit changes as it adds events::

    cursor:NAME -> [position, updated_at]      a msgpack array of two integers; nanoseconds UTC

The rules of moving one are here, for plan.py to apply to the appends of a commit in their order, and
how far a cursor is behind. One that does not exist stands at 0.

Not here: what a cursor may be called (checks.py), and where marks are kept (backends/).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from rewind.errors import BadRequest, CursorMoved, StoreDamaged, quoted
from rewind.events import Advance

MARK = "cursor:"  # The marks of cursors begin so; other kinds of marks have prefixes of their own.
LAGS_MAX = 256  # a page of cursors reads so many events, in about as long as a page of a read

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, int]).decode


class Cursor(msgspec.Struct, frozen=True):
    """How far a consumer is.

    ``position``: the last event it is done with; ``updated_at_ns``: when it was put there, nanoseconds
    UTC; both are 0 for one that does not exist. ``lag_events``: how many events are behind it.
    ``lag_ns``: for how long the first of them has been there, nanoseconds, 0 at the head.
    """

    name: str
    position: int
    updated_at_ns: int
    lag_events: int
    lag_ns: int


def mark_of(name: str) -> str:
    """The name of a cursor's mark."""
    return MARK + name


def encode_cursor(position: int, updated_at_ns: int) -> bytes:
    """What the mark of a cursor holds."""
    return _encode((position, updated_at_ns))


def marks_of(moved: Mapping[str, int | None], now_ns: int) -> dict[str, bytes | None]:
    """The marks of cursors that were moved to these positions, None where they were deleted."""
    return {
        mark_of(name): None if position is None else encode_cursor(position, now_ns)
        for name, position in moved.items()
    }


def decode_cursor(name: str, value: bytes) -> tuple[int, int]:
    """Position and time of the last change. Raises ``StoreDamaged``."""
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise StoreDamaged(
            f"the mark of cursor {quoted(name)} holds no position: {error}"
        ) from error


def moves(name: str, advance: Advance, at: int | None, head: int, beside_events: bool) -> bool:
    """Whether this changes the cursor, which is at ``at``, or does not exist.

    ``head``: the head before the append. Raises ``CursorMoved``, and ``BadRequest`` for a position beyond
    the head. Putting a cursor at 0 that does not exist makes it: its consumer has begun.
    """
    actual = at or 0
    position = advance.position
    if position is not None and position > head:
        raise BadRequest(
            f"cursor {quoted(name)} would be at {position}, and the head is {head}: give the position "
            "of an event that was read"
        )
    if advance.expected is not None and advance.expected != actual:
        raise CursorMoved(name, advance.expected, actual)
    if position is None:
        return at is not None
    if beside_events and position <= actual:
        raise _refused(
            name, advance, actual, f"beside events it moves forward, and not to {position}"
        )
    if position < actual and not advance.reset:
        raise _refused(name, advance, actual, f"it goes back to {position} only where reset is set")
    return position != at


def _refused(name: str, advance: Advance, actual: int, why: str) -> CursorMoved:
    message = f"cursor {quoted(name)} is at {actual}: {why}"
    return CursorMoved(name, advance.expected, actual, message)


def lagging(
    rows: Iterable[tuple[str, int, int]],
    head: int,
    now_ns: int,
    recorded_at_ns: Callable[[int], int],
) -> tuple[list[Cursor], bool]:
    """The cursors of these rows (name, position, time of the last change), and whether that is all of them.

    At most LAGS_MAX events are asked for their time, each once; then it ends early.
    """
    cursors: list[Cursor] = []
    times: dict[int, int] = {}
    for name, position, updated_at_ns in rows:
        lag_ns = 0
        if position < head:
            if position not in times:
                if len(times) == LAGS_MAX:
                    return cursors, False
                times[position] = recorded_at_ns(position + 1)
            lag_ns = max(now_ns - times[position], 0)
        cursors.append(Cursor(name, position, updated_at_ns, max(head - position, 0), lag_ns))
    return cursors, True
