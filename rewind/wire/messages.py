"""Messages on and off a socket, for daemon and clients, by the shortest way through pyzmq.

``recv_multipart`` asks the socket after every frame whether more follow, and turns the question into
an enum member first, which takes 1 us a frame. A ``Frame`` brings the answer along. ``Socket.send``
looks for options of ZeroMQ's drafts before it calls the method of the same name below it, and spends
half of its time so. What frames mean is in envelope.py and replies.py.
"""

from __future__ import annotations

from typing import Any

import zmq


def sender(socket: zmq.Socket[bytes]) -> Any:
    """The ``send`` of a socket that has no options of the drafts: no ``routing_id``, no ``group``."""
    return super(zmq.Socket, socket).send


def receive(recv: Any, flags: int = 0) -> list[bytes]:
    """The frames of one message. ``recv`` is a socket's method; what it raises passes through."""
    frames: list[bytes] = []
    more = True
    while more:
        frame = recv(flags, False)
        frames.append(frame.bytes)
        more = frame.more
    return frames


def receive_routed(recv: Any, flags: int = 0) -> list[bytes]:
    """The frames of one message from a ROUTER, where another frame always follows the identity."""
    frames: list[bytes] = [recv(flags)]
    more = True
    while more:
        frame = recv(flags, False)
        frames.append(frame.bytes)
        more = frame.more
    return frames
