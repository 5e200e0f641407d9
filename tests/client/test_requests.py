"""What a client asks, and when it asks again: without a socket, a thread or a clock."""

from __future__ import annotations

import subprocess
import sys
import uuid
from typing import Any

import msgspec
import pytest
from answers_by_hand import WHERE, info

import rewind
from rewind.client.appends import new_append_id
from rewind.client.names import stream_pages
from rewind.client.pages import EventPages
from rewind.client.requests import (
    ATTEMPT_S_MAX,
    Call,
    Requests,
    parse_reply,
)
from rewind.errors import (
    BadRequest,
    Internal,
    Overloaded,
    ShuttingDown,
    StorageFull,
    TooLarge,
    Unavailable,
)
from rewind.events import NewEvent
from rewind.wire.envelope import decode_request
from rewind.wire.native import Read
from rewind.wire.replies import Reply

pack = msgspec.msgpack.encode
unpack = msgspec.msgpack.decode


# One request


def call(timeout_s: float = 10.0, command: bytes = b"READ", append_id: bytes | None = None) -> Any:
    return Call(WHERE, command, b"", lambda reply: reply, timeout_s, append_id)


def test_attempts_grow_and_end_with_the_time_out() -> None:
    asked = call(30)
    asked.deadline_s = 130.0
    now_s, attempts = 100.0, []
    while now_s < asked.deadline_s:
        asked.attempt(now_s)
        attempts.append(asked.due_s - now_s)
        now_s = asked.due_s
    assert attempts == [1, 2, 4, ATTEMPT_S_MAX, ATTEMPT_S_MAX, 7]


def test_a_short_time_out_is_one_attempt() -> None:
    asked = call(0.25)
    asked.deadline_s = 5.25
    asked.attempt(5.0)
    assert asked.due_s == 5.25
    with pytest.raises(Unavailable, match=r"0\.25 s"):
        raise asked.no_answer()
    at_once = call(0)
    at_once.deadline_s = 5.0
    at_once.attempt(5.0)
    assert at_once.due_s == 5.0


@pytest.mark.parametrize("refused", [Overloaded("x"), ShuttingDown("x")])
def test_passing_refusals_back_off(refused: rewind.RequestError) -> None:
    asked = call(1e9)
    asked.attempt(0)
    pauses = []
    for _ in range(12):
        asked.pause(refused, 0)
        pauses.append(asked.due_s)
    assert 0.01 <= pauses[0] <= 0.02 and 0.5 <= pauses[-1] <= 1.0


@pytest.mark.parametrize("refused", [StorageFull("x"), BadRequest("x"), Internal("x")])
def test_other_refusals_are_final(refused: rewind.RequestError) -> None:
    asked = call()
    asked.attempt(0)
    with pytest.raises(type(refused)):
        asked.pause(refused, 0)


def test_unavailable_says_what_to_do() -> None:
    error = call(command=b"APPEND", append_id=b"i" * 16).unavailable("no answer")
    assert error.append_id == b"i" * 16 and "append_id" in str(error)
    assert "may have been stored" not in str(call().unavailable("no answer"))


# Appends


def test_append_ids_are_made_unless_the_events_have_some() -> None:
    made = Requests(WHERE, 1)
    first = made.append("s", NewEvent("t"))
    second = made.append("s", NewEvent("t"))
    assert first.append_id and second.append_id and first.append_id != second.append_id
    assert unpack(first.body)["id"] == first.append_id
    id = uuid.uuid4()
    own = made.append("s", NewEvent("t", id=id))
    assert own.append_id is None and "id" not in unpack(own.body)
    both = made.append("s", NewEvent("t", id=id), None, str(uuid.UUID(int=5)))
    assert both.append_id == uuid.UUID(int=5).bytes


