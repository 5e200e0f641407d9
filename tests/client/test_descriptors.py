"""A process that may open nothing more: its clients say so in errors of Rewind's, and leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from client_contract import PATIENCE_S

from rewind.testing import Daemon

ROOM_MAX = 16  # What a client opens fits into so many descriptors; each number below is tried.

COMMON = """
import asyncio, logging, os, resource, sys
import rewind
from rewind import NewEvent

endpoint, hard = sys.argv[1], resource.getrlimit(resource.RLIMIT_NOFILE)[1]

logging.getLogger("rewind.client").setLevel(logging.ERROR)  # A topic socket is done without, and said.
held = []

def leave(room):
    "Let so many descriptors more be opened; None: as many as wanted."
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    while held:
        os.close(held.pop())
    if room is None:
        return
    last = max(map(int, os.listdir("/proc/self/fd")))
    while not held or held[-1] < last:  # No number is left free between others.
        held.append(os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (held[-1] + 1 + room, hard))

def check(error):
    "Once it has a socket, ZeroMQ says nothing of a connection that finds no descriptor."
    assert "ulimit" in str(error) or "no answer" in str(error), error
"""

FIRST = (
    COMMON
    + """
import rewind.client.zmq_blocking
with rewind.connect(endpoint, timeout=20) as client:
    leave(int(sys.argv[2]))
    try:
        client.append("s", NewEvent("t"), timeout=0.2)
    except rewind.Unavailable as error:
        check(error)
        assert error.append_id
    leave(None)
    assert client.append("s", NewEvent("t")).first
"""
)


@pytest.mark.parametrize("room", range(1, ROOM_MAX, 2))
def test_the_first_call_is_refused_and_the_process_goes_on(daemon: Daemon, room: int) -> None:
    """ZeroMQ would end the process when its threads find no descriptors at their start."""
    run(FIRST, daemon.endpoint, str(room))


BLOCKING = (
    COMMON
    + """
with rewind.connect(endpoint, timeout=20) as client:
    client.append("s", NewEvent("t"))
    failed = 0
    for room in range(16):
        with rewind.connect(endpoint, timeout=0.2) as other:
            first = lambda: next(other.subscribe().batches(max_wait=0.2))
            leave(room)
            for use in (other.head, first, lambda: next(other.read())):
                try:
                    use()
                except rewind.Unavailable as error:
                    check(error)
                    failed += 1
            leave(None)
        with rewind.connect(endpoint, timeout=20) as other:
            assert other.head() == 1 and next(other.subscribe()).position == 1
    assert failed and client.head() == 1
"""
)


def test_blocking_clients_say_that_nothing_can_be_opened(daemon: Daemon) -> None:
    run(BLOCKING, daemon.endpoint)


ASYNCIO = (
    COMMON
    + """
async def main():
    async with rewind.connect_async(endpoint, timeout=20) as client:
        await client.append("s", NewEvent("t"))
        failed = 0
        for room in range(16):
            async with rewind.connect_async(endpoint, timeout=0.2) as other:
                first = lambda: anext(other.subscribe().batches(max_wait=0.2))
                leave(room)
                for use in (other.head, first, lambda: anext(other.read())):
                    try:
                        await use()
                    except rewind.Unavailable as error:
                        check(error)
                        failed += 1
                leave(None)
            async with rewind.connect_async(endpoint, timeout=20) as other:
                assert await other.head() == 1
                assert (await anext(other.subscribe())).position == 1
        assert failed and await client.head() == 1

asyncio.run(main())
"""
)


def test_asyncio_clients_say_that_nothing_can_be_opened(daemon: Daemon) -> None:
    run(ASYNCIO, daemon.endpoint)


REOPENING = (
    COMMON
    + """
import threading, time
from rewind.testing import Daemon

with Daemon(f"log:{sys.argv[2]}/store") as daemon, rewind.connect(daemon.endpoint) as client:
    client.append("s", NewEvent("t"))
    subscription = client.subscribe()
    positions = []
    consumer = threading.Thread(target=lambda: positions.extend(e.position for e in subscription))
    consumer.start()
    assert subscription.wait_for(1, 20)
    daemon.kill()
    sockets, times = subscription._source._sockets, set()
    leave(0)
    while len(times) < 4:  # It has tried again, and in vain.
        times.add(sockets.follower.open_at_s)
        time.sleep(0.001)
    leave(None)
    daemon.start()
    last = client.append("s", NewEvent("t")).last
    assert subscription.wait_for(last, 20)
    subscription.stop()
    consumer.join()
    assert positions == [1, 2]
"""
)


def test_a_subscription_outlives_a_time_without_descriptors(tmp_path: Path) -> None:
    run(REOPENING, "none", str(tmp_path))


def run(code: str, *arguments: str) -> None:
    strict = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(strict, capture_output=True, text=True, timeout=4 * PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
