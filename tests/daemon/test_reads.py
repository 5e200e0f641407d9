"""Queues, the rotation and waiting reads: no sockets, and a clock that the test moves."""

from __future__ import annotations

import gc
import random
import secrets
import weakref
from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import pytest
from appends import append, event

from rewind.answers import About, answer_appends, appends_in
from rewind.backends.memory import MemoryBackend
from rewind.daemon.queues import QUEUED_MAX, Passed
from rewind.daemon.reads import (
    DEPARTED_S,
    PIECE_EVENTS,
    RETRY_S_MAX,
    RETRY_S_MIN,
    Reads,
)
from rewind.daemon.waiting import PLACE_NAMES
from rewind.errors import RequestError
from rewind.store import Store
from rewind.wire.envelope import Request, decode_request
from rewind.wire.native import WAITING_READS_EACH_MAX, WAITING_READS_MAX, Read
from rewind.wire.old import id_text

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


class FakePeers:
    """What was sent to whom; peers that take nothing, and peers that are gone."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, list[bytes]]] = []
        self.slow: set[bytes] = set()
        self.gone: set[bytes] = set()
        self.blocked = False
        self.takes: dict[bytes, int] = {}  # how many replies more until a peer is slow
        self.ended: set[int | None] = set()

    def ready(self, peer: bytes) -> bool:
        return peer not in self.slow

    def send(self, message: Sequence[bytes]) -> bool:
        peer = message[0]
        if peer in self.gone:
            return False
        self.sent.append((peer, list(message[1:])))
        if peer in self.takes:
            self.takes[peer] -= 1
            if self.takes[peer] == 0:
                self.slow.add(peer)
        return True

    def flush(self) -> bool:
        return False

    def connected(self, connection: int | None) -> bool:
        return connection not in self.ended


class Room:
    """A store in memory, its Reads, and the server's turn without its sockets."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.store = Store(MemoryBackend())
        self.peers = FakePeers()
        about = About({}, 1_000, False)
        self.reads = Reads(self.store, about, self.peers, lambda: self.now_s)

    def ask(self, peer: bytes, *frames: bytes) -> None:
        """What the server does with a request that is no append."""
        self.reads.enqueue(self.request(peer, *frames), sum(map(len, frames)))

    def read(self, peer: bytes, request_id: bytes, **body: Any) -> None:
        self.ask(peer, b"READ", request_id, pack(body))

    def wait(self, peer: bytes, connection: int | None, request_id: bytes = b"w") -> None:
        """A read that may wait, over a connection that is known."""
        frames = (b"READ", request_id, pack({"wait_ms": 1_000}))
        self.reads.enqueue(self.request(peer, *frames), 10, connection)

    def append(self, peer: bytes, request_id: bytes, stream: str = "s") -> None:
        """An append that waits for its turn behind a read."""
        self.ask(peer, *self.append_frames(request_id, stream))

    def append_frames(self, request_id: bytes, *streams: str) -> tuple[bytes, bytes, bytes]:
        body = {"events": [[None, stream, "t", [], {}, request_id] for stream in streams]}
        return b"APPEND", request_id, pack(body)

    def passing(self, peer: bytes, request_id: bytes, *streams: str) -> Request:
        """An append for the batch."""
        return self.request(peer, *self.append_frames(request_id, *streams))

    def request(self, peer: bytes, *frames: bytes) -> Request:
        return decode_request([peer, *frames])

    def fill(self, *streams: str) -> None:
        """Events that are there before."""
        self.store.append([append(*(event(stream) for stream in streams))])

    def commit(self, *more: Request) -> list[Any]:
        """A batch: what is carried, then what has just arrived."""
        batch = self.reads.take_carried()
        for request in more:
            assert self.reads.lets_past(request, len(batch))
            batch.append(request)
        return self.commit_taken(batch)

    def commit_taken(self, batch: list[Request]) -> list[Any]:
        """A batch whose requests were let past."""
        head = self.store.head
        outcomes, records = self.store.append(appends_in(batch)) if batch else ([], [])
        self.reads.committed(batch, outcomes, head)
        left = iter(outcomes)
        for place, request in enumerate(batch):
            self.reads.reply(place, answer_appends(request, left))
        return records

    def turn(self, *more: Request, seconds: float = 0.0) -> None:
        self.reads.wake(self.commit(*more))
        self.reads.serve(self.now_s + seconds)

    def answered(self) -> list[bytes]:
        """The request ids answered since the last look, in order."""
        ids = [frames[1] for _, frames in self.peers.sent]
        self.peers.sent.clear()
        return ids


