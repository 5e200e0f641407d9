"""The store: the rules of appending and of reading, above any backend.

``Store`` gathers what a plan has to know, commits what was planned, says what became durable, and
answers reads. The rules themselves are functions: plan.py (what becomes of appends), reading.py
(a page of a read), space.py (whether there is room).

Not here: frames (wire/), sockets (daemon/), files (backends/). Next: plan.py.
"""

from __future__ import annotations

import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence

from rewind.backends import Backend, Commit
from rewind.backends.contract import Found
from rewind.errors import (
    BadRequest,
    Behind,
    Forbidden,
    Internal,
    RequestError,
    StorageFull,
    StoreDamaged,
    UnknownEvent,
)
from rewind.events import (
    INT_MAX,
    Append,
    Appended,
    Event,
    Record,
    array_of,
    decode_event,
    decode_key,
    join_records,
    own_id_position,
    own_id_prefix,
)
from rewind.query import QueryItem
from rewind.store.conditions import CONDITION_SEEKS_MAX, RecentEvents
from rewind.store.cursors import MARK, Cursor, decode_cursor, lagging, mark_of
from rewind.store.plan import Facts, Plan, plan
from rewind.store.reading import number_of, read_page
from rewind.store.space import RecentFreeBytes, refusal_if_full
from rewind.store.troubles import Troubles
from rewind.wire.native import Read
from rewind.wire.replies import ReadAnswer

__all__ = ["Cursor", "Store"]

VERSIONS_CACHED = 65_536  # 10 MB: the version of a stream written often is known without asking
PLAN_TRIES = 3  # a backend that is ahead says so at once; after three it does not keep still
CATCH_UP_EVENTS = 1_000  # a page of what another committed takes a few milliseconds
CATCH_UP_BYTES = 4 * 1024 * 1024
NAMES_PAGE_MAX = 500  # Each name is two seeks in the index: 5 ms, in which no append is committed.
CONFIRM_S = 1.0  # For so long at most are appends acknowledged whose files were deleted.


