"""JSON lines go both ways without a loss, and no line holds what drives a terminal."""

from __future__ import annotations

import json
import random
import uuid
from typing import Any

import pytest
from hostile import HOSTILE, NASTY, UNPRINTABLE, event, unprintable

from rewind.cli.format import json_line, json_text, parse_line
from rewind.errors import BadRequest
from rewind.events import NewEvent


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
        assert unprintable(line.decode()) == [], f"seed {seed}: {data!r}"


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
        (b'{"data":"\\ud800"}', "\\ud800 is half of a surrogate pair"),
        (b'{"stream":"s\\uDC00"}', "\\udc00 is half of a surrogate pair"),
        (b'{"data":"x","data":"y"}', "the key 'data' stands twice"),
        (b'{"metadata":{"a":{"b":1,"c":2,"b":1}}}', "the key 'b' stands twice"),
        (b'{"data":"x","data_json":"y"}', "data and data_json differ"),
        (b'{"data":"1","data_json":2}', "data and data_json differ"),
        (b'{"data_json":1e999}', "cannot be written as JSON"),
        (b'{"data":"x"} {}', "Extra data at character 14"),
        (b'{"metadata":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}", "nested too deep"),
        (b'{"dat":"x"}', "`dat`"),
        (b'{"data":{"a":1}}', "write a JSON value as data_json"),
        (b'{"data":"x","data_base64":"eA=="}', "both"),
        (b'{"data_base64":"eA="}', "base64"),
        (b'{"data_base64":"\xc3\xa9"}', "base64"),
        (b'{"id":"7"}', "UUID"),
        (b'{"tags":"vip"}', "`$.tags`"),
        (b'{"metadata":{"a":NaN}}', "NaN is no number in JSON"),
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


def test_whole_surrogate_pairs_are_a_character() -> None:
    assert parse_line(b'{"data":"\\ud83d\\ude00"}', "s").data == "\U0001f600".encode()


def test_every_unprintable_character_is_escaped_and_comes_back() -> None:
    text = "".join(UNPRINTABLE)
    line = json_text({"text": text})
    assert unprintable(line.decode()) == []
    assert json.loads(line) == {"text": text}


# --- data as a value ---------------------------------------------------------------

JSON = {"content_type": "application/json"}


@pytest.mark.parametrize(
    ("content_type", "data", "value"),
    [
        ("application/json", b'{"total": 42}', {"total": 42}),
        ("Application/JSON; charset=utf-8", b"[1,\n\t2]", [1, 2]),
        ("application/cloudevents+json", b"null", None),
        ("application/json", b"12345678901234567890123", 12345678901234567890123),
        ("application/json", '"\u202e\x9b"'.encode(), "\u202e\x9b"),
    ],
)
def test_decode_adds_the_data_as_the_value_it_is(
    content_type: str, data: bytes, value: Any
) -> None:
    stored = event(data, metadata={"content_type": content_type})
    line = json_line(stored, decode=True)
    assert line.count(b"\n") == 1 and unprintable(line.decode()) == []
    assert json.loads(line)["data_json"] == value
    assert json.loads(line)["data"] == data.decode()
    assert parse_line(line, None).data == data
    assert b"data_json" not in json_line(stored)


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("text/plain", b"1"),
        (["application/json"], b"1"),
        ("application/json", b"{"),
        ("application/json", b""),
        ("application/json", b"\xff"),
        ("application/json", b"NaN"),
        ("application/json", b'{"a":1,"a":2}'),
        ("application/json", b"[" * 100_000 + b"]" * 100_000),
    ],
)
def test_decode_leaves_alone_what_is_no_json(content_type: Any, data: bytes) -> None:
    stored = event(data, metadata={"content_type": content_type})
    line = json_line(stored, decode=True)
    assert line == json_line(stored)
    assert parse_line(line, None).data == data


def test_a_value_alone_becomes_the_data_as_python_writes_it() -> None:
    value = {"name": "Zo\u00eb", "n": [1, 2.5, None, True]}
    taken = parse_line(json.dumps({"stream": "s", "data_json": value}).encode(), None)
    assert taken.data == NewEvent.from_json("", value).data
    assert taken.metadata == JSON
    assert parse_line(b'{"stream":"s","data_json":null}', None).data == b"null"


def test_a_value_alone_keeps_the_content_type_of_its_line() -> None:
    line = b'{"stream":"s","metadata":{"content_type":"a/b+json"},"data_json":1}'
    assert parse_line(line, None).metadata == {"content_type": "a/b+json"}
