"""SQLite: one file that people can open and look into; the default store without plyvel.

::

    PATH/events.sqlite       the tables below, and the view ``history`` for the sqlite3 shell
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

``Keys`` at the end is another use of SQLite: the log backend's index, where plyvel is not installed.
The file is long because whatever touches the driver, its settings and its errors is in one place.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from rewind.backends.contract import AppendId, Backend, Commit, Last, take
from rewind.backends.directory import (
    FILE_MODE,
    Directory,
    create_directory,
    sync_directory,
    translate,
)
from rewind.backends.verify import check_records
from rewind.errors import (
    Behind,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreNotCreated,
    StoreNotPermitted,
)
from rewind.events import Record, decode_event, decode_key, own_id_prefix

CACHE_BYTES = 16 * 1024 * 1024  # It holds the upper pages of every index of 10 million events.
CHECKPOINT_BYTES = 8 * 1024 * 1024  # So many bytes of records make a -wal file of about 30 MiB.
WAL_FILE_BYTES = 64 * 1024 * 1024  # A -wal file that grew under a long reader is cut back to this.
PATH_BYTES_MAX = 504  # SQLite's own bound, 512, holds for the name of its journal, too.
BUSY_SECONDS = 5.0  # A shell that holds a lock for longer is a mistake.

Settings = Mapping[str, int | str]

#: Each is read back after it was set. In SQLite's numbers synchronous 2 is FULL, and a negative
#: cache size is in KiB.
_DURABLE: Settings = {
    "journal_mode": "wal",
    "synchronous": 2,
    "fullfsync": 1,  # On macOS a sync must pass the drive's cache, too.
    "checkpoint_fullfsync": 1,
    "cache_size": -CACHE_BYTES // 1024,
    "wal_autocheckpoint": 0,  # SQLite's own checkpoint ignores a failed sync; ``commit`` makes ours.
    "journal_size_limit": WAL_FILE_BYTES,
}

#: For a file that can be made again: a crash may lose its last transactions, but tears none.
_DERIVED: Settings = {**_DURABLE, "synchronous": 1, "wal_autocheckpoint": 1_000}

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS store (id TEXT PRIMARY KEY, openings INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY,
        recorded_at INTEGER NOT NULL, -- nanoseconds since 1970 UTC
        id BLOB,                      -- NULL for an id that Rewind made
        stream TEXT NOT NULL,
        version INTEGER NOT NULL,
        type TEXT NOT NULL,
        tags TEXT,                    -- JSON, or NULL for none
        metadata TEXT,                -- JSON, or NULL for none
        data_bytes INTEGER NOT NULL,  -- data is the end of the record
        crc INTEGER NOT NULL,         -- CRC-32 of the record
        record BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX IF NOT EXISTS events_by_stream ON events (stream, version)",
    "CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON events (id) WHERE id IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS streams (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS append_ids"
    " (id BLOB PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID",
)

# {own} stands for the first 8 bytes of this store's own ids, as text; see events.own_id.
_HISTORY = """CREATE VIEW IF NOT EXISTS history AS SELECT
    position,
    strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000000, 'unixepoch')
        || printf('.%09dZ', recorded_at % 1000000000) AS recorded_at,
    CASE WHEN id IS NULL
        THEN printf('{own}-%04x-%012x', 0x8000 | (position >> 48), position & 0xffffffffffff)
        ELSE lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4)
            || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4)
            || '-' || substr(hex(id), 21))
    END AS id,
    stream, version, type, tags, metadata,
    CASE data_bytes WHEN 0 THEN x'' ELSE substr(record, -data_bytes) END AS data
    FROM events"""

_COLUMNS = (
    "position, recorded_at, id, stream, version, type, tags, metadata, data_bytes, crc, record"
)
_ADD_EVENT = f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ADD_STREAM = "INSERT OR REPLACE INTO streams (name, version) VALUES (?, ?)"
_ADD_APPEND = "INSERT INTO append_ids (id, first, last) VALUES (?, ?, ?)"

# Rows come as they are asked for, along an index: no LIMIT, no OFFSET, no sorting.
_BY_POSITION = (
    "SELECT position, position, crc, record FROM events WHERE position > ? AND position <= ?"
    " ORDER BY position"
)
_BY_VERSION = (
    "SELECT version, position, crc, record FROM events"
    " WHERE stream = ? AND version > ? AND version <= ? ORDER BY version"
)

# The version is found in two ways that must agree, because a wrong one would misplace events.
_VERSION = (
    "SELECT name, version, (SELECT max(version) FROM events WHERE stream = name) FROM streams"
    " WHERE name = ?"
)

_APPEND_IDS = (
    "SELECT id, first, last FROM append_ids WHERE first > ? AND last <= ? ORDER BY first, last, id"
)

_to_json = msgspec.json.Encoder().encode


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
        configure(self._db, _DURABLE)
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
        for statement in _SCHEMA:
            self._db.execute(statement)
        own = self._own_prefix.hex()
        self._db.execute(_HISTORY.format(own=f"{own[:8]}-{own[8:12]}-{own[12:]}"))
        self._db.execute("INSERT OR IGNORE INTO store VALUES (?, 0)", (str(self.store_id),))

    def _find_last(self) -> tuple[int, int]:
        ((head,),) = self._rows("SELECT coalesce(max(position), 0) FROM events", (), (int,))
        if not head:
            return 0, 0
        (record,) = self._records(_BY_POSITION, (), head - 1, head, False)
        return head, decode_key(record).recorded_at_ns

    def last(self) -> Last:
        return Last(self._head, self._last_time_ns, self._number)

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        versions = {}
        for name, version, last in self._lookup(_VERSION, streams, (str, int, int)):
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
        return [*self._rows(_APPEND_IDS, (after, until), (bytes, int, int))]

    def commit(self, commit: Commit) -> None:
        assert not self.read_only
        if commit.after != self._head or commit.number != self._number + 1:
            raise Behind(self._head, self._number)
        records = commit.records
        with translated(self._file):
            self._checkpoint()
            with self._transaction():
                self._db.executemany(_ADD_EVENT, map(self._row, records))
                versions = {record.event.stream: record.event.version for record in records}
                self._db.executemany(_ADD_STREAM, versions.items())
                self._db.executemany(_ADD_APPEND, commit.append_ids)
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

    def _row(self, record: Record) -> tuple[Any, ...]:
        """The columns of a record, in the order of ``_COLUMNS``."""
        event = record.event
        return (
            event.position,
            event.recorded_at_ns,
            None if event.id_bytes.startswith(self._own_prefix) else event.id_bytes,
            event.stream,
            event.version,
            event.type,
            _to_json(event.tags).decode() if event.tags else None,
            _to_json(event.metadata).decode() if event.metadata else None,
            len(event.data),
            crc32(record.encoded),
            record.encoded,
        )

    def confirm(self) -> None:
        self._directory.confirm()

    def settle(self) -> None:
        pass  # A commit leaves nothing to do.

    def read(
        self, after: int, until: int, limit: int, bytes_max: int, backwards: bool = False
    ) -> list[bytes]:
        until = min(until, self._head)
        return take(self._records(_BY_POSITION, (), after, until, backwards), limit, bytes_max)

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
            self._records(_BY_VERSION, (stream,), after, until, backwards), limit, bytes_max
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
        for row in self._rows(f"SELECT {_COLUMNS} FROM events"):
            position, crc, record = row[0], row[-2], row[-1]
            if type(record) is not bytes or crc32(record) != crc:
                yield f"the record of position {position} fails its checksum"
            elif row != self._row(Record(decode_event(record), record)):
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


class Keys:
    """A SQLite file as ``KeyValues`` (index.py), for an index that can be made again.

    A value is followed by the CRC-32 of its key and itself, 4 bytes, little-endian. ``scratch``: a
    temporary folder; with one, the file is copied there, and the copy is read and written.
    """

    def __init__(self, path: Path, create: bool, scratch: Path | None = None) -> None:
        self._file = path / "index.sqlite"
        if create:
            create_directory(path)
        if scratch is not None:
            self._file = _copy(self._file, scratch)
        with translated(self._file), ExitStack() as undo:
            self._db = connect(self._file, create)
            undo.callback(self._db.close)
            configure(self._db, _DERIVED)
            if create:
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS kv (key BLOB PRIMARY KEY, value BLOB NOT NULL)"
                    " WITHOUT ROWID"
                )
            undo.pop_all()

    def get(self, key: bytes) -> bytes | None:
        with translated(self._file):
            for (stored,) in self._db.execute("SELECT value FROM kv WHERE key = ?", (key,)):
                return self._verified(key, stored)
        return None

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        query = "SELECT key, value FROM kv WHERE key >= ? AND key < ? ORDER BY key"
        if reverse:
            query += " DESC"
        with translated(self._file), closing(self._db.execute(query, (start, stop))) as cursor:
            for key, stored in cursor:
                yield key, self._verified(key, stored)

    def _verified(self, key: Any, stored: Any) -> bytes:
        if (
            type(key) is bytes
            and type(stored) is bytes
            and _with_checksum(key, stored[:-4]) == stored
        ):
            return stored[:-4]
        raise StoreDamaged(f"{self._file} is damaged: the value of {key!r} fails its checksum")

    def write(self, entries: Iterable[tuple[bytes, bytes]]) -> None:
        """Put all entries or none. Not synced: a crash of the machine may lose the last ones."""
        with translated(self._file):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO kv VALUES (?, ?)",
                ((key, _with_checksum(key, value)) for key, value in entries),
            )
            self._db.execute("COMMIT")

    def close(self) -> None:
        with translated(self._file):
            self._db.close()


def _with_checksum(key: bytes, value: bytes) -> bytes:
    return value + crc32(value, crc32(key)).to_bytes(4, "little")


def connect(file: Path, create: bool) -> sqlite3.Connection:
    """Open a file, which must exist unless it is to be created.

    SQLite gives the -wal and -shm files the mode of this one.
    """
    uri = _uri(file, "mode=rwc" if create else "mode=rw")
    try:
        if create:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, FILE_MODE))
    except OSError as error:
        raise translate(error, f"cannot open {file}") from error
    return _connect(file, uri)


def connect_to_read(file: Path, scratch: Callable[[], Path]) -> sqlite3.Connection:
    """Open a file so that neither it nor a file beside it is changed.

    What a -wal file holds is as much a part of it: a killed process leaves one. SQLite reads it only
    through a -shm file, which is not written with this setting. Where that file is missing, as it may
    be from a copy, the others are copied to the temporary folder that ``scratch`` returns.
    """
    if not _size(_beside(file, "-wal")):
        # With this setting SQLite opens nothing else, and would not look at a -wal file.
        options = "mode=ro&immutable=1"
    elif _size(_beside(file, "-shm")):
        options = "mode=ro&readonly_shm=1"
    else:
        file, options = _copy(file, scratch()), "mode=rw"
    return _connect(file, _uri(file, options))


def _uri(file: Path, options: str) -> str:
    if len(os.fsencode(file)) > PATH_BYTES_MAX:
        raise StoreNotCreated(
            f"the path {file} is too long for SQLite, which takes {PATH_BYTES_MAX} bytes"
        )
    return f"{file.absolute().as_uri()}?{options}"


def _connect(file: Path, uri: str) -> sqlite3.Connection:
    try:
        if not file.exists():
            raise StoreDamaged(f"{file} is missing")
    except OSError as error:
        raise translate(error, f"cannot open {file}") from error
    return sqlite3.connect(
        uri,
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # This module begins and ends transactions itself.
        check_same_thread=False,  # One thread at a time uses it, but not always the same one.
    )


def _copy(file: Path, folder: Path) -> Path:
    """A copy of a file and its -wal file in a folder."""
    try:
        for each in (file, _beside(file, "-wal")):
            if each is file or _size(each):
                shutil.copyfile(each, folder / each.name)
    except FileNotFoundError as error:
        raise StoreDamaged(f"{file} is missing") from error
    except OSError as error:
        raise translate(error, f"cannot copy {file} to read it") from error
    return folder / file.name


def _beside(file: Path, suffix: str) -> Path:
    return file.with_name(file.name + suffix)


def _size(file: Path) -> int:
    """The size of a file, 0 where there is none."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise translate(error, f"cannot read {file}") from error


