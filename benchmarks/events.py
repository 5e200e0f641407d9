"""The events every system is given: 256 bytes each, in streams whose names all of them can take.

A filled store has the same shape at every size: one event in ten belongs to one of ``hot_streams``
streams of exactly 100 events each, spread over the whole store; the others to ten times as many
streams, nine or so in each. Of a million events that is 1,000 hot streams among 101,000.

Where events have tags, a stream's name says which: see ``labels``.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator

TYPE = "AccountCredited"
DATA_BYTES = 256
STREAMS = 1_000  # the appending workloads write to these
HOT_EVENTS = 100  # each stream that is read has so many
HOT_SHARE = 10  # one event in ten goes to a stream that is read
COLD_STREAMS_PER_HOT = 100
TYPES = (TYPE, "AccountDebited")  # events with tags are of either
BATCH_EVENTS = 500  # a projection keeps its place so often
DECIDED = "decided"  # the second tag of events that were decided upon
SHARED = 100  # so many tags are shared by the streams that are appended to

Pair = tuple[str, bytes]
"""A stream's name and an event's data."""

_PAYLOADS = 512  # so many differ that no store can compress or deduplicate them to nothing


def payloads() -> list[bytes]:
    """Data of events, to be used in turn."""
    return [os.urandom(DATA_BYTES) for _ in range(_PAYLOADS)]


def append_streams() -> list[str]:
    """The streams that the appending workloads write to."""
    return [f"stream-{number:04}" for number in range(STREAMS)]


def hot_streams(events: int) -> list[str]:
    """The streams of 100 events in a store filled with so many."""
    return [f"hot-{number:06}" for number in range(_hot_count(events))]


def paired_tags(events: int) -> list[str]:
    """The tags of 200 events, a hundred of each type, in a store with tags filled with so many."""
    return [f"pair-{number:06}" for number in range(max(1, _hot_count(events) // 2))]


def shared_tag(number: int) -> str:
    """A tag that one in ``SHARED`` of the streams that are appended to has."""
    return f"shared-{number:02}"


@functools.cache
def labels(stream: str) -> tuple[str, tuple[str, str]]:
    """The type and the two tags of the events of a stream, by its name.

    The first tag is the stream's own name. The second is shared: by two hot streams, which are of
    different types; by one in ``SHARED`` of the others.
    """
    kind, _, digits = stream.partition("-")
    number = int(digits)
    other = f"pair-{number // 2:06}" if kind == "hot" else shared_tag(number % SHARED)
    return TYPES[number % len(TYPES)], (stream, other)


def _hot_count(events: int) -> int:
    return max(1, events // (HOT_SHARE * HOT_EVENTS))


def filling(events: int, append_events: int = 1_000) -> Iterator[list[Pair]]:
    """What a store of so many events is filled with: the events of one append after the other."""
    data = payloads()
    hot = _hot_count(events)
    cold = hot * COLD_STREAMS_PER_HOT
    for begin in range(0, events, append_events):
        pairs = []
        for number in range(begin, min(begin + append_events, events)):
            turn, rest = divmod(number, HOT_SHARE)
            hot_name, cold_name = f"hot-{turn % hot:06}", f"cold-{(number - turn - 1) % cold:07}"
            pairs.append((cold_name if rest else hot_name, data[number % _PAYLOADS]))
        yield pairs
