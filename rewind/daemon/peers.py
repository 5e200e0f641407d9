"""Replies through a ROUTER: never blocking, never unbounded.

ZeroMQ counts what waits for a peer in messages, not bytes, and says only "would block". So small
replies are bounded by the socket's high-water mark, large ones by asking ZeroMQ to tell us when it
has let go of the buffer. A peer whose pipe is full gets a small outbox; when that is full too, what
waits for it is thrown away, which the log says once a minute of a peer. One that is gone is forgotten.

Who is ready for more is decided here. What to send is not: see server.py and reads.py.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Sequence
from itertools import islice

import zmq

from rewind.daemon.connections import Connections
from rewind.daemon.notices import Notices
from rewind.wire.messages import sender

PIPE_MESSAGES_MAX = 1_000  # ZeroMQ holds so many small replies for one peer: at most 16 MB.
LARGE_BYTES = 16 * 1024  # A reply of this size is counted in bytes, and not copied.
UNSENT_BYTES_MAX = 8 * 1024 * 1024  # A peer may have so many under way, as many as one reply has.
OUTBOX_MESSAGES_MAX = 1_000  # So many replies are kept for a peer whose pipe is full.
OUTBOX_BYTES_MAX = 1024 * 1024
SWEEP_PEERS = 4  # An insert also examines so many: more peers leave the table than enter.
NOT_READING_MAX = 1_024  # So many are remembered as not reading, and get no outbox again at once.

NOW = int(zmq.DONTWAIT)
MORE = int(zmq.SNDMORE | zmq.DONTWAIT)


class _Outbox:
    def __init__(self) -> None:
        self.messages: deque[Sequence[bytes]] = deque()
        self.size = 0


class Peers:
    """The sending side of a ROUTER socket with ROUTER_MANDATORY set."""

    def __init__(
        self, router: zmq.Socket[bytes], connections: Connections, notices: Notices
    ) -> None:
        router.copy_threshold = 0  # pyzmq would copy what is below 64 KiB, tracked or not
        self._send = sender(router)
        self._connections = connections
        self._notices = notices
        self._outboxes: dict[bytes, _Outbox] = {}
        self._unsent: dict[bytes, deque[tuple[zmq.MessageTracker, int]]] = {}
        self._not_reading: OrderedDict[bytes, None] = OrderedDict()

    @property
    def blocked(self) -> bool:
        """Whether somebody's outbox waits for room."""
        return bool(self._outboxes)

    def ready(self, peer: bytes) -> bool:
        """Whether this peer takes what is sent to it."""
        return peer not in self._outboxes and not self.saturated(peer)

    def saturated(self, peer: bytes) -> bool:
        """Whether as many bytes of large replies as may be are under way to this peer."""
        unsent = self._unsent.get(peer)
        if unsent is None:
            return False
        while unsent and unsent[0][0].done:
            unsent.popleft()
        if not unsent:
            del self._unsent[peer]
        return sum(size for _, size in unsent) >= UNSENT_BYTES_MAX

    def connected(self, connection: int | None) -> bool:
        """Whether the connection with this number is known and open."""
        return self._connections.connected(connection)

    def send(self, message: Sequence[bytes]) -> bool:
        """Send a reply, its peer's identity first; False if that peer is gone, or does not read."""
        peer = message[0]
        outbox = self._outboxes.get(peer)
        if outbox is not None:
            return self._keep(peer, outbox, message)
        try:
            self._send_now(message)
        except zmq.Again:
            if peer in self._not_reading:
                return False
            self._outboxes[peer] = outbox = _Outbox()
            return self._keep(peer, outbox, message)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._forget(peer)
            return False
        else:
            if self._not_reading:
                self._not_reading.pop(peer, None)
        return True

    def flush(self) -> bool:
        """Try every outbox again; True if anything moved."""
        moved = False
        for peer, outbox in list(self._outboxes.items()):
            try:
                while outbox.messages:
                    self._send_now(outbox.messages[0])
                    outbox.size -= sum(map(len, outbox.messages.popleft()))
                    moved = True
                del self._outboxes[peer]
            except zmq.Again:
                continue
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                self._forget(peer)
                moved = True
        return moved

    def _send_now(self, message: Sequence[bytes]) -> None:
        """Send all frames, or raise at the first: a ROUTER decides at the identity."""
        send = self._send
        size = sum(map(len, message))
        for frame in message[:-1]:
            send(frame, MORE)
        if size < LARGE_BYTES:
            send(message[-1], NOW)
            return
        # ZeroMQ lets go of the last frame when the whole message has left, or its peer has.
        tracker = send(message[-1], NOW, copy=False, track=True)
        assert tracker is not None
        for other in list(islice(self._unsent, SWEEP_PEERS)):  # forgets those who left
            self.ready(other)
        self._unsent.setdefault(message[0], deque()).append((tracker, size))

    def _keep(self, peer: bytes, outbox: _Outbox, message: Sequence[bytes]) -> bool:
        outbox.messages.append(message)
        outbox.size += sum(map(len, message))
        if len(outbox.messages) <= OUTBOX_MESSAGES_MAX and outbox.size <= OUTBOX_BYTES_MAX:
            return True
        self._notices.say(
            ("not reading", peer),
            logging.WARNING,
            "peer %s does not read its replies: %d of them were dropped",
            peer.hex(),
            len(outbox.messages),
        )
        del self._outboxes[peer]
        self._not_reading[peer] = None
        if len(self._not_reading) > NOT_READING_MAX:
            self._not_reading.popitem(last=False)
        return False

    def _forget(self, peer: bytes) -> None:
        self._outboxes.pop(peer, None)
        self._unsent.pop(peer, None)
        self._not_reading.pop(peer, None)
