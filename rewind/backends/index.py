"""The index beside the records, as keys and values of an ordered store.

Used by the LevelDB backend and by the log backend, each of which keeps its blocks elsewhere::

    n <name>                         -> version            a stream and its length
    v <name> 00 <last version>       -> version, position, piece, address   a run of the stream: of its
                                        first event, where in its block the event is if it is the only
                                        one of the run, and where the backend keeps the block
    i <event id, 16 bytes>           -> position           ids chosen by clients; Rewind's own need none
    a <append id, 16 bytes>          -> first, last        positions of an append

Integers are 8 bytes, big-endian, so that keys sort as numbers. A run is events of one stream with
consecutive versions at consecutive positions within one block: an append of a thousand events to
one stream costs one entry a block. A name holds no control characters, so 00 ends it without doubt.

A stream that grows by an event now and then has each in another block. So a run of one event says
which piece of its block that is: offset, length and checksum (crc32, seeded with the position), 4
bytes each. A hundred such events are a hundred look-ups, none of which verifies 16 KiB.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol
from zlib import crc32

from rewind.backends import blocks
from rewind.backends.contract import AppendId, AppendIds
from rewind.errors import StoreDamaged
from rewind.events import Record, decode_key

_U64 = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_RUN = struct.Struct(">QQIII")
_NO_RUN: tuple[Any, int, int, bytes] = (None, 0, 0, b"-")
pack_u64 = _U64.pack


class KeyValues(Protocol):
    """An ordered store of byte strings."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with ``start <= key < stop``, in order or in reverse."""


class BlockSource(Protocol):
    """Where a backend keeps its blocks. ``address`` is what it said of a block when that was stored."""

    def block_at(self, address: bytes) -> blocks.Block:
        """The block, verified."""

    def piece_at(self, address: bytes, offset: int, length: int) -> bytes:
        """Some of its bytes, not verified, or fewer where it is shorter."""


# A run as its entry has it: first version, last version, first position, then of the piece its offset,
# length (0 for a run of several) and checksum, and the address of the block. Plain, for speed.
_Run = tuple[int, int, int, int, int, int, bytes]


