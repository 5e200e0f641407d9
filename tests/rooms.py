"""The rooms of rewind/: every file, and what it may import. docs/architecture.rst prints this table.

A room is a file or a folder at the top of rewind/. A file imports only rooms above its own, and only
files above it in its own room, so that every room can be read, tested and replaced without those below.
``test_structure.py`` fails on an import that is not in the table, and on an entry that nothing uses.

After a change here, ``python tests/rooms.py`` brings the page up to date.
"""

from __future__ import annotations

import re
import textwrap
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent.parent / "docs" / "architecture.rst"
LIBRARIES = ("zmq", "click", "plyvel", "sqlite3")  # each has its rooms; msgspec may be anywhere
NAMES_ONLY = ("client", "daemon", "cli")  # others use what these hand on, and no file in them


class Room(NamedTuple):
    """A file or folder, what is in it, and for each of its files what that may import.

    ``events`` is another room, ``native.py`` a file of the same room, ``zmq`` a library. In brackets
    is what the file imports for its types, or in a function that needs it, and not when it is loaded.
    ``rewind`` is the package itself: the public names.
    """

    name: str
    what: str
    files: dict[str, str]

    @property
    def is_folder(self) -> bool:
        """Whether it is a folder in rewind/ and not a file."""
        return len(self.files) > 1


