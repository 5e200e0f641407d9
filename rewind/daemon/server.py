"""The sockets and the turn. One thread, one straight line, over and over:

    drain what has arrived -> decode -> plan -> one durable commit -> replies in order of arrival
    -> feeds -> what the store has left to do -> as much time for reads as all that took, round robin

The appends of a turn are a batch. While it syncs, the next one gathers in ZeroMQ: that is all there
is to sharing a sync, without a delay to tune. The poll's time-out (waiting reads, heartbeats,
outboxes) is the only clock. Reads are cut into bounded pieces, so a full scan costs an append about
three milliseconds at most.

Not here: what waits for its turn (reads.py), what frames mean (wire/), the rules (store/), signals
and exit codes (process.py).
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import zmq

from rewind.answers import About, answer_appends, appends_in
from rewind.daemon.binding import bind, remove_socket_files
from rewind.daemon.connections import Connections, connections_max
from rewind.daemon.feeds import Feed, Feeds
from rewind.daemon.notices import Notices
from rewind.daemon.peers import PIPE_MESSAGES_MAX, Peers
from rewind.daemon.reads import RETRY_S_MIN, Reads
from rewind.daemon.settings import Settings
from rewind.errors import CannotBind, RequestError
from rewind.events import Append, Appended, Record
from rewind.store import Store
from rewind.wire import envelope
from rewind.wire.envelope import Request
from rewind.wire.messages import (
    TooManyFrames,
    drop_frames,
    prepare_large_messages,
    receive_routed,
)
from rewind.wire.native import Appends, Read

BATCH_APPENDS_MAX = 1_024  # draining stops at so many, since a larger commit delays its replies
CONDITION_APPENDS = 16  # a condition counts like so many appends: it may walk through an index
BATCH_BYTES_MAX = 4 * 1024 * 1024  # a commit of small events stays well below a second
PART_BYTES = 1_024  # an append in a message of several counts this much besides its bytes: memory
DROPPED_FRAMES_MAX = 10_000  # a turn drops so many frames that nobody wants, in 10 ms
RECEIVED_MESSAGES_MAX = 1_000  # ZeroMQ holds so many requests of a peer, then TCP pushes back
SUBSCRIPTION_BYTES_MAX = 1_024  # a topic is a stream's name; a longer one drops its connection
# Reads may take as long as the batch of their turn took, within these bounds, and finish the one begun.
READS_S_MIN, READS_S_MAX = 0.0005, 0.003
FINISH_S = 1.0  # when asked to stop, what was received is committed and answered within it
LINGER_MS = 1_000  # ZeroMQ has so long to send the last replies

SLOW_TURN_S = 0.1  # a turn that takes longer is said at debug: it is a disk's sync, mostly
STUCK_TURN_S = 1.0  # a warning: everybody waited for it

NOW = int(zmq.DONTWAIT)
#: What goes into a turn's batch; all else is a read. A tuple, because a union would be built anew
#: for every message.
BATCHED = (Append, Appends, RequestError)


logger = logging.getLogger("rewind")


class Server:
    """A store behind its sockets.

    ``run`` serves until ``stop`` is called, from any thread or a signal handler. Raises
    ``CannotBind`` from the constructor and ``StoreFailed`` from ``run``.
    """

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._stopping = False
        self._asked: deque[Callable[[], None]] = deque()  # Signal handlers add to it.
        self._notices = Notices()
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._turn_begun_s = 0.0
        self._dropping = False  # The rest of a message with too many frames is dropped.
        self.endpoints: dict[str, list[str]] = {}
        with contextlib.ExitStack() as opened:
            try:
                self._open(opened)
            except (OSError, zmq.ZMQError) as error:
                raise CannotBind(f"cannot open the daemon's sockets: {error.strerror}") from error
            self._opened = opened.pop_all()

    # Sockets

    def _open(self, opened: contextlib.ExitStack) -> None:
        """Open everything, and have ``opened`` close it."""
        self._wake_read, self._wake_write = map(opened.enter_context, socket.socketpair())
        self._wake_write.setblocking(False)
        opened.callback(self._remove_socket_files)
        prepare_large_messages()
        self._context = zmq.Context()
        opened.callback(self._context.destroy)  # Its sockets go with it, and linger LINGER_MS.
        self._connections = Connections(self._context)
        opened.callback(self._connections.stop)
        self._bind()
        self._connections.start(self.connections_max)

    def _bind(self) -> None:
        settings = self._settings
        self._poller = zmq.Poller()
        self._poller.register(self._wake_read.fileno(), zmq.POLLIN)
        self._router = self._socket(zmq.ROUTER, RECEIVED_MESSAGES_MAX, PIPE_MESSAGES_MAX)
        self._router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._router.setsockopt(zmq.MAXMSGSIZE, envelope.FRAME_BYTES_MAX)
        self._peers = Peers(self._router, self._connections, self._notices)
        self._bind_to(self._router, "incoming", settings.incoming_bind)
        self._feeds = Feeds(
            self._feed("streaming", settings.streaming_bind),
            self._feed("topic", settings.topic_bind, verbose=True),
            self._feed("gorewind", settings.gorewind_bind),
            self._store.id.bytes,
            self._store.head,
            self._store.last_id(),
        )
        self.connections_max = connections_max()
        about = About(
            self.endpoints, settings.max_event_bytes, settings.insecure, self.connections_max
        )
        self._reads = Reads(self._store, about, self._peers, notices=self._notices)

    def _socket(self, kind: int, received: int, sent: int) -> zmq.Socket[bytes]:
        new: zmq.Socket[bytes] = self._context.socket(kind)
        new.setsockopt(zmq.LINGER, LINGER_MS)
        new.setsockopt(zmq.RCVHWM, received)
        new.setsockopt(zmq.SNDHWM, sent)
        new.setsockopt(zmq.TCP_KEEPALIVE, 1)
        self._poller.register(new, zmq.POLLIN)
        return new

    def _feed(self, name: str, endpoints: Sequence[str], verbose: bool = False) -> Feed | None:
        self.endpoints[name] = []
        if not endpoints:
            return None
        xpub = self._socket(zmq.XPUB, RECEIVED_MESSAGES_MAX, self._settings.feed_messages)
        xpub.setsockopt(zmq.MAXMSGSIZE, SUBSCRIPTION_BYTES_MAX)
        xpub.setsockopt(zmq.XPUB_VERBOSE, verbose)
        self._bind_to(xpub, name, endpoints)
        return Feed(xpub)

    def _bind_to(self, sock: zmq.Socket[bytes], name: str, endpoints: Sequence[str]) -> None:
        self.endpoints[name] = bound = []
        self._connections.watch(sock, name)
        store, insecure = self._store.backend.path, self._settings.insecure
        for endpoint in endpoints:
            bound.append(bind(sock, name, endpoint, store=store, insecure=insecure))

    def _remove_socket_files(self) -> None:
        remove_socket_files([endpoint for bound in self.endpoints.values() for endpoint in bound])

    # The turn

    def run(self, stopping: Callable[[], None] = lambda: None) -> None:
        """Serve until stopped; then commit and answer what was received, and close the sockets.

        ``stopping`` is called when the ending begins.
        """
        with self._opened:
            while not self._stopping:
                self.turn(self._timeout_ms())
                self._between_turns(time.monotonic())
            stopping()
            self._finish()
            self._notices.end()

    def stop(self) -> None:
        """Ask ``run`` to end. Safe from signal handlers and other threads."""
        self._stopping = True
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"x")

    def call_soon(self, function: Callable[[], None]) -> None:
        """Have ``run`` call this between two turns. Safe from signal handlers and other threads."""
        self._asked.append(function)
        with contextlib.suppress(BlockingIOError):
            self._wake_write.send(b"x")

    def log_status(self) -> None:
        """Say in the log how it stands."""
        logger.info(
            "status: head=%d connections=%d/%d waiting_reads=%d queues=%d",
            self._store.head,
            self._connections.count,
            self.connections_max,
            self._reads.waiting_count,
            len(self._reads.queues),
        )

    def wake_fileno(self) -> int:
        """A non-blocking descriptor; a byte written to it ends the poll."""
        return self._wake_write.fileno()

    def turn(self, timeout_ms: int | None) -> None:
        """One turn; it waits at most ``timeout_ms`` for something to do, None: for ever."""
        arrived = self._poll(timeout_ms)
        batch = self._drain(arrived)
        records = self._commit(batch)
        self._feeds.publish(records, time.monotonic())
        self._store.settle()
        self._reads.wake(records)
        self._reads.serve(self._reads_until_s())
        self._feeds.heartbeat(self._store.head, time.monotonic())

    def _poll(self, timeout_ms: int | None) -> list[tuple[Any, int]]:
        arrived = self._poller.poll(timeout_ms)
        self._turn_begun_s = time.monotonic()
        return arrived

    def _reads_until_s(self) -> float:
        """Until when reads may be served in this turn."""
        now_s = time.monotonic()
        return now_s + min(max(now_s - self._turn_begun_s, READS_S_MIN), READS_S_MAX)

    def _between_turns(self, now_s: float) -> None:
        """Say what there is to say, and do what signals have asked for."""
        took_s = now_s - self._turn_begun_s
        if took_s >= SLOW_TURN_S:
            level = logging.WARNING if took_s >= STUCK_TURN_S else logging.DEBUG
            self._notices.say(level, level, "a turn took %.1f s: is the disk slow?", took_s)
        due_s = self._notices.due_s()
        if due_s is not None and due_s <= now_s:
            self._notices.flush()
        while self._asked:
            self._asked.popleft()()

    def _timeout_ms(self) -> int | None:
        """How long nothing is due; None: not before something arrives."""
        if self._reads.busy:
            return 0
        clocks = (
            self._store.due_s(),
            self._reads.due_s(),
            self._feeds.next_heartbeat(),
            self._notices.due_s(),
        )
        due = [s for s in clocks if s is not None]
        return max(0, int((min(due) - time.monotonic()) * 1000) + 1) if due else None

    def _drain(self, arrived: Sequence[tuple[object, int]]) -> list[Request]:
        """The next batch: appends and errors that have arrived, bounded. Reads go to their queues."""
        batch = self._reads.take_carried()
        sockets = {readable for readable, _ in arrived}
        for feed in self._feeds.all:
            if feed.socket in sockets:
                feed.read_subscriptions()
        if self._wake_read.fileno() in sockets:
            self._wake_read.recv(64)
        if self._router not in sockets:
            return batch
        recv, decode = self._router.recv, envelope.decode_request
        if self._dropping:
            self._dropping = drop_frames(recv, NOW, DROPPED_FRAMES_MAX)
            if self._dropping:
                return batch
        event_bytes_max, store_id = self._settings.max_event_bytes, self._store.id.bytes
        count = sum(map(_append_count, batch))
        size = 0
        while count < BATCH_APPENDS_MAX and size < BATCH_BYTES_MAX:
            try:
                frames, last = receive_routed(recv, NOW)
            except zmq.Again:
                break
            except TooManyFrames as message:
                refused = envelope.refuse_frames(message.frames, store_id)
                self._reads.enqueue(refused, sum(map(len, message.frames)))
                self._dropping = True
                break
            request = decode(frames, event_bytes_max, store_id)
            body, peer, appends = request.body, request.route[0], _append_count(request)
            request_bytes = sum(map(len, frames))
            if appends > 1 and isinstance(body, Appends):
                request_bytes += PART_BYTES * (len(body.parts) - 1)
            if (
                isinstance(body, BATCHED)
                and not self._peers.saturated(peer)
                and self._reads.lets_past(request, len(batch))
            ):
                batch.append(request)
            else:
                may_wait = isinstance(body, Read) and body.wait_ms
                connection = self._connections.of(last, "incoming") if may_wait else None
                self._reads.enqueue(request, request_bytes, connection)
            count += appends
            size += request_bytes
        return batch

    def _commit(self, batch: Sequence[Request]) -> list[Record]:
        """One durable commit, then every reply in order of arrival.

        Returns the records that became durable, whoever planned them.
        """
        if not batch:
            return []
        appends, head = appends_in(batch), self._store.head
        outcomes, records = self._store.append(appends) if appends else ([], [])
        if self._debug:
            self._note_refusals(batch, iter(outcomes))
        self._reads.committed(batch, outcomes, head)
        results = iter(outcomes)
        for place, request in enumerate(batch):
            self._reads.reply(place, answer_appends(request, results))
        return records

    def _note_refusals(
        self, batch: Sequence[Request], outcomes: Iterator[Appended | RequestError]
    ) -> None:
        for request in batch:
            body = request.body
            for part in body.parts if isinstance(body, Appends) else [body]:
                outcome = next(outcomes) if isinstance(part, Append) else part
                if isinstance(outcome, RequestError):
                    self._notices.refused(request.peer, outcome)

    # The end

    def _finish(self) -> None:
        """Commit and answer what was received, within a bounded time; the rest is refused.

        The endpoints stay bound until the end: in ZeroMQ unbinding takes the accepted connections
        along, and with them the answers.
        """
        deadline_s = time.monotonic() + FINISH_S
        while time.monotonic() < deadline_s and (
            (batch := self._drain([(self._router, zmq.POLLIN)])) or self._dropping
        ):
            self._feeds.publish(self._commit(batch), time.monotonic())
        self._reads.end_waiting()
        while (self._reads.pending or self._peers.blocked) and time.monotonic() < deadline_s:
            self._reads.serve(deadline_s)
            batch = self._reads.take_carried()
            self._feeds.publish(self._commit(batch), time.monotonic())
            if self._reads.stuck:
                time.sleep(RETRY_S_MIN)  # ZeroMQ, or a peer, may have taken something by then
        self._reads.refuse_rest()


def _append_count(request: Request) -> int:
    """How many appends a request counts towards the bound of a batch."""
    body = request.body
    if isinstance(body, Append):
        return 1 + CONDITION_APPENDS * len(body.conditions) if body.conditions else 1
    return len(body.parts) + CONDITION_APPENDS * body.conditions if isinstance(body, Appends) else 1
