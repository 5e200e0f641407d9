"""ZeroMQ for the blocking client: a pool of connections, and a subscription's source.

A call takes a connection, sends, waits for its own answer and puts the connection back, so threads
are in flight together without a thread of ours. A connection whose answer did not come, or is not
wanted, is closed: no later call can meet it. ZeroMQ reconnects pooled sockets by itself.

What to send and what an answer means is decided in outstanding.py and follow.py.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from functools import partial
from socket import socketpair
from typing import Any

import zmq

from rewind.client.follow import Delivery, Follower
from rewind.client.lookup import Lookup
from rewind.client.outstanding import Outstanding
from rewind.client.requests import Call, closed
from rewind.client.zmq_sockets import (
    FollowerSockets,
    cannot_open,
    open_dealer,
    send_calls,
    send_request,
)
from rewind.errors import Unavailable
from rewind.wire.messages import receive, sender
from rewind.wire.replies import Reply

POOL_MAX = 64  # One idle connection is kept for each thread of a busy program.
SLICE_MS = 1_000  # A waiting call notices so late that its client was closed.


class ConnectionPool:
    """Connections to one daemon. Any thread, any process."""

    def __init__(self, endpoint: str, topic_endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        self.closed = False
        self._topic_endpoint = topic_endpoint
        self._pid = os.getpid()
        self._idle: list[Connection] = []  # It is a stack; append and pop are atomic.

    def ask(self, call: Call[Any]) -> None:
        if self.closed:
            raise closed()
        if os.getpid() != self._pid:
            # The parent's sockets are let go, not closed: pyzmq leaves those of another process be.
            self._idle = []
            self._pid = os.getpid()
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = Connection(self, call)
        call.waiter = connection
        connection.ask(call)

    def answer(self, call: Call[Any]) -> Reply:
        connection: Connection = call.waiter
        try:
            connection.wait_for(call)
        except BaseException:
            connection.close()
            raise
        call.waiter = None
        if isinstance(call.outcome, Unavailable):
            connection.close()
        else:
            self._put_back(connection)
        return call.result()

    def forget(self, call: Call[Any]) -> None:
        if call.waiter is not None:
            call.waiter.close()

    def follow(self, delivery: Delivery) -> SocketSource:
        if self.closed:
            raise closed()
        return SocketSource(self.endpoint, self._topic_endpoint, delivery)

    def close(self) -> None:
        self.closed = True
        self.drop_idle()

    def _put_back(self, connection: Connection) -> None:
        idle = self._idle
        if len(idle) < POOL_MAX:
            idle.append(connection)
        else:
            connection.close()
        if self.closed:
            self.drop_idle()

    def drop_idle(self) -> None:
        """Close the connections that nobody uses."""
        if os.getpid() != self._pid:
            return
        with contextlib.suppress(IndexError):  # It is empty then; another thread may have helped.
            while True:
                self._idle.pop().close()


def _write(source: weakref.ref[SocketSource]) -> None:
    if (alive := source()) is not None:
        alive.write()


class Connection:
    """A DEALER socket with at most one call under way."""

    def __init__(self, pool: ConnectionPool, call: Call[Any]) -> None:
        """``call``: the one that it is opened for, and whose time it takes. Raises ``Unavailable``."""
        self._pool = pool
        self._outstanding = Outstanding(pool.endpoint)
        began_s = time.monotonic()
        self._open(call, call.timeout_s)
        call.waited_s = time.monotonic() - began_s

    def _open(self, call: Call[Any], seconds: float) -> None:
        found = Lookup([self._pool.endpoint], lambda: None).wait(seconds)
        if found is None:
            raise call.no_answer()
        self._slice_ms = SLICE_MS
        try:
            self._socket = open_dealer(found[0], {zmq.RCVTIMEO: SLICE_MS})
        except Unavailable as error:
            raise call.failed(error) from error
        self._recv, self._send = self._socket.recv, sender(self._socket)

    def ask(self, call: Call[Any]) -> None:
        """Send a call."""
        message = self._outstanding.ask_at_once(call, time.monotonic())
        with contextlib.suppress(zmq.Again):  # Nobody takes it; no answer will come.
            send_request(self._send, *message)

    def wait_for(self, call: Call[Any]) -> None:
        """Wait until the outcome of the call is known. Raises ``Closed``."""
        outstanding = self._outstanding
        now_s = time.monotonic()
        outstanding.expect(call, now_s)
        while call.outcome is None:
            # It may be due already, when answers to nobody came meanwhile: then it does not block.
            slice_ms = max(0, min(int((call.due_s - now_s) * 1000) + 1, SLICE_MS))
            if slice_ms != self._slice_ms:
                self._slice_ms = slice_ms
                self._socket.setsockopt(zmq.RCVTIMEO, slice_ms)
            try:
                frames = receive(self._recv)
            except zmq.Again:
                if self._pool.closed:
                    raise closed() from None
                now_s = time.monotonic()
                _, silent = outstanding.overdue(now_s)
                if silent:
                    self._pool.drop_idle()  # The idle ones are as silent as this one.
                    self.close()
                    self._open(call, max(0.0, call.deadline_s - now_s))
                send_calls(self._send, outstanding, now_s)
            else:
                now_s = time.monotonic()
                outstanding.received(frames, now_s)

    def close(self) -> None:
        """Forget whatever is under way."""
        self._socket.close()


class SocketSource:
    """A subscription's events from a daemon; the consumer's thread waits for them."""

    def __init__(self, endpoint: str, topic_endpoint: str | None, delivery: Delivery) -> None:
        self._follower = Follower(delivery, endpoint, topic_endpoint)
        self._sockets = FollowerSockets(endpoint, topic_endpoint, self._follower)
        self._woken = False
        try:
            self._wake_read, self._wake_write = socketpair()
        except OSError as error:
            raise cannot_open(endpoint, error) from error
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        # A subscription that nobody stopped would leave them to the collector, which complains and
        # closes them in any order; see MonitoredSocket.
        for close in (self._sockets.close, self._wake_read.close, self._wake_write.close):
            weakref.finalize(self, close)
        self._wake_lock = threading.RLock()  # A signal handler may stop what it interrupts.
        self._sockets.on_found = partial(_write, weakref.ref(self))  # A cycle would outlive it.

    def fetch(self, seconds: float | None) -> None:
        delivery = self._follower.delivery
        until_s = None if seconds is None else time.monotonic() + seconds
        while True:
            now_s = time.monotonic()
            self._sockets.pump(now_s)
            if delivery.changed or self._woken:
                self._woken = delivery.changed = False
                return
            if self._sockets.ready:
                continue
            wait_s = self._sockets.wait_s(now_s)
            if until_s is not None:
                wait_s = max(0.0, min(wait_s, until_s - now_s))
            self._wait(wait_s)  # Who does not wait still hears what has arrived.
            if until_s is not None and now_s >= until_s and not self._sockets.ready:
                return

    def _wait(self, seconds: float) -> None:
        wake = self._wake_read.fileno()
        items: list[tuple[Any, int]] = [(each, zmq.POLLIN) for each in self._sockets.sockets()]
        items.append((wake, zmq.POLLIN))
        for signalled, _ in zmq.zmq_poll(items, math.ceil(seconds * 1000)):
            if signalled == wake:
                self._wake_read.recv(64)
            else:
                self._sockets.signalled.add(signalled)

    def hurry(self) -> None:
        self._follower.hurry()
        self.write()

    def wake(self) -> None:
        self._woken = True
        self.write()

    def write(self) -> None:
        """Let the thread that waits look again."""
        with self._wake_lock:
            if self._wake_write.fileno() != -1:
                with contextlib.suppress(BlockingIOError):  # It is full of wake-ups.
                    self._wake_write.send(b"x")

    def close(self) -> None:
        self._sockets.close()
        with self._wake_lock:
            self._wake_read.close()
            self._wake_write.close()