def configure(db: sqlite3.Connection, settings: Settings) -> None:
    """Apply the settings and make sure SQLite took them, which it does not say by itself."""
    for name, value in settings.items():
        db.execute(f"PRAGMA {name} = {value}").fetchall()
        (actual,) = db.execute(f"PRAGMA {name}").fetchone() or (None,)
        if actual != value:
            raise StoreFailed(f"SQLite has {name} at {actual!r} where {value!r} was asked for")


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """SQLite's errors in our words."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise _translate(error, file) from error


# Every statement is a fixed text, so "no such table" (ERROR) or a taken key (CONSTRAINT) means
# that the file is not as we left it.
_DAMAGE = (
    sqlite3.SQLITE_CORRUPT,
    sqlite3.SQLITE_NOTADB,
    sqlite3.SQLITE_ERROR,
    sqlite3.SQLITE_CONSTRAINT,
    sqlite3.SQLITE_MISMATCH,
)
_DENIED = (sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH)


def _translate(error: Exception, file: Path) -> StoreError:
    # The low byte is the kind of error. Python's own errors (text that is not UTF-8) have no code.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in _DAMAGE:
        return StoreDamaged(f"{file} is damaged: {error}")
    if code in _DENIED or (code == sqlite3.SQLITE_CANTOPEN and not _may_write(file)):
        return StoreNotPermitted(f"cannot use {file}: {error}")
    return StoreFailed(f"SQLite failed on {file}: {error}")


def _may_write(file: Path) -> bool:
    both = os.R_OK | os.W_OK
    return os.access(file.parent, both) and (not file.exists() or os.access(file, both))
