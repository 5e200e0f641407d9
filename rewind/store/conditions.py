"""Append conditions: whether an event that matters has come since a decision was made.

A condition is judged against the store and against what earlier appends of the same commit add, so
that batching never changes an answer. Three places know the events: the backend's index, which is all
of them; ``RecentEvents``, which has what was committed last, so that a decision that was made a moment ago
costs a look into a dict and not a seek on the disk; and the commit that is being planned (plan.py).
The latter two are an ``EventIndex``, which is as exact as the backend's index.

Nothing is decided here about other rules of an append, nor in which order they apply: plan.py.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

from rewind.backends.contract import Found
from rewind.backends.matching import PositionList, Walk, find
from rewind.errors import BadRequest, ConditionFailed, ConditionTooWide
from rewind.events import Event, Record
from rewind.query import Condition, QueryItem, category_of

# A condition looks at so many places of an index: 4 ms of CPU in LevelDB, 8 ms in SQLite.
CONDITION_SEEKS_MAX = 1_100
POSTINGS_MAX = 16_384  # of an index in memory; two are kept: 3 MB, or 12 MB where names are long
CREDIT_EVENTS = 64  # to add so many events to an index in memory costs what a condition saves
CREDIT_EVENTS_MAX = 4_096  # conditions may pause for so many events

#: The items of a query, and a position: the first event behind it that matches, up to the head.
FirstMatch = Callable[[Sequence[QueryItem], int], Found]


def check_condition(index: int, condition: Condition, head: int, first_match: FirstMatch) -> None:
    """Raise ``ConditionFailed`` if an event matches, and ``ConditionTooWide`` if that was not found out.

    ``index``: of the append's conditions. ``head``: as it is in front of the append; ``first_match``
    looks up to there. Raises ``BadRequest`` for a decision made beyond it.
    """
    items, after = condition.fail_if_events_match, condition.after
    if after > head:
        raise BadRequest(
            f"conditions[{index}]: after is {after}, and the head is {head}: give the position that was "
            "read to"
        )
    if after == head:
        return
    if items is None:
        raise ConditionFailed(index, after + 1)
    found = first_match(items, after)
    if found.positions:
        raise ConditionFailed(index, found.positions[0])
    if found.reached < head:
        raise ConditionTooWide(index, found.reached)


class EventIndex:
    """An index in memory of neighbouring events, ``after < position <= until``; it grows at its end.

    ``count``: how many postings it has; one says that the event at a position has a name.
    """

    def __init__(self, after: int) -> None:
        self.after = self.until = after
        self.count = 0
        self._types: defaultdict[str, list[int]] = defaultdict(list)
        self._tags: defaultdict[str, list[int]] = defaultdict(list)
        self._categories: defaultdict[str, list[int]] = defaultdict(list)
        self._streams: defaultdict[str, list[int]] = defaultdict(list)

    def add(self, event: Event) -> None:
        """Take in the event behind the last."""
        position, tags = event.position, event.tags
        assert position == self.until + 1, "events are neighbours"
        self.until = position
        self._types[event.type].append(position)
        self._streams[event.stream].append(position)
        self._categories[category_of(event.stream)].append(position)
        for tag in tags:
            self._tags[tag].append(position)
        self.count += 3 + len(tags)

    def first(self, items: Sequence[QueryItem], after: int) -> Found:
        """The first event behind ``after`` that matches any of the items."""
        possible = [item for item in items if self._may_match(item, after)]
        if not possible:
            return Found([], self.until)
        return find(Walk(possible, self._open, after, self.until, False, CONDITION_SEEKS_MAX), 1)

    def _may_match(self, item: QueryItem, after: int) -> bool:
        """Whether whatever the item names has come behind ``after``, if not in one event."""
        for tag in item.tags:
            if not _behind(self._tags, tag, after):
                return False
        for names, lists in (
            (item.types, self._types),
            (item.streams, self._streams),
            (item.categories, self._categories),
        ):
            if names and not any(_behind(lists, name, after) for name in names):
                return False
        return True

    def _open(self, kind: str, name: str, backwards: bool) -> PositionList:
        lists = {
            "type": self._types,
            "tag": self._tags,
            "category": self._categories,
            "stream": self._streams,
        }[kind]
        return PositionList(lists.get(name, ()), backwards)


def _behind(lists: dict[str, list[int]], name: str, after: int) -> bool:
    positions = lists.get(name)
    return positions is not None and positions[-1] > after


class RecentEvents:
    """An index of what was committed last, kept while that pays for itself.

    Each condition that is asked pays for CREDIT_EVENTS events to be added. Two generations are kept:
    when the newer one is full, the older one is dropped.
    """

    def __init__(self, head: int) -> None:
        self._older: EventIndex | None = None
        self._newer = EventIndex(head)
        self._credit = 0

    @property
    def after(self) -> int:
        """All events behind this position are known here."""
        return (self._older or self._newer).after

    def first(self, items: Sequence[QueryItem], after: int) -> Found | None:
        """The first event behind ``after`` that matches; None if that is too long ago."""
        self._credit = min(self._credit + CREDIT_EVENTS, CREDIT_EVENTS_MAX)
        if after < self.after:
            return None
        older, newer = self._older, self._newer
        if older is not None and after < older.until:
            found = older.first(items, after)
            if found.positions or found.reached < older.until:
                return found
        return newer.first(items, max(after, newer.after))

    def add(self, records: Sequence[Record]) -> bool:
        """Take in records that were committed; False if too few conditions were asked to pay for that.

        Then it must not be used any longer.
        """
        self._credit -= len(records)
        if self._credit < 0:
            return False
        newer = self._newer
        for record in records:
            newer.add(record.event)
        if newer.count >= POSTINGS_MAX:
            self._older, self._newer = newer, EventIndex(newer.until)
        return True
