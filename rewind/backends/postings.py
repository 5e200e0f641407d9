"""Postings: which events of a block have a type, a tag or a category.

::

    t <type> 00 00 <last position of the block>       -> posting
    g <tag> 00 00 <last position of the block>        -> posting
    k <category> 00 00 <last position of the block>   -> posting

    posting, of one event:    01 | back u16 | offset u16 | length u32 | crc32 u32
             of several:      00 | a bit for each position of the block, the last position's is bit 0

A name may hold any character: in keys 00 becomes 00 01, and 00 00 ends it, so that keys sort as names
do. Integers are big-endian. ``back`` counts from the last position of the block; offset, length and
checksum (seeded with the position) are the piece of the block that the event is. Verifying a piece of
300 bytes takes 0.3 us, a block of 16 KiB 6 us, and a tag has mostly one event in a block: so a hundred
scattered events are read without verifying a hundred blocks. With several the block is worth it, and a
thousand events of one type cost some ten bytes a block.

Where a block is follows from its last position; who keeps the blocks knows. Next: index.py.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from zlib import crc32

from rewind.backends import blocks
from rewind.backends.blocks import Piece
from rewind.backends.keys import U64, Entry, Finder, KeyValues, after_prefix, pack_u64
from rewind.errors import StoreDamaged
from rewind.events import Record

#: Kind of name -> the first letter of its keys.
LETTERS = {"type": "t", "tag": "g", "category": "k"}

# A list that is sought so often gets a finder of its own, which can step: to make one costs four look-ups.
SHARED_MAX = 4

_ONE = struct.Struct(">BHHII")  # A block of several records has less than 64 KiB.
_PIECE = struct.Struct(">HII")
_END = "\0\0"


def name_key(kind: str, name: str) -> bytes:
    """What the keys of a name begin with."""
    return (LETTERS[kind] + _escaped(name) + _END).encode()


def names_key(kind: str, prefix: str) -> bytes:
    """What the keys of all names with this prefix begin with."""
    return (LETTERS[kind] + _escaped(prefix)).encode()


def _escaped(name: str) -> str:
    return name.replace("\0", "\0\1") if "\0" in name else name


def name_of(key: bytes) -> str:
    """The name in a key. Raises ``ValueError`` when there is none, or it is not UTF-8."""
    if key[-10:-8] != b"\0\0":
        raise ValueError("the name does not end")
    return key[1:-10].decode().replace("\0\1", "\0")


def postings(records: Sequence[Record], last: int, checksums: dict[int, int]) -> list[Entry]:
    """The postings of one block, whose records these are. Each event costs a few dictionary look-ups.

    ``last``: the block's last position. Notes in ``checksums``, by position, those that it makes.
    """
    types: dict[str, int] = {}
    tags: dict[str, int] = {}
    categories: dict[str, int] = {}
    bit = 1 << len(records) >> 1
    for record in records:
        event = record.event
        stream, type = event.stream, event.type
        types[type] = types.get(type, 0) | bit
        dash = stream.find("-")  # This is ``category_of``, without a call for each event.
        category = stream[:dash] if dash > 0 else stream
        categories[category] = categories.get(category, 0) | bit
        for tag in event.tags:
            tags[tag] = tags.get(tag, 0) | bit
        bit >>= 1
    base = blocks.records_offset(len(records))
    offsets = list(accumulate([len(record.encoded) for record in records], initial=base))
    suffix = pack_u64(last)
    values: dict[int, bytes] = {}  # The tags of one event have the same.
    entries: list[Entry] = []
    for letter, masks in (("t", types), ("k", categories), ("g", tags)):
        for name, mask in masks.items():
            value = values.get(mask)
            if value is None:
                if mask & mask - 1:
                    value = mask.to_bytes(1 + (mask.bit_length() + 7 >> 3), "big")
                else:
                    back = mask.bit_length() - 1
                    encoded = records[~back].encoded
                    checksum = checksums[last - back] = crc32(encoded, last - back & 0xFFFFFFFF)
                    value = _ONE.pack(1, back, offsets[~back - 1], len(encoded), checksum)
                values[mask] = value
            if "\0" in name:
                name = _escaped(name)
            entries.append((f"{letter}{name}\0\0".encode() + suffix, value))
    return entries


class Postings:
    """The positions of the events of one type, tag or category, as ``Places`` (matching.py).

    ``finder``: one of these ``keys``, which others use as well.
    """

    #: How many places the last seek looked at.
    cost = 1

    def __init__(
        self,
        keys: KeyValues,
        finder: Finder,
        kind: str,
        name: str,
        backwards: bool,
        address_of: Callable[[int], bytes],
        damaged: Callable[[str], StoreDamaged],
    ) -> None:
        self._keys = keys
        self._finder = finder
        self._look_ups = 0
        self._address_of = address_of
        self._what = f"{kind} {name!r}"
        self._prefix = name_key(kind, name)
        self._backwards = backwards
        self._damaged = damaged
        self._value = b""
        # Where the walk is: the last position of a block, and which positions of it have the name.
        self._last = self._mask = 0

    def seek(self, position: int) -> int | None:
        within = self._down_to if self._backwards else self._up_from
        if place := within(position):
            return place
        self._look_ups += 1
        if self._look_ups == SHARED_MAX:
            self._finder = self._keys.finder()
        elif self._look_ups > SHARED_MAX:
            entry = self._finder.step(self._backwards)
            if entry is None or not self._take(entry):
                return None
            if place := within(position):
                return place
        entry = self._first_at(position)
        while entry and self._take(entry):
            if place := within(position):
                return place
            entry = self._finder.step(self._backwards)
        return None

    def _first_at(self, position: int) -> tuple[bytes, bytes] | None:
        """The first posting on the walk's way that may have this position."""
        key = self._prefix + pack_u64(position)
        entry = self._finder.at(key)
        if not self._backwards or (entry and entry[0].startswith(self._prefix)):
            return entry
        return self._finder.step(True) if entry else self._finder.before(key)

    def _up_from(self, position: int) -> int:
        """The first position from this one on in the block where the walk is, or 0."""
        back = self._last - position
        if back < 0:
            return 0
        length = self._mask.bit_length()
        if length > back:
            # It is not when the walk comes from far away, and then the number would have millions of bits.
            length = (self._mask & ((2 << back) - 1)).bit_length()
        return self._last - length + 1 if length else 0

    def _down_to(self, position: int) -> int:
        """The first position from this one down in the block where the walk is, or 0."""
        back = max(self._last - position, 0)
        rest = self._mask >> back
        return self._last - back - (rest & -rest).bit_length() + 1 if rest else 0

    def _take(self, entry: tuple[bytes, bytes]) -> bool:
        """Go to the block that a posting is of; False if that is of another name."""
        key, value = entry
        if not key.startswith(self._prefix):
            return False
        self._value = value
        try:
            self._last = U64.unpack_from(key, len(self._prefix))[0]
            if value[0] == 1:
                self._mask = 1 << _ONE.unpack(value)[1]
            elif value[0] == 0:
                self._mask = int.from_bytes(value, "big")
            else:
                raise ValueError("it has an unknown form")
            if self._mask.bit_length() > self._last:
                raise ValueError("it leads to where no position is")
        except (struct.error, IndexError, ValueError) as error:
            raise self._damaged(f"a posting of {self._what} is broken") from error
        return True

    @property
    def address(self) -> bytes:
        """The address of the block that the position found last is in."""
        return self._address_of(self._last)

    @property
    def piece(self) -> Piece | None:
        """Where in its block that position is, if the posting says so."""
        value = self._value
        return _PIECE.unpack_from(value, 3) if value[0] == 1 else None

    def last(self) -> int:
        """The last position that has the name; 0 if there is none."""
        entry = self._finder.before(after_prefix(self._prefix))
        return self._down_to(self._last) if entry and self._take(entry) else 0
