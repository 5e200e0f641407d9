"""A store that could not be opened, or closed, holds nothing: no descriptor, no lock.

Opening and closing are made of steps: calls of the operating system and of a driver. Each test lets
one step after the other fail, once, and compares the descriptors of this process with those of before.
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from contract import Kind, Scribe, read_all
from test_backends import FILES

from rewind.backends import Backend
from rewind.errors import StoreError, StoreFailed

#: Calls that a backend or its directory makes of the operating system.
CALLS: list[tuple[Any, str]] = [
    (os, "open"),
    (os, "dup"),
    (os, "listdir"),
    (os, "mkdir"),
    (os, "pwrite"),
    (os, "pread"),
    (os, "ftruncate"),
    (os, "fsync"),
    (os, "fdatasync"),
    (os, "replace"),
    (fcntl, "flock"),
    (builtins, "open"),
]


class Faults:
    """Counts steps, and lets the one numbered ``fails`` fail: 1 is the first, 0 none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: int) -> None:
        self.fails = fails
        self.count = 0
        self.failed = ""
        for owner, name in CALLS:
            monkeypatch.setattr(owner, name, self._failing(getattr(owner, name)))
        monkeypatch.setattr(os, "close", self._failing_after(os.close))
        self._watch_sqlite(monkeypatch)
        self._watch_leveldb(monkeypatch)

    def step(self, name: str, error: Exception) -> None:
        self.count += 1
        if self.count == self.fails:
            self.failed = name
            raise error

    def _failing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def failing(*args: Any, **options: Any) -> Any:
            self.step(call.__name__, OSError(errno.EIO, os.strerror(errno.EIO)))
            return call(*args, **options)

        return failing

    def _failing_after(self, close: Callable[[int], None]) -> Callable[[int], None]:
        """Linux has closed a descriptor, too, when close(2) fails."""

        def failing(descriptor: int) -> None:
            close(descriptor)
            self.step("close", OSError(errno.EIO, os.strerror(errno.EIO)))

        return failing

    def _watch_sqlite(self, monkeypatch: pytest.MonkeyPatch) -> None:
        faults, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            def execute(self, *args: Any) -> sqlite3.Cursor:
                faults.step("sqlite execute", sqlite3.OperationalError("disk I/O error"))
                return super().execute(*args)

            def close(self) -> None:
                super().close()
                faults.step("sqlite close", sqlite3.OperationalError("disk I/O error"))

        def connected(*args: Any, **options: Any) -> sqlite3.Connection:
            self.step("sqlite connect", sqlite3.OperationalError("unable to open database file"))
            return connect(*args, **options, factory=Connection)

        monkeypatch.setattr(sqlite3, "connect", connected)

    def _watch_leveldb(self, monkeypatch: pytest.MonkeyPatch) -> None:
        try:
            import plyvel
        except ImportError:
            return
        faults, database = self, plyvel.DB

        class DB:
            def __init__(self, *args: Any, **options: Any) -> None:
                self._step("open")
                self._db = database(*args, **options)

            def _step(self, name: str) -> None:
                faults.step(f"leveldb {name}", plyvel.IOError("IO error: on purpose"))

            def __getattr__(self, name: str) -> Any:
                self._step(name)
                return getattr(self._db, name)

            def close(self) -> None:
                self._db.close()
                faults.step("leveldb close", StoreFailed("plyvel itself never fails at this"))

        monkeypatch.setattr(plyvel, "DB", DB)


def descriptors() -> dict[str, str]:
    """The open descriptors of this process, and of what."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one this list was read through
            found[entry.name] = str(entry.readlink())
    return found


@pytest.mark.parametrize("kind", FILES)
def test_a_new_store_whose_opening_failed_holds_nothing(kind: Kind, tmp_path: Path) -> None:
    assert "flock" in let_each_step_of_opening_fail(kind, tmp_path, lambda path: [])


@pytest.mark.parametrize("kind", FILES)
def test_a_store_whose_opening_failed_holds_nothing(kind: Kind, tmp_path: Path) -> None:
    kept = write_a_store(kind, tmp_path / "kept")

    def copied(path: Path) -> list[bytes]:
        shutil.copytree(tmp_path / "kept", path)
        return kept

    assert "flock" in let_each_step_of_opening_fail(kind, tmp_path, copied)


@pytest.mark.parametrize("kind", [kind for kind in FILES if str(kind.id).startswith("log")])
def test_a_log_whose_recovery_failed_holds_nothing(kind: Kind, tmp_path: Path) -> None:
    kept = write_a_store(kind, tmp_path / "kept")
    for index in (tmp_path / "kept").glob("index-*"):
        shutil.rmtree(index)
    (segment,) = (tmp_path / "kept" / "segments").iterdir()
    with segment.open("ab") as file:
        file.write(b"half a commit")

    def copied(path: Path) -> list[bytes]:
        shutil.copytree(tmp_path / "kept", path)
        return kept

    assert "ftruncate" in let_each_step_of_opening_fail(kind, tmp_path, copied)


@pytest.mark.parametrize("kind", FILES)
def test_a_store_whose_closing_failed_holds_nothing(kind: Kind, tmp_path: Path) -> None:
    failed = []
    for number in range(1, 1_000):
        path = tmp_path / str(number)
        before = descriptors()
        with pytest.MonkeyPatch.context() as monkeypatch:
            faults = Faults(monkeypatch, fails=0)
            backend = kind.open(path)
            scribe = Scribe(backend)
            written = scribe.write("a", "b") + scribe.write("a")
            backend.read(0, 3, 3, 999)
            faults.count, faults.fails = 0, number
            fail(backend.close)
        assert descriptors() == before, faults.failed
        assert_opens(kind, path, written)
        if not faults.failed:
            break
        failed.append(faults.failed)
    assert "close" in failed


def let_each_step_of_opening_fail(
    kind: Kind, folder: Path, prepare: Callable[[Path], list[bytes]]
) -> list[str]:
    """Open a store that ``prepare`` makes once for each step; what the steps are called."""
    failed = []
    for number in range(1, 1_000):
        path = folder / str(number)
        written = prepare(path)
        before = descriptors()
        with pytest.MonkeyPatch.context() as monkeypatch:
            faults = Faults(monkeypatch, fails=number)
            fail(lambda path=path: kind.open(path).close())
        assert descriptors() == before, faults.failed
        assert_opens(kind, path, written)
        if not faults.failed:
            break
        failed.append(faults.failed)
    return failed


def fail(use: Callable[[], None]) -> None:
    """Whatever it raises is the fault, in our words."""
    with suppress(StoreError):
        use()


def write_a_store(kind: Kind, path: Path) -> list[bytes]:
    backend = kind.open(path)
    scribe = Scribe(backend)
    written = scribe.write("a", "b", {"stream": "a", "data": b"x" * 30_000}) + scribe.write("c")
    backend.close()
    return written


def assert_opens(kind: Kind, path: Path, written: list[bytes]) -> None:
    backend: Backend = kind.open(path)
    assert read_all(backend) == written
    backend.close()
