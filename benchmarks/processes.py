"""The servers of other systems: started, waited for and ended within a bounded time; what they use.

Rewind's own daemons are started by rewind/testing.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

READY_S = 120.0  # a store of ten million events takes long to open while the disk is busy
STOP_S = 20.0  # a server that has not ended by then is killed
LOOK_S = 0.01  # a start takes many times as long as the pause between two looks at its log
LAST_WORDS = 600  # characters; an error shows the end of a log


class Failed(Exception):
    """A system or a load could not do its work; the message says why."""


class Process:
    """A process whose output goes to ``log``."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self._log = log
        self.begun_s = time.perf_counter()
        with open(log, "wb") as output:
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=output, stderr=output
                )
            except OSError as error:
                raise Failed(f"{command[0]} cannot be started: {error.strerror}") from error

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the pattern is in the output."""
        while time.perf_counter() < self.begun_s + READY_S:
            if found := re.search(pattern, self._words()):
                return found
            if self._process.poll() is not None:
                break
            time.sleep(LOOK_S)
        code = self._process.poll()
        self.stop()
        ended = f"was not ready after {READY_S:.0f} s" if code is None else f"ended with {code}"
        raise Failed(f"it {ended}: {self._words()[-LAST_WORDS:].strip()}")

    def wait_for_port(self, port: int) -> None:
        """Wait until something listens there."""
        while time.perf_counter() < self.begun_s + READY_S and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(LOOK_S)
        self.stop()
        raise Failed(f"nothing listens on its port: {self._words()[-LAST_WORDS:].strip()}")

    def _words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()


def anonymous_mb(pid: int) -> float:
    """The anonymous memory of a process (RssAnon of proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    """Processor time that a process has used (proc(5)); 0 once it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return 0.0
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
