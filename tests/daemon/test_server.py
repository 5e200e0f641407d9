"""A real daemon over real sockets: order, shared commits, feeds, neighbours that misbehave, kills."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from pathlib import Path

import msgspec
import psutil
import pytest
import zmq
from conftest import ALL_SCHEMES, DURABLE, store_url
from raw import Raw

from rewind.backends.log.backend import ENGINES
from rewind.daemon.notices import PERIOD_S
from rewind.daemon.peers import PIPE_MESSAGES_MAX
from rewind.daemon.queues import QUEUED_MAX
from rewind.store.reading import EXAMINED_MAX
from rewind.testing import Daemon
from rewind.wire import native

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
OTHERS_MS = 2_000  # what "go on" means: an answer, on a machine that may be busy


@pytest.fixture(params=ALL_SCHEMES)
def any_daemon(request, tmp_path):
    with Daemon(store_url(request.param, tmp_path)) as running:
        yield running


def subscribed(daemon: Daemon, feed: str, topic: bytes = b"", client: Raw | None = None) -> Raw:
    """A SUB socket that has surely arrived: it has heard something of a probe stream."""
    sub = Raw(daemon.endpoints[feed], zmq.SUB)
    sub.socket.subscribe(topic)
    if client is None:
        return sub
    sub.socket.rcvtimeo = 100
    for _ in range(100):
        assert client.append(("probe", b"probe"))["last"]
        try:
            sub.recv()
            break
        except zmq.Again:
            continue
    while sub.socket.poll(200):
        sub.recv()
    sub.socket.rcvtimeo = 20_000
    return sub


def recv_besides_store(feed: Raw) -> list[bytes]:
    """The next message of the topic feed that does not say its store, as one does every second."""
    while (frames := feed.recv())[0] == b"$store":
        continue
    return frames


# --- after the replies ----------------------------------------------------------


def test_what_a_reply_does_not_wait_for_is_done_without_being_asked(tmp_path: Path) -> None:
    with Daemon(store_url("log", tmp_path)) as daemon:
        with Raw(daemon.endpoints["incoming"]) as client:
            assert client.append(("s", b"x"))["first"] == 1
            client.native("INFO")  # answered behind it, and not out of the index
        (index,) = Path(daemon.store.split(":", 1)[1]).glob("index-*")
        daemon.kill()
        entries, _, close = ENGINES[index.name.removeprefix("index-")](index, False, None)
        assert entries.get(b"ns") == (1).to_bytes(8, "big")
        close()


# --- the dialects over every store --------------------------------------------


def query_all(client: Raw, after: bytes = b"") -> tuple[list[tuple[bytes, bytes]], list[int]]:
    events: list[tuple[bytes, bytes]] = []
    pages = []
    while True:
        frames = client.ask(b"QUERY", after, b"")
        end = len(frames) % 2 == 1
        assert not end or frames.pop() == b"END"
        events += zip(frames[::2], frames[1::2], strict=True)
        pages.append(len(frames) // 2)
        if end:
            return events, pages
        after = events[-1][0]


def test_rewind_0_3_clients_over_every_store(any_daemon: Daemon) -> None:
    with (
        Raw(any_daemon.endpoints["incoming"], zmq.REQ) as client,
        Raw(any_daemon.endpoints["incoming"]) as native,
        subscribed(any_daemon, "streaming", client=native) as feed,
    ):
        before = native.native("READ", {"limit": 0})[0]["head"]
        for n in range(250):
            assert client.ask(b"PUBLISH", b"event %d" % n) == [b"PUBLISHED"]
        events, pages = query_all(client)
        assert [data for _, data in events[before:]] == [b"event %d" % n for n in range(250)]
        assert set(pages[:-1]) == {100}
        previous = events[before - 1][0]
        for id, data in events[before:]:
            assert feed.recv() == [id, previous, data]
            previous = id


@pytest.mark.parametrize("scheme", DURABLE)
def test_the_chain_goes_on_over_kill_and_restart(scheme: str, tmp_path: Path) -> None:
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        with Raw(daemon.endpoints["incoming"], zmq.REQ) as client:
            for n in range(5):
                client.ask(b"PUBLISH", b"%d" % n)
            before, _ = query_all(client)
        daemon.restart()
        with (
            Raw(daemon.endpoints["incoming"], zmq.REQ) as client,
            Raw(daemon.endpoints["streaming"], zmq.SUB) as feed,
        ):
            assert query_all(client)[0] == before
            feed.socket.subscribe(b"")
            feed.socket.rcvtimeo = 100
            message, count = None, 0
            while message is None and count < 100:
                count += 1
                client.ask(b"PUBLISH", b"after %d" % count)
                if feed.socket.poll(100):
                    message = feed.recv()
            events = query_all(client)[0]
            assert [id for id, _ in events[:5]] == [id for id, _ in before]
            assert message == [events[-1][0], events[-2][0], events[-1][1]]


def test_the_first_event_ever_has_no_previous_id(daemon: Daemon, raw: Raw) -> None:
    feed = Raw(daemon.endpoints["streaming"], zmq.SUB)
    feed.socket.subscribe(b"")
    topic = Raw(daemon.endpoints["topic"], zmq.SUB)
    topic.socket.subscribe(b"")
    assert topic.recv() == [b"$store", raw.native("INFO")[0]["store_id"]]
    assert topic.recv() == [b"$head", pack(0)]
    time_limit = time.monotonic() + 10
    while not feed.socket.poll(50) and time.monotonic() < time_limit:
        raw.append(("s", b"x"))
    first = feed.recv()
    events = raw.native("READ")[1]
    if first[0].replace(b"-", b"") == events[0][2].hex().encode():
        assert first[1] == b""
    feed.close()
    topic.close()


@pytest.mark.parametrize("envelope", [(), (b"",)])
def test_gorewind_clients_over_every_store(any_daemon: Daemon, envelope: tuple[bytes, ...]) -> None:
    with Raw(any_daemon.endpoints["incoming"]) as client:
        ids: dict[bytes, list[bytes]] = {}
        for n in range(30):
            stream = b"stream-%d" % (n % 3)
            reply = client.ask(*envelope, b"PUBLISH", stream, b"%d" % n)
            assert reply[: len(envelope)] == list(envelope) and reply[-2] == b"PUBLISHED"
            ids.setdefault(stream, []).append(reply[-1])
        wanted = ids[b"stream-1"]
        client.send(*envelope, b"QUERY", b"stream-1", wanted[1], wanted[4])
        for n in (2, 3, 4):
            expected = [*envelope, b"EVENT", wanted[n], b"%d" % (n * 3 + 1)]
            assert client.recv() == expected
        assert client.recv() == [*envelope, b"END"]


def test_a_query_over_100_events_or_1_mib_stops_short(raw: Raw) -> None:
    raw.append(*[("default", b"x")] * 100)
    frames = raw.ask(b"QUERY", b"", b"")
    assert len(frames) == 200
    assert raw.ask(b"QUERY", frames[-2], b"") == [b"END"]
    assert raw.ask(b"QUERY", frames[-2], frames[-2]) == [b"END"]
    raw.append(*[("default", bytes(400_000))] * 3)
    assert len(raw.ask(b"QUERY", frames[-2], b"")) == 4
    big = raw.append(("big", bytes(3_000_000)))
    assert big["first"] == 104
    one = raw.native("READ", {"after": 103, "max_bytes": 10})[1]
    assert len(one) == 1 and len(one[0][8]) == 3_000_000


def test_old_dialect_mistakes_get_one_error_frame(raw: Raw) -> None:
    raw.append(("default", b"1"), ("default", b"2"), ("other", b"3"))
    ids = [e[2] for e in raw.native("READ")[1]]
    text = [
        b"-".join((h[:8], h[8:12], h[12:16], h[16:20], h[20:]))
        for h in (i.hex().encode() for i in ids)
    ]
    for frames in (
        [b"QUERY", text[1], text[0]],
        [b"QUERY", b"00000000-0000-4000-8000-000000000000", b""],
        [b"QUERY", b"", b"00000000-0000-4000-8000-000000000000"],
        [b"QUERY", b"default", text[2], b""],
        [b"QUERY", b"nonsense", b""],
    ):
        (reply,) = raw.ask(*frames)
        assert reply.startswith(b"ERROR ") and reply.isascii()


# --- order --------------------------------------------------------------------


def test_requests_of_one_connection_take_effect_in_the_order_sent(raw: Raw) -> None:
    for n in range(50):
        raw.send(b"READ", b"before%d" % n, pack({"stream": "s"}))
        raw.send(b"APPEND", b"append%d" % n, pack({"events": [[None, "s", "t", [], {}, b""]]}))
        raw.send(b"READ", b"after%d" % n, pack({"stream": "s", "limit": 0}))
    versions = {}
    for _ in range(150):
        _, request_id, body, *_ = raw.recv()
        decoded = unpack(body)
        versions[request_id] = decoded.get("version", decoded.get("first"))
    for n in range(50):
        assert versions[b"before%d" % n] == n
        assert versions[b"append%d" % n] == n + 1
        assert versions[b"after%d" % n] == n + 1


def test_a_connection_that_never_pauses_is_not_overloaded(raw: Raw) -> None:
    """More bytes in all than a queue may hold, never many at once."""
    fill(raw, 8_000)
    body = pack({"events": [[None, "s", "t", [], {}, bytes(50_000)]]})
    scan = pack({"types": ["none"]})
    sent = 0
    for n in range(1_000):
        raw.send(b"READ", b"", scan)
        raw.send(b"APPEND", b"", body)
        sent += 2
        while sent > 200:
            assert raw.recv()[0] == b"OK", n
            sent -= 1


def test_appends_in_flight_are_answered_in_order_and_refusals_harm_nobody(raw: Raw) -> None:
    good = pack({"events": [[None, "s", "t", [], {}, b""]]})
    for n in range(300):
        raw.send(b"APPEND", b"%d" % n, good if n % 3 else b"\xc1")
    firsts = []
    for n in range(300):
        status, request_id, body = raw.recv()
        assert request_id == b"%d" % n
        assert status == (b"OK" if n % 3 else b"ERROR")
        if status == b"OK":
            firsts.append(unpack(body)["first"])
    assert firsts == list(range(1, 201))


def test_eight_writers_with_expected_versions_lose_no_update(any_daemon: Daemon) -> None:
    """Each counts up ten streams; a stream's sum is right only if no update was lost."""
    rounds = 15

    def write() -> None:
        with Raw(any_daemon.endpoints["incoming"]) as client:
            for n in range(10 * rounds):
                stream = f"s{n % 10}"
                while True:
                    head, records = client.native(
                        "READ", {"stream": stream, "backwards": True, "limit": 1}
                    )
                    count = int(records[0][8]) if records else 0
                    event = [None, stream, "t", [], {}, b"%d" % (count + 1)]
                    reply, _ = client.native(
                        "APPEND", {"events": [event], "expected": {stream: head["version"]}}
                    )
                    if "code" not in reply:
                        break
                    assert reply["code"] == "wrong_expected_version"
            done.append(True)

    done: list[bool] = []
    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 8
    with Raw(any_daemon.endpoints["incoming"]) as client:
        _, records = client.native("READ", {})
        assert [r[0] for r in records] == list(range(1, 8 * 10 * rounds + 1))
        for n in range(10):
            _, records = client.native("READ", {"stream": f"s{n}"})
            assert [int(r[8]) for r in records] == list(range(1, 8 * rounds + 1))
            assert [r[4] for r in records] == list(range(1, 8 * rounds + 1))


