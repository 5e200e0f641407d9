"""Events as text: JSON lines go both ways without a loss, lines for people cannot hurt a terminal."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest

from rewind.cli.format import (
    escape,
    event_text,
    json_line,
    json_text,
    parse_line,
    parse_time,
    text_line,
    time_text,
)
from rewind.errors import BadRequest
from rewind.events import Event

HOSTILE = "\x00\x07\b\t\n\r\x1b[31m\x1b]0;title\x07\x7f\x80\x85\x9b2J\u202e\u2028\u2066"
NASTY = [
    b"",
    b"plain",
    bytes(range(256)),
    HOSTILE.encode(),
    "h\u00e9 \u4f60 \U0001f600".encode(),
    b"\xed\xa0\x80",  # a surrogate, which is not UTF-8
    b"\xff\xfe",
    b'{"json": [1, 2.5, null]}',
    b"\\u0000 \\ \" '",
    b"\xf4\x90\x80\x80",
]


def event(data: bytes = b"", **fields: Any) -> Event:
    return Event(
        **{
            "position": 7,
            "recorded_at_ns": 1_763_894_280_123_456_789,
            "id_bytes": bytes(range(16)),
            "stream": "order-1",
            "version": 3,
            "type": "placed",
            "tags": (),
            "metadata": {},
            "data": data,
            **fields,
        }
    )


def controls(line: bytes) -> list[str]:
    return [c for c in line.decode() if ord(c) < 32 or 0x7F <= ord(c) < 0xA0]


def test_json_line_has_the_keys_of_a_record_in_its_order() -> None:
    line = json.loads(json_line(event(b"x", tags=("a",), metadata={"k": [1]})))
    assert line == {
        "position": 7,
        "recorded_at": "2025-11-23T10:38:00.123456789Z",
        "id": "00010203-0405-0607-0809-0a0b0c0d0e0f",
        "stream": "order-1",
        "version": 3,
        "type": "placed",
        "tags": ["a"],
        "metadata": {"k": [1]},
        "data": "x",
    }
    names = list(line)
    assert (names[0], names[-1]) == ("position", "data")


@pytest.mark.parametrize("data", NASTY)
def test_json_line_returns_the_same_event(data: bytes) -> None:
    stored = event(data, stream="s \u202e\U0001f600", type=HOSTILE, tags=(HOSTILE, "b"),
                   metadata={HOSTILE: [HOSTILE, {"f": 1.0, "big": 2**63 - 1, "n": None}]})  # fmt: skip
    back = parse_line(json_line(stored), None)
    assert (back.id, back.stream, back.type, back.tags, back.metadata, back.data) == (
        stored.id_bytes, stored.stream, stored.type, stored.tags, stored.metadata, stored.data,
    )  # fmt: skip


def test_random_bytes_return_the_same() -> None:
    seed = random.randrange(2**32)
    chance = random.Random(seed)
    alphabet = [b"a", b"\xc2\x9b", b"\x1b", b"\xff", b"\xc2", b'"', b"\\", b"\n", "\u20ac".encode()]
    for _ in range(500):
        data = b"".join(chance.choices(alphabet, k=chance.randrange(12)))
        line = json_line(event(data))
        assert parse_line(line, None).data == data, f"seed {seed}: {data!r}"
        assert controls(line) == ["\n"], f"seed {seed}: {data!r}"


@pytest.mark.parametrize("data", NASTY)
def test_no_control_character_is_printed(data: bytes) -> None:
    hostile = event(
        data, stream=HOSTILE, type=HOSTILE, tags=(HOSTILE,), metadata={HOSTILE: HOSTILE}
    )
    assert controls(json_line(hostile)) == ["\n"]
    assert text_line(hostile).isprintable()
    assert all(line.isprintable() for line in event_text(hostile).split("\n"))


def test_text_line_keeps_one_line_and_shows_the_size_of_long_data() -> None:
    line = text_line(event(b"x" * 5_000_000))
    assert line.endswith("xxx... (4.8 MiB)") and len(line) < 250


def test_text_line_cuts_between_characters() -> None:
    line = text_line(event("\U0001f600".encode() * 1000))
    assert "\\x" not in line and "\U0001f600..." in line


def test_escape_leaves_what_people_read() -> None:
    assert escape('h\u00e9 \u4f60 \U0001f600 \\ "') == 'h\u00e9 \u4f60 \U0001f600 \\ "'
    assert escape("a\nb\x1b\udcff\u202e") == "a\\nb\\x1b\\udcff\\u202e"


def test_json_text_escapes_only_inside_strings() -> None:
    assert (
        json_text({"\x9b": ["\x7f\x1b\u00e9"]}) == '{"\\u009b":["\\u007f\\u001b\u00e9"]}'.encode()
    )


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"{", "not an event in JSON"),
        (b"[1]", "not an event in JSON"),
        (b"\xff{}", "not an event in JSON"),
        (b'{"data":"\xff"}', "not UTF-8"),
        (b'{"data":"\\ud800"}', "not an event in JSON"),
        (b'{"metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deep"),
        (b'{"dat":"x"}', "`dat`"),
        (b'{"data":{"a":1}}', "write a JSON value inside as a string"),
        (b'{"data":"x","data_base64":"eA=="}', "both"),
        (b'{"data_base64":"eA="}', "base64"),
        (b'{"data_base64":"\xc3\xa9"}', "base64"),
        (b'{"id":"7"}', "UUID"),
        (b'{"tags":"vip"}', "`$.tags`"),
        (b'{"metadata":{"a":NaN}}', "not an event in JSON"),
        (b'{"type":null}', "`$.type`"),
    ],
)
def test_a_wrong_line_is_refused_in_words(line: bytes, said: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_line(line, "s")
    assert said in str(refused.value)


def test_a_line_without_stream_takes_the_default_and_its_own_wins() -> None:
    assert parse_line(b"{}", "default").stream == "default"
    assert parse_line(b'{"stream":"own"}', "default").stream == "own"
    with pytest.raises(BadRequest, match="names no stream"):
        parse_line(b"{}", None)


def test_what_is_the_stores_to_give_is_left_out() -> None:
    line = (
        b'{"position":"any","version":[],"recorded_at":3,"metadata":{"$at":1,"a":2},"stream":"s"}'
    )
    assert parse_line(line, None).metadata == {"a": 2}


def test_an_id_may_be_written_in_any_form_of_a_uuid() -> None:
    id = uuid.uuid4()
    assert parse_line(json.dumps({"id": str(id).upper()}).encode(), "s").id == id.bytes


NOW_NS = 1_763_894_280 * 10**9  # 2025-11-23T10:38:00Z


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2025-11-23T10:38:00Z", NOW_NS),
        ("2025-11-23t10:38:00z", NOW_NS),
        ("2025-11-23 10:38:00.5Z", NOW_NS + 500_000_000),
        ("2025-11-23T11:38:00.000000001+01:00", NOW_NS + 1),
        ("2025-11-23T05:08:00-05:30", NOW_NS),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.5Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2999-01-01T00:00:00Z", 2**63 - 1),
        ("0s", NOW_NS),
        ("30s", NOW_NS - 30 * 10**9),
        ("10m", NOW_NS - 600 * 10**9),
        ("2h", NOW_NS - 7200 * 10**9),
        ("3d", NOW_NS - 259_200 * 10**9),
        ("1w", NOW_NS - 604_800 * 10**9),
        ("99999d", 0),
    ],
)
def test_times_are_exact_and_ages_count_back_from_now(text: str, time_ns: int) -> None:
    assert parse_time(text, NOW_NS) == time_ns


@pytest.mark.parametrize(
    "text",
    ["", "now", "10", "10x", "-5m", "1.5h", "2025-11-23", "2025-11-23T10:38:00", "2025-13-01T00:00:00Z",
     "2025-11-23T10:38:00.1234567890Z", "2025-11-23T10:38Z", "999999999w", "2025-11-23T10:38:00+99:00",
     "\u0661m"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text, NOW_NS)


@pytest.mark.parametrize("time_ns", [0, 1, NOW_NS + 999_999_999, 2**63 - 1])
def test_a_printed_time_is_read_back_exactly(time_ns: int) -> None:
    assert parse_time(time_text(time_ns), 0) == time_ns
