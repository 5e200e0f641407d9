"""A daemon's life: open the store, bind, say so, serve, and end with the right exit code.

Signals, systemd and logging are here, so that server.py can be run by a test or another program.
Not here: settings (settings.py), and what the daemon does between start and end (server.py).
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
from typing import NoReturn

from rewind.backends import open_backend
from rewind.daemon.connections import raise_descriptor_limit
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.errors import RewindError, StoreError
from rewind.release import __version__
from rewind.store import Store

_STOPPING = (signal.SIGTERM, signal.SIGINT)
_ASKING = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

logger = logging.getLogger("rewind")


def serve(settings: Settings) -> int:
    """Run a daemon until SIGTERM or SIGINT. Returns its exit code; raises nothing of Rewind's."""
    logging.basicConfig(
        level=settings.logging_level,
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    try:
        raise_descriptor_limit()
        store, server = _open(settings)
    except RewindError as error:
        logger.critical("cannot start: %s", error)
        return error.exit_code
    except _Stopped:
        logger.info("stopped before it was ready")
        return 0
    logger.info("%s", _ready_line(server, store, settings))
    if store.durability == "memory":
        logger.warning("this store is in memory: every event is lost when the daemon ends")
    tell_systemd("READY=1")
    try:
        server.run(_stopping)
        store.backend.confirm()
    except StoreError as error:
        # Nothing more may be acknowledged, and the store must not be touched again, not even closed.
        logger.critical("stopped by the store, which acknowledged nothing since: %s", error)
        logging.shutdown()
        os._exit(error.exit_code)
    store.close()
    logger.info("stopped at head %d", store.head)
    return 0


def _open(settings: Settings) -> tuple[Store, Server]:
    """The store and its server, or neither. Raises ``RewindError``, and ``_Stopped`` by a signal."""
    with contextlib.ExitStack() as opened:
        had_terminal = _has_terminal()

        def too_early(number: int, frame: object) -> None:
            """By itself each of them would kill. There is nothing yet that it could ask for."""
            if number == signal.SIGHUP and had_terminal and not _has_terminal():
                raise _Stopped

        for number in _STOPPING:
            opened.callback(signal.signal, number, signal.signal(number, _stop_start))
        for number in filter(_is_heeded, _ASKING):
            opened.callback(signal.signal, number, signal.signal(number, too_early))
        backend = opened.enter_context(contextlib.closing(open_backend(settings.store)))
        store = Store(backend)
        server = Server(settings, store)
        _heed_signals(server)
        opened.pop_all()
        return store, server


def _ready_line(server: Server, store: Store, settings: Settings) -> str:
    endpoints = " ".join(
        f"{name}={','.join(bound)}" for name, bound in server.endpoints.items() if bound
    )
    where = store.backend.path
    url = f"{store.backend.scheme}:{'' if where is None else where}"
    return (
        f"rewind {__version__} ready {endpoints} store={url} head={store.head} "
        f"durability={store.durability} connections={server.connections_max}"
    )


class _Stopped(BaseException):
    """A signal asks a daemon to stop that is not ready yet."""


def _stop_start(number: int, frame: object) -> NoReturn:
    raise _Stopped


def _heed_signals(server: Server) -> None:
    """Have signals stop the server, or ask it something; those that are ignored already stay so."""

    def stop(number: int, frame: object) -> None:
        for again in _STOPPING:
            signal.signal(again, lambda number, frame: os._exit(128 + number))
        server.stop()

    def hang_up(number: int, frame: object) -> None:
        if had_terminal and not _has_terminal():
            stop(number, frame)
        else:
            server.call_soon(_nothing_to_read)

    def status(number: int, frame: object) -> None:
        server.call_soon(server.log_status)

    had_terminal = _has_terminal()
    for number in _STOPPING:
        signal.signal(number, stop)
    for number in filter(_is_heeded, _ASKING):
        signal.signal(number, hang_up if number == signal.SIGHUP else status)
    # A signal that arrives while ZeroMQ is at work would be noticed only when something else wakes
    # the poll: Python writes to this descriptor from the C handler.
    signal.set_wakeup_fd(server.wake_fileno(), warn_on_full_buffer=False)


def _is_heeded(number: signal.Signals) -> bool:
    """Whether a signal is not ignored, as nohup(1) has SIGHUP ignored."""
    return signal.getsignal(number) != signal.SIG_IGN


def _has_terminal() -> bool:
    """Whether there is a terminal whose end would end this process; it is taken away before SIGHUP."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True


def _nothing_to_read() -> None:
    logger.info("SIGHUP: there is nothing to read again")


def _stopping() -> None:
    # Before the server closes its descriptor: a file opened later could get the same number, and a
    # second signal would write a byte into it.
    signal.set_wakeup_fd(-1)
    tell_systemd("STOPPING=1")


def tell_systemd(state: str) -> None:
    """Notify the service manager, if there is one (sd_notify(3): a datagram to $NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
        try:
            notify.sendto(state.encode(), address)
        except OSError as error:
            logger.warning("cannot tell systemd %s: %s", state, error.strerror)