class Store:
    """A backend with the rules above it. One thread at a time.

    ``head``: the last position that is known to be durable. ``clock``:
    nanoseconds UTC. ``free_bytes``: the room where a path is, None if unknown.
    """

    def __init__(
        self,
        backend: Backend,
        *,
        clock: Callable[[], int] = time.time_ns,
        free_bytes: Callable[[os.PathLike[str]], int | None] | None = None,
    ) -> None:
        self.backend = backend
        self.id = backend.store_id
        self.durability = backend.durability
        self.own_prefix = own_id_prefix(backend.store_id)
        self.head, self._last_time_ns, self._number = backend.last()
        self._clock = clock
        self._free_bytes = free_bytes or RecentFreeBytes()
        #: Streams that were written lately have their versions here.
        self._versions: OrderedDict[str, int] = OrderedDict()
        self._recent: RecentEvents | None = None  # There is none while no conditions are asked.
        self._troubles = Troubles()
        self._confirm_s = 0.0  # The files are to be looked at again then.
        self._news: list[Record] = []  # They are durable, and append has not returned them.

    # Appending

    def append(
        self, appends: Sequence[Append]
    ) -> tuple[list[Appended | RequestError], list[Record]]:
        """Make these appends durable in one commit.

        Returns how each ended, in their order, and every record that became durable since the last
        call, in order of position: those that another planned first. An append that needs what is
        damaged is refused with ``Internal``, alone; every append to a store that was opened read-only
        with ``Forbidden``. Raises a ``StoreError`` when the commit failed: then nothing may be
        acknowledged, and the process must end.
        """
        if self.backend.read_only:
            refused = Forbidden("the store was opened read-only: open it without that to append")
            return [refused] * len(appends), []
        self._confirm_now_and_then()
        outcomes = self._commit(appends)
        records, self._news = self._news, []
        return outcomes, records

    def _commit(self, appends: Sequence[Append]) -> list[Appended | RequestError]:
        for _ in range(PLAN_TRIES):
            try:
                facts = self._facts(appends)
            except StoreDamaged as met:
                return self._commit_others(appends, met)
            now_ns = self._clock()
            planned = plan(appends, facts, now_ns, self.durability)
            if planned.refused and self.backend.last().number > self._number:
                self._catch_up()  # What another has committed may be all that it was refused for.
                continue
            for damage in planned.damages:
                self.refusal(damage)
            if not planned.records and not planned.marks:
                return planned.outcomes
            if (full := self._full(planned)) is not None:
                outcomes = [self._alone(append, facts, full) for append in appends]
                self._troubles.refused_full(outcomes, now_ns)
                return outcomes
            try:
                self.backend.commit(
                    Commit(
                        self._number + 1,
                        self.head,
                        planned.records,
                        planned.append_ids,
                        planned.marks,
                    )
                )
            except Behind:
                self._catch_up()
                continue
            self._troubles.look(now_ns, self._last_time_ns)
            if planned.records:
                self._advance(planned.records)
            self._number += 1
            return planned.outcomes
        raise StoreDamaged(
            "the backend's head changed under every plan: is it shared with another?"
        )

    def _commit_others(
        self, appends: Sequence[Append], met: StoreDamaged
    ) -> list[Appended | RequestError]:
        """Refuse the appends that need what is damaged, and commit the others.

        ``met``: what looking everything up at once has met.
        """
        refusals: dict[int, RequestError] = {}
        for index, append in enumerate(appends):
            try:
                self._facts([append])
            except StoreDamaged as own:
                refusals[index] = self.refusal(own)
        if not refusals:  # The second look found nothing, which makes the disk no better.
            refusals = dict.fromkeys(range(len(appends)), self.refusal(met))
        others = [append for index, append in enumerate(appends) if index not in refusals]
        outcomes = iter(self._commit(others))
        return [refusals.get(index) or next(outcomes) for index in range(len(appends))]

    def refusal(self, damage: StoreDamaged) -> Internal:
        """How a request is refused that has met damage, which is logged the first time."""
        return self._troubles.refusal(damage)

    def _catch_up(self) -> None:
        """Take in what another planned and committed.

        All of it is in memory until ``append`` returns it, so a store must not be far behind: a
        backend shared with others has to bound that.
        """
        head, _, number = self.backend.last()
        assert head >= self.head and number >= self._number, "a head only grows"
        while self.head < head:
            page = self.backend.read(self.head, head, CATCH_UP_EVENTS, CATCH_UP_BYTES)
            self._advance([Record(decode_event(encoded), encoded) for encoded in page])
        self._number = number

    def _advance(self, records: list[Record]) -> None:
        """Take in records that are durable now: the head, the streams' versions, the news."""
        first, last = records[0].event, records[-1].event
        assert first.position == self.head + 1 and last.position == self.head + len(records)
        self.head, self._last_time_ns = last.position, last.recorded_at_ns
        self._news += records
        versions = self._versions
        for record in records:
            stream = record.event.stream
            versions[stream] = record.event.version
            versions.move_to_end(stream)
        while len(versions) > VERSIONS_CACHED:
            versions.popitem(last=False)
        if self._recent is not None and not self._recent.add(records):
            self._recent = None

    def settle(self) -> None:
        """Do what acknowledgements need not wait for. Raises ``StoreFailed`` as ``append`` does."""
        self.backend.settle()
        self._confirm_now_and_then()

    def due_s(self) -> float | None:
        """When ``settle`` has something to do even if nothing was appended; None: never."""
        return None if self.backend.path is None else self._confirm_s

    def _confirm_now_and_then(self) -> None:
        """Raise ``StoreFailed`` when the files are gone; they are looked at every CONFIRM_S."""
        if (now_s := time.monotonic()) >= self._confirm_s:
            self.backend.confirm()
            self._confirm_s = now_s + CONFIRM_S

    def _full(self, planned: Plan) -> StorageFull | None:
        """The refusal if what was planned might not fit; None if it does."""
        path = self.backend.path
        if path is None:
            return None
        size = sum(len(record.encoded) for record in planned.records)
        size += sum(len(name) + len(value or b"") for name, value in planned.marks.items())
        return refusal_if_full(size, path, self._free_bytes(path))

    def _alone(self, append: Append, facts: Facts, full: StorageFull) -> Appended | RequestError:
        """The outcome of an append when nothing of its batch is stored."""
        planned = plan([append], facts, 0, self.durability)
        if planned.records or planned.marks:
            return full
        outcome = planned.outcomes[0]
        # A position beyond the head, in an id or a condition, may be one that an append in front of this
        # one was to fill.
        return full if isinstance(outcome, BadRequest) else outcome

    def _facts(self, appends: Sequence[Append]) -> Facts:
        """Ask the backend everything a plan needs, each kind at once."""
        backend = self.backend
        streams = {event.stream for append in appends for event in append.events}
        streams.update(stream for append in appends for stream in append.expected)
        append_ids = {append.id for append in appends if append.id is not None}
        ids = {event.id for append in appends for event in append.events if event.id is not None}
        cursors = {name for append in appends if append.cursors for name in append.cursors}
        return Facts(
            self.head,
            self._last_time_ns,
            self.own_prefix,
            self._versions_of(streams),
            backend.appends(append_ids) if append_ids else {},
            backend.positions(ids) if ids else {},
            self._stored,
            self._positions_of(cursors) if cursors else {},
            self._first_match,
        )

    def _positions_of(self, cursors: set[str]) -> dict[str, int]:
        """The position of each of these cursors that exists."""
        marks = self.backend.marks([mark_of(name) for name in cursors])
        values = {mark.removeprefix(MARK): value for mark, value in marks.items()}
        return {name: decode_cursor(name, value)[0] for name, value in values.items()}

    def _first_match(self, items: Sequence[QueryItem], after: int) -> Found:
        """The first event behind a position that matches, up to the head."""
        if self._recent is None:
            self._recent = RecentEvents(self.head)
        found = self._recent.first(items, after)
        if found is None:
            found = self.backend.matching(items, after, self.head, 1, seeks_max=CONDITION_SEEKS_MAX)
        return found

    def _stored(self, first: int, last: int) -> list[Event]:
        """The events from a first to a last position, which the backend named."""
        return [decode_event(record) for record in self._records(first, last)]

    def _records(self, first: int, last: int) -> list[bytes]:
        self._check_named(first, last)
        return self.backend.read(first - 1, last, last - first + 1, INT_MAX)

    def _check_named(self, first: int, last: int) -> None:
        head = self.backend.last().position
        if not 0 < first <= last <= head:
            raise StoreDamaged(
                f"an id leads to positions {first} to {last}, but the head is {head}"
            )

    def _versions_of(self, streams: set[str]) -> dict[str, int]:
        """The version of each of these streams; 0 where there is none."""
        cache = self._versions
        versions = {stream: cache[stream] for stream in streams if stream in cache}
        missing = streams - versions.keys()
        if missing:
            versions.update(dict.fromkeys(missing, 0))
            versions.update(self.backend.versions(missing))
        return versions

    # Reading

    def read(self, read: Read, head: int | None = None) -> ReadAnswer:
        """One bounded page. Raises ``StoreDamaged``, and ``UnknownEvent`` for an id nobody has.

        ``head``: as of which a range is read, when the store was there; None: as it is now. Damage is
        that read's alone: ``refusal`` is what to answer.
        """
        if read.id is not None:
            chunk = join_records([self.record_of(read.id)])
            return ReadAnswer(1, chunk, self.head, self.head, True, True, None)
        if read.append_id is not None:
            return self._read_append(read.append_id)
        head = self.head if head is None else head
        version = None if read.stream is None else self._version_at(read.stream, head)
        return read_page(self.backend, read, head, version)

    def _version_at(self, stream: str, head: int) -> int:
        """How many events the stream had when the store was at ``head``."""
        if head == self.head:
            return self.version(stream)
        item = QueryItem(streams=(stream,))
        last = self.backend.matching((item,), 0, head, 1, backwards=True).positions
        return decode_key(self.record_at(last[0])).version if last else 0

    def _read_append(self, append_id: bytes) -> ReadAnswer:
        """The events stored under an append id, or none."""
        span = self.backend.appends([append_id]).get(append_id)
        if span is None:
            return ReadAnswer(0, array_of(0, ()), self.head, self.head, True, True, None)
        first, last = span
        records = self._records(first, last)
        keys = [decode_key(record) for record in records]
        own_ids = tuple(key.id_bytes for key in keys)
        if not all(id.startswith(self.own_prefix) for id in own_ids):
            own_ids = ()
        versions = {key.stream: key.version for key in keys}
        appended = Appended(first, last, own_ids, versions, True, self.durability)
        chunk = join_records(records)
        return ReadAnswer(
            len(records), chunk, self.head, self.head, True, True, None, appended=appended
        )

    def range_between(
        self, after_id: bytes | None, until_id: bytes | None, stream: str | None = None
    ) -> tuple[int, int]:
        """The range ``after < number <= until`` between two ids: positions, or versions of a stream.

        None stands for the start and the end. Raises ``UnknownEvent`` for an id nobody has, or that
        is of another stream, and ``BadRequest`` when ``after_id`` is later than ``until_id``.
        """
        after = 0 if after_id is None else self._number_of(after_id, stream)
        if until_id is None:
            return after, self.head if stream is None else self.version(stream)
        until = self._number_of(until_id, stream)
        if after > until:
            raise BadRequest("the from id is later than the to id: swap them")
        return after, until

    def _number_of(self, id: bytes, stream: str | None) -> int:
        return number_of(decode_key(self.record_of(id)), stream)

    def record_at(self, position: int) -> bytes:
        """The record at a position that exists."""
        return self.backend.read(position - 1, position, 1, 1)[0]

    def record_of(self, id: bytes) -> bytes:
        """The record of the event with this id. Raises ``UnknownEvent``."""
        own = own_id_position(self.own_prefix, id)
        if own is None:
            position = self.backend.positions([id]).get(id)
        else:
            position = own if 0 < own <= self.head else None
        if position is not None:
            self._check_named(position, position)
            record = self.record_at(position)
            if decode_key(record).id_bytes == id:
                return record
            if own is None:
                raise StoreDamaged(
                    f"the id {uuid.UUID(bytes=id)} leads to position {position}, where another event is"
                )
        raise UnknownEvent(f"no event has the id {uuid.UUID(bytes=id)}")

    def version(self, stream: str) -> int:
        """How many events the stream has."""
        cached = self._versions.get(stream)
        if cached is not None:
            return cached
        return self.backend.versions([stream]).get(stream, 0)

    def last_id(self) -> bytes | None:
        """The id of the last event, None while there is none."""
        return decode_key(self.record_at(self.head)).id_bytes if self.head else None

    def streams(self, prefix: str, after: str, limit: int) -> tuple[list[tuple[str, int]], bool]:
        """A page of (name, version) by name, and whether it is the last."""
        streams = self.backend.streams(prefix, after, limit + 1)
        return streams[:limit], len(streams) <= limit

    def names(
        self, kind: str, prefix: str, after: str | None, limit: int
    ) -> tuple[list[tuple[str, int]], bool]:
        """A page of (name, last position) of types, tags or categories, and whether it is the last.

        ``kind``, ``after``: as ``Backend.names`` has them. It may end early, after NAMES_PAGE_MAX.
        """
        limit = min(limit, NAMES_PAGE_MAX)
        names = self.backend.names(kind, prefix, after, limit + 1)
        return names[:limit], len(names) <= limit

    def cursors(self, prefix: str, after: str, limit: int) -> tuple[list[Cursor], bool]:
        """A page of cursors by name, and whether it is the last. It may end early, see cursors.py."""
        marks = self.backend.marks_from(mark_of(prefix), mark_of(after), limit + 1)
        names = [(mark.removeprefix(MARK), value) for mark, value in marks[:limit]]
        rows = [(name, *decode_cursor(name, value)) for name, value in names]
        cursors, whole = lagging(rows, self.head, self._clock(), self._recorded_at_ns)
        return cursors, whole and len(marks) <= limit

    def cursor(self, name: str) -> Cursor:
        """One cursor, whether it exists or not."""
        value = self.backend.marks([mark_of(name)]).get(mark_of(name))
        at = (0, 0) if value is None else decode_cursor(name, value)
        cursors, _ = lagging([(name, *at)], self.head, self._clock(), self._recorded_at_ns)
        return cursors[0]

    def _recorded_at_ns(self, position: int) -> int:
        return decode_key(self.record_at(position)).recorded_at_ns

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()
