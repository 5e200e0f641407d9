"""The golden session: every kind of request in every dialect, against a store whose id and clock are fixed.

``tests/golden/session.json`` holds the frames that came back, in hex; docs/vectors.rst is made from it.
``python tests/golden_session.py`` writes both anew, which is a change of the protocol: look at the diff.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import zmq

from rewind.backends.memory import MemoryBackend
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.events import own_id_prefix
from rewind.store import Store

GOLDEN = Path(__file__).parent / "golden" / "session.json"
VECTORS = Path(__file__).parent.parent / "docs" / "vectors.rst"
STORE_ID = uuid.UUID("0f8fad5b-d9cb-469f-a165-70867728950e")
CLOCK_NS = 1_357_016_400_000_000_000  # 2013-01-01T05:00:00Z
FREE = "tcp://127.0.0.1:*"
pack = msgspec.msgpack.encode

ID_1 = bytes.fromhex("11111111111141118111111111111111")
APPEND_1 = bytes.fromhex("aaaaaaaaaaaa4aaa8aaaaaaaaaaaaaaa")
APPEND_2 = bytes.fromhex("bbbbbbbbbbbb4bbb8bbbbbbbbbbbbbbb")
OWN_1 = b"0f8fad5b-d9cb-869f-8000-000000000001"


def requests() -> list[tuple[str, list[bytes], int]]:
    """Name, frames behind the delimiter, and how many messages answer."""
    event = [None, "order-1", "placed", ["vip"], {"correlation_id": "c1"}, b"{}"]
    placed = {"events": [event], "id": APPEND_1, "expected": {"order-1": 0}}
    with_id = {"events": [[ID_1, "order-2", "placed", [], {}, b"\x00\xff"]]}
    vip = [{"tags": ["vip"]}]
    gift = [None, "gift-1", "sent", ["vip"], {}, b""]

    def moved(*events: list[Any], **advance: Any) -> dict[str, Any]:
        return {"events": list(events), "cursors": {"gifts": advance}}

    return [
        ("query-empty-store", [b"QUERY", b"", b""], 1),
        ("publish", [b"PUBLISH", b"hello"], 1),
        ("query-all", [b"QUERY", b"", b""], 1),
        ("query-after-last", [b"QUERY", OWN_1, b""], 1),
        ("query-unknown-id", [b"QUERY", b"00000000-0000-4000-8000-000000000000", b""], 1),
        ("gorewind-publish", [b"PUBLISH", b"stream", b"data"], 1),
        ("gorewind-query", [b"QUERY", b"stream", b"", b""], 2),
        ("gorewind-query-id-of-other-stream", [b"QUERY", b"stream", OWN_1, b""], 1),
        ("append", [b"APPEND", b"\x01", pack(placed)], 1),
        ("append-again", [b"APPEND", b"\x02", pack(placed)], 1),
        ("append-event-id", [b"APPEND", b"\x03", pack(with_id)], 1),
        (
            "append-wrong-expected-version",
            [b"APPEND", b"\x04", pack({"events": [event], "expected": {"order-1": 7}})],
            1,
        ),
        (
            "append-id-conflict",
            [b"APPEND", b"\x05", pack({"events": [event, event], "id": APPEND_1})],
            1,
        ),
        (
            "append-several-one-refused",
            [
                b"APPEND",
                b"\x11",
                pack([with_id, {"events": [event], "expected": {"order-1": 7}}]),
            ],
            1,
        ),
        ("append-unknown-key", [b"APPEND", b"\x06", pack({"events": [event], "if": 1})], 1),
        ("read-all", [b"READ", b"\x07", pack({})], 1),
        ("read-backwards-limit-1", [b"READ", b"\x08", pack({"backwards": True, "limit": 1})], 1),
        ("read-stream", [b"READ", b"\x09", pack({"stream": "order-1"})], 1),
        ("read-no-such-stream", [b"READ", b"\x0a", pack({"stream": "order-9"})], 1),
        (
            "read-types-and-tags",
            [b"READ", b"\x0b", pack({"types": ["placed"], "tags": ["vip"]})],
            1,
        ),
        ("read-id", [b"READ", b"\x0c", pack({"id": ID_1})], 1),
        ("read-unknown-id", [b"READ", b"\x0d", pack({"id": bytes(16)})], 1),
        ("read-head", [b"READ", b"\x0e", pack({"limit": 0})], 1),
        (
            "read-of-this-store",
            [b"READ", b"\x12", pack({"limit": 0, "store_id": STORE_ID.bytes})],
            1,
        ),
        (
            "read-of-another-store",
            [b"READ", b"\x13", pack({"limit": 0, "store_id": bytes(16)})],
            1,
        ),
        (
            "append-several-one-for-another-store",
            [b"APPEND", b"\x14", pack([with_id, {"events": [event], "store_id": bytes(16)}])],
            1,
        ),
        ("streams", [b"STREAMS", b"\x0f", pack({"prefix": "order-", "limit": 1})], 1),
        ("read-query", [b"READ", b"\x20", pack({"query": vip})], 1),
        (
            "read-query-of-two-items",
            [b"READ", b"\x21", pack({"query": [*vip, {"types": [""], "categories": ["stream"]}]})],
            1,
        ),
        ("read-query-empty-item", [b"READ", b"\x22", pack({"query": [*vip, {}]})], 1),
        (
            "append-condition-failed",
            [
                b"APPEND",
                b"\x23",
                pack({"events": [gift], "conditions": [{"fail_if_events_match": vip, "after": 2}]}),
            ],
            1,
        ),
        (
            "append-condition-beyond-the-head",
            [
                b"APPEND",
                b"\x24",
                pack(
                    {"events": [gift], "conditions": [{"fail_if_events_match": None, "after": 9}]}
                ),
            ],
            1,
        ),
        (
            "append-condition-and-cursor",
            [
                b"APPEND",
                b"\x25",
                pack(
                    {
                        **moved(gift, position=3, expected=0),
                        "id": APPEND_2,
                        "conditions": [{"fail_if_events_match": vip, "after": 3}],
                    }
                ),
            ],
            1,
        ),
        ("read-append-id", [b"READ", b"\x26", pack({"append_id": APPEND_2})], 1),
        ("read-unknown-append-id", [b"READ", b"\x27", pack({"append_id": bytes(16)})], 1),
        ("cursor-alone", [b"APPEND", b"\x28", pack(moved(position=5))], 1),
        ("cursor-moved", [b"APPEND", b"\x29", pack(moved(gift, position=5, expected=3))], 1),
        ("cursor-back", [b"APPEND", b"\x2a", pack(moved(position=1))], 1),
        ("cursor-reset", [b"APPEND", b"\x2b", pack(moved(position=1, reset=True))], 1),
        ("cursors", [b"CURSORS", b"\x2c", pack({})], 1),
        ("cursor-deleted", [b"APPEND", b"\x2d", pack(moved(position=None))], 1),
        ("cursor-by-name", [b"CURSORS", b"\x2e", pack({"name": "gifts"})], 1),
        ("names-of-tags", [b"NAMES", b"\x2f", pack({"kind": "tag"})], 1),
        ("names-of-categories", [b"NAMES", b"\x30", pack({"kind": "category", "limit": 2})], 1),
        ("names-of-unknown-kind", [b"NAMES", b"\x31", pack({"kind": "stream"})], 1),
        ("unknown-command", [b"FROB"], 1),
        ("unknown-command-native", [b"FROB", b"\x10", pack({})], 1),
        ("empty-command", [], 1),
        ("publish-without-data", [b"PUBLISH"], 1),
    ]


@contextmanager
def golden_server() -> Iterator[Server]:
    """A server in a thread whose every answer is known beforehand."""
    backend = MemoryBackend()
    backend.store_id = STORE_ID
    backend._own_prefix = own_id_prefix(STORE_ID)
    settings = Settings(
        store="memory:",
        incoming_bind=(FREE,),
        streaming_bind=(FREE,),
        topic_bind=(FREE,),
        gorewind_bind=(FREE,),
    )
    server = Server(settings, Store(backend, clock=lambda: CLOCK_NS))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def run() -> dict[str, Any]:
    """Hold the session; every frame that came back, in hex."""
    context = zmq.Context()
    try:
        with golden_server() as server:
            feeds = {
                name: _subscribe(context, server, name)
                for name in ("streaming", "topic", "gorewind")
            }
            client = context.socket(zmq.DEALER)
            client.rcvtimeo = 10_000
            client.connect(server.endpoints["incoming"][0])
            exchanges = []
            for name, frames, count in requests():
                client.send_multipart([b"", *frames])
                replies = [client.recv_multipart() for _ in range(count)]
                exchanges.append(
                    {
                        "name": name,
                        "request": _hex([b"", *frames]),
                        "replies": [_hex(r) for r in replies],
                    }
                )
            events = {name: [_hex(_event(feed)) for _ in range(5)] for name, feed in feeds.items()}
            said = [_hex(_said(feeds["topic"], topic)) for topic in (b"$head", b"$store")]
            return {
                "store_id": str(STORE_ID),
                "clock_ns": CLOCK_NS,
                "exchanges": exchanges,
                "feeds": {**events, "topic": events["topic"] + said},
            }
    finally:
        context.destroy(linger=0)


def _subscribe(context: Any, server: Server, name: str) -> Any:
    """A SUB socket that is surely subscribed: it has seen a heartbeat, or the server its topic."""
    made = context.socket(zmq.SUB)
    made.rcvtimeo = 10_000
    made.subscribe(b"")
    made.connect(server.endpoints[name][0])
    feed = {
        "streaming": server._feeds._streaming,
        "topic": server._feeds._topic,
        "gorewind": server._feeds._gorewind,
    }[name]
    for _ in range(1_000):
        if feed:
            break
        made.poll(10)
    return made


def _event(feed: Any) -> list[bytes]:
    while True:
        frames: list[bytes] = feed.recv_multipart()
        if not frames[0].startswith(b"$"):
            return frames


def _said(feed: Any, topic: bytes) -> list[bytes]:
    """What a feed says of itself every second."""
    while True:
        frames: list[bytes] = feed.recv_multipart()
        if frames[0] == topic:
            return frames


def _hex(frames: list[bytes]) -> list[str]:
    return [frame.hex() for frame in frames]


def vectors(session: dict[str, Any]) -> str:
    """docs/vectors.rst from the golden session."""
    lines = [
        "Test vectors",
        "============",
        "",
        "The golden session the tests hold Rewind to: a client in another language that sends these",
        "requests in this order to a fresh store gets these replies. One line a frame, in hex (``-`` is the",
        "empty frame), the DEALER's delimiter first. Only what hangs on the store differs elsewhere: here",
        f"its id is ``{session['store_id']}`` and its clock stands at {session['clock_ns']} ns.",
        "",
    ]
    for exchange in session["exchanges"]:
        lines += [f"``{exchange['name']}``", "", "::", ""]
        lines += _frames(">", exchange["request"])
        for reply in exchange["replies"]:
            lines += _frames("<", reply)
        lines.append("")
    for name, messages in session["feeds"].items():
        lines += [f"The {name} feed meanwhile:", "", "::", ""]
        for message in messages:
            lines += _frames("<", message)
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def _frames(arrow: str, frames: list[str]) -> list[str]:
    return [f"    {arrow if i == 0 else ' '} {frame or '-'}" for i, frame in enumerate(frames)]


if __name__ == "__main__":
    session = run()
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(json.dumps(session, indent=1) + "\n")
    VECTORS.write_text(vectors(session))
