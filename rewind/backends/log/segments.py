"""The files of the log backend: append-only segments of commits.

::

    PATH/segments/00000000000000000001.log    named by the first position in it; ~64 MiB each

    segment   header | packet | packet | ...

    header    "Rewind segment 1" | store id 16 | first position u64 | salt u32 | crc32 u32
              crc32: of the header before it

Integers are little-endian. Packets are drawn in packets.py: a commit is one or more of them in one
segment.

A commit is one write and one fdatasync. A segment's header and name are synced before its first
packet is written. What is left of a commit that was never finished is therefore always at the end
of the last segment, with nothing after it: that is cut off. Anything else that does not fit is
damage to acknowledged events, and is refused without changing a byte.

A new segment is begun by a commit that has events, since their first position is its name.

Zeros may follow the last commit. A small commit writes them for those that come after it, because a
sync that has no new size of the file to note down takes two thirds of the time. They are cut off
when the segment is full, and when the store is closed.

No event is looked up here, and there is no index: backend.py keeps that.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from uuid import UUID
from zlib import crc32

from rewind.backends import blocks
from rewind.backends.contract import Commit
from rewind.backends.directory import FILE_MODE, create_directory, sync_directory, translate
from rewind.backends.log import packets
from rewind.backends.log.packets import BlockAddress, End, Header, StoredCommit
from rewind.errors import StoreDamaged, StoreFailed

SEGMENT_BYTES = 64 * 1024 * 1024  # It is copied or searched in a second; 16,000 are a terabyte.
OPEN_FILES_MAX = 64  # More segments are not kept open for reading: 1,024 files is a usual limit.
ZEROS_BYTES = 256 * 1024  # Fewer zeros pay less; more delay the commit that writes them.
SMALL_COMMIT_BYTES = ZEROS_BYTES // 4  # A larger commit takes its time for its own bytes.
READ_AHEAD_BYTES = 1024 * 1024  # A segment that is read through is read in such pieces.

_SEGMENT_MAGIC = b"Rewind segment 1"
_SEGMENT_HEADER = struct.Struct("<16s16sQII")
_CRC = struct.Struct("<I")

SEGMENT_HEADER_BYTES = _SEGMENT_HEADER.size
"""The offset of the first packet of a segment."""


log = logging.getLogger("rewind")

#: The end that an empty store has.
START = End(1, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, 0, 0)


class Segments:
    """The segments of one store: append a commit, read a block, read commits through.

    ``read_only``: no byte of them is written, also not what ``make_ready`` mends.
    """

    def __init__(self, path: Path, store_id: UUID, create: bool, read_only: bool = False) -> None:
        self.path = path
        self._read_only = read_only
        self._store_id = store_id
        self._readers: dict[int, int] = {}  # segment -> file descriptor, oldest first
        self._writer = -1
        #: Where the next commit goes, unless a new segment is begun for it.
        self.end = START
        # The last segment: its salt and the end of its file. Zeros may lie behind its last commit.
        self._salt = self._size = 0
        # True while a commit is written, and for good if that fails: nobody knows what it has left.
        self._broken = False
        try:
            if create:
                create_directory(path)
            self.firsts = sorted(
                int(name[:20]) for name in os.listdir(path) if re.fullmatch("[0-9]{20}[.]log", name)
            )
            if create and not self.firsts:
                with ExitStack() as undo:
                    undo.callback(self.release)
                    self._begin_segment(START)
                    undo.pop_all()
        except FileNotFoundError as error:
            raise StoreDamaged(f"{path} is missing") from error
        except OSError as error:
            raise translate(error, f"cannot open {path}") from error
        if not self.firsts or self.firsts[0] != 1:
            raise StoreDamaged(f"{self.file(1)} is missing")

    def file(self, segment: int) -> Path:
        """The file of the segment that begins with this position."""
        return self.path / f"{segment:020}.log"

    def size(self, segment: int) -> int:
        """The length of a segment's file in bytes; 0 when it is missing."""
        try:
            return self.file(segment).stat().st_size
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise translate(error, f"cannot read {self.file(segment)}") from error

    # --- writing ---

    def append(self, commit: Commit) -> list[BlockAddress]:
        """Write and sync one commit. Returns the addresses of its blocks.

        After an error this must not be called again.
        """
        assert not self._broken, "no second write after one that failed"
        self._broken = True
        try:
            if commit.records and self.end.offset >= SEGMENT_BYTES:
                self._roll()
            segment, _, begin, last, _ = self.end
            written, addresses = packets.encode(commit, segment, begin, self._salt)
            offset = begin + len(written)
            if offset > self._size and len(written) <= SMALL_COMMIT_BYTES:
                written += bytes(ZEROS_BYTES)
            if os.pwrite(self._writer, written, begin) != len(written):
                raise StoreFailed(f"a write to {self.file(segment)} was cut short")
            os.fdatasync(self._writer)
        except OSError as error:
            raise translate(error, f"cannot write {self.file(self.firsts[-1])}") from error
        self._size = max(self._size, begin + len(written))
        self.end = End(segment, begin, offset, last + len(commit.records), commit.number)
        self._broken = False
        return addresses

    def _roll(self) -> None:
        # A segment that another one follows ends with its last commit.
        self._cut_zeros()
        os.fsync(self._writer)
        if os.fstat(self._writer).st_size != self.end.offset:
            raise StoreFailed(f"{self.file(self.firsts[-1])} was written to by somebody else")
        writer, self._writer = self._writer, -1
        os.close(writer)
        self._begin_segment(_begin_of(self.end.last + 1, self.end))

    def _begin_segment(self, end: End) -> None:
        """Begin a segment, durably, so that a packet in it can never be without its header."""
        first = end.segment
        salt = secrets.randbits(32)
        header = _SEGMENT_HEADER.pack(_SEGMENT_MAGIC, self._store_id.bytes, first, salt, 0)[:-4]
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        self._writer = os.open(self.file(first), flags, FILE_MODE)
        if os.pwrite(self._writer, header + _CRC.pack(crc32(header)), 0) != SEGMENT_HEADER_BYTES:
            raise StoreFailed(f"a write to {self.file(first)} was cut short")
        os.fsync(self._writer)
        sync_directory(self.path)
        if not self.firsts or self.firsts[-1] != first:
            self.firsts.append(first)
        self.end, self._salt, self._size = end, salt, SEGMENT_HEADER_BYTES

    # --- reading one block ---

    def block(self, address: BlockAddress) -> blocks.Block:
        """The block at this address, every byte verified."""
        try:
            reader = self._reader(address.segment)
            if address.offset + address.length > os.fstat(reader).st_size:
                raise StoreDamaged(f"the block ending at position {address.last} is cut short")
            return blocks.decode(os.pread(reader, address.length, address.offset), address.last)
        except StoreDamaged as damage:
            raise self._damaged(address.segment, address.offset, str(damage)) from damage
        except OSError as error:
            raise translate(error, f"cannot read {self.file(address.segment)}") from error

    def piece(self, address: BlockAddress, offset: int, length: int) -> bytes:
        """Some bytes of the block at this address, not verified."""
        try:
            return os.pread(self._reader(address.segment), length, address.offset + offset)
        except StoreDamaged as damage:
            raise self._damaged(address.segment, address.offset, str(damage)) from damage
        except OSError as error:
            raise translate(error, f"cannot read {self.file(address.segment)}") from error

    def _reader(self, segment: int) -> int:
        reader = self._readers.get(segment)
        if reader is None:
            with self._open(segment) as file:
                self._read_segment_header(file, segment)
                reader = self._readers[segment] = os.dup(file.fileno())
            if len(self._readers) > OPEN_FILES_MAX:
                os.close(self._readers.pop(next(iter(self._readers))))
        return reader

    def _open(self, segment: int) -> BinaryIO:
        try:
            return open(self.file(segment), "rb", buffering=READ_AHEAD_BYTES)
        except FileNotFoundError as error:
            raise StoreDamaged(f"{self.file(segment)} is missing") from error

    def _read_segment_header(self, file: BinaryIO, segment: int) -> int:
        """The salt in the header of a segment, which is verified."""
        header = file.read(SEGMENT_HEADER_BYTES)
        if len(header) < SEGMENT_HEADER_BYTES or crc32(header[:-4]) != _CRC.unpack(header[-4:])[0]:
            raise self._damaged(segment, 0, "the header of the segment fails its checksum")
        magic, store_id, first, salt, _ = _SEGMENT_HEADER.unpack(header)
        if magic != _SEGMENT_MAGIC or store_id != self._store_id.bytes or first != segment:
            raise self._damaged(segment, 0, "this is the file of another segment or store")
        return int(salt)

    # --- reading through ---

    def commits(self, end: End) -> Iterator[StoredCommit]:
        """The commits behind the one that ends there, in order.

        Ends where the last segment has no further whole commit; ``make_ready`` decides whether that
        is damage. Raises ``StoreDamaged`` where an earlier segment has none before its end.
        """
        firsts = self.firsts[self.firsts.index(end.segment) :]
        for segment, following in pairwise((*firsts, 0)):
            for commit in self._commits_of(end):
                yield commit
                end = commit.end
            if following and end.offset != self.size(segment):
                raise self._damaged(segment, end.offset, "no whole commit begins here")
            if following and end.last + 1 != following:
                raise self._damaged(
                    segment, end.offset, f"position {end.last + 1} is missing after it"
                )
            end = _begin_of(following, end)

    def _commits_of(self, end: End) -> Iterator[StoredCommit]:
        segment = end.segment
        if segment == self.firsts[-1] and self.size(segment) <= SEGMENT_HEADER_BYTES:
            return  # Half a header, perhaps: no commit was ever written to it.
        with self._reading(segment) as (file, salt):
            file.seek(end.offset)
            while commit := packets.read_commit(file, salt, end):
                yield commit
                end = commit.end

    def commit_first(self, address: BlockAddress) -> int:
        """The first position of the commit that the block at an address is part of."""
        return self._packet_of(address)[1].commit_first

    def end_before(self, address: BlockAddress) -> End:
        """The end of the commit in front of one that begins with the block at an address."""
        offset, header = self._packet_of(address)
        return header.end_before(address.segment, offset)

    def _packet_of(self, address: BlockAddress) -> tuple[int, Header]:
        with self._reading(address.segment) as (file, salt):
            found = packets.header_of_block(file, salt, address)
        if found is None:
            raise self._damaged(address.segment, address.offset, "no packet has this block")
        return found

    def verify(self, end: End) -> None:
        """Raise ``StoreDamaged`` unless a whole commit ends there, or none is there yet."""
        if end.begin == end.offset:
            return
        with self._reading(end.segment) as (file, salt):
            file.seek(end.begin)
            header = packets.read_header(file, salt)
            file.seek(end.begin)
            before = header and header.end_before(end.segment, end.begin)
            commit = before and packets.read_commit(file, salt, before)
        if not commit or commit.end != end:
            raise self._damaged(end.segment, end.begin, f"no whole commit {end.number} begins here")

    def last_said(self) -> int:
        """The head as the last packet says it, which may be of an unfinished commit; nothing else is read."""
        segment = self.firsts[-1]
        if self.size(segment) <= SEGMENT_HEADER_BYTES:
            return segment - 1
        with self._reading(segment) as (file, salt):
            header = packets.last_header(file, salt)
        return header.commit_last if header else segment - 1

    @contextmanager
    def _reading(self, segment: int) -> Iterator[tuple[BinaryIO, int]]:
        """The file of a segment, behind its verified header, and its salt."""
        try:
            with self._open(segment) as file:
                yield file, self._read_segment_header(file, segment)
        except OSError as error:
            raise translate(error, f"cannot read {self.file(segment)}") from error

    def make_ready(self, end: End) -> None:
        """Make the last segment ready for the commit after the last whole one, which ends there.

        Cuts off what a commit that was never finished has left. Raises ``StoreDamaged``, and changes
        nothing, when a later commit stands after that: then the commit between had been finished.
        """
        segment = self.firsts[-1]
        if segment != end.segment:
            end = _begin_of(segment, end)
        size = self.size(segment)
        try:
            if size <= SEGMENT_HEADER_BYTES and not self._has_segment_header(segment):
                if self._read_only:
                    return
                log.warning("%s: made its torn header anew (%d bytes)", self.file(segment), size)
                self._begin_segment(end)
                return
            self._make_ready(end, size)
        except OSError as error:
            raise translate(error, f"cannot repair {self.file(segment)}") from error

    def _has_segment_header(self, segment: int) -> bool:
        try:
            with self._open(segment) as file:
                self._read_segment_header(file, segment)
        except StoreDamaged:
            return False
        return True

    def _make_ready(self, end: End, size: int) -> None:
        segment, _, offset, last, number = end
        with self._open(segment) as file:
            self._salt = self._read_segment_header(file, segment)
            if size > offset and (later := packets.later_commit(file, self._salt, end)):
                raise self._damaged(
                    segment, offset, f"no whole commit, but a later one at offset {later}"
                )
        if self._read_only:
            return
        if self._writer < 0:  # A segment that was begun just now is open already.
            self._writer = os.open(self.file(segment), os.O_RDWR | os.O_CLOEXEC)
        if rest := len(os.pread(self._writer, size - offset, offset).rstrip(b"\0")):
            log.warning(
                "%s: cut off %d bytes of an unfinished commit after position %d, commit %d",
                self.file(segment),
                rest,
                last,
                number,
            )
            os.ftruncate(self._writer, offset)
            os.fsync(self._writer)
            size = offset
        # What is taken for stored from now on may have been written by a daemon that was killed
        # before its sync.
        os.fdatasync(self._writer)
        self.end, self._size = end, max(size, offset)

    def _damaged(self, segment: int, offset: int, what: str) -> StoreDamaged:
        return StoreDamaged(f"{self.file(segment)} is damaged at offset {offset}: {what}")

    def _cut_zeros(self) -> None:
        if self._writer >= 0 and self._size > self.end.offset:
            os.ftruncate(self._writer, self.end.offset)
            self._size = self.end.offset

    def close(self) -> None:
        """Close the files, cut back to their last commit unless a write has failed.

        Raises ``StoreFailed`` when that or the closing fails; the files are closed all the same.
        """
        try:
            with ExitStack() as last:
                last.callback(self.release)
                if not self._broken:
                    self._cut_zeros()
        except OSError as error:
            raise translate(error, f"cannot close {self.file(self.firsts[-1])}") from error

    def release(self) -> None:
        """Close the files as they are."""
        descriptors = [*self._readers.values(), self._writer]
        self._readers.clear()
        self._writer = -1
        with ExitStack() as each:
            for descriptor in descriptors:
                if descriptor >= 0:
                    each.callback(os.close, descriptor)


def _begin_of(segment: int, end: End) -> End:
    """The end of the same commit, as a segment that is begun after it has it."""
    return End(segment, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES, end.last, end.number)
