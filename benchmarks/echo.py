"""A ROUTER with the receive and reply loops of Rewind's server that decodes and stores nothing.

``python -m benchmarks.echo``. It says on which endpoint it is ready and runs until it is ended. A
turn is: receive what has arrived, at most 1,024 messages, then answer each from replies made
beforehand, of the size that Rewind's would have. Of an APPEND body that is an array it reads the
array's header, no more: as many answers go back as one array.
"""

from __future__ import annotations

import signal
import sys
import time
from typing import NoReturn

import msgspec
import zmq

from benchmarks.events import DATA_BYTES, HOT_EVENTS, TYPE
from rewind.release import PROTOCOL
from rewind.wire.messages import receive_routed, sender
from rewind.wire.native import LIMITS

MESSAGES_MAX = 1_024
PEER_MESSAGES = 1_000
CHUNK_RECORDS = 3_000  # they are about 1 MiB, Rewind's answer to a READ that names no bound
NOW, MORE = int(zmq.DONTWAIT), int(zmq.SNDMORE | zmq.DONTWAIT)

pack = msgspec.msgpack.encode


def main() -> NoReturn:
    """Serve."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    router: zmq.Socket[bytes] = zmq.Context().socket(zmq.ROUTER)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.RCVHWM, PEER_MESSAGES)
    router.setsockopt(zmq.SNDHWM, PEER_MESSAGES)
    router.setsockopt(zmq.LINGER, 0)
    port = router.bind_to_random_port("tcp://127.0.0.1")
    print(f"ready tcp://127.0.0.1:{port}", flush=True)
    answers = Answers()
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    receive, send = router.recv, sender(router)
    while True:
        poller.poll()
        requests = []
        for _ in range(MESSAGES_MAX):
            try:
                requests.append(receive_routed(receive, NOW)[0])
            except zmq.Again:
                break
        for frames in requests:
            reply = answers.to(frames)
            try:
                for frame in reply[:-1]:
                    send(frame, MORE)
                send(reply[-1], NOW)
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise


class Answers:
    """Replies made beforehand."""

    def __init__(self) -> None:
        self.appended = pack(
            {
                "first": 1_000_000,
                "last": 1_000_000,
                "versions": {"stream-0000": 1_000},
                "duplicate": False,
                "durability": "memory",
            }
        )
        self.info = pack(
            {
                "name": "rewind",
                "release": "echo",
                "protocol": PROTOCOL,
                "store_id": bytes(16),
                "backend": "memory",
                "durability": "memory",
                "head": CHUNK_RECORDS,
                "endpoints": {},
                "limits": LIMITS,
                "insecure": False,
            }
        )
        self.page = _read(CHUNK_RECORDS, "cold-0000000")
        self.stream = _read(HOT_EVENTS, "hot-000000")

    def to(self, frames: list[bytes]) -> list[bytes]:
        """The reply to a request of a DEALER that sends no delimiter."""
        identity, command = frames[0], frames[1]
        if command == b"APPEND":
            return [identity, b"OK", frames[2], self._appended(frames[3])]
        if command == b"PUBLISH":
            return [identity, b"PUBLISHED"]
        if command == b"READ":
            body, chunk = self.stream if b"\xa6stream" in frames[3] else self.page
            return [identity, b"OK", frames[2], body, chunk]
        return [identity, b"OK", frames[2], self.info]

    def _appended(self, body: bytes) -> bytes:
        """One answer to a map; to an array of maps (fixarray, array 16) as many behind its header."""
        kind = body[0]
        if kind & 0xF0 == 0x90:
            return body[:1] + self.appended * (kind & 0x0F)
        if kind == 0xDC:
            return body[:3] + self.appended * int.from_bytes(body[1:3], "big")
        return self.appended


def _read(count: int, stream: str) -> tuple[bytes, bytes]:
    """The body and the chunk of an answer to a READ that leaves nothing to be read."""
    body = {"count": count, "next": count, "head": count, "end": True, "version": count}
    now_ns = time.time_ns()
    records = [
        [number, now_ns, bytes(16), stream, number, TYPE, [], {}, bytes(DATA_BYTES)]
        for number in range(1, count + 1)
    ]
    return pack(body), pack(records)


if __name__ == "__main__":
    main()
