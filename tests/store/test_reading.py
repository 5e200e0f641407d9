"""Pages of reads over the memory backend: ranges, filters, bounds, and going on from ``next``."""

from __future__ import annotations

from typing import Any

import pytest
from appends import append, event, filled, positions

from rewind.backends.memory import MemoryBackend
from rewind.store import Store
from rewind.store.reading import EXAMINED_MAX
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
@pytest.mark.parametrize("query", [{}, {"types": ("t1",)}, {"stream": "even"}, {"since": 1_055}])
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


def test_a_read_that_matches_nothing_examines_a_bounded_number() -> None:
    store = Store(MemoryBackend())
    store.append([append(*[event()] * 4096), append(*[event()] * 4096)])
    answer = store.read(Read(types=("none",)))
    assert (answer.events, answer.next, answer.end) == ([], EXAMINED_MAX, False)
