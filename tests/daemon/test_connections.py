"""Many connections: how many fit, and that neither the daemon nor its store suffers from more."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ALL_SCHEMES, store_url
from golden_session import requests
from raw import Raw

from rewind.daemon.connections import DESCRIPTORS_MAX, DESCRIPTORS_NEEDED
from rewind.testing import Daemon

LIMIT = 256
CROWD = 600  # More than twice what fits.
PATIENCE_S = 60.0


class Limited:
    """A daemon that may open LIMIT descriptors, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.path = log

    @property
    def log(self) -> str:
        return self.path.read_text()

    def port(self, name: str) -> int:
        found = re.search(rf" {name}=tcp://127.0.0.1:(\d+)", self.log)
        assert found is not None
        return int(found[1])

    @property
    def endpoint(self) -> str:
        return f"tcp://127.0.0.1:{self.port('incoming')}"

    def eventually_says(self, words: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while words not in self.log:
            assert self.process.poll() is None and time.monotonic() < deadline_s, self.log
            time.sleep(0.01)


@contextlib.contextmanager
def limited(store: str, directory: Path, limit: int = LIMIT) -> Iterator[Limited]:
    log = directory / "log"
    free = [part for name in ("incoming", "streaming", "topic", "gorewind")
            for part in (f"--{name}-bind", "tcp://127.0.0.1:*")]  # fmt: skip
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "rewind", "serve", "--store", store, *free],
            stdin=subprocess.DEVNULL,
            stderr=output,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        )
    try:
        yield Limited(process, log)
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """This process connects more often than a usual limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2 * CROWD:
        pytest.skip("this process may not open so many connections itself")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2 * CROWD), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.contextmanager
def crowd(*ports: int) -> Iterator[list[socket.socket]]:
    """Connections that say nothing, on each of some ports in turn."""
    with contextlib.ExitStack() as opened:
        idle = []
        for n in range(CROWD):
            one = opened.enter_context(
                socket.create_connection(("127.0.0.1", ports[n % len(ports)]))
            )
            idle.append(one)
        yield idle


def wait_until_closed(idle: list[socket.socket], count: int) -> None:
    """Wait until the daemon has closed at least so many of these connections."""
    deadline_s = time.monotonic() + PATIENCE_S
    open_still = set(idle)
    poll = select.poll()
    for one in idle:
        poll.register(one, select.POLLRDHUP)
    by_descriptor = {one.fileno(): one for one in idle}
    while len(idle) - len(open_still) < count:
        assert time.monotonic() < deadline_s, f"{len(open_still)} are open still"
        for descriptor, _ in poll.poll(1_000):
            open_still.discard(by_descriptor[descriptor])
            poll.unregister(descriptor)


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_a_crowd_of_connections_harms_neither_the_store_nor_who_was_there(
    scheme: str, tmp_path: Path, many_descriptors: None
) -> None:
    with limited(store_url(scheme, tmp_path), tmp_path) as daemon:
        daemon.eventually_says(" ready ")
        with Raw(daemon.endpoint) as raw:
            fit = raw.native("INFO")[0]["limits"]["connections"]
            assert 50 <= fit < LIMIT
            assert f" connections={fit}" in daemon.log
            ports = [daemon.port(name) for name in ("incoming", "streaming", "topic", "gorewind")]
            with crowd(*ports) as idle:
                wait_until_closed(idle, CROWD - fit)
                assert daemon.log.count("no more fit") == 1  # The next is said in a minute.
                for n in range(100):  # So much that LevelDB and the log begin new files.
                    reply = raw.append(*[("s", os.urandom(10_000))] * 16)
                    assert reply["last"] == 16 * (n + 1)
                page, records = raw.native("READ", {"max_bytes": 8 * 1024 * 1024})
                assert page["count"] == len(records) > 500
                open_now = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
                assert open_now <= LIMIT - 20, "descriptors are left for the store"
        with Raw(daemon.endpoint) as raw:  # There is room again.
            assert raw.native("INFO")[0]["head"] == 1_600
        daemon.process.terminate()
        assert daemon.process.wait(PATIENCE_S) == 0
        assert "more like it" in daemon.log


def test_the_soft_limit_is_raised_to_the_hard_one(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        with Daemon("memory:") as daemon:
            limits = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert limits == (wanted, hard)


def test_too_few_descriptors_to_start_are_said(tmp_path: Path) -> None:
    for limit in range(24, DESCRIPTORS_NEEDED, 8):
        with limited(f"sqlite:{tmp_path / 'store'}", tmp_path, limit) as daemon:
            assert daemon.process.wait(PATIENCE_S) == 71
            assert "raise the limit (ulimit -n" in daemon.log and daemon.log.count("\n") == 1
            assert not (tmp_path / "store").exists()


def test_a_start_with_just_enough_descriptors_serves(tmp_path: Path) -> None:
    with limited(f"log:{tmp_path / 'store'}", tmp_path, DESCRIPTORS_NEEDED + 8) as daemon:
        daemon.eventually_says(" ready ")
        with Raw(daemon.endpoint) as raw:
            assert raw.append(("s", b"x"))["last"] == 1


FEW = """
import os, resource, sys
from rewind.backends.memory import MemoryBackend
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.errors import CannotBind
from rewind.store import Store
open_now = len(os.listdir("/dev/fd")) - 1
resource.setrlimit(resource.RLIMIT_NOFILE, (open_now + int(sys.argv[1]), 1024))
try:
    Server(Settings(), Store(MemoryBackend()))
except CannotBind as error:
    print(error)
"""


def test_sockets_that_cannot_be_opened_are_an_error_of_rewinds() -> None:
    done = subprocess.run([sys.executable, "-c", FEW, "0"], capture_output=True, text=True)
    assert done.stdout == "cannot open the daemon's sockets: Too many open files\n", done.stderr


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_nothing_is_imported_once_the_daemon_serves(scheme: str, tmp_path: Path) -> None:
    """An import opens files, and a daemon with many connections may have no descriptor for one."""
    timed = {"PYTHONPROFILEIMPORTTIME": "1"}
    with Daemon(store_url(scheme, tmp_path), "--log-level", "debug", env=timed) as daemon:
        with Raw(daemon.endpoint) as raw:
            for _, frames, answers in requests():
                raw.send(b"", *frames)
                for _ in range(answers):
                    raw.recv()
            for _ in range(40):
                raw.append(*[("s", os.urandom(20_000))] * 16)
            raw.native("READ", {"max_bytes": 8 * 1024 * 1024})
            raw.native("READ", {"after": 1_000, "wait_ms": 10})
        assert daemon.stop() == 0
        before, _, after = daemon.log.partition(" ready ")
        assert "import time:" in before and "import time:" not in after
