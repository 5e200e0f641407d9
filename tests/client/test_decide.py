"""Decisions step by step: who comes between, what is asked again, what is found."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from answers_by_hand import WHERE, Answers

import rewind
from rewind import NewEvent, QueryItem
from rewind.client.decide import decide
from rewind.client.requests import Requests
from rewind.errors import Unavailable

VIP = QueryItem(tags=["vip"])


def steps(decision: Callable[[Any], Any], append_id: uuid.UUID | None = None) -> Any:
    return decide(Requests(WHERE, 1), decision, "s", None, None, None, 3, append_id, None)


def play(answers: Answers, steps: Any, between: Callable[[Any], None] = lambda call: None) -> Any:
    """Carry out steps; ``between`` is called before each call is answered, and may raise."""
    try:
        call = next(steps)
        while True:
            try:
                between(call)
                reply = answers.reply(call)
                if isinstance(reply, Exception):
                    raise reply
            except rewind.RewindError as error:
                call = steps.throw(error)
            else:
                call = steps.send(call.value(reply))
    except StopIteration as end:
        return end.value


@pytest.fixture
def client() -> Any:
    with rewind.open("memory:") as opened:
        yield opened


@pytest.mark.parametrize("what", [{"stream": "s"}, {"query": VIP}])
def test_a_conflict_is_decided_again_on_what_there_is_then(client: Any, what: Any) -> None:
    seen: list[int] = []

    def decision(events: list[rewind.Event]) -> Any:
        seen.append(len(events))
        if len(seen) < 3:
            client.append("s", NewEvent("between", tags=["vip"]))
        return [("s", NewEvent("decided", tags=["vip"]))]

    assert client.decide(decision, **what).last == 3
    assert seen == [0, 1, 2]


@pytest.mark.parametrize(
    ("what", "error"),
    [({"stream": "s"}, rewind.WrongExpectedVersion), ({"query": VIP}, rewind.ConditionFailed)],
)
def test_the_last_conflict_is_raised(
    client: Any, what: Any, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    pauses: list[tuple[float, float]] = []
    monkeypatch.setattr(
        "rewind.client.decide.random.uniform", lambda *bounds: pauses.append(bounds) or 0.0
    )

    def decision(events: list[rewind.Event]) -> Any:
        seen.append(len(events))
        client.append("s", NewEvent("between", tags=["vip"]))
        return [("s", NewEvent("decided"))]

    with pytest.raises(error) as raised:
        client.decide(decision, attempts=4, **what)
    assert raised.value.__notes__ == ["decide gave up: others were faster each time, attempts=4"]
    assert seen == [0, 1, 2, 3]
    assert pauses == [(0, 0.002), (0, 0.004), (0, 0.008)]  # There is none behind the last attempt.
    assert client.last(query=QueryItem(types=["decided"])) is None


def test_what_does_not_matter_does_not_conflict(client: Any) -> None:
    seen: list[int] = []

    def decision(events: list[rewind.Event]) -> Any:
        seen.append(len(events))
        client.append("other", NewEvent("between"))
        return [("s", NewEvent("decided"))]

    client.decide(decision, query=VIP)
    client.decide(decision, stream="s")
    assert seen == [0, 1]


def test_a_state_that_a_fold_changes_is_begun_anew(client: Any) -> None:
    client.append("s", [NewEvent("a"), NewEvent("b")])
    initial: dict[str, int] = {}
    states: list[dict[str, int]] = []

    def count(state: dict[str, int], event: rewind.Event) -> dict[str, int]:
        state[event.type] = state.get(event.type, 0) + 1
        return state

    def decision(state: dict[str, int]) -> Any:
        states.append(dict(state))
        if len(states) < 3:
            client.append("s", NewEvent("c"))
        return NewEvent("d")

    client.decide(decision, stream="s", fold=count, initial=initial)
    assert states == [{"a": 1, "b": 1, **more} for more in ({}, {"c": 1}, {"c": 2})]
    assert initial == {}


def test_what_a_decision_raises_passes_through_and_nothing_is_stored(client: Any) -> None:
    refused = rewind.CursorMoved("the decision's own", 1, 2)

    def decision(events: list[rewind.Event]) -> Any:
        raise refused

    with pytest.raises(rewind.CursorMoved) as raised:
        client.decide(decision, stream="s")
    assert raised.value is refused and client.head() == 0


def test_an_attempt_that_was_stored_and_not_answered_is_found() -> None:
    answers, command = Answers(), uuid.uuid4()

    def lose_the_answer(call: Any) -> None:
        if call.command == b"APPEND":
            assert call.append_id == command.bytes
            answers.reply(call)
            raise Unavailable("no answer", call.append_id)

    with pytest.raises(Unavailable):
        play(answers, steps(lambda events: NewEvent("t"), command), lose_the_answer)
    found = play(answers, steps(lambda events: pytest.fail("it is decided"), command))
    assert (found.first, found.duplicate, answers.store.head) == (1, True, 1)


@pytest.mark.parametrize("content", [b"same", b"other"])
def test_an_attempt_that_is_stored_late_is_found(content: bytes) -> None:
    """The same command's earlier append arrives while it is decided on again."""
    answers, command = Answers(), uuid.uuid4()
    late = Requests(WHERE, 1).append("s", NewEvent("t", b"same"), 0, command)

    def deliver(call: Any) -> None:
        if call.command == b"APPEND":
            answers.reply(late)

    found = play(answers, steps(lambda events: NewEvent("t", content), command), deliver)
    assert (found.first, found.duplicate, answers.store.head) == (1, True, 1)


