"""The rules an event must keep, and its one encoding."""

from __future__ import annotations

import datetime
import uuid

import msgspec
import pytest

from rewind.checks import check_append
from rewind.errors import BadRequest, RequestError, TooLarge
from rewind.events import (
    Append,
    AppendEvent,
    Event,
    NewEvent,
    decode_event,
    join_records,
    make_record,
    own_id,
    own_id_position,
    own_id_prefix,
)
from rewind.store.plan import same_content

STORE = uuid.UUID("f81d4fae-7dec-41d0-a765-00a0c91e6bf6")


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
    event(tags=("a",) * 32),
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


def test_a_record_is_the_array_of_the_design() -> None:
    record = make_record(
        event(tags=("a",), metadata={"k": 1}), position=7, recorded_at_ns=5, id=bytes(16), version=3
    )
    expected = [7, 5, bytes(16), "s", 3, "t", ["a"], {"k": 1}, b"d"]
    assert msgspec.msgpack.decode(record.encoded) == expected


def test_readers_ignore_elements_after_data() -> None:
    longer = msgspec.msgpack.encode([7, 5, bytes(16), "s", 3, "t", [], {}, b"d", "new", 9])
    assert decode_event(longer) == Event(7, 5, bytes(16), "s", 3, "t", (), {}, b"d")


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_joined_records_are_one_msgpack_array(count: int) -> None:
    assert msgspec.msgpack.decode(join_records([b"\x01"] * count)) == [1] * count


@pytest.mark.parametrize("position", [1, 2, 2**40, 2**62 - 1])
def test_own_ids_are_uuids_of_version_8_that_hold_the_position(position: int) -> None:
    prefix = own_id_prefix(STORE)
    made = uuid.UUID(bytes=own_id(prefix, position))
    assert (made.version, made.variant) == (8, uuid.RFC_4122)
    assert str(made).startswith("f81d4fae-7dec-81d0-")
    assert own_id_position(prefix, made.bytes) == position


def test_other_ids_are_not_taken_for_own_ones() -> None:
    assert own_id_position(own_id_prefix(STORE), uuid.uuid4().bytes) is None
    assert own_id_position(own_id_prefix(STORE), own_id_prefix(STORE) + bytes(8)) == 0


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 1}, {"a": 1, "$by": "rewind"}, True),
        ({"a": [1, 2]}, {"a": [2, 1]}, False),
    ],
)
def test_content_is_compared_as_decoded_values(
    left: dict[str, object], right: dict[str, object], same: bool
) -> None:
    stored = Event(1, 1, bytes(16), "s", 1, "t", (), right, b"d")
    assert same_content(event(metadata=left), stored) is same


def test_caused_by_carries_the_correlation_on() -> None:
    cause = Event(1, 1, bytes(15) + b"\1", "s", 1, "t", (), {"correlation_id": "c"}, b"")
    effect = NewEvent.from_json("t", {"ä": 1}, caused_by=cause)
    assert effect.data == '{"ä":1}'.encode()
    assert effect.metadata == {
        "content_type": "application/json",
        "correlation_id": "c",
        "causation_id": "00000000-0000-0000-0000-000000000001",
    }


def test_times_are_utc() -> None:
    stored = Event(1, 1_357_016_400_000_000_123, bytes(16), "s", 1, "t", (), {}, b"[1]")
    assert stored.recorded_at.isoformat() == "2013-01-01T05:00:00+00:00"
    assert stored.json() == [1]
