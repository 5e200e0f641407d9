"""One bounded page of a read, out of a backend; and the numbers that a range of events is given by.

A page is bounded in events and bytes, also in those that are only looked at: a filtered read that
matches nothing costs an append that waits for it a few milliseconds, and goes on from where it got.

A *number* is a position, or a version where a read names a stream: the two count alike, and a range
of either is ``after < number <= until``.

Not here: events by their id, and how long a stream is (the store knows both); reads that wait
(daemon/reads.py); the frames of an answer (wire/replies.py).
"""

from __future__ import annotations

import uuid

from rewind.backends import Backend
from rewind.errors import UnknownEvent, quoted
from rewind.events import RecordKey, array_of, decode_event, decode_key, join_records
from rewind.wire.native import READ_BYTES_DEFAULT, READ_LIMIT_MAX, Read
from rewind.wire.replies import ReadAnswer

EXAMINED_MAX = 4_096  # a filtered read looks at so many events in 2-3 ms; an append waits no longer
EXAMINED_BYTES_MAX = 4 * 1024 * 1024  # the same bound where events are large


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
    if read.filtered:
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
    """The records that pass the filters, and the last number looked at."""
    matching: list[bytes] = []
    size = 0
    examined = _slice(backend, read, after, until, EXAMINED_MAX, EXAMINED_BYTES_MAX)
    step, number = (-1, until + 1) if read.backwards else (1, after)
    for record in examined:
        if read.matches(decode_event(record)):
            size += len(record)
            if matching and size > bytes_max:
                return matching, number
            matching.append(record)
        number += step
        if len(matching) == limit:
            break
    return matching, number


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
