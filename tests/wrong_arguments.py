"""What callers may give by mistake: for every argument of every call, values of a wrong kind.

Each of them has to be refused where it is given, by a ``TypeError`` or a ``RewindError`` that names the
argument, with nothing stored. client_contract.py does it with every client, test_events.py with what an
event is made of. An argument without wrong values fails, so a new one is thought of.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import rewind
from rewind import Advance, AppendCondition, NewEvent, Query, QueryItem
from rewind.errors import quoted
from rewind.events import Now

OBJECT = object()
EVENT = NewEvent("A")
READ_EVENT = rewind.Event(1, 1, bytes(16), "s", 1, "A", (), {}, b"")
FLOOD = "x" * 1_000_000

TEXT = (None, b"s", 5, 1.5, True, ["s"], {"s": 1}, OBJECT, uuid.UUID(int=1), "\ud800")
NAME = (*TEXT, "", "a\nb", "\x85", FLOOD)
NUMBER = ("1", b"1", 1.5, True, [1], OBJECT, datetime.timedelta(1), -1, 2**63, 10**5_000)
COUNT = (*NUMBER, None)
FLAG = (None, 0, 1, "no", [], OBJECT)
TEXTS = ("A", b"A", None, 5, {"A": 1}, OBJECT, [1], [None], [b"A"], [["A"]], ["\ud800"], [FLOOD])
CATEGORIES = (*TEXTS, [""], ["a\nb"])
SECONDS = ("1", b"1", True, [1], OBJECT, float("nan"), -1, -0.0015, datetime.timedelta(1))
ID = (5, True, 1.5, "text", b"short", "", [uuid.UUID(int=1)], OBJECT)
TIME = (
    "1h",
    "2025-11-23",
    datetime.date(2025, 11, 23),
    datetime.datetime(2025, 11, 23),
    datetime.time(1),
    *NUMBER,
)
VERSION = ("3", b"3", True, 1.5, [1], OBJECT, EVENT, -2, 2**63, 10**5_000)
DEEP = (b"x", OBJECT, {1}, {1: 2}, {"k": [OBJECT]}, [datetime.date(2025, 11, 23)], 2**64, "\ud800",
        float("nan"), [[float("inf")]])  # fmt: skip

ITEM = QueryItem(tags=["a"])
QUERY = ("A", b"A", 5, True, [], [ITEM], {"tags": ["a"]}, OBJECT, QueryItem, AppendCondition(ITEM),
         Query(*[QueryItem(tags=[str(number)]) for number in range(65)]),
         QueryItem(tags=[str(number) for number in range(1_025)]), QueryItem(tags=[""]),
         QueryItem(types=[FLOOD]), QueryItem(streams=["\ud800"]))  # fmt: skip
CONDITIONS = (None, "A", b"A", 5, ITEM, Query(ITEM), {"A": ITEM}, OBJECT, [ITEM], [None],
              [AppendCondition(ITEM), "A"], AppendCondition(ITEM, 2**63), [AppendCondition(ITEM)] * 65,
              AppendCondition(QueryItem(tags=[FLOOD])), AppendCondition(ITEM, -1))  # fmt: skip
CURSORS = ("c", b"c", 5, [("c", 1)], [], OBJECT, {5: 1}, {b"c": 1}, {"": 1}, {"a\nb": 1}, {"$c": 1},
           {FLOOD: 1}, {"\ud800": 1}, {str(number): 1 for number in range(65)},
           *({"c": each} for each in (*NUMBER, None)), {"c": Advance("1")}, {"c": Advance(-1)},
           {"c": Advance(1, expected="1")}, {"c": Advance(1, expected=-1)},
           {"c": Advance(1, reset=1)})  # fmt: skip
CURSOR = (*NAME, "$c")

Wrong = dict[str, tuple[Any, ...]]

_READ: Wrong = {
    "after": COUNT,
    "until": NUMBER,
    "limit": NUMBER,
    "backwards": FLAG,
    "types": TEXTS,
    "tags": (*TEXTS, [""]),
    "since": TIME,
}

CLIENT: dict[str, tuple[dict[str, Any], Wrong]] = {
    "append": (
        {"stream": "s", "events": EVENT},
        {
            "stream": (*NAME, "$mine"),
            "events": ("A", b"A", None, 5, {"a": EVENT}, OBJECT, [], ["A"], [None], [("s", EVENT)],
                       [EVENT, "A"], READ_EVENT, [READ_EVENT]),
            "expected_version": VERSION,
            "append_id": ID,
            "conditions": CONDITIONS,
            "cursors": CURSORS,
            "timeout": SECONDS,
        },
    ),
    "append_streams": (
        {"events": [("s", EVENT)]},
        {
            "events": (EVENT, "ab", b"ab", None, 5, {"ab": EVENT}, OBJECT, [], ["ab"], [EVENT], [("s",)],
                       [("s", EVENT, EVENT)], [{"s": EVENT, "t": EVENT}], [("s", "A")],
                       [(EVENT, "s")], *([(name, EVENT)] for name in NAME)),
            "expected": ("s", 0, False, [("s", 1)], [], OBJECT, *({"s": each} for each in VERSION),
                         {5: 1}, {b"s": 1}, {"": 0}, {"\ud800": 1}, {"a\nb": 1}, {FLOOD: 1}),
            "append_id": ID,
            "conditions": CONDITIONS,
            "cursors": CURSORS,
            "timeout": SECONDS,
        },
    ),
    "decide": (
        {"decision": lambda events: None, "stream": "s", "fold": lambda state, event: state},
        {
            "decision": (None, "f", 5, OBJECT, lambda events: "A", lambda events: 5,
                         lambda events: {"s": EVENT}),
            "stream": NAME[1:],
            "query": (*QUERY, ITEM),
            "fold": ("f", 5, OBJECT, [len]),
            "initial": (),
            "attempts": (*COUNT[:8], 0, None),
            "append_id": ID,
            "timeout": SECONDS,
        },
    ),
    "read": ({}, {**_READ, "prefix": (*TEXT, FLOOD), "categories": CATEGORIES, "query": QUERY}),
    "read_stream": ({"stream": "s"}, {**_READ, "stream": NAME}),
    "last": ({}, {"stream": NAME[1:], "query": QUERY}),
    "appended": ({"append_id": uuid.UUID(int=1)}, {"append_id": (*ID, None)}),
    "types": ({}, {"prefix": (*TEXT, FLOOD)}),
    "tags": ({}, {"prefix": (*TEXT, FLOOD)}),
    "categories": ({}, {"prefix": (*TEXT, FLOOD)}),
    "cursor": ({"name": "c"}, {"name": CURSOR}),
    "cursors": ({}, {"prefix": (*TEXT, FLOOD)}),
    "advance": (
        {"name": "c", "position": 0},
        {"name": CURSOR, "position": COUNT, "expected": (*NUMBER, 5)},
    ),
    "reset_cursor": ({"name": "c", "position": 0}, {"name": CURSOR, "position": COUNT}),
    "delete_cursor": ({"name": "c"}, {"name": CURSOR}),
    "event": ({"id": uuid.UUID(int=1)}, {"id": (*ID, None)}),
    "streams": ({}, {"prefix": (*TEXT, FLOOD)}),
    "subscribe": (
        {},
        {
            "after": (*COUNT, "NOW", Now),
            "stream": NAME[1:],
            "prefix": (*TEXT, FLOOD),
            "types": TEXTS,
            "tags": (*TEXTS, [""]),
            "categories": CATEGORIES,
            "query": QUERY,
            "since": TIME,
            "cursor": CURSOR[1:],
            "store_id": ID,
        },
    ),
    "head": ({}, {}),
    "info": ({}, {}),
    "close": ({}, {}),
}  # fmt: skip
"""Each public method: arguments that are right, and for each argument what is wrong."""

SUBSCRIPTION: dict[str, tuple[dict[str, Any], Wrong]] = {
    "batches": ({}, {"max_events": (*COUNT[:8], 0, None), "max_wait": SECONDS}),
    "wait_for": ({"position": 0}, {"position": COUNT[:7], "timeout": SECONDS}),
    "wait_caught_up": ({}, {"timeout": SECONDS}),
    "stop": ({}, {}),
}

PLACE = (None, b"tcp://127.0.0.1:1", 5, 1.5, True, ["tcp://127.0.0.1:1"], OBJECT)
ENDPOINT = (
    *PLACE,
    "",
    FLOOD,
    "tcp://\n\u202e:1",
    "\ud800",
    "tcp://\ud800:1:1",
    Path("tcp://127.0.0.1:1"),
)
CONNECT: tuple[dict[str, Any], Wrong] = (
    {"endpoint": "tcp://127.0.0.1:1"},
    {"endpoint": ENDPOINT, "topic_endpoint": ENDPOINT[1:], "timeout": SECONDS, "store_id": ID},
)
OPEN: tuple[dict[str, Any], Wrong] = (
    {"url": "memory:"},
    {"url": PLACE, "read_only": FLAG, "store_id": ID},
)

FROM_JSON: tuple[dict[str, Any], Wrong] = (
    {"type": "A", "value": 1},
    {
        "type": TEXT[:-1],
        "value": (OBJECT, b"x", [OBJECT], {(1, 2): 3}, float("nan"), [float("inf")], ["\ud800"]),
        "caused_by": (EVENT, 5, "text", uuid.UUID(int=1), [READ_EVENT]),
        "id": ID,
        "tags": TEXTS[:-2],
        "metadata": ("x", "", 5, 0, [], [("a", 1)], OBJECT),
    },
)

NEW_EVENT: tuple[dict[str, Any], Wrong] = (
    {"type": "A"},
    {
        "type": TEXT[:-1],
        "data": ("text", None, 5, 1.5, True, ["x"], {"x": 1}, OBJECT),
        "id": ID,
        "tags": ("vip", b"vip", None, 5, 0, "", {}, {"vip": True}, OBJECT, [1], [None], [b"vip"], ["a", 2]),
        "metadata": ("x", "", 5, 0, [], [("a", 1)], OBJECT, {"a"}),
        "caused_by": FROM_JSON[1]["caused_by"],
    },
)  # fmt: skip
"""What is refused when the event is made; what is refused with the append is below."""

APPENDED: Wrong = {
    "type": ("a\nb", "\x85", "\ud800", FLOOD),
    "tags": (["a\nb"], [""], ["\ud800"], [FLOOD], ["a"] * 33),
    "metadata": (*({"k": deep} for deep in DEEP), {5: 1}, {"$mine": 1}, {FLOOD: 1}, {"\ud800": 1}),
    "data": (bytes(5 * 1024 * 1024),),
}
"""Values of an event that the append refuses: bounds, characters, and what is deep in metadata."""


def refused(call: Callable[..., Any], right: dict[str, Any], name: str, value: Any) -> None:
    """The call has to refuse the value by the argument's name, in a short message of one line."""
    shown = f"{name} as {quoted(value)}"
    with pytest.raises((TypeError, rewind.RewindError)) as error:
        pytest.fail(f"{shown} gave {call(**{**right, name: value})!r}")
    message = str(error.value)
    assert not isinstance(error.value, rewind.Internal | rewind.Unavailable), (shown, message)
    assert name in message or name.removesuffix("s") in message, (shown, message)
    assert message.isprintable() and len(message) < 600, (shown, message)
    assert "not supported" not in message and "codec" not in message, (shown, message)


def unthought(function: Callable[..., Any], wrong: Iterable[str]) -> set[str]:
    """The arguments of a function for which no wrong value is given, or that it does not have."""
    code = function.__code__
    names = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return (names - {"self", "cls"}) ^ set(wrong)
