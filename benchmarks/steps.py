"""Steps, run round by round, and how those of the workloads are made.

In a round every case is measured on every system, in an order that changes from round to round, so
that a ratio compares figures of the same minute. Next: workloads.py, which steps there are.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.delivery_loads import paced_events
from benchmarks.processes import Failed, anonymous_mb, cpu_s
from benchmarks.stage import Key, Stage

Figures = dict[str, float]

REWIND = ("rewind-leveldb", "rewind-log")
OTHER_STORES = ("rewind-sqlite", "rewind-memory")
PEERS = ("umadb", "redis", "nats")
DISKS = ("disk", "disk-prealloc")
BEFORE = ("before-leveldb", "before-log")
"""Rewind as another checkout has it, which ``--before`` names."""


@dataclass(frozen=True)
class Options:
    """How much is measured. ``before``: a checkout, or empty."""

    seconds: float
    rounds: int
    events: int
    large: bool
    before: str = ""


@dataclass(frozen=True)
class Step:
    """One measurement: of a case of a workload, on a system."""

    workload: str
    case: str
    key: Key
    run: Callable[[Stage], Figures]


@dataclass(frozen=True)
class Measurement:
    """What a step found in a round."""

    workload: str
    case: str
    system: str
    round: int
    figures: Figures


def measure(
    stage: Stage, steps: Sequence[Step], rounds: int, say: Callable[[Step, int], None]
) -> Iterator[Measurement]:
    """Run the steps of one workload, round by round."""
    for number in range(1, rounds + 1):
        for step in _in_order(steps, number):
            name = step.key.system
            say(step, number)
            if name in stage.left_out:
                continue
            try:
                stage.wait_until_quiet()
                figures = step.run(stage)
            except Failed as failure:
                stage.left_out[name] = f"{step.workload}, {step.case}: {failure}"
                continue
            yield Measurement(step.workload, step.case, name, number, figures)
    stage.stop()


def _in_order(steps: Sequence[Step], number: int) -> list[Step]:
    """Case by case, the systems of each in an order of this round's own."""
    cases = dict.fromkeys(step.case for step in steps)
    shuffle = random.Random(number).shuffle
    ordered = []
    for case in cases:
        of_case = [step for step in steps if step.case == case]
        shuffle(of_case)
        ordered += of_case
    return ordered


# --- how they are made -----------------------------------------------------------------


def one_load(
    workload: str, case: str, name: str, load: str, options: Options, **arguments: object
) -> Step:
    """A load of one process on an empty store."""

    def run(stage: Stage) -> Figures:
        endpoint = stage.server(Key(name)).endpoint
        return stage.load(load, name=name, endpoint=endpoint, seconds=options.seconds, **arguments)

    return Step(workload, case, Key(name), run)


def disk(workload: str, case: str, name: str, records: int, options: Options) -> Step:
    def run(stage: Stage) -> Figures:
        endpoint = stage.server(Key(name)).endpoint
        return stage.load("disk", endpoint=endpoint, records=records, seconds=options.seconds)

    return Step(workload, case, Key(name), run)


def publish(case: str, name: str, calls: int, connections: int, options: Options) -> Step:
    def run(stage: Stage) -> Figures:
        return stage.load(
            "publish",
            endpoint=stage.server(Key(name)).endpoint,
            connections=connections,
            calls=calls,
            seconds=options.seconds,
        )

    return Step("W2", case, Key(name), run)


def large_appends(
    workload: str, case: str, name: str, clients: int, options: Options, *, tagged: bool = False
) -> Step:
    """So many clients in processes of their own, a thousand events an append."""

    def run(stage: Stage) -> Figures:
        arguments = {
            "name": name,
            "endpoint": stage.server(Key(name)).endpoint,
            "seconds": options.seconds,
            "tagged": tagged,
        }
        loads = [stage.prepare("large_appends", **arguments) for _ in range(clients)]
        try:
            for load in loads:
                load.ready()
            for load in loads:
                load.go()
            found = [load.result() for load in loads]
        finally:
            for load in loads:
                load.end()
        return {
            "rate": sum(figures["rate"] for figures in found),
            "p50_us": sorted(figures["p50_us"] for figures in found)[clients // 2],
            "p99_us": max(figures["p99_us"] for figures in found),
            "calls": sum(figures["calls"] for figures in found),
        }

    return Step(workload, case, Key(name), run)


def read_all(workload: str, case: str, key: Key, options: Options, load: str = "read_all") -> Step:
    """One client reads the whole of a filled store."""

    def run(stage: Stage) -> Figures:
        endpoint = stage.server(key).endpoint
        events = stage.size(key.system, options.events)
        return stage.load(load, name=key.system, endpoint=endpoint, events=events)

    return Step(workload, case, key, run)


def read_some(
    workload: str, case: str, key: Key, load: str, options: Options, **arguments: object
) -> Step:
    """Clients read a hundred events at a time from a filled store."""

    def run(stage: Stage) -> Figures:
        return stage.load(
            load,
            name=key.system,
            endpoint=stage.server(key).endpoint,
            events=stage.size(key.system, key.events),
            seconds=options.seconds,
            **arguments,
        )

    return Step(workload, case, key, run)


def delivery(
    workload: str,
    case: str,
    name: str,
    subscribers: int,
    rate: int,
    options: Options,
    *,
    tagged: bool = False,
    filtered: bool = False,
) -> Step:
    """So many subscribers while so many events a second flow; ``filtered``: each to a tag of its own."""

    def run(stage: Stage) -> Figures:
        server = stage.server(Key(name))
        assert server.process is not None
        shared = {"name": name, "endpoint": server.endpoint, "seconds": options.seconds}
        events = paced_events(rate, options.seconds)
        with (
            stage.prepare("pace", rate=rate, tagged=tagged, **shared) as publisher,
            stage.prepare(
                "follow", subscribers=subscribers, events=events, filtered=filtered, **shared
            ) as follower,
        ):
            publisher.ready()
            follower.ready().go()
            before_s = cpu_s(server.process.pid)
            publisher.go().result()
            used_s = cpu_s(server.process.pid) - before_s
            return {**follower.result(), "cpu": used_s / options.seconds}

    return Step(workload, case, Key(name), run)


def opening(key: Key) -> Callable[[Stage], Figures]:
    def run(stage: Stage) -> Figures:
        server = stage.reopen(key)
        assert server.process is not None
        return {"open_s": server.open_s, "anon_mb": anonymous_mb(server.process.pid)}

    return run


def appending(key: Key, options: Options) -> Callable[[Stage], Figures]:
    def run(stage: Stage) -> Figures:
        server = stage.server(key)
        figures = stage.load(
            "in_flight",
            name=key.system,
            endpoint=server.endpoint,
            calls=100,
            connections=10,
            seconds=options.seconds,
        )
        assert server.process is not None
        return {**figures, "anon_mb": anonymous_mb(server.process.pid)}

    return run


def beside_reader(key: Key, options: Options) -> Callable[[Stage], Figures]:
    append = appending(key, options)

    def run(stage: Stage) -> Figures:
        endpoint = stage.server(key).endpoint
        with stage.prepare("read_loop", name=key.system, endpoint=endpoint) as reader:
            reader.ready().go()
            return append(stage)

    return run
