"""A start that fails half way leaves nothing open, and what importing the daemon loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zmq
from conftest import DURABLE, store_url

from rewind.backends import open_backend
from rewind.backends.memory import MemoryBackend
from rewind.daemon import process
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.errors import CannotBind, StoreDamaged
from rewind.store import Store
from rewind.wire.messages import prepare_large_messages

FREE = ("tcp://127.0.0.1:*",)

prepare_large_messages()  # What it opens belongs to the process, and stays.


def descriptors() -> set[str]:
    """The open descriptors of this process, and what they are."""
    open_now = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            open_now.add(f"{link.name} {link.readlink()}")
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return open_now


@pytest.fixture
def used() -> Any:
    """An endpoint that somebody else has bound."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.REP)
    socket.bind("tcp://127.0.0.1:*")
    yield socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
    context.destroy(linger=0)


@pytest.mark.parametrize("feed", ["incoming_bind", "streaming_bind", "topic_bind"])
def test_a_server_that_cannot_bind_leaves_no_descriptor_open(used: str, feed: str) -> None:
    binds = {"incoming_bind": FREE, "streaming_bind": FREE, "topic_bind": FREE, feed: (used,)}
    before = descriptors()
    with pytest.raises(CannotBind):
        Server(Settings(**binds), Store(MemoryBackend()))
    assert descriptors() == before


def test_a_server_that_has_ended_leaves_no_descriptor_open() -> None:
    before = descriptors()
    binds = {"incoming_bind": FREE, "streaming_bind": FREE, "topic_bind": FREE}
    server = Server(Settings(**binds), Store(MemoryBackend()))
    server.stop()
    server.run()
    assert descriptors() == before


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_daemon_that_cannot_bind_gives_its_store_back(
    scheme: str, tmp_path: Path, used: str
) -> None:
    url = store_url(scheme, tmp_path)
    before = descriptors()
    assert process.serve(Settings(store=url, incoming_bind=(used,))) == CannotBind.exit_code
    assert descriptors() == before
    open_backend(url).close()  # the lock is free


def test_a_daemon_whose_store_is_damaged_at_its_end_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last event is read for the chain of previous ids, when the sockets are there already."""

    def damaged(store: Store) -> bytes:
        raise StoreDamaged("the last record fails its checksum")

    monkeypatch.setattr(Store, "last_id", damaged)
    url = store_url("sqlite", tmp_path)
    before = descriptors()
    settings = Settings(store=url, incoming_bind=FREE, streaming_bind=FREE, topic_bind=FREE)
    assert process.serve(settings) == StoreDamaged.exit_code
    assert descriptors() == before
    open_backend(url).close()


def test_importing_the_daemon_loads_no_zeromq_and_no_store() -> None:
    code = "import sys; from rewind.daemon import Settings, serve, settings; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(out.stdout.split())
    assert "rewind.daemon.settings" in loaded
    assert not loaded & {"zmq", "rewind.store", "rewind.backends", "rewind.daemon.process"}
