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

A caller's time runs from ``expect``, however long the call waits for its turn; an attempt's time runs
from its message. A call that nobody waits for yet, a page asked for ahead, is never late.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rewind.client.appends import WEIGHT_MAX
from rewind.client.requests import Call, not_native, parse_reply, passes_soon
from rewind.errors import RequestError, RewindError, Unavailable
from rewind.events import join_records
from rewind.wire.replies import MALFORMED, Reply, answer_in, answers_of

IN_FLIGHT_MAX = 1_000  # The daemon refuses more messages of one connection at once.
# Appends that wait are divided among so many messages, so that client and daemon both have something
# to do: with one message of all of them they take turns.
APPEND_MESSAGES_MAX = 4
TOGETHER_MIN = 25  # A message of fewer appends would cost more than what is in it.
TOGETHER_BYTES_MAX = 512 * 1024  # A larger message would keep others waiting.

AnyCall = Call[Any]


class Outstanding:
    """Calls under way. ``due_s``: when to call ``overdue``, at the latest."""

    def __init__(self, where: str) -> None:
        self.due_s = math.inf
        self._where = where
        self._calls: dict[AnyCall, None] = {}  # These are not settled, in the order asked.
        # These wait to be sent. A call that is settled meanwhile is passed over in its turn.
        self._first: deque[AnyCall] = deque()
        self._appends: deque[AnyCall] = deque()
        self._others: deque[AnyCall] = deque()
        self._messages: dict[bytes, list[AnyCall]] = {}  # They were sent; an answer is welcome.
        # These are the ids of those messages that are not late: they bound what is under way.
        self._append_messages: set[bytes] = set()
        self._other_messages: set[bytes] = set()
        self._message_count = 0
        self._heard_s = 0.0

    def ask(self, call: AnyCall) -> None:
        """Take a call on; ``to_send`` has it in its turn."""
        self._calls[call] = None
        self._queue(call)

    def ask_at_once(self, call: AnyCall, now_s: float) -> tuple[bytes, bytes, bytes]:
        """Take a call on and send it, whatever waits: command, id and body of its message."""
        self._calls[call] = None
        return call.command, self._message([call], self._other_messages, now_s), call.body

    def expect(self, call: AnyCall, now_s: float) -> None:
        """Somebody waits for this call's outcome from now on; their time begins to run."""
        if call.outcome is not None:
            return
        call.deadline_s = now_s + call.timeout_s - call.waited_s
        if call.message_id and not call.paused:
            call.attempt(now_s)
        else:
            call.due_s = min(call.due_s, call.deadline_s)
        self.due_s = min(self.due_s, call.due_s)

    def forget(self, call: AnyCall) -> None:
        """Nobody waits for it any longer. Harmless for a settled call."""
        if call not in self._calls:
            return
        self._settle(call, _FORGOTTEN)
        message = self._messages.get(call.message_id, ())
        if not any(other in self._calls for other in message):
            self._drop(call.message_id)

    @property
    def waiting(self) -> bool:
        """Whether ``to_send`` may have something once there is room for it."""
        return bool(self._first or self._appends or self._others)

    def to_send(self, now_s: float) -> Iterator[tuple[bytes, bytes, bytes]]:
        """Command, id and body of each message that can go now."""
        first, appends, others = self._first, self._appends, self._others
        while first:
            call = first.popleft()
            if call in self._calls:
                yield call.command, self._message([call], self._other_messages, now_s), call.body
        if appends:  # They go first, so that a read asked after them sees them.
            most = max(TOGETHER_MIN, -(-len(appends) // APPEND_MESSAGES_MAX))
            while appends and len(self._append_messages) < APPEND_MESSAGES_MAX:
                message = [call for call in take_together(appends, most) if call in self._calls]
                if message:
                    id = self._message(message, self._append_messages, now_s)
                    yield b"APPEND", id, body_of(message)
        while others and len(self._other_messages) < IN_FLIGHT_MAX:
            call = others.popleft()
            if call in self._calls:
                yield call.command, self._message([call], self._other_messages, now_s), call.body

    def received(self, frames: Sequence[bytes], now_s: float) -> list[AnyCall]:
        """Take a message from the daemon; the calls that it settles."""
        self._heard_s = now_s
        try:
            message_id, answer = parse_reply(frames, self._where)
        except Unavailable as error:  # This is not Rewind's protocol: nothing will be answered.
            why = error.with_traceback(None)
            return self.fail(lambda call: call.failed(why))
        message = self._drop(message_id)
        if message is None:
            return []
        if len(message) == 1:
            return message if self._answered(message[0], message_id, answer, now_s) else []
        return [
            call
            for call, own in zip(message, _answers_to(message, answer), strict=True)
            if self._answered(call, message_id, own, now_s)
        ]

    def overdue(self, now_s: float) -> tuple[list[AnyCall], bool]:
        """See to what is late: the calls that this settles, and whether the connection is to be
        replaced by a new one, over which ``to_send`` then sends all the others again."""
        settled: list[AnyCall] = []
        late: list[AnyCall] = []
        silent = False
        for call in list(self._calls):
            if call.due_s > now_s:
                continue
            silent = silent or (bool(call.message_id) and self._heard_s < call.sent_s)
            if call.deadline_s <= now_s:
                self._settle(call, call.no_answer())
                settled.append(call)
            elif call.paused:
                self._queue(call)
            else:
                late.append(call)
        if silent:
            self._clear()
            late = list(self._calls)
        for call in late:
            # An answer to its last message is still welcome, but nothing need wait for that.
            self._append_messages.discard(call.message_id)
            self._other_messages.discard(call.message_id)
            self._queue(call)
        for id, message in list(self._messages.items()):
            if not any(call in self._calls for call in message):
                self._drop(id)
        self.due_s = min((call.due_s for call in self._calls), default=math.inf)
        return settled, silent

    def fail(self, error: Callable[[AnyCall], Exception]) -> list[AnyCall]:
        """No answer will come: settle each call with an error of its own."""
        settled = list(self._calls)
        for call in settled:
            self._settle(call, error(call))
        self._clear()
        return settled

    # One call

    def _queue(self, call: AnyCall) -> None:
        call.message_id = b""
        call.paused = False
        call.due_s = call.deadline_s
        if call.first:
            self._first.append(call)
        else:
            (self._appends if call.command == b"APPEND" else self._others).append(call)

    def _clear(self) -> None:
        """Forget queues and messages; the calls themselves are kept."""
        self._first.clear()
        self._appends.clear()
        self._others.clear()
        self._messages.clear()
        self._append_messages.clear()
        self._other_messages.clear()

    def _message(self, calls: list[AnyCall], under_way: set[bytes], now_s: float) -> bytes:
        """Note down a message that is about to be sent; its id."""
        self._message_count += 1
        id = self._message_count.to_bytes(8, "big")
        self._messages[id] = calls
        under_way.add(id)
        for call in calls:
            call.message_id = id
            call.sent_s = now_s
            if call.deadline_s < math.inf:
                call.attempt(now_s)
                self.due_s = min(self.due_s, call.due_s)
        return id

    def _drop(self, message_id: bytes) -> list[AnyCall] | None:
        """Forget a message; the calls in it, None if there is no such message."""
        self._append_messages.discard(message_id)
        self._other_messages.discard(message_id)
        return self._messages.pop(message_id, None)

    def _answered(
        self, call: AnyCall, message_id: bytes, answer: Reply | RewindError, now_s: float
    ) -> bool:
        """Settle a call, unless it is settled already or was refused for now."""
        if call.outcome is not None:
            return False
        outcome = answer if call.store_id is None else call.from_its_store(answer)
        if isinstance(outcome, RequestError):
            if passes_soon(outcome) and call.message_id != message_id:
                return False  # It is being asked again already.
            try:
                call.pause(outcome, now_s)
            except RewindError as error:
                outcome = error.with_traceback(None)
            else:
                call.paused = True
                self.due_s = min(self.due_s, call.due_s)
                return False
        elif isinstance(outcome, Unavailable):
            outcome = call.failed(outcome)
        self._settle(call, outcome)
        return True

    def _settle(self, call: AnyCall, outcome: Reply | Exception) -> None:
        assert call.outcome is None
        call.outcome = outcome
        del self._calls[call]


_FORGOTTEN = Unavailable("nobody waits for this call")


def take_together(appends: deque[AnyCall], most: int) -> list[AnyCall]:
    """Take the appends that go in one message, from the first on: at least one."""
    taken: list[AnyCall] = []
    weight = size = 0
    while appends and len(taken) < most:
        weight += appends[0].weight
        size += len(appends[0].body)
        if taken and (weight > WEIGHT_MAX or size > TOGETHER_BYTES_MAX):
            break
        taken.append(appends.popleft())
    return taken


def body_of(appends: Sequence[AnyCall]) -> bytes:
    """The body of the message with these appends."""
    return appends[0].body if len(appends) == 1 else join_records([call.body for call in appends])


def _answers_to(
    message: Sequence[AnyCall], answer: Reply | RewindError
) -> Sequence[Reply | RewindError]:
    """Each call's own answer in that to their message."""
    if not isinstance(answer, Reply):
        return [answer] * len(message)
    where = message[0].where
    try:
        bodies = answers_of(answer, len(message))
    except ValueError as error:
        return [not_native(where, error)] * len(message)
    return [_answer_in(body, answer.request_id, where) for body in bodies]


def _answer_in(body: Any, request_id: bytes, where: str) -> Reply | RewindError:
    try:
        return answer_in(body, request_id)
    except MALFORMED as error:
        return not_native(where, error)
