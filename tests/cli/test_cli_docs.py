"""docs/cli.rst against what it describes: commands, options, defaults, variables, exit codes, examples."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from every_command import every_command

from rewind import errors
from rewind.cli import entry
from rewind.cli.entry import commands
from rewind.daemon.settings import Settings, variable
from rewind.testing import Daemon

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cli.rst").read_text(encoding="utf-8")
README = (ROOT / "README.rst").read_text(encoding="utf-8")
SERVE = "serve"


def documented() -> dict[str, dict[str, str]]:
    """Command -> option -> what the page says of it."""
    page: dict[str, dict[str, str]] = {}
    _, *parts = re.split(r"^\.\. program:: rewind (.+)\n", PAGE, flags=re.MULTILINE)
    for command, text in zip(parts[::2], parts[1::2], strict=True):
        options = page.setdefault(command, {})
        _, *pieces = re.split(r"^\.\. option:: (.*)\n", text, flags=re.MULTILINE)
        for names, said in zip(pieces[::2], pieces[1::2], strict=True):
            own = re.split(r"\n(?=\S)", said)[0]  # up to the next line that is not indented
            for name in re.findall(r"(?<!\S)--?[a-z][a-z-]*", names):
                options[name] = own
    return page


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {
        name: given
        for given in command.params
        if isinstance(given, click.Option) and given.name not in ("help", "version")
        for name in given.opts
    }


ALL = {" ".join(words): command for words, command in every_command(commands)}


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_documented_and_no_other(name: str) -> None:
    real = set(options_of(ALL[name]))
    said = set(documented()[name])
    common = set() if name == SERVE else set(documented()["COMMAND"])
    assert real - said - common == set(), "not in docs/cli.rst"
    assert said - real == set(), "in docs/cli.rst only"


def test_the_group_has_the_options_of_serve() -> None:
    assert set(options_of(commands)) == set(options_of(commands.commands[SERVE]))


def test_every_command_has_a_section_with_its_argument() -> None:
    titles = re.findall(r"^(rewind.*)\n-+$", PAGE, flags=re.MULTILINE)
    for name, command in ALL.items():
        arguments = [given for given in command.params if isinstance(given, click.Argument)]
        first, _, second = name.partition(" ")
        section = next(
            title for title in titles if re.search(rf"rewind {first}\b.*{second}", title)
        )
        for argument in arguments:
            assert argument.human_readable_name in section


@pytest.mark.parametrize("name", Settings.__struct_fields__)
def test_every_setting_has_its_default_and_variable(name: str) -> None:
    said = documented()[SERVE]["--" + name.replace("_", "-")]
    default = getattr(Settings(), name)
    shown = " ".join(default) if isinstance(default, tuple) else str(default)
    assert f"``{variable(name)}``" in " ".join(said.split())
    if name != "insecure":
        assert re.search(rf"Default:\s+`*{re.escape(shown or 'off')}", said), said


@pytest.mark.parametrize("name", ["--endpoint", "--timeout"])
def test_where_the_store_is_has_its_default_and_variable(name: str) -> None:
    given = options_of(commands.commands["info"])[name]
    said = " ".join(documented()["COMMAND"][name].split())
    assert re.search(rf"Default: `*{re.escape(str(given.default))}", said)
    assert f"``{given.envvar}``" in said


def test_every_exit_code_is_documented() -> None:
    table = PAGE[PAGE.index("Exit codes\n---") :]
    said = {int(code) for code in re.findall(r"^(\d+) +\S", table, flags=re.MULTILINE)}
    of_errors = {
        kind.exit_code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.RewindError)
    }
    assert said == of_errors | {0, 2, entry.EXIT_BUG, entry.EXIT_IO, entry.EXIT_INTERRUPTED}


def test_every_key_of_a_json_line_is_documented() -> None:
    from rewind.cli.format import _Line

    table = PAGE[PAGE.index("JSON lines\n---") : PAGE.index("Exit codes\n---")]
    said = set(re.findall(r"^``(\w+)``", table, flags=re.MULTILINE))
    assert said == set(_Line.__struct_fields__)


def examples(page: str) -> Iterator[tuple[str, str]]:
    """Each command of a page's consoles, and what it prints."""
    for block in re.findall(r"code-block:: console\n\n((?:   .*\n|\n)+)", page):
        _, *pieces = re.split(r"^\$ (.*)\n", textwrap.dedent(block), flags=re.MULTILINE)
        yield from zip(pieces[::2], pieces[1::2], strict=True)


@pytest.mark.parametrize(("page", "fewest"), [(PAGE, 15), (README, 5)], ids=["cli", "README"])
def test_every_example_prints_what_the_page_says(page: str, fewest: int, tmp_path: Path) -> None:
    shim = tmp_path / "bin" / "rewind"
    shim.parent.mkdir()
    shim.write_text(f'#!/bin/sh\nexec {sys.executable} -m rewind "$@"\n')
    shim.chmod(0o755)
    checker = doctest.OutputChecker()
    with Daemon("memory:") as daemon:
        env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("REWIND_")},
            "PATH": f"{shim.parent}{os.pathsep}{os.environ['PATH']}",
            "REWIND_ENDPOINT": daemon.endpoints["incoming"],
        }
        count = 0
        for command, said in examples(page):
            done = subprocess.run(
                command, shell=True, cwd=tmp_path, env=env, text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=30,
            )  # fmt: skip
            got = done.stdout if done.stdout.endswith("\n") else done.stdout + "\n"
            wanted = said.rstrip("\n") + "\n"
            assert checker.check_output(wanted, got, doctest.ELLIPSIS), f"$ {command}\n{got}"
            count += 1
    assert count >= fewest


def test_the_shell_examples_only_use_options_that_exist() -> None:
    known = {name for command in ALL.values() for name in options_of(command)}
    for block in re.findall(r"code-block:: sh\n\n((?:   .*\n|\n)+)", PAGE):
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", block)) <= known
