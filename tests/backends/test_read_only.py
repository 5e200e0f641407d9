"""A store opened read-only: everything is read, whatever it was left like, and not a byte is written."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import DURABLE
from contract import Scribe, read_all, read_whole_stream
from golden_stores import STORES

import rewind
from rewind import NewEvent
from rewind.backends import Backend, open_backend
from rewind.backends.directory import Directory
from rewind.backends.log import LogBackend
from rewind.errors import StoreDamaged, StoreForeign, StoreLocked, StoreNotPermitted
from rewind.testing import Daemon

every_scheme = pytest.mark.parametrize("scheme", DURABLE)
needs_plyvel = pytest.mark.skipif(
    find_spec("plyvel") is None, reason="plyvel is not installed here"
)

NOBODY = 65534  # owns nothing, on every Unix

WRITE_UNTIL_KILLED = """
import os, signal, sys
from contract import Scribe
from rewind.backends import open_backend
backend = open_backend(sys.argv[1])
scribe = Scribe(backend)
for n in range(100):
    ids = [(n.to_bytes(16, "big"), 3 * n + 1, 3 * n + 3)]
    scribe.write("a", {"stream": f"s{n}", "data": b"x" * 3000}, {"stream": "b", "id": n.to_bytes(16, "big")}, append_ids=ids)
os.kill(os.getpid(), signal.SIGKILL)
"""

READ_ALL = """
import os, sys
import urllib.parse  # Path.as_uri imports it late, when this user may not read it any more
from rewind.backends import default_scheme, open_backend
from rewind.backends.opening import BACKENDS
from rewind.errors import RewindError
for scheme in (sys.argv[1].split(":")[0], default_scheme()):  # the log imports its index's late, too
    __import__(BACKENDS[scheme][0])
if sys.argv[2:]:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
try:
    backend = open_backend(sys.argv[1], read_only=True)
    print(len(backend.read(0, 10**6, 10**6, 10**9)), sum(v for _, v in backend.streams("", "", 10**6)))
    backend.close()
