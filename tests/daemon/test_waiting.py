"""Which waiting reads a commit concerns: against comparing every read with every event."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest

from rewind.daemon import waiting as module
from rewind.daemon.waiting import STALE_MAX, Waiting, WaitingRead
from rewind.events import AppendEvent, Record, make_record
from rewind.query import QueryItem, category_of
from rewind.wire.envelope import Request
from rewind.wire.native import Read


def waiting_read(deadline_s: float = 100.0, peer: bytes = b"p", **asked: Any) -> WaitingRead:
    read = Read(**asked)
    return WaitingRead(
        Request([peer], "native", b"", read, b""), read, read.after, deadline_s, None
    )


class Log:
    """Records one behind the other, at positions, versions and times that grow by one."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.versions: Counter[str] = Counter()

    def add(self, stream: str = "s", type: str = "t", *tags: str) -> Record:
        position = len(self.records) + 1
        self.versions[stream] += 1
        event = AppendEvent(None, stream, type, tags, {}, b"")
        record = make_record(
            event,
            position=position,
            recorded_at_ns=position * 1_000,
            id=bytes(16),
            version=self.versions[stream],
        )
        self.records.append(record)
        return record

    def matching(self, read: Read, after: int) -> list[int]:
        """Where a read finds something behind a place, plainly: positions, or versions of its stream."""
        found = []
        for record in self.records:
            event = record.event
            place = event.position if read.stream is None else event.version
            wanted = (
                (read.stream is None or event.stream == read.stream)
                and event.stream.startswith(read.prefix or "")
                and (not read.types or event.type in read.types)
                and set(read.tags) <= set(event.tags)
                and event.recorded_at_ns >= (read.since or 0)
                and (read.query is None or any(_has(item, record) for item in read.query))
            )
            if wanted and place > after and (read.until is None or place <= read.until):
                found.append(place)
        return found


def _has(item: QueryItem, record: Record) -> bool:
    event = record.event
    return (
        (not item.types or event.type in item.types)
        and set(item.tags) <= set(event.tags)
        and (not item.categories or category_of(event.stream) in item.categories)
        and (not item.streams or event.stream in item.streams)
    )


# --- by example -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "concerned"),
    [
        ({}, True),
        ({"after": 7}, True),
        ({"after": 8}, False),
        ({"stream": "order-1"}, True),
        ({"stream": "order-1", "after": 1}, False),
        ({"stream": "order-2"}, False),
        ({"stream": "order-1", "types": ("other",)}, False),
        ({"types": ("other", "placed")}, True),
        ({"types": ("other",)}, False),
        ({"tags": ("vip", "eu")}, True),
        ({"tags": ("vip", "us")}, False),
        ({"prefix": "order-"}, True),
        ({"prefix": "order-1"}, True),
        ({"prefix": "order-10"}, False),
        ({"prefix": "o", "types": ("placed",)}, True),
        ({"prefix": "x", "types": ("placed",)}, False),
        ({"since": 8_000}, True),
        ({"since": 8_001}, False),
        ({"tags": ("vip",), "since": 8_001}, False),
        ({"query": (QueryItem(categories=("order",)),)}, True),
        ({"query": (QueryItem(categories=("order-1",)),)}, False),
        ({"query": (QueryItem(tags=("us",)), QueryItem(tags=("eu",)))}, True),
        ({"query": (QueryItem(tags=("eu",), types=("other",)),)}, False),
        ({"query": (QueryItem(streams=("x", "order-1"), categories=("order",)),)}, True),
        ({"query": (QueryItem(types=("placed",)),), "since": 8_001}, False),
    ],
    ids=str,
)
def test_a_commit_concerns_who_finds_something_in_it(
    asked: dict[str, Any], concerned: bool
) -> None:
    log, table = Log(), Waiting()
    for _ in range(7):
        log.add("before")
    read = waiting_read(**{"after": 0 if "stream" in asked else 7, **asked})
    table.add(read)
    assert table.take([log.add("order-1", "placed", "eu", "vip")], 0.0) == [read] * concerned
    assert len(table) == (not concerned)


def test_a_read_goes_on_in_front_of_what_woke_it() -> None:
    log, table = Log(), Waiting()
    table.add(waiting_read(types=("wanted",)))
    table.add(waiting_read(stream="s", types=("wanted",)))
    assert table.take([log.add("s"), log.add("t")], 0.0) == []
    records = [log.add("s"), log.add("t"), log.add("s", "wanted")]
    assert [read.further().after for read in table.take(records, 0.0)] == [4, 2]


def test_a_read_whose_time_is_up_has_seen_everything() -> None:
    log, table = Log(), Waiting()
    table.add(waiting_read(deadline_s=2.0, types=("wanted",)))
    table.add(waiting_read(deadline_s=1.0, tags=("wanted",), until=2))
    table.add(waiting_read(deadline_s=3.0, stream="s", types=("wanted",)))
    assert table.due_s() == 1.0
    assert table.take([log.add("s")], 0.0) == []
    (read,) = table.take([], 1.0)
    assert (read.further().after, table.due_s()) == (1, 2.0)
    log.add("s")
    assert [read.further().after for read in table.take(log.records[1:], 3.0)] == [2, 2]
    assert table.due_s() is None and not table


