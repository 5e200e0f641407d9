"""The way from names to positions: ``Places`` (matching.py) over the tables, and the names themselves.

The next few rows are fetched at once, four times as many whenever they are used up in order: so no
statement stays open, which would hold up checkpoints, and one prepared statement serves all names.
"""

from __future__ import annotations

from bisect import bisect_left

from rewind.backends.matching import OpenPlaces, Places
from rewind.backends.sqlite import tables
from rewind.backends.sqlite.connection import Database
from rewind.errors import StoreDamaged

ROWS_MIN = 4  # a leap that leads astray has read no more
ROWS_MAX = 256  # so many cost a multiple of the look-up itself


def open_places(database: Database, head: int) -> OpenPlaces:
    """How a walk opens the positions of a name, up to the head of the store."""

    def opened(kind: str, name: str, backwards: bool) -> Places:
        if kind == "stream":
            return _OfStream(database, name, backwards)
        return _OfName(database, tables.BY_NAME[kind], name, head, backwards)

    return opened


class _OfName:
    """The positions of a type, tag or category."""

    def __init__(
        self,
        database: Database,
        statements: tables.NameStatements,
        name: str,
        head: int,
        backwards: bool,
    ) -> None:
        self._database = database
        self._query = statements.backwards if backwards else statements.forwards
        self._name = name
        self._head = head
        self._sign = -1 if backwards else 1
        self._places: list[int] = []  # Positions, backwards their negatives: so they always grow.
        self._index = 0  # Those in front of it were passed.
        self._rows = 0  # So many were asked for.

    def seek(self, position: int) -> int | None:
        sign, places = self._sign, self._places
        self._index = bisect_left(places, sign * position, self._index)
        if self._index == len(places):
            if len(places) < self._rows:
                return None
            self._fetch(position)
            if not self._places:
                return None
        return sign * self._places[self._index]

    def _fetch(self, position: int) -> None:
        follows = bool(self._places) and position == self._sign * self._places[-1] + self._sign
        self._rows = min(4 * self._rows, ROWS_MAX) if follows else ROWS_MIN
        low, high = (1, position) if self._sign < 0 else (position, self._head)
        rows = self._database.rows(self._query, (self._name, low, high, self._rows), (int,))
        self._places = [self._sign * found for (found,) in rows]
        self._index = 0


class _OfStream:
    """The positions of a stream's events, which grow with their versions: found by those."""

    def __init__(self, database: Database, stream: str, backwards: bool) -> None:
        self._database = database
        self._stream = stream
        self._backwards = backwards
        self._last = version(database, stream)
        self._number = 1  # The first on the way that may be asked for; the way is numbered from 1.

    def seek(self, position: int) -> int | None:
        place = -position if self._backwards else position
        low, step = self._number, 1
        while (high := low + step) <= self._last and self._place(high) < place:
            low, step = high, 2 * step
        numbers = range(low, min(high, self._last + 1))
        self._number = low + bisect_left(numbers, place, key=self._place)
        return abs(self._place(self._number)) if self._number <= self._last else None

    def _place(self, number: int) -> int:
        version = self._last + 1 - number if self._backwards else number
        row = next(self._database.rows(tables.IN_STREAM, (self._stream, version), (int,)), None)
        if row is not None:
            return int(-row[0] if self._backwards else row[0])
        raise StoreDamaged(
            f"{self._database.file}: stream {self._stream!r} lacks version {version}"
        )


def version(database: Database, stream: str) -> int:
    """The version of a stream; 0 if there is none."""
    row = next(database.rows(tables.VERSION, (stream,), (str, int, int)), None)
    if row is None:
        return 0
    _, version, last = row
    if version != last:
        raise StoreDamaged(
            f"{database.file} is damaged: stream {stream!r} says version {version}, "
            f"but its last event is version {last}"
        )
    return int(version)


def names(
    database: Database, kind: str, prefix: str, after: str | None, limit: int
) -> list[tuple[str, int]]:
    """A page of the names of a kind, each with the last position that has it: two look-ups a name."""
    statements = tables.BY_NAME[kind]
    page: list[tuple[str, int]] = []
    if after is None or after < prefix:
        query, start = statements.first, prefix
    else:
        query, start = statements.next, after
    while len(page) < limit:
        row = next(database.rows(query, (start,), (str, int)), None)
        if row is None or not row[0].startswith(prefix):
            break
        page.append((row[0], row[1]))
        query, start = statements.next, row[0]
    return page
