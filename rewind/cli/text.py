"""Lines for people: an event on a line or a field a line, a store's own words, counts and sizes.

They are shortened and escaped, and cannot be read back: programs read JSON lines (format.py). A
``Look`` says what the place that they are printed to can show. Nothing here knows Click or a
terminal; which look stdout has is terminal.py's to say.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import rewind
from rewind.arguments import time_ns_of
from rewind.cli.escape import escape
from rewind.cli.format import json_text
from rewind.cli.times import second_text, short_time_text, span_text, time_text
from rewind.events import Event

SHOWN_CHARACTERS = 100  # an event's data is cut here, so that the event fits on a line or two
WIDE_COLUMNS = 120  # with fewer, the columns in front of the data would leave it no room
_UTF8_BYTES_MAX = 4  # a character has at most four bytes
_ELLIPSIS = "..."
_GAP = 2  # spaces between two columns

# Select Graphic Rendition, ECMA-48, section 8.3.117.
PLAIN, BOLD, DIM, YELLOW, CYAN = "", "1", "2", "33", "36"

Piece = tuple[str, str]  # a text, and how it is rendered on a terminal with colour


class Look(NamedTuple):
    """What a place shows. ``colour``: SGR sequences. ``columns``: its width, None if it has none."""

    colour: bool = False
    columns: int | None = None


NO_TERMINAL = Look()


def text_line(event: Event, look: Look = NO_TERMINAL) -> str:
    """The event on one line: position, time, stream and version, type, tags, metadata, data."""
    wide = look.columns is None or look.columns >= WIDE_COLUMNS
    time = short_time_text if wide else second_text
    pieces = [
        (f"{event.position:>{8 if wide else 5}}", DIM),
        (time(event.recorded_at_ns), DIM),
        (_padded(f"{event.stream} {event.version}", 20 if wide else 14), CYAN),
        (_padded(event.type or "-", 16 if wide else 12), BOLD),
    ]
    if event.tags:
        pieces.append((escape("[" + " ".join(event.tags) + "]"), YELLOW))
    if event.metadata:
        pieces.append((json_text(event.metadata).decode(), DIM))
    pieces.append((escape(data_text(event.data)), PLAIN))
    return _joined(pieces, look)


def event_text(event: Event, look: Look = NO_TERMINAL) -> str:
    """The event, a field a line."""
    fields = {
        "position": str(event.position),
        "recorded at": time_text(event.recorded_at_ns),
        "id": str(event.id),
        "stream": event.stream,
        "version": str(event.version),
        "type": event.type or "-",
        "tags": " ".join(event.tags) or "-",
        "metadata": json_text(event.metadata).decode(),
        "data": data_text(event.data),
    }
    return fields_text(fields, look)


def name_text(name: str, number: int, look: Look = NO_TERMINAL) -> str:
    """A name on one line, and the version or position that is listed with it."""
    return _joined([(f"{number:>8}", DIM), (escape(name) or "-", CYAN)], look)


CURSORS_HEAD = "position       lag  lag time  cursor"


def cursor_text(cursor: rewind.CursorInfo, look: Look = NO_TERMINAL) -> str:
    """A cursor on one line of a table that has ``CURSORS_HEAD`` above it."""
    pieces = [
        (f"{cursor.position:>8}", DIM),
        (f"{cursor.lag_events:>8}", BOLD if cursor.lag_events else DIM),
        (f"{span_text(cursor.lag_seconds):>8}", DIM),
        (escape(cursor.name), CYAN),
    ]
    return _joined(pieces, look)


def cursor_time(cursor: rewind.CursorInfo) -> str | None:
    """When the cursor was put where it is, RFC 3339; None if there is no such cursor."""
    if cursor.updated_at is None:
        return None
    return time_text(time_ns_of(cursor.updated_at, "updated_at"))


def cursor_fields(cursor: rewind.CursorInfo, look: Look = NO_TERMINAL) -> str:
    """A cursor, a field a line."""
    lag = f"{counted(cursor.lag_events, 'event')}, {span_text(cursor.lag_seconds)}"
    fields = {
        "cursor": cursor.name,
        "position": str(cursor.position),
        "updated at": cursor_time(cursor) or "-",
        "lag": lag if cursor.lag_events else "none",
    }
    return fields_text(fields, look)


def info_text(info: rewind.Info, look: Look = NO_TERMINAL) -> str:
    """What a store says of itself, a field a line."""
    fields = {
        "release": f"{info.release}, protocol {info.protocol}",
        "store": f"{info.store_id}, {info.backend}",
        "head": str(info.head),
        "durability": info.durability,
        "insecure": "yes" if info.insecure else "no",
    }
    fields |= {name: " ".join(bound) or "off" for name, bound in info.endpoints.items()}
    fields |= {name.replace("_", " "): f"at most {limit}" for name, limit in info.limits.items()}
    return fields_text(fields, look)


def fields_text(fields: Mapping[str, str], look: Look = NO_TERMINAL) -> str:
    """``name  value`` lines, aligned and escaped. A value that is too wide goes on below."""
    width = max(map(len, fields))
    whole = look._replace(columns=None)
    return "\n".join(
        _joined([(f"{name:<{width}}", DIM), (part, PLAIN)], whole)
        for field, value in fields.items()
        for name, part in zip(
            itertools.chain([escape(field)], itertools.repeat("")),
            folded(escape(value), None if look.columns is None else look.columns - width - _GAP),
            strict=False,
        )
    )


def data_text(data: bytes) -> str:
    """The data as text; long data is its beginning and its size."""
    text = data[: SHOWN_CHARACTERS * _UTF8_BYTES_MAX].decode("utf-8", "backslashreplace")
    if len(text) <= SHOWN_CHARACTERS and len(data) <= SHOWN_CHARACTERS * _UTF8_BYTES_MAX:
        return text
    return f"{text[:SHOWN_CHARACTERS]}{_ELLIPSIS} ({size_text(len(data))})"


def size_text(size: int) -> str:
    """Bytes in a unit that reads well."""
    if size < 1024:
        return counted(size, "byte")
    if size < 1024 * 1024:
        return f"{size / 1024:.1f} KiB"
    return f"{size / 1024 / 1024:.1f} MiB"


def counted(count: int, noun: str) -> str:
    """``1 event``, ``2 events``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# --- width and colour -----------------------------------------------------------


