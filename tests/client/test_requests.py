"""The client's decisions, without a socket, a thread or a clock."""

from __future__ import annotations

import random
import subprocess
import sys
import uuid
from typing import Any

import msgspec
import pytest

import rewind
from rewind.backends.memory import Store as MemoryStore
from rewind.client import requests as session
from rewind.client.requests import (
    ATTEMPT_S_MAX,
    Call,
    Cursor,
    Delivery,
    Follower,
    Session,
    check_endpoint,
    choose_topic,
    new_append_id,
)
from rewind.errors import (
    BadConfiguration,
    BadRequest,
    Internal,
    Overloaded,
    ShuttingDown,
    StorageFull,
    StoreChanged,
    TooLarge,
    Unavailable,
)
from rewind.events import Append, AppendEvent, NewEvent, Record
from rewind.store import Store
from rewind.wire.envelope import decode_request
from rewind.wire.native import Info
from rewind.wire.replies import Reply, encode_ok, encode_read, info_body

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode
WHERE = "tcp://127.0.0.1:1"


# One request


def call(timeout_s: float = 10.0, command: bytes = b"READ", append_id: bytes | None = None) -> Any:
    return Call(WHERE, command, b"", lambda reply: reply, timeout_s, append_id)


def test_attempts_grow_and_end_with_the_time_out() -> None:
    asked = call(30)
    now_s, attempts = 100.0, []
    with pytest.raises(Unavailable):
        while True:
            attempts.append(asked.attempt_s(now_s))
            now_s += attempts[-1]
    assert attempts == [1, 2, 4, ATTEMPT_S_MAX, ATTEMPT_S_MAX, 7]


def test_a_short_time_out_is_one_attempt() -> None:
    asked = call(0.25)
    assert asked.attempt_s(5.0) == 0.25
    with pytest.raises(Unavailable, match=r"0\.25 s"):
        asked.attempt_s(5.25)
    assert call(0).attempt_s(5.0) == 0


@pytest.mark.parametrize("refused", [Overloaded("x"), ShuttingDown("x")])
def test_passing_refusals_back_off(refused: rewind.RequestError) -> None:
    asked = call(1e9)
    asked.attempt_s(0)
    pauses = [asked.pause_s(refused, 0) for _ in range(12)]
    assert 0.01 <= pauses[0] <= 0.02 and 0.5 <= pauses[-1] <= 1.0


@pytest.mark.parametrize("refused", [StorageFull("x"), BadRequest("x"), Internal("x")])
def test_other_refusals_are_final(refused: rewind.RequestError) -> None:
    asked = call()
    asked.attempt_s(0)
    with pytest.raises(type(refused)):
        asked.pause_s(refused, 0)


def test_unavailable_says_what_to_do() -> None:
    error = call(command=b"APPEND", append_id=b"i" * 16).unavailable("no answer")
    assert error.append_id == b"i" * 16 and "append_id" in str(error)
    assert "may have been stored" not in str(call().unavailable("no answer"))


# Appends


def test_append_ids_are_made_unless_the_events_have_some() -> None:
    made = Session(WHERE, 1)
    first = made.append("s", NewEvent("t"), None, None, None)
    second = made.append("s", NewEvent("t"), None, None, None)
    assert first.append_id and second.append_id and first.append_id != second.append_id
    assert unpack(first.body)["id"] == first.append_id
    id = uuid.uuid4()
    own = made.append("s", NewEvent("t", id=id), None, None, None)
    assert own.append_id is None and "id" not in unpack(own.body)
    both = made.append("s", NewEvent("t", id=id), None, str(uuid.UUID(int=5)), None)
    assert both.append_id == uuid.UUID(int=5).bytes


