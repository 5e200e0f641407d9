"""The tables of a store in SQLite, and every statement about them: each is a fixed text."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import msgspec

from rewind.events import Record

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

_to_json = msgspec.json.Encoder().encode


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
        _to_json(event.tags).decode() if event.tags else None,
        _to_json(event.metadata).decode() if event.metadata else None,
        len(event.data),
        crc32(record.encoded),
        record.encoded,
    )
