"""``rewind append``: one event, or JSON lines, as a shell sees it."""

from __future__ import annotations

import re
import shutil
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from conftest import DURABLE
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
    assert "known with other content" in fail(1, *once, "--data", "y")


@pytest.mark.parametrize(
    ("expected", "code"), [("none", 0), ("0", 0), ("exists", 1), ("1", 1), ("7", 1)]
)
def test_expected_version_of_a_new_stream(
    at: list[str], stream: str, expected: str, code: int
) -> None:
    done = run("append", stream, "--expected-version", expected, *at)
    assert done.returncode == code
    assert (code == 0) or b"there is no stream" in done.stderr


@pytest.mark.parametrize(
    ("expected", "code"), [("none", 1), ("0", 1), ("exists", 0), ("1", 0), ("7", 1)]
)
def test_expected_version_of_an_existing_stream(
    at: list[str], stream: str, expected: str, code: int
) -> None:
    succeed("append", stream, *at)
    done = run("append", stream, "--expected-version", expected, *at)
    assert done.returncode == code
    assert (code == 0) or b"at version 1: the append expected" in done.stderr


@pytest.mark.parametrize("name", ["", "$reserved", "x" * 256, "a\nb"])
def test_a_stream_that_cannot_be_is_refused(at: list[str], name: str) -> None:
    assert fail(1, "append", name, *at).startswith("rewind: ")


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
    hostile = "\x00\x1b]0;x\x07\x7f\x9b31m\u202e\u2028"
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
    assert not [c for c in lines.decode() if c != "\n" and (c < " " or "\x7f" <= c < "\xa0")]
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
        assert re.search(r"([12]) events appended, .*, up to line \1\n", said), said
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
