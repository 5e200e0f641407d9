"""What only LevelDB stores do: formats, and whose files they are. Postings and runs are in test_index.py."""

from __future__ import annotations

import json
import random
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contract import MANY, Scribe, read_all
from golden_stores import STORES
from index_contract import items_of, positions_of

from rewind.backends import Backend, open_backend
from rewind.errors import StoreDamaged, StoreFailed
from rewind.events import decode_event
from rewind.query import NAME_KINDS, category_of

pytest.importorskip("plyvel", reason="plyvel is not installed here")

from rewind.backends import directory, leveldb  # it imports plyvel

HEAD = 347  # of the golden store


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A store of format 1."""
    shutil.copytree(STORES / "leveldb", tmp_path / "store")
    return tmp_path / "store"


def format_of(store: Path) -> int:
    found: int = json.loads((store / "rewind.json").read_text())["format"]
    return found


def assert_whole(backend: Backend, head: int = HEAD, number: int = HEAD) -> None:
    """Every event is found by each of its names, and nothing else is."""
    assert backend.last()[::2] == (head, number)
    assert list(backend.check()) == []
    events = [decode_event(record) for record in read_all(backend)]
    names: dict[str, set[str]] = {
        "types": {event.type for event in events},
        "tags": {tag for event in events for tag in event.tags},
        "categories": {category_of(event.stream) for event in events},
        "streams": {event.stream for event in events},
    }
    for field, of_kind in names.items():
        for item in (item for name in of_kind for item in items_of(**{field: [name]})):
            expected = positions_of(backend, [item])
            assert backend.matching([item], 0, MANY, MANY).positions == expected
    for kind, field in zip(NAME_KINDS, ("types", "tags", "categories"), strict=True):
        assert {name for name, _ in backend.names(kind, "", None, MANY)} == names[field]


def append(store: Path) -> None:
    """What users do with a store that was upgraded."""
    backend = open_backend(str(store))
    head, _, number = backend.last()
    scribe = Scribe(backend)
    scribe.write({"stream": "order-1", "type": "paid", "tags": ("vip", "new")})
    scribe.write(marks={"m": b"1"})
    backend.close()
    backend = open_backend(str(store))
    assert_whole(backend, head + 1, number + 2)
    assert backend.marks(["m"]) == {"m": b"1"}
    backend.close()


def append_as_format_1(store: Path, *events: dict[str, Any]) -> None:
    """What an older release does, which knows no postings, no number and no store."""
    twin = store.with_name(
        "twin"
    )  # a store that goes on in the new format, to take the entries from
    shutil.copytree(store, twin)
    backend = open_backend(str(twin))
    assert isinstance(backend, leveldb.LevelDBBackend)
    before = dict(backend._db.scan(b"\0", b"\xff"))
    Scribe(backend).write(*events)
    added = [
        entry for entry in backend._db.scan(b"\0", b"\xff") if before.get(entry[0]) != entry[1]
    ]
    backend.close()
    shutil.rmtree(twin)
    db = leveldb.LevelDB(store / "leveldb", create=False)
    db.write([(key, value) for key, value in added if key[:1] in b"envia"], sync=True)
    db.close()


def test_an_old_store_is_upgraded_once(old: Path) -> None:
    told: list[tuple[int, int]] = []
    backend = open_backend(str(old), progress=lambda *done: told.append(done))
    assert_whole(backend)
    backend.close()
    assert told[0] == (0, HEAD) and told[-1] == (HEAD, HEAD)
    assert format_of(old) == 2
    told.clear()
    open_backend(str(old), progress=lambda *done: told.append(done)).close()
    assert told == []
    append(old)


def test_an_old_store_is_read_and_queried_without_being_changed(old: Path) -> None:
    before = {file: file.read_bytes() for file in old.rglob("*") if file.is_file()}
    for _ in range(2):
        backend = open_backend(str(old), read_only=True)
        assert_whole(backend)
        backend.close()
    assert {file: file.read_bytes() for file in old.rglob("*") if file.is_file()} == before


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def each_write(
    old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], list[Path]]:
    """Upgrades the store in small steps; returns copies, as a kill would leave it, from before and after
    each write."""
    monkeypatch.setattr(leveldb, "UPGRADE_STEP_BYTES", 3_000)
    copies: list[Path] = []

    def copy() -> None:
        copies.append(tmp_path / f"copy-{len(copies)}")
        shutil.copytree(old, copies[-1])

    def copying(write: Callable[..., None]) -> Callable[..., None]:
        def copying_write(*args: Any, **kwargs: Any) -> None:
            copy()
            write(*args, **kwargs)
            copy()

        return copying_write

    def upgrade() -> list[Path]:
        with monkeypatch.context() as patch:
            patch.setattr(leveldb.LevelDB, "write", copying(leveldb.LevelDB.write))
            patch.setattr(directory, "_replace", copying(directory._replace))
            open_backend(str(old)).close()
        return copies

    return upgrade


def test_an_upgrade_that_is_killed_at_any_write_goes_on_there(
    each_write: Callable[[], list[Path]],
) -> None:
    copies = each_write()
    assert len(copies) >= 12
    for copy in copies:
        backend = open_backend(str(copy))
        assert_whole(backend)
        backend.close()
        assert format_of(copy) == 2
    append(copies[0])


def test_what_an_upgrade_did_before_it_was_killed_is_not_done_again(
    each_write: Callable[[], list[Path]],
) -> None:
    begun = []
    for copy in each_write()[1::2]:  # after each write; the last is rewind.json's
        told: list[tuple[int, int]] = [(HEAD, HEAD)]
        open_backend(str(copy), progress=lambda *done: told.append(done)).close()  # noqa: B023
        begun.append(told[1][0] if len(told) > 1 else HEAD)
    assert begun[0] > 0 and begun == sorted(begun) and len(set(begun)) >= len(begun) - 2


def test_an_older_release_may_append_between_two_attempts(
    each_write: Callable[[], list[Path]],
) -> None:
    for copy in each_write()[:-1]:  # the last says format 2, which an older release refuses
        assert format_of(copy) == 1
        append_as_format_1(copy, {"stream": "order-1", "tags": ("late",)}, {"stream": "new-1"})
        backend = open_backend(str(copy))
        assert_whole(backend, HEAD + 2, HEAD + 2)
        assert backend.names("tag", "late", None, 9) == [("late", HEAD + 1)]
        backend.close()


def test_a_write_of_the_upgrade_that_fails_leaves_the_store_to_the_next_attempt(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leveldb, "UPGRADE_STEP_BYTES", 1)
    write, replace = leveldb.LevelDB.write, directory._replace
    for failing in range(1_000):
        calls = iter(range(1_000))

        def fail(*args: Any, calls: Iterator[int] = calls, failing: int = failing) -> None:
            if next(calls) == failing:
                raise StoreFailed("on purpose")

        with monkeypatch.context() as patch:
            patch.setattr(
                leveldb.LevelDB, "write", lambda *args, **kw: (fail(), write(*args, **kw))
            )
            patch.setattr(directory, "_replace", lambda *args: (fail(), replace(*args)))
            try:
                backend = open_backend(str(old))
            except StoreFailed:
                continue
        assert failing > 1
        assert_whole(backend)
        backend.close()
        break
    append(old)


def test_a_damaged_block_is_named_by_the_upgrade(old: Path) -> None:
    db = leveldb.LevelDB(old / "leveldb", create=False)
    key, block = next(db.scan(b"e" + bytes(7) + b"\x10", b"f"))
    changed = bytearray(block)
    changed[-1] ^= 1
    db.write([(key, bytes(changed))], sync=True)
    db.close()
    last = int.from_bytes(key[1:], "big")
    for _ in range(2):
        with pytest.raises(
            StoreDamaged, match=f"block ending at position {last} fails its checksum"
        ):
            open_backend(str(old))
    assert format_of(old) == 1


# --- whose files they are ---------------------------------------------------------


def make(path: Path, events: int = 3) -> Path:
    backend = open_backend(f"leveldb:{path}")
    Scribe(backend).write(*["a"] * events)
    backend.close()
    return path


def test_files_of_another_store_are_damage_that_says_what_to_do(tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    shutil.rmtree(one / "leveldb")
    shutil.copytree(other / "leveldb", one / "leveldb")
    for read_only in (False, True):
        with pytest.raises(StoreDamaged, match=r"is of the store .* put both back from one copy"):
            open_backend(str(one), read_only=read_only)


def test_files_of_an_older_format_beside_a_newer_identity_are_damage(
    old: Path, tmp_path: Path
) -> None:
    one = make(tmp_path / "one")
    shutil.rmtree(one / "leveldb")
    shutil.copytree(old / "leveldb", one / "leveldb")
    with pytest.raises(StoreDamaged, match="does not say which store it is of: restore"):
        open_backend(str(one))


def test_files_of_a_newer_format_beside_an_older_identity_are_upgraded_again(old: Path) -> None:
    identity = (old / "rewind.json").read_bytes()
    append(old)  # upgraded, and gone on with: a mark is a commit without an event
    append(old)
    (old / "rewind.json").write_bytes(identity)  # from a copy that somebody made before
    backend = open_backend(str(old))
    assert_whole(backend, HEAD + 2, HEAD + 4)
    backend.close()
    assert format_of(old) == 2


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (b"h", None, "ends with position 3, but its last commit with none: restore"),
        (b"h", bytes(8), "number of the last commit is cut short"),
        (b"h", bytes(16), "ends with position 3, but its last commit with 0: restore"),
        (b"s", None, "does not say which store it is of"),
        (b"s", b"s", "says of its store is cut short"),
    ],
)
def test_a_broken_end_or_owner_is_damage(
    key: bytes, value: bytes | None, message: str, tmp_path: Path
) -> None:
    store = make(tmp_path / "store")
    write(store, key, value)
    with pytest.raises(StoreDamaged, match=message):
        open_backend(str(store))


def write(store: Path, key: bytes, value: bytes | None) -> None:
    """Put an entry into the store's LevelDB; None deletes it."""
    db = leveldb.LevelDB(store / "leveldb", create=False)
    db.write([(key, value)], sync=True)
    db.close()


