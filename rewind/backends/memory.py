"""A store in memory, for tests and for trying things. The template for new backends.

It does everything a backend must do, with the plainest data structures, and keeps nothing. To write
a backend, read contract.py, copy this file, put your engine in place of the lists and dicts, and
hold it to ``tests/backends/test_backends.py``.
"""

from __future__ import annotations

import uuid
from bisect import bisect_right, insort
from collections.abc import Collection, Iterator
from pathlib import Path

from rewind.backends.contract import AppendId, Backend, Commit, by_position, take
from rewind.backends.verify import check_records
from rewind.errors import Behind
from rewind.events import own_id_prefix


class MemoryBackend(Backend):
    """Records in a list, indexes in dicts. ``store_id``: one of its own if None."""

    scheme = "memory"
    durability = "memory"
    path: Path | None = None

    def __init__(self, store_id: uuid.UUID | None = None) -> None:
        self.store_id = store_id or uuid.uuid4()
        self._own_prefix = own_id_prefix(self.store_id)
        self._records: list[bytes] = []  # The record of position n is at index n - 1.
        self._last_time_ns = 0
        self._streams: dict[str, list[int]] = {}  # The position of version n is at index n - 1.
        self._names: list[bytes] = []  # The streams' names in UTF-8, sorted.
        self._ids: dict[bytes, int] = {}
        self._appends: dict[bytes, AppendId] = {}
        self._append_ids: list[AppendId] = []  # The same rows, in order of position.

    def last(self) -> tuple[int, int]:
        return len(self._records), self._last_time_ns

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        return {name: len(self._streams[name]) for name in streams if name in self._streams}

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        return {id: self._ids[id] for id in ids if id in self._ids}

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        return {id: self._appends[id][1:] for id in append_ids if id in self._appends}

    def append_ids(self, after: int, until: int) -> list[AppendId]:
        rows = self._append_ids
        start, stop = (bisect_right(rows, number, key=_first_of) for number in (after, until))
        return by_position(row for row in rows[start:stop] if row[2] <= until)

    def commit(self, commit: Commit) -> None:
        if commit.after != len(self._records):
            raise Behind(len(self._records))
        for record in commit.records:
            event = record.event
            if event.stream not in self._streams:
                self._streams[event.stream] = []
                insort(self._names, event.stream.encode())
            self._streams[event.stream].append(event.position)
            if not event.id_bytes.startswith(self._own_prefix):
                self._ids[event.id_bytes] = event.position
            self._records.append(record.encoded)
            self._last_time_ns = event.recorded_at_ns
        for row in commit.append_ids:
            self._appends[row[0]] = row
        self._append_ids += commit.append_ids

    def settle(self) -> None:
        pass  # A commit leaves nothing to do.

    def read(
        self, after: int, until: int, limit: int, bytes_max: int, backwards: bool = False
    ) -> list[bytes]:
        indexes = range(after, min(until, len(self._records)))
        ordered = reversed(indexes) if backwards else indexes
        return take((self._records[index] for index in ordered), limit, bytes_max)

    def chunk(self, after: int, until: int, limit: int, bytes_max: int) -> tuple[int, list[bytes]]:
        records = self.read(after, until, limit, bytes_max)
        return len(records), records

    def read_stream(
        self,
        stream: str,
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> list[bytes]:
        positions = self._streams.get(stream, [])
        indexes = range(after, min(until, len(positions)))
        ordered = reversed(indexes) if backwards else indexes
        return take((self._records[positions[index] - 1] for index in ordered), limit, bytes_max)

    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        start = max(bisect_right(self._names, after.encode()), _first(self._names, prefix))
        page: list[tuple[str, int]] = []
        for encoded in self._names[start : start + limit]:
            name = encoded.decode()
            if not name.startswith(prefix):
                break
            page.append((name, len(self._streams[name])))
        return page

    def check(self) -> Iterator[str]:
        yield from check_records(self)

    def close(self) -> None:
        self._records.clear()


def _first_of(row: AppendId) -> int:
    return row[1]


def _first(names: list[bytes], prefix: str) -> int:
    """The index of the first name that is not below ``prefix``."""
    encoded = prefix.encode()
    index = bisect_right(names, encoded)
    return index - 1 if index and names[index - 1] == encoded else index
