"""The systems that are measured: a module each, imported when it is asked for.

A module has a class ``System``: how its server is started, and how a load generator connects to it.
Everybody syncs to disk before it acknowledges, except those labelled "memory". Copy the smallest
sibling to add one.
"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

from benchmarks.events import Pair
from benchmarks.processes import Failed, Process
from rewind.testing import Daemon

MODULES = {
    "rewind-leveldb": ("rewind", "leveldb"),
    "rewind-log": ("rewind", "log"),
    "rewind-sqlite": ("rewind", "sqlite"),
    "rewind-memory": ("rewind", "memory"),
    "before-leveldb": ("rewind", "leveldb"),
    "before-log": ("rewind", "log"),
    "umadb": ("umadb",),
    "redis": ("redis",),
    "nats": ("nats",),
    "echo": ("echo",),
    "disk": ("disk", "growing"),
    "disk-prealloc": ("disk", "preallocated"),
}


class Server:
    """A running server; without a ``process`` where there is none to run.

    ``endpoint``: where its clients connect. ``open_s``: how long it took to be ready.
    """

    def __init__(
        self, process: Process | Daemon | None, endpoint: str, open_s: float = 0.0
    ) -> None:
        self.process = process
        self.endpoint = endpoint
        self.open_s = open_s

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.stop()


class Client(Protocol):
    """A connection whose calls block. One thread uses it, unless the system's own is for many."""

    def append(self, stream: str, data: bytes) -> object:
        """Append one event; durable on return."""

    def append_many(self, events: list[Pair]) -> object:
        """Append events in one go, as nearly as the system can."""

    def read_all(self) -> int:
        """Read the whole store into event objects, and look at each one's data; how many."""

    def read_stream(self, stream: str) -> int:
        """The same for one stream."""

    def follow(self) -> Iterator[list[bytes]]:
        """The data of events appended from now on, as they arrive. Endless."""

    def close(self) -> None: ...


class AsyncClient(Protocol):
    """The same for asyncio, many calls at once; see ``Client``."""

    async def append(self, stream: str, data: bytes) -> object: ...

    async def append_many(self, events: list[Pair]) -> object: ...

    async def read_all(self) -> int: ...

    async def read_stream(self, stream: str) -> int: ...

    def follow(self) -> AsyncIterator[list[bytes]]: ...

    async def close(self) -> None: ...


class System(Protocol):
    """What can be started, loaded and stopped.

    ``threads``: its client blocks, so many calls at once are made by threads. ``note``: what is
    special about it. ``fill_share``: a store of it is filled with one event in so many, because
    filling takes it too long. ``lasting``: what it holds survives its server.
    """

    threads: bool
    note: str
    fill_share: int
    lasting: bool

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        """Start a server on what the directory holds; with ``filling`` it need not be durable."""

    def versions(self) -> dict[str, str]:
        """The releases of its software."""

    def connect(self, endpoint: str) -> Client: ...

    async def connect_async(self, endpoint: str, in_flight: int) -> AsyncClient:
        """A connection that will have at most so many calls at once."""


class TaggedClient(Client, Protocol):
    """The same for events with tags (``events.labels``), where a system has them. Asyncio: likewise."""

    def append_tagged(self, stream: str, data: bytes) -> object: ...

    def append_many_tagged(self, events: list[Pair]) -> object: ...

    def read_tag(self, tag: str) -> int:
        """Read the events with this tag, and look at each one's data; how many."""

    def read_type_and_tag(self, type: str, tag: str) -> int: ...

    def decide(self, tag: str, data: bytes) -> object:
        """Read the events with this tag; append one more, unless another came meanwhile."""

    def follow_tag(self, tag: str) -> Iterator[list[bytes]]: ...

    def project(self, place: str, events: int) -> int:
        """Take so many events in batches, and keep the place in the store after each; how many."""

    def append_and_advance(self, stream: str, data: bytes, place: str, position: int) -> object:
        """Append one event, and keep the place with it, both or neither."""


def system(name: str, before: str = "") -> System:
    """The system of this name. Raises ``Failed`` when its packages are not there.

    ``before``: the checkout that the daemons of ``before-...`` are started from. Clients are of this
    tree and need none.
    """
    module, *arguments = MODULES[name]
    if name.startswith("before-"):
        arguments.append(before)
    try:
        found: System = importlib.import_module(f"benchmarks.systems.{module}").System(*arguments)
    except ImportError as error:
        raise Failed(f"not installed: {error}") from error
    return found
