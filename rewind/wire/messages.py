"""Messages on and off a socket, for daemon and clients, by the shortest way through pyzmq.

``recv_multipart`` asks the socket after every frame whether more follow, and turns the question into
an enum member first, which takes 1 us a frame. A ``Frame`` brings the answer along. ``Socket.send``
looks for options of ZeroMQ's drafts before it calls the method of the same name below it, and spends
half of its time so. What frames mean is in envelope.py and replies.py.

A message has any number of frames, and ZeroMQ hands over one after another, each in a microsecond: a
million of empty ones, sent in two megabytes, would occupy the daemon for a second. ZeroMQ has no bound for
it and skips nothing. So whoever receives stops at a bound, and drops the rest a part at a time.
"""

from __future__ import annotations

from typing import Any

import zmq

from rewind.wire.envelope import FRAMES_MAX

_FRAMES = range(FRAMES_MAX)


class TooManyFrames(Exception):
    """A message has more than ``FRAMES_MAX`` frames; these are the first, the rest is still to come."""

    def __init__(self, frames: list[bytes]) -> None:
        super().__init__(f"a message has more than {FRAMES_MAX} frames")
        self.frames = frames


def sender(socket: zmq.Socket[bytes]) -> Any:
    """The ``send`` of a socket that has no options of the drafts: no ``routing_id``, no ``group``."""
    return super(zmq.Socket, socket).send


def prepare_large_messages() -> None:
    """Have pyzmq do now what it puts off until the first frame that is not copied.

    It imports a module, and starts a thread with a socket of its own. Both need descriptors, which a
    daemon with many connections may not have any longer.
    """
    zmq.Frame(b"", copy=False, track=True)


def receive(recv: Any, flags: int = 0) -> list[bytes]:
    """The frames of one message. ``recv`` is a socket's method; what it raises passes through."""
    frames: list[bytes] = []
    more = True
    while more:
        frame = recv(flags, False)
        frames.append(frame.bytes)
        more = frame.more
    return frames


def receive_routed(recv: Any, flags: int = 0) -> tuple[list[bytes], zmq.Frame]:
    """The frames of one message from a ROUTER, where another frame always follows the identity.

    The last of them also as ZeroMQ has it: it knows the connection (``descriptor_of``). Raises
    ``TooManyFrames``; what is left of the message then is for ``drop_frames``.
    """
    frames: list[bytes] = [recv(flags)]
    for _ in _FRAMES:
        frame = recv(flags, False)
        frames.append(frame.bytes)
        if not frame.more:
            return frames, frame
    raise TooManyFrames(frames)


def descriptor_of(frame: zmq.Frame) -> int | None:
    """The descriptor of the connection that a frame came over, as a socket's monitor names it too.

    None for a client that speaks ZMTP 1 or 2, whose frames ZeroMQ does not mark.
    """
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return None


def drop_frames(recv: Any, flags: int, most: int) -> bool:
    """Drop so many frames of the message that was begun, at most; False when it has ended."""
    return all(recv(flags, False).more for _ in range(most))
