"""Redis Streams, the append-only file synced before each answer (``appendfsync always``).

``XADD events`` is the whole store's log; a store that is read by stream too has a Redis stream for
each, written in the same transaction. Of its Python clients, with hiredis, redis-py is faster with
one call at a time on a connection and coredis with many (redis-py has only pipelines for that).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import coredis
import redis
import redis.asyncio

from benchmarks.events import TYPE, Pair
from benchmarks.processes import Failed, Process, free_port
from benchmarks.systems import AsyncClient, Server

LOG = "events"
PAGE_ENTRIES = 1_000  # an XRANGE of 10,000 is no faster


class System:
    """A server on a directory of its own."""

    threads = False
    note = "appendfsync always"
    fill_share = 5
    lasting = True

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        port = free_port()
        command = [_program(), "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        command += ["--appendonly", "yes", "--appendfsync", "no" if filling else "always"]
        command += ["--no-appendfsync-on-rewrite", "no", "--save", ""]
        process = Process(command, directory / "log.txt")
        process.wait_for(r"Ready to accept connections")
        return Server(process, f"redis://127.0.0.1:{port}")

    def versions(self) -> dict[str, str]:
        output = subprocess.run(
            [_program(), "--version"], capture_output=True, text=True, check=True
        )
        server = re.findall(r"v=(\S+)", output.stdout)[0]
        packages = ("redis", "coredis", "hiredis")
        return {"redis-server": server, **{f"python-{name}": version(name) for name in packages}}

    def connect(self, endpoint: str) -> Blocking:
        return Blocking(redis.Redis.from_url(endpoint))

    async def connect_async(self, endpoint: str, in_flight: int) -> AsyncClient:
        if in_flight == 1:
            client = redis.asyncio.Redis.from_url(endpoint, single_connection_client=True)
            await client.initialize()
            return Asynchronous(client)
        shared = coredis.Redis.from_url(endpoint, max_connections=1)
        await shared.__aenter__()
        return Shared(shared)


def _program() -> str:
    found = shutil.which("redis-server")
    if found is None:
        raise Failed("redis-server is not on the PATH (Debian: apt install redis-server)")
    return found


class Blocking:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.close = client.close

    def append(self, stream: str, data: bytes) -> object:
        return self._client.execute_command("XADD", LOG, "*", "type", TYPE, "data", data)

    def append_many(self, events: list[Pair]) -> object:
        """A transaction of XADDs, sent as one pipeline."""
        pipeline = self._client.pipeline(transaction=True)
        for _, data in events:
            pipeline.execute_command("XADD", LOG, "*", "type", TYPE, "data", data)
        return pipeline.execute()

    def append_both(self, events: list[Pair]) -> object:
        """The same, and each event in its own stream."""
        pipeline = self._client.pipeline(transaction=True)
        for stream, data in events:
            pipeline.execute_command("XADD", LOG, "*", "type", TYPE, "data", data)
            pipeline.execute_command("XADD", stream, "*", "type", TYPE, "data", data)
        return pipeline.execute()

    def read_all(self) -> int:
        count, after = 0, b"-"
        while page := self._client.xrange(LOG, after, count=PAGE_ENTRIES):
            count += sum(1 for _, fields in page if fields[b"data"])
            after = b"(" + page[-1][0]
        return count

    def read_stream(self, stream: str) -> int:
        return sum(1 for _, fields in self._client.xrange(stream) if fields[b"data"])

    def follow(self) -> Iterator[list[bytes]]:
        raise NotImplementedError("followed by the asyncio client")


class Asynchronous:
    """redis-py: one call at a time."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.close = client.aclose

    async def append(self, stream: str, data: bytes) -> object:
        return await self._client.execute_command("XADD", LOG, "*", "type", TYPE, "data", data)

    async def append_many(self, events: list[Pair]) -> object:
        raise NotImplementedError("large appends are made by the blocking client")

    async def read_all(self) -> int:
        raise NotImplementedError("the whole store is read by the blocking client")

    async def read_stream(self, stream: str) -> int:
        return sum(1 for _, fields in await self._client.xrange(stream) if fields[b"data"])

    async def follow(self) -> AsyncIterator[list[bytes]]:
        last: Any = "$"
        while True:
            found = await self._client.execute_command(
                "XREAD", "COUNT", PAGE_ENTRIES, "BLOCK", 0, "STREAMS", LOG, last
            )
            entries = next(iter(found.values()))[0] if isinstance(found, dict) else found[0][1]
            last = entries[-1][0]
            yield [fields[b"data"] for _, fields in entries]


class Shared:
    """coredis: many calls at once on one connection."""

    def __init__(self, client: coredis.Redis[bytes]) -> None:
        self._client = client

    async def append(self, stream: str, data: bytes) -> object:
        return await self._client.xadd(LOG, {"type": TYPE, "data": data})

    async def append_many(self, events: list[Pair]) -> object:
        raise NotImplementedError("large appends are made by the blocking client")

    async def read_all(self) -> int:
        raise NotImplementedError("the whole store is read by the blocking client")

    async def read_stream(self, stream: str) -> int:
        return len(await self._client.xrange(stream))

    def follow(self) -> AsyncIterator[list[bytes]]:
        raise NotImplementedError("followed by redis-py")

    async def close(self) -> None:
        await self._client.__aexit__(None, None, None)
