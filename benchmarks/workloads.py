"""What is measured, W1 to W14: a list of steps each, run round by round by steps.py.

Which figures ought to be how large: goals.py.
"""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.events import SHARED
from benchmarks.stage import Key
from benchmarks.steps import (
    BEFORE,
    DISKS,
    OTHER_STORES,
    PEERS,
    REWIND,
    Options,
    Step,
    appending,
    beside_reader,
    delivery,
    disk,
    large_appends,
    one_load,
    opening,
    publish,
    read_all,
    read_some,
)

DISK_RECORDS = 100  # the disk writes so many records where a hundred appends are in flight
LARGE_APPEND_CLIENTS = 4
PACE = 2_000  # events a second
SMALL_EVENTS = 10_000
LARGE_EVENTS = 10_000_000
RUNNERS = 16  # consumers that store what they made, each with a cursor of its own
TAGGED = ", two tags"
"""What the name of a case ends with where events have tags."""


def w1(options: Options) -> list[Step]:
    """One client, one event an append, waiting for each answer."""
    systems = (*REWIND, *OTHER_STORES, *PEERS, "echo")
    steps = [one_load("W1", "1 client", name, "one_by_one", options) for name in systems]
    return steps + [disk("W1", "1 client", name, 1, options) for name in DISKS]


def w2(options: Options) -> list[Step]:
    """So many appends in flight over so many connections, one event each."""
    steps = []
    before = BEFORE if options.before else ()
    for calls, connections in ((100, 1), (100, 10), (100, 100), (1_000, 1_000)):
        shape = f"{calls:,} over {connections:,}"
        shared: dict[str, object] = {"calls": calls, "connections": connections}
        others = OTHER_STORES if connections == 10 else ()
        for name in (*REWIND, *before, *others, *PEERS, "echo"):
            steps.append(one_load("W2", shape, name, "in_flight", options, **shared))
        shared["call"] = "append_tagged"
        for name in (*REWIND, *before, "umadb"):
            steps.append(one_load("W2", shape + TAGGED, name, "in_flight", options, **shared))
        for name in (*REWIND, *others, "echo"):
            steps.append(publish(f"PUBLISH, {shape}", name, calls, connections, options))
    return steps + [disk("W2", "100 over 10", name, DISK_RECORDS, options) for name in DISKS]


def w3(options: Options) -> list[Step]:
    """Four clients, a thousand events an append."""
    case = f"{LARGE_APPEND_CLIENTS} clients"
    before = BEFORE if options.before else ()
    systems = (*REWIND, *before, *OTHER_STORES, *PEERS, "echo")
    steps = [large_appends("W3", case, name, LARGE_APPEND_CLIENTS, options) for name in systems]
    for name in (*REWIND, *before, "umadb"):
        steps.append(
            large_appends("W3", case + TAGGED, name, LARGE_APPEND_CLIENTS, options, tagged=True)
        )
    return steps + [disk("W3", case, name, 1_000, options) for name in DISKS]


def w4(options: Options) -> list[Step]:
    """One client reads the whole store into event objects."""
    systems = (*REWIND, *OTHER_STORES, *PEERS, "echo")
    return [read_all("W4", "1 reader", _filled(name, options), options) for name in systems]


def _filled(name: str, options: Options) -> Key:
    """Echo has nothing to be filled."""
    return Key(name, 0 if name == "echo" else options.events)


def w5(options: Options) -> list[Step]:
    """One stream of a hundred events among many."""
    return [
        read_some(
            "W5",
            f"{clients} client{'s' * (clients > 1)}",
            Key(name, options.events),
            "read_streams",
            options,
            clients=clients,
        )
        for clients in (1, 16)
        for name in (*REWIND, *PEERS)
    ]


