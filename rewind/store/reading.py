"""One bounded page of a read, out of a backend; and the numbers that a range of events is given by.

A query is looked up in the backend's index, and so are types, tags and a prefix, which are queries in
other words. What the index cannot tell is *sifted*: records are fetched and compared, first as many as the
limit suggests, then more each round.

A page is bounded in events and bytes, also in those that are only looked at: a filtered read that
matches nothing costs an append that waits for it a few milliseconds, and goes on from where it got.

A *number* is a position, or a version where a read names a stream: the two count alike, and a range
of either is ``after < number <= until``.

Not here: events by their id, and how long a stream is (the store knows both); reads that wait
(daemon/reads.py); the frames of an answer (wire/replies.py).
"""

from __future__ import annotations

import uuid
from typing import NamedTuple

from rewind.backends import Backend
from rewind.errors import UnknownEvent, quoted
from rewind.events import RecordKey, array_of, decode_key, decode_names, join_records
from rewind.query import Matches, QueryItem, category_of, matcher
from rewind.wire.native import READ_BYTES_DEFAULT, READ_LIMIT_MAX, Read
from rewind.wire.replies import ReadAnswer

EXAMINED_MAX = 1_024  # a page that is sifted looks at as many events as one that is not has
EXAMINED_BYTES_MAX = 1024 * 1024  # the same bound where events are large, which is a page's size
PREFIX_NAMES_MAX = 64  # a walk through so many lists takes less than a page of records


def read_page(backend: Backend, read: Read, head: int, version: int | None) -> ReadAnswer:
    """One page of a range, from its beginning or, backwards, from its end.

    ``version``: the stream's, where ``read`` names one; else None. Raises ``StoreDamaged``.
    """
    size = head if version is None else version
    after = read.after
    until = size if read.until is None else min(read.until, size)
    if read.since is not None and after < until:
        after = _after_since(backend, read, read.since, after, until)
    limit = READ_LIMIT_MAX if read.limit is None else read.limit
    bytes_max = READ_BYTES_DEFAULT if read.max_bytes is None else read.max_bytes
    count, chunk, last = _records(backend, read, after, until, limit, bytes_max)
    if read.backwards:
        next, end = (last - 1, last - 1 <= after) if last else (until, after >= until)
    else:
        next, end = max(after, last), max(after, last) >= until
    complete = end and (read.backwards or (read.until is not None and read.until <= size))
    return ReadAnswer(count, chunk, next, head, end, complete, version)


def _records(
    backend: Backend, read: Read, after: int, until: int, limit: int, bytes_max: int
) -> tuple[int, bytes, int]:
    """How many records of the range match, their array, and the last number looked at (0: none)."""
    if limit == 0 or after >= until:
        return 0, array_of(0, ()), 0
    if read.query is not None or read.filtered:
        matching, last = _matching(backend, read, after, until, limit, bytes_max)
        return len(matching), join_records(matching), last
    if read.stream is None and not read.backwards:
        count, pieces = backend.chunk(after, until, limit, bytes_max)
        assert 0 < count <= min(limit, until - after), "a page is never empty, nor too large"
        return count, array_of(count, pieces), after + count
    records = _slice(backend, read, after, until, limit, bytes_max)
    assert 0 < len(records) <= min(limit, until - after), "a page is never empty, nor too large"
    last = until - len(records) + 1 if read.backwards else after + len(records)
    return len(records), join_records(records), last


def _matching(
    backend: Backend, read: Read, after: int, until: int, limit: int, bytes_max: int
) -> tuple[list[bytes], int]:
    """The records that match, and the last number looked at."""
    way = _way(backend, read)
    if way is None:
        return [], after + 1 if read.backwards else until
    if way.items is not None and way.keep is None:
        return backend.read_matching(way.items, after, until, limit, bytes_max, read.backwards)
    return _sifted(backend, read, way, after, until, limit, bytes_max)


class _Way(NamedTuple):
    """How the records that match are found.

    ``items``: what to look up in the index; None: nothing, whatever is in the range is fetched.
    ``keep``: which of the fetched records match; None: all of them.
    """

    items: tuple[QueryItem, ...] | None
    keep: Matches | None


