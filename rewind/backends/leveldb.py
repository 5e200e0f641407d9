"""LevelDB through plyvel: the default store where plyvel is installed.

::

    e <last position>     -> a block of records (blocks.py)
    h                     -> number of the last commit, head
    s                     -> format, store id (16 bytes): whose files these are
    index.py's keys

Integers are 8 bytes, big-endian. The index lies beside the blocks in the same database, so one synced
write batch is one commit, all or nothing. How they are read is in block_backend.py.

Format 1 had neither ``h`` nor ``s``, nor postings of types, tags and categories. An upgrade adds them in
steps of a few MiB; ``h`` says how far it got, each event counting as a commit.

LevelDB answers a synced write after its log file was synced (fdatasync), and syncs the names of
its own files. Memory: two write buffers, the block cache, and the index and filter blocks of open
tables, which are mapped files; the bounds are below. Nothing is compressed: reading is then up to
three times as fast as through Snappy.

LevelDB cannot tell a damaged length near the end of its own log file from a write that was never
finished: everything after it is then lost without a word.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import plyvel

from rewind.backends import blocks
from rewind.backends.block_backend import BlockBackend
from rewind.backends.contract import Commit
from rewind.backends.directory import Directory, create_directory, translate
from rewind.backends.index import Index
from rewind.backends.keys import Entry, after_prefix, pack_u64
from rewind.backends.postings import postings
from rewind.backends.upgrade import Progress
from rewind.errors import Behind, StoreDamaged, StoreError, StoreFailed, StoreNotPermitted
from rewind.events import Record, decode_event, decode_key, own_id_prefix

# A larger buffer means fewer compactions, but each of them holds writes up for longer.
WRITE_BUFFER_BYTES = 32 * 1024 * 1024
BLOCK_CACHE_BYTES = 32 * 1024 * 1024  # It holds the index blocks of the tables in use.
TABLE_FILE_BYTES = 8 * 1024 * 1024  # 10 million small events need fewer files than it may open.
BLOOM_BITS = 10  # 1 % false positives: a new stream or id costs 2 us and no read of the disk.

UPGRADE_STEP_BYTES = 2 * 1024 * 1024  # So much of blocks is in memory, with its postings.

_BLOCK = b"e"
_BLOCK_STOP = after_prefix(_BLOCK)
_END = b"h"
_END_VALUE = struct.Struct(">QQ")
_STORE = b"s"
_STORE_VALUE = struct.Struct(">Q16s")


class LevelDB:
    """plyvel as ``KeyValues``, with its errors in our words.

    ``scratch``: a temporary folder. With one, the files at ``path`` are only read, and whatever LevelDB
    writes, at the opening, when it is told to and on its own account, is written there.
    """

    def __init__(self, path: Path, create: bool, scratch: Path | None = None) -> None:
        if create:
            create_directory(path)
        else:
            _check_present(path)
        files = path if scratch is None else _link(path, scratch)
        try:
            self._db = plyvel.DB(
                os.fsencode(files),  # A path need not be UTF-8.
                create_if_missing=create,
                paranoid_checks=True,
                write_buffer_size=WRITE_BUFFER_BYTES,
                lru_cache_size=BLOCK_CACHE_BYTES,
                max_file_size=TABLE_FILE_BYTES,
                bloom_filter_bits=BLOOM_BITS,
                compression=None,
            )
        except plyvel.CorruptionError as error:
            raise StoreDamaged(f"LevelDB in {path} is damaged: {_message(error)}") from error
        except plyvel.Error as error:
            if "does not exist" in _message(error) or "missing files" in _message(error):
                raise StoreDamaged(
                    f"LevelDB in {path} has lost files: {_message(error)}"
                ) from error
            if "Permission denied" in _message(error):
                raise StoreNotPermitted(
                    f"cannot open LevelDB in {path}: {_message(error)}"
                ) from error
            raise StoreFailed(f"cannot open LevelDB in {path}: {_message(error)}") from error

    def get(self, key: bytes, verify: bool = True) -> bytes | None:
        try:
            return self._db.get(key, verify_checksums=verify)  # type: ignore[no-any-return]
        except plyvel.Error as error:
            raise _translate(key, error) from error

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False, verify: bool = True
    ) -> Generator[tuple[bytes, bytes]]:
        # In reverse, plyvel 1.5.1 loses a range of exactly one key, so it is given no lower bound.
        lower = None if reverse else start
        try:
            with self._db.iterator(
                start=lower, stop=stop, reverse=reverse, verify_checksums=verify
            ) as entries:
                if not reverse:
                    yield from entries
                    return
                for entry in entries:
                    if entry[0] < start:
                        return
                    yield entry
        except plyvel.Error as error:
            raise _translate(start, error) from error

    def finder(self) -> _Finder:
        return _Finder(self._db.raw_iterator(verify_checksums=True))

    def write(self, entries: Sequence[Entry], sync: bool) -> None:
        """Write all entries or none; a value of None deletes its key."""
        try:
            batch = self._db.write_batch(sync=sync)
            put = batch.put
            for key, value in entries:
                if value is None:
                    batch.delete(key)
                else:
                    put(key, value)
            batch.write()
        except plyvel.Error as error:
            raise StoreFailed(f"LevelDB cannot write: {_message(error)}") from error

    def close(self) -> None:
        self._db.close()


class _Finder:
    """An iterator of plyvel's as ``Finder``."""

    def __init__(self, entries: plyvel.RawIterator) -> None:
        self._entries = entries

    def at(self, key: bytes) -> tuple[bytes, bytes] | None:
        entries = self._entries
        try:
            entries.seek(key)
            return entries.item() if entries.valid() else None
        except plyvel.Error as error:
            raise _translate(key, error) from error

    def before(self, key: bytes) -> tuple[bytes, bytes] | None:
        entries = self._entries
        try:
            entries.seek(key)
            if entries.valid():
                entries.prev()
            else:
                entries.seek_to_last()
            return entries.item() if entries.valid() else None
        except plyvel.Error as error:
            raise _translate(key, error) from error

    def step(self, backwards: bool) -> tuple[bytes, bytes] | None:
        entries = self._entries
        key = entries.key()
        try:
            if backwards:
                entries.prev()
            else:
                entries.next()
            return entries.item() if entries.valid() else None
        except plyvel.Error as error:
            raise _translate(key, error) from error


