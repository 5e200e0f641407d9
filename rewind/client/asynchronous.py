"""The asyncio client: the names of blocking.py as coroutines and asynchronous iterators.

How calls get to a daemon is in zmq_async.py, to an embedded store in async_embedded.py. What to ask,
when to ask again and how to follow is decided in requests.py, outstanding.py and follow.py, as for
the blocking client.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from rewind.arguments import flag_of, number_of, place_of, text_of
from rewind.client.appends import Cursors
from rewind.client.async_subscription import AsyncSubscription
from rewind.client.beginning import Beginning, Pause, Steps, begin, subscription_read
from rewind.client.blocking import ENDPOINT
from rewind.client.decide import decide
from rewind.client.follow import Delivery
from rewind.client.names import CursorInfo, ask_cursor, cursor_pages, name_pages, stream_pages
from rewind.client.pages import EventPages, Pages, PagesAhead, to_read
from rewind.client.reading import AsyncEvents
from rewind.client.requests import TIMEOUT_S, Call, Conditions, Id, Info, Requests
from rewind.endpoints import check_endpoint
from rewind.errors import RewindError
from rewind.events import NOW, Advance, Appended, Event, NewEvent, Now
from rewind.query import Query, QueryItem
from rewind.wire.native import Read

if TYPE_CHECKING:
    from rewind.client.async_embedded import AsyncEmbedded
    from rewind.client.zmq_async import AsyncConnection

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
    from rewind.client.async_embedded import AsyncEmbedded
    from rewind.client.embedded import Embedded

    url, read_only = place_of(url, "url"), flag_of(read_only, "read_only")
    requests = Requests(url, TIMEOUT_S, store_id)
    return AsyncClient(AsyncEmbedded(Embedded(url, read_only, requests.store_id)), requests)


class AsyncClient:
    """A connection to an event store; made by ``connect_async`` or ``open_async``.

    Its calls, parameters and errors are those of ``Client``, and its transports and sources keep the
    contract of ``blocking.Transport`` and ``subscription.Source``, with coroutines that wait. An
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
        conditions: Conditions = (),
        cursors: Cursors | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """See ``Client.append``."""
        call = self._requests.append(
            stream, events, expected_version, append_id, timeout, conditions, cursors
        )
        return await self._run(call)

    async def append_streams(
        self,
        events: Iterable[tuple[str, NewEvent]],
        *,
        expected: Mapping[str, int] | None = None,
        append_id: Id | None = None,
        conditions: Conditions = (),
        cursors: Cursors | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """See ``Client.append_streams``."""
        call = self._requests.append_streams(
            events, expected, append_id, timeout, conditions, cursors
        )
        return await self._run(call)

    async def decide(
        self,
        decision: Callable[[Any], Any],
        *,
        stream: str | None = None,
        query: Query | QueryItem | None = None,
        fold: Callable[[Any, Event], Any] | None = None,
        initial: Any = None,
        attempts: int = 8,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended | None:
        """See ``Client.decide``."""
        return await self._play(
            decide(
                self._requests, decision, stream, query, fold, initial, attempts, append_id, timeout
            )
        )

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
        categories: Iterable[str] = (),
        query: Query | QueryItem | None = None,
        since: int | datetime | None = None,
    ) -> AsyncEvents:
        """See ``Client.read``."""
        read = to_read(
            after=after,
            until=until,
            limit=limit,
            backwards=backwards,
            prefix=prefix,
            types=types,
            tags=tags,
            categories=categories,
            query=query,
            since=since,
        )
        return self._read(read)

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
    ) -> AsyncEvents:
        """See ``Client.read_stream``."""
        read = to_read(
            after=after,
            until=until,
            limit=limit,
            backwards=backwards,
            stream=text_of(stream, "stream"),  # None would read all streams.
            types=types,
            tags=tags,
            since=since,
        )
        return self._read(read)

    async def last(
        self, *, stream: str | None = None, query: Query | QueryItem | None = None
    ) -> Event | None:
        """See ``Client.last``."""
        read = to_read(stream=stream, query=query, backwards=True, limit=1)
        async with self._read(read) as events:
            return await anext(events, None)

    async def event(self, id: Id) -> Event:
        """See ``Client.event``."""
        return await self._run(self._requests.event(id))

    async def head(self) -> int:
        """See ``Client.head``."""
        return await self._run(self._requests.head())

    async def info(self) -> Info:
        """See ``Client.info``."""
        return await self._run(self._requests.info())

    async def appended(self, append_id: Id) -> Appended | None:
        """See ``Client.appended``."""
        return await self._run(self._requests.appended(append_id))

    # Names

    def streams(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """See ``Client.streams``."""
        return self._pages(stream_pages(self._requests, prefix))

    def types(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """See ``Client.types``."""
        return self._pages(name_pages(self._requests, "type", prefix))

    def tags(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """See ``Client.tags``."""
        return self._pages(name_pages(self._requests, "tag", prefix))

    def categories(self, prefix: str = "") -> AsyncIterator[tuple[str, int]]:
        """See ``Client.categories``."""
        return self._pages(name_pages(self._requests, "category", prefix))

    # Cursors

    async def cursor(self, name: str) -> CursorInfo:
        """See ``Client.cursor``."""
        return await self._run(ask_cursor(self._requests, name))

    def cursors(self, prefix: str = "") -> AsyncIterator[CursorInfo]:
        """See ``Client.cursors``."""
        return self._pages(cursor_pages(self._requests, prefix))

    async def advance(self, name: str, position: int, *, expected: int | None = None) -> None:
        """See ``Client.advance``."""
        where = Advance(number_of(position, "position"), expected)
        await self._run(self._requests.advance(name, where))

    async def reset_cursor(self, name: str, position: int) -> None:
        """See ``Client.reset_cursor``."""
        where = Advance(number_of(position, "position"), reset=True)
        await self._run(self._requests.advance(name, where))

    async def delete_cursor(self, name: str) -> None:
        """See ``Client.delete_cursor``."""
        await self._run(self._requests.advance(name, Advance(None)))

    # Following

    def subscribe(
        self,
        *,
        after: int | Now = 0,
        stream: str | None = None,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        categories: Iterable[str] = (),
        query: Query | QueryItem | None = None,
        since: int | datetime | None = None,
        cursor: str | None = None,
        store_id: Id | None = None,
    ) -> AsyncSubscription:
        """See ``Client.subscribe``."""
        read = subscription_read(
            after=after,
            stream=stream,
            prefix=prefix,
            types=types,
            tags=tags,
            categories=categories,
            query=query,
            since=since,
            cursor=cursor,
        )
        delivery, given = Delivery(read), Beginning(read.after, self._requests.store(store_id))
        steps = begin(self._requests, read, given, after is NOW, cursor)
        beginning = self._begin(steps, delivery)
        subscription = AsyncSubscription(self._transport.follow(delivery), delivery, beginning)
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

    async def _play(self, steps: Steps[T], asked: Call[Any] | None = None) -> T:
        """Carry out steps, whose first may be ``asked`` already; what they return."""
        try:
            step = next(steps) if asked is None else asked
            while True:
                try:
                    if isinstance(step, Call):
                        if step is not asked:
                            self._transport.ask(step)
                        found = step.value(await self._transport.answer(step))
                    elif isinstance(step, Pause):
                        await asyncio.sleep(step.seconds)
                        found = None
                    else:
                        found = await step
                except RewindError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(found)
        except StopIteration as end:
            value: T = end.value
            return value

    def _begin(self, steps: Steps[Beginning], delivery: Delivery) -> asyncio.Task[Beginning] | None:
        """Ask where a subscription begins, before whatever is asked next; the task that waits for it.

        None if it is known.
        """
        try:
            asked = next(steps)
        except StopIteration as known:
            delivery.begin(*known.value)
            return None
        self._transport.ask(asked)
        task = asyncio.ensure_future(self._play(steps, asked))
        # If nobody ever iterates, nobody looks at its exception, which asyncio would log.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task

    def _read(self, read: Read) -> AsyncEvents:
        pages = EventPages(self._requests, read)
        return AsyncEvents(pages, self._pages(pages))

    async def _pages(self, pages: Pages) -> AsyncGenerator[Any, None]:
        """Items of page after page; the next one is under way while the caller has this one."""
        with PagesAhead(self._transport, pages) as ahead:
            while ahead.call is not None:
                for item in ahead.take(await self._transport.answer(ahead.call)):
                    yield item
