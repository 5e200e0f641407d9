"""``rewind read``, ``tail`` and ``show``: which events are printed, and how."""

from __future__ import annotations

import select
import signal
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from appends import event as stored_event
from appends import store_unchecked
from damage import break_event
from hostile import unprintable
from shell import PATIENCE_S, events, eventually, fail, next_events, run, running, succeed

import rewind
from rewind import NewEvent
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"


@pytest.mark.parametrize("command", ["read", "tail"])
def test_a_stream_without_its_option_is_refused_with_what_to_write(command: str) -> None:
    assert "unexpected argument 'a-1': a stream is given with --stream" in fail(2, command, "a-1")


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
        (["--prefix", "a"], "1236"),
        (["--type", "y", "--type", "z"], "236"),
        (["--tag", "t"], "23"),
        (["--tag", "t", "--tag", "u"], "3"),
        (["--since", "1h"], "123456"),
        (["--since", "2999-01-01T00:00:00Z"], ""),
        (["-s", "b", "--tag", "u", "--type", "x", "--since", "1w"], "5"),
        (["--category", "a"], "1236"),
        (["--category", "b", "--category", "a", "--tag", "u"], "35"),
        (["--query", "type=y type=z"], "236"),
        (["--query", "tag=t tag=u"], "3"),
        (["--query", "tag=t", "--query", "stream=b type=x"], "2345"),
        (["--query", "category=a type=z", "--backwards", "-n", "1"], "6"),
        (["--query", "tag=u", "--after", "3", "--until", "5"], "5"),
        (["--query", "type=x", "--since", "2999-01-01"], ""),
        (["--query", "stream=a-1", "--query", "stream=b", "--after", "1"], "2456"),
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


def test_a_variable_has_an_item_of_a_query_a_line(library: str) -> None:
    env = {"REWIND_READ_QUERY": "type=x tag=u\n\ntag=t type=y\n"}
    lines = succeed("read", "--format", "jsonl", "-e", library, env=env)
    assert "".join(event["data"] for event in events(lines)) == "25"


@pytest.mark.parametrize("now", [[], ["--after", "now"]])
def test_tail_prints_from_now_on_without_a_gap(at: list[str], stream: str, now: list[str]) -> None:
    with rewind.connect(at[1]) as client:
        before = client.append(stream, NewEvent("t", b"old")).last
        with running("tail", *now, "--format", "jsonl", *at) as tail:

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
        (["--category", "a", "--type", "z", "--after", "0"], "36"),
        (["--query", "type=y", "--query", "tag=u", "--after", "0"], "235"),
        (["--query", "tag=u", "--since", "1h"], "35"),
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


# --- what may be misspelt ----------------------------------------------------------


def hint(*arguments: str) -> str:
    """What a command that succeeds and prints nothing says on stderr."""
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (0, b"")
    return done.stderr.decode()


def test_a_stream_that_is_not_there_gets_a_hint_at_those_near(library: str) -> None:
    assert hint("read", "-s", "a-3", "-e", library) == (
        "rewind: there is no stream 'a-3'; near it: 'a-2', 'a-1'\n"
    )
    assert "`rewind streams` lists those there are" in hint("read", "-s", "zzzz", "-e", library)
    assert "no stream begins with 'zz'" in hint("read", "--prefix", "zz", "-e", library)
    assert unprintable(hint("read", "-s", "a-\u202e1", "-e", library)) == []


def test_a_category_that_is_not_there_gets_a_hint(library: str) -> None:
    said = "rewind: no stream is of category 'a-'; `rewind categories` lists those there are\n"
    assert hint("read", "--category", "a-", "-e", library) == said
    assert hint("read", "--category", "a", "--type", "none", "-e", library) == ""


@pytest.mark.parametrize(
    "filters",
    [["-s", "a-1", "--type", "none"], ["-s", "a-1", "--after", "9"], ["--prefix", "a", "--tag", "none"],
     ["-s", "none", "-n", "0"], ["--type", "none"]],
)  # fmt: skip
def test_a_stream_without_such_events_gets_no_hint(library: str, filters: list[str]) -> None:
    assert hint("read", *filters, "-e", library) == ""


def test_tail_of_a_stream_that_is_not_there_says_so_and_waits(at: list[str], stream: str) -> None:
    with running("tail", "-s", stream, "--format", "jsonl", *at) as tail:
        assert tail.stderr is not None
        assert f"there is no stream '{stream}'".encode() in tail.stderr.readline()
        succeed("append", stream, "--data", "first", *at)
        assert next_events(tail, 1)[0]["data"] == "first"


