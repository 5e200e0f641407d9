"""The store over the memory backend: pages of reads, a full disk, a backend that fails or is ahead."""

from __future__ import annotations

from typing import Any

import pytest
from appends import append, event, key

from rewind.backends.memory import MemoryBackend
from rewind.errors import (
    BadRequest,
    StorageFull,
    StoreFailed,
    UnknownEvent,
    WrongExpectedVersion,
)
from rewind.events import Appended, own_id
from rewind.store import EXAMINED_MAX, Store
from rewind.wire.native import Read


def filled(count: int = 20) -> Store:
    ticks = iter(range(1_000, 1_000_000, 10))
    store = Store(MemoryBackend(), clock=lambda: next(ticks))
    for n in range(count):
        stream = "even" if n % 2 == 0 else "odd"
        store.append(
            [append(event(stream, b"%d" % n, type=f"t{n % 3}", tags=(f"g{n % 5}", "all")))]
        )
    return store


def positions(store: Store, **query: Any) -> tuple[list[int], int, bool]:
    answer = store.read(Read(**query))
    return [event.position for event in answer.events], answer.next, answer.end


@pytest.mark.parametrize(
    ("query", "found", "next", "end"),
    [
        ({}, list(range(1, 21)), 20, True),
        ({"after": 18}, [19, 20], 20, True),
        ({"after": 20}, [], 20, True),
        ({"after": 25}, [], 25, True),
        ({"after": 3, "until": 5}, [4, 5], 5, True),
        ({"after": 5, "until": 3}, [], 5, True),
        ({"until": 99, "after": 19}, [20], 20, True),
        ({"limit": 2}, [1, 2], 2, False),
        ({"limit": 0}, [], 0, False),
        ({"limit": 2, "backwards": True}, [20, 19], 18, False),
        ({"until": 2, "backwards": True}, [2, 1], 0, True),
        ({"after": 18, "limit": 2, "backwards": True}, [20, 19], 18, True),
        ({"max_bytes": 1}, [1], 1, False),
        ({"max_bytes": 0}, [1], 1, False),
        ({"types": ("t0",)}, [1, 4, 7, 10, 13, 16, 19], 20, True),
        ({"types": ("t0",), "limit": 2}, [1, 4], 4, False),
        ({"types": ("t0",), "limit": 2, "backwards": True}, [19, 16], 15, False),
        ({"types": ("t0", "t1"), "tags": ("g0",)}, [1, 11, 16], 20, True),
        ({"tags": ("g1", "all"), "after": 10}, [12, 17], 20, True),
        ({"tags": ("g1", "g2")}, [], 20, True),
        ({"prefix": "ev", "limit": 2}, [1, 3], 3, False),
        ({"stream": "odd"}, [2, 4, 6, 8, 10, 12, 14, 16, 18, 20], 10, True),
        ({"stream": "odd", "after": 8}, [18, 20], 10, True),
        ({"stream": "odd", "until": 2, "backwards": True}, [4, 2], 0, True),
        ({"stream": "odd", "types": ("t1",)}, [2, 8, 14, 20], 10, True),
        ({"stream": "none"}, [], 0, True),
        ({"since": 1_000 + 10 * 17}, [18, 19, 20], 20, True),
        ({"since": 1_001}, list(range(2, 21)), 20, True),
        ({"since": 99_999}, [], 20, True),
        ({"since": 0, "limit": 1}, [1], 1, False),
        ({"since": 1_000 + 10 * 17, "stream": "odd"}, [18, 20], 10, True),
        ({"since": 1_000 + 10 * 17, "backwards": True, "limit": 1}, [20], 19, False),
    ],
)
def test_reads(query: dict[str, Any], found: list[int], next: int, end: bool) -> None:
    assert positions(filled(), **query) == (found, next, end)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("query", [{}, {"types": ("t1",)}, {"stream": "even"}, {"since": 1_055}])
