"""The stores that this process has open: each of them once, and a lock around it.

A store directory belongs to one process, so whoever opens one that is open here already shares it.
It is told by what lies at the path and not by the path's spelling, and closed with its last user.
Every ``memory:`` is a store of its own.

An append queues before it takes the lock, and whoever has the lock commits everything queued: while
one thread syncs, the next batch gathers behind it. After a commit that failed, or was interrupted,
nobody knows what is stored. Then the store is given back at once, and can be opened again.

Next: embedded.py, a client's use of one.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, closing
from ctypes import py_object, pythonapi
from typing import Any

import msgspec

from rewind.answers import About, answer
from rewind.backends import locate, open_backend
from rewind.backends.directory import Place, place_of, scheme_of
from rewind.client.requests import closed, store_changed
from rewind.errors import (
    Closed,
    StoreChanged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreLocked,
    fresh,
)
from rewind.events import Append, Appended
from rewind.store import Store
from rewind.wire.envelope import Request
from rewind.wire.native import LIMITS

BATCH_APPENDS_MAX = 256  # One sync serves at most so many; each comes from a thread that waits.

_ABOUT = About(endpoints={}, event_bytes_max=LIMITS["event_bytes"], insecure=False)

_opened: dict[Place, OpenedStore] = {}
_opening = threading.Lock()  # One store at a time is opened or closed.


class OpenedStore:
    """A store and the lock around it. Any thread of the process that opened it; see ``open_store``."""

    def __init__(self, url: str, read_only: bool) -> None:
        self.url = url
        self.read_only = read_only
        with ExitStack() as undo:
            backend = undo.enter_context(closing(open_backend(url, read_only=read_only)))
            self._store = Store(backend)
            self.place = None if backend.path is None else place_of(backend.path)
            undo.pop_all()
        self.scheme, self.store_id = backend.scheme, backend.store_id
        self.users: set[object] = set()
        self._lock = threading.Lock()
        self._queue: deque[_Queued] = deque()
        self._listeners: set[Callable[[], None]] = set()
        self._end: StoreError | Closed | None = None

    def check_open(self) -> None:
        """Raise ``Closed``, or how the store has failed, unless it can be used."""
        if self._end is not None:
            raise fresh(self._end)

    def answer(self, request: Request) -> list[bytes]:
        """The reply to a read of any kind."""
        with self._lock:
            self.check_open()
            return answer(request, self._store, _ABOUT)

    def append(self, append: Append) -> Appended:
        """Make an append durable, together with those that wait. Raises what it is refused with."""
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
        batch: list[_Queued] = []
        try:
            while self._queue and len(batch) < BATCH_APPENDS_MAX:
                batch.append(self._queue.popleft())
            outcomes, records = self._store.append([queued.append for queued in batch])
            for queued, outcome in zip(batch, outcomes, strict=True):
                queued.outcome = outcome
            if records:
                self._tell()
        except BaseException as error:
            # Nobody knows whether it was stored, after Ctrl-C neither: nothing more may be stored.
            self._end = (
                error
                if isinstance(error, StoreError)
                else StoreFailed(f"an append to {self.url} was interrupted: open the store again")
            )
            self._give_back(error)
            raise

    def _give_back(self, error: BaseException) -> None:
        """Close a store that failed; what fails in this as well is noted on the error."""
        try:
            self._store.close()
        except StoreError as second:
            error.add_note(f"and closing the store failed: {second}")
        finally:
            self._tell()  # Subscriptions learn of the end by their next look.

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this after every commit and on closing, from whichever thread that is."""
        self._listeners.add(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call this no longer."""
        self._listeners.discard(listener)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()

    def has_ended(self) -> bool:
        """Whether the store was given back. Waits for the commit that decides it."""
        with self._lock:
            return self._end is not None

    def close(self) -> None:
        """Close the store. Calls under way finish first. Does nothing the second time."""
        with self._lock:
            if self._end is None:
                self._end = closed()
                self._store.close()
        self._tell()


class _Queued(msgspec.Struct, eq=False):
    """An append that waits for its commit; its outcome is an ``Appended`` or what to raise."""

    append: Append
    outcome: Any = None


def open_store(
    url: str, user: object, read_only: bool, store_id: bytes | None = None
) -> OpenedStore:
    """The store at a URL or path for one more ``user``: it is shared if this process has it open.

    Who wants to append and who opens it ``read_only`` do not share: ``StoreLocked``. ``store_id``: the
    store that must be there, 16 bytes; None: whichever is, or a new one.
    Raises ``BadConfiguration``, a ``StoreError``, or ``StoreChanged``.
    """
    with _opening:
        opened = _find(url, read_only)
        if opened is None:
            if store_id is not None:
                _check_there(url, store_id)
            opened = OpenedStore(url, read_only)
            if opened.place is not None:
                _opened[opened.place] = opened
        opened.users.add(user)
    if store_id not in (None, opened.store_id.bytes):
        close_store(opened, user)
        raise store_changed(url, opened.store_id.bytes, store_id)
    return opened


def _check_there(url: str, store_id: bytes) -> None:
    """Raise ``StoreChanged`` if there is no store: opening the URL would create another than is wanted."""
    _, path = locate(url)
    if path is None or scheme_of(path) is None:
        raise StoreChanged(
            f"there is no store at {url}, so not the store {uuid.UUID(bytes=store_id)}: give the path of "
            "that one"
        )


def close_store(opened: OpenedStore, user: object) -> None:
    """End what ``user`` has of a store, which is closed with its last user."""
    with _opening:
        opened.users.discard(user)
        if not opened.users:
            if opened.place is not None and _opened.get(opened.place) is opened:
                del _opened[opened.place]
            opened.close()


def _find(url: str, read_only: bool) -> OpenedStore | None:
    """The open store at a URL, None if there is none."""
    scheme, path = locate(url)
    place = None if path is None else place_of(path)
    opened = None if place is None else _opened.get(place)
    if opened is None or opened.has_ended():
        return None
    if scheme not in ("", opened.scheme):
        raise StoreForeign(
            f"{path} holds a store of scheme {opened.scheme!r}, not {scheme!r}: "
            f"open it as {opened.scheme}:{path}"
        )
    if read_only != opened.read_only:
        how = "read-only" if opened.read_only else "to be written"
        raise StoreLocked(
            f"the store {path} is open in this process {how}: open it in the same way, which shares "
            "it, or close it first"
        )
    return opened


def _forget_the_parents() -> None:
    """In a forked child: nothing is open, and what the parent has open is never collected.

    That would close it, in the middle of what its threads were doing: SQLite may then remove commits
    of its next owner, and LevelDB waits for a thread that the child does not have.
    """
    global _opening
    _opening = threading.Lock()
    for opened in _opened.values():
        pythonapi.Py_IncRef(py_object(opened))
    _opened.clear()


os.register_at_fork(after_in_child=_forget_the_parents)