# --- times -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "since", [["2020-01-01"], ["2020-01-01 12:00"], ["2020-01-01", "--local"], ["1h30m"], ["yesterday"]]
)  # fmt: skip
def test_since_takes_the_times_that_people_write(library: str, since: list[str]) -> None:
    for command in (["read"], ["tail", "-n", "6"]):
        assert succeed(*command, "--since", *since, "-e", library).count(b"\n") == 6


def test_local_says_where_a_time_without_a_zone_is(library: str) -> None:
    """The zone is fourteen hours behind: midnight there is long after the events, or before them."""
    third = events(succeed("read", "--format", "jsonl", "-e", library))[2]["recorded_at"]
    here = (datetime.fromisoformat(third[:19]) - timedelta(hours=14)).strftime("%Y-%m-%d %H:%M:%S")
    env = {"TZ": "XYZ14"}
    for order in (["--since", here, "--local"], ["--local", "--since", here]):
        assert succeed("read", *order, "-e", library, env=env).count(b"\n") >= 4
    later = (datetime.fromisoformat(third[:19]) + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M")
    assert succeed("read", "--since", later, "-e", library, env=env) == b""
    assert succeed("read", "--since", f"{later}+05:00", "--local", "-e", library).count(b"\n") == 6


def test_tail_since_a_time_to_come_waits_until_then(at: list[str], stream: str) -> None:
    """What is appended before it is not printed, however late the test is."""
    with rewind.connect(at[1]) as client:
        client.append(stream, NewEvent("t", b"old"))
        since = datetime.now(UTC) + timedelta(seconds=1.5)
        until = ["--since", since.isoformat(), "-n", "1", "-s", stream, "--format", "jsonl", *at]
        with running("tail", *until) as tail:
            while tail.poll() is None:
                client.append(stream, NewEvent("t", b"new"))
            assert tail.stdout is not None
            (event,) = events(tail.stdout.read())
        assert datetime.fromisoformat(event["recorded_at"][:26] + "Z") >= since
        before = next(client.read_stream(stream, after=event["version"] - 2, limit=1))
        assert before.version == 1 or before.recorded_at < since


# --- damage ------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "log"])
def damaged(store: str, request: pytest.FixtureRequest) -> str:
    """A store of forty events in two streams, in turn; the data of the one at position 30 has changed."""
    url = f"{request.param}:{store}"
    with rewind.open(url) as client:
        for n in range(1, 41):
            data = b"the broken one" if n == 30 else b"%d" % n
            client.append(f"s{n % 2}", NewEvent("even" if n % 2 == 0 else "odd", data))
    break_event(Path(store), b"the broken one")
    return url


def numbers(stdout: bytes, name: str = "position") -> list[int]:
    return [event[name] for event in events(stdout)]


@pytest.mark.parametrize(
    ("filters", "positions", "way"),
    [
        ([], range(1, 30), "--after 30"),
        (["--after", "20"], range(21, 30), "--after 30"),
        (["-n", "29"], range(1, 30), ""),
        (["-n", "35"], range(1, 30), "--after 30"),
        (["--until", "29"], range(1, 30), ""),
        (["--after", "30"], range(31, 41), ""),
        (["--backwards"], range(40, 30, -1), "--until 29"),
        (["--backwards", "--until", "29"], range(29, 0, -1), ""),
        (["--type", "even"], range(2, 30, 2), "--after 30"),
        (["-s", "s0"], range(2, 30, 2), "--after 15"),
        (["-s", "s0", "--backwards"], range(40, 30, -2), "--until 14"),
        (["-s", "s1"], range(1, 41, 2), ""),
        (["--query", "type=even"], range(2, 30, 2), "--after 30"),
        (["--query", "type=odd"], range(1, 41, 2), ""),
        (["--category", "s0", "--backwards"], range(40, 30, -2), "--until 29"),
    ],
)
def test_what_is_good_is_read_and_the_way_round_the_damage_is_said(
    damaged: str, filters: list[str], positions: range, way: str
) -> None:
    done = run("read", *filters, "--format", "jsonl", "-e", damaged)
    assert numbers(done.stdout) == list(positions)
    if way:
        assert done.returncode == 65
        assert f"what lies behind it can be read with {way}\n" in done.stderr.decode()
    else:
        assert (done.returncode, done.stderr) == (0, b"")


def test_through_a_daemon_damage_is_read_up_to_and_round_as_well(damaged: str) -> None:
    with Daemon(damaged) as daemon:
        where = ["--format", "jsonl", "-e", daemon.endpoints["incoming"]]
        for command in (["read"], ["tail", "--after", "0"]):
            done = run(*command, *where)
            assert numbers(done.stdout) == list(range(1, 30))
            assert "the store is damaged there" in done.stderr.decode()
            assert "--after 30\n" in done.stderr.decode()
        assert numbers(succeed("read", "--after", "30", *where)) == list(range(31, 41))
