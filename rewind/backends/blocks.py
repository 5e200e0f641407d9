"""Blocks: a run of consecutive records under one checksum.

::

    crc32 u32 | count u32 | end u32 x count | records

    end: where a record ends, counted from the beginning of the records

Integers are little-endian. The checksum (zlib's CRC-32) covers everything after itself and is
seeded with the position of the last record, so a block that turns up at another's address is found
out. (The first record's position would not do: it follows from the count, and a bit lost there would
change the seed by the same bit, which a CRC cannot tell from no loss.) LevelDB is fast at fewer,
larger values; the bound keeps reading one event cheap.

A block does not know where it is kept. Who keeps it does, and the index (index.py) leads there.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

from rewind.errors import StoreDamaged
from rewind.events import Record, decode_key

BLOCK_BYTES_MAX = 16 * 1024  # Verifying it takes 7 us. A larger record is a block of its own.
BLOCKS_READ_MAX = 512  # A read of a stream looks into no more: a few milliseconds.

_HEADER_OF_ONE = struct.Struct("<III")


def split(records: Sequence[Record]) -> Iterator[Sequence[Record]]:
    """Cut a commit into the runs of records that become its blocks."""
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
    first, last = records[0].event.position, records[-1].event.position
    assert last - first + 1 == len(records), "a block's records are consecutive"
    encoded = [record.encoded for record in records]
    ends = accumulate(map(len, encoded))
    body = struct.pack(f"<{len(encoded) + 1}I", len(encoded), *ends) + b"".join(encoded)
    return crc32(body, _seed(last)).to_bytes(4, "little") + body


def records_offset(count: int) -> int:
    """Where the first record begins in a block of ``count`` records."""
    return 8 + 4 * count


#: Offset and length of a record in its block, and its own checksum: zlib's CRC-32, seeded with its position.
Piece = tuple[int, int, int]


class Block(NamedTuple):
    """A verified block, ``data``, whose first record is at the position ``first``.

    The records begin at ``base`` in the data; ``ends`` counts from there.
    """

    first: int
    base: int
    ends: tuple[int, ...]
    data: bytes

    @property
    def last(self) -> int:
        """The position of its last record."""
        return self.first + len(self.ends) - 1

    def record(self, position: int) -> bytes:
        """The record at this position."""
        return self.joined(position, position)

    def joined(self, first: int, last: int) -> bytes:
        """The bytes of the records at these positions, as they lie."""
        low, ends, base = first - self.first, self.ends, self.base
        start = ends[low - 1] if low else 0
        return self.data[base + start : base + ends[last - self.first]]

    def records(self) -> list[bytes]:
        """Every record."""
        base, data = self.base, self.data
        records = []
        start = base
        for end in self.ends:
            records.append(data[start : base + end])
            start = base + end
        return records


def decode(data: bytes, last: int) -> Block:
    """The block whose last position is ``last``.

    Raises ``StoreDamaged`` unless every byte is what was written for these positions.
    """
    try:
        checksum, count, end = _HEADER_OF_ONE.unpack_from(data)
        if not 0 < count <= last or crc32(memoryview(data)[4:], _seed(last)) != checksum:
            raise StoreDamaged(f"the block ending at position {last} fails its checksum")
        ends = (end,) if count == 1 else struct.unpack_from(f"<{count}I", data, 8)
    except struct.error as error:
        raise StoreDamaged(f"the block ending at position {last} is cut short") from error
    first = last - count + 1
    block = Block(first, records_offset(count), ends, data)
    if (position := decode_key(block.record(first)).position) != first:
        raise StoreDamaged(f"position {first} holds the record of position {position}")
    return block


def _seed(last: int) -> int:
    return (last ^ (last >> 32)) & 0xFFFFFFFF
