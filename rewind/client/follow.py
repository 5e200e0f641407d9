"""Reads without an end: how a subscription follows a store without a gap, and how far its consumer is.

* ``Delivery``: how far the store was read, what was received and not handed out yet.
* ``Follower``: how the read goes on over lost connections, lost messages and restarts.

Two shells carry a ``Follower`` out (zmq_blocking.py, zmq_async.py); an embedded store needs only
``Delivery``. Time comes in as an argument. Not here: sockets, threads, clocks, an event loop.
"""

from __future__ import annotations

import enum
import logging
import uuid
from collections import deque
from collections.abc import Sequence

import msgspec

from rewind.client.pages import newest_of, ready_to_send, store_went_back
from rewind.client.requests import (
    PAUSE_S_MAX,
    PAUSE_S_MIN,
    Info,
    info_of,
    not_native,
    parse_reply,
    passes_soon,
    store_changed,
)
from rewind.endpoints import choose_topic
from rewind.errors import RequestError, RewindError, fresh
from rewind.events import Event, decode_event
from rewind.wire import native
from rewind.wire.native import Read, encode, with_store_id
from rewind.wire.replies import HEAD_TOPIC, MALFORMED, STORE_TOPIC, Reply, events_of, read_of

REPLY_S = 5.0  # A later answer counts as lost; nobody waits for it meanwhile.
WAIT_MS = 10_000  # A READ waits so long; a half-open connection is noticed a little later.
PROBE_MS = 1_000  # A READ waits so long while the topic socket may speak at any moment.
SILENCE_S = 3.0  # The topic socket speaks every second; after this it counts as lost.
TOPIC_RETRY_S = 10.0  # A topic socket that never delivered is replaced so often.
REOPEN_S_MIN, REOPEN_S_MAX = 0.05, 2.0  # A daemon that is away is tried again after that.
PAGE_EVENTS = 2_000  # A consumer holds at most twice as many events.

logger = logging.getLogger("rewind.client")


class Delivery:
    """An endless read, from the store to its consumer. Positions are versions with ``stream``.

    ``reached``: everything up to here was received. ``at_end``: there was no more when the store was
    last asked, or told. ``changed``: either has moved, or events came, since somebody set it False.
    ``position``: everything that matches up to here was handed out. ``handled``: the consumer asked for
    more after everything up to here. ``caught_up``: and there was no more. ``store_id``: the store that
    is read, 16 bytes; None while it is whichever answers first.
    """

    def __init__(self, read: Read, store_id: bytes | None = None) -> None:
        """``read``: where to begin, and the filters. Raises ``BadRequest``."""
        self.store_id = store_id
        self._read = msgspec.structs.replace(ready_to_send(read), limit=PAGE_EVENTS)
        self.by_version = read.stream is not None
        self.reached = self.position = self.handled = read.after
        self.at_end = self.caught_up = self.changed = False
        self._events: deque[Event] = deque()

    def begin(self, after: int, store_id: bytes | None) -> None:
        """It begins after this, in this store: found out since it was made, and before it is used."""
        self.reached = self.position = self.handled = after
        self.store_id = store_id

    @property
    def unfiltered(self) -> bool:
        """Whether every event of the store is to be delivered that comes from now on."""
        return self._read.unfiltered

    def __bool__(self) -> bool:
        return bool(self._events)

    def body(self, wait_ms: int = 0) -> bytes:
        """The READ that goes on from here."""
        return encode(msgspec.structs.replace(self._read, after=self.reached, wait_ms=wait_ms))

    def check_store(self, answer: Reply | RequestError, where: str) -> None:
        """Raise ``StoreChanged`` when another store says this than the one that is read.

        Not every daemon says it with every answer; it does with the first one to a new connection.
        """
        said = answer.store_id
        self.store_id = self.store_id or said
        if said is not None and said != self.store_id:
            assert self.store_id is not None
            raise store_changed(where, said, self.store_id)

    def receive(self, reply: Reply, where: str) -> None:
        """Take the answer to a READ. Raises ``StoreChanged`` when another store gave it or the store
        has lost events, and one of ``MALFORMED``."""
        self.check_store(reply, where)
        said = read_of(reply)
        newest = newest_of(said, self.by_version)
        if newest < self.reached:
            raise store_went_back(where, newest, self.reached)
        if not (said.next > self.reached or (said.end and said.next == self.reached)):
            raise ValueError(f"a page that goes on after {said.next}, where it was before")
        events = events_of(reply)
        if events or self.reached != said.next or self.at_end != said.end:
            self.changed = True
        if events:
            self.caught_up = False
            self._events.extend(events)
            if self._read.since is not None:  # Times never decrease: whatever comes is later.
                self._read = msgspec.structs.replace(self._read, since=None)
        self.reached, self.at_end = said.next, said.end

    def receive_next(self, event: Event) -> None:
        """Take the event that follows what was received."""
        assert event.position == self.reached + 1
        self.reached = event.position
        self.changed = True
        self.caught_up = False
        self._events.append(event)

    def may_have_more(self) -> None:
        """What was at the end before may be so no longer."""
        self.changed = self.changed or self.at_end
        self.at_end = False

    def asked(self) -> None:
        """The consumer asks for more: what it got, it has handled."""
        if self._events:
            self.handled = self.position
        else:  # Events that did not match need no handling.
            self.handled = self.position = self.reached
            self.caught_up = self.at_end

    def next(self) -> Event:
        """The next event, handed out."""
        event = self._events.popleft()
        self.position = event.version if self.by_version else event.position
        return event

    def take(self, limit: int) -> list[Event]:
        """The next events, at most ``limit``, handed out."""
        return [self.next() for _ in range(min(limit, len(self._events)))]


