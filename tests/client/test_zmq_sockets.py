"""The ZeroMQ sockets of the clients: what is acquired is given back."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import zmq

from rewind.client import zmq_sockets
from rewind.client.zmq_sockets import MonitoredSocket, open_dealer
from rewind.errors import Unavailable

REFUSED = "nonsense://here"  # ZeroMQ knows no such transport


@pytest.fixture
def sockets(monkeypatch: pytest.MonkeyPatch) -> list[zmq.Socket[bytes]]:
    """Every socket that is made, and every monitor of one."""
    all_sockets: list[zmq.Socket[bytes]] = []
    new_socket = zmq_sockets.new_socket

    def noted(*arguments: Any) -> zmq.Socket[bytes]:
        all_sockets.append(new_socket(*arguments))
        return all_sockets[-1]

    monkeypatch.setattr(zmq_sockets, "new_socket", noted)
    return all_sockets


@pytest.mark.parametrize("kind", [zmq.DEALER, zmq.SUB])
def test_what_cannot_be_connected_is_closed_with_its_monitor(
    sockets: list[zmq.Socket[bytes]], kind: int
) -> None:
    with pytest.raises(Unavailable, match="nonsense"):
        MonitoredSocket(kind, REFUSED)
    assert len(sockets) == 2 and all(socket.closed for socket in sockets)


def test_a_dealer_that_cannot_be_connected_is_closed(sockets: list[zmq.Socket[bytes]]) -> None:
    with pytest.raises(Unavailable, match="nonsense"):
        open_dealer(REFUSED, {})
    assert len(sockets) == 1 and sockets[0].closed


INTERRUPTED = """
import gc, sys
from rewind.client.zmq_sockets import _started_context

class Interrupted(BaseException): pass

def interrupt(events_before):
    left = events_before
    def trace(frame, event, argument):
        nonlocal left
        left -= 1
        if left < 0:
            raise Interrupted
        return trace
    sys.settrace(trace)
    try:
        return _started_context()
    finally:
        sys.settrace(None)

places = 0
while True:
    try:
        interrupt(places).term()
        break
    except Interrupted:
        places += 1
        gc.collect()
print(places)
"""


def test_ctrl_c_anywhere_in_the_start_of_zeromq_ends_the_start() -> None:
    """Ctrl-C raises between two lines, also between those that make a socket and close it."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED], capture_output=True, timeout=60, check=True
    )
    assert int(done.stdout) > 50, "it was interrupted in so many places"
