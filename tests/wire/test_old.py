"""The dialects of Rewind 0.3 and gorewind: what is refused, and in which form."""

from __future__ import annotations

import pytest

from rewind.wire import decode_request, encode_error


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
