"""The index of a backend of blocks: what an entry costs, and damage that a query meets."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import MANY, Kind, Scribe
from test_backends import log_kind, needs_plyvel, url_kind

from rewind.backends import Backend
from rewind.backends.block_backend import BlockBackend
from rewind.backends.keys import after_prefix, pack_u64
from rewind.backends.postings import name_key, name_of, names_key, postings
from rewind.errors import StoreDamaged
from rewind.query import QueryItem


@pytest.fixture(
    params=[
        pytest.param(url_kind("leveldb"), id="leveldb", marks=needs_plyvel),
        pytest.param(log_kind("leveldb"), id="log", marks=needs_plyvel),
        pytest.param(log_kind("sqlite"), id="log-sqlite"),
    ]
)
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """One with some events in two blocks: one of its own, and five."""
    kind: Kind = request.param
    opened = kind.open(tmp_path / "store")
    Scribe(opened).write({"stream": "a-1", "type": "first", "tags": ("g", "one")})
    Scribe(opened).write(
        *({"stream": f"a-{n}", "type": "tT"[n % 2], "tags": ("g",) * (n < 3)} for n in range(5))
    )
    yield opened
    opened.close()


def entries(backend: Backend) -> dict[bytes, bytes]:
    """All of the index."""
    assert isinstance(backend, BlockBackend)
    return dict(backend._index._keys.scan(b"\0", b"\xff"))


def put(backend: Backend, key: bytes, value: bytes | None) -> None:
    """Change the index behind the backend's back."""
    backend.settle()  # Nothing that the log still has to write undoes it.
    keys: Any = getattr(backend, "_keys", None) or backend._db  # type: ignore[attr-defined]
    keys.write([(key, value)], *([] if hasattr(backend, "_keys") else [False]))


def found(backend: Backend, backwards: bool = False, **names: Any) -> list[int]:
    return backend.matching([QueryItem(**names)], 0, MANY, MANY, backwards).positions


def read(backend: Backend, **names: Any) -> int:
    return len(backend.read_matching([QueryItem(**names)], 0, MANY, MANY, MANY)[0])


G = name_key("tag", "g")


def test_names_sort_in_keys_as_in_utf8_and_come_back() -> None:
    names = [
        "",
        "\0",
        "\0\0",
        "\0\x01",
        "\x01",
        "a",
        "a\0",
        "a\0\x01b",
        "a\x01",
        "ab",
        "ä",
        "\U0001f600",
    ]
    keys = [name_key("type", name) + pack_u64(7) for name in names]
    assert sorted(names, key=str.encode) == [name_of(key) for key in sorted(keys)]
    for prefix in names:
        start = names_key("type", prefix)
        begun = [
            name
            for name, key in zip(names, keys, strict=True)
            if start <= key < after_prefix(start)
        ]
        assert begun == [name for name in names if name.startswith(prefix)]


def test_many_events_of_a_name_in_a_block_are_one_short_entry(backend: Backend) -> None:
    before = entries(backend)
    scribe = Scribe(backend)
    scribe.write(
        *({"stream": "a-1", "type": "t", "tags": ("many",), "data": b""} for _ in range(80))
    )
    added = {key: value for key, value in entries(backend).items() if key not in before}
    of_names = {key[:1]: len(key) + len(value) for key, value in added.items() if key[:1] in b"tgk"}
    assert len(of_names) == 3 and sum(of_names.values()) < 80


def test_an_event_that_is_alone_with_its_names_has_one_piece_and_checksum(backend: Backend) -> None:
    records = Scribe(backend).records([{"stream": "a", "tags": ("g", "h")}])
    checksums: dict[int, int] = {}
    made = postings(records, 7, checksums)
    assert list(checksums) == [7] and len(made) == 4
    assert len({value for _, value in made}) == 1, "one event, one piece"


def test_the_last_block_of_a_name_is_not_walked_past(backend: Backend) -> None:
    assert found(backend, tags=["g"]) == [1, 2, 3, 4]
    assert found(backend, True, tags=["g"]) == [4, 3, 2, 1]
    for after in range(8):
        for until in range(8):
            within = [n for n in (1, 2, 3, 4) if after < n <= until]
            item = [QueryItem(tags=["g"])]
            assert backend.matching(item, after, until, 9).positions == within
            assert backend.matching(item, after, until, 9, True).positions == within[::-1]


@pytest.mark.parametrize("value", [b"", b"\1", b"\2\0", b"\1" + bytes(20)])
@pytest.mark.parametrize("last", [1, 6])
def test_a_broken_posting_is_damage(backend: Backend, value: bytes, last: int) -> None:
    put(backend, G + pack_u64(last), value)
    for backwards in (False, True):
        with pytest.raises(StoreDamaged, match="a posting of tag 'g' is broken"):
            found(backend, backwards, tags=["g"])
    assert found(backend, types=["t"]) == [2, 4, 6]
    assert any("tag 'g' is broken" in line for line in backend.check())


