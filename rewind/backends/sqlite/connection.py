"""An open SQLite file: what is read from it is checked, and a failed write ends its use.

The driver's settings are here, and its errors in our words. A file is opened to be written, or so that
nothing at all is. What is in it: tables.py, keys.py.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rewind.backends.directory import FILE_MODE, translate
from rewind.errors import (
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreNotCreated,
    StoreNotPermitted,
)

CACHE_BYTES = 16 * 1024 * 1024  # It holds the upper pages of every index of 10 million events.
WAL_FILE_BYTES = 64 * 1024 * 1024  # A -wal file that grew under a long reader is cut back to this.
PAGE_BYTES = 4_096  # SQLite's own choice, which holds for a file for ever
PATH_BYTES_MAX = 504  # SQLite's own bound, 512, holds for the name of its journal, too.
BUSY_SECONDS = 5.0  # A shell that holds a lock for longer is a mistake.

Settings = Mapping[str, int | str]

#: Each is read back after it was set. In SQLite's numbers synchronous 2 is FULL, and a negative
#: cache size is in KiB.
DURABLE: Settings = {
    "journal_mode": "wal",
    "synchronous": 2,
    "fullfsync": 1,  # On macOS a sync must pass the drive's cache, too.
    "checkpoint_fullfsync": 1,
    "cache_size": -CACHE_BYTES // 1024,
    "wal_autocheckpoint": 0,  # SQLite's own checkpoint ignores a failed sync; ``commit`` makes ours.
    "journal_size_limit": WAL_FILE_BYTES,
}

#: For a file that can be made again: a crash may lose its last transactions, but tears none.
DERIVED: Settings = {**DURABLE, "synchronous": 1, "wal_autocheckpoint": 1_000}


class Database:
    """An open file, and the one place where its statements are run.

    ``file``: for messages. ``db``: what ``connect`` or ``connect_to_read`` returned, which is closed with
    it. Whatever the driver raises is raised in our words.
    """

    def __init__(self, file: Path, db: sqlite3.Connection) -> None:
        self.file = file
        self._db = db
        self._failed = False

    def rows(
        self, query: str, values: tuple[Any, ...] = (), types: tuple[type, ...] | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """The rows of a query. Raises ``StoreDamaged`` for other types: damage can change them."""
        self._refuse_if_failed()
        # It is closed also when the caller stops early: an open statement would hold up checkpoints.
        with translated(self.file), closing(self._db.execute(query, values)) as cursor:
            for row in cursor:
                if types is not None and tuple(map(type, row)) != types:
                    raise self._wrong(query, row)
                yield row

    def fetch(self, query: str, values: tuple[Any, ...], types: tuple[type, ...]) -> list[Any]:
        """The same rows at once: cheaper for a few, and all that is looked up comes this way."""
        if self._failed:
            self._refuse_if_failed()
        try:
            rows = self._db.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise _translate(error, self.file) from error
        for row in rows:
            if tuple(map(type, row)) != types:
                raise self._wrong(query, row)
        return rows

    def _wrong(self, query: str, row: tuple[Any, ...]) -> StoreDamaged:
        shown = [value.hex() if type(value) is bytes else value for value in row[:-1]]
        return StoreDamaged(f"{self.file} is damaged: {query!r} finds {shown!r}")

    def one(self, query: str) -> dict[str, Any] | None:
        """The only row of a query, by the names of its columns; None if there are more, or none."""
        self._refuse_if_failed()
        with translated(self.file), closing(self._db.execute(query)) as cursor:
            rows = cursor.fetchmany(2)
            names = [column[0] for column in cursor.description]
        return dict(zip(names, rows[0], strict=True)) if len(rows) == 1 else None

    @contextmanager
    def transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        """A transaction: all or nothing, and durable at its end. If it fails, nothing is used again."""
        with self._write():
            self._db.execute(begin)
            yield
            self._db.execute("COMMIT")

    def run(self, statement: str, values: tuple[Any, ...] = ()) -> None:
        """Carry out a statement within a transaction."""
        self._db.execute(statement, values)

    def run_each(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> None:
        """Carry out a statement within a transaction, for each of these rows."""
        self._db.executemany(statement, rows)

    def checkpoint(self) -> None:
        """Move the -wal file's content into the database, as far as readers permit."""
        with self._write():
            self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    @contextmanager
    def _write(self) -> Iterator[None]:
        self._refuse_if_failed()
        try:
            with translated(self.file):
                yield
        except BaseException:
            self._failed = True
            raise

    def configure(self, settings: Settings) -> None:
        """Apply the settings and make sure that SQLite took them."""
        with translated(self.file):
            configure(self._db, settings)

    def close(self) -> None:
        with translated(self.file):
            self._db.close()

    def _refuse_if_failed(self) -> None:
        if self._failed:
            raise StoreFailed(f"a write to {self.file} failed: the store must be opened again")


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
        file, options = copy_file(file, scratch()), "mode=rw"
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


def copy_file(file: Path, folder: Path) -> Path:
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
