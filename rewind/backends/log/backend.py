"""Append-only files: the easiest store to copy, to back up and to reason about.

::

    PATH/segments/...       every event, in checksummed packets (segments.py, packets.py): this is the store
    PATH/index-leveldb/     leads to each event; made from the segments, and made again when in doubt
    PATH/index-sqlite/      the same index, where plyvel is not installed

    index.py's keys, and    f <last position of a block> -> segment, offset, length
                            c -> store id, 2, and how far the index reaches, as an End (packets.py)

Integers in the index are 8 bytes, big-endian. A commit is durable when its packets are synced. Its
index entries follow, when it is settled or before the index is next asked, in one atomic write that
is not synced and says how far the index reaches; so after a crash the index may lack the last
commits, and opening replays them. The 2 is the format of the index; one of an earlier release, whose
entry c is shorter, is built anew. Copying ``segments/`` and ``rewind.json`` copies the store.

An index that is missing, broken or another store's is deleted and built from the segments, and a
warning says so. An index that reaches beyond the segments proves that they have lost acknowledged
commits, and the store is not opened: that is looked at before an index of any format is deleted, and
the last commit that the index knows is read whole. It proves nothing for the commits behind that: a
crash may have come before their entries were written.

What is read goes through block_backend.py. Next: segments.py.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import pairwise
from pathlib import Path

from rewind.backends import blocks
from rewind.backends.block_backend import BlockBackend
from rewind.backends.contract import AppendId, AppendIds, Commit, by_position
from rewind.backends.directory import Directory
from rewind.backends.index import Index
from rewind.backends.keys import Entry, after_prefix, pack_u64
from rewind.backends.log.keys import ENGINES, DerivedKeys, delete
from rewind.backends.log.packets import BlockAddress, End
from rewind.backends.log.segments import START, Segments
from rewind.backends.opening import default_scheme
from rewind.backends.upgrade import Progress
from rewind.errors import Behind, StoreDamaged, StoreError, StoreNotPermitted
from rewind.events import Record, decode_event, decode_key, own_id_prefix

REPLAY_ENTRIES = 20_000  # A replay writes so many index entries at once, a few MiB.
MARKS_PAGE = 1_000  # A check compares so many marks at a time.

_BLOCK = b"f"
_BLOCK_STOP = after_prefix(_BLOCK)
_COVERAGE = b"c"
_ADDRESS = struct.Struct(">QQQQ")
_INDEX_FORMAT = 2
_COVERAGE_VALUE = struct.Struct(">16sQQQQQQ")
_OLD_COVERAGE_VALUE = struct.Struct(">16sQQQ")  # store id, last position, segment, offset

log = logging.getLogger("rewind")


class LogBackend(BlockBackend):
    """Segments, and an index derived from them.

    ``index`` names the engine of the index, a key of ``ENGINES``; None takes that of the default store.
    """

    scheme = "log"
    format_version = 2
    durability = "fsync"

    def __init__(self, directory: Directory, index: str | None = None) -> None:
        self._directory = directory
        self.path = directory.path
        self.store_id = directory.store_id
        self.read_only = directory.read_only
        with ExitStack() as undo:
            self._segments = Segments(
                directory.path / "segments", self.store_id, directory.created, directory.read_only
            )
            undo.callback(self._segments.release)  # A store that is refused is not changed.
            self._keys, coverage = self._open_index(directory, index or default_scheme())
            undo.callback(self._keys.close)
            self._begin_use(coverage)
            directory.raise_format()
            directory.finish(str(self._segments.file(1)))
            undo.pop_all()

    def _begin_use(self, coverage: End) -> None:
        self._index = Index(self._keys, self, own_id_prefix(self.store_id), self._keys.damaged)
        self._check_joints(coverage)
        end = self._replay(coverage)
        self._segments.make_ready(end)
        self._head, self._number = end.last, end.number
        self._last_time_ns = 0
        if self._head:
            last = self._segments.block(_address_of(self._keys, self._head)).record(self._head)
            self._last_time_ns = decode_key(last).recorded_at_ns

    # --- the index ---

    def _open_index(self, directory: Directory, engine: str) -> tuple[DerivedKeys, End]:
        """The index, a new one unless that which exists can be used, and how far it reaches."""
        path = directory.path / f"index-{engine}"
        scratch = directory.scratch() if directory.read_only else None
        if scratch is None:
            for other in set(ENGINES) - {engine}:  # It would miss commits, and then mislead.
                delete(directory.path / f"index-{other}")
        if not directory.created:
            try:
                return self._open_existing(path, engine, scratch)
            except (StoreNotPermitted, _LostEnd):
                raise
            except StoreError as reason:
                level = logging.INFO if isinstance(reason, _OtherFormat) else logging.WARNING
                log.log(level, "%s cannot be used and is built from the segments: %s", path, reason)
        if scratch is not None:
            path = scratch / path.name
        delete(path)
        with ExitStack() as undo:
            keys = DerivedKeys(path, engine, create=True)
            undo.callback(keys.close)
            keys.write([self._coverage_entry(START)])
            undo.pop_all()
        return keys, START

    def _open_existing(
        self, path: Path, engine: str, scratch: Path | None
    ) -> tuple[DerivedKeys, End]:
        if not path.exists():
            raise StoreDamaged("it is missing")
        with ExitStack() as undo:
            keys = DerivedKeys(path, engine, create=False, scratch=scratch)
            undo.callback(keys.close)
            coverage = self._read_coverage(keys)
            undo.pop_all()
        return keys, coverage

    def _read_coverage(self, keys: DerivedKeys) -> End:
        """How far an index reaches. Raises ``_LostEnd`` when the segments do not reach so far."""
        value = keys.get(_COVERAGE) or b""
        if len(value) == _COVERAGE_VALUE.size:
            store_id, format, *rest = _COVERAGE_VALUE.unpack(value)
            end = End._make(rest)
        elif len(value) == _OLD_COVERAGE_VALUE.size:
            store_id, last, segment, offset = _OLD_COVERAGE_VALUE.unpack(value)
            format, end = 1, End(segment, offset, offset, last, last)
        else:
            raise StoreDamaged("it does not say how far it reaches")
        if store_id != self.store_id.bytes:
            raise StoreDamaged("it is the index of another store")
        if self._segments.size(end.segment) < end.offset:
            raise self._lost(end, f"{self._segments.file(end.segment)} ends before it")
        if format == 1 and end.last:
            end = end._replace(begin=self._last_begin(keys, end))
        with self._acknowledged(end):
            self._segments.verify(end)
        if format != _INDEX_FORMAT:
            raise _OtherFormat(f"it has the format {format}, and this release's is {_INDEX_FORMAT}")
        return end

    def _last_begin(self, keys: DerivedKeys, end: End) -> int:
        """Where the commit that ends there begins, which an index of format 1 does not say."""
        address = _address_of(keys, end.last)
        with self._acknowledged(end):
            first = self._segments.commit_first(address)
        address = _address_of(keys, first)
        with self._acknowledged(end):
            return self._segments.end_before(address).offset

    @contextmanager
    def _acknowledged(self, end: End) -> Iterator[None]:
        """Damage of the segments is then no reason to make the index anew, which knows better."""
        try:
            yield
        except StoreDamaged as damage:
            raise self._lost(end, str(damage)) from damage

    def _lost(self, end: End, why: str) -> _LostEnd:
        return _LostEnd(
            f"the index knows commit {end.number}, at position {end.last}, but {why}: commits that were "
            "acknowledged are gone. Restore the segments from a copy, or remove the index beside them "
            "to go on without those commits"
        )

    def _coverage_entry(self, coverage: End) -> tuple[bytes, bytes]:
        return _COVERAGE, _COVERAGE_VALUE.pack(self.store_id.bytes, _INDEX_FORMAT, *coverage)

    def _check_joints(self, coverage: End) -> None:
        """Raise ``StoreDamaged`` if a segment that the index reaches over is missing.

        A block of each segment must end where the next segment begins.
        """
        for segment, following in pairwise(self._segments.firsts):
            if (
                following <= coverage.segment
                and _address_of(self._keys, following - 1).segment != segment
            ):
                raise StoreDamaged(
                    f"a segment is missing between {self._segments.file(segment)} "
                    f"and {self._segments.file(following)}"
                )

    def _replay(self, end: End) -> End:
        """Add to the index, which reaches to this end, what it lacks. Returns the end of the segments.

        Each step is one write that says how far the index reaches: who is killed goes on there.
        """
        begun = end
        progress = Progress(
            self.path, max(end.last, self._segments.last_said()), self._directory.tell
        )
        pending: list[Entry] = []
        marks: dict[str, bytes | None] = {}  # A cursor may move in each of a million commits.
        commits = 0
        for commit in self._segments.commits(end):
            records = [Record(decode_event(record), record) for record in commit.records]
            pending += self._entries(records, commit.append_ids, commit.addresses, {})
            marks.update(commit.marks)
            commits += 1
            end = commit.end
            if len(pending) + len(marks) + commits >= REPLAY_ENTRIES:
                self._write_step(pending, marks, end)
                commits = 0
                progress.reached(end.last)
        if commits:
            self._write_step(pending, marks, end)
        if end.last and (begun == START or self._directory.format != self.format_version):
            progress.reached(end.last)
        return end

    def _write_step(self, pending: list[Entry], marks: dict[str, bytes | None], end: End) -> None:
        pending += self._entries((), (), (), marks)
        pending.append(self._coverage_entry(end))
        self._keys.write(pending)
        pending.clear()
        marks.clear()

    def _entries(
        self,
        records: Sequence[Record],
        append_ids: AppendIds,
        addresses: Sequence[BlockAddress],
        marks: Mapping[str, bytes | None],
    ) -> list[Entry]:
        encoded = [(address.last, _ADDRESS.pack(*address)) for address in addresses]
        entries = self._index.entries(records, append_ids, encoded, marks)
        entries += [_block_entry(address) for _, address in encoded]
        return entries

    # --- the contract ---

    def commit(self, commit: Commit) -> None:
        assert not self.read_only
        if commit.after != self._head or commit.number != self._number + 1:
            raise Behind(self._head, self._number)
        records, append_ids, marks = commit.records, commit.append_ids, commit.marks
        self._keys.settle()
        self._keys.failed = True  # An error here leaves it so: nobody knows what was written.
        addresses = self._segments.append(commit)
        self._keys.failed = False
        coverage = self._coverage_entry(self._segments.end)
        self._keys.write_later(
            lambda: [*self._entries(records, append_ids, addresses, marks), coverage]
        )
        self._number = commit.number
        if records:
            last = records[-1].event
            self._head, self._last_time_ns = last.position, last.recorded_at_ns

    def confirm(self) -> None:
        self._directory.confirm()

    def settle(self) -> None:
        self._keys.settle()

    def append_ids(self, after: int, until: int) -> list[AppendId]:
        """Reads the commits with these positions through, holding one at a time: 1 ms a thousand events."""
        until = min(until, self._head)
        if after >= until:
            return []
        first = self._segments.commit_first(_address_of(self._keys, after + 1))
        end = self._segments.end_before(_address_of(self._keys, first))
        append_ids: list[AppendId] = []
        for commit in self._segments.commits(end):
            end = commit.end
            append_ids += (row for row in commit.append_ids if after < row[1] and row[2] <= until)
            if end.last >= until:
                return by_position(append_ids)
        raise StoreDamaged(
            f"{self._segments.path} holds no whole commit from position {end.last + 1} on"
        )

    def block_at(self, address: bytes) -> blocks.Block:
        """The block at an address."""
        return self._segments.block(_decode(self._keys, address))

    def piece_at(self, address: bytes, offset: int, length: int) -> bytes:
        """Some bytes of the block at an address."""
        return self._segments.piece(_decode(self._keys, address), offset, length)

    def address_of(self, last: int) -> bytes:
        """The address of the block whose last position this is."""
        key = _BLOCK + pack_u64(last)
        value = self._keys.get(key)
        if value is None:
            raise self._keys.damaged(f"the block ending at position {last} is missing")
        return key[1:] + value

    def _blocks_ending(self, position: int, backwards: bool) -> Iterator[blocks.Block]:
        middle = _BLOCK + pack_u64(position)
        start, stop = (_BLOCK, middle) if backwards else (middle, _BLOCK_STOP)
        for key, value in self._keys.scan(start, stop, backwards):
            yield self._segments.block(_decode(self._keys, key[1:] + value))

    def check(self) -> Iterator[str]:
        try:
            yield from self._check_segments()
            yield from super().check()
        except StoreDamaged as damage:
            yield str(damage)

    def _check_segments(self) -> Iterator[str]:
        """Read every packet, and look it up in the index. Holds every mark, with its value."""
        end = START
        marks: dict[str, bytes] = {}
        for commit in self._segments.commits(end):
            for address in commit.addresses:
                key, value = _block_entry(_ADDRESS.pack(*address))
                if self._keys.get(key) != value:
                    yield f"the index does not lead to position {address.last}"
            for id, first, last in commit.append_ids:
                if self.appends([id]) != {id: (first, last)}:
                    yield f"the index does not lead to the append at position {first}"
            for name, mark in commit.marks.items():
                if mark is None:
                    marks.pop(name, None)
                else:
                    marks[name] = mark
            end = commit.end
        if (end.last, end.number) != (self._head, self._number):
            file = self._segments.file(end.segment)
            yield f"{file} is damaged at offset {end.offset}: no whole commit begins here"
            return
        yield from self._check_marks(marks)

    def _check_marks(self, marks: dict[str, bytes]) -> Iterator[str]:
        """Compare the marks of the index with those that the segments have made."""
        found: list[tuple[str, bytes]] = []
        while page := self.marks_from("", found[-1][0] if found else "", MARKS_PAGE):
            found = page
            for name, value in page:
                if marks.pop(name, None) != value:
                    yield f"the index has another value of mark {name!r} than the segments"
        for name in marks:
            yield f"the index lacks mark {name!r}"

    def close(self) -> None:
        with closing(self._directory), closing(self._segments):
            self._keys.close()


def _address_of(keys: DerivedKeys, position: int) -> BlockAddress:
    """The address of the block that holds this position."""
    # The key of a block is its last position, so the first one from here on holds this position.
    for key, value in keys.scan(_BLOCK + pack_u64(position), _BLOCK_STOP):
        return _decode(keys, key[1:] + value)
    raise keys.damaged(f"position {position} is missing")


def _decode(keys: DerivedKeys, address: bytes) -> BlockAddress:
    try:
        return BlockAddress._make(_ADDRESS.unpack(address))
    except struct.error as error:
        raise keys.damaged(f"an address has {len(address)} bytes") from error


def _block_entry(address: bytes) -> tuple[bytes, bytes]:
    return _BLOCK + address[:8], address[8:]


class _LostEnd(StoreDamaged):
    """The index knows commits that the segments no longer have."""


class _OtherFormat(StoreDamaged):
    """Nothing is wrong with the index, but another release wrote it."""
