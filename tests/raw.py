"""A plain pyzmq client for tests: no class of Rewind's is between it and the daemon's sockets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import zmq


class Raw:
    """A plain pyzmq client, as somebody in another language would write it."""

    def __init__(self, endpoint: str, kind: int = zmq.DEALER, timeout_ms: int = 20_000) -> None:
        self.context = zmq.Context()
        self.socket = self.context.socket(kind)
        self.socket.linger = 0
        self.socket.rcvtimeo = self.socket.sndtimeo = timeout_ms
        self.socket.connect(endpoint)

    def send(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def recv(self) -> list[bytes]:
        return self.socket.recv_multipart()

    def ask(self, *frames: bytes) -> list[bytes]:
        self.send(*frames)
        return self.recv()

    def native(self, command: str, body: Any = None, request_id: bytes = b"r") -> Any:
        """Send a native request over a DEALER without delimiter; returns (body, records or None)."""
        self.send(command.encode(), request_id, msgspec.msgpack.encode(body or {}))
        return self.native_reply(request_id)

    def native_reply(self, request_id: bytes = b"r") -> Any:
        status, echoed, reply, *chunk = self.recv()
        assert (status in (b"OK", b"ERROR")) and echoed == request_id, (status, echoed)
        return msgspec.msgpack.decode(reply), (msgspec.msgpack.decode(chunk[0]) if chunk else None)

    def append(self, *events: Sequence[Any], **body: Any) -> Any:
        """APPEND of (stream, data) pairs or whole event arrays; returns the reply body."""
        full = [[None, e[0], "t", [], {}, e[1]] if len(e) == 2 else list(e) for e in events]
        return self.native("APPEND", {"events": full, **body})[0]

    def close(self) -> None:
        self.context.destroy(linger=0)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