def test_append_ids_are_uuids_in_order_of_time() -> None:
    ids = [new_append_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(uuid.UUID(bytes=id).version == 7 for id in ids)
    assert all(uuid.UUID(bytes=id).variant == uuid.RFC_4122 for id in ids)
    assert [id[:6] for id in ids] == sorted(id[:6] for id in ids)


def test_the_daemon_understands_what_is_made() -> None:
    made = Session(WHERE, 1)
    calls = [
        made.append("s", [NewEvent("t", b"d", tags=["x"], metadata={"a": 1})], 0, None, None),
        made.append_streams([("a", NewEvent("t")), ("b", NewEvent("t"))], {"c": -1}, None, None),
        made.event(uuid.uuid4()),
        made.head(),
        made.info(),
        made.streams("p").call(),
        made.read(after=1, until=2, limit=3, backwards=True, types=["t"], tags=(), since=4, prefix="p").call(),
    ]  # fmt: skip
    for each in calls:
        assert each is not None
        request = decode_request([b"identity", b"", each.command, b"rid", each.body])
        assert not isinstance(request.body, Exception), request.body


def test_limits_told_by_info_are_kept() -> None:
    made = Session(WHERE, 1)
    made.append("s", NewEvent("t", bytes(2_000)), None, None, None)
    limits = {"event_bytes": 1_000, "request_bytes": 1_500, "unknown": 1}
    reply = Reply(b"", {**info(uuid.uuid4()), "limits": limits, "later": "ignored"}, b"")
    assert made.info().decode(reply).limits == limits
    with pytest.raises(TooLarge, match="2000 bytes"):
        made.append("s", NewEvent("t", bytes(2_000)), None, None, None)
    with pytest.raises(TooLarge, match="1500"):
        made.append("s", [NewEvent("t", bytes(900))] * 2, None, None, None)


def test_replies_that_make_no_sense_are_refused() -> None:
    made = Session(WHERE, 1)
    with pytest.raises(Internal):
        made.info().decode(Reply(b"", {"name": "rewind"}, b""))
    with pytest.raises(Internal):
        made.event(uuid.uuid4()).decode(Reply(b"", {}, b"\x91\x01"))
    for frames in (
        [b"PUBLISHED"],
        [b"ERROR text"],
        [b"OK", b"", b"\xc1"],
        [b"ERROR", b"", b"\x01"],
    ):
        with pytest.raises(Unavailable):
            session.parse_reply(frames, WHERE)


def test_a_text_is_not_a_list_of_texts() -> None:
    with pytest.raises(BadRequest, match=r"\['placed'\]"):
        session.texts("placed", "types")
    assert session.texts(["a", "b"], "types") == ("a", "b")


# A daemon made of its parts, without sockets


class Answers:
    """A store that answers requests as the daemon does."""

    def __init__(self) -> None:
        self.backend = MemoryStore()
        self.store = Store(self.backend)

    def append(self, count: int = 1, stream: str = "s") -> list[Record]:
        events = tuple(AppendEvent(None, stream, "t", (), {}, b"") for _ in range(count))
        return self.store.append([Append(events)])[1]

    def answer(self, command: bytes, request_id: bytes, body: bytes) -> list[bytes]:
        request = decode_request([b"i", b"", command, request_id, body])
        if isinstance(request.body, Info):
            return encode_ok(request, info(self.store.id, self.store.head))[2:]
        return encode_read(request, self.store.read(request.body))[2:]

    def reply(self, asked: Any) -> Any:
        return session.parse_reply(self.answer(asked.command, b"", asked.body), WHERE)[1]


def info(store_id: uuid.UUID, head: int = 0) -> dict[str, Any]:
    return info_body(
        release="1",
        store_id=store_id,
        backend="memory",
        durability="memory",
        head=head,
        endpoints={"topic": ["tcp://127.0.0.1:2"]},
        event_bytes_max=1,
        insecure=False,
    )


# Bounded reads


def read(**changes: Any) -> Any:
    query = {"after": 0, "until": None, "limit": None, "backwards": False}
    return Session(WHERE, 1).read(**{**query, "types": (), "tags": (), "since": None, **changes})


def pages(answers: Answers, pages: Any, between: Any = lambda: None) -> list[list[int]]:
    found = []
    while (asked := pages.call()) is not None:
        found.append([each.position for each in asked.decode(answers.reply(asked))])
        between()
    return found


@pytest.mark.parametrize("changes", [{}, {"until": 10**6}, {"stream": "s"}, {"types": ["t"]}])
def test_read_ends_under_writers(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "READ_LIMIT_MAX", 3)
    answers = Answers()
    answers.append(7)
    found = pages(answers, read(**changes), lambda: answers.append(5))
    assert found == [[1, 2, 3], [4, 5, 6], [7]]


def test_read_pages_backwards_and_by_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "READ_LIMIT_MAX", 3)
    answers = Answers()
    answers.append(7)
    assert pages(answers, read(backwards=True)) == [[7, 6, 5], [4, 3, 2], [1]]
    assert pages(answers, read(backwards=True, after=3, limit=3)) == [[7, 6, 5]]
    assert pages(answers, read(limit=4)) == [[1, 2, 3], [4]]
    assert pages(answers, read(limit=0)) == []
    assert pages(answers, read(after=7)) == [[]]


