"""The rules that the fields of an event keep, at their bounds and beyond."""

from __future__ import annotations

import datetime
import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from rewind.checks import SECONDS_MAX, check_append, check_query, check_seconds
from rewind.errors import BadRequest, RequestError, TooLarge
from rewind.events import Advance, Append, AppendEvent
from rewind.query import Condition, QueryItem


def event(**changes: object) -> AppendEvent:
    fields = {"id": None, "stream": "s", "type": "t", "tags": (), "metadata": {}, "data": b"d"}
    return AppendEvent(**{**fields, **changes})  # type: ignore[arg-type]


def nested(depth: int) -> dict[str, object]:
    value: dict[str, object] = {}
    for _ in range(depth - 1):
        value = {"k": value}
    return value


GOOD = [
    event(stream="x" * 255),
    event(stream="ø" * 127),
    event(stream="not$first"),
    event(type=""),
    event(type="y" * 255),
    event(type="a\u202e b\u200d\u2028"),
    event(tags=("a",) * 32),
    event(tags=("a\u202e b\u200d\u2028",)),
    event(tags=("t" * 255,)),
    event(data=b""),
    event(metadata=nested(16)),
    event(metadata={"a": [None, True, -(2**63), 2**63 - 1, 0.5, "x", {"b": []}]}),
]

BAD = [
    (event(stream=""), "stream has 0 bytes"),
    (event(stream="x" * 256), "stream has 256 bytes"),
    (event(stream="ø" * 128), "stream has 256 bytes"),
    (event(stream="a\nb"), "control character"),
    (event(stream="a\x7f"), "control character"),
    (event(stream="a\x85"), "control character"),
    (event(stream="$all"), "reserved"),
    (event(type="y" * 256), "type has 256 bytes"),
    (event(type="ø" * 128), "type has 256 bytes"),
    (event(type="a\nb"), "type 'a.{2}b' has a control character"),
    (event(type="ø" * 100 + "\x85"), "type .* has a control character"),
    (event(tags=("a", "\x1b[31m")), "tag .* has a control character"),
    (event(stream="\ud800"), "stream .* has half of a surrogate pair"),
    (event(type="\ud800"), "type .* has half of a surrogate pair"),
    (event(tags=("a\udfff",)), "tag .* has half of a surrogate pair"),
    (event(metadata={"a": ["\ud800"]}), "metadata .* half of a surrogate pair"),
    (event(tags=("a",) * 33), "33 tags"),
    (event(tags=("",)), "tag has 0 bytes"),
    (event(tags=("t" * 256,)), "tag has 256 bytes"),
    (event(id=b"short"), "16 bytes"),
    (event(metadata=nested(17)), "deeper than 16"),
    (event(metadata={"$mine": 1}), "reserved"),
    (event(metadata={"a": 2**63}), "64 bits"),
    (event(metadata={"a": [-(2**63) - 1]}), "64 bits"),
    (event(metadata={"a": float("nan")}), "finite"),
    (event(metadata={"a": {"b": float("inf")}}), "finite"),
    (event(metadata={"a": b"bytes"}), "type bytes"),
    (event(metadata={"a": {1: 2}}), "keys must be text"),
    (event(metadata={"a": [msgspec.msgpack.Ext(1, b"")]}), "extension"),
    (event(metadata={"a": datetime.datetime.now(datetime.UTC)}), "timestamp"),
    (event(metadata={"a": "x" * 65_536}), "65536 are allowed"),
]


@pytest.mark.parametrize("good", GOOD)
def test_an_event_within_the_rules_is_accepted(good: AppendEvent) -> None:
    check_append(Append((good,)))


@pytest.mark.parametrize(("bad", "words"), BAD)
def test_an_event_outside_the_rules_is_refused_by_name(bad: AppendEvent, words: str) -> None:
    with pytest.raises(RequestError, match="events\\[1\\].*" + words):
        check_append(Append((event(), bad)))


def test_data_above_the_limit_is_too_large() -> None:
    check_append(Append((event(data=b"12345"),)), event_bytes_max=5)
    with pytest.raises(TooLarge, match="6 bytes; at most 5"):
        check_append(Append((event(data=b"123456"),)), event_bytes_max=5)