def _check_present(path: Path) -> None:
    """LevelDB would make the directory and its lock before it finds out."""
    try:
        if not (path / "CURRENT").exists():
            raise StoreDamaged(f"LevelDB in {path} has lost files: CURRENT is missing")
    except PermissionError as error:
        raise StoreNotPermitted(f"cannot open LevelDB in {path}: {error.strerror}") from error


def _link(path: Path, scratch: Path) -> Path:
    """A folder in ``scratch`` that LevelDB may open and change in place of that at ``path``.

    Tables, which are never changed and are nearly all of it, are symbolic links; deleting one leaves
    the table. What LevelDB replays and writes anew is copied, a few write buffers at most.
    """
    copy = scratch / path.name
    try:
        copy.mkdir()
        for file in path.iterdir():
            if file.suffix in (".ldb", ".sst"):
                (copy / file.name).symlink_to(file)
            elif file.suffix == ".log" or file.name.startswith(("CURRENT", "MANIFEST-")):
                shutil.copyfile(file, copy / file.name)
    except OSError as error:
        raise translate(error, f"cannot make a copy of LevelDB in {path} to read it") from error
    return copy


def _translate(key: bytes, error: plyvel.Error) -> StoreError:
    """The error of a look-up. ``key``: what was looked for, or where a scan began; see index.py for what
    is at which."""
    if isinstance(error, plyvel.CorruptionError):
        return StoreDamaged(f"LevelDB reports damage when asked for {key!r}: {_message(error)}")
    return StoreFailed(f"LevelDB cannot read: {_message(error)}")


def _message(error: Exception) -> str:
    text = error.args[0] if error.args else str(error)
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)


