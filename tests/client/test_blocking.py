"""The blocking client over the wire: the contract, and what only a network can do to it."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from client_contract import (
    PATIENCE_S,
    ClientContract,
    Consumer,
    check_that_a_refusal_is_freed,
    consuming,
    event,
    eventually,
    fill,
)
from conftest import store_url
from fakes import FakeDaemon, FakeFeed, free_endpoint, ok_head, pack, refusal
from query_contract import QueryContract
from raw import Raw

import rewind
from rewind.client import follow, requests, zmq_blocking
from rewind.client.follow import LIVE, Follower
from rewind.testing import Daemon


@pytest.fixture
def client(daemon: Daemon) -> Iterator[rewind.Client]:
    with rewind.connect(daemon.endpoints["incoming"], timeout=20) as connected:
        yield connected


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(store_url("sqlite", tmp_path)) as running:
        yield running


class TestContract(ClientContract, QueryContract):
    pass


def test_a_refusal_is_freed_when_nobody_holds_it_any_more(client: rewind.Client) -> None:
    check_that_a_refusal_is_freed(client)


def follower(subscription: Any) -> Follower:
    found: Follower = subscription._source._follower
    return found


# Connecting


@pytest.mark.parametrize(
    "wrong",
    ["", "127.0.0.1:9090", "tcp://host", "tcp://*:9090", "tcp://h:0", "inproc://x", "ipc://"],
)
def test_what_is_no_endpoint_is_refused_at_once(wrong: str) -> None:
    with pytest.raises(rewind.BadConfiguration):
        rewind.connect(wrong)
    with pytest.raises(rewind.BadConfiguration):
        rewind.connect(topic_endpoint=wrong)


@pytest.mark.parametrize("wrong", [-1, -0.0015, math.nan, "1", True, None])
def test_a_duration_that_is_none_is_refused_at_the_call(daemon: Daemon, wrong: Any) -> None:
    for connect in (rewind.connect, rewind.connect_async):
        with pytest.raises((rewind.BadRequest, TypeError), match="timeout"):
            connect(timeout=wrong)  # type: ignore[operator]
    if wrong is not None:
        for kind in (rewind.Subscription, rewind.AsyncSubscription):
            with pytest.raises((rewind.BadRequest, TypeError), match="max_wait"):
                kind.batches(None, max_wait=wrong)  # type: ignore[attr-defined]


def test_a_call_without_end_is_answered_by_a_daemon_that_comes_later() -> None:
    endpoint = free_endpoint()
    heads: list[int] = []
    with rewind.connect(endpoint, timeout=math.inf) as client:
        waiting = threading.Thread(target=lambda: heads.append(client.head()))
        waiting.start()
        with FakeDaemon(lambda frames, fake: ok_head(frames, 7), endpoint):
            waiting.join(PATIENCE_S)
    assert heads == [7]


REFUSED = "tcp://a,b:1"  # It looks like an endpoint, but ZeroMQ takes no such name.


def test_an_endpoint_that_zeromq_refuses_is_unavailable_and_can_be_closed() -> None:
    with rewind.connect(REFUSED) as client:
        with pytest.raises(rewind.Unavailable, match="a,b") as failed:
            client.append("s", event())
        assert failed.value.append_id
        subscription = client.subscribe()
        with pytest.raises(rewind.Unavailable, match="a,b"):
            next(subscription)
        assert not subscription.wait_for(1)  # It has ended.

    async def main() -> None:
        in_callbacks: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: in_callbacks.append(what))
        async with rewind.connect_async(REFUSED) as client:
            with pytest.raises(rewind.Unavailable, match="a,b") as failed:
                await client.append("s", event())
            assert failed.value.append_id
            with pytest.raises(rewind.Unavailable, match="a,b"):
                await anext(client.subscribe())
        assert in_callbacks == []

    asyncio.run(main())


def test_a_topic_endpoint_that_zeromq_refuses_is_done_without(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    with rewind.connect(daemon.endpoint, topic_endpoint=REFUSED) as client:
        subscription = client.subscribe()
        for position in range(1, 4):
            client.append("s", event())
            assert next(subscription).position == position
        subscription.stop()
    assert REFUSED in caplog.text


def test_connect_does_not_wait_for_the_daemon(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    with rewind.connect(endpoint, timeout=20) as client:
        daemon = Daemon("memory:", "--incoming-bind", endpoint)
        starting = threading.Thread(target=daemon.start)
        starting.start()
        try:
            assert client.append("s", event()).last == 1
        finally:
            starting.join()
            daemon.kill()


def test_ipc_subscription(tmp_path: Path) -> None:
    options = ("--incoming-bind", f"ipc://{tmp_path}/i", "--topic-bind", f"ipc://{tmp_path}/t")
    with Daemon("memory:", *options), rewind.connect(f"ipc://{tmp_path}/i") as client:
        subscription = client.subscribe()
        with consuming(subscription) as consumer:
            eventually(lambda: follower(subscription).state is LIVE)
            last = client.append("s", [event(), event()]).last
            assert subscription.wait_for(last, PATIENCE_S)
            assert consumer.positions == [1, 2]


# Time-outs and retries


def test_unavailable_carries_append_id() -> None:
    with rewind.connect(free_endpoint(), timeout=0.2) as client:
        with pytest.raises(rewind.Unavailable, match="append_id is safe") as failed:
            client.append("s", event())
        assert failed.value.append_id is not None and len(failed.value.append_id) == 16
        id = uuid.uuid4()
        with pytest.raises(rewind.Unavailable) as failed:
            client.append("s", event(), append_id=id, timeout=0)
        assert failed.value.append_id == id.bytes
        with pytest.raises(rewind.Unavailable, match="sending the same again is safe") as failed:
            client.append("s", event(id=id))
        assert failed.value.append_id is None
        with pytest.raises(rewind.Unavailable, match="is the daemon running") as failed:
            client.head()
        assert failed.value.append_id is None


def test_answers_to_nobody_do_not_put_off_the_end_of_a_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They came too late for one slice of the wait, and the next had a length below nothing."""
    received = zmq_blocking.Outstanding.received

    def slow(outstanding: Any, frames: list[bytes], now_s: float) -> Any:
        return received(outstanding, [*frames[:2], b"nobody", *frames[3:]], now_s)

    monkeypatch.setattr(zmq_blocking.Outstanding, "received", slow)
    moments = iter([0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0])
    monkeypatch.setattr(zmq_blocking, "time", SimpleNamespace(monotonic=lambda: next(moments)))
    with (
        FakeDaemon(lambda frames, fake: ok_head(frames, 1)) as fake,
        rewind.connect(fake.endpoint, timeout=2) as client,
        pytest.raises(rewind.Unavailable),
    ):
        client.head()


