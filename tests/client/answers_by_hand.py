"""A daemon made of its parts, without sockets: for tests of a client's decisions."""

from __future__ import annotations

import uuid
from typing import Any

from rewind.answers import About, answer, answer_appends, appends_in
from rewind.backends.memory import MemoryBackend
from rewind.client import requests
from rewind.errors import RequestError
from rewind.events import Append, AppendEvent, Record
from rewind.store import Store
from rewind.wire.envelope import decode_request
from rewind.wire.native import Appends, Info, Streams
from rewind.wire.replies import encode_error, encode_ok, encode_streams, info_body

WHERE = "tcp://127.0.0.1:1"
_ABOUT = About({}, 1, False)


class Answers:
    """A store that answers requests as the daemon does."""

    def __init__(self) -> None:
        self.backend = MemoryBackend()
        self.store = Store(self.backend)

    def append(self, count: int = 1, stream: str = "s") -> list[Record]:
        events = tuple(AppendEvent(None, stream, "t", (), {}, b"") for _ in range(count))
        return self.store.append([Append(events)])[1]

    def answer(self, command: bytes, request_id: bytes, body: bytes) -> list[bytes]:
        frames = [b"i", b"", command, request_id, body]
        request = decode_request(frames, store_id=self.store.id.bytes)
        if isinstance(request.body, Info):
            return encode_ok(request, info(self.store.id, self.store.head))[2:]
        if isinstance(request.body, RequestError):
            return encode_error(request, request.body)[2:]
        if isinstance(request.body, Append | Appends):
            outcomes, _ = self.store.append(appends_in([request]))
            return answer_appends(request, iter(outcomes))[2:]
        if isinstance(request.body, Streams):
            body = request.body
            return encode_streams(request, *self.store.streams(body.prefix, body.after, 1))[2:]
        return answer(request, self.store, _ABOUT)[2:]

    def reply(self, asked: Any) -> Any:
        return requests.parse_reply(self.answer(asked.command, b"", asked.body), WHERE)[1]


def info(store_id: uuid.UUID, head: int = 0) -> dict[str, Any]:
    body = info_body(
        release="1",
        backend="memory",
        durability="memory",
        head=head,
        endpoints={"topic": ["tcp://127.0.0.1:2"]},
        event_bytes_max=1,
        insecure=False,
        connections_max=None,
    )
    return {**body, "store_id": store_id.bytes}
