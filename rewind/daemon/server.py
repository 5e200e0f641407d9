"""The sockets and the turn. One thread, one straight line, over and over:

    drain what has arrived -> decode -> plan -> one durable commit -> replies in order of arrival
    -> feeds -> what the store has left to do -> half a millisecond of reads, round robin

While one commit syncs, the next group queues in ZeroMQ: that is the whole of group commit, without
a delay to tune. The poll's time-out (parked reads, heartbeats, outboxes) is the only clock.

Requests of one connection take effect in the order sent: whatever comes behind a read that still
waits for its turn queues behind it. Reads are cut into bounded slices, so a full scan costs an
append about three milliseconds at most, and they are made only as fast as their reader takes them.

Not here: what frames mean (wire/native.py), the rules (store/), signals and exit codes (process.py).
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import zmq

from rewind.answers import About, answer, answer_appends, appends_in
from rewind.daemon.feeds import Feed, Feeds
from rewind.daemon.peers import PIPE_MESSAGES_MAX, Peers
from rewind.daemon.settings import Settings
from rewind.errors import (
    BadConfiguration,
    BindNotPermitted,
    CannotBind,
    Internal,
    Overloaded,
    RequestError,
    ShuttingDown,
    StoreDamaged,
)
from rewind.events import Append, Record
from rewind.store import Store
from rewind.wire import envelope, native, old, replies
from rewind.wire.envelope import GOREWIND, Request
from rewind.wire.messages import receive_routed
from rewind.wire.native import Appends, Read
from rewind.wire.old import OldQuery

GROUP_APPENDS_MAX = 1_024  # with so many no further message is taken: replies would be late
GROUP_BYTES_MAX = 4 * 1024 * 1024  # a commit of small events stays well below a second
PART_BYTES = 1_024  # what each append of a message counts besides its bytes, as it is in memory
RECEIVED_MESSAGES_MAX = 1_000  # requests ZeroMQ holds for one peer before TCP pushes back
SUBSCRIPTION_BYTES_MAX = 1_024  # a topic is a stream's name; a longer one drops its connection
READS_S = 0.0005  # what reads may take of a turn while appends wait, but for the last one begun
QUEUED_MAX = 1_024  # requests of one connection behind a read that has not had its turn
QUEUED_BYTES_MAX = 32 * 1024 * 1024
PIECE_EVENTS = 256  # of a gorewind answer, between looks at the clock
PIECE_BYTES = 256 * 1024
RETRY_S_MIN, RETRY_S_MAX = 0.001, 0.1  # between looks at peers that are not reading
FINISH_S = 1.0  # committing and answering what was received, when asked to stop
LINGER_MS = 1_000  # sending the last replies

NOW = int(zmq.DONTWAIT)
COMMITTED = (Append, Appends)  # tuples: a union would be made anew for every message
GROUPED = (*COMMITTED, RequestError)  # what goes into a turn's group; all else is a read

logger = logging.getLogger("rewind")


class _Parked(msgspec.Struct):
    """A READ that found nothing, waiting for events until ``deadline_s`` (monotonic)."""

    request: Request
    query: Read
    deadline_s: float


class _Cursor(msgspec.Struct):
    """A gorewind QUERY under way: versions ``after < n <= until`` are still to be sent."""

    request: Request
    stream: str
    after: int
    until: int


class _Queue:
    """What one connection asked for and has not got yet, each with its size in bytes."""

    def __init__(self) -> None:
        self.entries: deque[tuple[Request | _Parked | _Cursor, int]] = deque()
        self.size = 0


class Server:
    """A store behind its sockets.

    ``run`` serves until ``stop`` is called, from any thread or a signal handler. Raises
    ``CannotBind`` from the constructor and ``StoreFailed`` from ``run``.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._context = zmq.Context()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_write.setblocking(False)
        self._stopping = False
        self._carried: list[Request] = []
        self._queues: dict[bytes, _Queue] = {}
        self._rotation: deque[bytes] = deque()
        self._parked: dict[int, _Parked] = {}
        self._parkings = 0
        self._stuck = False  # whether the last turn could serve none of those waiting
        self._retry_s = RETRY_S_MIN
        self.endpoints: dict[str, list[str]] = {}
        self._about = About(self.endpoints, settings.max_event_bytes, settings.insecure)
        try:
            self._bind()
        except BaseException:
            self._close(0)
            raise

    # Sockets

    def _bind(self) -> None:
        settings = self._settings
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read.fileno(), zmq.POLLIN)
        self._router = self._socket(zmq.ROUTER, RECEIVED_MESSAGES_MAX, PIPE_MESSAGES_MAX)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.MAXMSGSIZE, envelope.DROPPED_BYTES)
        self._peers = Peers(self._router)
        self._bind_to(self._router, "incoming", settings.incoming_bind)
        self._feeds = Feeds(
            self._feed("streaming", settings.streaming_bind),
            self._feed("topic", settings.topic_bind),
            self._feed("gorewind", settings.gorewind_bind),
            self._store.last_id(),
        )

    def _socket(self, kind: int, received: int, sent: int) -> zmq.Socket[bytes]:
        made: zmq.Socket[bytes] = self._context.socket(kind)
        made.setsockopt(zmq.LINGER, LINGER_MS)
        made.setsockopt(zmq.RCVHWM, received)
        made.setsockopt(zmq.SNDHWM, sent)
        made.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._poller.register(made, zmq.POLLIN)
        return made

    def _feed(self, name: str, endpoints: Sequence[str]) -> Feed | None:
        self.endpoints[name] = []
        if not endpoints:
            return None
        made = self._socket(zmq.XPUB, RECEIVED_MESSAGES_MAX, self._settings.feed_messages)
        made.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES_MAX)
        self._bind_to(made, name, endpoints)
        return Feed(made)

    def _bind_to(self, made: zmq.Socket[bytes], name: str, endpoints: Sequence[str]) -> None:
        self.endpoints[name] = bound = []
        for endpoint in endpoints:
            _refuse_used_ipc(endpoint)
            made.setsockopt(
                zmq.IPV6, "[" in endpoint
            )  # else 127.0.0.1 would be told as ::ffff:127.0.0.1
            try:
                made.bind(endpoint)
            except zmq.ZMQError as error:
                raise _bind_error(name, endpoint, error) from error
            last: bytes = made.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
            bound.append(last.rstrip(b"\0").decode())

    # The turn

    def run(self, stopping: Callable[[], None] = lambda: None) -> None:
        """Serve until stopped; then commit and answer what was received, and close the sockets.

        ``stopping`` is called when the ending begins.
        """
        try:
            while not self._stopping:
                self.turn(self._timeout_ms())
            stopping()
            self._finish()
        finally:
            self._close(LINGER_MS)

    def stop(self) -> None:
        """Ask ``run`` to end. Safe from signal handlers and other threads."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"x")

    def wake_fileno(self) -> int:
        """A non-blocking descriptor; a byte written to it ends the poll."""
        return self._wake_write.fileno()

    def turn(self, timeout_ms: int | None) -> None:
        """One turn; waits for something to do at most so long."""
        arrived = self._poller.poll(timeout_ms)
        group = self._drain(arrived)
        records = self._commit(group)
        self._feeds.publish(records, time.monotonic())
        self._store.settle()
        self._wake_parked(records)
        self._serve_reads(time.monotonic() + READS_S)
        self._feeds.heartbeat(self._store.head, time.monotonic())

    def _timeout_ms(self) -> int | None:
        """How long nothing will be due; None: until something arrives."""
        if self._carried or (self._rotation and not self._stuck):
            return 0
        due = [parked.deadline_s for parked in self._parked.values()]
        if (heartbeat := self._feeds.next_heartbeat()) is not None:
            due.append(heartbeat)
        now_s = time.monotonic()
        if self._peers.blocked or self._rotation:
            due.append(now_s + self._retry_s)
        return max(0, int((min(due) - now_s) * 1000) + 1) if due else None

    def _drain(self, arrived: Sequence[tuple[object, int]]) -> list[Request]:
        """What has arrived, bounded: appends and errors in their order; reads go to their queues."""
        group, self._carried = self._carried, []
        sockets = {made for made, _ in arrived}
        for feed in self._feeds.all:
            if feed.socket in sockets:
                feed.read_subscriptions()
        if self._wake_read.fileno() in sockets:
            self._wake_read.recv(64)
        if self._router not in sockets:
            return group
        recv, decode = self._router.recv, envelope.decode_request
        event_bytes_max = self._settings.max_event_bytes
        count = sum(map(_append_count, group))
        size = 0
        while count < GROUP_APPENDS_MAX and size < GROUP_BYTES_MAX:
            try:
                frames = receive_routed(recv, NOW)
            except zmq.Again:
                break
            request = decode(frames, event_bytes_max)
            peer, appends = request.route[0], _append_count(request)
            request_bytes = sum(map(len, frames)) + PART_BYTES * (appends - 1)
            if (
                not isinstance(request.body, GROUPED)
                or peer in self._queues
                or self._peers.behind(peer)
            ):
                self._enqueue(request, request_bytes)
            else:
                group.append(request)
            count += appends
            size += request_bytes
        return group

    def _commit(self, group: Sequence[Request]) -> list[Record]:
        """One durable commit, then every reply in order of arrival. Returns the new records."""
        if not group:
            return []
        appends = appends_in(group)
        outcomes, records = self._store.append(appends) if appends else ([], [])
        results = iter(outcomes)
        for request in group:
            self._send(answer_appends(request, results))
        return records

    def _send(self, message: list[bytes]) -> bool:
        """Send a reply; what else a vanished peer asked for is forgotten with it."""
        if self._peers.send(message):
            return True
        if (queue := self._queues.get(message[0])) is not None:
            queue.entries.clear()
            queue.size = 0
        return False

    # Reads

    def _enqueue(self, request: Request, size: int) -> None:
        """Queue a request behind what its connection asked for before."""
        queue = self._queues.get(request.peer)
        if queue is None:
            queue = self._queues[request.peer] = _Queue()
            self._rotation.append(request.peer)
        if len(queue.entries) >= QUEUED_MAX or queue.size > QUEUED_BYTES_MAX:
            self._send(
                replies.encode_error(
                    request,
                    Overloaded(f"{len(queue.entries)} requests of this connection wait already"),
                )
            )
            return
        queue.entries.append((request, size))
        queue.size += size

    def _serve_reads(self, until_s: float) -> None:
        """Answer reads in rotation until the time is up; the rest waits for the next turn."""
        moved = self._peers.flush() if self._peers.blocked else False
        waiting: list[bytes] = []
        while self._rotation:
            peer = self._rotation.popleft()
            queue = self._queues[peer]
            if queue.entries and not self._peers.ready(peer):
                waiting.append(peer)
                continue
            moved = True
            carried = bool(queue.entries) and self._serve(queue)
            if not queue.entries and not carried:
                del self._queues[peer]
            elif carried:
                waiting.append(peer)
            else:
                self._rotation.append(peer)
            if time.monotonic() >= until_s:
                break
        self._rotation.extend(waiting)
        self._stuck = not moved
        self._retry_s = RETRY_S_MIN if moved else min(self._retry_s * 2, RETRY_S_MAX)

    def _serve(self, queue: _Queue) -> bool:
        """One entry of a queue; True if it was an append, which the next turn commits."""
        entry, size = queue.entries.popleft()
        queue.size -= size
        if isinstance(entry, Request) and isinstance(entry.body, COMMITTED):
            self._carried.append(entry)
            return True
        request = entry if isinstance(entry, Request) else entry.request
        try:
            if isinstance(entry, _Cursor):
                self._continue(queue, entry)
            elif isinstance(entry, _Parked):
                self._read(request, entry.query, entry.deadline_s)
            else:
                self._answer(queue, request)
        except RequestError as refused:
            self._send(replies.encode_error(request, refused))
        except StoreDamaged as damage:
            self._send(replies.encode_error(request, _damaged(damage)))
        return False

    def _answer(self, queue: _Queue, request: Request) -> None:
        body = request.body
        if isinstance(body, Read) and body.wait_ms:
            self._read(request, body, time.monotonic() + body.wait_ms / 1000)
        elif isinstance(body, OldQuery) and request.dialect == GOREWIND:
            self._query(queue, request, body)
        else:
            self._send(answer(request, self._store, self._about))

    def _read(self, request: Request, query: Read, deadline_s: float) -> None:
        """Answer a READ, or park it until something matches or its time is up."""
        answer = self._store.read(query)
        waits = query.wait_ms and not answer.count and answer.end and not answer.complete
        if not waits or query.limit == 0 or time.monotonic() >= deadline_s or self._stopping:
            self._send(replies.encode_read(request, answer))
            return
        if len(self._parked) >= native.WAITING_READS_MAX:
            raise Overloaded(
                f"{native.WAITING_READS_MAX} reads wait already; try again without wait_ms"
            )
        self._parkings += 1
        further = msgspec.structs.replace(query, after=answer.next)
        self._parked[self._parkings] = _Parked(request, further, deadline_s)

    def _wake_parked(self, records: Sequence[Record]) -> None:
        """Queue the parked reads that may have something now, or whose time is up."""
        if not self._parked:
            return
        now_s = time.monotonic()
        touched = {record.event.stream for record in records}
        for key, parked in list(self._parked.items()):
            stream = parked.query.stream
            if parked.deadline_s <= now_s or (touched and (stream is None or stream in touched)):
                del self._parked[key]
                self._requeue(parked)

    def _requeue(self, entry: _Parked) -> None:
        """Put back what was begun, in front of what its connection asked for later."""
        peer = entry.request.peer
        if peer not in self._queues:
            self._queues[peer] = _Queue()
            self._rotation.append(peer)
        self._queues[peer].entries.appendleft((entry, 0))

    # Gorewind's reads

    def _query(self, queue: _Queue, request: Request, query: OldQuery) -> None:
        assert query.stream is not None
        after, until = self._store.range_between(query.after_id, query.until_id, query.stream)
        self._continue(queue, _Cursor(request, query.stream, after, until))

    def _continue(self, queue: _Queue, cursor: _Cursor) -> None:
        """Send the next piece of a gorewind answer, as far as its reader takes it."""
        request = cursor.request
        piece = Read(
            stream=cursor.stream,
            after=cursor.after,
            until=cursor.until,
            limit=PIECE_EVENTS,
            max_bytes=PIECE_BYTES,
        )
        events = self._store.read(piece).events if cursor.after < cursor.until else []
        for event in events:
            if not self._send(old.encode_event(request.route, event.id_bytes, event.data)):
                return
            cursor.after += 1
            if not self._peers.ready(request.peer):
                break
        if cursor.after < cursor.until:
            queue.entries.appendleft((cursor, 0))
        else:
            self._send(old.encode_end(request.route))

    # The end

    def _finish(self) -> None:
        """Commit and answer what was received, within a bounded time.

        The endpoints stay bound until the end: in ZeroMQ unbinding takes the accepted connections
        along, and with them the answers.
        """
        deadline_s = time.monotonic() + FINISH_S
        while time.monotonic() < deadline_s and (
            group := self._drain([(self._router, zmq.POLLIN)])
        ):
            self._feeds.publish(self._commit(group), time.monotonic())
        for parked in self._parked.values():
            self._requeue(parked)
        self._parked.clear()
        while (self._rotation or self._peers.blocked) and time.monotonic() < deadline_s:
            self._serve_reads(deadline_s)
            group, self._carried = self._carried, []
            self._feeds.publish(self._commit(group), time.monotonic())
            if self._stuck:
                time.sleep(RETRY_S_MIN)  # until the peers, or ZeroMQ, have taken something
        for queue in self._queues.values():
            for entry, _ in queue.entries:
                request = entry if isinstance(entry, Request) else entry.request
                self._send(replies.encode_error(request, ShuttingDown("the daemon is stopping")))

    def _close(self, linger_ms: int) -> None:
        self._context.destroy(linger=linger_ms)
        self._wake_read.close()
        self._wake_write.close()


def _append_count(request: Request) -> int:
    """What a message counts towards a group."""
    return len(request.body.parts) if isinstance(request.body, Appends) else 1


def _damaged(damage: StoreDamaged) -> Internal:
    logger.error("a read met damage: %s", damage)
    return Internal(f"the store is damaged there: {damage}")


def _refuse_used_ipc(endpoint: str) -> None:
    """ZeroMQ would take a Unix socket over from the process that listens on it."""
    if not endpoint.startswith("ipc://"):
        return
    path = endpoint.removeprefix("ipc://")
    if path.startswith("@") or not Path(path).is_socket():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except OSError:
            return  # a leftover nobody listens on
    raise CannotBind(f"cannot bind {endpoint}: another process listens there")


def _bind_error(name: str, endpoint: str, error: zmq.ZMQError) -> CannotBind | BadConfiguration:
    where = f"--{name}-bind {endpoint}"
    if error.errno == zmq.EADDRINUSE:
        return CannotBind(
            f"cannot bind {where}: the address is in use; stop the other program or choose another "
            "port (* takes a free one)"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return BindNotPermitted(f"cannot bind {where}: {os.strerror(error.errno)}")
    if error.errno in (errno.EINVAL, errno.EPROTONOSUPPORT):
        return BadConfiguration(f"{where}: ZeroMQ does not accept this endpoint")
    return CannotBind(f"cannot bind {where}: {error.strerror}")