def test_append_after_unavailable_is_stored_once(tmp_path: Path) -> None:
    with (
        Daemon(store_url("sqlite", tmp_path)) as daemon,
        rewind.connect(daemon.endpoints["incoming"], timeout=20) as client,
    ):
        client.append("s", event(b"0"))
        daemon.process.send_signal(signal.SIGSTOP)
        with pytest.raises(rewind.Unavailable) as failed:
            client.append("s", event(b"1"), timeout=0.3)
        daemon.process.send_signal(signal.SIGCONT)
        id = failed.value.append_id
        assert client.append("s", event(b"1"), append_id=id).last == 2
        assert client.append("s", event(b"1"), append_id=id).duplicate
        assert [each.data for each in client.read()] == [b"0", b"1"]


def test_a_lost_answer_is_asked_for_again_with_the_same_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "ATTEMPT_S_MIN", 0.1)
    reply = {"first": 1, "last": 1, "versions": {"s": 1}, "duplicate": True, "durability": "fsync"}

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        if len(fake.requests) < 3:
            return None
        return [frames[0], b"OK", frames[2], pack(reply)]

    with FakeDaemon(answer) as fake, rewind.connect(fake.endpoint) as client:
        assert client.append("s", event()).duplicate
        assert len({frames[3] for frames in fake.requests}) == 1
        assert len({frames[0] for frames in fake.requests}) == 3  # a new connection each time


@pytest.mark.parametrize("code", ["overloaded", "shutting_down"])
def test_a_passing_refusal_is_retried(code: str) -> None:
    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes]:
        return refusal(frames, code) if len(fake.requests) < 4 else ok_head(frames, 5)

    with FakeDaemon(answer) as fake, rewind.connect(fake.endpoint) as client:
        assert client.head() == 5
        assert len(fake.requests) == 4


