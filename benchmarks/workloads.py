"""What is measured, W1 to W9: a list of steps each, run round by round.

In a round every case is measured on every system, in an order that changes from round to round, so
that a ratio compares figures of the same minute. Which figures ought to be how large: goals.py.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.loads import paced_events
from benchmarks.processes import Failed, anonymous_mb
from benchmarks.stage import Key, Stage

Figures = dict[str, float]

REWIND = ("rewind-leveldb", "rewind-log")
OTHER_STORES = ("rewind-sqlite", "rewind-memory")
PEERS = ("umadb", "redis", "nats")
DISKS = ("disk", "disk-prealloc")

DISK_RECORDS = 100  # the disk writes so many records where a hundred appends are in flight
LARGE_APPEND_CLIENTS = 4
PACE = 2_000  # events a second
SMALL_EVENTS = 10_000
LARGE_EVENTS = 10_000_000


@dataclass(frozen=True)
class Options:
    """How much is measured."""

    seconds: float
    rounds: int
    events: int
    large: bool


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
            name = step.key[0]
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


# --- the workloads ------------------------------------------------------------------


def w1(options: Options) -> list[Step]:
    """One client, one event an append, waiting for each answer."""
    systems = (*REWIND, *OTHER_STORES, *PEERS, "echo")
    steps = [_step("W1", "1 client", name, "one_by_one", options) for name in systems]
    return steps + [_disk("W1", "1 client", name, 1, options) for name in DISKS]


def w2(options: Options) -> list[Step]:
    """So many appends in flight over so many connections, one event each."""
    steps = []
    for calls, connections in ((100, 1), (100, 10), (100, 100), (1_000, 1_000)):
        shape = f"{calls:,} over {connections:,}"
        shared = {"calls": calls, "connections": connections}
        others = OTHER_STORES if connections == 10 else ()
        for name in (*REWIND, *others, *PEERS, "echo"):
            steps.append(_step("W2", shape, name, "in_flight", options, **shared))
        for name in (*REWIND, *others, "echo"):
            steps.append(_publish(f"PUBLISH, {shape}", name, calls, connections, options))
    return steps + [_disk("W2", "100 over 10", name, DISK_RECORDS, options) for name in DISKS]


def w3(options: Options) -> list[Step]:
    """Four clients, a thousand events an append."""
    case = f"{LARGE_APPEND_CLIENTS} clients"
    systems = (*REWIND, *OTHER_STORES, *PEERS, "echo")
    steps = [Step("W3", case, (name, 0), _large_appends(name, options)) for name in systems]
    return steps + [_disk("W3", case, name, 1_000, options) for name in DISKS]


def w4(options: Options) -> list[Step]:
    """One client reads the whole store into event objects."""

    def reads(name: str) -> Callable[[Stage], Figures]:
        def run(stage: Stage) -> Figures:
            endpoint = stage.server(_filled(name, options)).endpoint
            events = stage.size(name, options.events)
            return stage.load("read_all", name=name, endpoint=endpoint, events=events)

        return run

    systems = (*REWIND, *OTHER_STORES, *PEERS, "echo")
    return [Step("W4", "1 reader", _filled(name, options), reads(name)) for name in systems]


def _filled(name: str, options: Options) -> Key:
    """Echo has nothing to be filled."""
    return name, 0 if name == "echo" else options.events


def w5(options: Options) -> list[Step]:
    """One stream of a hundred events among many."""
    return [
        _read_streams("W5", f"{clients} client{'s' * (clients > 1)}", name, clients, options)
        for clients in (1, 16)
        for name in (*REWIND, *PEERS)
    ]


def w6(options: Options) -> list[Step]:
    """From append to delivery at live subscribers, so many events a second flowing."""
    steps = []
    for subscribers, rate in ((1, PACE), (100, PACE // 10), (100, PACE)):
        case = f"{subscribers} subscriber{'s' * (subscribers > 1)}, {rate:,}/s"
        for name in (*REWIND, *PEERS):
            steps.append(Step("W6", case, (name, 0), _delivery(name, subscribers, rate, options)))
    return steps


def w7(options: Options) -> list[Step]:
    """Opening a store, W2 (100 over 10) and W5 at different sizes."""
    sizes = [SMALL_EVENTS, options.events] + [LARGE_EVENTS] * options.large
    steps = []
    for size in sizes:
        for name in REWIND:
            key = (name, size)
            steps += [
                Step("W7", f"open, {size:,} events", key, _opening(key)),
                Step("W7", f"append, {size:,} events", key, _appending(key, options)),
                _read_streams("W7", f"read, {size:,} events", name, 1, options, size),
            ]
    return steps


def w8(options: Options) -> list[Step]:
    """W2 (100 over 10) with expected versions, and with appends sent twice."""
    cases = {
        "plain": "append",
        "expected versions": "append_expected",
        "1 in 10 twice": "append_repeated",
    }
    return [
        _step("W8", case, name, "in_flight", options, calls=100, connections=10, call=call)
        for case, call in cases.items()
        for name in REWIND
    ]


def w9(options: Options) -> list[Step]:
    """W2 (100 over 10) while another client reads the whole store in a loop."""
    steps = []
    for name in REWIND:
        key = _filled(name, options)
        steps.append(Step("W9", "alone", key, _appending(key, options)))
        steps.append(Step("W9", "beside a reader", key, _beside_reader(key, options)))
    return steps


WORKLOADS: dict[str, Callable[[Options], list[Step]]] = {
    "W1": w1,
    "W2": w2,
    "W3": w3,
    "W4": w4,
    "W5": w5,
    "W6": w6,
    "W7": w7,
    "W8": w8,
    "W9": w9,
}


# --- their steps --------------------------------------------------------------------


def _step(
    workload: str, case: str, name: str, load: str, options: Options, **arguments: object
) -> Step:
    """A load of one process on an empty store."""

    def run(stage: Stage) -> Figures:
        endpoint = stage.server((name, 0)).endpoint
        return stage.load(load, name=name, endpoint=endpoint, seconds=options.seconds, **arguments)

    return Step(workload, case, (name, 0), run)


def _disk(workload: str, case: str, name: str, records: int, options: Options) -> Step:
    def run(stage: Stage) -> Figures:
        endpoint = stage.server((name, 0)).endpoint
        return stage.load("disk", endpoint=endpoint, records=records, seconds=options.seconds)

    return Step(workload, case, (name, 0), run)


def _publish(case: str, name: str, calls: int, connections: int, options: Options) -> Step:
    def run(stage: Stage) -> Figures:
        return stage.load(
            "publish",
            endpoint=stage.server((name, 0)).endpoint,
            connections=connections,
            calls=calls,
            seconds=options.seconds,
        )

    return Step("W2", case, (name, 0), run)


def _large_appends(name: str, options: Options) -> Callable[[Stage], Figures]:
    def run(stage: Stage) -> Figures:
        arguments = {
            "name": name,
            "endpoint": stage.server((name, 0)).endpoint,
            "seconds": options.seconds,
        }
        loads = [stage.prepare("large_appends", **arguments) for _ in range(LARGE_APPEND_CLIENTS)]
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
            "p50_us": sorted(figures["p50_us"] for figures in found)[LARGE_APPEND_CLIENTS // 2],
            "p99_us": max(figures["p99_us"] for figures in found),
            "calls": sum(figures["calls"] for figures in found),
        }

    return run


def _read_streams(
    workload: str, case: str, name: str, clients: int, options: Options, size: int | None = None
) -> Step:
    key = (name, size or options.events)

    def run(stage: Stage) -> Figures:
        return stage.load(
            "read_streams",
            name=name,
            endpoint=stage.server(key).endpoint,
            events=stage.size(name, key[1]),
            clients=clients,
            seconds=options.seconds,
        )

    return Step(workload, case, key, run)


def _delivery(
    name: str, subscribers: int, rate: int, options: Options
) -> Callable[[Stage], Figures]:
    def run(stage: Stage) -> Figures:
        shared = {
            "name": name,
            "endpoint": stage.server((name, 0)).endpoint,
            "seconds": options.seconds,
        }
        events = paced_events(rate, options.seconds)
        with (
            stage.prepare("pace", rate=rate, **shared) as publisher,
            stage.prepare("follow", subscribers=subscribers, events=events, **shared) as follower,
        ):
            publisher.ready()
            follower.ready().go()
            publisher.go().result()
            return follower.result()

    return run


def _opening(key: Key) -> Callable[[Stage], Figures]:
    def run(stage: Stage) -> Figures:
        server = stage.reopen(key)
        assert server.process is not None
        return {"open_s": server.open_s, "anon_mb": anonymous_mb(server.process.pid)}

    return run


def _appending(key: Key, options: Options) -> Callable[[Stage], Figures]:
    def run(stage: Stage) -> Figures:
        server = stage.server(key)
        figures = stage.load(
            "in_flight",
            name=key[0],
            endpoint=server.endpoint,
            calls=100,
            connections=10,
            seconds=options.seconds,
        )
        assert server.process is not None
        return {**figures, "anon_mb": anonymous_mb(server.process.pid)}

    return run


def _beside_reader(key: Key, options: Options) -> Callable[[Stage], Figures]:
    append = _appending(key, options)

    def run(stage: Stage) -> Figures:
        endpoint = stage.server(key).endpoint
        with stage.prepare("read_loop", name=key[0], endpoint=endpoint) as reader:
            reader.ready().go()
            return append(stage)

    return run
