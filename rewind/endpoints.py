"""Endpoints: how a place on the network or in the file system is written, and what follows from it.

    tcp://HOST:PORT    HOST: a name, an IPv4 address, an IPv6 address in brackets, or * for all
                       PORT: 1 to 65535, or * for a free one
    ipc://PATH         a Unix socket; PATH is a file, or @NAME for one that has no file

``check_bind`` and ``check_endpoint`` say what is wrong with an endpoint to bind or to connect to,
``Endpoint.loopback`` whether only this machine reaches it, ``choose_topic`` which of a daemon's
topic endpoints a client uses. These look at nothing but the text. ``resolve`` is the exception: it
asks the system where a name leads. Nothing is opened. Next: daemon/settings.py, client/requests.py.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from pathlib import Path

import msgspec

from rewind.errors import BadConfiguration, Unavailable, one_line

IPC_PATH_BYTES_MAX = 107  # sun_path of unix(7) has 108, the last of them zero
PORT_MAX = 65535
ADDRESSES_MAX = 16  # A name with more is a mistake, and who tries each would not come to an end.

_GRAMMAR = re.compile(
    r"tcp://(?P<host>\*|\[[^\s/\[\]*]+\]|[^\s:/\[\]*]+):(?P<port>\*|[0-9]{1,5})|ipc://(?P<path>.*)",
)
# ``is_loopback`` would not do: releases of Python differ on what it says of ::ffff:127.0.0.1.
_LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))
_WILDCARDS = (ipaddress.IPv4Address("0.0.0.0"), ipaddress.IPv6Address("::"))


class Endpoint(msgspec.Struct, frozen=True):
    """An endpoint and its parts; a part that its transport does not have is empty or None.

    ``host``: as written, an IPv6 address in its brackets. ``port``: None for ``*``; it may be out of
    range. ``path``: what follows ``ipc://``; it may be empty or too long.
    """

    text: str
    host: str
    port: int | None
    path: str

    @property
    def is_ipc(self) -> bool:
        """Whether it is a Unix socket."""
        return not self.host

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it: 127.0.0.0/8, ::1, localhost, and every ipc://.

        This is what the text says. Where a name leads, ``localhost`` as well, ``resolve`` knows.
        """
        if self.is_ipc or self.host == "localhost":
            return True
        address = _address(self.host)
        return address is not None and any(address in network for network in _LOOPBACK)

    @property
    def is_name(self) -> bool:
        """Whether its host is a name, which the system has to look up, and no address."""
        return not self.is_ipc and not self.wildcard and _address(self.host) is None

    @property
    def is_abstract(self) -> bool:
        """Whether it is a Unix socket without a file, which has no permissions: ``ipc://@NAME``."""
        return self.path.startswith("@")

    @property
    def wildcard(self) -> bool:
        """Whether its host stands for all addresses of a machine, which nobody can connect to."""
        return self.host == "*" or _address(self.host) in _WILDCARDS


def parse(text: str) -> Endpoint | None:
    """The endpoint that a text is; None if it is none."""
    match = _GRAMMAR.fullmatch(text)
    if match is None or not _is_utf8(text):
        return None
    port = match["port"]
    number = None if port in (None, "*") else int(port)
    return Endpoint(text, match["host"] or "", number, match["path"] or "")


def _is_utf8(text: str) -> bool:
    """Whether ZeroMQ can be given it: bytes of a command line that are no UTF-8 are surrogates here."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; None for a name."""
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None


def check_bind(text: str, source: str) -> Endpoint:
    """The endpoint to bind that a setting holds.

    Raises ``BadConfiguration``, which names the ``source`` of the setting first, if it is none.
    """
    endpoint = parse(text)
    said = f"{source}={one_line(text)}"
    if endpoint is None:
        raise BadConfiguration(
            f"{said}: not an endpoint; write tcp://ADDRESS:PORT (PORT * takes a free "
            "one) or ipc://PATH"
        )
    _check_path(endpoint, said)
    if endpoint.port is not None and not 1 <= endpoint.port <= PORT_MAX:
        raise BadConfiguration(f"{said}: a port is 1 to {PORT_MAX}, or * for a free one")
    return endpoint