def test_a_refusal_that_does_not_pass_in_time_is_unavailable() -> None:
    with (
        FakeDaemon(lambda frames, fake: refusal(frames, "overloaded")) as fake,
        rewind.connect(fake.endpoint, timeout=0.3) as client,
    ):
        with pytest.raises(rewind.Unavailable) as failed:
            client.append("s", event())
        assert isinstance(failed.value.__cause__, rewind.Overloaded)
        assert failed.value.append_id is not None


@pytest.mark.parametrize("code", ["storage_full", "forbidden", "internal"])
def test_other_refusals_are_raised_at_once(code: str) -> None:
    with (
        FakeDaemon(lambda frames, fake: refusal(frames, code)) as fake,
        rewind.connect(fake.endpoint) as client,
    ):
        with pytest.raises(rewind.RequestError) as refused:
            client.append("s", event())
        assert refused.value.code == code and len(fake.requests) == 1


def test_what_is_not_rewind_is_said_to_be_so() -> None:
    with (
        FakeDaemon(lambda frames, fake: [frames[0], b"ERROR unknown command"]) as fake,
        rewind.connect(fake.endpoint) as client,
        pytest.raises(rewind.Unavailable, match="another program"),
    ):
        client.head()


def test_appends_survive_restart_of_daemon(durable: Daemon) -> None:
    """Resent, exactly once: every acknowledged append is there once, none twice."""
    acknowledged: list[bytes] = []
    ended = threading.Event()

    def write(number: int) -> None:
        count = 0
        while not ended.is_set():
            data = b"%d-%d" % (number, count)
            client.append(f"s-{number}", event(data), count)
            acknowledged.append(data)
            count += 1

    with rewind.connect(durable.endpoints["incoming"], timeout=60) as client:
        writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for writer in writers:
            writer.start()
        for kill in (True, False, True):
            seen = len(acknowledged)
            eventually(lambda: len(acknowledged) > seen + 50)  # noqa: B023
            durable.restart(kill=kill)
        ended.set()
        for writer in writers:
            writer.join()
        stored = [each.data for each in client.read()]
    assert len(set(stored)) == len(stored)
    assert sorted(stored) == sorted(acknowledged)


def test_read_goes_on_over_a_restart(durable: Daemon) -> None:
    with rewind.connect(durable.endpoints["incoming"], timeout=30) as client:
        fill(client, 3_000, size=1_500)
        positions = []
        for each in client.read():
            positions.append(each.position)
            if each.position in (1, 1_500):
                durable.restart()
        assert positions == list(range(1, 3_001))


def test_limits_of_the_daemon_are_kept_once_known() -> None:
    with (
        Daemon("memory:", "--max-event-bytes", "100") as daemon,
        rewind.connect(daemon.endpoints["incoming"]) as client,
    ):
        with pytest.raises(rewind.TooLarge):
            client.append("s", event(bytes(101)))  # the daemon's word
        assert client.info().limits["event_bytes"] == 100
        daemon.kill()
        with pytest.raises(rewind.TooLarge):
            client.append("s", event(bytes(101)))  # not even sent


# Threads, processes, closing


def test_calls_of_threads_are_in_flight_together() -> None:
    together = threading.Barrier(3)
    held: list[list[bytes]] = []

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        held.append(frames)
        if len(held) < 3:
            return None
        for waiting in held[:2]:
            fake._router.send_multipart(ok_head(waiting, 3))
        return ok_head(frames, 3)

    with FakeDaemon(answer) as fake, rewind.connect(fake.endpoint) as client:
        heads: list[int] = []

        def ask() -> None:
            together.wait()
            heads.append(client.head())

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert heads == [3, 3, 3] and len(fake.requests) == 3


def test_fork(client: rewind.Client) -> None:
    """The child goes on with sockets of its own; neither gets the other's answers."""
    client.append("s", event(b"before"))
    subscription = client.subscribe()
    assert next(subscription).position == 1
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for _ in range(50):
                client.append("child", event(b"child"))
            try:
                subscription.wait_for(0)
                next(subscription)
            except rewind.Closed:
                code = 0
            subscription.stop()
            client.close()
        finally:
            os._exit(code)
    for _ in range(50):
        client.append("parent", event(b"parent"))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert dict(client.streams()) == {"child": 50, "parent": 50, "s": 1}
    assert [next(subscription).position for _ in range(100)] == list(range(2, 102))
    subscription.stop()


