"""Binding: a socket and an endpoint to the endpoint that is really bound, or why it is not.

ZeroMQ deletes whatever is at the path of an ``ipc://`` endpoint, the file of a database as well, and
binds then. So the Unix socket is made here, where bind(2) refuses what exists, and ZeroMQ is given it
to listen on. Only a Unix socket that nobody listens on is deleted: a process that was killed leaves
it behind. Such a socket is for the daemon's user, and for its group if the umask permits that; for
others too with ``--insecure``.

Not here: which addresses may be bound (settings.py).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

import zmq

from rewind.endpoints import socket_file
from rewind.errors import BadConfiguration, BindNotPermitted, CannotBind

BACKLOG = 100  # So many connections wait to be accepted; it is what ZeroMQ has by itself.
SOCKET_MODE = 0o660  # The umask takes away from it, as from every mode.
SOCKET_MODE_INSECURE = 0o666
_ANY_FILE = "ipc://*"  # ZeroMQ makes a directory for the user alone, and removes it in the end.


def bind(
    sock: zmq.Socket[bytes], name: str, endpoint: str, *, store: Path | None, insecure: bool
) -> str:
    """Bind, and return the endpoint as bound: a port for ``*``.

    ``name``: the setting's, for messages. ``store``: the directory of the store, where no socket may
    be. Raises ``CannotBind`` and ``BadConfiguration``.
    """
    where = f"--{name}-bind {endpoint}"
    # With IPv6 switched on, LAST_ENDPOINT reports 127.0.0.1 as ::ffff:127.0.0.1.
    sock.setsockopt(zmq.IPV6, "[" in endpoint)
    file = None if endpoint == _ANY_FILE else socket_file(endpoint)
    try:
        if file is None:
            _check_interfaces(where)
            sock.bind(endpoint)
        else:
            _refuse_inside(file, store, where)
            _clear(file, where)
            _bind_file(sock, endpoint, file, SOCKET_MODE_INSECURE if insecure else SOCKET_MODE)
    except (zmq.ZMQError, OSError) as error:
        raise _bind_error(where, error) from error
    last: bytes = sock.getsockopt(zmq.LAST_ENDPOINT)  # type: ignore[assignment]
    return last.rstrip(b"\0").decode()


def remove_socket_files(endpoints: list[str]) -> None:
    """Remove the Unix sockets of bound endpoints, when nobody listens on them any longer."""
    for file in filter(None, map(socket_file, endpoints)):
        with contextlib.suppress(OSError):
            if _is_dead_socket(file):
                file.unlink()


def _check_interfaces(where: str) -> None:
    """Raise ``CannotBind`` where ZeroMQ would abort the process: it lists the network interfaces."""
    try:
        socket.if_nameindex()
    except OSError as error:
        raise CannotBind(
            f"cannot bind {where}: ZeroMQ has to list the network interfaces, and the system does not "
            f"permit it (RestrictAddressFamilies= needs AF_NETLINK): {error.strerror}"
        ) from error


def _refuse_inside(file: Path, store: Path | None, where: str) -> None:
    if store is not None and file.parent.resolve().is_relative_to(store.resolve()):
        raise BadConfiguration(f"{where}: this is inside of the store's directory; choose another")


def _clear(file: Path, where: str) -> None:
    """Remove what a killed process left behind. Raises ``CannotBind`` if anything else is there."""
    try:
        mode = file.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise CannotBind(
            f"cannot bind {where}: a {_kind(mode)} is there, which Rewind leaves alone; choose another path"
        )
    if not _is_dead_socket(file):
        raise CannotBind(
            f"cannot bind {where}: another process listens there; stop it or choose another path"
        )
    file.unlink()


def _is_dead_socket(file: Path) -> bool:
    """Whether it is a Unix socket that nobody listens on."""
    if not stat.S_ISSOCK(file.lstat().st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)  # A connection has to wait where too many wait already.
        return probe.connect_ex(os.fsencode(file)) == errno.ECONNREFUSED


def _kind(mode: int) -> str:
    kinds = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symbolic link",
             stat.S_IFIFO: "named pipe"}  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "device")


def _bind_file(sock: zmq.Socket[bytes], endpoint: str, file: Path, mode: int) -> None:
    """Make the Unix socket and have ZeroMQ accept what connects to it, and close it in the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        os.fchmod(listening.fileno(), mode)  # On Linux the file has this mode from the beginning.
        listening.setblocking(False)
        listening.bind(os.fsencode(file))
        listening.listen(BACKLOG)
        sock.setsockopt(zmq.USE_FD, listening.fileno())
        try:
            sock.bind(endpoint)
        finally:
            sock.setsockopt(zmq.USE_FD, -1)
        listening.detach()


def _bind_error(where: str, error: zmq.ZMQError | OSError) -> CannotBind | BadConfiguration:
    number = error.errno or 0
    if number == errno.EADDRINUSE:
        return CannotBind(
            f"cannot bind {where}: the address is in use; stop the other program or choose another "
            "port (* takes a free one)"
        )
    if number in (errno.EACCES, errno.EPERM):
        return BindNotPermitted(f"cannot bind {where}: {os.strerror(number)}")
    if number in (errno.EINVAL, errno.EPROTONOSUPPORT):
        return BadConfiguration(f"{where}: ZeroMQ does not accept this endpoint")
    return CannotBind(f"cannot bind {where}: {error.strerror}")
