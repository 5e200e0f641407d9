"""The load generators: one of a class for every system, so that only the system differs.

Each takes ``start``, called when everything is connected and returning when the load may begin, and
returns figures. How many connections and how many calls at once is the workload's choice; how calls
at once are made is the client's nature: tasks of one event loop, or threads where it blocks.

Here are appends and reads by stream. Next: tagged_loads.py, by tag and with conditions and cursors;
delivery_loads.py, from append to subscriber.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zmq

from benchmarks.events import append_streams, filling, hot_streams, payloads
from benchmarks.systems import Client, system
from benchmarks.systems.disk import SyncedFile

Start = Callable[[], None]
Figures = dict[str, float]

WARM_UP_S = 0.2  # each load begins with this, which is not measured
LARGE_APPEND_EVENTS = 1_000
FILLERS = 4  # so many threads fill a store
SOCKETS_MAX = 4_096

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


def measured_calls(
    call: Callable[[], object], seconds: float, start: Start, events: int = 1
) -> Figures:
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
    measured = measured_calls(lambda: client.append(next(streams), next(data)), seconds, start)
    client.close()
    return measured


def large_appends(start: Start, name: str, endpoint: str, seconds: float, tagged: bool) -> Figures:
    """One blocking client makes one append of a thousand events after the other."""
    client: Any = system(name).connect(endpoint)
    append = client.append_many_tagged if tagged else client.append_many
    data = payloads()
    pairs = [
        (stream, data[number % len(data)])
        for number, stream in zip(range(LARGE_APPEND_EVENTS), itertools.cycle(append_streams()))
    ]
    measured = measured_calls(lambda: append(pairs), seconds, start, LARGE_APPEND_EVENTS)
    client.close()
    return measured


def disk(start: Start, endpoint: str, records: int, seconds: float) -> Figures:
    """Write and sync so many records at a time."""
    file = SyncedFile(endpoint, records)
    measured = measured_calls(file.commit, seconds, start, records)
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
    """So many appends of one event at once, over so many connections. Each has its own streams.

    ``call``: the method of the client that appends.
    """
    streams = append_streams()
    owned = [streams[number::calls] for number in range(calls)]
    data = itertools.cycle(payloads())

    def steps(clients: Sequence[Any]) -> list[Callable[[], Any]]:
        return [
            _append_step(getattr(clients[number % connections], call), owned[number], data)
            for number in range(calls)
        ]

    return at_once(start, name, endpoint, connections, calls, seconds, steps)


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
        measured = measured_calls(steps([client])[0], seconds, start)
        client.close()
        return measured
    return at_once(start, name, endpoint, clients, clients, seconds, steps)


def _read_step(
    read: Callable[[str], Any], choice: Callable[[Sequence[str]], str], streams: Sequence[str]
) -> Callable[[], Any]:
    return lambda: read(choice(streams))


Steps = Callable[[Sequence[Any]], list[Callable[[], Any]]]


def at_once(
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


def fill(start: Start, name: str, endpoint: str, events: int, tagged: bool) -> Figures:
    """Fill an empty store as fast as it takes it."""
    start()
    chosen = system(name)
    appends = filling(events)
    lock = threading.Lock()

    def append_all() -> None:
        client: Any = chosen.connect(endpoint)
        append = getattr(client, "append_both", client.append_many)
        if tagged:
            append = client.append_many_tagged
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
    )
}
