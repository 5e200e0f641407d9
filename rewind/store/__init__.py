"""The store: the rules of appending and of reading, above any backend.

``Store`` gathers what a plan has to know, commits the plan in one go, and answers reads. The rules
of appending are in plan.py, as a pure function.

Not here: frames (wire/), sockets (daemon/), files (backends/).
"""

from __future__ import annotations

import os
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence

from rewind.backends import Backend, Commit
from rewind.errors import (
    BadRequest,
    Behind,
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
from rewind.store.plan import Known, Plan, plan
from rewind.store.space import RecentFreeBytes, refusal_if_full
from rewind.wire.native import READ_BYTES_DEFAULT, READ_LIMIT_MAX, Read
from rewind.wire.replies import ReadAnswer

VERSIONS_CACHED = 65_536  # about 10 MB; a stream written often is found without asking the backend
EXAMINED_MAX = 4_096  # events a filtered read looks at: 2-3 ms, so an append waits no longer
EXAMINED_BYTES_MAX = 4 * 1024 * 1024  # the same bound where events are large
PLAN_TRIES = (
    3  # a backend that is ahead of us says so at the first; more means it does not keep still
)


class Store:
    """A backend with the rules above it. One thread at a time.

    ``clock``: nanoseconds UTC. ``free_bytes``: room where a path is, None if unknown.
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
        self.head, self._last_time_ns = backend.last()
        self._clock = clock
        self._free_bytes = free_bytes or RecentFreeBytes()
        self._versions: OrderedDict[str, int] = OrderedDict()

    # Appending

    def append(
        self, appends: Sequence[Append]
    ) -> tuple[list[Appended | RequestError], list[Record]]:
        """Make these appends durable in one commit.

        Returns how each ended, in their order, and the records that are new. Raises
        ``StoreFailed`` when the commit failed: then nothing may be acknowledged, and the process
        must end.
        """
        for _ in range(PLAN_TRIES):
            known = self._known(appends)
            planned = plan(appends, known, self._clock(), self.durability)
            if not planned.records:
                return planned.outcomes, []
            if (full := self._full(planned.records)) is not None:
                return [self._alone(append, known, full) for append in appends], []
            try:
                self.backend.commit(Commit(self.head, planned.records, planned.append_ids))
            except Behind:
                self.head, self._last_time_ns = self.backend.last()
                self._versions.clear()
                continue
            last = planned.records[-1].event
            self.head, self._last_time_ns = last.position, last.recorded_at_ns
            self._remember(planned)
            return planned.outcomes, planned.records
        raise StoreDamaged(
            "the backend's head changed under every plan: is it shared with another?"
        )

    def settle(self) -> None:
        """Do what acknowledgements need not wait for. Raises ``StoreFailed`` as ``append`` does."""
        self.backend.settle()

    def _full(self, records: Sequence[Record]) -> StorageFull | None:
        """The refusal, if these records might not fit."""
        path = self.backend.path
        if path is None:
            return None
        return refusal_if_full(records, path, self._free_bytes(path))

    def _alone(self, append: Append, known: Known, full: StorageFull) -> Appended | RequestError:
        """The outcome of an append when nothing of its commit is stored."""
        outcome = plan([append], known, 0, self.durability).outcomes[0]
        new = isinstance(outcome, Appended) and not outcome.duplicate
        return full if new else outcome

    def _known(self, appends: Sequence[Append]) -> Known:
        """Ask the backend everything a plan needs, each kind at once."""
        backend = self.backend
        streams = {event.stream for append in appends for event in append.events}
        streams.update(stream for append in appends for stream in append.expected)
        append_ids = {append.id for append in appends if append.id is not None}
        ids = {event.id for append in appends for event in append.events if event.id is not None}
        return Known(
            self.head,
            self._last_time_ns,
            self.own_prefix,
            self._versions_of(streams),
            backend.appends(append_ids) if append_ids else {},
            backend.positions(ids) if ids else {},
            self._stored,
        )

    def _stored(self, first: int, last: int) -> list[Event]:
        records = self.backend.read(first - 1, last, last - first + 1, INT_MAX)
        return [decode_event(record) for record in records]

    def _versions_of(self, streams: set[str]) -> dict[str, int]:
        cache = self._versions
        found = {stream: cache[stream] for stream in streams if stream in cache}
        missing = streams - found.keys()
        if missing:
            found.update(dict.fromkeys(missing, 0))
            found.update(self.backend.versions(missing))
        return found

    def _remember(self, planned: Plan) -> None:
        """Keep the versions of the streams written last."""
        cache = self._versions
        for record in planned.records:
            stream = record.event.stream
            cache[stream] = record.event.version
            cache.move_to_end(stream)
        while len(cache) > VERSIONS_CACHED:
            cache.popitem(last=False)

    # Reading

    def read(self, query: Read) -> ReadAnswer:
        """One bounded page. Raises ``UnknownEvent`` for an id nobody has, ``StoreDamaged``."""
        if query.id is not None:
            chunk = join_records([self.record_of(query.id)])
            return ReadAnswer(1, chunk, self.head, self.head, True, True, None)
        size = self.head
        version = None
        if query.stream is not None:
            size = version = self.version(query.stream)
        after = query.after
        until = size if query.until is None else min(query.until, size)
        if query.since is not None and after < until:
            after = self._since(query, after, until)
        limit = READ_LIMIT_MAX if query.limit is None else query.limit
        bytes_max = READ_BYTES_DEFAULT if query.max_bytes is None else query.max_bytes
        count, chunk, last = self._page(query, after, until, limit, bytes_max)
        if query.backwards:
            next, end = (last - 1, last - 1 <= after) if last else (until, after >= until)
        else:
            next, end = max(after, last), max(after, last) >= until
        complete = end and (query.backwards or (query.until is not None and query.until <= size))
        return ReadAnswer(count, chunk, next, self.head, end, complete, version)

    def _page(
        self, query: Read, after: int, until: int, limit: int, bytes_max: int
    ) -> tuple[int, bytes, int]:
        """How many records of the range match, these, and the last place looked at (0: none)."""
        if limit == 0 or after >= until:
            return 0, array_of(0, ()), 0
        if query.filtered:
            records, last = self._matching(query, after, until, limit, bytes_max)
            return len(records), join_records(records), last
        if query.stream is None and not query.backwards:
            count, pieces = self.backend.chunk(after, until, limit, bytes_max)
            return count, array_of(count, pieces), after + count
        records = self._slice(query, after, until, limit, bytes_max)
        last = until - len(records) + 1 if query.backwards else after + len(records)
        return len(records), join_records(records), last

    def _matching(
        self, query: Read, after: int, until: int, limit: int, bytes_max: int
    ) -> tuple[list[bytes], int]:
        matching: list[bytes] = []
        size = 0
        examined = self._slice(query, after, until, EXAMINED_MAX, EXAMINED_BYTES_MAX)
        step, place = (-1, until + 1) if query.backwards else (1, after)
        for record in examined:
            if query.matches(decode_event(record)):
                size += len(record)
                if matching and size > bytes_max:
                    return matching, place
                matching.append(record)
            place += step
            if len(matching) == limit:
                break
        return matching, place

    def _slice(
        self, query: Read, after: int, until: int, limit: int, bytes_max: int
    ) -> list[bytes]:
        if query.stream is None:
            return self.backend.read(after, until, limit, bytes_max, query.backwards)
        return self.backend.read_stream(
            query.stream, after, until, limit, bytes_max, query.backwards
        )

    def _since(self, query: Read, after: int, until: int) -> int:
        """The greatest place before the first event recorded at or after ``since``, within the range.

        A binary search: times never decrease with position, nor with version.
        """
        assert query.since is not None
        low, high = after, until
        middle = after  # first, because every page but the first one of a read ends the search here
        while low < high:
            record = self._slice(query, middle, middle + 1, 1, 1)[0]
            if decode_key(record).recorded_at_ns < query.since:
                low = middle + 1
            else:
                high = middle
            middle = (low + high) // 2
        return low

    def range_between(
        self, after_id: bytes | None, until_id: bytes | None, stream: str | None = None
    ) -> tuple[int, int]:
        """The range ``after < n <= until`` between two event ids: positions, or versions of a stream.

        None stands for the start and the end. Raises ``UnknownEvent`` for an id nobody has, or that
        is of another stream, and ``BadRequest`` when ``after_id`` is later than ``until_id``.
        """
        after = 0 if after_id is None else self._place(after_id, stream)
        if until_id is None:
            return after, self.head if stream is None else self.version(stream)
        until = self._place(until_id, stream)
        if after > until:
            raise BadRequest("the from id is later than the to id: swap them")
        return after, until

    def _place(self, id: bytes, stream: str | None) -> int:
        key = decode_key(self.record_of(id))
        if stream is None:
            return key.position
        if key.stream != stream:
            raise UnknownEvent(
                f"the event {uuid.UUID(bytes=id)} is not of stream {stream!r} but of {key.stream!r}"
            )
        return key.version

    def record_at(self, position: int) -> bytes:
        """The record at a position that exists."""
        return self.backend.read(position - 1, position, 1, 1)[0]

    def position_of(self, id: bytes) -> int | None:
        """Where the event with this id is, or None."""
        own = own_id_position(self.own_prefix, id)
        if own is None:
            return self.backend.positions([id]).get(id)
        if not 0 < own <= self.head or decode_key(self.record_at(own)).id_bytes != id:
            return None
        return own

    def record_of(self, id: bytes) -> bytes:
        """The record of the event with this id. Raises ``UnknownEvent``."""
        position = self.position_of(id)
        if position is None:
            raise UnknownEvent(f"no event has the id {uuid.UUID(bytes=id)}")
        return self.record_at(position)

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
        found = self.backend.streams(prefix, after, limit + 1)
        return found[:limit], len(found) <= limit

    def close(self) -> None:
        """Close the backend."""
        self.backend.close()