def test_append_ids_are_uuids_in_order_of_time() -> None:
    ids = [new_append_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(uuid.UUID(bytes=id).version == 7 for id in ids)
    assert all(uuid.UUID(bytes=id).variant == uuid.RFC_4122 for id in ids)
    assert [id[:6] for id in ids] == sorted(id[:6] for id in ids)


def test_the_daemon_understands_what_is_made() -> None:
    made = Requests(WHERE, 1)
    calls = [
        made.append("s", [NewEvent("t", b"d", tags=["x"], metadata={"a": 1})], 0),
        made.append_streams([("a", NewEvent("t")), ("b", NewEvent("t"))], {"c": -1}),
        made.event(uuid.uuid4()),
        made.head(),
        made.info(),
        stream_pages(made, "p").call(),
        EventPages(made, Read(1, 2, 3, None, True, None, "p", ("t",), (), 4)).call(),
    ]  # fmt: skip
    for each in calls:
        assert each is not None
        request = decode_request([b"identity", b"", each.command, b"rid", each.body])
        assert not isinstance(request.body, Exception), request.body


def test_limits_told_by_info_are_kept() -> None:
    made = Requests(WHERE, 1)
    made.append("s", NewEvent("t", bytes(2_000)))
    limits = {"event_bytes": 1_000, "request_bytes": 1_500, "unknown": 1}
    reply = Reply(b"", {**info(uuid.uuid4()), "limits": limits, "later": "ignored"}, b"")
    assert made.info().decode(reply).limits == limits
    with pytest.raises(TooLarge, match="2000 bytes"):
        made.append("s", NewEvent("t", bytes(2_000)))
    with pytest.raises(TooLarge, match="1500"):
        made.append("s", [NewEvent("t", bytes(900))] * 2)


def test_replies_that_make_no_sense_are_refused() -> None:
    made = Requests(WHERE, 1)
    page = {"count": 1, "next": 1, "head": 1, "end": True}
    for call, body, chunk in (
        (made.info(), {"name": "rewind"}, b""),
        (made.head(), {}, b"\x90"),
        (made.head(), {**page, "head": "1"}, b"\x90"),
        (made.event(uuid.uuid4()), page, b"\x91\x01"),
        (made.event(uuid.uuid4()), page, b"\x91" * 1_000_000),
        (made.event(uuid.uuid4()), {**page, "count": 0}, b"\x90"),
    ):
        with pytest.raises(Unavailable, match="native protocol"):
            call.value(Reply(b"", body, chunk))
    append = made.append("s", NewEvent("t"))
    for body in ({}, [], {"first": 1, "last": 1, "versions": [], "duplicate": 0, "durability": 1}):
        with pytest.raises(Unavailable, match="native protocol") as failed:
            append.value(Reply(b"", body, b""))
        assert failed.value.append_id == append.append_id  # It may have been stored.
    for frames in ([], [b""], [b"PUBLISHED"], [b"ERROR text"], [b"OK", b""], [b"OK"] * 5):
        with pytest.raises(Unavailable):
            parse_reply(frames, WHERE)
    for status in (b"OK", b"ERROR"):
        for wrong in (b"\xc1", b"\x01", b"\x91" * 1_000_000):
            request_id, answer = parse_reply([status, b"id", wrong], WHERE)
            assert request_id == b"id" and isinstance(answer, Unavailable)


def test_a_forked_child_makes_append_ids_of_its_own() -> None:
    code = """
import os, sys
from rewind.client.appends import new_append_id
read, write = os.pipe()
if os.fork() == 0:
    os.write(write, b"".join(new_append_id() for _ in range(100)))
    os._exit(0)
os.wait()
ours, theirs = b"".join(new_append_id() for _ in range(100)), os.read(read, 1600)
random = [{ids[at + 6 : at + 16] for at in range(0, 1600, 16)} for ids in (ours, theirs)]
sys.exit(len(random[0] | random[1]) != 200)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_second_event_is_not_taken_for_an_expected_version() -> None:
    with pytest.raises(TypeError, match="give several events as a list"):
        Requests(WHERE, 10.0).append("s", NewEvent("a"), NewEvent("b"))  # type: ignore[arg-type]
