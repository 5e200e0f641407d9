"""The log's index when it is behind: a store of an earlier release, killed upgrades, many small commits."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from contract import Scribe, read_all
from golden_stores import STORES
from test_log import ENGINES, open_log

from rewind.backends import Commit, default_scheme, open_backend
from rewind.backends.directory import Directory
from rewind.backends.log import backend as log
from rewind.backends.log import packets
from rewind.backends.log.segments import START, Segments
from rewind.errors import StoreDamaged, StoreForeign
from rewind.query import QueryItem

HELD: dict[str, Any] = json.loads((STORES / "log.json").read_text())
RECORDS = [bytes.fromhex(record) for record in HELD["records"]]
HEAD = len(RECORDS)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy of the golden store, whose index is in LevelDB."""
    shutil.copytree(STORES / "log", tmp_path / "store")
    return tmp_path / "store"


def identity(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "rewind.json").read_text())
    return found


def assert_upgraded(path: Path, index: str) -> None:
    """It holds what the golden store holds, answers queries, and takes commits of marks alone."""
    store = open_log(path, index)
    assert store.last()[::2] == (HEAD, HEAD)
    assert read_all(store) == RECORDS
    assert list(store.check()) == []
    assert store.matching([QueryItem(types=["paid"])], 0, HEAD, 9).positions == [3]
    assert store.names("category", "large", None, 9)[0][0] == "large"
    store.commit(Commit(HEAD + 1, HEAD, [], (), {"m": b"1"}))
    store.close()
    store = open_log(path, index)
    assert store.marks(["m"]) == {"m": b"1"}
    assert store.last()[::2] == (HEAD, HEAD + 1)
    assert list(store.check()) == []
    store.close()
    assert identity(path)["format"] == log.LogBackend.format_version == 2
    with pytest.raises(StoreForeign, match="newer than 1"):
        Directory(path, "log", 1)


@pytest.mark.parametrize("index", ENGINES)
def test_a_store_of_an_earlier_release_is_brought_up_to_date(
    index: str, old: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert identity(old)["format"] == 1
    segment = old / "segments" / f"{1:020}.log"
    before = segment.read_bytes()
    with caplog.at_level(logging.INFO, "rewind"):
        open_log(old, index).close()
    if index == "leveldb":
        assert "it has the format 1, and this release's is 2" in caplog.text
        warnings = [
            entry.getMessage() for entry in caplog.records if entry.levelno >= logging.WARNING
        ]
        assert warnings == [
            f"the format of {old} was 1 and is 2: earlier releases of Rewind do not open it any more"
        ]
    assert segment.read_bytes() == before, "what is old stays as it is"
    assert_upgraded(old, index)
    assert segment.read_bytes().startswith(before)


def test_an_upgrade_tells_how_far_it_is(
    old: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(log, "REPLAY_ENTRIES", 100)
    told: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO, "rewind"):
        open_backend(f"log:{old}", progress=lambda *far: told.append(far)).close()
    assert len(told) > 2 and told[-1] == (HEAD, HEAD)
    assert sorted(told) == told and {total for _, total in told} == {HEAD}
    assert f"{HEAD} of {HEAD} events" in caplog.text
    told.clear()
    caplog.clear()
    with caplog.at_level(logging.INFO, "rewind"):
        open_backend(f"log:{old}", progress=lambda *far: told.append(far)).close()
    assert told == [] and "events" not in caplog.text


KILL_AT = """
import os, shutil, signal, sys
from pathlib import Path
from rewind.backends.directory import Directory
from rewind.backends.log import backend as log
from rewind.backends.log import keys
left = int(sys.argv[3])
log.REPLAY_ENTRIES = 100
def counted(real):
    def call(*arguments):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real(*arguments)
    return call
def engine(real):
    def opened(*arguments):
        found, write, close = real(*arguments)
        return found, counted(write), close
    return opened
keys.ENGINES.update({name: engine(real) for name, real in keys.ENGINES.items()})
os.replace, shutil.rmtree = counted(os.replace), counted(shutil.rmtree)
log.LogBackend(Directory(Path(sys.argv[1]), "log", 2), sys.argv[2]).close()
print(left)
"""


def killed_at(path: Path, index: str, write: int) -> bool:
    """Open a store, and kill who does at a write. False if there were not so many."""
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT, str(path), index, str(write)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL)
    return done.returncode != 0


