"""Cursors: how they move in commits, alone and beside events, and what refuses them."""

from __future__ import annotations

from typing import Any

import pytest
from appends import advance, append, event, filled, key

from rewind.backends.memory import MemoryBackend
from rewind.errors import (
    BadRequest,
    ConditionFailed,
    CursorMoved,
    StorageFull,
    WrongExpectedVersion,
)
from rewind.events import Advance, Append, Appended
from rewind.query import Condition
from rewind.store import Store
from rewind.store.cursors import encode_cursor, mark_of
from rewind.store.space import FREE_BYTES_RESERVE, WRITE_FACTOR


def outcomes(store: Store, *appends: Append) -> list[Any]:
    return store.append(appends)[0]


def place(store: Store, name: str = "c") -> int:
    return store.cursor(name).position


@pytest.fixture
def store() -> Store:
    """A store of ten events, with a cursor at 5."""
    store = filled(10)
    assert outcomes(store, advance(c=5)) == [Appended(0, 0, (), {}, False, "memory")]
    return store


def test_a_cursor_moves_forward_without_events_and_says_when(store: Store) -> None:
    before, number = store.cursor("c"), store.backend.last().number
    outcomes(store, advance(c=7))
    after = store.cursor("c")
    assert after.position == 7 and after.updated_at_ns > before.updated_at_ns > 0
    assert store.backend.last().number == number + 1 and store.head == 10


def test_a_cursor_that_is_put_where_it_stands_changes_nothing(store: Store) -> None:
    before = store.cursor("c").updated_at_ns, store.backend.last()
    assert isinstance(outcomes(store, advance(c=5))[0], Appended)
    assert (store.cursor("c").updated_at_ns, store.backend.last()) == before


def test_a_cursor_that_does_not_exist_can_be_made_at_0(store: Store) -> None:
    outcomes(store, advance(new=0))
    assert store.cursor("new").updated_at_ns > 0
    assert [cursor.name for cursor in store.cursors("", "", 9)[0]] == ["c", "new"]


@pytest.mark.parametrize(
    ("moved", "words"),
    [
        (advance(c=4), "is at 5: it goes back to 4 only where reset is set"),
        (advance(c=Advance(7, 4)), "is at 5: it was expected at 4"),
        (advance(c=Advance(7, 0)), "is at 5: it was expected at 0"),
        (advance(c=Advance(None, 4)), "is at 5: it was expected at 4"),
        (advance(c=Advance(3, 4, reset=True)), "is at 5: it was expected at 4"),
        (advance(none=Advance(7, 5)), "is at 0: it was expected at 5"),
        (advance([event()], c=5), "is at 5: beside events it moves forward, and not to 5"),
        (advance([event()], c=4), "is at 5: beside events it moves forward, and not to 4"),
        (advance([event()], none=0), "is at 0: beside events"),
        (advance(a=9, c=4), "'c' is at 5"),
    ],
)
def test_a_cursor_that_is_elsewhere_or_would_go_back_has_moved(
    store: Store, moved: Append, words: str
) -> None:
    refused = outcomes(store, moved)[0]
    assert isinstance(refused, CursorMoved) and words in str(refused)
    given = moved.cursors[refused.cursor]
    actual = 5 if refused.cursor == "c" else 0
    assert (refused.expected, refused.actual) == (given.expected, actual)
    assert store.head == 10 and place(store) == 5 and place(store, "a") == 0


@pytest.mark.parametrize(
    "moved", [advance(c=11), advance([event()], c=11), advance(c=Advance(11, 5, reset=True))]
)
def test_a_place_beyond_the_head_before_the_append_is_a_bad_request(
    store: Store, moved: Append
) -> None:
    refused = outcomes(store, moved)[0]
    assert isinstance(refused, BadRequest)
    assert "cursor 'c' would be at 11, and the head is 10" in str(refused)
    assert isinstance(outcomes(store, append(), moved)[1], Appended), "the commit has added one"


def test_a_cursor_goes_back_with_reset_and_is_gone_when_it_is_deleted(store: Store) -> None:
    outcomes(store, advance(c=Advance(2, reset=True)))
    assert place(store) == 2
    outcomes(store, advance(c=Advance(None, 2)))
    assert store.cursor("c").updated_at_ns == 0 and store.cursors("", "", 9) == ([], True)
    last = store.backend.last()
    assert isinstance(outcomes(store, advance(c=Advance(None)))[0], Appended)
    assert store.backend.last() == last, "there is nothing to delete"


