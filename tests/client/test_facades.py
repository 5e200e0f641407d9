"""Both clients have one face: the same names, parameters and promises, with coroutines where one waits.

Only what ``rewind`` hands on is looked at, so the files behind it may change.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from inspect import getattr_static
from pathlib import Path
from typing import Any

import pytest
from wrong_arguments import CONNECT, OPEN, refused, unthought

import rewind

COROUTINES = {
    "append", "append_streams", "decide", "event", "last", "appended", "head", "info", "cursor",
    "advance", "reset_cursor", "delete_cursor", "close", "wait_caught_up", "wait_for",
    "__aenter__", "__aexit__", "__anext__",
}  # fmt: skip
"""What waits is a coroutine. Everything else is called in the same way in both clients."""

OWN_DOCSTRINGS = {
    "close": "it says what becomes of the calls of other tasks",
    "stop": "it says why it is no coroutine",
}
"""Where the asynchronous method has something of its own to say, and what."""

ASYNC_ONLY = {"aclose": "contextlib.aclosing calls it"}
"""What only the asynchronous classes have, and why."""

PROTOCOLS = {
    "__enter__": "__aenter__",
    "__exit__": "__aexit__",
    "__iter__": "__aiter__",
    "__next__": "__anext__",
}
"""Special methods by their names in a blocking class and in an asynchronous one."""


def differences(blocking: type, asynchronous: type) -> list[str]:
    """Where the classes differ and should not, each as ``name: what``."""
    names = {name for kind in (blocking, asynchronous) for name in dir(kind) if name[0] != "_"}
    pairs = {**{name: name for name in sorted(names)}, **PROTOCOLS}
    return [
        f"{name}: {what}"
        for name, other in pairs.items()
        if name not in ASYNC_ONLY
        for what in member_differences(blocking, asynchronous, name, other)
    ]


def member_differences(blocking: type, asynchronous: type, name: str, other: str) -> Iterator[str]:
    """Differences of a method or property, which is called so in each of the classes."""
    members = [getattr_static(blocking, name, None), getattr_static(asynchronous, other, None)]
    if members == [None, None]:
        return
    properties = [member.fget for member in members if isinstance(member, property)]
    if None in members:
        yield "only one class has it"
    elif len(properties) == 1:
        yield "a property in one class only"
    else:
        waits = other in COROUTINES and not properties
        yield from function_differences(*(properties or members), waits)
        if name not in PROTOCOLS and name not in OWN_DOCSTRINGS:
            yield from docstring_differences(*members, f"{blocking.__name__}.{name}")


def function_differences(
    blocking: Callable[..., Any], asynchronous: Callable[..., Any], waits: bool = False
) -> Iterator[str]:
    """Differences of two functions that should be called alike, but that one may be a coroutine."""
    if inspect.iscoroutinefunction(blocking):
        yield "a coroutine in the blocking class"
    if inspect.iscoroutinefunction(asynchronous) is not waits:
        yield "a coroutine" if not waits else "no coroutine"
    signatures = [inspect.signature(blocking), inspect.signature(asynchronous)]
    parameters = [list(signature.parameters) for signature in signatures]
    if parameters[0] != parameters[1]:
        yield f"parameters {parameters[0]} and {parameters[1]}"
        return
    for name in parameters[0]:
        for aspect in ("kind", "default", "annotation"):
            one, other = (getattr(each.parameters[name], aspect) for each in signatures)
            if blocking_name(one) != blocking_name(other):
                yield f"{aspect} of {name} is {one!r} and {other!r}"
    one, other = (each.return_annotation for each in signatures)
    if blocking_name(one) != blocking_name(other):
        yield f"it returns {one} and {other}"


def blocking_name(value: Any) -> Any:
    """An annotation with the names of the blocking types; any other value as it is."""
    if not isinstance(value, str):
        return value
    return re.sub(r"\bAsync(?=(Iterator|Client|Subscription|Events)\b)", "", value)


def docstring_differences(blocking: Any, asynchronous: Any, name: str) -> Iterator[str]:
    """An asynchronous docstring is the blocking one's, or refers to it."""
    one, other = blocking.__doc__, asynchronous.__doc__
    if not one or not other:
        yield "it has no docstring"
    elif other != one and f"See ``{name}``" not in other:
        yield f"its docstring is another one and does not say: See ``{name}``"


