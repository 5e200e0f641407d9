"""A store in this process for the asyncio client: asked in threads, because its disk may be slow.

The same store behind the blocking client is embedded.py.
"""

from __future__ import annotations

import asyncio
from typing import Any

from rewind.client.embedded import Embedded
from rewind.client.follow import Delivery
from rewind.client.requests import Call
from rewind.wire.replies import Reply


class AsyncEmbedded:
    """A client's use of an embedded store."""

    def __init__(self, embedded: Embedded) -> None:
        self._embedded = embedded

    def ask(self, call: Call[Any]) -> None:
        if call.first:  # A thread might be overtaken by what is asked after it.
            call.waiter = asyncio.get_running_loop().create_future()
            call.waiter.set_result(self._embedded.answer(call))
        else:
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
