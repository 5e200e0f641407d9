"""The projection as a process beside the demo, which draws what it sends.

It is started as a user would start it, from ``python -m rewind.demo.punctuality``, and ends with its
``with`` block. Next: punctuality.py, what it runs.
"""

from __future__ import annotations

import subprocess
import threading

import msgspec

from rewind.demo.figures import Snapshot
from rewind.testing import Process


class Projection(Process):
    """``rewind.demo.punctuality`` as a process. ``snapshot``: the last one it sent."""

    def __init__(self, endpoint: str) -> None:
        """``endpoint``: of the daemon to follow."""
        arguments = ["rewind.demo.punctuality", "--json", "-e", endpoint]
        super().__init__("projection", arguments, stdout=subprocess.PIPE)
        self.snapshot = Snapshot(0, 0, "", {})
        self._reader: threading.Thread | None = None

    def _started(self) -> None:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        lines = self.process.stdout
        assert lines is not None
        with lines:
            for line in lines:
                self.snapshot = msgspec.json.decode(line, type=Snapshot)

    def kill(self) -> None:
        super().kill()
        if self._reader is not None:
            self._reader.join()