def test_an_attempt_that_is_stored_before_the_read_is_not_what_is_decided_on() -> None:
    answers, command = Answers(), uuid.uuid4()
    late = Requests(WHERE, 1).append("s", NewEvent("t", b"same"), 0, command)
    asked: list[bytes] = []

    def deliver(call: Any) -> None:
        asked.append(call.command)
        if len(asked) == 1:
            answers.reply(late)

    found = play(
        answers, steps(lambda events: pytest.fail(f"decided on {events}"), command), deliver
    )
    assert (found.first, found.duplicate) == (1, True)


def test_a_conflict_of_ids_of_events_is_no_repetition_of_the_command(client: Any) -> None:
    known = uuid.uuid4()
    client.append("t", NewEvent("t", b"1", id=known))
    with pytest.raises(rewind.IdConflict):
        client.decide(lambda events: NewEvent("t", b"2", id=known), stream="s")
    with pytest.raises(rewind.IdConflict):
        client.decide(
            lambda events: NewEvent("t", b"2", id=known), stream="s", append_id=uuid.uuid4()
        )


def test_all_of_it_is_of_one_store() -> None:
    answers, stores = Answers(), []
    decided = steps(lambda events: NewEvent("t"), uuid.uuid4())
    play(answers, decided, lambda call: stores.append(call.store_id))
    id = answers.store.id.bytes
    assert stores == [None, id, id]


# asyncio


def test_a_decision_may_be_a_coroutine() -> None:
    async def main() -> None:
        async with rewind.open_async("memory:") as client:

            async def decision(events: list[rewind.Event]) -> Any:
                await asyncio.sleep(0)
                if len(events) < 2:
                    await client.append("s", NewEvent("between"))
                return NewEvent("decided")

            done = await client.decide(decision, stream="s")
            assert done is not None and done.last == 3

            async def failing(events: list[rewind.Event]) -> Any:
                await asyncio.sleep(0)
                raise ValueError("the decision's own")

            with pytest.raises(ValueError, match="own"):
                await client.decide(failing, stream="s")
            assert (await client.decide(lambda events: None, stream="s")) is None

    asyncio.run(main())


def test_the_blocking_client_waits_for_no_coroutine(client: Any) -> None:
    async def decision(events: list[rewind.Event]) -> Any:
        return NewEvent("t")

    with pytest.raises(TypeError, match="give a function that is no coroutine"):
        client.decide(decision, stream="s")
