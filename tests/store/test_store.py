"""The store over the memory backend: events by id, a full disk, a backend that fails or is ahead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from appends import append, event, filled, key, positions
from conftest import ALL_SCHEMES, store_url

from rewind.backends import open_backend
from rewind.backends.memory import MemoryBackend
from rewind.errors import (
    BadRequest,
    Internal,
    StorageFull,
    StoreDamaged,
    StoreFailed,
    UnknownEvent,
    WrongExpectedVersion,
)
from rewind.events import Appended, Record, decode_event, own_id
from rewind.store import CATCH_UP_EVENTS, Store
from rewind.store.troubles import DAMAGES_LOGGED_MAX, ROOM_AGAIN_S
from rewind.wire.native import Read


def test_an_event_is_found_by_id_of_either_kind() -> None:
    store = filled(3)
    store.append([append(event(id=key(5)))])
    assert store.read(Read(id=key(5))).events[0].position == 4
    own = own_id(store.own_prefix, 2)
    assert store.read(Read(id=own)).events[0].position == 2
    for unknown in (key(6), own_id(store.own_prefix, 4), own_id(store.own_prefix, 99)):
        with pytest.raises(UnknownEvent):
            store.read(Read(id=unknown))


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_a_stream_is_read_as_of_an_earlier_head_in_two_looks(
    scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(open_backend(store_url(scheme, tmp_path)))
    for _ in range(10):
        store.append([append(event("s"), event("other"), event("s"))])
    store.append([append(*[event("s")] * 1_000)])
    looks: list[str] = []
    for name in ("matching", "read", "read_stream"):
        look = getattr(store.backend, name)
        monkeypatch.setattr(
            store.backend,
            name,
            lambda *given, name=name, look=look, **named: (
                looks.append(name) or look(*given, **named)
            ),
        )
    for head in range(31):
        answer = store.read(Read(stream="s", limit=0), head)
        assert (answer.head, answer.version) == (head, head - (head + 1) // 3)
    assert len(looks) <= 2 * 31
    assert store.read(Read(stream="never", limit=0), 5).version == 0
    store.close()


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
    full, again, in_batch = store.append([append(id=key(2)), append(id=key(1)), append(id=key(2))])[
        0
    ]
    assert isinstance(full, StorageFull) and full.retryable and "10" in str(full)
    assert isinstance(again, Appended) and again.duplicate
    assert isinstance(in_batch, StorageFull)
    assert positions(store)[0] == [1]
    # Each is judged as if alone: the first was not stored, so the second meets version 0 as well.
    first, second = store.append([append(event("new"), new=0), append(event("new"), new=0)])[0]
    assert isinstance(first, StorageFull) and isinstance(second, StorageFull)
    wrong = store.append([append(event("new")), append(event("new"), new=7)])[0][1]
    assert isinstance(wrong, WrongExpectedVersion) and wrong.actual == 0
    free[0] = 10**12
    assert store.append([append(id=key(2))])[0][0].first == 2


def test_a_full_disk_refuses_what_only_fits_behind_what_it_refuses(tmp_path: Any) -> None:
    free = [10**6]
    store = Store(OnDisk(tmp_path), free_bytes=lambda path: free[0])
    longer = [append(event(id=own_id(store.own_prefix, n))) for n in (1, 2, 3)]
    assert all(isinstance(refused, StorageFull) for refused in store.append(longer)[0])
    free[0] = 10**12
    assert [taken.first for taken in store.append(longer)[0]] == [1, 2, 3]


def test_a_full_disk_is_logged_when_it_begins_and_when_it_ends(
    tmp_path: Any, caplog: pytest.LogCaptureFixture
) -> None:
    now_s, free = [1_000], [10**6]
    store = Store(OnDisk(tmp_path), clock=lambda: now_s[0] * 10**9, free_bytes=lambda path: free[0])
    for _ in range(3):
        store.append([append(), append()])
    assert len(caplog.messages) == 1 and "refused from now on" in caplog.messages[0]
    free[0] = 10**12
    store.append([append()])
    assert len(caplog.messages) == 1, "one that fits does not mean that there is room"
    now_s[0] += ROOM_AGAIN_S
    store.append([append()])
    assert caplog.messages[1:] == ["there is room again: 6 appends were refused"]
    store.append([append()])
    assert len(caplog.messages) == 2


def test_a_clock_that_went_back_is_logged_once_with_how_far(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now_ns = [2_000 * 10**9]
    store = Store(MemoryBackend(), clock=lambda: now_ns[0])
    store.append([append()])
    now_ns[0] -= 10**8
    store.append([append()])
    assert caplog.messages == [], "less than a second is usual"
    now_ns[0] -= 100 * 10**9
    for _ in range(3):
        store.append([append()])
    assert len(caplog.messages) == 1 and "the clock is 100.1 s behind" in caplog.messages[0]
    assert len({event.recorded_at_ns for event in store.read(Read()).events}) == 1
    now_ns[0] += 200 * 10**9
    store.append([append()])
    assert caplog.messages[1:] == ["the clock has caught up with the last event"]


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
    second = store.append([append()])[0][0]
    assert (second.first, second.versions) == (2, {"s": 2})
    refused = Store(Overtaken()).append([append(s=0)])[0][0]
    assert isinstance(refused, WrongExpectedVersion) and refused.actual == 1


class Lying(MemoryBackend):
    """A backend whose index leads elsewhere than to what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.leads_to = 1

    def positions(self, ids: Any) -> dict[bytes, int]:
        return dict.fromkeys(ids, self.leads_to)

    def appends(self, append_ids: Any) -> dict[bytes, tuple[int, int]]:
        return dict.fromkeys(append_ids, (self.leads_to, self.leads_to))


