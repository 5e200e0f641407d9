"""How many connections fit, and the thread that closes those that do not.

Each connection takes a descriptor, as each file of the store does, and a store that cannot open its
next file stops the daemon. ZeroMQ accepts as long as there are descriptors. So the process takes as
many as the system lets it have, a part is kept for the store, and what is accepted beyond the rest
is closed again at once: its client tries again later, and those that are connected go on.

ZeroMQ's monitors say what was accepted and what has ended. A thread listens to them, because the
daemon's own may be in a commit for long enough to accept thousands. Next: server.py.
"""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import struct
import threading
from typing import Any

import zmq

from rewind.daemon.notices import Notices
from rewind.errors import CannotBind
from rewind.wire.messages import descriptor_of

#: The system may permit a billion. An idle connection takes 28 kB of memory, so these take 1.8 GB.
DESCRIPTORS_MAX = 65_536
#: A daemon with four sockets and a store has 40 when it serves; LevelDB opens a few more in passing.
DESCRIPTORS_NEEDED = 96
#: One in so many is kept for the store, and for what is accepted until the thread hears of it.
RESERVED_PART = 2
#: No more than this is kept: ZeroMQ waits when the thread has yet to hear of 1,001 events of a socket.
RESERVED_MAX = 4_100

NOW = int(zmq.DONTWAIT)
# That an accept failed is not asked for: ZeroMQ tries again at once, and says so 100,000 times a second.
_EVENTS = zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | zmq.EVENT_MONITOR_STOPPED
_ACCEPTED, _DISCONNECTED, _STOPPED = map(
    int, (zmq.EVENT_ACCEPTED, zmq.EVENT_DISCONNECTED, zmq.EVENT_MONITOR_STOPPED)
)
_EVENT = struct.Struct("=HI")  # The first frame of a monitor's message: the event and its value.

logger = logging.getLogger("rewind")


def raise_descriptor_limit() -> None:
    """Let this process open as many files and connections as the system permits it.

    Raises ``CannotBind`` if that is not enough for a daemon.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if _finite(soft) < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    free = descriptor_limit() - _open_descriptors()
    if free < DESCRIPTORS_NEEDED:
        raise CannotBind(
            f"only {max(free, 0)} more files and connections may be open at once, and a daemon needs "
            f"{DESCRIPTORS_NEEDED}: raise the limit (ulimit -n, LimitNOFILE= of systemd)"
        )


def descriptor_limit() -> int:
    """How many descriptors this process may have open."""
    return _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def connections_max() -> int:
    """How many connections fit beside what is open now, and beside what is kept for the store."""
    limit = descriptor_limit()
    reserved = min(limit // RESERVED_PART, RESERVED_MAX)
    return max(limit - _open_descriptors() - reserved, 1)


def _finite(limit: int) -> int:
    return DESCRIPTORS_MAX if limit == resource.RLIM_INFINITY else limit


def _open_descriptors() -> int:
    return len(os.listdir("/dev/fd")) - 1  # The listing has one itself.


class Connections:
    """The connections of some sockets, counted, and closed again beyond ``maximum``.

    ``watch`` each socket before it binds, then ``start``, and ``stop`` before the sockets close.
    """

    def __init__(self, context: zmq.Context[Any]) -> None:
        self.maximum = 0
        self._context = context
        #: Name -> descriptor -> number of the connection. A descriptor is used again, a number is not.
        self._open: dict[str, dict[int, int]] = {}
        self._numbers: set[int] = set()  # The connections with these numbers are open.
        self._accepted = 0
        self._names: dict[zmq.Socket[bytes], str] = {}  # Each monitor has the name of its socket.
        self._watched: list[zmq.Socket[bytes]] = []
        self._notices = Notices()
        self._debug = logger.isEnabledFor(logging.DEBUG)
        self._thread = threading.Thread(target=self._run, name="rewind-connections", daemon=True)

    def watch(self, sock: zmq.Socket[bytes], name: str) -> None:
        """Count what this socket accepts from now on. ``name``: the setting's, for the log."""
        address = f"inproc://connections-{name}"
        sock.monitor(address, _EVENTS)
        self._watched.append(sock)
        monitor: zmq.Socket[bytes] = self._context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.LINGER, 0)
        # As few as possible may wait to be heard of: ZeroMQ adds the thousand of its own side.
        monitor.setsockopt(zmq.RCVHWM, 1)
        monitor.connect(address)
        self._open[name], self._names[monitor] = {}, name

    def start(self, maximum: int) -> None:
        """Begin to listen, and to close what is accepted beyond a maximum."""
        self.maximum = maximum
        self._thread.start()

    def stop(self) -> None:
        """Let go of the sockets. What is connected stays so."""
        for sock in self._watched:
            sock.disable_monitor()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._numbers)

    def of(self, frame: zmq.Frame, name: str) -> int | None:
        """The number of the connection that a frame came over, to the socket watched by this name.

        None where it is not known: the thread has not heard of it yet, or has heard of its end.
        """
        descriptor = descriptor_of(frame)
        return None if descriptor is None else self._open[name].get(descriptor)

    def connected(self, number: int | None) -> bool:
        """Whether this connection is known, and has not ended as far as the thread has heard."""
        return number in self._numbers

    # The thread

    def _run(self) -> None:
        poller = zmq.Poller()
        for monitor in self._names:
            poller.register(monitor, zmq.POLLIN)
        while poller.sockets:
            due_s = self._notices.due_s()
            for monitor, _ in poller.poll(None if due_s is None else 1_000):
                if self._listen(monitor):
                    poller.unregister(monitor)
                    monitor.close()
            self._notices.flush()
        self._notices.end()

    def _listen(self, monitor: zmq.Socket[bytes]) -> bool:
        """Take in what a monitor says; True if that is its end."""
        name = self._names[monitor]
        opened = self._open[name]
        event = 0
        with contextlib.suppress(zmq.Again):
            while event != _STOPPED:
                event, descriptor = _EVENT.unpack(monitor.recv(NOW))
                monitor.recv(NOW)  # It is the endpoint, which the name says as well.
                if event == _ACCEPTED:
                    self._accepted += 1
                    opened[descriptor] = self._accepted
                    self._numbers.add(self._accepted)
                    if self.count > self.maximum:
                        self._refuse(descriptor, name)
                    elif self._debug:
                        logger.debug("connection %d to %s: %s", descriptor, name, _peer(descriptor))
                elif event == _DISCONNECTED:
                    self._numbers.discard(opened.pop(descriptor, 0))
                    if self._debug:
                        logger.debug("connection %d to %s has ended", descriptor, name)
        return event == _STOPPED

    def _refuse(self, descriptor: int, name: str) -> None:
        """Close a connection: ZeroMQ notices, and lets go of the descriptor."""
        with contextlib.suppress(OSError), _borrowed(descriptor) as connection:
            connection.shutdown(socket.SHUT_RDWR)
        self._notices.say(
            "full",
            logging.WARNING,
            "a connection to %s was closed again: %d are open, and no more fit (see LimitNOFILE)",
            name,
            self.maximum,
        )


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Any:
    """ZeroMQ's socket with this descriptor, which stays ZeroMQ's. Raises ``OSError`` if it is gone."""
    connection = socket.socket(fileno=descriptor)
    try:
        yield connection
    finally:
        connection.detach()


def _peer(descriptor: int) -> str:
    """Where a connection comes from."""
    try:
        with _borrowed(descriptor) as connection:
            address = connection.getpeername()
    except OSError:
        return "a client that has left"
    return f"{address[0]}:{address[1]}" if address else "this machine"
