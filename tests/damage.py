"""Closed stores, damaged on purpose as a disk might: a row of the index, an event where it lies."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

CUT_SHORT = b"\0\1\2"  # no value of the index has so few bytes


def break_stream(store: Path, stream: str) -> None:
    """Cut short what the index says of a stream's version."""
    _break_row(
        store,
        b"n" + stream.encode(),
        "UPDATE streams SET version = 'many' WHERE name = ?",
        stream,
    )


def break_append_id(store: Path, append_id: bytes) -> None:
    """Cut short what the index says of an append id."""
    _break_row(
        store, b"a" + append_id, "UPDATE append_ids SET first = 'none' WHERE id = ?", append_id
    )


def _break_row(store: Path, key: bytes, statement: str, value: str | bytes) -> None:
    if (store / "events.sqlite").exists():
        with closing(sqlite3.connect(store / "events.sqlite")) as db, db:
            assert db.execute(statement, (value,)).rowcount == 1
    elif (store / "index-sqlite").exists():
        with closing(sqlite3.connect(store / "index-sqlite" / "index.sqlite")) as db, db:
            found = db.execute("UPDATE kv SET value = ? WHERE key = ?", (CUT_SHORT, key))
            assert found.rowcount == 1
    else:
        import plyvel

        (index,) = (path for path in store.iterdir() if "leveldb" in path.name)
        with closing(plyvel.DB(str(index))) as keys:
            assert keys.get(key) is not None
            keys.put(key, CUT_SHORT)


def break_event(store: Path, mark: bytes) -> None:
    """Flip a bit of these bytes, wherever in the store's files they are."""
    found = 0
    for file in store.rglob("*"):
        content = bytearray(file.read_bytes()) if file.is_file() else bytearray()
        place = content.find(mark)
        while place >= 0:
            content[place] ^= 1
            found += 1
            file.write_bytes(content)
            place = content.find(mark, place + 1)
    assert found
