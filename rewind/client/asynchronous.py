"""The asyncio client: the names of blocking.py as coroutines and asynchronous iterators.

One DEALER socket carries every call, many in flight, told apart by request id; a subscription has
a link of its own. Appends that wait while others are under way go together in few messages: the more
tasks append, the less of a message an append costs. Embedded stores are asked in threads. What to ask,
when to ask again and how to follow is decided in requests.py, as for the blocking client.

The sockets are plain ones whose descriptors the event loop watches, which needs a loop with
``add_reader`` (every one but Windows' Proactor). That descriptor signals changes, not states: each
socket is read until it is empty before it is waited for.

Next: requests.py.
"""

from __future__ import annotations

import asyncio
import math
import time
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import zmq

from rewind.client.blocking import BATCH_EVENTS, ENDPOINT
from rewind.client.requests import (
    TIMEOUT_S,
    Call,
    Cursor,
    Delivery,
    EventPages,
    Follower,
    Id,
    Info,
    Session,
    StreamPages,
    answers_to,
    body_of,
    check_endpoint,
    parse_reply,
    together,
)
from rewind.client.zmq_blocking import (
    NOW,
    Link,
    ZmqSocket,
    connect_socket,
    new_socket,
    readable,
    send_request,
)
from rewind.errors import Closed, RequestError, Unavailable
from rewind.events import Appended, Event, NewEvent
from rewind.wire.messages import receive, sender
from rewind.wire.replies import Reply

if TYPE_CHECKING:
    from rewind.client.embedded import Embedded

IN_FLIGHT_MAX = 1_000  # calls at once; more wait here, where they cost little
# Appends that wait are divided among so many messages, so that client and daemon both have something
# to do: with one message of all they take turns.
APPEND_MESSAGES_MAX = 4
TOGETHER_MIN = 25  # in each, if there are as many: a message itself costs as much as one or two
UNSENT_MAX = 10_000  # messages in the socket: every call in flight, sent again a few times
DRAIN_MAX = 256  # answers taken before the loop gets its turn
ASKS_MAX = 3  # whether more has arrived; an ``Again`` costs as much as asking so often

T = TypeVar("T")


def connect_async(
    endpoint: str = ENDPOINT, *, topic_endpoint: str | None = None, timeout: float = TIMEOUT_S
) -> AsyncClient:
    """An asyncio client of the daemon at ``endpoint``; as ``connect``, and no coroutine either."""
    check_endpoint(endpoint)
    if topic_endpoint is not None:
        check_endpoint(topic_endpoint)
    return AsyncClient(AsyncSockets(endpoint, topic_endpoint), Session(endpoint, timeout))


def open_async(url: str) -> AsyncClient:
    """The same API on a store in this process; as ``open``. Opening it blocks for a moment."""
    from rewind.client.embedded import Embedded

    return AsyncClient(AsyncEmbedded(Embedded(url)), Session(url, TIMEOUT_S))


class AsyncExchange(Protocol):
    """A request that is under way."""

    async def result(self) -> Reply:
        """Wait for its answer."""

    def abandon(self) -> None:
        """Nobody wants the answer. Harmless after ``result``."""


class AsyncSource(Protocol):
    """Where a subscription's events come from; see ``client.Source``."""

    async def fetch(self, delivery: Delivery, seconds: float | None) -> None:
        """Wait for events and put them there; a cancelled fetch loses none. Returns early, without
        any, as ``client.Source`` does."""

    def hurry(self) -> None: ...

    def wake(self) -> None: ...

    def close(self) -> None: ...

    def abandon(self) -> None:
        """Close, in any thread: nobody has the subscription any longer. Harmless after ``close``."""


class AsyncTransport(Protocol):
    """How requests get to a store; see ``client.Transport``."""

    async def call(self, call: Call[Any]) -> Reply: ...

    def start(self, call: Call[Any]) -> AsyncExchange: ...

    def follow(self, cursor: Cursor) -> AsyncSource: ...

    async def close(self) -> None: ...


