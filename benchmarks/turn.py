"""Where the time of a turn goes: microseconds an event, step by step.

    python benchmarks/turn.py --store leveldb --appends 100

The real server, store and sockets in this process. A batch of appends is sent over loopback, one
turn takes it, and a clock around the functions that make a step adds up its time, without that of
the steps inside it. Prints the median over the rounds, for a batch sent in several shapes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import zmq

import rewind.daemon.server
import rewind.store
from rewind.backends import Backend, blocks, open_backend
from rewind.client.appends import new_append_id
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.events import Append, AppendEvent, join_records
from rewind.store import Store
from rewind.wire import envelope
from rewind.wire.native import encode

DATA = bytes(range(256))
STREAMS = 1_000
WARM_UP = 30  # rounds that do not count
ARRIVAL_S = 0.003  # a batch is in the server's socket by then

STEPS = (
    "receive",
    "decode and check",
    "look up what is known",
    "plan, encode records",
    "encode blocks",
    "index entries",
    "write and sync",
    "encode replies",
    "send replies",
    "feeds",
    "the rest",
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--store", default="leveldb", help="scheme; a new store is made")
    parser.add_argument(
        "--appends", type=int, default=100, help="of one event each, a turn's batch"
    )
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    table = {
        shape: measure(options.store, make, options.appends, options.rounds)
        for shape, make in SHAPES.items()
    }
    print(f"{options.store}, {options.appends} events a turn: microseconds an event\n")
    print(f"{'':<24}" + "".join(f"{shape:>14}" for shape in table))
    for step in STEPS:
        print(f"{step:<24}" + "".join(f"{spent[step]:14.2f}" for spent in table.values()))
    print(f"{'sum':<24}" + "".join(f"{sum(spent.values()):14.2f}" for spent in table.values()))


# --- what is sent ---------------------------------------------------------------


def native(events: list[AppendEvent]) -> list[list[bytes]]:
    """An append a message."""
    return [[b"APPEND", b"rid4", encode(Append((e,), new_append_id()))] for e in events]


def publish(events: list[AppendEvent]) -> list[list[bytes]]:
    """As clients of Rewind 0.3 send it."""
    return [[b"PUBLISH", event.data] for event in events]


def together(events: list[AppendEvent]) -> list[list[bytes]]:
    """All appends in one message, as the clients send those that wait."""
    bodies = [encode(Append((e,), new_append_id())) for e in events]
    return [[b"APPEND", b"rid4", join_records(bodies)]]


def one_append(events: list[AppendEvent]) -> list[list[bytes]]:
    """One append of all events."""
    return [[b"APPEND", b"rid4", encode(Append(tuple(events), new_append_id()))]]


SHAPES: dict[str, Callable[[list[AppendEvent]], list[list[bytes]]]] = {
    "native": native,
    "PUBLISH": publish,
    "together": together,
    "one append": one_append,
}


# --- the clock ------------------------------------------------------------------


class Clock:
    """Time by step, each without what other steps took inside it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def wrap(self, owner: Any, name: str, step: str) -> None:
        """Let ``owner.name`` count towards ``step``."""
        function: Callable[..., Any] = getattr(owner, name)
        now, inner, spent = time.perf_counter, self._inner, self.spent

        def timed(*args: Any, **options: Any) -> Any:
            inner.append(0.0)
            begun = now()
            try:
                return function(*args, **options)
            finally:
                took = now() - begun
                spent[step] += took - inner.pop()
                inner[-1] += took

        setattr(owner, name, timed)


WRAPPED = (  # functions of modules, to be put back
    (envelope, "decode_request"),
    (rewind.daemon.server, "answer_appends"),
    (rewind.store, "plan"),
    (blocks, "encode"),
)


def watch(clock: Clock, server: Server, store: Store, backend: Backend) -> None:
    """Put the clock around every step."""
    for owner, name, step in (
        (envelope, "decode_request", "decode and check"),
        (server, "_drain", "receive"),
        (store, "_facts", "look up what is known"),
        (rewind.store, "plan", "plan, encode records"),
        (blocks, "encode", "encode blocks"),
        (backend, "commit", "write and sync"),
        (rewind.daemon.server, "answer_appends", "encode replies"),
        (server._peers, "send", "send replies"),
        (server._feeds, "publish", "feeds"),
        (server, "turn", "the rest"),
    ):
        clock.wrap(owner, name, step)
    index = getattr(backend, "_index", None)
    if index is not None:
        clock.wrap(index, "entries", "index entries")


def measure(
    scheme: str, make: Callable[[list[AppendEvent]], list[list[bytes]]], count: int, rounds: int
) -> dict[str, float]:
    """Microseconds an event of each step, the median over the rounds."""
    originals = [(owner, name, getattr(owner, name)) for owner, name in WRAPPED]
    with tempfile.TemporaryDirectory() as folder:
        where = "" if scheme == "memory" else str(Path(folder) / "store")
        with closing(Store(open_backend(f"{scheme}:{where}"))) as store:
            any_port = ("tcp://127.0.0.1:*",)
            server = Server(
                Settings(incoming_bind=any_port, streaming_bind=any_port, topic_bind=any_port),
                store,
            )
            clock = Clock()
            watch(clock, server, store, store.backend)
            with zmq.Context() as context, context.socket(zmq.DEALER) as client:
                client.linger = 0
                client.connect(server.endpoints["incoming"][0])
                found = [
                    round_of(server, client, clock, make(events_of(number, count)))
                    for number in range(WARM_UP + rounds)
                ][WARM_UP:]
            server.stop()
            server.run()
    for owner, name, original in originals:
        setattr(owner, name, original)
    return {
        step: statistics.median(spent.get(step, 0.0) for spent in found) * 1e6 / count
        for step in STEPS
    }


def events_of(number: int, count: int) -> list[AppendEvent]:
    """The events of one round, spread over the streams."""
    streams = (f"stream-{(number * count + n) % STREAMS}" for n in range(count))
    return [AppendEvent(None, stream, "happened", (), {}, DATA) for stream in streams]


def round_of(
    server: Server, client: Any, clock: Clock, messages: list[list[bytes]]
) -> dict[str, float]:
    """Send a batch, let the server take its turn, take the replies; seconds by step."""
    for message in messages:
        client.send_multipart(message)
    time.sleep(ARRIVAL_S)
    clock.spent.clear()
    server.turn(1_000)
    spent = dict(clock.spent)
    for _ in messages:
        while not client.poll(0):
            server.turn(1)
        reply = client.recv_multipart()
        assert reply[0] in (b"OK", b"PUBLISHED"), reply
    return spent


if __name__ == "__main__":
    main()
