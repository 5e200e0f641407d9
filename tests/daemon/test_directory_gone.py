"""A store whose files are deleted, moved or replaced while it is open: noticed, and said."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from conftest import DURABLE, store_url
from raw import Raw

import rewind
from rewind.testing import Daemon

PATIENCE_S = 60.0


def delete(store: Path) -> None:
    shutil.rmtree(store)


def move(store: Path) -> None:
    store.rename(store.with_name("moved"))


def replace(store: Path) -> None:
    """By a copy, such as a backup that is put back under a live daemon."""
    move(store)
    shutil.copytree(store.with_name("moved"), store)


def delete_content(store: Path) -> None:
    for entry in store.iterdir():
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def delete_data(store: Path) -> None:
    """All but the identity and the lock."""
    for entry in store.iterdir():
        if entry.name not in ("rewind.json", "lock"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def delete_lock(store: Path) -> None:
    """A second daemon would find the store free."""
    (store / "lock").unlink()


def delete_identity(store: Path) -> None:
    """Nobody could open the store again, however much is stored in it."""
    (store / "rewind.json").unlink()


HARMS = [delete, move, replace, delete_content, delete_data, delete_lock, delete_identity]
Harm = Callable[[Path], None]


@pytest.mark.parametrize("harm", HARMS)
@pytest.mark.parametrize("scheme", DURABLE)
def test_a_daemon_stops_with_74_and_says_why(scheme: str, harm: Harm, tmp_path: Path) -> None:
    """Also one that nobody asks anything."""
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        with Raw(daemon.endpoints["incoming"]) as client:
            assert client.append(("s", b"x"))["last"] == 1
        harm(tmp_path / "store")
        assert daemon.wait() == 74
        assert "stopped by the store" in daemon.log
        assert "was deleted, moved or replaced while it was open" in daemon.log


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_daemon_under_load_soon_acknowledges_nothing_more(scheme: str, tmp_path: Path) -> None:
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        with Raw(daemon.endpoints["incoming"], timeout_ms=2_000) as client:
            client.append(("s", b"x"))
            delete(tmp_path / "store")
            deadline_s = time.monotonic() + PATIENCE_S
            with pytest.raises(zmq.Again):  # no answer: that is the point
                while time.monotonic() < deadline_s:
                    client.append(("s", b"x"))
        assert daemon.wait() == 74


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_daemon_that_is_stopped_first_ends_with_74_too(scheme: str, tmp_path: Path) -> None:
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        delete(tmp_path / "store")
        daemon.process.terminate()
        assert daemon.wait() == 74


@pytest.mark.parametrize("harm", [delete, replace])
@pytest.mark.parametrize("scheme", DURABLE)
def test_an_embedded_append_fails(scheme: str, harm: Harm, tmp_path: Path) -> None:
    with rewind.open(store_url(scheme, tmp_path)) as client:
        client.append("s", rewind.NewEvent("t"))
        harm(tmp_path / "store")
        deadline_s = time.monotonic() + PATIENCE_S
        with pytest.raises(rewind.StoreFailed, match="deleted, moved or replaced"):
            while time.monotonic() < deadline_s:
                client.append("s", rewind.NewEvent("t"))
        with pytest.raises(rewind.StoreFailed):
            client.head()


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_store_is_not_given_up_for_what_changes_beside_it(scheme: str, tmp_path: Path) -> None:
    """Files of others come and go, modes change, new files are begun."""
    store = tmp_path / "store"
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        with rewind.connect(daemon.endpoint) as client:
            begun_s = time.monotonic()
            while client.head() < 20 or time.monotonic() < begun_s + 2.5:  # it is looked at twice
                client.append("s", rewind.NewEvent("t", bytes(4_000_000)))
                (store / "note.txt").write_text("x")
                store.chmod(0o750)
                (store / "note.txt").unlink()
                time.sleep(0.05)
        assert daemon.stop() == 0
