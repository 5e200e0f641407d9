"""The index of a backend of blocks: streams, event ids and append ids, in an ordered store.

::

    n <name>                     -> version           a stream, and how long it is
    v <name> 00 <last version>   -> version, position, piece, address
                                                      a run of the stream: version and position of its
                                                      first event, the piece (below) of a run of one,
                                                      and the address of the block that the run is in
    i <event id, 16 bytes>       -> position          an id chosen by a client; Rewind's own need none
    a <append id, 16 bytes>      -> first, last       the positions of an append

Integers are 8 bytes, big-endian, so that keys sort as numbers. A run is events of one stream with
consecutive versions at consecutive positions within one block: an append of a thousand events to
one stream costs one entry a block. A name holds no control characters, so 00 ends it without doubt.

A stream that grows by an event now and then has each event in another block. So a run of one event
says which piece of its block the event is: offset, length and checksum (crc32, seeded with the
position), 4 bytes each. A hundred such events are a hundred look-ups, none of which verifies 16 KiB.

The address of a block is whatever bytes its backend finds it by. The index holds no records and
decides nothing. Next: block_backend.py, which reads through it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
unpack_u64 = _U64.unpack


class KeyValues(Protocol):
    """An ordered store of byte strings."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with ``start <= key < stop``, in order or in reverse."""


class BlockSource(Protocol):
    """The blocks of a backend, by the addresses it gave the index when it stored them."""

    def block_at(self, address: bytes) -> blocks.Block:
        """The block at an address, verified."""

    def piece_at(self, address: bytes, offset: int, length: int) -> bytes:
        """Some bytes of the block at an address, not verified, or fewer where it is shorter."""


# A run is first version, last version, first position; offset, length and checksum of its piece, where
# a length of 0 means several events; address of the block. A plain tuple is the fastest to make.
_Run = tuple[int, int, int, int, int, int, bytes]