# This is what a follower is doing; the table is in its docstring.
State = enum.Enum("State", "AWAY CHECKING CATCHING_UP WAITING LIVE")
AWAY, CHECKING, CATCHING_UP, WAITING, LIVE = State

_TRANSITIONS = {
    AWAY: (AWAY, CHECKING),
    CHECKING: (AWAY, CATCHING_UP),
    CATCHING_UP: (AWAY, WAITING, LIVE),
    WAITING: (AWAY, CATCHING_UP),
    LIVE: (AWAY, CATCHING_UP),
}


class Follower:
    """Follows a store over one connection after another. No sockets: its shell has them.

    A shell opens a DEALER that never reconnects by itself, so that all its answers come from one
    daemon, and sends what ``request`` gives. An unfiltered subscription also listens to the topic
    socket, which is opened after INFO was answered and never reconnects either. What comes through
    it counts for nothing until it has said the same store as INFO, by ``$store``: then it is *heard*.
    Once a READ that was sent after that was answered with nothing left, nothing is missing::

        state         request under way     goes on to
        -----------   -------------------   ---------------------------------------------------
        AWAY          none: no connection   CHECKING, when a connection asks for a request
        CHECKING      INFO                  CATCHING_UP, when it is the same store as before
        CATCHING_UP   READ                  CATCHING_UP, while there is more
                                            LIVE, at the end, if the topic socket was heard before
                                            this READ was sent
                                            WAITING, at the end, otherwise
        WAITING       READ with wait_ms     CATCHING_UP, when it is answered, when somebody asks how
                                            far the store is, or when the topic socket is heard
        LIVE          none                  CATCHING_UP, at a hole in what the topic socket delivers
                                            (which queues meanwhile), and when it is silent
        any                                 AWAY, when a connection is lost, or an answer late

    Live, the next position is handed out, an earlier one is a repetition, a later one (or a
    ``$head`` beyond) a hole. Filtered subscriptions, and those that reach no topic socket, or one of
    another store, are never live. Neither are those of a daemon that does not say its store with
    every reply: its topic socket does not either.
    """

    def __init__(self, delivery: Delivery, where: str, topic_endpoint: str | None = None) -> None:
        self.delivery = delivery
        self.state = AWAY
        #: The next connection is opened then, while AWAY.
        self.open_at_s = 0.0
        self._where = where
        self.connects_to(where, topic_endpoint)
        self._other_store_logged = False
        self._reopen_s = REOPEN_S_MIN
        self._absence_logged = False
        self._requests = 0
        self._reset()

    def _reset(self) -> None:
        #: The topic socket's endpoint; None while it is unknown, or none is to be open.
        self.topic: str | None = None
        self._topic_told: str | None = None  # INFO leads to this one.
        #: True once the topic socket has said that it is of the store that is read.
        self.heard = False
        self._says_store = False  # The daemon says its store with every answer, and takes it.
        self._awaited: bytes | None = None  # The request under way has this id.
        # The request under way was sent after the topic socket was heard.
        self._heard_before = False
        self._late_s = 0.0  # From then on the answer, or while LIVE the next message, is late.
        self._pause_until_s = 0.0
        self._pause_s = PAUSE_S_MIN
        self._topic_open_s = 0.0
        self._hurry = False

    def _go(self, state: State) -> None:
        assert state in _TRANSITIONS[self.state], (self.state, state)
        self.state = state

    @property
    def wants_topic(self) -> bool:
        """Whether messages of the topic socket are to be taken now, or left in their queue."""
        return self.topic is not None and (self.state is LIVE or not self.heard)

    def hurry(self) -> None:
        """Somebody waits to hear how far this is: do not wait for the next matching event."""
        self._hurry = True

    # The connection

    def connects_to(self, endpoint: str, topic_endpoint: str | None) -> None:
        """Where its endpoints lead at this time, which is another address of a name some day."""
        self._connected_to = endpoint
        self._topic_endpoint = topic_endpoint

    def lost(self, now_s: float, why: str) -> None:
        """The connection is gone, or as good as gone; the shell has closed its sockets."""
        if not self._absence_logged:
            self._absence_logged = True
            logger.warning("lost %s (%s); trying again until it is back", self._where, why)
        self._go(AWAY)
        self._reset()
        self.delivery.may_have_more()
        self.open_at_s = now_s + self._reopen_s
        self._reopen_s = min(self._reopen_s * 2, REOPEN_S_MAX)

    def late(self, now_s: float) -> bool:
        """Whether an answer is overdue, so that the connection has to be given up."""
        return self._awaited is not None and now_s >= self._late_s

    def wait_s(self, now_s: float, connected: bool) -> float:
        """How long nothing will be due unless something arrives."""
        if not connected:
            return max(0.0, self.open_at_s - now_s)
        waits = self._awaited is not None or self.state is LIVE
        due_s = self._late_s if waits else self._pause_until_s
        if self.topic is not None and not self.heard:
            due_s = min(due_s, self._topic_open_s)
        return max(0.0, due_s - now_s)

    # Requests and answers

    def request(self, now_s: float) -> tuple[bytes, bytes, bytes] | None:
        """Command, request id and body to send now, if anything is to be sent."""
        if self.state is AWAY:
            self._go(CHECKING)
        elif self.state is WAITING and (self._hurry or self.heard):
            # What the waiting READ still answers is ignored; nothing is missed by that.
            self._awaited = None
            self._go(CATCHING_UP)
        elif self.state is LIVE and now_s >= self._late_s:
            self.heard = False
            self._topic_open_s = now_s
            self._go(CATCHING_UP)
        if self._awaited is not None or self.state is LIVE or now_s < self._pause_until_s:
            return None
        command, body, wait_ms = b"INFO", encode(native.Info()), 0
        if self.state is CATCHING_UP:
            wait_ms = self._wait_ms()
            command, body = b"READ", self.delivery.body(wait_ms)
            if self._says_store:
                assert self.delivery.store_id is not None
                body = with_store_id(body, self.delivery.store_id)
        if wait_ms:
            self._go(WAITING)
        self._requests += 1
        self._awaited = self._requests.to_bytes(8, "big")
        self._heard_before = self.heard
        self._late_s = now_s + wait_ms / 1000 + REPLY_S
        self._hurry = False
        return command, self._awaited, body

    def _wait_ms(self) -> int:
        """0 while there is more, and for the READ that may go live."""
        if not self.delivery.at_end or self.heard or self._hurry:
            return 0
        return WAIT_MS if self.topic is None else PROBE_MS

    def replied(self, frames: Sequence[bytes], now_s: float) -> None:
        """Take an answer. Raises ``StoreChanged``, what the daemon refused for good, or ``Unavailable``
        when the answer is not as it must be."""
        request_id, answer = parse_reply(frames, self._where)
        if request_id != self._awaited:
            return
        assert self.state in (CHECKING, CATCHING_UP, WAITING)
        self._awaited = None
        if self.state is WAITING:
            self._go(CATCHING_UP)
        if isinstance(answer, Reply | RequestError):
            self.delivery.check_store(answer, self._where)
        if not isinstance(answer, Reply):
            self._refused(answer, now_s)
            return
        self._pause_s = PAUSE_S_MIN
        try:
            self._answered(answer, now_s)
        except MALFORMED as error:
            raise not_native(self._where, error) from error

    def _answered(self, reply: Reply, now_s: float) -> None:
        if self.state is CHECKING:
            self._begin(info_of(reply))
            return
        waited_for_time = not self.delivery.unfiltered
        self.delivery.receive(reply, self._where)
        if waited_for_time and self.delivery.unfiltered:
            self.topic = self._topic_told
        self._says_store = reply.store_id is not None
        if not self._says_store:
            self.topic = None
        if self._heard_before and self.topic is not None and self.delivery.at_end:
            self._late_s = now_s + SILENCE_S
            self._go(LIVE)

    def _refused(self, refused: RewindError, now_s: float) -> None:
        if not passes_soon(refused):
            raise fresh(refused)
        self._pause_until_s = now_s + self._pause_s
        self._pause_s = min(self._pause_s * 2, PAUSE_S_MAX)

    def _begin(self, info: Info) -> None:
        self._go(CATCHING_UP)
        self._reopen_s = REOPEN_S_MIN
        if self._absence_logged:
            self._absence_logged = False
            logger.warning("%s is back", self._where)
        self._topic_told = self._topic_endpoint or choose_topic(
            info.endpoints.get("topic", ()), self._connected_to
        )
        if self.delivery.unfiltered:
            self.topic = self._topic_told

    # The topic socket

    def topic_due(self, now_s: float) -> bool:
        """Whether to open the topic socket now, or to replace it by a new one."""
        if self.topic is None or self.heard or now_s < self._topic_open_s:
            return False
        self._topic_open_s = now_s + TOPIC_RETRY_S
        return True

    def published(self, topic: bytes, record: bytes, now_s: float) -> None:
        """Take a message of the topic socket, while it is wanted."""
        assert self.wants_topic
        if topic == STORE_TOPIC:
            self._hear(record)
        if self.state is not LIVE:
            return  # A READ brings what was published until now.
        self._late_s = now_s + SILENCE_S
        reached = self.delivery.reached
        if topic[:1] == b"$":
            if topic == HEAD_TOPIC and _decode_head(record) > reached:
                self._hole()
            return
        try:
            event = decode_event(record)
        except MALFORMED:
            self._hole()  # The READ will say what is wrong with it, or bring it whole.
            return
        if event.position == reached + 1:
            self.delivery.receive_next(event)
        elif event.position > reached:
            self._hole()

    def _hear(self, store_id: bytes) -> None:
        """The topic socket says its store. One of another store is closed, for as long as this
        connection to the daemon lasts."""
        if store_id == self.delivery.store_id:
            self.heard = True
            self._other_store_logged = False
            return
        if not self._other_store_logged:
            self._other_store_logged = True
            logger.warning(
                "the topic socket %s is of the store %s, but %s serves %s: it is not listened to, and "
                "the daemon is asked for events instead",
                self.topic,
                _shown(store_id),
                self._where,
                _shown(self.delivery.store_id),
            )
        self.topic, self.heard = None, False
        if self.state is LIVE:
            self._hole()

    def _hole(self) -> None:
        """A message of the topic socket was lost: read it back."""
        self._go(CATCHING_UP)
        self.delivery.may_have_more()


def _shown(store_id: bytes | None) -> str:
    return str(uuid.UUID(bytes=store_id)) if store_id and len(store_id) == 16 else repr(store_id)


def _decode_head(message: bytes) -> int:
    try:
        return _decode_int(message)
    except MALFORMED:
        return 0  # A later release says something else here; holes are seen without it.


_decode_int = msgspec.msgpack.Decoder(int).decode
