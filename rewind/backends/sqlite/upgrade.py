"""From the first format to the second: the tables that lead from a name to events.

They are filled in steps, each a transaction that also says how far it got: what was killed goes on
there, also when a release of the first format added events in between. Only then does the file say
that it has the second format, and after it its directory, which makes older releases refuse it.

Next: backend.py, which opens a store.
"""

from __future__ import annotations

import msgspec

from rewind.backends.sqlite import tables
from rewind.backends.sqlite.connection import Database
from rewind.backends.upgrade import Progress
from rewind.errors import StoreDamaged
from rewind.query import NAME_KINDS, category_of

STEP_EVENTS = 10_000  # They and their names are in memory at a time, some 10 MB.

_tags = msgspec.json.Decoder(tuple[str, ...]).decode


def upgrade(database: Database, progress: Progress) -> None:
    """Bring a file of the first format, or one on its way from it, to the second."""
    with database.transaction():
        add_tables(database)
    ((after,),) = database.rows("SELECT indexed FROM store", (), (int,))
    while True:
        progress.reached(after)
        with database.transaction():
            reached = _fill(database, after)
            database.run("UPDATE store SET indexed = ?", (reached,))
            if reached == after:
                # Every event counts as a commit. The file may have been upgraded before, and have had
                # more, if its directory's format was not raised.
                database.run(
                    "UPDATE store SET format = ?, number = max(number, ?)", (tables.FORMAT, reached)
                )
        if reached == after:
            return
        database.checkpoint()
        after = reached


def add_tables(database: Database) -> None:
    """What the second format adds to the first, empty; within a transaction."""
    known = {row[1] for row in database.rows("PRAGMA table_info(store)")}
    for column in tables.STORE_COLUMNS:
        if column.split()[0] not in known:
            database.run(f"ALTER TABLE store ADD COLUMN {column}")
    _add_places(database, "")
    database.run(tables.CURSORS)


def add_temporary_tables(database: Database, progress: Progress) -> None:
    """The same tables, filled, in a temporary file of SQLite's: beside a file that is not written."""
    with database.transaction("BEGIN"):
        _add_places(database, "TEMP")
        after = 0
        while (reached := _fill(database, after)) > after:
            progress.reached(reached)
            after = reached


def _add_places(database: Database, temporary: str) -> None:
    for kind in NAME_KINDS:
        database.run(tables.PLACES.format(kind=kind, temporary=temporary))
    database.run(tables.MARKS.format(temporary=temporary))


def _fill(database: Database, after: int) -> int:
    """Fill the tables from the next events behind a position; the last one's position."""
    rows: dict[str, list[tuple[str, int]]] = {kind: [] for kind in NAME_KINDS}
    # The columns are read, and not the records: they need not be decoded, and what they lead to is
    # compared with the record whenever it is read.
    types = (int, str, str)
    for position, stream, type_, tags in database.rows(tables.UNINDEXED, (after, STEP_EVENTS)):
        if (type(position), type(stream), type(type_)) != types:
            raise StoreDamaged(f"{database.file}: position {position!r} has columns of other kinds")
        rows["type"].append((type_, position))
        rows["category"].append((category_of(stream), position))
        rows["tag"] += [(tag, position) for tag in _tags_of(database, position, tags)]
        after = position
    for kind, of_kind in rows.items():
        of_kind.sort()  # Neighbours of a table are so written together.
        database.run_each(tables.BY_NAME[kind].add, of_kind)
    return after


def _tags_of(database: Database, position: int, tags: object) -> tuple[str, ...]:
    if tags is None:
        return ()
    try:
        return _tags(tags)  # type: ignore[arg-type]
    except (msgspec.DecodeError, TypeError) as error:
        raise StoreDamaged(
            f"{database.file}: position {position} has tags that are no JSON"
        ) from error
