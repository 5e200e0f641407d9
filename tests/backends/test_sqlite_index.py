"""SQLite's tables that lead from a name to events, its marks, and how an older store gets them."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from contract import EPOCH_NS, Scribe, read_all
from golden_stores import STORES
from index_contract import positions_of

from rewind.backends import Backend, Commit, open_backend
from rewind.backends.directory import Directory
from rewind.backends.sqlite import tables, upgrade
from rewind.backends.sqlite.backend import SQLiteBackend
from rewind.backends.sqlite.connection import Database
from rewind.errors import StoreDamaged, StoreFailed
from rewind.events import AppendEvent, decode_event, make_record, own_id, own_id_prefix
from rewind.query import NAME_KINDS, QueryItem, category_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def backend(path: Path) -> Iterator[Backend]:
    opened = open_backend(f"sqlite:{path}")
    yield opened
    opened.close()


@pytest.fixture
def scribe(backend: Backend) -> Scribe:
    return Scribe(backend)


@pytest.fixture
def shell(backend: Backend, path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that opened the file."""
    connection = sqlite3.connect(path / "events.sqlite", timeout=0, isolation_level=None)
    yield connection
    connection.close()


def item(kind: str, *names: str) -> QueryItem:
    return QueryItem(**{"category": {"categories": names}}.get(kind, {f"{kind}s": names}))


# --- people ---


def test_cursors_are_shown_plainly(
    backend: Backend, scribe: Scribe, shell: sqlite3.Connection
) -> None:
    moved = [msgspec.msgpack.encode([at, EPOCH_NS + at]) for at in (1, 2**40)]
    marks: dict[str, bytes | None] = {
        "cursor:b": moved[0],
        "cursor:ä": moved[1],
        "group:c": b"\xc1",
    }
    scribe.write("a", marks=marks)
    backend.commit(Commit(2, 1, [], marks={"cursor:b": moved[1], "cursor:c": moved[0]}))
    backend.commit(Commit(3, 1, [], marks={"cursor:c": None}))
    shown = shell.execute("SELECT name, position, updated_at FROM cursors ORDER BY name").fetchall()
    time = "2023-11-14T22:31:39.511627776Z"
    assert shown == [("b", 2**40, time), ("ä", 2**40, time)]
    assert shell.execute("SELECT plain FROM marks WHERE name = 'group:c'").fetchall() == [(None,)]


# --- damage ---


@pytest.fixture
def damaged(
    backend: Backend, scribe: Scribe, shell: sqlite3.Connection
) -> Callable[[str], list[str]]:
    """Damage a store of two events with a statement, and return what ``check`` says."""
    names: dict[str, Any] = {"stream": "a-1", "type": "T", "tags": ("x", "y", "x")}
    scribe.write({"stream": "b"}, names, marks={"cursor:c": b"\x92\x01\x02"})

    def damage(statement: str) -> list[str]:
        assert list(backend.check()) == []
        assert shell.execute(statement).rowcount == 1
        return list(backend.check())

    return damage


