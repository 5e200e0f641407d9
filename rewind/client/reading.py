"""What a read gives to its caller: events to iterate over, and the condition they make.

The pages behind it are pages.py's. For loops iterate over the generator within, so that an event costs
no call of this class. Next: blocking.py, asynchronous.py.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import Self

from rewind.client.pages import EventPages
from rewind.events import Event
from rewind.query import AppendCondition


class Events:
    """The events of a read, each once; made by ``Client.read``. An iterator, and a context manager.

    Iterate over it in one thread. What is still being fetched is dropped by ``close``, and when nobody
    holds it any longer.
    """

    def __init__(self, pages: EventPages, items: Generator[Event, None, None]) -> None:
        self._pages = pages
        self._items = items

    @property
    def head(self) -> int | None:
        """The store's head when the read began, which is where it ends; None until the iteration has
        begun."""
        return self._pages.head

    def condition(self) -> AppendCondition:
        """Fail if an event has come that this read would have given, and has not.

        It is the query that was read, after the head when it was read to its end, else after the last
        event handed out. Raises ``BadRequest`` before the iteration has begun, and for a read that was
        backwards or had ``since``, ``prefix`` or ``until``.
        """
        return self._pages.condition()

    def close(self) -> None:
        """End the iteration."""
        self._items.close()

    def __iter__(self) -> Iterator[Event]:
        return self._items

    def __next__(self) -> Event:
        return next(self._items)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()


class AsyncEvents:
    """The events of a read, each once; ``Events`` for asyncio, made by ``AsyncClient.read``."""

    def __init__(self, pages: EventPages, items: AsyncGenerator[Event, None]) -> None:
        self._pages = pages
        self._items = items

    @property
    def head(self) -> int | None:
        """See ``Events.head``."""
        return self._pages.head

    def condition(self) -> AppendCondition:
        """See ``Events.condition``."""
        return self._pages.condition()

    async def close(self) -> None:
        """See ``Events.close``."""
        await self._items.aclose()

    aclose = close  # This is what contextlib.aclosing calls.

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._items

    async def __anext__(self) -> Event:
        return await anext(self._items)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()
