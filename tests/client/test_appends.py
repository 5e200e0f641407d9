"""What callers append, and what goes together in a message."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rewind.client.appends import WEIGHT_MAX, advances_of
from rewind.client.outstanding import body_of
from rewind.client.requests import Requests
from rewind.events import Advance, Append, NewEvent
from rewind.query import AppendCondition, Query, QueryItem
from rewind.wire.envelope import decode_request
from rewind.wire.native import Appends

TAG = QueryItem(tags=["t"])


def condition(*items: QueryItem) -> Any:
    return AppendCondition(Query(*items))


def test_an_append_weighs_what_weighs_most_in_it() -> None:
    made = Requests("w", 1)
    for call, weight in (
        (made.append("s", [NewEvent("t")] * 3), 3),
        (made.append_streams([("s", NewEvent("t"))], {str(n): 0 for n in range(9)}), 3),
        (made.append("s", NewEvent("t"), conditions=condition(TAG)), 16),
        (made.append("s", NewEvent("t"), conditions=[condition(TAG)] * 2), 32),
        (made.append("s", [NewEvent("t")] * 40, conditions=AppendCondition(Query.all())), 40),
        (made.append("s", NewEvent("t"), conditions=condition(TAG, *[TAG] * 19)), 20),
        (made.append("s", [], cursors={"a": 1, "b": 2}), 32),
        (made.advance("a", Advance(3)), 16),
    ):
        assert call.weight == weight


@pytest.mark.parametrize("seed", range(30))
def test_whatever_goes_together_the_daemon_takes(seed: int) -> None:
    chance = random.Random(seed)
    made = Requests("w", 1)
    calls, total = [], 0
    while True:
        call = made.append_streams(
            [("s", NewEvent("t"))] * chance.choice((1, 1, 1, 300)),
            {str(number): 0 for number in range(chance.choice((0, 0, 0, 900)))},
            conditions=[
                condition(QueryItem(types=[str(n) for n in range(chance.choice((1, 2, 90)))]))
                for _ in range(chance.choice((0, 0, 1, 5)))
            ],
            cursors={str(number): 1 for number in range(chance.choice((0, 0, 1, 7)))},
        )
        total += call.weight
        if total > WEIGHT_MAX:
            break
        calls.append(call)
    assert calls
    request = decode_request([b"i", b"", b"APPEND", b"", body_of(calls)])
    parts = request.body.parts if isinstance(request.body, Appends) else [request.body]
    assert all(isinstance(part, Append) for part in parts), request.body


def test_a_cursor_goes_to_a_position_or_where_an_advance_says() -> None:
    assert advances_of({"a": 1, "b": Advance(None), "c": Advance(3, expected=2)}) == {
        "a": Advance(1),
        "b": Advance(None),
        "c": Advance(3, expected=2),
    }
    assert advances_of(None) == {}
