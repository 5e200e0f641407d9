"""What nobody closes or stops: it goes by itself, without a word, and takes everything with it."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from typing import Any

from client_contract import PATIENCE_S, event

import rewind
from rewind.testing import Daemon

ABANDONED = 2_000  # each would be asked at every commit


def run_strictly(code: str, *arguments: str) -> None:
    """Run a program that may not leave anything to the collector to complain about."""
    strict = [sys.executable, "-X", "dev", "-W", "error", "-c", code, *arguments]
    done = subprocess.run(strict, capture_output=True, text=True, timeout=3 * PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")


BLOCKING = """
import gc, os, sys, time
import rewind

def use():
    client = rewind.connect(sys.argv[1])
    client.append("s", rewind.NewEvent("t"))
    live, filtered, events = client.subscribe(), client.subscribe(types=["t"]), client.read()
    for each in (live, filtered, events):
        assert next(each).position == 1
    return client, live, filtered, events

def descriptors():
    return len(os.listdir("/proc/self/fd"))

kept = [use() for _ in range(2)]  # ZeroMQ's own descriptors are opened once.
before = descriptors()
for _ in range(5):
    use()
kept.pop()
gc.collect()
while descriptors() >= before:  # A thread of ZeroMQ's closes them, in its own time.
    time.sleep(0.001)
del kept
kept_by_a_module = use()
child = os.fork()
if child == 0:
    kept_by_a_module[0].head()
    sys.exit()  # The parent's sockets are let go of here.
assert os.waitpid(child, 0)[1] == 0
assert kept_by_a_module[0].head() == 8
"""


def test_what_a_blocking_program_never_closes_goes_without_a_word(daemon: Daemon) -> None:
    run_strictly(BLOCKING, daemon.endpoint)


ASYNCIO = """
import asyncio, logging, os, sys, warnings
import rewind

logging.getLogger("asyncio").setLevel(logging.ERROR)  # It would say what takes 100 ms.

async def use():
    client = rewind.connect_async(sys.argv[1])
    await client.append("s", rewind.NewEvent("t"))
    subscription = client.subscribe()
    assert (await anext(subscription)).position == 1
    return client, subscription

asyncio.run(use())
loop = asyncio.new_event_loop()
kept_by_a_module = loop.run_until_complete(use())
child = os.fork()
if child == 0:
    warnings.simplefilter("ignore")  # The loop cannot be closed here, and complains.
    sys.exit()  # The loop's epoll is the parent's as well: nothing may be taken out of it.
assert os.waitpid(child, 0)[1] == 0
client, subscription = kept_by_a_module
assert loop.run_until_complete(client.head()) == 2
assert loop.run_until_complete(anext(subscription)).position == 2
loop.close()
"""


def test_what_an_asyncio_program_never_closes_goes_without_a_word(daemon: Daemon) -> None:
    run_strictly(ASYNCIO, daemon.endpoint)


def test_an_asyncio_client_let_go_closes_its_socket_in_its_loop(daemon: Daemon) -> None:
    async def use() -> Any:
        client = rewind.connect_async(daemon.endpoint)
        await client.head()
        return client._transport._socket  # type: ignore[union-attr]

    async def main() -> None:
        socket = await use()
        gc.collect()
        while not socket.closed:
            await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_embedded_subscriptions_let_go_are_not_told_of_commits() -> None:
    with rewind.open("memory:") as client:
        for _ in range(ABANDONED):
            next(client.subscribe().batches(max_wait=0))
        gc.collect()
        listeners = client._transport._opened._listeners  # type: ignore[attr-defined]
        assert len(listeners) == 0
        kept = client.subscribe()
        client.append("s", event())
        assert next(kept).position == 1 and len(listeners) == 1


def test_asyncio_embedded_subscriptions_let_go_are_not_told_of_commits() -> None:
    async def main() -> None:
        async with rewind.open_async("memory:") as client:
            for index in range(ABANDONED):
                subscription = client.subscribe()
                if index % 100 == 0:
                    await anext(subscription.batches(max_wait=0))
                del subscription
            gc.collect()
            while client._transport._embedded._opened._listeners:  # type: ignore[union-attr]
                await asyncio.sleep(0)  # The loop closes the last generator.

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
