"""A subscriber killed and restarted from its last position, under a daemon killed and restarted."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import DURABLE, store_url

import rewind
from rewind import NewEvent
from rewind.testing import Daemon

KILLS = int(os.environ.get("REWIND_KILLS", "4"))  # each ends the subscriber or the daemon

# Writes each position it was handed as one line; goes on from the last whole line.
SUBSCRIBER = """
import os, sys
import rewind

path, endpoint = sys.argv[1:]
text = open(path).read()
after = int(text.split()[-1]) if text else 0
out = os.open(path, os.O_WRONLY | os.O_APPEND)
for event in rewind.connect(endpoint).subscribe(after=after):
    os.write(out, b"%d\\n" % event.position)
"""


def start_subscriber(path: Path, endpoint: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", SUBSCRIBER, str(path), endpoint])


def wait_for_lines(path: Path, count: int, timeout_s: float = 60) -> list[int]:
    """The positions in the file once there are so many, found with inotify's poor cousin."""
    waiting = threading.Event()
    for _ in range(int(timeout_s / 0.02)):
        lines = path.read_text().split()
        if len(lines) >= count:
            return [int(line) for line in lines]
        waiting.wait(0.02)
    raise AssertionError(
        f"{len(path.read_text().split())} of {count} positions after {timeout_s} s"
    )


@pytest.mark.parametrize("scheme", DURABLE)
def test_nothing_is_missed_or_repeated_whoever_is_killed(scheme: str, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    chooser = random.Random(seed)
    seen = tmp_path / "seen"
    seen.touch()
    done = threading.Event()
    written: list[int] = []

    with Daemon(store_url(scheme, tmp_path)) as daemon:
        endpoint = daemon.endpoints["incoming"]

        def write() -> None:
            with rewind.connect(endpoint, timeout=60) as client:
                while not done.is_set():
                    event = NewEvent("counted", b"%d" % len(written))
                    written.append(client.append(f"s{len(written) % 9}", event).last)

        writer = threading.Thread(target=write)
        writer.start()
        subscriber = start_subscriber(seen, endpoint)
        try:
            for n in range(KILLS):
                wait_for_lines(seen, len(seen.read_text().split()) + chooser.randrange(20, 200))
                if n % 2:
                    daemon.restart()
                else:
                    subscriber.kill()
                    subscriber.wait()
                    subscriber = start_subscriber(seen, endpoint)
            done.set()
            writer.join()
            positions = wait_for_lines(seen, len(written))
        finally:
            done.set()
            subscriber.kill()
            subscriber.wait()
            writer.join()
        assert written == list(range(1, len(written) + 1)), "an append was stored twice or lost"
        assert positions == written
