"""The files of the log backend: append-only segments of checksummed packets.

::

    PATH/segments/00000000000000000001.log    named by the first position in it; ~64 MiB each

    segment   header | packet | packet | ...

    header    "Rewind segment 1" | store id 16 | first position u64 | salt u32 | crc32 u32
              crc32: of the header before it

    packet    "Rwnd" | flags u32 | payload bytes u32 | append ids u32
              | first u64 | last u64                  positions in this packet
              | commit first u64 | commit last u64    positions in the whole commit
              | payload crc32 u32 | header crc32 u32  the second is of the 52 bytes before it
              | payload

              header: all of it but the payload

    payload   block (blocks.py) | (append id 16, first u64, last u64) x append ids

Integers are little-endian. A commit is one or more packets in one segment, and it is whole when its
packets reach from its first to its last position; its append ids are in the last one. Flags are 0,
and a reader refuses any other value.

Both checksums of a packet start from the segment's random salt, which never leaves the store. So a
client cannot send data that would pass for a packet when a damaged segment is searched for one.

A commit is one write and one fdatasync. A segment's header and name are synced before its first
packet is written. What is left of a commit that was never finished is therefore always at the end
of the last segment, with nothing after it: that is cut off. Anything else that does not fit is
damage to acknowledged events, and is refused without changing a byte.

Zeros may follow the last commit. A small commit writes them for those that come after it, because a
sync that has no new size of the file to note down takes two thirds of the time. They are cut off
when the segment is full, and when the store is closed.

No event is looked up here, and there is no index: backend.py keeps that. The file is long because
what writes the format, reads it and mends its end is held to the one drawing above.
"""

from __future__ import annotations

import logging
import mmap
import os
import re
import secrets
import struct
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, NamedTuple
from uuid import UUID
from zlib import crc32

from rewind.backends import blocks
from rewind.backends.contract import AppendIds
from rewind.backends.directory import FILE_MODE, create_directory, sync_directory, translate
from rewind.errors import StoreDamaged, StoreFailed, StoreForeign
from rewind.events import Record

SEGMENT_BYTES = 64 * 1024 * 1024  # It is copied or searched in a second; 16,000 are a terabyte.
OPEN_FILES_MAX = 64  # More segments are not kept open for reading: 1,024 files is a usual limit.
ZEROS_BYTES = 256 * 1024  # Fewer zeros pay less; more delay the commit that writes them.
SMALL_COMMIT_BYTES = ZEROS_BYTES // 4  # A larger commit takes its time for its own bytes.
READ_AHEAD_BYTES = 1024 * 1024  # A segment that is read through is read in such pieces.

_SEGMENT_MAGIC = b"Rewind segment 1"
_SEGMENT_HEADER = struct.Struct("<16s16sQII")
_PACKET_MAGIC = b"Rwnd"
_PACKET_HEADER = struct.Struct("<4sIIIQQQQII")
_APPEND_ID = struct.Struct("<16sQQ")
_CRC = struct.Struct("<I")

SEGMENT_HEADER_BYTES = _SEGMENT_HEADER.size
"""The offset of the first packet of a segment."""

log = logging.getLogger("rewind")


class BlockAddress(NamedTuple):
    """Where the block ending at position ``last`` lies.

    ``segment``: the first position of its segment. ``offset`` and ``length``: bytes in that file.
    """

    last: int
    segment: int
    offset: int
    length: int


class StoredCommit(NamedTuple):
    """A commit that was read back. It ends before the offset ``end`` of its segment."""

    segment: int
    end: int
    last: int
    addresses: list[BlockAddress]
    records: list[bytes]
    append_ids: AppendIds


