"""The starter of daemons, which every other test with a real daemon rests on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

import rewind
from rewind.testing import Daemon, Process, ProcessFailed, process


def test_a_daemon_is_ready_and_knows_its_endpoints_and_store(tmp_path: Path) -> None:
    with Daemon(f"sqlite:{tmp_path}/a store") as daemon:
        assert sorted(daemon.endpoints) == ["gorewind", "incoming", "streaming", "topic"]
        assert daemon.endpoint == daemon.endpoints["incoming"]
        assert daemon.store == f"sqlite:{tmp_path}/a store"
        assert daemon.start_s > 0
        with rewind.connect(daemon.endpoint) as client:
            assert client.append("s", rewind.NewEvent("t")).last == 1
            assert client.info().endpoints["topic"] == [daemon.endpoints["topic"]]
    assert not psutil.pid_exists(daemon.pid)


def test_a_store_without_a_scheme_gets_one(tmp_path: Path) -> None:
    with Daemon(str(tmp_path / "store")) as daemon:
        scheme, _, path = daemon.store.partition(":")
        assert scheme in ("leveldb", "sqlite") and path == str(tmp_path / "store")


def test_a_restart_keeps_ports_store_and_log(tmp_path: Path) -> None:
    with Daemon(f"sqlite:{tmp_path}/store", "--incoming-bind", f"ipc://{tmp_path}/i") as daemon:
        before = dict(daemon.endpoints)
        with rewind.connect(daemon.endpoint) as client:
            client.append("s", rewind.NewEvent("t"))
            for kill in (True, False):
                daemon.restart(kill=kill)
                assert daemon.endpoints == before
                assert client.head() == 1
        assert daemon.log.count(" ready ") == 3


def test_only_the_feeds_asked_for_are_bound() -> None:
    with Daemon("memory:", feeds=("topic",)) as daemon, rewind.connect(daemon.endpoint) as client:
        assert sorted(daemon.endpoints) == ["incoming", "topic"]
        bound = client.info().endpoints
        assert [name for name in bound if bound[name]] == ["incoming", "topic"]


def test_stop_gives_the_exit_code_and_may_be_repeated() -> None:
    daemon = Daemon("memory:")
    daemon.start()
    assert daemon.stop() == daemon.stop() == 0
    assert "stopped at head 0" in daemon.log
    daemon.kill()


def test_a_daemon_that_cannot_start_fails_with_its_own_words(tmp_path: Path) -> None:
    with (
        pytest.raises(ProcessFailed, match=r"exit code 78; it said:\n(.*\n)*.*--max-event-bytes"),
        Daemon("memory:", "--max-event-bytes", "many"),
    ):
        pass
    with Daemon(f"sqlite:{tmp_path}/store") as daemon:
        second = Daemon(daemon.store)
        with pytest.raises(ProcessFailed, match=f"in use by pid {daemon.pid} "):
            second.start()


def test_a_daemon_that_is_not_ready_in_time_is_killed() -> None:
    daemon = Daemon("memory:", ready_s=0.0)
    with pytest.raises(ProcessFailed, match="the daemon was not ready after 0 s"):
        daemon.start()
    assert daemon.process.returncode == -signal.SIGKILL


def test_that_nobody_answered_is_explained_by_how_the_daemon_ended() -> None:
    with (
        pytest.raises(ProcessFailed, match="the daemon ended with exit code -9"),
        Daemon("memory:") as daemon,
        rewind.connect(daemon.endpoint, timeout=0.2) as client,
    ):
        daemon.process.kill()
        daemon.wait()
        client.head()


def test_a_users_settings_are_not_inherited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REWIND_MAX_EVENT_BYTES", "nonsense")
    daemon = Daemon("memory:", env={"REWIND_INSECURE": "1"})
    with daemon, rewind.connect(daemon.endpoint) as client:
        assert client.info().insecure


def test_the_log_can_be_a_file_which_is_added_to(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("rewind 0.0.0 ready incoming=nowhere store=memory: head=0 durability=memory\n")
    with Daemon("memory:", log=log) as daemon:
        assert daemon.endpoint.startswith("tcp://")
    assert log.read_text() == daemon.log
    assert daemon.log.startswith("rewind 0.0.0") and daemon.log.count(" ready ") == 2


def test_a_daemon_can_be_started_by_any_thread() -> None:
    daemon = Daemon("memory:")
    starting = threading.Thread(target=daemon.start)
    starting.start()
    starting.join()
    assert daemon.stop() == 0


def test_a_process_that_ended_says_so() -> None:
    with Process("clock", ["json.tool", "--nonsense"]) as clock:
        assert clock.wait() == 2
        with pytest.raises(
            ProcessFailed, match=r"the clock ended with exit code 2; it said:\nusage"
        ):
            clock.check()


def test_a_signal_during_a_start_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal arrives when the process is there and its object is not yet."""
    started: list[int] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: object, **more: object) -> None:
            super().__init__(*arguments, **more)  # type: ignore[call-overload]
            started.append(self.pid)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(process.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), Daemon("memory:"):
        raise AssertionError("not reached")
    assert len(started) == 1 and not psutil.pid_exists(started[0])


def test_an_ignored_signal_is_ignored_by_the_process_too() -> None:
    code = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "from rewind.testing import Daemon\n"
        "with Daemon('memory:') as daemon:\n"
        "    daemon.process.send_signal(signal.SIGHUP)\n"
        "    sys.exit(daemon.stop())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