@pytest.fixture
def room() -> Room:
    return Room()


# --- the rotation ----------------------------------------------------------------


def test_connections_take_turns_one_request_each(room: Room) -> None:
    for n in range(3):
        for peer in (b"a", b"b", b"c"):
            room.read(peer, peer + b"%d" % n)
    room.reads.serve(room.now_s + 1)
    wanted = [b"a0", b"b0", b"c0", b"a1", b"b1", b"c1", b"a2", b"b2", b"c2"]
    assert room.answered() == wanted
    assert not room.reads.pending and not room.reads.busy and room.reads.due_s() is None


def test_when_the_time_is_up_the_next_call_goes_on_with_the_next_connection(room: Room) -> None:
    for peer in (b"a", b"b", b"c"):
        for n in range(2):
            room.read(peer, peer + b"%d" % n)
    answered = []
    for _ in range(6):
        assert room.reads.busy
        room.reads.serve(room.now_s)  # the time is up after the first one
        answered += room.answered()
    assert answered == [b"a0", b"b0", b"c0", b"a1", b"b1", b"c1"]
    assert not room.reads.pending


def test_a_peer_that_takes_nothing_is_passed_over_until_it_does(room: Room) -> None:
    room.peers.slow.add(b"slow")
    room.read(b"slow", b"1")
    room.read(b"quick", b"2")
    room.reads.serve(room.now_s + 1)
    assert room.answered() == [b"2"]
    room.reads.serve(room.now_s + 1)
    assert room.reads.stuck and not room.reads.busy
    assert room.reads.due_s() == pytest.approx(room.now_s + 2 * RETRY_S_MIN)
    for _ in range(20):
        room.reads.serve(room.now_s + 1)
    assert room.reads.due_s() == pytest.approx(room.now_s + RETRY_S_MAX)
    room.peers.slow.clear()
    room.reads.serve(room.now_s + 1)
    assert room.answered() == [b"1"] and not room.reads.stuck


def test_too_many_requests_behind_a_read_are_refused_and_the_others_kept(room: Room) -> None:
    for n in range(QUEUED_MAX + 1):
        room.read(b"a", b"%d" % n, limit=0)
    ((peer, (status, request_id, body)),) = room.peers.sent
    assert (peer, status, request_id) == (b"a", b"ERROR", b"%d" % QUEUED_MAX)
    assert unpack(body)["code"] == "overloaded"
    room.answered()
    room.reads.serve(room.now_s + 1)
    assert room.answered() == [b"%d" % n for n in range(QUEUED_MAX)]


def test_a_mistake_is_answered_when_its_turn_comes(room: Room) -> None:
    room.read(b"a", b"1", limit=0)
    room.read(b"a", b"2", id=bytes(16))
    room.ask(b"a", b"FROB", b"3", pack({}))
    room.turn(seconds=1)
    assert [frames[:2] for _, frames in room.peers.sent] == [
        [b"OK", b"1"],
        [b"ERROR", b"2"],
        [b"ERROR", b"3"],
    ]


@pytest.mark.parametrize(
    "frames", [(b"APPEND", b"", b"\xc1"), (b"FROB", b"", pack({})), (b"QUERY",)]
)
def test_a_mistake_that_had_to_wait_is_not_kept_once_it_is_answered(
    room: Room, frames: tuple[bytes, ...]
) -> None:
    room.read(b"a", b"1")
    request = room.request(b"a", *frames)
    mistake = weakref.ref(request.body)
    assert isinstance(mistake(), RequestError)
    room.reads.enqueue(request, 1)
    del request
    gc.disable()  # What is left is freed at once, and not by luck.
    try:
        room.turn(seconds=1)
        assert len(room.peers.sent) == 2 and mistake() is None
    finally:
        gc.enable()


# --- appends behind a read -----------------------------------------------------------


