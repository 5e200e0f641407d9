"""The feeds' own promises: what is said when, and who is listened for. Events are in test_server.py."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import zmq
from appends import append, event
from raw import Raw

from rewind.backends.memory import MemoryBackend
from rewind.daemon.feeds import GREETING_S, HEARTBEAT_S, SUBSCRIPTIONS_MAX, Feed, Feeds
from rewind.store import Store
from rewind.testing import Daemon

STORE = b"A" * 16


class FakeFeed:
    """A feed that somebody listens to, and that only remembers what is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, ...]] = []
        self.greeting_due = False

    def read_subscriptions(self) -> None:
        pass

    def send(self, *frames: bytes) -> None:
        self.sent.append(frames)


def test_only_the_position_behind_the_last_one_is_published() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, STORE, 0, None)  # type: ignore[arg-type]
    store = Store(MemoryBackend())
    first = store.append([append(event("a"))])[1]
    second = store.append([append(event("b"), event("c"))])[1]
    with pytest.raises(AssertionError):
        feeds.publish(second, 1.0)
    feeds.publish(first, 1.0)
    with pytest.raises(AssertionError):
        feeds.publish(first, 1.0)
    feeds.publish(second, 1.0)
    assert [frames[0] for frames in topic.sent if frames[0] != b"$store"] == [b"a", b"b", b"c"]


def test_a_head_that_was_not_published_is_never_told() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, STORE, 7, bytes(16))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        feeds.heartbeat(8, 0.0)
    feeds.heartbeat(7, HEARTBEAT_S - 0.1)
    assert topic.sent == []
    feeds.heartbeat(7, HEARTBEAT_S)
    assert topic.sent == [(b"$store", STORE), (b"$head", b"\x07")]


def test_the_store_is_said_every_second_also_while_events_flow() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, STORE, 0, None)  # type: ignore[arg-type]
    store = Store(MemoryBackend())
    for tenth in range(10, 41):
        feeds.publish(store.append([append(event("a"))])[1], tenth / 10)
        feeds.heartbeat(store.head, tenth / 10)
    assert [frames for frames in topic.sent if frames[0] != b"a"] == [(b"$store", STORE)] * 4
    assert feeds.next_heartbeat() == 4.0 + HEARTBEAT_S


def test_who_comes_hears_the_store_at_once_and_not_without_a_pause() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, STORE, 0, None)  # type: ignore[arg-type]
    feeds.heartbeat(0, 10.0)
    topic.sent.clear()
    for now_s, said in ((10.5, 1), (10.5, 1), (10.5 + GREETING_S / 2, 1), (10.6, 2)):
        topic.greeting_due = True
        assert feeds.next_heartbeat() <= now_s + GREETING_S  # type: ignore[operator]
        feeds.heartbeat(0, now_s)
        assert topic.sent == [(b"$store", STORE)] * said


def test_who_comes_hears_the_store_before_the_events_of_that_turn() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, STORE, 0, None)  # type: ignore[arg-type]
    feeds.heartbeat(0, 10.0)
    topic.sent.clear()
    topic.greeting_due = True
    feeds.publish(Store(MemoryBackend()).append([append(event("a"))])[1], 10.5)
    assert [frames[0] for frames in topic.sent] == [b"$store", b"a"]


# Who listens, as ZeroMQ tells it


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    made: zmq.Context[Any] = zmq.Context()
    yield made
    made.destroy(linger=0)


class Listeners:
    """A feed on a real socket, and those who connect to it."""

    def __init__(self, context: zmq.Context[Any], verbose: bool) -> None:
        self.context = context
        self.socket = context.socket(zmq.XPUB)
        self.socket.setsockopt(zmq.XPUB_VERBOSE, verbose)
        self.endpoint = f"tcp://127.0.0.1:{self.socket.bind_to_random_port('tcp://127.0.0.1')}"
        self.feed = Feed(self.socket)
        self.connected: list[zmq.Socket[bytes]] = []  # A socket that nobody keeps is closed.

    def connect(self, *topics: bytes) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self.context.socket(zmq.SUB)
        self.connected.append(made)
        made.connect(self.endpoint)
        for topic in topics:
            made.subscribe(topic)
        return made

    def read(self) -> None:
        """Take in what comes, which is something."""
        assert self.socket.poll(20_000), "nobody came, and nobody went"
        self.feed.read_subscriptions()


