"""The one starter of daemons, for tests, the demo and the benchmarks: ``rewind serve`` on free ports.

A daemon is a process of its own, so it can be killed as a power failure would kill it, and started
again where its clients expect it. Next: process.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType

from rewind.errors import Unavailable
from rewind.testing.process import Process

READY_S = 30.0  # a start takes half a second; a loaded machine may take ten
LOOK_S = 0.01  # a start takes many times as long as the pause between two looks at its log
FEEDS = ("streaming", "topic", "gorewind")
USUAL_FEEDS = ("streaming", "topic")  # a daemon without options has these
FREE_PORT = "tcp://127.0.0.1:*"

# The line is: TIME INFO rewind 1.0.0 ready incoming=EP,EP topic=EP store=URL head=0 durability=fsync ...
_READY = re.compile(r" ready (.*) store=(.*) head=\d+ durability=\w+.*\n")


class Daemon(Process):
    """``rewind serve`` on a store. ``start`` and ``with`` return when it is ready.

    ``endpoints``: where it listens, by name: ``incoming`` and the ``FEEDS``. A restart keeps them.
    ``store``: the URL of its store. ``start_s``: seconds its last start took.
    """

    def __init__(
        self,
        store: str,
        *options: str,
        feeds: Collection[str] = FEEDS,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        ready_s: float = READY_S,
    ) -> None:
        """``store``: a URL or a path. ``options``: more options of ``rewind serve``.

        ``feeds``: which feeds it has. ``ready_s``: seconds within which it must be ready. ``env`` and
        ``log``: see ``Process``.
        """
        super().__init__("daemon", (), env=env, log=log)
        self.store = store
        self.endpoints = dict.fromkeys(("incoming", *feeds), FREE_PORT)
        self.start_s = 0.0
        self._options = options
        self._ready_s = ready_s

    @property
    def endpoint(self) -> str:
        """Where its clients connect."""
        return self.endpoints["incoming"]

    def start(self) -> None:
        """Start it, and wait until it is ready. Raises ``ProcessFailed`` if it does not get there."""
        self._arguments = ["rewind", "serve", "--store", self.store]
        for name in ("incoming", *FEEDS):
            self._arguments += [f"--{name}-bind", self.endpoints.get(name, "")]
        self._arguments += self._options
        begun_s = time.monotonic()
        super().start()
        self.start_s = time.monotonic() - begun_s

    def _started(self) -> None:
        bound, self.store = self._wait_until_ready()
        for name, endpoints in re.findall(r"(\w+)=(\S+)", bound):
            self.endpoints[name] = endpoints.split(",")[0]

    def _wait_until_ready(self) -> tuple[str, str]:
        """What the ready line says of its endpoints and its store."""
        deadline_s = time.monotonic() + self._ready_s
        while time.monotonic() < deadline_s:
            if ready := _READY.search(self._words(self._run_begins)):
                return ready[1], ready[2]
            self.check()
            time.sleep(LOOK_S)
        raise self._failed(f"was not ready after {self._ready_s:.0f} s")

    def restart(self, *, kill: bool = True) -> None:
        """End it, killed or stopped, and start it again on the same ports and the same store."""
        self.kill() if kill else self.stop()
        self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Kill it. Raises ``ProcessFailed`` when nobody answered because it had ended."""
        try:
            if isinstance(error, Unavailable):
                self.check()
        finally:
            self.kill()
