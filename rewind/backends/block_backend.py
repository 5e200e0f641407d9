"""The reading half of a backend whose records lie in blocks.

Blocks (blocks.py) lie end to end, so records are read by position from the blocks on from one,
upwards or downwards; everything else is read through the index (index.py). Nothing is written here:
leveldb.py keeps blocks beside their index, log/ keeps them in files, and each stores commits itself.
"""

from __future__ import annotations

from abc import abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import chain, islice

from rewind.backends.blocks import Block
from rewind.backends.contract import (
    SEEKS_MAX,
    AppendId,
    Backend,
    Found,
    Last,
    by_position,
    take,
)
from rewind.backends.index import Index
from rewind.backends.matching import Walk, find
from rewind.backends.verify import check_records
from rewind.query import QueryItem


class BlockBackend(Backend):
    """Reads from blocks and an index; the public methods are the contract's.

    A subclass opens its files in its constructor and sets the attributes below, says where a block
    is, and adds ``commit``, ``settle`` and ``close``.
    """

    _index: Index
    _head: int
    _last_time_ns: int  # The event at the head was recorded then.
    _number: int  # The last commit has it.

    # --- where the blocks are ---

    @abstractmethod
    def block_at(self, address: bytes) -> Block:
        """The block at an address, verified."""

    @abstractmethod
    def piece_at(self, address: bytes, offset: int, length: int) -> bytes:
        """Some bytes of the block at an address, not verified, or fewer where it is shorter."""

    @abstractmethod
    def address_of(self, last: int) -> bytes:
        """The address of the block whose last position this is."""

    @abstractmethod
    def _blocks_ending(self, position: int, backwards: bool) -> Iterator[Block]:
        """The verified blocks that end at ``position`` or above it, upwards.

        ``backwards``: those that end below it, downwards.
        """

    # --- the contract ---

    def last(self) -> Last:
        return Last(self._head, self._last_time_ns, self._number)

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        return self._index.versions(streams)

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        return self._index.positions(ids)

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        return self._index.appends(append_ids)

    def append_ids(self, after: int, until: int) -> list[AppendId]:
        """Looks at every append id of the store: 400 ms a million where they are cached."""
        return by_position(self._index.append_ids(after, until))

    def read(
        self, after: int, until: int, limit: int, bytes_max: int, backwards: bool = False
    ) -> list[bytes]:
        blocks = self._blocks(after, min(until, self._head), backwards)
        return take(_records_of(blocks, after, until, backwards), limit, bytes_max)

    def chunk(self, after: int, until: int, limit: int, bytes_max: int) -> tuple[int, list[bytes]]:
        blocks = self._blocks(after, min(until, self._head), False)
        return _take_joined(blocks, after, until, limit, bytes_max)

    def read_stream(
        self,
        stream: str,
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> list[bytes]:
        return take(self._index.records(stream, after, until, backwards), limit, bytes_max)

    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        return self._index.streams(prefix, after, limit)

    def matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        backwards: bool = False,
        seeks_max: int = SEEKS_MAX,
    ) -> Found:
        return find(self._walk(items, after, until, backwards, seeks_max), limit)

    def read_matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> tuple[list[bytes], int]:
        walk = self._walk(items, after, until, backwards, SEEKS_MAX, sifted=True)
        return self._index.read_walk(walk, items, limit, bytes_max)

    def _walk(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        backwards: bool,
        seeks_max: int,
        sifted: bool = False,
    ) -> Walk:
        until = min(until, self._head)
        return Walk(items, self._index.opener(), after, until, backwards, seeks_max, sifted)

    def names(self, kind: str, prefix: str, after: str | None, limit: int) -> list[tuple[str, int]]:
        return self._index.names(kind, prefix, after, limit)

    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        return self._index.marks(names)

    def marks_from(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        return self._index.marks_from(prefix, after, limit)

    def check(self) -> Iterator[str]:
        yield from check_records(self)

    # --- blocks end to end ---

    def _blocks(self, after: int, until: int, backwards: bool) -> Iterator[Block]:
        """The blocks with the positions ``after < n <= until``, without a hole."""
        if after >= until:
            return
        blocks = self._blocks_ending(until if backwards else after + 1, False)
        if backwards:
            # The block with `until` in it may end above, all others end below.
            blocks = chain(islice(blocks, 1), self._blocks_ending(until, True))
        expected = until if backwards else after + 1
        for block in blocks:
            if not block.first <= expected <= block.last:
                break
            yield block
            expected = block.first - 1 if backwards else block.last + 1
            if not after < expected <= until:
                return
        raise self._index.damaged(f"position {expected} is missing")


def _records_of(
    blocks: Iterable[Block], after: int, until: int, backwards: bool
) -> Iterator[bytes]:
    """The records of these blocks with ``after < position <= until``, in the blocks' order."""
    for block in blocks:
        first, last = max(after + 1, block.first), min(until, block.last)
        for position in range(last, first - 1, -1) if backwards else range(first, last + 1):
            yield block.record(position)


def _take_joined(
    blocks: Iterable[Block], after: int, until: int, limit: int, bytes_max: int
) -> tuple[int, list[bytes]]:
    """What ``take`` would return, joined, from blocks whose records are not looked at one by one."""
    pieces: list[bytes] = []
    count = size = 0
    for block in blocks if limit > 0 else ():
        first = max(after + 1, block.first)
        last = min(until, block.last, first + limit - count - 1)
        start = block.ends[first - block.first - 1] if first > block.first else 0
        room = start + bytes_max - size
        if block.ends[last - block.first] > room:
            last = block.first + bisect_right(block.ends, room) - 1
            if last < first and not pieces:
                last = first
            limit = count + last - first + 1  # No record of a later block has room.
        if last >= first:
            pieces.append(block.joined(first, last))
            count += last - first + 1
            size += len(pieces[-1])
        if count == limit:
            break
    return count, pieces
