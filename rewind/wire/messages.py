"""Messages on and off a socket, for server and clients, by the shortest way through pyzmq.

``recv_multipart`` asks the socket after every frame whether more follow, and turns the question into
an enum member first: 1 us a frame. A ``Frame`` brings the answer along. ``Socket.send`` looks for
options of ZeroMQ's drafts before it calls the method of the same name below it: half of its time.
"""

from __future__ import annotations

from typing import Any

import zmq


def sender(made: zmq.Socket[bytes]) -> Any:
    """The ``send`` of a socket, without ``routing_id`` and ``group``."""
    return super(zmq.Socket, made).send


def receive(recv: Any, flags: int = 0) -> list[bytes]:
    """The frames of one message. ``recv``: of a socket; what it raises comes through."""
    frames: list[bytes] = []
    more = True
    while more:
        frame = recv(flags, False)
        frames.append(frame.bytes)
        more = frame.more
    return frames


def receive_routed(recv: Any, flags: int = 0) -> list[bytes]:
    """The same from a ROUTER: behind the identity there is always another frame."""
    frames: list[bytes] = [recv(flags)]
    more = True
    while more:
        frame = recv(flags, False)
        frames.append(frame.bytes)
        more = frame.more
    return frames
