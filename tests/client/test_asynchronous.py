"""The asyncio client: the contract through an event loop in a thread, and what only asyncio has."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import tempfile
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zmq
from client_contract import PATIENCE_S, ClientContract, event
from conftest import store_url
from fakes import FakeDaemon, free_endpoint, ok_head, refusal
from query_contract import QueryContract
from raw import Raw

import rewind
from rewind.client import pages, requests, zmq_async
from rewind.client.follow import LIVE
from rewind.testing import Daemon


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE_S)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


COROUTINES = (
    "append", "append_streams", "decide", "event", "last", "appended", "head", "info", "cursor",
    "advance", "reset_cursor", "delete_cursor", "close",
)  # fmt: skip


class Blocking:
    """An ``AsyncClient`` behind the names of ``Client``."""

    def __init__(self, client: rewind.AsyncClient, loop: Loop) -> None:
        self._client = client
        self._loop = loop
        for name in COROUTINES:
            setattr(self, name, self._coroutine(getattr(client, name)))
        for name in ("streams", "types", "tags", "categories", "cursors"):
            setattr(self, name, self._iterator(getattr(client, name)))

    def _coroutine(self, method: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
        return lambda *args, **kwargs: self._loop.run(method(*args, **kwargs))

    def _iterator(self, method: Callable[..., AsyncIterator[Any]]) -> Callable[..., Any]:
        return lambda *args, **kwargs: iterate(method(*args, **kwargs), self._loop)

    def read(self, **kwargs: Any) -> BlockingEvents:
        return BlockingEvents(self._client.read(**kwargs), self._loop)

    def read_stream(self, *args: Any, **kwargs: Any) -> BlockingEvents:
        return BlockingEvents(self._client.read_stream(*args, **kwargs), self._loop)

    def subscribe(self, **kwargs: Any) -> BlockingSubscription:
        async def subscribe() -> Any:  # In the loop, as with NOW it has to be.
            return self._client.subscribe(**kwargs)

        return BlockingSubscription(self._loop.run(subscribe()), self._loop)


def iterate(items: Any, loop: Loop) -> Iterator[Any]:
    """A generator over an asynchronous one."""
    try:
        while True:
            yield loop.run(anext(items))
    except StopAsyncIteration:
        return
    finally:
        loop.run(items.aclose())


class BlockingEvents:
    """``AsyncEvents`` behind the names of ``Events``."""

    def __init__(self, events: rewind.AsyncEvents, loop: Loop) -> None:
        self._events = events
        self._loop = loop
        self.condition = events.condition

    head = property(lambda self: self._events.head)

    def __iter__(self) -> BlockingEvents:
        return self

    def __next__(self) -> rewind.Event:
        try:
            found: rewind.Event = self._loop.run(anext(self._events))
        except StopAsyncIteration:
            raise StopIteration from None
        return found

    def __enter__(self) -> BlockingEvents:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        self._loop.run(self._events.close())


class BlockingSubscription:
    """An ``AsyncSubscription`` behind the names of ``Subscription``."""

    def __init__(self, subscription: rewind.AsyncSubscription, loop: Loop) -> None:
        self._subscription = subscription
        self._loop = loop
        self.stop = subscription.stop

    position = property(lambda self: self._subscription.position)
    caught_up = property(lambda self: self._subscription.caught_up)

    def __iter__(self) -> BlockingSubscription:
        return self

    def __next__(self) -> rewind.Event:
        try:
            found: rewind.Event = asyncio.run_coroutine_threadsafe(
                anext(self._subscription), self._loop.loop
            ).result()
        except StopAsyncIteration:
            raise StopIteration from None
        return found

    def batches(self, *args: Any, **kwargs: Any) -> Any:
        return iterate(self._subscription.batches(*args, **kwargs), self._loop)

    def wait_for(self, *args: Any, **kwargs: Any) -> Any:
        return self._loop.run(self._subscription.wait_for(*args, **kwargs))

    def wait_caught_up(self, *args: Any, **kwargs: Any) -> Any:
        return self._loop.run(self._subscription.wait_caught_up(*args, **kwargs))


@pytest.fixture
def loop() -> Iterator[Loop]:
    running = Loop()
    yield running
    running.close()


class TestContractOverTheWire(ClientContract, QueryContract):
    @pytest.fixture
    def client(self, daemon: Daemon, loop: Loop) -> Iterator[Blocking]:
        client = rewind.connect_async(daemon.endpoints["incoming"])
        yield Blocking(client, loop)
        loop.run(client.close())


class TestContractEmbedded(ClientContract, QueryContract):
    @pytest.fixture(params=["memory", "sqlite"])
    def client(
        self, request: pytest.FixtureRequest, tmp_path: Path, loop: Loop
    ) -> Iterator[Blocking]:
        client = rewind.open_async(store_url(request.param, tmp_path))
        yield Blocking(client, loop)
        loop.run(client.close())


# What only asyncio has


def test_many_calls_are_in_flight_on_one_socket(daemon: Daemon) -> None:
    async def main() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            results = await asyncio.gather(
                *(
                    client.append(f"s-{number % 7}", event(b"%d" % number))
                    for number in range(3_000)
                )
            )
            assert sorted(each.first for each in results) == list(range(1, 3_001))

    asyncio.run(main())


def test_a_cancelled_call_leaves_the_others_alone(daemon: Daemon) -> None:
    async def main() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            tasks = [asyncio.create_task(client.append("s", event())) for _ in range(200)]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in results[::2])
            assert all(isinstance(each, rewind.Appended) for each in results[1::2])
            assert await client.head() >= 100

    asyncio.run(main())


@pytest.mark.parametrize("url", [None, "memory:"])
def test_a_cancelled_wait_for_an_event_loses_none(daemon: Daemon, url: str | None) -> None:
    async def main() -> None:
        made = rewind.open_async(url) if url else rewind.connect_async(daemon.endpoints["incoming"])
        async with made as client:
            subscription = client.subscribe()
            got: list[int] = []
            for number in range(1, 40):
                waiting = asyncio.create_task(anext(subscription))
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    got.append((await waiting).position)
                await client.append("s", event())
            while len(got) < 39:
                got.append((await anext(subscription)).position)
            assert got == list(range(1, 40))

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_close_fails_what_is_pending() -> None:
    async def main() -> None:
        client = rewind.connect_async(free_endpoint(), timeout=60)
        pending = [asyncio.create_task(client.append("s", event())) for _ in range(3)]
        await asyncio.sleep(0)
        await client.close()
        for task in pending:
            with pytest.raises(rewind.Closed):
                await task
        with pytest.raises(rewind.Closed):
            await client.head()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_unavailable_carries_append_id_which_makes_the_retry_harmless() -> None:
    async def main() -> None:
        endpoint = free_endpoint()
        async with rewind.connect_async(endpoint, timeout=0.2) as client:
            with pytest.raises(rewind.Unavailable) as failed:
                await client.append("s", event(b"1"))
            assert failed.value.append_id is not None
            with pytest.raises(rewind.Unavailable) as failed_read:
                await client.head()
            assert failed_read.value.append_id is None
            id = uuid.uuid4()
            with pytest.raises(rewind.Unavailable) as failed:
                await client.append("s", event(b"1"), append_id=id)
            assert failed.value.append_id == id.bytes

    asyncio.run(main())


def test_a_silent_connection_is_replaced_and_all_is_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "ATTEMPT_S_MIN", 0.2)

    async def main(fake: FakeDaemon) -> None:
        async with rewind.connect_async(fake.endpoint) as client:
            assert await asyncio.gather(*(client.head() for _ in range(5))) == [7] * 5

    answered: set[bytes] = set()

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        identity = frames[0]
        answered.add(identity)
        return ok_head(frames, 7) if len(answered) > 1 else None

    with FakeDaemon(answer) as fake:
        asyncio.run(main(fake))
        assert len(answered) == 2 and len(fake.requests) >= 10


def test_a_connection_that_cannot_be_replaced_is_the_callers_to_know(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(requests, "ATTEMPT_S_MIN", 0.1)

    async def main(fake: FakeDaemon) -> None:
        async with rewind.connect_async(fake.endpoint, timeout=PATIENCE_S) as client:
            waiting = asyncio.create_task(client.head())
            await asyncio.sleep(0)
            with monkeypatch.context() as failing:
                failing.setattr(zmq_async, "open_dealer", refuse)
                with pytest.raises(rewind.Unavailable, match="no descriptors"):
                    await waiting
                with pytest.raises(rewind.Unavailable, match="no descriptors"):
                    await client.head()
            answering.set()
            assert await client.head() == 7

    def refuse(*_: object) -> Any:
        raise rewind.Unavailable("no descriptors")

    answering = threading.Event()
    with FakeDaemon(
        lambda frames, fake: ok_head(frames, 7) if answering.is_set() else None
    ) as fake:
        asyncio.run(main(fake))


def test_an_embedded_read_goes_on_while_its_page_is_consumed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pages, "READ_LIMIT_MAX", 1)

    async def main() -> None:
        async with rewind.open_async("memory:") as client:
            await client.append("s", [event(), event(), event()])
            embedded: Any = client._transport._embedded  # type: ignore[attr-defined]
            answered = threading.Semaphore(0)
            answer = embedded.answer

            def noted(call: Any) -> Any:
                reply = answer(call)
                answered.release()
                return reply

            embedded.answer = noted
            reading = client.read()
            await anext(reading)
            for _ in range(2):  # the page that was given, and the next one
                assert await asyncio.to_thread(answered.acquire, timeout=PATIENCE_S)
            assert [each.position async for each in reading] == [2, 3]

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["asyncio", "blocking"])
def test_a_call_that_ends_on_a_silent_connection_is_the_last_one_there(kind: str) -> None:
    """Its time was up before its first attempt was, so nobody looked at the connection."""
    identities: list[bytes] = []

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        if not identities:
            identities.append(frames[0])
        return None if frames[0] == identities[0] else ok_head(frames, 7)

    async def main(endpoint: str) -> None:
        async with rewind.connect_async(endpoint, timeout=0.3) as client:
            with pytest.raises(rewind.Unavailable):
                await client.head()
            assert await client._run(patient(client)) == 7

    def patient(client: Any) -> Any:
        call = client._requests.head()
        call.timeout_s = PATIENCE_S / 2
        return call

    with FakeDaemon(answer) as fake:
        if kind == "asyncio":
            asyncio.run(asyncio.wait_for(main(fake.endpoint), PATIENCE_S))
        else:
            with rewind.connect(fake.endpoint, timeout=0.3) as client:
                with pytest.raises(rewind.Unavailable):
                    client.head()
                assert client._run(patient(client)) == 7
        assert len({frames[0] for frames in fake.requests}) == 2


def test_waits_of_two_loops_one_after_the_other() -> None:
    client = rewind.open_async("memory:")
    subscription = client.subscribe()
    for _ in range(2):
        assert not asyncio.run(subscription.wait_for(1, timeout=0.01))
    asyncio.run(client.close())


def test_a_client_is_for_one_loop(daemon: Daemon) -> None:
    client = rewind.connect_async(daemon.endpoints["incoming"])
    asyncio.run(client.head())

    async def elsewhere() -> None:
        with pytest.raises(RuntimeError):
            await client.head()
        await client.close()

    asyncio.run(elsewhere())


def test_a_subscription_is_for_one_loop(daemon: Daemon) -> None:
    client = rewind.connect_async(daemon.endpoints["incoming"])
    subscription = client.subscribe()
    asyncio.run(go_live(client, subscription))
    with pytest.raises(RuntimeError):
        asyncio.run(anext(subscription))  # type: ignore[arg-type]
    asyncio.run(client.close())


def test_subscription_misses_and_repeats_nothing_over_restart(tmp_path: Path) -> None:
    async def main(daemon: Daemon) -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"], timeout=30) as client:
            subscription = client.subscribe()
            filtered = client.subscribe(types=["t"])
            got: list[list[int]] = [[], []]

            async def consume(index: int, source: rewind.AsyncSubscription) -> None:
                async for each in source:
                    got[index].append(each.position)

            tasks = [
                asyncio.create_task(consume(*each)) for each in enumerate((subscription, filtered))
            ]
            for _ in range(3):
                for _ in range(20):
                    last = (await client.append("s", event())).last
                assert await subscription.wait_for(last, PATIENCE_S)
                await asyncio.to_thread(daemon.restart)
            last = (await client.append("s", event())).last
            assert await subscription.wait_for(last, PATIENCE_S)
            assert await filtered.wait_for(last, PATIENCE_S)
            assert got == [list(range(1, last + 1))] * 2
            subscription.stop()
            filtered.stop()
            await asyncio.gather(*tasks)

    with Daemon(store_url("sqlite", tmp_path)) as daemon:
        asyncio.run(main(daemon))


def test_a_wait_cancelled_as_the_event_arrives_loses_it_not(daemon: Daemon) -> None:
    async def main() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            subscription = client.subscribe()
            await go_live(client, subscription)
            waiting = asyncio.create_task(anext(subscription))
            source: Any = subscription._source
            look = source._look

            def look_and_cancel() -> None:
                look()
                waiting.cancel()  # before the task goes on

            source._look = look_and_cancel
            last = (await client.append("s", event())).last
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert not await subscription.wait_for(last, 0)
            assert (await anext(subscription)).position == last

    asyncio.run(main())


def test_events_for_a_consumer_that_is_away_do_not_keep_the_loop_busy(daemon: Daemon) -> None:
    async def main() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            subscription = client.subscribe()
            source: Any = subscription._source
            signals: list[object] = []
            signalled = source._signalled

            def count(made: object) -> None:
                signals.append(made)
                signalled(made)

            source._signalled = count
            first = await go_live(client, subscription) + 1
            signals.clear()
            for _ in range(200):
                last = (await client.append("s", event())).last
            assert len(signals) < 20
            for position in range(first, last + 1):
                assert (await anext(subscription)).position == position

    asyncio.run(main())


def test_a_subscription_let_go_closes_its_sockets(daemon: Daemon) -> None:
    async def let_go(client: rewind.AsyncClient) -> list[zmq.Socket[bytes]]:
        subscription = client.subscribe()
        await go_live(client, subscription)
        return subscription._source._sockets.sockets()  # type: ignore[attr-defined]

    async def in_its_loop() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            sockets = await let_go(client)
            gc.collect()
            await asyncio.sleep(0)
            assert len(sockets) == 4 and all(made.closed for made in sockets)

    asyncio.run(in_its_loop())
    client = rewind.connect_async(daemon.endpoints["incoming"])
    subscription = client.subscribe()
    asyncio.run(go_live(client, subscription))
    sockets = subscription._source._sockets.sockets()  # type: ignore[attr-defined]
    del subscription  # its loop has ended
    gc.collect()
    assert len(sockets) == 4 and all(made.closed for made in sockets)
    asyncio.run(client.close())


async def go_live(client: rewind.AsyncClient, subscription: rewind.AsyncSubscription) -> int:
    """Append and consume until events come through the topic socket; the last position."""
    follower: Any = subscription._source._follower  # type: ignore[attr-defined]
    while True:
        last = (await client.append("s", event())).last
        while (await anext(subscription)).position < last:
            pass
        if follower.state is LIVE:
            return last


def test_what_is_not_rewind_is_said_to_be_so() -> None:
    async def main(fake: FakeDaemon) -> None:
        async with rewind.connect_async(fake.endpoint) as client:
            with pytest.raises(rewind.Unavailable, match="another program"):
                await client.head()

    with FakeDaemon(lambda frames, fake: [frames[0], b"ERROR unknown command"]) as fake:
        asyncio.run(main(fake))


def test_no_descriptor_stays_open(daemon: Daemon) -> None:
    sockets: list[zmq.Socket[bytes]] = []

    async def main() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            subscription = client.subscribe()
            await client.append("s", event())
            assert (await anext(subscription)).position == 1
            sockets.extend(subscription._source._sockets.sockets())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    asyncio.run(main())
    assert sockets and all(made.closed for made in sockets)


def test_appends_of_many_tasks_go_together_and_get_their_own_answers() -> None:
    async def many(endpoint: str) -> None:
        async with rewind.connect_async(endpoint) as client:

            async def one(n: int) -> int:
                wrong = n % 10 == 3
                try:
                    appended = await client.append(
                        f"s{n}", event(str(n).encode()), expected_version=7 if wrong else 0
                    )
                except rewind.WrongExpectedVersion as refused:
                    assert wrong and refused.actual == 0 and refused.stream == f"s{n}"
                    return 0
                assert not wrong and appended.versions == {f"s{n}": 1}
                return appended.first

            positions = await asyncio.gather(*(one(n) for n in range(203)))
            assert sorted(positions) == [0] * 20 + list(range(1, 184))
            stored = {e.stream: e.data async for e in client.read()}
            assert stored == {f"s{n}": str(n).encode() for n in range(203) if n % 10 != 3}

    with Daemon("memory:") as daemon, Raw(daemon.endpoints["incoming"]) as raw:

        def pass_on(frames: list[bytes], fake: FakeDaemon) -> list[bytes]:
            return [frames[0], *raw.ask(*frames[1:])]

        with FakeDaemon(pass_on) as between:
            asyncio.run(many(between.endpoint))
    appends = [msgspec.msgpack.decode(r[3]) for r in between.requests if r[1] == b"APPEND"]
    assert [len(together) for together in appends] == [51, 51, 51, 50]


def test_a_message_whose_answer_is_lost_is_sent_again_append_by_append_or_together() -> None:
    async def many(endpoint: str, daemon: Daemon) -> None:
        async with rewind.connect_async(endpoint, timeout=PATIENCE_S) as client:
            for _ in range(3):
                appends = [
                    asyncio.create_task(client.append("s", event(str(n).encode())))
                    for n in range(50)
                ]
                await asyncio.sleep(0)
                await asyncio.to_thread(daemon.restart)
                await asyncio.gather(*appends)
            assert [e.version async for e in client.read_stream("s")] == list(range(1, 151))

    with tempfile.TemporaryDirectory() as folder, Daemon(f"sqlite:{folder}/s") as daemon:
        asyncio.run(many(daemon.endpoints["incoming"], daemon))


def test_a_cancelled_append_does_not_hold_up_the_others() -> None:
    async def many(endpoint: str) -> None:
        async with rewind.connect_async(endpoint) as client:
            for _ in range(20):
                appends = [
                    asyncio.create_task(client.append("s", event(str(n).encode())))
                    for n in range(20)
                ]
                await asyncio.sleep(0)
                for task in appends[::2]:
                    task.cancel()
                await asyncio.gather(*appends[1::2])
            assert await client.head() >= 200

    with Daemon("memory:") as daemon:
        asyncio.run(many(daemon.endpoints["incoming"]))


def test_answers_that_never_came_hold_up_nobody_once_their_callers_are_gone() -> None:
    swallowed: list[list[bytes]] = []

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        if frames[1] == b"APPEND" and len(swallowed) < 2:
            swallowed.append(frames)
            return None
        return ok_head(frames, 0) if frames[1] == b"READ" else appended(frames)

    async def many(endpoint: str) -> None:
        async with rewind.connect_async(endpoint, timeout=PATIENCE_S) as client:
            for _ in range(2):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await client.append("s", event())
            assert len(swallowed) == 2
            assert await client.head() == 0
            assert (await client.append("s", event())).last == 1

    with FakeDaemon(answer) as fake:
        asyncio.run(many(fake.endpoint))


def appended(frames: list[bytes], first: int = 1) -> list[bytes]:
    """The answer to an APPEND of one or several events."""
    body = {"first": first, "last": first, "versions": {"s": first}}
    one = {**body, "duplicate": False, "durability": "memory"}
    asked = msgspec.msgpack.decode(frames[3])
    reply = [one] * len(asked) if isinstance(asked, list) else one
    return [frames[0], b"OK", frames[2], msgspec.msgpack.encode(reply)]


def test_a_late_answer_is_welcome(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "ATTEMPT_S_MIN", 0.1)
    held: list[list[bytes]] = []

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes] | None:
        if frames[1] == b"READ":
            return ok_head(frames, 0)
        held.append(frames)
        return appended(held[0]) if len(held) == 2 else None  # the first one's, and no other

    async def late(endpoint: str) -> None:
        async with rewind.connect_async(endpoint, timeout=PATIENCE_S) as client:
            append = asyncio.create_task(client.append("s", event()))
            while not append.done():
                await client.head()  # so that the connection is known to be alive
                await asyncio.sleep(0.01)
            assert (await append).last == 1

    with FakeDaemon(answer) as fake:
        asyncio.run(late(fake.endpoint))
    assert len(held) == 2


def test_an_answer_that_is_no_array_fails_its_appends_at_once() -> None:
    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes]:
        return [frames[0], b"OK", frames[2], msgspec.msgpack.encode([{"code": "id_conflict"}])]

    async def many(endpoint: str) -> None:
        async with rewind.connect_async(endpoint, timeout=PATIENCE_S) as client:
            appends = [asyncio.create_task(client.append("s", event())) for _ in range(2)]
            for append in appends:
                with pytest.raises(rewind.Unavailable, match="native protocol"):
                    await asyncio.wait_for(append, 1)

    with FakeDaemon(answer) as fake:
        asyncio.run(many(fake.endpoint))


def test_a_message_refused_for_now_is_sent_again_by_each_of_its_appends() -> None:
    refused = []

    def answer(frames: list[bytes], fake: FakeDaemon) -> list[bytes]:
        if not refused:
            refused.append(frames)
            return refusal(frames, "overloaded")
        return appended(frames)

    async def many(endpoint: str) -> None:
        async with rewind.connect_async(endpoint) as client:
            await asyncio.gather(*(client.append("s", event()) for _ in range(10)))

    with FakeDaemon(answer) as fake:
        asyncio.run(many(fake.endpoint))
    assert len(msgspec.msgpack.decode(refused[0][3])) == 10


def test_a_read_called_after_appends_sees_them() -> None:
    async def ordered(endpoint: str) -> None:
        async with rewind.connect_async(endpoint) as client:
            for n in range(1, 20):
                append = asyncio.create_task(client.append("s", event()))
                head = asyncio.create_task(client.head())
                await append
                assert await head == n

    with Daemon("memory:") as daemon:
        asyncio.run(ordered(daemon.endpoints["incoming"]))


# Where a subscription begins


@pytest.mark.parametrize("url", [None, "memory:"])
@pytest.mark.parametrize("cursor", [None, "mailer"])
def test_now_is_when_subscribe_is_called(
    daemon: Daemon, url: str | None, cursor: str | None
) -> None:
    """It only asks, and what comes after that is not skipped: not on a connection's first use, whose
    name has to be looked up, either."""
    endpoint = daemon.endpoints["incoming"].replace("127.0.0.1", "localhost")

    async def main() -> None:
        async with rewind.open_async(url) if url else rewind.connect_async(endpoint) as client:
            subscription = client.subscribe(after=rewind.NOW, cursor=cursor)
            first = await client.append("s", event())
            async for each in subscription:
                assert each.position == first.last
                break
            for _ in range(10):
                subscription = client.subscribe(after=rewind.NOW)
                last = (await client.append("s", event())).last
                assert (await anext(subscription)).position == last

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_beginning_leaves_a_consumer_its_time_and_can_be_stopped() -> None:
    async def main() -> None:
        async with rewind.connect_async(free_endpoint(), timeout=PATIENCE_S) as client:
            subscription = client.subscribe(after=rewind.NOW)
            batches = subscription.batches(max_wait=0.01)
            assert [await anext(batches), await anext(batches)] == [[], []]
            waiting = asyncio.create_task(anext(subscription))
            await asyncio.sleep(0)
            subscription.stop()
            with pytest.raises(StopAsyncIteration):
                await waiting
            other = client.subscribe(after=rewind.NOW)
            waiting = asyncio.create_task(anext(other))
            await asyncio.sleep(0)
        with pytest.raises(StopAsyncIteration):
            await waiting

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))


def test_a_beginning_without_an_answer_is_the_iterations_to_raise(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async with rewind.connect_async(free_endpoint(), timeout=0.05) as client:
            subscription = client.subscribe(after=rewind.NOW)
            nobodys = client.subscribe(after=rewind.NOW)
            with pytest.raises(rewind.Unavailable):
                await anext(subscription)
            assert [each async for each in subscription] == []
            assert not await nobodys.wait_for(1, timeout=0)
            del nobodys
            gc.collect()

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    gc.collect()
    assert "never retrieved" not in caplog.text


def test_a_read_is_closed_as_a_generator_is(daemon: Daemon) -> None:
    async def main() -> None:
        async with rewind.connect_async(daemon.endpoints["incoming"]) as client:
            await client.append("s", [event(), event()])
            async with contextlib.aclosing(client.read()) as events:
                assert (await anext(events)).position == 1
            assert [each async for each in events] == []
            async with client.read() as events:
                assert [each.position async for each in events] == [1, 2]
            assert (events.head, events.condition().after) == (2, 2)

    asyncio.run(main())
