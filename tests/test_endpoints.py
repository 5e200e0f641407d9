"""Which endpoints can be connected to, and which topic endpoint is chosen."""

from __future__ import annotations

import pytest

from rewind.endpoints import check_endpoint, choose_topic
from rewind.errors import BadConfiguration


@pytest.mark.parametrize(
    ("bound", "connected", "chosen"),
    [
        (["tcp://127.0.0.1:2"], "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
        (["tcp://127.0.0.1:2"], "tcp://localhost:1", "tcp://127.0.0.1:2"),
        (["tcp://0.0.0.0:2"], "tcp://store.example:1", "tcp://store.example:2"),
        (["tcp://*:2"], "tcp://10.0.0.1:1", "tcp://10.0.0.1:2"),
        (["tcp://[::]:2"], "tcp://[fe80::1]:1", "tcp://[fe80::1]:2"),
        (["tcp://0.0.0.0:2"], "ipc:///run/r", "tcp://127.0.0.1:2"),
        (["tcp://127.0.0.1:2"], "tcp://store.example:1", None),
        (["tcp://127.0.0.1:2", "tcp://10.0.0.1:3"], "tcp://store.example:1", "tcp://10.0.0.1:3"),
        (["tcp://10.0.0.2:2", "tcp://10.0.0.1:3"], "tcp://10.0.0.1:1", "tcp://10.0.0.1:3"),
        (["ipc:///run/t", "tcp://127.0.0.1:2"], "ipc:///run/r", "ipc:///run/t"),
        (["ipc:///run/t", "tcp://127.0.0.1:2"], "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"),
        (["ipc:///run/t"], "tcp://10.0.0.1:1", None),
        ([], "tcp://127.0.0.1:1", None),
    ],
)
def test_topic_endpoint(bound: list[str], connected: str, chosen: str | None) -> None:
    assert choose_topic(bound, connected) == chosen


def test_endpoints() -> None:
    for good in ("tcp://127.0.0.1:9090", "tcp://store.example:1", "tcp://[::1]:65535", "ipc:///x"):
        check_endpoint(good)
    for bad in ("", "tcp://h", "tcp://h:65536", "tcp://0.0.0.0:1", "udp://h:1", "tcp://a b:1"):
        with pytest.raises(BadConfiguration):
            check_endpoint(bad)
