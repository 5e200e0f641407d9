"""The feeds: every durable event, republished in position order on up to three sockets.

    --streaming-bind   id (36 characters) | previous id | data     Rewind 0.3 subscribers
    --topic-bind       stream | record                             everyone else
    --gorewind-bind    stream | id (36 characters) | data          gorewind subscribers

XPUB sockets tell who subscribes, so nothing is encoded or sent when nobody does. Besides events the
topic feed says two things of its own::

    $head  | head        after each second of silence, so that a lost last event is noticed too
    $store | store id    every second, and to whoever has just subscribed to it: a subscriber can tell
                         whose events these are before it believes them
"""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from rewind.events import Record
from rewind.wire.messages import sender
from rewind.wire.native import encode
from rewind.wire.old import id_text
from rewind.wire.replies import HEAD_TOPIC, STORE_TOPIC

HEARTBEAT_S = 1.0  # a lost last event is noticed within it
# Whoever subscribes without pause does not fill the queues of all others with $store.
GREETING_S = 0.01
# So many subscriptions are taken in at once, in about a millisecond: whoever sends them without pause
# keeps nobody else waiting for longer.
SUBSCRIPTIONS_MAX = 500

MORE = int(zmq.SNDMORE)


class Feed:
    """One XPUB socket and whether anybody listens.

    ``greeting_due``: somebody has subscribed to ``STORE_TOPIC`` since this was set False. For that the
    socket is verbose: it reports every subscription, but of those that end only the last of a topic.
    Other sockets report the first and the last. Either way each topic that was reported and has not
    ended has a subscriber, so a set of them is all there is to count.
    """

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self.socket = socket
        self.greeting_due = False
        self._send = sender(socket)
        self._topics: set[bytes] = set()

    def read_subscriptions(self) -> None:
        """Take in who came and who went, a bounded number of them; more are there the next time."""
        for _ in range(SUBSCRIPTIONS_MAX):
            if not int(self.socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                return
            message = self.socket.recv(zmq.DONTWAIT)
            topic = message[1:]
            if message[:1] == b"\1":
                self._topics.add(topic)
                self.greeting_due = self.greeting_due or STORE_TOPIC.startswith(topic)
            elif message[:1] == b"\0":
                self._topics.discard(topic)

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

    ``store_id``: of the store whose events these are, 16 bytes. ``head``, ``last_id``: position and id
    of the last event stored; 0 and None while there is none.
    """

    def __init__(
        self,
        streaming: Feed | None,
        topic: Feed | None,
        gorewind: Feed | None,
        store_id: bytes,
        head: int,
        last_id: bytes | None,
    ) -> None:
        self._streaming = streaming
        self._topic = topic
        self._gorewind = gorewind
        self._store_id = store_id
        self._head = head
        self._previous = b"" if last_id is None else id_text(last_id)
        self._quiet_since = 0.0
        self._store_said_s = 0.0
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
            self._say_store(now_s)  # Who has just come hears it before these events.
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
        """Say on the topic feed whose it is and where the head is, each when its time has come."""
        assert head == self._head, "whoever hears of a head was sent everything up to it"
        if not self._topic:
            return
        self._say_store(now_s)
        if now_s - self._quiet_since >= HEARTBEAT_S:
            self._topic.send(HEAD_TOPIC, encode(head))
            self._quiet_since = now_s

    def next_heartbeat(self) -> float | None:
        """When ``heartbeat`` wants to be called; None while nobody listens."""
        if not self._topic:
            return None
        return min(self._quiet_since + HEARTBEAT_S, self._store_due_s())

    def _say_store(self, now_s: float) -> None:
        assert self._topic is not None
        if now_s >= self._store_due_s():
            self._topic.send(STORE_TOPIC, self._store_id)
            self._topic.greeting_due = False
            self._store_said_s = now_s

    def _store_due_s(self) -> float:
        assert self._topic is not None
        return self._store_said_s + (GREETING_S if self._topic.greeting_due else HEARTBEAT_S)
