"""A daemon whose answers are not as they must be: every outcome is an error of Rewind's, and at once.

Its answers are those of a real store, each with something wrong in it by chance. A failure prints the
seed.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
import pytest
from client_contract import PATIENCE_S, event
from fakes import FakeDaemon, pack

import rewind
from rewind.answers import About, answer, answer_appends, appends_in
from rewind.backends.memory import MemoryBackend
from rewind.errors import RequestError
from rewind.events import Append, AppendEvent
from rewind.store import Store
from rewind.wire.envelope import Request, decode_request
from rewind.wire.native import Appends
from rewind.wire.replies import encode_error

ROUNDS = 12  # for each seed: so many answers of every kind
TIMEOUT_S = (
    PATIENCE_S  # An answer that goes unnoticed costs as much, and the test its own time-out.
)
ABOUT = About({"topic": ["tcp://127.0.0.1:1"]}, 1_000_000, False)
KNOWN = uuid.uuid4()
NESTED = b"\x91" * 1_000_000 + b"\x90"
JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**63, 2**64 - 1, 1.5, float("nan"), "", "overloaded", "tcp://a;b:1", "x" * 5_000,
    b"", b"x" * 16, [], [[]], {}, {"code": "bad_request"}, {"": {}}, msgspec.msgpack.Ext(5, b"x"),
)  # fmt: skip


class Garbling:
    """Answers for a ``FakeDaemon``: honest ones, or ones with something wrong."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.honest = False
        self.store = Store(MemoryBackend())
        self.store.append([Append((AppendEvent(KNOWN.bytes, "s", "t", (), {}, b""),))])

    def __call__(self, frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        identity = frames[0]
        honest = self._answer(
            decode_request([identity, b"", *frames[1:]], store_id=self.store.id.bytes)
        )[2:]
        if self.honest or self.chance.random() < 0.3:
            return [identity, *honest]
        return [identity, *self._garbled(*honest)]

    def _answer(self, request: Request) -> list[bytes]:
        if isinstance(request.body, Append | Appends):
            return answer_appends(request, iter(self.store.append(appends_in([request]))[0]))
        try:
            return answer(request, self.store, ABOUT)
        except RequestError as refused:
            return encode_error(request, refused)

    def _garbled(self, status: bytes, id: bytes, body: bytes, chunk: bytes = b"") -> list[bytes]:
        what = self.chance.randrange(7)
        if what == 0:
            status = self.chance.choice([b"OK", b"ERROR"])
        elif what == 1:
            return self.chance.choice([[b"ERROR text"], [status], [status, id], [status, id] * 4])
        elif what == 2:
            body = self._broken(body)
        elif what == 3:
            chunk = self._broken(chunk)
        elif what == 4:
            record = msgspec.msgpack.decode(chunk)[:1] if chunk else [[1]]
            chunk = pack(self._changed(record * self.chance.randrange(3)))
        else:
            body = pack(self._changed(msgspec.msgpack.decode(body)))
        return [status, id, body, *[chunk][: bool(chunk) or what == 3]]

    def _broken(self, encoded: bytes) -> bytes:
        at = self.chance.randrange(len(encoded) + 1)
        return self.chance.choice(
            [encoded[:at], NESTED, encoded[:at] + self.chance.randbytes(3) + encoded[at + 3 :]]
        )

    def _changed(self, value: Any) -> Any:
        """The value with something of another kind, or without it, somewhere inside."""
        keys: Iterable[Any] = ()
        if isinstance(value, dict):
            keys = value
        elif isinstance(value, list):
            keys = range(len(value))
        inside = [*keys]
        if not inside or self.chance.random() < 0.2:
            return self.chance.choice(JUNK)
        key = self.chance.choice(inside)
        if self.chance.random() < 0.3:
            del value[key]
        else:
            value[key] = self._changed(value[key])
        return value


CALLS: dict[str, Callable[[Any], Any]] = {
    "append": lambda client: client.append("s", event()),
    "append_streams": lambda client: client.append_streams([("a", event()), ("b", event())]),
    "event": lambda client: client.event(KNOWN),
    "head": lambda client: client.head(),
    "info": lambda client: client.info(),
}
ITERATIONS: dict[str, Callable[[Any], Any]] = {
    "read": lambda client: client.read(limit=3),
    "read backwards": lambda client: client.read(backwards=True, types=["t"]),
    "read_stream": lambda client: client.read_stream("s"),
    "streams": lambda client: client.streams(),
}
SUBSCRIPTIONS: list[dict[str, Any]] = [{}, {"stream": "s"}, {"types": ["t"]}]


@pytest.mark.parametrize("seed", range(6))
def test_a_blocking_client_raises_errors_of_rewinds_and_stays_usable(seed: int) -> None:
    garbling = Garbling(seed)
    with FakeDaemon(garbling) as fake, rewind.connect(fake.endpoint, timeout=TIMEOUT_S) as client:
        failed = 0
        for _ in range(ROUNDS):
            for call in CALLS.values():
                try:
                    call(client)
                except rewind.RewindError:
                    failed += 1
            for iterate in ITERATIONS.values():
                try:
                    list(iterate(client))
                except rewind.RewindError:
                    failed += 1
            for filters in SUBSCRIPTIONS:
                subscription = client.subscribe(**filters)
                try:
                    next(subscription.batches(max_wait=0.05))
                except rewind.RewindError:
                    failed += 1
                subscription.stop()
        assert failed > ROUNDS
        garbling.honest = True
        client.info()  # It has the right limits.
        last = client.append("s", event()).last
        assert client.head() == last
        assert [each.position for each in client.read()] == list(range(1, last + 1))
        assert next(client.subscribe()).position == 1


@pytest.mark.parametrize("seed", range(6))
def test_an_asyncio_client_raises_errors_of_rewinds_and_stays_usable(seed: int) -> None:
    garbling = Garbling(seed)

    async def iterated(items: Any) -> None:
        async for _ in items:
            pass

    async def first(client: rewind.AsyncClient, filters: dict[str, Any]) -> None:
        subscription = client.subscribe(**filters)
        try:
            await anext(subscription.batches(max_wait=0.05))
        finally:
            subscription.stop()

    async def main(endpoint: str) -> None:
        in_callbacks: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: in_callbacks.append(what))
        async with rewind.connect_async(endpoint, timeout=TIMEOUT_S) as client:
            failed = 0
            for _ in range(ROUNDS):
                outcomes = await asyncio.gather(
                    *[call(client) for call in CALLS.values()] * 2,
                    *[iterated(iterate(client)) for iterate in ITERATIONS.values()],
                    *[first(client, filters) for filters in SUBSCRIPTIONS],
                    return_exceptions=True,
                )
                errors = [each for each in outcomes if isinstance(each, BaseException)]
                assert all(isinstance(each, rewind.RewindError) for each in errors), errors
                failed += len(errors)
            assert failed > ROUNDS
            garbling.honest = True
            await client.info()  # It has the right limits.
            last = (await client.append("s", event())).last
            assert await client.head() == last
            assert [each.position async for each in client.read()] == list(range(1, last + 1))
            assert (await anext(client.subscribe())).position == 1
        assert in_callbacks == []

    with FakeDaemon(garbling) as fake:
        asyncio.run(main(fake.endpoint))
