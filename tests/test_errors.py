"""How errors quote what they refuse."""

from __future__ import annotations

import uuid
from enum import IntEnum, StrEnum
from typing import Any

import pytest

from rewind.errors import MESSAGE_CHARS_MAX, QUOTED_CHARS_MAX, one_line, quoted


class Colour(StrEnum):
    RED = "red"


class Size(IntEnum):
    SMALL = 1


class Loud:
    """Its own form is a flood, and breaks the line."""

    def __repr__(self) -> str:
        return "loud\n" * 1_000_000


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("this object cannot be shown")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("order-1", "'order-1'"),
        ("it's", '"it\'s"'),
        ("a\nb\x1b[31m\x85", r"'a\nb\x1b[31m\x85'"),
        ("\u202e\u2028\ufeff", r"'\u202e\u2028\ufeff'"),
        ("\ud800", r"'\ud800'"),
        (b"\x00a", r"b'\x00a'"),
        (bytearray(b"a"), "bytearray(b'a')"),
        (None, "None"),
        (True, "True"),
        (1.5, "1.5"),
        (float("nan"), "nan"),
        (-(2**63), str(-(2**63))),
        (10**10_000, "an integer of 33220 bits"),
        (["a"], "a value of type list"),
        (uuid.UUID(int=0), "a value of type UUID"),
        (Exception("x"), "a value of type Exception"),
        (Loud(), "a value of type Loud"),
        (Broken(), "a value of type Broken"),
        (Colour.RED, "'red'"),
        (Size.SMALL, "1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_is_quoted_on_one_line(value: Any, words: str) -> None:
    assert quoted(value) == words


@pytest.mark.parametrize(
    ("value", "end"),
    [
        ("x" * 16_000_000, "... (16000000 characters)"),
        ("\x00" * QUOTED_CHARS_MAX, "... (80 characters)"),
        ("\U000e0001" * 1_000, "... (1000 characters)"),
        (b"\xff" * 16_000_000, "... (16000000 bytes)"),
        (bytearray(1_000), "... (1000 bytes)"),
        (type("K" * 100_000, (), {})(), "..."),
        ({"k" * 100: "v" * 16_000_000}, "a value of type dict"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_large_value_is_quoted_by_its_beginning(value: Any, end: str) -> None:
    shown = quoted(value)
    assert shown.endswith(end)
    assert len(shown) <= QUOTED_CHARS_MAX + 40 and shown.isprintable()


def test_a_foreign_message_becomes_one_short_line() -> None:
    assert one_line("no such\tfield `é`") == r"no such\tfield `é`"
    assert one_line("a\u202e\n\ud800") == r"a\u202e\n\ud800"
    flood = one_line("unknown field `" + "\n" * 16_000_000 + "`")
    assert len(flood) == MESSAGE_CHARS_MAX + 3 and flood.isprintable()
