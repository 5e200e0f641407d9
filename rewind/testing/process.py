"""A Python module as a process of its own, whose output is kept and which ends with a ``with`` block.

The process is in the process group of its parent, so Ctrl-C on a terminal, or the closing of the
terminal, reaches both. It does not inherit the variables ``REWIND_...``: what a user has set for
programs of their own must not change a test or the demo. Next: daemon.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from rewind.errors import RewindError

STOP_S = 20.0  # a daemon takes a second to answer who waits; a loaded machine may take ten
WAIT_S = 30.0  # what makes a process end may be slow as well
LAST_WORDS_BYTES = 2_000  # a traceback has fewer

_HELD = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class ProcessFailed(RewindError):
    """A process ended by itself, or was not ready in time; the message has its last words."""

    exit_code = 70


class Process:
    """``python -m MODULE ARGUMENTS``, started by ``start`` or a ``with`` block, which kills it.

    It can be started again when it has ended.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        stdout: int | None = None,
    ) -> None:
        """``name``: what messages call it. ``arguments``: the module, and what it is given.

        ``env``: variables besides those it inherits. ``log``: a file that its output is added to, in
        place of a temporary one. ``stdout``: where its standard output goes instead.
        """
        self._name = name
        self._arguments = list(arguments)
        self._env = dict(env or {})
        # It stays open as long as this object, so that the log can be read when all is over.
        self._output = tempfile.TemporaryFile() if log is None else open(log, "a+b")  # noqa: SIM115
        weakref.finalize(self, self._output.close)
        self._run_begins = 0
        self._stdout = self._output.fileno() if stdout is None else stdout
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, for signals of your own. It must have been started."""
        assert self._process is not None, f"the {self._name} was not started"
        return self._process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def log(self) -> str:
        """All that it has written, in every run."""
        return self._words(0)

    def start(self) -> None:
        """Start it. Returns when it can be used; what is raised meanwhile leaves no process behind."""
        assert self._process is None or self._process.poll() is not None, "it runs already"
        self._run_begins = os.fstat(self._output.fileno()).st_size
        with contextlib.ExitStack() as undo:
            undo.callback(self.kill)
            with _signals_held():
                self._process = subprocess.Popen(
                    [sys.executable, "-m", *self._arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=self._stdout,
                    stderr=self._output,
                    env=_environment() | self._env,
                )
            self._started()
            undo.pop_all()

    def _started(self) -> None:
        """What else there is to do until it can be used."""

    def check(self) -> None:
        """Raise ``ProcessFailed`` if it has ended."""
        code = self.process.poll()
        if code is not None:
            raise self._failed(f"ended with exit code {code}")

    def wait(self, timeout_s: float | None = WAIT_S) -> int:
        """Wait until it has ended by itself. Returns its exit code.

        Raises ``subprocess.TimeoutExpired``; None waits for ever.
        """
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """Ask it to end (SIGTERM), and kill it if it does not. Returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            return self.process.returncode

    def kill(self) -> None:
        """End it at once (SIGKILL), if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _failed(self, what: str) -> ProcessFailed:
        words = self._words(self._run_begins)[-LAST_WORDS_BYTES:].strip()
        return ProcessFailed(f"the {self._name} {what}; it said:\n{words}")

    def _words(self, begin: int) -> str:
        """What was written from an offset on. The offset of the file is the process's: it stays."""
        descriptor = self._output.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size - begin, begin).decode("utf-8", "replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("REWIND_")}


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Put off signals whose handlers might raise before the caller knows of the process it starts.

    Only handlers of Python's raise, and only in the main thread. The others stay as they are, since
    an ignored signal is ignored in the new process as well.
    """
    held: list[int] = []
    before = {
        number: handler
        for number in _HELD
        if callable(handler := signal.getsignal(number))
        and threading.current_thread() is threading.main_thread()
    }
    for number in before:
        signal.signal(number, lambda number, frame: held.append(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])
