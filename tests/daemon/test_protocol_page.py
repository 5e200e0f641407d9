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
from appends import event as stored_event
from appends import store_unchecked
from conftest import DURABLE, store_url
from raw import Raw

from rewind.testing import Daemon
from rewind.wire.envelope import ENVELOPE_BYTES_MAX, FRAMES_MAX
from rewind.wire.native import COMMANDS

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


@pytest.mark.parametrize("command", [command.decode() for command in COMMANDS])
def test_a_key_that_the_command_does_not_know_is_refused_by_its_name(
    client: Raw, stream: str, command: str
) -> None:
    needed = {"APPEND": {"events": [event(stream)]}, "NAMES": {"kind": "tag"}}.get(command, {})
    refused, _ = client.native(command, {**needed, "oops": 1})
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


# --- Queries ------------------------------------------------------------------------


@pytest.fixture
def tag() -> str:
    """A tag that no event of another test has."""
    return f"tag-{uuid.uuid4()}"


def places(client: Raw, items: list[Any], **asked: Any) -> list[int]:
    """The positions of a query's events, in one page; asserts that it is the last."""
    body, records = client.native("READ", {"query": items, **asked})
    assert body["end"], body
    return [record[0] for record in records]


def test_an_event_matches_an_item_that_it_has_everything_of(client: Raw, tag: str) -> None:
    category = f"c{uuid.uuid4().hex}"
    first = client.append(
        event(f"{category}-1", type="placed", tags=[tag, "red"]),
        event(f"{category}-2", type="paid", tags=[tag, "blue"]),
        event(category, type="paid", tags=["red", tag]),
        event(f"{category}x-1", type="", tags=[tag]),
    )["first"]
    mine = {"tags": [tag]}
    for items, found in (
        ([mine], [0, 1, 2, 3]),
        ([{**mine, "types": ["paid", "placed"]}], [0, 1, 2]),
        ([{**mine, "types": [""]}], [3]),
        ([{"tags": [tag, "red"]}], [0, 2]),
        ([{"categories": [category]}], [0, 1, 2]),
        ([{"streams": [f"{category}-2", category]}], [1, 2]),
        ([{"streams": [f"{category}-2"], "types": ["placed"]}], []),
        (
            [{"tags": [tag, "blue"]}, {"streams": [f"{category}x-1"]}, mine | {"types": [""]}],
            [1, 3],
        ),
        ([{**mine, "types": [], "streams": []}], [0, 1, 2, 3]),
    ):
        assert places(client, items) == [first + n for n in found], items
        assert places(client, items, backwards=True) == [first + n for n in reversed(found)], items


def test_a_stream_that_begins_with_a_dash_is_its_own_category(client: Raw) -> None:
    stream = f"-{uuid.uuid4()}"
    position = client.append((stream, b"d"))["first"]
    assert places(client, [{"categories": [stream]}]) == [position]


@pytest.mark.parametrize(
    ("items", "code", "words"),
    [
        ([], "bad_request", "query is empty"),
        ({}, "bad_request", "Expected `array"),
        ([{"tags": ["x"]}, {}], "bad_request", "$.query[1]"),
        ([{"tags": ["x"]}, {"types": [], "streams": []}], "bad_request", "$.query[1]"),
        ([{"tag": ["x"]}], "bad_request", "`tag`"),
        ([{"tags": "x"}], "bad_request", "Expected `array`"),
        ([{"tags": ["x" * 256]}], "bad_request", "256 bytes"),
        ([{"categories": ["a\0b"]}], "bad_request", "control character"),
        ([{"streams": ["a\0b"]}], "bad_request", "control character"),
        ([{"tags": ["x"]}] * 65, "too_large", "65 items"),
        ([{"types": [str(n) for n in range(1_025)]}], "too_large", "1025 names"),
    ],
)
def test_what_a_query_may_not_be(
    client: Raw, stream: str, items: Any, code: str, words: str
) -> None:
    read, _ = client.native("READ", {"query": items})
    condition = {"fail_if_events_match": items}
    append = client.append((stream, b""), conditions=[condition])
    for refused in (read, append):
        assert refused["code"] == code, refused
    assert words in read["message"], read
    assert client.native("READ", {"stream": stream})[0]["version"] == 0


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_query_finds_the_names_that_earlier_releases_stored(scheme: str, tmp_path: Any) -> None:
    url = store_url(scheme, tmp_path)
    store_unchecked(url, stored_event("s", type="a\0b", tags=("x\n", "\0")))
    with Daemon(url) as daemon, Raw(daemon.endpoint) as client:
        client.append(("s", b""))
        for item in ({"types": ["a\0b"]}, {"tags": ["x\n", "\0"]}):
            assert places(client, [item]) == [1]
        names, _ = client.native("NAMES", {"kind": "tag"})
        assert names["names"] == [["\0", 1], ["x\n", 1]]
        condition = {"fail_if_events_match": [{"types": ["a\0b"]}]}
        assert client.append(("s", b""), conditions=[condition])["position"] == 1


