"""The load generators of delivery: one appends at a steady pace, one has the subscribers.

An event carries the moment of its sending, so its age is known wherever it is delivered. Next:
workloads.py.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import threading
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.events import SHARED, append_streams, payloads, shared_tag
from benchmarks.loads import Figures, Start, now
from benchmarks.systems import system

BURST_S = 0.005  # a paced load comes in bursts; sleeping less than this is not exact
PACE_THREADS = 32  # so many append a paced load where the client blocks
PACE_CALLS = 100  # a paced load rarely has more calls at once
SETTLE_S = 1.5  # subscribing takes less, and so does the delivery of the last event

_STAMP = struct.Struct("<Q")


def _stamped(data: bytes) -> bytes:
    """Data that begins with the moment of sending, on a clock that all processes share."""
    return _STAMP.pack(time.monotonic_ns()) + data[_STAMP.size :]


def _ages(events: Sequence[bytes]) -> list[float]:
    """How many seconds ago these were sent."""
    moment = time.monotonic_ns()
    return [(moment - _STAMP.unpack_from(data)[0]) / 1e9 for data in events]


def pace(
    start: Start, name: str, endpoint: str, rate: int, seconds: float, tagged: bool
) -> Figures:
    """Append so many events a second in small bursts, without waiting for the answers."""
    burst = max(1, round(rate * BURST_S))
    bursts = paced_events(rate, seconds) // burst
    streams, data = itertools.cycle(append_streams()), itertools.cycle(payloads())
    if system(name).threads:
        client: Any = system(name).connect(endpoint)
        append = client.append_tagged if tagged else client.append
        with ThreadPoolExecutor(PACE_THREADS) as threads:
            start()
            due = now()
            sent = []
            for _ in range(bursts):
                time.sleep(max(0.0, due - now()))
                for _ in range(burst):
                    sent.append(threads.submit(append, next(streams), _stamped(next(data))))
                due += burst / rate
            for one in sent:
                one.result()
        client.close()
    else:
        asyncio.run(
            _pace(start, name, endpoint, burst, bursts, burst / rate, tagged, streams, data)
        )
    return {"events": bursts * burst}


def paced_events(rate: int, seconds: float) -> int:
    """How many events ``pace`` appends."""
    burst = max(1, round(rate * BURST_S))
    return int(rate * seconds / burst) * burst


async def _pace(
    start: Start,
    name: str,
    endpoint: str,
    burst: int,
    bursts: int,
    gap_s: float,
    tagged: bool,
    streams: Iterator[str],
    data: Iterator[bytes],
) -> None:
    client: Any = await system(name).connect_async(endpoint, PACE_CALLS)
    append = client.append_tagged if tagged else client.append
    await append(next(streams), _stamped(next(data)))  # this connects, before anybody listens
    start()
    due = now()
    tasks = []
    for _ in range(bursts):
        await asyncio.sleep(max(0.0, due - now()))
        for _ in range(burst):
            tasks.append(asyncio.ensure_future(append(next(streams), _stamped(next(data)))))
        due += gap_s
    await asyncio.gather(*tasks)
    await client.close()


def follow(
    start: Start,
    name: str,
    endpoint: str,
    subscribers: int,
    events: int,
    seconds: float,
    filtered: bool,
) -> Figures:
    """So many live subscribers in one process: how old each event is when they have it.

    ``events``: how many flow. ``filtered``: each subscribes to a tag that one in ``SHARED`` of them has.
    """
    ages: list[float] = []
    each = events // SHARED if filtered else events
    if system(name).threads:
        _follow_threads(start, name, endpoint, subscribers, each, seconds, filtered, ages)
    else:
        asyncio.run(_follow(start, name, endpoint, subscribers, each, seconds, filtered, ages))
    ordered = sorted(ages)
    if not ordered:
        raise AssertionError("nothing was delivered")
    return {
        "p50_us": ordered[len(ordered) // 2] * 1e6,
        "p99_us": ordered[len(ordered) * 99 // 100] * 1e6,
        "delivered": len(ordered) / (each * subscribers),
    }


def _following(client: Any, number: int, filtered: bool) -> Any:
    """What the subscriber of this number is handed, as it comes."""
    return client.follow_tag(shared_tag(number)) if filtered else client.follow()


async def _follow(
    start: Start,
    name: str,
    endpoint: str,
    subscribers: int,
    each: int,
    seconds: float,
    filtered: bool,
    ages: list[float],
) -> None:
    async def run(following: AsyncIterator[list[bytes]]) -> None:
        left = each
        async for delivered in following:
            ages.extend(_ages(delivered))
            left -= len(delivered)
            if left <= 0:
                return

    chosen = system(name)
    clients = [await chosen.connect_async(endpoint, 1) for _ in range(subscribers)]
    tasks = [
        asyncio.ensure_future(run(_following(client, number, filtered)))
        for number, client in enumerate(clients)
    ]
    await asyncio.sleep(SETTLE_S)
    start()
    done, late = await asyncio.wait(tasks, timeout=seconds + SETTLE_S)
    for task in late:
        task.cancel()
    await asyncio.gather(*late, return_exceptions=True)
    for task in done:
        task.result()
    for client in clients:
        await client.close()


def _follow_threads(
    start: Start,
    name: str,
    endpoint: str,
    subscribers: int,
    each: int,
    seconds: float,
    filtered: bool,
    ages: list[float],
) -> None:
    def run(following: Iterator[list[bytes]]) -> None:
        left = each
        for delivered in following:
            ages.extend(_ages(delivered))
            left -= len(delivered)
            if left <= 0:
                return

    clients = [system(name).connect(endpoint) for _ in range(subscribers)]
    threads = [
        threading.Thread(target=run, args=(_following(client, number, filtered),), daemon=True)
        for number, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()
    time.sleep(SETTLE_S)
    start()
    until = now() + seconds + SETTLE_S
    for thread in threads:
        thread.join(max(0.0, until - now()))


LOADS = {load.__name__: load for load in (pace, follow)}
