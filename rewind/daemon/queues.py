"""The queue of a connection: what it asked for and has not got yet, in the order sent.

READs may be passed by appends that were sent behind them: such a READ is answered as of the head in
front of the append, and the append's reply has its place behind the READ's. Whatever else is in a queue
lets no append past.

Here is what a queue holds, and its bounds. Who has a turn when: reads.py.
"""

from __future__ import annotations

from collections import deque

import msgspec

from rewind.daemon.waiting import WaitingRead
from rewind.wire.envelope import Request

QUEUED_MAX = 1_024  # a connection may have so many requests waiting; more are refused
QUEUED_BYTES_MAX = 32 * 1024 * 1024  # the same bound where they, or replies in between, are large


class GorewindAnswer(msgspec.Struct):
    """A gorewind QUERY that is half answered: versions ``after < version <= until`` are to be sent."""

    request: Request
    stream: str
    after: int
    until: int


class PageRead(msgspec.Struct):
    """A READ of a range that does not wait. ``head``: as of which it is answered; None: as the store is."""

    request: Request
    head: int | None = None


class Passed(msgspec.Struct):
    """An append that went past READs, where its ``reply`` has its place; ``dropped`` with its queue."""

    request: Request
    reply: list[bytes] = []
    dropped: bool = False


Entry = Request | PageRead | Passed | WaitingRead | GorewindAnswer


class Queue:
    """What one connection asked for and has not got yet, each with its size in bytes.

    ``size``: of all requests, and of the replies to appends that went past READs.
    """

    def __init__(self) -> None:
        self.entries: deque[tuple[Entry, int]] = deque()
        self.size = 0
        self.connection: int | None = None  # It is known once a read that may wait has come.
        self.obstacles = 0  # So many entries let no append past.
        self.unbound: deque[PageRead] = deque()  # No append has gone past these.

    @property
    def is_full(self) -> bool:
        """Whether it holds as much as it may."""
        return len(self.entries) >= QUEUED_MAX or self.size > QUEUED_BYTES_MAX

    def add(self, entry: Entry, size: int) -> None:
        """Put an entry at the end."""
        self.entries.append((entry, size))
        self.size += size
        if isinstance(entry, PageRead):
            self.unbound.append(entry)
        elif not isinstance(entry, Passed):
            self.obstacles += 1

    def put_in_front(self, entry: WaitingRead | GorewindAnswer) -> None:
        """Put an entry back in front of the others."""
        self.entries.appendleft((entry, 0))
        self.obstacles += 1

    def take(self) -> Entry:
        """Take the first entry out."""
        entry, size = self.entries.popleft()
        self.size -= size
        if isinstance(entry, Passed):
            self.size -= sum(map(len, entry.reply))
        elif not isinstance(entry, PageRead):
            self.obstacles -= 1
        elif self.unbound and self.unbound[0] is entry:
            self.unbound.popleft()
        return entry

    def answer(self, passed: Passed, reply: list[bytes]) -> None:
        """Keep the reply to an append that went past READs until it is its turn."""
        if not passed.dropped:
            passed.reply = reply
            self.size += sum(map(len, reply))

    def clear(self) -> None:
        """Drop everything."""
        for entry, _ in self.entries:
            if isinstance(entry, Passed):
                entry.dropped = True
        self.entries.clear()
        self.unbound.clear()
        self.size = self.obstacles = 0
