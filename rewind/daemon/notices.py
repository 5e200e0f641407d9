"""Lines of the log that would come again and again: the first at once, then one a minute with a count.

A client that errs in a loop, or a thousand clients that do, must not fill the disk with what the log
says of them. Next: server.py and connections.py, which have something to say.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

import msgspec

from rewind.errors import RequestError

PERIOD_S = 60.0  # Who reads the log learns within a minute that something goes on.
KINDS_MAX = 1_024  # A kind may be a peer, and peers come and go: no more are remembered.

logger = logging.getLogger("rewind")


class _Kind(msgspec.Struct):
    """A kind of line: when it may be said again, and what was not said until then."""

    until_s: float
    level: int = logging.INFO
    text: str = ""
    count: int = 0


class Notices:
    """Says of each kind of line the first at once, and what follows once a period, with its count.

    One thread at a time. ``clock``: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()  # The first is due first.

    def say(self, kind: Hashable, level: int, message: str, *args: object) -> None:
        """Say this, now or counted later; later the last of its kind is quoted."""
        if not logger.isEnabledFor(level):
            return
        known = self._kinds.get(kind)
        if known is not None:
            known.level, known.text, known.count = level, message % args, known.count + 1
            return
        logger.log(level, message, *args)
        self._kinds[kind] = _Kind(self._clock() + PERIOD_S)
        if len(self._kinds) > KINDS_MAX:
            self._sum_up(self._kinds.popitem(last=False)[1])

    def refused(self, peer: bytes, refusal: RequestError) -> None:
        """Say at debug that a request was refused; a kind for each code."""
        self.say(
            refusal.code,
            logging.DEBUG,
            "refused peer %s: %s: %s",
            peer.hex(),
            refusal.code,
            refusal,
        )

    def flush(self) -> None:
        """Say what was counted, where its time has come."""
        now_s = self._clock()
        while self._kinds and (due := next(iter(self._kinds.items())))[1].until_s <= now_s:
            kind, counted = due
            del self._kinds[kind]
            if self._sum_up(counted):
                self._kinds[kind] = _Kind(now_s + PERIOD_S)

    def end(self) -> None:
        """Say all that was counted: nothing will be said later."""
        for counted in self._kinds.values():
            self._sum_up(counted)
        self._kinds.clear()

    def due_s(self) -> float | None:
        """When ``flush`` wants to be called; None while nothing was said lately."""
        return next(iter(self._kinds.values())).until_s if self._kinds else None

    def _sum_up(self, kind: _Kind) -> bool:
        """Say how many more there were; False if there were none."""
        if kind.count:
            logger.log(kind.level, "%s (%d more like it)", kind.text, kind.count)
        return kind.count > 0
