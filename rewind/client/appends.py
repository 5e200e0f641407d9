"""What a caller appends, as it was given: events, expected versions, conditions, cursors.

What is of a wrong kind is refused here, by the name of its argument; bounds and characters are looked
at by checks.py. Nothing is sent. Next: requests.py.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable, Mapping

from rewind.arguments import flag_of, map_of, number_of, several, text_of, wrong_kind
from rewind.checks import check_append, names_in
from rewind.errors import BadRequest, one_line, quoted
from rewind.events import INT_MAX, Advance, Append, AppendEvent, NewEvent
from rewind.wire.native import encode

Pairs = Iterable[tuple[str, NewEvent]]
Cursors = Mapping[str, int | Advance]

# A message carries so many events, or 64 conditions, 64 cursors, 1,024 names or 4,096 expected versions.
WEIGHT_MAX = 1_024
CONDITION_WEIGHT = CURSOR_WEIGHT = 16
EXPECTED_PER_WEIGHT = 4


def with_stream(stream: str, events: NewEvent | Iterable[NewEvent]) -> list[tuple[str, NewEvent]]:
    """One or more events as (stream, event) pairs. Raises ``WrongKind``."""
    if isinstance(events, NewEvent):
        return [(stream, events)]
    found = several(events, "events", "give a NewEvent or a list of them")
    for index, event in enumerate(found):
        if not isinstance(event, NewEvent):
            raise wrong_kind(f"events[{index}]", event, "give a NewEvent")
    return [(stream, event) for event in found]


def pairs_of(events: Pairs) -> list[tuple[str, NewEvent]]:
    """(stream, event) pairs as a caller gave them. Raises ``WrongKind``."""
    advice = "give a list of (stream, event) pairs"
    pairs = []
    for index, pair in enumerate(several(events, "events", advice)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise wrong_kind(f"events[{index}]", pair, advice)
        stream, event = pair
        if not isinstance(event, NewEvent):
            raise wrong_kind(f"events[{index}][1]", event, "give a NewEvent")
        pairs.append((text_of(stream, f"events[{index}]: stream"), event))
    return pairs


def versions_of(expected: Mapping[str, int] | None) -> dict[str, int]:
    """Expected versions as a caller gave them, without those of ``ANY``. Raises ``BadRequest``."""
    return {
        text_of(stream, "a stream in expected"): version_of(version, f"expected[{quoted(stream)}]")
        for stream, version in map_of(expected, "expected").items()
        if version is not None
    }


def version_of(version: int, name: str) -> int:
    """An expected version as a caller gave it. Raises ``BadRequest``."""
    version = number_of(version, name, _VERSION_ADVICE)
    if not -1 <= version <= INT_MAX:
        raise BadRequest(f"{name} is {quoted(version)}: {_VERSION_ADVICE}")
    return version


_VERSION_ADVICE = f"give 0 (NO_STREAM), -1 (STREAM_EXISTS), 1 to {INT_MAX}, or None (ANY)"


def advances_of(cursors: Cursors | None) -> dict[str, Advance]:
    """Cursors as a caller gave them: name -> where it goes. Raises ``WrongKind``."""
    return {
        text_of(name, "a cursor in cursors"): _advance_of(where, f"cursors[{quoted(name)}]")
        for name, where in map_of(cursors, "cursors").items()
    }


def _advance_of(where: int | Advance, name: str) -> Advance:
    if not isinstance(where, Advance):
        return Advance(number_of(where, name, "give a position or an Advance"))
    position, expected = where.position, where.expected
    return Advance(
        None if position is None else number_of(position, f"{name}: position", "give a position"),
        None if expected is None else number_of(expected, f"{name}: expected", "give a position"),
        flag_of(where.reset, f"{name}: reset"),
    )


def append_event(stream: str, event: NewEvent) -> AppendEvent:
    """An event as an append carries it."""
    id = None if event.id is None else event.id.bytes
    return AppendEvent(id, stream, event.type, event.tags, event.metadata, event.data)


def encode_append(append: Append, event_bytes_max: int) -> bytes:
    """The body of an APPEND. Raises ``BadRequest`` and ``TooLarge``."""
    try:
        check_append(append, event_bytes_max)
        return encode(append)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        # An event was changed after it was made, so that its fields are of a kind that nobody looked at.
        raise BadRequest(f"the append cannot be encoded: {one_line(str(error))}") from error


def weight_of(append: Append) -> int:
    """How much of a message the append takes, of ``WEIGHT_MAX``: what weighs most of what it carries.

    The daemon bounds each kind in a message. The most that any kind weighs, added up over the appends
    of a message, is at least what each kind weighs in all of them.
    """
    return max(
        len(append.events),
        CONDITION_WEIGHT * len(append.conditions),
        CURSOR_WEIGHT * len(append.cursors),
        names_in(append),
        -(-len(append.expected) // EXPECTED_PER_WEIGHT),
    )


_chance = random.Random(os.urandom(32))  # os.urandom would be a system call for every append.
os.register_at_fork(after_in_child=lambda: _chance.seed(os.urandom(32)))


def new_append_id() -> bytes:
    """A UUID of version 7 (RFC 9562, section 5.7): 48 bits of milliseconds, then 74 random ones.

    In order of time, because a store's index of append ids then grows at one end.
    """
    random_bits = _chance.getrandbits(80) & ~0xF000_C000_0000_0000_0000
    high = (time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF) << 80
    return (high | random_bits | 0x7000_8000_0000_0000_0000).to_bytes(16, "big")
