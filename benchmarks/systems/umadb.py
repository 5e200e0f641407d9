"""UmaDB: events with a tag per stream, where Rewind has streams. Its server is in its package.

It syncs every commit before it acknowledges (two fdatasync calls) and commits together what waits.
Its client, in Rust, blocks and releases the interpreter lock: calls at once are threads sharing a
client per connection. No ids are sent: its retries are recognised only with conditions. Where events
have tags they have these two, and none for a stream. Its *tracking* keeps a consumer's place.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import umadb

from benchmarks.events import BATCH_EVENTS, DECIDED, TYPE, Pair, labels
from benchmarks.processes import Process, free_port
from benchmarks.systems import AsyncClient, Server


class System:
    """A server on a database of its own."""

    threads = True
    note = "a tag per stream"
    fill_share = 1
    lasting = True

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        port = free_port()
        program = Path(sysconfig.get_path("scripts")) / "umadb"
        data = directory / "data"
        data.mkdir(exist_ok=True)
        command = [str(program), "--listen", f"127.0.0.1:{port}", "--db-path", str(data)]
        process = Process(command, directory / "log.txt")
        process.wait_for_port(port)
        return Server(process, f"http://127.0.0.1:{port}")

    def versions(self) -> dict[str, str]:
        return {"umadb": version("umadb")}

    def connect(self, endpoint: str) -> Blocking:
        return Blocking(endpoint)

    async def connect_async(self, endpoint: str, in_flight: int) -> AsyncClient:
        raise NotImplementedError("UmaDB's client blocks")


class Blocking:
    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._client = umadb.Client(endpoint)
        self.close = self._client.close

    def append(self, stream: str, data: bytes) -> object:
        return self._client.append([umadb.Event(TYPE, data, [stream])])

    def append_many(self, events: list[Pair]) -> object:
        return self._client.append([umadb.Event(TYPE, data, [stream]) for stream, data in events])

    def read_all(self) -> int:
        return sum(1 for found in self._client.read() if found.event.data)

    def read_stream(self, stream: str) -> int:
        query = umadb.Query([umadb.QueryItem(tags=[stream])])
        return sum(1 for found in self._client.read(query) if found.event.data)

    def append_tagged(self, stream: str, data: bytes) -> object:
        type, tags = labels(stream)
        return self._client.append([umadb.Event(type, data, tags)])

    def append_many_tagged(self, events: list[Pair]) -> object:
        made = []
        for stream, data in events:
            type, tags = labels(stream)
            made.append(umadb.Event(type, data, tags))
        return self._client.append(made)

    read_tag = read_stream

    def read_type_and_tag(self, type: str, tag: str) -> int:
        query = umadb.Query([umadb.QueryItem([type], [tag])])
        return sum(1 for found in self._client.read(query) if found.event.data)

    def decide(self, tag: str, data: bytes) -> object:
        query = umadb.Query([umadb.QueryItem(tags=[tag])])
        events, head = self._client.read(query).collect_with_head()
        assert all(found.event.data for found in events)
        event = umadb.Event(TYPE, data, [tag, DECIDED])
        return self._client.append([event], umadb.AppendCondition(query, head))

    def project(self, place: str, events: int) -> int:
        count = 0
        client = umadb.Client(self._endpoint, batch_size=BATCH_EVENTS)
        subscription = client.subscribe(after=client.get_tracking_info(place))
        while count < events:
            batch = subscription.next_batch()
            count += sum(1 for found in batch if found.event.data)
            client.append([], None, umadb.TrackingInfo(place, batch[-1].position))
        client.close()
        return count

    def append_and_advance(self, stream: str, data: bytes, place: str, position: int) -> object:
        type, tags = labels(stream)
        tracking = umadb.TrackingInfo(place, position)
        return self._client.append([umadb.Event(type, data, tags)], None, tracking)

    def follow_tag(self, tag: str) -> Iterator[list[bytes]]:
        query = umadb.Query([umadb.QueryItem(tags=[tag])])
        subscription = self._client.subscribe(query, after=self._client.head())
        while True:
            yield [found.event.data for found in subscription.next_batch()]

    def follow(self) -> Iterator[list[bytes]]:
        subscription = self._client.subscribe(after=self._client.head())
        while True:
            yield [found.event.data for found in subscription.next_batch()]
