"""The rooms of rewind/: who imports whom, file by file, against the table in rooms.py.

An import inside a function or for types alone counts as well. A module that is named in a string is no
import: so backends/opening.py finds a backend, and rewind/__init__.py a client.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import rooms
from rooms import LIBRARIES, NAMES_ONLY, ROOMS

import rewind

ROOT = Path(rewind.__file__).parent
USERS = {
    "zmq": (
        "wire/messages.py",
        "daemon/binding.py",
        "daemon/connections.py",
        "daemon/server.py",
        "daemon/peers.py",
        "daemon/feeds.py",
        "client/zmq_",
    ),
    "click": ("cli/",),
    "plyvel": ("backends/leveldb.py",),
    "sqlite3": ("backends/sqlite/connection.py",),
}
LINES_MAX = 450  # a longer file is read in pieces, so its opening has to say why it is one file

FILES = {
    file.relative_to(ROOT).as_posix(): file
    for file in sorted(ROOT.rglob("*.py"))
    if "__pycache__" not in file.parts
}


# --- the table ------------------------------------------------------------------


TABLE = {
    f"{room.name}/{file}" if room.is_folder else file: (room, file, frozenset(arrows.split()))
    for room in ROOMS
    for file, arrows in room.files.items()
}


def test_every_file_is_in_the_table_and_no_other() -> None:
    assert sorted(TABLE) == sorted(FILES)


@pytest.mark.parametrize("path", TABLE)
def test_arrows_point_up(path: str) -> None:
    room, file, arrows = TABLE[path]
    names = [each.name for each in ROOMS]
    files = list(room.files)
    above = {*names[: names.index(room.name)], *files[: files.index(file)], *LIBRARIES}
    assert {arrow.strip("()") for arrow in arrows} <= above


def test_the_page_prints_the_table() -> None:
    text = rooms.PAGE.read_text(encoding="utf-8")
    assert rooms.page_table() in text, "run: python tests/rooms.py"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stays_in_its_rooms(library: str) -> None:
    users = [path for path, (_, _, arrows) in TABLE.items() if library in arrows]
    assert users
    assert not [path for path in users if not path.startswith(USERS[library])]


# --- the files against the table ---------------------------------------------------


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, and whether already when it is loaded."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in tree.body
        elif isinstance(node, ast.ImportFrom):
            assert node.module and not node.level, f"{path}: write the whole name of a module"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if file_of(full) in FILES else node.module, node in tree.body


def file_of(module: str) -> str:
    """The path below rewind/ that a module has, or would have as a package."""
    path = module.removeprefix("rewind").replace(".", "/").strip("/")
    return f"{path}.py" if f"{path}.py" in FILES else f"{path}/__init__.py".strip("/")


def arrow_to(module: str, room: str) -> str | None:
    """The table's word for a module that a file of this room imports; None if it has none."""
    top = module.partition(".")[0]
    if top != "rewind":
        return top if top in LIBRARIES else None
    target, file, _ = TABLE[file_of(module)]
    return file if target.name == room else target.name


def arrows_of(path: str) -> frozenset[str]:
    """The arrows of a file as the table writes them."""
    room = TABLE[path][0].name
    loaded: set[str] = set()
    later: set[str] = set()
    for module, when_loaded in imports(FILES[path]):
        if (arrow := arrow_to(module, room)) is not None:
            (loaded if when_loaded else later).add(arrow)
    return frozenset(loaded | {f"({arrow})" for arrow in later - loaded})


@pytest.mark.parametrize("path", FILES)
def test_a_file_imports_what_the_table_says(path: str) -> None:
    assert sorted(arrows_of(path) - TABLE[path][2]) == [], "not in the table"


@pytest.mark.parametrize("path", FILES)
def test_no_arrow_of_the_table_is_unused(path: str) -> None:
    assert sorted(TABLE[path][2] - arrows_of(path)) == [], "in the table only"


@pytest.mark.parametrize("path", FILES)
def test_daemon_client_and_cli_are_used_by_their_names_alone(path: str) -> None:
    own = TABLE[path][0].name
    for module, _ in imports(FILES[path]):
        if module.startswith("rewind."):
            room, file, _ = TABLE[file_of(module)]
            inside = room.name in NAMES_ONLY and file != "__init__.py"
            assert not inside or room.name == own or own == "rewind", module


@pytest.mark.parametrize("path", FILES)
def test_a_long_file_says_why_it_is_long(path: str) -> None:
    text = FILES[path].read_text(encoding="utf-8")
    opening = ast.get_docstring(ast.parse(text)) or ""
    assert ("is long because" in opening) == (text.count("\n") > LINES_MAX)


# --- what is loaded, and when -------------------------------------------------------


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(' '.join(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_importing_rewind_loads_no_driver() -> None:
    loaded = loaded_after("import rewind; rewind.NewEvent")
    assert not loaded & {"plyvel", "sqlite3", "click", "rewind.backends.leveldb"}


def test_a_driver_is_loaded_when_its_backend_is_opened() -> None:
    loaded = loaded_after("import rewind.store, rewind.backends as b; b.open_backend('memory:')")
    assert "rewind.backends.memory" in loaded
    assert not loaded & {"plyvel", "sqlite3"}


def test_ci_runs_exactly_the_test_command_of_the_readme() -> None:
    top = Path(__file__).parent.parent
    (command,) = [
        line.strip()
        for line in (top / "README.rst").read_text().splitlines()
        if "-m pytest" in line
    ]
    assert command in (top / ".ci" / "run").read_text().splitlines()
