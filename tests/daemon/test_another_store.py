"""A backend that another store commits to as well: the daemon's readers are told of its events too.

The server runs its turns in the test's own thread, so nothing here waits or races.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import zmq
from appends import append, event

from rewind.backends.memory import MemoryBackend
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.events import Event, decode_event
from rewind.store import Store
from rewind.wire.old import id_text

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
FREE = ("tcp://127.0.0.1:*",)
TURNS_MAX = 1_000  # of 10 ms each: what a busy machine may need to hand a message over


class Turns:
    """A server whose turns a test takes, and sockets connected to it."""

    def __init__(self, server: Server, context: zmq.Context[Any]) -> None:
        self._server = server
        self._context = context

    def connect(self, kind: int, name: str) -> zmq.Socket[bytes]:
        opened: zmq.Socket[bytes] = self._context.socket(kind)
        opened.connect(self._server.endpoints[name][0])
        return opened

    def subscribe(self, name: str) -> zmq.Socket[bytes]:
        """A SUB socket that the server knows of."""
        socket = self.connect(zmq.SUB, name)
        socket.subscribe(b"")
        feeds = self._server._feeds
        feed = {"streaming": feeds._streaming, "topic": feeds._topic}[name]
        self.until(lambda: bool(feed))
        return socket

    def until(self, condition: Any) -> None:
        """Let the server take turns until the condition holds."""
        for _ in range(TURNS_MAX):
            if condition():
                return
            self._server.turn(10)
        raise AssertionError("it does not come")

    def receive(self, socket: zmq.Socket[bytes]) -> list[bytes]:
        self.until(lambda: socket.poll(0))
        return socket.recv_multipart()

    def receive_events(self, feed: zmq.Socket[bytes], head: int) -> list[Event]:
        """What the topic feed carries up to this position, or to the head it says after a silence."""
        events: list[Event] = []
        while not events or events[-1].position < head:
            topic, payload = self.receive(feed)
            if topic == b"$head" and unpack(payload) >= head:
                break
            if not topic.startswith(b"$"):
                events.append(decode_event(payload))
        return events


@contextmanager
def shared() -> Iterator[tuple[Turns, Store]]:
    """A server's turns, and a second store over its backend."""
    backend = MemoryBackend()
    server = Server(
        Settings(incoming_bind=FREE, streaming_bind=FREE, topic_bind=FREE), Store(backend)
    )
    context: zmq.Context[Any] = zmq.Context()
    try:
        yield Turns(server, context), Store(backend)
    finally:
        context.destroy(linger=0)
        server.stop()
        server.run()


def test_a_subscriber_gets_the_events_of_another_store_in_order_and_once() -> None:
    with shared() as (turns, other):
        client, feed = turns.connect(zmq.DEALER, "incoming"), turns.subscribe("topic")
        other.append([append(event("a", b"1"), event("b", b"2"))])
        other.append([append(event("a", b"3"))])
        for data in (b"4", b"5"):
            client.send_multipart([b"PUBLISH", data])
            assert turns.receive(client) == [b"PUBLISHED"]
        heard = [(e.stream, e.position, e.data) for e in turns.receive_events(feed, 5)]
        assert heard == [
            ("a", 1, b"1"),
            ("b", 2, b"2"),
            ("a", 3, b"3"),
            ("default", 4, b"4"),
            ("default", 5, b"5"),
        ]


def test_the_chain_of_previous_ids_goes_through_the_events_of_another_store() -> None:
    with shared() as (turns, other):
        client, feed = turns.connect(zmq.DEALER, "incoming"), turns.subscribe("streaming")
        for data in (b"1", b"4"):
            client.send_multipart([b"PUBLISH", data])
            assert turns.receive(client) == [b"PUBLISHED"]
            if data == b"1":
                other.append([append(event("a", b"2")), append(event("a", b"3"))])
        heard = [turns.receive(feed) for _ in range(4)]
        ids = [
            id_text(record.id_bytes)
            for record in map(decode_event, other.backend.read(0, 4, 9, 10**6))
        ]
        assert heard == [
            [ids[0], b"", b"1"],
            [ids[1], ids[0], b"2"],
            [ids[2], ids[1], b"3"],
            [ids[3], ids[2], b"4"],
        ]


def test_a_read_that_waits_is_woken_by_the_event_of_another_store() -> None:
    with shared() as (turns, other):
        reader, client = (
            turns.connect(zmq.DEALER, "incoming"),
            turns.connect(zmq.DEALER, "incoming"),
        )
        wait = {"stream": "theirs", "wait_ms": 30_000}
        reader.send_multipart([b"READ", b"w", pack(wait)])
        reader.send_multipart([b"INFO", b"i", pack({})])
        assert turns.receive(reader)[1] == b"i"  # the read in front of it waits, then
        other.append([append(event("theirs", b"1"))])
        client.send_multipart([b"PUBLISH", b"2"])
        assert turns.receive(client) == [b"PUBLISHED"]
        status, request_id, body, chunk = turns.receive(reader)
        assert (status, request_id, unpack(body)["next"]) == (b"OK", b"w", 1)
        assert [record[8] for record in unpack(chunk)] == [b"1"]


def test_a_refused_append_brings_the_events_of_another_store_along() -> None:
    with shared() as (turns, other):
        client, feed = turns.connect(zmq.DEALER, "incoming"), turns.subscribe("topic")
        client.send_multipart([b"PUBLISH", b"1"])
        assert turns.receive(client) == [b"PUBLISHED"]
        other.append([append(event("default", b"2"))])
        ours = {"events": [[None, "default", "t", [], {}, b"3"]], "expected": {"default": 1}}
        client.send_multipart([b"APPEND", b"r", pack(ours)])
        status, _, body = turns.receive(client)
        assert (status, unpack(body)["actual"]) == (b"ERROR", 2)
        assert [stored.data for stored in turns.receive_events(feed, 2)] == [b"1", b"2"]