@pytest.mark.parametrize(
    ("kind", "name"), [("type", "T"), ("tag", "x"), ("category", "a")], ids=NAME_KINDS
)
class TestDamage:
    def test_a_missing_row_is_named(
        self, damaged: Callable[[str], list[str]], kind: str, name: str
    ) -> None:
        said = damaged(f"DELETE FROM events_by_{kind} WHERE {kind} = '{name}'")
        assert said[0] == f"{kind} {name!r} does not lead to position 2"

    @pytest.mark.parametrize("position", [1, 3, -1])
    def test_a_row_that_leads_elsewhere_is_named(
        self, damaged: Callable[[str], list[str]], kind: str, name: str, position: int
    ) -> None:
        said = damaged(f"INSERT INTO events_by_{kind} VALUES ('{name}', {position})")
        outside = f"events_by_{kind} leads from {name!r} to where there is no position"
        elsewhere = f"{kind} {name!r} leads to position {position}, which has it not"
        assert (elsewhere if position == 1 else outside) in said

    def test_a_row_that_leads_to_another_event_is_damage_when_it_is_followed(
        self, backend: Backend, damaged: Callable[[str], list[str]], kind: str, name: str
    ) -> None:
        damaged(f"UPDATE events_by_{kind} SET position = 1 WHERE {kind} = '{name}'")
        with pytest.raises(StoreDamaged, match="to position 1, whose event does not have it"):
            backend.read_matching([item(kind, name)], 0, 2, 9, 999)

    def test_a_row_that_leads_to_no_event_is_damage_when_it_is_followed(
        self,
        backend: Backend,
        shell: sqlite3.Connection,
        damaged: Callable[[str], list[str]],
        kind: str,
        name: str,
    ) -> None:
        damaged("DELETE FROM events WHERE position = 2")
        with pytest.raises(StoreDamaged, match="to position 2, where there is no event"):
            backend.read_matching([item(kind, name)], 0, 2, 9, 999)

    def test_a_place_that_is_no_integer_is_damage(
        self, backend: Backend, damaged: Callable[[str], list[str]], kind: str, name: str
    ) -> None:
        damaged(f"UPDATE events_by_{kind} SET position = 1.5 WHERE {kind} = '{name}'")
        for backwards in (False, True):
            with pytest.raises(StoreDamaged, match=r"finds \[\]"):
                backend.matching([item(kind, name)], 0, 2, 9, backwards)


def test_a_stream_that_lacks_a_version_is_damage_to_a_query(
    backend: Backend, scribe: Scribe, shell: sqlite3.Connection
) -> None:
    scribe.write("a", "a", "a")
    shell.execute("DELETE FROM events WHERE position = 2")
    for backwards in (False, True):
        with pytest.raises(StoreDamaged, match="stream 'a' lacks a version between 1 and 3"):
            backend.matching([item("stream", "a")], 0, 3, 9, backwards)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_stream_whose_positions_do_not_grow_is_damage_to_a_query(
    backend: Backend, scribe: Scribe, shell: sqlite3.Connection, backwards: bool
) -> None:
    scribe.write("a", "a", "a", "a")
    shell.execute("UPDATE events SET version = -version WHERE version IN (2, 3)")
    shell.execute("UPDATE events SET version = version + 5 WHERE version < 0")
    with pytest.raises(StoreDamaged, match="the events of 'a' are out of order"):
        backend.matching([item("stream", "a")], 0, 4, 9, backwards)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE marks SET value = x'920101'", "the mark 'cursor:c' fails its checksum"),
        ("UPDATE marks SET name = 'cursor:d'", "the mark 'cursor:d' fails its checksum"),
        ("UPDATE marks SET value = 'text'", "is damaged: 'SELECT name, value, crc FROM marks"),
        ("UPDATE marks SET crc = 1", "the mark 'cursor:c' fails its checksum"),
        ("UPDATE marks SET plain = '[1]'", "the mark 'cursor:c' has columns that differ"),
    ],
)
def test_a_damaged_mark_is_named(
    backend: Backend, damaged: Callable[[str], list[str]], change: str, said: str
) -> None:
    assert any(said in line for line in damaged(change))
    if "plain" not in change:  # Rewind does not read that column.
        with pytest.raises(StoreDamaged):
            backend.marks(["cursor:c", "cursor:d"])
        with pytest.raises(StoreDamaged):
            backend.marks_from("", "", 9)


@pytest.mark.parametrize("number", ["'many'", "-1", "0"])
def test_a_damaged_number_is_named(path: Path, number: str) -> None:
    backend = open_backend(f"sqlite:{path}")
    Scribe(backend).write("a")
    backend.close()
    with closing(sqlite3.connect(path / "events.sqlite")) as db, db:
        db.execute(f"UPDATE store SET number = {number}")
    with pytest.raises(StoreDamaged, match="number"):
        open_backend(f"sqlite:{path}")


@pytest.mark.parametrize("format", ["1", "3", "'two'"])
def test_a_file_of_another_format_than_its_directory_is_damage(path: Path, format: str) -> None:
    open_backend(f"sqlite:{path}").close()
    with closing(sqlite3.connect(path / "events.sqlite")) as db, db:
        db.execute(f"UPDATE store SET format = {format}")
    for read_only in (False, True):
        with pytest.raises(StoreDamaged, match=r"has format .*, but rewind.json says 2"):
            open_backend(f"sqlite:{path}", read_only=read_only)


