"""What a daemon says in its log while it runs, and how often."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable

import pytest
from raw import Raw

from rewind.backends.contract import Commit
from rewind.backends.memory import MemoryBackend
from rewind.daemon.server import STUCK_TURN_S, Server
from rewind.daemon.settings import Settings
from rewind.release import __version__
from rewind.store import Store
from rewind.testing import Daemon


def refuse_some(daemon: Daemon) -> None:
    with Raw(daemon.endpoint) as raw:
        raw.append(("s", b"x"))
        for _ in range(5):
            assert raw.append(("s", b"x"), expected={"s": 7})["code"] == "wrong_expected_version"
        for _ in range(3):
            raw.native("READ", {"limit": -1})
        assert raw.ask(b"PUBLISH")[0].startswith(b"ERROR")


def test_refusals_are_a_line_a_kind_at_debug() -> None:
    with Daemon("memory:", "--log-level", "debug") as daemon:
        refuse_some(daemon)
        assert daemon.log.count("wrong_expected_version: ") == 1
        assert daemon.log.count("bad_request: ") == 1
        assert daemon.stop() == 0
    refused = [line for line in daemon.log.splitlines() if " DEBUG refused peer " in line]
    assert len(refused) == 4
    assert re.search(r"wrong_expected_version: .* \(4 more like it\)", daemon.log)
    assert re.search(r"bad_request: .* \(3 more like it\)", daemon.log)


def test_refusals_are_no_news_at_info() -> None:
    with Daemon("memory:") as daemon:
        refuse_some(daemon)
        assert daemon.stop() == 0
    assert daemon.log.count("\n") == 3  # Ready, in memory, stopped.


def test_connections_and_their_ends_are_said_at_debug() -> None:
    with Daemon("memory:", "--log-level", "debug") as daemon:
        begins = re.compile(r"DEBUG connection (\d+) to incoming: 127.0.0.1:\d+\n")
        with Raw(daemon.endpoint) as raw:
            raw.native("INFO")
            # A thread says it, perhaps after the reply, and knows the address of who is still there.
            eventually(lambda: begins.search(daemon.log) is not None)
        begun = begins.search(daemon.log)
        assert begun is not None
        eventually(lambda: f"connection {begun[1]} to incoming has ended" in daemon.log)


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.01)


def test_the_ready_line_says_what_runs_and_where(daemon: Daemon) -> None:
    ready = daemon.log.splitlines()[0]
    endpoints = " ".join(f"{name}={at}" for name, at in daemon.endpoints.items())
    assert f" INFO rewind {__version__} ready {endpoints} store=memory: head=0 " in ready
    assert re.search(r" durability=memory connections=\d+$", ready)


class SlowDisk(MemoryBackend):
    def commit(self, commit: Commit) -> None:
        time.sleep(STUCK_TURN_S + 0.05)
        super().commit(commit)


def test_a_turn_that_everybody_waited_for_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    free = ("tcp://127.0.0.1:*",)
    settings = Settings(incoming_bind=free, streaming_bind=(), topic_bind=())
    server = Server(settings, Store(SlowDisk()))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with Raw(server.endpoints["incoming"][0]) as raw:
            raw.append(("s", b"x"))
    finally:
        server.stop()
        thread.join()
    assert any(message.startswith("a turn took") for message in caplog.messages), caplog.messages