# --- the topic feed and waiting -----------------------------------------------


def test_the_topic_feed_has_no_holes_and_carries_the_stored_bytes(daemon: Daemon, raw: Raw) -> None:
    with subscribed(daemon, "topic", client=raw) as feed:
        first = raw.native("READ", {"limit": 0})[0]["head"] + 1
        for n in range(100):
            raw.append((f"s{n % 7}", b"%d" % n))
        records = raw.native("READ", {"after": first - 1})[1]
        for record in records:
            topic, encoded = recv_besides_store(feed)
            assert topic == record[3].encode() and unpack(encoded) == record


def test_an_idle_topic_feed_tells_the_head(daemon: Daemon, raw: Raw) -> None:
    with subscribed(daemon, "topic", client=raw) as feed:
        last = raw.append(("s", b"x"))["last"]
        assert recv_besides_store(feed)[0] == b"s"
        assert recv_besides_store(feed) == [b"$head", pack(last)]
        assert recv_besides_store(feed) == [b"$head", pack(last)]


def test_gorewind_feed(daemon: Daemon, raw: Raw) -> None:
    with subscribed(daemon, "gorewind", client=raw) as feed:
        _, id = raw.ask(b"PUBLISH", b"s", b"data")
        assert feed.recv() == [b"s", id, b"data"]


