"""Runs: where the events of a stream are.

::

    v <name> 00 <last version>  -> version, position, piece, address
                                                      a run of the stream: version and position of its
                                                      first event, the piece (below) of a run of one,
                                                      and the address of the block that the run is in

Integers are 8 bytes, big-endian, so that keys sort as numbers. A run is events of one stream with
consecutive versions at consecutive positions within one block: an append of a thousand events to
one stream costs one entry a block. A name holds no control characters, so 00 ends it without doubt.

A stream that grows by an event now and then has each event in another block. So a run of one event
says which piece of its block the event is: offset, length and checksum (crc32, seeded with the
position), 4 bytes each. A hundred such events are a hundred look-ups, none of which verifies 16 KiB.

Next: postings.py, which has types, tags and categories; index.py reads through both.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from zlib import crc32

from rewind.backends import blocks
from rewind.backends.blocks import Piece
from rewind.backends.keys import U64, Entry, Finder, KeyValues, after_prefix, pack_u64
from rewind.errors import StoreDamaged
from rewind.events import Record

_RUN = struct.Struct(">QQIII")

# A run is first version, last version, first position; offset, length and checksum of its piece, where
# a length of 0 means several events; address of the block. A plain tuple is the fastest to make.
Run = tuple[int, int, int, int, int, int, bytes]


def run_entries(
    records: Sequence[Record], address: bytes, checksums: dict[int, int], versions: dict[str, int]
) -> list[Entry]:
    """The runs of one block, whose records these are. Notes the last version of each stream."""
    entries: list[Entry] = []
    # Each stream's last run, which the next record may continue: its first record, how many records,
    # the offset of the first.
    runs: dict[str, tuple[Record, int, int]] = {}
    offset = blocks.records_offset(len(records))
    for record in records:
        event = record.event
        run = runs.get(event.stream)
        if run is not None:
            first, count, first_offset = run
            if event.position == first.event.position + count:
                runs[event.stream] = (first, count + 1, first_offset)
                offset += len(record.encoded)
                continue
            entries.append(_run_entry(run, address, checksums))
        runs[event.stream] = (record, 1, offset)
        offset += len(record.encoded)
    for stream, run in runs.items():
        entries.append(_run_entry(run, address, checksums))
        versions[stream] = run[0].event.version + run[1] - 1
    return entries


def _run_entry(run: tuple[Record, int, int], address: bytes, checksums: Mapping[int, int]) -> Entry:
    record, count, offset = run
    event = record.event
    position = event.position
    length = checksum = 0
    if count == 1:
        length = len(record.encoded)
        checksum = checksums.get(position) or crc32(record.encoded, position & 0xFFFFFFFF)
    key = b"v" + event.stream.encode() + b"\0" + pack_u64(event.version + count - 1)
    return key, _RUN.pack(event.version, position, offset, length, checksum) + address


def runs(
    keys: KeyValues,
    stream: str,
    after: int,
    until: int,
    backwards: bool,
    damaged: Callable[[str], StoreDamaged],
) -> Iterator[Run]:
    """The runs of a stream that overlap ``after < version <= until``."""
    if after >= until:
        return
    prefix = b"v" + stream.encode() + b"\0"
    start, stop = prefix + pack_u64(after + 1), after_prefix(prefix)
    if backwards:
        # The key of a run is its last version: the run with `until` in it may end beyond.
        for key, _ in keys.scan(prefix + pack_u64(until), stop):
            stop = key + b"\0"
            break
    for key, value in keys.scan(start, stop, backwards):
        run = _run_of(key, value, len(prefix), stream, damaged)
        if run[0] > until or run[1] <= after:
            return
        yield run


def _run_of(
    key: bytes, value: bytes, prefix: int, stream: str, damaged: Callable[[str], StoreDamaged]
) -> Run:
    """The run that an entry is. ``prefix``: so much of its key is in front of the version."""
    try:
        version, first, offset, length, checksum = _RUN.unpack_from(value)
        last_version = U64.unpack_from(key, prefix)[0]
    except struct.error as error:
        raise damaged(f"a run of stream {stream!r} is cut short") from error
    return version, last_version, first, offset, length, checksum, value[_RUN.size :]


class StreamPlaces:
    """The positions of the events of one stream, as ``Places`` (matching.py).

    Its runs are sorted by version, and positions grow with versions: the version at a position is
    searched for, by turns next to where the walk is, where it would be if the stream grew evenly, and
    in the middle. ``version``: its last. ``cost``: how many places the last seek looked at.
    """

    def __init__(
        self,
        finder: Finder,
        stream: str,
        version: int,
        backwards: bool,
        damaged: Callable[[str], StoreDamaged],
    ) -> None:
        self._finder = finder
        self._stream = stream
        self._prefix = b"v" + stream.encode() + b"\0"
        self._damaged = damaged
        self.cost = 1
        self._backwards = backwards
        self._run: Run | None = None  # The walk is in it.
        # A version in front of what is sought, and one behind it, each with its position, if that is known.
        self._low = 0, 0
        self._high: tuple[int, int | None] = version + 1, None

    def seek(self, position: int) -> int | None:
        backwards = self._backwards
        self.cost = 1
        if self._run is not None:
            first, end = self._run[2], _end_of(self._run)
            if backwards and first > position:
                self._high = self._run[0], first
            elif not backwards and end < position:
                self._low = self._run[1], end
            else:
                return min(position, end) if backwards else max(position, first)
        self._run = self._search(position + 1 if backwards else position)
        if self._run is None:
            return None
        return min(position, _end_of(self._run)) if backwards else max(position, self._run[2])

    def _search(self, position: int) -> Run | None:
        """The run with the first version at this position or behind it; backwards, that in front of it."""
        (low, low_position), (high, high_position) = self._low, self._high
        low_run: Run | None = None
        high_run: Run | None = None
        turn = 0
        while high - low > 1:
            if turn == 0 and not self._backwards:
                guess = low + 1
            elif turn == 0 or high_position is None:
                guess = high - 1
            elif turn % 2:
                span = high_position - low_position
                guess = low + (position - low_position) * (high - low) // max(span, 1)
            else:
                guess = (low + high) // 2
            turn += 1
            self.cost += 1
            run = self._run_at(min(max(guess, low + 1), high - 1))
            version, last_version, first, *_ = run
            if (end := _end_of(run)) < position:
                low, low_position, low_run = last_version, end, run
            elif first >= position:
                high, high_position, high_run = version, first, run
            else:
                return run
        return low_run if self._backwards else high_run

    def _run_at(self, version: int) -> Run:
        """The run with this version in it."""
        entry = self._finder.at(self._prefix + pack_u64(version))
        if entry and entry[0].startswith(self._prefix):
            run = _run_of(*entry, len(self._prefix), self._stream, self._damaged)
            if run[0] <= version:
                return run
        raise self._damaged(f"stream {self._stream!r} lacks version {version}")

    @property
    def address(self) -> bytes:
        """The address of the block that the position found last is in."""
        assert self._run is not None, "a position was found"
        return self._run[6]

    @property
    def piece(self) -> Piece | None:
        """Where in its block that position is, if the run says so."""
        assert self._run is not None, "a position was found"
        return self._run[3:6] if self._run[4] else None


def _end_of(run: Run) -> int:
    """The position of the last event of a run."""
    return run[2] + run[1] - run[0]
