"""``rewind read``, ``tail`` and ``show``: which events are printed, and how."""

from __future__ import annotations

import select
import signal
import uuid

import pytest
from appends import event as stored_event
from appends import store_unchecked
from shell import PATIENCE_S, events, eventually, fail, next_events, running, succeed

import rewind
from rewind import NewEvent
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"


@pytest.mark.parametrize(
    ("filters", "datas"),
    [
        ([], "123456"),
        (["-n", "2"], "12"),
        (["-n", "0"], ""),
        (["--after", "2", "--until", "4"], "34"),
        (["--backwards"], "654321"),
        (["--backwards", "--until", "4", "-n", "2"], "43"),
        (["--stream", "a-1"], "126"),
        (["-s", "a-1", "--after", "1"], "26"),
        (["-s", "a-1", "--backwards", "-n", "1"], "6"),
        (["-s", "a"], ""),
        (["--prefix", "a"], "1236"),
        (["--type", "y", "--type", "z"], "236"),
        (["--tag", "t"], "23"),
        (["--tag", "t", "--tag", "u"], "3"),
        (["--since", "1h"], "123456"),
        (["--since", "2999-01-01T00:00:00Z"], ""),
        (["-s", "b", "--tag", "u", "--type", "x", "--since", "1w"], "5"),
    ],
)
def test_read_prints_what_its_filters_ask_for(library: str, filters: list[str], datas: str) -> None:
    lines = succeed("read", *filters, "--format", "jsonl", "-e", library)
    assert "".join(event["data"] for event in events(lines)) == datas


def test_a_printed_time_can_be_given_to_since(library: str) -> None:
    fourth = events(succeed("read", "--format", "jsonl", "-e", library))[3]["recorded_at"]
    lines = succeed("read", "--since", fourth, "-e", library, "--format", "jsonl")
    # The third may be of the same time as the fourth.
    assert "".join(event["data"] for event in events(lines)) in ("456", "3456")


def test_text_is_a_line_an_event_and_never_an_escape_sequence(store: str) -> None:
    data = b"\x1b]0;owned\x07\xff\nline"
    store_unchecked(store, stored_event("s", data, type="t\x1b[2J", tags=("\x9b31m",)))
    text = succeed("read", "-e", store).decode()
    assert text.count("\n") == 1 and text.rstrip("\n").isprintable()
    assert "\\x1b]0;owned\\x07\\xff\\nline" in text
    assert all(
        line.isprintable() for line in succeed("show", "1", "-e", store).decode().split("\n")
    )


def test_tail_prints_from_now_on_without_a_gap(at: list[str], stream: str) -> None:
    with rewind.connect(at[1]) as client:
        before = client.append(stream, NewEvent("t", b"old")).last
        with running("tail", "--format", "jsonl", *at) as tail:

            def printed() -> bool:
                client.append(stream, NewEvent("t", b"new"))
                return bool(select.select([tail.stdout], [], [], 0.02)[0])

            eventually(printed)
            positions = [event["position"] for event in next_events(tail, 1)]
            client.append(stream, NewEvent("t", b"last"))
            while positions[-1] < client.head():
                positions += [event["position"] for event in next_events(tail, 1)]
            assert positions[0] > before
            assert positions == list(range(positions[0], positions[-1] + 1))


@pytest.mark.parametrize(
    ("where", "datas"),
    [
        (["--after", "0"], "123456"),
        (["--after", "4"], "56"),
        (["--since", "1h"], "123456"),
        (["-s", "a-1", "--after", "1"], "26"),
        (["-s", "a-1", "--since", "1h"], "126"),
        (["--prefix", "a", "--tag", "t", "--after", "0"], "23"),
        (["--type", "z", "--since", "1h"], "36"),
    ],
)
def test_tail_begins_where_it_is_told(library: str, where: list[str], datas: str) -> None:
    tail = ["tail", *where, "-n", str(len(datas)), "--format", "jsonl", "-e", library]
    assert "".join(event["data"] for event in events(succeed(*tail))) == datas


def test_tail_goes_on_after_the_daemon_was_away(store: str) -> None:
    with Daemon(store) as daemon:
        at = ["-e", daemon.endpoints["incoming"]]
        succeed("append", "s", "--data", "1", *at)
        with running("tail", "--after", "0", "--format", "jsonl", *at) as tail:
            assert next_events(tail, 1)[0]["data"] == "1"
            daemon.restart()
            succeed("append", "s", "--data", "2", *at)
            assert next_events(tail, 1)[0]["data"] == "2"


def test_tail_notices_that_nobody_reads_a_quiet_feed(library: str) -> None:
    with running("tail", "--after", "5", "-e", library) as tail:
        assert tail.stdout is not None and tail.stderr is not None
        tail.stdout.readline()
        tail.stdout.close()
        assert (tail.wait(PATIENCE_S), tail.stderr.read()) == (0, b"")


def test_ctrl_c_ends_tail_with_130_and_no_word(library: str) -> None:
    with running("tail", "--after", "5", "-e", library) as tail:
        assert tail.stdout is not None and tail.stderr is not None
        tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        assert (tail.wait(PATIENCE_S), tail.stderr.read()) == (130, b"")


def test_an_unknown_event_is_refused(at: list[str]) -> None:
    fail(1, "show", str(uuid.uuid4()), *at)
    assert "no event is at position" in fail(1, "show", str(2**62), *at)
