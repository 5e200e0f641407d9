"""A message is cut into route and request; its dialect is recognised; nothing raises."""

from __future__ import annotations

import msgspec
import pytest

from rewind.errors import BadRequest, UnknownCommand
from rewind.events import Append
from rewind.wire import GOREWIND, NATIVE, REWIND, Info, OldQuery, Read, Streams, decode_request

pack = msgspec.msgpack.encode


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
        ([b"id", b"", b"FROB", b"1" * 65, pack({})], [b"id", b""], NATIVE, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", b"\x81\x80\x01"], [b"id", b""], NATIVE, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", b"\xde\x00\x00"], [b"id", b""], NATIVE, UnknownCommand),
        ([b"id", b"", b"FROB", b"1", b""], [b"id", b""], REWIND, UnknownCommand),
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
