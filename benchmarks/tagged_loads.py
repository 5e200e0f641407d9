"""The load generators of W10, W11, W13 and W14: reads by tag, decisions, and consumers' places.

As in loads.py there is one of a kind for every system; what differs is in systems/. Next: workloads.py.
"""

from __future__ import annotations

import itertools
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.events import TYPE, append_streams, hot_streams, paired_tags, payloads
from benchmarks.loads import Figures, Start, at_once, measured_calls, now
from benchmarks.systems import system

DECISIONS = (
    11  # A tag is left when it has had so many: they found 0 to 10 events, five in the mean.
)

Step = Callable[[], Any]


def decide(
    start: Start,
    name: str,
    endpoint: str,
    seconds: float,
    writers: int,
    connections: int = 1,
) -> Figures:
    """So many writers, each on tags of its own: read what the tag has, append one event unless there is more."""
    run, data = secrets.token_hex(4), itertools.cycle(payloads())

    def steps(clients: Sequence[Any]) -> list[Step]:
        return [
            _decision(clients[writer % connections].decide, f"{run}-{writer}", data)
            for writer in range(writers)
        ]

    return at_once(start, name, endpoint, connections, writers, seconds, steps)


def _decision(call: Callable[[str, bytes], Any], owner: str, data: Iterator[bytes]) -> Step:
    decisions = itertools.count()
    return lambda: call(f"{owner}-{next(decisions) // DECISIONS}", next(data))


def read_tags(
    start: Start, name: str, endpoint: str, events: int, seconds: float, call: str
) -> Figures:
    """One blocking client reads a hundred events by a tag chosen at random, or by type and tag."""
    client: Any = system(name).connect(endpoint)
    choice = random.Random(events).choice
    if call == "read_tag":
        tags = hot_streams(events)
        measured = measured_calls(lambda: client.read_tag(choice(tags)), seconds, start)
    else:
        tags = paired_tags(events)
        measured = measured_calls(
            lambda: client.read_type_and_tag(TYPE, choice(tags)), seconds, start
        )
    client.close()
    return measured


def project(start: Start, name: str, endpoint: str, events: int) -> Figures:
    """One consumer takes the whole store in batches, and keeps its place in the store after each."""
    client: Any = system(name).connect(endpoint)
    place = f"projection-{secrets.token_hex(4)}"
    start()
    begun = now()
    count = client.project(place, events)
    took = now() - begun
    client.close()
    assert count == events, f"{count} events were handled of {events}"
    return {"rate": count / took, "calls": 1}


def advance(
    start: Start, name: str, endpoint: str, seconds: float, calls: int, connections: int
) -> Figures:
    """So many consumers, each: append one event and move its own cursor, in one append."""
    streams, data = append_streams(), itertools.cycle(payloads())
    run = secrets.token_hex(4)

    def steps(clients: Sequence[Any]) -> list[Step]:
        return [
            _advancing(
                clients[runner % connections], f"{run}-{runner}", streams[runner::calls], data
            )
            for runner in range(calls)
        ]

    return at_once(start, name, endpoint, connections, calls, seconds, steps)


def _advancing(client: Any, place: str, owned: Sequence[str], data: Iterator[bytes]) -> Step:
    """The first append has nothing behind it to have handled. So many are stored as were made."""
    positions, streams = itertools.count(), itertools.cycle(owned)

    def step() -> Any:
        position = next(positions)
        if position == 0:
            return client.append_tagged(next(streams), next(data))
        return client.append_and_advance(next(streams), next(data), place, position)

    return step


LOADS = {load.__name__: load for load in (decide, read_tags, project, advance)}
