"""An event's one encoding, its id, and what people ask of it."""

from __future__ import annotations

import uuid

import msgspec
import pytest
from copies import COPIES
from wrong_arguments import FROM_JSON, NEW_EVENT, refused, unthought

import rewind
from rewind.events import (
    Appended,
    AppendEvent,
    Event,
    NewEvent,
    decode_event,
    decode_key,
    decode_names,
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


def test_a_record_is_the_array_of_the_design() -> None:
    record = make_record(
        event(tags=("a",), metadata={"k": 1}), position=7, recorded_at_ns=5, id=bytes(16), version=3
    )
    expected = [7, 5, bytes(16), "s", 3, "t", ["a"], {"k": 1}, b"d"]
    assert msgspec.msgpack.decode(record.encoded) == expected


def test_readers_ignore_elements_after_data() -> None:
    longer = msgspec.msgpack.encode([7, 5, bytes(16), "s", 3, "t", [], {}, b"d", "new", 9])
    assert decode_event(longer) == Event(7, 5, bytes(16), "s", 3, "t", (), {}, b"d")


def test_the_beginning_of_a_record_is_read_alone() -> None:
    made = event(tags=("a", "b"), metadata={"k": [1, None]})
    whole = make_record(made, position=7, recorded_at_ns=5, id=bytes(16), version=3).encoded
    for decode in (decode_key, decode_names):
        read = decode(whole)
        for name in read.__struct_fields__:
            assert getattr(read, name) == getattr(decode_event(whole), name)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 65_535, 65_536])
def test_joined_records_are_one_msgpack_array(count: int) -> None:
    assert msgspec.msgpack.decode(join_records([b"\x01"] * count)) == [1] * count


@pytest.mark.parametrize("position", [1, 2, 2**40, 2**62 - 1])
def test_own_ids_are_uuids_of_version_8_that_hold_the_position(position: int) -> None:
    prefix = own_id_prefix(STORE)
    id = uuid.UUID(bytes=own_id(prefix, position))
    assert (id.version, id.variant) == (8, uuid.RFC_4122)
    assert str(id).startswith("f81d4fae-7dec-81d0-")
    assert own_id_position(prefix, id.bytes) == position


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


def caused(cause: dict[str, object], **own: object) -> dict[str, object]:
    """The metadata of an event caused by one with this metadata, besides what is always there."""
    event = Event(1, 1, bytes(16), "s", 1, "t", (), cause, b"")
    metadata = NewEvent.from_json("t", 1, caused_by=event, metadata=own).metadata
    assert metadata.pop("causation_id") == str(event.id)
    return metadata


def test_caused_by_passes_the_trace_on() -> None:
    id, json = str(uuid.UUID(int=0)), "application/json"
    trace = {"traceparent": "00-4bf9-00f0-01", "tracestate": "vendor=1"}
    always = {"content_type": json, "correlation_id": id}
    assert caused({**trace, "user": "x"}) == {**always, **trace}
    assert caused({"traceparent": "00"}) == {**always, "traceparent": "00"}
    own = {"traceparent": "01", "content_type": "text/json", "correlation_id": "c"}
    assert caused(trace, **own) == own
    with pytest.raises(rewind.BadRequest, match="caused_by is a value of type NewEvent"):
        NewEvent.from_json("t", 1, caused_by=NewEvent("t"))  # type: ignore[arg-type]


