"""The command line as a shell sees it: real processes, real daemons, real stores, exit codes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from raw import Raw

from rewind import NewEvent
from rewind.cli.entry import commands
from rewind.client import blocking as clients
from rewind.daemon.settings import Settings, option, variable
from rewind.testing import Daemon

REWIND = [sys.executable, "-m", "rewind"]
PATIENCE_S = 30.0  # how long a condition may take on a slow machine before a test fails
NOBODY = 65534
EVERY_BYTE = bytes(range(256)) + b"\r\n\x1b[31m\xff"

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("REWIND_")}


def rewind(
    *arguments: str | bytes,
    input: bytes | None = b"",
    env: dict[str, str] | None = None,
    **popen: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; fails when it shows a traceback."""
    done = subprocess.run(
        [*REWIND, *arguments],
        **{"input": input, "capture_output": True, **popen},
        env={**CLEAN, **(env or {})},
        timeout=PATIENCE_S,
    )
    assert b"Traceback" not in (done.stderr or b""), done.stderr.decode()
    return done


def good(*arguments: str | bytes, **options: Any) -> bytes:
    """The stdout of a command that succeeds and has nothing to complain about."""
    done = rewind(*arguments, **options)
    assert (done.returncode, done.stderr) == (0, b"")
    return bytes(done.stdout)


def refused(code: int, *arguments: str | bytes, **options: Any) -> str:
    """The stderr of a command that ends with this exit code and prints nothing."""
    done = rewind(*arguments, **options)
    assert (done.returncode, done.stdout) == (code, b""), done
    return bytes(done.stderr).decode()


