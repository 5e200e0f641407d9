"""What a store's directory promises, whatever the backend: identity, lock, modes, paths."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from zlib import crc32

import pytest
from conftest import DURABLE
from contract import Scribe, read_all

from rewind.backends import SCHEMES, open_backend
from rewind.backends.directory import Directory
from rewind.errors import (
    BadConfiguration,
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreLocked,
    StoreNotCreated,
)

EVENT = {"stream": "s", "data": b"x" * 3_000}


@pytest.fixture(params=DURABLE)
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(scheme: str, tmp_path: Path) -> Path:
    """A closed store with some events."""
    path = tmp_path / "store"
    backend = open_backend(f"{scheme}:{path}")
    Scribe(backend).write(*[EVENT] * 3)
    backend.close()
    return path


def head_of(url: str) -> int:
    """Open the store at a URL, and close it."""
    backend = open_backend(url)
    head = backend.last().position
    backend.close()
    return head


# --- rewind.json ----------------------------------------------------------------


def described(path: Path, **changes: object) -> bytes:
    """The identity of a store with other values, and the checksum that belongs to them."""
    identity = json.loads((path / "rewind.json").read_bytes()) | changes
    covered = f"{identity['scheme']} {identity['format']} {identity['store_id']}"
    return json.dumps(identity | {"crc": crc32(covered.encode())}).encode()


UNREADABLE = {
    "empty": b"",
    "a number": b"7",
    "nested": b"[" * 4_000,
    "nested in a field": b'{"rewind": ' + b"[" * 4_000,
    "huge": b" " * 10_000_000,
    "not UTF-8": b'{"rewind": "event store", "scheme": "\xff\xfe"}',
    "UTF-16": '{"rewind": "event store"}'.encode("utf-16"),
    "a lone surrogate": b'{"rewind": "event store", "scheme": "\\ud800"}',
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_identity_that_is_none_is_damage(text: bytes, store: Path, scheme: str) -> None:
    (store / "rewind.json").write_bytes(text)
    for url in (f"{scheme}:{store}", str(store)):
        with pytest.raises(StoreDamaged, match=r"rewind\.json is damaged"):
            open_backend(url)


WRONG = [
    {"rewind": "another program"},
    {"format": 0},
    {"format": -1},
    {"format": "1"},
    {"format": 1.5},
    {"format": float("inf")},
    {"format": True},
    {"format": None},
    {"format": []},
    {"scheme": 1},
    {"scheme": None},
    {"store_id": "none"},
    {"store_id": 5},
    {"complete": "yes"},
    {"complete": 1},
]


@pytest.mark.parametrize("changes", WRONG, ids=str)
def test_a_field_of_another_kind_is_damage(
    changes: dict[str, object], store: Path, scheme: str
) -> None:
    (store / "rewind.json").write_bytes(described(store, **changes))
    for url in (f"{scheme}:{store}", str(store)):
        with pytest.raises(StoreDamaged, match=r"rewind\.json is damaged"):
            open_backend(url)


@pytest.mark.parametrize("named", ["memory", "rocksdb", "", "LOG", "../log"])
def test_a_scheme_that_keeps_no_files_or_is_unknown_is_foreign(
    named: str, store: Path, scheme: str
) -> None:
    (store / "rewind.json").write_bytes(described(store, scheme=named))
    for url in (f"{scheme}:{store}", str(store)):
        with pytest.raises(StoreForeign, match=f"{named!r}"):
            open_backend(url)


def test_no_flip_or_cut_of_the_identity_goes_unnoticed(store: Path, scheme: str) -> None:
    """Every single bit, and every length; then several bits at once, by chance."""
    file = store / "rewind.json"
    good = file.read_bytes()
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    flips = [[bit] for bit in range(8 * len(good.rstrip()))]
    flips += [rng.sample(range(8 * len(good)), rng.randint(2, 5)) for _ in range(300)]
    for text in [*(flipped(good, bits) for bits in flips), *truncations(good)]:
        file.write_bytes(text)
        for url in (f"{scheme}:{store}", str(store)):
            try:
                head = head_of(url)
            except StoreError as error:
                assert error.exit_code == 65, (text, error)
            else:
                assert head == 3
                assert says_the_same(text, good), text
    file.write_bytes(good)
    assert head_of(str(store)) == 3


def flipped(content: bytes, bits: list[int]) -> bytes:
    changed = bytearray(content)
    for bit in bits:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def truncations(content: bytes) -> Iterator[bytes]:
    return (content[:length] for length in range(len(content.rstrip())))


def says_the_same(text: bytes, good: bytes) -> bool:
    """Whether an identity says what the good one says, or has lost the name of its checksum."""
    content, wanted = json.loads(text.decode(errors="replace")), json.loads(good)
    content["store_id"] = content["store_id"].lower()
    without_checksum = content.get("crc") is None and content["format"] == 1
    return without_checksum or all(content[name] == wanted[name] for name in wanted)


def test_an_identity_without_a_checksum_is_that_of_an_earlier_release(store: Path) -> None:
    file = store / "rewind.json"
    identity = json.loads(file.read_bytes()) | {"format": 1}
    del identity["crc"]
    file.write_text(json.dumps(identity))
    assert head_of(str(store)) == 3


@pytest.mark.parametrize("crc", [{"crc": None}, {}])
def test_a_checksum_is_missing_from_format_2_on(
    crc: dict[str, object], store: Path, scheme: str
) -> None:
    file = store / "rewind.json"
    identity = json.loads(file.read_bytes()) | {"format": 2}
    del identity["crc"]
    file.write_text(json.dumps(identity | crc))
    for url in (f"{scheme}:{store}", str(store)):
        with pytest.raises(StoreDamaged, match="its checksum is missing"):
            open_backend(url)


# --- a newer format -------------------------------------------------------------


def test_a_raised_format_is_written_once_and_refused_by_who_knows_the_older(tmp_path: Path) -> None:
    path = tmp_path / "store"
    directory = Directory(path, "kind", 1)
    directory.finish()
    directory.close()
    for _ in range(2):
        again = Directory(path, "kind", 2)
        again.raise_format()
        again.finish()
        again.confirm()
        again.close()
        assert (again.format, again.store_id) == (2, directory.store_id)
    inode = (path / "rewind.json").stat().st_ino
    again = Directory(path, "kind", 2)
    again.raise_format()
    again.close()
    assert (path / "rewind.json").stat().st_ino == inode
    with pytest.raises(StoreForeign, match="format 2, newer than 1"):
        Directory(path, "kind", 1)


def test_who_only_reads_raises_no_format(tmp_path: Path) -> None:
    path = tmp_path / "store"
    directory = Directory(path, "kind", 1)
    directory.finish()
    directory.close()
    before = (path / "rewind.json").read_bytes()
    reader = Directory(path, "kind", 2, read_only=True)
    assert reader.format == 1
    reader.raise_format()
    reader.close()
    assert (path / "rewind.json").read_bytes() == before


def test_a_creation_that_an_older_release_began_is_finished_in_the_newest_format(
    tmp_path: Path,
) -> None:
    path = tmp_path / "store"
    Directory(path, "kind", 1).close()
    directory = Directory(path, "kind", 2)
    assert directory.created
    directory.finish()
    directory.close()
    directory = Directory(path, "kind", 2)
    assert (directory.format, directory.created) == (2, False)
    directory.close()


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_not_a_file_in_its_place_is_foreign(
    put: Callable[[Path], None], store: Path, scheme: str
) -> None:
    (store / "rewind.json").unlink()
    put(store / "rewind.json")
    with pytest.raises(StoreForeign, match="is not a file"):
        open_backend(f"{scheme}:{store}")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_pipe_in_place_of_the_lock_keeps_nobody_waiting(store: Path, read_only: bool) -> None:
    (store / "lock").unlink()
    os.mkfifo(store / "lock")
    if read_only:
        backend = open_backend(str(store), read_only=True)
        assert backend.last()[0] == 3
        backend.close()
    else:
        with pytest.raises(StoreNotCreated, match="cannot lock"):
            open_backend(str(store))


# --- paths ------------------------------------------------------------------------


def test_a_new_file_system_is_an_empty_directory(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "lost+found").mkdir()
    assert head_of(f"{scheme}:{tmp_path}") == 0
    assert head_of(str(tmp_path)) == 0
    assert (tmp_path / "lost+found").is_dir()


def test_a_relative_path_outlives_a_change_of_the_working_directory(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    backend = open_backend(f"{scheme}:store")
    assert backend.path == tmp_path / "store"
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    scribe = Scribe(backend)
    big = {"stream": "s", "data": b"x" * 4_000_000}
    for _ in range(18):  # so many that new files are begun
        scribe.write(big)
    assert list(backend.check()) == []
    backend.close()
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != "store"] == ["elsewhere"]
    assert not list((tmp_path / "elsewhere").iterdir())
    assert head_of(f"{scheme}:{tmp_path / 'store'}") == 18


def test_a_relative_path_in_a_working_directory_that_is_gone_is_refused(
    tmp_path: Path, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StoreNotCreated, match="give an absolute path"):
        open_backend(f"{scheme}:store")


NAMES = ["a b", "50%", "%41", "what?", "a#b", "a&mode=ro", "a:b", "'", '"', "new\nline", "\u00e9"]
NAMES_IN_BYTES = [name.encode() for name in NAMES] + [b"\xff\xfe", b"caf\xe9"]


@pytest.mark.parametrize("name", NAMES_IN_BYTES, ids=repr)
def test_any_name_can_be_a_store(name: bytes, tmp_path: Path, scheme: str) -> None:
    path = tmp_path / os.fsdecode(name)
    backend = open_backend(f"{scheme}:{path}")
    written = Scribe(backend).write(EVENT, EVENT)
    backend.close()
    backend = open_backend(str(path))
    assert read_all(backend) == written
    backend.close()
    assert os.listdir(os.fsencode(tmp_path)) == [name]


@pytest.mark.parametrize("url", ["a\0b", "~", "~/store", "~nobody/store", "//host/store"])
def test_a_path_that_nobody_means_is_refused(
    url: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadConfiguration):
        open_backend(f"{scheme}:{url}")


@pytest.mark.parametrize(
    "url", ["~", "~/store", "a\0b", "SQLite:store", "tcp://127.0.0.1:9090", "ipc://socket"]
)
def test_a_bare_path_that_nobody_means_is_refused(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadConfiguration):
        open_backend(url)


def test_three_slashes_begin_an_absolute_path(tmp_path: Path, scheme: str) -> None:
    assert head_of(f"{scheme}://{tmp_path / 'store'}") == 0
    assert (tmp_path / "store" / "rewind.json").exists()


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "link").symlink_to("missing")
    with pytest.raises(StoreNotCreated, match="a symbolic link to missing"):
        open_backend(f"{scheme}:{tmp_path / 'link'}")
    (tmp_path / "missing").mkdir()
    assert head_of(f"{scheme}:{tmp_path / 'link'}") == 0
    assert (tmp_path / "missing" / "rewind.json").exists()


def test_a_link_in_a_circle_cannot_be_created(tmp_path: Path, scheme: str) -> None:
    (tmp_path / "link").symlink_to("link")
    with pytest.raises(StoreNotCreated):
        open_backend(f"{scheme}:{tmp_path / 'link'}")


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3_000])
def test_a_path_that_is_too_long_cannot_be_created(name: str, tmp_path: Path, scheme: str) -> None:
    with pytest.raises(StoreNotCreated, match="too long"):
        open_backend(f"{scheme}:{tmp_path / name}")


def test_a_long_path_is_used_or_refused_clearly(tmp_path: Path, scheme: str) -> None:
    """SQLite takes fewer bytes than the system."""
    path = tmp_path / ("d" * 200) / ("e" * 200) / ("f" * 200)
    path.parent.mkdir(parents=True)
    try:
        assert head_of(f"{scheme}:{path}") == 0
    except StoreNotCreated as error:
        assert scheme != "leveldb"  # The log may have its index in SQLite.
        assert "too long for SQLite" in str(error)


@pytest.mark.parametrize("make", [Path.touch, os.mkfifo], ids=["file", "pipe"])
def test_what_is_no_directory_is_foreign(
    make: Callable[[Path], None], tmp_path: Path, scheme: str
) -> None:
    make(tmp_path / "store")
    with pytest.raises(StoreForeign, match="is a file"):
        open_backend(f"{scheme}:{tmp_path / 'store'}")


# --- modes ----------------------------------------------------------------------

WRITE_MUCH = """
import sys
from contract import Scribe
from rewind.backends import open_backend
from rewind.backends.directory import Directory
backend = open_backend(sys.argv[1])
scribe = Scribe(backend)
for _ in range(18):
    scribe.write({"stream": "s", "data": bytes(4_000_000)})
