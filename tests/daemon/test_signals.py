"""Signals: which stop a daemon, which ask it something, and that no other harm comes of them."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import store_url
from raw import Raw

from rewind.backends import open_backend
from rewind.backends.contract import Backend
from rewind.daemon import process
from rewind.daemon.settings import Settings
from rewind.testing import Daemon

FREE = ("tcp://127.0.0.1:*",)
PATIENCE_S = 60.0


def eventually(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.01)


def test_sighup_is_answered_in_the_log_and_the_daemon_goes_on(daemon: Daemon) -> None:
    with Raw(daemon.endpoint) as raw:
        raw.append(("s", b"x"))
        daemon.process.send_signal(signal.SIGHUP)
        eventually(lambda: "SIGHUP: there is nothing to read again" in daemon.log)
        assert raw.append(("s", b"x"))["last"] == 2
    assert daemon.stop() == 0


@pytest.fixture
def ignored_hang_up() -> Iterator[None]:
    """As nohup(1) starts a program: what is ignored here is ignored in new processes."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


def test_under_nohup_a_hang_up_stays_ignored(ignored_hang_up: None) -> None:
    with Daemon("memory:") as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        daemon.process.send_signal(signal.SIGUSR1)
        eventually(lambda: "status:" in daemon.log)
        assert "SIGHUP" not in daemon.log and daemon.stop() == 0


def test_a_daemon_whose_terminal_is_closed_stops(tmp_path: Path) -> None:
    arguments = ["rewind", "serve", "--store", f"sqlite:{tmp_path / 'store'}"]
    for name in ("incoming", "streaming", "topic"):
        arguments += [f"--{name}-bind", "tcp://127.0.0.1:*"]
    terminal, other_end = pty.openpty()
    # The leader of a session without a terminal gets the first that it opens.
    opening = ["sh", "-c", 'exec "$@" <"$0" 2>"$0"', os.ttyname(other_end)]
    with subprocess.Popen(
        [*opening, sys.executable, "-m", *arguments], start_new_session=True
    ) as daemon:
        said = b""
        while b" ready " not in said:
            said += os.read(terminal, 1_000)
        os.close(other_end)  # Before the daemon has opened it, this would be the terminal's end.
        os.close(terminal)
        try:
            assert daemon.wait(PATIENCE_S) == 0, said
        finally:
            daemon.kill()
    open_backend(f"sqlite:{tmp_path / 'store'}").close()


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2])
def test_a_user_signal_says_how_it_stands(daemon: Daemon, number: signal.Signals) -> None:
    with Raw(daemon.endpoint) as raw, Raw(daemon.endpoint) as waiting:
        raw.append(("s", b"x"), ("s", b"y"))
        waiting.native("INFO")
        waiting.send(b"READ", b"r", b"\x82\xa5after\x02\xa7wait_ms\xcd\x75\x30")
        words = f"status: head=2 connections=2/{raw.native('INFO')[0]['limits']['connections']} waiting_reads=1 queues=0"

        def said() -> bool:
            daemon.process.send_signal(number)
            return words in daemon.log

        eventually(said)
    assert daemon.stop() == 0


def test_a_log_that_nobody_reads_any_longer_stops_nothing() -> None:
    options = [part for name in ("incoming", "streaming", "topic")
               for part in (f"--{name}-bind", "tcp://127.0.0.1:*")]  # fmt: skip
    command = [sys.executable, "-m", "rewind", "serve", "--store", "memory:", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as daemon:
        assert daemon.stderr is not None
        endpoint = daemon.stderr.readline().partition("incoming=")[2].split()[0]
        daemon.stderr.close()
        with Raw(endpoint) as raw:
            daemon.send_signal(signal.SIGUSR1)
            assert raw.append(("s", b"x"))["last"] == 1
            daemon.send_signal(signal.SIGHUP)
            assert raw.append(("s", b"x"))["last"] == 2
        daemon.terminate()
        assert daemon.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_during_the_start_ends_it_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    opened: list[Backend] = []

    def open_and_be_told(url: str) -> Backend:
        opened.append(open_backend(url))
        signal.raise_signal(number)
        return opened[0]

    handlers = [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)]
    monkeypatch.setattr(process, "open_backend", open_and_be_told)
    url = store_url("sqlite", tmp_path)
    settings = Settings(store=url, incoming_bind=FREE, streaming_bind=FREE, topic_bind=FREE)
    assert process.serve(settings) == 0
    assert [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)] == handlers
    opened[0].close()
    open_backend(url).close()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2])
def test_a_signal_that_asks_something_during_the_start_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """By default each of them kills."""
    reached = []

    def open_and_be_asked(url: str) -> Backend:
        backend = open_backend(url)
        signal.raise_signal(number)
        reached.append(number)
        backend.close()
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("SIGTERM ends it")

    handler = signal.getsignal(number)
    monkeypatch.setattr(process, "open_backend", open_and_be_asked)
    settings = Settings(
        store=store_url("sqlite", tmp_path),
        incoming_bind=FREE,
        streaming_bind=FREE,
        topic_bind=FREE,
    )
    assert process.serve(settings) == 0
    assert reached == [number] and signal.getsignal(number) == handler
