"""Endpoints: what is one, who can reach it, and which topic endpoint a client takes."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hosts import with_hosts

from rewind.daemon.settings import settings
from rewind.endpoints import (
    ADDRESSES_MAX,
    IPC_PATH_BYTES_MAX,
    Endpoint,
    check_bind,
    check_endpoint,
    choose_topic,
    parse,
    resolve,
    socket_file,
    without_transport,
)
from rewind.errors import BadConfiguration, Unavailable, one_line

NOT, PORT, PATH = "not an endpoint", "a port is 1 to 65535", "takes a path of 1 to 107 bytes"
WRITE, NEEDED = "write tcp://HOST:PORT", "a host and a port of 1 to 65535 are needed"
LOOPBACK, OPEN, FINE = "loopback", "open to other machines", "fine"
LONGEST = "x" * IPC_PATH_BYTES_MAX


@pytest.mark.parametrize(
    ("text", "bind", "connect"),
    [
        ("tcp://127.0.0.1:9090", LOOPBACK, FINE),
        ("tcp://127.255.0.1:9090", LOOPBACK, FINE),
        ("tcp://localhost:9090", LOOPBACK, FINE),
        ("tcp://[::1]:9090", LOOPBACK, FINE),
        ("tcp://[0:0:0:0:0:0:0:1]:9090", LOOPBACK, FINE),
        ("tcp://[::1%lo]:9090", LOOPBACK, FINE),
        # What is not written as an address may lead anywhere.
        ("tcp://LOCALHOST:9090", OPEN, FINE),
        ("tcp://localhost.example:9090", OPEN, FINE),
        ("tcp://127.example:9090", OPEN, FINE),
        ("tcp://127.1:9090", OPEN, FINE),
        ("tcp://[::ffff:127.0.0.1]:9090", OPEN, FINE),
        ("tcp://10.0.0.1:9090", OPEN, FINE),
        ("tcp://eth0:9090", OPEN, FINE),
        ("tcp://eth0;10.0.0.1:9090", OPEN, FINE),
        ("tcp://m\xfcller.example:9090", OPEN, FINE),
        ("tcp://\u6771\u4eac:9090", OPEN, FINE),
        ("tcp://[fe80::1%eth0]:9090", OPEN, FINE),
        ("tcp://[fe80::1%br-lan]:9090", OPEN, FINE),
        # A wildcard is for binding alone.
        ("tcp://*:9090", OPEN, NEEDED),
        ("tcp://0.0.0.0:9090", OPEN, NEEDED),
        ("tcp://[::]:9090", OPEN, NEEDED),
        ("tcp://[0::0]:9090", OPEN, NEEDED),
        ("tcp://127.0.0.1:*", LOOPBACK, WRITE),
        ("tcp://*:*", OPEN, WRITE),
        ("tcp://127.0.0.1:0", PORT, NEEDED),
        ("tcp://127.0.0.1:1", LOOPBACK, FINE),
        ("tcp://127.0.0.1:65535", LOOPBACK, FINE),
        ("tcp://127.0.0.1:65536", PORT, NEEDED),
        ("tcp://*:65536", PORT, NEEDED),
        ("tcp://127.0.0.1:123456", NOT, WRITE),
        ("tcp://127.0.0.1:-1", NOT, WRITE),
        ("tcp://127.0.0.1:\uff19", NOT, WRITE),
        ("tcp://127.0.0.1:", NOT, WRITE),
        ("tcp://127.0.0.1", NOT, WRITE),
        ("tcp://127.0.0.1:9090/", NOT, WRITE),
        ("tcp://127.0.0.1:9090\n", NOT, WRITE),
        (" tcp://127.0.0.1:9090", NOT, WRITE),
        ("tcp://127.0.0.1 :9090", NOT, WRITE),
        ("tcp://:9090", NOT, WRITE),
        ("tcp://[]:9090", NOT, WRITE),
        ("tcp://[::1:9090", NOT, WRITE),
        ("tcp://::1:9090", NOT, WRITE),
        ("tcp://[*]:9090", NOT, WRITE),
        ("tcp://10.0.0.*:9090", NOT, WRITE),
        ("TCP://127.0.0.1:9090", NOT, WRITE),
        ("IPC:///run/rewind", NOT, WRITE),
        ("udp://127.0.0.1:9090", NOT, WRITE),
        ("inproc://rewind", NOT, WRITE),
        ("127.0.0.1:9090", NOT, WRITE),
        ("", NOT, WRITE),
        ("ipc:///run/rewind", LOOPBACK, FINE),
        ("ipc://rewind.sock", LOOPBACK, FINE),
        ("ipc://../rewind sock", LOOPBACK, FINE),
        ("ipc://@rewind", LOOPBACK, FINE),
        ("ipc:///run/\u6771\u4eac", LOOPBACK, FINE),
        (f"ipc://{LONGEST}", LOOPBACK, FINE),
        ("ipc://", PATH, PATH),
        (f"ipc://{LONGEST}x", PATH, PATH),
        ("ipc://" + "\xe4" * 54, PATH, PATH),
        ("ipc:///run/\udcff", NOT, WRITE),
        ("tcp://\udcff:9090", NOT, WRITE),
    ],
)
def test_what_can_be_bound_and_connected_to(text: str, bind: str, connect: str) -> None:
    assert bound(text) == bind or bind in bound(text)
    assert connected(text) == connect or connect in connected(text)


def bound(text: str) -> str:
    """What comes of an attempt to bind: LOOPBACK, OPEN or what is said."""
    try:
        return LOOPBACK if check_bind(text, "--topic-bind").loopback else OPEN
    except BadConfiguration as refused:
        assert str(refused).startswith(f"--topic-bind={one_line(text)}: ")
        return str(refused)


def connected(text: str) -> str:
    """What comes of an attempt to connect: FINE or what is said."""
    try:
        check_endpoint(text)
        return FINE
    except BadConfiguration as refused:
        assert str(refused).startswith(f"endpoint {one_line(text)}: ")
        return str(refused)


@pytest.mark.parametrize(
    ("text", "host", "port", "path"),
    [
        ("tcp://store.example:9090", "store.example", 9090, ""),
        ("tcp://[::1]:1", "[::1]", 1, ""),
        ("tcp://*:*", "*", None, ""),
        ("tcp://h:0", "h", 0, ""),
        ("ipc:///run/rewind", "", None, "/run/rewind"),
        ("ipc://tcp://h:1", "", None, "tcp://h:1"),
    ],
)
def test_an_endpoint_has_its_parts(text: str, host: str, port: int | None, path: str) -> None:
    assert parse(text) == Endpoint(text, host, port, path)


@pytest.mark.parametrize(
    ("text", "is_name"),
    [
        ("tcp://store.example:9090", True),
        ("tcp://localhost:1", True),
        ("tcp://127.1:1", True),  # The system's resolver knows what it means, Python does not.
        ("tcp://127.0.0.1:1", False),
        ("tcp://[::1]:1", False),
        ("tcp://[fe80::1%lo]:1", False),
        ("tcp://*:1", False),
        ("ipc:///run/rewind", False),
        ("ipc://@rewind", False),
    ],
)
def test_a_name_is_told_from_an_address(text: str, is_name: bool) -> None:
    endpoint = parse(text)
    assert endpoint is not None and endpoint.is_name is is_name
    assert endpoint.is_abstract is ("@" in text)


def resolved(text: str) -> list[str]:
    endpoint = parse(text)
    assert endpoint is not None
    return [found.text for found in resolve(endpoint)]


def test_a_name_leads_to_endpoints_with_an_address_each() -> None:
    assert "tcp://127.0.0.1:9090" in resolved("tcp://localhost:9090")
    assert resolved("tcp://127.1:*") == ["tcp://127.0.0.1:*"]


@pytest.mark.parametrize(
    "text",
    ["tcp://10.0.0.1:1", "tcp://[::1]:1", "tcp://*:1", "ipc:///run/r", "ipc://@r", "tcp://lo:1",
     "tcp://10.0.0.1;store.example:1"],
)  # fmt: skip
def test_what_is_no_name_is_not_looked_up(text: str) -> None:
    assert resolved(text) == [text]


@pytest.mark.parametrize("host", ["x" * 64 + ".example", "a..b"])
def test_a_name_that_leads_nowhere_is_said(host: str) -> None:
    with pytest.raises(Unavailable, match=rf"endpoint tcp://{host}:1: no address is known"):
        resolved(f"tcp://{host}:1")


def test_a_sandbox_that_shows_no_interfaces_still_knows_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def denied() -> list[tuple[int, str]]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(socket, "if_nameindex", denied)
    assert "tcp://127.0.0.1:1" in resolved("tcp://localhost:1")


def test_a_name_leads_where_the_machine_says(tmp_path: Path) -> None:
    lines = ["::1 six.test", "::1 both.test", "127.0.0.1 both.test"]
    lines += [f"127.0.1.{n} many.test" for n in range(1, 40)]
    code = (
        "from rewind.endpoints import parse, resolve\n"
        "for name in ('six', 'both', 'many'):\n"
        "    print(*(found.text for found in resolve(parse(f'tcp://{name}.test:1'))))\n"
    )
    command = [*with_hosts(tmp_path, *lines), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    six, both, many = done.stdout.splitlines()
    assert six == "tcp://[::1]:1"
    assert set(both.split()) == {"tcp://[::1]:1", "tcp://127.0.0.1:1"}
    assert len(many.split()) == ADDRESSES_MAX


def test_only_a_unix_socket_with_a_name_in_the_file_system_has_a_file() -> None:
    assert socket_file("ipc:///run/rewind") == Path("/run/rewind")
    for text in ("ipc://@rewind", "ipc://", "tcp://127.0.0.1:9090", "nonsense"):
        assert socket_file(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("localhost:9090", True),
        ("127.0.0.1:9090", True),
        ("[::1]:9090", True),
        ("tcp://localhost:9090", False),
        ("localhost", False),
        ("sqlite:here", False),
        ("./localhost:9090", False),
        ("memory:", False),
    ],
)
def test_a_forgotten_transport_is_noticed(text: str, expected: bool) -> None:
    assert without_transport(text) is expected


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://127.0.0.1:*",
        "tcp://127.9.9.9:1",
        "tcp://localhost:65535",
        "tcp://[::1]:9",
        "ipc:///a/b",
    ],
)
def test_loopback_endpoints_need_no_more(endpoint: str) -> None:
    expected = endpoint.replace("localhost", "127.0.0.1")
    assert settings({"incoming_bind": (endpoint,)}, {}).incoming_bind == (expected,)


@pytest.mark.parametrize(
    "endpoint", ["tcp://*:1", "tcp://0.0.0.0:1", "tcp://lo:1", "tcp://[::]:1", "ipc://@r"]
)
def test_other_endpoints_need_insecure(endpoint: str) -> None:
    with pytest.raises(BadConfiguration, match=r"--incoming-bind.*--insecure"):
        settings({"incoming_bind": (endpoint,)}, {})
    assert settings({"incoming_bind": (endpoint,)}, {"REWIND_INSECURE": "1"}).insecure


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
        (["tcp://127.0.0.1:2"], "tcp://127.example:1", None),
        (["tcp://127.9.9.9:2"], "tcp://[::1]:1", "tcp://127.9.9.9:2"),
        (["tcp://[::0]:2"], "tcp://10.0.0.1:1", "tcp://10.0.0.1:2"),
        (["tcp://127.0.0.1:*", "udp://127.0.0.1:2", ""], "tcp://127.0.0.1:1", None),
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
