"""Rewind itself, a daemon of this tree, with its default settings, feeds bound; by its own clients.

One event an append carries an append id, which the client makes.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path

import zmq

import rewind
from benchmarks.events import BATCH_EVENTS, DECIDED, TYPE, Pair, labels
from benchmarks.processes import READY_S, Failed
from benchmarks.systems import Server
from rewind.testing import ProcessFailed
from rewind.testing.daemon import USUAL_FEEDS, Daemon

REPEATED = 10  # one append in ten is sent twice


class System:
    """A daemon on one of the stores."""

    threads = False

    def __init__(self, scheme: str, source: str | None = None) -> None:
        """``source``: the checkout whose daemon is started; None: this one."""
        self._scheme = scheme
        self._source = source
        self.lasting = scheme != "memory"
        self.note = "" if self.lasting else "memory: nothing is synced"
        self.fill_share = 1 if scheme in ("leveldb", "log") else 5

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        path = "" if self._scheme == "memory" else str(directory / "store")
        env = {}
        if self._source is not None:
            if not Path(self._source, "rewind", "__init__.py").is_file():
                raise Failed(f"no checkout of Rewind is at {self._source!r}: give --before")
            # With PYTHONSAFEPATH, the folder that the benchmark runs in is not looked at first.
            env = {"PYTHONPATH": self._source, "PYTHONSAFEPATH": "1"}
        daemon = Daemon(
            f"{self._scheme}:{path}",
            feeds=USUAL_FEEDS,
            env=env,
            log=directory / "log.txt",
            ready_s=READY_S,
        )
        try:
            daemon.start()
        except ProcessFailed as error:
            raise Failed(str(error)) from error
        return Server(daemon, daemon.endpoint, daemon.start_s)

    def versions(self) -> dict[str, str]:
        packages = ["pyzmq", "msgspec"] + ["plyvel"] * (self._scheme in ("leveldb", "log"))
        return {
            "rewind": rewind.__version__,
            "libzmq": zmq.zmq_version(),
            **{name: version(name) for name in packages},
        }

    def connect(self, endpoint: str) -> Blocking:
        return Blocking(rewind.connect(endpoint, timeout=30.0))

    async def connect_async(self, endpoint: str, in_flight: int) -> Asynchronous:
        return Asynchronous(rewind.connect_async(endpoint, timeout=30.0))


def _tagged(stream: str, data: bytes) -> tuple[str, rewind.NewEvent]:
    type, tags = labels(stream)
    return stream, rewind.NewEvent(type, data, tags=tags)


class Blocking:
    def __init__(self, client: rewind.Client) -> None:
        self._client = client
        self.close = client.close

    def append(self, stream: str, data: bytes) -> object:
        return self._client.append(stream, rewind.NewEvent(TYPE, data))

    def append_many(self, events: list[Pair]) -> object:
        return self._client.append_streams(
            [(stream, rewind.NewEvent(TYPE, data)) for stream, data in events]
        )

    def read_all(self) -> int:
        return sum(1 for event in self._client.read() if event.data)

    def read_stream(self, stream: str) -> int:
        return sum(1 for event in self._client.read_stream(stream) if event.data)

    def append_tagged(self, stream: str, data: bytes) -> object:
        type, tags = labels(stream)
        return self._client.append(stream, rewind.NewEvent(type, data, tags=tags))

    def append_many_tagged(self, events: list[Pair]) -> object:
        return self._client.append_streams([_tagged(*pair) for pair in events])

    def read_tag(self, tag: str) -> int:
        query = rewind.QueryItem(tags=[tag])
        return sum(1 for event in self._client.read(query=query) if event.data)

    def read_type_and_tag(self, type: str, tag: str) -> int:
        query = rewind.QueryItem(types=[type], tags=[tag])
        return sum(1 for event in self._client.read(query=query) if event.data)

    def project(self, place: str, events: int) -> int:
        count = 0
        for batch in self._client.subscribe(cursor=place).batches(BATCH_EVENTS):
            count += sum(1 for event in batch if event.data)
            self._client.advance(place, batch[-1].position)
            if count >= events:
                break
        return count

    def follow(self) -> Iterator[list[bytes]]:
        for events in self._client.subscribe(after=self._client.head()).batches():
            yield [event.data for event in events]


class Asynchronous:
    def __init__(self, client: rewind.AsyncClient) -> None:
        self._client = client
        self.close = client.close
        self._versions: dict[str, int] = {}
        self._appends = 0
        self._again: list[tuple[str, bytes, uuid.UUID]] = []

    async def append(self, stream: str, data: bytes) -> object:
        return await self._client.append(stream, rewind.NewEvent(TYPE, data))

    async def append_tagged(self, stream: str, data: bytes) -> object:
        type, tags = labels(stream)
        return await self._client.append(stream, rewind.NewEvent(type, data, tags=tags))

    async def append_and_advance(
        self, stream: str, data: bytes, place: str, position: int
    ) -> object:
        type, tags = labels(stream)
        event = rewind.NewEvent(type, data, tags=tags)
        return await self._client.append(stream, event, cursors={place: position})

    async def decide(self, tag: str, data: bytes) -> object:
        events = self._client.read(query=rewind.QueryItem(tags=[tag]))
        async for found in events:
            assert found.data
        event = rewind.NewEvent(TYPE, data, tags=(tag, DECIDED))
        return await self._client.append(tag, event, conditions=events.condition())

    async def append_many(self, events: list[Pair]) -> object:
        return await self._client.append_streams(
            [(stream, rewind.NewEvent(TYPE, data)) for stream, data in events]
        )

    async def append_expected(self, stream: str, data: bytes) -> None:
        """An append that expects the version its stream has; its first one asks for it."""
        appended = await self._client.append(
            stream, rewind.NewEvent(TYPE, data), self._versions.get(stream)
        )
        self._versions[stream] = appended.versions[stream]

    async def append_repeated(self, stream: str, data: bytes) -> None:
        """An append, one in ten of which is sent a second time, by the call that comes next."""
        self._appends += 1
        if self._again:
            stream, data, append_id = self._again.pop()
            repeated = await self._client.append(
                stream, rewind.NewEvent(TYPE, data), append_id=append_id
            )
            assert repeated.duplicate
        elif self._appends % REPEATED == 0:
            append_id = uuid.uuid4()
            await self._client.append(stream, rewind.NewEvent(TYPE, data), append_id=append_id)
            self._again.append((stream, data, append_id))
        else:
            await self._client.append(stream, rewind.NewEvent(TYPE, data))

    async def read_all(self) -> int:
        return len([event async for event in self._client.read() if event.data])

    async def read_stream(self, stream: str) -> int:
        return len([event async for event in self._client.read_stream(stream) if event.data])

    async def follow(self) -> AsyncIterator[list[bytes]]:
        subscription = self._client.subscribe(after=await self._client.head())
        async for events in subscription.batches():
            yield [event.data for event in events]

    async def follow_tag(self, tag: str) -> AsyncIterator[list[bytes]]:
        query = rewind.QueryItem(tags=[tag])
        subscription = self._client.subscribe(query=query, after=await self._client.head())
        async for events in subscription.batches():
            yield [event.data for event in events]
