"""Endpoints with a name: each of its addresses is tried, a name may move, and nobody waits for the resolver."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from client_contract import PATIENCE_S, event
from fakes import FakeDaemon, ok_head
from hosts import with_hosts

import rewind
from rewind.client import lookup
from rewind.client.lookup import Lookup, reachable

PROGRAM = """
import asyncio, sys
import rewind
from rewind import NewEvent
from rewind.testing import Daemon

name, address = sys.argv[1:]

def first(client):
    subscription = client.subscribe()
    event = next(subscription)
    follower = subscription._source._follower
    while follower.state.name != "LIVE":  # Its topic socket is reached under the address, too.
        client.append("s", NewEvent("t"))
        next(subscription)
    subscription.stop()
    return event.position

async def asynchronous(endpoint):
    async with rewind.connect_async(endpoint, timeout=20) as client:
        assert (await client.append("s", NewEvent("t"))).first
        assert (await anext(client.subscribe())).position == 1

daemon = Daemon("memory:")
daemon.endpoints = dict.fromkeys(("incoming", "topic"), f"tcp://{address}:*")
with daemon:
    port = daemon.endpoint.rpartition(":")[2]
    for _ in range(2):
        with rewind.connect(f"tcp://{name}:{port}", timeout=20) as client:
            assert client.append("s", NewEvent("t")).first
            assert first(client) == 1
        asyncio.run(asynchronous(f"tcp://{name}:{port}"))
"""


@pytest.mark.parametrize(
    ("hosts", "address"),
    [
        (["::1 there"], "[::1]"),
        (["127.0.0.1 there"], "127.0.0.1"),
        (["::1 there", "127.0.0.1 there"], "127.0.0.1"),
        (["::1 there", "127.0.0.1 there"], "[::1]"),
        (["127.0.0.2 there", "127.0.0.3 there", "127.0.0.4 there"], "127.0.0.4"),
    ],
)
def test_each_address_of_a_name_is_tried(tmp_path: Path, hosts: list[str], address: str) -> None:
    if not socket.has_ipv6 and ":" in address:
        pytest.skip("this machine has no IPv6")
    command = [*with_hosts(tmp_path, *hosts), sys.executable, "-c", PROGRAM, "there", address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_name_that_is_unknown_is_left_to_be_asked_for_again() -> None:
    assert reachable("tcp://nobody.invalid:9090") == "tcp://nobody.invalid:9090"
    with (
        rewind.connect("tcp://nobody.invalid:9090", timeout=0.2) as client,
        pytest.raises(rewind.Unavailable, match=r"nobody\.invalid"),
    ):
        client.head()


def test_addresses_are_not_looked_up_in_a_thread() -> None:
    threads = threading.active_count()
    for endpoint in ("tcp://127.0.0.1:1", "tcp://[::1]:1", "ipc:///tmp/x", "ipc://@x"):
        assert Lookup([endpoint], lambda: None).found == [endpoint]
    assert threading.active_count() == threads


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A resolver whose answer a test decides, or holds back."""
    resolver = Resolver()
    monkeypatch.setattr(lookup, "resolve", resolver)
    yield resolver
    resolver.answers.set()


class Resolver:
    def __init__(self) -> None:
        self.answers = threading.Event()
        self.leads_to = "tcp://127.0.0.1:1"

    def __call__(self, endpoint: Any) -> list[Any]:
        self.answers.wait()
        return [lookup.parse(self.leads_to)]


NAME = "tcp://a-daemon-that-moves:9090"


def test_a_resolver_that_is_silent_costs_a_call_its_time_and_no_more(moving: Resolver) -> None:
    with rewind.connect(NAME, timeout=0.2) as client:
        with pytest.raises(rewind.Unavailable, match=r"within 0\.2 s") as failed:
            client.append("s", event())
        assert failed.value.append_id
        subscription = client.subscribe()
        assert next(subscription.batches(max_wait=0.05)) == []
        subscription.stop()

    async def main() -> None:
        async with rewind.connect_async(NAME, timeout=0.2) as client:
            with pytest.raises(rewind.Unavailable, match=r"within 0\.2 s"):
                await client.append("s", event())
            subscription = client.subscribe()
            assert await anext(subscription.batches(max_wait=0.05)) == []
            subscription.stop()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_what_waited_for_the_resolver_goes_on_with_its_answer(moving: Resolver) -> None:
    async def both(client: rewind.AsyncClient) -> list[Any]:
        asked = [asyncio.create_task(client.head()) for _ in range(2)]
        await asyncio.sleep(0)
        moving.answers.set()
        return await asyncio.gather(*asked)

    async def main() -> None:
        async with rewind.connect_async(NAME) as client:
            assert await both(client) == [7, 7]

    with FakeDaemon(lambda frames, fake: ok_head(frames, 7)) as fake:
        moving.leads_to = fake.endpoint
        asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
        with rewind.connect(NAME) as client:
            assert client.head() == 7


def test_a_connection_that_is_replaced_looks_the_name_up_again(moving: Resolver) -> None:
    moving.answers.set()
    with FakeDaemon(lambda frames, fake: None) as silent:
        moving.leads_to = silent.endpoint
        with rewind.connect(NAME, timeout=PATIENCE_S) as client:
            heads: list[int] = []
            asking = threading.Thread(target=lambda: heads.append(client.head()))
            asking.start()
            while not silent.requests:
                time.sleep(0.001)
            with FakeDaemon(lambda frames, fake: ok_head(frames, 7)) as fake:
                moving.leads_to = fake.endpoint
                asking.join(PATIENCE_S)
            assert heads == [7]
