"""The campaign ``python -m tests.campaigns.exactly_once --seconds 120``: append-and-advance under kill -9.

A runner appends what it makes of each job, one event or several, and moves its cursor in the same append.
Runner and daemon are killed in turn, at moments that a seed decides, while jobs come in; each third kill
hits both. In the end every job has every output exactly once, in order, and the cursor stands at the last
job. The seed is printed; with ``--seed`` the same moments come again, though not the same races.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import rewind
from rewind import Client, NewEvent
from rewind.testing import Daemon

SCHEMES = ("leveldb", "sqlite", "log")
PAUSE_S_MAX = 0.6  # The daemon takes about as long to start: kills hit a start as well.
GIVE_S = 0.005  # between jobs, so that the runner is near the head, and waits there now and then
TIMEOUT_S = 60.0
CURSOR = "runner"

# The data of a job is how many outputs it asks for.
RUNNER = """
import sys

import rewind
from rewind import Advance, NewEvent, QueryItem

def work(store):
    place = store.cursor("runner").position
    for job in store.subscribe(query=QueryItem(types=["JobGiven"]), after=place):
        outputs = [
            NewEvent.from_json("JobDone", [job.position, part], caused_by=job)
            for part in range(job.json())
        ]
        move = {"runner": Advance(job.position, expected=place)}
        if outputs:
            store.append(job.stream.replace("job", "done"), outputs, cursors=move)
        else:
            store.advance("runner", job.position, expected=place)
        place = job.position

with rewind.connect(sys.argv[1], timeout=60.0) as store:
    while True:
        try:
            work(store)
        except rewind.CursorMoved:
            pass  # What the process before this one had sent when it was killed has just arrived.
"""


def run(url: str, seconds: float, seed: int) -> int:
    """Kill for so many seconds, then compare; how many jobs there were. Raises ``AssertionError``."""
    chooser = random.Random(seed)
    done = threading.Event()
    given: list[tuple[int, int]] = []  # (position, outputs) of each job

    with Daemon(url) as daemon:
        endpoint = daemon.endpoint

        def give_jobs() -> None:
            sizes = random.Random(seed + 1)
            with rewind.connect(endpoint, timeout=TIMEOUT_S) as client:
                while not done.is_set():
                    outputs = sizes.choice((0, 1, 1, 1, 2, 5))
                    job = NewEvent.from_json("JobGiven", outputs)
                    given.append((client.append(f"job-{len(given) % 7}", job).last, outputs))
                    done.wait(GIVE_S)

        producer = threading.Thread(target=give_jobs)
        producer.start()
        runner = _start(endpoint)
        try:
            until_s = time.monotonic() + seconds
            turn = 0
            while time.monotonic() < until_s or turn < 3:
                done.wait(chooser.uniform(0.0, PAUSE_S_MAX))
                assert runner.poll() is None, "the runner ended by itself"
                if turn % 3 != 1:
                    runner.kill()
                    runner.wait()
                if turn % 3 != 0:
                    daemon.restart()
                if turn % 3 != 1:
                    runner = _start(endpoint)
                turn += 1
            done.set()
            producer.join()
            with rewind.connect(endpoint, timeout=TIMEOUT_S) as client:
                _wait_until_done(client, given[-1][0], runner)
                _compare(client, given)
        finally:
            done.set()
            producer.join()
            runner.kill()
            runner.wait()
    return len(given)


def _start(endpoint: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", RUNNER, endpoint])


def _wait_until_done(client: Client, position: int, runner: subprocess.Popen[bytes]) -> None:
    """Wait until the cursor is there. Raises ``AssertionError`` when the runner does not get there."""
    until_s = time.monotonic() + TIMEOUT_S
    while (at := client.cursor(CURSOR).position) < position:
        assert runner.poll() is None, "the runner ended by itself"
        assert time.monotonic() < until_s, f"the cursor is at {at}, and does not get to {position}"
        time.sleep(0.05)


def _compare(client: Client, given: list[tuple[int, int]]) -> None:
    """Raise ``AssertionError`` unless every output is there once, in order, and nothing else is."""
    jobs = [(job.position, job.json()) for job in client.read(types=["JobGiven"])]
    assert jobs == given, "a job was stored twice or lost"
    asked_for = [[position, part] for position, outputs in given for part in range(outputs)]
    outputs = [event.json() for event in client.read(types=["JobDone"])]
    assert outputs == asked_for, "an output was stored twice, lost, or not in order"
    assert client.cursor(CURSOR).position == given[-1][0]
    assert client.head() == len(jobs) + len(outputs)


def main() -> None:
    """Run the campaign on each durable store."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="in all")
    parser.add_argument("--scheme", action="append", choices=SCHEMES, help="only this; repeatable")
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    options = parser.parse_args()
    schemes = options.scheme or SCHEMES
    for scheme in schemes:
        print(f"{scheme}: seed {options.seed}", flush=True)
        with tempfile.TemporaryDirectory(prefix="rewind-campaign-") as directory:
            url = f"{scheme}:{Path(directory) / 'store'}"
            jobs = run(url, options.seconds / len(schemes), options.seed)
        print(f"{scheme}: {jobs} jobs, every output exactly once", flush=True)


if __name__ == "__main__":
    main()
