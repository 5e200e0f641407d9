"""The ZeroMQ sockets of both clients: how one is made, and those of a subscription.

``FollowerSockets`` do what a ``Follower`` decides (follow.py). They never reconnect, because what
comes through one must come from one daemon; a monitor tells at once when one is lost.

Who waits for them, and how, is in zmq_blocking.py and zmq_async.py.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import zmq

from rewind.client.follow import LIVE, Follower
from rewind.client.lookup import Lookup
from rewind.client.outstanding import Outstanding
from rewind.errors import Unavailable
from rewind.wire.messages import receive, sender

SOCKETS_MAX = 16_384  # A process may have so many; ZeroMQ's own default is 1,023.
# ZeroMQ's threads take 7 when they start, and the first connection takes the others.
CONTEXT_DESCRIPTORS = 12
TOPIC_MESSAGES_MAX = 100_000  # So many queue for a busy subscription; the rest is read back.
LOOKUP_S = 1.0  # It is told when a name was looked up, and looks by itself as often.
TOPIC_DRAIN = 500  # So many messages are taken from the topic socket at once.

NOW = int(zmq.DONTWAIT)
MORE = int(zmq.SNDMORE | zmq.DONTWAIT)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)  # An enum's & costs as much as the call.
EVENTS_LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED  # The connection was refused.
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

ZmqSocket = zmq.Socket[bytes]

logger = logging.getLogger("rewind.client")


class ClientSocket(ZmqSocket):
    """A socket that closes without a word when it is let go of: a client need not be closed, and what
    a forked child inherits, which pyzmq leaves open there, cannot be."""

    def __del__(self) -> None:
        self.close()


# They are kept by process id, because a forked child must not use its parent's.
_contexts: dict[int, zmq.Context[ZmqSocket]] = {}
_monitors = itertools.count()


def _context() -> zmq.Context[ZmqSocket]:
    context = _contexts.get(os.getpid())
    if context is None:
        started = _started_context()
        context = _contexts.setdefault(os.getpid(), started)
        if context is not started:  # Another thread was quicker.
            started.term()
    return context


def _started_context() -> zmq.Context[ZmqSocket]:
    """A context whose threads run. ZeroMQ ends the process when they find no descriptors, so that is
    tried first. Raises ``OSError`` and ``zmq.ZMQError``."""
    with ExitStack() as tried:
        for _ in range(CONTEXT_DESCRIPTORS):
            tried.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    context: zmq.Context[ZmqSocket] = zmq.Context()
    try:
        context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
        context.socket(zmq.PAIR).close()
    except (OSError, zmq.ZMQError):
        context.term()
        raise
    # After Ctrl-C it is left to the collector, which takes the socket first: with a socket that
    # nobody can close any more, ``term`` would wait for ever.
    return context


def cannot_open(endpoint: str, error: OSError | zmq.ZMQError) -> Unavailable:
    """The error of a socket that the system, or ZeroMQ, does not give."""
    advice = ""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        advice = ": too much is open at once; share one client, or raise the limit (ulimit -n)"
    return Unavailable(f"cannot open a socket for {endpoint}: {error}{advice}")


def new_socket(kind: int, endpoint: str, options: Mapping[int, int]) -> ZmqSocket:
    """A socket for this endpoint, not connected yet. It drops what is unsent when it is closed.

    Raises ``Unavailable``.
    """
    try:
        socket = _context().socket(kind, socket_class=ClientSocket)
    except (OSError, zmq.ZMQError) as error:
        raise cannot_open(endpoint, error) from error
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IPV6, "[" in endpoint)
    for option, value in options.items():
        socket.setsockopt(option, value)
    return socket


def connect_socket(socket: ZmqSocket, endpoint: str) -> None:
    """Begin to connect. Raises ``Unavailable`` for an endpoint ZeroMQ cannot use."""
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise Unavailable(f"cannot connect to {endpoint}: {error}") from error


def open_dealer(endpoint: str, options: Mapping[int, int]) -> ZmqSocket:
    """A socket for requests, connecting. Raises ``Unavailable``."""
    with ExitStack() as opened:
        socket = new_socket(zmq.DEALER, endpoint, options)
        opened.callback(socket.close)
        connect_socket(socket, endpoint)
        opened.pop_all()
    return socket


def readable(socket: ZmqSocket) -> bool:
    """Whether a message is there. Asked instead of trying: on Python 3.12 and later an exception
    out of a signal handler is lost while pyzmq makes its ``Again``, and Ctrl-C with it."""
    return bool(int(socket.getsockopt(EVENTS)) & POLLIN)


def send_request(send: Any, command: bytes, request_id: bytes, body: bytes) -> None:
    """Send a native request by the ``sender`` of a socket. Raises ``zmq.Again`` when nobody takes it.

    The delimiter in front lets it pass a proxy, whose ROUTER puts the way back before it.
    """
    send(b"", MORE)
    send(command, MORE)
    send(request_id, MORE)
    send(body, NOW)


def send_calls(send: Any, outstanding: Outstanding, now_s: float) -> None:
    """Send what is to be sent, by the ``sender`` of a socket."""
    for message in outstanding.to_send(now_s):
        try:
            send_request(send, *message)
        except zmq.Again:  # Nobody takes it; that no answer comes is all there is to say.
            return


class MonitoredSocket:
    """A connecting socket that never reconnects, and the monitor that says when it is lost.

    It must be closed, in this order: ZeroMQ's own thread waits, for ever and for every socket of the
    process, when it has something to tell a monitor that nobody holds any more.
    """

    def __init__(self, kind: int, endpoint: str) -> None:
        options: dict[int, int] = {zmq.RECONNECT_IVL: -1, zmq.RCVHWM: TOPIC_MESSAGES_MAX}
        with ExitStack() as opened:
            self.socket = new_socket(kind, endpoint, options)
            opened.callback(self.socket.close)
            if kind == zmq.SUB:
                self.socket.setsockopt(zmq.SUBSCRIBE, b"")
            self.monitor = new_socket(zmq.PAIR, endpoint, {})
            opened.callback(self.close)
            told = f"inproc://rewind-monitor-{next(_monitors)}"
            try:
                self.socket.monitor(told, EVENTS_LOST)
            except zmq.ZMQError as error:
                raise cannot_open(endpoint, error) from error
            connect_socket(self.monitor, told)
            connect_socket(self.socket, endpoint)
            opened.pop_all()

    def lost(self) -> bool:
        """Whether the connection was refused or is gone; said once."""
        lost = False
        while readable(self.monitor):
            self.monitor.recv_multipart(NOW)
            lost = True
        return lost

    def close(self) -> None:
        self.socket.monitor(None, 0)
        self.monitor.close()
        self.socket.close()


class FollowerSockets:
    """A subscription's sockets: what its ``Follower`` decides, done without ever waiting.

    Asking a socket costs as much as receiving from it. So whoever waits says which ones to look at:
    ``signalled``. A socket stays in there until it was read empty.
    """

    def __init__(self, endpoint: str, topic_endpoint: str | None, follower: Follower) -> None:
        self.follower = follower
        #: Something may have come through these sockets.
        self.signalled: set[ZmqSocket] = set()
        #: After so many events in a row the topic socket is no longer asked whether more follow: a
        #: queue has built up, and trying until ``Again`` is cheaper; see ``readable``.
        self.asks_max = TOPIC_DRAIN
        #: These are called with every new socket, and with one that is about to be closed.
        self.on_open: Callable[[ZmqSocket], None] = lambda socket: None
        self.on_close: Callable[[ZmqSocket], None] = lambda socket: None
        #: This is called, in another thread, once it is known where a name leads.
        self.on_found: Callable[[], None] = lambda: None
        self._endpoint = endpoint
        self._endpoints = [endpoint] if topic_endpoint is None else [endpoint, topic_endpoint]
        self._lookup: Lookup | None = None
        self._pid = os.getpid()
        self._dealer: MonitoredSocket | None = None
        self._topic: MonitoredSocket | None = None
        #: What could be opened once and cannot be again is tried again, as an absent daemon is.
        self._was_open = False

    def pump(self, now_s: float) -> None:
        """Receive what has arrived, give up what is lost, send what is due.

        Unless the delivery has changed, or is ``ready``, the next arrival can be waited for.
        """
        follower = self.follower
        if self._dealer is None:
            found = None if now_s < follower.open_at_s else self._found()
            if found is None:
                return
            follower.connects_to(found[0], found[1] if found[1:] else None)
            try:
                self._dealer = self._open(zmq.DEALER, found[0])
            except Unavailable as error:
                if not self._was_open:
                    raise
                follower.lost(now_s, str(error))
                return
            self._was_open = True
        self._receive(self._dealer, now_s)
        if follower.state is LIVE and follower.delivery and not self.signalled:
            return  # It is in good health, and has nothing to ask.
        why = self._why_lost(self._dealer, now_s)
        if not why:
            if follower.topic_due(now_s):
                self._open_topic()
            request = follower.request(now_s)
            if request is None:
                return
            try:
                send_request(sender(self._dealer.socket), *request)
            except zmq.Again:  # The pipe went with its connection.
                why = "disconnected"
            else:
                if readable(self._dealer.socket):  # Sending may have taken its signal.
                    self.signalled.add(self._dealer.socket)
                return
        self.close()
        follower.lost(now_s, why)

    def _receive(self, dealer: MonitoredSocket, now_s: float) -> None:
        follower, signalled = self.follower, self.signalled
        if dealer.socket in signalled:
            while readable(dealer.socket):
                follower.replied(receive(dealer.socket.recv, NOW), now_s)
            signalled.discard(dealer.socket)
        topic = self._topic
        if topic is not None and topic.socket in signalled and follower.wants_topic:
            self._drain(topic.socket, now_s)
        if topic is not None and follower.topic is None:
            self._close(topic)
            self._topic = None

    def _drain(self, topic: ZmqSocket, now_s: float) -> None:
        """Take what came through the topic socket while it is wanted; the rest waits in its queue."""
        follower, recv = self.follower, topic.recv
        for taken in range(1, TOPIC_DRAIN + 1):
            try:
                frames = receive(recv, NOW)
            except zmq.Again:  # There is no more, or the signal was for something else.
                self.signalled.discard(topic)
                return
            if len(frames) == 2:
                follower.published(frames[0], frames[1], now_s)
                if not follower.wants_topic:
                    return
            if taken < self.asks_max and not readable(topic):
                self.signalled.discard(topic)
                return

    def _why_lost(self, dealer: MonitoredSocket, now_s: float) -> str:
        if self._lost(dealer):
            return "disconnected"
        if self.follower.late(now_s):
            return "no answer"
        if self._topic is not None and self._lost(self._topic) and self.follower.heard:
            return "the topic socket is disconnected"
        return ""

    def _lost(self, watched: MonitoredSocket) -> bool:
        if watched.monitor not in self.signalled:
            return False
        self.signalled.discard(watched.monitor)
        return watched.lost()

    @property
    def ready(self) -> bool:
        """Whether ``pump`` has something to look at already."""
        waiting = len(self.signalled)
        if waiting and self._topic is not None and not self.follower.wants_topic:
            waiting -= self._topic.socket in self.signalled
        return waiting > 0

    def wait_s(self, now_s: float) -> float:
        """How long nothing is due unless something arrives."""
        if self._lookup is not None:
            return LOOKUP_S
        return self.follower.wait_s(now_s, self._dealer is not None)

    def sockets(self) -> list[ZmqSocket]:
        """Those on which an arrival matters now."""
        found: list[ZmqSocket] = []
        if self._dealer is not None:
            found += (self._dealer.socket, self._dealer.monitor)
        if self._topic is not None:
            found.append(self._topic.monitor)
            if self.follower.wants_topic:
                found.append(self._topic.socket)
        return found

    # Opening and closing

    def _found(self) -> list[str] | None:
        """Where to connect; None while that is looked up."""
        if self._lookup is None:
            self._lookup = Lookup(self._endpoints, self.on_found)
        found = self._lookup.found
        if found is not None:
            self._lookup = None  # The next connection asks again.
        return found

    def _open(self, kind: int, endpoint: str) -> MonitoredSocket:
        opened = MonitoredSocket(kind, endpoint)
        try:
            for socket in (opened.socket, opened.monitor):
                self.on_open(socket)
                self.signalled.add(socket)  # Something may have come before it was watched.
        except OSError as error:
            self._close(opened)
            raise cannot_open(endpoint, error) from error
        return opened

    def _open_topic(self) -> None:
        if self._topic is not None:
            self._close(self._topic)
            self._topic = None
        topic = self.follower.topic
        assert topic is not None
        try:
            self._topic = self._open(zmq.SUB, topic)
        except Unavailable as error:  # It is tried again; until then a READ brings every event.
            logger.warning("%s", error)

    def _close(self, watched: MonitoredSocket) -> None:
        for socket in (watched.socket, watched.monitor):
            self.on_close(socket)
            self.signalled.discard(socket)
        watched.close()

    def close(self) -> None:
        """Close the sockets; ``pump`` opens new ones. In a forked child they are the parent's."""
        if os.getpid() != self._pid:
            return
        for watched in (self._dealer, self._topic):
            if watched is not None:
                self._close(watched)
        self._dealer = self._topic = None
