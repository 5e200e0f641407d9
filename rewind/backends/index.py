"""The index of a backend of blocks: streams, names, event ids, append ids, marks, in an ordered store.

::

    n <name>                     -> version           a stream, and how long it is
    v                                                 runs of a stream: runs.py
    i <event id, 16 bytes>       -> position          an id chosen by a client; Rewind's own need none
    a <append id, 16 bytes>      -> first, last       the positions of an append
    m <name>                     -> bytes             a mark
    t, g, k                                           types, tags and categories: postings.py

Integers are 8 bytes, big-endian. The address of a block is whatever bytes its backend finds it by. The
index holds no records and decides nothing. Next: block_backend.py, which reads through it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol
from zlib import crc32

from rewind.backends import blocks
from rewind.backends.blocks import Piece
from rewind.backends.contract import AppendId, AppendIds
from rewind.backends.keys import U64, Entry, Finder, KeyValues, after_prefix, pack_u64, unpack_u64
from rewind.backends.matching import OpenPlaces, Walk
from rewind.backends.postings import Postings, name_key, name_of, names_key, postings
from rewind.backends.runs import StreamPlaces, run_entries, runs
from rewind.errors import StoreDamaged
from rewind.events import Record, decode_key, decode_names
from rewind.query import QueryItem, matcher

_PAIR = struct.Struct(">QQ")

Marks = Mapping[str, bytes | None]
_NO_MARKS: Marks = {}


class BlockSource(Protocol):
    """The blocks of a backend, by the addresses it gave the index when it stored them."""

    def block_at(self, address: bytes) -> blocks.Block:
        """The block at an address, verified."""

    def piece_at(self, address: bytes, offset: int, length: int) -> bytes:
        """Some bytes of the block at an address, not verified, or fewer where it is shorter."""

    def address_of(self, last: int) -> bytes:
        """The address of the block whose last position this is."""


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
        marks: Marks = _NO_MARKS,
    ) -> list[Entry]:
        """What one commit adds. ``addresses``: last position and address of each of its blocks, in order."""
        entries: list[Entry] = []
        versions: dict[str, int] = {}
        done = 0
        for last, address in addresses:
            block = records[done : done + last + 1 - records[done].event.position]
            done += len(block)
            checksums: dict[int, int] = {}
            entries += postings(block, last, checksums)
            entries += run_entries(block, address, checksums, versions)
        own_prefix = self._own_prefix
        for record in records:
            if not record.event.id_bytes.startswith(own_prefix):
                entries.append((b"i" + record.event.id_bytes, pack_u64(record.event.position)))
        entries += [(b"n" + name.encode(), pack_u64(last)) for name, last in versions.items()]
        entries += [(b"a" + id, _PAIR.pack(first, last)) for id, first, last in append_ids]
        entries += [(b"m" + name.encode(), value) for name, value in marks.items()]
        return entries

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        get = self._keys.get
        values = {name: get(b"n" + name.encode()) for name in streams}
        try:
            return {
                name: unpack_u64(value)[0] for name, value in values.items() if value is not None
            }
        except struct.error as error:
            raise self._cut_short("the version of stream", values, U64) from error

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        get = self._keys.get
        values = {id: get(b"i" + id) for id in ids}
        try:
            return {id: unpack_u64(value)[0] for id, value in values.items() if value is not None}
        except struct.error as error:
            raise self._cut_short("the position of event id", values, U64) from error

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
                        "the version of stream", {key[1:].decode(): value}, U64
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
        blocks_read = 0
        address = b""
        block: blocks.Block | None = None
        records: Sequence[bytes]
        for version, last_version, first, offset, length, checksum, run_address in runs(
            self._keys, stream, after, until, backwards, self.damaged
        ):
            if run_address != address:
                if blocks_read == blocks.BLOCKS_READ_MAX:
                    return
                blocks_read += 1
                address, block = run_address, None
            if length:
                records = (self._piece(address, (offset, length, checksum), first),)
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

    # --- queries and names ---

    def opener(self) -> OpenPlaces:
        """What a walk (matching.py) opens the positions of types, tags, categories and streams by."""
        finder = self._keys.finder()

        def open_places(kind: str, name: str, backwards: bool) -> Postings | StreamPlaces:
            if kind == "stream":
                version = self.versions([name]).get(name, 0)
                return StreamPlaces(finder, name, version, backwards, self.damaged)
            return self._postings(finder, kind, name, backwards)

        return open_places

    def _postings(self, finder: Finder, kind: str, name: str, backwards: bool) -> Postings:
        return Postings(
            self._keys, finder, kind, name, backwards, self._source.address_of, self.damaged
        )

    def names(self, kind: str, prefix: str, after: str | None, limit: int) -> list[tuple[str, int]]:
        """Two seeks a name."""
        start = names_key(kind, prefix)
        stop = after_prefix(start)
        if after is not None:
            start = max(start, after_prefix(name_key(kind, after)))
        page: list[tuple[str, int]] = []
        finder = self._keys.finder()
        while len(page) < limit and (entry := finder.at(start)) and (key := entry[0]) < stop:
            try:
                name = name_of(key)
            except ValueError as error:
                raise self.damaged(
                    f"the name in the key {key!r} of a {kind} is broken: {error}"
                ) from error
            page.append((name, self._postings(finder, kind, name, True).last()))
            start = after_prefix(key[:-8])
        return page

    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        get = self._keys.get
        values = {name: get(b"m" + name.encode()) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def marks_from(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        start = max(b"m" + prefix.encode(), b"m" + after.encode() + b"\0" if after else b"")
        page: list[tuple[str, bytes]] = []
        if limit > 0:
            for key, value in self._keys.scan(start, after_prefix(b"m" + prefix.encode())):
                try:
                    page.append((key[1:].decode(), value))
                except UnicodeDecodeError as error:
                    raise self.damaged(f"the name of mark {key[1:]!r} is not UTF-8") from error
                if len(page) == limit:
                    break
        return page

    # --- reading ---

    def read_walk(
        self, walk: Walk, items: Sequence[QueryItem], limit: int, bytes_max: int
    ) -> tuple[list[bytes], int]:
        """The records on a sifted walk through these items, bounded as reads are, and the position reached.

        Each record is compared with what led there. Ends early after ``BLOCKS_READ_MAX`` blocks.
        """
        matches = matcher(items)
        records: list[bytes] = []
        last = size = blocks_read = 0
        address = b""
        block: blocks.Block | None = None
        for position in walk if limit > 0 else ():
            where, piece = _nearest(walk.places)
            if where != address:
                if blocks_read == blocks.BLOCKS_READ_MAX:
                    return records, last
                blocks_read += 1
                address, block = where, None
            if piece is not None:
                record = self._piece(address, piece, position)
            else:
                block = block or self._source.block_at(address)
                (record,) = self._between(block, position, position)
            names = decode_names(record)
            misplaced = names.position != position
            if misplaced or not matches(names.stream, names.type, names.tags):
                if misplaced or walk.sure:
                    raise self.damaged(f"position {position} does not match what led there")
                walk.rejected()
                last = position
                continue
            size += len(record)
            if records and size > bytes_max:
                return records, last
            records.append(record)
            last = position
            if len(records) == limit:
                return records, last
        return records, walk.reached

    def _piece(self, address: bytes, piece: Piece, position: int) -> bytes:
        offset, length, checksum = piece
        record = self._source.piece_at(address, offset, length)
        if crc32(record, position & 0xFFFFFFFF) != checksum:
            self._source.block_at(address)  # It raises by itself if the block is damaged.
            raise self.damaged(f"position {position} is not where it is said to be")
        return record

    def _between(self, block: blocks.Block, low: int, high: int) -> list[bytes]:
        if not block.first <= low <= high <= block.last:
            raise self.damaged(f"position {high} is not in the block it is said to be in")
        return [block.record(position) for position in range(low, high + 1)]


def _nearest(places: list[Any]) -> tuple[bytes, Piece | None]:
    """The address of the block that a walk found, and the piece of it, if any of these lists says that."""
    for found_in in places:
        piece: Piece | None = found_in.piece
        if piece is not None:
            return found_in.address, piece
    return places[0].address, None
