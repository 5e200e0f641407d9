"""Blocks: what is read is what was written, for the positions asked for, or the damage is reported."""

from __future__ import annotations

import pytest
from contract import Scribe

from rewind.backends import blocks, open_backend
from rewind.errors import StoreDamaged
from rewind.events import Record


def records(count: int) -> list[Record]:
    return Scribe(open_backend("memory:")).records([{"stream": "s", "data": b"dates"}] * count)


@pytest.mark.parametrize("first", [1, 4, 9, 13])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_flipped_bit_is_found(first: int, count: int) -> None:
    run = records(first + count - 1)[first - 1 :]
    last = first + count - 1
    written = blocks.encode(run)
    assert blocks.decode(written, last).records() == [record.encoded for record in run]
    for bit in range(len(written) * 8):
        flipped = bytearray(written)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StoreDamaged):
            blocks.decode(bytes(flipped), last)


def test_every_shorter_block_is_found() -> None:
    written = blocks.encode(records(3))
    for length in range(len(written)):
        with pytest.raises(StoreDamaged):
            blocks.decode(written[:length], 3)


def test_a_block_of_other_positions_is_found() -> None:
    written = blocks.encode(records(3))
    for last in (1, 2, 4, 7, 3 + 2**32):
        with pytest.raises(StoreDamaged):
            blocks.decode(written, last)
