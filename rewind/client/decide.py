"""Decide from what has happened what happens next, and append that only if nothing came between.

The steps of ``decide`` are a generator, carried out by each client in its own way (beginning.py). The
idea of deciding on a query is the Dynamic Consistency Boundary's: https://dcb.events/.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from typing import Any

from rewind.arguments import at_least_one, several, text_of, wrong_kind
from rewind.client.beginning import Pause, Steps
from rewind.client.pages import EventPages, to_read
from rewind.client.requests import Id, Requests
from rewind.errors import BadRequest, ConcurrencyConflict, IdConflict
from rewind.events import Appended, Event, NewEvent, uuid_of
from rewind.query import Query, QueryItem
from rewind.wire.native import Read

PAUSE_S_MIN, PAUSE_S_MAX = 0.002, 0.25  # the time of a decision, and of a hundred of them

Decision = Callable[[Any], Any]
Fold = Callable[[Any, Event], Any]


def decide(
    requests: Requests,
    decision: Decision,
    stream: str | None,
    query: Query | QueryItem | None,
    fold: Fold | None,
    initial: Any,
    attempts: int,
    append_id: Id | None,
    timeout_s: float | None,
) -> Steps[Appended | None]:
    """Read what matters, decide, append; on a conflict again. See ``Client.decide``."""
    left, store_id = at_least_one(attempts, "attempts"), requests.store_id
    pause_s = PAUSE_S_MIN
    id = None if append_id is None else uuid_of(append_id, "append_id")
    read = _what_matters(stream, query)
    stream = read.stream
    _check_functions(decision, fold, initial)
    if timeout_s is not None:
        requests = requests.within(timeout_s)
    while True:
        pages = EventPages(requests, read, store_id)
        state = copy.deepcopy(initial) if fold else []  # What a fold changes is not used twice.
        while (call := pages.call()) is not None:
            for event in (yield call):
                state = (fold or _listed)(state, event)
        store_id = pages.store_id
        # Asked after the read: if this very append was stored before, no decision is made on what it did.
        if id is not None:
            stored: Appended | None = yield requests.appended(id, store_id)
            if stored is not None:
                return stored
        decided = decision(state)
        if inspect.isawaitable(decided):
            decided = yield decided
        pairs = _pairs(decided, stream)
        if not pairs:
            return None
        expected = {} if stream is None else {stream: pages.newest or 0}
        conditions = pages.condition() if stream is None else ()
        try:
            appended: Appended = yield requests.append_streams(
                pairs, expected, id, None, conditions, None, store_id
            )
            return appended
        except ConcurrencyConflict as conflict:
            left -= 1
            if not left:
                conflict.add_note(
                    f"decide gave up: others were faster each time, attempts={attempts}"
                )
                raise
        except IdConflict:  # Another decision on the same command was stored meanwhile.
            if id is None:
                raise
            stored = yield requests.appended(id, store_id)
            if stored is None:
                raise
            return stored
        # It is random: many that decide at once would go in step, and one of them succeed a round.
        yield Pause(random.uniform(0, pause_s))
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


def _what_matters(stream: str | None, query: Query | QueryItem | None) -> Read:
    if (stream is None) == (query is None):
        raise BadRequest("give stream or query, and not both: what the decision depends on")
    if stream is not None:
        stream = text_of(stream, "stream")
    return to_read(stream=stream, query=query)


def _check_functions(decision: Decision, fold: Fold | None, initial: Any) -> None:
    """Raise ``WrongKind`` or ``BadRequest`` unless a state can be made and decided on with these."""
    if fold is None and initial is not None:
        raise BadRequest("initial goes with fold: without one the state is a list of the events")
    for name, function in (("decision", decision), ("fold", fold or _listed)):
        if not callable(function):
            raise wrong_kind(name, function, "give a function")


def _listed(events: list[Event], event: Event) -> list[Event]:
    events.append(event)
    return events


def _pairs(decided: Any, stream: str | None) -> list[Any]:
    """What was decided as (stream, event) pairs; empty for nothing. Raises ``WrongKind``."""
    if decided is None:
        return []
    if isinstance(decided, NewEvent):
        decided = (decided,)
    if isinstance(decided, tuple) and decided and isinstance(decided[0], str):
        advice = "let it return a list of (stream, event) pairs, of one pair too"
        raise wrong_kind("what the decision returned", decided, advice)
    advice = "let it return a NewEvent, a list of them or of (stream, event) pairs, or None"
    pairs = list(several(decided, "what the decision returned", advice))
    for index, event in enumerate(pairs):
        if isinstance(event, NewEvent):
            if stream is None:
                raise wrong_kind(
                    f"events[{index}] of the decision",
                    event,
                    "give a (stream, event) pair, since a query names no stream to append to",
                )
            pairs[index] = (stream, event)
    return pairs
