"""What waits to be answered: the queues of connections (queues.py), and reads that wait for events.

Requests of one connection take effect in the order sent, and are answered in that order. So whatever
comes behind a read that has not had its turn queues behind it. Appends do not wait there for READs:
they go past them into the batch, so that a connection which reads and appends in turn, as an asyncio
client for a hundred callers does, has many appends in a commit. Such a READ is answered as of the head
in front of the append, and the append's reply takes its place in the queue. Behind anything else an
append waits for its turn, and is then carried into the next batch.

The connections with a queue take turns, a bounded piece of work each, and only while their reader takes
what it is sent. A READ with ``wait_ms`` that finds nothing is kept aside until a commit has brought it
something, or its time is up (waiting.py). Each connection has a share of the places for these. When
places are short, the reads whose connection has ended are answered: should somebody be there after all,
an early answer does no harm, and otherwise ZeroMQ says that nobody is.

Not here: sockets and when to do all this (server.py), what a peer takes (peers.py), the answers
themselves (answers.py). Nothing here knows ZeroMQ, and the clock can be passed in.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Protocol

from rewind import answers
from rewind.answers import About
from rewind.daemon.notices import Notices
from rewind.daemon.queues import GorewindAnswer, PageRead, Passed, Queue
from rewind.daemon.waiting import Waiting, WaitingRead, places_of
from rewind.errors import Overloaded, RequestError, ShuttingDown, StoreDamaged
from rewind.events import Append, Appended, Record
from rewind.store import Store
from rewind.wire import native, old, replies
from rewind.wire.envelope import GOREWIND, Request
from rewind.wire.native import Appends, Read
from rewind.wire.old import OldQuery

PIECE_EVENTS = 256  # a gorewind answer is sent so many events a turn, in less than a millisecond
PIECE_BYTES = 256 * 1024  # the same bound where events are large
DEPARTED_S = 0.1  # while places are short, connections are looked at again after that
RETRY_S_MIN, RETRY_S_MAX = 0.001, 0.1  # peers that take nothing are looked at again after that

_APPENDS = (Append, Appends)  # a tuple, because a union would be built anew for every request


class Recipients(Protocol):
    """What is asked of the peers that replies go to: ``Peers`` of peers.py over a socket."""

    @property
    def blocked(self) -> bool:
        """Whether replies wait for room in somebody's pipe."""

    def ready(self, peer: bytes) -> bool:
        """Whether this peer takes what is sent to it."""

    def send(self, message: Sequence[bytes]) -> bool:
        """Send a reply, the peer first; False if that peer is gone, or does not read."""

    def flush(self) -> bool:
        """Try again to send what waits; True if anything left."""

    def connected(self, connection: int | None) -> bool:
        """Whether this connection is known and open."""