def test_going_on_from_next_finds_everything_once(query: dict[str, Any], backwards: bool) -> None:
    store = filled()
    whole = positions(store, **query, backwards=backwards)[0]
    found: list[int] = []
    end, place = False, {}
    while not end:
        page, next, end = positions(store, **{**query, **place}, backwards=backwards, limit=3)
        found += page
        place = {"until" if backwards else "after": next}
    assert found == whole


def test_a_read_that_matches_nothing_examines_a_bounded_number() -> None:
    store = Store(MemoryBackend())
    store.append([append(*[event()] * 4096), append(*[event()] * 4096)])
    answer = store.read(Read(types=("none",)))
    assert (answer.events, answer.next, answer.end) == ([], EXAMINED_MAX, False)


def test_an_event_is_found_by_id_of_either_kind() -> None:
    store = filled(3)
    store.append([append(event(id=key(5)))])
    assert store.read(Read(id=key(5))).events[0].position == 4
    own = own_id(store.own_prefix, 2)
    assert store.read(Read(id=own)).events[0].position == 2
    for unknown in (key(6), own_id(store.own_prefix, 4), own_id(store.own_prefix, 99)):
        with pytest.raises(UnknownEvent):
            store.read(Read(id=unknown))


def test_a_range_between_ids_is_checked() -> None:
    store = filled(6)
    ids = [own_id(store.own_prefix, n) for n in range(1, 7)]
    assert store.range_between(None, None) == (0, 6)
    assert store.range_between(ids[1], ids[3]) == (2, 4)
    assert store.range_between(ids[1], ids[1]) == (2, 2)
    assert store.range_between(ids[1], None, "odd") == (1, 3)
    with pytest.raises(BadRequest, match="later"):
        store.range_between(ids[3], ids[1])
    with pytest.raises(UnknownEvent, match="not of stream"):
        store.range_between(ids[0], None, "odd")
    with pytest.raises(UnknownEvent):
        store.range_between(key(1), None)


class OnDisk(MemoryBackend):
    """A memory store that claims a path, so that free space counts."""

    def __init__(self, path: Any) -> None:
        super().__init__()
        self.path = path


def test_a_full_disk_is_refused_before_writing_and_reads_go_on(tmp_path: Any) -> None:
    free = [10**12]
    store = Store(OnDisk(tmp_path), free_bytes=lambda path: free[0])
    store.append([append(id=key(1))])
    free[0] = 10**6
    full, again, in_group = store.append([append(id=key(2)), append(id=key(1)), append(id=key(2))])[
        0
    ]
    assert isinstance(full, StorageFull) and full.retryable and "10" in str(full)
    assert isinstance(again, Appended) and again.duplicate
    assert isinstance(in_group, StorageFull)
    assert positions(store)[0] == [1]
    # Each is judged as if alone: the first was not stored, so the second meets version 0 as well.
    first, second = store.append([append(event("new"), new=0), append(event("new"), new=0)])[0]
    assert isinstance(first, StorageFull) and isinstance(second, StorageFull)
    wrong = store.append([append(event("new")), append(event("new"), new=7)])[0][1]
    assert isinstance(wrong, WrongExpectedVersion) and wrong.actual == 0
    free[0] = 10**12
    assert store.append([append(id=key(2))])[0][0].first == 2


class Overtaken(MemoryBackend):
    """A backend another store commits to, once, between a plan and its commit."""

    overtaken = False

    def commit(self, *planned: Any) -> None:
        if not self.overtaken:
            self.overtaken = True
            Store(self).append([append(event("s", b"theirs"))])
        super().commit(*planned)


def test_a_backend_that_is_ahead_makes_the_store_plan_again() -> None:
    store = Store(Overtaken())
    ours = store.append([append()])[0][0]
    assert (ours.first, ours.versions) == (2, {"s": 2})
    refused = Store(Overtaken()).append([append(s=0)])[0][0]
    assert isinstance(refused, WrongExpectedVersion) and refused.actual == 1


class Failing(MemoryBackend):
    def commit(self, *planned: Any) -> None:
        raise StoreFailed("injected: no space left on device")


def test_a_failed_commit_acknowledges_nothing() -> None:
    with pytest.raises(StoreFailed):
        Store(Failing()).append([append()])
