"""Where the log's index lies: keys and values in an engine, LevelDB or SQLite, made again when in doubt.

What its entries mean is in backend.py and index.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rewind.backends.keys import Entry, Finder, KeyValues
from rewind.errors import StoreDamaged, StoreError, StoreFailed, StoreNotPermitted

# --- engines of the index ---

Entries = Sequence[Entry]
Write = Callable[[Entries], None]
Close = Callable[[], None]


def _leveldb(path: Path, create: bool, scratch: Path | None) -> tuple[KeyValues, Write, Close]:
    from rewind.backends.leveldb import LevelDB

    db = LevelDB(path, create, scratch)
    return db, lambda entries: db.write(entries, sync=False), db.close


def _sqlite(path: Path, create: bool, scratch: Path | None) -> tuple[KeyValues, Write, Close]:
    from rewind.backends.sqlite.keys import Keys

    keys = Keys(path, create, scratch)
    return keys, keys.write, keys.close


ENGINES = {"leveldb": _leveldb, "sqlite": _sqlite}


class DerivedKeys:
    """The keys and values of the index, in an engine, and the entries that are still to be written.

    Once a commit has ``failed``, nothing is read or written any more. ``scratch``: a temporary folder;
    with one, what is at ``path`` is only read, and what is written is written there.
    """

    def __init__(self, path: Path, engine: str, create: bool, scratch: Path | None = None) -> None:
        self._path = path
        self.failed = False
        self._pending: Callable[[], Entries] | None = None
        self._engine, self.write, self._close = ENGINES[engine](path, create, scratch)

    def write_later(self, entries: Callable[[], Entries]) -> None:
        """Write these entries before anything else is read or written."""
        self._pending = entries

    def settle(self) -> None:
        """Write the entries that are still to be written."""
        if self.failed:
            raise StoreFailed("a write to the log failed: the store must be opened again")
        if self._pending is None:
            return
        try:
            self.write(self._pending())
        except StoreError:
            self.failed = True
            raise
        # An interrupt before this line lets them be written once more, which does no harm.
        self._pending = None

    def close(self) -> None:
        try:
            if not self.failed:
                self.settle()
        finally:
            self._close()

    def get(self, key: bytes) -> bytes | None:
        self.settle()
        try:
            return self._engine.get(key)
        except StoreDamaged as damage:
            raise self.damaged(str(damage)) from damage

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        self.settle()
        try:
            yield from self._engine.scan(start, stop, reverse)
        except StoreDamaged as damage:
            raise self.damaged(str(damage)) from damage

    def finder(self) -> _Finder:
        self.settle()
        return _Finder(self._engine.finder(), self)

    def damaged(self, what: str) -> StoreDamaged:
        """The error for damage of the index, which says the way out."""
        return StoreDamaged(
            f"the index {self._path} is damaged: {what}. Remove it while the store is closed: "
            "opening makes it again from the segments"
        )


class _Finder:
    """The engine's ``Finder``, with its damage in our words."""

    def __init__(self, found_by: Finder, keys: DerivedKeys) -> None:
        self._found_by = found_by
        self._keys = keys

    def at(self, key: bytes) -> tuple[bytes, bytes] | None:
        try:
            return self._found_by.at(key)
        except StoreDamaged as damage:
            raise self._keys.damaged(str(damage)) from damage

    def before(self, key: bytes) -> tuple[bytes, bytes] | None:
        try:
            return self._found_by.before(key)
        except StoreDamaged as damage:
            raise self._keys.damaged(str(damage)) from damage

    def step(self, backwards: bool) -> tuple[bytes, bytes] | None:
        try:
            return self._found_by.step(backwards)
        except StoreDamaged as damage:
            raise self._keys.damaged(str(damage)) from damage


def delete(path: Path) -> None:
    """Remove an index, whatever is at its path."""
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except PermissionError as error:
        raise StoreNotPermitted(f"cannot remove {path}: {error.strerror}") from error
    except OSError as error:
        raise StoreFailed(f"cannot remove {path}: {error.strerror}") from error
