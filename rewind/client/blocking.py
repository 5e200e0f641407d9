"""The blocking client: one API over a daemon (``connect``) or a store in this process (``open``).

What to ask and when to ask again is decided in requests.py and outstanding.py; how it gets there is a
transport: zmq_blocking.py (ZeroMQ) or embedded.py (a store and a lock), imported when one is opened.
Here is what people call, and the ``Subscription`` they iterate over.

Next: requests.py. For asyncio: asynchronous.py.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar

from rewind.arguments import at_least_one, flag_of, number_of, place_of, text_of
from rewind.checks import check_seconds
from rewind.client.follow import Delivery
from rewind.client.pages import EventPages, Pages, PagesAhead, StreamPages, to_read
from rewind.client.requests import TIMEOUT_S, Call, Id, Info, Requests
from rewind.endpoints import check_endpoint
from rewind.errors import Closed
from rewind.events import Appended, Event, NewEvent
from rewind.wire.replies import Reply

ENDPOINT = "tcp://127.0.0.1:9090"
BATCH_EVENTS = 500  # This makes a database transaction of a good size.

T = TypeVar("T")


def connect(
    endpoint: str = ENDPOINT,
    *,
    topic_endpoint: str | None = None,
    timeout: float = TIMEOUT_S,
    store_id: Id | None = None,
) -> Client:
    """A client of the daemon at ``endpoint``, its ``--incoming-bind``. Never blocks: the daemon may
    come later.

    ``topic_endpoint``: where its topic socket is reached, if not where the daemon says.
    ``timeout``: seconds a call may take, retries included; infinity lets it take as long as the
    daemon is away. ``store_id``: the store, as ``info`` says it, that every call is for: another one
    behind the endpoint raises ``StoreChanged``, and stores nothing. Without it, each call and
    subscription is for the first store that it finds, and two calls may find two.

    Raises ``BadConfiguration`` for an endpoint that is none, and ``BadRequest`` for a ``timeout`` that is
    negative or NaN, as everything does that is given seconds, and for a ``store_id`` that is none.
    """
    from rewind.client.zmq_blocking import ConnectionPool

    check_endpoint(text_of(endpoint, "endpoint"))
    if topic_endpoint is not None:
        check_endpoint(text_of(topic_endpoint, "topic_endpoint"), "topic_endpoint")
    return Client(ConnectionPool(endpoint, topic_endpoint), Requests(endpoint, timeout, store_id))


def open(
    url: str | os.PathLike[str], *, read_only: bool = False, store_id: Id | None = None
) -> Client:
    """The same API on a store in this process, without a daemon: ``scheme:PATH``, ``memory:`` or a
    bare path. No other process can use the store meanwhile. A store that this process has open is
    shared, and closed with its last client.

    ``read_only``: the store must exist and nothing of it is written, so that it may lie where nobody
    can write; appends raise ``Forbidden``. Others may have it open read-only at the same time.
    ``store_id``: the store that must be there.

    Raises ``BadConfiguration``, a ``StoreError``, or ``StoreChanged`` when there is another store than
    ``store_id``, or none.
    """
    from rewind.client.embedded import Embedded

    url, read_only = place_of(url, "url"), flag_of(read_only, "read_only")
    requests = Requests(url, TIMEOUT_S, store_id)
    return Client(Embedded(url, read_only, requests.store_id), requests)


class Source(Protocol):
    """Where a subscription's events come from. One thread at a time calls ``fetch``."""

    def fetch(self, seconds: float | None) -> None:
        """Let the delivery have events as soon as there are some. Returns as well when the read has
        moved on without any, at ``wake``, and after so many seconds."""

    def hurry(self) -> None:
        """Find out soon how far the store is. Any thread."""

    def wake(self) -> None:
        """Make ``fetch`` return. Any thread."""

    def close(self) -> None:
        """Release everything; not during ``fetch``."""


class Transport(Protocol):
    """How calls get to a store, and the answers back."""

    def ask(self, call: Call[Any]) -> None:
        """Send it, where it gains anything to do so early; ``answer`` or ``forget`` follows."""

    def answer(self, call: Call[Any]) -> Reply:
        """Wait for the answer; ask again if need be. Raises what the call is refused with,
        ``Unavailable``, ``Closed``."""

    def forget(self, call: Call[Any]) -> None:
        """Nobody wants the answer. Harmless after ``answer``."""

    def follow(self, delivery: Delivery) -> Source:
        """An endless read."""

    def close(self) -> None:
        """Release everything; whatever is used after that raises ``Closed``."""


