"""A store in memory, for tests and for trying things. The template for new backends.

It does everything a backend must do, with the plainest data structures, and keeps nothing. To write
a backend, read contract.py, copy this file, put your engine in place of the lists and dicts, and
hold it to ``tests/backends/test_backends.py``.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from rewind.backends.contract import (
    SEEKS_MAX,
    AppendId,
    Backend,
    Commit,
    Found,
    Last,
    by_position,
    take,
)
from rewind.backends.matching import PositionList, Walk, find
from rewind.backends.verify import check_records
from rewind.errors import Behind
from rewind.events import Event, own_id_prefix
from rewind.query import NAME_KINDS, QueryItem, category_of


class MemoryBackend(Backend):
    """Records in a list, indexes in dicts. ``store_id``: one of its own if None."""

    scheme = "memory"
    durability = "memory"
    path: Path | None = None

    def __init__(self, store_id: uuid.UUID | None = None) -> None:
        self.store_id = store_id or uuid.uuid4()
        self._own_prefix = own_id_prefix(self.store_id)
        self._records: list[bytes] = []  # The record of position n is at index n - 1.
        self._last = Last(0, 0, 0)
        self._streams: dict[str, list[int]] = {}  # The position of version n is at index n - 1.
        self._names: list[bytes] = []  # The streams' names in UTF-8, sorted.
        self._ids: dict[bytes, int] = {}
        self._appends: dict[bytes, AppendId] = {}
        self._append_ids: list[AppendId] = []  # The same rows, in order of position.
        # Kind -> name in UTF-8 -> positions; and the sorted names of each kind.
        self._places: dict[str, dict[bytes, list[int]]] = {kind: {} for kind in NAME_KINDS}
        self._names_of: dict[str, list[bytes]] = {kind: [] for kind in NAME_KINDS}
        self._marks: dict[bytes, bytes] = {}  # They are sorted when they are listed.

    def last(self) -> Last:
        return self._last

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
        last = self._last
        if commit.after != last.position or commit.number != last.number + 1:
            raise Behind(last.position, last.number)
        time_ns = last.recorded_at_ns
        for record in commit.records:
            event = record.event
            if event.stream not in self._streams:
                self._streams[event.stream] = []
                insort(self._names, event.stream.encode())
            self._streams[event.stream].append(event.position)
            if not event.id_bytes.startswith(self._own_prefix):
                self._ids[event.id_bytes] = event.position
            self._add_places(event)
            self._records.append(record.encoded)
            time_ns = event.recorded_at_ns
        for row in commit.append_ids:
            self._appends[row[0]] = row
        self._append_ids += commit.append_ids
        for name, value in commit.marks.items():
            if value is None:
                self._marks.pop(name.encode(), None)
            else:
                self._marks[name.encode()] = value
        self._last = Last(len(self._records), time_ns, commit.number)

    def _add_places(self, event: Event) -> None:
        names = [("type", event.type), ("category", category_of(event.stream))]
        names += [("tag", tag) for tag in set(event.tags)]
        for kind, name in names:
            encoded = name.encode()
            if encoded not in self._places[kind]:
                self._places[kind][encoded] = []
                insort(self._names_of[kind], encoded)
            self._places[kind][encoded].append(event.position)

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
        page = _page(self._names, prefix, after or None, limit)
        return [(name, len(self._streams[name])) for name in page]

    def matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        backwards: bool = False,
        seeks_max: int = SEEKS_MAX,
    ) -> Found:
        until = min(until, len(self._records))
        return find(Walk(items, self._open_places, after, until, backwards, seeks_max), limit)

    def _open_places(self, kind: str, name: str, backwards: bool) -> PositionList:
        if kind == "stream":
            return PositionList(self._streams.get(name, []), backwards)
        return PositionList(self._places[kind].get(name.encode(), []), backwards)

    def names(self, kind: str, prefix: str, after: str | None, limit: int) -> list[tuple[str, int]]:
        page = _page(self._names_of[kind], prefix, after, limit)
        return [(name, self._places[kind][name.encode()][-1]) for name in page]

    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        found = {name: self._marks.get(name.encode()) for name in names}
        return {name: value for name, value in found.items() if value is not None}

    def marks_from(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        page = _page(sorted(self._marks), prefix, after or None, limit)
        return [(name, self._marks[name.encode()]) for name in page]

    def check(self) -> Iterator[str]:
        yield from check_records(self)

    def close(self) -> None:
        self._records.clear()


def _first_of(row: AppendId) -> int:
    return row[1]


def _page(names: list[bytes], prefix: str, after: str | None, limit: int) -> list[str]:
    """The names that begin with ``prefix`` and are greater than ``after``, at most ``limit``."""
    start = bisect_left(names, prefix.encode())
    if after is not None:
        start = max(start, bisect_right(names, after.encode()))
    page = []
    for encoded in names[start : start + max(limit, 0)]:
        name = encoded.decode()
        if not name.startswith(prefix):
            break
        page.append(name)
    return page
