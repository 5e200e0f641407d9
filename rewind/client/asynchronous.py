"""The asyncio client: the names of blocking.py as coroutines and asynchronous iterators.

How calls get to a daemon is in zmq_async.py; embedded stores are asked in threads, here. What to ask,
when to ask again and how to follow is decided in requests.py, outstanding.py and follow.py, as for
the blocking client.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rewind.arguments import at_least_one, flag_of, number_of, place_of, text_of
from rewind.checks import check_seconds
from rewind.client.blocking import BATCH_EVENTS, ENDPOINT
from rewind.client.follow import Delivery
from rewind.client.pages import EventPages, Pages, PagesAhead, StreamPages, to_read
from rewind.client.requests import TIMEOUT_S, Call, Id, Info, Requests
from rewind.endpoints import check_endpoint
from rewind.errors import Closed
from rewind.events import Appended, Event, NewEvent
from rewind.wire.replies import Reply

if TYPE_CHECKING:
    from rewind.client.embedded import Embedded
    from rewind.client.zmq_async import AsyncConnection, AsyncSocketSource

T = TypeVar("T")


def connect_async(
    endpoint: str = ENDPOINT,
    *,
    topic_endpoint: str | None = None,
    timeout: float = TIMEOUT_S,
    store_id: Id | None = None,
) -> AsyncClient:
    """An asyncio client of the daemon at ``endpoint``; as ``connect``, and no coroutine either."""
    from rewind.client.zmq_async import AsyncConnection

    check_endpoint(text_of(endpoint, "endpoint"))
    if topic_endpoint is not None:
        check_endpoint(text_of(topic_endpoint, "topic_endpoint"), "topic_endpoint")
    requests = Requests(endpoint, timeout, store_id)
    return AsyncClient(AsyncConnection(endpoint, topic_endpoint), requests)


def open_async(
    url: str | os.PathLike[str], *, read_only: bool = False, store_id: Id | None = None
) -> AsyncClient:
    """The same API on a store in this process; as ``open``. Opening it blocks for a moment."""
    from rewind.client.embedded import Embedded

    url, read_only = place_of(url, "url"), flag_of(read_only, "read_only")
    requests = Requests(url, TIMEOUT_S, store_id)
    return AsyncClient(AsyncEmbedded(Embedded(url, read_only, requests.store_id)), requests)


class AsyncClient:
    """A connection to an event store; made by ``connect_async`` or ``open_async``.

    Its calls, parameters and errors are those of ``Client``, and its transports and sources keep the
    contract of ``blocking.Transport`` and ``blocking.Source``, with coroutines that wait. An
    asynchronous context manager; for the tasks of one event loop. A cancelled append may have been
    stored.
    """

    def __init__(self, transport: AsyncConnection | AsyncEmbedded, requests: Requests) -> None:
        self._transport = transport
        self._requests = requests
        self._subscriptions: weakref.WeakSet[AsyncSubscription] = weakref.WeakSet()
        weakref.finalize(self, transport.abandon)

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
        call = self._requests.append(stream, events, expected_version, append_id, timeout)
        return await self._run(call)

    async def append_streams(
        self,
        events: Iterable[tuple[str, NewEvent]],
        *,
        expected: Mapping[str, int] | None = None,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """See ``Client.append_streams``."""
        call = self._requests.append_streams(events, expected, append_id, timeout)
        return await self._run(call)

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
        since: int | datetime | None = None,
    ) -> AsyncIterator[Event]:
        """See ``Client.read``."""
        read = to_read(after, until, limit, backwards, None, prefix, types, tags, since)
        return self._pages(EventPages(self._requests, read))

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
        since: int | datetime | None = None,
    ) -> AsyncIterator[Event]:
        """See ``Client.read_stream``."""
        stream = text_of(stream, "stream")  # None would read all streams.
        read = to_read(after, until, limit, backwards, stream, "", types, tags, since)
        return self._pages(EventPages(self._requests, read))

    async def event(self, id: Id) -> Event:
        """See ``Client.event``."""
        return await self._run(self._requests.event(id))

    async def head(self) -> int:
        """See ``Client.head``."""
        return await self._run(self._requests.head())

    async def info(self) -> Info:
        """See ``Client.info``."""
        return await self._run(self._requests.info())

    def streams(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """See ``Client.streams``."""
        return self._pages(StreamPages(self._requests, prefix))

    def subscribe(
        self,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        store_id: Id | None = None,
    ) -> AsyncSubscription:
        """See ``Client.subscribe``."""
        read = to_read(after, None, None, False, stream, prefix, types, tags, None)
        delivery = Delivery(read, self._requests.store(store_id))
        subscription = AsyncSubscription(self._transport.follow(delivery), delivery)
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

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    async def _run(self, call: Call[T]) -> T:
        self._transport.ask(call)
        return call.value(await self._transport.answer(call))

    async def _pages(self, pages: Pages) -> AsyncIterator[Any]:
        """Items of page after page; the next one is under way while the caller has this one."""
        with PagesAhead(self._transport, pages) as ahead:
            while ahead.call is not None:
                for item in ahead.take(await self._transport.answer(ahead.call)):
                    yield item


class AsyncSubscription:
    """Events without end; ``Subscription`` for asyncio. One task of one loop iterates over it."""

    def __init__(self, source: AsyncSocketSource | AsyncEmbeddedSource, delivery: Delivery) -> None:
        self._source = source
        self._delivery = delivery
        self._stopped = False
        self._fetching = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # It is set when the consumer has got further, and at the end.
        self._moved = asyncio.Event()
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

    def batches(
        self, max_events: int = BATCH_EVENTS, max_wait: float | None = None
    ) -> AsyncIterator[list[Event]]:
        """See ``Subscription.batches``."""
        if max_wait is not None:
            max_wait = check_seconds(max_wait, "max_wait")
        return self._batches(at_least_one(max_events, "max_events"), max_wait)

    async def wait_caught_up(self, timeout: float | None = None) -> bool:
        """See ``Subscription.wait_caught_up``; in another task."""
        return await self._wait(lambda: self._delivery.caught_up, timeout)

    async def wait_for(self, position: int, timeout: float | None = None) -> bool:
        """See ``Subscription.wait_for``; in another task."""
        position = number_of(position, "position")
        if self._delivery.handled < position:
            self._source.hurry()
        return await self._wait(lambda: self._delivery.handled >= position, timeout)

    def stop(self) -> None:
        """End the iteration, at any time, from any thread; no coroutine, it never waits."""
        self._stopped = True  # Whoever begins to iterate or to wait now sees this.
        # When the loop is closed, what waited has ended with it.
        with contextlib.suppress(RuntimeError):
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._stop)
                return
        self._end()

    def _stop(self) -> None:
        if self._fetching:
            self._source.wake()
        else:
            self._end()

    def _use_loop(self) -> None:
        """Whoever waits or iterates does so in this loop; before, it may have been another."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._moved = loop, asyncio.Event()

    async def _batches(
        self, max_events: int, max_wait_s: float | None
    ) -> AsyncIterator[list[Event]]:
        while True:
            self._asked()
            if not await self._fill(max_wait_s):
                return
            yield self._delivery.take(max_events)

    def _asked(self) -> None:
        self._delivery.asked()
        self._moved.set()

    async def _wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        if timeout is not None:
            timeout = check_seconds(timeout, "timeout")
        self._use_loop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while not ready() and not self._stopped:
                    self._moved.clear()
                    await self._moved.wait()
        return ready()

    async def _fill(self, seconds: float | None) -> bool:
        """Wait at most so long until there is something to hand out; False when it is over."""
        if self._delivery and not self._stopped:
            return True
        self._use_loop()
        until_s = None if seconds is None else time.monotonic() + seconds
        while not self._stopped:
            self._fetching = True
            try:
                await self._source.fetch(seconds)
            except Closed:  # The client was closed, and its store with it.
                break
            except asyncio.CancelledError:  # Nothing is lost by that: the next call goes on.
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
        self._stopped = True
        self._source.close()
        self._moved.set()