def test_files_of_a_newer_format_than_this_releases_are_damage(tmp_path: Path) -> None:
    store = make(tmp_path / "store")
    store_id = uuid.UUID(json.loads((store / "rewind.json").read_text())["store_id"])
    write(store, b"s", struct.pack(">Q16s", 3, store_id.bytes))
    with pytest.raises(StoreDamaged, match="has format 3, and rewind"):
        open_backend(str(store))


def test_an_upgrade_that_had_seen_more_events_than_there_are_is_damage(old: Path) -> None:
    write(old, b"h", struct.pack(">QQ", HEAD + 1, HEAD + 1))
    with pytest.raises(
        StoreDamaged, match=f"end with position {HEAD}, .* knows position {HEAD + 1}"
    ):
        open_backend(str(old))
    assert format_of(old) == 1


def test_random_kills_of_upgrades_and_appends_of_old_releases_lose_nothing(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    monkeypatch.setattr(leveldb, "UPGRADE_STEP_BYTES", 1)
    write = leveldb.LevelDB.write
    head = HEAD
    for _ in range(6):
        left = rng.randrange(12)

        def killed(*args: Any, **kwargs: Any) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            write(*args, **kwargs)

        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(leveldb.LevelDB, "write", killed)
            open_backend(str(old))
        if rng.random() < 0.5:
            append_as_format_1(old, {"stream": f"s-{head}", "tags": (f"g{head}",)})
            head += 1
    backend = open_backend(str(old))
    assert_whole(backend, head, head)
    backend.close()
