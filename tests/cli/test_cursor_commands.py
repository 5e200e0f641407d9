"""``rewind cursors`` and ``rewind cursor``: where consumers are, watched and moved."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from shell import CLEAN, PATIENCE_S, REWIND, eventually, fail, running, succeed

import rewind
from rewind import NewEvent

pytest_plugins = "cli_fixtures"


@pytest.fixture
def name(stream: str) -> Iterator[str]:
    """The beginning of names that no other test uses."""
    return stream  # type: ignore[return-value]


@pytest.fixture
def client(at: list[str]) -> Iterator[rewind.Client]:
    """A client of the daemon, in whose store there are twenty events at the least."""
    with rewind.connect(at[1]) as client:
        client.append("filler", [NewEvent("t")] * 20)
        yield client


def listed(*arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in succeed(*arguments, "--format", "jsonl").splitlines()]


def test_cursors_are_listed_with_their_lag(at: list[str], client: rewind.Client, name: str) -> None:
    head = client.head()
    client.reset_cursor(f"{name}b", head)
    client.reset_cursor(f"{name}a", 5)
    client.reset_cursor(f"{name}c", 0)
    behind, at_head, at_none = listed("cursors", name, *at)
    assert [each["cursor"] for each in (behind, at_head, at_none)] == [
        f"{name}a", f"{name}b", f"{name}c",
    ]  # fmt: skip
    assert (behind["position"], behind["lag_events"]) == (5, head - 5)
    assert behind["lag_seconds"] > 0
    assert (at_head["position"], at_head["lag_events"], at_head["lag_seconds"]) == (head, 0, 0)
    assert (at_none["position"], at_none["lag_events"]) == (0, head)
    assert datetime.fromisoformat(behind["updated_at"][:26] + "+00:00")
    lines = succeed("cursors", name, *at).decode().splitlines()
    assert lines[0] == "position       lag  lag time  cursor"
    assert re.fullmatch(rf" +5 +{head - 5} +[\d.smhd]+  {name}a", lines[1])
    assert re.fullmatch(rf" +{head} +0 +0s  {name}b", lines[2])
    assert listed("cursors", name, "-n", "1", *at)[0]["cursor"] == f"{name}a"
    assert succeed("cursors", f"{name}x", *at) == b""


def test_a_cursor_is_shown(at: list[str], client: rewind.Client, name: str) -> None:
    client.reset_cursor(name, 5)
    text = succeed("cursor", "show", name, *at).decode()
    assert re.search(rf"cursor +{name}\nposition +5\nupdated at +\S+Z\nlag +\d+ events, ", text)
    (shown,) = listed("cursor", "show", name, *at)
    assert (shown["cursor"], shown["position"]) == (name, 5)
    client.reset_cursor(name, client.head())
    assert re.search(r"lag +none\n", succeed("cursor", "show", name, *at).decode())


def test_a_cursor_is_reset_backwards_and_to_now(
    at: list[str], client: rewind.Client, name: str
) -> None:
    reset = ["cursor", "reset", name]
    assert succeed(*reset, "7", *at) == f"cursor {name} is new; it is at 7 now\n".encode()
    assert succeed(*reset, "3", *at) == f"cursor {name} was at 7; it is at 3 now\n".encode()
    assert succeed(*reset, *at) == f"cursor {name} was at 3; it is at 0 now\n".encode()
    head = client.head()
    assert succeed(*reset, "now", *at).decode().endswith(f"it is at {head} now\n")
    assert client.cursor(name).position == head


def test_a_cursor_beyond_the_head_is_refused(
    at: list[str], client: rewind.Client, name: str
) -> None:
    assert "and the head is" in fail(1, "cursor", "reset", name, str(client.head() + 1), *at)
    assert succeed("cursors", name, *at) == b""


@pytest.mark.parametrize("bad", ["$mine", "", "a\nb", "x" * 256])
def test_what_no_cursor_is_called_is_refused(at: list[str], bad: str) -> None:
    assert fail(1, "cursor", "reset", bad, *at).startswith("rewind: ")


def test_a_cursor_is_deleted(at: list[str], client: rewind.Client, name: str) -> None:
    client.reset_cursor(name, 4)
    said = f"cursor {name} was at 4; it is deleted\n"
    assert succeed("cursor", "delete", name, *at).decode() == said
    assert succeed("cursors", name, *at) == b""


@pytest.mark.parametrize("what", ["show", "delete"])
def test_a_cursor_that_is_not_there_is_exit_1_with_those_near_it(
    at: list[str], client: rewind.Client, name: str, what: str
) -> None:
    client.reset_cursor(f"{name}-mailer", 4)
    said = fail(1, "cursor", what, f"{name}-mailr", *at)
    assert said.startswith(f"rewind: there is no cursor '{name}-mailr'; near it: '{name}-mailer'")
    assert client.cursor(f"{name}-mailer").position == 4


def test_a_store_that_no_daemon_has_open_keeps_its_cursors(store: str) -> None:
    succeed("append", "s", "--data", "x", "--create", "-e", store)
    succeed("cursor", "reset", "mailer", "1", "-e", store)
    assert listed("cursors", "-e", store)[0]["position"] == 1
    succeed("cursor", "delete", "mailer", "-e", store)
    assert "`rewind cursors` lists" in fail(1, "cursor", "show", "mailer", "-e", store)


# --- watched -----------------------------------------------------------------------


def test_watching_prints_a_line_for_each_change(
    at: list[str], client: rewind.Client, name: str
) -> None:
    client.reset_cursor(f"{name}a", client.head())
    client.reset_cursor(f"{name}b", 1)
    with running("cursors", name, "--watch", "--format", "jsonl", *at) as watch:
        assert watch.stdout is not None
        first = [json.loads(watch.stdout.readline())["cursor"] for _ in range(2)]
        assert first == [f"{name}a", f"{name}b"]
        client.reset_cursor(f"{name}b", 2)
        while (line := json.loads(watch.stdout.readline()))["position"] != 2:
            assert line["cursor"] == f"{name}b"
        watch.send_signal(signal.SIGINT)
        assert watch.wait(PATIENCE_S) == 130


def test_watching_as_text_prints_the_head_once(
    at: list[str], client: rewind.Client, name: str
) -> None:
    client.reset_cursor(name, 1)
    with running("cursors", name, "--watch", *at) as watch:
        assert watch.stdout is not None
        lines = [watch.stdout.readline() for _ in range(3)]
    assert [line.startswith(b"position") for line in lines] == [True, False, False]


def test_watching_notices_that_nobody_reads(
    at: list[str], client: rewind.Client, name: str
) -> None:
    client.reset_cursor(name, client.head())
    with running("cursors", name, "--watch", *at) as watch:
        assert watch.stdout is not None and watch.stderr is not None
        watch.stdout.readline()
        watch.stdout.close()
        assert (watch.wait(PATIENCE_S), watch.stderr.read()) == (0, b"")


def test_watching_on_a_terminal_redraws_the_table_in_its_place(
    at: list[str], client: rewind.Client, name: str
) -> None:
    for n in range(9):
        client.reset_cursor(f"{name}{n}", 1)
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 6, 60, 0, 0))
    watch = subprocess.Popen(
        [*REWIND, "cursors", name, "--watch", *at], stdin=slave, stdout=slave, stderr=slave,
        env={**CLEAN, "TERM": "xterm", "NO_COLOR": "1"}, start_new_session=True,
    )  # fmt: skip
    os.close(slave)
    shown = b""

    def twice() -> bool:
        nonlocal shown
        shown += os.read(master, 4096)
        return shown.count(b"...\r\n") == 2

    try:
        eventually(twice)
    finally:
        watch.kill()
        watch.wait()
        os.close(master)
    first, again = shown.split(b"\r\x1b[J")[1:3]
    assert first.startswith(b"position") and first.count(b"\n") == 5
    assert first.endswith(b"...\r\n\x1b[5A")
    assert f"{name}2".encode() in first and f"{name}3".encode() not in first
    assert again.startswith(b"position")
