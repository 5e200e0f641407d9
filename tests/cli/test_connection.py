"""From ``-e`` to a client: what a command does where no daemon is, or no store."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest
from conftest import DURABLE
from shell import events, fail, fill, succeed

import rewind
from rewind import NewEvent
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"

CLIENT_COMMANDS = [["append", "s", "--data", ""], ["append", "--json"], ["read"], ["tail"], ["tail", "--after", "0"],
                   ["show", "1"], ["streams"], ["types"], ["tags"], ["categories"], ["info"], ["cursors"],
                   ["cursors", "--watch"], ["cursor", "show", "x"], ["cursor", "reset", "x"],
                   ["cursor", "delete", "x"]]  # fmt: skip


@pytest.mark.parametrize("command", CLIENT_COMMANDS, ids=" ".join)
def test_an_absent_daemon_is_exit_69_and_says_what_to_try(
    nobody_there: str, command: list[str]
) -> None:
    said = fail(69, *command, "-e", nobody_there, "--timeout", "0.2", input=b'{"stream":"s"}')
    assert nobody_there in said and "start a daemon with `rewind`" in said
    assert f"rewind {command[0]} -e" not in said, "advice that repeats the failing command"


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://", "tcp://:1", "tcp://host", "http://host:1", "localhost:9090", "bad:path", ""],
)
def test_what_is_no_endpoint_is_exit_78(endpoint: str) -> None:
    assert fail(78, "info", "-e", endpoint).startswith("rewind: ")


def test_only_append_creates_a_store_and_only_if_it_is_told_so(store: str) -> None:
    said = fail(65, "read", "-e", store)
    assert "holds no store" in said and "`rewind append --create`" in said
    assert "holds no store" in fail(65, "info", "-e", f"sqlite:{store}")
    for what in ("reset", "delete"):
        assert "holds no store" in fail(65, "cursor", what, "x", "-e", f"sqlite:{store}")
    said = fail(65, "append", "s", "--data", "x", "-e", store)
    assert f"{store} holds no store: misspelt?" in said and "--create" in said
    assert "--create" in fail(65, "append", "--json", "-e", store, input=b'{"stream":"s"}')
    assert not Path(store).exists()
    succeed("append", "s", "--data", "x", "--create", "-e", store)
    succeed("append", "s", "--data", "x", "-e", store)
    assert succeed("streams", "-e", store).split() == [b"2", b"s"]


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_store_may_have_a_path_that_is_not_utf8(store: str, scheme: str) -> None:
    url = f"{scheme}:{store}\udcff"
    succeed("append", "s", "--data", "x", "-e", url)
    assert succeed("streams", "-e", url).split() == [b"1", b"s"]
    assert "\\udcff" in fail(65, "read", "-e", f"{store}\udcfe\udcff")
    assert "write tcp://HOST:PORT" in fail(78, "info", "-e", "tcp://\udcff:1")


@pytest.mark.parametrize("scheme", ["sqlite", "log"])
def test_append_creates_a_store_whose_kind_is_named(store: str, scheme: str) -> None:
    succeed("append", "s", "--data", "x", "-e", f"{scheme}:{store}")
    assert succeed("info", "-e", store).decode().splitlines()[1].endswith(f", {scheme}")


def test_a_command_on_a_locked_store_names_its_owner(store: str) -> None:
    with Daemon(store) as daemon:
        assert f"in use by pid {daemon.process.pid} " in fail(75, "read", "-e", store)


@pytest.mark.parametrize("scheme", DURABLE)
def test_only_append_writes_to_a_store(scheme: str, tmp_path: Path) -> None:
    fill(f"{scheme}:{tmp_path / 'store'}", "s", NewEvent("t", b"one"), NewEvent("t", b"two"))
    before = listing(tmp_path)
    for where in (f"{scheme}:{tmp_path / 'store'}", str(tmp_path / "store")):
        with rewind.open(where, read_only=True):  # A second reader does not disturb the first.
            assert [
                e["data"] for e in events(succeed("read", "--format", "jsonl", "-e", where))
            ] == ["one", "two"]
        assert succeed("show", "2", "--data", "-e", where) == b"two"
        assert succeed("streams", "-e", where).split() == [b"2", b"s"]
        assert scheme.encode() in succeed("info", "-e", where)
        assert succeed("tail", "--after", "1", "-n", "1", "-e", where).count(b"\n") == 1
    assert listing(tmp_path) == before


def listing(path: Path) -> dict[str, tuple[object, ...]]:
    """Names, sizes, times and content of everything below a path."""
    entries = (path, *path.rglob("*"))
    return {
        str(entry): (
            entry.stat().st_size,
            entry.stat().st_mtime_ns,
            entry.is_file() and entry.read_bytes(),
        )
        for entry in entries
    }


def test_the_lock_of_a_store_is_free_after_a_command(store: str) -> None:
    succeed("append", "s", "--data", "", "--create", "-e", store)
    with open(Path(store) / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_client_options_come_from_the_environment_unless_given(
    at: list[str], stream: str, nobody_there: str
) -> None:
    env = {"REWIND_ENDPOINT": at[1], "REWIND_READ_FORMAT": "jsonl", "REWIND_READ_TYPE": "a b",
           "REWIND_APPEND_TYPE": "b"}  # fmt: skip
    succeed("append", stream, "--data", "", env=env)
    succeed("append", stream, "--data", "", "--type", "c", env=env)
    assert [event["type"] for event in events(succeed("read", "-s", stream, env=env))] == ["b"]
    assert (
        succeed("read", "-s", stream, "--type", "c", "--format", "text", env=env).count(b"\n") == 1
    )
    absent = {"REWIND_ENDPOINT": nobody_there, "REWIND_TIMEOUT": "0.1"}
    fail(69, "info", env=absent)
    succeed("info", *at, "--timeout", "20", env=absent)
    fail(2, "read", env={"REWIND_READ_LIMIT": "few"})