def test_a_waiting_read_wakes_for_a_match_and_only_then(raw: Raw) -> None:
    raw.send(b"READ", b"w", pack({"types": ["wanted"], "wait_ms": 20_000}))
    for n in range(5):
        raw.send(b"APPEND", b"%d" % n, pack({"events": [[None, "s", "other", [], {}, b""]]}))
        assert raw.recv()[1] == b"%d" % n
    raw.send(b"APPEND", b"a", pack({"events": [[None, "s", "wanted", [], {}, b""]]}))
    assert raw.recv()[1] == b"a"
    body, records = raw.native_reply(b"w")
    assert [r[0] for r in records] == [6] and body["next"] == 6


def test_a_waiting_read_of_a_stream_or_of_the_future_waits(raw: Raw) -> None:
    raw.send(b"READ", b"stream", pack({"stream": "s", "wait_ms": 20_000}))
    raw.send(b"READ", b"future", pack({"after": 2, "wait_ms": 20_000}))
    assert raw.append(("other", b""), ("other", b""))["last"] == 2
    raw.send(b"APPEND", b"a", pack({"events": [[None, "s", "t", [], {}, b""]]}))
    replies = {}
    for _ in range(3):
        _, request_id, body, *_ = raw.recv()
        replies[request_id] = unpack(body)
    assert replies[b"stream"]["count"] == 1 and replies[b"stream"]["version"] == 1
    assert replies[b"future"]["count"] == 1


