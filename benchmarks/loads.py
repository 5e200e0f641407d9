"""The load generators: one of a class for every system, so that only the system differs.

Each takes ``start``, called when everything is connected and returning when the load may begin, and
returns figures. How many connections and how many calls at once is the workload's choice; how calls
at once are made is the client's nature: tasks of one event loop, or threads where it blocks.

Next: workloads.py.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import struct
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq

from benchmarks.events import append_streams, filling, hot_streams, payloads
from benchmarks.systems import AsyncClient, Client, system
from benchmarks.systems.disk import SyncedFile

Start = Callable[[], None]
Figures = dict[str, float]

WARM_UP_S = 0.2  # each load begins with this, which is not measured
LARGE_APPEND_EVENTS = 1_000
FILLERS = 4  # so many threads fill a store
SOCKETS_MAX = 4_096
BURST_S = 0.005  # a paced load comes in bursts; sleeping less than this is not exact
PACE_THREADS = 32  # so many append a paced load where the client blocks
PACE_CALLS = 100  # a paced load rarely has more calls at once
SETTLE_S = 1.5  # subscribing takes less, and so does the delivery of the last event

now = time.perf_counter


def figures(latencies: Sequence[float], begun: float, ended: float, events: int = 1) -> Figures:
    """Calls that took so long, each of so many events, between two moments."""
    ordered = sorted(latencies)
    return {
        "rate": len(ordered) * events / (ended - begun),
        "p50_us": ordered[len(ordered) // 2] * 1e6,
        "p99_us": ordered[len(ordered) * 99 // 100] * 1e6,
        "calls": len(ordered),
    }


def _repeat(call: Callable[[], object], seconds: float) -> list[float]:
    """Call for so long; how long each call took."""
    latencies = []
    until = now() + seconds
    while (begun := now()) < until:
        call()
        latencies.append(now() - begun)
    return latencies


async def _repeat_async(call: Callable[[], Awaitable[object]], seconds: float) -> list[float]:
    latencies = []
    until = now() + seconds
    while (begun := now()) < until:
        await call()
        latencies.append(now() - begun)
    return latencies


def _measured(call: Callable[[], object], seconds: float, start: Start, events: int = 1) -> Figures:
    """One call at a time."""
    _repeat(call, WARM_UP_S)
    start()
    begun = now()
    return figures(_repeat(call, seconds), begun, now(), events)


# --- one call at a time -------------------------------------------------------------


def one_by_one(start: Start, name: str, endpoint: str, seconds: float) -> Figures:
    """One blocking client appends one event after the other."""
    client = system(name).connect(endpoint)
    streams, data = itertools.cycle(append_streams()), itertools.cycle(payloads())
    measured = _measured(lambda: client.append(next(streams), next(data)), seconds, start)
    client.close()
    return measured


def large_appends(start: Start, name: str, endpoint: str, seconds: float) -> Figures:
    """One blocking client makes one append of a thousand events after the other."""
    client = system(name).connect(endpoint)
    data = payloads()
    pairs = [
        (stream, data[number % len(data)])
        for number, stream in zip(range(LARGE_APPEND_EVENTS), itertools.cycle(append_streams()))
    ]
    measured = _measured(lambda: client.append_many(pairs), seconds, start, LARGE_APPEND_EVENTS)
    client.close()
    return measured


def disk(start: Start, endpoint: str, records: int, seconds: float) -> Figures:
    """Write and sync so many records at a time."""
    file = SyncedFile(endpoint, records)
    measured = _measured(file.commit, seconds, start, records)
    file.close()
    return measured


# --- many calls at once -------------------------------------------------------------


def in_flight(
    start: Start,
    name: str,
    endpoint: str,
    connections: int,
    calls: int,
    seconds: float,
    call: str = "append",
) -> Figures:
    """So many appends of one event at once, over so many connections. Each has its own streams."""
    streams = append_streams()
    owned = [streams[number::calls] for number in range(calls)]
    data = itertools.cycle(payloads())

    def steps(clients: Sequence[Any]) -> list[Callable[[], Any]]:
        return [
            _append_step(getattr(clients[number % connections], call), owned[number], data)
            for number in range(calls)
        ]

    return _at_once(start, name, endpoint, connections, calls, seconds, steps)


def _append_step(
    append: Callable[[str, bytes], Any], owned: Sequence[str], data: Any
) -> Callable[[], Any]:
    streams = itertools.cycle(owned)
    return lambda: append(next(streams), next(data))


def read_streams(
    start: Start, name: str, endpoint: str, events: int, clients: int, seconds: float
) -> Figures:
    """So many clients read streams of a hundred events, chosen at random."""
    choice, streams = random.Random(clients).choice, hot_streams(events)

    def steps(connected: Sequence[Any]) -> list[Callable[[], Any]]:
        return [_read_step(client.read_stream, choice, streams) for client in connected]

    if clients == 1:
        client = system(name).connect(endpoint)
        measured = _measured(steps([client])[0], seconds, start)
        client.close()
        return measured
    return _at_once(start, name, endpoint, clients, clients, seconds, steps)


def _read_step(
    read: Callable[[str], Any], choice: Callable[[Sequence[str]], str], streams: Sequence[str]
) -> Callable[[], Any]:
    return lambda: read(choice(streams))


Steps = Callable[[Sequence[Any]], list[Callable[[], Any]]]


def _at_once(
    start: Start,
    name: str,
    endpoint: str,
    connections: int,
    calls: int,
    seconds: float,
    steps: Steps,
) -> Figures:
    chosen = system(name)
    if chosen.threads:
        clients = [chosen.connect(endpoint) for _ in range(connections)]
        return _threads(start, clients, steps, seconds)
    return asyncio.run(_tasks(start, name, endpoint, connections, calls, steps, seconds))


async def _tasks(
    start: Start,
    name: str,
    endpoint: str,
    connections: int,
    calls: int,
    steps: Steps,
    seconds: float,
) -> Figures:
    chosen = system(name)
    clients = [
        await chosen.connect_async(endpoint, calls // connections) for _ in range(connections)
    ]
    calling = steps(clients)
    await asyncio.gather(*[_repeat_async(step, WARM_UP_S) for step in calling])
    start()
    begun = now()
    latencies = await asyncio.gather(*[_repeat_async(step, seconds) for step in calling])
    ended = now()
    for client in reversed(clients):  # connections of coredis are closed like nested blocks
        await client.close()
    return figures(list(itertools.chain(*latencies)), begun, ended)


def _threads(start: Start, clients: Sequence[Client], steps: Steps, seconds: float) -> Figures:
    calling = steps(clients)
    with ThreadPoolExecutor(len(calling)) as threads:
        list(threads.map(lambda step: _repeat(step, WARM_UP_S), calling))
        start()
        begun = now()
        latencies = list(threads.map(lambda step: _repeat(step, seconds), calling))
        ended = now()
    for client in clients:
        client.close()
    return figures(list(itertools.chain(*latencies)), begun, ended)


def publish(start: Start, endpoint: str, connections: int, calls: int, seconds: float) -> Figures:
    """So many PUBLISH requests at once, in the dialect of Rewind 0.3, over plain DEALER sockets."""
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, SOCKETS_MAX)
    poller = zmq.Poller()
    publishers = {}
    for _ in range(connections):
        publisher = Publisher(context, endpoint, itertools.cycle(payloads()))
        publishers[publisher.socket] = publisher
        poller.register(publisher.socket, zmq.POLLIN)

    def run(until: float) -> None:
        for publisher in publishers.values():
            for _ in range(calls // connections):
                publisher.send()
        while any(publisher.sent for publisher in publishers.values()):
            for socket, _ in poller.poll():
                publishers[socket].receive(until)

    run(now() + WARM_UP_S)
    for publisher in publishers.values():
        publisher.latencies.clear()
    start()
    begun = now()
    run(begun + seconds)
    measured = figures(
        [took for publisher in publishers.values() for took in publisher.latencies], begun, now()
    )
    context.destroy(linger=0)
    return measured


class Publisher:
    """A DEALER socket that sends the next event whenever one was answered."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, data: Any) -> None:
        self.socket = context.socket(zmq.DEALER)
        self.socket.connect(endpoint)
        self.sent: deque[float] = deque()
        self.latencies: list[float] = []
        self._data = data

    def send(self) -> None:
        """Send one more."""
        self.sent.append(now())
        self.socket.send(b"PUBLISH", zmq.SNDMORE)
        self.socket.send(next(self._data))

    def receive(self, until: float) -> None:
        """Take the answers that are there, and send as many again until it is time to end."""
        while True:
            try:
                answer = self.socket.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            assert answer == b"PUBLISHED", answer
            moment = now()
            self.latencies.append(moment - self.sent.popleft())
            if moment < until:
                self.send()