class Index:
    """Finds versions, ids, names and runs."""

    def __init__(
        self,
        keys: KeyValues,
        source: BlockSource,
        own_prefix: bytes,
        damaged: Callable[[str], StoreDamaged] = StoreDamaged,
    ) -> None:
        self._keys = keys
        self._source = source
        self._own_prefix = own_prefix
        self.damaged = damaged

    def entries(
        self,
        records: Sequence[Record],
        append_ids: AppendIds,
        addresses: Iterable[tuple[int, bytes]],
    ) -> list[tuple[bytes, bytes]]:
        """What one commit adds to the index. ``addresses``: of each of its blocks, with its last position."""
        own_prefix = self._own_prefix
        added: list[tuple[bytes, bytes]] = []
        # stream -> first record, how many, offset of the first in its block, address of the block
        runs: dict[str, tuple[Record, int, int, bytes]] = {}
        following = iter(addresses)
        last = offset = 0
        address = b""
        for record in records:
            event = record.event
            position = event.position
            if position > last:
                last, address = next(following)
                offset = blocks.records_offset(last - position + 1)
            first, count, begun, where = runs.get(event.stream, _NO_RUN)
            if where is address and position == first.event.position + count:
                runs[event.stream] = (first, count + 1, begun, address)
            else:
                if count:
                    added.append(_run_entry(event.stream.encode(), first, count, begun, where))
                runs[event.stream] = (record, 1, offset, address)
            offset += len(record.encoded)
            if not event.id_bytes.startswith(own_prefix):
                added.append((b"i" + event.id_bytes, pack_u64(position)))
        for stream, (first, count, begun, where) in runs.items():
            name = stream.encode()
            added.append(_run_entry(name, first, count, begun, where))
            added.append((b"n" + name, pack_u64(first.event.version + count - 1)))
        added += [(b"a" + id, _PAIR.pack(first, last)) for id, first, last in append_ids]
        return added

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        get = self._keys.get
        found = {name: get(b"n" + name.encode()) for name in streams}
        return {name: _U64.unpack(value)[0] for name, value in found.items() if value}

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        get = self._keys.get
        found = {id: get(b"i" + id) for id in ids}
        return {id: _U64.unpack(value)[0] for id, value in found.items() if value}

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        get = self._keys.get
        found = {id: get(b"a" + id) for id in append_ids}
        return {id: _PAIR.unpack(value) for id, value in found.items() if value}

    def append_ids(self, after: int, until: int) -> Iterator[AppendId]:
        """Those whose events all lie in the range, by id: every one is looked at."""
        for key, value in self._keys.scan(b"a", after_prefix(b"a")):
            try:
                first, last = _PAIR.unpack(value)
            except struct.error as error:
                raise self.damaged(
                    f"the positions of append id {key[1:].hex()} are cut short"
                ) from error
            if after < first and last <= until:
                yield key[1:], first, last

    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        start = max(b"n" + prefix.encode(), b"n" + after.encode() + b"\0" if after else b"")
        stop = after_prefix(b"n" + prefix.encode())
        found: list[tuple[str, int]] = []
        if limit > 0:
            for key, value in self._keys.scan(start, stop):
                found.append((key[1:].decode(), _U64.unpack(value)[0]))
                if len(found) == limit:
                    break
        return found

    def records(self, stream: str, after: int, until: int, backwards: bool) -> Iterator[bytes]:
        """Records by version.

        An index can mislead without being broken, so each record is compared. Ends early when so
        many blocks were looked into that a reader had better go on from there.
        """
        until = min(until, self.versions([stream]).get(stream, 0))
        wanted = iter(range(until, after, -1) if backwards else range(after + 1, until + 1))
        piece_at = self._source.piece_at
        looked = 0
        address = b""
        block: blocks.Block | None = None
        found: Sequence[bytes]
        for version, last_version, first, offset, length, checksum, where in self._runs(
            stream, after, until, backwards
        ):
            if where != address:
                if looked == blocks.BLOCKS_READ_MAX:
                    return
                looked += 1
                address, block = where, None
            if length:
                found = (piece_at(address, offset, length),)
                if crc32(found[0], first & 0xFFFFFFFF) != checksum:
                    self._source.block_at(address)  # raises if it is the block that is damaged
                    raise self.damaged(f"position {first} is not where it is said to be")
            else:
                block = block or self._source.block_at(address)
                low = max(after + 1 - version, 0) + first
                high = min(until, last_version) - version + first
                found = self._of_block(block, low, high)
                if backwards:
                    found = found[::-1]
            for record in found:
                key = decode_key(record)
                if key.version != next(wanted, None) or key.stream != stream:
                    raise self.damaged(f"stream {stream!r} leads to position {key.position}")
                yield record
        if (lacking := next(wanted, None)) is not None:
            raise self.damaged(f"stream {stream!r} lacks version {lacking}")

    def _of_block(self, block: blocks.Block, low: int, high: int) -> list[bytes]:
        if not block.first <= low <= high <= block.last:
            raise self.damaged(f"position {high} is not in the block it is said to be in")
        return [block.record(position) for position in range(low, high + 1)]

    def _runs(self, stream: str, after: int, until: int, backwards: bool) -> Iterator[_Run]:
        """The runs that overlap the range."""
        if after >= until:
            return
        prefix = b"v" + stream.encode() + b"\0"
        start, stop = prefix + pack_u64(after + 1), after_prefix(prefix)
        if backwards:
            # A run is filed under its last version: the one holding `until` may end beyond it.
            for key, _ in self._keys.scan(prefix + pack_u64(until), stop):
                stop = key + b"\0"
                break
        for key, value in self._keys.scan(start, stop, backwards):
            try:
                version, first, offset, length, checksum = _RUN.unpack_from(value)
                last_version = _U64.unpack_from(key, len(prefix))[0]
            except struct.error as error:
                raise self.damaged(f"a run of stream {stream!r} is cut short") from error
            if version > until or last_version <= after:
                return
            address = value[_RUN.size :]
            yield version, last_version, first, offset, length, checksum, address


def _run_entry(
    name: bytes, record: Record, count: int, offset: int, address: bytes
) -> tuple[bytes, bytes]:
    """The entry of a run of ``count`` events beginning with this one, which is at an offset of its block."""
    event = record.event
    length = checksum = 0
    if count == 1:
        length, checksum = len(record.encoded), crc32(record.encoded, event.position & 0xFFFFFFFF)
    key = b"v" + name + b"\0" + pack_u64(event.version + count - 1)
    return key, _RUN.pack(event.version, event.position, offset, length, checksum) + address


def after_prefix(prefix: bytes) -> bytes:
    """The least key greater than every key with this prefix (which does not end in ff)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
