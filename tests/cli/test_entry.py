"""What all commands have in common: exit codes, help, a closed stdout."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
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
     ["tail", "--after", "1", "--since", "1m"], ["read", "--since", "yesterday"],
     ["read", "--after", str(2**63)], ["read", "--format", "xml"], ["show"], ["show", "no-id"], ["show", "0"],
     ["ping", "--wait", "0"], ["ping", "--wait", "nan"], ["info", "--timeout", "-1"], ["nothing"],
     ["completion", "csh"], ["--no-such-option"], ["--store", "x", "read"], ["serve", "argument"]],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_2(arguments: list[str | bytes]) -> None:
    assert "Error: " in fail(2, *arguments)


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


@pytest.mark.parametrize("command", [[], *([name] for name in commands.commands)], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    text = succeed(*command, "--help").decode()
    assert text.startswith("Usage: rewind")
    assert max(map(len, text.splitlines())) <= 80


def test_version_is_not_taken_from_a_variable() -> None:
    assert succeed("--version", env={"REWIND_VERSION": "0.3"}).startswith(b"rewind ")
    assert "Error" not in fail(69, "ping", "--wait", "0.05", "-e", "ipc:///nowhere",
                               env={"REWIND_VERSION": "0.3", "REWIND_HOME": "/x"})  # fmt: skip
