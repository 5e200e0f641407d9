"""A client decodes what the daemon encoded, and refuses what is no reply."""

from __future__ import annotations

import msgspec
import pytest

from rewind.errors import WrongExpectedVersion
from rewind.wire import decode_reply, decode_request, encode_error

pack = msgspec.msgpack.encode


def test_an_error_reaches_the_client_as_the_same_exception() -> None:
    request = decode_request([b"i", b"", b"READ", b"7", pack({})])
    frames = encode_error(request, WrongExpectedVersion("s", 3, 5))
    request_id, error = decode_reply(frames[1:])
    assert request_id == b"7"
    assert isinstance(error, WrongExpectedVersion)
    assert (error.stream, error.expected, error.actual) == ("s", 3, 5)


def test_garbage_is_no_reply() -> None:
    with pytest.raises(ValueError, match="not a native reply"):
        decode_reply([b"", b"PUBLISHED"])
