"""The SQLite backend: its settings, its view for people, other programs, and failures."""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import Scribe, read_all

from rewind.backends import Commit, open_backend
from rewind.backends.directory import Directory
from rewind.backends.sqlite import backend as sqlite
from rewind.backends.sqlite import tables
from rewind.backends.sqlite.connection import DURABLE, configure
from rewind.errors import StoreDamaged, StoreFailed
from rewind.events import decode_event


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def backend(path: Path) -> Iterator[sqlite.SQLiteBackend]:
    opened = sqlite.SQLiteBackend(Directory(path, "sqlite", tables.FORMAT))
    yield opened
    opened.close()


@pytest.fixture
def scribe(backend: sqlite.SQLiteBackend) -> Scribe:
    return Scribe(backend)


@pytest.fixture
def shell(backend: sqlite.SQLiteBackend, path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that opened the file."""
    connection = sqlite3.connect(path / "events.sqlite", timeout=0, isolation_level=None)
    yield connection
    connection.close()


# --- settings ---


def test_commits_are_synced_and_caches_are_bounded(backend: sqlite.SQLiteBackend) -> None:
    for name, value in {
        "journal_mode": "wal",
        "synchronous": 2,
        "cache_size": -16 * 1024,
        "locking_mode": "normal",
        "busy_timeout": 5_000,
    }.items():
        assert list(backend._db.rows(f"PRAGMA {name}")) == [(value,)], name


def test_a_setting_that_sqlite_does_not_take_is_a_failure() -> None:
    # A database in memory has no WAL, and SQLite says nothing about it.
    db = sqlite3.connect(":memory:")
    with pytest.raises(StoreFailed, match=r"journal_mode at 'memory' where 'wal' was asked for"):
        configure(db, DURABLE)
    db.close()


@pytest.mark.parametrize(
    "query",
    [
        tables.BY_POSITION,
        tables.BY_VERSION + " DESC",
        tables.VERSION,
        tables.IN_STREAM,
        tables.UNINDEXED,
        tables.MARK,
        tables.MARKS_FROM,
        *(
            query
            for of_kind in tables.BY_NAME.values()
            for query in (
                of_kind.forwards,
                of_kind.backwards,
                of_kind.first,
                of_kind.next,
            )
        ),
        "SELECT id, position FROM events WHERE id = x'00'",
        "SELECT name, version FROM streams WHERE name >= 'a' AND name <> 'a' ORDER BY name",
    ],
)
def test_every_query_follows_an_index(backend: sqlite.SQLiteBackend, query: str) -> None:
    values = ("1",) * query.count("?")
    plan = [row[3] for row in backend._db.rows(f"EXPLAIN QUERY PLAN {query}", values)]
    assert plan
    for step in plan:
        assert step.startswith(("SEARCH", "SCALAR SUBQUERY", "CORRELATED SCALAR SUBQUERY")), plan


# --- people and other programs ---


def test_history_shows_events_plainly(scribe: Scribe, shell: sqlite3.Connection) -> None:
    id = uuid.uuid4()
    written = scribe.write(
        {"stream": "a", "data": b""},
        {
            "stream": "ü",
            "id": id.bytes,
            "type": "Made",
            "tags": ("x", "é"),
            "metadata": {"n": [1, None]},
            "data": b"\x00data",
        },
    )
    rows = [dict(row) for row in named(shell).execute("SELECT * FROM history ORDER BY position")]
    first, second = map(decode_event, written)
    assert rows[0] == {
        "position": 1,
        "recorded_at": "2023-11-14T22:13:20.000000001Z",
        "id": str(first.id),
        "stream": "a",
        "version": 1,
        "type": "Happened",
        "tags": None,
        "metadata": None,
        "data": b"",
    }
    assert rows[1]["id"] == str(second.id) == str(id)
    assert (rows[1]["stream"], rows[1]["type"], rows[1]["data"]) == ("ü", "Made", b"\x00data")
    assert json.loads(rows[1]["tags"]) == ["x", "é"]
    assert json.loads(rows[1]["metadata"]) == {"n": [1, None]}


def named(connection: sqlite3.Connection) -> sqlite3.Connection:
    connection.row_factory = sqlite3.Row
    return connection


def test_a_reader_does_not_fail_commits(
    backend: sqlite.SQLiteBackend,
    scribe: Scribe,
    shell: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 1)  # the reader holds these up, too
    written = scribe.write("a")
    shell.execute("BEGIN")
    assert shell.execute("SELECT count(*) FROM events").fetchone() == (1,)
    for _ in range(5):
        written += scribe.write("a", "b")
    assert shell.execute("SELECT count(*) FROM events").fetchone() == (1,)
    shell.execute("COMMIT")
    written += scribe.write("a")
    assert read_all(backend) == written
    assert shell.execute("SELECT count(*) FROM events").fetchone() == (12,)


def test_checkpoints_keep_the_wal_file_small(
    path: Path, scribe: Scribe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 25)
    for _ in range(100):
        scribe.write({"stream": "a", "data": b"x" * 20_000})
    assert (path / "events.sqlite-wal").stat().st_size < 400_000


@pytest.mark.parametrize("what", ["an event", "ids", "tags", "streams", "marks", "append ids"])
def test_small_commits_keep_the_wal_file_small_too(
    path: Path,
    backend: sqlite.SQLiteBackend,
    scribe: Scribe,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    """A commit writes whole pages, however little it holds."""
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 300)
    for n in range(300):
        head = backend.last().position
        if what == "an event":
            scribe.write({"stream": "a", "data": b""})
        elif what == "tags":
            scribe.write({"stream": "a", "tags": [f"{m * 7_919 % 1_000}:{n}" for m in range(32)]})
        elif what == "streams":
            scribe.write(*(f"{m * 7_919 % 1_000}:{n}" for m in range(20)))
        elif what == "ids":
            scribe.write(*({"stream": "a", "id": uuid.uuid4().bytes} for _ in range(20)))
        elif what == "append ids":
            scribe.write("a", append_ids=[(uuid.uuid4().bytes, head + 1, head + 1)])
        else:
            marks = {f"cursor:{m * 7_919 % 1_000}:{n}": b"\x92\x01\x02" for m in range(20)}
            backend.commit(Commit(n + 1, 0, [], marks=marks))
    assert (path / "events.sqlite-wal").stat().st_size < 400 * 4_096


def test_the_wal_file_grows_while_a_reader_keeps_a_read_open(
    path: Path, scribe: Scribe, shell: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHECKPOINT_PAGES", 25)
    scribe.write("a")
    shell.execute("BEGIN")
    shell.execute("SELECT count(*) FROM events").fetchone()
    for _ in range(100):
        scribe.write({"stream": "a", "data": b"x" * 20_000})
    grown = (path / "events.sqlite-wal").stat().st_size
    assert grown > 2_000_000
    shell.execute("COMMIT")
    for _ in range(50):
        scribe.write({"stream": "a", "data": b"x" * 20_000})
    assert (path / "events.sqlite-wal").stat().st_size <= grown + 200_000


def test_a_program_that_reads_while_we_open_is_no_hindrance(path: Path) -> None:
    open_backend(f"sqlite:{path}").close()
    with sqlite3.connect(path / "events.sqlite") as shell:
        shell.execute("BEGIN")
        shell.execute("SELECT * FROM events").fetchall()
        backend = open_backend(f"sqlite:{path}")
        Scribe(backend).write("a")
        backend.close()
    shell.close()


# --- damage ---


def test_another_stores_file_is_damage(tmp_path: Path) -> None:
    for name in ("one", "two"):
        open_backend(f"sqlite:{tmp_path / name}").close()
    (tmp_path / "two" / "events.sqlite").replace(tmp_path / "one" / "events.sqlite")
    with pytest.raises(StoreDamaged, match="is not the file of store"):
        open_backend(f"sqlite:{tmp_path / 'one'}")


@pytest.mark.parametrize("content", [b"", b"no database" * 1_000])
def test_a_file_that_is_no_database_is_damage(path: Path, content: bytes) -> None:
    open_backend(f"sqlite:{path}").close()
    (path / "events.sqlite").write_bytes(content)
    with pytest.raises(StoreDamaged):
        open_backend(f"sqlite:{path}")


def test_a_missing_event_is_damage(
    backend: sqlite.SQLiteBackend, scribe: Scribe, shell: sqlite3.Connection
) -> None:
    scribe.write("a", "a", "a")
    shell.execute("DELETE FROM events WHERE position = 2")
    assert len(backend.read(0, 1, 9, 999)) == 1
    for backwards in (False, True):
        with pytest.raises(StoreDamaged, match="a position is missing"):
            backend.read(0, 3, 9, 999, backwards)
        with pytest.raises(StoreDamaged, match="stream 'a' lacks a version"):
            backend.read_stream("a", 0, 3, 9, 999, backwards)
    assert list(backend.check())


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET record = (SELECT record FROM events WHERE position = 1),"
        " crc = (SELECT crc FROM events WHERE position = 1) WHERE position = 2",
        "UPDATE events SET crc = crc + 1 WHERE position = 2",
        "UPDATE events SET record = CAST(record AS TEXT) WHERE position = 2",
    ],
)
def test_a_changed_record_is_damage(
    backend: sqlite.SQLiteBackend, scribe: Scribe, shell: sqlite3.Connection, change: str
) -> None:
    scribe.write("a", "b")
    shell.execute(change)
    with pytest.raises(StoreDamaged):
        backend.read(1, 2, 9, 999)
    with pytest.raises(StoreDamaged):
        backend.read_stream("b", 0, 1, 9, 999)
    assert list(backend.check())


def test_a_column_that_leads_to_another_streams_event_is_damage(
    backend: sqlite.SQLiteBackend, scribe: Scribe, shell: sqlite3.Connection
) -> None:
    scribe.write("a", "b")
    shell.execute("UPDATE events SET stream = 'a', version = 2 WHERE position = 2")
    shell.execute("UPDATE streams SET version = 2 WHERE name = 'a'")
    with pytest.raises(StoreDamaged, match="leads to another stream's event, position 2"):
        backend.read_stream("a", 0, 2, 9, 999)


def test_a_wrong_version_is_damage_before_it_misplaces_an_event(
    backend: sqlite.SQLiteBackend, scribe: Scribe, shell: sqlite3.Connection
) -> None:
    scribe.write("a", "a")
    shell.execute("UPDATE streams SET version = 5")
    with pytest.raises(StoreDamaged, match="says version 5, but its last event is version 2"):
        backend.versions(["a"])


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET type = 'Other'",
        "UPDATE events SET tags = '[]'",
        "UPDATE events SET recorded_at = 1",
        "UPDATE events SET data_bytes = 0",
        "UPDATE append_ids SET last = 9",
    ],
)
def test_check_compares_what_reads_do_not_look_at(
    backend: sqlite.SQLiteBackend, scribe: Scribe, shell: sqlite3.Connection, change: str
) -> None:
    scribe.write({"stream": "a", "id": b"e" * 16}, append_ids=[(b"i" * 16, 1, 1)])
    assert list(backend.check()) == []
    shell.execute(change)
    assert list(backend.check())


# --- failures ---


def test_a_failed_commit_ends_the_use_and_stores_nothing(path: Path) -> None:
    backend = sqlite.SQLiteBackend(Directory(path, "sqlite", tables.FORMAT))
    scribe = Scribe(backend)
    written = scribe.write("a", append_ids=[(b"i" * 16, 1, 1)])
    commit = Commit(2, 1, scribe.records([{"stream": "b"}]))
    ((pages,),) = backend._db.rows("PRAGMA page_count")
    list(backend._db.rows(f"PRAGMA max_page_count = {pages + 3}"))  # a full disk, as SQLite sees it
    with pytest.raises(StoreFailed, match="full"):
        scribe.write("b", {"stream": "b", "data": b"x" * 100_000}, append_ids=[(b"j" * 16, 2, 3)])
    for use in (
        lambda: backend.commit(commit),
        lambda: backend.read(0, 9, 9, 9),
        lambda: backend.versions(["b"]),
    ):
        with pytest.raises(StoreFailed, match="must be opened again"):
            use()
    backend.close()
    again = open_backend(str(path))
    assert read_all(again) == written
    assert again.versions(["b"]).get("b", 0) == 0
    assert again.appends([b"i" * 16, b"j" * 16]) == {b"i" * 16: (1, 1)}
    assert list(again.check()) == []
    again.close()


def test_a_program_that_keeps_writing_ends_the_use(
    backend: sqlite.SQLiteBackend, scribe: Scribe, shell: sqlite3.Connection
) -> None:
    list(backend._db.rows("PRAGMA busy_timeout = 0"))  # instead of waiting out BUSY_SECONDS
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreFailed, match="locked"):
        scribe.write("a")
    shell.execute("ROLLBACK")
