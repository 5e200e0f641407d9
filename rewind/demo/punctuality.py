"""The projection: a table of punctuality by carrier, made from events alone.

    python -m rewind.demo.punctuality -e tcp://127.0.0.1:9090

It is a process of its own that knows nothing of the flights but what the store tells it: it
subscribes from the beginning and keeps the table in memory, so it can be killed and started again
at any time and ends with the same numbers. A projection that is expensive to make again would save
its position together with its table; docs/tutorial.rst does.

With ``--json`` it writes a snapshot a line, for the demo, which draws. Next: figures.py.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable

import msgspec

import rewind
from rewind.demo.figures import ON_TIME_MINUTES, Figures, Snapshot
from rewind.demo.flights import ARRIVED, CANCELLED, DEPARTED
from rewind.demo.screen import Screen, table

#: A daemon without options is there; REWIND_ENDPOINT says where another one is.
ENDPOINT = "tcp://127.0.0.1:9090"
SHOWN_EVERY_S = 0.1  # the eye sees it grow


class Punctuality:
    """The table, as of the last event that was applied."""

    def __init__(self) -> None:
        self.position = 0
        self.at = ""
        self.carriers: dict[str, Figures] = {}

    def apply(self, event: rewind.Event) -> None:
        """Take one event in. Events that are not about flights only move the position."""
        self.position = event.position
        if not event.type.startswith("Flight"):
            return
        self.at = event.metadata["occurred_at"]
        flight = event.json()
        figures = self.carriers.setdefault(flight["carrier"], Figures())
        if event.type == DEPARTED:
            figures.departed += 1
        elif event.type == CANCELLED:
            figures.cancelled += 1
        elif event.type == ARRIVED:
            figures.arrived += 1
            self._arrived(figures, flight["delay_minutes"])

    def _arrived(self, figures: Figures, delay_minutes: int | None) -> None:
        if delay_minutes is None:
            return
        figures.timed += 1
        figures.on_time += delay_minutes <= ON_TIME_MINUTES
        figures.delay_minutes += delay_minutes


def follow(
    client: rewind.Client, batches: Iterable[list[rewind.Event]], show: Callable[[Snapshot], bool]
) -> None:
    """Take batch after batch in, and show the table from time to time, and when all is in it.

    ``show`` returns whether it did: if not, it is asked again, so that the last state is always seen.
    """
    punctuality = Punctuality()
    shown, due_s = -1, 0.0
    for events in batches:
        for event in events:
            punctuality.apply(event)
        now_s = time.monotonic()
        if now_s < due_s or punctuality.position == shown:
            continue
        due_s = now_s + SHOWN_EVERY_S
        position = punctuality.position
        if show(Snapshot(position, client.head(), punctuality.at, punctuality.carriers)):
            shown = position


def main(arguments: list[str] | None = None) -> int:
    """Follow a store until Ctrl-C, or until nobody reads the output."""
    parser = argparse.ArgumentParser(prog="python -m rewind.demo.punctuality")
    parser.add_argument(
        "-e", "--endpoint", default=os.environ.get("REWIND_ENDPOINT", ENDPOINT), metavar="EP"
    )
    parser.add_argument("--json", action="store_true", help="a snapshot a line, for programs")
    options = parser.parse_args(arguments)
    show = _print_json if options.json else _draw(Screen(sys.stdout))
    try:
        with rewind.connect(options.endpoint) as client:
            follow(client, client.subscribe().batches(max_wait=SHOWN_EVERY_S), show)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output is gone: the interpreter must not try to flush what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _print_json(snapshot: Snapshot) -> bool:
    sys.stdout.write(msgspec.json.encode(snapshot).decode() + "\n")
    sys.stdout.flush()
    return True


def _draw(screen: Screen) -> Callable[[Snapshot], bool]:
    return lambda snapshot: screen.show(table(snapshot))


if __name__ == "__main__":
    sys.exit(main())