def check_endpoint(text: str, name: str = "endpoint") -> Endpoint:
    """The endpoint to connect to. Raises ``BadConfiguration``, which names it so, if nobody can."""
    endpoint = parse(text)
    said = f"{name} {one_line(text)}"
    if endpoint is None or (endpoint.port is None and not endpoint.is_ipc):
        raise BadConfiguration(f"{said}: write tcp://HOST:PORT, tcp://[IPV6]:PORT or ipc://PATH")
    _check_path(endpoint, said)
    if endpoint.port is not None and (endpoint.wildcard or not 1 <= endpoint.port <= PORT_MAX):
        raise BadConfiguration(f"{said}: a host and a port of 1 to {PORT_MAX} are needed")
    return endpoint


def _check_path(endpoint: Endpoint, said: str) -> None:
    if endpoint.is_ipc and not 1 <= len(endpoint.path.encode()) <= IPC_PATH_BYTES_MAX:
        raise BadConfiguration(f"{said}: ipc:// takes a path of 1 to {IPC_PATH_BYTES_MAX} bytes")


def resolve(endpoint: Endpoint) -> list[Endpoint]:
    """The endpoints that a name leads to, an address each, in the order in which to try them.

    There is at least one, and at most ADDRESSES_MAX. What is no name is returned as it is, and so is
    what only ZeroMQ can read: the name of a network interface, and ``SOURCE;HOST``. The system is
    asked, which may take as long as its resolver's time-outs. Raises ``Unavailable``.
    """
    if not endpoint.is_name or ";" in endpoint.host or endpoint.host in _interfaces():
        return [endpoint]
    try:
        found = socket.getaddrinfo(endpoint.host, None, type=socket.SOCK_STREAM)
        hosts = [socket.getnameinfo(entry[4], socket.NI_NUMERICHOST)[0] for entry in found]
    except (OSError, UnicodeError) as error:
        # A label of more than 63 characters is no name at all: the second of them.
        reason = getattr(error, "strerror", None) or str(error)
        raise Unavailable(
            f"endpoint {endpoint.text}: no address is known for {endpoint.host}: {reason}"
        ) from error
    distinct = list(dict.fromkeys(hosts))[:ADDRESSES_MAX]
    return [_at(endpoint, f"[{host}]" if ":" in host else host) for host in distinct]


def _interfaces() -> set[str]:
    """The names of this machine's network interfaces, which ZeroMQ takes for their addresses."""
    try:
        return {name for _, name in socket.if_nameindex()}
    except OSError:  # A sandbox may not permit to ask; then no interface can be named either.
        return set()


def _at(endpoint: Endpoint, host: str) -> Endpoint:
    port = "*" if endpoint.port is None else endpoint.port
    return Endpoint(f"tcp://{host}:{port}", host, endpoint.port, "")


def choose_topic(bound: Iterable[str], connected: str) -> str | None:
    """The topic endpoint to connect to, of those the daemon has bound; None if none is reachable.

    ``connected`` is the endpoint that the daemon answers on. A wildcard host is replaced by its host.
    A loopback address is only of use on the same machine: elsewhere it would lead to another daemon.
    """
    daemon = parse(connected)
    assert daemon is not None, connected
    host = "127.0.0.1" if daemon.is_ipc else daemon.host
    ranked: list[tuple[int, str]] = []
    for topic in filter(None, map(parse, bound)):
        if topic.is_ipc:
            if daemon.loopback:
                ranked.append((0 if daemon.is_ipc else 2, topic.text))
        elif topic.port is None:
            continue  # nobody has bound that
        elif topic.wildcard:
            ranked.append((1, f"tcp://{host}:{topic.port}"))
        elif topic.host == host:
            ranked.append((0, topic.text))
        elif daemon.loopback or not topic.loopback:
            ranked.append((3, topic.text))
    return min(ranked)[1] if ranked else None


def without_transport(text: str) -> bool:
    """Whether a text is HOST:PORT, so that its ``tcp://`` was probably forgotten."""
    endpoint = parse(f"tcp://{text}")
    return endpoint is not None and endpoint.port is not None


def socket_file(text: str) -> Path | None:
    """The file of a Unix socket; None for an endpoint without one."""
    endpoint = parse(text)
    if endpoint is None or not endpoint.path or endpoint.is_abstract:
        return None
    return Path(endpoint.path)