@pytest.mark.parametrize("leave", ["unsubscribe", "close"])
@pytest.mark.parametrize("verbose", [False, True])
def test_a_feed_has_listeners_until_the_last_one_leaves(
    context: zmq.Context[Any], verbose: bool, leave: str
) -> None:
    listeners = Listeners(context, verbose)
    first = listeners.connect(b"a")
    listeners.read()
    second = listeners.connect(b"a", b"b")
    while listeners.feed._topics != {b"a", b"b"}:
        listeners.read()
    for each in (first, second):
        assert listeners.feed
        if leave == "close":
            each.close()
        for topic in (b"a", b"b") if leave == "unsubscribe" else ():
            each.unsubscribe(topic)
    while listeners.feed:
        listeners.read()


@pytest.mark.parametrize(
    ("topic", "due"),
    [(b"", True), (b"$", True), (b"$store", True), (b"$head", False), (b"a", False)],
)
def test_every_subscription_that_covers_the_store_is_greeted(
    context: zmq.Context[Any], topic: bytes, due: bool
) -> None:
    listeners = Listeners(context, True)
    for _ in range(3):  # the second to the same topic as well as the first
        listeners.feed.greeting_due = False
        listeners.connect(topic)
        listeners.read()
        assert listeners.feed.greeting_due is due


def test_subscriptions_are_taken_in_a_bounded_number_at_a_time(context: zmq.Context[Any]) -> None:
    listeners = Listeners(context, True)
    count = SUBSCRIPTIONS_MAX + 10
    last = b"%05d" % (count - 1)
    listeners.connect(*(b"%05d" % number for number in range(count)))
    rounds = 0
    while last not in listeners.feed._topics:
        before = len(listeners.feed._topics)
        listeners.read()
        assert len(listeners.feed._topics) - before <= SUBSCRIPTIONS_MAX
        rounds += 1
    assert rounds >= 2 and len(listeners.feed._topics) == count


HOSTILE_COUNT = 2  # One alone is not always faster than the daemon takes it in.
HOSTILE = """
import sys, zmq
socket = zmq.Context().socket(zmq.XSUB)
socket.connect(sys.argv[1])
send, topic = socket.send, sys.argv[2].encode()
come, go = b"\\1" + topic, b"\\0" + topic
print("begun", flush=True)
for _ in range(500_000_000):
    send(come)
    send(go)
"""


@contextlib.contextmanager
def subscribing_without_pause(endpoint: str, topic: str) -> Iterator[None]:
    """A process that subscribes to a topic and unsubscribes from it as fast as it can."""
    hostile = subprocess.Popen(
        [sys.executable, "-c", HOSTILE, endpoint, topic], stdout=subprocess.PIPE
    )
    try:
        assert hostile.stdout is not None and hostile.stdout.readline() == b"begun\n"
        yield
        assert hostile.poll() is None, "it has stopped by itself"
    finally:
        hostile.kill()
        hostile.wait()
        if hostile.stdout is not None:
            hostile.stdout.close()


@pytest.mark.parametrize(("feed", "topic"), [("topic", ""), ("topic", "a"), ("streaming", "")])
def test_who_subscribes_and_unsubscribes_without_pause_stops_nobody(feed: str, topic: str) -> None:
    with (
        Daemon("memory:") as daemon,
        Raw(daemon.endpoints["incoming"]) as client,
        Raw(daemon.endpoints["topic"], zmq.SUB) as listener,
    ):
        listener.socket.subscribe(b"s")
        listener.socket.subscribe(b"$store")
        assert listener.recv()[0] == b"$store"
        with contextlib.ExitStack() as hostile:
            for _ in range(HOSTILE_COUNT):
                hostile.enter_context(subscribing_without_pause(daemon.endpoints[feed], topic))
            for number in range(1, 101):
                assert client.append(("s", b"x"))["first"] == number
            events = 0
            while events < 100:
                events += listener.recv()[0] == b"s"
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(60) == 0
