"""Blocks: a run of consecutive records under one checksum.

::

    crc32 u32 | count u32 | end u32 x count | records
                            of each record, from the start of the records

Integers are little-endian. The checksum (zlib's CRC-32) covers everything after itself and is
seeded with the position of the last record, so a block that turns up in another's place is found
out. (Not of the first: that is told by the count, and a bit lost there would change the seed by the
same bit, which a CRC cannot tell from none.) Fewer, larger values are what LevelDB is fast at; the
bound keeps reading one event cheap.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

from rewind.errors import StoreDamaged
from rewind.events import Record, decode_key

BLOCK_BYTES_MAX = 16 * 1024  # a LevelDB block, 7 us of checksum; a single record may exceed it

# Blocks one read of a stream looks into: a few milliseconds where every event lies in another.
BLOCKS_READ_MAX = 512

_HEAD_OF_ONE = struct.Struct("<III")


def split(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut a commit into runs whose records fit a block; a larger record gets its own."""
    start = size = 0
    for index, record in enumerate(records):
        length = len(record.encoded) + 4
        if size and size + length > BLOCK_BYTES_MAX:
            yield records[start:index]
            start, size = index, 0
        size += length
    if start < len(records):
        yield records[start:]


def encode(records: Sequence[Record]) -> bytes:
    """The block of these consecutive records."""
    encoded = [record.encoded for record in records]
    ends = accumulate(map(len, encoded))
    body = struct.pack(f"<{len(encoded) + 1}I", len(encoded), *ends) + b"".join(encoded)
    return crc32(body, _seed(records[-1].event.position)).to_bytes(4, "little") + body


def records_offset(count: int) -> int:
    """Where in a block of so many records the first of them is."""
    return 8 + 4 * count


class Block(NamedTuple):
    """A verified block: its first position, and where in ``data`` each record ends."""

    first: int
    base: int
    ends: tuple[int, ...]
    data: bytes

    @property
    def last(self) -> int:
        """The position of its last record."""
        return self.first + len(self.ends) - 1

    def record(self, position: int) -> bytes:
        """The record at a position in it."""
        return self.joined(position, position)

    def joined(self, first: int, last: int) -> bytes:
        """The records of these positions, one behind the other."""
        low, ends, base = first - self.first, self.ends, self.base
        start = ends[low - 1] if low else 0
        return self.data[base + start : base + ends[last - self.first]]

    def records(self) -> list[bytes]:
        """All of them."""
        base, data = self.base, self.data
        found = []
        start = base
        for end in self.ends:
            found.append(data[start : base + end])
            start = base + end
        return found


def decode(data: bytes, last: int) -> Block:
    """The block whose last position is ``last``.

    Raises ``StoreDamaged`` unless every byte is what was written, in the place asked for.
    """
    try:
        checksum, count, end = _HEAD_OF_ONE.unpack_from(data)
        if not 0 < count <= last or crc32(memoryview(data)[4:], _seed(last)) != checksum:
            raise StoreDamaged(f"the block ending at position {last} fails its checksum")
        ends = (end,) if count == 1 else struct.unpack_from(f"<{count}I", data, 8)
    except struct.error as error:
        raise StoreDamaged(f"the block ending at position {last} is cut short") from error
    first = last - count + 1
    block = Block(first, records_offset(count), ends, data)
    if (found := decode_key(block.record(first)).position) != first:
        raise StoreDamaged(f"position {first} holds the record of position {found}")
    return block


def _seed(last: int) -> int:
    return (last ^ (last >> 32)) & 0xFFFFFFFF