def test_a_waiting_read_since_a_time_to_come_does_not_wake_before_it(raw: Raw) -> None:
    to_come = time.time_ns() + 3_600 * 10**9
    raw.send(b"READ", b"w", pack({"since": to_come, "wait_ms": 400}))
    for n in range(3):
        raw.send(b"APPEND", b"%d" % n, pack({"events": [[None, "s", "t", [], {}, b""]]}))
        assert raw.recv()[1] == b"%d" % n
    body, records = raw.native_reply(b"w")
    assert (body["count"], records) == (0, [])


def test_waiting_ends_with_an_empty_answer_in_time(raw: Raw) -> None:
    body, records = raw.native("READ", {"wait_ms": 50})
    assert (body["count"], body["end"], records) == (0, True, [])
    body, _ = raw.native("READ", {"until": 0, "wait_ms": 30_000})
    assert body["end"] is True


def wait_for_events(client: Raw, count: int, first: int = 0) -> None:
    """Send READs that wait; their numbers are their request ids."""
    for n in range(first, first + count):
        client.send(b"READ", b"%d" % n, pack({"wait_ms": 30_000}))


def test_too_many_waiting_reads_are_overload_and_shutdown_answers_them(daemon: Daemon) -> None:
    each = native.WAITING_READS_EACH_MAX
    with Raw(daemon.endpoints["incoming"]) as client:
        wait_for_events(client, each + 1)
        status, request_id, body = client.recv()
        assert (status, request_id) == (b"ERROR", b"%d" % each)
        assert unpack(body)["code"] == "overloaded" and unpack(body)["retryable"] is True
        threading.Thread(target=daemon.stop).start()
        assert len({client.recv()[1] for _ in range(each)}) == each


def check_that_reads_may_wait(daemon: Daemon) -> None:
    """Soon, because ZeroMQ and a thread of the daemon's have to hear of who left."""
    with Raw(daemon.endpoints["incoming"]) as client, Raw(daemon.endpoints["incoming"]) as writer:
        head = client.native("INFO")[0]["head"]
        give_up_s = time.monotonic() + 25  # The reads that take the places wait for 30 s.
        while True:
            client.send(b"READ", b"r", pack({"after": head, "wait_ms": 20_000}))
            client.send(b"INFO", b"behind it", pack({}))
            status, request_id, _ = client.recv()
            if (status, request_id) == (b"OK", b"behind it"):
                break
            assert (status, request_id, client.recv()[1]) == (b"ERROR", b"r", b"behind it")
            assert time.monotonic() < give_up_s, "who left holds all the places"
            time.sleep(0.05)
        writer.append(("s", b"x"))
        assert client.native_reply()[0]["count"] == 1


