"""A real daemon for tests: a process of its own on free ports, which can be killed and restarted."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import zmq

READY_S = 30
FEEDS = ("incoming", "streaming", "topic", "gorewind")


class Daemon:
    """``rewind serve`` on a store; ``endpoints`` by name. Restarting keeps the ports."""

    def __init__(self, store: str, *options: str, env: dict[str, str] | None = None) -> None:
        self.store = store
        self.options = options
        self.env = {**os.environ, **(env or {})}
        self.endpoints = dict.fromkeys(FEEDS, "tcp://127.0.0.1:*")
        self.log: list[str] = []
        self.start()

    def start(self) -> None:
        """Start, and wait for the ready line. Fails with the daemon's own words."""
        command = [sys.executable, "-m", "rewind", "serve", "--store", self.store]
        for name, endpoint in self.endpoints.items():
            command += [f"--{name}-bind", endpoint]
        self.process = subprocess.Popen(
            [*command, *self.options], stderr=subprocess.PIPE, text=True, env=self.env
        )
        watchdog = threading.Timer(READY_S, self.process.kill)
        watchdog.start()
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if " ready " in line:
                break
        else:
            raise AssertionError(f"exit {self.process.wait()}: {''.join(self.log)}")
        watchdog.cancel()
        self.endpoints.update(re.findall(r"(\w+)=((?:tcp|ipc)://\S+)", line))
        self._reader = threading.Thread(target=self.log.extend, args=(self.process.stderr,))
        self._reader.start()

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit code."""
        return self._end(signal.SIGTERM)

    def restart(self, *, kill: bool = True) -> None:
        """Start again on the same ports and store."""
        self.kill() if kill else self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait until it has ended by itself; returns the exit code. ``log`` is whole then."""
        code = self.process.wait(READY_S)
        self._reader.join()
        return code

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


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