print("written", flush=True)
sys.stdin.read()
backend.close()
"""


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
@pytest.mark.parametrize("given", ["missing", "empty"])
def test_no_other_user_can_read_what_a_store_creates(
    umask: int, given: str, tmp_path: Path, scheme: str
) -> None:
    path = tmp_path / "store"
    if given == "empty":
        path.mkdir()
        path.chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", WRITE_MUCH, f"{scheme}:{path}"],
        umask=umask,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout and writer.stdout.readline() == b"written\n"
        while_open = set(open_to_others(path))  # -wal and -shm are there now
    assert writer.returncode == 0
    assert while_open | set(open_to_others(path)) == ({path} if given == "empty" else set())


def test_a_store_that_others_can_read_is_warned_of(
    scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As earlier releases made it; in pytest's own directories nobody else could come near it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "store"
        assert head_of(f"{scheme}:{path}") == 0
        for entry in (Path(name), path, *path.rglob("*")):
            entry.chmod(0o755 if entry.is_dir() else 0o644)
        assert not caplog.records
        assert head_of(str(path)) == 0
        assert f"can read the events in {path}: chmod -R go= {path}" in caplog.text
        caplog.clear()
        path.chmod(0o700)
        assert head_of(str(path)) == 0
        assert not caplog.records


def open_to_others(path: Path) -> Iterator[Path]:
    """The files and directories that others reach from a directory they can enter."""
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield path
        for entry in path.iterdir() if path.is_dir() else ():
            yield from open_to_others(entry)


# --- the lock ---------------------------------------------------------------------


def test_the_process_itself_is_named_as_the_owner(store: Path, scheme: str) -> None:
    backend = open_backend(str(store))
    with pytest.raises(StoreLocked, match="in use by this process"):
        open_backend(f"{scheme}:{store}")
    backend.close()
    assert head_of(str(store)) == 3


@pytest.fixture
def child_of(scheme: str, store: Path) -> Iterator[tuple[int, int]]:
    """A process that has the store open, and a child of it that lives until the test ends."""
    ready_read, ready_write = os.pipe()
    end_read, end_write = os.pipe()
    owner = os.fork()
    if owner == 0:
        os.close(end_write)
        open_backend(f"{scheme}:{store}")
        child = os.fork()
        if child == 0:
            os.write(ready_write, f"{os.getpid()}\n".encode())
            os.read(end_read, 1)
            os._exit(0)
        signal.pause()
    child = int(os.read(ready_read, 100))
    yield owner, child
    for descriptor in (ready_read, ready_write, end_read, end_write):
        os.close(descriptor)


def test_the_lock_does_not_outlive_its_owner_in_a_child(
    child_of: tuple[int, int], store: Path, scheme: str
) -> None:
    owner, child = child_of
    with pytest.raises(StoreLocked, match=f"pid {owner} on {socket.gethostname()}"):
        open_backend(f"{scheme}:{store}")
    os.kill(owner, signal.SIGKILL)
    os.waitpid(owner, 0)
    os.kill(child, 0)  # it lives
    assert head_of(f"{scheme}:{store}") == 3


def test_a_child_takes_nothing_away_from_its_parent(store: Path, scheme: str) -> None:
    """It closes its copy of the lock, and that does not unlock the store."""
    backend = open_backend(f"{scheme}:{store}")
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(StoreLocked):
        open_backend(f"{scheme}:{store}")
    Scribe(backend).write(EVENT)
    backend.close()
    assert head_of(f"{scheme}:{store}") == 4


def test_every_scheme_is_tried() -> None:
    assert {*SCHEMES} == {"leveldb", "sqlite", "log", "memory"}