def test_empty_pages_are_gone_on_from() -> None:
    replies = [
        {"count": 0, "next": 5, "head": 9, "end": False},
        {"count": 0, "next": 9, "head": 9, "end": True},
    ]
    asked = read(types=["x"])
    queries = []
    for body in replies:
        one = asked.call()
        queries.append(unpack(one.body))
        assert list(one.decode(Reply(b"", body, b"\x90"))) == []
    assert [query.get("after", 0) for query in queries] == [0, 5]
    assert queries[1]["until"] == 9 and asked.call() is None


def test_a_read_notices_a_store_that_lost_events() -> None:
    asked = read()
    asked.call().decode(Reply(b"", {"count": 0, "next": 1, "head": 9, "end": False}, b"\x90"))
    with pytest.raises(StoreChanged):
        asked.call().decode(Reply(b"", {"count": 0, "next": 2, "head": 8, "end": False}, b"\x90"))


# Following


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
        events = self.follower.replied(self.answers.answer(*self.asked[-1]), self.now_s)
        self.got += [each.position for each in events]

    def publish(self, *records: Record) -> None:
        for record in records:
            stream = record.event.stream.encode()
            event = self.follower.published(stream, record.encoded, self.now_s)
            self.got += [event.position] if event is not None else []


def shell(**filters: Any) -> Shell:
    return Shell(Answers(), Follower(Cursor(0, **filters), WHERE))


def live() -> Shell:
    made = shell()
    made.ask()
    made.answer()
    assert made.follower.topic_due(made.now_s)
    made.follower.heard = True
    made.ask()
    made.answer()
    assert made.follower.live
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
    assert asked is not None and asked["wait_ms"] == session.PROBE_MS


def test_it_goes_live_only_when_the_topic_socket_was_heard_before_the_read() -> None:
    made = shell()
    made.ask(), made.answer()
    assert made.follower.topic == "tcp://127.0.0.1:2"
    assert made.ask() is not None
    made.follower.heard = True  # while a READ is under way, which proves nothing
    made.answer()
    assert not made.follower.live
    asked = made.ask()
    assert asked is not None and "wait_ms" not in asked
    made.answer()
    assert made.follower.live and made.ask() is None


def test_a_parked_read_is_given_up_when_the_topic_socket_speaks() -> None:
    made = shell()
    for _ in range(2):
        made.ask(), made.answer()
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == session.PROBE_MS
    parked = made.asked[-1]
    made.follower.heard = True
    asked = made.ask()
    assert asked is not None and "wait_ms" not in asked
    assert made.follower.replied(made.answers.answer(*parked), 0.0) == []  # too late
    made.answer()
    assert made.follower.live


def test_live_events_are_taken_in_order_once() -> None:
    made = live()
    first, second, third = made.answers.append(3)
    made.publish(first, first, second, first, third)
    assert made.got == [1, 2, 3] and made.follower.live and made.follower.cursor.at_end


def test_a_hole_is_read_back() -> None:
    made = live()
    _, _, third = made.answers.append(3)
    made.publish(third)
    assert made.got == [] and not made.follower.live and not made.follower.cursor.at_end
    made.ask(), made.answer()
    assert made.got == [1, 2, 3] and made.follower.live


