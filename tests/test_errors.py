"""What every error keeps: it survives copying and pickling; and how errors quote what they refuse."""

from __future__ import annotations

import importlib
import multiprocessing
import pkgutil
import uuid
from concurrent.futures import ProcessPoolExecutor
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from copies import COPIES

import rewind
from rewind.errors import (
    MESSAGE_CHARS_MAX,
    QUOTED_CHARS_MAX,
    Behind,
    ConditionFailed,
    ConditionTooWide,
    CursorMoved,
    RewindError,
    Unavailable,
    WrongExpectedVersion,
    one_line,
    quoted,
)

# --- copies -----------------------------------------------------------------------

OWN_ARGUMENTS: dict[type[RewindError], tuple[Any, ...]] = {
    WrongExpectedVersion: ("order-1", 2, 3),
    ConditionFailed: (1, 7),
    ConditionTooWide: (1, 7),
    CursorMoved: ("mailer", 2, 3, "a message"),
    Behind: (7, 3),
    Unavailable: ("no answer", bytes(range(16))),
}
"""What makes an error whose ``__init__`` is its own; all others take a message."""


def every_error() -> list[type[RewindError]]:
    """The base and all that derive from it, in whichever file of the package."""
    for module in pkgutil.walk_packages(rewind.__path__, "rewind."):
        if module.name == "rewind.__main__":
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # plyvel is not everywhere.
            assert error.name == "plyvel", error
    found: list[type[RewindError]] = [RewindError]
    for each in found:
        found += [child for child in each.__subclasses__() if child not in found]
    return found


def made(kind: type[RewindError]) -> RewindError:
    """An error of this kind, as it is raised and caught."""
    own = any("__init__" in vars(base) for base in kind.__mro__ if issubclass(base, RewindError))
    assert not own or kind in OWN_ARGUMENTS, f"OWN_ARGUMENTS says nothing of {kind.__name__}"
    error = kind(*OWN_ARGUMENTS.get(kind, ("the message",)))
    error.add_note("a note")
    try:
        raise error from ValueError("a cause, which may hold anything")
    except RewindError as caught:
        return caught


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", COPIES)
def test_every_error_is_copied_whole(kind: type[RewindError], how: str) -> None:
    error = made(kind)
    again = COPIES[how](error)
    assert type(again) is kind and str(again) == str(error) and again.args == error.args
    assert vars(again) == vars(error) and again.exit_code == error.exit_code
    assert again.__cause__ is None and again.__traceback__ is None


def append_in_this_process(expected_version: int) -> None:
    with rewind.open("memory:") as store:
        store.append("order-1", rewind.NewEvent("Placed"), expected_version)


def test_an_error_comes_back_from_a_process_pool() -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        failed = pool.submit(append_in_this_process, 3)
        with pytest.raises(WrongExpectedVersion, match="there is no stream 'order-1' yet") as error:
            failed.result(timeout=120)
    assert (error.value.stream, error.value.expected, error.value.actual) == ("order-1", 3, 0)


@pytest.mark.parametrize(
    ("expected", "actual", "words"),
    [
        (-1, 0, "there is no stream 's' yet: the append expected it to exist"),
        (3, 0, "there is no stream 's' yet: the append expected version 3"),
        (0, 2, "there is a stream 's' already, at version 2: the append expected none"),
        (3, 2, "stream 's' is at version 2: the append expected version 3"),
    ],
)
def test_a_wrong_version_is_told_as_people_say_it(expected: int, actual: int, words: str) -> None:
    assert str(WrongExpectedVersion("s", expected, actual)) == words


# --- quotations -------------------------------------------------------------------


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