def test_an_event_of_bytes_has_a_cause_as_one_of_json_has() -> None:
    cause = Event(
        1, 1, bytes(16), "s", 1, "t", (), {"correlation_id": "c", "traceparent": "0"}, b""
    )
    own = {"user": "x", "traceparent": "1"}
    effect = NewEvent("t", b"d", metadata=own, caused_by=cause)
    of_json = NewEvent.from_json("t", 1, metadata=own, caused_by=cause)
    assert effect.metadata == {
        "causation_id": str(cause.id), "correlation_id": "c", "user": "x", "traceparent": "1",
    }  # fmt: skip
    assert of_json.metadata == {"content_type": "application/json", **effect.metadata}
    assert own == {"user": "x", "traceparent": "1"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (
            Event(7, 5, bytes(15) + b"\1", "order-1", 3, "Placed", ("vip",), {"k": [1]}, b"d"),
            "Event(position=7, recorded_at_ns=5, id=UUID('00000000-0000-0000-0000-000000000001'), "
            "stream='order-1', version=3, type='Placed', tags=('vip',), metadata={'k': [1]}, data=b'd')",
        ),
        (
            Appended(1, 1, (bytes(16),), {"s": 1}, False, "fsync"),
            "Appended(first=1, last=1, ids=(UUID('00000000-0000-0000-0000-000000000000'),), "
            "versions={'s': 1}, duplicate=False, durability='fsync')",
        ),
        (NewEvent("Placed"), "NewEvent('Placed', b'')"),
        (
            NewEvent("Placed", b"d", id=uuid.UUID(int=1), tags=["vip"], metadata={"k": 1}),
            "NewEvent('Placed', b'd', id=UUID('00000000-0000-0000-0000-000000000001'), tags=('vip',), "
            "metadata={'k': 1})",
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_shown_as_the_pages_name_its_fields(value: object, words: str) -> None:
    assert repr(value) == words == str(value)


def test_what_is_long_is_shown_by_its_beginning() -> None:
    data, metadata = bytes(4 * 1024 * 1024), {"k" * 255: "\n" * 60_000}
    for value in (
        Event(1, 1, bytes(16), "s" * 255, 1, "t" * 255, ("g" * 255,) * 32, metadata, data),
        Appended(1, 4096, (bytes(16),) * 4096, {f"s-{n}": 1 for n in range(4096)}, False, "fsync"),
        NewEvent("t" * 255, data, tags=["g" * 255] * 32, metadata=metadata),
    ):
        assert len(repr(value)) < 1_200 and repr(value).isprintable()


def test_times_are_utc() -> None:
    stored = Event(1, 1_357_016_400_000_000_123, bytes(16), "s", 1, "t", (), {}, b"[1]")
    assert stored.recorded_at.isoformat() == "2013-01-01T05:00:00+00:00"
    assert stored.json() == [1]


VALUES = [
    Event(1, 5, bytes(16), "s", 1, "t", ("a",), {"k": [1]}, b"d"),
    Appended(1, 2, (bytes(16), bytes(16)), {"s": 2}, False, "fsync"),
    rewind.Info("rewind", "1", 1, STORE, "log", "fsync", 7, {"topic": ["x"]}, {"a": 1}, False),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("how", COPIES)
def test_a_value_is_copied_whole(value: object, how: str) -> None:
    again = COPIES[how](value)
    assert again == value and type(again) is type(value) and repr(again) == repr(value)


@pytest.mark.parametrize("how", COPIES)
def test_a_new_event_is_copied_whole(how: str) -> None:
    new = NewEvent("t", b"d", id=STORE, tags=["a"], metadata={"k": [1]})
    again = COPIES[how](new)
    for name in ("type", "data", "id", "tags", "metadata"):
        assert getattr(again, name) == getattr(new, name)


@pytest.mark.parametrize("name", FROM_JSON[1])
def test_from_json_refuses_what_is_of_a_wrong_kind(name: str) -> None:
    right, wrong = FROM_JSON
    assert unthought(NewEvent.from_json.__func__, wrong) == {"enc_hook"}  # type: ignore[attr-defined]
    for value in wrong[name]:
        refused(NewEvent.from_json, right, name, value)


@pytest.mark.parametrize("name", NEW_EVENT[1])
def test_a_new_event_refuses_what_is_of_a_wrong_kind(name: str) -> None:
    right, wrong = NEW_EVENT
    assert unthought(NewEvent.__init__, wrong) == set()
    for value in wrong[name]:
        refused(NewEvent, right, name, value)
