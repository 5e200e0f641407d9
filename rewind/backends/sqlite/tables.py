"""The tables of a store in SQLite, and every statement about them: each is a fixed text.

Format 1 had the first tables. Format 2 added those that lead from a name to events, the marks, and
columns of ``store``; upgrade.py brings an older file there, and a new file goes the same way, empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from zlib import crc32

import msgspec

from rewind.events import Event, Record
from rewind.query import NAME_KINDS, category_of

FORMAT = 2

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS store (id TEXT PRIMARY KEY, openings INTEGER NOT NULL)",
    """CREATE TABLE IF NOT EXISTS events (
        position INTEGER PRIMARY KEY,
        recorded_at INTEGER NOT NULL, -- nanoseconds since 1970 UTC
        id BLOB,                      -- NULL for an id that Rewind made
        stream TEXT NOT NULL,
        version INTEGER NOT NULL,
        type TEXT NOT NULL,
        tags TEXT,                    -- JSON, or NULL for none
        metadata TEXT,                -- JSON, or NULL for none
        data_bytes INTEGER NOT NULL,  -- data is the end of the record
        crc INTEGER NOT NULL,         -- CRC-32 of the record
        record BLOB NOT NULL
    )""",
    "CREATE UNIQUE INDEX IF NOT EXISTS events_by_stream ON events (stream, version)",
    "CREATE UNIQUE INDEX IF NOT EXISTS events_by_id ON events (id) WHERE id IS NOT NULL",
    "CREATE TABLE IF NOT EXISTS streams (name TEXT PRIMARY KEY, version INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS append_ids"
    " (id BLOB PRIMARY KEY, first INTEGER NOT NULL, last INTEGER NOT NULL) WITHOUT ROWID",
)

#: What format 2 adds to ``store``, which has one row.
STORE_COLUMNS = (
    "format INTEGER NOT NULL DEFAULT 1",
    "number INTEGER NOT NULL DEFAULT 0",  # The last commit has it.
    "indexed INTEGER NOT NULL DEFAULT 0",  # While the file is upgraded: the tables lead up to there.
)

# {temporary} is empty, or TEMP: a file that may not be written gets the tables beside it.
PLACES = "CREATE {temporary} TABLE IF NOT EXISTS events_by_{kind}" + (
    " ({kind} TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY ({kind}, position)) WITHOUT ROWID"
)
MARKS = """CREATE {temporary} TABLE IF NOT EXISTS marks (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    crc INTEGER NOT NULL, -- CRC-32 of name and value
    plain TEXT            -- the value as JSON, or NULL if it has no such form
) WITHOUT ROWID"""

#: A cursor is a mark: ``cursor:`` and its name, with the array of its position and when it moved.
CURSORS = """CREATE VIEW IF NOT EXISTS cursors AS SELECT
    substr(name, 8) AS name,
    json_extract(plain, '$[0]') AS position,
    strftime('%Y-%m-%dT%H:%M:%S', json_extract(plain, '$[1]') / 1000000000, 'unixepoch')
        || printf('.%09dZ', json_extract(plain, '$[1]') % 1000000000) AS updated_at
    FROM marks WHERE name >= 'cursor:' AND name < 'cursor;'"""

# {own} stands for the first 8 bytes of this store's own ids, as text; see events.own_id.
HISTORY = """CREATE VIEW IF NOT EXISTS history AS SELECT
    position,
    strftime('%Y-%m-%dT%H:%M:%S', recorded_at / 1000000000, 'unixepoch')
        || printf('.%09dZ', recorded_at % 1000000000) AS recorded_at,
    CASE WHEN id IS NULL
        THEN printf('{own}-%04x-%012x', 0x8000 | (position >> 48), position & 0xffffffffffff)
        ELSE lower(substr(hex(id), 1, 8) || '-' || substr(hex(id), 9, 4)
            || '-' || substr(hex(id), 13, 4) || '-' || substr(hex(id), 17, 4)
            || '-' || substr(hex(id), 21))
    END AS id,
    stream, version, type, tags, metadata,
    CASE data_bytes WHEN 0 THEN x'' ELSE substr(record, -data_bytes) END AS data
    FROM events"""

COLUMNS = (
    "position, recorded_at, id, stream, version, type, tags, metadata, data_bytes, crc, record"
)
ADD_EVENT = f"INSERT INTO events ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
ADD_STREAM = "INSERT OR REPLACE INTO streams (name, version) VALUES (?, ?)"
ADD_APPEND = "INSERT INTO append_ids (id, first, last) VALUES (?, ?, ?)"

ADD_MARK = "INSERT OR REPLACE INTO marks (name, value, crc, plain) VALUES (?, ?, ?, ?)"
DELETE_MARK = "DELETE FROM marks WHERE name = ?"
SET_NUMBER = "UPDATE store SET number = ?"

# Rows come as they are asked for, along an index: no LIMIT, no OFFSET, no sorting.
BY_POSITION = (
    "SELECT position, position, crc, record FROM events WHERE position > ? AND position <= ?"
    " ORDER BY position"
)
BY_VERSION = (
    "SELECT version, position, crc, record FROM events"
    " WHERE stream = ? AND version > ? AND version <= ? ORDER BY version"
)

# The version is found in two ways that must agree, because a wrong one would misplace events.
VERSION = (
    "SELECT name, version, (SELECT max(version) FROM events WHERE stream = name) FROM streams"
    " WHERE name = ?"
)

APPEND_IDS = (
    "SELECT id, first, last FROM append_ids WHERE first > ? AND last <= ? ORDER BY first, last, id"
)

# The rows come in the order of the positions, which are a JSON array; those without an event are left out.
AT = "SELECT position, crc, record FROM json_each(?) CROSS JOIN events ON position = value"
IN_STREAM = (
    "SELECT position FROM events WHERE stream = ? AND version >= ? AND version <= ?"
    " ORDER BY version"
)
UNINDEXED = (
    "SELECT position, stream, type, tags FROM events WHERE position > ? ORDER BY position LIMIT ?"
)

MARK = "SELECT name, value, crc FROM marks WHERE name = ?"
MARKS_FROM = (
    "SELECT name, value, crc FROM marks WHERE name >= ? AND name <> ? ORDER BY name LIMIT ?"
)


class NameStatements(NamedTuple):
    """The statements about the table of one kind of name."""

    add: str
    forwards: str
    backwards: str
    first: str  # It finds the first name from one on.
    next: str  # It finds the first name behind one.
    outside: str  # It finds names that lead to no position that there can be.


def _name_statements(kind: str) -> NameStatements:
    table = f"events_by_{kind}"
    places = f"SELECT position FROM {table} WHERE {kind} = ? AND position >= ? AND position <= ?"
    last = f"(SELECT max(position) FROM {table} AS its WHERE its.{kind} = {table}.{kind})"
    names = f"SELECT {kind}, {last} FROM {table} WHERE {kind}"
    return NameStatements(
        # An entry that is there already is right, or damage that a read finds.
        add=f"INSERT OR IGNORE INTO {table} ({kind}, position) VALUES (?, ?)",
        forwards=f"{places} ORDER BY position LIMIT ?",
        backwards=f"{places} ORDER BY position DESC LIMIT ?",
        first=f"{names} >= ? ORDER BY {kind} LIMIT 1",
        next=f"{names} > ? ORDER BY {kind} LIMIT 1",
        outside=f"SELECT {kind} FROM {table} WHERE position NOT BETWEEN 1 AND ?",
    )


BY_NAME = {kind: _name_statements(kind) for kind in NAME_KINDS}

_encode = msgspec.json.Encoder().encode


def to_json(value: object) -> str:
    """A value as JSON."""
    return _encode(value).decode()


def places_of(events: Sequence[Event]) -> dict[str, list[tuple[str, int]]]:
    """For each kind of name the rows that lead to these events; a tag that one has twice is there twice."""
    return {
        "type": [(event.type, event.position) for event in events],
        "category": [(category_of(event.stream), event.position) for event in events],
        "tag": [(tag, event.position) for event in events for tag in event.tags],
    }


def mark_row(name: str, value: bytes) -> tuple[str, bytes, int, str | None]:
    """The columns of a mark."""
    return name, value, mark_crc(name, value), _plain(value)


def mark_crc(name: str, value: bytes) -> int:
    """The checksum of a mark."""
    return crc32(value, crc32(name.encode()))


def _plain(value: bytes) -> str | None:
    """A mark's value as JSON, for people; None if it is not msgpack, or more than JSON has."""
    try:
        return to_json(msgspec.msgpack.decode(value))
    except (ValueError, TypeError, RecursionError):
        return None


def row(record: Record, own_prefix: bytes) -> tuple[Any, ...]:
    """The columns of a record, in the order of ``COLUMNS``; ``own_prefix``: of Rewind's own ids."""
    event = record.event
    return (
        event.position,
        event.recorded_at_ns,
        None if event.id_bytes.startswith(own_prefix) else event.id_bytes,
        event.stream,
        event.version,
        event.type,
        to_json(event.tags) if event.tags else None,
        to_json(event.metadata) if event.metadata else None,
        len(event.data),
        crc32(record.encoded),
        record.encoded,
    )