@contextlib.contextmanager
def running(
    *arguments: str, env: dict[str, str] | None = None, **popen: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that does not end by itself."""
    process = subprocess.Popen(
        [*REWIND, *arguments],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
        env={**CLEAN, **(env or {})},
        # A shell in the background ignores SIGINT, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition that is about to come true."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.01)
    return value


def events(lines: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.splitlines()]


def without_place(lines: bytes) -> list[dict[str, Any]]:
    places = ("position", "version", "recorded_at")
    return [{k: v for k, v in event.items() if k not in places} for event in events(lines)]


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    """One daemon for the tests that only need one; each uses streams of its own."""
    with Daemon("memory:") as daemon:
        yield daemon


@pytest.fixture
def at(shared: Daemon) -> list[str]:
    return ["-e", shared.endpoints["incoming"]]


@pytest.fixture
def stream() -> str:
    """A name no other test uses."""
    return f"s-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def store(tmp_path: Path) -> str:
    """A path where a store may come to be."""
    return str(tmp_path / "store")


def fill(store: str, stream: str, *made: NewEvent) -> None:
    with clients.open(store) as client:
        client.append(stream, made)


# --- append and show ------------------------------------------------------------


def test_data_comes_back_byte_for_byte(at: list[str], stream: str) -> None:
    said = good("append", stream, *at, input=EVERY_BYTE).decode().split()
    assert said[:3] == [stream, "version", "1"]
    assert good("show", said[-1], "--data", *at) == EVERY_BYTE
    assert good("show", said[4], "--data", *at) == EVERY_BYTE


def test_everything_given_is_in_the_event(at: list[str], stream: str) -> None:
    id = str(uuid.uuid4())
    good("append", stream, "--type", "placed", "--tag", "b", "--tag", "a", "--meta", "by=x=y",
         "--meta", "empty=", "--data", "d\u00e9", "--id", id, *at)  # fmt: skip
    (event,) = events(good("show", id, "--format", "jsonl", *at))
    del event["position"], event["recorded_at"]
    assert event == {
        "id": id, "stream": stream, "version": 1, "type": "placed", "tags": ["b", "a"],
        "metadata": {"by": "x=y", "empty": ""}, "data": "d\u00e9",
    }  # fmt: skip


def test_data_as_an_argument_may_be_any_bytes(at: list[str], stream: str) -> None:
    good("append", stream, "--data", b"\xff\xfe", *at)
    assert good("read", "-s", stream, "--format", "jsonl", *at).endswith(b'"data_base64":"//4="}\n')


def test_an_append_repeated_with_its_id_is_stored_once(at: list[str], stream: str) -> None:
    once = ["append", stream, "--id", str(uuid.uuid4()), "--data", "x", *at]
    first = good(*once)
    assert good(*once) == first.rstrip() + b" (it was stored before)\n"
    assert "known with other content" in refused(1, *once, "--data", "y")


@pytest.mark.parametrize(
    ("expected", "code"), [("none", 0), ("0", 0), ("exists", 1), ("1", 1), ("7", 1)]
)
def test_expected_version_of_a_new_stream(
    at: list[str], stream: str, expected: str, code: int
) -> None:
    done = rewind("append", stream, "--expected-version", expected, *at)
    assert done.returncode == code
    assert (code == 0) or b"expected stream" in done.stderr


@pytest.mark.parametrize(
    ("expected", "code"), [("none", 1), ("0", 1), ("exists", 0), ("1", 0), ("7", 1)]
)
def test_expected_version_of_an_existing_stream(
    at: list[str], stream: str, expected: str, code: int
) -> None:
    good("append", stream, *at)
    done = rewind("append", stream, "--expected-version", expected, *at)
    assert done.returncode == code
    assert (code == 0) or done.stderr.endswith(b"but it is at version 1\n")


@pytest.mark.parametrize(
    "arguments",
    [["append"], ["append", b"\xff"], ["append", "s", "--meta", "novalue"], ["append", "s", "--id", "7"],
     ["append", "s", "--expected-version", "-2"], ["append", "s", "--json", "--type", "t"],
     ["append", "--json", "--expected-version", "1"], ["read", "-n", "-1"], ["read", "-n", "1.5"],
     ["read", "-s", "a", "--prefix", "b"], ["tail", "-s", "a", "--prefix", "b"],
     ["tail", "--after", "1", "--since", "1m"], ["read", "--since", "yesterday"],
     ["read", "--after", str(2**63)], ["read", "--format", "xml"], ["show"], ["show", "no-id"], ["show", "0"],
     ["ping", "--wait", "0"], ["ping", "--wait", "nan"], ["info", "--timeout", "inf"], ["nothing"],
     ["completion", "csh"], ["--no-such-option"], ["--store", "x", "read"], ["serve", "argument"]],
)  # fmt: skip
def test_a_wrong_command_line_is_exit_2(arguments: list[str | bytes]) -> None:
    assert "Error: " in refused(2, *arguments)


@pytest.mark.parametrize("name", ["", "$reserved", "x" * 256, "a\nb"])
def test_a_stream_that_cannot_be_is_refused(at: list[str], name: str) -> None:
    assert refused(1, "append", name, *at).startswith("rewind: ")


def test_more_than_any_event_may_hold_is_refused_without_reading_it_all(
    at: list[str], stream: str
) -> None:
    with open("/dev/zero", "rb") as endless:
        assert "too much for one event" in refused(
            1, "append", stream, *at, input=None, stdin=endless
        )


def test_an_unknown_event_is_refused(at: list[str]) -> None:
    refused(1, "show", str(uuid.uuid4()), *at)
    assert "no event is at position" in refused(1, "show", str(2**62), *at)


# --- JSON lines -------------------------------------------------------------------


def test_json_lines_carry_any_event_from_store_to_store(store: str, tmp_path: Path) -> None:
    hostile = "\x00\x1b]0;x\x07\x7f\x9b31m\u202e\u2028"
    datas = [b"", b"text", EVERY_BYTE, hostile.encode(), b"\xed\xa0\x80", "\U0001f600".encode()]
    made = [
        NewEvent(hostile, data, tags=[hostile, "t"], metadata={hostile: [hostile, {"f": 1.0}]})
        for data in datas
    ]
    with clients.open(store) as client:
        client.append_streams([(f"stream {n % 2} \u202e", event) for n, event in enumerate(made)])
    lines = good("read", "--format", "jsonl", "-e", store)
    assert not [c for c in lines.decode() if c != "\n" and (c < " " or "\x7f" <= c < "\xa0")]
    copy = f"sqlite:{tmp_path / 'copy'}"
    assert b"6 events appended" in good("append", "--json", "-e", copy, input=lines)
    again = good("read", "--format", "jsonl", "-e", copy)
    assert without_place(again) == without_place(lines)
    with clients.open(copy) as client:
        assert [event.data for event in client.read()] == datas
    said = good("append", "--json", "-e", copy, input=lines)
    assert said == b"0 events appended; 6 were stored before\n"


def test_a_lines_own_stream_wins_over_the_argument(at: list[str], stream: str) -> None:
    lines = b'{"data":"1"}\n{"stream":"%s-own","data":"2"}\n' % stream.encode()
    good("append", stream, "--json", *at, input=lines)
    listed = good("streams", stream, *at).split()
    assert listed == [b"1", stream.encode(), b"1", f"{stream}-own".encode()]


def test_a_bad_line_is_named_and_what_was_stored_is_said(at: list[str], stream: str) -> None:
    lines = b'{"data":"1"}\n{"data":"2"}\n\n{"dta":"3"}\n{"data":"4"}\n'
    said = refused(1, "append", stream, "--json", *at, input=lines)
    assert "2 events appended" in said and "up to line 2" in said
    assert "line 4: not an event in JSON: Object contains unknown field `dta`" in said
    assert len(events(good("read", "-s", stream, "--format", "jsonl", *at))) == 2


def test_expected_version_follows_on_over_a_long_import(at: list[str], stream: str) -> None:
    lines = b"".join(b'{"data":"%d"}\n' % n for n in range(1_300))
    import_it = ["append", stream, "--json", "--expected-version", "none", *at]
    assert good(*import_it, input=lines).startswith(b"1300 events appended")
    assert "0 events appended" in refused(1, *import_it, input=lines)


def test_a_daemons_own_bound_on_an_event_names_the_line(store: str) -> None:
    with Daemon(store, "--max-event-bytes", "10") as daemon:
        said = refused(1, "append", "s", "--json", "-e", daemon.endpoints["incoming"],
                       input=b'{"data":"short"}\n{"data":"much longer"}\n')  # fmt: skip
    assert "line 2: data has 11 bytes; at most 10 are allowed" in said


# --- read, tail, streams ------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store of six events that nobody writes to."""
    store = str(tmp_path_factory.mktemp("library") / "store")
    with clients.open(store) as client:
        client.append("a-1", [NewEvent("x", b"1"), NewEvent("y", b"2", tags=["t"])])
        client.append("a-2", NewEvent("z", b"3", tags=["t", "u"]))
        client.append("b", [NewEvent("x", b"4"), NewEvent("x", b"5", tags=["u"])])
        client.append("a-1", NewEvent("z", b"6"))
    return store


@pytest.mark.parametrize(
    ("filters", "found"),
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
def test_read_prints_what_its_filters_ask_for(library: str, filters: list[str], found: str) -> None:
    lines = good("read", *filters, "--format", "jsonl", "-e", library)
    assert "".join(event["data"] for event in events(lines)) == found


def test_a_printed_time_can_be_given_to_since(library: str) -> None:
    fourth = events(good("read", "--format", "jsonl", "-e", library))[3]["recorded_at"]
    lines = good("read", "--since", fourth, "-e", library, "--format", "jsonl")
    assert "".join(event["data"] for event in events(lines)) in (
        "456",
        "3456",
    )  # of one time perhaps


def test_text_is_a_line_an_event_and_never_an_escape_sequence(store: str) -> None:
    fill(store, "s", NewEvent("t\x1b[2J", b"\x1b]0;owned\x07\xff\nline", tags=["\x9b31m"]))
    text = good("read", "-e", store).decode()
    assert text.count("\n") == 1 and text.rstrip("\n").isprintable()
    assert "\\x1b]0;owned\\x07\\xff\\nline" in text
    assert all(line.isprintable() for line in good("show", "1", "-e", store).decode().split("\n"))


def test_text_is_printed_on_a_terminal_that_knows_no_unicode(store: str) -> None:
    fill(store, "s", NewEvent("caf\u00e9", "\u4f60".encode()))
    text = good("read", "-e", store, env={"PYTHONIOENCODING": "ascii"})
    assert b"caf\\xe9" in text and b"\\u4f60" in text


def test_streams_are_listed_with_their_versions_in_order(library: str) -> None:
    assert good("streams", "-e", library) == b"       3  a-1\n       1  a-2\n       2  b\n"
    assert good("streams", "a-2", "--format", "jsonl", "-e", library) == (
        b'{"stream":"a-2","version":1}\n'
    )


def first_lines(process: subprocess.Popen[bytes], count: int) -> list[dict[str, Any]]:
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]


def test_tail_prints_from_now_on_without_a_gap(at: list[str], stream: str) -> None:
    with clients.connect(at[1]) as client:
        before = client.append(stream, NewEvent("t", b"old")).last
        with running("tail", "--format", "jsonl", *at) as tail:

            def printed() -> bool:
                client.append(stream, NewEvent("t", b"new"))
                return bool(select.select([tail.stdout], [], [], 0.02)[0])

            eventually(printed)
            positions = [event["position"] for event in first_lines(tail, 1)]
            client.append(stream, NewEvent("t", b"last"))
            while positions[-1] < client.head():
                positions += [event["position"] for event in first_lines(tail, 1)]
            assert positions[0] > before
            assert positions == list(range(positions[0], positions[-1] + 1))


@pytest.mark.parametrize(
    ("where", "found"),
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
def test_tail_begins_where_it_is_told(library: str, where: list[str], found: str) -> None:
    tail = ["tail", *where, "-n", str(len(found)), "--format", "jsonl", "-e", library]
    assert "".join(event["data"] for event in events(good(*tail))) == found


def test_tail_goes_on_after_the_daemon_was_away(store: str) -> None:
    with Daemon(store) as daemon:
        at = ["-e", daemon.endpoints["incoming"]]
        good("append", "s", "--data", "1", *at)
        with running("tail", "--after", "0", "--format", "jsonl", *at) as tail:
            assert first_lines(tail, 1)[0]["data"] == "1"
            daemon.restart()
            good("append", "s", "--data", "2", *at)
            assert first_lines(tail, 1)[0]["data"] == "2"


# --- info, ping, completion, demo -----------------------------------------------------


def test_info_tells_store_head_durability_endpoints_and_limits(
    shared: Daemon, at: list[str]
) -> None:
    told = json.loads(good("info", "--format", "json", *at))
    assert told["durability"] == told["backend"] == "memory"
    assert told["endpoints"]["incoming"] == [shared.endpoints["incoming"]]
    assert told["limits"]["event_bytes"] == Settings().max_event_bytes
    text = good("info", *at).decode()
    for word in (told["store_id"], shared.endpoints["topic"], "memory", "durability", "4194304"):
        assert word in text


def test_ping_answers(at: list[str]) -> None:
    assert f"{at[1]} answers in " in good("ping", *at).decode()


def test_ping_waits_for_a_daemon_that_comes_later(tmp_path: Path) -> None:
    endpoint = f"ipc://{tmp_path / 'later'}"
    with running("ping", "--wait", str(PATIENCE_S), "-e", endpoint) as ping:
        assert ping.poll() is None
        with running("--store", "memory:", "--incoming-bind", endpoint, "--streaming-bind", "",
                     "--topic-bind", "", stdin=None, stderr=subprocess.DEVNULL):  # fmt: skip
            assert ping.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(shell: str) -> None:
    assert f"_REWIND_COMPLETE={shell}_complete" in good("completion", shell).decode()


def test_completion_completes() -> None:
    asked = {"_REWIND_COMPLETE": "bash_complete", "COMP_WORDS": "rewind re", "COMP_CWORD": "1"}
    assert good(env=asked) == b"plain,read\n"
    asked["COMP_WORDS"] = "rewind serve --inc"
    assert good(env={**asked, "COMP_CWORD": "2"}) == b"plain,--incoming-bind\n"


def test_version_is_not_taken_from_a_variable() -> None:
    assert good("--version", env={"REWIND_VERSION": "0.3"}).startswith(b"rewind ")
    assert "Error" not in refused(69, "ping", "--wait", "0.05", "-e", "ipc:///nowhere",
                                  env={"REWIND_VERSION": "0.3", "REWIND_HOME": "/x"})  # fmt: skip


# --- when there is no daemon, or no store ------------------------------------------------

CLIENT_COMMANDS = [["append", "s"], ["append", "--json"], ["read"], ["tail"], ["tail", "--after", "0"],
                   ["show", "1"], ["streams"], ["info"]]  # fmt: skip


@pytest.fixture(scope="module")
def nobody_there() -> Iterator[str]:
    """An endpoint with a listener behind it that never answers."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"tcp://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("command", CLIENT_COMMANDS, ids=" ".join)
def test_an_absent_daemon_is_exit_69_and_says_what_to_try(
    nobody_there: str, command: list[str]
) -> None:
    said = refused(69, *command, "-e", nobody_there, "--timeout", "0.2", input=b'{"stream":"s"}')
    assert nobody_there in said and "start a daemon with `rewind`" in said


def test_ping_gives_up_after_its_wait(nobody_there: str) -> None:
    assert nobody_there in refused(69, "ping", "-e", nobody_there, "--wait", "0.2")


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://", "tcp://:1", "tcp://host", "http://host:1", "localhost:9090", "bad:path", ""],
)
def test_what_is_no_endpoint_is_exit_78(endpoint: str) -> None:
    assert refused(78, "info", "-e", endpoint).startswith("rewind: ")


def test_only_append_creates_a_store(store: str) -> None:
    assert "holds no store" in refused(65, "read", "-e", store)
    assert "holds no store" in refused(65, "info", "-e", f"sqlite:{store}")
    assert not Path(store).exists()
    good("append", "s", "-e", store)
    assert Path(store).exists()


def test_a_command_on_a_locked_store_names_its_owner(store: str) -> None:
    with Daemon(store) as daemon:
        assert f"in use by pid {daemon.process.pid} " in refused(75, "read", "-e", store)


def test_a_mistake_of_ours_is_exit_70_with_a_traceback_and_a_word(at: list[str]) -> None:
    code = "import rewind.client.blocking, rewind.cli; rewind.client.blocking.Client.info = None; rewind.cli.main()"
    done = subprocess.run([sys.executable, "-c", code, "info", *at], capture_output=True, env=CLEAN)
    assert done.returncode == 70
    assert b"Traceback" in done.stderr and b"please report it" in done.stderr


# --- stdout, Ctrl-C and terminals ----------------------------------------------------------


@pytest.mark.parametrize(
    "command", [["--help"], ["read"], ["read", "--format", "jsonl"], ["streams"], ["show", "1", "--data"]]
)  # fmt: skip
def test_a_closed_stdout_is_quiet_success(
    tmp_path_factory: pytest.TempPathFactory, command: list[str]
) -> None:
    store = str(tmp_path_factory.mktemp("closed") / "store")
    with clients.open(store) as client:
        for n in range(200):
            client.append(f"s{n}", NewEvent("t", b"x" * 2000))
    reading, writing = os.pipe()
    os.close(reading)
    at = [] if command == ["--help"] else ["-e", store]
    done = rewind(*command, *at, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_stdout_closed_from_the_start_harms_no_store(store: str) -> None:
    script = 'for n in 1 2 3; do "$@" >&- || exit; done'
    append = [*REWIND, "append", "s", "--data", "x", "-e", store]
    subprocess.run(["sh", "-c", script, "sh", *append], check=True, env=CLEAN)
    assert len(events(good("read", "--format", "jsonl", "-e", store))) == 3


def test_tail_notices_that_nobody_reads_a_quiet_feed(library: str) -> None:
    with running("tail", "--after", "5", "-e", library) as tail:
        assert tail.stdout is not None and tail.stderr is not None
        tail.stdout.readline()
        tail.stdout.close()
        assert (tail.wait(PATIENCE_S), tail.stderr.read()) == (0, b"")


def test_a_full_disk_behind_stdout_is_exit_74(library: str) -> None:
    with open("/dev/full", "wb") as full:
        done = rewind(
            "read", "-e", library, capture_output=False, stdout=full, stderr=subprocess.PIPE
        )
    assert (done.returncode, done.stderr) == (
        74,
        b"rewind: cannot read or write: No space left on device\n",
    )


def test_ctrl_c_ends_tail_with_130_and_no_word(library: str) -> None:
    with running("tail", "--after", "5", "-e", library) as tail:
        assert tail.stdout is not None and tail.stderr is not None
        tail.stdout.readline()
        tail.send_signal(signal.SIGINT)
        assert (tail.wait(PATIENCE_S), tail.stderr.read()) == (130, b"")


def test_ctrl_c_ends_an_import_with_130_and_says_how_far_it_came(
    at: list[str], stream: str
) -> None:
    with running("append", stream, "--json", *at) as append, clients.connect(at[1]) as client:
        assert append.stdin is not None and append.stderr is not None
        for number in (1, 2):
            append.stdin.write(b'{"data":"x"}\n')
            append.stdin.flush()
            eventually(lambda number=number: len(list(client.read_stream(stream))) == number)
        append.send_signal(signal.SIGINT)
        assert append.wait(PATIENCE_S) == 130
        said = append.stderr.read().decode()
        # The second is stored, but its answer may have come too late to be counted.
        assert re.search(r"([12]) events appended, .*, up to line \1\n", said), said
        assert "Traceback" not in said


def on_terminal(arguments: Sequence[str], typed: bytes = b"", **popen: Any) -> tuple[int, bytes]:
    """Exit code, and what a command shows on the terminal that is its stderr (and stdin, if typed)."""
    master, slave = pty.openpty()
    stdin = {"stdin": slave} if typed else {}
    process = subprocess.Popen(
        [*REWIND, *arguments], **{**stdin, **popen}, stdout=subprocess.PIPE, stderr=slave, env=CLEAN
    )
    os.close(slave)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the last process has closed the terminal
        while piece := os.read(master, 4096):
            shown += piece
            if typed and b"Ctrl-D" in shown:
                os.write(master, typed)
                typed = b""
    os.close(master)
    process.communicate()
    return process.returncode, shown


def test_progress_is_shown_on_a_terminal_and_cleared(
    at: list[str], stream: str, tmp_path: Path
) -> None:
    path = tmp_path / "lines"
    path.write_text("".join(f'{{"data":"{n}"}}\n' for n in range(2000)))
    with open(path, "rb") as lines:
        code, shown = on_terminal(["append", stream, "--json", *at], stdin=lines)
    assert code == 0
    assert b"500 events, 2" in shown and b" %" in shown
    assert shown.endswith(b"\r" + b" " * 40 + b"\r")


def test_progress_is_shown_nowhere_else(at: list[str], stream: str) -> None:
    lines = b"".join(b'{"data":"%d"}\n' % n for n in range(2000))
    done = rewind("append", stream, "--json", *at, input=lines)
    assert (done.returncode, done.stderr) == (0, b"")


def test_typing_at_a_terminal_is_announced(at: list[str], stream: str) -> None:
    code, shown = on_terminal(["append", stream, *at], typed=b"typed\n\x04")
    assert code == 0 and b"until Ctrl-D" in shown
    assert good("read", "-s", stream, *at).rstrip().endswith(b"typed\\n")


# --- the daemon: starting -----------------------------------------------------------------


def starting(*options: str, code: str = "", **more: Any) -> subprocess.CompletedProcess[bytes]:
    """Start a daemon that cannot start."""
    binds = {"--incoming-bind": "tcp://127.0.0.1:*", "--streaming-bind": "", "--topic-bind": ""}
    given = [part for pair in binds.items() if pair[0] not in options for part in pair]
    command = [sys.executable, "-c", code] if code else REWIND
    env = {**CLEAN, **more.pop("env", {})}
    return subprocess.run(
        [*command, "serve", *given, *options],
        capture_output=True,
        env=env,
        timeout=PATIENCE_S,
        **more,
    )


def fails(code: int, said: str, done: subprocess.CompletedProcess[bytes]) -> None:
    assert done.returncode == code, done
    assert said in done.stderr.decode() and done.stderr.count(b"\n") == 1, done.stderr.decode()


def test_an_endpoint_in_use_is_exit_71(shared: Daemon, tmp_path: Path) -> None:
    used = shared.endpoints["incoming"]
    fails(71, used, starting("--store", "memory:", "--incoming-bind", used))
    fails(71, used, starting("--store", "memory:", "--topic-bind", used))
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        fails(71, path, starting("--store", "memory:", "--incoming-bind", f"ipc://{path}"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            ["--incoming-bind", "tcp://127.0.0.1"],
            "--incoming-bind=tcp://127.0.0.1: not an endpoint",
        ),
        (["--incoming-bind", "127.0.0.1:9090"], "not an endpoint"),
        (
            ["--topic-bind", "tcp://127.0.0.1:99999"],
            "--topic-bind=tcp://127.0.0.1:99999: a port is",
        ),
        (["--incoming-bind", ""], "--incoming-bind is empty"),
        (["--gorewind-bind", "ipc://"], "ipc:// takes a path"),
        (["--incoming-bind", "tcp://0.0.0.0:*"], "add --insecure"),
        (["--streaming-bind", "tcp://*:*"], "add --insecure"),
        (["--store", "mongo:x"], "unknown scheme 'mongo'"),
        (["--store", ""], "--store is empty"),
        (["--store", "sqlite:"], "no path"),
        (["--max-event-bytes", "many"], "--max-event-bytes=many: not a whole number"),
        (["--max-event-bytes", "0"], "--max-event-bytes=0: 1 to"),
        (["--feed-messages", "-1"], "--feed-messages=-1"),
        (["--log-level", "loud"], "--log-level=loud: choose one of"),
    ],
)
def test_a_wrong_setting_is_exit_78_and_named(
    tmp_path: Path, options: list[str], said: str
) -> None:
    fails(78, said, starting(*options, cwd=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_variable_is_exit_78_and_named() -> None:
    wrong = {"REWIND_LOG_LEVEL": "loud", "REWIND_STORE": "memory:"}
    fails(78, "REWIND_LOG_LEVEL=loud", starting(env=wrong))
    wrong = {"REWIND_INSECURE": "perhaps", "REWIND_STORE": "memory:"}
    fails(78, "REWIND_INSECURE=perhaps", starting(env=wrong))


def test_a_locked_store_is_exit_75_and_names_its_owner(store: str) -> None:
    with Daemon(store) as daemon:
        fails(75, f"in use by pid {daemon.process.pid} ", starting("--store", store))


def test_a_missing_parent_is_exit_73(tmp_path: Path) -> None:
    fails(73, "parent directory does not exist", starting("--store", str(tmp_path / "a" / "b")))


def test_a_damaged_store_is_exit_65(store: str) -> None:
    fill(store, "s", NewEvent("t"))
    (Path(store) / "rewind.json").write_text("{")
    fails(65, "is damaged", starting("--store", store))
    assert "is damaged" in refused(65, "read", "-e", store)


def test_a_store_whose_files_are_gone_is_exit_65(store: str) -> None:
    fill(f"sqlite:{store}", "s", NewEvent("t"))
    for path in Path(store).glob("events.sqlite*"):
        path.unlink()
    fails(65, "", starting("--store", store))


def test_a_foreign_path_is_exit_65_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    fails(65, "no Rewind store but other files", starting("--store", str(tmp_path)))
    fails(65, "is a file", starting("--store", str(tmp_path / "precious")))
    assert os.listdir(tmp_path) == ["precious"]


def test_another_scheme_or_a_newer_format_is_exit_65(store: str) -> None:
    fill(f"sqlite:{store}", "s", NewEvent("t"))
    fails(65, "scheme 'sqlite', not 'log'", starting("--store", f"log:{store}"))
    identity = Path(store) / "rewind.json"
    identity.write_text(json.dumps({**json.loads(identity.read_text()), "format": 99}))
    fails(65, "format 99, newer", starting("--store", store))


AS_NOBODY = f"""
import os, sys, rewind.daemon.process, rewind.backends.sqlite, rewind.cli
if os.getuid() == 0:
    os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
rewind.cli.main()
"""


@pytest.fixture
def unwritable() -> Iterator[Path]:
    """A directory that others than root can look into, but not write to."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        (path / "store").mkdir(0o700)
        path.chmod(0o555)
        yield path
        path.chmod(0o755)


def test_what_the_system_does_not_permit_is_exit_77(unwritable: Path) -> None:
    new = f"sqlite:{unwritable / 'new'}"
    fails(77, "Permission denied", starting("--store", new, code=AS_NOBODY, cwd="/"))
    endpoint = f"ipc://{unwritable / 'socket'}"
    fails(77, "Permission denied",
          starting("--store", "memory:", "--incoming-bind", endpoint, code=AS_NOBODY, cwd="/"))  # fmt: skip


@pytest.mark.skipif(os.getuid() != 0, reason="needs a store of another user's")
def test_a_store_of_another_user_is_exit_77(unwritable: Path) -> None:
    store = f"sqlite:{unwritable / 'store'}"
    fill(store, "s", NewEvent("t"))
    fails(77, "Permission denied", starting("--store", store, code=AS_NOBODY, cwd="/"))


WITHOUT_PLYVEL = "import sys; sys.modules['plyvel'] = None; import rewind.cli; rewind.cli.main()"


def test_without_plyvel_its_scheme_is_exit_78_and_says_what_to_do(store: str) -> None:
    done = starting("--store", f"leveldb:{store}", code=WITHOUT_PLYVEL)
    fails(78, "needs the Python package 'plyvel'", done)
    assert not Path(store).exists()


def test_without_plyvel_the_default_store_is_sqlite(store: str) -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PLYVEL, "append", "s", "-e", store],
                          input=b"", check=True, env=CLEAN)  # fmt: skip
    assert done.returncode == 0
    assert json.loads((Path(store) / "rewind.json").read_text())["scheme"] == "sqlite"


