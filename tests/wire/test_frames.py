"""Frames to requests and back: golden frames, envelopes, and everything malformed."""

from __future__ import annotations

import gc
import json
from typing import Any

import golden_session
import msgspec
import pytest

from rewind.errors import BadRequest, RequestError, TooLarge, UnknownCommand, WrongExpectedVersion
from rewind.events import Append
from rewind.wire.envelope import GOREWIND, NATIVE, REWIND, decode_request
from rewind.wire.native import Appends, Info, Read, Streams, encode_request
from rewind.wire.old import OldQuery
from rewind.wire.replies import decode_reply, encode_error

pack = msgspec.msgpack.encode
EVENT = [None, "s", "t", [], {}, b"d"]


def test_the_golden_session_is_answered_with_the_golden_frames() -> None:
    expected = json.loads(golden_session.GOLDEN.read_text())
    actual = golden_session.run()
    for ours, golden in zip(actual["exchanges"], expected["exchanges"], strict=True):
        assert ours == golden
    assert actual["feeds"] == expected["feeds"]


def test_the_documented_vectors_are_the_golden_frames() -> None:
    golden = json.loads(golden_session.GOLDEN.read_text())
    assert golden_session.VECTORS.read_text() == golden_session.vectors(golden)


@pytest.mark.parametrize(
    ("frames", "route", "dialect", "kind"),
    [
        ([b"id", b"", b"PUBLISH", b""], [b"id", b""], REWIND, Append),
        ([b"id", b"PUBLISH", b"x"], [b"id"], REWIND, Append),
        ([b"id", b"PUBLISH", b""], [b"id"], REWIND, Append),
        ([b"id", b"QUERY", b"", b""], [b"id"], REWIND, OldQuery),
        ([b"id", b"", b"PUBLISH", b"s", b"x"], [b"id", b""], GOREWIND, Append),
        ([b"id", b"", b"QUERY", b"s", b"", b""], [b"id", b""], GOREWIND, OldQuery),
        ([b"id", b"", b"READ", b"1", pack({})], [b"id", b""], NATIVE, Read),
        ([b"id", b"INFO", b"", pack({})], [b"id"], NATIVE, Info),
        ([b"p", b"c", b"", b"STREAMS", b"1", pack({})], [b"p", b"c", b""], NATIVE, Streams),
        ([b"1", *([b"x"] * 7), b"", b"PUBLISH", b"x"], [b"1", *([b"x"] * 7), b""], REWIND, Append),
        ([b"1", *([b"x"] * 8), b"", b"PUBLISH", b"x"], [b"1"], REWIND, UnknownCommand),
        ([b"1", b"x" * 3000, b"", b"PUBLISH", b"x"], [b"1"], REWIND, UnknownCommand),
        ([b"id", b""], [b"id", b""], REWIND, BadRequest),
        ([b"id"], [b"id"], REWIND, BadRequest),
        ([b"id", b"", b""], [b"id", b""], REWIND, BadRequest),
        ([b"id", b"", b"FROB"], [b"id", b""], REWIND, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", pack({})], [b"id", b""], NATIVE, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", pack([])], [b"id", b""], REWIND, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", b"\xc1"], [b"id", b""], REWIND, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", pack({}), b""], [b"id", b""], REWIND, UnknownCommand),
        ([b"id", b"", b"FROB", b"1" * 65, pack({})], [b"id", b""], REWIND, UnknownCommand),
        ([b"id", b"", b"PUBLISH"], [b"id", b""], REWIND, BadRequest),
        ([b"id", b"", b"PUBLISH", b"a", b"b", b"c"], [b"id", b""], REWIND, BadRequest),
        ([b"id", b"", b"QUERY", b""], [b"id", b""], REWIND, BadRequest),
        ([b"id", b"", b"QUERY", b"a", b"b", b"c", b"d"], [b"id", b""], REWIND, BadRequest),
        ([b"id", b"", b"APPEND"], [b"id", b""], NATIVE, BadRequest),
        ([b"id", b"", b"READ", b"1", pack({}), b"x"], [b"id", b""], NATIVE, BadRequest),
    ],
)
def test_envelope_and_dialect(
    frames: list[bytes], route: list[bytes], dialect: str, kind: type
) -> None:
    request = decode_request(frames)
    assert request.route == route
    assert request.dialect == dialect
    assert isinstance(request.body, kind), request.body


def test_the_request_id_is_echoed_and_bounded() -> None:
    assert decode_request([b"i", b"", b"READ", b"x" * 64, b""]).request_id == b"x" * 64
    refused = decode_request([b"i", b"", b"READ", b"x" * 65, pack({})])
    assert refused.request_id == b"" and "65 bytes" in str(refused.body)
    assert decode_request([b"i", b"", b"READ"]).request_id == b""


