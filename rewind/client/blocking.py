"""The blocking client: one API over a daemon (``connect``) or a store in this process (``open``).

What to ask and when to ask again is decided in requests.py and outstanding.py; how it gets there is a
transport: zmq_blocking.py (ZeroMQ) or embedded.py (a store and a lock), imported when one is opened.
Here is what people call. What they iterate over is in reading.py and subscription.py.

Next: requests.py. For asyncio: asynchronous.py.
"""

from __future__ import annotations

import inspect
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar

from rewind.arguments import flag_of, number_of, place_of, text_of, wrong_kind
from rewind.client.appends import Cursors
from rewind.client.beginning import Beginning, Pause, Steps, begin, subscription_read
from rewind.client.decide import decide
from rewind.client.follow import Delivery
from rewind.client.names import CursorInfo, ask_cursor, cursor_pages, name_pages, stream_pages
from rewind.client.pages import EventPages, Pages, PagesAhead, to_read
from rewind.client.reading import Events
from rewind.client.requests import TIMEOUT_S, Call, Conditions, Id, Info, Requests
from rewind.client.subscription import Source, Subscription
from rewind.endpoints import check_endpoint
from rewind.errors import RewindError
from rewind.events import NOW, Advance, Appended, Event, NewEvent, Now
from rewind.query import Query, QueryItem
from rewind.wire.native import Read
from rewind.wire.replies import Reply