def test_an_append_behind_a_read_waits_for_its_turn_and_is_carried(room: Room) -> None:
    room.read(b"a", b"1")
    room.append(b"a", b"2")
    room.read(b"a", b"3")
    room.reads.serve(room.now_s + 1)
    assert room.answered() == [b"1"]
    assert room.reads.busy
    (carried,) = room.reads.take_carried()
    assert carried.request_id == b"2"
    assert room.reads.take_carried() == []


def test_what_comes_behind_an_append_sees_it(room: Room) -> None:
    for n in (1, 3, 5):
        room.read(b"a", b"%d" % n, limit=0)
        room.append(b"a", b"%d" % (n + 1))
    room.read(b"a", b"7", limit=0)
    heads = {}
    for _ in range(4):
        room.turn(seconds=1)
        heads.update({frames[1]: unpack(frames[2]).get("head") for _, frames in room.peers.sent})
    assert heads == {b"1": 0, b"2": None, b"3": 1, b"4": None, b"5": 2, b"6": None, b"7": 3}


def test_carried_appends_come_before_what_arrives_later(room: Room) -> None:
    room.read(b"a", b"1")
    room.append(b"a", b"2")
    room.turn()
    room.turn()
    room.answered()
    later = {"events": [[None, "s", "t", [], {}, b"later"]]}
    room.turn(room.request(b"b", b"APPEND", b"3", pack(later)))
    assert room.answered() == [b"2", b"3"]


def test_reads_are_not_served_while_an_append_is_carried(room: Room) -> None:
    room.append(b"a", b"1")
    room.reads.serve(room.now_s + 1)
    with pytest.raises(AssertionError):
        room.reads.serve(room.now_s + 1)


# --- appends that go past reads --------------------------------------------------------


def test_appends_go_past_reads_which_are_answered_as_of_before_them(room: Room) -> None:
    room.fill("s", "s", "other")
    room.read(b"a", b"1")
    first = room.passing(b"a", b"2", "s", "other", "s")
    another = room.passing(b"b", b"3", "s")
    records = room.commit(first, another)
    assert len(records) == 4
    assert room.answered() == [b"3"]  # That of the other connection has nothing to wait for.
    room.read(b"a", b"4", stream="s")
    room.commit(room.passing(b"a", b"5", "s"))
    room.read(b"a", b"6", stream="s", backwards=True)
    room.reads.serve(room.now_s + 1)
    bodies = {frames[1]: unpack(frames[2]) for _, frames in room.peers.sent}
    assert list(bodies) == [b"1", b"2", b"4", b"5", b"6"]
    assert [(bodies[id]["head"], bodies[id]["count"]) for id in (b"1", b"4", b"6")] == [
        (3, 3),
        (7, 5),
        (8, 6),
    ]
    assert [bodies[id]["version"] for id in (b"4", b"6")] == [5, 6]


def test_a_read_sees_what_was_sent_before_it_and_not_what_was_sent_behind_it(room: Room) -> None:
    """However the batches of some connections are cut, and whenever their reads have time."""
    for seed in range(200):
        rng, room = random.Random(seed), Room()
        expected: dict[bytes, dict[bytes, int]] = {
            b"a": {},
            b"b": {},
        }  # Own events each read must see.
        own = dict.fromkeys(expected, 0)
        sent: dict[bytes, list[bytes]] = {peer: [] for peer in expected}
        batch: list[Request] = []
        for number in range(rng.randint(1, 40)):
            peer, id = rng.choice(list(expected)), b"%d" % number
            sent[peer].append(id)
            if rng.random() < 0.5:
                room.read(peer, id, stream=peer.decode())
                expected[peer][id] = own[peer]
            else:
                count = rng.randint(1, 3)
                own[peer] += count
                batch.append(room.passing(peer, id, *[peer.decode()] * count))
                assert room.reads.lets_past(batch[-1], len(batch) - 1)
            if rng.random() < 0.3:
                room.commit_taken(batch)
                batch = []
            if rng.random() < 0.3:
                room.commit_taken(batch)
                batch = []
                room.reads.serve(room.now_s)
        room.commit_taken(batch)
        room.reads.serve(room.now_s + 1)
        for peer, versions in expected.items():
            answers = [frames for to, frames in room.peers.sent if to == peer]
            assert [frames[1] for frames in answers] == sent[peer], seed
            found = {
                frames[1]: unpack(frames[2])["version"] for frames in answers if len(frames) == 4
            }
            assert found == versions, seed


