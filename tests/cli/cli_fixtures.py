"""Fixtures of the command line's tests: a daemon, streams and stores.

A plugin and no conftest.py, because a second module of that name would hide the one above.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

import rewind
from rewind import NewEvent
from rewind.testing import Daemon


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for the tests that only need one; each uses streams of its own."""
    with Daemon("memory:") as daemon:
        yield daemon


@pytest.fixture
def at(shared: Daemon) -> list[str]:
    """The option that leads a command to that daemon."""
    return ["-e", shared.endpoints["incoming"]]


@pytest.fixture
def stream() -> str:
    """A name no other test uses."""
    return f"s-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A path where a store may come to be."""
    return str(tmp_path / "store")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of six events that nobody writes to."""
    store = str(tmp_path_factory.mktemp("library") / "store")
    with rewind.open(f"sqlite:{store}") as client:  # a kind that there is everywhere
        client.append("a-1", [NewEvent("x", b"1"), NewEvent("y", b"2", tags=["t"])])
        client.append("a-2", NewEvent("z", b"3", tags=["t", "u"]))
        client.append("b", [NewEvent("x", b"4"), NewEvent("x", b"5", tags=["u"])])
        client.append("a-1", NewEvent("z", b"6"))
    return store


@pytest.fixture(scope="module")
def nobody_there() -> Iterator[str]:
    """An endpoint with a listener behind it that never answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{bound.getsockname()[1]}"