def body_of(command: bytes, body: bytes, **options: int) -> object:
    return decode_request([b"i", b"", command, b"1", body], **options).body


DEEP = b"\x81\xa6events\x91\x96\xc0\xa1s\xa1t\x90\x81\xa1a" + b"\x91" * 1000 + b"\xc0\xc4\x01x"
BROKEN = pack({"events": [[None, "s", "t", [], {"k": {"deep": ["\ufffd"]}}, b"d"]]}).replace(
    "\ufffd".encode(), b"\xff\xfe\xfd"
)


@pytest.mark.parametrize(
    ("command", "body", "words"),
    [
        (b"APPEND", b"", "not msgpack"),
        (b"APPEND", b"\xc1", "not msgpack"),
        (b"APPEND", pack({"events": [EVENT]}) + b"x", "not msgpack"),
        (b"APPEND", pack({"events": [EVENT]})[:-3], "not msgpack"),
        (b"APPEND", pack([]), "array is empty"),
        (b"APPEND", b"\x91" + DEEP.replace(b"\x91" * 1000, b"\x91" * 100_000), "nested too deep"),
        (b"APPEND", b"\x91", "not msgpack"),
        (b"APPEND", b"\x91\x80\x80", "not msgpack"),
        (b"APPEND", b"\xdc\x00", "not msgpack"),
        (b"APPEND", b"\xdc\x00\x00", "array is empty"),
        (b"APPEND", b"\xdd\xff\xff\xff\xff\x01", "4294967295 appends in one message"),
        (
            b"APPEND",
            pack([{"events": [EVENT], "expected": {str(n): 0 for n in range(3_000)}}] * 2),
            "6000 expected versions in one message",
        ),
        (b"APPEND", pack([{"events": [EVENT] * 3_000}] * 2), "6000 events in one message"),
        (b"APPEND", pack({}), "events"),
        (b"APPEND", pack({"events": []}), "empty"),
        (b"APPEND", pack({"events": [EVENT], "oops": 1}), "oops"),
        (b"APPEND", pack({"events": [EVENT[:-1]]}), r"\$.events\[0\]"),
        (b"APPEND", pack({"events": [[*EVENT, 1]]}), r"\$.events\[0\]"),
        (b"APPEND", pack({"events": [[None, 5, "t", [], {}, b""]]}), "Expected `str`"),
        (b"APPEND", pack({"events": [[None, "s", "t", [], {}, "text"]]}), "Expected `bytes`"),
        (b"APPEND", pack({"events": [[None, "s", "t", "x", {}, b""]]}), "Expected `array`"),
        (b"APPEND", pack({"events": [[None, "s", "t", [], [], b""]]}), "Expected `object`"),
        (b"APPEND", pack({"events": [[b"short", "s", "t", [], {}, b""]]}), "16 bytes"),
        (b"APPEND", pack({"events": [EVENT], "id": b"short"}), "16 bytes"),
        (b"APPEND", pack({"events": [EVENT], "expected": {"s": -2}}), "expected"),
        (b"APPEND", pack({"events": [EVENT], "expected": {"s": 2**64 - 1}}), "expected"),
        (b"APPEND", pack({"events": [EVENT], "expected": {"s": 1.5}}), "Expected `int`"),
        (b"APPEND", DEEP, "nested"),
        (b"APPEND", DEEP.replace(b"\x91" * 1000, b"\x91" * 100_000), "nested too deep"),
        (b"APPEND", BROKEN, "not UTF-8"),
        (b"READ", pack({"after": -1}), "after is -1"),
        (b"READ", pack({"until": 2**63}), "until is"),
        (b"READ", pack({"limit": 10_001}), "limit is 10001"),
        (b"READ", pack({"max_bytes": 8 * 1024 * 1024 + 1}), "max_bytes"),
        (b"READ", pack({"wait_ms": 30_001}), "wait_ms"),
        (b"READ", pack({"wait_ms": 1, "backwards": True}), "forward"),
        (b"READ", pack({"stream": "s", "prefix": "p"}), "not both"),
        (b"READ", pack({"stream": "\n"}), "control character"),
        (b"READ", pack({"id": b"x"}), "16 bytes"),
        (b"READ", pack({"id": bytes(16), "after": 1}), "goes alone"),
        (b"READ", pack({"afterwards": 1}), "afterwards"),
        (b"READ", pack({"types": ["x"] * 257}), "257 types"),
        (b"READ", pack({"tags": ["x"] * 33}), "33 tags"),
        (b"READ", pack({"types": ["x" * 256]}), "256 bytes"),
        (b"READ", pack({"prefix": "x" * 256}), "256 bytes"),
        (
            b"APPEND",
            pack({"events": [EVENT], "expected": {str(n): 0 for n in range(4097)}}),
            "4097",
        ),
        (b"STREAMS", pack({"prefix": "x" * 256}), "prefix"),
        (b"STREAMS", pack({"limit": -1}), "limit is -1"),
        (b"STREAMS", pack({"limit": 10_001}), "10001"),
        (b"INFO", pack({"x": 1}), "`x`"),
    ],
)
def test_a_malformed_body_is_refused_by_name(command: bytes, body: bytes, words: str) -> None:
    refused = body_of(command, body)
    assert isinstance(refused, RequestError)
    with pytest.raises(RequestError, match=words):
        raise refused


