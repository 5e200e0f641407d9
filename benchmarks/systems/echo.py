"""The limit of the socket: a ROUTER that answers Rewind's clients and does nothing else.

Measured with the very same clients as Rewind. Its server is benchmarks/echo.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import zmq

from benchmarks.processes import Process
from benchmarks.systems import Server
from benchmarks.systems.rewind import System as Rewind


class System(Rewind):
    """The bare ROUTER."""

    def __init__(self) -> None:
        super().__init__("memory")
        self.note = "memory: stores nothing"

    def start(self, directory: Path, *, filling: bool = False) -> Server:
        process = Process([sys.executable, "-m", "benchmarks.echo"], directory / "log.txt")
        return Server(process, process.wait_for(r"ready (\S+)\n")[1])

    def versions(self) -> dict[str, str]:
        return {"pyzmq": zmq.__version__}
