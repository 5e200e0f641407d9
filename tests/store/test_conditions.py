"""Append conditions: what they are judged against, what was committed lately, and their bounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from appends import append, event, guarded, key
from hypothesis import given
from hypothesis import strategies as st

from rewind.backends.memory import MemoryBackend
from rewind.errors import BadRequest, ConditionFailed, ConditionTooWide, WrongExpectedVersion
from rewind.events import Append, Appended
from rewind.query import Condition, QueryItem
from rewind.store import Store, conditions
from rewind.store.conditions import CREDIT_EVENTS, RecentEvents

COURSE = QueryItem(tags=("course-1",))


def tagged(*tags: str, **more: Any) -> Any:
    return event(tags=tags, **more)


def outcomes(store: Store, *appends: Append) -> list[Any]:
    return store.append(appends)[0]


def refused(store: Store, *appends: Append) -> tuple[int, int]:
    """Condition and position that the last of these appends failed for."""
    failed = outcomes(store, *appends)[-1]
    assert isinstance(failed, ConditionFailed), failed
    return failed.condition, failed.position


@pytest.fixture
def store() -> Store:
    store = Store(MemoryBackend())
    store.append([append(tagged("course-1")), append(tagged("x")), append(tagged("course-1"))])
    return store


def test_a_condition_fails_with_the_first_event_that_matches_after_the_decision(
    store: Store,
) -> None:
    assert refused(store, guarded(COURSE)) == (0, 1)
    assert refused(store, guarded(COURSE, 1)) == (0, 3)
    assert refused(store, guarded(None, 1)) == (0, 2)
    assert store.head == 3
    assert outcomes(store, guarded(COURSE, 3))[0].first == 4


def test_the_condition_that_failed_is_named_by_its_number(store: Store) -> None:
    held, failed = Condition((QueryItem(tags=("none",)),), 0), Condition((COURSE,), 2)
    answer = outcomes(store, Append((event(),), conditions=(held, failed, Condition(None, 0))))[0]
    assert (answer.condition, answer.position) == (1, 3)
    assert "conditions[1]" in str(answer) and "position 3" in str(answer)


def test_appends_earlier_in_the_commit_count(store: Store) -> None:
    seat = tagged("course-1", "student-7")
    first, second, other = outcomes(
        store, guarded(COURSE, 3, seat), guarded(COURSE, 3, seat), guarded(COURSE, 4, seat)
    )
    assert (first.first, other.first) == (4, 5)
    assert isinstance(second, ConditionFailed) and second.position == 4


def test_a_refused_append_of_the_commit_fails_no_condition(store: Store) -> None:
    wrong = append(tagged("course-1"), s=9)
    assert isinstance(outcomes(store, wrong, guarded(COURSE, 3))[1], Appended)


def test_a_condition_may_count_on_what_the_commit_adds_before_it(store: Store) -> None:
    assert refused(store, append(tagged("y")), append(tagged("x")), guarded(None, 4)) == (0, 5)


def test_a_decision_made_beyond_the_head_is_a_bad_request(store: Store) -> None:
    answer = outcomes(store, guarded(COURSE, 4))[0]
    assert isinstance(answer, BadRequest)
    assert "conditions[0]: after is 4, and the head is 3" in str(answer)
    assert isinstance(outcomes(store, append(), guarded(COURSE, 4))[1], Appended)


def test_expected_versions_are_looked_at_before_conditions(store: Store) -> None:
    both = Append((event(),), expected={"s": 0}, conditions=(Condition((COURSE,), 0),))
    assert isinstance(outcomes(store, both)[0], WrongExpectedVersion)


def test_a_retry_is_answered_before_its_condition_is_looked_at(store: Store) -> None:
    seat = guarded(COURSE, 3, tagged("course-1"), id=key(1))
    first, again = outcomes(store, seat, seat)
    assert again.duplicate and again.first == first.first == 4
    assert outcomes(store, seat)[0].duplicate


def test_two_tags_that_never_meet_are_no_match(store: Store) -> None:
    store.append([append(tagged("course-1")), append(tagged("x"))])
    assert isinstance(outcomes(store, guarded(QueryItem(tags=("course-1", "x"))))[0], Appended)


class Counting(MemoryBackend):
    """A backend that counts how often its index is asked."""

    asked = 0

    def matching(self, *question: Any, **more: Any) -> Any:
        self.asked += 1
        return super().matching(*question, **more)


def test_a_decision_made_a_moment_ago_needs_no_index() -> None:
    backend = Counting()
    store = Store(backend)
    store.append([append(tagged("a")) for _ in range(100)])
    tag = QueryItem(tags=("a",))
    assert refused(store, *[guarded(tag, 50)] * 5) == (0, 51)
    assert backend.asked == 1, "the same condition is looked up once a commit"
    store.append([guarded(tag, 100, tagged("b"))])
    store.append([guarded(tag, 100, tagged("a")), append(tagged("c"))])
    assert refused(store, guarded(tag, 100)) == (0, 102)
    assert isinstance(outcomes(store, guarded(tag, 102))[0], Appended)
    assert backend.asked == 1


def test_nothing_is_kept_lately_while_no_conditions_are_asked() -> None:
    backend = Counting()
    store = Store(backend)
    tag = QueryItem(tags=("a",))
    store.append([append()])
    store.append([guarded(tag, 0)])
    for _ in range(CREDIT_EVENTS + 1):
        store.append([append(event())])
    assert isinstance(outcomes(store, guarded(tag, 2))[0], Appended)
    assert backend.asked == 2


NAMES = st.sampled_from("abc")
EVENTS = st.lists(
    st.tuples(NAMES, st.sampled_from(["s", "s-1", "t"]), st.lists(NAMES, max_size=2).map(tuple)),
    max_size=40,
)
ITEMS = st.builds(
    lambda types, tags, streams, categories: (types, tags, streams, categories),
    *[st.lists(NAMES, max_size=2).map(tuple)] * 2,
    *[st.lists(st.sampled_from(["s", "s-1", "t"]), max_size=1).map(tuple)] * 2,
).filter(any)


@given(
    events=EVENTS,
    items=st.lists(
        ITEMS.map(lambda i: QueryItem(types=i[0], tags=i[1], streams=i[2], categories=i[3])),
        min_size=1,
        max_size=2,
    ),
    after=st.integers(0, 40),
    full=st.integers(1, 100),
)
def test_what_was_committed_lately_is_as_exact_as_the_index(
    events: list[Any], items: Sequence[QueryItem], after: int, full: int
) -> None:
    store, recent = Store(MemoryBackend()), RecentEvents(0)
    unlimited, conditions.POSTINGS_MAX = conditions.POSTINGS_MAX, full
    try:
        recent._credit = 100
        for type, stream, tags in events:
            _, records = store.append([append(event(stream, type=type, tags=tags))])
            assert recent.add(records)
    finally:
        conditions.POSTINGS_MAX = unlimited
    after = min(after, store.head)
    found = recent.first(items, after)
    if found is None:
        assert after < recent.after
    else:
        assert found.positions == store.backend.matching(items, after, store.head, 1).positions
        assert found.positions or found.reached == store.head


@pytest.mark.parametrize("recent", [False, True])
def test_a_condition_that_is_too_wide_says_how_far_it_looked_and_can_be_asked_again(
    monkeypatch: pytest.MonkeyPatch, recent: bool
) -> None:
    monkeypatch.setattr(conditions, "CONDITION_SEEKS_MAX", 20)
    monkeypatch.setattr("rewind.store.CONDITION_SEEKS_MAX", 20)
    store = Store(MemoryBackend())
    if recent:
        store.append([append()])
        store.append([guarded(COURSE)] * 10)
    # A walk through these two tags finds each at every other event, and never both in one.
    for _ in range(100):
        store.append([append(tagged("a"), tagged("b"), tagged("b"), tagged("a"))])
    both, after, looks = QueryItem(tags=("a", "b")), store.head - 400, 0
    while isinstance(answer := outcomes(store, guarded(both, after))[0], ConditionTooWide):
        assert answer.examined > after and answer.condition == 0
        assert f"after: {answer.examined}" in str(answer)
        after, looks = answer.examined, looks + 1
    assert isinstance(answer, Appended) and looks > 1
