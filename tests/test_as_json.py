"""Values as JSON, and back: what people have, not only what ``json`` knows."""

from __future__ import annotations

import dataclasses
import datetime
import math
import subprocess
import sys
import uuid
from collections import OrderedDict, namedtuple
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any

import msgspec
import pytest

import rewind
from rewind.events import Event, NewEvent


class Colour(Enum):
    RED = "red"


class Word(StrEnum):
    YES = "yes"


class Number(IntEnum):
    ONE = 1


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal
    made: datetime.date
    colours: set[Colour] = dataclasses.field(default_factory=set)
    weight: float = 1.5


class Order(msgspec.Struct):
    id: uuid.UUID
    items: list[Item]
    at: datetime.datetime
    notes: dict[str, Any] = {}


class Text(str):
    pass


class Model:
    """A class as pydantic's: msgspec does not know it, and it knows how to dump itself."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def model_dump(self) -> dict[str, Any]:
        return self.fields


NOON = datetime.datetime(2025, 11, 23, 12, tzinfo=datetime.UTC)
ITEM = Item("kettle", Decimal("12.50"), datetime.date(2025, 11, 23), {Colour.RED})
ORDER = Order(uuid.UUID(int=7), [ITEM, ITEM], NOON, {"a": [1, None]})
POINT = namedtuple("POINT", "x y")(1, 2)


def stored(data: bytes) -> Event:
    return Event(7, 1, bytes(16), "order-1", 3, "Placed", (), {}, data)


def written(value: Any, **more: Any) -> bytes:
    return NewEvent.from_json("t", value, **more).data


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"null"),
        ({"b": 1, "a": [True, "\u00e4\u2028"]}, '{"b":1,"a":[true,"\u00e4\u2028"]}'.encode()),
        ({1: 2, None: 3, False: 4}, b'{"1":2,"null":3,"false":4}'),
        (2**70, b"1180591620717411303424"),
        (Text("text"), b'"text"'),
        (OrderedDict(z=1, a=2), b'{"z":1,"a":2}'),
        (POINT, b"[1,2]"),
        (Word.YES, b'"yes"'),
        (Number.ONE, b"1"),
        ({Word.YES: Number.ONE}, b'{"yes":1}'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_json_takes_is_written_as_json_does(value: Any, data: bytes) -> None:
    assert written(value) == data


@pytest.mark.parametrize(
    ("value", "data", "type_"),
    [
        (NOON, b'"2025-11-23T12:00:00Z"', datetime.datetime),
        (NOON.date(), b'"2025-11-23"', datetime.date),
        (NOON.time(), b'"12:00:00"', datetime.time),
        (datetime.timedelta(minutes=1), b'"PT60S"', datetime.timedelta),
        (uuid.UUID(int=7), b'"00000000-0000-0000-0000-000000000007"', uuid.UUID),
        (Decimal("1.50"), b'"1.50"', Decimal),
        (Colour.RED, b'"red"', Colour),
        ({3, 1, 2}, b"[1,2,3]", set[int]),
        (frozenset(), b"[]", frozenset[int]),
        (
            ITEM,
            b'{"name":"kettle","price":"12.50","made":"2025-11-23","colours":["red"],"weight":1.5}',
            Item,
        ),
        ([{"k": ITEM}], None, list[dict[str, Item]]),
        (ORDER, None, Order),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_msgspec_knows_is_written_and_read_back(value: Any, data: bytes, type_: Any) -> None:
    event = stored(written(value))
    assert data is None or event.data == data
    assert event.json(type_) == value
    assert event.json(type=type_) == value


def nested(value: Any) -> list[Any]:
    """The value, and where else it may hide."""
    item = dataclasses.replace(ITEM, weight=value)
    places = [value, [value], {"k": (value,)}, item, {"k": [item]}]
    return [
        *places,
        Order(uuid.UUID(int=1), [item], NOON),
        Order(uuid.UUID(int=1), [], NOON, {"n": value}),
    ]


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, Decimal("NaN"), Decimal("Infinity")]
)
def test_what_is_not_finite_is_refused_however_deep(value: Any) -> None:
    for hidden in nested(value):
        with pytest.raises(rewind.BadJson, match="value cannot be JSON"):
            written(hidden)
    with pytest.raises(ValueError, match="value cannot be JSON"):
        written(Model(a=value), enc_hook=Model.model_dump)


@pytest.mark.parametrize("value", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_are_refused_however_deep(value: Any) -> None:
    for hidden in nested(value):
        with pytest.raises(TypeError, match=r"it has bytes in it.* decode or encode them first"):
            written(hidden)


def test_what_has_no_form_is_refused_by_its_kind() -> None:
    for value in (
        object(),
        [Model()],
        {"k": {1: Model()}},
        dataclasses.replace(ITEM, weight=Model()),
    ):
        with pytest.raises(TypeError, match=r"it has a value of type .* in it.*: give enc_hook"):
            written(value)
    for value in ({(1, 2): 3}, {uuid.UUID(int=1): 1}):
        with pytest.raises(TypeError, match="keys must be"):
            written(value)
    loop: list[Any] = []
    loop.append(loop)
    for looped in (
        loop,
        dataclasses.replace(ITEM, weight=loop),
        Order(uuid.UUID(int=1), loop, NOON),
    ):
        with pytest.raises(rewind.BadJson):
            written(looped)
    with pytest.raises(rewind.BadJson, match="half of a surrogate pair"):
        written(["\ud800"])


def test_a_hook_is_for_all_that_is_unknown() -> None:
    value = {"top": Model(a=1), "deep": dataclasses.replace(ITEM, weight=Model(b=[Model(at=NOON)]))}
    data = written(value, enc_hook=Model.model_dump)
    found = stored(data).json()
    assert found["top"] == {"a": 1} and found["deep"]["weight"] == {
        "b": [{"at": "2025-11-23T12:00:00Z"}]
    }
    with pytest.raises(KeyError, match="the hook's own"):
        written(Model(), enc_hook=lambda model: {}["the hook's own"])
    assert stored(b'{"a":1}').json(Model, dec_hook=lambda kind, v: kind(**v)).fields == {"a": 1}


def test_a_set_is_written_alike_in_every_process() -> None:
    """Otherwise a retry in another process would be another event, and a conflict of ids."""
    code = (
        "import rewind, uuid; print(rewind.NewEvent.from_json('t', {'s': {'b', 'a', 'c', 'd'}, "
        "'u': {uuid.UUID(int=n) for n in range(4)}}).data)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(outputs) == 1


@pytest.mark.parametrize(
    ("data", "type_", "words"),
    [
        (b"{", None, "is not JSON"),
        (b"{", Item, "is not JSON"),
        (b"", dict, "is not JSON"),
        (b"\xff", None, "is not JSON"),
        (b'"\xff"', str, "is not JSON"),
        (b'"\\ud800"', str, "is not JSON: it has half of a surrogate pair"),
        (b"[" * 1_000_000, None, "is nested too deep"),
        (
            b'{"name":1}',
            Item,
            r"is not of the type asked for: Expected `str`, got `int` - at `\$.name`",
        ),
        (b"[1,2]", Item, "is not of the type asked for"),
    ],
)
def test_data_that_cannot_be_read_is_told_with_its_event(
    data: bytes, type_: Any, words: str
) -> None:
    with pytest.raises(
        rewind.BadJson, match=f"^the data of event 7, 'Placed' of stream 'order-1', {words}"
    ) as error:
        stored(data).json(type_)
    assert isinstance(error.value, ValueError) and str(error.value).isprintable()
    assert error.value.__cause__ is not None


def test_json_without_a_type_is_what_the_standard_library_says() -> None:
    assert stored(b'{"a":[1,2.5,null]}').json() == {"a": [1, 2.5, None]}
    assert stored('{"a":1}'.encode("utf-16")).json() == {"a": 1}