@pytest.mark.parametrize(
    "obstacle",
    [(b"INFO", {}), (b"STREAMS", {}), (b"READ", {"id": bytes(16)}), (b"READ", {"wait_ms": 5})],
)
def test_appends_go_past_nothing_but_reads_of_a_range(
    room: Room, obstacle: tuple[bytes, dict[str, Any]]
) -> None:
    command, body = obstacle
    room.read(b"a", b"1")
    room.ask(b"a", command, b"2", pack(body))
    room.read(b"a", b"3")
    assert not room.reads.lets_past(room.passing(b"a", b"4", "s"), 0)
    assert room.reads.lets_past(room.passing(b"b", b"4", "s"), 0)


def test_so_many_appends_go_past_and_no_more(room: Room) -> None:
    room.read(b"a", b"1")
    for number in range(QUEUED_MAX - 1):
        room.commit(room.passing(b"a", b"%d" % number, "s"))
    assert not room.reads.lets_past(room.passing(b"a", b"last", "s"), 0)


def test_replies_that_wait_for_a_reader_are_bounded_in_bytes(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewind.daemon.queues.QUEUED_BYTES_MAX", 10_000)
    room.peers.slow.add(b"a")
    room.read(b"a", b"0")
    count = 0
    while room.reads.lets_past(request := room.passing(b"a", b"1", "s"), 0):
        room.commit_taken([request])
        count += 1
    queued = room.reads.queues[b"a"].entries
    replies = chain(*(entry.reply for entry, _ in queued if isinstance(entry, Passed)))
    assert 9_000 < sum(map(len, replies)) < 11_000 and count > 50
    room.peers.slow.clear()
    room.reads.serve(room.now_s + 1)
    assert len(room.answered()) == 1 + count
    room.read(b"a", b"2")
    assert room.reads.lets_past(room.passing(b"a", b"3", "s"), 0), "there is room again"


def test_what_a_forgotten_peer_was_to_be_answered_counts_no_longer(room: Room) -> None:
    room.read(b"a", b"1")
    request = room.passing(b"a", b"2", "s")
    assert room.reads.lets_past(request, 0)
    room.reads.forget(b"a")
    room.commit_taken([request])
    assert room.reads.queues[b"a"].size == 0


def test_the_reply_to_an_append_that_went_past_is_sent_at_the_end_too(room: Room) -> None:
    room.read(b"a", b"1")
    room.commit(room.passing(b"a", b"2", "s"))
    room.reads.refuse_rest()
    assert [frames[:2] for _, frames in room.peers.sent] == [[b"ERROR", b"1"], [b"OK", b"2"]]


def test_a_peer_that_is_gone_takes_with_it_what_went_past(room: Room) -> None:
    room.read(b"a", b"1")
    request = room.passing(b"a", b"2", "s")
    assert room.reads.lets_past(request, 0)
    room.reads.forget(b"a")
    room.commit_taken([request])
    room.reads.serve(room.now_s + 1)
    assert room.answered() == [] and not room.reads.pending


# --- reads that wait -------------------------------------------------------------------


def test_a_waiting_read_is_woken_by_its_stream_and_no_other(room: Room) -> None:
    room.read(b"a", b"s", stream="s", wait_ms=1_000)
    room.read(b"b", b"any", wait_ms=1_000)
    room.turn(seconds=1)
    assert room.answered() == [] and not room.reads.pending
    assert room.reads.due_s() == room.now_s + 1
    other = {"events": [[None, "other", "t", [], {}, b""]]}
    room.turn(room.request(b"c", b"APPEND", b"1", pack(other)), seconds=1)
    assert room.answered() == [b"1", b"any"]
    mine = {"events": [[None, "s", "t", [], {}, b""]]}
    room.turn(room.request(b"c", b"APPEND", b"2", pack(mine)), seconds=1)
    assert room.answered() == [b"2", b"s"]
    assert room.reads.due_s() is None


def test_an_event_that_does_not_match_wakes_nobody_and_is_not_looked_at_again(room: Room) -> None:
    room.read(b"a", b"w", types=["wanted"], wait_ms=1_000)
    room.turn(seconds=1)
    looked_at = []
    read = room.store.read
    room.store.read = lambda asked: looked_at.append(asked.after) or read(asked)  # type: ignore[method-assign, func-returns-value]
    for type in ("other", "other", "other", "wanted"):
        body = {"events": [[None, "s", type, [], {}, b""]]}
        room.turn(room.request(b"c", b"APPEND", type.encode(), pack(body)), seconds=1)
    assert room.answered() == [b"other"] * 3 + [b"wanted", b"w"]
    assert looked_at == [3]


def test_a_waiting_read_until_a_place_is_answered_when_nothing_can_come_any_more(
    room: Room,
) -> None:
    room.read(b"a", b"all", types=["wanted"], until=2, wait_ms=1_000)
    room.read(b"b", b"stream", types=["wanted"], stream="s", until=2, wait_ms=1_000)
    room.turn(seconds=1)
    for stream in ("s", "t", "s"):
        body = {"events": [[None, stream, "t", [], {}, b""]]}
        room.turn(room.request(b"c", b"APPEND", stream.encode(), pack(body)), seconds=1)
    assert room.answered() == [b"s", b"t", b"all", b"s", b"stream"]


def test_a_waiting_read_is_answered_empty_when_its_time_is_up(room: Room) -> None:
    room.read(b"a", b"w", wait_ms=1_000)
    room.turn(seconds=1)
    room.now_s += 0.999
    room.turn(seconds=1)
    assert room.answered() == []
    room.now_s += 0.001
    room.turn(seconds=1)
    ((_, (status, request_id, body, chunk)),) = room.peers.sent
    assert (status, request_id, unpack(body)["count"], chunk) == (b"OK", b"w", 0, b"\x90")


@pytest.mark.parametrize("body", [{"limit": 0}, {"until": 0}, {"after": 0, "until": 1}], ids=str)
def test_a_read_that_nothing_can_come_for_does_not_wait(room: Room, body: Any) -> None:
    room.fill("s")
    room.read(b"a", b"1", **body, wait_ms=1_000)
    room.turn(seconds=1)
    assert room.answered() == [b"1"]


def test_a_waiting_read_holds_up_nothing_of_its_connection(room: Room) -> None:
    room.read(b"a", b"w", wait_ms=1_000)
    room.append(b"a", b"1")
    room.read(b"a", b"2", limit=0)
    room.turn(seconds=1)
    room.turn(seconds=1)
    assert room.answered() == [b"1", b"w", b"2"]


def test_one_waiting_read_too_many_is_refused(room: Room) -> None:
    for n in range(WAITING_READS_MAX + 1):
        room.read(b"%d" % n, b"%d" % n, wait_ms=1_000)
    room.turn(seconds=1)
    ((_, (status, request_id, body)),) = room.peers.sent
    assert (status, request_id) == (b"ERROR", b"%d" % WAITING_READS_MAX)
    assert unpack(body)["code"] == "overloaded"


CONNECTIONS = range(WAITING_READS_MAX // WAITING_READS_EACH_MAX)  # so many may take all places


def take_all_places(room: Room) -> None:
    for n in CONNECTIONS:
        for _ in range(WAITING_READS_EACH_MAX):
            room.wait(b"%d" % n, n)
    room.turn(seconds=1)
    assert room.answered() == []


def test_a_connection_has_a_share_of_the_places_for_waiting_reads(room: Room) -> None:
    for n in range(WAITING_READS_EACH_MAX + 1):
        room.wait(b"greedy", 1, b"%d" % n)
    room.turn(seconds=1)
    assert room.answered() == [b"%d" % WAITING_READS_EACH_MAX]
    room.wait(b"modest", 2)
    room.turn(seconds=1)
    assert room.answered() == []
    room.turn(room.request(b"writer", b"PUBLISH", b"s", b"d"), seconds=1)
    room.peers.sent.clear()
    for n in range(WAITING_READS_EACH_MAX):
        room.read(b"greedy", b"%d" % n, after=1, wait_ms=1_000)
    room.turn(seconds=1)
    assert room.answered() == [], "what was answered has left its place"


def test_a_waiting_read_of_many_names_takes_as_many_places_as_it_has_memory(room: Room) -> None:
    query = [{"tags": [f"{item}-{name}" for name in range(16)]} for item in range(64)]
    fit = WAITING_READS_EACH_MAX * PLACE_NAMES // 1_024
    for n in range(fit + 1):
        room.read(b"greedy", b"%d" % n, query=query, wait_ms=1_000)
    room.read(b"modest", b"another", query=query[:1], wait_ms=1_000)
    room.turn(seconds=1)
    assert room.answered() == [b"%d" % fit]
    for peer in range(WAITING_READS_MAX // WAITING_READS_EACH_MAX):
        for n in range(fit):
            room.read(b"greedy %d" % peer, b"%d-%d" % (peer, n), query=query, wait_ms=1_000)
    room.turn(seconds=1)
    assert len(room.answered()) == fit + 1, "of all connections, all places are taken"


def test_the_places_of_those_who_left_are_given_to_others(room: Room) -> None:
    take_all_places(room)
    room.wait(b"early", 100, b"1")
    room.turn(seconds=1)
    assert room.answered() == [b"1"]
    room.now_s += DEPARTED_S
    room.peers.ended.update(n for n in CONNECTIONS)
    room.peers.gone.update(b"%d" % n for n in CONNECTIONS)
    room.wait(b"late", 100, b"2")
    room.turn(seconds=1)
    assert room.answered() == [] and not room.reads.queues
    room.turn(room.request(b"writer", b"PUBLISH", b"s", b"d"), seconds=1)
    assert [peer for peer, _ in room.peers.sent] == [b"writer", b"late"]


def test_a_connection_that_only_seemed_to_have_ended_gets_an_early_answer(room: Room) -> None:
    take_all_places(room)
    room.peers.ended.add(3)
    room.wait(b"late", 100, b"late")
    room.turn(seconds=1)
    assert [peer for peer, _ in room.peers.sent] == [b"3"] * WAITING_READS_EACH_MAX
    assert {unpack(frames[2])["count"] for _, frames in room.peers.sent} == {0}


def test_the_waiting_reads_of_a_peer_that_vanished_are_forgotten_with_it(room: Room) -> None:
    for n in range(3):
        room.wait(b"gone", 1, b"%d" % n)
    room.turn(seconds=1)
    room.peers.gone.add(b"gone")
    room.read(b"gone", b"3")
    room.turn(seconds=1)
    assert room.reads.due_s() is None and not room.reads.queues


# --- gorewind's answers -----------------------------------------------------------------


def test_a_half_sent_gorewind_answer_goes_on_where_its_reader_stopped(room: Room) -> None:
    count = PIECE_EVENTS + 50
    room.fill(*["s"] * count)
    ids = [id_text(e.id_bytes) for e in room.store.read(Read()).events]
    room.ask(b"a", b"QUERY", b"s", b"", b"")
    room.ask(b"a", b"READ", b"behind", pack({"limit": 0}))
    room.peers.takes[b"a"] = 10
    room.turn(seconds=1)
    assert len(room.peers.sent) == 10
    room.turn(seconds=1)
    assert len(room.peers.sent) == 10 and room.reads.stuck
    room.peers.slow.clear()
    room.turn(seconds=0)
    assert len(room.peers.sent) == 10 + PIECE_EVENTS
    room.turn(seconds=1)
    *events, end, behind = [frames for _, frames in room.peers.sent]
    assert events == [[b"EVENT", id, b"d"] for id in ids]
    assert end == [b"END"] and behind[:2] == [b"OK", b"behind"]


# --- peers that are gone, and the end ----------------------------------------------------


def test_what_a_vanished_peer_asked_for_is_forgotten(room: Room) -> None:
    room.fill("s")
    for n in range(3):
        room.read(b"gone", b"%d" % n)
    room.ask(b"gone-too", b"QUERY", b"s", b"", b"")
    room.read(b"gone-too", b"4")
    room.read(b"here", b"5")
    room.peers.gone.update({b"gone", b"gone-too"})
    room.turn(seconds=1)
    assert room.answered() == [b"5"]
    assert not room.reads.queues and not room.reads.pending


def test_a_peer_that_vanishes_before_the_reply_to_its_append_is_forgotten(room: Room) -> None:
    room.append(b"gone", b"1")
    room.read(b"gone", b"2")
    room.turn(seconds=1)
    room.peers.gone.add(b"gone")
    room.turn(seconds=1)
    assert room.store.head == 1 and room.answered() == []
    assert not room.reads.queues


def test_at_the_end_waiting_reads_are_answered_and_no_other_read_waits(room: Room) -> None:
    for n in range(3):
        room.read(b"%d" % n, b"%d" % n, wait_ms=1_000)
    room.turn(seconds=1)
    room.reads.end_waiting()
    assert room.reads.pending
    room.read(b"late", b"3", wait_ms=1_000)
    room.turn(seconds=1)
    assert room.answered() == [b"0", b"1", b"2", b"3"]
    assert not room.reads.pending


def test_at_the_end_what_had_no_turn_is_refused_unless_its_peer_is_gone(room: Room) -> None:
    for peer in (b"gone", b"here"):
        room.read(peer, peer + b"1")
        room.append(peer, peer + b"2")
    room.peers.gone.add(b"gone")
    room.reads.refuse_rest()
    codes = {frames[1]: unpack(frames[2])["code"] for _, frames in room.peers.sent}
    assert codes == {b"here1": "shutting_down", b"here2": "shutting_down"}


# --- the invariant ------------------------------------------------------------------------


def check(room: Room) -> None:
    reads = room.reads
    assert sorted(reads._rotation) == sorted(reads.queues), "in the rotation exactly once"
    for peer, queue in reads.queues.items():
        assert queue.entries or peer in room.peers.gone, peer
        replies = (entry.reply for entry, _ in queue.entries if isinstance(entry, Passed))
        size = sum(size for _, size in queue.entries) + sum(map(len, chain(*replies)))
        assert queue.size == size, peer
    assert Counter(each.request.peer for each in reads._waiting) == reads._waiting._each


@pytest.mark.parametrize("seed", [1, 2, 3, None])  # None: another one each time
def test_random_requests_are_all_answered_in_order_and_the_invariant_holds(
    seed: int | None,
) -> None:
    seed = secrets.randbits(32) if seed is None else seed
    print("seed", seed)
    choose = random.Random(seed)
    room = Room()
    peers = [b"p%d" % n for n in range(6)]
    asked: dict[bytes, list[bytes]] = defaultdict(list)
    batch: list[Request] = []
    for n in range(2_000):
        peer, request_id = choose.choice(peers), b"%d" % n
        kind = choose.random()
        if kind < 0.25:
            room.read(peer, request_id, limit=choose.randrange(3))
            asked[peer].append(request_id)
        elif kind < 0.5:
            body = {"events": [[None, choose.choice("st"), "t", [], {}, b""]]}
            request = room.request(peer, b"APPEND", request_id, pack(body))
            asked[peer].append(request_id)
            if room.reads.lets_past(request, len(batch)):
                batch.append(request)
            else:
                room.reads.enqueue(request, 10)
        elif kind < 0.6:
            after, wait_ms = choose.randrange(300), choose.randrange(1, 3_000)
            room.read(peer, b"w" + request_id, after=after, wait_ms=wait_ms)
        elif kind < 0.65:
            room.ask(peer, b"QUERY", b"s", b"", b"")
        elif kind < 0.7:
            room.peers.takes[peer] = choose.randrange(1, 20)
        elif kind < 0.75:
            room.peers.slow.clear()
        elif kind < 0.77:
            room.peers.gone.add(peer)
        else:
            room.now_s += choose.random()
            records = room.commit_taken(batch)
            check(room)
            room.reads.wake(records)
            check(room)
            room.reads.serve(room.now_s + choose.choice([-1, 1]))
            batch = room.reads.take_carried()
        check(room)
    room.peers.slow.clear()
    room.peers.takes.clear()
    room.reads.wake(room.commit_taken(batch))
    room.reads.end_waiting()
    check(room)
    while room.reads.pending:
        room.turn(seconds=1)
        check(room)
    for peer in set(peers) - room.peers.gone:
        answered = [
            frames[1]
            for to, frames in room.peers.sent
            if to == peer and frames[0] == b"OK" and frames[1].isdigit()
        ]
        assert answered == asked[peer], peer
    assert not room.reads.queues and not room.reads._waiting
