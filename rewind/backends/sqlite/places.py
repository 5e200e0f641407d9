"""The way from names to positions: ``Places`` (matching.py) over the tables, and the names themselves.

The next few rows are fetched at once, four times as many whenever they are used up in order: so no
statement stays open, which would hold up checkpoints, and one prepared statement serves all names.
"""

from __future__ import annotations

from bisect import bisect_left
from operator import lt

from rewind.backends.matching import OpenPlaces, Places
from rewind.backends.sqlite import tables
from rewind.backends.sqlite.connection import Database
from rewind.errors import StoreDamaged

ROWS_MIN = 4  # A leap that leads astray has read no more.
ROWS_MAX = 256  # Reading so many costs a multiple of the look-up itself.


def open_places(database: Database, head: int) -> OpenPlaces:
    """How a walk opens the positions of a name, up to the head of the store."""

    def opened(kind: str, name: str, backwards: bool) -> Places:
        if kind == "stream":
            return _OfStream(database, name, backwards)
        return _OfName(database, kind, name, head, backwards)

    return opened


class _Pages:
    """A page of places, and where in it a walk is. Places are positions, backwards their negatives."""

    def __init__(self, database: Database, name: str, backwards: bool) -> None:
        self._database = database
        self._name = name
        self._sign = -1 if backwards else 1
        self._places: list[int] = []
        self._index = 0  # Those in front of it were passed.
        self._rows = 0  # So many were asked for.
        self.cost = 1

    def seek(self, position: int) -> int | None:
        self.cost = 1
        place = self._sign * position
        self._index = bisect_left(self._places, place, self._index)
        if self._index == len(self._places):
            if self._index < self._rows:
                return None
            follows = self._index > 0 and place == self._places[-1] + 1
            self._rows = min(4 * self._rows, ROWS_MAX) if follows else ROWS_MIN
            self._places = places = [self._sign * row[0] for row in self._fetch(place)]
            self._index = 0
            if not places:
                return None
            # A walk would not end if a list went back.
            if places[0] < place or not all(map(lt, places, places[1:])):
                raise StoreDamaged(
                    f"{self._database.file} is damaged: the events of {self._name!r} are out of order"
                )
        return self._sign * self._places[self._index]

    def _fetch(self, place: int) -> list[tuple[int]]:
        """The next positions from a place on."""
        raise NotImplementedError


class _OfName(_Pages):
    """The positions of a type, tag or category."""

    def __init__(
        self, database: Database, kind: str, name: str, head: int, backwards: bool
    ) -> None:
        super().__init__(database, name, backwards)
        statements = tables.BY_NAME[kind]
        self._query = statements.backwards if backwards else statements.forwards
        self._head = head

    def _fetch(self, place: int) -> list[tuple[int]]:
        low, high = (1, -place) if self._sign < 0 else (place, self._head)
        return self._database.fetch(self._query, (self._name, low, high, self._rows), (int,))


class _OfStream(_Pages):
    """The positions of a stream's events. The index is by version, and both grow together."""

    def __init__(self, database: Database, stream: str, backwards: bool) -> None:
        super().__init__(database, stream, backwards)
        self._query = tables.IN_STREAM + " DESC" if backwards else tables.IN_STREAM
        self._version = version_of(database, stream)
        # The events on the way are numbered from 1. These may still be asked for.
        self._numbers = range(1, self._version + 1)

    def _fetch(self, place: int) -> list[tuple[int]]:
        numbers = self._numbers
        if not numbers or self._place(numbers[-1]) < place:
            return []  # It is looked at first: most conditions ask behind the end.
        if self._place(numbers[0]) < place:
            numbers = numbers[bisect_left(numbers, place, key=self._place) :]
        self._numbers = numbers[self._rows :]
        return self._positions(numbers[: self._rows])

    def _place(self, number: int) -> int:
        self.cost += 1
        ((position,),) = self._positions(range(number, number + 1))
        return self._sign * position

    def _positions(self, numbers: range) -> list[tuple[int]]:
        """The positions of the events that have these numbers on the way."""
        first, last = numbers[0], numbers[-1]
        if self._sign < 0:
            first, last = self._version + 1 - last, self._version + 1 - first
        found = self._database.fetch(self._query, (self._name, first, last), (int,))
        if len(found) != len(numbers):
            raise StoreDamaged(
                f"{self._database.file}: stream {self._name!r} lacks a version "
                f"between {first} and {last}"
            )
        return found


def version_of(database: Database, stream: str) -> int:
    """The version of a stream; 0 if there is none."""
    for _, version, last in database.fetch(tables.VERSION, (stream,), (str, int, int)):
        if version == last:
            return int(version)
        raise StoreDamaged(
            f"{database.file} is damaged: stream {stream!r} says version {version}, "
            f"but its last event is version {last}"
        )
    return 0


def names_from(
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
        row = database.fetch(query, (start,), (str, int))
        if not row or not row[0][0].startswith(prefix):
            break
        page += row
        query, start = statements.next, row[0][0]
    return page
