"""What is under way: sent, late, sent again, sent together; without a socket, a loop or a clock."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from rewind.client.appends import WEIGHT_MAX
from rewind.client.outstanding import (
    APPEND_MESSAGES_MAX,
    IN_FLIGHT_MAX,
    TOGETHER_BYTES_MAX,
    TOGETHER_MIN,
    Outstanding,
    body_of,
    take_together,
)
from rewind.client.requests import ATTEMPT_S_MIN, PAUSE_S_MAX, Call
from rewind.errors import (
    BadRequest,
    Closed,
    ConditionTooWide,
    Overloaded,
    StoreChanged,
    Unavailable,
)
from rewind.wire.replies import Reply

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode

Message = tuple[bytes, bytes, bytes]
NOW_S = 1.0


def append(number: int = 0, timeout_s: float = 60.0) -> Call[Any]:
    return Call("w", b"APPEND", pack(number), lambda reply: reply, timeout_s, b"i" * 16, 1)


def read(number: int = 0, timeout_s: float = 60.0) -> Call[Any]:
    return Call("w", b"READ", pack(number), lambda reply: reply, timeout_s)


def asked(
    outstanding: Outstanding, calls: Sequence[Call[Any]], now_s: float = 1.0
) -> list[Message]:
    """Ask these calls and wait for them; what is sent at once."""
    for call in calls:
        outstanding.ask(call)
        outstanding.expect(call, now_s)
    return list(outstanding.to_send(NOW_S))


def ok(message: Message, body: Any = None) -> list[bytes]:
    """The answer to a message; of several appends, their numbers."""
    content = unpack(message[2])
    if body is None:
        body = [{"n": n} for n in content] if isinstance(content, list) else {"n": content}
    return [b"OK", message[1], pack(body)]


def refusal(message: Message, code: str) -> list[bytes]:
    return [b"ERROR", message[1], pack({"code": code, "message": "m", "retryable": True})]


def test_a_call_is_sent_once_and_settled_by_its_answer() -> None:
    outstanding, call = Outstanding("w"), read(7)
    (message,) = asked(outstanding, [call])
    assert message[0] == b"READ" and list(outstanding.to_send(NOW_S)) == []
    assert outstanding.received(ok(message), 2.0) == [call]
    assert call.result().body == {"n": 7}
    assert outstanding.received(ok(message), 2.0) == []  # a repetition


def test_appends_that_wait_go_in_few_messages_and_get_their_own_answers() -> None:
    outstanding = Outstanding("w")
    calls = [append(number) for number in range(203)]
    messages = asked(outstanding, calls)
    assert [len(unpack(body)) for _, _, body in messages] == [51, 51, 51, 50]
    late = [append(number) for number in (300, 301)]
    assert asked(outstanding, late) == []  # there is no room for a fifth message
    settled = outstanding.received(ok(messages[1]), 2.0)
    assert settled == calls[51:102]
    assert [call.outcome.body["n"] for call in settled] == list(range(51, 102))
    (message,) = outstanding.to_send(NOW_S)
    assert unpack(message[2]) == [300, 301]


def test_a_read_asked_after_appends_is_sent_after_them() -> None:
    outstanding = Outstanding("w")
    outstanding.ask(append(1))
    outstanding.ask(read(2))
    assert [message[0] for message in outstanding.to_send(NOW_S)] == [b"APPEND", b"READ"]


def test_what_goes_first_is_sent_before_all_that_waits_also_over_a_new_connection() -> None:
    outstanding = Outstanding("w")
    first = read(3)
    first.first = True
    for call in (append(1), read(2), first):
        outstanding.ask(call)
        outstanding.expect(call, NOW_S)
    in_order = [pack(3), pack(1), pack(2)]
    assert [message[2] for message in outstanding.to_send(NOW_S)] == in_order
    late = read(4)
    late.first = True
    outstanding.ask(late)
    assert outstanding.overdue(1.0 + ATTEMPT_S_MIN) == ([], True)
    in_order.insert(
        1, pack(4)
    )  # It is sent once, though it was not sent over the connection before.
    assert [message[2] for message in outstanding.to_send(NOW_S)] == in_order


def too_wide(message: Message, condition: int, examined: int) -> list[bytes]:
    body = {"code": "condition_too_wide", "message": "m", "retryable": False}
    return [b"ERROR", message[1], pack({**body, "condition": condition, "examined": examined})]


def conditional(timeout_s: float = 10.0) -> Call[Any]:
    conditions = [{"fail_if_events_match": None}, {"fail_if_events_match": None, "after": 3}]
    body = pack({"id": b"i" * 16, "events": [], "conditions": conditions})
    return Call("w", b"APPEND", body, lambda reply: reply, timeout_s, b"i" * 16)


def test_a_condition_that_is_too_wide_goes_on_from_where_the_store_has_come_to() -> None:
    outstanding, call = Outstanding("w"), conditional()
    (message,) = asked(outstanding, [call])
    for condition, examined, afters in ((1, 5, [None, 5]), (0, 7, [7, 5]), (0, 9, [9, 5])):
        assert outstanding.received(too_wide(message, condition, examined), NOW_S) == []
        assert outstanding.due_s <= NOW_S, "it is asked at once"
        assert outstanding.received(too_wide(message, condition, 99), NOW_S) == []  # a repetition
        assert outstanding.overdue(NOW_S) == ([], False)
        (message,) = outstanding.to_send(NOW_S)
        body = unpack(message[2])
        assert body["id"] == b"i" * 16
        assert [each.get("after") for each in body["conditions"]] == afters
    assert outstanding.received(ok(message), NOW_S) == [call]


@pytest.mark.parametrize(("condition", "examined"), [(1, 3), (1, 0), (2, 9)])
def test_a_condition_that_comes_no_further_is_refused(condition: int, examined: int) -> None:
    outstanding, call = Outstanding("w"), conditional()
    (message,) = asked(outstanding, [call])
    assert outstanding.received(too_wide(message, condition, examined), NOW_S) == [call]
    with pytest.raises(ConditionTooWide):
        call.result()


def test_a_condition_that_is_too_wide_is_given_up_when_the_callers_time_is() -> None:
    outstanding, call = Outstanding("w"), conditional(timeout_s=2.0)
    (message,) = asked(outstanding, [call])
    outstanding.received(too_wide(message, 1, 9), NOW_S + 2.0)
    with pytest.raises(Unavailable, match=r"refused for 2 s: conditions\[1\]") as failed:
        call.result()
    assert failed.value.append_id == b"i" * 16


def test_no_more_messages_are_under_way_than_the_daemon_takes() -> None:
    outstanding = Outstanding("w")
    messages = asked(outstanding, [read(number) for number in range(IN_FLIGHT_MAX + 5)])
    assert len(messages) == IN_FLIGHT_MAX and outstanding.waiting
    outstanding.received(ok(messages[0]), 2.0)
    assert len(list(outstanding.to_send(NOW_S))) == 1


def test_what_is_late_alone_is_sent_again_alone_and_either_answer_settles_it() -> None:
    for which in (0, 1):
        outstanding, late = Outstanding("w"), append(1)
        (first,) = asked(outstanding, [late])
        (other,) = asked(outstanding, [read(2)], 1.5)
        outstanding.received(ok(other), 1.6)  # so the connection is alive
        settled, silent = outstanding.overdue(1.0 + ATTEMPT_S_MIN)
        assert settled == [] and not silent
        (second,) = outstanding.to_send(NOW_S)
        assert second[2] == first[2] and second[1] != first[1]
        answers = [ok(first), ok(second)]
        assert outstanding.received(answers[which], 3.0) == [late]
        assert outstanding.received(answers[1 - which], 3.0) == []


def test_a_late_message_makes_room_for_the_next() -> None:
    outstanding = Outstanding("w")
    for number in range(APPEND_MESSAGES_MAX):
        asked(outstanding, [append(number)])
    (beat,) = asked(outstanding, [read()], 1.5)
    outstanding.received(ok(beat), 1.6)
    outstanding.ask(append(99))
    assert list(outstanding.to_send(NOW_S)) == []
    outstanding.overdue(1.0 + ATTEMPT_S_MIN)
    assert 99 in [n for _, _, body in outstanding.to_send(NOW_S) for n in unpack(body)]


def test_a_connection_that_is_silent_is_given_up_and_all_is_sent_again() -> None:
    outstanding = Outstanding("w")
    calls = [append(1), read(2), append(3)]
    first = asked(outstanding, calls)
    settled, silent = outstanding.overdue(1.0 + ATTEMPT_S_MIN)
    assert settled == [] and silent
    again = list(outstanding.to_send(NOW_S))
    assert [message[0] for message in again] == [b"APPEND", b"READ"]
    assert unpack(again[0][2]) == [1, 3]
    for message in first:  # answers over the connection that was given up are nobody's
        assert outstanding.received(ok(message), 3.0) == []
    assert len([call for message in again for call in outstanding.received(ok(message), 3.0)]) == 3


def test_time_is_up_even_when_nothing_was_ever_heard() -> None:
    outstanding, call = Outstanding("w"), append(timeout_s=0.25)
    asked(outstanding, [call])
    assert outstanding.due_s == 1.25
    settled, silent = outstanding.overdue(1.25)
    assert settled == [call] and silent  # so the next call does not go the same way
    with pytest.raises(Unavailable, match="same append_id is safe"):
        call.result()
    for number in range(APPEND_MESSAGES_MAX):  # and holds up nobody
        assert len(asked(outstanding, [append(number)], 2.0)) == 1


def test_a_passing_refusal_pauses_and_another_is_the_outcome() -> None:
    outstanding, paused, refused = Outstanding("w"), read(1), read(2)
    messages = asked(outstanding, [paused, refused])
    assert outstanding.received(refusal(messages[0], "overloaded"), 1.1) == []
    assert outstanding.received(refusal(messages[1], "bad_request"), 1.1) == [refused]
    with pytest.raises(BadRequest):
        refused.result()
    assert list(outstanding.to_send(NOW_S)) == [] and 1.1 < outstanding.due_s < 1.1 + PAUSE_S_MAX
    assert outstanding.overdue(outstanding.due_s) == ([], False)
    (again,) = outstanding.to_send(NOW_S)
    assert outstanding.received(ok(again), 1.2) == [paused]


def test_a_refused_message_is_sent_again_by_each_of_its_appends() -> None:
    outstanding, calls = Outstanding("w"), [append(number) for number in range(10)]
    (message,) = asked(outstanding, calls)
    assert outstanding.received(refusal(message, "shutting_down"), 1.1) == []
    now_s = 1.1 + PAUSE_S_MAX
    assert outstanding.overdue(now_s) == ([], False)
    (again,) = outstanding.to_send(NOW_S)
    assert outstanding.received(ok(again), now_s) == calls


def says(frames: list[bytes], store_id: bytes) -> list[bytes]:
    """The answer, with the store that gave it; of several appends, in each."""
    body = unpack(frames[2])
    for each in body if isinstance(body, list) else [body]:
        each["store_id"] = store_id
    return [*frames[:2], pack(body)]


@pytest.mark.parametrize("command", [b"READ", b"APPEND"])
def test_what_a_store_refused_for_now_is_asked_of_that_store_again(command: bytes) -> None:
    call = Call("w", command, pack({"n": 1}), lambda reply: reply, 60.0, b"i" * 16, 1)
    outstanding = Outstanding("w")
    (message,) = asked(outstanding, [call])
    outstanding.received(says(refusal(message, "shutting_down"), b"A" * 16), 1.1)
    outstanding.overdue(1.1 + PAUSE_S_MAX)
    (again,) = outstanding.to_send(NOW_S)
    assert unpack(again[2]) == {"n": 1, "store_id": b"A" * 16}
    assert outstanding.received(says(refusal(again, "wrong_store"), b"B" * 16), 2.2) == [call]
    with pytest.raises(StoreChanged, match=r"42424242-.*41414141-"):
        call.result()


def test_an_answer_of_another_store_settles_only_what_was_not_for_that() -> None:
    outstanding, calls = Outstanding("w"), [append(number) for number in range(3)]
    calls[1].store_id = b"A" * 16
    (message,) = asked(outstanding, calls)
    assert outstanding.received(says(ok(message), b"B" * 16), 1.1) == calls
    assert [type(call.outcome) for call in calls] == [Reply, StoreChanged, Reply]


def test_a_daemon_that_says_no_store_is_not_believed_to_serve_the_one_wanted() -> None:
    for refused in (False, True):
        outstanding, call = Outstanding("w"), read()
        call.store_id = b"A" * 16
        (message,) = asked(outstanding, [call])
        answer = refusal(message, "bad_request") if refused else ok(message)
        assert outstanding.received(answer, 1.1) == [call]
        with pytest.raises(StoreChanged, match="does not say which store"):
            call.result()


def test_an_earlier_daemon_that_refused_for_now_is_asked_with_the_same_bytes() -> None:
    outstanding, call = Outstanding("w"), read()
    (message,) = asked(outstanding, [call])
    outstanding.received(refusal(message, "overloaded"), 1.1)
    outstanding.overdue(1.1 + PAUSE_S_MAX)
    (again,) = outstanding.to_send(NOW_S)
    assert again[2] == message[2]
    assert outstanding.received(ok(again), 2.2) == [call] and call.result().body == {"n": 0}


def test_a_refusal_that_outlasts_the_callers_time_is_unavailable() -> None:
    outstanding, call = Outstanding("w"), read(timeout_s=0.001)
    (message,) = asked(outstanding, [call])
    assert outstanding.received(refusal(message, "overloaded"), 1.0) == [call]
    with pytest.raises(Unavailable) as failed:
        call.result()
    assert isinstance(failed.value.__cause__, Overloaded)


def test_a_page_read_ahead_is_never_late_until_somebody_waits() -> None:
    outstanding, ahead = Outstanding("w"), read()
    outstanding.ask(ahead)
    (message,) = outstanding.to_send(NOW_S)
    assert outstanding.overdue(1e6) == ([], False) and outstanding.due_s == float("inf")
    outstanding.expect(ahead, 2e6)
    assert outstanding.due_s == 2e6 + ATTEMPT_S_MIN
    assert outstanding.received(ok(message), 2e6) == [ahead]
    outstanding.expect(ahead, 3e6)  # its answer is here: harmless


def test_a_page_read_ahead_that_was_refused_is_asked_again_when_the_pause_is_over() -> None:
    outstanding, ahead = Outstanding("w"), read(timeout_s=10.0)
    outstanding.ask(ahead)
    (message,) = outstanding.to_send(NOW_S)
    assert outstanding.received(refusal(message, "overloaded"), 1.0) == []
    outstanding.expect(ahead, 1.0)
    assert outstanding.due_s <= 1.0 + PAUSE_S_MAX
    outstanding.overdue(outstanding.due_s)
    assert len(list(outstanding.to_send(NOW_S))) == 1


def test_a_caller_who_is_busy_with_a_page_has_time_left_for_the_next() -> None:
    """The next page was refused for now, and asked again, while nobody waited for it."""
    outstanding, ahead = Outstanding("w"), read(timeout_s=1.5)
    outstanding.ask(ahead)
    (message,) = outstanding.to_send(1.0)
    outstanding.received(refusal(message, "shutting_down"), 1.0)
    assert outstanding.overdue(1.0 + PAUSE_S_MAX) == ([], False)
    (again,) = outstanding.to_send(1.0 + PAUSE_S_MAX)
    assert outstanding.due_s == float("inf") and outstanding.overdue(60.0) == ([], False)
    outstanding.expect(ahead, 60.0)
    assert outstanding.received(ok(again), 61.0) == [ahead]


def test_an_attempt_begins_when_it_is_sent_and_the_callers_time_when_they_call() -> None:
    outstanding = Outstanding("w")
    first = asked(outstanding, [read(n) for n in range(IN_FLIGHT_MAX)])
    late, short = read(-1), read(-2, timeout_s=2.0)
    assert asked(outstanding, [late, short]) == []
    outstanding.received(ok(first[0]), 2.9)
    (message,) = outstanding.to_send(2.9)
    assert unpack(message[2]) == -1 and late.due_s == 2.9 + ATTEMPT_S_MIN
    for each in first[1:]:
        outstanding.received(ok(each), 2.9)
    assert outstanding.overdue(3.0) == ([short], False)
    with pytest.raises(Unavailable):
        short.result()


def test_lost_answers_do_not_hold_up_what_is_sent_again() -> None:
    outstanding = Outstanding("w")
    first = asked(outstanding, [read(n) for n in range(IN_FLIGHT_MAX)])
    outstanding.received(ok(first[0]), 1.5)  # so the connection is alive
    assert outstanding.overdue(1.0 + ATTEMPT_S_MIN) == ([], False)
    assert len(list(outstanding.to_send(2.0))) == IN_FLIGHT_MAX - 1


def test_a_late_refusal_is_no_answer_to_what_is_being_asked_again() -> None:
    for sent in (False, True):
        outstanding, call = Outstanding("w"), read(1)
        (first,) = asked(outstanding, [call])
        (beat,) = asked(outstanding, [read(2)], 1.5)
        outstanding.received(ok(beat), 1.6)
        outstanding.overdue(1.0 + ATTEMPT_S_MIN)
        again = list(outstanding.to_send(2.0)) if sent else []
        assert outstanding.received(refusal(first, "overloaded"), 2.0) == []
        again += outstanding.to_send(2.0)
        assert len(again) == 1 and outstanding.received(ok(again[0]), 2.1) == [call]


def test_what_nobody_wants_is_not_sent_and_holds_up_nobody() -> None:
    outstanding = Outstanding("w")
    sent = [append(number) for number in range(APPEND_MESSAGES_MAX)]
    for call in sent:
        assert len(asked(outstanding, [call])) == 1
    waits, forgotten = append(8), append(9)
    for call in (waits, forgotten):
        outstanding.ask(call)
    outstanding.forget(forgotten)
    assert list(outstanding.to_send(NOW_S)) == []
    outstanding.forget(sent[0])
    outstanding.forget(sent[0])
    (message,) = outstanding.to_send(NOW_S)
    assert unpack(message[2]) == 8


def test_an_answer_that_is_no_array_fails_its_appends_alone() -> None:
    outstanding, calls, other = Outstanding("w"), [append(1), append(2)], read(3)
    message, third = asked(outstanding, [*calls, other])
    assert outstanding.received(ok(message, [{"n": 1}]), 1.1) == calls
    for call in calls:
        with pytest.raises(Unavailable, match="native protocol"):
            call.result()
    assert outstanding.received(ok(third), 1.1) == [other]


MALFORMED = [
    b"",
    b"\xc1",
    pack(7),
    pack([1]),
    b"\x91" * 1_000_000,
    b"\xd9\x01\xff",
    pack({"store_id": "x"}),
]


@pytest.mark.parametrize("status", [b"OK", b"ERROR"])
@pytest.mark.parametrize("body", MALFORMED)
def test_an_answer_that_cannot_be_understood_fails_its_call_alone(
    status: bytes, body: bytes
) -> None:
    outstanding, calls, other = Outstanding("w"), [append(1), append(2)], read(3)
    message, third = asked(outstanding, [*calls, other])
    assert outstanding.received([status, message[1], body], 1.1) == calls
    for call in calls:
        with pytest.raises(Unavailable, match="native protocol") as failed:
            call.result()
        assert failed.value.append_id == call.append_id
    assert outstanding.received(ok(third), 1.1) == [other]


def test_one_of_several_answers_that_cannot_be_understood_fails_its_append_alone() -> None:
    wrong = [7, [], {"code": 7}, {"code": "wrong_expected_version"}, {"store_id": b"short"}]
    for body in wrong:
        outstanding, calls = Outstanding("w"), [append(1), append(2), append(3)]
        (message,) = asked(outstanding, calls)
        assert outstanding.received(ok(message, [{"n": 1}, body, {"n": 3}]), 1.1) == calls
        assert [call.result().body["n"] for call in (calls[0], calls[2])] == [1, 3]
        with pytest.raises(Unavailable, match="native protocol"):
            calls[1].result()


def test_five_thousand_calls_that_nobody_answers_end_together() -> None:
    outstanding, calls = Outstanding("w"), [append(n, 0.5) for n in range(5_000)]
    asked(outstanding, calls)  # Most of them wait for their turn, and are never sent.
    assert outstanding.due_s == NOW_S + 0.5
    settled, silent = outstanding.overdue(NOW_S + 0.5)
    assert (settled, silent) == (calls, True)


def test_what_is_not_rewind_fails_all() -> None:
    outstanding, calls = Outstanding("w"), [append(1), read(2)]
    asked(outstanding, calls)
    assert outstanding.received([b"ERROR no such command"], 1.1) == calls
    assert [call.outcome.append_id for call in calls] == [b"i" * 16, None]
    assert not outstanding.waiting and list(outstanding.to_send(NOW_S)) == []


def test_closing_settles_all() -> None:
    outstanding, calls = Outstanding("w"), [append(1), read(2)]
    outstanding.ask(calls[0])
    asked(outstanding, calls[1:])
    assert outstanding.fail(lambda call: Closed("c")) == calls
    assert calls[0].outcome is not calls[1].outcome
    with pytest.raises(Closed):
        calls[0].result()


def test_appends_go_together_up_to_a_bound() -> None:
    def together(most: int, *sizes: tuple[int, int]) -> int:
        calls = [Call("w", b"APPEND", b"x" * s, id, 1.0, None, e) for e, s in sizes]  # type: ignore[arg-type]
        return len(take_together(deque(calls), most))

    most = WEIGHT_MAX
    assert together(9, *[(1, 10)] * 5) == 5
    assert together(4, *[(1, 10)] * 5) == 4
    assert together(9_999, *[(1, 10)] * (most + 5)) == most
    assert together(9, (most, 10), (1, 10)) == 1
    assert together(9, (4_096, 10)) == 1
    assert together(9, *[(1, TOGETHER_BYTES_MAX // 2)] * 3) == 2
    assert together(9, *[(1, TOGETHER_BYTES_MAX + 1)] * 2) == 1
    assert body_of([append(1)]) == pack(1) and body_of([append(1), append(2)]) == pack([1, 2])
    assert most > TOGETHER_MIN


@pytest.mark.parametrize("seed", range(60))
def test_whatever_happens_every_call_has_one_outcome(seed: int) -> None:
    """Random calls, losses, refusals, late answers, silences and callers who give up."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    random.seed(seed)  # for the pauses
    outstanding = Outstanding("w")
    now_s, count = 1.0, 0
    unsettled: dict[int, Call[Any]] = {}
    wire: list[Message] = []  # messages of this connection whose answer may still come

    def settle(calls: list[Call[Any]]) -> None:
        for call in calls:
            number = unpack(call.body)
            assert unsettled.pop(number) is call  # once, and not after it was given up
            assert call.outcome is not None
            if isinstance(call.outcome, Reply):
                assert call.outcome.body == {"n": number}

    def ask() -> None:
        nonlocal count
        for _ in range(chance.choice((1, 1, 2, 40))):
            call = chance.choice((append, append, read))(count, chance.choice((0.5, 5.0, 60.0)))
            unsettled[count] = call
            count += 1
            outstanding.ask(call)
            outstanding.expect(call, now_s)
        wire.extend(outstanding.to_send(now_s))

    def answer() -> None:
        if wire:
            message = wire.pop(chance.randrange(len(wire)))
            fate = chance.random()
            if fate < 0.7:
                settle(outstanding.received(ok(message), now_s))
            elif fate < 0.8:
                settle(outstanding.received(refusal(message, "overloaded"), now_s))
            elif fate < 0.85:
                settle(outstanding.received(refusal(message, "internal"), now_s))
        wire.extend(outstanding.to_send(now_s))

    def give_up() -> None:
        if unsettled and chance.random() < 0.3:
            number = chance.choice(list(unsettled))
            outstanding.forget(unsettled.pop(number))
            wire.extend(outstanding.to_send(now_s))

    def time_passes() -> None:
        nonlocal now_s
        now_s += chance.choice((0.01, 0.3, 3.0))
        look()

    def look() -> None:
        if outstanding.due_s <= now_s:
            settled, silent = outstanding.overdue(now_s)
            settle(settled)
            if silent:
                wire.clear()
        wire.extend(outstanding.to_send(now_s))

    for _ in range(300):
        chance.choice((ask, answer, answer, answer, give_up, time_passes))()
        appends = [message for message in outstanding._messages.values() if len(message) > 1]
        assert len(outstanding._append_messages) <= APPEND_MESSAGES_MAX
        assert outstanding._append_messages | outstanding._other_messages <= set(
            outstanding._messages
        )
        assert set(outstanding._calls) == set(unsettled.values()), appends
    for _ in range(200):  # in the end the daemon answers everything
        for message in wire[:]:
            settle(outstanding.received(ok(message), now_s))
        wire.clear()
        now_s += 1.0
        look()
    assert not unsettled and not outstanding.waiting and not outstanding._messages
