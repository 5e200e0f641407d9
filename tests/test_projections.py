"""docs/projections.rst under kill -9: its projections and the daemon are killed in turn, while orders come.

Each output is there exactly once in the end. The projections are the functions of the page, each in a
process of its own. A failure prints its seed.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from conftest import DURABLE, store_url
from pages import defined

import rewind
from rewind import Client
from rewind.testing import Daemon

KILLS = int(os.environ.get("REWIND_KILLS", "4"))  # each ends the projection or the daemon
TIMEOUT_S = 60.0  # a daemon that was killed is back much sooner, also on a busy machine
LOOK_S = 0.02
PAUSE_S = 0.005  # between orders, so that a projection is near the head when it is killed

PROJECTION = """
import sys

import rewind
from pages import defined

function, endpoint, timeout, *where = sys.argv[1:]
with rewind.connect(endpoint, timeout=float(timeout)) as store:
    while True:
        try:
            defined("projections")[function](store, *where)
        except rewind.CursorMoved:
            pass  # What the process before this one had sent when it was killed has just arrived.
"""

Outputs = Callable[[], list[int]]
"""The numbers of the orders that a projection has handled, as its outputs say."""


def table_outputs(path: Path) -> Outputs:
    open_table = defined("projections")["open_table"]

    def outputs() -> list[int]:
        with closing(open_table(path)) as table:
            return [number for (number,) in table.execute("SELECT number FROM orders")]

    return outputs


def label_outputs(folder: Path) -> Outputs:
    def outputs() -> list[int]:
        labels = sorted(int(label.stem) for label in folder.glob("*.txt"))
        for number in labels:
            text = (folder / f"{number}.txt").read_text()
            assert text == f"order {number}, {number * 100} cents"
        return labels

    return outputs


def confirmation_outputs(store: Client) -> Outputs:
    numbers: list[int] = []
    after = 0

    def outputs() -> list[int]:
        nonlocal after
        for event in store.read(types=["OrderConfirmed"], after=after):
            numbers.append(event.json()["number"])
            assert event.stream == f"order-{numbers[-1]}"
            after = event.position
        return numbers

    return outputs


@contextmanager
def orders(endpoint: str) -> Iterator[Callable[[], int]]:
    """Place orders all the time; the call ends that, and says how many there are."""
    place_order = defined("projections")["place_order"]
    done = threading.Event()
    placed = 0

    def place() -> None:
        nonlocal placed
        with rewind.connect(endpoint, timeout=TIMEOUT_S) as client:
            while not done.is_set():
                place_order(client, placed + 1, (placed + 1) * 100)
                placed += 1
                done.wait(PAUSE_S)

    def end() -> int:
        done.set()
        writer.join()
        return placed

    writer = threading.Thread(target=place)
    writer.start()
    try:
        yield end
    finally:
        end()


def start(function: str, endpoint: str, *where: str) -> subprocess.Popen[bytes]:
    """A projection of the page as a process."""
    return subprocess.Popen(
        [sys.executable, "-c", PROJECTION, function, endpoint, str(TIMEOUT_S), *where],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)},
    )


def wait_for(outputs: Outputs, count: int, projection: subprocess.Popen[bytes]) -> list[int]:
    """The outputs, once there are so many. Raises ``AssertionError`` if the projection has ended."""
    waiting = threading.Event()
    for _ in range(int(TIMEOUT_S / LOOK_S)):
        assert projection.poll() is None, "the projection ended by itself"
        if len(found := outputs()) >= count:
            return found
        waiting.wait(LOOK_S)
    raise AssertionError(f"{len(outputs())} of {count} outputs after {TIMEOUT_S} s")


def kill_in_turn(daemon: Daemon, outputs: Outputs, function: str, *where: str) -> int:
    """Let a projection run, and kill it and the daemon in turn; how many orders were placed.

    Returns when there are as many outputs, and asserts that each order has one, in order.
    """
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    chooser = random.Random(seed)
    projection = start(function, daemon.endpoint, *where)
    try:
        with orders(daemon.endpoint) as end:
            for turn in range(KILLS):
                wait_for(outputs, len(outputs()) + chooser.randrange(1, 40), projection)
                if turn % 2:
                    daemon.restart()
                else:
                    projection.kill()
                    projection.wait()
                    projection = start(function, daemon.endpoint, *where)
            placed = end()
            assert wait_for(outputs, placed, projection) == list(range(1, placed + 1))
    finally:
        projection.kill()
        projection.wait()
    return placed


def test_a_table_has_each_order_once(tmp_path: Path) -> None:
    table = tmp_path / "orders.db"
    with Daemon(store_url("sqlite", tmp_path)) as daemon:
        kill_in_turn(daemon, table_outputs(table), "fill_table", str(table))


@pytest.mark.parametrize("scheme", DURABLE)
def test_each_order_has_its_label(scheme: str, tmp_path: Path) -> None:
    labels = tmp_path / "labels"
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        placed = kill_in_turn(daemon, label_outputs(labels), "write_labels", str(labels))
        with rewind.connect(daemon.endpoint) as store:
            assert store.cursor("labels").position <= store.head() == placed


@pytest.mark.parametrize("scheme", DURABLE)
def test_each_order_is_confirmed_once(scheme: str, tmp_path: Path) -> None:
    with (
        Daemon(store_url(scheme, tmp_path)) as daemon,
        rewind.connect(daemon.endpoint, timeout=TIMEOUT_S) as store,
    ):
        placed = kill_in_turn(daemon, confirmation_outputs(store), "confirm_orders")
        last = list(store.read(types=["OrderPlaced"]))[-1]
        assert store.cursor("confirmations").position == last.position
        assert store.head() == 2 * placed
