"""A subscription of the blocking client: events without end, and how far their consumer is.

What it reads and what it has handed out is follow.py's. Where it begins was found out before it is made
(beginning.py). For asyncio: async_subscription.py.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from rewind.arguments import at_least_one, number_of
from rewind.checks import check_seconds
from rewind.client.follow import Delivery
from rewind.errors import Closed
from rewind.events import Event

BATCH_EVENTS = 500  # This makes a database transaction of a good size.


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
        """Where to subscribe after next time: the position of the last event handed out, or beyond
        it, of events that do not match, once more was asked for. With ``stream`` it is a version."""
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