@pytest.mark.parametrize("leads_to", [1, 2, 10**15])
def test_an_id_that_leads_elsewhere_is_damage_for_whoever_asks(leads_to: int) -> None:
    backend = Lying()
    store = Store(backend)
    store.append([append()])
    backend.leads_to = leads_to
    (refused, fine), records = store.append([append(event(data=b"2", id=key(2))), append()])
    assert isinstance(refused, Internal) and str(leads_to) in str(refused)
    assert fine.first == 2 and len(records) == 1
    (again,), _ = store.append([append(id=key(3))])
    assert isinstance(again, Internal) == (leads_to > 2)  # An append id says nothing of the event.
    with pytest.raises(StoreDamaged, match=str(leads_to)):
        store.read(Read(id=key(2)))


def test_damage_is_logged_once_and_not_without_end(caplog: pytest.LogCaptureFixture) -> None:
    store = filled(1)
    for _ in range(2):
        for n in range(2 * DAMAGES_LOGGED_MAX):
            refusal = store.refusal(StoreDamaged(f"block {n} of\nmany"))
            assert f"block {n} of\\nmany" in str(refusal)
    assert len(caplog.records) == DAMAGES_LOGGED_MAX


def two_stores() -> tuple[Store, Store]:
    """Two stores over one backend; the second commits what the first has not planned."""
    backend = MemoryBackend()
    return Store(backend), Store(backend)


def told(records: list[Record]) -> list[tuple[int, bytes]]:
    assert [decode_event(record.encoded) for record in records] == [r.event for r in records]
    return [(record.event.position, record.event.data) for record in records]


def test_what_another_store_committed_is_handed_on_in_front_of_the_own_and_once() -> None:
    store, other = two_stores()
    assert told(store.append([append(event(data=b"1"))])[1]) == [(1, b"1")]
    other.append([append(event(data=b"1.1"), event("x", b"1.2"))])
    other.append([append(event(data=b"2"))])
    outcomes, records = store.append([append(event(data=b"5"))])
    assert outcomes[0].first == 5 and outcomes[0].versions == {"s": 4}
    assert told(records) == [(2, b"1.1"), (3, b"1.2"), (4, b"2"), (5, b"5")]
    assert told(store.append([append(event(data=b"6"))])[1]) == [(6, b"6")]
    assert told(other.append([append(event(data=b"7"))])[1]) == [(5, b"5"), (6, b"6"), (7, b"7")]


def test_what_another_store_committed_is_handed_on_when_the_own_append_is_a_duplicate() -> None:
    store, other = two_stores()
    other.append([append(event(data=b"1"), id=key(1))])
    (again,), records = store.append([append(event(data=b"1"), id=key(1))])
    assert again.duplicate and again.first == 1
    assert told(records) == [(1, b"1")]


def test_what_another_store_committed_is_handed_on_when_the_own_append_is_refused() -> None:
    store, other = two_stores()
    store.append([append(event("s", b"1"))])
    other.append([append(event("s", b"2"))])
    (refused,), records = store.append([append(event("s"), s=1)])
    assert isinstance(refused, WrongExpectedVersion) and refused.actual == 2
    assert told(records) == [(2, b"2")]


def test_what_another_store_committed_is_handed_on_when_the_disk_is_full(tmp_path: Any) -> None:
    free = iter([10**12, 10**6])
    backend = OnDisk(tmp_path)
    store, other = Store(backend, free_bytes=lambda path: next(free)), Store(backend)
    other.append([append(event(data=b"1"))])
    (full,), records = store.append([append()])
    assert isinstance(full, StorageFull)
    assert told(records) == [(1, b"1")]


def test_what_another_store_committed_is_caught_up_with_in_pages() -> None:
    store, other = two_stores()
    count = 2 * CATCH_UP_EVENTS + 1
    other.append([append(event(f"s{n % 3}")) for n in range(count)])
    reads = []
    read = store.backend.read
    store.backend.read = lambda *page: reads.append(page) or read(*page)  # type: ignore[method-assign]
    _, records = store.append([append(event("s0"))])
    assert [record.event.position for record in records] == list(range(1, count + 2))
    assert [page[2] for page in reads] == [CATCH_UP_EVENTS] * 3
    streams = [f"s{n}" for n in range(3)]
    assert {name: store.version(name) for name in streams} == store.backend.versions(streams)


class Failing(MemoryBackend):
    def commit(self, *planned: Any) -> None:
        raise StoreFailed("injected: no space left on device")


def test_a_failed_commit_acknowledges_nothing() -> None:
    with pytest.raises(StoreFailed):
        Store(Failing()).append([append()])
