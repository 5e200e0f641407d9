"""The goals: which figure ought to be how many times which other, of the same round.

Every ratio says how many times better: of rates it is ours over theirs, of times and memory theirs
over ours, so that more is always better and 1 is a draw.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.steps import PEERS, Measurement, Options
from benchmarks.workloads import LARGE_EVENTS, RUNNERS, SMALL_EVENTS, TAGGED

SOCKET_AND_DISK = {"echo + disk": "disk", "echo + disk-prealloc": "disk-prealloc"}
"""A limit of W1: one round trip to a ROUTER that does nothing, then one write and sync."""


@dataclass(frozen=True)
class Goal:
    """A Rewind store's ``figure`` of a case is ``at_least`` times as good as another one.

    The other: of system ``against``, or of the same store if that is empty, in ``against_case``, or
    in the same case if that is empty; or the number ``bound``. Against ``before`` a store is compared
    with itself, as the checkout of ``--before`` has it.
    """

    workload: str
    case: str
    figure: str
    at_least: float
    against: str = ""
    against_case: str = ""
    bound: float | None = None

    @property
    def title(self) -> str:
        """What is compared with what."""
        if self.bound is not None:
            other = f"{self.bound:g} {self.figure.rpartition('_')[2].replace('mb', 'MB')}"
        else:
            other = self.against or self.against_case
        what = {
            "p50_us": ", p50",
            "p99_us": ", p99",
            "anon_mb": ", memory",
            "cpu": ", processor",
        }.get(self.figure, "")
        return f"{self.case}{what}: against {other}"


@dataclass(frozen=True)
class Ratio:
    """The median of the rounds' ratios, and their spread."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.least)}-{number(self.most)})"


