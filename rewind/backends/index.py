"""The index beside the records, as keys and values of an ordered store.

Used by the LevelDB backend and by the log backend, each with its own place for records::

    n <name>                         -> version            a stream and its length
    v <name> 00 <last version>       -> version, position, block, copy   a run of the stream: of its
                                        first event, the last position of the block it lies in, and,
                                        if it is short, its records once more, as a block (blocks.py)
    i <event id, 16 bytes>           -> position           ids chosen by clients; Rewind's own need none
    a <append id, 16 bytes>          -> first, last        positions of an append

Integers are 8 bytes, big-endian, so that keys sort as numbers. A run is events of one stream with
consecutive versions at consecutive positions within one block: an append of a thousand events to
one stream costs one entry a block. It names its block's key, so reading it is a look-up, which bloom
filters make cheap, and not a search. A name holds no control characters, so 00 ends it without doubt.

A stream that grows by an event now and then has each in another block. The copies keep such a stream
together: a hundred events are one scan, not a hundred blocks of 16 KiB. They cost their space once more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Protocol

from rewind.backends import blocks
from rewind.errors import StoreDamaged
from rewind.events import Record, decode_key

RUN_COPY_BYTES_MAX = 2 * 1024  # a longer run is worth a look-up of its block

_U64 = struct.Struct(">Q")
_PAIR = struct.Struct(">QQ")
_RUN = struct.Struct(">QQQ")
pack_u64 = _U64.pack


class KeyValues(Protocol):
    """An ordered store of byte strings."""

    def get(self, key: bytes) -> bytes | None:
        """The value, or None."""

    def scan(
        self, start: bytes, stop: bytes, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values with ``start <= key < stop``, in order or in reverse."""


class Index:
    """Finds versions, ids, names and runs."""

    def __init__(
        self,
        keys: KeyValues,
        own_prefix: bytes,
        damaged: Callable[[str], StoreDamaged] = StoreDamaged,
    ) -> None:
        self._keys = keys
        self._own_prefix = own_prefix
        self._damaged = damaged

    def entries(
        self,
        records: Sequence[Record],
        append_ids: Iterable[tuple[bytes, int, int]],
        ends: Iterable[int],
    ) -> list[tuple[bytes, bytes]]:
        """What one commit adds to the index. ``ends``: the last position of each of its blocks."""
        own_prefix = self._own_prefix
        added: list[tuple[bytes, bytes]] = []
        runs: dict[str, tuple[int, int, int, int]] = {}  # name -> version, position, length, block
        following = iter(ends)
        block = 0
        for record in records:
            event = record.event
            if event.position > block:
                block = next(following)
            run = runs.get(event.stream)
            if run is None:
                runs[event.stream] = (event.version, event.position, 1, block)
            elif event.position == run[1] + run[2] and block == run[3]:
                runs[event.stream] = (run[0], run[1], run[2] + 1, block)
            else:
                added.append(_run_entry(event.stream.encode(), run, records))
                runs[event.stream] = (event.version, event.position, 1, block)
            if not event.id_bytes.startswith(own_prefix):
                added.append((b"i" + event.id_bytes, pack_u64(event.position)))
        for stream, run in runs.items():
            name = stream.encode()
            added.append(_run_entry(name, run, records))
            added.append((b"n" + name, pack_u64(run[0] + run[2] - 1)))
        for append_id, first, last in append_ids:
            added.append((b"a" + append_id, _PAIR.pack(first, last)))
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

    def records(
        self,
        stream: str,
        after: int,
        until: int,
        backwards: bool,
        block_at: Callable[[int], blocks.Block],
    ) -> Iterator[bytes]:
        """Records by version. ``block_at`` finds the block with a last position.

        An index can mislead without being broken, so each record is compared. Ends early when so
        many blocks were looked into that a reader had better go on from there.
        """
        until = min(until, self.versions([stream]).get(stream, 0))
        wanted = iter(range(until, after, -1) if backwards else range(after + 1, until + 1))
        looked = 0
        held: blocks.Block | None = None
        for first_version, last_version, first_position, block_last, copy in self._runs(
            stream, after, until, backwards
        ):
            low = max(after + 1 - first_version, 0) + first_position
            high = min(until, last_version) - first_version + first_position
            if copy:
                block = self._copy(copy, first_position + last_version - first_version)
            else:
                if held is None or held.last != block_last:
                    if looked == blocks.BLOCKS_READ_MAX:
                        return
                    held = block_at(block_last)
                    looked += 1
                block = held
            if not block.first <= low <= high <= block.last:
                raise self._damaged(f"stream {stream!r} leads beyond a block, to position {high}")
            for position in range(high, low - 1, -1) if backwards else range(low, high + 1):
                record = block.record(position)
                key = decode_key(record)
                if key.version != next(wanted, None) or key.stream != stream:
                    raise self._damaged(f"stream {stream!r} leads to position {position}")
                yield record
        if (lacking := next(wanted, None)) is not None:
            raise self._damaged(f"stream {stream!r} lacks version {lacking}")

    def _copy(self, copy: bytes, last: int) -> blocks.Block:
        try:
            return blocks.decode(copy, last)
        except StoreDamaged as damage:
            raise self._damaged(str(damage)) from damage

    def _runs(
        self, stream: str, after: int, until: int, backwards: bool
    ) -> Iterator[tuple[int, int, int, int, bytes]]:
        """The runs that overlap the range: first and last version, first position, the last position
        of their block, and their copy or nothing."""
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
            version, position, block = _RUN.unpack_from(value)
            last_version = _U64.unpack_from(key, len(prefix))[0]
            if version > until or last_version <= after:
                return
            yield version, last_version, position, block, value[_RUN.size :]


def _run_entry(
    name: bytes, run: tuple[int, int, int, int], records: Sequence[Record]
) -> tuple[bytes, bytes]:
    version, position, length, block = run
    key = b"v" + name + b"\0" + pack_u64(version + length - 1)
    value = _RUN.pack(version, position, block)
    index = position - records[0].event.position
    copied = records[index : index + length]
    if sum([len(record.encoded) for record in copied]) <= RUN_COPY_BYTES_MAX:
        value += blocks.encode(copied)
    return key, value


def after_prefix(prefix: bytes) -> bytes:
    """The least key greater than every key with this prefix (which does not end in ff)."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
