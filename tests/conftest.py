"""Fixtures shared by the tests: real daemons on real stores."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from raw import Raw

from rewind.testing import Daemon

# A shell that runs the tests in the background has their children ignore Ctrl-C, which some are sent.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What runs the tests may say how wide its own terminal is, which is not that of the commands they start.
for size in ("COLUMNS", "LINES"):
    os.environ.pop(size, None)

DURABLE = [
    pytest.param(
        "leveldb",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("plyvel") is None, reason="plyvel is not installed here"
        ),
    ),
    "sqlite",
    "log",
]
ALL_SCHEMES = [*DURABLE, "memory"]


def store_url(scheme: str, path: Path) -> str:
    """A store URL of this scheme below a temporary directory."""
    return "memory:" if scheme == "memory" else f"{scheme}:{path / 'store'}"


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon on a store in memory."""
    with Daemon("memory:") as running:
        yield running


@pytest.fixture
def raw(daemon: Daemon) -> Iterator[Raw]:
    """A plain DEALER connected to it."""
    with Raw(daemon.endpoints["incoming"]) as client:
        yield client
