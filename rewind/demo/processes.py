"""The demo's other processes: a real daemon on free ports, and the projection.

Both are started as a user would start them, write their logs into the demo's directory, and end
with their ``with`` block, whatever ended it. A process that ends by itself is a ``DemoFailed`` with
its last words. Next: __init__.py, the story.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from rewind.demo.figures import Snapshot
from rewind.errors import RewindError, Unavailable

READY_S = 30.0  # a start takes half a second; a loaded machine may take ten
STOP_S = 5.0  # for a process to end when asked, before it is killed
LOOK_S = 0.02  # between looks at a file or a process
LAST_WORDS_BYTES = 2_000
FREE_PORT = "tcp://127.0.0.1:*"


class DemoFailed(RewindError):
    """The demo cannot go on; the message says what ended or what was wrong."""

    exit_code = 70


class _Process:
    """A Python module run as a process for the time of a ``with`` block."""

    def __init__(self, name: str, arguments: Sequence[str], directory: Path, stdout: int) -> None:
        self._name = name
        self._command = [sys.executable, "-m", *arguments]
        self._stdout = stdout
        self._log = directory / f"{name}.log"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        try:
            self._start()
            self._started()
        except BaseException:
            self.close()
            raise
        return self

    def _start(self) -> None:
        # It stays in our process group: Ctrl-C on a terminal, or its closing, reaches it as well.
        with open(self._log, "w", encoding="utf-8") as log, _signals_held():
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=self._stdout,
                stderr=log,
                env=_environment(),
                text=True,
            )

    def _started(self) -> None:
        """What else there is to do until it can be used."""

    def check(self) -> None:
        """Raise ``DemoFailed`` if the process has ended, which nobody asked for."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise self._ended()

    def wait(self) -> None:
        """Wait for its end, which nobody asked for. Raises ``DemoFailed``."""
        assert self._process is not None
        self._process.wait()
        raise self._ended()

    def _ended(self) -> DemoFailed:
        assert self._process is not None
        words = self._words()[-LAST_WORDS_BYTES:].strip()
        code = self._process.returncode
        return DemoFailed(f"the {self._name} ended with exit code {code}; it said:\n{words}")

    def _words(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    """Ours, without the settings of a daemon that the user may have."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REWIND_")}


@contextmanager
def _signals_held() -> Iterator[None]:
    """Put off what would raise between the start of a process and our knowing of it."""
    held: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: held.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for first in held[:1]:
            signal.raise_signal(first)


class Daemon(_Process):
    """``rewind serve``, ready. ``endpoint``: where its clients go. ``store``: the URL of its store."""

    def __init__(self, store: str, directory: Path) -> None:
        arguments = ["rewind", "serve", "--store", store]
        for name in ("incoming", "streaming", "topic"):
            arguments += [f"--{name}-bind", FREE_PORT]
        super().__init__("daemon", arguments, directory, subprocess.DEVNULL)
        self.endpoint = self.store = ""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        gone = isinstance(error, Unavailable) and self._process.poll() is not None
        self.close()
        if gone:  # that nobody answered is the consequence
            raise self._ended() from error

    def _started(self) -> None:
        ready = self._ready_line()
        self.endpoint, self.store = ready["incoming"], ready["store"]

    def _ready_line(self) -> dict[str, str]:
        """``... rewind 1.0.0 ready incoming=tcp://... store=leveldb:/... head=0 ...``"""
        deadline_s = time.monotonic() + READY_S
        while time.monotonic() < deadline_s:
            if found := re.search(r" ready (.*)\n", self._words()):
                return dict(re.findall(r"(\w+)=(\S+)", found[1]))
            self.check()
            time.sleep(LOOK_S)
        raise DemoFailed(f"the daemon was not ready after {READY_S:.0f} seconds")


class Projection(_Process):
    """``rewind.demo.punctuality`` as a process, and the last ``snapshot`` it sent."""

    def __init__(self, endpoint: str, directory: Path) -> None:
        arguments = ["rewind.demo.punctuality", "--json", "-e", endpoint]
        super().__init__("projection", arguments, directory, subprocess.PIPE)
        self.snapshot = Snapshot(0, 0, "", {})
        self._reader: threading.Thread | None = None

    def _started(self) -> None:
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self.snapshot = msgspec.json.decode(line, type=Snapshot)

    def close(self) -> None:
        super().close()
        if self._reader is not None:
            self._reader.join()
