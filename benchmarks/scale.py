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
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import zmq

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
EVENTS_PER_APPEND = 1_000
DATA_BYTES = 256
IN_FLIGHT = 8
PROBES = 500
WARM_UP = 5_000


class Daemon:
    """A daemon on a free port, and a connection to it."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "rewind", "serve", "--store", url]
        command += ["--incoming-bind", "tcp://127.0.0.1:*", "--topic-bind", ""]
        begun = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, "--streaming-bind", ""], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = next((line for line in self.process.stderr if " ready " in line), "")
        self.open_s = time.perf_counter() - begun
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.rcvtimeo = 60_000
        self.socket.connect(re.findall(r"incoming=(\S+)", line)[0])

    def ask(self, command: bytes, body: object) -> tuple[dict, bytes]:
        self.socket.send_multipart([command, b"", pack(body)])
        status, _, reply, *chunk = self.socket.recv_multipart()
        assert status == b"OK", unpack(reply)
        return unpack(reply), chunk[0] if chunk else b""

    def anonymous_mb(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("RssAnon:")[1].split()[0]) / 1024

    def kill(self) -> None:
        self.socket.close()
        self.process.kill()
        self.process.wait()


def fill(daemon: Daemon, count: int, streams: int, chooser: random.Random) -> float:
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
        daemon.socket.send_multipart([b"APPEND", b"", pack({"events": events})])
        waiting += 1
        if waiting == IN_FLIGHT:
            assert daemon.socket.recv_multipart()[0] == b"OK"
            waiting -= 1
        if sys.stderr.isatty():
            print(f"\r{done + len(events):>12,} of {count:,}", end="", file=sys.stderr)
    for _ in range(waiting):
        assert daemon.socket.recv_multipart()[0] == b"OK"
    return count / (time.perf_counter() - begun)


def probe(daemon: Daemon, streams: int, chooser: random.Random, count: int) -> tuple[float, float]:
    """Median microseconds of one append, and of reading one stream (its first page)."""
    appends, reads = [], []
    for _ in range(count):
        name = f"stream-{chooser.randrange(streams):07}"
        event = [None, name, "happened", [], {}, os.urandom(DATA_BYTES)]
        begun = time.perf_counter()
        daemon.ask(b"APPEND", {"events": [event], "id": os.urandom(16)})
        appends.append(time.perf_counter() - begun)
        begun = time.perf_counter()
        daemon.ask(b"READ", {"stream": name, "limit": 10})
        reads.append(time.perf_counter() - begun)
    return statistics.median(appends) * 1e6, statistics.median(reads) * 1e6


def measure(url: str, streams: int, chooser: random.Random) -> dict[str, float]:
    """Open, measure, kill, open again."""
    daemon = Daemon(url)
    daemon.kill()
    daemon = Daemon(url)
    cold_append_us, cold_read_us = probe(daemon, streams, chooser, PROBES)
    probe(daemon, streams, chooser, WARM_UP)
    append_us, read_us = probe(daemon, streams, chooser, PROBES)
    head = daemon.ask(b"INFO", {})[0]["head"]
    figures = {
        "events": head,
        "open_s": daemon.open_s,
        "anon_mb": daemon.anonymous_mb(),
        "cold_append_us": cold_append_us,
        "cold_read_us": cold_read_us,
        "append_us": append_us,
        "read_us": read_us,
    }
    daemon.kill()
    return figures


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
            daemon = Daemon(url)
            streams = max(1, options.streams * size // options.events)
            rate = fill(daemon, size - done, streams, chooser)
            filled_mb = daemon.anonymous_mb()
            daemon.kill()
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
