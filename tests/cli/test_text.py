"""Lines for people: shortened, escaped, and as wide as the place they are printed to."""

from __future__ import annotations

import re

import pytest
from hostile import HOSTILE, NASTY, event, unprintable

from rewind import CursorInfo
from rewind.cli.format import json_line
from rewind.cli.text import (
    Look,
    cells,
    counted,
    cursor_fields,
    cursor_text,
    event_text,
    name_text,
    size_text,
    text_line,
)

SGR = re.compile(r"\x1b\[[0-9]+m")


@pytest.mark.parametrize("data", NASTY)
def test_no_control_character_is_printed(data: bytes) -> None:
    hostile = event(
        data, stream=HOSTILE, type=HOSTILE, tags=(HOSTILE,), metadata={HOSTILE: HOSTILE}
    )
    assert unprintable(json_line(hostile).decode()) == []
    assert text_line(hostile).isprintable()
    assert name_text(HOSTILE, 1).isprintable()
    cursor = CursorInfo(HOSTILE, 1, None, 2, 3.0)
    assert cursor_text(cursor).isprintable() and unprintable(cursor_fields(cursor)) == []
    assert unprintable(event_text(hostile)) == [] and event_text(hostile).count("\n") == 8
    assert unprintable(SGR.sub("", text_line(hostile, Look(colour=True, columns=90)))) == []


def test_text_line_keeps_one_line_and_shows_the_size_of_long_data() -> None:
    line = text_line(event(b"x" * 5_000_000))
    assert line.endswith("xxx... (4.8 MiB)") and len(line) < 250


def test_text_line_cuts_between_characters() -> None:
    line = text_line(event("\U0001f600".encode() * 1000))
    assert "\\x" not in line and "\U0001f600..." in line


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 80, 100, 119, 120, 200])
@pytest.mark.parametrize("data", [b"", b"short", b"x" * 300, "\u4f60\u597d".encode() * 80])
def test_a_line_fits_the_columns_there_are(columns: int, data: bytes) -> None:
    one = event(data, tags=("vip",), metadata={"by": "alice", "content_type": "text/plain"})
    for look in (Look(columns=columns), Look(colour=True, columns=columns)):
        shown = SGR.sub("", text_line(one, look))
        assert cells(shown) <= max(columns, len("...")), shown


def test_the_stream_and_the_data_are_seen_on_eighty_columns() -> None:
    line = text_line(event(b'{"total": 42}'), Look(columns=80))
    assert line == '    7  2025-11-23T10:38:00Z  order-1 3       placed        {"total": 42}'


def test_a_field_goes_on_below_where_the_terminal_ends() -> None:
    one = event("caf\u00e9 ".encode() * 15, metadata={f"key{n}": "value" for n in range(8)})
    shown = event_text(one, Look(columns=40)).splitlines()
    assert max(map(cells, shown)) <= 40
    starts = [line[:13].strip() for line in shown]
    assert [start for start in starts if start] == [
        "position", "recorded at", "id", "stream", "version", "type", "tags", "metadata", "data",
    ]  # fmt: skip
    # Nothing is lost, and nothing is broken within a word.
    assert "".join(line[13:] for line in shown).replace(" ", "") == "".join(
        line[13:] for line in event_text(one).splitlines()
    ).replace(" ", "")
    folded = event_text(event(b"\xff" * 100), Look(columns=14)).splitlines()
    assert max(map(cells, folded)) <= 14


def test_colour_surrounds_what_is_shown_and_changes_nothing_of_it() -> None:
    one = event(b"data", tags=("vip",), metadata={"by": "alice"})
    assert SGR.sub("", text_line(one, Look(colour=True))) == text_line(one)
    assert "\x1b[36morder-1 3" in text_line(one, Look(colour=True))
    assert "\x1b" not in text_line(one, Look(columns=200))


def test_a_character_of_two_columns_counts_as_two() -> None:
    assert [cells(text) for text in ("ab", "\u4f60", "e\u0301", "\U0001f600")] == [2, 2, 1, 2]


def test_one_is_no_plural() -> None:
    assert [counted(count, "event") for count in (0, 1, 2)] == ["0 events", "1 event", "2 events"]
    assert [size_text(size) for size in (1, 2, 2048)] == ["1 byte", "2 bytes", "2.0 KiB"]
