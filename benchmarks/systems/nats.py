"""NATS JetStream: one stream in files, synced before each acknowledgement; a subject per stream.

nats-py is for asyncio alone: where everybody else blocks, it runs its event loop for each call. It
has no atomic batch: an append of many events is as many publishes with their acknowledgements
awaited together. No message ids are sent.
"""

from __future__ import annotations

import asyncio
import subprocess
import sysconfig
from collections.abc import AsyncIterator, Coroutine, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as Connection
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from benchmarks.events import Pair
from benchmarks.processes import Process, free_port
from benchmarks.systems import Server

NAME = "events"
PAGE_MESSAGES = 1_000
WAIT_S = 30.0


class System:
    """A server on a directory of its own."""

    threads = False
    note = "sync_interval: always"
    fill_share = 5
    lasting = True

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        port = free_port()
        sync = "" if filling else "sync_interval: always"
        settings = directory / "nats.conf"
        settings.write_text(
            f'listen: "127.0.0.1:{port}"\njetstream {{\n store_dir: "{directory}"\n {sync}\n}}\n',
            encoding="utf-8",
        )
        process = Process([_program(), "-c", str(settings)], directory / "log.txt")
        process.wait_for(r"Server is ready")
        endpoint = f"nats://127.0.0.1:{port}"
        asyncio.run(_make_stream(endpoint))
        return Server(process, endpoint)

    def versions(self) -> dict[str, str]:
        output = subprocess.run(
            [_program(), "--version"], capture_output=True, text=True, check=True
        )
        return {"nats-server": output.stdout.split()[-1], "nats-py": version("nats-py")}

    def connect(self, endpoint: str) -> Blocking:
        return Blocking(self, endpoint)

    async def connect_async(self, endpoint: str, in_flight: int) -> Asynchronous:
        return Asynchronous(await nats.connect(endpoint))


def _program() -> str:
    return str(Path(sysconfig.get_path("scripts")) / "nats-server")


async def _make_stream(endpoint: str) -> None:
    connection = await nats.connect(endpoint)
    await connection.jetstream().add_stream(name=NAME, subjects=["ev.>"])
    await connection.close()


class Asynchronous:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stream = connection.jetstream(timeout=WAIT_S, publish_async_max_pending=100_000)
        self.close = connection.close

    async def append(self, stream: str, data: bytes) -> object:
        return await self._stream.publish(f"ev.{stream}", data)

    async def append_many(self, events: list[Pair]) -> object:
        publish = self._stream.publish_async
        return await asyncio.gather(
            *[await publish(f"ev.{stream}", data) for stream, data in events]
        )

    async def read_all(self) -> int:
        left = (await self._stream.stream_info(NAME)).state.messages
        return await self._read("ev.>", left)

    async def read_stream(self, stream: str) -> int:
        return await self._read(f"ev.{stream}", None)

    async def _read(self, subject: str, left: int | None) -> int:
        """Fetch what a new consumer of this subject finds; at most ``left``, if that is known."""
        consumer = await self._stream.pull_subscribe(
            subject,
            stream=NAME,
            config=ConsumerConfig(
                ack_policy=AckPolicy.NONE, deliver_policy=DeliverPolicy.ALL, mem_storage=True
            ),
        )
        if left is None:
            left = (await consumer.consumer_info()).num_pending or 0
        count = left
        while left:
            left -= len(await consumer.fetch(min(left, PAGE_MESSAGES), timeout=WAIT_S))
        await consumer.unsubscribe()
        return count

    async def follow(self) -> AsyncIterator[list[bytes]]:
        subscription = await self._stream.subscribe(
            "ev.>",
            stream=NAME,
            ordered_consumer=True,
            config=ConsumerConfig(deliver_policy=DeliverPolicy.NEW),
        )
        async for message in subscription.messages:
            yield [message.data]


class Blocking:
    """The asynchronous client, its event loop run for each call."""

    def __init__(self, owner: System, endpoint: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._client: Asynchronous = self._run(owner.connect_async(endpoint, 1))

    def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run_until_complete(call)

    def append(self, stream: str, data: bytes) -> object:
        return self._run(self._client.append(stream, data))

    def append_many(self, events: list[Pair]) -> object:
        return self._run(self._client.append_many(events))

    def read_all(self) -> int:
        count: int = self._run(self._client.read_all())
        return count

    def read_stream(self, stream: str) -> int:
        count: int = self._run(self._client.read_stream(stream))
        return count

    def follow(self) -> Iterator[list[bytes]]:
        raise NotImplementedError("followed by the asyncio client")

    def close(self) -> None:
        self._run(self._client.close())
        self._loop.close()
