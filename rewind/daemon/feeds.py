"""The feeds: every durable event, republished in position order on up to three sockets.

    --streaming-bind   id (36 characters) | previous id | data     Rewind 0.3 subscribers
    --topic-bind       stream | record                             everyone else
    --gorewind-bind    stream | id (36 characters) | data          gorewind subscribers

XPUB sockets tell who subscribes, so nothing is encoded or sent when nobody does. The topic feed
says where the head is after each second of silence, so that a lost last event is noticed too.
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from rewind.events import Record
from rewind.wire.messages import sender
from rewind.wire.native import encode
from rewind.wire.old import id_text
from rewind.wire.replies import HEAD_TOPIC

HEARTBEAT_S = 1.0  # a lost last event is noticed within it

MORE = int(zmq.SNDMORE)


class Feed:
    """One XPUB socket and whether anybody listens."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self._send = sender(socket)
        self._topics: set[bytes] = set()  # XPUB reports the first and the last of each topic only

    def read_subscriptions(self) -> None:
        """Take in who came and who went."""
        while int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            message = self.socket.recv(zmq.DONTWAIT)
            if message[:1] == b"\1":
                self._topics.add(message[1:])
            elif message[:1] == b"\0":
                self._topics.discard(message[1:])

    def __bool__(self) -> bool:
        return bool(self._topics)

    def send(self, *frames: bytes) -> None:
        """Publish one message."""
        send = self._send
        for frame in frames[:-1]:
            send(frame, MORE)
        send(frames[-1])


class Feeds:
    """All feeds of a daemon; None where one is not bound.

    ``head``, ``last_id``: position and id of the last event stored; 0 and None while there is none.
    """

    def __init__(
        self,
        streaming: Feed | None,
        topic: Feed | None,
        gorewind: Feed | None,
        head: int,
        last_id: bytes | None,
    ) -> None:
        self._streaming = streaming
        self._topic = topic
        self._gorewind = gorewind
        self._head = head
        self._previous = b"" if last_id is None else id_text(last_id)
        self._quiet_since = 0.0
        self.all = [feed for feed in (streaming, topic, gorewind) if feed is not None]

    def publish(self, records: Sequence[Record], now_s: float) -> None:
        """Republish what has just become durable: the events behind those published before."""
        if not records:
            return
        assert records[0].event.position == self._head + 1, "a feed has no holes"
        self._head = records[-1].event.position
        self._quiet_since = now_s
        for feed in self.all:
            feed.read_subscriptions()
        if self._topic:
            for record in records:
                self._topic.send(record.event.stream.encode(), record.encoded)
        if self._gorewind:
            for record in records:
                event = record.event
                self._gorewind.send(event.stream.encode(), id_text(event.id_bytes), event.data)
        if self._streaming:
            previous = self._previous
            for record in records:
                id = id_text(record.event.id_bytes)
                self._streaming.send(id, previous, record.event.data)
                previous = id
        self._previous = id_text(records[-1].event.id_bytes)

    def heartbeat(self, head: int, now_s: float) -> None:
        """Say where the head is, if the topic feed was silent for long enough."""
        assert head == self._head, "whoever hears of a head was sent everything up to it"
        if self._topic and now_s - self._quiet_since >= HEARTBEAT_S:
            self._topic.send(HEAD_TOPIC, encode(head))
            self._quiet_since = now_s

    def next_heartbeat(self) -> float | None:
        """When ``heartbeat`` wants to be called; None while nobody listens."""
        return self._quiet_since + HEARTBEAT_S if self._topic else None
