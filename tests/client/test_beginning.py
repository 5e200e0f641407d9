"""Where a subscription begins, step by step: what another consumer does between."""

from __future__ import annotations

from typing import Any

import pytest
from answers_by_hand import WHERE, Answers
from test_decide import play

from rewind.client.beginning import Beginning, begin
from rewind.client.requests import Requests
from rewind.errors import Unavailable
from rewind.events import Advance
from rewind.wire.native import Read

REQUESTS = Requests(WHERE, 1)


def steps(now: bool, cursor: str | None, **read: Any) -> Any:
    return begin(REQUESTS, Read(**read), Beginning(0, None), now, cursor)


@pytest.fixture
def answers() -> Answers:
    made = Answers()
    made.append(5)
    return made


def test_what_is_known_is_not_asked_for(answers: Answers) -> None:
    given = Beginning(3, b"A" * 16)
    asked: list[Any] = []
    assert play(answers, begin(REQUESTS, Read(), given, False, None), asked.append) == given
    assert asked == []


def test_now_is_the_head_or_the_version_when_it_is_asked_for(answers: Answers) -> None:
    answers.append(2, "t")
    id = answers.store.id.bytes
    assert play(answers, steps(True, None)) == Beginning(7, id)
    assert play(answers, steps(True, None, stream="t")) == Beginning(2, id)
    assert play(answers, steps(True, None, stream="none")) == Beginning(0, id)


def test_now_is_asked_for_before_what_is_asked_later() -> None:
    for cursor in (None, "c"):
        assert next(steps(True, cursor)).first


def test_a_cursor_is_put_at_the_head_that_it_was_missing_at(answers: Answers) -> None:
    """Events that come between the two steps are not skipped."""
    asked: list[bytes] = []

    def between(call: Any) -> None:
        asked.append(call.command)
        if call.command == b"APPEND":
            answers.append(2)

    assert play(answers, steps(True, "c"), between) == Beginning(5, answers.store.id.bytes)
    assert asked == [b"CURSORS", b"APPEND"]
    assert answers.store.cursor("c").position == 5


def test_two_consumers_of_one_name_begin_at_one_place(answers: Answers) -> None:
    def between(call: Any) -> None:
        if call.command == b"APPEND":
            answers.reply(REQUESTS.advance("c", Advance(3)))

    assert play(answers, steps(True, "c"), between) == Beginning(3, answers.store.id.bytes)


def test_an_advance_that_was_stored_and_not_answered_is_found(answers: Answers) -> None:
    def lose_the_answer(call: Any) -> None:
        if call.command == b"APPEND":
            answers.reply(call)
            raise Unavailable("no answer")

    with pytest.raises(Unavailable):
        play(answers, steps(True, "c"), lose_the_answer)
    answers.append(2)
    assert play(answers, steps(True, "c")) == Beginning(5, answers.store.id.bytes)