# --- the daemon: settings --------------------------------------------------------------------


@contextlib.contextmanager
def ready(*options: str, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A daemon and its ready line; without any option unless given."""
    with running(*options, env=env, stdin=None) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if b" ready " in line or process.poll())
        yield process, line.decode()


def test_rewind_alone_runs_the_daemon_with_the_settings_in_its_environment(store: str) -> None:
    env = {
        "REWIND_STORE": f"sqlite:{store}",
        "REWIND_INCOMING_BIND": "tcp://127.0.0.1:* tcp://127.0.0.1:*",
        "REWIND_STREAMING_BIND": "",
        "REWIND_TOPIC_BIND": "tcp://127.0.0.1:*",
        "REWIND_MAX_EVENT_BYTES": "1000",
    }
    with ready(env=env) as (_, line):
        assert f"store=sqlite:{store}" in line and "streaming" not in line
        incoming = line.partition("incoming=")[2].split()[0].split(",")
        assert len(incoming) == 2
        for endpoint in incoming:
            limits = json.loads(good("info", "--format", "json", "-e", endpoint))["limits"]
            assert limits["event_bytes"] == 1000


def test_an_option_beats_its_variable(store: str) -> None:
    env = {
        "REWIND_STORE": "unknown-scheme:x",
        "REWIND_INCOMING_BIND": "nonsense",
        "REWIND_TOPIC_BIND": "tcp://127.0.0.1:*",
        "REWIND_STREAMING_BIND": "nonsense",
        "REWIND_INSECURE": "0",
    }
    options = ["--store", f"sqlite:{store}", "--incoming-bind", "tcp://127.0.0.1:*",
               "--streaming-bind", "", "--topic-bind", "tcp://127.0.0.1:*", "--topic-bind",
               "tcp://127.0.0.1:*", "--insecure"]  # fmt: skip
    with ready(*options, env=env) as (_, line):
        assert "streaming=" not in line
        assert line.partition("topic=")[2].split()[0].count("tcp://") == 2
        endpoint = line.partition("incoming=")[2].split()[0]
        assert json.loads(good("info", "--format", "json", "-e", endpoint))["insecure"] is True


def test_serve_takes_options_on_either_side_of_its_name(store: str) -> None:
    env = {"REWIND_STREAMING_BIND": "", "REWIND_TOPIC_BIND": ""}
    options = ["--store", "memory:", "--incoming-bind", "tcp://127.0.0.1:*", "serve", "--store",
               f"sqlite:{store}"]  # fmt: skip
    with ready(*options, env=env) as (_, line):
        assert f"store=sqlite:{store}" in line


def test_client_options_come_from_the_environment_unless_given(
    at: list[str], stream: str, nobody_there: str
) -> None:
    env = {"REWIND_ENDPOINT": at[1], "REWIND_READ_FORMAT": "jsonl", "REWIND_READ_TYPE": "a b",
           "REWIND_APPEND_TYPE": "b"}  # fmt: skip
    good("append", stream, env=env)
    good("append", stream, "--type", "c", env=env)
    assert [event["type"] for event in events(good("read", "-s", stream, env=env))] == ["b"]
    assert good("read", "-s", stream, "--type", "c", "--format", "text", env=env).count(b"\n") == 1
    absent = {"REWIND_ENDPOINT": nobody_there, "REWIND_TIMEOUT": "0.1"}
    refused(69, "info", env=absent)
    good("info", *at, "--timeout", "20", env=absent)
    refused(2, "read", env={"REWIND_READ_LIMIT": "few"})


# --- the daemon: ending -----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_with_0(store: str, number: signal.Signals) -> None:
    with ready("--store", store, "--incoming-bind", "tcp://127.0.0.1:*", "--streaming-bind", "",
               "--topic-bind", "", env={}) as (process, _):  # fmt: skip
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr is not None and b"stopped at head 0" in process.stderr.read()


def test_sigterm_under_steady_load_is_0_and_keeps_what_was_acknowledged(store: str) -> None:
    acknowledged = [0, 0, 0]
    with Daemon(store) as daemon:

        def load(writer: int) -> None:
            where = daemon.endpoints["incoming"]
            with Raw(where, timeout_ms=3_000) as raw, contextlib.suppress(zmq.Again, KeyError):
                while True:
                    acknowledged[writer] = raw.append((f"w{writer}", b"x"))["versions"][
                        f"w{writer}"
                    ]

        writers = [threading.Thread(target=load, args=(n,)) for n in range(3)]
        for writer in writers:
            writer.start()
        eventually(lambda: min(acknowledged) >= 20)
        assert daemon.stop() == 0
        for writer in writers:
            writer.join()
    stored = {
        line.split()[1]: int(line.split()[0])
        for line in good("streams", "-e", store).decode().splitlines()
    }
    assert all(stored[f"w{n}"] >= acknowledged[n] for n in range(3))


def test_sigterm_is_noticed_while_connections_come_and_go() -> None:
    # A signal that arrived inside ZeroMQ was once kept waiting for the next message.
    ended = threading.Event()
    endpoint = ["tcp://127.0.0.1:1"]

    def come_and_go() -> None:
        while not ended.is_set():
            with Raw(endpoint[0]):
                ended.wait(0.001)

    churn = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in churn:
        thread.start()
    try:
        for _ in range(20):
            with Daemon("memory:", "--streaming-bind", "", "--topic-bind", "") as daemon:
                endpoint[0] = daemon.endpoints["incoming"]
                with Raw(endpoint[0]) as raw:
                    raw.native("INFO")
                assert daemon.stop() == 0
    finally:
        ended.set()
        for thread in churn:
            thread.join()


def test_a_second_signal_ends_a_slow_ending_at_once(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(notify := str(tmp_path / "notify"))
        systemd.settimeout(PATIENCE_S)
        with (
            Daemon("memory:", env={"NOTIFY_SOCKET": notify}) as daemon,
            Raw(daemon.endpoints["incoming"]) as raw,
        ):
            raw.socket.rcvhwm = 1
            raw.socket.disconnect(daemon.endpoints["incoming"])
            raw.socket.connect(daemon.endpoints["incoming"])
            for _ in range(8):
                raw.append(("s", b"x" * 2_000_000))
            body = msgspec.msgpack.encode({"max_bytes": 8 * 1024 * 1024})
            for _ in range(64):  # answers nobody takes: the ending waits a second for them
                raw.send(b"READ", b"r", body)
            raw.recv()  # the others are right behind the first
            assert systemd.recv(100) == b"READY=1"
            daemon.process.send_signal(signal.SIGTERM)
            assert systemd.recv(100) == b"STOPPING=1"
            assert daemon.stop() == 128 + signal.SIGTERM


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told_ready_and_stopping(tmp_path: Path, abstract: bool) -> None:
    name = f"rewind-{uuid.uuid4()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("\0" + name if abstract else name)
        systemd.settimeout(PATIENCE_S)
        with Daemon("memory:", env={"NOTIFY_SOCKET": ("@" if abstract else "") + name}) as daemon:
            assert systemd.recv(100) == b"READY=1"
            assert daemon.stop() == 0
            assert systemd.recv(100) == b"STOPPING=1"


# --- what every command has in common ----------------------------------------------------------


def test_help_is_answered_without_zeromq_or_a_driver() -> None:
    code = ("import sys, rewind.cli, atexit; atexit.register(lambda: print(*sys.modules, sep='\\n'));"
            " rewind.cli.main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=True)
    loaded = set(done.stdout.decode().splitlines())
    assert "rewind.cli.read" in loaded
    assert not loaded & {
        "zmq",
        "plyvel",
        "sqlite3",
        "asyncio",
        "rewind.client.blocking",
        "rewind.daemon.server",
    }


@pytest.mark.parametrize("command", [[], *([name] for name in commands.commands)], ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    text = good(*command, "--help").decode()
    assert text.startswith("Usage: rewind")
    assert max(map(len, text.splitlines())) <= 80


def test_every_setting_is_an_option_with_its_variable_and_default() -> None:
    for command in ([], ["serve"]):
        text = " ".join(good(*command, "--help").decode().split())
        for name in Settings.__struct_fields__:
            assert f"{option(name)} " in text and variable(name) in text
            default = getattr(Settings(), name)
            if name != "insecure":
                shown = " ".join(default) if isinstance(default, tuple) else default
                assert f"default: {shown or 'off'}" in text


def test_the_lock_of_a_store_is_free_after_a_command(store: str) -> None:
    good("append", "s", "-e", store)
    with open(Path(store) / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