# --- Conditions ---------------------------------------------------------------------


def condition(tag: str, after: int = 0) -> dict[str, Any]:
    return {"fail_if_events_match": [{"tags": [tag]}], "after": after}


def test_a_condition_holds_if_no_event_behind_its_place_matches(client: Raw, tag: str) -> None:
    mine = event("s", tags=[tag])
    body, _ = client.native("READ", {"query": [{"tags": [tag]}]})
    decided = condition(tag, body["next"])
    other = {"fail_if_events_match": [{"types": ["never"]}]}
    stored = client.append(mine, mine, conditions=[other, decided])
    assert stored["first"] > body["next"]
    failed = client.append(mine, conditions=[other, decided])
    assert (failed["code"], failed["retryable"]) == ("condition_failed", False)
    assert (failed["condition"], failed["position"]) == (1, stored["first"])
    assert client.append(mine, conditions=[condition(tag, stored["last"])])["first"]
    every = {"fail_if_events_match": None, "after": stored["last"]}
    assert client.append(mine, conditions=[every])["position"] == stored["last"] + 1


def test_what_is_in_front_in_the_same_message_counts(client: Raw, tag: str) -> None:
    head = client.native("INFO")[0]["head"]
    one = {"events": [event("s", tags=[tag])], "conditions": [condition(tag)]}
    behind = {"events": [event("s")], "conditions": [condition(tag, head + 1)]}
    beyond = {"events": [event("s")], "conditions": [condition(tag, head + 3)]}
    first, again, third, fourth = client.native("APPEND", [one, one, behind, beyond])[0]
    assert first["first"] == head + 1 and third["first"] == head + 2
    assert (again["code"], again["position"]) == ("condition_failed", head + 1)
    assert fourth["code"] == "bad_request" and "conditions[0]" in fourth["message"]


@pytest.mark.parametrize("after", [-1, 2**62, 2**63])
def test_a_condition_is_decided_at_a_place_that_is_there(client: Raw, tag: str, after: int) -> None:
    refused = client.append(("s", b""), conditions=[condition(tag, after)])
    assert refused["code"] == "bad_request" and "conditions[0]" in refused["message"]


def test_a_read_after_the_head_is_empty(client: Raw, tag: str) -> None:
    body, records = client.native("READ", {"query": [{"tags": [tag]}], "after": 2**62})
    assert (records, body["end"], body["next"]) == ([], True, 2**62)


def test_a_condition_that_looks_at_too_much_says_how_far_nothing_matches(
    client: Raw, tag: str
) -> None:
    left, right = f"{tag}-left", f"{tag}-right"
    for _ in range(2):
        events = [event("s", tags=[(left, right)[n % 2]]) for n in range(4_000)]
        last = client.append(*events)["last"]
    wide = {"fail_if_events_match": [{"tags": [left, right]}]}
    append_id, tries, examined = uuid.uuid4().bytes, 0, 0
    while True:
        body = client.append(("s", b""), id=append_id, conditions=[{**wide, "after": examined}])
        if "first" in body:
            break
        assert (body["code"], body["condition"]) == ("condition_too_wide", 0)
        assert body["examined"] > examined
        tries, examined = tries + 1, body["examined"]
    assert tries >= 2 and examined <= last and body["first"] == last + 1


