"""A subscription of the asyncio client; what subscription.py is to the blocking one.

``subscribe`` is no coroutine, so it only asks where to begin. The answer is waited for by the first who
wants an event.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import weakref
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from rewind.arguments import at_least_one, number_of
from rewind.checks import check_seconds
from rewind.client.beginning import Beginning
from rewind.client.follow import Delivery
from rewind.client.subscription import BATCH_EVENTS
from rewind.errors import Closed
from rewind.events import Event

if TYPE_CHECKING:
    from rewind.client.async_embedded import AsyncEmbeddedSource
    from rewind.client.zmq_async import AsyncSocketSource


class AsyncSubscription:
    """Events without end; ``Subscription`` for asyncio. One task of one loop iterates over it."""

    def __init__(
        self,
        source: AsyncSocketSource | AsyncEmbeddedSource,
        delivery: Delivery,
        beginning: asyncio.Task[Beginning] | None = None,
    ) -> None:
        """``beginning``: finds out where it begins, which ``delivery`` is told then."""
        self._source = source
        self._delivery = delivery
        self._beginning = beginning
        self._stopped = False
        self._fetching = False
        self._loop: asyncio.AbstractEventLoop | None = None
        # It is set when the consumer has got further, and at the end.
        self._moved = asyncio.Event()
        if beginning is not None:
            self._loop = beginning.get_loop()
        weakref.finalize(self, source.abandon)

    @property
    def position(self) -> int:
        """See ``Subscription.position``. With ``NOW`` or a cursor it is 0 until the first event is
        waited for."""
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
        if self._beginning is not None:
            self._beginning.cancel()
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
                await self._fetch(seconds)
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

    async def _fetch(self, seconds: float | None) -> None:
        """Find out where this begins, before anything else; then let the delivery have events."""
        if self._beginning is None:
            await self._source.fetch(seconds)
            return
        await asyncio.wait({self._beginning}, timeout=seconds)
        if self._beginning.done() and not self._stopped:
            self._delivery.begin(*self._beginning.result())
            self._beginning = None

    def _end(self) -> None:
        self._stopped = True
        self._source.close()
        self._moved.set()