ENDPOINT = "tcp://127.0.0.1:9090"

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
        conditions: Conditions = (),
        cursors: Cursors | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """Append one or more events to a stream, all or none. Durable when it returns.

        ``expected_version``: the version the stream must be at: a number, ``NO_STREAM``,
        ``STREAM_EXISTS``, or ``ANY``. ``append_id``: makes a repetition harmless, by this process
        or a later one; made for you when absent, unless the events carry ids themselves, which do
        the same. ``conditions``: one or several, each a query that no event may match after the position
        of the decision; ``Events.condition`` makes one. ``cursors``: name -> position, or ``Advance``:
        cursors that move forward in the same commit; with them there may be no events. ``timeout``:
        seconds, the client's when None.

        Raises ``WrongExpectedVersion``, ``ConditionFailed`` and ``CursorMoved``, which are all
        ``ConcurrencyConflict``; ``IdConflict``, ``StorageFull``, ``BadRequest``, ``TooLarge``;
        ``Unavailable``, whose ``append_id`` makes a later repetition safe.
        """
        call = self._requests.append(
            stream, events, expected_version, append_id, timeout, conditions, cursors
        )
        return self._run(call)

    def append_streams(
        self,
        events: Iterable[tuple[str, NewEvent]],
        *,
        expected: Mapping[str, int] | None = None,
        append_id: Id | None = None,
        conditions: Conditions = (),
        cursors: Cursors | None = None,
        timeout: float | None = None,
    ) -> Appended:
        """Append (stream, event) pairs in this order, next to one another, all or none.

        ``expected``: stream -> version, of any streams, also ones not written to. Else as ``append``.
        """
        call = self._requests.append_streams(
            events, expected, append_id, timeout, conditions, cursors
        )
        return self._run(call)

    def decide(
        self,
        decision: Callable[[Any], Any],
        *,
        stream: str | None = None,
        query: Query | QueryItem | None = None,
        fold: Callable[[Any, Event], Any] | None = None,
        initial: Any = None,
        attempts: int = 8,
        append_id: Id | None = None,
        timeout: float | None = None,
    ) -> Appended | None:
        """Read what matters, decide, and append that only if nothing that matters came between.

        ``stream`` or ``query``: what the decision depends on. ``fold``: state and event -> the next
        state, beginning with ``initial``, which is copied for each attempt; without a ``fold`` the state
        is the list of events. ``decision``: state -> events of ``stream``, or (stream, event) pairs, or
        None for nothing, which this then returns. What it raises passes through, and nothing is stored.

        After a ``ConcurrencyConflict`` all of it is done again, ``attempts`` times in all; then it is
        raised. ``append_id``: of the command, which is handled once: if an append with this id is stored,
        its answer is returned, and nothing is decided. ``timeout``: seconds for each request, the
        client's when None. Raises as ``append`` does.
        """
        return self._play(
            decide(
                self._requests, decision, stream, query, fold, initial, attempts, append_id, timeout
            )
        )

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
        categories: Iterable[str] = (),
        query: Query | QueryItem | None = None,
        since: int | datetime | None = None,
    ) -> Events:
        """Events by position, ``after < position <= until``; ends at what was the head at its start.

        ``limit``: at most so many events. ``backwards``: newest first. Only events whose stream
        begins with ``prefix``, whose type is one of ``types``, that have all ``tags``, whose category
        is one of ``categories``, and that were recorded at or after ``since``: a datetime with a time
        zone, or nanoseconds UTC. ``query``: only events that match it; instead of the others but
        ``since``.

        What it gives says the position that was read to, and makes the condition of an append.
        """
        read = to_read(
            after=after,
            until=until,
            limit=limit,
            backwards=backwards,
            prefix=prefix,
            types=types,
            tags=tags,
            categories=categories,
            query=query,
            since=since,
        )
        return self._read(read)

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
    ) -> Events:
        """One stream's events by version, ``after < version <= until``; else as ``read``.

        A stream that does not exist has none.
        """
        read = to_read(
            after=after,
            until=until,
            limit=limit,
            backwards=backwards,
            stream=text_of(stream, "stream"),  # None would read all streams.
            types=types,
            tags=tags,
            since=since,
        )
        return self._read(read)

    def last(
        self, *, stream: str | None = None, query: Query | QueryItem | None = None
    ) -> Event | None:
        """The last event of a stream, or that matches a query; without either, of the store.

        None if there is none.
        """
        read = to_read(stream=stream, query=query, backwards=True, limit=1)
        with self._read(read) as events:
            return next(events, None)

    def event(self, id: Id) -> Event:
        """The event with this id. Raises ``UnknownEvent``."""
        return self._run(self._requests.event(id))

    def head(self) -> int:
        """The last position; 0 while there is no event."""
        return self._run(self._requests.head())

    def info(self) -> Info:
        """What the daemon, or the embedded store, says of itself."""
        return self._run(self._requests.info())

    def appended(self, append_id: Id) -> Appended | None:
        """What the append with this id was answered with, as a ``duplicate``; None if none is stored."""
        return self._run(self._requests.appended(append_id))

    # Names

    def streams(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Name and version of every stream whose name begins with ``prefix``, by name."""
        return self._pages(stream_pages(self._requests, prefix))

    def types(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every type that begins with ``prefix``, by name, and the position of its last event."""
        return self._pages(name_pages(self._requests, "type", prefix))

    def tags(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every tag that begins with ``prefix``, by name, and the position of its last event."""
        return self._pages(name_pages(self._requests, "tag", prefix))

    def categories(self, prefix: str = "") -> Iterator[tuple[str, int]]:
        """Every category that begins with ``prefix``, by name, and the position of its last event.

        The category of a stream is its name before the first ``-``.
        """
        return self._pages(name_pages(self._requests, "category", prefix))

    # Cursors

    def cursor(self, name: str) -> CursorInfo:
        """Where a cursor stands. One that does not exist is at position 0."""
        return self._run(ask_cursor(self._requests, name))

    def cursors(self, prefix: str = "") -> Iterator[CursorInfo]:
        """Every cursor whose name begins with ``prefix``, by name."""
        return self._pages(cursor_pages(self._requests, prefix))

    def advance(self, name: str, position: int, *, expected: int | None = None) -> None:
        """Move a cursor forward to ``position``: its consumer is done with everything up to there.

        Where it stands already is fine. ``expected``: the position it must be at; one that does not
        exist is at 0. Durable when it returns. Raises ``CursorMoved`` when it is not there, or stands further,
        and ``BadRequest`` for a position beyond the head.
        """
        where = Advance(number_of(position, "position"), expected)
        self._run(self._requests.advance(name, where))

    def reset_cursor(self, name: str, position: int) -> None:
        """Put a cursor at ``position``, also back: its consumer begins again after that. Raises
        ``BadRequest`` for a position beyond the head."""
        where = Advance(number_of(position, "position"), reset=True)
        self._run(self._requests.advance(name, where))

    def delete_cursor(self, name: str) -> None:
        """Delete a cursor. One that does not exist is no error."""
        self._run(self._requests.advance(name, Advance(None)))

    # Following

    def subscribe(
        self,
        *,
        after: int | Now = 0,
        stream: str | None = None,
        prefix: str = "",
        types: Iterable[str] = (),
        tags: Iterable[str] = (),
        categories: Iterable[str] = (),
        query: Query | QueryItem | None = None,
        since: int | datetime | None = None,
        cursor: str | None = None,
        store_id: Id | None = None,
    ) -> Subscription:
        """Every event after ``after``, for ever: those there are, then those that come.

        ``after`` is a position, with ``stream`` a version of that stream, or ``NOW``: only what comes
        after this call. Filters as in ``read``. ``cursor``: begin where this cursor stands, which is
        never moved by reading: ``advance`` it, or move it in the append of what came of the events. If
        it does not exist, ``after`` says where to begin, and with ``NOW`` the cursor is put there. A
        cursor is no version: it does not go with ``stream``, but with a query that names one.

        ``store_id``: the store that ``after`` is of, the client's when None; without either it is the
        first store found. Another one raises ``StoreChanged``, in the iteration unless ``NOW`` or a
        cursor has to be asked for before.
        """
        read = subscription_read(
            after=after,
            stream=stream,
            prefix=prefix,
            types=types,
            tags=tags,
            categories=categories,
            query=query,
            since=since,
            cursor=cursor,
        )
        delivery, given = Delivery(read), Beginning(read.after, self._requests.store(store_id))
        steps = begin(self._requests, read, given, after is NOW, cursor)
        delivery.begin(*self._play(steps))
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

    def _play(self, steps: Steps[T]) -> T:
        """Carry out steps; what they return."""
        try:
            step = next(steps)
            while True:
                try:
                    found = self._run(step) if isinstance(step, Call) else _wait(step)
                except RewindError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(found)
        except StopIteration as end:
            value: T = end.value
            return value

    def _read(self, read: Read) -> Events:
        pages = EventPages(self._requests, read)
        return Events(pages, self._pages(pages))

    def _pages(self, pages: Pages) -> Generator[Any, None, None]:
        """Items of page after page; the next one is under way while the caller has this one."""
        with PagesAhead(self._transport, pages) as ahead:
            while ahead.call is not None:
                yield from ahead.take(self._transport.answer(ahead.call))


def _wait(step: Any) -> Any:
    """Pause. There is no loop to wait in for anything else: raises ``WrongKind``."""
    if isinstance(step, Pause):
        time.sleep(step.seconds)
        return None
    if inspect.iscoroutine(step):
        step.close()
    advice = "give a function that is no coroutine, or use an AsyncClient"
    raise wrong_kind("decision", step, advice)
