"""Which room may import which, and that drivers are imported only when a store is opened."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import rewind

ROOT = Path(rewind.__file__).parent

#: Room -> rooms it may import. Arrows point one way; what is missing here may import nothing.
MAY = {
    "errors": set(),
    "release": set(),
    "events": {"errors"},
    "checks": {"errors", "events"},
    "wire": {"checks", "errors", "events", "release"},
    "backends": {"errors", "events"},
    "store": {"wire", "errors", "events", "backends"},
    "answers": {"wire", "errors", "events", "store", "release"},
    "endpoints": {"errors"},
    "client": {"checks", "endpoints", "errors", "events", "wire", "store", "backends", "answers"},
    "daemon": {
        "checks",
        "endpoints",
        "errors",
        "events",
        "wire",
        "backends",
        "store",
        "release",
        "answers",
    },
    "testing": {"errors"},
}
ZMQ = {"wire", "daemon", "client"}


def room(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            if node.module == "rewind":
                found.update(f"rewind.{alias.name}" for alias in node.names)
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    name = room(path)
    if name in ("__init__", "__main__", "demo", "cli"):
        return
    ours = {full.split(".")[1] for full in imports(path) if full.startswith("rewind.")}
    assert ours - {name} <= MAY[name], f"{name} imports {sorted(ours - {name} - MAY[name])}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path: Path) -> None:
    tops = {full.split(".")[0] for full in imports(path)}
    assert "zmq" not in tops or room(path) in ZMQ | {"demo"}
    assert "click" not in tops or room(path) == "cli"
    assert "plyvel" not in tops or path.name == "leveldb.py"
    assert "sqlite3" not in tops or room(path) == "backends"


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