# --- a store of the first format ---


@pytest.fixture
def old(path: Path) -> Path:
    return Path(shutil.copytree(STORES / "sqlite", path))


def append_as_before(path: Path, count: int) -> None:
    """Add events as a release of the first format does: only to its own tables."""
    with closing(sqlite3.connect(path / "events.sqlite")) as db, db:
        ((id,),) = db.execute("SELECT id FROM store").fetchall()
        ((head,),) = db.execute("SELECT max(position) FROM events").fetchall()
        prefix = own_id_prefix(uuid.UUID(id))
        for version in range(1, count + 1):
            record = make_record(
                AppendEvent(None, "late-1", "Late", ("tag", "late"), {}, b""),
                position=head + version,
                recorded_at_ns=EPOCH_NS,
                id=own_id(prefix, head + version),
                version=version,
            )
            db.execute(tables.ADD_EVENT, tables.row(record, prefix))
        db.execute(tables.ADD_STREAM, ("late-1", count))


def assert_upgraded(path: Path, late: int = 0) -> None:
    """Everything is there, is found by its names, and is gone on with."""
    backend = open_backend(f"sqlite:{path}")
    assert list(backend.check()) == []
    records = read_all(backend)
    assert backend.last()[0] == backend.last().number == len(records)
    events = list(map(decode_event, records))
    for kind, of in {
        "type": [{event.type} for event in events],
        "tag": [set(event.tags) for event in events],
        "category": [{category_of(event.stream)} for event in events],
    }.items():
        names = {name for each in of for name in each}
        listed = dict(backend.names(kind, "", None, 10**6))
        assert set(listed) == names
        for name in names:
            expected = positions_of(backend, [item(kind, name)])
            found = backend.matching([item(kind, name)], 0, len(records), 10**6)
            assert (found.positions, listed[name]) == (expected, expected[-1])
    assert len(positions_of(backend, [item("tag", "late")])) == late
    Scribe(backend).write(
        {"stream": "new-1", "tags": ("new",)}, marks={"cursor:c": b"\x92\x01\x02"}
    )
    backend.close()
    backend = open_backend(f"sqlite:{path}")
    assert backend.marks(["cursor:c"]) == {"cursor:c": b"\x92\x01\x02"}
    assert backend.last()[::2] == (len(records) + 1, len(records) + 1)
    assert list(backend.check()) == []
    backend.close()


def test_an_upgrade_says_how_far_it_is(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "STEP_EVENTS", 100)
    told: list[tuple[int, int]] = []
    open_backend(f"sqlite:{old}", progress=lambda *done: told.append(done)).close()
    assert told == [(done, 347) for done in (0, 100, 200, 300, 347)]
    told.clear()
    open_backend(f"sqlite:{old}", progress=lambda *done: told.append(done)).close()
    assert told == []
    assert_upgraded(old)


@pytest.mark.parametrize("late", [0, 60])
def test_an_upgrade_that_is_killed_at_any_write_is_gone_on_with(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, late: int
) -> None:
    """``late``: so many events are added in between by a release of the first format."""
    monkeypatch.setattr(upgrade, "STEP_EVENTS", 100)
    writes = 0
    while True:
        writes += 1
        copy = tmp_path / f"copy-{writes}"
        shutil.copytree(old, copy)
        if finishes(copy, writes):
            break
        raised = b'"format":2' in (copy / "rewind.json").read_bytes()
        if late and not raised:
            append_as_before(copy, late)
        assert_upgraded(copy, 0 if raised else late)
        shutil.rmtree(copy)
    assert writes > 40