def test_events_and_the_place_they_come_from_are_one_commit(store: Store) -> None:
    number = store.backend.last().number
    done = outcomes(store, advance([event("out")], key(1), c=8))[0]
    assert (done.first, place(store), store.backend.last().number) == (11, 8, number + 1)
    # Who runs twice stores it once.
    assert isinstance(outcomes(store, advance([event("out")], key(2), c=8))[0], CursorMoved)
    assert store.head == 11


def test_moves_of_one_cursor_in_a_commit_are_one_mark(store: Store) -> None:
    commits = []
    commit = store.backend.commit
    store.backend.commit = lambda one: commits.append(one) or commit(one)  # type: ignore[method-assign]
    moved = outcomes(store, *[advance(c=Advance(n, n - 1)) for n in range(6, 10)], advance(c=7))
    assert [type(outcome) for outcome in moved] == [Appended] * 4 + [CursorMoved]
    assert [len(one.marks) for one in commits] == [1] and place(store) == 9


def test_expected_versions_come_first_then_conditions_then_cursors(store: Store) -> None:
    cursors = {"c": Advance(11)}
    failing = (Condition(None, 3),)
    guards: list[dict[str, Any]] = [
        {"expected": {"s": 1}, "conditions": failing},
        {"conditions": failing},
        {},
    ]
    refused = [outcomes(store, Append((), cursors=cursors, **guard))[0] for guard in guards]
    assert [type(error) for error in refused] == [WrongExpectedVersion, ConditionFailed, BadRequest]


def test_cursors_are_judged_in_their_order(store: Store) -> None:
    assert isinstance(outcomes(store, advance(c=4, d=11))[0], CursorMoved)
    assert isinstance(outcomes(store, advance(d=11, c=4))[0], BadRequest)


def test_a_repeated_append_moves_a_cursor_that_lags_forward_and_never_back(store: Store) -> None:
    sent = advance([event("out")], key(1), c=8)
    outcomes(store, sent)
    outcomes(store, advance(c=9))
    assert outcomes(store, sent)[0].duplicate and place(store) == 9
    outcomes(store, advance(c=Advance(2, reset=True)))
    assert outcomes(store, sent)[0].duplicate and place(store) == 8
    # What is expected is not looked at; what is beyond the head stays where it is.
    other = advance([event("out")], key(1), c=Advance(10, 1), d=12)
    assert outcomes(store, other)[0].duplicate
    assert (place(store), store.cursor("d").updated_at_ns) == (10, 0)


def test_a_cursor_is_where_another_store_has_put_it(store: Store) -> None:
    other = Store(store.backend, clock=lambda: 9_999)
    outcomes(other, advance(c=7))
    assert isinstance(outcomes(store, advance(c=Advance(8, 5)))[0], CursorMoved)
    outcomes(other, advance(c=8))
    assert isinstance(outcomes(store, advance(c=Advance(9, 8)))[0], Appended)
    outcomes(other, append(), advance(c=11))
    assert isinstance(outcomes(store, advance(c=Advance(11, 11)))[0], Appended)
    outcomes(other, append())
    assert isinstance(outcomes(store, advance(c=12))[0], Appended), "it has caught up"


def test_a_full_disk_refuses_what_moves_a_cursor_and_nothing_else(tmp_path: Any) -> None:
    backend = MemoryBackend()
    backend.path = tmp_path
    free = [10**12]
    store = Store(backend, free_bytes=lambda path: free[0])
    outcomes(store, append(), advance(c=1), advance([event()], key(1), d=1))
    free[0] = 10**6
    sent = outcomes(
        store,
        advance(e=1),
        advance(c=1),
        advance(c=Advance(1, 9)),
        advance([event()], key(1), d=1),
        advance([event()], key(1), e=1),
    )
    full, stands, moved, again, lags = sent
    assert isinstance(full, StorageFull) and isinstance(lags, StorageFull)
    assert isinstance(stands, Appended) and again.duplicate and isinstance(moved, CursorMoved)


def test_what_a_mark_takes_must_have_room(tmp_path: Any) -> None:
    backend = MemoryBackend()
    backend.path = tmp_path
    free = [10**12]
    store = Store(backend, free_bytes=lambda path: free[0])
    outcomes(store, append())
    size = len(mark_of("c")) + len(encode_cursor(1, store.backend.last().recorded_at_ns))
    free[0] = FREE_BYTES_RESERVE + WRITE_FACTOR * size - 1
    assert isinstance(outcomes(store, advance(c=1))[0], StorageFull)
    free[0] += 1
    assert isinstance(outcomes(store, advance(c=1))[0], Appended)
