"""Reading up to damage: what is good in front of it, and the command line's way round it.

A page of a read that meets damage is refused as a whole, with everything good in it. Here the rest is
read in ever smaller ranges, until one event is left that cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from rewind.errors import Internal, StoreDamaged
from rewind.events import Event

RANGE_NUMBERS_MAX = 4096  # a few pages at once, and the damage in them is found in twelve halvings

DAMAGED = (StoreDamaged, Internal)  # the second is how a daemon says it

Range = Callable[[int, int], Iterator[Event]]
"""The events with ``after < number <= until``: positions, or versions of a stream."""


def good_events(read: Range, after: int, until: int, backwards: bool = False) -> Iterator[Event]:
    """The events of a range up to the damage in it, from its end if ``backwards``.

    Then the error that says what is damaged is raised, with a note of the option that leads round it.
    If the range can be read after all, it just ends.
    """
    numbers = RANGE_NUMBERS_MAX
    while after < until:
        numbers = min(numbers, until - after)
        low, high = (until - numbers, until) if backwards else (after, after + numbers)
        try:
            events = list(read(low, high))
        except DAMAGED as damage:
            if numbers == 1:
                way = f"--until {high - 1}" if backwards else f"--after {high}"
                damage.add_note(f"what lies behind it can be read with {way}")
                raise
            numbers //= 2
            continue
        yield from events
        after, until = (after, low) if backwards else (high, until)
