"""The pages in docs/ against what they describe: every Python example runs, every table is complete.

A page's Python blocks are pasted one after the other into one interpreter at a terminal, beside a
fresh daemon; the usual ports become that daemon's. ``print(...)  # this`` is a promise: a line like ``this`` comes out, where
``...`` is anything. README.rst's blocks run too. The pages cli.rst and tutorial.rst have their own tests.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from interactive import Interpreter
from pages import blocks

from rewind import errors
from rewind.cli import entry
from rewind.daemon.queues import QUEUED_MAX
from rewind.daemon.settings import Settings, option, variable
from rewind.errors import REQUEST_ERRORS, RewindError
from rewind.events import Advance, Append
from rewind.query import Condition, QueryItem
from rewind.release import __version__
from rewind.store.conditions import CONDITION_SEEKS_MAX
from rewind.store.reading import EXAMINED_MAX
from rewind.testing import Daemon
from rewind.wire import Cursors, Names, Read, Streams, native

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = (
    "../README",
    "quickstart",
    "protocol",
    "python",
    "choosing",
    "decisions",
    "projections",
    "backends",
    "operating",
)
USUAL = {"incoming": 9090, "streaming": 9091, "topic": 9092, "gorewind": 9093}


def page(name: str) -> str:
    return (DOCS / f"{name}.rst").read_text(encoding="utf-8")


# --- examples -----------------------------------------------------------------------


def promises(script: str) -> list[str]:
    """What the comments behind ``print`` say will come out."""
    return re.findall(r"^ *print\(.*\)  # (.+)$", script, re.MULTILINE)


def kept(promise: str, output: str) -> bool:
    """Whether a line of the output is as promised."""
    pattern = ".*".join(map(re.escape, promise.split("...")))
    return any(re.fullmatch(pattern, line) for line in output.splitlines())


@pytest.mark.parametrize(
    ("promise", "output", "is_kept"),
    [
        ("1", "1\n2\n", True),
        ("1", "11\n", False),
        ("id ... of", "id 7 of\n", True),
        ("[b'x']", "b\n", False),
        ("x", "", False),
    ],
)
def test_a_promise_is_compared(promise: str, output: str, is_kept: bool) -> None:
    assert kept(promise, output) is is_kept


def play(text: str, directory: Path) -> tuple[str, str]:
    """Paste a page's examples into Python at a terminal; returns them and what came out."""
    script, output = "", ""
    with Daemon("memory:") as daemon, Interpreter(directory, {"PYTHONPATH": str(ROOT)}) as python:
        for block in blocks(text):
            for name, port in USUAL.items():
                block = block.replace(f"tcp://127.0.0.1:{port}", daemon.endpoints[name])
            script += block
            output += python.paste(block)
    return script, output


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_run_and_print_what_they_say(name: str, tmp_path: Path) -> None:
    script, output = play(page(name), tmp_path)
    assert script, "no example found"
    broken = [promise for promise in promises(script) if not kept(promise, output)]
    assert not broken, f"not in the output:\n{output}"


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("for _ in ():\n       pass\n   print()", "SyntaxError"),
        ("def two():\n       one = 1\n\n       return one", "IndentationError"),
        ("print(", "no end of a statement"),
    ],
)
def test_an_example_that_cannot_be_pasted_fails(block: str, error: str, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=error):
        play(f".. code-block:: python\n\n   {block}\n", tmp_path)


