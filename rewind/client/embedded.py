"""A store in this process behind the client's API: no daemon, no sockets.

Requests take the same way as over the wire: encoded, decoded and checked by wire/, answered by
answers.py, with the same frames, so that results and errors are the same.

One lock guards the store. An append queues before it takes the lock, and whoever has the lock
commits everything queued: while one thread syncs, the next batch gathers behind it.

Next: blocking.py, which opens this; daemon/server.py is the same thing behind sockets.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from rewind.answers import About, answer, answer_appends
from rewind.backends import open_backend
from rewind.client.follow import Delivery
from rewind.client.requests import Call, closed, parse_reply
from rewind.errors import Closed, RequestError, StoreError, StoreFailed, fresh
from rewind.events import Append, Appended
from rewind.store import Store
from rewind.wire.envelope import Request, decode_request
from rewind.wire.native import LIMITS
from rewind.wire.replies import Reply, encode_error

BATCH_APPENDS_MAX = 256  # One sync serves at most so many; each comes from a thread that waits.

_ROUTE = [b"embedded", b""]  # Requests look as if a connection of this name had sent them.
_ABOUT = About(endpoints={}, event_bytes_max=LIMITS["event_bytes"], insecure=False)


class Embedded:
    """A store and the lock around it. Any thread of the process that opened it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._store = Store(open_backend(url))
        self._lock = threading.Lock()
        self._queue: deque[_Queued] = deque()
        self._listeners: set[Callable[[], None]] = set()
        self._failure: StoreError | None = None
        self._closed = False
        self._pid = os.getpid()

    def ask(self, call: Call[Any]) -> None:
        """Nothing is gained by asking a store in this process early: ``answer`` does."""

    def answer(self, call: Call[Any]) -> Reply:
        """Answer a call. Raises what it is refused with, or a ``StoreError``."""
        self.check_open()
        request = decode_request(
            [*_ROUTE, call.command, b"", call.body], store_id=self._store.id.bytes
        )
        try:
            frames = self._answer(request)
        except RequestError as refused:
            frames = encode_error(request, refused)
        _, reply = parse_reply(frames[len(_ROUTE) :], self.url)
        call.outcome = call.from_its_store(reply)
        return call.result()

    def forget(self, call: Call[Any]) -> None:
        """There is nothing to forget."""

    def read(self, body: bytes) -> Reply:
        """Answer one READ."""
        return self.answer(Call(self.url, b"READ", body, lambda reply: reply, 0.0))

    def follow(self, delivery: Delivery) -> EmbeddedSource:
        self.check_open()
        return EmbeddedSource(self, delivery)

    def close(self) -> None:
        """Close the store. Calls under way finish first."""
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._failure is None:  # A store that failed must not be touched again.
                self._store.close()
        self._tell()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this after every commit and on closing, from whichever thread that is."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call this no longer."""
        self._listeners.discard(listener)

    def check_open(self) -> None:
        """Raise ``Closed``, or how the store has failed, unless it can be used."""
        if os.getpid() != self._pid:
            raise Closed(
                f"the store {self.url} was opened by process {self._pid}, which has it alone"
            )
        if self._closed:
            raise closed()
        if self._failure is not None:
            raise fresh(self._failure)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    # Answers

    def _answer(self, request: Request) -> list[bytes]:
        if isinstance(request.body, Append):
            return answer_appends(request, iter([self._append(request.body)]))
        with self._lock:
            self.check_open()
            return answer(request, self._store, _ABOUT)

    def _append(self, append: Append) -> Appended:
        queued = _Queued(append)
        self._queue.append(queued)
        with self._lock:
            while queued.outcome is None:  # Another thread may have committed it.
                self.check_open()
                self._commit()
        if isinstance(queued.outcome, Appended):
            return queued.outcome
        raise fresh(queued.outcome)

    def _commit(self) -> None:
        """Make what is queued durable in one commit, and say so to those who wait for it."""
        batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_APPENDS_MAX))]
        try:
            outcomes, records = self._store.append([queued.append for queued in batch])
        except BaseException as error:
            # Nobody knows whether it was stored, after Ctrl-C neither: nothing more may be stored.
            self._failure = (
                error
                if isinstance(error, StoreError)
                else StoreFailed(f"an append to {self.url} was interrupted: open the store again")
            )
            for queued in batch:
                queued.outcome = self._failure
            self._tell()  # Subscriptions learn of the failure by their next look.
            raise
        for queued, outcome in zip(batch, outcomes, strict=True):
            queued.outcome = outcome
        if records:
            self._tell()


class _Queued(msgspec.Struct, eq=False):
    """An append that waits for its commit; its outcome is an ``Appended`` or what to raise."""

    append: Append
    outcome: Any = None


class EmbeddedSource:
    """A subscription's events, read whenever something was committed."""

    def __init__(self, embedded: Embedded, delivery: Delivery) -> None:
        self._embedded = embedded
        self._delivery = delivery
        self._committed = threading.Event()
        embedded.listen(self._committed.set)
        weakref.finalize(self, embedded.unlisten, self._committed.set)

    def fetch(self, seconds: float | None) -> None:
        self._committed.clear()  # A commit after this line sets it again, so none is overlooked.
        delivery = self._delivery
        delivery.receive(self._embedded.read(delivery.body()), self._embedded.url)
        if not delivery.changed:
            self._committed.wait(seconds)
        delivery.changed = False

    def hurry(self) -> None:
        return

    def wake(self) -> None:
        self._committed.set()

    def close(self) -> None:
        self._embedded.unlisten(self._committed.set)