class Reads:
    """Everything that waits to be answered.

    A request is in its connection's queue, among the waiting reads, or, if it is an append whose
    turn has come, carried into the next batch. Between two calls this holds: a peer that has a queue
    is in the rotation exactly once, and no other peer is; a queue is empty only if its peer was
    forgotten; and nothing behind a carried append is looked at before ``take_carried``.

    At shutdown ``end_waiting`` gives every waiting read its turn, in which it is answered with what
    there is, ``serve`` goes on as before, and ``refuse_rest`` answers what had no turn in time with
    ``shutting_down``. So every request has an answer, unless its peer is gone or does not read.

    ``clock``: seconds, monotonic.
    """

    def __init__(
        self,
        store: Store,
        about: About,
        peers: Recipients,
        clock: Callable[[], float] = time.monotonic,
        notices: Notices | None = None,
    ) -> None:
        self._store = store
        self._about = about
        self._peers = peers
        self._clock = clock
        self._notices = Notices(clock) if notices is None else notices
        #: By peer. Who has a queue must have everything it asks for put into it, with ``enqueue`` or,
        #: an append, with ``lets_past``.
        self.queues: dict[bytes, Queue] = {}
        self._rotation: deque[bytes] = deque()
        self._carried: list[Request] = []
        # By an append's place in the batch: the READs that it went past, and where its reply goes.
        self._past: dict[int, tuple[list[PageRead], Passed, Queue]] = {}
        self._waiting = Waiting()
        self._departed_s = -math.inf
        self._ending = False
        #: True when no peer with a queue takes anything; then the poll sleeps instead of spinning.
        self.stuck = False
        self._retry_s = RETRY_S_MIN

    # What comes in, and when to come back

    def enqueue(self, request: Request, size: int, connection: int | None = None) -> None:
        """Queue a request of ``size`` bytes behind what its connection asked for before.

        ``connection``: the number of its connection, to be given with a read that may wait.
        """
        queue = self._queue_of(request.peer)
        if queue.is_full:
            refusal = Overloaded(f"{len(queue.entries)} requests of this connection wait already")
            self._refuse(request, refusal)
            return
        body = request.body
        ranged = isinstance(body, Read) and not body.wait_ms and body.id is body.append_id is None
        queue.add(PageRead(request) if ranged else request, size)
        queue.connection = connection or queue.connection

    def lets_past(self, request: Request, place: int) -> bool:
        """Whether an append may go into the batch, at this place of it, before what its connection has
        asked for is answered. If so, ``committed`` and ``reply`` must follow."""
        queue = self.queues.get(request.peer)
        if queue is None or not queue.entries:
            return True
        if queue.obstacles or queue.is_full:
            return False
        passed = Passed(request)
        self._past[place] = (list(queue.unbound), passed, queue)
        queue.unbound.clear()
        queue.add(passed, 0)
        return True

    def committed(
        self, batch: Sequence[Request], outcomes: Iterable[Appended | RequestError], head: int
    ) -> None:
        """A batch was committed. ``head``: as it was before. ``reply`` follows for each of its requests."""
        if not self._past:
            return
        results = iter(outcomes)
        for place, request in enumerate(batch):
            for read in self._past[place][0] if place in self._past else ():
                read.head = head
            for outcome in islice(results, len(answers.appends_in([request]))):
                if isinstance(outcome, Appended) and not outcome.duplicate:
                    head = max(head, outcome.last)

    def reply(self, place: int, message: list[bytes]) -> None:
        """Reply to the request at this place of a batch, when it is its turn."""
        if place in self._past:
            _, passed, queue = self._past.pop(place)
            queue.answer(passed, message)
        else:
            self._send(message)

    def take_carried(self) -> list[Request]:
        """The appends whose turn has come: the first of the next batch."""
        carried, self._carried = self._carried, []
        return carried

    @property
    def pending(self) -> bool:
        """Whether anything has not had its turn; waiting reads have had it."""
        return bool(self._rotation)

    @property
    def busy(self) -> bool:
        """Whether there is something to do at once."""
        return bool(self._carried or (self._rotation and not self.stuck))

    @property
    def waiting_count(self) -> int:
        """How many reads wait."""
        return len(self._waiting)

    def due_s(self) -> float | None:
        """When ``wake`` or ``serve`` wants to be called; None: when something has happened."""
        due_s = self._waiting.due_s()
        if self._rotation or self._peers.blocked:
            retry_s = self._clock() + self._retry_s
            due_s = retry_s if due_s is None else min(due_s, retry_s)
        return due_s

    def _queue_of(self, peer: bytes) -> Queue:
        queue = self.queues.get(peer)
        if queue is None:
            queue = self.queues[peer] = Queue()
            self._rotation.append(peer)
        return queue

    # Serving

    def serve(self, until_s: float) -> None:
        """Answer in rotation until the time is up; what is left waits for the next call."""
        assert not self._carried, "carried appends are committed first"
        moved = self._peers.flush() if self._peers.blocked else False
        skipped: list[bytes] = []  # These peers have to wait for the next call.
        while self._rotation:
            peer = self._rotation.popleft()
            queue = self.queues[peer]
            if queue.entries and not self._peers.ready(peer):
                skipped.append(peer)
                continue
            moved = True
            carried = bool(queue.entries) and self._serve_one(queue)
            if not queue.entries:
                del self.queues[peer]
            elif carried:
                skipped.append(peer)
            else:
                self._rotation.append(peer)
            if self._clock() >= until_s:
                break
        self._rotation.extend(skipped)
        assert len(self._rotation) == len(self.queues)
        self.stuck = not moved
        self._retry_s = RETRY_S_MIN if moved else min(self._retry_s * 2, RETRY_S_MAX)

    def _serve_one(self, queue: Queue) -> bool:
        """Give the first entry of a queue its turn; True if it is an append, which is carried."""
        entry = queue.take()
        if isinstance(entry, Request) and isinstance(entry.body, _APPENDS):
            self._carried.append(entry)
            return True
        request = entry if isinstance(entry, Request) else entry.request
        try:
            if isinstance(entry, PageRead):
                page = self._store.read(request.body, entry.head)
                self._send(replies.encode_read(request, page))
            elif isinstance(entry, Passed):
                self._send(entry.reply)
            elif isinstance(entry, GorewindAnswer):
                self._send_piece(queue, entry)
            elif isinstance(entry, WaitingRead):
                self._read(request, entry.further(), entry.deadline_s, entry.connection)
            else:
                self._answer(queue, request)
        except RequestError as refused:
            self._refuse(request, refused)
        except StoreDamaged as damage:
            self._refuse(request, self._store.refusal(damage))
        return False

    def _answer(self, queue: Queue, request: Request) -> None:
        body = request.body
        if isinstance(body, Read) and body.wait_ms:
            self._read(request, body, self._clock() + body.wait_ms / 1000, queue.connection)
        elif isinstance(body, OldQuery) and request.dialect == GOREWIND:
            self._begin_gorewind(queue, request, body)
        else:
            self._send(answers.answer(request, self._store, self._about))

    def _send(self, message: list[bytes]) -> bool:
        """Send a reply, or forget a peer that does not get it."""
        if self._peers.send(message):
            return True
        self.forget(message[0])
        return False

    def _refuse(self, request: Request, refusal: RequestError) -> None:
        self._notices.refused(request.peer, refusal)
        self._send(replies.encode_error(request, refusal))

    def forget(self, peer: bytes) -> None:
        """Drop what a peer that is gone, or does not read, has in its queue, and its waiting reads."""
        queue = self.queues.get(peer)
        if queue is not None:
            queue.clear()
        if self._waiting.places_of(peer):
            self._waiting.take_where(lambda waiting: waiting.request.peer == peer)

    # Reads that wait

    def _read(
        self, request: Request, read: Read, deadline_s: float, connection: int | None
    ) -> None:
        """Answer a READ, or let it wait until something may match or its time is up."""
        page = self._store.read(read)
        can_match_later = not page.count and page.end and not page.complete and read.limit != 0
        if not can_match_later or self._clock() >= deadline_s or self._ending:
            self._send(replies.encode_read(request, page))
            return
        peer = request.peer
        places = places_of(read)
        self._check_places(peer, places)
        self._waiting.add(WaitingRead(request, read, page.next, deadline_s, connection, places))

    def _check_places(self, peer: bytes, places: int) -> None:
        """Raise ``Overloaded`` unless one more waiting read of this peer has the places that it takes."""
        if self._no_place(peer, places):
            self._end_departed()
        if full := self._no_place(peer, places):
            raise Overloaded(f"{full} wait already; try again without wait_ms")

    def _no_place(self, peer: bytes, places: int) -> str:
        """Whose waiting reads are as many as may be; empty if there is a place."""
        if self._waiting.places_of(peer) + places > native.WAITING_READS_EACH_MAX:
            return (
                f"{native.WAITING_READS_EACH_MAX} reads of this connection, or of many names fewer,"
            )
        if self._waiting.places + places > native.WAITING_READS_MAX:
            return f"{native.WAITING_READS_MAX} reads, or of many names fewer,"
        return ""

    def _end_departed(self) -> None:
        """Give a turn, in which they are answered, to the reads whose connection has ended."""
        now_s = self._clock()
        if now_s < self._departed_s + DEPARTED_S:
            return
        self._departed_s = now_s
        connected = self._peers.connected
        for waiting in self._waiting.take_where(lambda read: not connected(read.connection)):
            waiting.deadline_s = now_s
            self._put_in_front(waiting)

    def wake(self, records: Sequence[Record]) -> None:
        """Give a turn to the waiting reads whose time is up or that these records concern, which are all
        that became durable since the last call."""
        if self._waiting:
            for waiting in self._waiting.take(records, self._clock()):
                self._put_in_front(waiting)

    def _put_in_front(self, waiting: WaitingRead) -> None:
        """Queue a read again, in front of what its connection asked for later."""
        self._queue_of(waiting.request.peer).put_in_front(waiting)

    # gorewind's answers of many messages

    def _begin_gorewind(self, queue: Queue, request: Request, query: OldQuery) -> None:
        assert query.stream is not None
        after, until = self._store.range_between(query.after_id, query.until_id, query.stream)
        self._send_piece(queue, GorewindAnswer(request, query.stream, after, until))

    def _send_piece(self, queue: Queue, answer: GorewindAnswer) -> None:
        """Send the next piece of a gorewind answer, as far as its reader takes it."""
        request = answer.request
        piece = Read(
            stream=answer.stream,
            after=answer.after,
            until=answer.until,
            limit=PIECE_EVENTS,
            max_bytes=PIECE_BYTES,
        )
        events = self._store.read(piece).events if answer.after < answer.until else []
        for event in events:
            if not self._send(old.encode_event(request.route, event.id_bytes, event.data)):
                return
            answer.after += 1
            if not self._peers.ready(request.peer):
                break
        if answer.after < answer.until:
            queue.put_in_front(answer)
        else:
            self._send(old.encode_end(request.route))

    # The end

    def end_waiting(self) -> None:
        """Give every waiting read its turn, and let no further read wait."""
        self._ending = True
        for waiting in self._waiting.take_where(lambda waiting: True):
            self._put_in_front(waiting)

    def refuse_rest(self) -> None:
        """Answer what has not had its turn with ``shutting_down``."""
        for queue in self.queues.values():
            while queue.entries:  # sending to a peer that is gone empties its queue
                entry = queue.take()
                if isinstance(entry, Passed):
                    self._send(entry.reply)
                    continue
                request = entry if isinstance(entry, Request) else entry.request
                refusal = ShuttingDown("the daemon is stopping")
                self._refuse(request, refusal)
