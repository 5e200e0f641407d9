"""The calls that wait for an answer: what to send, what is late, whose answer has come.

``Outstanding`` belongs to one connection after another to the same daemon. It has no socket, no loop
and no clock: a shell gives it calls, frames and the time, and sends what it says. The blocking client
has one for each pooled connection, with one call at a time; the asyncio client has one for all::

    state      where the call is                 goes on to
    --------   -------------------------------   -------------------------------------------------
    waiting    in a queue                        sent, when there is room for its message
    sent       in a message under way            settled, when it is answered
                                                 paused, when it is refused for now
                                                 waiting, when its answer is late
    paused     nowhere but in ``_calls``         waiting, when its pause is over
    settled    nowhere: its outcome is known
    any                                          settled, when its time is up, or nobody wants it

Appends that wait go together, in few messages: the more of them, the less of a message an append
costs. Each stays a request of its own, with its own answer, and is sent again by itself or in other
company. A call that is late on a connection from which nothing was heard since it was sent finds
that connection half dead: all calls are to be sent again, over a new one. Otherwise it alone is sent
again, and a late answer to its first message is as welcome.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from rewind.client.requests import Call, not_native, parse_reply
from rewind.errors import RequestError, RewindError, Unavailable
from rewind.events import join_records
from rewind.wire.replies import Reply, answers_of

IN_FLIGHT_MAX = 1_000  # The daemon refuses more messages of one connection at once.
# Appends that wait are divided among so many messages, so that client and daemon both have something
# to do: with one message of all of them they take turns.
APPEND_MESSAGES_MAX = 4
TOGETHER_MIN = 25  # A message of fewer appends would cost more than what is in it.
TOGETHER_EVENTS_MAX = 1_024  # The daemon begins a commit with as many.
TOGETHER_BYTES_MAX = 512 * 1024  # A larger message would keep others waiting.

AnyCall = Call[Any]


class Outstanding:
    """Calls under way. ``due_s``: when to call ``overdue``, at the latest."""

    def __init__(self, where: str) -> None:
        self.due_s = math.inf
        self._where = where
        self._calls: dict[AnyCall, None] = {}  # These are not settled, in the order asked.
        self._appends: deque[AnyCall] = deque()  # They wait to be sent, and so do the others.
        self._others: deque[AnyCall] = deque()
        self._messages: dict[bytes, list[AnyCall]] = {}  # They have been sent and not answered.
        # These are the ids of messages of appends that are not late.
        self._append_messages: set[bytes] = set()
        self._message_count = 0
        self._heard_s = 0.0

    def ask(self, call: AnyCall, now_s: float) -> None:
        """Take a call on; ``to_send`` has it in its turn."""
        self._calls[call] = None
        self._queue(call, now_s)

    def expect(self, call: AnyCall, now_s: float) -> None:
        """Somebody waits for this call's outcome from now on."""
        if call.outcome is None:
            pause_ends_s = call.due_s
            call.attempt(now_s)
            call.due_s = min(call.due_s, pause_ends_s)
            self.due_s = min(self.due_s, call.due_s)

    @property
    def waiting(self) -> bool:
        """Whether ``to_send`` may have something once there is room for it."""
        return bool(self._appends or self._others)

    def forget(self, call: AnyCall) -> None:
        """Nobody waits for it any longer. Harmless for a settled call."""
        if self._calls.pop(call, self) is self:
            return
        call.outcome = _FORGOTTEN
        if call.message_id in self._messages:
            self._drop_messages()

    def to_send(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Command, id and body of each message that can go now."""
        appends, others = self._appends, self._others
        if appends:  # They go first, so that a read asked after them sees them.
            most = max(TOGETHER_MIN, -(-len(appends) // APPEND_MESSAGES_MAX))
            while appends and len(self._append_messages) < APPEND_MESSAGES_MAX:
                message = [call for call in take_together(appends, most) if call in self._calls]
                if message:
                    id = self._message(message)
                    self._append_messages.add(id)
                    yield b"APPEND", id, body_of(message)
        while others and len(self._messages) < IN_FLIGHT_MAX:
            call = others.popleft()
            if call in self._calls:
                yield call.command, self._message([call]), call.body

    def received(self, frames: Sequence[bytes], now_s: float) -> list[AnyCall]:
        """Take a message from the daemon; the calls that it settles."""
        self._heard_s = now_s
        try:
            message_id, answer = parse_reply(frames, self._where)
        except Unavailable as error:  # This is not Rewind's protocol: nothing will be answered.
            return self.fail(error)
        message = self._messages.pop(message_id, None)
        if message is None:
            return []
        self._append_messages.discard(message_id)
        settled = []
        for call, own in zip(message, _answers_to(message, answer), strict=True):
            if call in self._calls and self._answered(call, own, now_s):
                settled.append(call)
        return settled

    def overdue(self, now_s: float) -> tuple[list[AnyCall], bool]:
        """See to what is late: the calls that this settles, and whether the connection is to be
        replaced by a new one, over which ``to_send`` then sends all the others again."""
        settled: list[AnyCall] = []
        late: list[AnyCall] = []
        self.due_s = math.inf
        for call in list(self._calls):
            if call.due_s <= now_s:
                try:
                    call.attempt(now_s)
                except Unavailable as error:
                    self._settle(call, error)
                    settled.append(call)
                    continue
                if call.paused:
                    self._queue(call, now_s)
                else:
                    late.append(call)
            self.due_s = min(self.due_s, call.due_s)
        silent = any(self._heard_s < call.sent_s for call in late)
        if silent:
            self._queue_all(now_s)
        else:
            for call in late:
                self._queue_again(call, now_s)
        self._drop_messages()
        return settled, silent

    def fail(self, error: RewindError) -> list[AnyCall]:
        """No answer will come: settle all calls with this error."""
        settled = list(self._calls)
        for call in settled:
            self._settle(call, error)
        for queue in (self._appends, self._others, self._messages, self._append_messages):
            queue.clear()
        return settled

    # One call

    def _queue(self, call: AnyCall, now_s: float) -> None:
        call.sent_s = now_s
        call.message_id = b""
        call.paused = False
        (self._appends if call.command == b"APPEND" else self._others).append(call)

    def _message(self, calls: list[AnyCall]) -> bytes:
        """Note down a message that is about to be sent; its id."""
        self._message_count += 1
        id = self._message_count.to_bytes(8, "big")
        self._messages[id] = calls
        for call in calls:
            call.message_id = id
        return id

    def _answered(self, call: AnyCall, answer: Reply | RewindError, now_s: float) -> bool:
        """Settle a call, unless it was refused for now."""
        outcome = answer
        if isinstance(answer, RequestError):
            try:
                call.pause(answer, now_s)
            except RewindError as error:
                outcome = error
            else:
                call.paused = True
                self.due_s = min(self.due_s, call.due_s)
                return False
        self._settle(call, outcome)
        return True

    def _settle(self, call: AnyCall, outcome: Reply | RewindError) -> None:
        assert call.outcome is None
        call.outcome = outcome
        del self._calls[call]

    def _queue_again(self, call: AnyCall, now_s: float) -> None:
        """Its answer is late. One to its last message is still welcome, but no other append need
        wait for that. A call that has not had its turn goes on waiting for it."""
        if call.message_id:
            self._append_messages.discard(call.message_id)
            self._queue(call, now_s)

    def _queue_all(self, now_s: float) -> None:
        for queue in (self._appends, self._others, self._messages, self._append_messages):
            queue.clear()
        for call in self._calls:
            self._queue(call, now_s)

    def _drop_messages(self) -> None:
        """Forget the messages whose answers nobody waits for."""
        for id, message in list(self._messages.items()):
            if not any(call in self._calls for call in message):
                del self._messages[id]
                self._append_messages.discard(id)


_FORGOTTEN = Unavailable("nobody waits for this call")


def take_together(appends: deque[AnyCall], most: int) -> list[AnyCall]:
    """Take the appends that go in one message, from the first on: at least one."""
    taken: list[AnyCall] = []
    events = size = 0
    while appends and len(taken) < most:
        events += appends[0].events
        size += len(appends[0].body)
        if taken and (events > TOGETHER_EVENTS_MAX or size > TOGETHER_BYTES_MAX):
            break
        taken.append(appends.popleft())
    return taken


def body_of(appends: Sequence[AnyCall]) -> bytes:
    """The body of the message with these appends."""
    return appends[0].body if len(appends) == 1 else join_records([call.body for call in appends])


def _answers_to(
    message: Sequence[AnyCall], answer: Reply | RequestError
) -> Sequence[Reply | RewindError]:
    """Each call's own answer in that to their message."""
    if len(message) == 1 or isinstance(answer, RequestError):
        return [answer] * len(message)
    try:
        return answers_of(answer, len(message))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        return [not_native(message[0].where, error)] * len(message)
