"""What can be asked of a store besides its events: names, the append of an append id, cursors."""

from __future__ import annotations

import pytest
from appends import append, event, filled, key

from rewind.backends.contract import Commit
from rewind.errors import StoreDamaged
from rewind.events import Appended, own_id
from rewind.store import NAMES_PAGE_MAX, Cursor, Store
from rewind.store.cursors import LAGS_MAX, encode_cursor, mark_of
from rewind.wire.native import Read


def test_names_are_told_in_order_and_in_pages_with_their_last_position() -> None:
    store = filled(10)
    assert store.names("type", "", None, 10) == ([("t0", 10), ("t1", 8), ("t2", 9)], True)
    assert store.names("type", "", None, 2) == ([("t0", 10), ("t1", 8)], False)
    assert store.names("type", "", "t1", 1) == ([("t2", 9)], True)
    assert store.names("tag", "g", "g2", 10) == ([("g3", 9), ("g4", 10)], True)
    assert store.names("category", "o", None, 10) == ([("odd", 10)], True)


def test_a_page_of_names_ends_before_it_holds_appends_up() -> None:
    store = filled(0)
    tags = [f"tag-{number:04}" for number in range(2 * NAMES_PAGE_MAX)]
    store.append([append(*(event(tags=[tag]) for tag in tags))])
    names, end = store.names("tag", "", None, 10_000)
    assert [name for name, _ in names] == tags[:NAMES_PAGE_MAX] and not end
    names, end = store.names("tag", "", names[-1][0], 10_000)
    assert [name for name, _ in names] == tags[NAMES_PAGE_MAX:] and end


def test_an_append_is_found_by_its_append_id() -> None:
    store = filled(3)
    (first,), _ = store.append([append(event("a"), event("b"), event("a"), id=key(1))])
    answer = store.read(Read(append_id=key(1)))
    own = tuple(own_id(store.own_prefix, position) for position in (4, 5, 6))
    assert first.id_bytes == own
    assert answer.appended == Appended(4, 6, own, {"a": 2, "b": 1}, True, "memory")
    assert [event.position for event in answer.events] == [4, 5, 6]
    assert (answer.count, answer.next, answer.head, answer.end) == (3, 6, 6, True)


def test_ids_that_a_client_chose_are_not_told_as_made_by_the_store() -> None:
    store = filled(0)
    store.append([append(event(id=key(7)), event(id=key(8)), id=key(1))])
    found = store.read(Read(append_id=key(1))).appended
    assert found is not None and found.id_bytes == ()


def test_an_unknown_append_id_finds_nothing() -> None:
    answer = filled(3).read(Read(append_id=key(1)))
    assert (answer.events, answer.appended, answer.next, answer.end) == ([], None, 3, True)


def with_cursors(places: dict[str, tuple[int, int]], count: int = 5) -> Store:
    """A store of events at 1,000 ns, 1,010 ns ... and cursors at these places; asked at 2,000 ns."""
    backend = filled(count).backend
    marks = {mark_of(name): encode_cursor(*place) for name, place in places.items()}
    last = backend.last()
    backend.commit(Commit(last.number + 1, last.position, [], marks=marks))
    return Store(backend, clock=lambda: 2_000)


def test_a_cursor_is_told_with_how_many_events_and_how_long_it_is_behind() -> None:
    store = with_cursors({"mail": (3, 1_500), "done": (5, 1_600)})
    assert store.cursor("mail") == Cursor("mail", 3, 1_500, 2, 2_000 - 1_030)
    assert store.cursor("done") == Cursor("done", 5, 1_600, 0, 0)
    assert store.cursor("none") == Cursor("none", 0, 0, 5, 1_000)


def test_cursors_are_told_in_order_and_in_pages() -> None:
    store = with_cursors(dict.fromkeys(("b", "a-2", "a-1", "ø"), (5, 1)))
    names = lambda *page: [cursor.name for cursor in store.cursors(*page)[0]]  # noqa: E731
    assert names("", "", 10) == ["a-1", "a-2", "b", "ø"]
    assert names("a-", "", 10) == ["a-1", "a-2"]
    assert names("", "a-2", 1) == ["b"]
    assert [store.cursors("", "", limit)[1] for limit in (3, 4)] == [False, True]


def test_a_page_of_cursors_reads_a_bounded_number_of_events() -> None:
    count = LAGS_MAX + 10
    store = with_cursors({f"{n:04}": (n, 1) for n in range(count)}, count)
    page, end = store.cursors("", "", 1_000)
    assert (len(page), end) == (LAGS_MAX, False)
    rest, end = store.cursors("", page[-1].name, 1_000)
    assert (len(rest), end) == (10, True)


def test_a_mark_that_is_no_place_is_damage() -> None:
    store = with_cursors({"y": (1, 1)})
    store.backend.commit(Commit(7, 5, [], marks={mark_of("x"): b"\x00"}))
    with pytest.raises(StoreDamaged, match="cursor 'x'"):
        store.cursor("x")
