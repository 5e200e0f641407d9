"""The rules of appending, as values in and values out: no backend, no clock."""

from __future__ import annotations

import re
import uuid
from typing import Any

import pytest
from appends import append, event, key

from rewind.backends.contract import Found
from rewind.errors import (
    BadRequest,
    IdConflict,
    Internal,
    RequestError,
    StoreDamaged,
    WrongExpectedVersion,
)
from rewind.events import Append, Appended, AppendEvent, Event, own_id, own_id_prefix
from rewind.store.plan import Facts, plan

PREFIX = own_id_prefix(uuid.UUID(int=1 << 100))


def nothing(first: int, last: int) -> list[Event]:
    raise AssertionError("a plan of new appends asks for nothing stored")


def unasked(items: Any, after: int) -> Found:
    raise AssertionError("a plan without conditions asks for no match")


def known(**changes: Any) -> Facts:
    fields = {
        "head": 10,
        "last_time_ns": 100,
        "own_prefix": PREFIX,
        "versions": {"s": 3},
        "appends": {},
        "positions": {},
        "stored": nothing,
        "cursors": {},
        "first_match": unasked,
        **changes,
    }
    return Facts(**fields)


def outcomes(*appends: Append, now_ns: int = 200, **changes: Any) -> list[Appended | RequestError]:
    return plan(appends, known(**changes), now_ns, "fsync").outcomes


def test_positions_follow_the_head_and_versions_their_streams() -> None:
    result = plan([append(event("s"), event("new"), event("s"))], known(), 200, "fsync")
    numbers = [(r.event.position, r.event.stream, r.event.version) for r in result.records]
    assert numbers == [(11, "s", 4), (12, "new", 1), (13, "s", 5)]
    own_ids = tuple(own_id(PREFIX, position) for position in (11, 12, 13))
    assert result.outcomes == [Appended(11, 13, own_ids, {"s": 5, "new": 1}, False, "fsync")]


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


def test_a_refusal_is_a_value_that_keeps_nothing_of_its_batch() -> None:
    (refused,) = outcomes(append(event("a"), s=9))
    assert isinstance(refused, WrongExpectedVersion)
    assert refused.__traceback__ is None and refused.__context__ is None


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


def test_neighbours_are_a_retry_also_where_one_is_stored_and_the_other_planned() -> None:
    last = Event(10, 90, key(7), "s", 3, "t", (), {}, b"7")
    first, both, other = outcomes(
        append(event(id=key(50))),
        append(event("s", b"7", key(7)), event(id=key(50))),
        append(event("s", b"7", key(7)), event(id=key(50), data=b"other")),
        positions={key(7): 10},
        stored=lambda first, last_: [last],
    )
    assert first.first == 11 and not first.duplicate
    assert (both.first, both.last, both.duplicate) == (10, 11, True)
    assert isinstance(other, IdConflict)


def test_an_append_id_is_that_of_the_append_that_was_stored_under_it_alone() -> None:
    stored_before, new = outcomes(
        append(event("s", b"7", key(7)), id=key(1)),
        append(id=key(1)),
        positions={key(7): 7},
        stored=stored,
    )
    assert stored_before.first == 7 and stored_before.duplicate
    assert new.first == 11 and not new.duplicate


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


def own(*numbers: int) -> list[AppendEvent]:
    return [event(id=own_id(PREFIX, number)) for number in numbers]


def test_events_of_a_longer_copy_are_taken_at_their_own_positions() -> None:
    result = plan(
        [append(*own(11, 12)), append(event(id=key(1)), *own(14)), append(*own(15))],
        known(),
        200,
        "fsync",
    )
    assert [(o.first, o.id_bytes, o.duplicate) for o in result.outcomes] == [
        (11, (), False),
        (13, (), False),
        (15, (), False),
    ]
    made = [record.event.id_bytes for record in result.records]
    assert made == [key(1) if n == 13 else own_id(PREFIX, n) for n in range(11, 16)]


def test_events_of_a_longer_copy_are_duplicates_the_second_time() -> None:
    first, again, other, partly = outcomes(
        append(*own(11, 12)),
        append(*own(11, 12)),
        append(event(data=b"other", id=own_id(PREFIX, 11)), *own(12)),
        append(*own(12, 13)),
    )
    assert isinstance(first, Appended) and isinstance(again, Appended)
    assert again == Appended(11, 12, (), first.versions, True, "fsync")
    assert isinstance(other, IdConflict) and isinstance(partly, IdConflict)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((12,), "for position 12 alone.* would be at position 11"),
        ((11, 13), "for position 13 alone.* would be at position 12"),
        ((12, 11), "for position 12 alone.* would be at position 11"),
        ((10**18,), "would be at position 11"),
        ((8,), "has not made this one"),  # A client's id has the event there.
    ],
)
def test_an_id_of_our_own_form_belongs_to_its_position_alone(
    numbers: tuple[int, ...], words: str
) -> None:
    refused, fine = outcomes(append(*own(*numbers)), append(), **KNOWN)
    assert isinstance(refused, BadRequest) and re.search(words, str(refused))
    assert isinstance(fine, Appended) and fine.first == 11


@pytest.mark.parametrize(
    "end", [bytes(8), b"\xff" * 8, (0xC000_0000_0000_0000 | 11).to_bytes(8, "big")]
)
def test_an_id_that_begins_as_ours_and_that_we_never_make_is_refused(end: bytes) -> None:
    (refused,) = outcomes(append(event(id=PREFIX + end)))
    assert isinstance(refused, BadRequest) and "has not made this one" in str(refused)


def test_an_id_that_leads_to_another_event_is_damage_and_no_conflict() -> None:
    (refused,) = outcomes(append(event("y", b"8", key(8))), positions={key(8): 7}, stored=stored)
    assert isinstance(refused, Internal) and "position 7" in str(refused)


def test_damage_met_by_a_retry_concerns_that_retry_alone() -> None:
    def damaged(first: int, last: int) -> list[Event]:
        raise StoreDamaged("position 4 fails its checksum")

    hurt, fine = outcomes(
        append(*RETRY, id=key(1)), append(), appends={key(1): (4, 5)}, stored=damaged
    )
    assert isinstance(hurt, Internal) and isinstance(fine, Appended)