# --- Cursors ------------------------------------------------------------------------


@pytest.fixture
def cursor() -> str:
    """The name of a cursor that no other test moves."""
    return f"cursor-{uuid.uuid4()}"


def move(client: Raw, cursor: str, position: int | None, *events: Any, **more: Any) -> Any:
    """The reply to an append that moves one cursor, beside events or alone."""
    advance = {key: more.pop(key) for key in ("expected", "reset") if key in more}
    return client.append(*events, cursors={cursor: {"position": position, **advance}}, **more)


def at(client: Raw, cursor: str) -> int:
    body, _ = client.native("CURSORS", {"name": cursor})
    ((name, position, updated_at, lag_events, _),) = body["cursors"]
    assert name == cursor and body["end"]
    assert (position == 0 and updated_at == 0) or updated_at > 0
    assert lag_events == client.native("INFO")[0]["head"] - position
    return int(position)


def test_a_cursor_goes_forward_alone_or_beside_events(client: Raw, cursor: str) -> None:
    client.append(("s", b"1"), ("s", b"2"))
    assert at(client, cursor) == 0
    alone = move(client, cursor, 1, expected=0)
    assert {key: alone[key] for key in ("first", "last", "versions", "duplicate")} == {
        "first": 0,
        "last": 0,
        "versions": {},
        "duplicate": False,
    }
    assert "ids" not in alone and at(client, cursor) == 1
    assert move(client, cursor, 1) == alone, "to go where it stands is fine"
    assert move(client, cursor, 2, ("s", b"3"), expected=1)["first"] > 2
    assert at(client, cursor) == 2


def test_a_cursor_goes_back_only_where_that_is_said(client: Raw, cursor: str) -> None:
    client.append(("s", b""), ("s", b""))
    move(client, cursor, 2)
    for refused in (move(client, cursor, 1), move(client, cursor, 1, expected=2)):
        assert refused["code"] == "cursor_moved"
        assert (refused["cursor"], refused["actual"]) == (cursor, 2)
    assert move(client, cursor, 1)["expected"] is None
    assert move(client, cursor, 1, reset=True)["last"] == 0 and at(client, cursor) == 1
    late = move(client, cursor, 2, expected=2)
    assert (late["code"], late["expected"], late["actual"]) == ("cursor_moved", 2, 1)
    assert move(client, cursor, None)["last"] == 0 and at(client, cursor) == 0
    assert move(client, cursor, None)["last"] == 0, "to delete again is harmless"


def test_beside_events_a_cursor_goes_strictly_forward(client: Raw, cursor: str) -> None:
    client.append(("s", b""), ("s", b""))
    move(client, cursor, 2)
    head = client.native("INFO")[0]["head"]
    for position in (2, 1):
        refused = move(client, cursor, position, ("s", b""))
        assert (refused["code"], refused["actual"]) == ("cursor_moved", 2)
    for wrong in (
        move(client, cursor, 1, ("s", b""), reset=True),
        move(client, cursor, None, ("s", b"")),
    ):
        assert wrong["code"] == "bad_request" and cursor in wrong["message"]
    assert client.native("INFO")[0]["head"] == head and at(client, cursor) == 2


def test_a_cursor_is_not_beyond_the_head_before_the_append(client: Raw, cursor: str) -> None:
    head = client.append(("s", b""))["last"]
    for refused in (move(client, cursor, head + 1), move(client, cursor, head + 1, ("s", b""))):
        assert refused["code"] == "bad_request" and cursor in refused["message"]
    ahead = {"events": [event("s")]}
    behind = {"events": [], "cursors": {cursor: {"position": head + 1}}}
    assert "code" not in client.native("APPEND", [ahead, behind])[0][1]
    assert at(client, cursor) == head + 1


@pytest.mark.parametrize("name", ["", "$mine", "a\nb", "x" * 256])
def test_what_a_cursor_may_not_be_called(client: Raw, name: str) -> None:
    assert move(client, name, 0)["code"] == "bad_request"
    assert code_of(client, "CURSORS", {"name": name}) == "bad_request"


