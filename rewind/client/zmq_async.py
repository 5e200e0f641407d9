"""ZeroMQ for the asyncio client: one DEALER for all calls, and a subscription's source.

Many calls are in flight on one socket, told apart by request id. The sockets are plain ones whose
descriptors the event loop watches, which needs a loop with ``add_reader`` (every one but Windows'
Proactor). A descriptor signals changes, not states: each socket is read until it is empty before it
is waited for.

What to send and what an answer means is decided in outstanding.py and follow.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import zmq

from rewind.client.follow import Delivery, Follower
from rewind.client.lookup import Lookup
from rewind.client.outstanding import Outstanding
from rewind.client.requests import Call, closed
from rewind.client.zmq_sockets import (
    NOW,
    FollowerSockets,
    ZmqSocket,
    cannot_open,
    open_dealer,
    readable,
    send_calls,
)
from rewind.errors import Unavailable
from rewind.wire.messages import receive, sender
from rewind.wire.replies import Reply

UNSENT_MAX = 10_000  # The socket has room for every call in flight, sent again a few times.
DRAIN_MAX = 256  # The loop gets its turn after so many answers.
ASKS_MAX = 3  # An ``Again`` costs as much as asking so often whether more has arrived.


class AsyncConnection:
    """One DEALER socket with many calls in flight. Opened by the first call, in its loop."""

    def __init__(self, endpoint: str, topic_endpoint: str | None = None) -> None:
        self._endpoint = endpoint
        self._topic_endpoint = topic_endpoint
        self._outstanding = Outstanding(endpoint)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = os.getpid()
        self._lookup: Lookup | None = None  # It is there while the name is looked up.
        self._socket: ZmqSocket | None = None
        self._send_frame: Any = None
        self._timer = LoopTimer(self._time_up)
        self._drain_due = False
        self._send_due = False
        self._closed = False

    def ask(self, call: Call[Any]) -> None:
        if self._closed:
            raise closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop, self._pid = loop, os.getpid()
        elif loop is not self._loop or os.getpid() != self._pid:
            raise RuntimeError(
                "this AsyncClient is used in another event loop or process: make one for each"
            )
        if self._socket is None and self._lookup is None:
            try:
                self._open()
            except Unavailable as error:
                raise call.failed(error) from error
        call.waiter = loop.create_future()
        self._outstanding.ask(call)
        if call.command == b"APPEND":
            self._send_soon()  # The appends of tasks that are about to run go with it.
        else:
            self._send()

    async def answer(self, call: Call[Any]) -> Reply:
        self._outstanding.expect(call, time.monotonic())
        self._timer.at(self._outstanding.due_s)
        try:
            await call.waiter
        finally:
            self.forget(call)
        return call.result()

    def forget(self, call: Call[Any]) -> None:
        if call.outcome is None:
            self._outstanding.forget(call)
            self._send_soon()

    def follow(self, delivery: Delivery) -> AsyncSocketSource:
        if self._closed:
            raise closed()
        return AsyncSocketSource(
            FollowerSockets(
                self._endpoint,
                self._topic_endpoint,
                Follower(delivery, self._endpoint, self._topic_endpoint),
            )
        )

    async def close(self) -> None:
        self._close()

    def abandon(self) -> None:
        """Nobody holds the client any longer; its loop would watch the socket for ever."""
        _close_in(self._loop, self._close)

    def _close(self) -> None:
        self._closed = True
        _wake(self._outstanding.fail(lambda call: closed()))
        self._timer.cancel()
        self._shut()

    # Sending

    def _send_soon(self) -> None:
        if not self._send_due and self._outstanding.waiting:
            assert self._loop is not None
            self._send_due = True
            self._loop.call_soon(self._send)

    def _send(self) -> None:
        self._send_due = False
        if self._socket is None or self._loop is None:
            return
        send_calls(self._send_frame, self._outstanding, time.monotonic())
        self._timer.at(self._outstanding.due_s)
        # Sending may have taken note of an arrival, which the descriptor then keeps to itself.
        if not self._drain_due and readable(self._socket):
            self._drain_due = True
            self._loop.call_soon(self._drain)

    def _time_up(self) -> None:
        """Something is late. One timer serves all calls: most are answered before."""
        settled, silent = self._outstanding.overdue(time.monotonic())
        _wake(settled)
        if silent:
            self._shut()
            self._reopen()
        self._send()
        self._timer.at(self._outstanding.due_s)

    # The socket

    def _reopen(self) -> None:
        try:
            self._open()
        except Unavailable as error:  # It is the callers who must know of it.
            why = error.with_traceback(None)
            _wake(self._outstanding.fail(lambda call: call.failed(why)))

    def _open(self) -> None:
        """Connect, or have it looked up first where to. Raises ``Unavailable``."""
        if self._lookup is None:
            self._lookup = Lookup([self._endpoint], self._tell_found)
        found = self._lookup.found
        if found is not None:
            self._lookup = None
            self._connect(found[0])

    def _tell_found(self) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
            self._loop.call_soon_threadsafe(self._look)

    def _look(self) -> None:
        if self._lookup is not None and not self._closed:
            self._reopen()
            self._send()

    def _connect(self, endpoint: str) -> None:
        assert self._loop is not None
        socket = open_dealer(endpoint, {zmq.SNDHWM: UNSENT_MAX})
        try:
            self._loop.add_reader(int(socket.getsockopt(zmq.FD)), self._drain)
        except OSError as error:
            raise cannot_open(self._endpoint, error) from error
        self._socket, self._send_frame = socket, sender(socket)

    def _shut(self) -> None:
        if self._socket is None or self._loop is None or os.getpid() != self._pid:
            return  # A forked child shares the parent's epoll, which would forget the socket too.
        if not self._loop.is_closed():
            self._loop.remove_reader(int(self._socket.getsockopt(zmq.FD)))
        self._socket.close()
        self._socket = None

    def _drain(self) -> None:
        """Take the answers that have arrived, until there are none."""
        self._drain_due = False
        if self._socket is None or self._loop is None:
            return
        outstanding, recv = self._outstanding, self._socket.recv
        for taken in range(DRAIN_MAX):
            if 0 < taken <= ASKS_MAX and not readable(self._socket):
                break
            try:
                frames = receive(recv, NOW)
            except zmq.Again:
                break
            _wake(outstanding.received(frames, time.monotonic()))
        else:
            self._drain_due = True
            self._loop.call_soon(self._drain)
        self._send_soon()
        self._timer.at(outstanding.due_s)


def _wake(settled: Iterable[Call[Any]]) -> None:
    """Let those go on who wait for these calls."""
    for call in settled:
        if not call.waiter.done():
            call.waiter.set_result(None)


def _close_in(loop: asyncio.AbstractEventLoop | None, close: Callable[[], None]) -> None:
    """Close what is let go of, in its loop while that runs. The collector may call from any thread."""
    if loop is not None and loop.is_running():
        with contextlib.suppress(RuntimeError):  # It was closed a moment ago.
            loop.call_soon_threadsafe(close)
            return
    close()


class LoopTimer:
    """Calls ``due`` at the earliest time asked for. It is moved only when something is due earlier, else
    left to find out when it goes off: so it costs nothing where most things happen in time."""

    def __init__(self, due: Callable[[], None]) -> None:
        self._due = due
        self._at_s = math.inf  # time.monotonic() is this when it goes off.
        self._handle: asyncio.TimerHandle | None = None

    def at(self, due_s: float) -> None:
        if due_s < self._at_s:
            self.cancel()
            self._at_s = due_s
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(due_s - time.monotonic(), self._go_off)

    def _go_off(self) -> None:
        self._at_s = math.inf
        self._due()

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()


class AsyncSocketSource:
    """A subscription's events from a daemon; the event loop waits for them.

    The loop watches every socket for as long as it lives, and one timer goes off when the first
    thing may be due: while events come, a fetch costs the loop no change. Both only act while
    somebody fetches, so that no more is taken in than is asked for.
    """

    def __init__(self, sockets: FollowerSockets) -> None:
        self._sockets = sockets
        sockets.on_open, sockets.on_close = self._watch, self._unwatch
        sockets.on_found = self._tell_found
        sockets.asks_max = ASKS_MAX
        self._follower = sockets.follower
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None  # It is there while somebody fetches.
        self._woken = False  # The fetch under way is to return.
        self._timer = LoopTimer(self._look)
        self._due = True  # The next fetch has something to look at, or to do.

    async def fetch(self, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise RuntimeError("this subscription is used in another event loop: make one for each")
        delivery = self._follower.delivery
        enough = None if seconds is None else loop.call_later(seconds, self.wake)
        try:
            while True:
                if self._due:
                    self._pump()
                if self._woken or delivery.changed:
                    return
                self._waiter = loop.create_future()
                await self._waiter
        finally:
            self._waiter = None
            self._woken = delivery.changed = False
            if enough is not None:
                enough.cancel()

    def _look(self) -> None:
        """Something arrived, or is due: let who fetches see to it, now or the next time.

        It is not received here: that would keep the first of many subscriptions waiting until the
        last one has received.
        """
        self._due = True
        self._resume()

    def _resume(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pump(self) -> None:
        """Receive and send, until there is news or nothing left to do."""
        sockets, delivery = self._sockets, self._follower.delivery
        now_s = time.monotonic()
        while True:
            sockets.pump(now_s)  # When this raises, something is still due.
            self._due = sockets.ready
            if delivery.changed or not self._due:
                break
        self._timer.at(now_s + sockets.wait_s(now_s))

    def _tell_found(self) -> None:
        assert self._loop is not None
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody waits.
            self._loop.call_soon_threadsafe(self._look)

    # The sockets

    def _watch(self, socket: ZmqSocket) -> None:
        assert self._loop is not None
        self._loop.add_reader(int(socket.getsockopt(zmq.FD)), self._signalled, socket)

    def _unwatch(self, socket: ZmqSocket) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.remove_reader(int(socket.getsockopt(zmq.FD)))

    def _signalled(self, socket: ZmqSocket) -> None:
        """It may have something. Once asked, its descriptor falls silent until there is more."""
        if readable(socket):
            self._sockets.signalled.add(socket)
            self._look()

    def hurry(self) -> None:
        self._follower.hurry()
        self._look()

    def wake(self) -> None:
        if self._waiter is not None:
            self._woken = True
            self._resume()

    def close(self) -> None:
        self._timer.cancel()
        self._sockets.close()

    def abandon(self) -> None:
        """Nobody holds the subscription any longer; its loop would watch the sockets for ever."""
        _close_in(self._loop, self.close)
