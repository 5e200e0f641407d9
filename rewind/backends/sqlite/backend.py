"""SQLite: one file that people can open and look into; the default store without plyvel.

::

    PATH/events.sqlite       the tables, and the view ``history`` for the sqlite3 shell
    PATH/events.sqlite-wal   the newest commits: it is as much a part of the store as the file itself
    PATH/events.sqlite-shm   SQLite's own scratch file

A row of ``events`` is a record with its checksum, and the same facts once more in plain columns.
Rewind reads records; columns and indexes, which SQLite keeps without a checksum, only lead to them,
and ``check`` compares the two. Ids that Rewind makes itself follow from the position, so their
column is NULL and they cost no index entry.

A commit is one transaction. In WAL mode with synchronous FULL it is synced before COMMIT returns,
and reading the file with another program never blocks it. A second program that *writes* is not
foreseen: after ``BUSY_SECONDS`` it costs the daemon its store.

SQLite cannot tell a damaged end of the -wal file from commits that were never finished.

The tables and statements are in tables.py, the driver's settings and errors in connection.py.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

from rewind.backends.contract import AppendId, Backend, Commit, Last, take
from rewind.backends.directory import Directory, sync_directory
from rewind.backends.sqlite import tables
from rewind.backends.sqlite.connection import (
    DURABLE,
    configure,
    connect,
    connect_to_read,
    translated,
)
from rewind.backends.verify import check_records
from rewind.errors import Behind, StoreDamaged, StoreFailed
from rewind.events import Record, decode_event, decode_key, own_id_prefix

CHECKPOINT_BYTES = 8 * 1024 * 1024  # So many bytes of records make a -wal file of about 30 MiB.


class SQLiteBackend(Backend):
    """Records, their columns and their indexes in one SQLite file."""

    scheme = "sqlite"
    format_version = 1
    durability = "fsync"

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.path: Path | None = directory.path
        self.store_id = directory.store_id
        self._own_prefix = own_id_prefix(self.store_id)
        self._file = directory.path / "events.sqlite"
        self._failed = False
        self._unchecked_bytes = 0  # The records since the last checkpoint have so many.
        self.read_only = directory.read_only
        with translated(self._file), ExitStack() as undo:
            if directory.read_only:
                self._db = connect_to_read(self._file, directory.scratch)
                undo.callback(self._db.close)
                self._check_identity()
            else:
                self._db = connect(self._file, create=directory.created)
                undo.callback(self._db.close)
                self._begin_use(directory)
            self._head, self._last_time_ns = self._find_last()
            self._number = self._head
            undo.pop_all()

    def _begin_use(self, directory: Directory) -> None:
        if not directory.created:
            self._check_identity()  # The settings write to the file, so it is looked at first.
        configure(self._db, DURABLE)
        with self._transaction():
            if directory.created:
                self._create()
            # Every start writes: that makes the -wal file, whose name is synced below, and shows
            # that the disk takes writes before anybody relies on it.
            self._db.execute("UPDATE store SET openings = openings + 1")
        sync_directory(directory.path)
        directory.finish("events.sqlite", "events.sqlite-wal")

    def _check_identity(self) -> None:
        ids = self._db.execute("SELECT id FROM store").fetchall()
        if ids != [(str(self.store_id),)]:
            raise StoreDamaged(f"{self._file} is not the file of store {self.store_id}")

    def _create(self) -> None:
        for statement in tables.SCHEMA:
            self._db.execute(statement)
        own = self._own_prefix.hex()
        self._db.execute(tables.HISTORY.format(own=f"{own[:8]}-{own[8:12]}-{own[12:]}"))
        self._db.execute("INSERT OR IGNORE INTO store VALUES (?, 0)", (str(self.store_id),))

    def _find_last(self) -> tuple[int, int]:
        ((head,),) = self._rows("SELECT coalesce(max(position), 0) FROM events", (), (int,))
        if not head:
            return 0, 0
        (record,) = self._records(tables.BY_POSITION, (), head - 1, head, False)
        return head, decode_key(record).recorded_at_ns

    def last(self) -> Last:
        return Last(self._head, self._last_time_ns, self._number)

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        versions = {}
        for name, version, last in self._lookup(tables.VERSION, streams, (str, int, int)):
            if version != last:
                raise StoreDamaged(
                    f"{self._file} is damaged: stream {name!r} says version {version}, "
                    f"but its last event is version {last}"
                )
            versions[name] = version
        return versions

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        query = "SELECT id, position FROM events WHERE id = ?"
        return dict(self._lookup(query, ids, (bytes, int)))

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        query = "SELECT id, first, last FROM append_ids WHERE id = ?"
        rows = self._lookup(query, append_ids, (bytes, int, int))
        return {id: (first, last) for id, first, last in rows}

    def append_ids(self, after: int, until: int) -> list[AppendId]:
        """Looks at every append id of the store: 50 ms a million where they are cached."""
        return [*self._rows(tables.APPEND_IDS, (after, until), (bytes, int, int))]

    def commit(self, commit: Commit) -> None:
        assert not self.read_only
        if commit.after != self._head or commit.number != self._number + 1:
            raise Behind(self._head, self._number)
        records = commit.records
        with translated(self._file):
            self._checkpoint()
            with self._transaction():
                self._db.executemany(
                    tables.ADD_EVENT, [tables.row(record, self._own_prefix) for record in records]
                )
                versions = {record.event.stream: record.event.version for record in records}
                self._db.executemany(tables.ADD_STREAM, versions.items())
                self._db.executemany(tables.ADD_APPEND, commit.append_ids)
        self._unchecked_bytes += sum(len(record.encoded) for record in records)
        last = records[-1].event
        self._head, self._last_time_ns = last.position, last.recorded_at_ns
        self._number = commit.number

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """A transaction: all or nothing, and durable at its end. If it fails, nothing is used again."""
        self._refuse_if_failed()
        self._failed = True
        self._db.execute("BEGIN IMMEDIATE")
        yield
        self._db.execute("COMMIT")
        self._failed = False

    def _checkpoint(self) -> None:
        """Move the -wal file's content into the database now and then, as far as readers permit."""
        if self._unchecked_bytes >= CHECKPOINT_BYTES:
            self._refuse_if_failed()
            self._failed = True
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._failed = False
            self._unchecked_bytes = 0

    def _refuse_if_failed(self) -> None:
        if self._failed:
            raise StoreFailed(f"a write to {self._file} failed: the store must be opened again")

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
        for number, position, crc, record in self._rows(
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
        for name, version in self._rows(
            "SELECT name, version FROM streams WHERE name >= ? AND name <> ? ORDER BY name LIMIT ?",
            (max(prefix, after), after, max(limit, 0)),
            (str, int),
        ):
            if not name.startswith(prefix):
                break
            page.append((name, version))
        return page

    def _lookup(
        self, query: str, keys: Iterable[str | bytes], types: tuple[type, ...]
    ) -> Iterator[tuple[Any, ...]]:
        for key in keys:
            yield from self._rows(query, (key,), types)

    def _rows(
        self, query: str, values: tuple[Any, ...] = (), types: tuple[type, ...] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a query. Raises ``StoreDamaged`` for other types: damage can change them."""
        self._refuse_if_failed()
        # It is closed also when the caller stops early: an open statement would hold up checkpoints.
        with translated(self._file), closing(self._db.execute(query, values)) as cursor:
            for row in cursor:
                if types is not None and tuple(map(type, row)) != types:
                    shown = [value.hex() if type(value) is bytes else value for value in row[:-1]]
                    raise StoreDamaged(f"{self._file} is damaged: {query!r} finds {shown!r}")
                yield row

    def check(self) -> Iterator[str]:
        try:
            for (line,) in self._rows("PRAGMA integrity_check"):
                if line != "ok":
                    yield f"{self._file}: {line}"
            yield from check_records(self)
            yield from self._check_columns()
        except StoreDamaged as damage:
            yield str(damage)

    def _check_columns(self) -> Iterator[str]:
        """Compare the plain columns with the records."""
        for row in self._rows(f"SELECT {tables.COLUMNS} FROM events"):
            position, crc, record = row[0], row[-2], row[-1]
            if type(record) is not bytes or crc32(record) != crc:
                yield f"the record of position {position} fails its checksum"
            elif row != tables.row(Record(decode_event(record), record), self._own_prefix):
                yield f"position {position} has columns that differ from its record"
        for first, last in self._rows("SELECT first, last FROM append_ids", (), (int, int)):
            if not 0 < first <= last <= self._head:
                yield f"an append id leads to positions {first} to {last}"

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