@pytest.mark.parametrize(
    "body",
    [
        {"events": []},
        {"events": [], "cursors": {}},
        {"events": [], "id": bytes(16), "cursors": {"c": {"position": 0}}},
        {"events": [], "cursors": {"c": {}}},
        {"events": [], "cursors": {"c": 0}},
        {"events": [], "cursors": {"c": {"position": -1}}},
        {"events": [], "cursors": {"c": {"position": 0, "expected": -1}}},
        {"events": [], "cursors": {"c": {"position": 0, "oops": 1}}},
    ],
    ids=str,
)
def test_what_an_append_without_events_may_not_be(client: Raw, body: Any) -> None:
    assert code_of(client, "APPEND", body) == "bad_request"


def test_an_append_is_judged_by_versions_conditions_and_cursors_in_that_order(
    client: Raw, stream: str, tag: str, cursor: str
) -> None:
    client.append(event(stream, tags=[tag]))
    conditions = [condition(tag)]
    move(client, cursor, 1)
    wrong = {"expected": 2}  # It is at 1.
    body = move(client, cursor, 1, conditions=conditions, **wrong)
    assert body["code"] == "condition_failed"
    all_wrong = {"cursors": {cursor: {"position": 1, "expected": 2}}, "conditions": conditions}
    assert client.append(expected={stream: 7}, **all_wrong)["code"] == "wrong_expected_version"
    assert client.append(expected={stream: 1}, **all_wrong)["code"] == "condition_failed"
    two = {f"{cursor}-2": {"position": 2**62}, cursor: {"position": 0, "expected": 9}}
    assert client.append(cursors=two)["code"] == "bad_request"
    assert client.append(cursors=dict(reversed(two.items())))["code"] == "cursor_moved"


def test_a_repetition_moves_a_cursor_that_lags_and_nothing_else(
    client: Raw, tag: str, cursor: str
) -> None:
    before = client.append(("s", b""), ("s", b""))["last"]
    append_id = uuid.uuid4().bytes
    mine = event("s", tags=[tag])
    said = {"id": append_id, "conditions": [condition(tag)], "expected": 0}
    first = move(client, cursor, before, mine, **said)
    again = {**first, "duplicate": True}
    assert move(client, cursor, before, mine, **said) == again and at(client, cursor) == before
    move(client, cursor, 1, reset=True)
    assert move(client, cursor, before, mine, **said) == again and at(client, cursor) == before
    move(client, cursor, first["last"])
    assert move(client, cursor, before, mine, **said) == again
    assert at(client, cursor) == first["last"], "never back"
    assert move(client, cursor, 2**62, mine, **said) == again
    assert at(client, cursor) == first["last"], "never beyond the head"


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


def test_an_append_is_found_by_its_id(client: Raw, stream: str) -> None:
    append_id = uuid.uuid4().bytes
    body, records = client.native("READ", {"append_id": append_id})
    assert (body["count"], body["end"], records) == (0, True, []) and "appended" not in body
    assert body["next"] == body["head"]
    stored = client.append((stream, b"1"), (stream, b"2"), id=append_id)
    del stored["store_id"]
    body, records = client.native("READ", {"append_id": append_id})
    assert body["appended"] == {**stored, "duplicate": True}
    assert [record[8] for record in records] == [b"1", b"2"] and body["count"] == 2
    for wrong in (
        {"append_id": b"short"},
        {"append_id": append_id, "after": 1},
        {"append_id": append_id, "id": append_id},
    ):
        assert code_of(client, "READ", wrong) == "bad_request"


@pytest.mark.parametrize(
    "other", [{"stream": "s"}, {"prefix": "s"}, {"types": ["t"]}, {"tags": ["t"]}]
)
def test_a_query_stands_in_place_of_the_other_filters(client: Raw, other: Any) -> None:
    refused, _ = client.native("READ", {"query": [{"tags": ["x"]}], **other})
    assert refused["code"] == "bad_request" and next(iter(other)) in refused["message"]