ROOMS = (
    Room("release", "the version", {"release.py": ""}),
    Room("errors", "every error, its code, its exit code, whether to retry", {"errors.py": ""}),
    Room("arguments", "the kinds of what callers give", {"arguments.py": "errors"}),
    Room("as_json", "Python values as JSON, and back", {"as_json.py": "errors"}),
    Room("query", "which events are meant", {"query.py": "errors arguments"}),
    Room(
        "events",
        "the nouns, and the one encoding of an event",
        {"events.py": "errors arguments as_json query"},
    ),
    Room(
        "checks", "the rules of what is asked for", {"checks.py": "errors arguments events query"}
    ),
    Room("endpoints", "one grammar of endpoints", {"endpoints.py": "errors"}),
    Room(
        "wire",
        "requests and replies as values, as frames, and on and off a socket",
        {
            "native.py": "errors query events checks",
            "old.py": "errors events checks",
            "envelope.py": "errors checks native.py old.py",
            "replies.py": "release errors events native.py old.py envelope.py",
            "messages.py": "envelope.py zmq",
            "__init__.py": "native.py old.py envelope.py replies.py",
        },
    ),
    Room(
        "backends",
        "the contract of a store, and a file or folder for each scheme",
        {
            "contract.py": "query events",
            "matching.py": "query contract.py",
            "lock.py": "errors",
            "scratch.py": "",
            "keys.py": "",
            "upgrade.py": "",
            "directory.py": "errors lock.py scratch.py upgrade.py",
            "verify.py": "errors query events contract.py",
            "opening.py": "errors contract.py upgrade.py directory.py",
            "memory.py": "errors query events contract.py matching.py verify.py",
            "sqlite/connection.py": "errors directory.py sqlite3",
            "sqlite/tables.py": "query events",
            "sqlite/places.py": "errors matching.py sqlite/connection.py sqlite/tables.py",
            "sqlite/upgrade.py": "errors query upgrade.py sqlite/connection.py sqlite/tables.py",
            "sqlite/keys.py": "errors keys.py directory.py sqlite/connection.py",
            "sqlite/backend.py": "errors query events contract.py matching.py upgrade.py directory.py verify.py "
            "sqlite/connection.py sqlite/tables.py sqlite/places.py sqlite/upgrade.py",
            "sqlite/__init__.py": "sqlite/backend.py",
            "blocks.py": "errors events",
            "runs.py": "errors events keys.py blocks.py",
            "postings.py": "errors events keys.py blocks.py",
            "index.py": "errors query events contract.py matching.py keys.py blocks.py runs.py postings.py",
            "block_backend.py": "query contract.py matching.py verify.py blocks.py index.py",
            "leveldb.py": "errors events contract.py keys.py upgrade.py directory.py blocks.py postings.py index.py "
            "block_backend.py plyvel",
            "log/packets.py": "errors contract.py blocks.py",
            "log/segments.py": "errors contract.py directory.py blocks.py log/packets.py",
            "log/keys.py": "errors keys.py (sqlite/keys.py) (leveldb.py)",
            "log/backend.py": "errors events contract.py keys.py upgrade.py directory.py opening.py blocks.py index.py block_backend.py "
            "log/packets.py log/segments.py log/keys.py",
            "log/__init__.py": "log/backend.py",
            "__init__.py": "contract.py opening.py",
        },
    ),
    Room(
        "store",
        "the rules of appending, conditions, cursors, pages of a read, free space",
        {
            "cursors.py": "errors events",
            "conditions.py": "errors query events backends",
            "plan.py": "errors query events backends conditions.py cursors.py",
            "reading.py": "errors query events wire backends",
            "space.py": "errors",
            "troubles.py": "errors events plan.py",
            "__init__.py": "errors query events wire backends conditions.py cursors.py plan.py reading.py space.py troubles.py",
        },
    ),
    Room(
        "answers",
        "a request and a store to the reply",
        {"answers.py": "release errors events wire store"},
    ),
    Room(
        "client",
        "what people call, blocking and asyncio, and how it gets to a daemon or a store",
        {
            "appends.py": "errors arguments events checks wire",
            "requests.py": "errors arguments query events checks wire appends.py",
            "names.py": "arguments checks wire requests.py",
            "pages.py": "errors arguments query events checks wire requests.py names.py",
            "reading.py": "query events pages.py",
            "beginning.py": "errors arguments query events checks wire requests.py names.py pages.py",
            "decide.py": "errors arguments query events wire requests.py pages.py beginning.py",
            "follow.py": "errors events endpoints wire requests.py pages.py",
            "outstanding.py": "errors events wire appends.py requests.py",
            "lookup.py": "errors endpoints",
            "zmq_sockets.py": "errors wire follow.py outstanding.py lookup.py zmq",
            "zmq_blocking.py": "errors wire requests.py follow.py outstanding.py lookup.py zmq_sockets.py zmq",
            "zmq_async.py": "errors wire requests.py follow.py outstanding.py lookup.py zmq_sockets.py zmq",
            "opened.py": "errors events wire backends store answers requests.py",
            "embedded.py": "errors events wire answers requests.py follow.py opened.py",
            "async_embedded.py": "wire requests.py follow.py embedded.py",
            "subscription.py": "errors arguments events checks follow.py",
            "async_subscription.py": "errors arguments events checks beginning.py follow.py (async_embedded.py) "
            "subscription.py (zmq_async.py)",
            "blocking.py": "errors arguments query events endpoints wire appends.py requests.py names.py pages.py "
            "reading.py beginning.py decide.py follow.py subscription.py (zmq_blocking.py) (embedded.py)",
            "asynchronous.py": "errors arguments query events endpoints wire appends.py requests.py names.py pages.py "
            "reading.py beginning.py decide.py follow.py async_subscription.py (zmq_async.py) (embedded.py) "
            "(async_embedded.py) blocking.py",
            "__init__.py": "",
        },
    ),
    Room("rewind", "the public names", {"__init__.py": "release errors query events (client)"}),
    Room(
        "daemon",
        "settings, sockets and the turn, what waits, feeds, a process's life",
        {
            "settings.py": "errors checks endpoints wire",
            "notices.py": "errors",
            "connections.py": "errors wire notices.py zmq",
            "peers.py": "wire notices.py connections.py zmq",
            "feeds.py": "events wire zmq",
            "waiting.py": "query events wire",
            "queues.py": "wire waiting.py",
            "reads.py": "errors events wire store answers notices.py waiting.py queues.py",
            "binding.py": "errors endpoints zmq",
            "server.py": "errors events wire store answers settings.py binding.py connections.py notices.py peers.py feeds.py reads.py zmq",
            "process.py": "release errors backends store settings.py connections.py server.py",
            "__init__.py": "settings.py (process.py)",
        },
    ),
    Room(
        "testing",
        "starts daemons for tests, the demo and the benchmarks",
        {
            "process.py": "errors",
            "daemon.py": "errors process.py",
            "__init__.py": "process.py daemon.py",
        },
    ),
    Room(
        "demo",
        "a week of real flights through a real daemon",
        {
            "zones.py": "",
            "flights.py": "events zones.py",
            "figures.py": "errors flights.py",
            "screen.py": "figures.py",
            "punctuality.py": "rewind flights.py figures.py screen.py",
            "projection.py": "testing figures.py",
            "shell.py": "testing figures.py",
            "questions.py": "rewind flights.py shell.py",
            "load.py": "rewind testing flights.py figures.py punctuality.py",
            "story.py": "rewind testing flights.py figures.py screen.py projection.py shell.py questions.py",
            "__init__.py": "story.py",
        },
    ),
    Room(
        "cli",
        "the command line: a file for each family of commands",
        {
            "escape.py": "errors",
            "times.py": "events",
            "format.py": "errors events escape.py times.py",
            "text.py": "arguments events rewind escape.py format.py times.py",
            "terminal.py": "escape.py text.py",
            "names.py": "errors rewind",
            "items.py": "query",
            "options.py": "errors events checks items.py (times.py) (names.py) click",
            "connection.py": "errors (endpoints) (backends) rewind daemon options.py",
            "serve.py": "daemon options.py click",
            "lines.py": "errors events checks wire rewind format.py",
            "append.py": "errors events wire terminal.py text.py options.py connection.py (lines.py) click",
            "damage.py": "errors events",
            "read.py": "errors events rewind format.py text.py terminal.py names.py options.py connection.py "
            "damage.py click",
            "about.py": "format.py text.py terminal.py options.py connection.py click",
            "cursors.py": "errors rewind format.py text.py terminal.py names.py options.py connection.py click",
            "upgrade.py": "errors (backends) terminal.py connection.py click",
            "demo.py": "(demo) click",
            "completion.py": "terminal.py options.py click",
            "entry.py": "release errors daemon escape.py terminal.py options.py serve.py append.py read.py about.py "
            "cursors.py upgrade.py demo.py completion.py click",
            "__init__.py": "entry.py",
        },
    ),
    Room("__main__", "``python -m rewind``", {"__main__.py": "cli"}),
)


