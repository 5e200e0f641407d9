"""A temporary folder for a store that is opened read-only: what has to be written goes there.

LevelDB opens nothing without writing, and an index of the log may have to be made first. Such a folder
is removed when the store is closed, or else when its owner is collected or its process ends; only a
process that is killed leaves it behind.

Next: directory.py, which hands it out.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path


class Scratch:
    """A new temporary folder, for its own user alone. Raises ``OSError``."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="rewind-read-only-")).absolute()
        self._remove = weakref.finalize(self, _remove, self.path, os.getpid())

    def close(self) -> None:
        """Remove it, with everything in it. Does nothing the second time, nor in a forked child."""
        self._remove()


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(path, ignore_errors=True)
