"""Every backend keeps the contract; those with files also keep what a directory promises."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID
from zlib import crc32

import pytest
from contract import BackendContract, Kind, Scribe, read_all, read_whole_stream
from index_contract import IndexContract

from rewind.backends import Backend, default_scheme, open_backend
from rewind.backends.directory import Directory
from rewind.backends.log import backend as log_backend
from rewind.errors import (
    BadConfiguration,
    StoreDamaged,
    StoreError,
    StoreForeign,
    StoreLocked,
    StoreNotCreated,
)

NOBODY = 65534  # owns nothing, on every Unix

needs_plyvel = pytest.mark.skipif(
    importlib.util.find_spec("plyvel") is None, reason="plyvel is not installed here"
)


def url_kind(scheme: str) -> Kind:
    return Kind(scheme, lambda path, id=None: open_backend(f"{scheme}:{path}", id))


def log_kind(index: str) -> Kind:
    """The log with this engine for its index."""

    def open_log(path: Path, id: UUID | None = None) -> Backend:
        directory = Directory(path, "log", log_backend.LogBackend.format_version, id)
        try:
            return log_backend.LogBackend(directory, index)
        except BaseException:
            directory.close()
            raise

    return Kind(f"log-{index}", open_log)


FILES = [
    pytest.param(url_kind("leveldb"), id="leveldb", marks=needs_plyvel),
    pytest.param(url_kind("sqlite"), id="sqlite"),
    pytest.param(log_kind("leveldb"), id="log", marks=needs_plyvel),
    pytest.param(log_kind("sqlite"), id="log-sqlite"),
]
MEMORY = pytest.param(
    Kind("memory", lambda _, id=None: open_backend("memory:", id), keeps=False), id="memory"
)
SCHEMES = [
    pytest.param("leveldb", marks=needs_plyvel),
    "sqlite",
    "log",
]


@pytest.mark.parametrize("kind", [*FILES, MEMORY])
class TestContract(BackendContract):
    """contract.py over all of them."""


@pytest.mark.parametrize("kind", [*FILES, MEMORY])
class TestIndexContract(IndexContract):
    """index_contract.py over all of them."""


# --- opening -------------------------------------------------------------------


def contents(path: Path) -> dict[str, bytes | None]:
    """Every name below a path with its content; the lock file names its last owner, so without."""
    return {
        str(entry.relative_to(path)): entry.read_bytes() if entry.is_file() else None
        for entry in sorted(path.rglob("*"))
        if entry.name != "lock"
    }


def make_store(scheme: str, path: Path) -> list[bytes]:
    """A closed store with a few events in it."""
    backend = open_backend(f"{scheme}:{path}")
    written = Scribe(backend).write("a", "b", {"stream": "a", "data": b"x" * 30_000})
    backend.close()
    return written


def assert_refused(url: str, error: type[StoreError], below: Path, *words: str) -> None:
    """Opening raises exactly this error, with these words, and touches nothing."""
    before = contents(below)
    with pytest.raises(error) as raised:
        open_backend(url).close()
    assert type(raised.value) is error
    for word in words:
        assert word in str(raised.value)
    assert contents(below) == before


def test_a_bare_path_opens_what_it_holds(tmp_path: Path) -> None:
    written = make_store("log", tmp_path / "store")
    backend = open_backend(str(tmp_path / "store"))
    assert (backend.scheme, read_all(backend)) == ("log", written)
    backend.close()


def test_a_bare_path_creates_the_default_scheme(tmp_path: Path) -> None:
    backend = open_backend(str(tmp_path / "store"))
    assert backend.scheme == default_scheme()
    backend.close()


@pytest.mark.parametrize(
    "url", ["", "memory:here", "sqlite:", "postgres:here", "redis://localhost/1"]
)
def test_a_wrong_url_is_a_configuration_error(url: str) -> None:
    with pytest.raises(BadConfiguration):
        open_backend(url)


def test_a_scheme_without_its_driver_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "rewind.backends.leveldb", raising=False)
    monkeypatch.setitem(sys.modules, "plyvel", None)
    with pytest.raises(BadConfiguration, match=r"plyvel.*not\s+installed.*sqlite:PATH"):
        open_backend(f"leveldb:{tmp_path / 'store'}")
    assert not (tmp_path / "store").exists()


HOLD = """
import sys
from rewind.backends import open_backend
backend = open_backend(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_store_in_use_is_locked_and_its_owner_named(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path / 'store'}"
    make_store(scheme, tmp_path / "store")
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as owner:
        assert owner.stdout and owner.stdout.readline() == b"open\n"
        assert_refused(url, StoreLocked, tmp_path, f"pid {owner.pid} on ")
        assert f"pid {owner.pid}" in (tmp_path / "store" / "lock").read_text()
    open_backend(url).close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_store_open_in_this_process_is_locked_too(scheme: str, tmp_path: Path) -> None:
    backend = open_backend(f"{scheme}:{tmp_path / 'store'}")
    with pytest.raises(StoreLocked, match=f"pid {os.getpid()}"):
        open_backend(f"{scheme}:{tmp_path / 'store'}")
    backend.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_directory_of_other_files_is_foreign(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "letter.txt").write_text("dear")
    assert_refused(f"{scheme}:{tmp_path / 'store'}", StoreForeign, tmp_path, "letter.txt")
    assert not (tmp_path / "store" / "lock").exists()


@pytest.mark.parametrize(("held", "asked"), [("sqlite", "log"), ("log", "sqlite")])
def test_a_store_of_another_scheme_is_foreign(held: str, asked: str, tmp_path: Path) -> None:
    make_store(held, tmp_path / "store")
    assert_refused(f"{asked}:{tmp_path / 'store'}", StoreForeign, tmp_path, held, asked)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_newer_format_is_foreign(scheme: str, tmp_path: Path) -> None:
    make_store(scheme, tmp_path / "store")
    identity = tmp_path / "store" / "rewind.json"
    content = json.loads(identity.read_text()) | {"format": 99}
    content["crc"] = crc32(f"{scheme} 99 {content['store_id']}".encode())
    identity.write_text(json.dumps(content))
    assert_refused(f"{scheme}:{tmp_path / 'store'}", StoreForeign, tmp_path, "newer")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("text", ["", "{", "[]", '{"rewind": "event store"}', "\x00" * 100])
def test_a_damaged_identity_is_damage(scheme: str, text: str, tmp_path: Path) -> None:
    make_store(scheme, tmp_path / "store")
    (tmp_path / "store" / "rewind.json").write_text(text)
    assert_refused(f"{scheme}:{tmp_path / 'store'}", StoreDamaged, tmp_path, "rewind.json")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_lost_identity_is_foreign(scheme: str, tmp_path: Path) -> None:
    make_store(scheme, tmp_path / "store")
    (tmp_path / "store" / "rewind.json").unlink()
    assert_refused(f"{scheme}:{tmp_path / 'store'}", StoreForeign, tmp_path)


def all_of(store: Path) -> list[Path]:
    """What the backend keeps beside the identity."""
    return [entry for entry in store.iterdir() if entry.name not in ("rewind.json", "lock")]


def inside_of(store: Path) -> list[Path]:
    """The files in the backend's directories, which stay."""
    return [entry for top in all_of(store) for entry in (top, *top.rglob("*")) if entry.is_file()]


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("lost", [all_of, inside_of])
def test_missing_data_files_are_damage_not_an_empty_store(
    scheme: str, lost: Callable[[Path], list[Path]], tmp_path: Path
) -> None:
    make_store(scheme, tmp_path / "store")
    for entry in lost(tmp_path / "store"):
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    for _ in range(2):
        assert_refused(f"{scheme}:{tmp_path / 'store'}", StoreDamaged, tmp_path)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_creation_cut_short_is_finished(scheme: str, tmp_path: Path) -> None:
    # As a crash leaves it between the identity and the backend's files.
    Directory(tmp_path / "store", scheme, 1).close()
    backend = open_backend(f"{scheme}:{tmp_path / 'store'}")
    written = Scribe(backend).write("a")
    backend.close()
    again = open_backend(str(tmp_path / "store"))
    assert read_all(again) == written
    again.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_file_instead_of_a_directory_is_foreign(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "store").write_text("dear")
    assert_refused(f"{scheme}:{tmp_path / 'store'}", StoreForeign, tmp_path, "is a file")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_missing_parent_cannot_be_created_in(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path / 'none' / 'store'}"
    assert_refused(url, StoreNotCreated, tmp_path, "parent")


# --- permissions ---------------------------------------------------------------

# Root may do everything, so the one who tries is nobody.
TRY_AS_NOBODY = """
import os, sys
import urllib.parse  # Path.as_uri imports it late, when this user may not read it any more
from rewind.backends import default_scheme, open_backend
from rewind.backends.opening import BACKENDS
from rewind.errors import StoreError
for scheme in (sys.argv[1].split(":")[0], default_scheme()):  # the log imports its index's late, too
    __import__(BACKENDS[scheme][0])
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
try:
    open_backend(sys.argv[1]).close()
except StoreError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that nobody may enter and look at, unlike pytest's own."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    yield path
    for entry in (path, *path.rglob("*")):
        entry.chmod(0o700)
    shutil.rmtree(path)


def opened_by_nobody(url: str) -> str:
    command = [sys.executable, "-c", TRY_AS_NOBODY, url, str(NOBODY)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_store_that_may_not_be_entered_is_not_permitted(scheme: str, public: Path) -> None:
    make_store(scheme, public / "store")
    (public / "store").chmod(0)
    assert opened_by_nobody(f"{scheme}:{public / 'store'}").startswith("StoreNotPermitted")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_directory_that_may_not_be_written_is_not_permitted(scheme: str, public: Path) -> None:
    public.chmod(0o555)
    assert opened_by_nobody(f"{scheme}:{public / 'store'}").startswith("StoreNotPermitted")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_data_that_may_not_be_written_is_not_permitted(scheme: str, public: Path) -> None:
    make_store(scheme, public / "store")
    if os.geteuid() == 0:
        os.chown(public / "store", NOBODY, NOBODY)
        for entry in (public / "store").iterdir():
            os.chown(entry, NOBODY, NOBODY)
    for entry in (public / "store").rglob("*"):
        if entry.is_file() and entry.name != "lock":
            entry.chmod(0o444)
    assert opened_by_nobody(f"{scheme}:{public / 'store'}").startswith("StoreNotPermitted")


# --- damage --------------------------------------------------------------------

# Noise, which nothing else in the files is equal to.
MARKS = [random.Random(n).randbytes(24) for n in range(30)]


@pytest.fixture
def marked(kind: Kind, tmp_path: Path) -> tuple[Path, list[bytes]]:
    """A closed store whose events can be told apart in its files."""
    path = tmp_path / "store"
    backend = kind.open(path)
    scribe = Scribe(backend)
    written = []
    for n in range(0, len(MARKS), 3):
        written += scribe.write(
            *({"stream": f"s{n % 4}", "data": mark * 20} for mark in MARKS[n : n + 3])
        )
    backend.close()
    kind.open(path).close()  # LevelDB moves what is in its log into a table
    return path, written


def files_holding(path: Path, mark: bytes) -> list[tuple[Path, int]]:
    """The files with these bytes in them, and where."""
    found = [(file, file.read_bytes().find(mark)) for file in path.rglob("*") if file.is_file()]
    return [(file, offset) for file, offset in found if offset >= 0]


def flip(file: Path, offset: int, bit: int = 0) -> None:
    content = bytearray(file.read_bytes())
    content[offset] ^= 1 << bit
    file.write_bytes(content)


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("event", [0, 13, 29])
def test_a_flipped_byte_in_an_event_is_found(
    kind: Kind, event: int, marked: tuple[Path, list[bytes]]
) -> None:
    path, _ = marked
    places = files_holding(path, MARKS[event])
    assert places
    for file, offset in places:
        flip(file, offset)
    with pytest.raises(StoreDamaged):
        read_event(kind, path, event)
    assert complaints(kind, path)


def read_event(kind: Kind, path: Path, event: int) -> None:
    backend = kind.open(path)
    try:
        backend.read(event, event + 1, 1, 1)
    finally:
        backend.close()


def complaints(kind: Kind, path: Path) -> list[str]:
    """What check says, or why there is nothing to check."""
    try:
        backend = kind.open(path)
    except StoreDamaged as damage:
        return [str(damage)]
    try:
        return list(backend.check())
    finally:
        backend.close()


@pytest.mark.parametrize("kind", FILES)
def test_no_flipped_byte_changes_what_is_read(
    kind: Kind, marked: tuple[Path, list[bytes]], tmp_path: Path
) -> None:
    # Wherever it is: the events are as written, or the damage is reported.
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    path, written = marked
    for _ in range(40):
        copy = tmp_path / "copy"
        shutil.copytree(path, copy)
        file = rng.choice([file for file in data_files(copy) if file.stat().st_size])
        offset, bit = rng.randrange(file.stat().st_size), rng.randrange(8)
        print(f"bit {bit} at {offset} of {file.relative_to(copy)}")
        flip(file, offset, bit)
        assert_unharmed_or_reported(kind, copy, written)
        shutil.rmtree(copy)


def data_files(path: Path) -> list[Path]:
    """The files damage must be found in: all but LevelDB's own log, see leveldb.py."""
    files = [file for top in all_of(path) for file in (top, *top.rglob("*")) if file.is_file()]
    return [file for file in files if (file.parent.name, file.suffix) != ("leveldb", ".log")]


def assert_unharmed_or_reported(kind: Kind, path: Path, written: list[bytes]) -> None:
    try:
        backend = kind.open(path)
    except StoreDamaged:
        return
    try:
        assert read_all(backend) == written
        assert backend.read(0, 100, 100, 10**6, backwards=True) == written[::-1]
        streams = [name for name, _ in backend.streams("", "", 9)]
        of_streams = [record for name in streams for record in read_whole_stream(backend, name)]
        assert sorted(of_streams) == sorted(written)
    except StoreDamaged:
        pass
    except AssertionError:
        # An index entry that has become another one is what check is for.
        if not list(backend.check()):
            raise
    finally:
        backend.close()


# --- crashes -------------------------------------------------------------------

WRITE_FOR_EVER = """
import sys
from contract import Scribe
from rewind.backends import open_backend
backend = open_backend(sys.argv[1])
scribe = Scribe(backend)
while True:
    head = backend.last()[0]
    ids = [(head.to_bytes(16, "big"), head + 1, head + 3)]
    scribe.write("a", {"stream": f"s{head}", "data": b"x" * 3000}, "b", append_ids=ids)
    print(backend.last()[0], flush=True)
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_killed_writer_loses_nothing_it_acknowledged(scheme: str, tmp_path: Path) -> None:
    url = f"{scheme}:{tmp_path / 'store'}"
    acknowledged = 0
    for round in range(3):
        with subprocess.Popen(
            [sys.executable, "-c", WRITE_FOR_EVER, url],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as writer:
            assert writer.stdout
            for _ in range(10 + 37 * round):
                acknowledged = int(writer.stdout.readline())
            writer.send_signal(signal.SIGKILL)
            for line in writer.stdout:
                acknowledged = int(line)
        backend = open_backend(url)
        head = backend.last()[0]
        assert head in (acknowledged, acknowledged + 3)
        assert backend.appends([(head - 3).to_bytes(16, "big")])
        assert list(backend.check()) == []
        backend.close()
