"""Native requests: what a body may be, and everything malformed is refused by name."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import pytest

from rewind.errors import BadRequest, RequestError, TooLarge, WrongStore
from rewind.wire import Appends, Read, decode_request, encode_request
from rewind.wire.native import COMMANDS, with_store_id

pack = msgspec.msgpack.encode
EVENT = [None, "s", "t", [], {}, b"d"]
TAGGED = {"tags": ["x"]}
MANY = {"types": [str(n) for n in range(1_024)]}


def conditional(query: list[Any]) -> dict[str, Any]:
    return {"events": [EVENT], "conditions": [{"fail_if_events_match": query}]}


def body_of(command: bytes, body: bytes, **options: Any) -> Any:
    return decode_request([b"i", b"", command, b"1", body], **options).body


@pytest.mark.parametrize("command", COMMANDS)
def test_a_refusal_quotes_a_line_at_most_of_what_it_refuses(command: bytes) -> None:
    for key in ("k" * 1_000_000, "two\nlines", "\N{RIGHT-TO-LEFT OVERRIDE}"):
        refused = body_of(command, pack({"events": [EVENT], key: 1}))
        assert isinstance(refused, BadRequest)
        assert len(str(refused)) < 500 and str(refused).isprintable()


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
        (b"APPEND", b"\x91" + DEEP.replace(b"\x91" * 1000, b"\x91" * 1_000_000), "nested too deep"),
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
        (b"APPEND", DEEP.replace(b"\x91" * 1000, b"\x91" * 1_000_000), "nested too deep"),
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
        (b"READ", pack({"query": []}), "query is empty"),
        (b"READ", pack({"query": {}}), "Expected `array"),
        (b"READ", pack({"query": [TAGGED, {}]}), r"item is empty.*\$.query\[1\]"),
        (b"READ", pack({"query": [TAGGED, {"tags": []}]}), r"item is empty.*\$.query\[1\]"),
        (b"READ", pack({"query": [TAGGED, {"tag": ["x"]}]}), r"`tag` - at `\$.query\[1\]`"),
        (b"READ", pack({"query": [{"tags": "x"}]}), r"Expected `array`.*\$.query\[0\].tags"),
        (b"READ", pack({"query": [TAGGED] * 65}), "65 items; at most 64"),
        (b"READ", pack({"query": [MANY, TAGGED]}), "1025 names in one message; at most 1024"),
        (
            b"READ",
            pack({"query": [TAGGED, {"tags": ["x" * 256]}]}),
            r"query\[1\]: tag has 256 bytes",
        ),
        (b"READ", pack({"query": [{"streams": [""]}]}), r"query\[0\]: stream has 0 bytes"),
        (b"READ", pack({"query": [TAGGED], "stream": "s"}), "query or stream, not both"),
        (b"READ", pack({"query": [TAGGED], "prefix": "s"}), "query or prefix, not both"),
        (b"READ", pack({"query": [TAGGED], "types": ["s"]}), "query or types, not both"),
        (b"READ", pack({"query": [TAGGED], "tags": ["s"]}), "query or tags, not both"),
        (b"READ", pack({"append_id": b"x"}), "append_id has 1 bytes"),
        (b"READ", pack({"append_id": bytes(16), "id": bytes(16)}), "goes alone"),
        (b"READ", pack({"append_id": bytes(16), "after": 1}), "goes alone"),
        (b"APPEND", pack(conditional([{}])), r"item is empty.*fail_if_events_match\[0\]"),
        (b"APPEND", pack([conditional([TAGGED])] * 65), "65 conditions in one message"),
        (b"APPEND", pack([conditional([MANY]), conditional([TAGGED])]), "1025 names in conditions"),
        (
            b"APPEND",
            pack([{"events": [EVENT], "cursors": {f"c{n}": {"position": 0}}} for n in range(65)]),
            "65 cursors in one message",
        ),
        (b"NAMES", pack({}), "`kind`"),
        (b"NAMES", pack({"kind": "tags"}), "kind is 'tags': it is type, tag or category"),
        (b"NAMES", pack({"kind": "tag", "prefix": "x" * 256}), "prefix has 256 bytes"),
        (b"NAMES", pack({"kind": "tag", "after": "x" * 256}), "after has 256 bytes"),
        (b"NAMES", pack({"kind": "tag", "limit": 10_001}), "10001"),
        (b"CURSORS", pack({"limit": -1}), "limit is -1"),
        (b"CURSORS", pack({"name": ""}), "name has 0 bytes"),
        (b"CURSORS", pack({"name": "x" * 256}), "name has 256 bytes"),
        (b"CURSORS", pack({"name": "a\0"}), "control character"),
        (b"CURSORS", pack({"name": "$a"}), "reserved"),
        (b"CURSORS", pack({"name": "a", "limit": 1}), "goes alone"),
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


def test_what_is_wrong_with_a_condition_refuses_its_append_alone() -> None:
    appends = body_of(b"APPEND", pack([conditional([TAGGED]), conditional([{}])]))
    assert isinstance(appends, Appends) and appends.conditions == 1
    good, refused = appends.parts
    assert good == body_of(b"APPEND", pack(conditional([TAGGED])))
    assert isinstance(refused, BadRequest)


def test_a_query_may_ask_for_whatever_types_and_tags_are_stored() -> None:
    (item,) = body_of(
        b"READ", pack({"query": [{"types": ["", "a\0b"], "tags": ["\0", "\n"]}]})
    ).query
    assert (item.types, item.tags) == (("", "a\0b"), ("\0", "\n"))


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


def test_requests_are_encoded_as_they_are_decoded() -> None:
    frames = encode_request("READ", b"5", Read(after=3, types=("a",)))
    assert decode_request([b"i", *frames]).body == Read(after=3, types=("a",))


# The store that a request is for

STORE, OTHER = b"\x01" * 16, b"\x02" * 16


@pytest.mark.parametrize("command", COMMANDS)
def test_another_store_refuses_any_request_and_names_both(command: bytes) -> None:
    bodies = {b"APPEND": {"events": [EVENT]}, b"NAMES": {"kind": "tag"}}
    body = pack(bodies.get(command, {}))
    tied = with_store_id(body, STORE)
    assert not isinstance(body_of(command, tied, store_id=STORE), RequestError)
    refused = body_of(command, tied, store_id=OTHER)
    assert isinstance(refused, WrongStore) and not refused.retryable
    for id in ("01010101-0101-0101-0101-010101010101", "02020202-0202-0202-0202-020202020202"):
        assert id in str(refused)


def test_a_store_id_is_16_bytes_or_nil() -> None:
    assert body_of(b"READ", pack({"store_id": None}), store_id=STORE) == Read()
    for wrong in (b"", b"short", "text" * 4, 7):
        refused = body_of(b"READ", pack({"store_id": wrong}), store_id=STORE)
        assert isinstance(refused, BadRequest) and "store_id" in str(refused)


def test_each_of_several_appends_may_be_for_a_store() -> None:
    one = pack({"events": [EVENT]})
    bodies = [one, with_store_id(one, STORE), with_store_id(one, OTHER)]
    parts = body_of(b"APPEND", b"\x93" + b"".join(bodies), store_id=STORE).parts
    assert [type(part).__name__ for part in parts] == ["Append", "Append", "WrongStore"]


def test_a_store_id_is_no_content_that_an_id_goes_alone_with() -> None:
    alone = with_store_id(pack({"id": bytes(16)}), STORE)
    assert body_of(b"READ", alone, store_id=STORE) == Read(id=bytes(16), store_id=STORE)


def test_a_store_id_is_one_key_more() -> None:
    body = {"events": [EVENT], "id": bytes(16), "expected": {"s": 1}}
    assert msgspec.msgpack.decode(with_store_id(pack(body), STORE)) == {**body, "store_id": STORE}
