"""Commands as a shell runs them: real processes, what they print, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import rewind
from rewind import NewEvent

REWIND = [sys.executable, "-m", "rewind"]
PATIENCE_S = 30.0  # how long a condition may take on a slow machine before a test fails
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("REWIND_")}


def run(
    *arguments: str | bytes,
    input: bytes | None = b"",
    env: dict[str, str] | None = None,
    **popen: Any,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; fails when it shows a traceback."""
    done = subprocess.run(
        [*REWIND, *arguments],
        **{"input": input, "capture_output": True, **popen},
        env={**CLEAN, **(env or {})},
        timeout=PATIENCE_S,
    )
    assert b"Traceback" not in (done.stderr or b""), done.stderr.decode()
    return done


def succeed(*arguments: str | bytes, **options: Any) -> bytes:
    """The stdout of a command that succeeds and has nothing to complain about."""
    done = run(*arguments, **options)
    assert (done.returncode, done.stderr) == (0, b"")
    return bytes(done.stdout)


def fail(code: int, *arguments: str | bytes, **options: Any) -> str:
    """The stderr of a command that ends with this exit code and prints nothing."""
    done = run(*arguments, **options)
    assert (done.returncode, done.stdout) == (code, b""), done
    return bytes(done.stderr).decode()


@contextlib.contextmanager
def running(
    *arguments: str, env: dict[str, str] | None = None, **popen: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A command that does not end by itself."""
    process = subprocess.Popen(
        [*REWIND, *arguments],
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **popen},
        env={**CLEAN, **(env or {})},
        # A shell in the background ignores SIGINT, and children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def eventually(condition: Callable[[], Any]) -> Any:
    """The first true value of a condition that is about to come true."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline_s, "it did not come true"
        time.sleep(0.01)
    return value


def events(lines: bytes) -> list[dict[str, Any]]:
    """The events in JSON lines."""
    return [json.loads(line) for line in lines.splitlines()]


def fill(store: str, stream: str, *new_events: NewEvent) -> None:
    """Append the events to a store that no daemon has open."""
    with rewind.open(store) as client:
        client.append(stream, new_events)


def next_events(process: subprocess.Popen[bytes], count: int) -> list[dict[str, Any]]:
    """The events in the next JSON lines that a command prints."""
    assert process.stdout is not None
    return [json.loads(process.stdout.readline()) for _ in range(count)]