def _way(backend: Backend, read: Read) -> _Way | None:
    """The way that looks at the least; None if nothing can match."""
    types, tags, prefix = read.types, read.tags, read.prefix
    if read.query is not None:
        return _Way(read.query, None)
    if read.stream is not None:
        return _Way(None, matcher((QueryItem(types=types, tags=tags),)))
    if not prefix:
        return _Way((QueryItem(types=types, tags=tags),), None)
    streams = [name for name, _ in backend.streams(prefix, "", PREFIX_NAMES_MAX + 1)]
    if not streams:
        return None
    if len(streams) <= PREFIX_NAMES_MAX:
        return _Way((QueryItem(streams=streams, types=types, tags=tags),), None)
    if prefix.find("-") > 0:  # It has a whole category, and the beginning of what follows that.
        item = QueryItem(categories=(category_of(prefix),), types=types, tags=tags)
        return _Way((item,), lambda stream, type, tags: stream.startswith(prefix))
    names = backend.names("category", prefix, None, PREFIX_NAMES_MAX + 1)
    if len(names) <= PREFIX_NAMES_MAX:
        categories = [name for name, _ in names]
        return _Way((QueryItem(categories=categories, types=types, tags=tags),), None)
    return _Way(None, _begins_and(prefix, types, tags))


def _begins_and(prefix: str, types: tuple[str, ...], tags: tuple[str, ...]) -> Matches:
    if not types and not tags:
        return lambda stream, type, tags: stream.startswith(prefix)
    matches = matcher((QueryItem(types=types, tags=tags),))
    return lambda stream, type, tags: stream.startswith(prefix) and matches(stream, type, tags)


def _sifted(
    backend: Backend,
    read: Read,
    way: _Way,
    after: int,
    until: int,
    limit: int,
    bytes_max: int,
) -> tuple[list[bytes], int]:
    """The records that are kept of those fetched, and the last number looked at."""
    assert way.keep is not None, "there is something to compare"
    keep, by_version = way.keep, read.stream is not None
    matching: list[bytes] = []
    size, last = 0, until + 1 if read.backwards else after
    asked, left, bytes_left = 2 * limit, EXAMINED_MAX, EXAMINED_BYTES_MAX
    while after < until and left > 0 and bytes_left > 0:
        asked = min(asked, left)
        if way.items is not None:
            records, reached = backend.read_matching(
                way.items, after, until, asked, bytes_left, read.backwards
            )
        else:
            records = _slice(backend, read, after, until, asked, bytes_left)
            reached = until - len(records) + 1 if read.backwards else after + len(records)
        for record in records:
            names = decode_names(record)
            if keep(names.stream, names.type, names.tags):
                size += len(record)
                if matching and size > bytes_max:
                    return matching, last
                matching.append(record)
            last = names.version if by_version else names.position
            if len(matching) == limit:
                return matching, last
        last = reached
        if len(records) < asked:  # This is the end, or it was enough work.
            break
        after, until = (after, reached - 1) if read.backwards else (reached, until)
        left -= asked
        bytes_left -= sum(map(len, records))
        asked *= 4
    return matching, last


def _slice(
    backend: Backend, read: Read, after: int, until: int, limit: int, bytes_max: int
) -> list[bytes]:
    if read.stream is None:
        return backend.read(after, until, limit, bytes_max, read.backwards)
    return backend.read_stream(read.stream, after, until, limit, bytes_max, read.backwards)


def _after_since(backend: Backend, read: Read, since_ns: int, after: int, until: int) -> int:
    """The greatest number within the range whose events up to there were all recorded before ``since_ns``.

    A binary search: times never decrease with position, nor with version.
    """
    low, high = after, until
    # The first look is at the very beginning: there the search ends on every page but the first.
    middle = after
    while low < high:
        record = _slice(backend, read, middle, middle + 1, 1, 1)[0]
        if decode_key(record).recorded_at_ns < since_ns:
            low = middle + 1
        else:
            high = middle
        middle = (low + high) // 2
    return low


def number_of(key: RecordKey, stream: str | None) -> int:
    """The number of an event: its position, or its version in ``stream``.

    Raises ``UnknownEvent`` for an event of another stream.
    """
    if stream is None:
        return key.position
    if key.stream != stream:
        raise UnknownEvent(
            f"the event {uuid.UUID(bytes=key.id_bytes)} is not of stream {quoted(stream)} "
            f"but of {quoted(key.stream)}"
        )
    return key.version