def test_several_appends_are_decoded_each_by_itself() -> None:
    one, two = {"events": [EVENT], "id": b"a" * 16}, {"events": [EVENT, EVENT]}
    appends = body_of(b"APPEND", pack([one, two]))
    assert isinstance(appends, Appends)
    assert appends.parts == [body_of(b"APPEND", pack(one)), body_of(b"APPEND", pack(two))]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (7, "Expected `object`"),
        ({}, "missing required field `events`"),
        ({"events": []}, "events is empty"),
        ({"events": [EVENT], "if": 1}, "`if`"),
        ({"events": [[None, "$s", "t", [], {}, b""]]}, "reserved"),
        ({"events": [EVENT], "id": b"short"}, "5 bytes"),
        (msgspec.Raw(BROKEN), "not UTF-8"),
    ],
)
def test_one_append_refused_leaves_the_others_of_its_message(wrong: Any, words: str) -> None:
    good = {"events": [EVENT]}
    appends = body_of(b"APPEND", pack([good, wrong, good]))
    assert isinstance(appends, Appends)
    first, refused, last = appends.parts
    assert first == last == body_of(b"APPEND", pack(good))
    with pytest.raises(BadRequest, match=words):
        raise refused


def test_a_message_of_appends_has_the_limits_of_one() -> None:
    assert isinstance(body_of(b"APPEND", pack([{"events": [EVENT]}] * 4_096)), Appends)
    assert isinstance(body_of(b"APPEND", pack([{"events": [EVENT]}] * 4_097)), TooLarge)


def test_a_refused_request_keeps_nothing_of_it_alive() -> None:
    gc.collect()
    gc.disable()
    try:
        for body in (b"\xc1", pack({"events": []}), pack([None, {"events": []}])):
            body_of(b"APPEND", body)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_limits_are_too_large() -> None:
    assert isinstance(body_of(b"APPEND", b"x" * (16 * 1024 * 1024 + 1)), TooLarge)
    many = pack({"events": [EVENT] * 4097})
    assert isinstance(body_of(b"APPEND", many), TooLarge)
    assert isinstance(body_of(b"APPEND", pack({"events": [EVENT]}), event_bytes_max=0), TooLarge)
    assert isinstance(decode_request([b"i", b"", b"PUBLISH", b"xx"], 1).body, TooLarge)


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([b"PUBLISH", b"", b"x"], "stream has 0 bytes"),
        ([b"PUBLISH", b"a" * 256, b"x"], "256 bytes"),
        ([b"PUBLISH", b"\xff", b"x"], "not UTF-8"),
        ([b"PUBLISH", b"a\x00", b"x"], "control character"),
        ([b"PUBLISH", b"$all", b"x"], "reserved"),
        ([b"QUERY", b"", b"", b""], "0 bytes"),
        ([b"QUERY", b"short", b""], "from id"),
        ([b"QUERY", b"", b"0F8FAD5B-D9CB-869F-8000-000000000001"], "to id"),
        ([b"QUERY", b"\xff" * 36, b""], "from id"),
    ],
)
def test_old_dialects_answer_one_frame_of_ascii(frames: list[bytes], words: str) -> None:
    request = decode_request([b"i", b"", *frames])
    reply = encode_error(request, request.body)
    assert reply[:2] == [b"i", b""] and len(reply) == 3
    assert reply[2].startswith(b"ERROR ") and words in reply[2].decode("ascii")


def test_an_error_reaches_the_client_as_the_same_exception() -> None:
    request = decode_request([b"i", b"", b"READ", b"7", pack({})])
    frames = encode_error(request, WrongExpectedVersion("s", 3, 5))
    request_id, error = decode_reply(frames[1:])
    assert request_id == b"7"
    assert isinstance(error, WrongExpectedVersion)
    assert (error.stream, error.expected, error.actual) == ("s", 3, 5)


def test_requests_are_encoded_as_they_are_decoded() -> None:
    frames = encode_request("READ", b"5", Read(after=3, types=("a",)))
    assert decode_request([b"i", *frames]).body == Read(after=3, types=("a",))


def test_garbage_is_no_reply() -> None:
    with pytest.raises(ValueError, match="not a native reply"):
        decode_reply([b"", b"PUBLISHED"])
