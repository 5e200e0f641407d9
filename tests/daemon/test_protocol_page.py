"""docs/protocol.rst, statement by statement and in its order, with plain ZeroMQ sockets.

What a whole test elsewhere stands for (exactly once, waiting reads, the old dialects) is not repeated:
here are the sentences that say what happens at an edge.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import zmq
from raw import Raw

from rewind.testing import Daemon
from rewind.wire.envelope import ENVELOPE_BYTES_MAX, FRAMES_MAX

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon("memory:") as running:
        yield running


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Raw]:
    with Raw(daemon.endpoint) as connected:
        yield connected


@pytest.fixture
def stream() -> str:
    """The name of a stream that no other test writes to."""
    return f"s-{uuid.uuid4()}"


def event(stream: str, **fields: Any) -> list[Any]:
    values = {"id": None, "type": "t", "tags": [], "metadata": {}, "data": b"d", **fields}
    return [
        values["id"],
        stream,
        values["type"],
        values["tags"],
        values["metadata"],
        values["data"],
    ]


def code_of(client: Raw, command: str, body: Any) -> str:
    return str(client.native(command, body)[0].get("code", "OK"))


INFO = (b"INFO", b"rid", pack({}))


# --- Sockets ------------------------------------------------------------------------


def test_of_two_connections_with_the_same_routing_id_the_second_is_not_heard(
    daemon: Daemon,
) -> None:
    with contextlib.ExitStack() as opened:
        clients = []
        for _ in range(2):
            socket = opened.enter_context(Raw(daemon.endpoint)).socket
            again = socket.context.socket(zmq.DEALER)
            again.linger, again.rcvtimeo, again.routing_id = 0, 20_000, b"same"
            again.connect(daemon.endpoint)
            again.send_multipart(INFO)
            clients.append(again)
            if len(clients) == 1:
                assert again.recv_multipart()[:2] == [b"OK", b"rid"]
        assert not clients[1].poll(300)
        clients[0].send_multipart(INFO)
        assert clients[0].recv_multipart()[:2] == [b"OK", b"rid"]


# --- Envelope -----------------------------------------------------------------------


def test_an_empty_first_frame_is_the_delimiter(client: Raw) -> None:
    assert client.ask(b"", *INFO)[:3] == [b"", b"OK", b"rid"]


def test_a_command_as_the_first_frame_means_no_envelope(client: Raw) -> None:
    assert client.ask(*INFO)[:2] == [b"OK", b"rid"]
    assert client.ask(b"QUERY", b"", b"not an id")[0].startswith(b"ERROR the to id")


def test_everything_through_an_empty_frame_within_eight_is_the_envelope(client: Raw) -> None:
    for count in range(1, 8):
        envelope = [b"%d" % n for n in range(count)] + [b""]
        assert client.ask(*envelope, *INFO)[: count + 3] == [*envelope, b"OK", b"rid"]
    nine = [b"%d" % n for n in range(8)] + [b""]
    assert client.ask(*nine, *INFO)[0].startswith(b"ERROR unknown command '0'")


def test_an_envelope_has_2048_bytes_at_most(client: Raw) -> None:
    most = bytes(ENVELOPE_BYTES_MAX)
    assert client.ask(most[1:], b"x", b"", *INFO)[:4] == [most[1:], b"x", b"", b"OK"]
    (error,) = client.ask(most, b"x", b"", *INFO)
    assert error.startswith(b"ERROR unknown command") and len(error) < 300


def test_a_delimiter_with_nothing_behind_it_is_an_error(client: Raw) -> None:
    assert client.ask(b"") == [b"", b"ERROR the request is empty: it has no command"]


# --- Fields -------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["type", "tags", "stream"])
@pytest.mark.parametrize("character", ["\0", "\n", "\x7f", "\x85"])
def test_names_have_no_control_characters(
    client: Raw, stream: str, field: str, character: str
) -> None:
    text = f"a{character}b"
    wrong = (
        event(text)
        if field == "stream"
        else event(stream, **{field: [text] if field == "tags" else text})
    )
    assert code_of(client, "APPEND", {"events": [wrong]}) == "bad_request"
    if field != "stream":  # What was stored before that rule can still be asked for.
        asked = {"types": [text]} if field == "type" else {"tags": [text]}
        assert code_of(client, "READ", asked) == "OK"


# --- Native requests ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["APPEND", "READ", "STREAMS", "INFO"])
def test_a_key_that_the_command_does_not_know_is_refused_by_its_name(
    client: Raw, stream: str, command: str
) -> None:
    body = {"events": [event(stream)], "oops": 1} if command == "APPEND" else {"oops": 1}
    refused, _ = client.native(command, body)
    assert refused["code"] == "bad_request" and "oops" in refused["message"]


def test_of_a_key_that_comes_twice_the_last_counts(client: Raw, stream: str) -> None:
    twice = b"\x82" + pack("limit") + pack(5) + pack("limit") + pack(0)
    assert unpack(client.ask(b"READ", b"rid", twice)[2])["count"] == 0
    metadata = b"\x82" + pack("k") + pack(1) + pack("k") + pack(2)
    events = b"\x91\x96\xc0" + pack(stream) + pack("t") + b"\x90" + metadata + pack(b"d")
    assert client.ask(b"APPEND", b"rid", b"\x81" + pack("events") + events)[0] == b"OK"
    (record,) = client.native("READ", {"stream": stream})[1]
    assert record[7] == {"k": 2}


@pytest.mark.parametrize("command", [b"INFO", b"FROB"])
def test_a_request_id_longer_than_64_bytes_is_an_error_whose_reply_has_an_empty_one(
    client: Raw, command: bytes
) -> None:
    assert client.ask(command, b"r" * 64, pack({}))[1] == b"r" * 64
    status, request_id, body = client.ask(command, b"r" * 65, pack({}))
    assert (status, request_id) == (b"ERROR", b"")
    assert unpack(body)["code"] == ("bad_request" if command == b"INFO" else "unknown_command")


# --- READ ---------------------------------------------------------------------------


def test_id_goes_alone_and_any_other_key_must_have_its_default(client: Raw, stream: str) -> None:
    appended = client.append((stream, b"d"))
    (id,) = appended["ids"]
    for more in ({}, {"after": 0}, {"backwards": False, "types": [], "wait_ms": 0, "until": None}):
        body, records = client.native("READ", {"id": id, **more})
        assert (body["count"], body["end"], body["next"]) == (1, True, body["head"])
        assert records[0][0] == appended["first"]
    for more in ({"after": 1}, {"backwards": True}, {"limit": 10_000}):
        assert code_of(client, "READ", {"id": id, **more}) == "bad_request"


def test_a_range_beyond_the_end_reads_as_empty(client: Raw, stream: str) -> None:
    client.append((stream, b"1"), (stream, b"2"))
    body, records = client.native("READ", {"stream": stream, "after": 7, "until": 9})
    assert (records, body["next"], body["end"], body["version"]) == ([], 7, True, 2)
    body, records = client.native(
        "READ", {"stream": stream, "after": 7, "until": 9, "backwards": True}
    )
    assert (records, body["next"], body["end"], body["version"]) == ([], 2, True, 2)


def test_a_stream_that_does_not_exist_reads_as_empty(client: Raw, stream: str) -> None:
    body, records = client.native("READ", {"stream": stream, "after": 3})
    assert (records, body["next"], body["end"], body["version"]) == ([], 3, True, 0)


# --- INFO ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--insecure",)])
def test_insecure_is_whether_that_option_was_given(options: tuple[str, ...]) -> None:
    with Daemon("memory:", *options) as daemon, Raw(daemon.endpoint) as client:
        assert client.native("INFO")[0]["insecure"] is bool(options)


# --- Exactly once in effect -----------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "again", "same"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1.0}, False),
        ({"a": 1}, {"a": True}, False),
        ({"a": 0.0}, {"a": -0.0}, False),
    ],
)
def test_content_is_compared_as_decoded_values(
    client: Raw, stream: str, first: Any, again: Any, same: bool
) -> None:
    append_id = uuid.uuid4().bytes
    stored = client.append(event(stream, metadata=first), id=append_id)
    repeated = client.append(event(stream, metadata=again), id=append_id)
    if same:
        assert repeated == {**stored, "duplicate": True}
    else:
        assert repeated["code"] == "id_conflict"


# --- Errors -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [b"\x80", b"\x8f", b"\xde\x00\x00", b"\xdf", b"\x81\x80\x01", b"\x81\xd4\x01\x01\x01"]
)
def test_an_unknown_command_whose_third_frame_begins_as_a_map_is_answered_natively(
    client: Raw, body: bytes
) -> None:
    status, request_id, error = client.ask(b"", b"FROB", b"rid", body)[1:]
    assert (status, request_id) == (b"ERROR", b"rid")
    assert unpack(error)["code"] == "unknown_command" and unpack(error)["retryable"] is False


@pytest.mark.parametrize(
    "frames",
    [
        (b"FROB",),
        (b"FROB", b"rid"),
        (b"FROB", b"rid", b"text"),
        (b"FROB", b"rid", b""),
        (b"FROB", b"rid", b"\x90"),
        (b"FROB", b"rid", b"\x80", b""),
        (b"PUBLISH",),
        (b"PUBLISH", b"s", b"d", b"x"),
        (b"QUERY", b"", b"", b"", b""),
    ],
)
def test_any_other_error_is_one_frame_of_text(client: Raw, frames: tuple[bytes, ...]) -> None:
    _, error = client.ask(b"", *frames)
    assert error.startswith(b"ERROR ") and error.isascii()


# --- Limits -------------------------------------------------------------------------


def test_a_message_has_64_frames_at_most(client: Raw) -> None:
    frames = [b"READ", b"rid", *[b""] * (FRAMES_MAX - 2)]
    assert unpack(client.ask(*frames)[2])["code"] == "bad_request"
    assert unpack(client.ask(*frames, b"")[2])["code"] == "too_large"


@pytest.mark.parametrize(
    ("command", "body"),
    [
        ("READ", {"limit": 10_001}),
        ("READ", {"max_bytes": 8 * 1024 * 1024 + 1}),
        ("READ", {"wait_ms": 30_001}),
        ("READ", {"types": ["t"] * 257}),
        ("STREAMS", {"limit": 10_001}),
        ("APPEND", {"events": [event("s")] * 4_097}),
        ("APPEND", {"events": [event("s", data=bytes(4 * 1024 * 1024 + 1))]}),
        ("APPEND", {"events": [event("s")], "expected": {str(n): 0 for n in range(4_097)}}),
        ("APPEND", {"events": [event("s", data=bytes(4 * 1024 * 1024))] * 4}),
    ],
)
def test_above_a_limit_the_answer_is_too_large(client: Raw, command: str, body: Any) -> None:
    assert code_of(client, command, body) == "too_large"


def test_more_metadata_than_its_limit_is_bad_request(client: Raw, stream: str) -> None:
    large = event(stream, metadata={"k": "v" * 65_536})
    assert code_of(client, "APPEND", {"events": [large]}) == "bad_request"


def test_of_several_mistakes_one_is_answered(client: Raw) -> None:
    assert code_of(client, "READ", {"limit": 10_001, "id": b"short"}) in (
        "too_large",
        "bad_request",
    )


def test_who_does_not_read_loses_replies_and_is_answered_again_when_reading(
    daemon: Daemon, client: Raw
) -> None:
    envelope = [b"p" * 250] * 7 + [b""]
    with Raw(daemon.endpoint) as slow:
        slow.socket.rcvhwm = 1
        for _ in range(12_000):
            slow.send(*envelope, b"FROB")
        assert client.native("INFO")[0]["name"] == "rewind"
        refused = 0
        for _ in range(20):  # What comes too early may be dropped like the others.
            while slow.socket.poll(1_000):
                if b"OK" in slow.recv():
                    assert 1_000 < refused <= 12_000
                    return
                refused += 1
            slow.send(*INFO)
        raise AssertionError("who reads again is not answered")


# --- Feeds --------------------------------------------------------------------------


def subscriber(daemon: Daemon, *topics: bytes, **options: int) -> Raw:
    sub = Raw(daemon.endpoints["topic"], zmq.SUB)
    for name, value in options.items():
        setattr(sub.socket, name, value)
    for topic in topics:
        sub.socket.subscribe(topic)
    return sub


def first_heard(sub: Raw, client: Raw, stream: str) -> bytes:
    """The data of the first event that arrives, of many that are appended a little apart."""
    for n in range(200):
        client.append((stream, b"%d" % n))
        while sub.socket.poll(50):
            topic, record = sub.recv()
            if topic == stream.encode():
                return bytes(unpack(record)[8])
    raise AssertionError("none of 200 events has arrived")


def test_topics_match_too_much(daemon: Daemon, client: Raw, stream: str) -> None:
    with subscriber(daemon, stream.encode()) as sub:
        assert first_heard(sub, client, stream + "0")


def test_a_topic_of_more_than_1000_bytes_has_its_connection_dropped(
    daemon: Daemon, client: Raw, stream: str
) -> None:
    with subscriber(daemon, b"t" * 1_000, stream.encode()) as sub:
        assert first_heard(sub, client, stream)
        monitor = sub.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        sub.socket.subscribe(b"t" * 1_024)
        assert monitor.poll(10_000), "the connection is still there"
        sub.socket.disable_monitor()


def test_more_topics_than_the_high_water_mark_need_it_set_to_0(
    daemon: Daemon, client: Raw, stream: str
) -> None:
    topics = [b"%s.%d." % (stream.encode(), n) for n in range(3_000)]
    with subscriber(daemon, *topics, sndhwm=0) as sub:
        assert first_heard(sub, client, topics[-1].decode() + "x")


def test_a_sub_that_lost_its_connection_subscribes_again_only_inside_a_call(stream: str) -> None:
    with Daemon("memory:") as daemon, subscriber(daemon, stream.encode()) as sub:
        with Raw(daemon.endpoint) as client:
            assert first_heard(sub, client, stream)
            while sub.socket.poll(300):
                sub.recv()
        reconnected = sub.socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
        daemon.restart()
        assert reconnected.poll(20_000)
        with Raw(daemon.endpoint) as client:
            assert client.append((stream, b"lost"))["first"] == 1
            assert first_heard(sub, client, stream) != b"lost"
        sub.socket.disable_monitor()
