"""Packets: what a commit is in the files of the log backend.

::

    packet    "Rwnd" | flags u32 | payload bytes u32 | append ids u32
              | first u64 | last u64                  positions in this packet
              | commit first u64 | commit last u64    positions in the whole commit
              | payload crc32 u32 | crc32 u32         the second is of the 52 bytes before it
              | number u64 | marks bytes u32          number of the commit; part of the payload
              | crc32 u32                             of the 52 bytes and these 12
              | payload

              header: all of it but the payload

    payload   block (blocks.py) | (append id 16, first u64, last u64) x append ids | marks

    marks     msgpack map: name -> new value, or nil where the mark is deleted

Integers are little-endian. A commit is one or more packets, and it is whole when they reach from its
first to its last position; its append ids and marks are in the last one. A commit of marks alone is
one packet without a block: its first position is the next one of the store, its last the one before
that, and only its number tells it from its neighbours.

Flags are 1. Earlier releases wrote packets of flags 0, which lack the two lines from the number to its
checksum; such a commit has the number of its last position. Any other value is a newer release's, and
is refused, as earlier releases refuse 1: so each packet says itself of which format it is.

The checksums of a packet start from the salt of its segment, random bits that never leave the store.
So a client cannot send data that would pass for a packet when a damaged segment is searched for one.

Next: segments.py, which keeps them in files.
"""

from __future__ import annotations

import mmap
import struct
from typing import BinaryIO, NamedTuple
from zlib import crc32

import msgspec

from rewind.backends import blocks
from rewind.backends.contract import AppendIds, Commit
from rewind.errors import StoreForeign

_MAGIC = b"Rwnd"
_NUMBERED = 1  # the flags of a packet that says the number of its commit
_PACKET = struct.Struct("<4sIIIQQQQI")
_NUMBER = struct.Struct("<QI")
_CRC = struct.Struct("<I")
_OLD_HEADER_BYTES = _PACKET.size + _CRC.size
_HEADER_BYTES = _OLD_HEADER_BYTES + _NUMBER.size + _CRC.size
_APPEND_ID = struct.Struct("<16sQQ")

_encode_marks = msgspec.msgpack.Encoder().encode
_decode_marks = msgspec.msgpack.Decoder(dict[str, bytes | None]).decode


class BlockAddress(NamedTuple):
    """Where the block ending at position ``last`` lies.

    ``segment``: the first position of its segment. ``offset`` and ``length``: bytes in that file.
    """

    last: int
    segment: int
    offset: int
    length: int


class End(NamedTuple):
    """Where a commit ends, and what the store is there.

    ``segment``: the first position of its segment. ``begin`` and ``offset``: where it begins in that
    file, and the first byte behind it; where no commit is yet, both are where one may begin. ``last``:
    the head. ``number``: the commit's.
    """

    segment: int
    begin: int
    offset: int
    last: int
    number: int


class StoredCommit(NamedTuple):
    """A commit that was read back."""

    end: End
    addresses: list[BlockAddress]
    records: list[bytes]
    append_ids: AppendIds
    marks: dict[str, bytes | None]


class Header(NamedTuple):
    """The header of a packet, without its magic bytes and its checksums.

    One of an earlier release has the ``number`` 0.
    """

    flags: int
    length: int
    id_count: int
    first: int
    last: int
    commit_first: int
    commit_last: int
    payload_crc: int
    number: int = 0
    marks_length: int = 0

    def follows(self, end: End) -> bool:
        """Whether its commit may be the one after that which ends there."""
        # An event of an earlier release counts as a commit, and only such are in front of it.
        number = self.number or self.commit_first
        return self.commit_first == end.last + 1 and number == end.number + 1

    def is_behind(self, end: End) -> bool:
        """Whether its commit is a later one than that which may follow there."""
        # Commits of marks have the positions of their neighbours; an earlier release's have no number.
        return self.commit_first > end.last + 1 or self.number > end.number + 1

    def end_before(self, segment: int, offset: int) -> End:
        """The end of the commit before its own, which begins at an offset of a segment."""
        last = self.commit_first - 1
        return End(segment, offset, offset, last, self.number - 1 if self.flags else last)


