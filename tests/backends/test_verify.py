"""The check of a whole store, where what a backend says of itself does not agree."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from appends import advance, append, event

from rewind.backends.contract import Last
from rewind.backends.memory import MemoryBackend
from rewind.store import Store


class OtherLastPosition(MemoryBackend):
    def names(self, kind: str, prefix: str, after: str | None, limit: int) -> list[tuple[str, int]]:
        found = super().names(kind, prefix, after, limit)
        return [(name, last - 1) for name, last in found] if kind == "tag" else found


class OtherMark(MemoryBackend):
    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        return dict.fromkeys(super().marks(names), b"other")


class NoNumber(MemoryBackend):
    def last(self) -> Last:
        return super().last()._replace(number=0)


class CursorBeyondTheHead(MemoryBackend):
    def marks_from(self, prefix: str, after: str, limit: int) -> list[tuple[str, bytes]]:
        return [(name, b"\x92\x09\x01") for name, _ in super().marks_from(prefix, after, limit)]

    def marks(self, names: Collection[str]) -> dict[str, bytes]:
        return dict.fromkeys(super().marks(names), b"\x92\t\x01")


@pytest.mark.parametrize(
    ("kind", "complaints"),
    [
        (MemoryBackend, []),
        (OtherLastPosition, ["tag 'red' says position 1, but its last event is at 2"]),
        (OtherMark, ["mark 'cursor:c' is listed with another value than it is found with"]),
        (NoNumber, ["the last commit has the number 0"]),
        (CursorBeyondTheHead, ["mark 'cursor:c' is no position of a cursor: 920901"]),
    ],
)
def test_a_check_names_what_does_not_agree(
    kind: type[MemoryBackend], complaints: list[str]
) -> None:
    backend = kind()
    Store(backend).append([append(event(tags=("red",)), event(tags=("red",))), advance(c=1)])
    assert list(backend.check()) == complaints