@pytest.mark.parametrize(
    ("append", "words"),
    [
        (Append(()), "empty"),
        (Append((event(),), id=b"x"), "append id is 16 bytes"),
        (Append((event(id=bytes(16)), event())), "to all of them or to none"),
        (Append((event(id=bytes(16)), event(id=bytes(16)))), "same id"),
        (Append((event(),), expected={"s": -2}), "expected"),
        (Append((event(),), expected={"s": 2**63}), "expected"),
        (Append((event(),), expected={"": 0}), "expected"),
    ],
)
def test_a_malformed_append_is_refused(append: Append, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        check_append(append)


def test_more_events_than_allowed_are_too_large() -> None:
    with pytest.raises(TooLarge, match="4097"):
        check_append(Append((event(),) * 4097))


def guarded(*items: QueryItem, after: int = 0, times: int = 1) -> Append:
    return Append((event(),), conditions=(Condition(items, after),) * times)


TAG = QueryItem(tags=("a",))


@pytest.mark.parametrize(
    ("append", "words"),
    [
        (guarded(), r"conditions\[0\] is empty"),
        (guarded(TAG, after=-1), r"conditions\[0\]: after is -1"),
        (guarded(TAG, after=2**63), r"conditions\[0\]: after"),
        (guarded(QueryItem(types=("y" * 256,))), r"conditions\[0\]\[0\]: type has 256 bytes"),
        (guarded(TAG, QueryItem(tags=("",))), r"conditions\[0\]\[1\]: tag has 0 bytes"),
        (guarded(QueryItem(tags=("\ud800",))), "tag .* half of a surrogate pair"),
        (guarded(QueryItem(categories=("",))), "category has 0 bytes"),
        (guarded(QueryItem(categories=("a\n",))), "category .* control character"),
        (guarded(QueryItem(streams=("x" * 256,))), "stream has 256 bytes"),
        (guarded(QueryItem(streams=("\0",))), "stream .* control character"),
    ],
)
def test_a_malformed_condition_is_refused_by_name(append: Append, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        check_append(append)


def test_types_and_tags_that_are_stored_with_control_characters_can_be_asked_for() -> None:
    check_query((QueryItem(types=("a\0", ""), tags=("\x1b",)),))
    check_query(None)


def test_an_append_has_a_bounded_number_of_conditions_items_and_names() -> None:
    check_append(guarded(TAG, times=64))
    with pytest.raises(TooLarge, match="65 conditions"):
        check_append(guarded(TAG, times=65))
    check_append(guarded(*[TAG] * 64))
    with pytest.raises(TooLarge, match=r"conditions\[0\] has 65 items"):
        check_append(guarded(*[TAG] * 65))
    many = QueryItem(types=[str(n) for n in range(512)])  # type: ignore[arg-type]
    check_append(guarded(many, times=2))
    with pytest.raises(TooLarge, match="1025 names"):
        check_append(
            Append(
                (event(),), conditions=(Condition((many,)), Condition((many,)), Condition((TAG,)))
            )
        )


def cursors(*advances: Advance, **fields: Any) -> Append:
    return Append(cursors={f"c{n}": advance for n, advance in enumerate(advances)}, **fields)


NOTHING: dict[str, Any] = {"events": ()}
BESIDE: dict[str, Any] = {"events": (event(),)}


@pytest.mark.parametrize(
    "append",
    [
        cursors(Advance(0), Advance(None, 5), Advance(3, 9, True), **NOTHING),
        cursors(Advance(2**63 - 1, 0), **BESIDE, id=bytes(16)),
        cursors(Advance(1), **NOTHING, expected={"s": 1}, conditions=(Condition(None),)),
        Append((), cursors={"ø" * 127: Advance(1), "a b\u2028$": Advance(1)}),
    ],
)
def test_cursors_within_the_rules_are_accepted(append: Append) -> None:
    check_append(append)


@pytest.mark.parametrize(
    ("append", "words"),
    [
        (cursors(Advance(1), **NOTHING, id=bytes(16)), "id goes with events"),
        (cursors(Advance(-1), **NOTHING), r"cursors\['c0'\]: position is -1"),
        (cursors(Advance(1), Advance(2**63), **NOTHING), r"cursors\['c1'\]: position is"),
        (cursors(Advance(1, -1), **NOTHING), r"cursors\['c0'\]: expected is -1"),
        (cursors(Advance(None), **BESIDE), r"cursors\['c0'\]: position is nil"),
        (cursors(Advance(1, reset=True), **BESIDE), r"cursors\['c0'\]: reset goes without events"),
        (Append((), cursors={"": Advance(1)}), "cursors has 0 bytes"),
        (Append((), cursors={"x" * 256: Advance(1)}), "cursors has 256 bytes"),
        (Append((), cursors={"a\n": Advance(1)}), "cursors 'a.{2}' has a control character"),
        (Append((), cursors={"$a": Advance(1)}), "reserved"),
        (Append((), cursors={"\ud800": Advance(1)}), "half of a surrogate pair"),
    ],
)
def test_a_malformed_move_of_a_cursor_is_refused_by_name(append: Append, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        check_append(append)


def test_more_cursors_than_allowed_are_too_large() -> None:
    check_append(cursors(*[Advance(1)] * 64, **NOTHING))
    with pytest.raises(TooLarge, match="65 cursors"):
        check_append(cursors(*[Advance(1)] * 65, **NOTHING))


@pytest.mark.parametrize("wrong", [-1, -0.0015, -math.inf, math.nan, Fraction(-1, 3)])
def test_a_duration_that_is_negative_or_nan_is_refused_by_name(wrong: float) -> None:
    with pytest.raises(BadRequest, match=r"max_wait is .*seconds, 0 or more"):
        check_seconds(wrong, "max_wait")


@pytest.mark.parametrize("wrong", ["1", None, True, b"1", 1j, datetime.timedelta(seconds=1), [1]])
def test_a_duration_that_is_no_number_is_a_type_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"max_wait is .*seconds, as a number"):
        check_seconds(wrong, "max_wait")


def test_a_duration_is_a_finite_float() -> None:
    assert [check_seconds(each, "timeout") for each in (0, 0.25, Fraction(1, 2))] == [0, 0.25, 0.5]
    for forever in (math.inf, 10**400, 1e300):
        assert check_seconds(forever, "timeout") == SECONDS_MAX