def test_a_head_beyond_is_a_hole_and_one_behind_is_not() -> None:
    made = live()
    made.publish(*made.answers.append(3))
    made.follower.published(b"$head", pack(2), 0.0)
    made.follower.published(b"$head", pack(3), 0.0)
    made.follower.published(b"$later", pack(9), 0.0)
    assert made.follower.live
    made.follower.published(b"$head", pack(4), 0.0)
    assert not made.follower.live


def test_silence_falls_back_to_waiting_reads() -> None:
    made = live()
    assert made.follower.wait_s(0.0, True) == session.SILENCE_S
    made.now_s = session.SILENCE_S
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == session.PROBE_MS
    assert made.follower.topic_due(made.now_s) and not made.follower.live


@pytest.mark.parametrize(
    "filters", [{"stream": "s"}, {"prefix": "s"}, {"types": ("t",)}, {"tags": ("t",)}]
)
def test_filtered_subscriptions_wait_with_reads(filters: dict[str, Any]) -> None:
    made = shell(**filters)
    for _ in range(2):
        made.ask(), made.answer()
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == session.WAIT_MS
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
    assert made.follower.cursor.place == 3 and made.got == []
    asked = made.ask()
    assert asked is not None and asked["wait_ms"] == session.WAIT_MS


def test_a_late_answer_is_a_lost_connection() -> None:
    made = shell()
    made.ask()
    assert made.follower.wait_s(0.0, True) == session.REPLY_S
    assert not made.follower.late(session.REPLY_S - 0.1) and made.follower.late(session.REPLY_S)


def test_lost_connections_are_opened_again_ever_more_slowly() -> None:
    made = shell()
    waits = []
    for _ in range(8):
        made.follower.lost(0.0, "test")
        waits.append(made.follower.wait_s(0.0, False))
    assert waits[0] == session.REOPEN_S_MIN and waits[-1] == session.REOPEN_S_MAX
    assert waits == sorted(waits)
    made.ask(), made.answer()
    made.follower.lost(0.0, "test")
    assert made.follower.wait_s(0.0, False) == session.REOPEN_S_MIN


def test_another_store_is_noticed_on_the_next_connection() -> None:
    made = live()
    made.follower.lost(0.0, "test")
    made.answers = Answers()
    made.ask()
    with pytest.raises(StoreChanged, match="positions of one"):
        made.answer()


def test_a_head_behind_what_was_seen_is_another_store() -> None:
    for filters in ({}, {"stream": "s"}):
        made = shell(**filters)
        made.follower.cursor.place = 5
        made.answers.append(4)
        made.ask(), made.answer(), made.ask()
        with pytest.raises(StoreChanged, match="older copy"):
            made.answer()


def test_overload_pauses_and_other_refusals_are_raised() -> None:
    made = shell()
    made.ask()
    body = {"code": "overloaded", "message": "m", "retryable": True}
    made.follower.replied([b"ERROR", made.asked[-1][1], pack(body)], 0.0)
    assert made.ask() is None and made.follower.wait_s(0.0, True) == session.PAUSE_S_MIN
    made.now_s = session.PAUSE_S_MIN
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
    parked: list[tuple[bytes, bytes, bytes]] = []

    def append() -> None:
        for record in made.answers.append(chance.randint(1, 4)):
            if made.follower.topic is not None and chance.random() < 0.8:
                queue.extend([record] * chance.choice((1, 1, 1, 2)))

    def topic() -> None:
        made.follower.topic_due(made.now_s)
        if made.follower.topic is not None:
            made.follower.heard = made.follower.heard or chance.random() < 0.5
        while made.follower.live and queue:
            made.publish(queue.pop(0))

    def head() -> None:
        if made.follower.live and not queue:
            made.follower.published(b"$head", pack(made.answers.store.head), made.now_s)

    def ask() -> None:
        made.ask()

    def answer() -> None:
        if made.asked:
            parked.append(made.asked[-1])
            made.answer()
        if parked and chance.random() < 0.3:  # an answer to what nobody waits for any longer
            made.follower.replied(made.answers.answer(*chance.choice(parked)), made.now_s)

    def lose() -> None:
        if chance.random() < 0.1:
            queue.clear()
            parked.clear()
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
    cursor = Cursor(0)
    delivery = Delivery(cursor)
    asked = Call(WHERE, b"READ", cursor.body(), lambda reply: reply, 1)
    delivery.put(cursor.receive(answers.reply(asked), WHERE))
    delivery.asked()
    assert delivery and delivery.handled == 0
    assert delivery.next().position == delivery.position == 1 and delivery.handled == 0
    delivery.asked()
    assert delivery.handled == 1 and not delivery.caught_up
    assert [each.position for each in delivery.take(9)] == [2, 3]
    assert not delivery.caught_up
    delivery.asked()
    assert delivery.handled == 3 and delivery.caught_up