def number(value: float) -> str:
    """With about three digits."""
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def with_limits(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements, and the limits that follow from those of the same round."""
    extended = list(measurements)
    rates = {
        (one.system, one.round): one.figures["rate"] for one in measurements if one.workload == "W1"
    }
    for (name, turn), echo in rates.items():
        for limit, disk in SOCKET_AND_DISK.items():
            if name == "echo" and (disk, turn) in rates:
                rate = 1 / (1 / echo + 1 / rates[disk, turn])
                extended.append(Measurement("W1", "1 client", limit, turn, {"rate": rate}))
    return extended


def compare(
    measurements: Sequence[Measurement],
    figure: str,
    ours: tuple[str, str, str],
    theirs: tuple[str, str, str],
) -> Ratio | None:
    """How many times better ours is; each is a workload, a case and a system."""
    mine, other = _rounds(measurements, figure, ours), _rounds(measurements, figure, theirs)
    return _ratio(figure, [(mine[turn], other[turn]) for turn in mine.keys() & other.keys()])


def reached(measurements: Sequence[Measurement], goal: Goal, name: str) -> Ratio | None:
    """What a Rewind store reached of a goal; None when it was not measured."""
    ours = (goal.workload, goal.case, name)
    if goal.bound is not None:
        mine = _rounds(measurements, goal.figure, ours)
        return _ratio(goal.figure, [(value, goal.bound) for value in mine.values()])
    against = goal.against or name
    if against == "before":
        against = name.replace("rewind", "before")
    theirs = (goal.workload, goal.against_case or goal.case, against)
    return compare(measurements, goal.figure, ours, theirs)


def _rounds(
    measurements: Sequence[Measurement], figure: str, which: tuple[str, str, str]
) -> dict[int, float]:
    return {
        one.round: one.figures[figure]
        for one in measurements
        if (one.workload, one.case, one.system) == which and figure in one.figures
    }


def _ratio(figure: str, pairs: Sequence[tuple[float, float]]) -> Ratio | None:
    if not pairs:
        return None
    ratios = [ours / theirs if figure == "rate" else theirs / ours for ours, theirs in pairs]
    return Ratio(statistics.median(ratios), min(ratios), max(ratios))


def goals(options: Options) -> list[Goal]:
    """All of them."""
    first = [
        Goal("W1", "1 client", "rate", 1.2, "umadb"),
        Goal("W1", "1 client", "rate", 1.0, "redis"),
        Goal("W1", "1 client", "rate", 1.0, "nats"),
        Goal("W1", "1 client", "rate", 0.8, "echo + disk"),
    ]
    for shape in ("100 over 1", "100 over 10", "100 over 100", "1,000 over 1,000"):
        for case, of_echo in ((shape, 0.55), (f"PUBLISH, {shape}", 0.65)):
            first += [
                Goal("W2", case, "rate", 5.0, "umadb", shape),
                Goal("W2", case, "rate", 1.0, "redis", shape),
                Goal("W2", case, "rate", 1.0, "nats", shape),
                Goal("W2", case, "rate", of_echo, "echo"),
            ]
        first += [
            Goal("W2", shape, "rate", 0.95, "before"),
            Goal("W2", shape + TAGGED, "rate", 0.85, "before"),
        ]
    first += [
        Goal("W3", "4 clients", "rate", 1.0, "umadb"),
        Goal("W3", "4 clients", "rate", 0.95, "before"),
        Goal("W3", "4 clients" + TAGGED, "rate", 0.85, "before"),
        Goal("W4", "1 reader", "rate", 2.0, "umadb"),
        Goal("W4", "1 reader", "rate", 10.0, "redis"),
    ]
    for case in ("1 client", "16 clients"):
        first += [Goal("W5", case, figure, 1.0, "umadb") for figure in ("rate", "p99_us")]
    for case in ("1 subscriber, 2,000/s", "100 subscribers, 200/s", "100 subscribers, 2,000/s"):
        first += [Goal("W6", case, "p50_us", 1.0, peer) for peer in PEERS]
    for size in [options.events] + [LARGE_EVENTS] * options.large:
        events = f"{size:,} events"
        smallest = f"{SMALL_EVENTS:,} events"
        first += [
            Goal("W7", f"append, {events}", "rate", 0.9, "", f"append, {smallest}"),
            Goal("W7", f"read, {events}", "rate", 0.9, "", f"read, {smallest}"),
            Goal("W7", f"open, {events}", "open_s", 1.0, bound=1.0),
            Goal("W7", f"append, {events}", "anon_mb", 1.0, bound=300.0),
        ]
    return [*first, *_beside(), *_by_tag(options)]


def _beside() -> list[Goal]:
    """Against the same load alone."""
    return [
        Goal("W8", "expected versions", "rate", 0.9, "", "plain"),
        Goal("W8", "1 in 10 twice", "rate", 0.9, "", "plain"),
        Goal("W9", "beside a reader", "rate", 0.6, "", "alone"),
        Goal("W9", "beside a reader", "p99_us", 0.2, "", "alone"),
    ]


def _by_tag(options: Options) -> list[Goal]:
    """Reads by tag, decisions and cursors."""
    found = [
        Goal("W10", "1 writer", "rate", 1.0, "umadb"),
        Goal("W10", "16 writers", "rate", 1.0, "umadb"),
        Goal("W10", "100 writers", "rate", 2.0, "umadb"),
    ]
    for case in ("by tag", "by type and tag"):
        events = f"{case}, {options.events:,} events"
        found.append(Goal("W11", events, "rate", 1.0, "umadb"))
        if options.large:
            large = f"{case}, {LARGE_EVENTS:,} events"
            found.append(Goal("W11", large, "rate", 1.0, "umadb"))
            found.append(Goal("W11", large, "rate", 0.8, "", events))
    found += [
        Goal("W12", "a tag each", "p50_us", 1 / 1.5, "", "unfiltered"),
        Goal("W12", "a tag each", "cpu", 1 / 2, "", "unfiltered"),
        Goal("W13", "place kept", "rate", 0.8, "", "plain reading"),
        Goal("W13", "place kept", "rate", 2.0, "umadb"),
    ]
    for connections in (1, RUNNERS):
        shape = f"over {connections}"
        advance, append = f"append and advance, {shape}", f"append, {shape}"
        found.append(Goal("W14", advance, "rate", 0.9, "", append))
    return found
