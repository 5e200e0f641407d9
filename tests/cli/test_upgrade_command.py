"""``rewind upgrade``: a store of an earlier release, brought up to date before its daemon starts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import DURABLE
from golden_stores import STORES
from shell import events, fail, run, succeed
from test_terminal import on_terminal

from rewind.backends.directory import format_of
from rewind.cli.upgrade import bar
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"


@pytest.fixture(params=DURABLE)
def old(store: str, request: pytest.FixtureRequest) -> str:
    """A store of the first format."""
    shutil.copytree(STORES / request.param, store)
    return store


def test_an_old_store_is_brought_up_to_date_once(old: str) -> None:
    before = events(succeed("read", "--format", "jsonl", "-e", old))
    done = run("upgrade", old)
    assert done.returncode == 0
    assert f"building the index of {old}: {len(before)} of {len(before)} events" in (
        done.stderr.decode()
    )
    now = format_of(Path(old))
    assert now != 1
    said = f"{old} is up to date: its format was 1 and is {now}; {len(before)} events, "
    assert done.stdout.decode().startswith(said)
    assert events(succeed("read", "--format", "jsonl", "-e", old)) == before
    again = f"{old} is up to date already: its format is {now}\n"
    assert succeed("upgrade", old).decode() == again
    assert succeed("upgrade", f"{Path(old).parent}/./store").decode().endswith(f"is {now}\n")


def test_a_bar_is_shown_on_a_terminal_and_cleared(old: str) -> None:
    code, shown = on_terminal(["upgrade", old])
    assert code == 0
    assert b"] " in shown and b" events" in shown and b"building" not in shown
    assert shown.endswith(b"\r" + b" " * 60 + b"\r")


@pytest.mark.parametrize(
    ("done", "total", "text"),
    [
        (0, 10, "[....................] 0 of 10 events"),
        (5, 10, "[##########..........] 5 of 10 events"),
        (1_200_000, 1_200_000, "[####################] 1,200,000 of 1,200,000 events"),
        (0, 0, "[....................] 0 of 0 events"),
    ],
)
def test_a_bar_has_the_length_of_what_is_done(done: int, total: int, text: str) -> None:
    assert bar(done, total) == text


def test_nothing_is_created_where_no_store_is(store: str) -> None:
    assert "holds no store: misspelt?" in fail(65, "upgrade", store)
    assert "holds no store: misspelt?" in fail(65, "upgrade", f"sqlite:{store}")
    assert not Path(store).exists()
    assert "memory: keeps nothing that could be out of date" in fail(78, "upgrade", "memory:")
    assert "is the endpoint of a daemon" in fail(78, "upgrade", "tcp://127.0.0.1:9090")


def test_a_store_that_a_daemon_has_open_is_left_alone(store: str) -> None:
    with Daemon(f"sqlite:{store}"):
        assert "in use by" in fail(75, "upgrade", store)