# Endpoints


@pytest.mark.parametrize(
    ("bound", "connected", "chosen"),
    [
        (["tcp://127.0.0.1:2"], "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
        (["tcp://127.0.0.1:2"], "tcp://localhost:1", "tcp://127.0.0.1:2"),
        (["tcp://0.0.0.0:2"], "tcp://store.example:1", "tcp://store.example:2"),
        (["tcp://*:2"], "tcp://10.0.0.1:1", "tcp://10.0.0.1:2"),
        (["tcp://[::]:2"], "tcp://[fe80::1]:1", "tcp://[fe80::1]:2"),
        (["tcp://0.0.0.0:2"], "ipc:///run/r", "tcp://127.0.0.1:2"),
        (["tcp://127.0.0.1:2"], "tcp://store.example:1", None),
        (["tcp://127.0.0.1:2", "tcp://10.0.0.1:3"], "tcp://store.example:1", "tcp://10.0.0.1:3"),
        (["tcp://10.0.0.2:2", "tcp://10.0.0.1:3"], "tcp://10.0.0.1:1", "tcp://10.0.0.1:3"),
        (["ipc:///run/t", "tcp://127.0.0.1:2"], "ipc:///run/r", "ipc:///run/t"),
        (["ipc:///run/t", "tcp://127.0.0.1:2"], "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
        (["ipc:///run/t"], "tcp://10.0.0.1:1", None),
        ([], "tcp://127.0.0.1:1", None),
    ],
)
def test_topic_endpoint(bound: list[str], connected: str, chosen: str | None) -> None:
    assert choose_topic(bound, connected) == chosen


def test_endpoints() -> None:
    for good in ("tcp://127.0.0.1:9090", "tcp://store.example:1", "tcp://[::1]:65535", "ipc:///x"):
        check_endpoint(good)
    for bad in ("", "tcp://h", "tcp://h:65536", "tcp://0.0.0.0:1", "udp://h:1", "tcp://a b:1"):
        with pytest.raises(BadConfiguration):
            check_endpoint(bad)


def test_appends_go_together_up_to_a_bound() -> None:
    def call(events: int, size: int) -> session.Call[Any]:
        return session.Call("w", b"APPEND", b"x" * size, lambda reply: reply, 1.0, None, events)

    most = session.TOGETHER_EVENTS_MAX
    assert session.together([call(1, 10)] * 5, 9) == 5
    assert session.together([call(1, 10)] * 5, 4) == 4
    assert session.together([call(1, 10)] * (most + 5), 9_999) == most
    assert session.together([call(most, 10), call(1, 10)], 9) == 1
    assert session.together([call(4_096, 10)], 9) == 1
    assert session.together([call(1, session.TOGETHER_BYTES_MAX // 2)] * 3, 9) == 2
    assert session.together([call(1, session.TOGETHER_BYTES_MAX + 1)] * 2, 9) == 1


def test_a_forked_child_makes_append_ids_of_its_own() -> None:
    code = """
import os, sys
from rewind.client.requests import new_append_id
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, b"".join(new_append_id() for _ in range(100)))
    os._exit(0)
os.wait()
ours, theirs = b"".join(new_append_id() for _ in range(100)), os.read(read, 1600)
random = [{ids[at + 6 : at + 16] for at in range(0, 1600, 16)} for ids in (ours, theirs)]
sys.exit(len(random[0] | random[1]) != 200)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
