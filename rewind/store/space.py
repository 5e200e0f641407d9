"""Whether there is room: decided before anything is written, from the free space less a reserve.

A full disk is then a refusal that passes, and never a failed write, after which the store could not
be used again. How much a backend really needs is not known here; the factors are generous.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from rewind.errors import StorageFull

FREE_BYTES_RESERVE = 64 * 1024 * 1024  # a backend also writes compactions, a WAL and an index
FREE_BYTES_PLENTY = 1024 * 1024 * 1024  # nothing can fill so much within FREE_BYTES_S
FREE_BYTES_S = 0.05  # the figure may be this old while there is plenty
WRITE_FACTOR = 3  # a record is written to a log, a table and an index before anything is freed


def refusal_if_full(
    size: int, path: os.PathLike[str], free_bytes: int | None
) -> StorageFull | None:
    """The refusal if ``size`` bytes of records and marks might not fit where ``path`` is; None if they do.

    ``free_bytes``: the room there; None, where the file system cannot tell, is taken as enough.
    """
    needed = FREE_BYTES_RESERVE + WRITE_FACTOR * size
    if free_bytes is None or free_bytes >= needed:
        return None
    return StorageFull(
        f"{path} has {free_bytes} bytes free, and {needed} are needed to append safely: "
        "make room; reads go on"
    )


def free_bytes_at(path: os.PathLike[str]) -> int | None:
    """Bytes that this process may still write on the file system of ``path``; None if unknown."""
    try:
        stats = os.statvfs(path)
    except OSError:
        return None
    return stats.f_bavail * stats.f_frsize


class RecentFreeBytes:
    """``free_bytes_at``, asked again only after FREE_BYTES_S while there is plenty.

    Asking costs as much as planning an append. ``ask`` and ``clock`` (seconds, monotonic) are
    there for tests.
    """

    def __init__(
        self,
        ask: Callable[[os.PathLike[str]], int | None] = free_bytes_at,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._free_bytes: int | None = None
        self._ask_again_s = 0.0

    def __call__(self, path: os.PathLike[str]) -> int | None:
        now_s = self._clock()
        if now_s >= self._ask_again_s:
            self._free_bytes = free = self._ask(path)
            plenty = free is None or free >= FREE_BYTES_PLENTY
            self._ask_again_s = now_s + FREE_BYTES_S if plenty else 0.0
        return self._free_bytes
