"""``rewind append``: one event, or JSON lines, as a shell sees it."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from conftest import DURABLE
from hostile import unprintable
from shell import PATIENCE_S, events, eventually, fail, run, running, succeed

import rewind
from rewind import NewEvent
from rewind.testing import Daemon

pytest_plugins = "cli_fixtures"

EVERY_BYTE = bytes(range(256)) + b"\r\n\x1b[31m\xff"


def test_data_comes_back_byte_for_byte(at: list[str], stream: str) -> None:
    said = succeed("append", stream, *at, input=EVERY_BYTE).decode().split()
    assert said[:3] == [stream, "version", "1"]
    assert succeed("show", said[-1], "--data", *at) == EVERY_BYTE
    assert succeed("show", said[4], "--data", *at) == EVERY_BYTE


def test_everything_given_is_in_the_event(at: list[str], stream: str) -> None:
    id = str(uuid.uuid4())
    succeed("append", stream, "--type", "placed", "--tag", "b", "--tag", "a", "--meta", "by=x=y",
            "--meta", "empty=", "--data", "d\u00e9", "--id", id, *at)  # fmt: skip
    (event,) = events(succeed("show", id, "--format", "jsonl", *at))
    del event["position"], event["recorded_at"]
    assert event == {
        "id": id, "stream": stream, "version": 1, "type": "placed", "tags": ["b", "a"],
        "metadata": {"by": "x=y", "empty": ""}, "data": "d\u00e9",
    }  # fmt: skip


def test_data_as_an_argument_may_be_any_bytes(at: list[str], stream: str) -> None:
    succeed("append", stream, "--data", b"\xff\xfe", *at)
    assert succeed("read", "-s", stream, "--format", "jsonl", *at).endswith(
        b'"data_base64":"//4="}\n'
    )


def test_an_append_repeated_with_its_id_is_stored_once(at: list[str], stream: str) -> None:
    once = ["append", stream, "--id", str(uuid.uuid4()), "--data", "x", *at]
    first = succeed(*once)
    assert succeed(*once) == first.rstrip() + b" (it was stored before)\n"
    assert "known with other content" in fail(
        1, *(argument if argument != "x" else "y" for argument in once)
    )


@pytest.mark.parametrize(
    ("expected", "code"), [("none", 0), ("0", 0), ("exists", 1), ("1", 1), ("7", 1)]
)
def test_expected_version_of_a_new_stream(
    at: list[str], stream: str, expected: str, code: int
) -> None:
    done = run("append", stream, "--data", "", "--expected-version", expected, *at)
    assert done.returncode == code
    assert (code == 0) or b"there is no stream" in done.stderr


@pytest.mark.parametrize(
    ("expected", "code"), [("none", 1), ("0", 1), ("exists", 0), ("1", 0), ("7", 1)]
)
def test_expected_version_of_an_existing_stream(
    at: list[str], stream: str, expected: str, code: int
) -> None:
    succeed("append", stream, "--data", "", *at)
    done = run("append", stream, "--data", "", "--expected-version", expected, *at)
    assert done.returncode == code
    assert (code == 0) or b"at version 1: the append expected" in done.stderr


@pytest.mark.parametrize("name", ["", "$reserved", "x" * 256, "a\nb"])
def test_a_stream_that_cannot_be_is_refused(at: list[str], name: str) -> None:
    assert fail(1, "append", name, "--data", "", *at).startswith("rewind: ")


def test_more_than_any_event_may_hold_is_refused_without_reading_it_all(
    at: list[str], stream: str
) -> None:
    with open("/dev/zero", "rb") as endless:
        assert "too much for one event" in fail(1, "append", stream, *at, input=None, stdin=endless)


def contents(lines: bytes) -> list[dict[str, Any]]:
    """The events in JSON lines, less what each store gives them itself."""
    own = ("position", "version", "recorded_at")
    return [{k: v for k, v in event.items() if k not in own} for event in events(lines)]


def test_json_lines_carry_any_event_from_store_to_store(store: str, tmp_path: Path) -> None:
    hostile = "\ufeff\x00\x1b]0;x\x07\x7f\x9b31m\u202e\u2028"
    odd = "\u202e\u2028\ufeff"  # Types and tags take no control characters, but these.
    datas = [b"", b"text", EVERY_BYTE, hostile.encode(), b"\xed\xa0\x80", "\U0001f600".encode()]
    new_events = [
        NewEvent(odd, data, tags=[odd, "t"], metadata={hostile: [hostile, {"f": 1.0}]})
        for data in datas
    ]
    with rewind.open(store) as client:
        client.append_streams(
            [(f"stream {n % 2} \u202e", event) for n, event in enumerate(new_events)]
        )
    lines = succeed("read", "--format", "jsonl", "-e", store)
    assert unprintable(lines.decode()) == []
    copy = f"sqlite:{tmp_path / 'copy'}"
    assert b"6 events appended" in succeed("append", "--json", "-e", copy, input=lines)
    again = succeed("read", "--format", "jsonl", "-e", copy)
    assert contents(again) == contents(lines)
    with rewind.open(copy) as client:
        assert [event.data for event in client.read()] == datas
    said = succeed("append", "--json", "-e", copy, input=lines)
    assert said == b"0 events appended; 6 were stored before\n"


def test_a_lines_own_stream_wins_over_the_argument(at: list[str], stream: str) -> None:
    lines = b'{"data":"1"}\n{"stream":"%s-own","data":"2"}\n' % stream.encode()
    succeed("append", stream, "--json", *at, input=lines)
    listed = succeed("streams", stream, *at).split()
    assert listed == [b"1", stream.encode(), b"1", f"{stream}-own".encode()]


def test_a_bad_line_is_named_and_what_was_stored_is_said(at: list[str], stream: str) -> None:
    lines = b'{"data":"1"}\n{"data":"2"}\n\n{"dta":"3"}\n{"data":"4"}\n'
    said = fail(1, "append", stream, "--json", *at, input=lines)
    assert "2 events appended" in said and "up to line 2" in said
    assert "line 4: not an event in JSON: Object contains unknown field `dta`" in said
    assert len(events(succeed("read", "-s", stream, "--format", "jsonl", *at))) == 2


def test_expected_version_follows_on_over_a_long_import(at: list[str], stream: str) -> None:
    lines = b"".join(b'{"data":"%d"}\n' % n for n in range(1_300))
    import_it = ["append", stream, "--json", "--expected-version", "none", *at]
    assert succeed(*import_it, input=lines).startswith(b"1300 events appended")
    assert "0 events appended" in fail(1, *import_it, input=lines)


def test_a_daemons_own_bound_on_an_event_names_the_line(store: str) -> None:
    with Daemon(store, "--max-event-bytes", "10") as daemon:
        said = fail(1, "append", "s", "--json", "-e", daemon.endpoints["incoming"],
                    input=b'{"data":"short"}\n{"data":"much longer"}\n')  # fmt: skip
    assert "line 2: data has 11 bytes; at most 10 are allowed" in said


def test_ctrl_c_ends_an_import_with_130_and_says_how_far_it_came(
    at: list[str], stream: str
) -> None:
    with running("append", stream, "--json", *at) as append, rewind.connect(at[1]) as client:
        assert append.stdin is not None and append.stderr is not None
        for number in (1, 2):
            append.stdin.write(b'{"data":"x"}\n')
            append.stdin.flush()
            eventually(lambda number=number: len(list(client.read_stream(stream))) == number)
        append.send_signal(signal.SIGINT)
        assert append.wait(PATIENCE_S) == 130
        said = append.stderr.read().decode()
        # The second is stored, but its answer may have come too late to be counted.
        assert re.search(r"([12]) events? appended, .*, up to line \1\n", said), said
        assert "Traceback" not in said


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_restored_copy_is_brought_up_to_date_from_the_original(
    scheme: str, tmp_path: Path
) -> None:
    original, copy = f"{scheme}:{tmp_path / 'original'}", f"{scheme}:{tmp_path / 'copy'}"
    chosen = NewEvent("chosen", id=uuid.uuid4())
    with rewind.open(original) as client:
        client.append("a", [NewEvent("one"), NewEvent("two")])
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    with rewind.open(original) as client:
        client.append("b", [NewEvent("three", b"\xff"), NewEvent("four", tags=("t",))])
        client.append("a", chosen)
        client.append("a", NewEvent("six"))
    newer = succeed("read", "--after", "2", "--format", "jsonl", "-e", original)
    said = succeed("append", "--json", "-e", copy, input=newer)
    assert said == b"4 events appended, the last at position 6\n"
    assert b"4 were stored before" in succeed("append", "--json", "-e", copy, input=newer)

    def known(url: str) -> list[tuple[Any, ...]]:
        with rewind.open(url) as client:
            return [
                (e.id, e.stream, e.version, e.position, e.type, e.tags, e.data)
                for e in client.read()
            ]

    assert known(copy) == known(original)
    with rewind.open(copy) as client:
        client.append("c", NewEvent("its own"))
    elsewhere = newer.splitlines()[-1].replace(b"000006", b"000009")
    assert "for position 9 alone" in fail(1, "append", "--json", "-e", copy, input=elsewhere)


def test_empty_stdin_is_refused_and_says_what_to_write(at: list[str], stream: str) -> None:
    said = fail(2, "append", stream, *at, input=b"")
    assert "stdin is empty" in said and "--data ''" in said
    assert succeed("streams", stream, *at) == b""
    id = succeed("append", stream, "--data", "", *at).decode().split()[-1]
    assert succeed("show", id, "--data", *at) == b""


def test_a_last_newline_is_kept_as_every_other_byte(at: list[str], stream: str) -> None:
    id = succeed("append", stream, *at, input=b"boiled\n").decode().split()[-1]
    assert succeed("show", id, "--data", *at) == b"boiled\n"


def test_what_append_says_drives_no_terminal(at: list[str]) -> None:
    stream = f"s\u202e\u2066-{uuid.uuid4()}"
    said = succeed("append", stream, "--data", "", *at).decode()
    assert unprintable(said) == [] and said.startswith("s\\u202e\\u2066-")
    listed = succeed("streams", stream, *at) + succeed("streams", stream, "--format", "jsonl", *at)
    assert unprintable(listed.decode()) == [] and listed.count(b"\\u202e") == 2
    assert (
        unprintable(fail(1, "append", stream, "--data", "", "--expected-version", "7", *at)) == []
    )


# --- repetitions -------------------------------------------------------------------


def repeated(said: str) -> list[str]:
    """The arguments of the command that an error says to repeat."""
    (command,) = re.findall(r"whatever became of it.*?: rewind (.*)", said)
    return shlex.split(command)


def test_an_append_repeated_with_its_append_id_is_stored_once(at: list[str], stream: str) -> None:
    once = ["append", stream, "--append-id", str(uuid.uuid4()), "--data", "x", *at]
    first = succeed(*once)
    assert succeed(*once) == first.rstrip() + b" (it was stored before)\n"
    assert "known with other content" in fail(1, *once[:-4], "--data", "y", *at)


@pytest.mark.parametrize("data", [["--data", "it's late"], []])
def test_an_append_that_nobody_answers_says_how_to_repeat_it(
    at: list[str], stream: str, nobody_there: str, data: list[str]
) -> None:
    said = fail(69, "append", stream, "--type", "a b", *data, "-e", nobody_there, "--timeout", "0.2",
                input=b"it's late")  # fmt: skip
    assert ("with the same data on stdin" in said) == (not data)
    again = repeated(said)
    assert again[:2] == ["append", "--append-id"] and again[3:5] == [stream, "--type"]
    again[again.index(nobody_there)] = at[1]
    again[again.index("0.2")] = "20"
    first = succeed(*again, input=b"it's late")
    assert succeed(*again, input=b"it's late") == first.rstrip() + b" (it was stored before)\n"
    (event,) = events(succeed("read", "-s", stream, "--format", "jsonl", *at))
    assert (event["type"], event["data"]) == ("a b", "it's late")


def test_an_append_with_an_id_of_its_own_is_repeated_as_it_is(
    stream: str, nobody_there: str
) -> None:
    where = ["-e", nobody_there, "--timeout", "0.2"]
    for given in (["--id", str(uuid.uuid4())], ["--append-id", str(uuid.uuid4())]):
        command = ["append", stream, "--data", "x", *given, *where]
        assert repeated(fail(69, *command)) == command
    long = ["append", stream, "--data", "x" * 5_000, *where]
    said = fail(69, *long)
    assert re.search("whatever became of it: the same command --append-id [0-9a-f-]{36}\n", said)
    assert len(said) < 1_000


def lines_of(count: int) -> bytes:
    return b"".join(b'{"data":"%d"}\n' % n for n in range(count))


def test_an_import_with_an_append_id_is_stored_once_however_it_is_cut(
    at: list[str], stream: str
) -> None:
    import_it = ["append", stream, "--json", "--append-id", str(uuid.uuid4()), *at]
    assert succeed(*import_it, input=lines_of(700)).startswith(b"700 events appended")
    said = succeed(*import_it, input=lines_of(1_201))
    assert said.startswith(b"501 events appended") and b"; 700 were stored before" in said
    stored = events(succeed("read", "-s", stream, "--format", "jsonl", *at))
    assert [event["data"] for event in stored] == [str(n) for n in range(1_201)]


def test_an_import_whose_daemon_goes_says_what_is_unknown_and_how_to_go_on(
    store: str, stream: str
) -> None:
    with Daemon(store) as daemon:
        where = ["-e", daemon.endpoints["incoming"], "--timeout", "1"]
        for given in ([], ["--append-id", str(uuid.uuid4())]):
            command = ["append", f"{stream}{len(given)}", "--json", *given, *where]
            with running(*command) as append:
                assert append.stdin is not None and append.stderr is not None
                append.stdin.write(b'{"data":"1"}\n')
                append.stdin.flush()
                eventually(lambda command=command: b"1" in succeed("streams", command[1], *where))
                daemon.kill()
                append.stdin.write(b'{"data":"2"}\n')
                append.stdin.close()
                assert append.wait(PATIENCE_S) == 69
                said = append.stderr.read().decode()
            daemon.start()
            assert "stopped: 1 event appended, the last at position" in said
            assert ", up to line 1\n" in said
            if given:
                assert "the same command with the same input stores the rest" in said
                again = succeed(*command, input=b'{"data":"1"}\n{"data":"2"}\n')
                assert b"1 event appended" in again and b"; 1 was stored before" in again
            else:
                assert "line 2 may be stored or not" in said and "--append-id" in said


def test_an_import_stopped_at_its_first_line_says_no_line(at: list[str], stream: str) -> None:
    said = fail(1, "append", stream, "--json", *at, input=b'{"dta":1}\n')
    assert said.startswith("rewind: stopped: 0 events appended\n") and "line 1: " in said


def test_a_byte_order_mark_in_front_of_the_first_line_is_no_part_of_it(
    at: list[str], stream: str
) -> None:
    mark = b"\xef\xbb\xbf"
    said = succeed("append", stream, "--json", *at, input=mark + b'{"data":"x"}\n')
    assert said.startswith(b"1 event appended")
    assert "line 2: " in fail(1, "append", stream, "--json", *at, input=b"\n" + mark + b"{}\n")


def test_a_key_twice_in_a_line_is_refused_with_its_line(at: list[str], stream: str) -> None:
    lines = b'{"data":"1"}\n{"data":"2","data":"3"}\n'
    said = fail(1, "append", stream, "--json", *at, input=lines)
    assert "line 2: not an event in JSON: the key 'data' stands twice" in said


def test_decoded_lines_are_taken_back(at: list[str], stream: str, tmp_path: Path) -> None:
    with rewind.connect(at[1]) as client:
        client.append(stream, NewEvent.from_json("placed", {"total": 42}))
        client.append(stream, NewEvent("note", b"plain"))
    lines = succeed("read", "-s", stream, "--format", "json", "--decode", *at)
    first, second = events(lines)
    assert first["data_json"] == {"total": 42} and "data_json" not in second
    copy = f"sqlite:{tmp_path / 'copy'}"
    succeed("append", "--json", "-e", copy, input=lines)
    assert contents(succeed("read", "--format", "jsonl", "--decode", "-e", copy)) == contents(lines)
    changed = json.dumps({"stream": stream, "data_json": {"total": 43}}).encode()
    succeed("append", "--json", "-e", copy, input=changed)
    (last,) = events(
        succeed("read", "-n1", "--backwards", "--format", "jsonl", "--decode", "-e", copy)
    )
    assert (last["data"], last["data_json"]) == ('{"total":43}', {"total": 43})


@pytest.mark.parametrize(
    ("option", "said"),
    [("--expected-version", "nor none or exists"), ("--id", "is not a UUID")],
)
def test_a_value_that_is_none_of_its_kind_is_refused_with_what_to_write(
    option: str, said: str
) -> None:
    assert "'nne' is not a" in (text := fail(2, "append", "s", "--data", "", option, "nne"))
    assert said in text


# --- cursors -----------------------------------------------------------------------


def test_a_cursor_moves_in_the_append(at: list[str], stream: str) -> None:
    append = ["append", stream, "--data", "x", *at]
    with rewind.connect(at[1]) as client:
        succeed(*append)
        succeed(*append, "--cursor", f"{stream}a=1", "--cursor", f"{stream}=b=1")
        assert [client.cursor(name).position for name in (f"{stream}a", f"{stream}=b")] == [1, 1]
        head = client.head()
        said = fail(1, *append, "--cursor", f"{stream}a=1")
        assert f"cursor '{stream}a' is at 1" in said
        assert f"{stream}a" in fail(1, *append, "--cursor", f"{stream}a={head + 2}")
        assert client.head() == head


@pytest.mark.parametrize(
    ("cursor", "said"),
    [
        (["x"], "'x': write NAME=POSITION"),
        (["=1"], "'=1': write NAME=POSITION"),
        (["x="], "'' is not a number"),
        (["x=-1"], "'-1' is not a number"),
        (["x=1", "--cursor", "x=2"], "the key 'x' is given twice"),
        (["x=1", "--json"], "--cursor is for one append"),
    ],
)
def test_what_moves_no_cursor_is_refused(cursor: list[str], said: str) -> None:
    assert said in fail(2, "append", "s", "--cursor", *cursor)