# --- the whole store ----------------------------------------------------------------


def fill(start: Start, name: str, endpoint: str, events: int) -> Figures:
    """Fill an empty store as fast as it takes it."""
    start()
    chosen = system(name)
    appends = filling(events)
    lock = threading.Lock()

    def append_all() -> None:
        client: Any = chosen.connect(endpoint)
        append = getattr(client, "append_both", client.append_many)
        while True:
            with lock:
                pairs = next(appends, None)
            if pairs is None:
                client.close()
                return
            append(pairs)

    begun = now()
    with ThreadPoolExecutor(FILLERS) as threads:
        for filler in [threads.submit(append_all) for _ in range(FILLERS)]:
            filler.result()
    return {"rate": events / (now() - begun)}


def read_all(start: Start, name: str, endpoint: str, events: int) -> Figures:
    """One blocking client reads so many events: the whole store, from its beginning."""
    client = system(name).connect(endpoint)
    start()
    begun, count = now(), 0
    while count < events:  # only echo has less in its store than is asked for
        read = client.read_all()
        assert read, f"{count} events were read of {events}"
        count += read
    took = now() - begun
    client.close()
    return {"rate": count / took, "calls": 1}


def read_loop(start: Start, name: str, endpoint: str) -> Figures:
    """One blocking client reads the whole store again and again, until its process is ended."""
    client = system(name).connect(endpoint)
    start()
    while True:
        client.read_all()


