"""A client decodes what the daemon encoded, and refuses what is no reply."""

from __future__ import annotations

import msgspec
import pytest

from rewind.errors import (
    BadRequest,
    ConditionFailed,
    ConditionTooWide,
    CursorMoved,
    RequestError,
    WrongExpectedVersion,
)
from rewind.events import Appended
from rewind.wire import ReadAnswer, decode_reply, decode_request, encode_error
from rewind.wire.replies import (
    MALFORMED,
    CursorRow,
    Reply,
    answer_in,
    answers_of,
    cursors_of,
    encode_appended,
    encode_appends,
    encode_cursors,
    encode_names,
    encode_ok,
    encode_read,
    encode_streams,
    error_of,
    found_append_of,
    names_of,
)

pack = msgspec.msgpack.encode
STORE = b"\x01" * 16


def test_an_error_reaches_the_client_as_the_same_exception() -> None:
    request = decode_request([b"i", b"", b"READ", b"7", pack({})], store_id=bytes(16))
    frames = encode_error(request, WrongExpectedVersion("s", 3, 5))
    request_id, error = decode_reply(frames[1:])
    assert request_id == b"7"
    assert isinstance(error, WrongExpectedVersion)
    assert (error.stream, error.expected, error.actual) == ("s", 3, 5)


@pytest.mark.parametrize(
    "error",
    [
        WrongExpectedVersion("s", -1, 0),
        ConditionFailed(2, 7),
        ConditionTooWide(1, 4_000),
        CursorMoved("c", 3, 5),
        CursorMoved("c", None, 5, "cursor c is at 5, and does not go back to 3"),
    ],
    ids=lambda error: error.code,
)
def test_what_a_code_promises_reaches_the_client(error: RequestError) -> None:
    request = decode_request([b"i", b"", b"READ", b"7", pack({})], store_id=bytes(16))
    _, arrived = decode_reply(encode_error(request, error)[1:])
    assert type(arrived) is type(error) and str(arrived) == str(error)
    assert isinstance(arrived, RequestError) and arrived.details() == error.details()


@pytest.mark.parametrize(
    "body",
    [
        {"code": "wrong_expected_version", "stream": "s", "expected": 1},
        {"code": "condition_failed", "condition": 1},
        {"code": "condition_failed", "condition": -1, "position": 1},
        {"code": "condition_failed", "condition": 0, "position": "1"},
        {"code": "condition_too_wide", "condition": 1, "examined": None},
        {"code": "cursor_moved", "cursor": "c", "actual": 1},
        {"code": "cursor_moved", "cursor": b"c", "expected": 1, "actual": 1},
    ],
    ids=str,
)
def test_an_error_without_what_its_code_promises_is_malformed(body: dict[str, object]) -> None:
    with pytest.raises(MALFORMED):
        error_of(body)


def test_names_and_cursors_are_decoded_as_they_were_encoded() -> None:
    def reply(frames: list[bytes]) -> Reply:
        answer = decode_reply(frames[1:])[1]
        assert isinstance(answer, Reply)
        return answer

    asked = decode_request([b"i", b"", b"NAMES", b"7", pack({"kind": "type"})], store_id=STORE)
    said = names_of(reply(encode_names(asked, [("", 3), ("a", 2)], False)))
    assert (said.names, said.next, said.end) == ([("", 3), ("a", 2)], "a", False)
    assert names_of(reply(encode_names(asked, [], True))).next is None
    asked = decode_request([b"i", b"", b"CURSORS", b"7", pack({"after": "b"})], store_id=STORE)
    row = CursorRow("c", 3, 1_000, 4, 50)
    found = cursors_of(reply(encode_cursors(asked, [row], True)))
    assert (found.cursors, found.next, found.end) == ([row], "c", True)
    assert cursors_of(reply(encode_cursors(asked, [], True))).next == "b"


@pytest.mark.parametrize(
    "body",
    [
        {"cursors": [["c", 3, 1_000, 4]], "next": "c", "end": True},
        {"cursors": [["c", -3, 1_000, 4, 5]], "next": "c", "end": True},
        {"cursors": [], "next": None, "end": True},
        {"names": [], "next": ""},
        {"names": [["a"]], "next": "", "end": True},
    ],
    ids=str,
)
def test_a_list_that_is_not_as_it_must_be_is_malformed(body: dict[str, object]) -> None:
    with pytest.raises(MALFORMED):
        (cursors_of if "cursors" in body else names_of)(Reply(b"", body, b""))


def test_the_answer_of_an_append_that_was_asked_for_by_its_id() -> None:
    request = decode_request(
        [b"i", b"", b"READ", b"7", pack({"append_id": bytes(16)})], store_id=STORE
    )
    done = Appended(4, 5, (b"a" * 16, b"b" * 16), {"s": 2}, True, "fsync")
    for appended in (done, None):
        answer = ReadAnswer(0, b"\x90", 5, 5, True, True, None, appended)
        reply = decode_reply(encode_read(request, answer)[1:])[1]
        assert isinstance(reply, Reply) and found_append_of(reply) == appended
        assert ("appended" in reply.body) is (appended is not None)
        assert "store_id" not in reply.body.get("appended", {})


def test_an_error_may_name_a_path_that_is_not_utf8() -> None:
    request = decode_request([b"i", b"", b"READ", b"7", pack({})], store_id=b"\x01" * 16)
    _, error = decode_reply(encode_error(request, BadRequest("/tmp/\udcff is full"))[1:])
    assert str(error) == "/tmp/\\udcff is full"


def test_garbage_is_no_reply() -> None:
    with pytest.raises(ValueError, match="not a native reply"):
        decode_reply([b"", b"PUBLISHED"])


def test_every_native_reply_says_its_store() -> None:
    store = b"\x01" * 16
    request = decode_request([b"i", b"", b"STREAMS", b"7", pack({})], store_id=store)
    done = Appended(1, 1, (), {"s": 1}, False, "fsync")
    for frames in (
        encode_error(request, BadRequest("on purpose")),
        encode_appended(request, done),
        encode_read(request, ReadAnswer(0, b"\x90", 0, 0, True, False, None)),
        encode_streams(request, [], True),
        encode_names(request, [], True),
        encode_cursors(request, [], True),
        encode_ok(request, {}),
    ):
        assert decode_reply(frames[1:])[1].store_id == store
    several = decode_reply(encode_appends(request, [done, BadRequest("on purpose")])[1:])[1]
    assert not isinstance(several, BadRequest)
    assert [answer_in(each, b"").store_id for each in answers_of(several, 2)] == [store, store]


def test_an_earlier_daemon_says_no_store() -> None:
    for status, body in ((b"OK", {}), (b"ERROR", {"code": "overloaded"})):
        assert decode_reply([status, b"", pack(body)])[1].store_id is None


def test_the_old_dialects_say_no_store() -> None:
    for frames in ([b"PUBLISH", b"x"], [b"PUBLISH", b"s", b"x"], [b"FROB"], [b"QUERY"]):
        request = decode_request([b"i", b"", *frames], store_id=b"\x01" * 16)
        done = Appended(1, 1, (bytes(16),), {"s": 1}, False, "fsync")
        for reply in (encode_error(request, BadRequest("b")), encode_appended(request, done)):
            assert b"\x01" not in b"".join(reply)
