"""``rewind streams``, ``info`` and ``ping``."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from shell import PATIENCE_S, fail, running, succeed

from rewind.daemon import Settings
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"


def test_streams_are_listed_with_their_versions_in_order(library: str) -> None:
    assert succeed("streams", "-e", library) == b"       3  a-1\n       1  a-2\n       2  b\n"
    assert succeed("streams", "a-2", "--format", "jsonl", "-e", library) == (
        b'{"stream":"a-2","version":1}\n'
    )


@pytest.mark.parametrize(
    ("command", "listed"),
    [
        (["types"], b"       5  x\n       2  y\n       6  z\n"),
        (["tags"], b"       3  t\n       5  u\n"),
        (["categories"], b"       6  a\n       5  b\n"),
        (["types", "y"], b"       2  y\n"),
        (["tags", "none"], b""),
        (["tags", "-n", "1"], b"       3  t\n"),
        (["types", "-n", "1", "--format", "jsonl"], b'{"type":"x","last_position":5}\n'),
        (["tags", "u", "--format", "json"], b'{"tag":"u","last_position":5}\n'),
        (["categories", "b", "--format", "jsonl"], b'{"category":"b","last_position":5}\n'),
    ],
)
def test_names_are_listed_with_the_position_of_their_last_event(
    library: str, command: list[str], listed: bytes
) -> None:
    assert succeed(*command, "-e", library) == listed


def test_the_empty_type_is_listed_too(at: list[str], stream: str) -> None:
    succeed("append", stream, "--data", "x", *at)
    lines = succeed("types", *at).decode().splitlines()
    assert [line.split()[1] for line in lines].count("-") == 1
    assert json.loads(succeed("types", "--format", "jsonl", "-n", "1", *at))["type"] == ""


def test_streams_can_be_counted_off(library: str) -> None:
    assert succeed("streams", "-n", "2", "-e", library).split()[1::2] == [b"a-1", b"a-2"]
    assert succeed("streams", "a-", "-n", "1", "-e", library).split()[1::2] == [b"a-1"]
    assert succeed("streams", "-n", "0", "-e", library) == b""


@pytest.mark.parametrize(
    "command",
    [
        ["info"],
        ["streams"],
        ["types"],
        ["tags"],
        ["categories"],
        ["read"],
        ["show", "1"],
        ["tail", "--after", "0", "-n", "1"],
    ],
)
def test_every_command_takes_both_words_for_json(library: str, command: list[str]) -> None:
    printed = [
        succeed(*command, "--format", word, "-e", library).splitlines()
        for word in ("json", "jsonl")
    ]
    assert printed[0] == printed[1] != []
    assert [json.loads(line) for line in printed[0]]
    assert "is not one of 'text', 'jsonl', 'json'" in fail(2, *command, "--format", "xml")


def test_info_tells_store_head_durability_endpoints_and_limits(
    shared: Daemon, at: list[str]
) -> None:
    answer = json.loads(succeed("info", "--format", "json", *at))
    assert answer["durability"] == answer["backend"] == "memory"
    assert answer["endpoints"]["incoming"] == [shared.endpoints["incoming"]]
    assert answer["limits"]["event_bytes"] == Settings().max_event_bytes
    text = succeed("info", *at).decode()
    for word in (answer["store_id"], shared.endpoints["topic"], "memory", "durability", "4194304"):
        assert word in text


def test_ping_answers(at: list[str]) -> None:
    assert f"{at[1]} answers in " in succeed("ping", *at).decode()


def test_ping_waits_for_a_daemon_that_comes_later(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 'later'}"
    with running("ping", "--wait", str(PATIENCE_S), "-e", endpoint) as ping:
        assert ping.poll() is None
        with running("--store", "memory:", "--incoming-bind", endpoint, "--streaming-bind", "",
                     "--topic-bind", "", stdin=None, stderr=subprocess.DEVNULL):  # fmt: skip
            assert ping.wait(PATIENCE_S) == 0


def test_ping_gives_up_after_its_wait(nobody_there: str) -> None:
    assert nobody_there in fail(69, "ping", "-e", nobody_there, "--wait", "0.2")