class AsyncClient:
    """A connection to an event store; made by ``connect_async`` or ``open_async``.

    Its calls, parameters and errors are those of ``Client``. An asynchronous context manager; for
    the tasks of one event loop. A cancelled append may have been stored.
    """

    def __init__(self, transport: AsyncTransport, session: Session) -> None:
        self._transport = transport
        self._session = session
        self._subscriptions: weakref.WeakSet[AsyncSubscription] = weakref.WeakSet()

    # Writing

    async def append(
        self,
        stream: str,
        events: NewEvent | Iterable[NewEvent],
        expected_version: int | None = None,
        *,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """See ``Client.append``."""
        return await self._run(
            self._session.append(stream, events, expected_version, append_id, timeout)
        )

    async def append_streams(
        self,
        events: Iterable[tuple[str, NewEvent]],
        *,
        expected: Mapping[str, int] | None = None,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """See ``Client.append_streams``."""
        return await self._run(self._session.append_streams(events, expected, append_id, timeout))

    # Reading

    def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        since: int | None = None,
    ) -> AsyncIterator[Event]:
        """See ``Client.read``."""
        return self._pages(
            self._session.read(
                after=after,
                until=until,
                limit=limit,
                backwards=backwards,
                prefix=prefix,
                types=types,
                tags=tags,
                since=since,
            )
        )

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        since: int | None = None,
    ) -> AsyncIterator[Event]:
        """See ``Client.read_stream``."""
        return self._pages(
            self._session.read(
                stream=stream,
                after=after,
                until=until,
                limit=limit,
                backwards=backwards,
                types=types,
                tags=tags,
                since=since,
            )
        )

    async def event(self, id: Id) -> Event:
        """See ``Client.event``."""
        return await self._run(self._session.event(id))

    async def head(self) -> int:
        """See ``Client.head``."""
        return await self._run(self._session.head())

    async def info(self) -> Info:
        """See ``Client.info``."""
        return await self._run(self._session.info())

    def streams(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """See ``Client.streams``."""
        return self._pages(self._session.streams(prefix))

    def subscribe(
        self,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
    ) -> AsyncSubscription:
        """See ``Client.subscribe``."""
        cursor = self._session.subscribe(after, stream, prefix, types, tags)
        subscription = AsyncSubscription(self._transport.follow(cursor), Delivery(cursor))
        self._subscriptions.add(subscription)
        return subscription

    # Closing

    async def close(self) -> None:
        """Stop the subscriptions and release everything; what is pending fails with ``Closed``."""
        for subscription in list(self._subscriptions):
            subscription.stop()
        await self._transport.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        return call.decode(await self._transport.call(call))

    async def _pages(self, pages: EventPages | StreamPages) -> AsyncIterator[Any]:
        """Items of page after page; the next one is under way while the caller has this one."""
        call = pages.call()
        exchange = None if call is None else self._transport.start(call)
        try:
            while call is not None and exchange is not None:
                items = call.decode(await exchange.result())
                call = pages.call()
                exchange = None if call is None else self._transport.start(call)
                for item in items:
                    yield item
        finally:
            if exchange is not None:
                exchange.abandon()


class AsyncSubscription:
    """Events without end; ``Subscription`` for asyncio. One task of one loop iterates over it."""

    def __init__(self, source: AsyncSource, delivery: Delivery) -> None:
        self._source = source
        self._delivery = delivery
        self._stopped = False
        self._ended = False
        self._fetching = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: set[asyncio.Future[None]] = set()
        weakref.finalize(self, source.abandon)

    @property
    def position(self) -> int:
        """See ``Subscription.position``."""
        return self._delivery.position

    @property
    def caught_up(self) -> bool:
        """See ``Subscription.caught_up``."""
        return self._delivery.caught_up

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        self._asked()
        if not await self._fill(None):
            raise StopAsyncIteration
        return self._delivery.next()

    async def batches(
        self, max_events: int = BATCH_EVENTS, max_wait: float | None = None
    ) -> AsyncIterator[list[Event]]:
        """See ``Subscription.batches``."""
        while True:
            self._asked()
            if not await self._fill(max_wait):
                return
            yield self._delivery.take(max_events)

    async def wait_caught_up(self, timeout: float | None = None) -> bool:
        """See ``Subscription.wait_caught_up``; in another task."""
        return await self._wait(lambda: self._delivery.caught_up, timeout)

    async def wait_for(self, position: int, timeout: float | None = None) -> bool:
        """See ``Subscription.wait_for``; in another task."""
        if self._delivery.handled < position:
            self._source.hurry()
        return await self._wait(lambda: self._delivery.handled >= position, timeout)

    def stop(self) -> None:
        """End the iteration, at any time, from any thread; no coroutine, it never waits."""
        self._stopped = True
        if self._loop is None:  # nobody iterates or waits yet
            return
        try:
            self._loop.call_soon_threadsafe(self._stop)
        except RuntimeError:  # the loop is closed, and with it everything that waited
            return

    def _stop(self) -> None:
        if self._fetching:
            self._source.wake()
        else:
            self._end()

    def _asked(self) -> None:
        self._delivery.asked()
        if self._waiters:
            self._tell()

    def _tell(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def _wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        self._loop = loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                while not ready() and not self._ended:
                    waiter: asyncio.Future[None] = loop.create_future()
                    self._waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self._waiters.discard(waiter)
        except TimeoutError:
            pass
        return ready()

    async def _fill(self, seconds: float | None) -> bool:
        """Wait at most so long until there is something to hand out; False when it is over."""
        if self._delivery and not self._stopped:
            return True
        self._loop = asyncio.get_running_loop()
        until_s = None if seconds is None else time.monotonic() + seconds
        while not self._stopped:
            self._fetching = True
            try:
                await self._source.fetch(self._delivery, seconds)
            except Closed:  # the client was, and its store with it
                break
            except asyncio.CancelledError:  # nothing was taken in: the next call goes on
                raise
            except BaseException:
                self._end()
                raise
            finally:
                self._fetching = False
            if self._delivery and not self._stopped:
                return True
            self._asked()
            if until_s is not None:
                seconds = until_s - time.monotonic()
                if seconds <= 0:
                    return True
        self._end()
        return False

    def _end(self) -> None:
        self._stopped = self._ended = True
        self._source.close()
        self._tell()


# --- a daemon ---------------------------------------------------------------------


class AsyncSockets:
    """One DEALER socket with many requests in flight. Opened by the first call, in its loop."""

    def __init__(self, endpoint: str, topic_endpoint: str | None = None) -> None:
        self.endpoint = endpoint
        self._topic_endpoint = topic_endpoint
        self._loop: asyncio.AbstractEventLoop | None = None
        self._socket: ZmqSocket | None = None
        self._send_frame: Any = None
        self._descriptor = -1
        self._in_flight = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._pending: dict[bytes, AsyncPending] = {}
        self._appends: deque[AsyncPending] = deque()  # that wait to be sent
        self._messages: dict[bytes, list[AsyncPending]] = {}  # of appends, until answered
        self._under_way: set[bytes] = set()  # those of them that are not late
        self._requests = 0
        self._heard_s = 0.0
        self._sweeper: asyncio.TimerHandle | None = None
        self._sweep_s = math.inf
        self._drain_due = False
        self._send_due = False
        self._closed = False

    async def call(self, call: Call[Any]) -> Reply:
        async with self._in_flight:
            return await self.start(call).result()

    def start(self, call: Call[Any]) -> AsyncPending:
        if self._closed:
            raise _closed()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
            self._open()
        elif loop is not self._loop:
            raise RuntimeError("this AsyncClient is used in another event loop: make one for each")
        pending = AsyncPending(self, call, self._next_id(), loop)
        self._pending[pending.request_id] = pending
        self.send(pending)
        return pending

    def _next_id(self) -> bytes:
        self._requests += 1
        return self._requests.to_bytes(8, "big")

    def follow(self, cursor: Cursor) -> AsyncFollowing:
        if self._closed:
            raise _closed()
        return AsyncFollowing(
            Link(self.endpoint, Follower(cursor, self.endpoint, self._topic_endpoint))
        )

    async def close(self) -> None:
        self._closed = True
        for pending in list(self._pending.values()):
            pending.fail(_closed())
        self._pending.clear()
        self._appends.clear()
        self._messages.clear()
        self._under_way.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._shut()

    # Sending

    def send(self, pending: AsyncPending) -> None:
        """Send it, for the first time or again; an append, together with others that wait."""
        assert self._loop is not None
        pending.sent_s = time.monotonic()
        if pending.call.command != b"APPEND":
            if self._appends:
                self._send_appends()  # they were called first
            self._send(pending.call.command, pending.request_id, pending.call.body)
            return
        pending.waits = True
        self._appends.append(pending)
        self._send_soon()

    def _send_soon(self) -> None:
        if not self._send_due:
            assert self._loop is not None
            self._send_due = True
            self._loop.call_soon(self._send_appends)  # behind the tasks that are about to append

    def _send_appends(self) -> None:
        self._send_due = False
        waiting = self._appends
        most = max(TOGETHER_MIN, -(-len(waiting) // APPEND_MESSAGES_MAX))  # rounded up
        while waiting and len(self._under_way) < APPEND_MESSAGES_MAX and self._socket is not None:
            count = together((pending.call for pending in waiting), most)
            message = [waiting.popleft() for _ in range(count)]
            message = [pending for pending in message if pending.request_id in self._pending]
            if not message:  # their callers have given up
                continue
            message_id = self._next_id()
            for pending in message:
                pending.waits = False
                pending.message_id = message_id
            self._messages[message_id] = message
            self._under_way.add(message_id)
            self._send(b"APPEND", message_id, body_of([pending.call for pending in message]))

    def _send(self, command: bytes, request_id: bytes, body: bytes) -> None:
        assert self._socket is not None and self._loop is not None
        try:  # noqa: SIM105  a context manager would cost as much as a frame
            send_request(self._send_frame, command, request_id, body)
        except zmq.Again:
            pass  # nobody takes it; that no answer comes is all there is to say
        # Sending may have taken note of an arrival, which the descriptor then keeps to itself.
        if not self._drain_due and readable(self._socket):
            self._drain_due = True
            self._loop.call_soon(self._drain)

    def send_again(self, pending: AsyncPending, sent_s: float) -> None:
        """Its answer did not come. A socket that has been silent since is replaced: the connection
        may be half dead; then everything in flight is sent again, in its order."""
        if self._closed:
            raise _closed()
        if pending.sent_s != sent_s:
            return  # sent again already, with the others
        if pending.waits:
            pending.sent_s = time.monotonic()
        if self._heard_s >= sent_s:
            if not pending.waits:
                self._late(pending.message_id)
                self.send(pending)
            return
        self._shut()
        self._open()
        self._messages.clear()
        self._under_way.clear()
        self._appends.clear()
        for other in self._pending.values():
            self.send(other)

    def forget(self, pending: AsyncPending) -> None:
        """Nobody waits for it any longer."""
        self._pending.pop(pending.request_id, None)
        if pending.message_id in self._messages:  # given up before its answer came
            self._drop_given_up()

    def _late(self, message_id: bytes) -> None:
        """Its answer is still welcome, but others need not wait for it."""
        self._under_way.discard(message_id)
        self._drop_given_up()

    def _drop_given_up(self) -> None:
        """Forget the messages whose answers nobody waits for."""
        for message_id, message in list(self._messages.items()):
            if not any(pending.request_id in self._pending for pending in message):
                del self._messages[message_id]
                self._under_way.discard(message_id)
        if self._appends:
            self._send_soon()

    def sweep_at(self, due_s: float) -> None:
        """Look then at what has waited too long. One timer for all: most are answered before."""
        assert self._loop is not None
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(max(0.0, due_s - time.monotonic()), self._sweep)
            self._sweep_s = due_s
        elif due_s < self._sweep_s:
            self._sweeper.cancel()
            self._sweeper = None
            self.sweep_at(due_s)

    def _sweep(self) -> None:
        self._sweeper = None
        now_s = time.monotonic()
        next_s = math.inf
        for pending in list(self._pending.values()):
            if pending.due_s <= now_s:
                pending.answer(None)
            else:
                next_s = min(next_s, pending.due_s)
        if next_s < math.inf:
            self.sweep_at(next_s)

    # The socket

    def _open(self) -> None:
        assert self._loop is not None
        self._socket = new_socket(zmq.DEALER, self.endpoint, {zmq.SNDHWM: UNSENT_MAX})
        connect_socket(self._socket, self.endpoint)
        self._send_frame = sender(self._socket)
        self._descriptor = int(self._socket.getsockopt(zmq.FD))
        self._loop.add_reader(self._descriptor, self._drain)

    def _shut(self) -> None:
        if self._socket is None or self._loop is None:
            return
        if not self._loop.is_closed():
            self._loop.remove_reader(self._descriptor)
        self._socket.close()
        self._socket = None

    # Receiving

    def _drain(self) -> None:
        """Take the answers that have arrived, until there are none."""
        self._drain_due = False
        if self._socket is None or self._loop is None:
            return
        recv = self._socket.recv
        for taken in range(DRAIN_MAX):
            if 0 < taken <= ASKS_MAX and not readable(self._socket):
                return
            try:
                frames = receive(recv, NOW)
            except zmq.Again:
                return
            self._heard_s = time.monotonic()
            try:
                request_id, answer = parse_reply(frames, self.endpoint)
            except Unavailable as error:  # not Rewind's protocol: no request will ever be answered
                for pending in self._pending.values():
                    pending.fail(error)
                continue
            if (message := self._messages.pop(request_id, None)) is not None:
                self._under_way.discard(request_id)
                self._answer(message, answer)
            elif (found := self._pending.get(request_id)) is not None:
                found.answer(answer)
        self._drain_due = True
        self._loop.call_soon(self._drain)

    def _answer(self, message: list[AsyncPending], answer: Reply | RequestError) -> None:
        """Hand out the answers to a message of appends, and send those that waited for it."""
        if self._appends:
            self._send_soon()
        try:
            answers = answers_to([pending.call for pending in message], answer)
        except Unavailable as error:
            for pending in message:
                pending.fail(error)
            return
        for pending, own in zip(message, answers, strict=True):
            pending.answer(own)


def _closed() -> Closed:
    return Closed("this client was closed")


class AsyncPending:
    """A request under way."""

    __slots__ = (
        "_future",
        "_loop",
        "_sockets",
        "call",
        "due_s",
        "message_id",
        "request_id",
        "sent_s",
        "waits",
    )

    def __init__(
        self,
        sockets: AsyncSockets,
        call: Call[Any],
        request_id: bytes,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._sockets = sockets
        self._loop = loop
        self._future: asyncio.Future[Reply | RequestError | None] = loop.create_future()
        self.call = call
        self.request_id = request_id
        self.message_id = b""
        self.waits = False  # for its turn to be sent
        self.sent_s = 0.0
        self.due_s = math.inf  # nobody waits yet

    def answer(self, answer: Reply | RequestError | None) -> None:
        """The answer has come; None: the time for it is up."""
        if not self._future.done():
            self._future.set_result(answer)

    def fail(self, error: Exception) -> None:
        """There will be no answer."""
        if not self._future.done():
            self._future.set_exception(error)

    async def result(self) -> Reply:
        call = self.call
        try:
            while True:
                now_s = time.monotonic()
                self.due_s = now_s + call.attempt_s(now_s)
                self._sockets.sweep_at(self.due_s)
                sent_s = self.sent_s
                answer = await self._future
                self.due_s = math.inf
                if isinstance(answer, Reply):
                    return answer
                self._future = self._loop.create_future()
                if answer is not None:
                    await asyncio.sleep(call.pause_s(answer, time.monotonic()))
                self._sockets.send_again(self, sent_s)
        finally:
            self._sockets.forget(self)

    def abandon(self) -> None:
        if not self._future.cancel() and not self._future.cancelled():
            self._future.exception()  # or asyncio would log that nobody has seen it
        self._sockets.forget(self)


class AsyncFollowing:
    """A subscription's link, waited on by the event loop.

    The loop watches every socket for as long as it lives, and one timer goes off when the first
    thing may be due: while events come, a fetch costs the loop no change. Both only act while
    somebody fetches, so that no more is taken in than is asked for.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        link.opened, link.closing = self._watch, self._unwatch
        link.asks_max = ASKS_MAX
        self._cursor = link.follower.cursor
        self._delivery: Delivery | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None  # while somebody fetches
        self._woken = False  # that fetch is to return
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = math.inf
        self._due = True  # something may be there, or has to be done, at the next fetch

    async def fetch(self, delivery: Delivery, seconds: float | None) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise RuntimeError("this subscription is used in another event loop: make one for each")
        self._delivery = delivery
        enough = None if seconds is None else loop.call_later(seconds, self.wake)
        try:
            while not (self._woken or (self._due and self._pump())):
                self._waiter = loop.create_future()
                await self._waiter
        finally:
            self._waiter = None
            self._woken = False
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

    def _pump(self) -> bool:
        """Receive and send; whether there is news: events, or how far the store was read."""
        link, cursor = self._link, self._cursor
        before = (cursor.place, cursor.at_end)
        now_s = time.monotonic()
        self._due = True  # also when it fails
        while True:
            events = link.pump(now_s)
            self._due = link.ready
            if events:
                assert self._delivery is not None
                self._delivery.put(events)  # at once: a cancelled fetch must not lose them
                break
            if not self._due or before != (cursor.place, cursor.at_end):
                break
        self._look_at(now_s, now_s + link.wait_s(now_s))
        return bool(events) or before != (cursor.place, cursor.at_end)

    # The timer: moved when something is due earlier, else left to find out when it goes off.

    def _look_at(self, now_s: float, due_s: float) -> None:
        if due_s >= self._timer_s:
            return
        assert self._loop is not None
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(due_s - now_s, self._time_up)
        self._timer_s = due_s

    def _time_up(self) -> None:
        self._timer = None
        self._timer_s = math.inf
        self._look()

    # The sockets

    def _watch(self, made: ZmqSocket) -> None:
        assert self._loop is not None
        self._loop.add_reader(int(made.getsockopt(zmq.FD)), self._signalled, made)

    def _unwatch(self, made: ZmqSocket) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.remove_reader(int(made.getsockopt(zmq.FD)))

    def _signalled(self, made: ZmqSocket) -> None:
        """It may have something. Once asked, its descriptor falls silent until there is more."""
        if readable(made):
            self._link.signalled.add(made)
            self._look()

    def hurry(self) -> None:
        self._link.follower.hurry()
        self._look()

    def wake(self) -> None:
        if self._waiter is not None:
            self._woken = True
            self._resume()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._link.close()

    def abandon(self) -> None:
        """The loop would watch the sockets for ever; and see ``sockets.Watched``."""
        if self._loop is not None and self._loop.is_running():
            self._loop.call_soon_threadsafe(self.close)
        else:
            self.close()


# --- a store in this process --------------------------------------------------------


class AsyncEmbedded:
    """An embedded store, asked in threads because its disk may be slow."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded

    async def call(self, call: Call[Any]) -> Reply:
        return await asyncio.to_thread(self._embedded.call, call)

    def start(self, call: Call[Any]) -> AsyncTask:
        return AsyncTask(asyncio.ensure_future(self.call(call)))

    def follow(self, cursor: Cursor) -> AsyncWatch:
        self._embedded.check_open()
        return AsyncWatch(self._embedded, cursor)

    async def close(self) -> None:
        await asyncio.to_thread(self._embedded.close)


class AsyncTask:
    """A request under way in a thread."""

    def __init__(self, task: asyncio.Task[Reply]) -> None:
        self._task = task

    async def result(self) -> Reply:
        return await self._task

    def abandon(self) -> None:
        if not self._task.cancel() and not self._task.cancelled():
            self._task.exception()


class AsyncWatch:
    """A subscription's events, read whenever something was committed."""

    def __init__(self, embedded: Embedded, cursor: Cursor) -> None:
        self._embedded = embedded
        self._cursor = cursor
        self._changed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        embedded.listen(self._committed)

    async def fetch(self, delivery: Delivery, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._changed.clear()  # before looking, so that nothing comes in between
        cursor = self._cursor
        before = (cursor.place, cursor.at_end)
        reply = await asyncio.to_thread(self._embedded.read, cursor.body())
        events = cursor.receive(reply, self._embedded.url)  # here, so that a cancelled look is none
        if events:
            delivery.put(events)
        elif before == (cursor.place, cursor.at_end):
            timer = None if seconds is None else self._loop.call_later(seconds, self._changed.set)
            try:
                await self._changed.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    def _committed(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._changed.set)
        except RuntimeError:  # its loop is closed, so nobody waits
            self._embedded.unlisten(self._committed)

    def hurry(self) -> None:
        return

    def wake(self) -> None:
        self._changed.set()

    def close(self) -> None:
        self._embedded.unlisten(self._committed)

    def abandon(self) -> None:
        self.close()
