"""What one commit takes: so many appends, and fewer where they have conditions."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from raw import Raw

from rewind.backends.memory import MemoryBackend
from rewind.daemon.server import BATCH_APPENDS_MAX, CONDITION_APPENDS, Server, _append_count
from rewind.daemon.settings import Settings
from rewind.store import Store
from rewind.wire import decode_request

pack = msgspec.msgpack.encode
FREE = "tcp://127.0.0.1:*"


def an_append(conditions: int = 0) -> dict[str, Any]:
    condition = {"fail_if_events_match": [{"tags": ["x"]}]}
    return {"events": [[None, "s", "t", [], {}, b""]], "conditions": [condition] * conditions}


@pytest.mark.parametrize(
    ("body", "appends"),
    [
        (an_append(), 1),
        (an_append(2), 1 + 2 * CONDITION_APPENDS),
        ([an_append()] * 3, 3),
        ([an_append(), an_append(1), an_append(3)], 3 + 4 * CONDITION_APPENDS),
    ],
)
def test_a_condition_counts_like_sixteen_appends(body: Any, appends: int) -> None:
    assert CONDITION_APPENDS == 16
    assert _append_count(decode_request([b"i", b"", b"APPEND", b"1", pack(body)])) == appends


def test_a_batch_ends_where_its_conditions_are_enough() -> None:
    settings = Settings(
        store="memory:", incoming_bind=(FREE,), streaming_bind=(FREE,), topic_bind=(FREE,)
    )
    server = Server(settings, Store(MemoryBackend()))
    with server._opened, Raw(server.endpoints["incoming"][0]) as client:
        full = pack([an_append(1)] * 64)
        assert 64 * (1 + CONDITION_APPENDS) > BATCH_APPENDS_MAX
        for n in range(3):
            client.send(b"APPEND", b"%d" % n, full)
        batches = []
        while sum(map(len, batches)) < 3:
            batches.append(server._drain(server._poll(10_000)))
        assert [request.request_id for (request,) in batches] == [b"0", b"1", b"2"]