def finishes(path: Path, writes: int) -> bool:
    """Open the store in a process that is killed when it is about to do its last of so many writes."""
    child = os.fork()
    if child == 0:
        left = writes

        def counted(write: Callable[..., Any]) -> Callable[..., Any]:
            def counting(*given: Any, **named: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                return write(*given, **named)

            return counting

        try:
            for name in ("run", "run_each", "checkpoint", "transaction"):
                setattr(Database, name, counted(getattr(Database, name)))
            os.replace, os.fsync = counted(os.replace), counted(os.fsync)
            open_backend(f"sqlite:{path}").close()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFEXITED(status) or os.WTERMSIG(status) == signal.SIGKILL
    return os.WIFEXITED(status)


def test_a_write_that_fails_ends_the_upgrade_and_the_next_one_goes_on(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "STEP_EVENTS", 100)

    def fail(*_: object) -> None:
        raise StoreFailed("the disk failed")

    with monkeypatch.context() as patched:
        patched.setattr(Database, "checkpoint", fail)
        with pytest.raises(StoreFailed, match="the disk failed"):
            open_backend(f"sqlite:{old}")
    told: list[tuple[int, int]] = []
    open_backend(f"sqlite:{old}", progress=lambda *done: told.append(done)).close()
    assert told[0] == (100, 347)
    assert_upgraded(old)


@pytest.mark.parametrize("change", ["tags = '[1]'", "tags = x'00'", "type = x'00'"])
def test_columns_that_an_upgrade_cannot_read_are_damage(old: Path, change: str) -> None:
    with closing(sqlite3.connect(old / "events.sqlite")) as db, db:
        db.execute(f"UPDATE events SET {change} WHERE position = 7")
    with pytest.raises(StoreDamaged, match=r"events.sqlite: position 7 has"):
        open_backend(f"sqlite:{old}")


def test_an_older_file_in_a_newer_directory_is_damage(old: Path, tmp_path: Path) -> None:
    shutil.copyfile(old / "events.sqlite", tmp_path / "kept")
    open_backend(f"sqlite:{old}").close()
    shutil.copyfile(tmp_path / "kept", old / "events.sqlite")
    with pytest.raises(StoreDamaged, match=r"has format 1, but rewind.json says 2"):
        open_backend(f"sqlite:{old}")


def test_an_upgraded_file_in_an_older_directory_keeps_its_number(old: Path, tmp_path: Path) -> None:
    shutil.copyfile(old / "rewind.json", tmp_path / "kept")
    backend = open_backend(f"sqlite:{old}")
    for number in (348, 349):
        backend.commit(Commit(number, 347, [], marks={"cursor:c": b"\x92\x01\x02"}))
    backend.close()
    shutil.copyfile(tmp_path / "kept", old / "rewind.json")
    backend = open_backend(f"sqlite:{old}")
    assert (backend.last()[0], backend.last().number) == (347, 349)
    assert backend.marks(["cursor:c"]) == {"cursor:c": b"\x92\x01\x02"}
    backend.close()


def test_an_unfinished_store_of_the_first_format_is_created_in_the_newest(path: Path) -> None:
    Directory(path, "sqlite", 1).close()
    with closing(sqlite3.connect(path / "events.sqlite")) as db, db:
        db.execute(tables.SCHEMA[0])
    for _ in range(2):
        backend = open_backend(f"sqlite:{path}")
        assert list(backend.check()) == []
        Scribe(backend).write({"stream": "a", "tags": ("t",)})
        backend.close()
    assert Directory(path, "sqlite", SQLiteBackend.format_version).format == tables.FORMAT


def test_an_old_store_that_is_only_read_answers_queries(old: Path) -> None:
    before = {file: file.read_bytes() for file in old.iterdir()}
    told: list[tuple[int, int]] = []
    backend = open_backend(
        f"sqlite:{old}", read_only=True, progress=lambda *done: told.append(done)
    )
    assert backend.last()[::2] == (347, 347)
    assert told == []
    items = [item("tag", "vip"), item("category", "many")]
    expected = positions_of(backend, items)
    assert len(expected) > 100
    assert backend.matching(items, 0, 347, 999).positions == expected
    records, _ = backend.read_matching(items, 0, 347, 999, 10**6, backwards=True)
    assert [decode_event(record).position for record in records] == expected[::-1]
    assert dict(backend.names("category", "o", None, 9)) == {"order": 3}
    assert told == [(347, 347)]
    assert backend.marks(["cursor:c"]) == {} and backend.marks_from("", "", 9) == []
    assert list(backend.check()) == []
    backend.close()
    assert {file: file.read_bytes() for file in old.iterdir()} == before
