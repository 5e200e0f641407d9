"""The lock of a store: flock(2) on a file in its directory, held by one process while it is open.

flock and not a POSIX lock, because earlier releases take it and must see this one, and because a
process loses its POSIX locks as soon as it closes any descriptor of the file.

Who opens a store read-only takes the same lock shared: any number of readers, or one owner.

A flock lasts until the last copy of its descriptor is closed, and a fork copies descriptors. So a
forked child closes its copies at once, and ``release`` unlocks before it closes. exec closes them.

A child never gets the lock of a store that was open when it was forked, not even when its parent
has closed it: SQLite and LevelDB have copied what they know of open files into the child, and a
second opening there would believe it. SQLite's would damage the store.

Not here: what the directory holds. Next: directory.py.
"""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import ExitStack
from pathlib import Path

from rewind.errors import StoreLocked

OWNER_BYTES_MAX = 300  # a process id and a host's name

_held: set[Lock] = set()
_inherited: set[tuple[int, int]] = set()  # These files were locked when this process was forked.


class Lock:
    """The lock on ``file``, which is created if need be and then names this process.

    ``shared``: with others that read, and the file, which must be there, is not written. Raises
    ``StoreLocked``, which names the owner, and ``OSError``.
    """

    def __init__(self, file: Path, shared: bool = False) -> None:
        self._descriptor = -1
        _held.add(self)  # Before it is opened, so that no child inherits an unknown descriptor.
        with ExitStack() as undo:
            undo.callback(self.release)
            access = os.O_RDONLY if shared else os.O_RDWR | os.O_CREAT
            # A pipe of this name would block who only reads.
            self._descriptor = os.open(file, access | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
            self._take(file, shared)
            undo.pop_all()

    def _take(self, file: Path, shared: bool) -> None:
        if self.identity() in _inherited:
            raise StoreLocked(
                f"the store {file.parent} was open when this process was forked, which therefore "
                "cannot open it: fork before it is opened, or start processes by spawn"
            )
        me = f"pid {os.getpid()} on {socket.gethostname()}"
        try:
            fcntl.flock(
                self._descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
            )
        except BlockingIOError as error:
            if not shared and self._is_read():
                raise StoreLocked(
                    f"the store {file.parent} is in use by somebody who reads it, opened read-only: "
                    "wait for the end of that first"
                ) from error
            found = os.pread(self._descriptor, OWNER_BYTES_MAX, 0)
            owner = found.decode(errors="replace").strip() or "another process"
            raise StoreLocked(
                f"the store {file.parent} is in use by this process, {owner}: close it first"
                if owner == me
                else f"the store {file.parent} is in use by {owner}: stop it first, "
                "or ask it through its endpoint if it is a daemon"
            ) from error
        if shared:
            return
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, f"{me}\n".encode(), 0)

    def _is_read(self) -> bool:
        """Whether those who have the lock share it. The file names an owner, and never them."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True  # It is unlocked with the descriptor, at once.

    def identity(self) -> tuple[int, int]:
        """Device and inode of the file that is locked, which the path may lead away from."""
        status = os.fstat(self._descriptor)
        return status.st_dev, status.st_ino

    def release(self) -> None:
        """Unlock and close. Does nothing the second time, nor in a forked child."""
        _held.discard(self)
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor < 0:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        finally:
            os.close(descriptor)

    def _close_copy(self) -> None:
        if self._descriptor >= 0:
            _inherited.add(self.identity())
            os.close(self._descriptor)
            self._descriptor = -1


def _close_copies() -> None:
    for lock in _held:
        lock._close_copy()
    _held.clear()


os.register_at_fork(after_in_child=_close_copies)
