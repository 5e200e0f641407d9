"""The storage contract: what a backend promises to the store above it.

A backend stores records and finds them again. It decides nothing: expected versions,
retries, conflicts, positions and times are settled above it, in store/.

To add one: copy memory.py, the smallest, give it a scheme in opening.py, and run
``tests/backends/test_backends.py``, which holds every backend to the same contract. A backend that
keeps files takes a ``Directory`` (directory.py): its identity, lock and synced entries. One whose
records lie in blocks beside an index (blocks.py, index.py) is a ``BlockBackend``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec

from rewind.events import Record
from rewind.query import QueryItem

#: Append id, and the first and last position of its events.
AppendId = tuple[bytes, int, int]
AppendIds = Sequence[AppendId]

# A query looks at so many places of the index; 1,024 names are looked at once each. Lists that never meet
# take 4 ms of CPU for it in LevelDB, 8 ms backwards and in SQLite; 1,024 names in 32 items twice as much.
SEEKS_MAX = 1_100


class Last(NamedTuple):
    """How far a store is: its head, ``recorded_at_ns`` of the event there, and the number of its last
    commit. All are 0 for an empty store."""

    position: int
    recorded_at_ns: int
    number: int


class Commit(msgspec.Struct, frozen=True, gc=False):
    """What a backend makes durable at once, all or nothing: records, or marks, or both.

    ``number``: one more than the last commit's. ``after``: the head this was planned on, 0 for an empty
    store. ``records``: at the positions from ``after + 1`` on, without a hole. ``append_ids``: in order
    of position, of appends whose events are all among the records; two ids may stand for the same
    events. ``marks``: name -> new value, None where it is deleted.
    """

    number: int
    after: int
    records: Sequence[Record]
    append_ids: AppendIds = ()
    marks: Mapping[str, bytes | None] = {}

    def __post_init__(self) -> None:
        # Only the ends are compared: every commit comes this way, and whoever numbers records counts up.
        after, records, append_ids = self.after, self.records, self.append_ids
        last = after + len(records)
        assert self.number > 0, "commits are numbered from 1"
        assert records or self.marks, "a commit has records or marks"
        assert not records or records[0].event.position == after + 1, "it begins after its head"
        assert not records or records[-1].event.position == last, "its positions have no hole"
        assert not append_ids or (after < append_ids[0][1] and append_ids[-1][2] <= last)


class Found(NamedTuple):
    """Positions of events that match a query, in order, and how far it was looked for them.

    Everything up to the position ``reached`` was looked at, or, backwards, down to it.
    """

    positions: list[int]
    reached: int


class Backend(Protocol):
    """What the store asks of a backend. One thread at a time calls it.

    Positions and versions count from 1; a range is ``after < n <= until``. Any method may raise
    ``StoreFailed`` (the disk failed) or ``StoreDamaged`` (bytes are not what was written).
    """

    scheme: str
    #: What it means that an append is acknowledged: ``fsync`` or ``memory``.
    durability: str
    store_id: UUID
    #: True if the store was opened to be read: then ``commit`` must not be called.
    read_only: bool = False
    #: The directory whose file system must have room; None if there are no files.
    path: Path | None

    @abstractmethod
    def last(self) -> Last:
        """The head, its time, and the number of the last commit."""

    @abstractmethod
    def versions(self, streams: Collection[str]) -> dict[str, int]:
        """The version of each of these streams; those that do not exist may be left out."""

    @abstractmethod
    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        """Where the events with these client-chosen ids are; unknown ids are left out."""

    @abstractmethod
    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        """First and last position of these appends; unknown append ids are left out."""

    @abstractmethod
    def append_ids(self, after: int, until: int) -> list[AppendId]:
        """The append ids whose events all lie in ``after < position <= until``, in order of position.

        Ids of the same events are in the order of their bytes. A range may hold as many as it has
        positions, so a caller bounds it. A backend without an index by position looks at every
        append id it has, and its docstring says how long that takes.
        """

    @abstractmethod
    def commit(self, commit: Commit) -> None:
        """Store its records, append ids and marks: all or nothing, durable on return.

        Raises ``Behind`` when the head is not ``commit.after``, or the last commit's number not the one
        before ``commit.number``. After ``StoreFailed`` the backend must not be used again, only closed.
        """

    def confirm(self) -> None:
        """Raise ``StoreFailed`` when its files are not where they were opened; a few microseconds."""

    @abstractmethod
    def settle(self) -> None:
        """Do what an acknowledgement need not wait for, once the commit is acknowledged.

        Every other method sees a commit whole without it.
        """

    @abstractmethod
    def read(
        self, after: int, until: int, limit: int, bytes_max: int, backwards: bool = False
    ) -> list[bytes]:
        """Records by position, exact bytes; ``backwards`` starts at ``until`` and goes down.

        Stops at ``limit`` records, or before ``bytes_max`` would be passed (never before the first).
        """

    @abstractmethod
    def chunk(self, after: int, until: int, limit: int, bytes_max: int) -> tuple[int, list[bytes]]:
        """How many records ``read`` would return, and their bytes, in pieces of any number of records.

        This takes less work where records lie side by side.
        """

    @abstractmethod
    def read_stream(
        self,
        stream: str,
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> list[bytes]:
        """Records by the versions of one stream, bounded and in the order as ``read`` has them.

        May end before a bound is reached, when much was looked at, but not without a record.
        """

    @abstractmethod
    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        """Names that begin with ``prefix`` and are greater than ``after``, with versions.

        At most ``limit``, in the order of their UTF-8.
        """

    @abstractmethod
    def matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        backwards: bool = False,
        seeks_max: int = SEEKS_MAX,
    ) -> Found:
        """Positions of events that match any of these items, ``after < position <= until``, from the
        index: exact, in order, at most ``limit``; ``backwards`` starts at ``until``.

        Ends early when about ``seeks_max`` places of the index were looked at, but never without any
        progress: what it reached then is not the end of the range. See matching.py.
        """

    def read_matching(
        self,
        items: Sequence[QueryItem],
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> tuple[list[bytes], int]:
        """The records of what ``matching`` finds, bounded as ``read`` is, and the position reached.

        Where more was found than taken, that is the position of the last record.
        """
        found = self.matching(items, after, until, limit, backwards)
        records = take(
            (self.read(position - 1, position, 1, 1)[0] for position in found.positions),
            limit,
            bytes_max,
        )
        whole = len(records) == len(found.positions)
        return records, found.reached if whole else found.positions[len(records) - 1]

    @abstractmethod
    def names(self, kind: str, prefix: str, after: str | None, limit: int) -> list[tuple[str, int]]:
        """Types, tags or categories, by ``kind`` (``NAME_KINDS`` of query.py), that begin with ``prefix`` and are
        greater than ``after``, each with the last position that has it.

        At most ``limit``, in the order of their UTF-8. A type may be empty: None, and not an empty text,
        is less than every name.
        """

    @abstractmethod
    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        """The values of these marks; those that do not exist are left out."""

    @abstractmethod
    def marks_from(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        """Marks whose name begins with ``prefix`` and is greater than ``after``, with their values.

        At most ``limit``, in the order of the names' UTF-8.
        """

    @abstractmethod
    def check(self) -> Iterator[str]:
        """Read everything, and yield a line for each thing that is not as it must be."""

    @abstractmethod
    def close(self) -> None:
        """Release files and locks, also after a failure, whose commit is not tried again.

        Everything acknowledged is durable already.
        """


def by_position(append_ids: Iterable[AppendId]) -> list[AppendId]:
    """In the order that ``Backend.append_ids`` promises."""
    return sorted(append_ids, key=lambda row: (row[1], row[2], row[0]))


def take(records: Iterable[bytes], limit: int, bytes_max: int) -> list[bytes]:
    """The first records within both bounds; at least one if there is any, unless ``limit`` is 0."""
    taken: list[bytes] = []
    size = 0
    if limit <= 0:
        return taken
    for record in records:
        size += len(record)
        if taken and size > bytes_max:
            break
        taken.append(record)
        if len(taken) == limit:
            break
    return taken