def test_waiting_reads_leave_their_places_with_their_connection(daemon: Daemon) -> None:
    connections = native.WAITING_READS_MAX // native.WAITING_READS_EACH_MAX
    with contextlib.ExitStack() as opened:
        clients = [
            opened.enter_context(Raw(daemon.endpoints["incoming"])) for _ in range(connections + 1)
        ]
        late = clients.pop()
        for client in clients:
            wait_for_events(client, native.WAITING_READS_EACH_MAX)
            client.native("INFO")
        assert late.native("READ", {"wait_ms": 10_000})[0]["code"] == "overloaded"
    check_that_reads_may_wait(daemon)


def test_many_short_subscriptions_leave_room_for_others(daemon: Daemon) -> None:
    for _ in range(native.WAITING_READS_MAX + 50):
        with Raw(daemon.endpoints["incoming"]) as client:
            wait_for_events(client, 1)
            client.native("INFO")
    check_that_reads_may_wait(daemon)


def test_a_client_of_an_old_zeromq_may_wait_too(daemon: Daemon, raw: Raw) -> None:
    """ZMTP 1.0 (rfc.zeromq.org/spec/13): ZeroMQ does not say over which connection it came."""
    host, port = daemon.endpoints["incoming"].removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as old:
        old.sendall(b"\x01\x00")  # a greeting: no identity

        def send(*frames: bytes) -> None:
            for n, frame in enumerate(frames, 1):
                old.sendall(bytes([1 + len(frame), n < len(frames)]) + frame)

        send(b"", b"READ", b"waits", pack({"wait_ms": 20_000}))
        send(b"", b"INFO", b"behind it", pack({}))
        received = b""
        while b"behind it" not in received:
            received += old.recv(4096)
        assert b"waits" not in received
        raw.append(("s", b"x"))
        while b"waits" not in received:
            received += old.recv(4096)


# --- neighbours ---------------------------------------------------------------


def test_clients_behind_a_proxy(daemon: Daemon) -> None:
    context = zmq.Context()
    front, back = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
    port = front.bind_to_random_port("tcp://127.0.0.1")
    back.connect(daemon.endpoints["incoming"])

    def forward() -> None:
        try:
            zmq.proxy(front, back)
        except zmq.ContextTerminated:
            front.close(0)
            back.close(0)

    thread = threading.Thread(target=forward)
    thread.start()
    endpoint = f"tcp://127.0.0.1:{port}"
    with Raw(endpoint, zmq.REQ) as one, Raw(endpoint, zmq.REQ) as two:
        for _n in range(20):
            one.send(b"PUBLISH", b"1")
            two.send(b"PUBLISH", b"s", b"2")
            assert one.recv() == [b"PUBLISHED"]
            assert two.recv()[0] == b"PUBLISHED"
        assert two.ask(b"INFO", b"x", pack({}))[:2] == [b"OK", b"x"]
    context.term()
    thread.join()


