"""A store of an older format becomes one of the newest, when it is opened: how far that is.

A backend reads any older format and brings it up to date in steps. Each step is one atomic write that
also says how far it got, so that whoever is killed goes on there the next time. When all of it is
durable, and not before, ``Directory.raise_format`` says so, and an older release refuses the store from
then on. Until then an older release may still append to it: the steps go on behind the last event that
they have seen, whoever wrote it.

A store that is opened read-only is not changed: what must be built to read it lies in the scratch folder.

Nothing is decided here; the steps are each backend's own. Next: directory.py.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

SECONDS_BETWEEN_LINES = 2.0  # often enough to see that it goes on, and few lines in an hour

#: Called with the number of events done, and the number of all: for a progress bar.
Tell = Callable[[int, int], None]

log = logging.getLogger("rewind")


class Progress:
    """How far an upgrade is: a line in the log every couple of seconds, and a call for each step.

    ``total``: how many events there are. ``tell``: called with (done, total) at each step. ``clock``:
    seconds, monotonic.
    """

    def __init__(
        self,
        path: Path,
        total: int,
        tell: Tell | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path = path
        self._total = total
        self._tell = tell
        self._clock = clock
        self._next_line_s = clock()

    def reached(self, done: int) -> None:
        """Say that so many events are done, as often as people want to hear it."""
        if self._tell is not None:
            self._tell(done, self._total)
        if (now := self._clock()) >= self._next_line_s or done == self._total:
            self._next_line_s = now + SECONDS_BETWEEN_LINES
            log.info(
                "building the index of %s: %s of %s events",
                self._path,
                f"{done:,}",
                f"{self._total:,}",
            )
