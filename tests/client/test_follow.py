"""Following a store over lost connections and messages: without a socket, a thread or a clock."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from answers_by_hand import WHERE, Answers

from rewind.client import follow
from rewind.client.follow import LIVE, Delivery, Follower
from rewind.client.requests import PAUSE_S_MIN, Call
from rewind.errors import Internal, StoreChanged
from rewind.events import Record
from rewind.wire.native import Read

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


class Shell:
    """Drives a ``Follower`` the way sockets do, by hand."""

    def __init__(self, answers: Answers, follower: Follower) -> None:
        self.answers = answers
        self.follower = follower
        self.now_s = 0.0
        self.asked: list[tuple[bytes, bytes, bytes]] = []
        self.got: list[int] = []

    def ask(self) -> dict[str, Any] | None:
        """Send what is due; its body."""
        request = self.follower.request(self.now_s)
        if request is None:
            return None
        self.asked.append(request)
        return {"command": request[0].decode(), **unpack(request[2])}

    def answer(self) -> None:
        """Answer the last request."""
        self.replied(self.answers.answer(*self.asked[-1]))

    def replied(self, frames: list[bytes]) -> None:
        self.follower.replied(frames, self.now_s)
        self._take()

    def _take(self) -> None:
        self.got += [each.position for each in self.follower.delivery.take(10**6)]

    def publish(self, *records: Record) -> None:
        for record in records:
            stream = record.event.stream.encode()
            self.follower.published(stream, record.encoded, self.now_s)
            self._take()

    def greet(self) -> None:
        """The topic socket says its store."""
        self.follower.published(b"$store", self.answers.store.id.bytes, self.now_s)


def shell(**filters: Any) -> Shell:
    return Shell(Answers(), Follower(Delivery(Read(**filters)), WHERE))


def live() -> Shell:
    made = shell()
    made.ask()
    made.answer()
    assert made.follower.topic_due(made.now_s)
    made.greet()
    made.ask()
    made.answer()
    assert made.follower.state is LIVE
    return made


def test_a_connection_begins_with_info_and_reads_until_the_end() -> None:
    made = shell()
    made.answers.append(2_500)
    assert made.ask() == {"command": "INFO"}
    assert made.ask() is None  # one request at a time
    made.answer()
    for after in (0, 2_000):
        asked = made.ask()
        assert asked is not None and asked.get("after", 0) == after and "wait_ms" not in asked
        made.answer()
    assert made.got == list(range(1, 2_501))
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == follow.PROBE_MS


def test_it_goes_live_only_when_the_topic_socket_was_heard_before_the_read() -> None:
    made = shell()
    made.ask(), made.answer()
    assert made.follower.topic == "tcp://127.0.0.1:2"
    assert made.ask() is not None
    made.greet()  # while a READ is under way, which proves nothing
    made.answer()
    assert made.follower.state is not LIVE
    asked = made.ask()
    assert asked is not None and "wait_ms" not in asked
    made.answer()
    assert made.follower.state is LIVE and made.ask() is None


def test_a_waiting_read_is_given_up_when_the_topic_socket_speaks() -> None:
    made = shell()
    for _ in range(2):
        made.ask(), made.answer()
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == follow.PROBE_MS
    waiting = made.asked[-1]
    made.greet()
    asked = made.ask()
    assert asked is not None and "wait_ms" not in asked
    before = list(made.got)
    made.replied(made.answers.answer(*waiting))  # too late
    assert made.got == before
    made.answer()
    assert made.follower.state is LIVE


def test_live_events_are_taken_in_order_once() -> None:
    made = live()
    first, second, third = made.answers.append(3)
    made.publish(first, first, second, first, third)
    assert made.got == [1, 2, 3] and made.follower.state is LIVE and made.follower.delivery.at_end


def test_a_hole_is_read_back() -> None:
    made = live()
    _, _, third = made.answers.append(3)
    made.publish(third)
    assert made.got == [] and made.follower.state is not LIVE and not made.follower.delivery.at_end
    made.ask(), made.answer()
    assert made.got == [1, 2, 3] and made.follower.state is LIVE


def test_a_head_beyond_is_a_hole_and_one_behind_is_not() -> None:
    made = live()
    made.publish(*made.answers.append(3))
    made.follower.published(b"$head", pack(2), 0.0)
    made.follower.published(b"$head", pack(3), 0.0)
    made.follower.published(b"$later", pack(9), 0.0)
    assert made.follower.state is LIVE
    made.follower.published(b"$head", pack(4), 0.0)
    assert made.follower.state is not LIVE


def test_silence_falls_back_to_waiting_reads() -> None:
    made = live()
    assert made.follower.wait_s(0.0, True) == follow.SILENCE_S
    made.now_s = follow.SILENCE_S
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == follow.PROBE_MS
    assert made.follower.topic_due(made.now_s) and made.follower.state is not LIVE


@pytest.mark.parametrize(
    "filters", [{"stream": "s"}, {"prefix": "s"}, {"types": ("t",)}, {"tags": ("t",)}]
)
def test_filtered_subscriptions_wait_with_reads(filters: dict[str, Any]) -> None:
    made = shell(**filters)
    for _ in range(2):
        made.ask(), made.answer()
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == follow.WAIT_MS
    assert made.follower.topic is None and not made.follower.topic_due(1e9)


def test_hurry_asks_at_once_how_far_the_store_is() -> None:
    made = shell(types=("never",))
    for _ in range(2):
        made.ask(), made.answer()
    made.ask()
    made.answers.append(3)
    assert made.ask() is None
    made.follower.hurry()
    asked = made.ask()
    assert asked is not None and "wait_ms" not in asked
    made.answer()
    assert made.follower.delivery.reached == 3 and made.got == []
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == follow.WAIT_MS


def test_a_late_answer_is_a_lost_connection() -> None:
    made = shell()
    made.ask()
    assert made.follower.wait_s(0.0, True) == follow.REPLY_S
    assert not made.follower.late(follow.REPLY_S - 0.1) and made.follower.late(follow.REPLY_S)


def test_lost_connections_are_opened_again_ever_more_slowly() -> None:
    made = shell()
    waits = []
    for _ in range(8):
        made.follower.lost(0.0, "test")
        waits.append(made.follower.wait_s(0.0, False))
    assert waits[0] == follow.REOPEN_S_MIN and waits[-1] == follow.REOPEN_S_MAX
    assert waits == sorted(waits)
    made.ask(), made.answer()
    made.follower.lost(0.0, "test")
    assert made.follower.wait_s(0.0, False) == follow.REOPEN_S_MIN


def test_another_store_is_noticed_on_the_next_connection() -> None:
    made = live()
    made.follower.lost(0.0, "test")
    made.answers = Answers()
    made.ask()
    with pytest.raises(StoreChanged, match="positions of one"):
        made.answer()


def test_another_store_is_noticed_without_a_new_connection() -> None:
    """Behind a proxy the connection stays when the daemon does not."""
    made = shell()
    made.answers.append(3)
    for _ in range(2):
        made.ask(), made.answer()
    asked = made.ask()
    assert asked is not None and asked["store_id"] == made.answers.store.id.bytes
    made.answers = Answers()
    made.answers.append(9)
    with pytest.raises(StoreChanged, match="positions of one"):
        made.answer()
    assert made.got == [1, 2, 3]


@pytest.mark.parametrize("code", ["overloaded", "wrong_store", "internal"])
def test_a_refusal_by_another_store_is_as_good_as_an_answer(code: str) -> None:
    made = live()
    made.follower.lost(0.0, "test")
    made.ask()
    body = {"code": code, "message": "m", "retryable": False, "store_id": b"B" * 16}
    with pytest.raises(StoreChanged):
        made.replied([b"ERROR", made.asked[-1][1], pack(body)])


def test_a_store_that_was_named_is_the_only_one() -> None:
    answers = Answers()
    for store_id, right in ((answers.store.id.bytes, True), (b"B" * 16, False)):
        made = Shell(answers, Follower(Delivery(Read(), store_id), WHERE))
        assert made.ask() == {"command": "INFO"}  # which earlier daemons understand as well
        if right:
            made.answer()
        else:
            with pytest.raises(StoreChanged):
                made.answer()


def test_nothing_of_the_topic_socket_counts_before_it_has_said_its_store() -> None:
    made = shell()
    made.ask(), made.answer(), made.follower.topic_due(0.0)
    made.publish(*made.answers.append(3))
    made.follower.published(b"$head", pack(3), 0.0)
    assert not made.follower.heard and made.got == []
    made.greet()
    assert made.follower.heard and not made.follower.wants_topic
    made.ask(), made.answer()
    assert made.follower.state is LIVE and made.got == [1, 2, 3]


@pytest.mark.parametrize("is_live", [False, True])
@pytest.mark.parametrize("said", [b"B" * 16, b"", b"no store id"])
def test_a_topic_socket_of_another_store_is_closed_and_said_once(
    is_live: bool, said: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    made = live() if is_live else shell()
    for round in range(3):
        if made.follower.state is not LIVE:
            made.ask(), made.answer()
        assert made.follower.topic == "tcp://127.0.0.1:2"
        made.follower.published(b"$store", said, 0.0)
        assert made.follower.topic is None and not made.follower.topic_due(1e9)
        made.answers.append(1)
        for _ in range(2):
            assert made.ask() is not None
            made.answer()
        assert made.got == list(range(1, round + 2)) and made.follower.state is not LIVE
        assert made.ask()["wait_ms"] == follow.WAIT_MS  # type: ignore[index]
        made.follower.lost(0.0, "test")
    warnings = [each.getMessage() for each in caplog.records if "topic socket" in each.getMessage()]
    assert len(warnings) == 1
    assert "tcp://127.0.0.1:2" in warnings[0] and WHERE in warnings[0]


def test_the_topic_socket_of_an_earlier_daemon_is_done_without() -> None:
    """It says no store, and its requests must not either."""
    made = shell()
    for _ in range(2):
        assert "store_id" not in (made.ask() or {})
        status, request_id, body, *chunk = made.answers.answer(*made.asked[-1])
        old = unpack(body)
        if made.asked[-1][0] == b"READ":
            del old["store_id"]
        made.replied([status, request_id, pack(old), *chunk])
    asked = made.ask()
    assert asked is not None and "store_id" not in asked and asked["wait_ms"] == follow.WAIT_MS
    assert made.follower.topic is None


def test_a_head_behind_what_was_seen_is_another_store() -> None:
    for filters in ({}, {"stream": "s"}):
        made = shell(**filters)
        made.follower.delivery.reached = 5
        made.answers.append(4)
        made.ask(), made.answer(), made.ask()
        with pytest.raises(StoreChanged, match="older copy"):
            made.answer()


def test_overload_pauses_and_other_refusals_are_raised() -> None:
    made = shell()
    made.ask()
    body = {"code": "overloaded", "message": "m", "retryable": True}
    made.follower.replied([b"ERROR", made.asked[-1][1], pack(body)], 0.0)
    assert made.ask() is None and made.follower.wait_s(0.0, True) == PAUSE_S_MIN
    made.now_s = PAUSE_S_MIN
    assert made.ask() == {"command": "INFO"}
    with pytest.raises(Internal):
        made.follower.replied(
            [b"ERROR", made.asked[-1][1], pack({**body, "code": "internal"})], 0.0
        )


@pytest.mark.parametrize("seed", range(40))
def test_whatever_is_lost_nothing_is_missing_or_repeated(seed: int) -> None:
    """Random appends, losses, repetitions, silences, broken connections and late answers."""
    print(f"seed {seed}")
    chance = random.Random(seed)
    made = shell()
    queue: list[Record] = []  # in the topic socket
    waiting: list[tuple[bytes, bytes, bytes]] = []

    def append() -> None:
        for record in made.answers.append(chance.randint(1, 4)):
            if made.follower.topic is not None and chance.random() < 0.8:
                queue.extend([record] * chance.choice((1, 1, 1, 2)))

    def topic() -> None:
        made.follower.topic_due(made.now_s)
        if made.follower.wants_topic and chance.random() < 0.5:
            made.greet()
        while made.follower.state is LIVE and queue:
            made.publish(queue.pop(0))

    def head() -> None:
        if made.follower.state is LIVE and not queue:
            made.follower.published(b"$head", pack(made.answers.store.head), made.now_s)

    def ask() -> None:
        made.ask()

    def answer() -> None:
        if made.asked:
            waiting.append(made.asked[-1])
            made.answer()
        if waiting and chance.random() < 0.3:  # an answer to what nobody waits for any longer
            made.replied(made.answers.answer(*chance.choice(waiting)))

    def lose() -> None:
        if chance.random() < 0.1:
            queue.clear()
            waiting.clear()
            made.asked.clear()
            made.follower.lost(made.now_s, "test")

    def silence() -> None:
        if chance.random() < 0.2:
            made.now_s += 4.0

    for _ in range(400):
        chance.choice((append, topic, topic, head, ask, answer, lose, silence))()
    for _ in range(20):  # in the end all is well
        made.now_s += 4.0
        made.ask()
        if made.asked:
            made.answer()
    assert made.got == list(range(1, made.answers.store.head + 1))


# Handing out


def test_delivery_knows_what_was_handled() -> None:
    answers = Answers()
    answers.append(3)
    delivery = Delivery(Read())
    asked = Call(WHERE, b"READ", delivery.body(), lambda reply: reply, 1)
    delivery.receive(answers.reply(asked), WHERE)
    delivery.asked()
    assert delivery and delivery.handled == 0
    assert delivery.next().position == delivery.position == 1 and delivery.handled == 0
    delivery.asked()
    assert delivery.handled == 1 and not delivery.caught_up
    assert [each.position for each in delivery.take(9)] == [2, 3]
    assert not delivery.caught_up
    delivery.asked()
    assert delivery.handled == 3 and delivery.caught_up


# Since a time


def test_since_is_asked_for_until_something_came_and_then_it_goes_live() -> None:
    answers = Answers()
    since = answers.append(5)[3].event.recorded_at_ns
    made = Shell(answers, Follower(Delivery(Read(since=since)), WHERE))
    made.ask(), made.answer()
    assert made.follower.topic is None
    asked = made.ask()
    assert asked is not None and asked["since"] == since
    made.answer()
    assert made.got == [each for each in range(1, 6) if each >= made.got[0]] and 4 in made.got
    asked = made.ask()
    assert asked is not None and "since" not in asked
    made.answer()
    assert made.follower.topic_due(made.now_s)
    made.greet()
    made.ask(), made.answer()
    assert made.follower.state is LIVE


def test_a_time_to_come_is_waited_for_with_reads() -> None:
    answers = Answers()
    answers.append(2)
    since = 2**62
    made = Shell(answers, Follower(Delivery(Read(since=since)), WHERE))
    for _ in range(2):
        made.ask(), made.answer()
    answers.append(2)
    for _ in range(3):
        asked = made.ask()
        assert asked is not None and (asked["since"], asked["wait_ms"]) == (since, follow.WAIT_MS)
        made.answer()
    assert made.got == [] and made.follower.topic is None
    assert made.follower.delivery.reached == 4


def test_a_time_is_passed_once_and_for_all_over_a_new_connection() -> None:
    answers = Answers()
    answers.append(2)
    made = Shell(answers, Follower(Delivery(Read(since=1)), WHERE))
    for _ in range(2):
        made.ask(), made.answer()
    made.follower.lost(0.0, "test")
    made.ask(), made.answer()
    assert made.follower.topic is not None
    asked = made.ask()
    assert asked is not None and "since" not in asked and asked["after"] == 2


def test_where_it_begins_is_told_before_it_is_used() -> None:
    delivery = Delivery(Read(types=("t",)))
    delivery.begin(7, b"A" * 16)
    assert (delivery.reached, delivery.position, delivery.handled) == (7, 7, 7)
    assert unpack(delivery.body())["after"] == 7 and delivery.store_id == b"A" * 16
