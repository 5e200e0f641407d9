"""The kinds of what callers give: refused where it is given, by the name of its argument.

Python takes a text for a list of letters, True for 1 and a text for a number, until something far away
fails, or nothing does and a tag is stored letter by letter for ever. Each function here takes a value
and its argument's name, and returns the value in the form that Rewind works with. What is of another
kind is a ``WrongKind``, whose message says what to write.

Bounds and characters are not looked at: checks.py. This file knows no event. Next: events.py.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, SupportsIndex

from rewind.errors import BadRequest, WrongKind, quoted

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_TIME_NS_MAX = 2**63 - 1  # every integer of an event ends there


def wrong_kind(name: str, value: object, advice: str) -> WrongKind:
    """The error of an argument that is of a wrong kind: what it is, and what to write instead."""
    return WrongKind(f"{name} is {quoted(value)}: {advice}")


def text_of(value: str, name: str, advice: str = "give a text") -> str:
    """A text. One of a class derived from ``str``, as an ``StrEnum``, becomes a plain one."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    raise wrong_kind(name, value, advice)


def place_of(value: str | os.PathLike[str], name: str) -> str:
    """Where a store is: the text of a URL or path, or a path. A path names no scheme, whatever is in it."""
    if not isinstance(value, os.PathLike):
        return text_of(value, name, "give a text or a path")
    path = text_of(os.fspath(value), name, "give a path that is a text")
    return path if Path(path).is_absolute() else f"./{path}"


def texts_of(values: Iterable[str], name: str) -> tuple[str, ...]:
    """Several texts. A single text is refused: it would be taken for its letters."""
    if isinstance(values, str):
        raise wrong_kind(name, values, f"give a list of texts, as [{quoted(values)}]")
    texts = several(values, name, "give a list of texts")
    for text in texts:
        if type(text) is not str:
            return tuple(text_of(each, f"{name}[{index}]") for index, each in enumerate(texts))
    return texts


def several(values: Iterable[Any], name: str, advice: str) -> tuple[Any, ...]:
    """What an iterable gives. Texts, bytes and maps are refused: their items are not what is meant."""
    if type(values) is list or type(values) is tuple:
        return tuple(values)
    if isinstance(values, str | bytes | bytearray | memoryview | Mapping):
        raise wrong_kind(name, values, advice)
    try:
        iterator = iter(values)
    except TypeError as error:
        raise wrong_kind(name, values, advice) from error
    return tuple(iterator)


def bytes_of(value: bytes | bytearray | memoryview, name: str) -> bytes:
    """Bytes. Those of a ``bytearray`` or a ``memoryview`` are copied, since they may change."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        raise wrong_kind(name, value, "give bytes: encode the text, or use NewEvent.from_json")
    raise wrong_kind(name, value, "give bytes, or use NewEvent.from_json")


def map_of(value: Mapping[Any, Any] | None, name: str) -> dict[Any, Any]:
    """A map's copy; an empty one for None."""
    if value is None:
        return {}
    if type(value) is dict:
        return value.copy()
    if isinstance(value, Mapping):
        return dict(value)
    raise wrong_kind(name, value, "give a dict")


def number_of(value: int, name: str, advice: str = "give a whole number") -> int:
    """A whole number, also of NumPy and the like. A bool is none."""
    if type(value) is int:
        return value
    if isinstance(value, SupportsIndex) and not isinstance(value, bool):
        return operator.index(value)
    raise wrong_kind(name, value, advice)


def at_least_one(value: int, name: str) -> int:
    """A whole number above 0. Raises ``BadRequest`` for another one."""
    number = number_of(value, name)
    if number < 1:
        raise BadRequest(f"{name} is {quoted(number)}: give 1 or more")
    return number


def flag_of(value: bool, name: str) -> bool:
    """True or False."""
    if isinstance(value, bool):
        return value
    raise wrong_kind(name, value, "give True or False")


def time_ns_of(value: int | datetime, name: str) -> int:
    """Nanoseconds since 1970 UTC, as they are or from a datetime with a time zone.

    A time out of bounds is the bound: 1970 or 2262. Raises ``BadRequest`` for a datetime without a time
    zone: local time and UTC are both usual, and taking one for the other moves the time by hours.
    """
    if not isinstance(value, datetime):
        return number_of(
            value,
            name,
            "give a datetime with a time zone, as datetime.now(UTC) - timedelta(hours=1), or "
            "nanoseconds since 1970 UTC",
        )
    if value.utcoffset() is None:
        raise BadRequest(
            f"{name} is {value.isoformat()}, without a time zone: give {name}.astimezone() if that is "
            f"local time, {name}.replace(tzinfo=UTC) if it is UTC"
        )
    return min(max(0, (value - _EPOCH) // _MICROSECOND * 1000), _TIME_NS_MAX)