# --- the clients ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (rewind.Client, rewind.AsyncClient),
        (rewind.Subscription, rewind.AsyncSubscription),
        (rewind.Events, rewind.AsyncEvents),
    ],
)
def test_both_classes_have_one_face(blocking: type, asynchronous: type) -> None:
    assert differences(blocking, asynchronous) == []


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [(rewind.connect, rewind.connect_async), (rewind.open, rewind.open_async)],
)
def test_both_clients_are_made_alike(
    blocking: Callable[..., Any], asynchronous: Callable[..., Any]
) -> None:
    assert list(function_differences(blocking, asynchronous)) == []
    assert f"as ``{blocking.__name__}``" in str(asynchronous.__doc__)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (rewind.connect, CONNECT),
        (rewind.connect_async, CONNECT),
        (rewind.open, OPEN),
        (rewind.open_async, OPEN),
    ],
)
def test_a_client_is_made_of_the_right_kinds(function: Callable[..., Any], arguments: Any) -> None:
    right, wrong = arguments
    assert unthought(function, wrong) == set()
    for name, values in wrong.items():
        for value in values:
            refused(function, right, name, value)


def test_a_path_is_opened_whatever_is_in_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in (tmp_path / "absolute", Path("relative"), Path("sqlite:colon")):
        with rewind.open(path) as client:
            client.append("s", rewind.NewEvent("A"))
        assert path.is_dir()


def test_every_name_of_the_lists_exists() -> None:
    names = {*dir(rewind.AsyncClient), *dir(rewind.AsyncSubscription)}
    assert {*COROUTINES, *OWN_DOCSTRINGS} <= names


# --- the comparison ---------------------------------------------------------------


class Face:
    """What the classes below are compared with."""

    def read(self, *, after: int = 0) -> Iterator[int]:
        """Read."""
        raise NotImplementedError

    def head(self) -> int:
        """The head."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """The position."""
        raise NotImplementedError

    def __enter__(self) -> Face:
        raise NotImplementedError


class AsyncFace:
    """The same face, so nothing is to be said of it."""

    def read(self, *, after: int = 0) -> AsyncIterator[int]:
        """See ``Face.read``."""
        raise NotImplementedError

    async def head(self) -> int:
        """See ``Face.head``."""
        raise NotImplementedError

    @property
    def position(self) -> int:
        """The position."""
        raise NotImplementedError

    async def __aenter__(self) -> Face:
        raise NotImplementedError


def test_equal_faces_do_not_differ() -> None:
    assert differences(Face, AsyncFace) == []


def other_read(signature: str) -> Any:
    """A method ``read`` with this signature."""
    names: dict[str, Any] = {}
    exec(f'def read{signature}:\n    """See ``Face.read``."""', {}, names)
    return names["read"]


RETURNS = "-> AsyncIterator[int]"


async def coroutine_read(self, *, after: int = 0) -> AsyncIterator[int]:
    """See ``Face.read``."""
    raise NotImplementedError


def function_head(self) -> int:
    """See ``Face.head``."""
    raise NotImplementedError


def undocumented(self) -> int:
    raise NotImplementedError


async def other_head(self) -> int:
    """The last position."""
    raise NotImplementedError


@pytest.mark.parametrize(
    ("name", "member", "words"),
    [
        ("read", None, "only one class has it"),
        ("more", function_head, "only one class has it"),
        ("__aenter__", None, "only one class has it"),
        ("read", other_read(f"(self, *, before: int = 0) {RETURNS}"), "parameters"),
        ("read", other_read(f"(self, *, after: int = 0, more: int = 0) {RETURNS}"), "parameters"),
        ("read", other_read(f"(self, after: int = 0) {RETURNS}"), "kind of after"),
        ("read", other_read(f"(self, *, after: int = 1) {RETURNS}"), "default of after"),
        ("read", other_read(f"(self, *, after: str = 0) {RETURNS}"), "annotation of after"),
        ("read", other_read("(self, *, after: int = 0) -> AsyncIterator[str]"), "returns"),
        ("read", coroutine_read, "a coroutine"),
        ("head", function_head, "no coroutine"),
        ("head", other_head, "does not say: See ``Face.head``"),
        ("head", property(function_head), "a property in one class only"),
        ("position", property(undocumented), "no docstring"),
        ("position", property(function_head), "does not say: See ``Face.position``"),
    ],
)
def test_each_kind_of_difference_is_noticed(name: str, member: Any, words: str) -> None:
    members = {**vars(AsyncFace), name: member}
    if member is None:
        del members[name]
    other = type("OtherFace", (), members)
    (difference,) = differences(Face, other)
    assert words in difference


def test_a_coroutine_in_the_blocking_class_is_noticed() -> None:
    other = type("OtherFace", (), {**vars(Face), "head": AsyncFace.head})
    assert "head: a coroutine in the blocking class" in differences(other, AsyncFace)
