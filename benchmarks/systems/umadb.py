"""UmaDB: events with a tag per stream, where Rewind has streams. Its server is in its package.

It syncs every commit before it acknowledges (two fdatasync calls) and commits together what waits.
Its client, in Rust, blocks and releases the interpreter lock: calls at once are threads sharing a
client per connection. No ids are sent: its retries are recognised only with conditions.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import umadb

from benchmarks.events import TYPE, Pair
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
        return Blocking(umadb.Client(endpoint))

    async def connect_async(self, endpoint: str, in_flight: int) -> AsyncClient:
        raise NotImplementedError("UmaDB's client blocks")


class Blocking:
    def __init__(self, client: umadb.Client) -> None:
        self._client = client
        self.close = client.close

    def append(self, stream: str, data: bytes) -> object:
        return self._client.append([umadb.Event(TYPE, data, [stream])])

    def append_many(self, events: list[Pair]) -> object:
        return self._client.append([umadb.Event(TYPE, data, [stream]) for stream, data in events])

    def read_all(self) -> int:
        return sum(1 for found in self._client.read() if found.event.data)

    def read_stream(self, stream: str) -> int:
        query = umadb.Query([umadb.QueryItem(tags=[stream])])
        return sum(1 for found in self._client.read(query) if found.event.data)

    def follow(self) -> Iterator[list[bytes]]:
        subscription = self._client.subscribe(after=self._client.head())
        while True:
            yield [found.event.data for found in subscription.next_batch()]