@pytest.mark.parametrize("file", sorted(DOCS.glob("*.rst")), ids=lambda file: file.stem)
def test_no_python_is_left_unrun(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    said = len(re.findall(r"code-block:: (?:python|pycon)|^>>>", text, re.MULTILINE))
    if file.stem in EXAMPLES:
        assert said == len(blocks(text))
    elif file.stem != "tutorial":  # test_tutorial.py
        assert said == 0


# --- tables -------------------------------------------------------------------------


def rows(text: str) -> dict[str, str]:
    """First cell -> the whole row, of every table in a page; rows may go on below."""
    found: dict[str, str] = {}
    first = ""
    border = False
    for line in text.splitlines():
        if re.fullmatch(r"=+(?: +=+)+", line):
            border, first = True, ""
        elif border and (begun := re.match(r"``([^`]+)``", line)):
            first = begun[1]
            found[first] = found.get(first, "") + line
        elif line.startswith("   ") and first:
            found[first] += " " + line.strip()
        else:
            first = ""
    return found


def test_rows_are_found() -> None:
    text = "\n".join(["=== ===", "``a`` one", "      two", "b     ``c``", "=== ==="])
    assert rows(text) == {"a": "``a`` one two"}
    assert rows("``a`` is no row\n") == {}


@pytest.mark.parametrize("code", REQUEST_ERRORS)
def test_every_wire_code_has_its_row(code: str) -> None:
    row = rows(page("errors"))[code]
    kind = REQUEST_ERRORS[code]
    assert f"``{kind.__name__}``" in row
    assert re.search(r"  (yes|no)  ", row)[1] == ("yes" if kind.retryable else "no")  # type: ignore[index]


def exceptions(kind: type[RewindError] = RewindError) -> list[type[RewindError]]:
    found = []
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            found += [child, *exceptions(child)]
    return found


@pytest.mark.parametrize("kind", exceptions(), ids=lambda kind: kind.__name__)
def test_every_exception_is_named_with_its_exit_code(kind: type[RewindError]) -> None:
    text = page("errors")
    if kind in REQUEST_ERRORS.values():
        assert f"``{kind.__name__}``" in text
        return
    if kind is errors.Behind:  # between a backend and the store; nobody else meets it
        return
    assert f" {kind.exit_code} " in f"{rows(text)[kind.__name__]} "


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_has_its_row(name: str) -> None:
    row = rows(page("operating"))[option(name)]
    assert f"``{variable(name)}``" in row
    default = getattr(Settings(), name)
    shown = " ".join(default) if isinstance(default, tuple) else default
    shown = f"{shown:,}" if type(shown) is int else str(shown)
    assert (shown if shown not in ("", "False") else "off") in row


@pytest.mark.parametrize("name", native.LIMITS)
def test_every_limit_has_its_number(name: str) -> None:
    assert f" {native.LIMITS[name]:,} " in rows(page("protocol"))[name]


def exit_codes() -> set[int]:
    ours = {kind.exit_code for kind in exceptions()}
    return ours | {0, 2, entry.EXIT_BUG, entry.EXIT_IO, entry.EXIT_INTERRUPTED}


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("protocol", f"no more than {CONDITION_SEEKS_MAX:,} places of the index"),
        ("choosing", f"no more than {CONDITION_SEEKS_MAX:,} places of the index"),
        ("protocol", f"({EXAMINED_MAX:,} or 1 MiB where filters have to be compared)"),
        ("protocol", f"may have {QUEUED_MAX:,} requests waiting behind a read"),
    ],
)
def test_bounds_that_info_does_not_say_are_right_on_the_pages(page: str, words: str) -> None:
    assert words in (DOCS / f"{page}.rst").read_text(encoding="utf-8")


@pytest.mark.parametrize("code", sorted(exit_codes()))
def test_every_exit_code_has_its_row(code: int) -> None:
    assert str(code) in rows(page("operating"))


def test_every_reserved_word_of_the_protocol_is_explained() -> None:
    text = page("protocol")
    for word in (
        "PUBLISH",
        "QUERY",
        "APPEND",
        "READ",
        "STREAMS",
        "NAMES",
        "CURSORS",
        "INFO",
        "$head",
        "$store",
    ):
        assert f"``{word}``" in text, word
    for value in (Read, Streams, Names, Cursors, Append, Advance, Condition, QueryItem):
        for key in value.__struct_fields__:
            assert f"``{key}``" in text, key


# --- names --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["docs/architecture.rst", "docs/backends.rst", "docs/operating.rst", "CONTRIBUTING.rst"],
)
def test_files_that_are_named_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = set(re.findall(r"``((?:[\w.]+/)*[\w.]+\.(?:py|rst)|(?:rewind|tests)/[\w/]+)``", text))
    assert named
    places = (ROOT, ROOT / "rewind", ROOT / "rewind" / "backends", ROOT / "tests")
    assert not [file for file in named if not any((place / file).exists() for place in places)]


def test_tables_that_are_named_are_in_their_files() -> None:
    text = (ROOT / "CONTRIBUTING.rst").read_text(encoding="utf-8")
    named = re.findall(r"``(_?[A-Z_]+)``\s+of\s+``([\w/]+\.py)``", text)
    assert len(named) >= 5
    for table, file in named:
        assert re.search(rf"^{table}\b.* = ", (ROOT / file).read_text(), re.MULTILINE), table


def test_the_changelog_has_this_release() -> None:
    assert re.search(rf"^{re.escape(__version__)}\n-+$", page("../CHANGELOG"), re.MULTILINE)