def _joined(pieces: Iterable[Piece], look: Look) -> str:
    """The pieces on one line that fits, without spaces at its end."""
    pieces = [piece for piece in pieces if piece[0]]
    pieces[-1] = (pieces[-1][0].rstrip(), pieces[-1][1])
    if look.columns is not None:
        pieces = _fitting(pieces, look.columns)
    return "  ".join(_rendered(text, sgr) if look.colour else text for text, sgr in pieces)


def _fitting(pieces: list[Piece], columns: int) -> list[Piece]:
    """The pieces up to the edge; an ellipsis says that there is more."""
    if sum(cells(text) + _GAP for text, _ in pieces) - _GAP <= columns:
        return pieces
    left = columns - len(_ELLIPSIS)
    fitting: list[Piece] = []
    for text, sgr in pieces:
        kept = _beginning(text, left)
        left -= cells(kept) + _GAP
        fitting.append((kept, sgr))
        if kept != text or left < 0:
            break
    text, sgr = fitting[-1]
    return [*fitting[:-1], (text + _ELLIPSIS, sgr)]


def _beginning(text: str, columns: int) -> str:
    """As much of the text as fits."""
    for index, character in enumerate(text):
        columns -= cells(character)
        if columns < 0:
            return text[:index]
    return text


def folded(text: str, columns: int | None) -> Iterator[str]:
    """The text in parts that fit, broken behind a space or a comma where there is one."""
    while columns is not None and 0 < columns < cells(text):
        part = _beginning(text, columns)
        fits = max(part.rfind(" "), part.rfind(",")) + 1 or max(len(part), 1)
        yield text[:fits].rstrip()
        text = text[fits:]
    yield text


def _padded(text: str, columns: int) -> str:
    text = escape(text)
    return text + " " * (columns - cells(text))


def cells(text: str) -> int:
    """How many columns of a terminal a text takes: Chinese takes two a character, accents none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(character)
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip


def _rendered(text: str, sgr: str) -> str:
    return f"\x1b[{sgr}m{text}\x1b[0m" if sgr and text else text