class _PacketHeader(NamedTuple):
    """The header of a packet, without its magic bytes and its own checksum."""

    flags: int
    length: int
    id_count: int
    first: int
    last: int
    commit_first: int
    commit_last: int
    payload_crc: int


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
        # The last segment: its salt, the end of its last commit, and the end of its file. Zeros may
        # lie between the two ends.
        self._salt = self._end = self._size = 0
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
                    self._write_segment_header(1)
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

    def append(self, records: Sequence[Record], append_ids: AppendIds) -> list[BlockAddress]:
        """Write and sync one commit. Returns the addresses of its blocks.

        After an error this must not be called again.
        """
        assert not self._broken, "no second write after one that failed"
        self._broken = True
        try:
            if self._end >= SEGMENT_BYTES:
                self._roll(records[0].event.position)
            written, addresses = self._packets(records, append_ids)
            end = self._end + len(written)
            if end > self._size and len(written) <= SMALL_COMMIT_BYTES:
                written += bytes(ZEROS_BYTES)
            if os.pwrite(self._writer, written, self._end) != len(written):
                raise StoreFailed(f"a write to {self.file(self.firsts[-1])} was cut short")
            os.fdatasync(self._writer)
        except OSError as error:
            raise translate(error, f"cannot write {self.file(self.firsts[-1])}") from error
        self._size = max(self._size, self._end + len(written))
        self._end = end
        self._broken = False
        return addresses

    def end(self) -> tuple[int, int]:
        """Segment and offset where the next commit goes, unless a new segment is begun for it."""
        return self.firsts[-1], self._end

    def _packets(
        self, records: Sequence[Record], append_ids: AppendIds
    ) -> tuple[bytes, list[BlockAddress]]:
        commit = records[0].event.position, records[-1].event.position
        runs = list(blocks.split(records))
        parts: list[bytes] = []
        addresses = []
        offset = self._end
        for run in runs:
            block = blocks.encode(run)
            ids = append_ids if run is runs[-1] else ()
            payload = block + b"".join(_APPEND_ID.pack(*row) for row in ids)
            header = self._packet_header(run, commit, payload, len(ids))
            addresses.append(
                BlockAddress(
                    run[-1].event.position, self.firsts[-1], offset + len(header), len(block)
                )
            )
            parts += (header, payload)
            offset += len(header) + len(payload)
        packets = b"".join(parts)
        assert offset - self._end == len(packets), "the addresses are those of the packets"
        return packets, addresses

    def _packet_header(
        self, run: Sequence[Record], commit: tuple[int, int], payload: bytes, id_count: int
    ) -> bytes:
        positions = (run[0].event.position, run[-1].event.position, *commit)
        payload_crc = crc32(payload, self._salt)
        header = _PACKET_HEADER.pack(
            _PACKET_MAGIC, 0, len(payload), id_count, *positions, payload_crc, 0
        )[:-4]
        return header + _CRC.pack(crc32(header, self._salt))

    def _roll(self, first: int) -> None:
        # A segment that another one follows ends with its last commit.
        self._cut_zeros()
        os.fsync(self._writer)
        if os.fstat(self._writer).st_size != self._end:
            raise StoreFailed(f"{self.file(self.firsts[-1])} was written to by somebody else")
        writer, self._writer = self._writer, -1
        os.close(writer)
        self._write_segment_header(first)

    def _write_segment_header(self, first: int) -> None:
        """Begin a segment, durably, so that a packet in it can never be without its header."""
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
        self._salt, self._end, self._size = salt, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES

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

    def commits_from(self, address: BlockAddress, position: int) -> Iterator[StoredCommit]:
        """The commits from ``position`` on, where one begins with the block at an address."""
        return self.commits(address.segment, address.offset - _PACKET_HEADER.size, position)

    def commit_first(self, address: BlockAddress) -> int:
        """The first position of the commit that the block at an address is part of."""
        try:
            with self._open(address.segment) as file:
                salt = self._read_segment_header(file, address.segment)
                file.seek(address.offset - _PACKET_HEADER.size)
                header = _parse_packet_header(file.read(_PACKET_HEADER.size), salt)
        except OSError as error:
            raise translate(error, f"cannot read {self.file(address.segment)}") from error
        if header is None or header.last != address.last:
            raise self._damaged(address.segment, address.offset, "no packet has this block")
        return header.commit_first

    def commits(self, segment: int, offset: int, position: int) -> Iterator[StoredCommit]:
        """The commits from this offset on, of which the first must begin at ``position``.

        Ends where the last segment has no further whole commit; ``make_ready`` decides whether that
        is damage. Raises ``StoreDamaged`` where an earlier segment has none before its end.
        """
        firsts = self.firsts[self.firsts.index(segment) :]
        for first, following in pairwise((*firsts, 0)):
            for commit in self._commits_of(first, offset, position):
                yield commit
                offset, position = commit.end, commit.last + 1
            if following and offset != self.size(first):
                raise self._damaged(first, offset, "no whole commit begins here")
            if following and position != following:
                raise self._damaged(first, offset, f"position {position} is missing after it")
            offset = SEGMENT_HEADER_BYTES

    def _commits_of(self, segment: int, offset: int, position: int) -> Iterator[StoredCommit]:
        if segment == self.firsts[-1] and self.size(segment) <= SEGMENT_HEADER_BYTES:
            return  # Half a header, perhaps: no commit was ever written to it.
        try:
            with self._open(segment) as file:
                salt = self._read_segment_header(file, segment)
                file.seek(offset)
                while commit := self._read_commit(file, salt, segment, position):
                    yield commit
                    position = commit.last + 1
        except OSError as error:
            raise translate(error, f"cannot read {self.file(segment)}") from error

    def _read_commit(
        self, file: BinaryIO, salt: int, segment: int, position: int
    ) -> StoredCommit | None:
        """The commit that begins here with ``position``; None unless it is whole."""
        addresses: list[BlockAddress] = []
        records: list[bytes] = []
        commit_last = 0
        expected = position
        while True:
            offset = file.tell()
            header = _parse_packet_header(file.read(_PACKET_HEADER.size), salt)
            if header is None or header.first != expected or header.commit_first != position:
                return None
            if header.flags:
                raise StoreForeign(f"{self.file(segment)} was written by a newer Rewind")
            payload = _read_payload(file, header, salt)
            if payload is None or header.commit_last != (commit_last or header.commit_last):
                return None
            commit_last = header.commit_last
            length = len(payload) - _APPEND_ID.size * header.id_count
            addresses.append(
                BlockAddress(header.last, segment, offset + _PACKET_HEADER.size, length)
            )
            records += blocks.decode(payload[:length], header.last).records()
            expected = header.last + 1
            if header.last == commit_last:
                ids = list(_APPEND_ID.iter_unpack(payload[length:]))
                return StoredCommit(segment, file.tell(), header.last, addresses, records, ids)

    def make_ready(self, offset: int, position: int) -> None:
        """Make the last segment, whose last whole commit ends at ``offset``, ready for ``position``.

        Cuts off what a commit that was never finished has left. Raises ``StoreDamaged``, and changes
        nothing, when a later commit stands after that: then the commit between had been finished.
        """
        segment = self.firsts[-1]
        size = self.size(segment)
        try:
            if size <= SEGMENT_HEADER_BYTES and not self._has_segment_header(segment):
                if self._read_only:
                    return
                log.warning("%s: made its torn header anew (%d bytes)", self.file(segment), size)
                self._write_segment_header(segment)
                return
            self._make_ready(segment, offset, size, position)
        except OSError as error:
            raise translate(error, f"cannot repair {self.file(segment)}") from error

    def _has_segment_header(self, segment: int) -> bool:
        try:
            with self._open(segment) as file:
                self._read_segment_header(file, segment)
        except StoreDamaged:
            return False
        return True

    def _make_ready(self, segment: int, offset: int, size: int, position: int) -> None:
        with self._open(segment) as file:
            self._salt = self._read_segment_header(file, segment)
            if size > offset and (later := self._later_commit(file, offset, position)):
                raise self._damaged(
                    segment, offset, f"no whole commit, but a later one at offset {later}"
                )
        if self._read_only:
            return
        if self._writer < 0:  # A segment that was begun just now is open already.
            self._writer = os.open(self.file(segment), os.O_RDWR | os.O_CLOEXEC)
        if rest := len(os.pread(self._writer, size - offset, offset).rstrip(b"\0")):
            log.warning(
                "%s: cut off %d bytes of an unfinished commit after position %d",
                self.file(segment),
                rest,
                position - 1,
            )
            os.ftruncate(self._writer, offset)
            os.fsync(self._writer)
            size = offset
        # What is taken for stored from now on may have been written by a daemon that was killed
        # before its sync.
        os.fdatasync(self._writer)
        self._end, self._size = offset, max(size, offset)

    def _later_commit(self, file: BinaryIO, start: int, position: int) -> int | None:
        """The offset of a packet after ``start`` whose commit begins after ``position``, if any.

        The header is enough: it was written only after the commit at ``position`` had been synced.
        """
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            offset = content.find(_PACKET_MAGIC, start)
            while offset >= 0:
                header = _parse_packet_header(
                    content[offset : offset + _PACKET_HEADER.size], self._salt
                )
                if header is not None and header.commit_first > position:
                    return offset
                offset = content.find(_PACKET_MAGIC, offset + 1)
        return None

    def _damaged(self, segment: int, offset: int, what: str) -> StoreDamaged:
        return StoreDamaged(f"{self.file(segment)} is damaged at offset {offset}: {what}")

    def _cut_zeros(self) -> None:
        if self._writer >= 0 and self._size > self._end:
            os.ftruncate(self._writer, self._end)
            self._size = self._end

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


def _parse_packet_header(header: bytes, salt: int) -> _PacketHeader | None:
    """The header of a packet; None if these bytes are none."""
    if len(header) < _PACKET_HEADER.size:
        return None
    magic, *fields, checksum = _PACKET_HEADER.unpack(header)
    if magic != _PACKET_MAGIC or crc32(header[:-4], salt) != checksum:
        return None
    return _PacketHeader(*fields)


def _read_payload(file: BinaryIO, header: _PacketHeader, salt: int) -> bytes | None:
    """The payload that follows a header; None unless it is whole."""
    payload = file.read(header.length)
    whole = len(payload) == header.length and crc32(payload, salt) == header.payload_crc
    return payload if whole else None
