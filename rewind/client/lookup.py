"""Where a name leads, asked anew for every connection, so that a daemon may move.

ZeroMQ would look a name up by itself, but takes the first address of one family. Here each address is
tried in turn, off the caller's thread: the system's resolver may take as long as it likes. Which
addresses there are is ``resolve`` of endpoints.py.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence

from rewind.endpoints import Endpoint, parse, resolve
from rewind.errors import Unavailable

TRY_S = 1.0  # An address that takes no connection within this is passed over.


class Lookup:
    """Looks endpoints up, in a thread if one of them is a name.

    ``found``: the endpoints with addresses, in the same order; None until they are known.
    """

    def __init__(self, endpoints: Sequence[str], tell: Callable[[], None]) -> None:
        """``tell`` is called in the thread once they are ``found``, if they are not so at once."""
        self.found: list[str] | None = None
        self._known = threading.Event()
        if any(map(is_name, endpoints)):
            threading.Thread(target=self._run, args=(endpoints, tell), daemon=True).start()
        else:
            self.found = list(endpoints)
            self._known.set()

    def _run(self, endpoints: Sequence[str], tell: Callable[[], None]) -> None:
        self.found = [reachable(each) for each in endpoints]
        self._known.set()
        tell()

    def wait(self, seconds: float) -> list[str] | None:
        """Wait at most so long; what was found by then."""
        self._known.wait(seconds)
        return self.found


def is_name(endpoint: str) -> bool:
    """Whether the host of an endpoint is a name, so that somebody has to be asked where it leads."""
    parsed = parse(endpoint)
    return parsed is not None and parsed.is_name


def reachable(endpoint: str) -> str:
    """The endpoint with the first address of its name that takes a connection.

    With the first of all when none does, and as it is when none is known: the daemon may come later.
    """
    parsed = parse(endpoint)
    assert parsed is not None, endpoint
    try:
        addresses = resolve(parsed)
    except Unavailable:
        return endpoint
    if len(addresses) == 1:
        return addresses[0].text
    return next(filter(_takes_connections, addresses), addresses[0]).text


def _takes_connections(address: Endpoint) -> bool:
    with contextlib.suppress(OSError):
        assert address.port is not None
        socket.create_connection((address.host.strip("[]"), address.port), TRY_S).close()
        return True
    return False