@pytest.mark.parametrize("index", ENGINES)
def test_an_upgrade_that_is_killed_at_any_write_goes_on(
    index: str, old: Path, tmp_path: Path
) -> None:
    writes = 0
    while True:
        copy = tmp_path / "copy"
        shutil.copytree(old, copy)
        killed = killed_at(copy, index, writes)
        assert identity(copy)["format"] == (1 if killed else 2)
        assert_upgraded(copy, index)
        shutil.rmtree(copy)
        if not killed:
            break
        writes += 1
    assert writes > 5, "it takes several steps"


@pytest.mark.parametrize("index", ENGINES)
def test_an_upgrade_that_is_killed_again_and_again_comes_to_an_end(index: str, old: Path) -> None:
    tries = 0
    while killed_at(old, index, 3):
        tries += 1
        assert tries < 20, "each time a step more is done"
    assert tries > 1
    assert_upgraded(old, index)


def test_an_index_of_an_earlier_release_is_built_anew_though_a_newer_was_begun(old: Path) -> None:
    # As when an earlier release opens the store between two attempts, and makes its own index again.
    kept = old.with_name("kept")
    shutil.copytree(old / "index-leveldb", kept)
    killed_at(old, "sqlite", 4)
    shutil.copytree(kept, old / "index-leveldb", dirs_exist_ok=True)
    assert_upgraded(old, "sqlite")


# --- an earlier release's index knows what was acknowledged ---


@pytest.mark.skipif(default_scheme() != "leveldb", reason="needs plyvel")
@pytest.mark.parametrize("spoil", ["cut", "flip", "zeros", "rest"])
def test_an_old_index_that_knows_more_than_the_segments_is_kept(spoil: str, old: Path) -> None:
    segment = old / "segments" / f"{1:020}.log"
    content = bytearray(segment.read_bytes())
    if spoil == "cut":
        del content[-1:]
    elif spoil == "flip":
        content[-20] ^= 1
    elif spoil == "zeros":
        content[-90:] = bytes(90)
    else:
        del content[200:]
    segment.write_bytes(content)
    for _ in range(2):  # LevelDB writes its own files anew when it is opened, but the index stays.
        with pytest.raises(StoreDamaged, match=r"the index knows commit .* acknowledged are gone"):
            open_log(old, "leveldb")
    assert segment.read_bytes() == content
    assert identity(old)["format"] == 1


# --- commits of marks alone ---


def advance(path: Path, index: str, count: int) -> None:
    """So many commits that move a cursor, as a daemon leaves them that was killed without an index."""
    open_log(path, index).close()
    store = open_log(path, index)
    segments = store._segments
    for n in range(1, count + 1):
        segments.append(Commit(n, 0, [], (), {"cursor:a": n.to_bytes(8, "big")}))
    store._directory.close()
    segments.close()
    store._keys._close()