def test_close_ends_a_call_that_waits() -> None:
    client = rewind.connect(free_endpoint(), timeout=60)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            client.head()
        except rewind.Closed as error:
            errors.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    client.close()
    thread.join(PATIENCE_S)
    assert not thread.is_alive() and len(errors) == 1


def test_a_program_that_closes_nothing_ends(daemon: Daemon) -> None:
    code = f"""
import rewind
client = rewind.connect({daemon.endpoints["incoming"]!r})
client.append("s", rewind.NewEvent("t"))
subscription = client.subscribe()
print(next(subscription).position)
reading = client.read(); next(reading)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")


def test_no_socket_stays_open(daemon: Daemon) -> None:
    client = rewind.connect(daemon.endpoints["incoming"])
    subscription = client.subscribe()
    client.append("s", event())
    assert next(subscription).position == 1
    sockets_of: Any = subscription._source._sockets  # type: ignore[attr-defined]
    sockets = [*sockets_of.sockets(), *(each._socket for each in client._transport._idle)]  # type: ignore[attr-defined]
    assert len(sockets) >= 3
    client.close()
    assert all(made.closed for made in sockets)


# Subscriptions


def test_subscription_goes_live_and_needs_no_reads(client: rewind.Client) -> None:
    fill(client, 10)
    subscription = client.subscribe()
    with consuming(subscription) as consumer:
        eventually(lambda: follower(subscription).state is LIVE)
        asked = follower(subscription)._requests
        for _ in range(500):
            last = client.append("s", event()).last
        assert subscription.wait_for(last, PATIENCE_S)
        assert follower(subscription)._requests == asked
        assert consumer.positions == list(range(1, 511))


def test_subscription_survives_the_daemons_absence(durable: Daemon) -> None:
    with rewind.connect(durable.endpoints["incoming"], timeout=30) as client:
        durable.kill()
        subscription = client.subscribe()
        with consuming(subscription) as consumer:
            eventually(lambda: follower(subscription)._absence_logged)  # it has noticed
            durable.start()
            last = client.append("s", event()).last
            assert subscription.wait_for(last, PATIENCE_S)
            assert consumer.positions == [1]


def test_absence_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with rewind.connect(free_endpoint()) as client:
        subscription = client.subscribe()
        with consuming(subscription):
            eventually(lambda: follower(subscription)._reopen_s > 0.5)  # several tries later
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("filters", [{}, {"types": ["t"]}, {"stream": "s"}])
def test_subscription_misses_and_repeats_nothing_over_restart(
    durable: Daemon, filters: dict[str, Any]
) -> None:
    ended = threading.Event()

    def write() -> None:
        while not ended.is_set():
            client.append("s", [event(), event()])

    with rewind.connect(durable.endpoints["incoming"], timeout=60) as client:
        writer = threading.Thread(target=write)
        writer.start()
        subscription = client.subscribe(**filters)
        with consuming(subscription) as consumer:
            for kill in (True, False, True):
                seen = len(consumer.events)
                eventually(lambda: len(consumer.events) > seen + 100)  # noqa: B023
                durable.restart(kill=kill)
            ended.set()
            writer.join()
            head = client.head()
            assert subscription.wait_for(head, PATIENCE_S)
        assert consumer.error is None
        assert consumer.positions == list(range(1, head + 1))


@pytest.mark.parametrize("filters", [{}, {"types": ["t"]}, {"stream": "s"}])
def test_other_store_raises_store_changed(daemon: Daemon, filters: dict[str, Any]) -> None:
    """The store in memory is another one after a restart, even with as many events as before."""
    with rewind.connect(daemon.endpoints["incoming"], timeout=30) as client:
        fill(client, 3)
        subscription = client.subscribe(**filters)
        consumer = Consumer(subscription)
        assert subscription.wait_caught_up(PATIENCE_S)
        if not filters:
            eventually(lambda: follower(subscription).state is LIVE)
        daemon.restart()
        fill(client, 10)
        consumer.join()
        assert isinstance(consumer.error, rewind.StoreChanged)
        assert consumer.positions == [1, 2, 3]
        assert not subscription.wait_for(4, PATIENCE_S)


def test_older_copy_raises_store_changed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with (
        Daemon(f"sqlite:{store}") as daemon,
        rewind.connect(daemon.endpoints["incoming"], timeout=30) as client,
    ):
        fill(client, 3)
        daemon.stop()
        subprocess.run(["cp", "-r", store, tmp_path / "copy"], check=True)
        daemon.start()
        fill(client, 3)
        subscription = client.subscribe()
        consumer = Consumer(subscription)
        assert subscription.wait_for(6, PATIENCE_S)
        daemon.kill()
        daemon.store = f"sqlite:{tmp_path / 'copy'}"
        daemon.start()
        consumer.join()
        assert isinstance(consumer.error, rewind.StoreChanged)
        with pytest.raises(rewind.StoreChanged):
            next(client.subscribe(after=6))
        assert len(list(client.subscribe(after=3).batches(max_wait=0).__next__())) == 0


@pytest.fixture
def feed() -> Iterator[FakeFeed]:
    with FakeFeed() as made:
        yield made


@pytest.fixture
def fed(daemon: Daemon, feed: FakeFeed) -> Iterator[rewind.Client]:
    """A client whose topic socket is ours, so that it can lose, repeat and be silent."""
    with rewind.connect(
        daemon.endpoints["incoming"], topic_endpoint=feed.endpoint, timeout=20
    ) as client:
        yield client


def records(daemon: Daemon, after: int) -> list[bytes]:
    """The encoded records after a position."""
    with Raw(daemon.endpoints["incoming"]) as raw:
        return [pack(each) for each in raw.native("READ", {"after": after})[1]]


def go_live(fed: rewind.Client, feed: FakeFeed, count: int) -> tuple[Any, Consumer]:
    subscription = fed.subscribe()
    consumer = Consumer(subscription)
    feed.wait_for_subscriber()
    feed.store(fed.info().store_id.bytes)
    feed.head(count)
    eventually(lambda: follower(subscription).state is LIVE)
    assert subscription.wait_for(count, PATIENCE_S)
    return subscription, consumer


def test_hole_in_topic_feed_is_repaired(daemon: Daemon, fed: rewind.Client, feed: FakeFeed) -> None:
    fill(fed, 3)
    subscription, consumer = go_live(fed, feed, 3)
    fill(fed, 5)
    feed.publish(b"s", records(daemon, 3)[1])  # 5, and never 4
    assert subscription.wait_for(8, PATIENCE_S)
    assert consumer.positions == list(range(1, 9))
    subscription.stop()
    consumer.join()


def test_lost_last_event_is_noticed_by_the_head(
    daemon: Daemon, fed: rewind.Client, feed: FakeFeed
) -> None:
    fill(fed, 3)
    subscription, consumer = go_live(fed, feed, 3)
    fill(fed, 2)
    feed.head(5)
    assert subscription.wait_for(5, PATIENCE_S)
    assert consumer.positions == [1, 2, 3, 4, 5]
    subscription.stop()
    consumer.join()


def test_repetitions_and_nonsense_in_the_feed_do_no_harm(
    daemon: Daemon, fed: rewind.Client, feed: FakeFeed
) -> None:
    fill(fed, 3)
    subscription, consumer = go_live(fed, feed, 3)
    first = records(daemon, 0)
    for record in [*first, *first, b"no record", b"\x93\x01\x02\x03"]:
        feed.publish(b"s", record)
    feed.publish(b"$future", b"whatever")
    feed.publish(b"$head", b"no number")
    feed.head(2)
    fill(fed, 1)
    feed.publish(b"s", records(daemon, 3)[0])
    feed.publish(b"s", records(daemon, 3)[0])
    assert subscription.wait_for(4, PATIENCE_S)
    assert consumer.positions == [1, 2, 3, 4]
    subscription.stop()
    consumer.join()


def test_silent_topic_socket_is_replaced_by_reads(
    daemon: Daemon, fed: rewind.Client, feed: FakeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "SILENCE_S", 0.2)
    fill(fed, 3)
    subscription, consumer = go_live(fed, feed, 3)
    fill(fed, 2)  # and not a word of it on the feed
    assert subscription.wait_for(5, PATIENCE_S)
    fill(fed, 2)
    assert subscription.wait_for(7, PATIENCE_S)

    store_id = fed.info().store_id.bytes

    def goes_live() -> bool:  # said until the new socket has subscribed
        feed.store(store_id)
        return follower(subscription).state is LIVE

    eventually(goes_live)
    assert consumer.positions == list(range(1, 8))
    subscription.stop()
    consumer.join()


def test_unreachable_topic_socket_is_done_without(daemon: Daemon) -> None:
    with rewind.connect(daemon.endpoints["incoming"], topic_endpoint=free_endpoint()) as client:
        subscription = client.subscribe()
        with consuming(subscription) as consumer:
            for _ in range(20):
                last = client.append("s", event()).last
                assert subscription.wait_for(last, PATIENCE_S)
            assert consumer.positions == list(range(1, 21))
            assert follower(subscription).state is not LIVE


def test_a_feed_whose_daemon_is_not_proven_is_not_trusted(
    daemon: Daemon, fed: rewind.Client, feed: FakeFeed
) -> None:
    """Records are taken only after a READ that was sent when the feed had already said its store."""
    fill(fed, 2)
    subscription = fed.subscribe()
    consumer = Consumer(subscription)
    feed.wait_for_subscriber()
    assert subscription.wait_for(2, PATIENCE_S)
    foreign = records(daemon, 1)[0]
    feed.publish(b"s", foreign)
    feed.store(fed.info().store_id.bytes)
    eventually(lambda: follower(subscription).state is LIVE)
    assert consumer.positions == [1, 2]
    subscription.stop()
    consumer.join()


def test_slow_consumer_loses_nothing(client: rewind.Client) -> None:
    subscription = client.subscribe()
    go_on = threading.Event()
    positions: list[int] = []

    def consume() -> None:
        for each in subscription:
            positions.append(each.position)
            if each.position == 1:
                go_on.wait(PATIENCE_S)

    thread = threading.Thread(target=consume)
    thread.start()
    client.append("s", event())
    eventually(lambda: positions == [1])
    fill(client, 20_000)
    go_on.set()
    assert subscription.wait_for(20_001, PATIENCE_S)
    subscription.stop()
    thread.join()
    assert positions == list(range(1, 20_002))


def test_subscriptions_let_go_while_the_daemon_dies_harm_nobody() -> None:
    # Their monitors were once collected before their sockets, and ZeroMQ's thread waited for ever.
    with Daemon("memory:") as daemon:
        for _ in range(3):
            with rewind.connect(daemon.endpoints["incoming"], timeout=PATIENCE_S) as client:
                client.append("s", event())
                subscriptions = [client.subscribe() for _ in range(50)]
                for subscription in subscriptions:
                    assert next(subscription).position == 1
                del subscription
                daemon.process.kill()
                while subscriptions:
                    subscriptions.pop()
                daemon.restart()
                assert client.head() == 0


def test_late_answers_of_a_subscription_open_a_new_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(follow, "REPLY_S", 0.1)
    with FakeDaemon(lambda frames, fake: None) as fake, rewind.connect(fake.endpoint) as client:
        subscription = client.subscribe()
        with consuming(subscription):
            eventually(lambda: len({frames[0] for frames in fake.requests}) > 2)
        assert {frames[1] for frames in fake.requests} == {b"INFO"}


def test_refused_subscription_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        FakeDaemon(lambda frames, fake: refusal(frames, "forbidden")) as fake,
        rewind.connect(fake.endpoint) as client,
    ):
        subscription = client.subscribe()
        with pytest.raises(rewind.Forbidden):
            next(subscription)


def test_stop_inside_a_signal_handler(client: rewind.Client) -> None:
    subscription = client.subscribe()
    client.append("s", event())
    before = signal.signal(signal.SIGALRM, lambda number, frame: subscription.stop())
    try:
        start_s = time.monotonic()
        for _ in subscription:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert time.monotonic() - start_s < PATIENCE_S / 2
    finally:
        signal.signal(signal.SIGALRM, before)


def test_interrupted_call_leaves_no_stale_answer(client: rewind.Client) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for delay in (0.0005, 0.001, 0.002, 0.003):
            with pytest.raises(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, delay)
                while True:
                    client.append("s", event(bytes(1_000)))
            head = client.head()
            assert client.append("s", event()).first >= head
    finally:
        signal.signal(signal.SIGALRM, before)
