"""What the log says of a store's troubles, each once: no room, a clock that went back, damage.

They pass, or concern some requests alone, so a store goes on; what it does about them is decided
elsewhere (space.py, plan.py, ``Store``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from rewind.errors import Internal, RequestError, StorageFull, StoreDamaged, one_line
from rewind.events import Appended
from rewind.store.plan import refusal_of

ROOM_AGAIN_S = 10  # When space is short, small appends fit and large ones do not, in turn.
CLOCK_BEHIND_S = 1.0  # A clock that is set by the network goes back by less, often.
DAMAGES_LOGGED_MAX = 100  # a store with more is beyond what a log can list

log = logging.getLogger("rewind")


class Troubles:
    """The troubles of one store."""

    def __init__(self) -> None:
        self._refused_full = 0  # So many appends were refused since there was no room.
        self._refused_last_ns = 0
        self._clock_is_behind = False
        self._damages: set[str] = set()  # These are in the log.

    def refused_full(self, outcomes: Iterable[Appended | RequestError], now_ns: int) -> None:
        """Say that the refusals begin, and count those among the outcomes."""
        refused = [outcome for outcome in outcomes if isinstance(outcome, StorageFull)]
        if refused and not self._refused_full:
            log.warning("appends are refused from now on: %s", refused[0])
        self._refused_full += len(refused)
        self._refused_last_ns = now_ns

    def look(self, now_ns: int, last_time_ns: int) -> None:
        """Say that there is room again; that the clock went back, and that it has caught up.

        To be called when there is something to commit. ``last_time_ns``: the last event's.
        """
        if now_ns >= last_time_ns and not self._refused_full and not self._clock_is_behind:
            return
        if self._refused_full and now_ns >= self._refused_last_ns + ROOM_AGAIN_S * 1_000_000_000:
            log.warning("there is room again: %d appends were refused", self._refused_full)
            self._refused_full = 0
        behind_s = (last_time_ns - now_ns) / 1_000_000_000
        if self._clock_is_behind and behind_s <= 0:
            log.warning("the clock has caught up with the last event")
            self._clock_is_behind = False
        elif not self._clock_is_behind and behind_s >= CLOCK_BEHIND_S:
            log.warning(
                "the clock is %.1f s behind the last event: until it has caught up, every event has "
                "that event's time",
                behind_s,
            )
            self._clock_is_behind = True

    def refusal(self, damage: StoreDamaged) -> Internal:
        """How a request is refused that has met damage, which is logged the first time."""
        text = one_line(str(damage))
        if text not in self._damages and len(self._damages) < DAMAGES_LOGGED_MAX:
            self._damages.add(text)
            log.error("damage, and whatever needs that place is refused: %s", text)
        return refusal_of(damage)
