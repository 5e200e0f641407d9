"""Another use of SQLite: keys and values, the log backend's index where plyvel is not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from zlib import crc32

from rewind.backends.directory import create_directory
from rewind.backends.keys import Entry
from rewind.backends.sqlite.connection import DERIVED, configure, connect, copy_file, translated
from rewind.errors import StoreDamaged


class Keys:
    """A SQLite file as ``KeyValues`` (../keys.py), for an index that can be made again.

    A value is followed by the CRC-32 of its key and itself, 4 bytes, little-endian. ``scratch``: a
    temporary folder; with one, the file is copied there, and the copy is read and written.
    """

    def __init__(self, path: Path, create: bool, scratch: Path | None = None) -> None:
        self._file = path / "index.sqlite"
        if create:
            create_directory(path)
        if scratch is not None:
            self._file = copy_file(self._file, scratch)
        with translated(self._file), ExitStack() as undo:
            self._db = connect(self._file, create)
            undo.callback(self._db.close)
            configure(self._db, DERIVED)
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

    def finder(self) -> _Finder:
        return _Finder(self.first)

    def first(self, query: str, key: bytes) -> tuple[bytes, bytes] | None:
        """The first entry of a query that has a key to begin at."""
        with translated(self._file):
            for found, stored in self._db.execute(query, (key,)).fetchall():
                return found, self._verified(found, stored)
        return None

    def _verified(self, key: Any, stored: Any) -> bytes:
        if (
            type(key) is bytes
            and type(stored) is bytes
            and _with_checksum(key, stored[:-4]) == stored
        ):
            return stored[:-4]
        raise StoreDamaged(f"{self._file} is damaged: the value of {key!r} fails its checksum")

    def write(self, entries: Sequence[Entry]) -> None:
        """Write all entries or none; a value of None deletes its key. Not synced: a crash of the machine
        may lose the last ones."""
        with translated(self._file):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.executemany(
                "INSERT OR REPLACE INTO kv VALUES (?, ?)",
                ((key, _with_checksum(key, value)) for key, value in entries if value is not None),
            )
            self._db.executemany(
                "DELETE FROM kv WHERE key = ?", ((key,) for key, value in entries if value is None)
            )
            self._db.execute("COMMIT")

    def close(self) -> None:
        with translated(self._file):
            self._db.close()


class _Finder:
    """``Finder`` by a statement for each entry, since none stays open."""

    def __init__(self, first: Callable[[str, bytes], tuple[bytes, bytes] | None]) -> None:
        self._first = first
        self._key = b""  # The entry found last has it.

    def at(self, key: bytes) -> tuple[bytes, bytes] | None:
        return self._found("SELECT key, value FROM kv WHERE key >= ? ORDER BY key LIMIT 1", key)

    def before(self, key: bytes) -> tuple[bytes, bytes] | None:
        return self._found("SELECT key, value FROM kv WHERE key < ? ORDER BY key DESC LIMIT 1", key)

    def step(self, backwards: bool) -> tuple[bytes, bytes] | None:
        return self.before(self._key) if backwards else self.at(self._key + b"\0")

    def _found(self, query: str, key: bytes) -> tuple[bytes, bytes] | None:
        if entry := self._first(query, key):
            self._key = entry[0]
        return entry


def _with_checksum(key: bytes, value: bytes) -> bytes:
    return value + crc32(value, crc32(key)).to_bytes(4, "little")