def w6(options: Options) -> list[Step]:
    """From append to delivery at live subscribers, so many events a second flowing."""
    steps = []
    for subscribers, rate in ((1, PACE), (100, PACE // 10), (100, PACE)):
        case = f"{subscribers} subscriber{'s' * (subscribers > 1)}, {rate:,}/s"
        for name in (*REWIND, *PEERS):
            steps.append(delivery("W6", case, name, subscribers, rate, options))
    return steps


def w7(options: Options) -> list[Step]:
    """Opening a store, W2 (100 over 10) and W5 at different sizes."""
    sizes = [SMALL_EVENTS, options.events] + [LARGE_EVENTS] * options.large
    steps = []
    for size in sizes:
        for name in REWIND:
            key = Key(name, size)
            steps += [
                Step("W7", f"open, {size:,} events", key, opening(key)),
                Step("W7", f"append, {size:,} events", key, appending(key, options)),
                read_some("W7", f"read, {size:,} events", key, "read_streams", options),
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
        one_load("W8", case, name, "in_flight", options, calls=100, connections=10, call=call)
        for case, call in cases.items()
        for name in REWIND
    ]


def w9(options: Options) -> list[Step]:
    """W2 (100 over 10) while another client reads the whole store in a loop."""
    steps = []
    for name in REWIND:
        key = _filled(name, options)
        steps.append(Step("W9", "alone", key, appending(key, options)))
        steps.append(Step("W9", "beside a reader", key, beside_reader(key, options)))
    return steps


def w10(options: Options) -> list[Step]:
    """So many writers, each: read by tag (five events in the mean), append one event if no other has come."""
    return [
        one_load("W10", _writers(writers), name, "decide", options, writers=writers)
        for writers in (1, 16, 100)
        for name in (*REWIND, "umadb")
    ]


def _writers(number: int) -> str:
    return f"{number} writer{'s' * (number > 1)}"


def w11(options: Options) -> list[Step]:
    """A hundred events by tag, and by type and tag, among many."""
    steps = []
    for size in [options.events] + [LARGE_EVENTS] * options.large:
        for case, call in (("by tag", "read_tag"), ("by type and tag", "read_type_and_tag")):
            for name in (*REWIND, "umadb"):
                key = Key(name, size, tagged=True)
                case_of_size = f"{case}, {size:,} events"
                steps.append(read_some("W11", case_of_size, key, "read_tags", options, call=call))
    return steps


def w12(options: Options) -> list[Step]:
    """A hundred subscribers, 2,000 events a second flowing: each to a tag of its own, and each to all."""
    steps = []
    for case, subscribers, filtered in (
        ("a tag each", SHARED, True),
        ("unfiltered", SHARED, False),
        ("1 unfiltered", 1, False),
    ):
        for name in (*REWIND, "umadb"):
            steps.append(
                delivery(
                    "W12", case, name, subscribers, PACE, options, tagged=True, filtered=filtered
                )
            )
    return steps


def w13(options: Options) -> list[Step]:
    """One projection of a whole store in batches of 500, its place kept after each, and plain reading."""
    steps = []
    for name in (*REWIND, "umadb"):
        key = Key(name, options.events, tagged=True)
        steps.append(read_all("W13", "plain reading", key, options))
        steps.append(read_all("W13", "place kept", key, options, load="project"))
    return steps


def w14(options: Options) -> list[Step]:
    """16 runners: append one event and move a cursor, in one append; and append alone."""
    steps = []
    for connections in (1, RUNNERS):
        shape = f"over {connections}"
        shared = {"calls": RUNNERS, "connections": connections}
        for name in (*REWIND, "umadb"):
            steps.append(
                one_load(
                    "W14",
                    f"append, {shape}",
                    name,
                    "in_flight",
                    options,
                    call="append_tagged",
                    **shared,
                )
            )
            steps.append(
                one_load("W14", f"append and advance, {shape}", name, "advance", options, **shared)
            )
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
    "W10": w10,
    "W11": w11,
    "W12": w12,
    "W13": w13,
    "W14": w14,
}