def test_reads_are_taken_in_the_order_in_which_they_came() -> None:
    log, table = Log(), Waiting()
    reads = [waiting_read(types=(type,)) for type in ("c", "a", "b")]
    reads.append(waiting_read())
    for read in reads:
        table.add(read)
    assert table.take([log.add("s", type) for type in ("a", "b", "c")], 0.0) == reads


def test_a_tag_that_many_wait_for_is_not_what_a_read_is_filed_under() -> None:
    table = Waiting()
    for n in range(10):
        table.add(waiting_read(tags=("all", f"one-{n}")))
    assert max(len(filed) for filed in table._by_key["tag"].values()) == 1


def test_beyond_its_bound_a_commit_wakes_reads_without_comparing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COMPARED_MAX", 3)
    log, table = Log(), Waiting()
    reads = [waiting_read(types=("t",), prefix="none") for _ in range(2)]
    for read in reads:
        table.add(read)
    assert table.take([log.add()], 0.0) == []
    assert table.take([log.add(), log.add(), log.add()], 0.0) == reads
    assert [read.further().after for read in reads] == [2, 2]


def test_reads_that_wait_for_a_place_far_ahead_hold_no_commit_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "COMPARED_MAX", 150)
    log, table = Log(), Waiting()
    reads = [waiting_read(types=("t",), after=10**9) for _ in range(50)]
    reads += [waiting_read(stream="s", after=10**9) for _ in range(50)]
    for read in reads:
        table.add(read)
    assert table.take([log.add("s")], 0.0) == []
    # Each event is looked up for all of them, so after a few events they look themselves.
    assert table.take([log.add("s") for _ in range(1_000)], 0.0) == reads
    assert {read.further().after for read in reads} == {10**9}


def test_reads_that_left_are_not_kept() -> None:
    table = Waiting()
    for n in range(10 * STALE_MAX):
        table.add(waiting_read(until=10**9, types=("t",), deadline_s=float(n)))
        assert len(table.take_where(lambda read: True)) == 1
    for heap in (table._deadlines._heap, table._positions._heap):
        assert len(heap) <= STALE_MAX + 2
    assert not any(table._by_key.values()) and table.places_of(b"p") == table.places == 0


# --- at random --------------------------------------------------------------------------

STREAMS = ("a-1", "a-2", "ab-1", "a", "-b", "b")
TYPES, TAGS = ("", "t", "u", "v"), ("x", "y", "z")


def some(choose: random.Random, names: Sequence[str], most: int = 2) -> tuple[str, ...]:
    return tuple(choose.sample(names, choose.randint(0, most)))


def random_item(choose: random.Random) -> QueryItem:
    while True:
        parts: dict[str, Any] = {
            "types": some(choose, TYPES),
            "tags": some(choose, TAGS),
            "categories": some(choose, ("a", "ab", "-b", "b")) if choose.random() < 0.4 else (),
            "streams": some(choose, STREAMS) if choose.random() < 0.4 else (),
        }
        if any(parts.values()):
            return QueryItem(**parts)


def random_read(choose: random.Random, log: Log) -> dict[str, Any]:
    asked: dict[str, Any] = {}
    kind = choose.choice(("query", "stream", "prefix", "names", "all"))
    if kind == "query":
        asked["query"] = tuple(random_item(choose) for _ in range(choose.randint(1, 3)))
    elif kind == "stream":
        asked["stream"] = choose.choice(STREAMS)
    elif kind == "prefix":
        asked["prefix"] = choose.choice(("", "a", "a-", "ab", "c"))
    if kind not in ("query", "all"):
        asked |= {"types": some(choose, TYPES), "tags": some(choose, TAGS)}
    head = log.versions[asked["stream"]] if kind == "stream" else len(log.records)
    asked["after"] = head + (choose.randrange(6) if choose.random() < 0.2 else 0)
    if choose.random() < 0.2:
        asked["until"] = head + choose.randint(1, 10)
    if choose.random() < 0.2:
        asked["since"] = 1_000 * (len(log.records) + choose.randint(0, 10))
    return asked


@pytest.mark.parametrize("seed", [1, 2, 3, None])  # None: another one each time
def test_random_reads_are_woken_by_what_they_find_and_by_nothing_else(
    seed: int | None,
) -> None:
    seed = secrets.randbits(32) if seed is None else seed
    print("seed", seed)
    choose = random.Random(seed)
    log, table, now_s = Log(), Waiting(), 0.0
    here: dict[int, WaitingRead] = {}
    for _ in range(400):
        for _ in range(choose.randrange(6)):
            read = waiting_read(now_s + choose.randrange(1, 40), **random_read(choose, log))
            table.add(read)
            here[id(read)] = read
        records = [
            log.add(choose.choice(STREAMS), choose.choice(TYPES), *some(choose, TAGS))
            for _ in range(choose.randrange(5))
        ]
        now_s += 1
        taken = {id(read): read for read in table.take(records, now_s)}
        for key, waiting in list(here.items()):
            read = waiting.read
            found = log.matching(read, read.after)
            at_end = log.versions[read.stream] if read.stream is not None else len(log.records)
            over = read.until is not None and read.until <= at_end
            assert (key in taken) == bool(found or over or waiting.deadline_s <= now_s), waiting
            if key in taken:
                del here[key]
                assert log.matching(read, waiting.further().after) == found, "nothing is skipped"
                if read.until is not None:
                    assert waiting.further().after <= max(read.until, read.after)
        assert len(table) == len(here)
        assert {id(waiting) for waiting in table} == set(here)