def encode(
    commit: Commit, segment: int, offset: int, salt: int
) -> tuple[bytes, list[BlockAddress]]:
    """The packets of a commit at an offset of a segment, and the addresses of its blocks there."""
    first, commit_last = commit.after + 1, commit.after + len(commit.records)
    positions = first, commit_last
    marks = _encode_marks(commit.marks) if commit.marks else b""
    parts: list[bytes] = []
    addresses = []
    for run in blocks.split(commit.records) if commit.records else ((),):
        last = first + len(run) - 1
        payload = block = blocks.encode(run) if run else b""
        id_count = marks_length = 0
        if last == commit_last:
            id_count, marks_length = len(commit.append_ids), len(marks)
            payload += b"".join(_APPEND_ID.pack(*row) for row in commit.append_ids) + marks
        places = first, last, *positions
        payload_crc = crc32(payload, salt)
        packet = _PACKET.pack(_MAGIC, _NUMBERED, len(payload), id_count, *places, payload_crc)
        number = _NUMBER.pack(commit.number, marks_length)
        checksum = crc32(packet, salt)
        parts += (packet, _CRC.pack(checksum), number, _CRC.pack(crc32(number, checksum)), payload)
        offset += _HEADER_BYTES
        if run:
            addresses.append(BlockAddress(last, segment, offset, len(block)))
        offset += len(payload)
        first = last + 1
    return b"".join(parts), addresses


def read_header(file: BinaryIO | mmap.mmap, salt: int) -> Header | None:
    """The header of the packet that begins here; None if none does. The file is read to its payload."""
    header = file.read(_OLD_HEADER_BYTES)
    if len(header) < _OLD_HEADER_BYTES:
        return None
    magic, *fields = _PACKET.unpack_from(header)
    checksum = crc32(header[: _PACKET.size], salt)
    if magic != _MAGIC or header[_PACKET.size :] != _CRC.pack(checksum):
        return None
    if fields[0] != _NUMBERED:
        return Header(*fields)
    more = file.read(_NUMBER.size + _CRC.size)
    number = more[: _NUMBER.size]
    if more[_NUMBER.size :] != _CRC.pack(crc32(number, checksum)):
        return None
    return Header(*fields, *_NUMBER.unpack(number))


def _read_payload(file: BinaryIO, header: Header, salt: int) -> bytes | None:
    """The payload that follows a header; None unless it is whole."""
    payload = file.read(header.length)
    whole = len(payload) == header.length and crc32(payload, salt) == header.payload_crc
    return payload if whole else None


def read_commit(file: BinaryIO, salt: int, before: End) -> StoredCommit | None:
    """The commit that begins here, where the one before it ends; None unless it is whole.

    Raises ``StoreForeign`` when a newer release wrote it.
    """
    segment, _, begin, last, _ = before
    addresses: list[BlockAddress] = []
    records: list[bytes] = []
    commit_last = -1
    while True:
        header = read_header(file, salt)
        if header is None or (header.commit_first, header.first) != (before.last + 1, last + 1):
            return None
        if header.flags not in (0, _NUMBERED):
            raise StoreForeign(f"{file.name} was written by a newer Rewind")
        if not header.follows(before) or commit_last not in (-1, header.commit_last):
            return None
        offset = file.tell()
        payload = _read_payload(file, header, salt)
        if payload is None:
            return None
        last, commit_last = header.last, header.commit_last
        ids_end = len(payload) - header.marks_length
        length = ids_end - _APPEND_ID.size * header.id_count
        if length:
            addresses.append(BlockAddress(last, segment, offset, length))
            records += blocks.decode(payload[:length], last).records()
        if last == commit_last:
            ids = list(_APPEND_ID.iter_unpack(payload[length:ids_end]))
            marks = _decode_marks(payload[ids_end:]) if header.marks_length else {}
            end = End(segment, begin, file.tell(), last, header.number or last)
            return StoredCommit(end, addresses, records, ids, marks)


def header_of_block(file: BinaryIO, salt: int, address: BlockAddress) -> tuple[int, Header] | None:
    """Where the packet begins that has the block at an address, and its header; None if none has."""
    for size in (_HEADER_BYTES, _OLD_HEADER_BYTES):
        file.seek(address.offset - size)
        header = read_header(file, salt)
        if header and (file.tell(), header.last) == (address.offset, address.last):
            return address.offset - size, header
    return None


def later_commit(file: BinaryIO, salt: int, end: End) -> int | None:
    """The offset of a packet behind this end that is of a later commit than the next one, if any.

    The header is enough: it was written only after the commit in front of it had been synced.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        offset = content.find(_MAGIC, end.offset)
        while offset >= 0:
            content.seek(offset)
            header = read_header(content, salt)
            if header is not None and header.is_behind(end):
                return offset
            offset = content.find(_MAGIC, offset + 1)
    return None


def last_header(file: BinaryIO, salt: int) -> Header | None:
    """The last header in a file, which may be of an unfinished commit."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        offset = content.rfind(_MAGIC)
        while offset >= 0:
            content.seek(offset)
            if header := read_header(content, salt):
                return header
            offset = content.rfind(_MAGIC, 0, offset)
    return None
