"""A client decodes what the daemon encoded, and refuses what is no reply."""

from __future__ import annotations

import msgspec
import pytest

from rewind.errors import BadRequest, WrongExpectedVersion
from rewind.events import Appended
from rewind.wire import ReadAnswer, decode_reply, decode_request, encode_error
from rewind.wire.replies import (
    answer_in,
    answers_of,
    encode_appended,
    encode_appends,
    encode_ok,
    encode_read,
    encode_streams,
)

pack = msgspec.msgpack.encode


def test_an_error_reaches_the_client_as_the_same_exception() -> None:
    request = decode_request([b"i", b"", b"READ", b"7", pack({})], store_id=bytes(16))
    frames = encode_error(request, WrongExpectedVersion("s", 3, 5))
    request_id, error = decode_reply(frames[1:])
    assert request_id == b"7"
    assert isinstance(error, WrongExpectedVersion)
    assert (error.stream, error.expected, error.actual) == ("s", 3, 5)


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
