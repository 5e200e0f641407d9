"""The rules of appending, tested without a backend; and the store's reads on the memory backend."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from rewind import store as store_module
from rewind.backends import Commit
from rewind.backends.memory import MemoryBackend
from rewind.errors import (
    BadRequest,
    Behind,
    IdConflict,
    Internal,
    RequestError,
    StorageFull,
    StoreDamaged,
    StoreFailed,
    UnknownEvent,
    WrongExpectedVersion,
)
from rewind.events import Append, Appended, AppendEvent, Event, own_id, own_id_prefix
from rewind.store import EXAMINED_MAX, Known, Store, plan
from rewind.wire.native import Read

PREFIX = own_id_prefix(uuid.UUID(int=1 << 100))


def event(
    stream: str = "s", data: bytes = b"d", id: bytes | None = None, **more: Any
) -> AppendEvent:
    fields = {"type": "t", "tags": (), "metadata": {}, **more}
    return AppendEvent(id, stream, fields["type"], fields["tags"], fields["metadata"], data)


def append(*events: AppendEvent, id: bytes | None = None, **expected: int) -> Append:
    return Append(events or (event(),), id, expected)


def key(number: int) -> bytes:
    return b"\x40" + number.to_bytes(15, "big")


def nothing(first: int, last: int) -> list[Event]:
    raise AssertionError("a plan of new appends asks for nothing stored")


def known(**changes: Any) -> Known:
    fields = {
        "head": 10,
        "last_time_ns": 100,
        "own_prefix": PREFIX,
        "versions": {"s": 3},
        "appends": {},
        "positions": {},
        "stored": nothing,
        **changes,
    }
    return Known(**fields)


def outcomes(*appends: Append, now_ns: int = 200, **changes: Any) -> list[Appended | RequestError]:
    return plan(appends, known(**changes), now_ns, "fsync").outcomes


# --- plan -----------------------------------------------------------------------


def test_positions_follow_the_head_and_versions_their_streams() -> None:
    result = plan([append(event("s"), event("new"), event("s"))], known(), 200, "fsync")
    places = [(r.event.position, r.event.stream, r.event.version) for r in result.records]
    assert places == [(11, "s", 4), (12, "new", 1), (13, "s", 5)]
    made = tuple(own_id(PREFIX, position) for position in (11, 12, 13))
    assert result.outcomes == [Appended(11, 13, made, {"s": 5, "new": 1}, False, "fsync")]


@pytest.mark.parametrize(("now", "recorded"), [(200, 200), (50, 100)])
def test_time_never_goes_back(now: int, recorded: int) -> None:
    result = plan([append()], known(), now, "fsync")
    assert result.records[0].event.recorded_at_ns == recorded


@pytest.mark.parametrize(
    ("stream", "expected", "fits"),
    [
        ("s", 3, True),
        ("s", 2, False),
        ("s", 0, False),
        ("s", -1, True),
        ("n", 0, True),
        ("n", -1, False),
        ("n", 1, False),
    ],
)
def test_expected_versions(stream: str, expected: int, fits: bool) -> None:
    result = plan([append(event("other"), **{stream: expected})], known(), 200, "fsync")
    if fits:
        assert len(result.records) == 1
    else:
        refused = result.outcomes[0]
        assert isinstance(refused, WrongExpectedVersion)
        assert (refused.stream, refused.expected, refused.actual) == (
            stream,
            expected,
            3 if stream == "s" else 0,
        )
        assert result.records == []


def test_two_appends_of_one_commit_cannot_both_meet_the_same_version() -> None:
    first, second, third = outcomes(append(s=3), append(s=3), append(s=4))
    assert isinstance(first, Appended) and isinstance(third, Appended)
    assert isinstance(second, WrongExpectedVersion) and second.actual == 4
    assert (first.first, third.first) == (11, 12)


def test_a_refused_append_leaves_no_trace() -> None:
    result = plan(
        [append(event("a"), id=key(1), s=9), append(event("a"), id=key(1))], known(), 200, "fsync"
    )
    assert isinstance(result.outcomes[0], WrongExpectedVersion)
    assert result.outcomes[1].first == 11 and not result.outcomes[1].duplicate
    assert result.append_ids == [(key(1), 11, 11)]


STORED = [
    Event(4, 90, own_id(PREFIX, 4), "s", 2, "t", (), {"k": 1}, b"d"),
    Event(5, 90, own_id(PREFIX, 5), "x", 1, "t", ("a",), {}, b"e"),
]
RETRY = (event(metadata={"k": 1}), event("x", b"e", tags=("a",)))


def stored(first: int, last: int) -> list[Event]:
    return [e for e in STORED_BY_ID + STORED if first <= e.position <= last]


STORED_BY_ID = [
    Event(7, 90, key(7), "s", 3, "t", (), {}, b"7"),
    Event(8, 90, key(8), "y", 1, "t", (), {}, b"8"),
]
BY_ID = (event("s", b"7", key(7)), event("y", b"8", key(8)))
KNOWN = {
    "appends": {key(1): (4, 5)},
    "positions": {key(7): 7, key(8): 8, key(9): 9},
    "stored": stored,
}


def test_a_retry_gets_its_first_answer_before_expected_versions_are_looked_at() -> None:
    (again,) = outcomes(append(*RETRY, id=key(1), s=0), **KNOWN)
    ids = (own_id(PREFIX, 4), own_id(PREFIX, 5))
    assert again == Appended(4, 5, ids, {"s": 2, "x": 1}, True, "fsync")


def test_a_retry_by_event_ids_gets_its_first_answer() -> None:
    (again,) = outcomes(append(*BY_ID, s=0), **KNOWN)
    assert again == Appended(7, 8, (), {"s": 3, "y": 1}, True, "fsync")


def test_an_event_of_our_own_making_sent_back_is_a_duplicate() -> None:
    (again,) = outcomes(append(event(metadata={"k": 1}, id=own_id(PREFIX, 4))), **KNOWN)
    assert isinstance(again, Appended) and again.duplicate and again.first == 4


@pytest.mark.parametrize(
    "conflicting",
    [
        append(RETRY[0], id=key(1)),
        append(*RETRY, event(), id=key(1)),
        append(RETRY[1], RETRY[0], id=key(1)),
        append(RETRY[0], event("x", b"other", tags=("a",)), id=key(1)),
        append(RETRY[0], event("x", b"e", tags=("b",)), id=key(1)),
        append(event(metadata={"k": True}), RETRY[1], id=key(1)),
        append(event("S", metadata={"k": 1}), RETRY[1], id=key(1)),
        append(event(metadata={"k": 1}, type="u"), RETRY[1], id=key(1)),
        append(BY_ID[0], event(id=key(100))),
        append(event(id=key(100)), BY_ID[0]),
        append(BY_ID[1], BY_ID[0]),
        append(BY_ID[0], event("y", b"8", key(9))),
        append(event("s", b"other", key(7)), BY_ID[1]),
    ],
)
def test_a_known_id_with_anything_else_is_a_conflict(conflicting: Append) -> None:
    result = plan([conflicting], known(**KNOWN), 200, "fsync")
    assert isinstance(result.outcomes[0], IdConflict), result.outcomes
    assert result.records == []


def test_ids_stored_and_planned_are_no_append() -> None:
    last = Event(10, 90, key(7), "s", 3, "t", (), {}, b"7")
    result = outcomes(
        append(event(id=key(50))),
        append(event("s", b"7", key(7)), event(id=key(50))),
        positions={key(7): 10},
        stored=lambda first, last_: [last],
    )
    assert isinstance(result[0], Appended) and isinstance(result[1], IdConflict)


def test_appends_earlier_in_the_commit_count_as_stored() -> None:
    first, again, other, by_id, by_id_again, partly = outcomes(
        append(id=key(20)),
        append(id=key(20)),
        append(event(data=b"other"), id=key(20)),
        append(event(id=key(21)), event(id=key(22))),
        append(event(id=key(21)), event(id=key(22))),
        append(event(id=key(22)), event(id=key(23))),
    )
    assert isinstance(first, Appended) and not first.duplicate
    assert isinstance(again, Appended) and again.duplicate and again.first == first.first
    assert again.versions == first.versions and again.id_bytes == first.id_bytes
    assert isinstance(other, IdConflict)
    assert isinstance(by_id, Appended) and isinstance(by_id_again, Appended)
    assert by_id_again.duplicate and by_id_again.first == by_id.first
    assert isinstance(partly, IdConflict)


@pytest.mark.parametrize("id", [*(own_id(PREFIX, n) for n in (11, 12, 99)), PREFIX + bytes(8)])
def test_an_id_of_our_own_form_that_we_have_not_made_is_refused(id: bytes) -> None:
    (refused,) = outcomes(append(event(id=id)))
    assert isinstance(refused, BadRequest)


def test_damage_met_by_a_retry_concerns_that_retry_alone() -> None:
    def damaged(first: int, last: int) -> list[Event]:
        raise StoreDamaged("position 4 fails its checksum")

    hurt, fine = outcomes(
        append(*RETRY, id=key(1)), append(), appends={key(1): (4, 5)}, stored=damaged
    )
    assert isinstance(hurt, Internal) and isinstance(fine, Appended)


# --- the store ------------------------------------------------------------------


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


@pytest.mark.parametrize(("free", "asked"), [(10**12, 1), (10**8, 3), (None, 1)])
def test_free_space_is_asked_each_time_unless_there_is_plenty(
    free: int | None, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "FREE_BYTES_S", 60.0)
    questions = []
    monkeypatch.setattr(store_module, "free_bytes_at", lambda path: questions.append(path) or free)
    free_bytes = store_module.RecentFreeBytes()
    assert [free_bytes("here") for _ in range(3)] == [free] * 3
    assert questions == ["here"] * asked


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
    """A backend another node writes to, once."""

    def commit(self, commit: Commit) -> None:
        if commit.after == 0:
            foreign = plan([append(event("s", b"theirs"))], known(head=0, versions={}), 1, "memory")
            super().commit(Commit(0, foreign.records))
            raise Behind(1)
        super().commit(commit)


def test_a_backend_that_is_ahead_makes_the_store_plan_again() -> None:
    store = Store(Overtaken())
    ours = store.append([append()])[0][0]
    assert (ours.first, ours.versions) == (2, {"s": 2})
    refused = Store(Overtaken()).append([append(s=0)])[0][0]
    assert isinstance(refused, WrongExpectedVersion) and refused.actual == 1


class Failing(MemoryBackend):
    def commit(self, commit: Commit) -> None:
        raise StoreFailed("injected: no space left on device")


def test_a_failed_commit_acknowledges_nothing() -> None:
    with pytest.raises(StoreFailed):
        Store(Failing()).append([append()])
