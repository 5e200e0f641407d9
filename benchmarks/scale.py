"""Does size matter? A store is filled through its daemon, killed with -9, reopened and measured.

    python benchmarks/scale.py --store leveldb --events 10000000 --streams 1000000

Prints, at ten thousand events and at the full number: the daemon's anonymous memory, how long a
killed store takes to open, and how long one append and one read of a stream take (median, over one
connection, waiting for each answer), right after opening ("cold": LevelDB opens its tables) and
later ("warm"). The two sizes are measured by the same code in one run.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import zmq

from rewind.testing import Daemon

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
EVENTS_PER_APPEND = 1_000
DATA_BYTES = 256
IN_FLIGHT = 8
PROBES = 500
WARM_UP = 5_000
READY_S = 120.0  # a store of ten million events takes long to open while the disk is busy


class Connection:
    """A plain DEALER, connected to a daemon."""

    def __init__(self, endpoint: str) -> None:
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = 60_000
        self.socket.connect(endpoint)

    def ask(self, command: bytes, body: object) -> tuple[dict, bytes]:
        """The body and the chunk of the reply to a request."""
        self.socket.send_multipart([command, b"", pack(body)])
        status, _, reply, *chunk = self.socket.recv_multipart()
        assert status == b"OK", unpack(reply)
        return unpack(reply), chunk[0] if chunk else b""


@contextmanager
def connected(url: str) -> Iterator[tuple[Daemon, Connection]]:
    """A daemon on a store, killed in the end, and a connection to it."""
    with Daemon(url, feeds=(), ready_s=READY_S) as daemon:
        connection = Connection(daemon.endpoint)
        yield daemon, connection
        connection.socket.close()


def anonymous_mb(daemon: Daemon) -> float:
    """Its anonymous memory (RssAnon of proc(5))."""
    status = Path(f"/proc/{daemon.pid}/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def fill(connection: Connection, count: int, streams: int, chooser: random.Random) -> float:
    """Append ``count`` events over random streams; events a second."""
    begun = time.perf_counter()
    waiting = 0
    for done in range(0, count, EVENTS_PER_APPEND):
        events = [
            [
                None,
                f"stream-{chooser.randrange(streams):07}",
                "happened",
                [],
                {},
                os.urandom(DATA_BYTES),
            ]
            for _ in range(min(EVENTS_PER_APPEND, count - done))
        ]
        connection.socket.send_multipart([b"APPEND", b"", pack({"events": events})])
        waiting += 1
        if waiting == IN_FLIGHT:
            assert connection.socket.recv_multipart()[0] == b"OK"
            waiting -= 1
        if sys.stderr.isatty():
            print(f"\r{done + len(events):>12,} of {count:,}", end="", file=sys.stderr)
    for _ in range(waiting):
        assert connection.socket.recv_multipart()[0] == b"OK"
    return count / (time.perf_counter() - begun)


def probe(
    connection: Connection, streams: int, chooser: random.Random, count: int
) -> tuple[float, float]:
    """Median microseconds of one append, and of reading one stream (its first page)."""
    appends, reads = [], []
    for _ in range(count):
        name = f"stream-{chooser.randrange(streams):07}"
        event = [None, name, "happened", [], {}, os.urandom(DATA_BYTES)]
        begun = time.perf_counter()
        connection.ask(b"APPEND", {"events": [event], "id": os.urandom(16)})
        appends.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        connection.ask(b"READ", {"stream": name, "limit": 10})
        reads.append(time.perf_counter() - begun)
    return statistics.median(appends) * 1e6, statistics.median(reads) * 1e6


def measure(url: str, streams: int, chooser: random.Random) -> dict[str, float]:
    """Open, measure, kill, open again."""
    with connected(url):
        pass
    with connected(url) as (daemon, connection):
        cold_append_us, cold_read_us = probe(connection, streams, chooser, PROBES)
        probe(connection, streams, chooser, WARM_UP)
        append_us, read_us = probe(connection, streams, chooser, PROBES)
        return {
            "events": connection.ask(b"INFO", {})[0]["head"],
            "open_s": daemon.start_s,
            "anon_mb": anonymous_mb(daemon),
            "cold_append_us": cold_append_us,
            "cold_read_us": cold_read_us,
            "append_us": append_us,
            "read_us": read_us,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--store", default="leveldb", help="a scheme")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    chooser = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        url = f"{options.store}:{directory}/store"
        rows = []
        done = 0
        for size in (10_000, options.events):
            streams = max(1, options.streams * size // options.events)
            with connected(url) as (daemon, connection):
                rate = fill(connection, size - done, streams, chooser)
                filled_mb = anonymous_mb(daemon)
            rows.append({**measure(url, streams, chooser), "rate": rate, "filled_mb": filled_mb})
            done = size
        size_mb = sum(f.stat().st_size for f in Path(directory).rglob("*") if f.is_file()) / 1e6
    print(
        f"\n{options.store}, {options.events:,} events in {options.streams:,} streams, {size_mb:,.0f} MB on disk"
    )
    header = ("events", "filled at", "anon full", "anon open", "open")
    header += ("cold append", "cold read", "append", "read")
    print("".join(f"{name:>13}" for name in header))
    for row in rows:
        cells = (
            f"{row['events']:,.0f}",
            f"{row['rate']:,.0f}/s",
            f"{row['filled_mb']:.0f} MB",
            f"{row['anon_mb']:.0f} MB",
            f"{row['open_s']:.2f} s",
            f"{row['cold_append_us']:.0f} us",
            f"{row['cold_read_us']:.0f} us",
            f"{row['append_us']:.0f} us",
            f"{row['read_us']:.0f} us",
        )
        print("".join(f"{cell:>13}" for cell in cells))


if __name__ == "__main__":
    main()