def test_a_posting_that_leads_to_another_event_is_damage(backend: Backend) -> None:
    put(backend, G + pack_u64(6), b"\0\x1f")  # all five, and three have it
    assert found(backend, tags=["g"]) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(StoreDamaged, match="position 5 does not match what led there"):
        read(backend, tags=["g"])
    assert read(backend, types=["t"]) == 3
    assert re.search("tag 'g' leads to position 5, which has it not", "\n".join(backend.check()))


def test_a_posting_that_leads_to_too_few_events_is_found_by_a_check(backend: Backend) -> None:
    put(backend, G + pack_u64(6), b"\0\x18")
    assert read(backend, tags=["g"]) == 3
    assert re.search("tag 'g' does not lead to position 4", "\n".join(backend.check()))


def test_a_posting_of_a_name_that_no_event_has_is_found_by_a_check(backend: Backend) -> None:
    put(backend, name_key("tag", "x") + pack_u64(6), b"\0\x18")
    lines = list(backend.check())
    assert lines == ["the names of kind tag lead to 7 events, and should to 5"]


def test_a_lost_posting_is_found_by_a_check(backend: Backend) -> None:
    put(backend, name_key("category", "a") + pack_u64(1), None)
    assert "category 'a' does not lead to position 1" in list(backend.check())


def test_a_piece_that_is_not_there_is_damage(backend: Backend) -> None:
    key = name_key("tag", "one") + pack_u64(1)
    value = entries(backend)[key]
    for changed in (value[:4] + b"\x07" + value[5:], value[:-1] + bytes((value[-1] ^ 1,))):
        put(backend, key, changed)
        with pytest.raises(StoreDamaged, match="position 1 is not where it is said to be"):
            read(backend, tags=["one"])
    put(backend, key, value)
    assert read(backend, tags=["one"]) == 1


@pytest.mark.parametrize("value", [b"\0\x18", b"\1" + bytes(12)])
def test_a_posting_of_a_block_that_is_not_there_is_damage(backend: Backend, value: bytes) -> None:
    put(backend, G + pack_u64(5), value)
    with pytest.raises(StoreDamaged, match="the block ending at position 5 is missing"):
        read(backend, tags=["g"])


@pytest.mark.parametrize("key", [b"g", b"gx" + bytes(4), b"gx" + bytes(9), b"g\xff" + bytes(10)])
def test_a_broken_name_is_damage(backend: Backend, key: bytes) -> None:
    put(backend, key, b"\0\1")
    with pytest.raises(StoreDamaged, match=r"in the key .* of a tag is broken"):
        backend.names("tag", "", None, 9)
    assert backend.names("type", "", None, 9) == [("T", 5), ("first", 1), ("t", 6)]
    assert any("of a tag is broken" in line for line in backend.check())


def test_broken_marks_are_damage(backend: Backend) -> None:
    number = backend.last().number
    Scribe(backend).write(
        marks={"a": b"1", "cursor:c": b"\x92\x06\x00", "cursor:d": b"\x92\x07\x00"}
    )
    assert backend.last().number == number + 1
    assert list(backend.check()) == ["mark 'cursor:d' is no position of a cursor: 920700"]
    put(backend, b"mcursor:d", b"\x92")
    assert "mark 'cursor:d' is no position of a cursor: 92" in list(backend.check())
    put(backend, b"mcursor:d", None)
    put(backend, b"m\xff", b"1")
    with pytest.raises(StoreDamaged, match=r"the name of mark .* is not UTF-8"):
        backend.marks_from("", "", 9)
    assert any("is not UTF-8" in line for line in backend.check())


def test_a_run_that_is_missing_is_damage_for_a_query_of_its_stream(backend: Backend) -> None:
    scribe = Scribe(backend)
    for _ in range(9):
        scribe.write("a-1", "b")
    put(backend, b"va-1\0" + pack_u64(4), None)
    put(backend, b"va-1\0" + pack_u64(5), b"\0" * 9)
    with pytest.raises(StoreDamaged, match=r"stream 'a-1' lacks version|stream 'a-1' is cut short"):
        found(backend, streams=["a-1"])


def test_a_seek_takes_no_more_memory_where_the_next_event_is_far_away(backend: Backend) -> None:
    far = 10**8
    put(backend, name_key("tag", "far") + pack_u64(far), bytes((0, 0b101)))
    assert isinstance(backend, BlockBackend)
    places = backend._index.opener()("tag", "far", False)
    tracemalloc.start()
    try:
        assert [places.seek(position) for position in (1, 2, far - 1)] == [far - 2, far - 2, far]
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("letter", ["n", "i", "v", "t", "m"])
def test_a_check_says_what_is_damaged_and_goes_on(backend: Backend, letter: str) -> None:
    Scribe(backend).write({"stream": "b", "id": b"i" * 16}, marks={"cursor:c": b"\x92\0\0"})
    key = next(key for key in entries(backend) if key.startswith(letter.encode()))
    put(backend, key, b"\0")
    put(backend, name_key("tag", "one") + pack_u64(1), None)
    lines = list(backend.check())
    assert "tag 'one' does not lead to position 1" in lines
    assert "the names of kind tag lead to 4 events, and should to 5" in lines
    assert len(lines) > 2
