"""What all commands have in common: exit codes, help, a closed stdout."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid

import pytest
from every_command import every_command
from hostile import unprintable
from shell import CLEAN, fail, run, succeed

import rewind
from rewind import NewEvent
from rewind.cli.entry import commands

pytest_plugins = "cli_fixtures"


@pytest.mark.parametrize(
    "arguments",
    [["append"], ["append", b"\xff"], ["append", "s", "--meta", "novalue"], ["append", "s", "--id", "7"],
     ["append", "s", "--expected-version", "-2"], ["append", "s", "--json", "--type", "t"],
     ["append", "--json", "--expected-version", "1"], ["read", "-n", "-1"], ["read", "-n", "1.5"],
     ["read", "-s", "a", "--prefix", "b"], ["tail", "-s", "a", "--prefix", "b"],
     ["tail", "--after", "1", "--since", "1m"], ["tail", "--after", "now", "--since", "1m"],
     ["tail", "--after", "then"], ["read", "--after", "now"], ["read", "--since", "noon"],
     ["read", "--query", ""], ["read", "--query", "A"], ["read", "--query", "types=A"],
     ["read", "--query", "type=A", "--tag", "x"], ["tail", "--query", "type=A", "--stream", "s"],
     ["read", "--category", "a", "--stream", "a-1"], ["tail", "--category", "a", "--prefix", "a"],
     ["cursor"], ["cursor", "move", "x"], ["cursor", "show"], ["cursor", "reset", "x", "-1"],
     ["cursor", "reset", "x", "then"], ["cursor", "delete", "x", "1"],
     ["read", "--after", str(2**63)], ["read", "--format", "xml"], ["show"], ["show", "no-id"], ["show", "0"],
     ["ping", "--wait", "0"], ["ping", "--wait", "nan"], ["info", "--timeout", "-1"], ["nothing"],
     ["append", "s", "--data", "a", "--data", "b"], ["append", "s", "--meta", "n=1", "--meta", "n=2"],
     ["read", "--stream", "a", "--stream", "b"], ["read", "-s", "a", "--stream", "b"],
     ["read", "-e", "x", "-e", "y"], ["read", "-n", "1", "-n", "1"], ["ping", "--wait", "1", "--wait", "2"],
     ["tail", "--after", "1", "--after", "2"], ["--store", "a", "--store", "b"],
     ["serve", "--log-level", "info", "--log-level", "debug"],
     ["read", "--decode"], ["show", "1", "--decode"], ["append", "--json", "--data", ""],
     ["completion", "csh"], ["--no-such-option"], ["--store", "x", "read"], ["serve", "argument"]],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_2(arguments: list[str | bytes]) -> None:
    assert "Error: " in fail(2, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["read", "--stream", "a", "-s", "b"], "--stream is given 2 times and can be given once: 'a', 'b'"),
        (["append", "s", "--meta", "n=1", "--meta", "m=1", "--meta", "n=2"], "the key 'n' is given twice"),
        (["--store", "a", "--store", "b"], "--store is given 2 times"),
    ],
)  # fmt: skip
def test_what_is_given_twice_is_named(arguments: list[str], said: str) -> None:
    assert said in fail(2, *arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--query", "type=A", "--tag", "x"],
            "give --query or --tag, not both: an item of a query has",
        ),
        (
            ["--query", "type=A", "--prefix", "x", "--type", "B"],
            "give --query or --prefix, not both",
        ),
        (["--category", "a", "--stream", "a-1"], "give --stream or --category, not both"),
        (["--category", "a", "--prefix", "a"], "give --prefix or --category, not both"),
        (["--query", "type=A B"], "Invalid value for '--query': 'B' is no key=value"),
        (["--query", b"tag=\xff"], "is not UTF-8"),
    ],
)
def test_what_does_not_go_together_is_named(arguments: list[str | bytes], said: str) -> None:
    for command in ("read", "tail"):
        assert said in fail(2, command, *arguments)


@pytest.mark.parametrize(
    ("command", "env", "said"),
    [
        ("read", {"REWIND_READ_FORMAT": "xml"}, "the variable REWIND_READ_FORMAT: 'xml'"),
        ("read", {"REWIND_READ_BACKWARDS": "x"}, "the variable REWIND_READ_BACKWARDS: 'x'"),
        ("tail", {"REWIND_TAIL_SINCE": "noon"}, "the variable REWIND_TAIL_SINCE: 'noon'"),
        ("read", {"REWIND_READ_QUERY": "type=A\nB"}, "the variable REWIND_READ_QUERY: 'B' is no key=value"),
        ("info", {"REWIND_TIMEOUT": "never"}, "the variable REWIND_TIMEOUT: 'never'"),
        ("append", {"REWIND_APPEND_META": "a=1 a=2"}, "the variable REWIND_APPEND_META: the key 'a'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_blamed_on_the_variable_it_comes_from(
    command: str, env: dict[str, str], said: str
) -> None:
    assert said in fail(2, command, env=env)
    option = "--" + next(iter(env)).rpartition("_")[2].lower()
    assert option not in fail(2, command, env=env).partition("Error: ")[2]


def test_a_wrong_option_is_blamed_on_the_option_whatever_its_variable_says() -> None:
    said = fail(2, "read", "--format", "xml", env={"REWIND_READ_FORMAT": "text"})
    assert "'--format': 'xml'" in said and "REWIND" not in said


def test_an_error_drives_no_terminal(at: list[str]) -> None:
    hostile = "a\x1b[31m\u202e\u2066b"
    for code, arguments in [
        (2, ["ping", hostile]),
        (2, [hostile]),
        (2, ["read", "--format", hostile]),
        (2, ["read", "--since", hostile, *at]),
        (78, ["read", "-e", f"tcp://{hostile}:1"]),
        (65, ["read", "-e", f"./{hostile}"]),
        (1, ["show", str(uuid.uuid4()), *at]),
        (1, ["append", f"${hostile}", "--data", "", *at]),
    ]:
        assert unprintable(fail(code, *arguments)) == [], arguments


def test_a_mistake_in_rewind_is_exit_70_with_a_traceback_and_a_word(at: list[str]) -> None:
    code = "import rewind.client.blocking, rewind.cli; rewind.client.blocking.Client.info = None; rewind.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "info", *at], capture_output=True, env=CLEAN)
    assert done.returncode == 70
    assert b"Traceback" in done.stderr and b"please report it" in done.stderr


@pytest.mark.parametrize(
    "command", [["--help"], ["read"], ["read", "--format", "jsonl"], ["streams"], ["show", "1", "--data"]]
)  # fmt: skip
def test_a_closed_stdout_is_quiet_success(
    tmp_path_factory: pytest.TempPathFactory, command: list[str]
) -> None:
    store = str(tmp_path_factory.mktemp("closed") / "store")
    with rewind.open(store) as client:
        for n in range(200):
            client.append(f"s{n}", NewEvent("t", b"x" * 2000))
    reading, writing = os.pipe()
    os.close(reading)
    at = [] if command == ["--help"] else ["-e", store]
    done = run(*command, *at, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_behind_stdout_is_exit_74(library: str) -> None:
    with open("/dev/full", "wb") as full:
        done = run("read", "-e", library, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (
        74,
        b"rewind: cannot read or write: No space left on device\n",
    )


def test_help_is_answered_without_zeromq_or_a_driver() -> None:
    code = ("import sys, rewind.cli, atexit; atexit.register(lambda: print(*sys.modules, sep='\\n'));"
            " rewind.cli.main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True)
    loaded = set(done.stdout.decode().splitlines())
    assert "rewind.cli.read" in loaded
    assert not loaded & {"zmq", "plyvel", "sqlite3", "asyncio", "rewind.daemon.server"}
    rooms = ("rewind.backends", "rewind.store", "rewind.client", "rewind.demo", "rewind.testing")
    assert not [name for name in loaded if name.startswith(rooms)]


COMMANDS = {(): commands, ("cursor",): commands.commands["cursor"], **dict(every_command(commands))}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    text = succeed(*command, "--help").decode()
    assert text.startswith("Usage: rewind")
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_no_command_in_a_help_is_broken(command: tuple[str, ...], columns: str) -> None:
    text = succeed(*command, "--help", env={"COLUMNS": columns}).decode()
    shown = {line.strip() for line in text.splitlines()}
    of = COMMANDS[command]
    examples = [line for line in (of.epilog or "").splitlines() if line.startswith("  ")]
    assert all(example.strip() in shown for example in examples)
    # What else names a command with its arguments stands in backticks, and on one line.
    assert not [line for line in text.splitlines() if line.count("`") % 2]


def test_version_is_not_taken_from_a_variable() -> None:
    assert succeed("--version", env={"REWIND_VERSION": "0.3"}).startswith(b"rewind ")
    assert "Error" not in fail(69, "ping", "--wait", "0.05", "-e", "ipc:///nowhere",
                               env={"REWIND_VERSION": "0.3", "REWIND_HOME": "/x"})  # fmt: skip
