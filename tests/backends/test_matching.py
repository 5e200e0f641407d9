"""A walk through lists of positions against what is plainly so, and how little it looks at."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right

import pytest

from rewind.backends import matching
from rewind.backends.contract import SEEKS_MAX
from rewind.backends.matching import FURTHER_SEEKS, ITEM_SEEKS_MAX, Places, Walk, find
from rewind.query import QueryItem, category_of, matcher

Event = tuple[
    str, str, tuple[str, ...]
]  # It is a stream, a type and tags; its index is its position - 1.

TYPES, TAGS, STREAMS = "xyz", "pqrst", ("a-1", "a-2", "b-1", "c")


class Lists:
    """The positions of each name of some events, and how many places were looked at."""

    def __init__(self, events: list[Event]) -> None:
        self.seeks = 0
        self.positions: dict[tuple[str, str], list[int]] = {}
        for position, (stream, type, tags) in enumerate(events, 1):
            names = {("stream", stream), ("type", type), ("category", category_of(stream))}
            for name in names | {("tag", tag) for tag in tags}:
                self.positions.setdefault(name, []).append(position)

    def open(self, kind: str, name: str, backwards: bool) -> Places:
        return List(self, self.positions.get((kind, name), []), backwards)


class List:
    """One list, which refuses to be walked to and fro."""

    cost = 1

    def __init__(self, lists: Lists, positions: list[int], backwards: bool) -> None:
        self.lists, self.positions, self.backwards = lists, positions, backwards
        self.asked = 2**63 if backwards else -1

    def seek(self, position: int) -> int | None:
        assert (position < self.asked) if self.backwards else (position > self.asked)
        self.asked = position
        self.lists.seeks += 1
        if self.backwards:
            index = bisect_right(self.positions, position) - 1
            return self.positions[index] if index >= 0 else None
        index = bisect_left(self.positions, position)
        return self.positions[index] if index < len(self.positions) else None


def some_events(rng: random.Random, count: int) -> list[Event]:
    return [
        (rng.choice(STREAMS), rng.choice(TYPES), tuple(rng.sample(TAGS, rng.randint(0, 4))))
        for _ in range(count)
    ]


def some_item(rng: random.Random) -> QueryItem:
    """An item of a few names, of which some have no events."""
    while True:
        chosen = {
            name: rng.sample(names, rng.randint(1, 3))
            for name, names in (
                ("types", [*TYPES, "w"]),
                ("tags", [*TAGS]),
                ("categories", ["a", "b", "c", "d"]),
                ("streams", [*STREAMS, "d-1"]),
            )
            if rng.random() < 0.4
        }
        if chosen:
            return QueryItem(**chosen)


def walk_page_by_page(
    rng: random.Random, lists: Lists, items: list[QueryItem], after: int, until: int, back: bool
) -> list[int]:
    """Everything that walks find which end early, each going on where the one before has ended."""
    limit, seeks_max = rng.randint(1, 5), rng.choice([1, 2, 10, 1_000])
    positions = []
    while after < until:
        found = find(Walk(items, lists.open, after, until, back, seeks_max), limit)
        positions += found.positions
        assert after < found.reached <= until, "a walk gets on"
        assert all(
            position >= found.reached if back else position <= found.reached
            for position in found.positions
        )
        if back:
            until = found.reached - 1
        else:
            after = found.reached
    return positions


@pytest.mark.parametrize("seed", range(100))
def test_walks_find_what_matches_in_order_however_often_they_end_early(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(matching, "ITEM_SEEKS_MAX", rng.choice([1, 3, ITEM_SEEKS_MAX]))
    events = some_events(rng, rng.randint(0, 60))
    lists = Lists(events)
    for _ in range(20):
        items = [some_item(rng) for _ in range(rng.randint(1, 3))]
        after, until, back = rng.randint(0, 60), rng.randint(0, len(events)), rng.random() < 0.5
        matches = matcher(items)
        wanted = [
            position for position in range(after + 1, until + 1) if matches(*events[position - 1])
        ]
        found = walk_page_by_page(rng, lists, items, after, until, back)
        assert found == (wanted[::-1] if back else wanted), (seed, items, after, until, back)


@pytest.mark.parametrize("seed", range(100))
def test_a_sifted_walk_finds_what_matches_and_some_that_does_not(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    monkeypatch.setattr(matching, "ASKED_MIN", rng.choice([1, 2, 8]))
    events = some_events(rng, rng.randint(100, 300))
    if rng.random() < 0.5:  # Long stretches of one type, so that a list which agrees ceases to.
        events = [
            ("a-1", "x" if index // 50 % 2 else "y", tags)
            for index, (_, _, tags) in enumerate(events)
        ]
    lists = Lists(events)
    for _ in range(20):
        items = [some_item(rng) for _ in range(rng.randint(1, 3))]
        back, matches = rng.random() < 0.5, matcher(items)
        walk = Walk(items, lists.open, 0, len(events), back, 10_000, sifted=True)
        found = []
        for position in walk:
            if matches(*events[position - 1]):
                found.append(position)
            else:
                assert not walk.sure
                walk.rejected()
        wanted = [position for position, event in enumerate(events, 1) if matches(*event)]
        assert found == (wanted[::-1] if back else wanted), (seed, items, back)


def test_a_sifted_walk_does_not_ask_a_list_that_agrees() -> None:
    events: list[Event] = [
        ("a-1", "x", ("p",) if index % 10 else ("p", "q")) for index in range(10_000)
    ]
    item = QueryItem(types=["x"], tags=["p", "q"])
    asked = {}
    for sifted in (False, True):
        lists = Lists(events)
        walk = Walk([item], lists.open, 0, len(events), False, 4 * SEEKS_MAX, sifted)
        assert len(find(walk, 500).positions) == 500
        asked[sifted] = lists.seeks
    assert asked[False] > 1_500 > 600 > asked[True]


def test_a_range_without_positions_is_reached_at_once() -> None:
    lists = Lists([("a-1", "x", ())])
    assert find(Walk([QueryItem(types=["x"])], lists.open, 1, 1, False, 9), 9) == ([], 1)
    assert find(Walk([QueryItem(types=["x"])], lists.open, 1, 1, True, 9), 9) == ([], 2)
    assert lists.seeks == 0


def test_the_shortest_list_decides_what_a_walk_looks_at() -> None:
    events: list[Event] = [("a-1", "x", ("often",))] * 100_000
    for position in range(10_000, 100_001, 10_000):
        events[position - 1] = ("a-1", "x", ("often", "rare"))
    lists = Lists(events)
    item = QueryItem(types=["x"], tags=["often", "rare"])
    found = find(Walk([item], lists.open, 0, len(events), False, SEEKS_MAX), 1_000)
    assert found == (list(range(10_000, 100_001, 10_000)), 100_000)
    assert lists.seeks < 60  # It is three lists with ten places each, and their ends.


def test_lists_that_never_meet_are_left_after_so_many_seeks() -> None:
    events: list[Event] = [("a-1", "x", ("p",)), ("a-1", "y", ("q",))] * 5_000
    lists = Lists(events)
    walk = Walk([QueryItem(types=["x"], tags=["q"])], lists.open, 0, len(events), False, 500)
    found = find(walk, 10)
    assert found.positions == []
    assert 400 < found.reached <= 600
    assert lists.seeks <= 500 + ITEM_SEEKS_MAX


def test_many_items_look_at_no_more_than_one_does() -> None:
    events: list[Event] = [("a-1", "x", ("p",)), ("a-1", "y", ("q",))] * 5_000
    lists = Lists(events)
    items = [QueryItem(types=["x"], tags=["q"])] * 64
    assert find(Walk(items, lists.open, 0, len(events), False, 1_000), 10).positions == []
    assert lists.seeks <= 2_000


def test_what_a_list_looks_at_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Event] = [("a-1", "x", ())] * 1_000
    monkeypatch.setattr(List, "cost", 10)
    lists = Lists(events)
    found = find(Walk([QueryItem(types=["x"])], lists.open, 0, len(events), False, 100), 1_000)
    assert len(found.positions) == lists.seeks == 10


def test_an_item_that_finds_nothing_does_not_hold_the_others_up() -> None:
    events: list[Event] = [("a-1", "x", ("p",)), ("a-1", "y", ("q",))] * 5_000
    lists = Lists(events)
    never, always = QueryItem(types=["x"], tags=["q"]), QueryItem(types=["y"])
    found = find(Walk([never, always], lists.open, 0, len(events), False, 1_000), 10_000)
    assert found.positions == list(range(2, found.reached + 1, 2))
    assert found.reached > 200


def test_a_page_of_many_names_has_more_than_an_event() -> None:
    events: list[Event] = [(f"a-{index % 1_024}", "x", ()) for index in range(2_000)]
    lists = Lists(events)
    item = QueryItem(streams=[f"a-{index}" for index in range(1_024)])
    walk = Walk([item], lists.open, 0, len(events), False, 1_000, sifted=True)
    positions, reached = find(walk, 10_000)
    assert positions == list(range(1, reached + 1)) and len(positions) >= FURTHER_SEEKS


@pytest.mark.parametrize("back", [False, True])
def test_a_walk_that_ends_early_has_reached_what_it_found(back: bool) -> None:
    events: list[Event] = [("a-1", "x", ("p",)), ("a-1", "y", ("q",))] * 100
    items = [QueryItem(types=["x"], tags=["q"]), QueryItem(categories=["a"])]
    for seeks_max in range(1, 400):  # The first item has given up where the second one finds.
        lists = Lists(events)
        positions, reached = find(Walk(items, lists.open, 0, 200, back, seeks_max), 10_000)
        assert positions == list(range(200, reached - 1, -1) if back else range(1, reached + 1))


@pytest.mark.parametrize("back", [False, True])
def test_the_lists_where_a_position_was_found_are_known(back: bool) -> None:
    lists = Lists(some_events(random.Random(1), 50))
    walk = Walk(
        [QueryItem(types=["x", "y"], categories=["a"]), QueryItem(tags=["p"])],
        lists.open,
        0,
        50,
        back,
        999,
    )
    for position in walk:
        assert len(walk.places) == (
            2 if position in lists.open("category", "a", back).positions else 1
        )
        for places in walk.places:
            assert isinstance(places, List) and position in places.positions
            assert places.seek(position - 1 if back else position + 1) != position
        break
