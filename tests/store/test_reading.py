"""Pages of reads: ranges, queries, filters, bounds, and going on from ``next``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from appends import append, event, filled, positions
from conftest import ALL_SCHEMES, store_url

from rewind.backends import open_backend
from rewind.backends.memory import MemoryBackend
from rewind.query import QueryItem
from rewind.store import Store
from rewind.store.reading import EXAMINED_MAX, PREFIX_NAMES_MAX
from rewind.wire.native import Read


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
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"types": ("t1",)},
        {"stream": "even"},
        {"since": 1_055},
        {"query": (QueryItem(types=("t1",)), QueryItem(tags=("g2",)))},
        {"prefix": "e"},
        {"stream": "odd", "tags": ("all",), "types": ("t1", "t2")},
    ],
)
def test_going_on_from_next_finds_everything_once(query: dict[str, Any], backwards: bool) -> None:
    store = filled()
    whole = positions(store, **query, backwards=backwards)[0]
    found: list[int] = []
    end, rest = False, {}
    while not end:
        page, next, end = positions(store, **{**query, **rest}, backwards=backwards, limit=3)
        found += page
        rest = {"until" if backwards else "after": next}
    assert found == whole


T0_OR_G1 = (QueryItem(types=("t0",)), QueryItem(tags=("g1", "all")))


@pytest.mark.parametrize(
    ("query", "found", "next", "end"),
    [
        ({"query": T0_OR_G1}, [1, 2, 4, 7, 10, 12, 13, 16, 17, 19], 20, True),
        ({"query": T0_OR_G1, "limit": 3}, [1, 2, 4], 4, False),
        ({"query": T0_OR_G1, "after": 10, "until": 16}, [12, 13, 16], 16, True),
        ({"query": T0_OR_G1, "after": 17, "until": 99}, [19], 20, True),
        ({"query": T0_OR_G1, "after": 20}, [], 20, True),
        ({"query": T0_OR_G1, "limit": 0}, [], 0, False),
        ({"query": T0_OR_G1, "limit": 1, "backwards": True}, [19], 18, False),
        ({"query": T0_OR_G1, "until": 2, "backwards": True}, [2, 1], 0, True),
        ({"query": T0_OR_G1, "max_bytes": 0, "after": 1}, [2], 2, False),
        ({"query": T0_OR_G1, "since": 1_000 + 10 * 17}, [19], 20, True),
        ({"query": (QueryItem(streams=("odd",), types=("t1",)),)}, [2, 8, 14, 20], 20, True),
        ({"query": (QueryItem(categories=("even",)),), "limit": 2}, [1, 3], 3, False),
        ({"query": (QueryItem(tags=("none",)),)}, [], 20, True),
        ({"query": (QueryItem(tags=("none",)),), "backwards": True}, [], 0, True),
        ({"prefix": "none"}, [], 20, True),
        ({"prefix": "none", "backwards": True, "after": 3}, [], 3, True),
    ],
)
def test_queries(query: dict[str, Any], found: list[int], next: int, end: bool) -> None:
    assert positions(filled(), **query) == (found, next, end)


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
@pytest.mark.parametrize("categories", [1, 2 * PREFIX_NAMES_MAX])
@pytest.mark.parametrize("backwards", [False, True])
def test_a_prefix_of_many_streams_finds_what_begins_with_it_and_nothing_else(
    scheme: str, categories: int, backwards: bool, tmp_path: Path
) -> None:
    store = Store(open_backend(store_url(scheme, tmp_path)))
    names = [f"order{n % categories}-{n:03}" for n in range(4 * PREFIX_NAMES_MAX)]
    for name in [*names, "order0", "or", "other-1", "-order", "order-"]:
        store.append([append(event(name, type=name[-1], tags=(name[-2:],)))])
    stored = [event.stream for event in store.read(Read()).events]
    for prefix in (
        "or",
        "order",
        "order0-",
        "order0-1",
        "order0-00",
        "order0",
        "-",
        "order-",
        "-x",
    ):
        for limit in (1, 3, 10_000):
            for filters in ({}, {"types": ("1", "2")}, {"tags": ("01",)}):
                wanted = [
                    name
                    for name in stored
                    if name.startswith(prefix)
                    and ("types" not in filters or name[-1] in filters["types"])
                    and ("tags" not in filters or name[-2:] == "01")
                ]
                found, rest, end = [], {}, False
                while not end:
                    page = Read(prefix=prefix, limit=limit, backwards=backwards, **filters, **rest)
                    answer = store.read(page)
                    found += [event.stream for event in answer.events]
                    rest, end = {"until" if backwards else "after": answer.next}, answer.end
                assert found == wanted[:: -1 if backwards else 1], (prefix, limit, filters)
    store.close()


class Counting(MemoryBackend):
    """A backend that counts the records it hands out, and how many each time."""

    fetched = 0
    rounds: tuple[int, ...] = ()

    def read_stream(self, *page: Any) -> list[bytes]:
        records = super().read_stream(*page)
        self.fetched += len(records)
        self.rounds += (len(records),)
        return records


def test_a_read_that_matches_nothing_examines_a_bounded_number() -> None:
    backend = Counting()
    store = Store(backend)
    store.append([append(*[event()] * 4096), append(*[event()] * 4096)])
    for limit in (1, 10_000):
        backend.fetched = 0
        answer = store.read(Read(stream="s", types=("none",), limit=limit))
        assert (answer.events, answer.next, answer.end) == ([], EXAMINED_MAX, False)
        assert backend.fetched == EXAMINED_MAX


def test_a_filtered_read_fetches_what_its_limit_suggests() -> None:
    backend = Counting()
    store = Store(backend)
    store.append([append(*[event(type=f"t{n % 2}") for n in range(4096)])])
    store.read(Read(stream="s", types=("t1",), limit=1))
    assert backend.fetched == 2
    store.read(Read(stream="s", types=("t1",), limit=10, backwards=True))
    assert backend.fetched == 2 + 20
    backend.rounds = ()
    store.read(Read(stream="s", types=("none",), limit=3))
    assert backend.rounds == (6, 24, 96, 384, EXAMINED_MAX - 6 - 24 - 96 - 384)


def test_a_name_is_found_without_looking_at_what_else_is_stored() -> None:
    store = filled()
    store.append([append(*[event()] * 4096), append(*[event()] * 4096)])
    for query in ({"types": ("t2",)}, {"tags": ("g2", "all")}, {"prefix": "od"}):
        found, _, end = positions(store, **query, limit=1, backwards=True)
        assert len(found) == 1 and found[0] <= 20 and not end