class LevelDBBackend(BlockBackend):
    """Blocks of records and their index in one LevelDB."""

    scheme = "leveldb"
    format_version = 2
    durability = "fsync"

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.path = directory.path
        self.store_id = directory.store_id
        self.read_only = directory.read_only
        scratch = directory.scratch() if directory.read_only else None
        with ExitStack() as undo:
            self._db = LevelDB(directory.path / "leveldb", directory.created, scratch)
            undo.callback(self._db.close)
            self._index = Index(self._db, self, own_id_prefix(self.store_id))
            self._make_ready(directory)
            directory.finish("leveldb/CURRENT")
            undo.pop_all()

    def _make_ready(self, directory: Directory) -> None:
        """Complete what is new or of an older format, and find the end."""
        path = directory.path / "leveldb"
        store = _STORE, _STORE_VALUE.pack(self.format_version, self.store_id.bytes)
        _check_owner(path, self._db.get(_STORE) or store[1], self.store_id)
        if directory.created:
            self._db.write([store, _End(0, 0).entry()], sync=True)
        self._head, self._last_time_ns = self._find_last()
        if directory.format < self.format_version and not directory.created:
            progress = Progress(directory.path, self._head, directory.tell)
            upgrade(self._db, self._head, store, progress)
            directory.raise_format()
        if self._db.get(_STORE) is None:
            raise StoreDamaged(
                f"LevelDB in {path} does not say which store it is of: restore the whole store from a copy"
            )
        end = _read_end(self._db)
        if end is None or end.head != self._head:
            raise StoreDamaged(
                f"LevelDB in {path} ends with position {self._head}, but its last commit with "
                f"{'none' if end is None else end.head}: restore the store from a copy"
            )
        self._number = end.number

    def _find_last(self) -> tuple[int, int]:
        # LevelDB verifies this one: if damage hid the last key, an earlier one would pass for it.
        with closing(self._db.scan(_BLOCK, _BLOCK_STOP, reverse=True)) as scan:
            key, block = next(scan, (b"", b""))
        if not key:
            return 0, 0
        last = int.from_bytes(key[1:], "big")
        return last, decode_key(blocks.decode(block, last).record(last)).recorded_at_ns

    def commit(self, commit: Commit) -> None:
        assert not self.read_only
        if commit.after != self._head or commit.number != self._number + 1:
            raise Behind(self._head, self._number)
        records = commit.records
        addresses = []
        entries: list[Entry] = []
        for run in blocks.split(records):
            last_position = run[-1].event.position
            address = pack_u64(last_position)
            addresses.append((last_position, address))
            entries.append((_BLOCK + address, blocks.encode(run)))
        entries += self._index.entries(records, commit.append_ids, addresses, commit.marks)
        head = self._head + len(records)
        entries.append((_END, _END_VALUE.pack(commit.number, head)))
        self._db.write(entries, sync=True)
        self._head, self._number = head, commit.number
        if records:
            self._last_time_ns = records[-1].event.recorded_at_ns

    def confirm(self) -> None:
        self._directory.confirm()

    def settle(self) -> None:
        pass  # A commit leaves nothing to do.

    def block_at(self, address: bytes) -> blocks.Block:
        """The block at an address, which here is its last position."""
        return blocks.decode(self._encoded_at(address), int.from_bytes(address, "big"))

    def piece_at(self, address: bytes, offset: int, length: int) -> bytes:
        """Some bytes of the block at an address."""
        return self._encoded_at(address)[offset : offset + length]

    def address_of(self, last: int) -> bytes:
        """The address of the block whose last position this is."""
        return pack_u64(last)

    def _encoded_at(self, address: bytes) -> bytes:
        # LevelDB need not verify what the checksum of the block, or of the piece, does anyway.
        block = self._db.get(_BLOCK + address, verify=False)
        if block is None:
            last = int.from_bytes(address, "big")
            raise StoreDamaged(f"the block ending at position {last} is missing")
        return block

    def _blocks_ending(self, position: int, backwards: bool) -> Iterator[blocks.Block]:
        middle = _BLOCK + pack_u64(position)
        start, stop = (_BLOCK, middle) if backwards else (middle, _BLOCK_STOP)
        for key, data in self._db.scan(start, stop, backwards, verify=False):
            yield blocks.decode(data, int.from_bytes(key[1:], "big"))

    def close(self) -> None:
        with closing(self._directory):
            self._db.close()


# --- the end, and what an older format lacks -----------------------------------


class _End(NamedTuple):
    """Number of the last commit, and the head."""

    number: int
    head: int

    def entry(self) -> Entry:
        return _END, _END_VALUE.pack(*self)


def _read_end(db: LevelDB) -> _End | None:
    value = db.get(_END)
    try:
        return None if value is None else _End._make(_END_VALUE.unpack(value))
    except struct.error as error:
        raise StoreDamaged("the number of the last commit is cut short") from error


def _check_owner(path: Path, value: bytes, store_id: UUID) -> None:
    """Raise ``StoreDamaged`` when the files say that they are another store's."""
    try:
        format_version, found = _STORE_VALUE.unpack(value)
    except struct.error as error:
        raise StoreDamaged(f"what LevelDB in {path} says of its store is cut short") from error
    if found != store_id.bytes:
        raise StoreDamaged(
            f"LevelDB in {path} is of the store {UUID(bytes=found)}, and rewind.json beside it of "
            f"{store_id}: put both back from one copy"
        )
    if format_version > LevelDBBackend.format_version:
        raise StoreDamaged(
            f"LevelDB in {path} has format {format_version}, and rewind.json beside it an older one: "
            "put both back from one copy"
        )


def upgrade(db: LevelDB, head: int, store: Entry, progress: Progress) -> None:
    """Add what format 1 lacks, in synced steps of which each says how far it got, and ``store`` last.

    Raises ``StoreDamaged`` when a block cannot be read: its events would not be found by queries.
    """
    end = _read_end(db) or _End(0, 0)
    if end.head > head:
        raise StoreDamaged(
            f"the events end with position {head}, but their index knows position {end.head}: "
            "restore the store from a copy"
        )
    while end.head < head:
        progress.reached(end.head)
        entries, last = _step(db, end.head)
        end = _End(end.number + last - end.head, last)
        db.write([*entries, end.entry()], sync=True)
    db.write([end.entry(), store], sync=True)
    progress.reached(head)


def _step(db: LevelDB, after: int) -> tuple[list[Entry], int]:
    """The postings of the next blocks, and the last position of these."""
    entries: list[Entry] = []
    size = 0
    with closing(db.scan(_BLOCK + pack_u64(after + 1), _BLOCK_STOP, verify=False)) as scan:
        for key, data in scan:
            block = blocks.decode(data, int.from_bytes(key[1:], "big"))
            if block.first != after + 1:
                raise StoreDamaged(f"position {after + 1} is missing")
            records = [Record(decode_event(record), record) for record in block.records()]
            entries += postings(records, block.last, {})
            after = block.last
            size += len(data)
            if size >= UPGRADE_STEP_BYTES:
                break
    return entries, after
