"""A store in this process behind the client's API: no daemon, no sockets.

Requests take the same way as over the wire: encoded, decoded and checked by wire/, answered by
answers.py, with the same frames, so that results and errors are the same.

Clients of one store share it; opened.py has it, and the lock around it.

Next: blocking.py, which opens this; daemon/server.py is the same thing behind sockets.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from rewind.answers import answer_appends
from rewind.client.follow import Delivery
from rewind.client.opened import close_store, open_store
from rewind.client.requests import Call, closed, narrowed, parse_reply
from rewind.errors import Closed, ConditionTooWide, RequestError, RewindError
from rewind.events import Append
from rewind.wire.envelope import Request, decode_request
from rewind.wire.replies import Reply, encode_error

_ROUTE = [b"embedded", b""]  # Requests look as if a connection of this name had sent them.


class Embedded:
    """A client's use of a store that is open in this process. Any thread of that process."""

    def __init__(self, url: str, read_only: bool = False, store_id: bytes | None = None) -> None:
        """``store_id``: the store that must be there, 16 bytes; None: whichever is, or a new one."""
        self.url = url
        self._user = object()
        self._opened = open_store(url, self._user, read_only, store_id)
        self._closed = False
        self._pid = os.getpid()

    def ask(self, call: Call[Any]) -> None:
        """Nothing is gained by asking a store in this process early: ``answer`` does."""

    def answer(self, call: Call[Any]) -> Reply:
        """Answer a call. Raises what it is refused with, or a ``StoreError``."""
        self.check_open()
        call.outcome = call.from_its_store(self._ask(call))
        while isinstance(call.outcome, ConditionTooWide):
            call.body = narrowed(call.body, call.outcome)
            call.outcome = call.from_its_store(self._ask(call))
        return call.result()

    def _ask(self, call: Call[Any]) -> Reply | RewindError:
        request = decode_request(
            [*_ROUTE, call.command, b"", call.body], store_id=self._opened.store_id.bytes
        )
        try:
            frames = self._answer(request)
        except RequestError as refused:
            frames = encode_error(request, refused)
        return parse_reply(frames[len(_ROUTE) :], self.url)[1]

    def _answer(self, request: Request) -> list[bytes]:
        if isinstance(request.body, Append):
            return answer_appends(request, iter([self._opened.append(request.body)]))
        return self._opened.answer(request)

    def forget(self, call: Call[Any]) -> None:
        """There is nothing to forget."""

    def read(self, body: bytes) -> Reply:
        """Answer one READ."""
        return self.answer(Call(self.url, b"READ", body, lambda reply: reply, 0.0))

    def follow(self, delivery: Delivery) -> EmbeddedSource:
        self.check_open()
        return EmbeddedSource(self, delivery)

    def close(self) -> None:
        """End this client's use of the store, which is closed with its last one."""
        if os.getpid() != self._pid:
            return
        self._closed = True
        close_store(self._opened, self._user)

    def listen(self, listener: Callable[[], None]) -> None:
        """Call this after every commit and on closing, from whichever thread that is."""
        self._opened.listen(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call this no longer."""
        self._opened.unlisten(listener)

    def check_open(self) -> None:
        """Raise ``Closed``, or how the store has failed, unless it can be used."""
        if os.getpid() != self._pid:
            raise Closed(
                f"the store {self.url} was opened by process {self._pid}, which has it alone: open "
                "it after the fork, in one process, or let a daemon have it"
            )
        if self._closed:
            raise closed()
        self._opened.check_open()


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