except RewindError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture(autouse=True)
def temporary(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:  # pytest's own first
    """The folder for temporary files, which must be as it was in the end."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    left = list(folder.iterdir())
    shutil.rmtree(folder)
    assert left == []


def listing(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything that can be seen to change below a path, names, modes, sizes, times and content."""
    seen = {}
    for entry in (path, *path.rglob("*")):
        status = entry.stat()
        digest = hashlib.sha256(entry.read_bytes()).hexdigest() if entry.is_file() else ""
        seen[str(entry)] = (
            status.st_mode,
            status.st_size,
            status.st_mtime_ns,
            status.st_ino,
            digest,
        )
    return seen


def write_and_die(scheme: str, path: Path) -> None:
    """A store of 300 acknowledged events, of a process that was killed."""
    done = subprocess.run(
        [sys.executable, "-c", WRITE_UNTIL_KILLED, f"{scheme}:{path}"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == -signal.SIGKILL


def write_and_close(scheme: str, path: Path) -> None:
    write_and_die(scheme, path)
    open_backend(f"{scheme}:{path}").close()


@pytest.fixture(params=[write_and_close, write_and_die])
def store(request: pytest.FixtureRequest, scheme: str, tmp_path: Path) -> Path:
    """A store of 300 events that was closed, and one whose daemon was killed."""
    request.param(scheme, tmp_path / "store")
    return tmp_path / "store"


def assert_readable(backend: Backend, head: int = 300) -> None:
    assert backend.last()[0] == head and len(read_all(backend)) == head
    assert len(read_whole_stream(backend, "a")) == 100
    ids = [n.to_bytes(16, "big") for n in range(100)]
    assert backend.appends(ids) == {id: (3 * n + 1, 3 * n + 3) for n, id in enumerate(ids)}
    assert backend.positions(ids) == {id: 3 * n + 3 for n, id in enumerate(ids)}
    assert list(backend.check()) == []


@every_scheme
def test_everything_is_read_and_nothing_written(scheme: str, store: Path) -> None:
    before = listing(store)
    for _ in range(2):
        backend = open_backend(str(store), read_only=True)
        assert_readable(backend)
        backend.close()
        assert listing(store) == before
    assert_readable(backend := open_backend(str(store)))
    backend.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@every_scheme
def test_a_store_on_a_read_only_mount_is_read(scheme: str, store: Path, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    if subprocess.run(["mount", "--bind", store.parent, mounted], check=False).returncode != 0:
        pytest.skip("this machine does not let us mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", mounted], check=True)
        with pytest.raises(StoreNotPermitted):
            open_backend(str(mounted / "store"))
        backend = open_backend(str(mounted / "store"), read_only=True)
        assert_readable(backend)
        backend.close()
    finally:
        subprocess.run(["umount", "-l", mounted], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@every_scheme
def test_a_store_on_a_full_disk_is_read(scheme: str, store: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=16m", "tmpfs"]
    if subprocess.run(["mount", *options, disk], check=False).returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        shutil.copytree(store, disk / "store")
        with pytest.raises(OSError, match="No space left"), open(disk / "ballast", "wb", 0) as file:
            while True:
                file.write(bytes(4096))
        backend = open_backend(str(disk / "store"), read_only=True)
        assert_readable(backend)
        backend.close()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def read_in_a_process(url: str, *user: str) -> str:
    command = [sys.executable, "-c", READ_ALL, url, *user]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@every_scheme
def test_a_store_that_its_user_may_only_read_is_read(scheme: str, store: Path) -> None:
    public = Path(tempfile.mkdtemp(dir="/tmp"))
    try:
        copy = shutil.copytree(store, public / "store")
        public.chmod(0o755)
        for entry in (copy, *copy.rglob("*")):
            os.chown(entry, NOBODY, NOBODY)
            entry.chmod(0o500 if entry.is_dir() else 0o400)
        before = listing(copy)
        assert read_in_a_process(f"{scheme}:{copy}", str(NOBODY)) == "300 300"
        assert listing(copy) == before
        for entry in copy.rglob("*"):
            if entry.name in ("events.sqlite", "CURRENT") or entry.suffix == ".log":
                entry.chmod(0)
        said = read_in_a_process(f"{scheme}:{copy}", str(NOBODY))
        assert said.startswith("StoreNotPermitted"), said
    finally:
        shutil.rmtree(public)


@every_scheme
def test_what_is_not_there_is_not_created(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    Directory(tmp_path / "unfinished", scheme, 1).close()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("dear")
    before = listing(tmp_path)
    for name in ("missing", "empty", "unfinished", "other", "missing/store"):
        for url in (f"{scheme}:{tmp_path / name}", str(tmp_path / name)):
            with pytest.raises(StoreForeign, match="holds no"):
                open_backend(url, read_only=True)
    assert listing(tmp_path) == before


@every_scheme
def test_readers_share_a_store_that_nobody_owns(scheme: str, store: Path) -> None:
    url = f"{scheme}:{store}"
    first, second = (open_backend(url, read_only=True) for _ in range(2))
    assert read_in_a_process(url) == "300 300"
    with pytest.raises(StoreLocked, match="by somebody who reads it"):
        open_backend(url)
    first.close()
    with pytest.raises(StoreLocked, match="by somebody who reads it"):
        open_backend(url)
    assert_readable(second)
    second.close()
    with Daemon(url) as daemon:
        for opened in (store, url):
            with pytest.raises(StoreLocked, match=f"in use by pid {daemon.process.pid} on"):
                open_backend(str(opened), read_only=True)
        daemon.kill()
        assert read_in_a_process(url) == "300 300"


@every_scheme
def test_a_store_without_its_lock_file_is_read(scheme: str, store: Path) -> None:
    (store / "lock").unlink()
    before = listing(store)
    assert read_in_a_process(f"{scheme}:{store}") == "300 300"
    assert listing(store) == before


@every_scheme
def test_a_client_that_reads_is_refused_what_it_appends(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path / 'store'}"
    with rewind.open(url) as client:
        client.append("s", [NewEvent("a"), NewEvent("b")])
    before = listing(tmp_path)
    with rewind.open(url, read_only=True) as client:
        for _ in range(2):
            with pytest.raises(rewind.Forbidden, match="read-only"):
                client.append("s", NewEvent("c"))
            assert [event.type for event in client.read()] == ["a", "b"]
        assert client.head() == 2 and dict(client.streams()) == {"s": 2}
        assert [event.type for _, event in zip(range(2), client.subscribe(), strict=False)] == [
            "a",
            "b",
        ]
    assert listing(tmp_path) == before


@every_scheme
def test_clients_of_one_process_share_a_store_only_in_the_same_way(
    scheme: str, tmp_path: Path
) -> None:
    url = f"{scheme}:{tmp_path / 'store'}"
    with rewind.open(url) as writer:
        writer.append("s", NewEvent("a"))
        with pytest.raises(rewind.StoreLocked, match="open in this process to be written"):
            rewind.open(url, read_only=True)
        assert writer.append("s", NewEvent("b")).last == 2
    with rewind.open(url, read_only=True) as first:
        with rewind.open(str(tmp_path / "store"), read_only=True) as second:
            assert second.head() == first.head() == 2
            with pytest.raises(rewind.StoreLocked, match="open in this process read-only"):
                rewind.open(url)
        assert len(list(first.read())) == 2
    with rewind.open(url) as writer:
        assert writer.append("s", NewEvent("c")).last == 3


def test_an_asyncio_client_reads_as_well(tmp_path: Path) -> None:
    url = str(tmp_path / "store")

    async def use() -> None:
        async with rewind.open_async(url, read_only=True) as client:
            with pytest.raises(rewind.Forbidden):
                await client.append("s", NewEvent("b"))
            assert [event.type async for event in client.read()] == ["a"]

    with rewind.open(url) as client:
        client.append("s", NewEvent("a"))
    asyncio.run(use())


@every_scheme
def test_what_is_temporary_goes_with_a_process_that_closes_nothing(
    scheme: str, store: Path, temporary: Path
) -> None:
    code = "import sys, rewind; c = rewind.open(sys.argv[1], read_only=True); print(c.head())"
    subprocess.run([sys.executable, "-c", code, str(store)], check=True)
    assert list(temporary.iterdir()) == []


@every_scheme
def test_a_forked_child_leaves_what_is_temporary_to_its_parent(scheme: str, store: Path) -> None:
    code = """
import os, sys, rewind
client = rewind.open(sys.argv[1], read_only=True)
if os.fork() == 0:
    sys.exit(0)  # This runs what is due at the end of a process.
assert os.wait()[1] == 0
assert sum(1 for event in client.read()) == 300
"""
    subprocess.run([sys.executable, "-c", code, str(store)], check=True)


@every_scheme
def test_no_room_for_what_is_temporary_is_said(
    scheme: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "mkdtemp", full)
    if scheme == "sqlite":
        open_backend(str(store), read_only=True).close()  # It needs none.
    else:
        with pytest.raises(rewind.StoreFailed, match=r"No space left on device.*TMPDIR"):
            open_backend(str(store), read_only=True)


@every_scheme
def test_a_damaged_store_is_not_mended(scheme: str, tmp_path: Path) -> None:
    write_and_close(scheme, store := tmp_path / "store")
    for file in [each for each in store.rglob("*") if each.suffix in (".log", ".ldb", ".sqlite")]:
        content = bytearray(file.read_bytes())
        for place in range(len(content) // 3, len(content), 1_000):
            content[place] ^= 0xFF
        file.write_bytes(content)
    before = listing(store)
    with pytest.raises(StoreDamaged):
        assert_readable(open_backend(str(store), read_only=True))
    assert listing(store) == before


@every_scheme
def test_what_lies_beside_the_events_is_not_needed(scheme: str, store: Path) -> None:
    """SQLite's scratch file, which a copy may lack, and the log's index, which is made of the events."""
    for entry in [
        each for each in store.rglob("*") if each.name.startswith(("index-", "events.sqlite-shm"))
    ]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    before = listing(store)
    backend = open_backend(str(store), read_only=True)
    assert_readable(backend)
    backend.close()
    assert listing(store) == before


@every_scheme
def test_an_old_store_is_read(scheme: str, tmp_path: Path) -> None:
    shutil.copytree(STORES / scheme, tmp_path / "store")
    before = listing(tmp_path)
    backend = open_backend(str(tmp_path / "store"), read_only=True)
    assert list(backend.check()) == [] and len(read_all(backend)) == backend.last()[0] > 300
    backend.close()
    assert listing(tmp_path) == before


LOG_INDEXES = [pytest.param("leveldb", marks=needs_plyvel), "sqlite"]


@pytest.mark.parametrize("index", LOG_INDEXES)
@pytest.mark.parametrize("unfinished", [b"", b"Rwnd and half a packet", bytes(1_000)])
def test_the_log_is_read_through_a_copy_of_its_index(
    index: str, unfinished: bytes, tmp_path: Path
) -> None:
    """What the index lacks is added to the copy, and the end of a commit that was cut short is left."""
    write_and_die("log", store := tmp_path / "store")
    open_log(store, index).close()  # It has this index now, and no other.
    late = open_log(store, index)
    Scribe(late).write("late")
    late._segments.release()  # type: ignore[attr-defined]
    late._directory.close()  # type: ignore[attr-defined]
    del late
    gc.collect()  # Its connection goes now, and not while the listings are compared.
    with open(store / "segments" / f"{1:020}.log", "ab") as segment:
        segment.write(unfinished)
    before = listing(store)
    for engine in ("leveldb", "sqlite") if find_spec("plyvel") else ("sqlite",):
        backend = open_log(store, engine, read_only=True)
        assert_readable(backend, 301)
        assert len(read_whole_stream(backend, "late")) == 1
        backend.close()
        assert listing(store) == before


def open_log(path: Path, index: str, read_only: bool = False) -> Backend:
    directory = Directory(path, "log", LogBackend.format_version, read_only=read_only)
    return LogBackend(directory, index)
