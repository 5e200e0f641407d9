"""Run flights through a daemon as fast as it goes, and print the figures.

    python -m rewind.demo.load [flights.csv.gz] [--store URL] [--batch N]

Without a file it is the week that comes with the demo; with flights.csv.gz of nycflights13 it is all
of 2013. One writer appends, an append under way at a time, each synced before the next one is sent;
then one reader reads everything back, and one subscription makes the table of punctuality, which is
compared with the rows. Figures of one machine on one day, to compare with its own, and no benchmark
of many clients.

The store is a temporary one, or made at the URL or path given, and then kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import rewind
from rewind.demo.figures import DemoFailed, count, totals
from rewind.demo.flights import WEEK, flight_of, in_order, read_rows
from rewind.demo.punctuality import Punctuality
from rewind.testing.daemon import USUAL_FEEDS, Daemon

APPEND_EVENTS = 500


def main(arguments: list[str] | None = None) -> int:
    """Load, read back, compare. Returns the exit code; raises ``RewindError``."""
    parser = argparse.ArgumentParser(prog="python -m rewind.demo.load")
    parser.add_argument("file", nargs="?", type=Path, default=WEEK, metavar="flights.csv.gz")
    parser.add_argument("--store", metavar="URL", help="keep the events here; must be empty")
    parser.add_argument("--batch", type=int, default=APPEND_EVENTS, metavar="N")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="rewind-load-") as name:
        store = options.store or str(Path(name) / "store")
        with Daemon(store, feeds=USUAL_FEEDS) as daemon:
            with rewind.connect(daemon.endpoint) as client:
                if client.head():
                    raise DemoFailed(f"{daemon.store} holds {client.head()} events already")
                print(f"store {daemon.store}, {options.batch} events an append")
                _run(client, options.file, options.batch, Path(daemon.store.partition(":")[2]))
            daemon.stop()
    return 0


def _run(client: rewind.Client, file: Path, append_events: int, store: Path) -> None:
    began_s = time.perf_counter()
    flights = [flight_of(row) for row in read_rows(file)]
    print(f"flights     {len(flights):>10,}   {_since(began_s)} to read from {file.name}")
    events, data_bytes, append_s = _append(client, in_order(flights), append_events)
    print(f"data        {data_bytes:>10,} bytes in {events:,} events")
    print(_rate("appended", events, append_s))
    print(_rate("read back", *_timed(client.read())))
    punctuality = Punctuality()
    print(_rate("projected", *_timed(_project(client, punctuality, events))))
    if store.is_dir():
        size = sum(file.stat().st_size for file in store.rglob("*") if file.is_file())
        print(f"store       {size:>10,} bytes on disk, {size / events:.0f} an event")
    if punctuality.carriers != count(read_rows(file)):
        raise DemoFailed("the projection does not agree with the CSV")
    total = totals(punctuality.carriers.values())
    print(f"The projection agrees with the CSV: {total.on_time / total.timed:.1%} on time.")


def _append(
    client: rewind.Client, events: Iterable[tuple[str, rewind.NewEvent]], append_events: int
) -> tuple[int, int, float]:
    """Append all; returns how many events, how many bytes of data, and the seconds that
    ``append_streams`` took. Making the events is not counted."""
    pending = iter(events)
    last = data_bytes = 0
    seconds = 0.0
    while append := list(islice(pending, append_events)):
        data_bytes += sum(len(event.data) for _, event in append)
        began_s = time.perf_counter()
        last = client.append_streams(append).last
        seconds += time.perf_counter() - began_s
    return last, data_bytes, seconds


def _project(client: rewind.Client, punctuality: Punctuality, until: int) -> Iterator[rewind.Event]:
    """Every event up to a position, from a subscription, after the projection took it in."""
    subscription = client.subscribe()
    for event in subscription:
        punctuality.apply(event)
        yield event
        if event.position == until:
            subscription.stop()


def _timed(events: Iterable[rewind.Event]) -> tuple[int, float]:
    began_s = time.perf_counter()
    return sum(1 for _ in events), time.perf_counter() - began_s


def _rate(what: str, events: int, seconds: float) -> str:
    return f"{what:<12}{events:>10,} events in {seconds:.1f} s, {events / seconds:,.0f} a second"


def _since(began_s: float) -> str:
    return f"{time.perf_counter() - began_s:.1f} s"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except rewind.RewindError as failed:
        print(f"load: {failed}", file=sys.stderr)
        sys.exit(failed.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