def test_a_read_of_a_query_waits_for_what_matches_it(
    daemon: Daemon, client: Raw, stream: str, tag: str
) -> None:
    head = client.native("INFO")[0]["head"]
    items = [{"tags": [tag], "types": ["wanted"]}, {"streams": [stream]}]
    client.send(b"READ", b"w", pack({"query": items, "after": head, "wait_ms": 20_000}))
    with Raw(daemon.endpoint) as writer:
        writer.append(event("s", tags=[tag]), event("s", type="wanted"))
        client.send(*INFO)
        assert client.recv()[1] == b"rid", "what does not match wakes nobody"
        last = writer.append(event("s"), event("s", type="wanted", tags=["x", tag]))["last"]
    body, records = client.native_reply(b"w")
    assert ([record[0] for record in records], body["next"]) == ([last], last)


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


# --- NAMES and CURSORS --------------------------------------------------------------


def test_names_are_listed_in_their_order_with_the_last_event_of_each(
    client: Raw, stream: str, tag: str
) -> None:
    tags = [f"{tag}-{end}" for end in ("b", "a", "é", "c")]
    first = client.append(*(event(stream, tags=[each]) for each in tags))["first"]
    last = client.append(event(stream, tags=[tags[0]]))["last"]
    asked = {"kind": "tag", "prefix": f"{tag}-", "limit": 2}
    body, _ = client.native("NAMES", asked)
    assert body["names"] == [[tags[1], first + 1], [tags[0], last]]
    assert (body["next"], body["end"]) == (tags[0], False)
    body, _ = client.native("NAMES", {**asked, "after": body["next"]})
    assert body["names"] == [[tags[3], first + 3], [tags[2], first + 2]] and body["end"]
    body, _ = client.native("NAMES", {**asked, "after": body["next"]})
    assert (body["names"], body["next"], body["end"]) == ([], tags[2], True)
    category = stream.partition("-")[0]
    body, _ = client.native("NAMES", {"kind": "category", "prefix": category})
    assert [category, last] in body["names"]
    body, _ = client.native("NAMES", {"kind": "tag", "prefix": "none", "after": None})
    assert (body["names"], body["next"], body["end"]) == ([], None, True)


def test_nil_and_not_the_empty_text_is_in_front_of_every_name(client: Raw) -> None:
    client.append(event("s", type=""))
    names, _ = client.native("NAMES", {"kind": "type", "limit": 1})
    assert names["names"][0][0] == ""
    names, _ = client.native("NAMES", {"kind": "type", "after": "", "limit": 1})
    assert names["names"][0][0] > ""


@pytest.mark.parametrize("kind", ["tags", "stream", "", None, 7])
def test_names_of_an_unknown_kind_are_bad_request(client: Raw, kind: Any) -> None:
    refused, _ = client.native("NAMES", {"kind": kind})
    assert refused["code"] == "bad_request" and "kind" in refused["message"]


def test_cursors_are_listed_with_how_far_they_are_behind(client: Raw, cursor: str) -> None:
    last = client.append(("s", b""), ("s", b""), ("s", b""))["last"]
    for end, position in (("b", last), ("a", last - 2)):
        move(client, f"{cursor}-{end}", position)
    body, _ = client.native("CURSORS", {"prefix": cursor, "limit": 1})
    ((name, position, updated_at, lag_events, lag_ns),) = body["cursors"]
    assert (name, position, lag_events) == (f"{cursor}-a", last - 2, 2)
    assert updated_at > 0 and lag_ns > 0
    assert (body["next"], body["end"]) == (name, False)
    body, _ = client.native("CURSORS", {"prefix": cursor, "after": name})
    ((name, position, _, lag_events, lag_ns),) = body["cursors"]
    assert (name, position, lag_events, lag_ns) == (f"{cursor}-b", last, 0, 0) and body["end"]
    assert code_of(client, "CURSORS", {"name": name, "prefix": "c"}) == "bad_request"


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
        ("NAMES", {"kind": "tag", "limit": 10_001}),
        ("CURSORS", {"limit": 10_001}),
        ("APPEND", {"events": [event("s")], "conditions": [condition("x")] * 65}),
        ("APPEND", {"events": [], "cursors": {str(n): {"position": 0} for n in range(65)}}),
        ("APPEND", [{"events": [event("s")], "conditions": [condition("x")] * 33}] * 2),
        ("APPEND", [{"events": [], "cursors": {str(n): {"position": 0}}} for n in range(65)]),
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