# --- a store in this process --------------------------------------------------------


class AsyncEmbedded:
    """An embedded store, asked in threads because its disk may be slow."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded

    def ask(self, call: Call[Any]) -> None:
        call.waiter = asyncio.ensure_future(asyncio.to_thread(self._embedded.answer, call))

    async def answer(self, call: Call[Any]) -> Reply:
        reply: Reply = await call.waiter
        return reply

    def forget(self, call: Call[Any]) -> None:
        task = call.waiter
        if not task.cancel() and not task.cancelled():
            task.exception()  # If nobody had looked at it, asyncio would log it.

    def follow(self, delivery: Delivery) -> AsyncEmbeddedSource:
        self._embedded.check_open()
        return AsyncEmbeddedSource(self._embedded, delivery)

    async def close(self) -> None:
        await asyncio.to_thread(self._embedded.close)

    def abandon(self) -> None:
        """No loop knows of it."""


class AsyncEmbeddedSource:
    """A subscription's events, read whenever something was committed."""

    def __init__(self, embedded: Embedded, delivery: Delivery) -> None:
        self._embedded = embedded
        self._delivery = delivery
        self._committed = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        embedded.listen(self._tell)

    async def fetch(self, seconds: float | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._committed.clear()  # A commit after this line sets it again, so none is overlooked.
        delivery = self._delivery
        reply = await asyncio.to_thread(self._embedded.read, delivery.body())
        # A cancelled fetch does not come here, and asks again.
        delivery.receive(reply, self._embedded.url)
        if not delivery.changed:
            timer = None if seconds is None else self._loop.call_later(seconds, self.wake)
            try:
                await self._committed.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        delivery.changed = False

    def _tell(self) -> None:
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._committed.set)
        except RuntimeError:  # Its loop is closed, so nobody waits.
            self._embedded.unlisten(self._tell)

    def hurry(self) -> None:
        return

    def wake(self) -> None:
        self._committed.set()

    def close(self) -> None:
        self._embedded.unlisten(self._tell)

    abandon = close