# --- the page -------------------------------------------------------------------

COLUMNS = {"Room": 13, "What is in it": 36, "Its files": 34, "They import": 32}


def page_table() -> str:
    """The table as docs/architecture.rst prints it: a row a room."""
    border = "  ".join("=" * width for width in COLUMNS.values())
    rows = [line for room in ROOMS for line in _row(*_cells(room))]
    return "\n".join([border, *_row(*COLUMNS), border, *rows, border]) + "\n"


def _cells(room: Room) -> tuple[str, str, str, str]:
    files = [file.removesuffix(".py") for file in room.files if not file.endswith("__init__.py")]
    arrows = {arrow.strip("()") for row in room.files.values() for arrow in row.split()}
    rooms = [other.name for other in ROOMS if other.name in arrows]
    libraries = [library for library in LIBRARIES if library in arrows]
    imports = ", ".join(rooms + libraries)
    name = f"``{room.name}{'/' * room.is_folder}``"
    return name, room.what, ", ".join(files if room.is_folder else []), imports or "nothing"


def _row(*cells: str) -> list[str]:
    columns = [
        textwrap.wrap(cell, width, break_long_words=False) or [""]
        for cell, width in zip(cells, COLUMNS.values(), strict=True)
    ]
    height = max(map(len, columns))
    lines = zip(*(column + [""] * (height - len(column)) for column in columns), strict=True)
    return [
        "  ".join(
            f"{cell:<{width}}" for cell, width in zip(line, COLUMNS.values(), strict=True)
        ).rstrip()
        for line in lines
    ]


def rewrite_page() -> None:
    """Replace the table in docs/architecture.rst."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.compile(r"^=+(?:  =+)+\nRoom .*\n=[= ]+\n(?:.*\S.*\n)+?=[= ]+\n", re.MULTILINE)
    assert len(table.findall(text)) == 1, "the page has no table of rooms"
    PAGE.write_text(table.sub(lambda match: page_table(), text), encoding="utf-8")


if __name__ == "__main__":
    rewrite_page()