# --- delivery -----------------------------------------------------------------------

_STAMP = struct.Struct("<Q")


def _stamped(data: bytes) -> bytes:
    """Data that begins with the moment of sending, on a clock that all processes share."""
    return _STAMP.pack(time.monotonic_ns()) + data[_STAMP.size :]


def _ages(events: Sequence[bytes]) -> list[float]:
    """How many seconds ago these were sent."""
    moment = time.monotonic_ns()
    return [(moment - _STAMP.unpack_from(data)[0]) / 1e9 for data in events]


def pace(start: Start, name: str, endpoint: str, rate: int, seconds: float) -> Figures:
    """Append so many events a second in small bursts, without waiting for the answers."""
    burst = max(1, round(rate * BURST_S))
    bursts = paced_events(rate, seconds) // burst
    streams, data = itertools.cycle(append_streams()), itertools.cycle(payloads())
    if system(name).threads:
        client = system(name).connect(endpoint)
        with ThreadPoolExecutor(PACE_THREADS) as threads:
            start()
            due = now()
            sent = []
            for _ in range(bursts):
                time.sleep(max(0.0, due - now()))
                for _ in range(burst):
                    sent.append(threads.submit(client.append, next(streams), _stamped(next(data))))
                due += burst / rate
            for one in sent:
                one.result()
        client.close()
    else:
        asyncio.run(_pace(start, name, endpoint, burst, bursts, burst / rate, streams, data))
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
    streams: Iterator[str],
    data: Iterator[bytes],
) -> None:
    client = await system(name).connect_async(endpoint, PACE_CALLS)
    await client.append(
        next(streams), _stamped(next(data))
    )  # this connects, before anybody listens
    start()
    due = now()
    tasks = []
    for _ in range(bursts):
        await asyncio.sleep(max(0.0, due - now()))
        for _ in range(burst):
            append = client.append(next(streams), _stamped(next(data)))
            tasks.append(asyncio.ensure_future(append))
        due += gap_s
    await asyncio.gather(*tasks)
    await client.close()


def follow(
    start: Start, name: str, endpoint: str, subscribers: int, events: int, seconds: float
) -> Figures:
    """So many live subscribers in one process: how old each event is when they have it."""
    ages: list[float] = []
    if system(name).threads:
        _follow_threads(start, name, endpoint, subscribers, events, seconds, ages)
    else:
        asyncio.run(_follow(start, name, endpoint, subscribers, events, seconds, ages))
    ordered = sorted(ages)
    if not ordered:
        raise AssertionError("nothing was delivered")
    return {
        "p50_us": ordered[len(ordered) // 2] * 1e6,
        "p99_us": ordered[len(ordered) * 99 // 100] * 1e6,
        "delivered": len(ordered) / (events * subscribers),
    }


async def _follow(
    start: Start,
    name: str,
    endpoint: str,
    subscribers: int,
    events: int,
    seconds: float,
    ages: list[float],
) -> None:
    async def run(client: AsyncClient) -> None:
        left = events
        async for delivered in client.follow():
            ages.extend(_ages(delivered))
            left -= len(delivered)
            if left <= 0:
                return

    chosen = system(name)
    clients = [await chosen.connect_async(endpoint, 1) for _ in range(subscribers)]
    tasks = [asyncio.ensure_future(run(client)) for client in clients]
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
    events: int,
    seconds: float,
    ages: list[float],
) -> None:
    def run(client: Client) -> None:
        left = events
        for delivered in client.follow():
            ages.extend(_ages(delivered))
            left -= len(delivered)
            if left <= 0:
                return

    clients = [system(name).connect(endpoint) for _ in range(subscribers)]
    threads = [threading.Thread(target=run, args=(client,), daemon=True) for client in clients]
    for thread in threads:
        thread.start()
    time.sleep(SETTLE_S)
    start()
    until = now() + seconds + SETTLE_S
    for thread in threads:
        thread.join(max(0.0, until - now()))


LOADS: dict[str, Callable[..., Figures]] = {
    load.__name__: load
    for load in (
        one_by_one,
        large_appends,
        disk,
        in_flight,
        read_streams,
        publish,
        fill,
        read_all,
        read_loop,
        pace,
        follow,
    )
}
