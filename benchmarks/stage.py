"""What a workload runs on: servers on empty or filled stores, and loads in processes of their own.

A store is filled once and then belongs to every workload that asks for that size. A system that
cannot be started, or fails under a load, is left out from then on, with the reason.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from benchmarks.processes import LAST_WORDS, Failed, cpu_s
from benchmarks.systems import Server, System, system


class Key(NamedTuple):
    """A system's name, the number of events its store was filled with, and whether they have tags."""

    system: str
    events: int = 0
    tagged: bool = False


LOAD_READY_S = 60.0  # a thousand connections take long on a busy machine
LOAD_S = 120.0  # the longest load reads a million events from a slow store
FILL_S = 1_800.0  # ten million events take long
QUIET_SHARE = 0.1  # idle servers take less of a processor
QUIET_LOOK_S = 0.1
QUIET_S_MAX = 10.0  # compaction after a measurement takes a few seconds
FILLED_QUIET_S_MAX = 60.0  # compaction after ten million events takes longer


class Load:
    """A load generator's process, connected and waiting to begin. A context manager."""

    def __init__(self, load: str, log: Path, arguments: dict[str, Any]) -> None:
        self._load = load
        self._log = log
        command = [sys.executable, "-m", "benchmarks.load", load, json.dumps(arguments)]
        with open(log, "wb") as output:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True
            )

    def ready(self) -> Self:
        """Wait until it is connected."""
        assert self._process.stdout is not None
        found, _, _ = select.select([self._process.stdout], [], [], LOAD_READY_S)
        if not found or self._process.stdout.readline() != "ready\n":
            raise self._failed("did not begin")
        return self

    def go(self) -> Self:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self

    def result(self) -> dict[str, float]:
        """Wait for its figures."""
        seconds = FILL_S if self._load == "fill" else LOAD_S
        try:
            output, _ = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise self._failed(f"was not done after {seconds:.0f} s") from error
        if self._process.returncode != 0:
            raise self._failed(f"ended with {self._process.returncode}")
        found: dict[str, float] = json.loads(output)
        return found

    def _failed(self, what: str) -> Failed:
        words = self._log.read_text(encoding="utf-8", errors="replace")[-LAST_WORDS:]
        return Failed(f"the load {self._load} {what}: {words.strip()}")

    def end(self) -> None:
        """End it, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()


class Stage:
    """The servers, by system and size of store. A context manager that ends them all."""

    def __init__(self, directory: Path, say: Callable[[str], None], before: str = "") -> None:
        """``before``: the checkout that the systems of that name are started from."""
        self.left_out: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.fill_rates: dict[str, float] = {}
        self._directory = directory
        self._before = before
        self._say = say
        self._systems: dict[str, System] = {}
        self._servers: dict[Key, Server] = {}
        self._places: dict[Key, Path] = {}
        self._restless: set[object] = set()
        self._number = 0

    def system(self, name: str) -> System:
        """The system of this name. Raises ``Failed``."""
        if name not in self._systems:
            self._systems[name] = system(name, self._before)
            self.versions.update(self._systems[name].versions())
        return self._systems[name]

    def size(self, name: str, events: int) -> int:
        """How many events a store of this system really has, where others have so many."""
        return events // self.system(name).fill_share

    def server(self, key: Key) -> Server:
        """The running server; started, its store filled, if it is not. Raises ``Failed``."""
        if key in self._servers:
            return self._servers[key]
        name, events = key.system, key.events
        if events and key not in self._places:
            self._fill(key)
        if key not in self._servers:
            place = self._places[key] if events else self._new_place(name)
            self._servers[key] = self.system(name).start(place)
        return self._servers[key]

    def wait_until_quiet(self, seconds_max: float = QUIET_S_MAX) -> None:
        """Wait until no server has work left over from before; one that never rests is not waited for."""
        processes = [s.process for s in self._servers.values() if s.process not in self._restless]
        processes = [process for process in processes if process is not None]
        until_s = time.monotonic() + seconds_max
        while processes:
            before = [cpu_s(process.pid) for process in processes]
            time.sleep(QUIET_LOOK_S)
            processes = [
                process
                for process, before_s in zip(processes, before, strict=True)
                if cpu_s(process.pid) - before_s > QUIET_SHARE * QUIET_LOOK_S
            ]
            if time.monotonic() > until_s:
                self._restless.update(processes)
                return

    def _fill(self, key: Key) -> None:
        """Fill a store. What its server would not keep goes on running."""
        name, events = key.system, key.events
        chosen = self.system(name)
        self._say(f"filling {name}")
        place = self._new_place(name)
        server = chosen.start(place, filling=True)
        try:
            size = self.size(name, events)
            figures = self.load(
                "fill", name=name, endpoint=server.endpoint, events=size, tagged=key.tagged
            )
        except Failed:
            server.stop()
            raise
        self.fill_rates[f"{name} {size}{' tagged' * key.tagged}"] = figures["rate"]
        self._servers[key] = server
        self.wait_until_quiet(FILLED_QUIET_S_MAX)
        os.sync()  # what is not written yet would be written during the next measurement
        if chosen.lasting:
            self.stop({key})
            self._places[key] = place

    def _new_place(self, name: str) -> Path:
        self._number += 1
        place = self._directory / f"{self._number:03}-{name}"
        place.mkdir()
        return place

    def reopen(self, key: Key) -> Server:
        """Kill the server and start it again on the same store."""
        process = self.server(key).process
        assert process is not None
        process.kill()
        del self._servers[key]
        return self.server(key)

    def stop(self, keys: set[Key] | None = None) -> None:
        """End these servers, or all. Filled stores stay."""
        for key in list(self._servers) if keys is None else [*keys & self._servers.keys()]:
            self._servers.pop(key).stop()

    def prepare(self, load: str, **arguments: Any) -> Load:
        """A load's process, which is connecting."""
        self._number += 1
        return Load(load, self._directory / f"{self._number:03}-{load}.txt", arguments)

    def load(self, load: str, **arguments: Any) -> dict[str, float]:
        """Run a load. Raises ``Failed``."""
        with self.prepare(load, **arguments) as prepared:
            return prepared.ready().go().result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