def fill(client: Raw, count: int, data: bytes = b"x" * 100) -> None:
    body = pack({"events": [[None, "big", "t", [], {}, data]] * 4_000})
    for _ in range(count // 4_000):
        client.send(b"APPEND", b"r", body)
    for _ in range(count // 4_000):
        assert client.recv()[0] == b"OK"


def anonymous_bytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


def test_clients_that_never_read_their_replies_cost_nobody_anything(
    daemon: Daemon, raw: Raw
) -> None:
    fill(raw, 100_000)
    before = anonymous_bytes(daemon)
    with Raw(daemon.endpoints["incoming"]) as deaf, Raw(daemon.endpoints["incoming"]) as deaf_too:
        for client in (deaf, deaf_too):
            client.socket.rcvhwm = 1
        deaf.send(b"QUERY", b"big", b"", b"")
        for _ in range(1_000):
            deaf_too.send(b"READ", b"r", pack({"max_bytes": 8 * 1024 * 1024}))
        for n in range(200):
            raw.socket.rcvtimeo = OTHERS_MS
            assert raw.append(("s", b"%d" % n))["versions"] == {"s": n + 1}
        grown = anonymous_bytes(daemon) - before
        assert grown < 64 * 1024 * 1024, f"{grown} bytes for two deaf clients"


def test_refused_requests_that_waited_behind_a_read_leave_nothing(daemon: Daemon, raw: Raw) -> None:
    proxies = [b"p" * 250] * 7 + [b""]  # an envelope of 2 kB belongs to each of these requests

    def refuse(rounds: int) -> int:
        for _ in range(rounds):
            for _ in range(50):
                raw.send(*proxies, b"READ", b"", pack({}))
                raw.send(*proxies, b"APPEND", b"", b"\xc1")
            for _ in range(100):
                raw.recv()
        return anonymous_bytes(daemon)

    before = refuse(40)  # by then what grows once has grown
    grown = refuse(100) - before
    assert grown < 5_000_000, f"{grown} bytes are kept of 5,000 refused requests of 2 kB"


def test_unread_query_answers_are_bounded_in_bytes(daemon: Daemon, raw: Raw) -> None:
    for _ in range(100):
        raw.append(("default", bytes(10_000)))
    before = anonymous_bytes(daemon)
    with Raw(daemon.endpoints["incoming"]) as deaf:
        deaf.socket.rcvhwm = 1
        for _ in range(900):
            deaf.send(b"QUERY", b"", b"")
        for n in range(50):
            assert raw.append(("s", b"%d" % n))["versions"] == {"s": n + 1}
        grown = anonymous_bytes(daemon) - before
        assert grown < 64 * 1024 * 1024, f"{grown} bytes for a deaf client"


def test_a_client_that_reads_now_and_then_is_one_line_of_the_log(daemon: Daemon, raw: Raw) -> None:
    proxies = [b"p" * 250] * 7 + [b""]  # what is kept for a client is soon 2 kB often enough
    begun_s = time.monotonic()
    with Raw(daemon.endpoints["incoming"]) as slow:
        slow.socket.rcvhwm = 1
        for _ in range(3):
            for _ in range(12_000):
                slow.send(*proxies, b"APPEND", b"r", b"\xc1")
            while slow.socket.poll(500):
                slow.recv()
        raw.native("INFO")
    minutes = (time.monotonic() - begun_s) / PERIOD_S
    assert 1 <= daemon.log.count("does not read its replies") <= 1 + minutes, daemon.log


def test_a_subscription_longer_than_any_topic_drops_its_connection(
    daemon: Daemon, raw: Raw
) -> None:
    with Raw(daemon.endpoints["topic"], zmq.SUB) as greedy:
        monitor = greedy.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        greedy.socket.subscribe(bytes(2_000))
        assert monitor.poll(10_000), "the connection is still there"
        greedy.socket.disable_monitor()
        assert raw.append(("s", b"x"))["first"] == 1


def test_a_long_gorewind_answer_arrives_whole_while_others_append(daemon: Daemon, raw: Raw) -> None:
    fill(raw, 40_000)
    with Raw(daemon.endpoints["incoming"]) as reader:
        reader.send(b"QUERY", b"big", b"", b"")
        reader.send(b"PUBLISH", b"later", b"waits for the answer before it")
        for n in range(20):
            raw.socket.rcvtimeo = OTHERS_MS
            assert raw.append(("s", b"x"))["versions"] == {"s": n + 1}
        for _ in range(40_000):
            command, _id, _ = reader.recv()
            assert command == b"EVENT"
        assert reader.recv() == [b"END"]
        assert reader.recv()[0] == b"PUBLISHED"


def test_a_scan_that_matches_nothing_does_not_hold_up_appends(daemon: Daemon, raw: Raw) -> None:
    fill(raw, 100_000, b"x")
    no_index_has = {"stream": "big", "types": ["none"]}
    with Raw(daemon.endpoints["incoming"]) as scanner:
        for n in range(10):
            scanner.send(b"READ", b"%d" % n, pack(no_index_has))
        raw.append(("s", b"x"))
        for n in range(10):
            body, records = scanner.native_reply(b"%d" % n)
            assert (body["count"], body["end"], records) == (0, False, [])
            assert body["next"] == EXAMINED_MAX


def test_a_message_far_above_the_limit_drops_that_connection_only(daemon: Daemon, raw: Raw) -> None:
    with Raw(daemon.endpoints["incoming"]) as huge:
        huge.send(b"PUBLISH", bytes(65 * 1024 * 1024))
        huge.socket.rcvtimeo = 500
        with pytest.raises(zmq.Again):
            huge.recv()
    assert raw.append(("s", b"x"))["first"] == 1


FRAMES = 100_000  # of a message; ZeroMQ hands over so many in a tenth of a second


def send_frames(client: Raw, count: int) -> None:
    client.socket.sndhwm = 0
    for _ in range(count - 1):
        client.socket.send(b"", zmq.SNDMORE)
    client.socket.send(b"")


def test_a_message_of_countless_frames_is_refused_and_the_others_go_on(
    daemon: Daemon, raw: Raw
) -> None:
    with Raw(daemon.endpoints["incoming"]) as hostile:
        for _ in range(3):
            send_frames(hostile, FRAMES)
            hostile.send(b"", b"INFO", b"behind it", pack({}))
            assert raw.append(("s", b"x"))["durability"] == "memory"
        for _ in range(3):
            assert hostile.recv() == [b"", b"ERROR the message has more than 64 frames"]
            assert hostile.recv()[:3] == [b"", b"OK", b"behind it"]


def test_sigterm_beside_messages_of_countless_frames(tmp_path: Path) -> None:
    with Daemon(store_url("log", tmp_path)) as daemon, Raw(daemon.endpoints["incoming"]) as hostile:
        send_frames(hostile, FRAMES)
        hostile.recv()
        for _ in range(5):
            send_frames(hostile, FRAMES)
        assert daemon.stop() == 0 and "stopped at head 0" in daemon.log


@pytest.mark.parametrize("scheme", DURABLE)
def test_sigterm_beside_a_client_that_floods_and_does_not_read(scheme: str, tmp_path: Path) -> None:
    """Its queue is full when the end comes, and so is, after some of the refusals, its outbox."""
    proxies = [b"p" * 250] * 7 + [b""]  # an outbox has room for 500 refusals with this envelope
    with Daemon(store_url(scheme, tmp_path)) as daemon, Raw(daemon.endpoints["incoming"]) as client:
        client.append(*[("s", bytes(20_000))] * 50)
        with Raw(daemon.endpoints["incoming"]) as deaf:
            deaf.socket.rcvhwm = 1
            for _ in range(QUEUED_MAX + PIPE_MESSAGES_MAX + 1_350):
                deaf.send(*proxies, b"READ", b"r", pack({}))
            for _ in range(20):
                client.native("INFO")
            assert daemon.stop() == 0 and "stopped at head 50" in daemon.log
        daemon.start()
        assert client.native("INFO")[0]["head"] == 50


def test_a_peer_gone_before_its_reply_is_forgotten(daemon: Daemon, raw: Raw) -> None:
    for _ in range(20):
        with Raw(daemon.endpoints["incoming"]) as brief:
            brief.send(b"READ", b"r", pack({"wait_ms": 30_000}))
            brief.native("INFO", request_id=b"i")
    raw.append(("s", b"x"))
    assert raw.append(("s", b"x"))["last"] == 2


def test_every_kind_of_garbage_leaves_the_daemon_and_its_neighbours_unharmed(
    daemon: Daemon, raw: Raw
) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    import random

    choose = random.Random(seed)
    words = [
        b"",
        b"PUBLISH",
        b"QUERY",
        b"APPEND",
        b"READ",
        b"STREAMS",
        b"INFO",
        b"\xff",
        b"x" * 70,
        pack({}),
    ]
    sent = 2_000
    with Raw(daemon.endpoints["incoming"]) as fuzzer:
        for _ in range(sent):
            frames = [choose.choice(words) for _ in range(choose.randrange(0, 5))]
            if choose.random() < 0.3:
                frames.append(choose.randbytes(choose.randrange(40)))
            fuzzer.send(b"", *frames)
        raw.native("INFO")
    assert raw.native("INFO")[0]["name"] == "rewind"


# --- kill and restart ---------------------------------------------------------


@pytest.mark.parametrize("scheme", DURABLE)
def test_no_acknowledged_event_is_missing_after_kill_9_under_load(
    scheme: str, tmp_path: Path
) -> None:
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        acknowledged: dict[int, bytes] = {}
        for round in range(3):
            killer = threading.Timer(0.3 + 0.2 * round, daemon.process.kill)
            with Raw(daemon.endpoints["incoming"], timeout_ms=1_000) as client:
                body = {f"{round}-{n}".encode(): n for n in range(20_000)}
                killer.start()
                pending = iter(body)
                for _ in range(100):
                    _send_one(client, next(pending))
                try:
                    while True:
                        status, data, reply = client.recv()
                        assert status == b"OK"
                        acknowledged[unpack(reply)["first"]] = data
                        _send_one(client, next(pending))
                except (zmq.Again, StopIteration):
                    pass
                killer.join()
            daemon.restart()
        assert len(acknowledged) > 100
        with Raw(daemon.endpoints["incoming"]) as client:
            stored, after, end = {}, 0, False
            while not end:
                page, records = client.native("READ", {"after": after})
                stored.update({record[0]: record[8] for record in records})
                after, end = page["next"], page["end"]
            assert sorted(stored) == list(range(1, len(stored) + 1))
            assert {n: stored.get(n) for n in acknowledged} == acknowledged


def _send_one(client: Raw, data: bytes) -> None:
    event = [None, f"s{hash(data) % 50}", "t", [], {}, data]
    client.send(b"APPEND", data, pack({"events": [event]}))


def test_an_idle_daemon_uses_next_to_no_cpu(daemon: Daemon, raw: Raw) -> None:
    with subscribed(daemon, "topic", client=raw) as feed:
        process = psutil.Process(daemon.process.pid)
        before = process.cpu_times()
        for _ in range(3):
            assert recv_besides_store(feed)[0] == b"$head"
        after = process.cpu_times()
        assert after.user + after.system - before.user - before.system < 0.3


def test_several_appends_in_one_message_are_independent() -> None:
    with Daemon("memory:") as daemon, Raw(daemon.endpoints["incoming"]) as raw:
        event = [None, "s", "t", [], {}, b"x"]
        body, _ = raw.native(
            "APPEND",
            [
                {"events": [event], "id": b"a" * 16, "expected": {"s": 0}},
                {"events": [event], "expected": {"s": 0}},
                {"events": [[None, "$s", "t", [], {}, b"x"]]},
                {"events": [event], "id": b"a" * 16, "expected": {"s": 0}},
                {"events": [event, event], "expected": {"s": 1}},
            ],
        )
        first, late, reserved, again, last = body
        assert first["first"] == 1 and not first["duplicate"]
        assert late["code"] == "wrong_expected_version" and late["actual"] == 1
        assert reserved["code"] == "bad_request"
        assert again == {**first, "duplicate": True}
        assert (last["first"], last["last"], last["versions"]) == (2, 3, {"s": 3})
        assert raw.native("READ", {"limit": 0})[0]["head"] == 3


def test_several_appends_behind_a_read_keep_their_order() -> None:
    with Daemon("memory:") as daemon, Raw(daemon.endpoints["incoming"]) as raw:
        event = [None, "s", "t", [], {}, b"x"]
        pack = msgspec.msgpack.encode
        for round in range(20):
            raw.send(b"READ", b"a", pack({"limit": 0}))
            raw.send(b"APPEND", b"b", pack([{"events": [event]}, {"events": [event]}]))
            raw.send(b"READ", b"c", pack({"limit": 0}))
            assert raw.native_reply(b"a")[0]["head"] == 2 * round
            assert [part["first"] for part in raw.native_reply(b"b")[0]] == [
                2 * round + 1,
                2 * round + 2,
            ]
            assert raw.native_reply(b"c")[0]["head"] == 2 * round + 2


def test_ipc_endpoints_and_several_binds(tmp_path: Path) -> None:
    path = f"ipc://{tmp_path}/rewind.sock"
    with Daemon("memory:", "--incoming-bind", path) as daemon, Raw(path) as one:
        assert one.append(("s", b"x"))["first"] == 1
        first = daemon.endpoints["incoming"].split(",")[0]
        with Raw(first) as two:
            assert two.append(("s", b"x"))["first"] == 2
        assert two is not one