class Index:
    """What an append or a read looks up, and the entries that a commit adds.

    The methods named as the contract's do what it says. ``damaged``: turns the description of damage
    into the error to raise.
    """

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
        """What one commit adds. ``addresses``: last position and address of each of its blocks, in order."""
        own_prefix = self._own_prefix
        entries: list[tuple[bytes, bytes]] = []
        # Each stream's last run, which the next record may continue: its first record, how many
        # records, the offset of the first in its block, the address of that block.
        runs: dict[str, tuple[Record, int, int, bytes]] = {}
        next_address = iter(addresses).__next__
        last = offset = 0
        address = b""
        for record in records:
            event = record.event
            position = event.position
            if position > last:
                last, address = next_address()
                offset = blocks.records_offset(last - position + 1)
            first, count, first_offset, run_address = runs.get(event.stream, _NO_RUN)
            if run_address is address and position == first.event.position + count:
                runs[event.stream] = (first, count + 1, first_offset, address)
            else:
                if count:
                    name = event.stream.encode()
                    entries.append(_run_entry(name, first, count, first_offset, run_address))
                runs[event.stream] = (record, 1, offset, address)
            offset += len(record.encoded)
            if not event.id_bytes.startswith(own_prefix):
                entries.append((b"i" + event.id_bytes, pack_u64(position)))
        for stream, (first, count, first_offset, run_address) in runs.items():
            name = stream.encode()
            entries.append(_run_entry(name, first, count, first_offset, run_address))
            entries.append((b"n" + name, pack_u64(first.event.version + count - 1)))
        entries += [(b"a" + id, _PAIR.pack(first, last)) for id, first, last in append_ids]
        return entries

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        get = self._keys.get
        values = {name: get(b"n" + name.encode()) for name in streams}
        try:
            return {
                name: unpack_u64(value)[0] for name, value in values.items() if value is not None
            }
        except struct.error as error:
            raise self._cut_short("the version of stream", values, _U64) from error

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        get = self._keys.get
        values = {id: get(b"i" + id) for id in ids}
        try:
            return {id: unpack_u64(value)[0] for id, value in values.items() if value is not None}
        except struct.error as error:
            raise self._cut_short("the position of event id", values, _U64) from error

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        get = self._keys.get
        values = {id: get(b"a" + id) for id in append_ids}
        try:
            return {id: _PAIR.unpack(value) for id, value in values.items() if value is not None}
        except struct.error as error:
            raise self._cut_short("the positions of append id", values, _PAIR) from error

    def _cut_short(
        self, what: str, values: Mapping[Any, bytes | None], form: struct.Struct
    ) -> StoreDamaged:
        """The error for the first of these values that is not of its form."""
        key = next(
            key for key, value in values.items() if value is not None and len(value) != form.size
        )
        return self.damaged(
            f"{what} {key.hex() if isinstance(key, bytes) else repr(key)} is cut short"
        )

    def append_ids(self, after: int, until: int) -> Iterator[AppendId]:
        """The append ids whose events all lie in the range, in order of id: looks at every one."""
        for key, value in self._keys.scan(b"a", after_prefix(b"a")):
            try:
                first, last = _PAIR.unpack(value)
            except struct.error as error:
                raise self._cut_short(
                    "the positions of append id", {key[1:]: value}, _PAIR
                ) from error
            if after < first and last <= until:
                yield key[1:], first, last

    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        start = max(b"n" + prefix.encode(), b"n" + after.encode() + b"\0" if after else b"")
        stop = after_prefix(b"n" + prefix.encode())
        page: list[tuple[str, int]] = []
        if limit > 0:
            for key, value in self._keys.scan(start, stop):
                try:
                    page.append((key[1:].decode(), unpack_u64(value)[0]))
                except UnicodeDecodeError as error:
                    raise self.damaged(f"the name of stream {key[1:]!r} is not UTF-8") from error
                except struct.error as error:
                    raise self._cut_short(
                        "the version of stream", {key[1:].decode(): value}, _U64
                    ) from error
                if len(page) == limit:
                    break
        return page

    def records(self, stream: str, after: int, until: int, backwards: bool) -> Iterator[bytes]:
        """The records of a stream by version, ``after < version <= until``.

        An index can mislead without being broken, so each record is compared with what it should be.
        Ends early after ``BLOCKS_READ_MAX`` blocks: the reader goes on from there.
        """
        until = min(until, self.versions([stream]).get(stream, 0))
        expected = iter(range(until, after, -1) if backwards else range(after + 1, until + 1))
        piece_at = self._source.piece_at
        blocks_read = 0
        address = b""
        block: blocks.Block | None = None
        records: Sequence[bytes]
        for version, last_version, first, offset, length, checksum, run_address in self._runs(
            stream, after, until, backwards
        ):
            if run_address != address:
                if blocks_read == blocks.BLOCKS_READ_MAX:
                    return
                blocks_read += 1
                address, block = run_address, None
            if length:
                records = (piece_at(address, offset, length),)
                if crc32(records[0], first & 0xFFFFFFFF) != checksum:
                    self._source.block_at(address)  # It raises by itself if the block is damaged.
                    raise self.damaged(f"position {first} is not where it is said to be")
            else:
                block = block or self._source.block_at(address)
                low = max(after + 1 - version, 0) + first
                high = min(until, last_version) - version + first
                records = self._between(block, low, high)
                if backwards:
                    records = records[::-1]
            for record in records:
                key = decode_key(record)
                if key.version != next(expected, None) or key.stream != stream:
                    raise self.damaged(f"stream {stream!r} leads to position {key.position}")
                yield record
        if (lack := next(expected, None)) is not None:
            raise self.damaged(f"stream {stream!r} lacks version {lack}")

    def _between(self, block: blocks.Block, low: int, high: int) -> list[bytes]:
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
            # The key of a run is its last version: the run with `until` in it may end beyond.
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
    """The entry of a run of ``count`` events. The first, this record, is at an offset of its block."""
    event = record.event
    length = checksum = 0
    if count == 1:
        length, checksum = len(record.encoded), crc32(record.encoded, event.position & 0xFFFFFFFF)
    key = b"v" + name + b"\0" + pack_u64(event.version + count - 1)
    return key, _RUN.pack(event.version, event.position, offset, length, checksum) + address


def after_prefix(prefix: bytes) -> bytes:
    """The least key greater than every key with this prefix (which does not end in ff)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
