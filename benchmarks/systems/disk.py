"""The limit of the disk: ``write`` and ``fdatasync`` of the same bytes, by one process.

``growing``: appended to a file, as a log is. ``preallocated``: over zeros written before, so that
the file system has nothing of its own to write; few stores do that.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

from benchmarks.events import DATA_BYTES
from benchmarks.systems import AsyncClient, Client, Server

RECORD_BYTES = DATA_BYTES + 90  # the other fields of a record and its checksum take 90
PREALLOCATED_BYTES = 64 * 1024 * 1024


class System:
    """A file."""

    threads = False
    fill_share = 1
    lasting = True

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self.note = f"a {kind} file"

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        return Server(None, str(directory / f"{self._kind}.bin"))

    def versions(self) -> dict[str, str]:
        return {"kernel": platform.release()}

    def connect(self, endpoint: str) -> Client:
        raise NotImplementedError("a file has no clients")

    async def connect_async(self, endpoint: str, in_flight: int) -> AsyncClient:
        raise NotImplementedError("a file has no clients")


class SyncedFile:
    """A file, written and synced, so many records at a time."""

    def __init__(self, endpoint: str, records: int) -> None:
        self._descriptor = os.open(endpoint, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._bytes = os.urandom(RECORD_BYTES * records)
        self._end = PREALLOCATED_BYTES if Path(endpoint).stem == "preallocated" else 0
        self._offset = 0
        if self._end:
            os.write(self._descriptor, bytes(self._end))
            os.fsync(self._descriptor)
            os.lseek(self._descriptor, 0, os.SEEK_SET)

    def commit(self) -> None:
        """Write the records and sync them."""
        self._offset += len(self._bytes)
        if self._end and self._offset > self._end:
            self._offset = len(self._bytes)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        os.write(self._descriptor, self._bytes)
        os.fdatasync(self._descriptor)

    def close(self) -> None:
        os.close(self._descriptor)
