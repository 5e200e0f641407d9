"""Which events match a query: a walk through sorted lists of positions, whatever keeps those lists.

An index has, for each type, tag, category and stream, the positions of its events in order. A walk
asks them for one thing only, the first position at or behind a given one. What any of several names
has is a merge of their lists. What all of several names have is found by *leapfrog*: the list that is
behind seeks to the other's place, so that the shortest list decides what a walk costs, without any
count being kept (Veldhuizen, "Leapfrog Triejoin", 2012). A query is a merge of its items.

The work of a walk is bounded: it ends early, and says how far it looked.

A *place* is a position on the way of a walk: the position itself, or its negative backwards, so that
places always grow. Lists are in the backends; what the words mean is in query.py.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from heapq import heapify, heapreplace
from typing import Protocol

from rewind.backends.contract import Found
from rewind.query import QueryItem

# An item that finds nothing in so many seeks lets the next one go on. Several share what a walk may have.
ITEM_SEEKS_MAX = 64
ASKED_MIN = 8  # So often a list is asked before it may be left out of a walk that is sifted.
FURTHER_SEEKS = 200  # A walk that is sifted goes on for so many, however many names it has.

_END = 2**63  # it is behind every place
_START = -_END

#: Kind of name (``type``, ``tag``, ``category``, ``stream``), name, and whether to walk backwards.
OpenPlaces = Callable[[str, str, bool], "Places"]


class Places(Protocol):
    """The positions of the events of one name. ``cost``: how many places the last seek looked at."""

    cost: int

    def seek(self, position: int) -> int | None:
        """The first position of this name at ``position`` or behind it on the walk's way; None if there
        is none. A walk never asks for a position in front of one it has asked for."""


class PositionList:
    """A sorted list of positions as ``Places``."""

    cost = 1

    def __init__(self, positions: Sequence[int], backwards: bool) -> None:
        self._positions = positions
        self._backwards = backwards

    def seek(self, position: int) -> int | None:
        positions = self._positions
        if self._backwards:
            index = bisect_right(positions, position) - 1
            return positions[index] if index >= 0 else None
        index = bisect_left(positions, position)
        return positions[index] if index < len(positions) else None


class Walk:
    """The positions of the events that match any of these items, ``after < position <= until``.

    Iterate over it, and stop where enough was found. It ends by itself at the end of the range, or when
    it has looked at ``seeks_max`` places and at least at one of every name.

    ``sifted``: whoever walks compares each event with the items, and calls ``rejected`` where it does not
    match. Then a list that has held a third of the places it was asked for is not asked any more, while
    so many are not rejected: to seek in a long list, and then to read what is there, costs more than to
    read an event and look at it. ``sure``: whether all lists were asked for the position found last.

    ``reached``: what it has looked at, whole: everything up to this position, or, ``backwards``, down to
    it. ``places``: the lists that were asked for the position found last, one of each part of its item;
    they have not moved on.
    """

    def __init__(
        self,
        items: Sequence[QueryItem],
        open_places: OpenPlaces,
        after: int,
        until: int,
        backwards: bool,
        seeks_max: int,
        sifted: bool = False,
    ) -> None:
        self._sign = sign = -1 if backwards else 1
        self._first = -until if backwards else after + 1
        self._stop = -(after + 1) if backwards else until
        self._seeks = _Seeks(min(ITEM_SEEKS_MAX, seeks_max // max(len(items), 1)))
        self._items = [
            _Item(item, open_places, sign, sifted, self._seeks) for item in items if after < until
        ]
        self._seeks_max = seeks_max
        self._sifted = sifted
        self._found_by: _Item | None = None
        self.reached = until + 1 if backwards else after

    @property
    def places(self) -> list[Places]:
        return self._item().places()

    @property
    def sure(self) -> bool:
        return self._item().sure

    def rejected(self) -> None:
        """The event found last does not match."""
        self._item().rejected()

    def _item(self) -> _Item:
        """The item that the position found last is of."""
        assert self._found_by is not None, "a position was found"
        return self._found_by

    def __iter__(self) -> Iterator[int]:
        items, sign, stop, seeks = self._items, self._sign, self._stop, self._seeks
        # The next place of each item: 0 if it matches, 1 if that is not known yet; the item's number.
        heap = [(*item.seek(self._first), index) for index, item in enumerate(items)]
        heapify(heap)
        seeks_max = self._seeks_max
        if self._sifted:
            # A page of a thousand names would otherwise be over when each was looked at once.
            seeks_max = max(seeks_max, seeks.count + FURTHER_SEEKS)
        last = _START
        while heap:
            place, unknown, index = heap[0]
            if place > stop:
                break
            if not unknown and place != last:
                last = place
                self.reached = sign * place
                self._found_by = items[index]
                yield sign * place
            if seeks.count >= seeks_max:
                # The place of an item that does not know yet whether it matches is left out, unless
                # another item has found it.
                self.reached = sign * max(place - unknown, last)
                return
            next_place = place if unknown else place + 1
            heapreplace(heap, (*items[index].seek(next_place), index))
        if items:
            self.reached = sign * stop


class _Seeks:
    """How many places a walk has looked at. ``item_max``: an item may look at so many at a time."""

    def __init__(self, item_max: int) -> None:
        self.count = 0
        self.item_max = item_max


class _Item:
    """What an item asks for: one merged list for each part of it, and a leapfrog through them."""

    def __init__(
        self, item: QueryItem, open_places: OpenPlaces, sign: int, sifted: bool, seeks: _Seeks
    ) -> None:
        def merged(kind: str, names: Sequence[str]) -> _Merged:
            return _Merged([open_places(kind, name, sign < 0) for name in names], sign, seeks)

        parts = [merged("tag", (tag,)) for tag in item.tags]
        for kind, names in (
            ("stream", item.streams),
            ("type", item.types),
            ("category", item.categories),
        ):
            if names:
                parts.append(merged(kind, names))
        self._parts = self._asked = parts
        self._sifted = sifted
        self._seeks = seeks
        # Since parts are left out: how many places were found, and how many of them rejected.
        self._found = self._rejected = 0

    @property
    def sure(self) -> bool:
        """Whether all parts are asked."""
        return len(self._asked) == len(self._parts)

    def rejected(self) -> None:
        """Ask all parts again, if those that are left out would have disagreed too often."""
        self._rejected += 1
        if 3 * self._rejected > 2 * (self._found + ASKED_MIN):
            self._asked = self._parts
            for part in self._parts:
                part.asked = part.agreed = 0

    def _ask_fewer(self) -> None:
        """Leave out the parts that often agree, but one."""
        differ = [part for part in self._asked if not part.agrees]
        self._asked = differ or self._asked[:1]
        self._found = self._rejected = 0

    def seek(self, place: int) -> tuple[int, int]:
        """The first place from ``place`` on where all parts are, and 0; or one in front of which none is,
        and 1, when there was too much to look at."""
        parts = self._asked
        self._found += 1
        if len(parts) == 1:
            return parts[0].seek(place), 0
        begun, seeks_max = place, self._seeks.count + self._seeks.item_max
        agreed = 0
        while True:
            for part in parts:
                found = part.seek(place)
                part.asked += 1
                if found == place:
                    part.agreed += 1
                    agreed += 1
                else:
                    place, agreed = found, 1
                if agreed == len(parts) or place == _END:
                    if self._sifted and any(part.agrees for part in parts):
                        self._ask_fewer()
                    return place, 0
            if place > begun and self._seeks.count >= seeks_max:
                return place, 1

    def places(self) -> list[Places]:
        return [part.places() for part in self._asked]


class _Merged:
    """The places of any of several names, in order."""

    def __init__(self, lists: list[Places], sign: int, seeks: _Seeks) -> None:
        self._lists = lists
        self._sign = sign
        self._seeks = seeks
        self._heap = [(_START, index) for index in range(len(lists))]
        # How often an item has asked for a place, and it was there.
        self.asked = self.agreed = 0

    @property
    def agrees(self) -> bool:
        """Whether it has often held what it was asked for."""
        return self.asked >= ASKED_MIN and 3 * self.agreed >= self.asked

    def seek(self, place: int) -> int:
        """The first place from ``place`` on; ``_END`` if there is none."""
        heap, sign = self._heap, self._sign
        while (least := heap[0])[0] < place:
            places = self._lists[least[1]]
            position = places.seek(sign * place)
            self._seeks.count += places.cost
            heapreplace(heap, (_END if position is None else sign * position, least[1]))
        return heap[0][0]

    def places(self) -> Places:
        """The list of the place that was found last."""
        return self._lists[self._heap[0][1]]


def find(walk: Walk, limit: int) -> Found:
    """The first positions of a walk, at most ``limit``, and how far it looked for them."""
    positions: list[int] = []
    if limit > 0:
        for position in walk:
            positions.append(position)
            if len(positions) == limit:
                break
    return Found(positions, walk.reached)
