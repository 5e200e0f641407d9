"""SQLite: one file that people can open and look into; the default store without plyvel.

::

    PATH/events.sqlite       the tables, and the views ``history`` and ``cursors`` for the sqlite3 shell
    PATH/events.sqlite-wal   the newest commits: it is as much a part of the store as the file itself
    PATH/events.sqlite-shm   SQLite's own scratch file

A row of ``events`` is a record with its checksum, and the same facts once more in plain columns.
Rewind reads records; columns, indexes and the tables that lead from a name to positions, which SQLite
keeps without a checksum, only lead to them, and ``check`` compares the two. Ids that Rewind makes
itself follow from the position, so their column is NULL and they cost no index entry.

A commit is one transaction. In WAL mode with synchronous FULL it is synced before COMMIT returns,
and reading the file with another program never blocks it. A second program that *writes* is not
foreseen: after ``BUSY_SECONDS`` it costs the daemon its store.

SQLite cannot tell a damaged end of the -wal file from commits that were never finished.

The tables and statements are in tables.py, queries in places.py, the driver's settings and errors in
connection.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from itertools import islice
from pathlib import Path
from typing import Any
from zlib import crc32

from rewind.backends.contract import (
    SEEKS_MAX,
    AppendId,
    Backend,
    Commit,
    Found,
    Last,
    take,
)
from rewind.backends.directory import Directory, sync_directory
from rewind.backends.matching import Walk, find
from rewind.backends.sqlite import tables, upgrade
from rewind.backends.sqlite.connection import (
    DURABLE,
    PAGE_BYTES,
    WAL_FILE_BYTES,
    Database,
    connect,
    connect_to_read,
    translated,
)
from rewind.backends.sqlite.places import names_from, open_places, version_of
from rewind.backends.upgrade import Progress
from rewind.backends.verify import check_records
from rewind.errors import Behind, StoreDamaged
from rewind.events import Record, decode_event, decode_key, decode_names, own_id_prefix
from rewind.query import NAME_KINDS, QueryItem, matcher

CHECKPOINT_PAGES = WAL_FILE_BYTES // PAGE_BYTES  # The -wal file is cut back to so many.
PLACES_AT_ONCE = 128  # A statement fetches so many records: its cost is then that of the records.
COMMIT_PAGES = 8  # whatever is in it: the last page of a table, and of each of its indexes


class SQLiteBackend(Backend):
    """Records, their columns and their indexes in one SQLite file."""

    scheme = "sqlite"
    format_version = tables.FORMAT
    durability = "fsync"

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.path: Path | None = directory.path
        self.store_id = directory.store_id
        self.read_only = directory.read_only
        self._own_prefix = own_id_prefix(self.store_id)
        self._file = file = directory.path / "events.sqlite"
        self._wal_pages = 0  # So many at most were written since the last checkpoint.
        with translated(file), ExitStack() as undo:
            if directory.read_only:
                self._db = Database(file, connect_to_read(file, directory.scratch))
                undo.callback(self._db.close)
                self._check_identity(directory.format)
            else:
                self._db = Database(file, connect(file, create=directory.created))
                undo.callback(self._db.close)
                self._begin_use(directory)
            self._indexed = directory.format == tables.FORMAT
            self._head = self._find_head()
            self._last_time_ns = self._find_last_time()
            self._number = self._find_number() if self._indexed else self._head
            undo.pop_all()

    def _begin_use(self, directory: Directory) -> None:
        if not directory.created:
            # The settings write to the file, so it is looked at first.
            self._check_identity(directory.format)
        self._db.configure(DURABLE)
        with self._db.transaction():
            if directory.created:
                self._create()
            # Every start writes: that makes the -wal file, whose name is synced below, and shows
            # that the disk takes writes before anybody relies on it.
            self._db.run("UPDATE store SET openings = openings + 1")
        sync_directory(directory.path)
        if not directory.created and directory.format < tables.FORMAT:
            upgrade.upgrade(self._db, self._progress())
            directory.raise_format()
        directory.finish("events.sqlite", "events.sqlite-wal")

    def _progress(self) -> Progress:
        return Progress(self._directory.path, self._find_head(), self._directory.tell)

    def _check_identity(self, format: int) -> None:
        """Compare what the file says of itself with what its directory does."""
        store = self._db.one("SELECT * FROM store") or {}
        if store.get("id") != str(self.store_id):
            raise StoreDamaged(f"{self._file} is not the file of store {self.store_id}")
        found = store.get("format", 1)
        # It is raised here first, so a file may be ahead of its directory: an upgrade was cut short.
        if type(found) is not int or not format <= found <= tables.FORMAT:
            raise StoreDamaged(
                f"{self._file} has format {found!r}, but rewind.json says {format}: "
                "they are of different copies of this store. Copy a store whole"
            )

    def _create(self) -> None:
        for statement in tables.SCHEMA:
            self._db.run(statement)
        own = self._own_prefix.hex()
        self._db.run(tables.HISTORY.format(own=f"{own[:8]}-{own[8:12]}-{own[12:]}"))
        self._db.run(
            "INSERT OR IGNORE INTO store (id, openings) VALUES (?, 0)", (str(self.store_id),)
        )
        upgrade.add_tables(self._db)
        self._db.run("UPDATE store SET format = ?", (tables.FORMAT,))

    def _find_head(self) -> int:
        ((head,),) = self._db.rows("SELECT coalesce(max(position), 0) FROM events", (), (int,))
        return int(head)

    def _find_last_time(self) -> int:
        if not self._head:
            return 0
        (record,) = self._records(tables.BY_POSITION, (), self._head - 1, self._head, False)
        return decode_key(record).recorded_at_ns

    def _find_number(self) -> int:
        ((number,),) = self._db.rows("SELECT number FROM store", (), (int,))
        if number < min(self._head, 1):
            raise StoreDamaged(f"{self._file} is damaged: its last commit has the number {number}")
        return int(number)

    def last(self) -> Last:
        return Last(self._head, self._last_time_ns, self._number)

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        return {name: version_of(self._db, name) for name in streams}

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        query = "SELECT id, position FROM events WHERE id = ?"
        return dict(self._lookup(query, ids, (bytes, int)))

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        query = "SELECT id, first, last FROM append_ids WHERE id = ?"
        rows = self._lookup(query, append_ids, (bytes, int, int))
        return {id: (first, last) for id, first, last in rows}

    def append_ids(self, after: int, until: int) -> list[AppendId]:
        """Looks at every append id of the store: 50 ms a million where they are cached."""
        return [*self._db.rows(tables.APPEND_IDS, (after, until), (bytes, int, int))]

    def commit(self, commit: Commit) -> None:
        assert not self.read_only
        if commit.after != self._head or commit.number != self._number + 1:
            raise Behind(self._head, self._number)
        if self._wal_pages >= CHECKPOINT_PAGES:
            self._db.checkpoint()
            self._wal_pages = 0
        with self._db.transaction():
            if commit.records:
                self._add_records(commit.records)
            self._db.run_each(tables.ADD_APPEND, commit.append_ids)
            for name, value in commit.marks.items():
                if value is None:
                    self._db.run(tables.DELETE_MARK, (name,))
                else:
                    self._db.run(tables.ADD_MARK, tables.mark_row(name, value))
            self._db.run(tables.SET_NUMBER, (commit.number,))
        self._number = commit.number
        self._wal_pages += COMMIT_PAGES + len(commit.append_ids) + len(commit.marks)
        if commit.records:
            last = commit.records[-1].event
            self._head, self._last_time_ns = last.position, last.recorded_at_ns

    def _add_records(self, records: Sequence[Record]) -> None:
        run_each = self._db.run_each
        events = [record.event for record in records]
        rows = [tables.row(record, self._own_prefix) for record in records]
        run_each(tables.ADD_EVENT, rows)
        versions = {event.stream: event.version for event in events}
        run_each(tables.ADD_STREAM, versions.items())
        places = tables.places_of(events)
        for kind, of_kind in places.items():
            run_each(tables.BY_NAME[kind].add, of_kind)
        # What is written in the middle of a table may have a page of its own: an id and a tag have one,
        # a stream has two, and a third if it is its own category.
        ids = sum(row[2] is not None for row in rows)
        record_bytes = sum(len(record.encoded) for record in records)
        self._wal_pages += ids + len(places["tag"]) + 3 * len(versions) + record_bytes // PAGE_BYTES

    def confirm(self) -> None:
        self._directory.confirm()

    def settle(self) -> None:
        pass  # A commit leaves nothing to do.

    def read(
        self, after: int, until: int, limit: int, bytes_max: int, backwards: bool = False
    ) -> list[bytes]:
        until = min(until, self._head)
        return take(
            self._records(tables.BY_POSITION, (), after, until, backwards), limit, bytes_max
        )

    def chunk(self, after: int, until: int, limit: int, bytes_max: int) -> tuple[int, list[bytes]]:
        records = self.read(after, until, limit, bytes_max)
        return len(records), records

    def read_stream(
        self,
        stream: str,
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> list[bytes]:
        until = min(until, self.versions([stream]).get(stream, 0))
        return take(
            self._records(tables.BY_VERSION, (stream,), after, until, backwards), limit, bytes_max
        )

    def _records(
        self, query: str, stream: tuple[str, ...], after: int, until: int, backwards: bool
    ) -> Iterator[bytes]:
        """Verified records with ``after < number <= until``.

        Numbers are versions with a ``stream``, a tuple of its name, and positions with an empty one.
        """
        if after >= until:
            return
        expected = iter(range(until, after, -1) if backwards else range(after + 1, until + 1))
        for number, position, crc, record in self._db.rows(
            query + " DESC" if backwards else query, (*stream, after, until), (int, int, int, bytes)
        ):
            if number != next(expected, None):
                break
            _verify(record, crc, position, (*stream, number) if stream else None)
            yield record
        else:
            if next(expected, None) is None:
                return
        lack = f"stream {stream[0]!r} lacks a version" if stream else "a position is missing"
        raise StoreDamaged(f"{self._file}: {lack} between {after + 1} and {until}")

    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        # SQLite sorts text as its UTF-8 bytes, and so does Python.
        page: list[tuple[str, int]] = []
        for name, version in self._db.rows(
            "SELECT name, version FROM streams WHERE name >= ? AND name <> ? ORDER BY name LIMIT ?",
            (max(prefix, after), after, max(limit, 0)),
            (str, int),
        ):
            if not name.startswith(prefix):
                break
            page.append((name, version))
        return page

    # --- names and marks ---

    def matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        backwards: bool = False,
        seeks_max: int = SEEKS_MAX,
    ) -> Found:
        return find(self._walk(items, after, until, backwards, seeks_max), limit)

    def read_matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> tuple[list[bytes], int]:
        walk = self._walk(items, after, until, backwards, SEEKS_MAX, sifted=True)
        matches = matcher(items)
        found = ((position, walk.sure) for position in walk)
        records: list[bytes] = []
        size = last = 0
        while places := list(islice(found, min(limit - len(records), PLACES_AT_ONCE))):
            for (position, sure), record in zip(places, self._records_at(places), strict=True):
                names = decode_names(record)
                if matches(names.stream, names.type, names.tags):
                    size += len(record)
                    if records and size > bytes_max:
                        return records, last
                    records.append(record)
                elif sure:
                    raise self._misled(position, "whose event does not have it")
                else:
                    walk.rejected()
                last = position
        return records, last if len(records) == limit else walk.reached

    def _walk(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        backwards: bool,
        seeks_max: int,
        sifted: bool = False,
    ) -> Walk:
        self._make_tables()
        until = min(until, self._head)
        opened = open_places(self._db, self._head)
        return Walk(items, opened, after, until, backwards, seeks_max, sifted)

    def _records_at(self, places: Sequence[tuple[int, bool]]) -> Iterator[bytes]:
        """The verified records at these places of a walk, in their order."""
        positions = [position for position, _ in places]
        asked = iter(positions)
        # The rows have no name here: a traceback would keep them, and their statement open.
        for position, crc, record in self._db.rows(
            tables.AT, (tables.to_json(positions),), (int, int, bytes)
        ):
            if position != (expected := next(asked)):
                raise self._misled(expected, "where there is no event")
            _verify(record, crc, position, None)
            yield record
        for expected in asked:
            raise self._misled(expected, "where there is no event")

    def _misled(self, position: int, where: str) -> StoreDamaged:
        return StoreDamaged(
            f"{self._file} is damaged: a table leads from a name to position {position}, {where}"
        )

    def names(self, kind: str, prefix: str, after: str | None, limit: int) -> list[tuple[str, int]]:
        self._make_tables()
        return names_from(self._db, kind, prefix, after, limit)

    def _make_tables(self) -> None:
        """Make the tables of a store of an earlier format that is only read, beside it, when needed."""
        if not self._indexed:
            upgrade.add_temporary_tables(self._db, self._progress())
            self._indexed = True

    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        self._make_tables()
        rows = self._lookup(tables.MARK, names, (str, bytes, int))
        return dict(map(self._verified_mark, rows))

    def marks_from(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        self._make_tables()
        page: list[tuple[str, bytes]] = []
        values = (max(prefix, after), after, max(limit, 0))
        for row in self._db.rows(tables.MARKS_FROM, values, (str, bytes, int)):
            if not row[0].startswith(prefix):
                break
            page.append(self._verified_mark(row))
        return page

    def _verified_mark(self, row: tuple[Any, ...]) -> tuple[str, bytes]:
        name, value, crc = row
        if tables.mark_crc(name, value) != crc:
            raise StoreDamaged(f"{self._file}: the mark {name!r} fails its checksum")
        return name, value

    def _lookup(
        self, query: str, keys: Iterable[str | bytes], types: tuple[type, ...]
    ) -> Iterator[tuple[Any, ...]]:
        for key in keys:
            yield from self._db.fetch(query, (key,), types)

    def check(self) -> Iterator[str]:
        try:
            for (line,) in self._db.rows("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{self._file}: {line}"
            yield from check_records(self)
            yield from self._check_columns()
            yield from self._check_tables()
        except StoreDamaged as damage:
            yield str(damage)

    def _check_columns(self) -> Iterator[str]:
        """Compare the plain columns with the records."""
        for row in self._db.rows(f"SELECT {tables.COLUMNS} FROM events"):
            position, crc, record = row[0], row[-2], row[-1]
            if type(record) is not bytes or crc32(record) != crc:
                yield f"the record of position {position} fails its checksum"
            elif row != tables.row(Record(decode_event(record), record), self._own_prefix):
                yield f"position {position} has columns that differ from its record"

    def _check_tables(self) -> Iterator[str]:
        """Look for rows that no read comes upon, and compare the plain column of marks."""
        for kind in NAME_KINDS:
            for (name,) in self._db.rows(tables.BY_NAME[kind].outside, (self._head,), (str,)):
                yield f"events_by_{kind} leads from {name!r} to where there is no position"
        for first, last in self._db.rows("SELECT first, last FROM append_ids", (), (int, int)):
            if not 0 < first <= last <= self._head:
                yield f"an append id leads to positions {first} to {last}"
        for row in self._db.rows("SELECT name, value, crc, plain FROM marks"):
            if (type(row[0]), type(row[1])) == (str, bytes) and row != tables.mark_row(
                row[0], row[1]
            ):
                yield f"the mark {row[0]!r} has columns that differ from its value"

    def close(self) -> None:
        with closing(self._directory), translated(self._file):
            self._db.close()


def _verify(record: bytes, crc: int, position: int, version: tuple[str, int] | None) -> None:
    """Raise ``StoreDamaged`` unless every byte is what was written, and this is the record asked for.

    ``version``: the stream and the version that led to it, None if the position did.
    """
    if crc32(record) != crc:
        raise StoreDamaged(f"the record of position {position} fails its checksum")
    key = decode_key(record)
    if key.position != position:
        raise StoreDamaged(f"position {position} holds the record of position {key.position}")
    if version is not None and (key.stream, key.version) != version:
        raise StoreDamaged(
            f"version {version[1]} of stream {version[0]!r} leads to another stream's event, "
            f"position {position}"
        )