@pytest.mark.parametrize("index", ENGINES)
def test_a_hundred_thousand_advances_are_replayed_once_and_folded(
    index: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 100_000
    with monkeypatch.context() as fast:
        fast.setattr(os, "fdatasync", lambda descriptor: None)  # It is killed, not switched off.
        advance(tmp_path / "store", index, many)
    read: list[object] = []
    written: list[int] = []
    read_commit = packets.read_commit

    def noted(*arguments: Any) -> Any:
        read.append(arguments)
        return read_commit(*arguments)

    monkeypatch.setattr(packets, "read_commit", noted)
    write_step = log.LogBackend._write_step

    def counted(self: Any, pending: list[Any], marks: Any, end: Any) -> None:
        write_step(self, pending, marks, end)
        written.append(len(marks))

    monkeypatch.setattr(log.LogBackend, "_write_step", counted)
    store = open_log(tmp_path / "store", index)
    assert store.last() == (0, 0, many)
    assert store.marks(["cursor:a"]) == {"cursor:a": many.to_bytes(8, "big")}
    store.close()
    assert len(read) == many + 1
    steps = many // log.REPLAY_ENTRIES
    assert steps <= len(written) <= 2 * steps, "steps are bounded, and few"
    read.clear()
    store = open_log(tmp_path / "store", index)
    assert store.last() == (0, 0, many)
    assert len(read) == 2, (
        "the last commit that the index knows, and what follows it, which is nothing"
    )
    assert store.marks(["cursor:a"]) == {"cursor:a": many.to_bytes(8, "big")}
    store.close()


@pytest.mark.parametrize("index", ENGINES)
@pytest.mark.parametrize("spoil", ["cut", "flip", "zeros"])
def test_a_lost_commit_of_marks_that_the_index_knows_is_damage(
    index: str, spoil: str, tmp_path: Path
) -> None:
    store = open_log(tmp_path / "store", index)
    Scribe(store).write("a", "b")
    store.commit(Commit(2, 2, [], (), {"cursor:a": b"1"}))
    store.commit(Commit(3, 2, [], (), {"cursor:a": b"2"}))
    begin, end = store._segments.end[1:3]
    store.close()
    segment = tmp_path / "store" / "segments" / f"{1:020}.log"
    content = bytearray(segment.read_bytes())
    assert len(content) == end
    if spoil == "cut":
        del content[begin:]
    elif spoil == "flip":
        content[-1] ^= 1
    else:
        content[begin:] = bytes(end - begin)
    segment.write_bytes(content)
    with pytest.raises(StoreDamaged, match=r"the index knows commit 3, at position 2, but .* gone"):
        open_log(tmp_path / "store", index)
    assert segment.read_bytes() == content


@pytest.mark.parametrize("index", ENGINES)
def test_check_compares_marks_with_the_segments(index: str, tmp_path: Path) -> None:
    store = open_log(tmp_path / "store", index)
    Scribe(store).write("a")
    store.commit(Commit(2, 1, [], (), {"one": b"1", "two": b"2", "gone": b"3"}))
    store.commit(Commit(3, 1, [], (), {"gone": None}))
    assert list(store.check()) == []
    for entry, complaint in (
        ((b"mone", b"other"), "another value of mark 'one'"),
        ((b"mtwo", None), "lacks mark 'two'"),
        ((b"mgone", b"3"), "another value of mark 'gone'"),
    ):
        kept = store._keys.get(entry[0])
        store._keys.write([entry])
        (line,) = store.check()
        assert complaint in line
        store._keys.write([(entry[0], kept)])
    assert list(store.check()) == []
    store.close()


@pytest.mark.parametrize("index", ENGINES)
def test_append_ids_are_found_across_commits_of_marks(index: str, tmp_path: Path) -> None:
    store = open_log(tmp_path / "store", index)
    scribe = Scribe(store)
    ids = [(bytes([n]) * 16, 2 * n + 1, 2 * n + 2) for n in range(4)]
    for row in ids:
        for _ in range(3):
            last = store.last()
            store.commit(Commit(last.number + 1, last.position, [], (), {"m": b"1"}))
        scribe.write("a", "b", append_ids=[row])
    for after in range(9):
        for until in range(after, 9):
            within = [row for row in ids if after < row[1] and row[2] <= until]
            assert store.append_ids(after, until) == within
    store.close()


def test_segments_tell_their_last_position_without_being_read_through(tmp_path: Path) -> None:
    store = open_log(tmp_path / "store")
    assert store._segments.last_said() == 0
    Scribe(store).write("a", "b", {"stream": "c", "data": b"Rwnd" * 9})
    store.commit(Commit(2, 3, [], (), {"Rwnd": b"Rwnd"}))
    assert store._segments.last_said() == 3
    store.close()


def test_the_segments_of_a_new_store_begin_at_the_start(tmp_path: Path) -> None:
    store = open_log(tmp_path / "store")
    assert store._segments.end == START
    store.close()
    opened = Segments(tmp_path / "store" / "segments", store.store_id, create=False)
    assert list(opened.commits(START)) == []
    opened.close()
