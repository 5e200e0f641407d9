"""Endpoints to connect to, and the choice of a topic endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rewind.errors import BadConfiguration

_TCP = re.compile(r"tcp://(?P<host>\[[^\]]+\]|[^\s:/\[\]]+):(?P<port>[0-9]{1,5})")
_ANY_HOST = ("*", "0.0.0.0", "[::]")


def check_endpoint(endpoint: str) -> None:
    """Raise ``BadConfiguration`` unless it is an endpoint to connect to."""
    match = _TCP.fullmatch(endpoint)
    if match is not None:
        if match["host"] in _ANY_HOST or not 0 < int(match["port"]) < 65536:
            raise BadConfiguration(
                f"endpoint {endpoint}: a host and a port of 1 to 65535 are needed"
            )
    elif not re.fullmatch(r"ipc://.+", endpoint):
        raise BadConfiguration(
            f"endpoint {endpoint}: write tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH"
        )


def choose_topic(bound: Iterable[str], connected: str) -> str | None:
    """The topic endpoint to connect to, of those the daemon has bound; None if none is reachable.

    A wildcard host is the one connected to. A loopback address is only of use on the same machine:
    elsewhere it would lead to another daemon.
    """
    match = _TCP.fullmatch(connected)
    host = match["host"] if match else "127.0.0.1"
    local = match is None or _is_loopback(host)
    ranked: list[tuple[int, str]] = []
    for endpoint in bound:
        other = _TCP.fullmatch(endpoint)
        if other is None:
            if local and endpoint.startswith("ipc://"):
                ranked.append((0 if match is None else 2, endpoint))
        elif other["host"] in _ANY_HOST:
            ranked.append((1, f"tcp://{host}:{other['port']}"))
        elif other["host"] == host:
            ranked.append((0, endpoint))
        elif local or not _is_loopback(other["host"]):
            ranked.append((3, endpoint))
    return min(ranked)[1] if ranked else None


def _is_loopback(host: str) -> bool:
    return host == "localhost" or host == "[::1]" or host.startswith("127.")
