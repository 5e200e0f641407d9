"""Fake daemons and feeds, for the answers and faults that a real daemon does not make on demand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import zmq

pack = msgspec.msgpack.encode


def free_endpoint() -> str:
    """An endpoint nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


def ok_head(frames: list[bytes], head: int) -> list[bytes]:
    """The answer to ``READ {limit: 0}``."""
    body = {"count": 0, "next": 0, "head": head, "end": True}
    return [frames[0], b"OK", frames[2], pack(body), b"\x90"]


def refusal(frames: list[bytes], code: str) -> list[bytes]:
    """An error reply."""
    body = {"code": code, "message": "on purpose", "retryable": True}
    return [frames[0], b"ERROR", frames[2], pack(body)]


class FakeDaemon:
    """A ROUTER that answers a request (identity, command, request id, body) with what ``answer``
    returns, and not at all when that is None. ``requests``: all that came."""

    def __init__(
        self, answer: Callable[[list[bytes], FakeDaemon], list[bytes] | None], endpoint: str = ""
    ) -> None:
        self._context = zmq.Context()
        self._router = self._context.socket(zmq.ROUTER)
        self._router.linger = 0
        self._router.bind(endpoint or "tcp://127.0.0.1:*")
        self.endpoint = self._router.last_endpoint.decode().rstrip("\0")
        self.requests: list[list[bytes]] = []
        self._answer = answer
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            if self._router.poll(20):
                identity, delimiter, *request = self._router.recv_multipart()
                assert delimiter == b"", "no proxy would let it pass"
                self.requests.append([identity, *request])
                reply = self._answer([identity, *request], self)
                if reply is not None:
                    self._router.send_multipart([reply[0], b"", *reply[1:]])

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join()
        self._context.destroy(linger=0)


class FakeFeed:
    """A topic socket that sends what a test wants."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.XPUB)
        self._socket.linger = 0
        self._socket.bind("tcp://127.0.0.1:*")
        self.endpoint = self._socket.last_endpoint.decode().rstrip("\0")

    def wait_for_subscriber(self) -> None:
        assert self._socket.poll(20_000), "nobody subscribed"
        assert self._socket.recv() == b"\1"

    def store(self, store_id: bytes) -> None:
        self._socket.send_multipart([b"$store", store_id])

    def head(self, head: int) -> None:
        self._socket.send_multipart([b"$head", pack(head)])

    def publish(self, stream: bytes, record: Any) -> None:
        self._socket.send_multipart([stream, record])

    def __enter__(self) -> FakeFeed:
        return self

    def __exit__(self, *exc: object) -> None:
        self._context.destroy(linger=0)
