"""An ordered store of byte strings, which an index (index.py) lies in, and what its keys are made of.

Integers in keys are 8 bytes, big-endian, so that keys sort as numbers. Who implements it is below:
leveldb.py, and sqlite/keys.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

U64 = struct.Struct(">Q")
pack_u64 = U64.pack
unpack_u64 = U64.unpack

#: A key and its value; None deletes the key.
Entry = tuple[bytes, bytes | None]


class Finder(Protocol):
    """One look-up after another in what an ordered store holds when this is made.

    Each costs a fifth of a scan that ends with its first entry.
    """

    def at(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The first entry with this key or a greater one."""

    def before(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The last entry with a lesser key."""

    def step(self, backwards: bool) -> tuple[bytes, bytes] | None:
        """The entry next to the one found last; half the cost of finding it, or a quarter."""


class KeyValues(Protocol):
    """An ordered store of byte strings."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with ``start <= key < stop``, in order or in reverse."""

    def finder(self) -> Finder:
        """For many look-ups, until the next write."""


def after_prefix(prefix: bytes) -> bytes:
    """The least key greater than every key with this prefix (which does not end in ff)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
