"""Requests as frames, answered out of a store: what the daemon and the embedded client both do."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from appends import append, event, filled, key

from rewind.answers import About, answer, answer_appends, appends_in
from rewind.errors import BadRequest, RequestError, WrongExpectedVersion
from rewind.events import Appended
from rewind.release import __version__
from rewind.wire import native
from rewind.wire.envelope import Request, decode_request
from rewind.wire.old import id_text

ABOUT = About(endpoints={"incoming": ["tcp://here:1"]}, event_bytes_max=1_000, insecure=True)
STORE = b"\x01" * 16
pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


def request(*frames: bytes) -> Request:
    return decode_request([b"peer", b"", *frames], store_id=STORE)


def native_request(command: bytes, body: Any = None) -> Request:
    return request(command, b"rid", pack(body or {}))


def body_of(reply: list[bytes]) -> Any:
    """The body of a native reply whose frames and store are as they must be, without the store."""
    assert reply[:2] == [b"peer", b""] and reply[3] == b"rid"
    body = unpack(reply[4])
    for each in body if isinstance(body, list) else [body]:
        assert each.pop("store_id") == STORE
    return body


@pytest.mark.parametrize("command", [c for c in native.COMMANDS if c != b"APPEND"])
def test_every_native_read_command_has_an_answer(command: bytes) -> None:
    body = {"kind": "tag"} if command == b"NAMES" else {}
    assert answer(native_request(command, body), filled(), ABOUT)[2] == b"OK"


def test_info_says_the_store_and_what_is_told_about_the_daemon() -> None:
    store = filled(3)
    info = body_of(answer(native_request(b"INFO"), store, ABOUT))
    assert (info["backend"], info["durability"], info["head"]) == ("memory", "memory", 3)
    assert (info["name"], info["release"], info["protocol"]) == ("rewind", __version__, 1)
    assert info["endpoints"] == {"incoming": ["tcp://here:1"]} and info["insecure"] is True
    assert info["limits"] == {**native.LIMITS, "event_bytes": 1_000}


def test_a_read_is_answered_at_once_whatever_it_would_wait() -> None:
    reply = answer(native_request(b"READ", {"after": 20, "wait_ms": 30_000}), filled(), ABOUT)
    assert body_of(reply) == {"count": 0, "next": 20, "head": 20, "end": True}
    assert reply[5] == b"\x90"


def test_streams_are_paged_by_name() -> None:
    reply = answer(native_request(b"STREAMS", {"limit": 1}), filled(), ABOUT)
    assert body_of(reply) == {"streams": [["even", 10]], "next": "even", "end": False}


def test_names_are_paged_by_name_with_their_last_position() -> None:
    store = filled()
    asked = {"kind": "tag", "prefix": "g", "limit": 2}
    body = body_of(answer(native_request(b"NAMES", asked), store, ABOUT))
    assert body == {"names": [["g0", 16], ["g1", 17]], "next": "g1", "end": False}
    body = body_of(answer(native_request(b"NAMES", {**asked, "after": "g3"}), store, ABOUT))
    assert body == {"names": [["g4", 20]], "next": "g4", "end": True}
    for kind, first in (("type", ["t0", 19]), ("category", ["even", 19])):
        body = body_of(answer(native_request(b"NAMES", {"kind": kind}), store, ABOUT))
        assert body["names"][0] == first


def test_a_cursor_that_does_not_exist_is_answered_by_its_name_alone() -> None:
    body = body_of(answer(native_request(b"CURSORS", {"name": "c"}), filled(), ABOUT))
    ((name, position, updated_at, lag_events, lag_ns),) = body["cursors"]
    assert (name, position, updated_at, lag_events, body["end"]) == ("c", 0, 0, 20, True)
    assert lag_ns > 0
    assert body_of(answer(native_request(b"CURSORS"), filled(), ABOUT))["cursors"] == []


def test_an_append_is_found_by_its_id_with_its_first_answer() -> None:
    store = filled(1)
    request = native_request(b"APPEND", {"events": [an_event(), an_event()], "id": key(1)})
    outcomes, _ = store.append(appends_in([request]))
    first = body_of(answer_appends(request, iter(outcomes)))
    reply = answer(native_request(b"READ", {"append_id": key(1)}), store, ABOUT)
    body = body_of(reply)
    assert body.pop("appended") == {**first, "duplicate": True}
    assert body == {"count": 2, "next": 3, "head": 3, "end": True}
    assert [record[0] for record in unpack(reply[5])] == [2, 3]
    reply = answer(native_request(b"READ", {"append_id": key(2)}), store, ABOUT)
    assert body_of(reply) == {"count": 0, "next": 3, "head": 3, "end": True}


def test_a_query_of_rewind_0_3_is_a_page_without_end_when_stopped_by_the_count() -> None:
    store = filled(101)
    events = [(id_text(e.id_bytes), e.data) for e in store.read(native.Read()).events]
    frames = answer(request(b"QUERY", b"", b""), store, ABOUT)
    assert frames == [b"peer", b"", *(frame for pair in events[:100] for frame in pair)]
    frames = answer(request(b"QUERY", events[99][0], b""), store, ABOUT)
    assert frames == [b"peer", b"", *events[100], b"END"]


def test_an_error_in_place_of_a_request_is_answered_and_never_raised() -> None:
    refused = native_request(b"FROB")
    assert body_of(answer(refused, filled(), ABOUT))["code"] == "unknown_command"
    assert refused.body.__traceback__ is None


def test_what_refuses_a_read_is_raised() -> None:
    store = filled(2)
    first, second = [id_text(event.id_bytes) for event in store.read(native.Read()).events]
    with pytest.raises(BadRequest, match="later"):
        answer(request(b"QUERY", second, first), store, ABOUT)


def an_event(stream: str = "s") -> list[Any]:
    return [None, stream, "t", [], {}, b"d"]


def test_appends_are_taken_out_of_a_batch_and_answered_in_its_order() -> None:
    several = [
        {"events": [an_event("a")]},
        {"events": [an_event("$reserved")]},
        {"events": [an_event("b")], "expected": {"b": 7}},
    ]
    batch = [
        native_request(b"APPEND", {"events": [an_event("x")], "id": key(1)}),
        request(b"FROB"),
        native_request(b"APPEND", several),
        request(b"PUBLISH", b"data"),
        request(b"PUBLISH", b"stream", b"data"),
    ]
    appends = appends_in(batch)
    assert [a.events[0].stream for a in appends] == ["x", "a", "b", "default", "stream"]
    store = filled(0)
    outcomes: list[Appended | RequestError] = store.append(appends)[0]
    left = iter(outcomes)
    first, unknown, array, old, gorewind = [answer_appends(each, left) for each in batch]
    assert next(left, None) is None
    assert body_of(first)["first"] == 1 and body_of(first)["versions"] == {"x": 1}
    assert unknown[2].startswith(b"ERROR unknown command")
    done, reserved, late = body_of(array)
    assert done["first"] == 2 and reserved["code"] == "bad_request"
    assert late["code"] == WrongExpectedVersion.code and late["actual"] == 0
    assert old == [b"peer", b"", b"PUBLISHED"]
    assert gorewind == [b"peer", b"", b"PUBLISHED", id_text(outcomes[4].id_bytes[0])]


def test_what_an_embedded_store_appends_is_a_batch_of_one() -> None:
    one = native_request(b"APPEND", {"events": [an_event()], "expected": {"s": 1}})
    (outcome,), _ = filled(0).append(appends_in([one]))
    assert body_of(answer_appends(one, iter([outcome])))["actual"] == 0
    (outcome,), _ = filled(0).append([append(event())])
    assert body_of(answer_appends(one, iter([outcome])))["first"] == 1