class Client:
    """A connection to an event store; made by ``connect`` or ``open``. A context manager.

    Threads may share it: their calls are in flight together. After a fork the child goes on with
    connections of its own (an embedded store belongs to the process that opened it).

    Every call may raise the ``RequestError`` the store refused it with, ``Unavailable`` when there
    was no answer in time, and ``Closed`` after ``close``.
    """

    def __init__(self, transport: Transport, requests: Requests) -> None:
        self._transport = transport
        self._requests = requests
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    # Writing

    def append(
        self,
        stream: str,
        events: NewEvent | Iterable[NewEvent],
        expected_version: int | None = None,
        *,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """Append one or more events to a stream, all or none. Durable when it returns.

        ``expected_version``: the version the stream must be at: a number, ``NO_STREAM``,
        ``STREAM_EXISTS``, or ``ANY``. ``append_id``: makes a repetition harmless, by this process
        or a later one; made for you when absent, unless the events carry ids themselves, which do
        the same. ``timeout``: seconds, the client's when None.

        Raises ``WrongExpectedVersion``, ``IdConflict``, ``StorageFull``, ``BadRequest``,
        ``TooLarge``; ``Unavailable``, whose ``append_id`` makes a later repetition safe.
        """
        call = self._requests.append(stream, events, expected_version, append_id, timeout)
        return self._run(call)

    def append_streams(
        self,
        events: Iterable[tuple[str, NewEvent]],
        *,
        expected: Mapping[str, int] | None = None,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """Append (stream, event) pairs in this order, next to one another, all or none.

        ``expected``: stream -> version, of any streams, also ones not written to. Else as ``append``.
        """
        call = self._requests.append_streams(events, expected, append_id, timeout)
        return self._run(call)

    # Reading

    def read(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        since: int | datetime | None = None,
    ) -> Iterator[Event]:
        """Events by position, ``after < position <= until``; ends at what was the head at its start.

        ``limit``: at most so many events. ``backwards``: newest first. Only events whose stream
        begins with ``prefix``, whose type is one of ``types``, that have all ``tags``, and were
        recorded at or after ``since``: a datetime with a time zone, or nanoseconds UTC.
        """
        read = to_read(after, until, limit, backwards, None, prefix, types, tags, since)
        return self._pages(EventPages(self._requests, read))

    def read_stream(
        self,
        stream: str,
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        backwards: bool = False,
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        since: int | datetime | None = None,
    ) -> Iterator[Event]:
        """One stream's events by version, ``after < version <= until``; else as ``read``.

        A stream that does not exist has none.
        """
        stream = text_of(stream, "stream")  # None would read all streams.
        read = to_read(after, until, limit, backwards, stream, "", types, tags, since)
        return self._pages(EventPages(self._requests, read))

    def event(self, id: Id) -> Event:
        """The event with this id. Raises ``UnknownEvent``."""
        return self._run(self._requests.event(id))

    def head(self) -> int:
        """The last position; 0 while there is no event."""
        return self._run(self._requests.head())

    def info(self) -> Info:
        """What the daemon, or the embedded store, says of itself."""
        return self._run(self._requests.info())

    def streams(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Name and version of every stream whose name begins with ``prefix``, by name."""
        return self._pages(StreamPages(self._requests, prefix))

    def subscribe(
        self,
        *,
        after: int = 0,
        stream: str | None = None,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        store_id: Id | None = None,
    ) -> Subscription:
        """Every event after ``after``, for ever: those there are, then those that come.

        ``after`` is a position; with ``stream`` it is a version of that stream. Filters as in
        ``read``. ``store_id``: the store that ``after`` is of, the client's when None; without either
        it is the first store found. Another one raises ``StoreChanged`` in the iteration.
        """
        read = to_read(after, None, None, False, stream, prefix, types, tags, None)
        delivery = Delivery(read, self._requests.store(store_id))
        subscription = Subscription(self._transport.follow(delivery), delivery)
        self._subscriptions.add(subscription)
        return subscription

    # Closing

    def close(self) -> None:
        """Stop the subscriptions and release the connections, or the store. Twice does no harm."""
        for subscription in list(self._subscriptions):
            subscription.stop()
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _run(self, call: Call[T]) -> T:
        self._transport.ask(call)
        return call.value(self._transport.answer(call))

    def _pages(self, pages: Pages) -> Iterator[Any]:
        """Items of page after page; the next one is under way while the caller has this one."""
        with PagesAhead(self._transport, pages) as ahead:
            while ahead.call is not None:
                yield from ahead.take(self._transport.answer(ahead.call))


class Subscription:
    """Events without end, in order, none missing and none twice; made by ``Client.subscribe``.

    Iterate over it, in one thread; it survives the daemon's restarts and absence. The iteration
    ends after ``stop``, or when the client is closed. It raises ``StoreChanged`` when another
    store, or an older copy, is found behind the endpoint, and is over then.
    """

    def __init__(self, source: Source, delivery: Delivery) -> None:
        self._source = source
        self._delivery = delivery
        self._pid = os.getpid()
        self._stopped = False
        self._ended = False
        self._turn = threading.Lock()  # Whoever uses the source holds it.
        self._changed = threading.Condition()
        self._waiting = 0  # This many threads are in a wait; without one nobody is notified.

    @property
    def position(self) -> int:
        """Position of the last event handed out, to subscribe after next time. With ``stream`` it
        is the event's version in that stream."""
        return self._delivery.position

    @property
    def caught_up(self) -> bool:
        """Whether the consumer asked for more after handling all there was."""
        return self._delivery.caught_up

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        self._asked()
        if not self._fill(None):
            raise StopIteration
        return self._delivery.next()

    def batches(
        self, max_events: int = BATCH_EVENTS, max_wait: float | None = None
    ) -> Iterator[list[Event]]:
        """The same events in lists: what is at hand, at most ``max_events``, without waiting for
        more than the first.

        ``max_wait``: seconds after which an empty list is given, so that the consumer can do
        something else meanwhile; 0 does not wait, None waits for ever.
        """
        if max_wait is not None:
            max_wait = check_seconds(max_wait, "max_wait")
        return self._batches(at_least_one(max_events, "max_events"), max_wait)

    def wait_caught_up(self, timeout: float | None = None) -> bool:
        """Wait, in another thread than the consumer's, until ``caught_up``; False after
        ``timeout`` seconds, or when the subscription ends first."""
        return self._wait(lambda: self._delivery.caught_up, timeout)

    def wait_for(self, position: int, timeout: float | None = None) -> bool:
        """Wait, in another thread, until the consumer has handled everything up to ``position`` and
        asked for more: after ``append``, wait for its ``last`` to read your own write. With
        ``stream`` it is a version. False after ``timeout`` seconds, or when the subscription ends.
        """
        position = number_of(position, "position")
        if self._delivery.handled < position:
            self._source.hurry()
        return self._wait(lambda: self._delivery.handled >= position, timeout)

    def stop(self) -> None:
        """End the iteration, at any time, from any thread. What was not handed out is dropped."""
        self._stopped = True
        if os.getpid() != self._pid:  # In a forked child the sockets are the parent's.
            return
        self._source.wake()
        if self._turn.acquire(blocking=False):  # If not, the consumer has it, wakes and ends it.
            try:
                self._end()
            finally:
                self._turn.release()

    def _batches(self, max_events: int, max_wait_s: float | None) -> Iterator[list[Event]]:
        while True:
            self._asked()
            if not self._fill(max_wait_s):
                return
            yield self._delivery.take(max_events)

    def _asked(self) -> None:
        self._delivery.asked()
        if self._waiting:
            self._tell()

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _wait(self, ready: Callable[[], bool], timeout: float | None) -> bool:
        if timeout is not None:
            timeout = check_seconds(timeout, "timeout")
        if ready():
            return True
        self._check_process()  # Nobody iterates over it here, so the wait would have no end.
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: ready() or self._ended, timeout)
            finally:
                self._waiting -= 1
        return ready()

    def _fill(self, seconds: float | None) -> bool:
        """Wait at most so long until there is something to hand out; False when it is over."""
        if self._delivery and not self._stopped:
            return True
        self._check_process()
        deadline_s = None if seconds is None else time.monotonic() + seconds
        with self._turn:
            while not self._stopped:
                try:
                    self._source.fetch(seconds)
                except Closed:  # The client was closed, and its store with it.
                    break
                except BaseException:  # After Ctrl-C too, what was received may be lost.
                    self._end()
                    raise
                if self._delivery and not self._stopped:
                    return True
                self._asked()
                if deadline_s is not None:
                    seconds = deadline_s - time.monotonic()
                    if seconds <= 0:
                        return True
            self._end()
        return False

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise Closed(
                f"this subscription belongs to process {self._pid}: subscribe again in this one, "
                f"after {self.position}"
            )

    def _end(self) -> None:
        self._stopped = self._ended = True
        self._source.close()
        self._tell()
