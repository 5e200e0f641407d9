"""ZeroMQ for the blocking client: a pool of DEALER sockets, and a subscription's link.

A call takes a socket, sends, waits for its own answer and puts the socket back, so threads are in
flight together without a thread of ours. A socket whose answer did not come, or is not wanted, is
closed: no later call can meet it. ZeroMQ reconnects pooled sockets by itself.

A ``Link`` is a subscription's connection: its sockets never reconnect, because what comes through
one must come from one daemon (see ``Follower``); a monitor tells at once when it is lost.

What to send and what an answer means is decided in requests.py.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import zmq

from rewind.client.requests import Call, Cursor, Follower, parse_reply
from rewind.errors import Closed, RequestError, Unavailable
from rewind.events import Event
from rewind.wire.messages import receive, sender
from rewind.wire.replies import Reply

POOL_MAX = 64  # idle sockets kept: one for each thread of a busy program
SOCKETS_MAX = 16_384  # of a process; ZeroMQ's own default is 1,023
SLICE_MS = 1_000  # how late a waiting call notices that its client was closed
TOPIC_MESSAGES_MAX = 100_000  # queued for a subscription that is busy; what is beyond is read back
TOPIC_DRAIN = 500  # messages taken from the topic socket at once

NOW = int(zmq.DONTWAIT)
MORE = int(zmq.SNDMORE | zmq.DONTWAIT)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)  # an enum's & costs as much as the question
EVENTS_LOST = (
    zmq.EVENT_DISCONNECTED
    | zmq.EVENT_CLOSED  # refused
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)

ZmqSocket = zmq.Socket[bytes]

_contexts: dict[int, zmq.Context[ZmqSocket]] = {}  # by process: a forked child must not use ours
_monitors = itertools.count()


def _context() -> zmq.Context[ZmqSocket]:
    context = _contexts.get(os.getpid())
    if context is None:
        context = _contexts.setdefault(os.getpid(), zmq.Context())
        context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    return context


def new_socket(kind: int, endpoint: str, options: Mapping[int, int]) -> ZmqSocket:
    """A socket for this endpoint, not connected yet. It drops what is unsent when it is closed."""
    made = _context().socket(kind)
    made.setsockopt(zmq.LINGER, 0)
    made.setsockopt(zmq.IPV6, "[" in endpoint)
    for option, value in options.items():
        made.setsockopt(option, value)
    return made


def connect_socket(made: ZmqSocket, endpoint: str) -> None:
    """Begin to connect. Raises ``Unavailable`` for an endpoint ZeroMQ cannot use."""
    try:
        made.connect(endpoint)
    except zmq.ZMQError as error:
        made.close()
        raise Unavailable(f"cannot connect to {endpoint}: {error}") from error


def readable(made: ZmqSocket) -> bool:
    """Whether a message is there. Asked instead of trying: on Python 3.12 and later an exception
    out of a signal handler is lost while pyzmq makes its ``Again``, and Ctrl-C with it."""
    return bool(int(made.getsockopt(EVENTS)) & POLLIN)


def send_request(send: Any, command: bytes, request_id: bytes, body: bytes) -> None:
    """Send a native request by the ``sender`` of a socket. Raises ``zmq.Again`` when nobody takes it."""
    send(command, MORE)
    send(request_id, MORE)
    send(body, NOW)


# --- calls ------------------------------------------------------------------------


class Sockets:
    """A pool of connections to one daemon. Any thread, any process."""

    def __init__(self, endpoint: str, topic_endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        self.closed = False
        self._topic_endpoint = topic_endpoint
        self._pid = os.getpid()
        self._idle: list[Connection] = []  # last in, first out; append and pop are atomic

    def call(self, call: Call[Any]) -> Reply:
        return self._finish(call, self._begin(call))

    def start(self, call: Call[Any]) -> Pending:
        return Pending(self, call, self._begin(call))

    def follow(self, cursor: Cursor) -> Following:
        if self.closed:
            raise _closed()
        return Following(self.endpoint, Follower(cursor, self.endpoint, self._topic_endpoint))

    def close(self) -> None:
        self.closed = True
        self._drop_idle()

    def _begin(self, call: Call[Any]) -> Connection:
        """Send it on an idle connection, or a new one."""
        if self.closed:
            raise _closed()
        if os.getpid() != self._pid:
            # The parent's sockets are let go, not closed: pyzmq leaves those of another process be.
            self._idle = []
            self._pid = os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self)
        connection.ask(call)
        return connection

    def _finish(self, call: Call[Any], connection: Connection) -> Reply:
        """Wait for its answer; ask again, as long as the call says so."""
        while True:
            try:
                answer = connection.answer(call.attempt_s(time.monotonic()))
            except BaseException:
                connection.close()
                raise
            if isinstance(answer, Reply):
                self._put_back(connection)
                return answer
            if answer is None:
                connection.close()
                self._drop_idle()  # they are as silent as this one
            else:
                self._put_back(connection)
                time.sleep(call.pause_s(answer, time.monotonic()))
            connection = self._begin(call)

    def _put_back(self, connection: Connection) -> None:
        idle = self._idle
        if len(idle) < POOL_MAX:
            idle.append(connection)
        else:
            connection.close()
        if self.closed:
            self._drop_idle()

    def _drop_idle(self) -> None:
        if os.getpid() != self._pid:
            return
        idle = self._idle
        while idle:
            try:
                idle.pop().close()
            except IndexError:  # another thread was faster
                return


def _closed() -> Closed:
    return Closed("this client was closed")


class Connection:
    """A DEALER socket with at most one request under way."""

    __slots__ = ("_count", "_owner", "_recv", "_send", "_slice_ms", "_socket", "request_id")

    def __init__(self, owner: Sockets) -> None:
        self._owner = owner
        self._socket = new_socket(zmq.DEALER, owner.endpoint, {zmq.RCVTIMEO: SLICE_MS})
        connect_socket(self._socket, owner.endpoint)
        self._recv, self._send = self._socket.recv, sender(self._socket)
        self._slice_ms = SLICE_MS
        self._count = 0
        self.request_id = b""

    def ask(self, call: Call[Any]) -> None:
        """Send a request."""
        self._count += 1
        self.request_id = self._count.to_bytes(4, "big")
        try:
            send_request(self._send, call.command, self.request_id, call.body)
        except zmq.Again:  # nobody takes it; that no answer comes is all there is to say
            return

    def answer(self, seconds: float) -> Reply | RequestError | None:
        """Wait for the answer at most so long; None if there was none. Raises ``Closed``."""
        if seconds * 1000 < self._slice_ms:
            self._set_slice(int(seconds * 1000))
        give_up_s = 0.0
        while True:
            try:
                frames = receive(self._recv)
            except zmq.Again:
                if self._owner.closed:
                    raise _closed() from None
                if not give_up_s:
                    give_up_s = time.monotonic() + seconds - self._slice_ms / 1000
                left_ms = int((give_up_s - time.monotonic()) * 1000)
                if left_ms <= 0:
                    return None
                self._set_slice(min(left_ms, SLICE_MS))
                continue
            request_id, answer = parse_reply(frames, self._owner.endpoint)
            if request_id == self.request_id:
                if self._slice_ms != SLICE_MS:
                    self._set_slice(SLICE_MS)
                return answer

    def _set_slice(self, slice_ms: int) -> None:
        self._slice_ms = slice_ms
        self._socket.setsockopt(zmq.RCVTIMEO, slice_ms)

    def close(self) -> None:
        """Forget whatever is under way."""
        self._socket.close()


class Pending:
    """A request under way, in no hurry."""

    def __init__(self, sockets: Sockets, call: Call[Any], connection: Connection) -> None:
        self._sockets = sockets
        self._call = call
        self._connection: Connection | None = connection

    def result(self) -> Reply:
        connection, self._connection = self._connection, None
        assert connection is not None
        return self._sockets._finish(self._call, connection)

    def abandon(self) -> None:
        if self._connection is not None:
            self._connection.close()


# --- subscriptions -----------------------------------------------------------------


class Watched:
    """A connecting socket that never reconnects, and the monitor that says when it is lost.

    It must be closed, in this order: ZeroMQ's own thread waits, for ever and for every socket of the
    process, when it has something to tell a monitor that nobody holds any more.
    """

    def __init__(self, kind: int, endpoint: str) -> None:
        options: dict[int, int] = {zmq.RECONNECT_IVL: -1, zmq.RCVHWM: TOPIC_MESSAGES_MAX}
        self.socket = new_socket(kind, endpoint, options)
        if kind == zmq.SUB:
            self.socket.setsockopt(zmq.SUBSCRIBE, b"")
        self.monitor = self.socket.get_monitor_socket(
            EVENTS_LOST, f"inproc://rewind-monitor-{next(_monitors)}"
        )
        connect_socket(self.socket, endpoint)

    def lost(self) -> bool:
        """Whether the connection was refused or is gone; said once."""
        lost = False
        while readable(self.monitor):
            self.monitor.recv_multipart(NOW)
            lost = True
        return lost

    def close(self) -> None:
        self.socket.disable_monitor()
        self.monitor.close()
        self.socket.close()


class Link:
    """A subscription's connection: what its ``Follower`` decides, done without ever waiting.

    Asking a socket costs as much as receiving from it. So whoever waits says which ones to look at:
    ``signalled``. A socket stays in there until it was read empty.
    """

    def __init__(self, endpoint: str, follower: Follower) -> None:
        self.follower = follower
        #: Sockets through which something may have come.
        self.signalled: set[ZmqSocket] = set()
        #: Events in a row after each of which the topic socket is asked whether more follow. From
        #: then on a queue has built up, and trying until ``Again`` is cheaper; see ``readable``.
        self.asks_max = TOPIC_DRAIN
        #: Called with every new socket, and with one that is about to be closed.
        self.opened: Callable[[ZmqSocket], None] = lambda made: None
        self.closing: Callable[[ZmqSocket], None] = lambda made: None
        self._endpoint = endpoint
        self._dealer: Watched | None = None
        self._topic: Watched | None = None

    def pump(self, now_s: float) -> list[Event]:
        """Receive what has arrived, give up what is lost, send what is due.

        With no events returned and not ``ready``, the next arrival can be waited for.
        """
        follower = self.follower
        if self._dealer is None:
            if now_s < follower.open_at_s:
                return []
            self._dealer = self._open(zmq.DEALER, self._endpoint)
        events = self._receive(self._dealer, now_s)
        if events and follower.live and not self.signalled:
            return events  # in good health, with nothing to ask
        why = self._why_lost(self._dealer, now_s)
        if why:
            self.close()
            follower.lost(now_s, why)
            return events
        if follower.topic_due(now_s):
            self._open_topic()
        request = follower.request(now_s)
        if request is not None:
            try:
                send_request(sender(self._dealer.socket), *request)
            except zmq.Again:  # the pipe went with its connection
                self.close()
                follower.lost(now_s, "disconnected")
                return events
            if readable(self._dealer.socket):  # sending may have kept the signal of an arrival
                self.signalled.add(self._dealer.socket)
        return events

    def _receive(self, dealer: Watched, now_s: float) -> list[Event]:
        follower, signalled = self.follower, self.signalled
        events: list[Event] = []
        if dealer.socket in signalled:
            while readable(dealer.socket):
                events += follower.replied(receive(dealer.socket.recv, NOW), now_s)
            signalled.discard(dealer.socket)
        topic = self._topic
        if topic is not None and topic.socket in signalled and follower.wants_topic:
            if follower.live:
                self._drain(topic.socket, events, now_s)
            elif readable(topic.socket):
                follower.heard = True  # its messages wait in their queue for their turn
            else:
                signalled.discard(topic.socket)
        return events

    def _drain(self, topic: ZmqSocket, events: list[Event], now_s: float) -> None:
        follower, recv = self.follower, topic.recv
        while len(events) < TOPIC_DRAIN and follower.live:
            try:
                frames = receive(recv, NOW)
            except zmq.Again:  # there is no more, or the signal was of something else
                self.signalled.discard(topic)
                return
            if len(frames) == 2:
                event = follower.published(frames[0], frames[1], now_s)
                if event is not None:
                    events.append(event)
            if len(events) < self.asks_max and not readable(topic):
                self.signalled.discard(topic)
                return

    def _why_lost(self, dealer: Watched, now_s: float) -> str:
        if self._lost(dealer):
            return "disconnected"
        if self.follower.late(now_s):
            return "no answer"
        if self._topic is not None and self._lost(self._topic) and self.follower.heard:
            return "the topic socket is disconnected"
        return ""

    def _lost(self, watched: Watched) -> bool:
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

    def _open(self, kind: int, endpoint: str) -> Watched:
        watched = Watched(kind, endpoint)
        for made in (watched.socket, watched.monitor):
            self.opened(made)
            self.signalled.add(made)  # what came before it was watched
        return watched

    def _open_topic(self) -> None:
        if self._topic is not None:
            self._close(self._topic)
        assert self.follower.topic is not None
        self._topic = self._open(zmq.SUB, self.follower.topic)

    def _close(self, watched: Watched) -> None:
        for made in (watched.socket, watched.monitor):
            self.closing(made)
            self.signalled.discard(made)
        watched.close()

    def close(self) -> None:
        """Close the sockets; ``pump`` opens new ones."""
        for watched in (self._dealer, self._topic):
            if watched is not None:
                self._close(watched)
        self._dealer = self._topic = None


class Following:
    """A link, waited on by the consumer's thread."""

    def __init__(self, endpoint: str, follower: Follower) -> None:
        self._link = Link(endpoint, follower)
        weakref.finalize(self, self._link.close)  # else its sockets end in any order, see Watched
        self._follower = follower
        self._woken = False
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._wake_lock = threading.RLock()  # a signal handler may stop what it interrupts

    def fetch(self, seconds: float | None) -> list[Event]:
        cursor = self._follower.cursor
        before = (cursor.place, cursor.at_end)
        until_s = None if seconds is None else time.monotonic() + seconds
        while True:
            now_s = time.monotonic()
            events = self._link.pump(now_s)
            if events or self._woken or before != (cursor.place, cursor.at_end):
                self._woken = False
                return events
            if self._link.ready:
                continue
            wait_s = self._link.wait_s(now_s)
            if until_s is not None:
                if now_s >= until_s:
                    return []
                wait_s = min(wait_s, until_s - now_s)
            self._wait(wait_s)

    def _wait(self, seconds: float) -> None:
        wake = self._wake_read.fileno()
        items: list[tuple[Any, int]] = [(made, zmq.POLLIN) for made in self._link.sockets()]
        items.append((wake, zmq.POLLIN))
        for found, _ in zmq.zmq_poll(items, int(seconds * 1000) + 1):
            if found == wake:
                self._wake_read.recv(64)
            else:
                self._link.signalled.add(found)

    def hurry(self) -> None:
        self._follower.hurry()
        self._write()

    def wake(self) -> None:
        self._woken = True
        self._write()

    def _write(self) -> None:
        with self._wake_lock:
            if self._wake_write.fileno() != -1:
                try:
                    self._wake_write.send(b"x")
                except BlockingIOError:  # full of wake-ups
                    return

    def close(self) -> None:
        self._link.close()
        with self._wake_lock:
            self._wake_read.close()
            self._wake_write.close()
