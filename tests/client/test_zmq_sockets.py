"""The ZeroMQ sockets of the clients: what is acquired is given back."""

from __future__ import annotations

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
