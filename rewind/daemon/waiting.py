"""Reads that wait for events: which of them does a commit concern?

An event that cannot match wakes nobody. With a thousand reads waiting and a commit of a thousand events,
trying each with each would take a second. So the table is inverted: a read is filed under *keys*, names
of which every event that matches it has one. It is filed under one key for each item of a query: a
stream, a tag, or all of its types. An event looks its own names up, and only what is filed there is
compared whole. A read of everything is filed by position instead, and waits for the head to get there.

A read knows the place up to which nothing matches it, and goes on from there when it has its turn.

Nothing here knows a store, a socket or a clock. Who has a turn when: reads.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Any

import msgspec

from rewind.events import Event, Record
from rewind.query import QueryItem, category_of, matcher
from rewind.wire.envelope import Request
from rewind.wire.native import Read

COMPARED_MAX = 4_096  # a commit compares so many reads with events, in 3 ms; others look themselves
PLACE_NAMES = 64  # a query of more names takes another place for so many: 30 kB where they are long
STALE_MAX = 64  # a heap is made anew when so many entries, and half of them, are of reads that left

#: Kind of name (``stream``, ``tag``, ``type``, ``category``, ``prefix``), name.
_Key = tuple[str, str]


class WaitingRead(msgspec.Struct):
    """A READ that has found nothing and waits for events until ``deadline_s`` (monotonic).

    ``after``: nothing up to this position, or version of its stream, matches. ``connection``: the number
    of the one it came over; None where that is not known. ``places``: how many it takes.
    """

    request: Request
    read: Read
    after: int
    deadline_s: float
    connection: int | None
    places: int = 1

    def further(self) -> Read:
        """What is left of the read."""
        until = self.read.until
        after = self.after if until is None else min(self.after, until)
        return msgspec.structs.replace(self.read, after=after)


class _Filed(msgspec.Struct):
    """A waiting read, the keys it is filed under, and what an event with such a key is asked further.

    ``matches``: None until it is needed. ``by_key``: an event that has a key matches, without a look.
    """

    waiting: WaitingRead
    keys: Sequence[_Key]
    by_key: bool
    matches: Callable[[Event], bool] | None = None


class Waiting:
    """Reads that wait, by what they wait for. Each is in it until a method hands it out."""

    def __init__(self) -> None:
        self._reads: dict[int, _Filed] = {}  # By a number that grows with each read.
        self._number = 0
        self._head = 0  # Every event up to here was looked at for the reads that are here.
        self.places = 0  # All reads here take so many together.
        self._each: Counter[bytes] = Counter()  # Places by peer; whose is 0 is not in it.
        self._deadlines = _Due()
        # A read has a turn when the head gets there, whatever the events are.
        self._positions = _Due()
        self._by_key: dict[str, dict[str, dict[int, _Filed]]] = {
            kind: {} for kind in ("stream", "tag", "type", "category", "prefix")
        }

    def __len__(self) -> int:
        return len(self._reads)

    def __iter__(self) -> Iterator[WaitingRead]:
        return (filed.waiting for filed in self._reads.values())

    def places_of(self, peer: bytes) -> int:
        """How many places the waiting reads of this peer take."""
        return self._each.get(peer, 0)

    def due_s(self) -> float | None:
        """The first deadline; None if no read waits."""
        return self._deadlines.first(self._reads)

    def add(self, waiting: WaitingRead) -> None:
        """File a read. It has seen everything that ``take`` was told of."""
        self._number += 1
        number, read = self._number, waiting.read
        position = None if read.stream is not None else read.until
        if read.unfiltered:
            filed = _Filed(waiting, (), True)
            position = (
                waiting.after + 1 if read.until is None else min(waiting.after + 1, read.until)
            )
        else:
            keys, by_key = self._keys_of(read)
            filed = _Filed(waiting, keys, by_key)
            for kind, name in keys:
                self._by_key[kind].setdefault(name, {})[number] = filed
        self._reads[number] = filed
        self.places += waiting.places
        self._each[waiting.request.peer] += waiting.places
        self._deadlines.add(waiting.deadline_s, number, self._reads)
        if position is not None:
            self._positions.add(position, number, self._reads)

    def _keys_of(self, read: Read) -> tuple[list[_Key], bool]:
        """The keys of a read: every event that matches has one. And whether every such event matches."""
        if read.query is not None:
            by_items = [self._keys_of_item(item) for item in read.query]
            keys = [key for keys, _ in by_items for key in keys]
            return list(dict.fromkeys(keys)), read.since is None and all(by for _, by in by_items)
        if read.stream is not None or read.tags or read.types:
            keys, by_key = self._keys_of_item(read.item())
            return keys, by_key and not read.prefix and read.since is None
        return [("prefix", read.prefix or "")], read.since is None

    def _keys_of_item(self, item: QueryItem) -> tuple[list[_Key], bool]:
        kinds = (item.streams, item.tags, item.types, item.categories)
        alone = sum(map(bool, kinds)) == 1
        if item.streams:
            return [("stream", stream) for stream in item.streams], alone
        if item.tags:
            # A tag that others wait for too is probably a common one.
            filed = self._by_key["tag"]
            tag = min(item.tags, key=lambda tag: len(filed.get(tag, ())))
            return [("tag", tag)], alone and len(item.tags) == 1
        if item.types:
            return [("type", type) for type in item.types], alone
        return [("category", category) for category in item.categories], alone

    # Taking reads out

    def take(self, records: Sequence[Record], now_s: float) -> list[WaitingRead]:
        """The reads that these events concern, which follow all it was told of before, and those whose
        time is up: in the order in which they came."""
        taken: dict[int, WaitingRead] = {}
        if records:
            if self._reads:
                self._look_up(records, taken)
            self._head = records[-1].event.position
            for number in self._positions.pop(self._head, self._reads):
                plain = not self._reads[number].keys
                taken[number] = self._remove(number) if plain else self._remove_unmatched(number)
        for number in self._deadlines.pop(now_s, self._reads):
            taken[number] = self._remove_unmatched(number)
        return [taken[number] for number in sorted(taken)]

    def take_where(self, chosen: Callable[[WaitingRead], bool]) -> list[WaitingRead]:
        """The reads that are chosen, in the order in which they came."""
        numbers = [number for number, filed in self._reads.items() if chosen(filed.waiting)]
        return [self._remove_unmatched(number) for number in numbers]

    def _look_up(self, records: Sequence[Record], taken: dict[int, WaitingRead]) -> None:
        """Take the reads that are filed under what these events have, and match them."""
        streams, tags, types, categories, prefixes = self._by_key.values()
        lengths = {len(prefix) for prefix in prefixes}
        left = COMPARED_MAX
        for record in records:
            event = record.event
            found = []
            if streams and (filed := streams.get(event.stream)):
                found.append(filed)
            if tags:
                found += [filed for tag in event.tags if (filed := tags.get(tag))]
            if types and (filed := types.get(event.type)):
                found.append(filed)
            if categories and (filed := categories.get(category_of(event.stream))):
                found.append(filed)
            for length in lengths:
                if filed := prefixes.get(event.stream[:length]):
                    found.append(filed)
            for filed in found:
                left -= len(filed)
                for number in list(filed):
                    if number in self._reads and self._concerns(filed[number], event, left > 0):
                        taken[number] = self._remove(number)

    def _concerns(self, filed: _Filed, event: Event, compare: bool) -> bool:
        """Whether a read has a turn because of this event; if not, it need not look at it later either."""
        waiting, read = filed.waiting, filed.waiting.read
        place = event.position if read.stream is None else event.version
        over = read.stream is not None and place == read.until
        if place <= waiting.after:  # It waits for what comes behind a place that is not there yet.
            return over or not compare
        if not filed.by_key and compare:
            if filed.matches is None:
                filed.matches = _matches(read)
            if not filed.matches(event) and not over:
                if read.stream is not None:
                    waiting.after = place
                return False
        waiting.after = place - 1
        return True

    def _remove(self, number: int) -> WaitingRead:
        filed = self._reads.pop(number)
        for kind, name in filed.keys:
            names = self._by_key[kind]
            del names[name][number]
            if not names[name]:
                del names[name]
        waiting = filed.waiting
        peer = waiting.request.peer
        self.places -= waiting.places
        self._each[peer] -= waiting.places
        if not self._each[peer]:
            del self._each[peer]
        return waiting

    def _remove_unmatched(self, number: int) -> WaitingRead:
        """Remove a read that nothing up to the head matches: it need not look there again."""
        waiting = self._remove(number)
        if waiting.read.stream is None:
            waiting.after = max(waiting.after, self._head)
        return waiting


def places_of(read: Read) -> int:
    """How many of the places for waiting reads this one takes: the names of a query are memory."""
    if read.query is None:
        return 1
    return -(-sum(item.names for item in read.query) // PLACE_NAMES)


def _matches(read: Read) -> Callable[[Event], bool]:
    """A function that tells whether an event is what the read asks for, its range aside."""
    items = read.query
    if items is None and (read.stream is not None or read.types or read.tags):
        items = (read.item(),)
    named, prefix, since_ns = matcher(items), read.prefix or "", read.since or 0

    def matches(event: Event) -> bool:
        return (
            event.recorded_at_ns >= since_ns
            and event.stream.startswith(prefix)
            and named(event.stream, event.type, event.tags)
        )

    return matches


class _Due:
    """Numbers of reads by when each is due: a time, or a position. Those of reads that left are dropped
    when they come up, or when there are too many of them."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []

    def add(self, when: float, number: int, live: dict[int, Any]) -> None:
        """``live``: the numbers of the reads that wait, as of the other methods."""
        heappush(self._heap, (when, number))
        if len(self._heap) > 2 * len(live) + STALE_MAX:
            self._heap = [entry for entry in self._heap if entry[1] in live]
            heapify(self._heap)

    def first(self, live: dict[int, Any]) -> float | None:
        """When the first is due."""
        heap = self._heap
        while heap and heap[0][1] not in live:
            heappop(heap)
        return heap[0][0] if heap else None

    def pop(self, until: float, live: dict[int, Any]) -> Iterator[int]:
        """Those that are due by then, one after another; each may leave meanwhile."""
        while (first := self.first(live)) is not None and first <= until:
            yield heappop(self._heap)[1]
