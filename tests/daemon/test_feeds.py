"""The feeds' own promises, with sockets that only remember; what is heard is in test_server.py."""

from __future__ import annotations

import pytest
from appends import append, event

from rewind.backends.memory import MemoryBackend
from rewind.daemon.feeds import HEARTBEAT_S, Feeds
from rewind.store import Store


class FakeFeed:
    """A feed that somebody listens to."""

    def __init__(self) -> None:
        self.sent: list[tuple[bytes, ...]] = []

    def read_subscriptions(self) -> None:
        pass

    def send(self, *frames: bytes) -> None:
        self.sent.append(frames)


def test_only_the_position_behind_the_last_one_is_published() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, 0, None)  # type: ignore[arg-type]
    store = Store(MemoryBackend())
    first = store.append([append(event("a"))])[1]
    second = store.append([append(event("b"), event("c"))])[1]
    with pytest.raises(AssertionError):
        feeds.publish(second, 1.0)
    feeds.publish(first, 1.0)
    with pytest.raises(AssertionError):
        feeds.publish(first, 1.0)
    feeds.publish(second, 1.0)
    assert [frames[0] for frames in topic.sent] == [b"a", b"b", b"c"]


def test_a_head_that_was_not_published_is_never_told() -> None:
    topic = FakeFeed()
    feeds = Feeds(None, topic, None, 7, bytes(16))  # type: ignore[arg-type]
    with pytest.raises(AssertionError):
        feeds.heartbeat(8, 0.0)
    feeds.heartbeat(7, HEARTBEAT_S - 0.1)
    assert topic.sent == []
    feeds.heartbeat(7, HEARTBEAT_S)
    assert topic.sent == [(b"$head", b"\x07")]
