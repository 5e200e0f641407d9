"""A client never mixes two stores: real daemons that are replaced, or reached by a wrong endpoint."""

from __future__ import annotations

import asyncio
import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from answers_by_hand import Answers
from client_contract import PATIENCE_S, consuming, event, eventually, fill
from fakes import FakeDaemon, FakeFeed, refusal
from raw import Raw

import rewind
from rewind.client.follow import LIVE
from rewind.testing import Daemon

pack, unpack = msgspec.msgpack.encode, msgspec.msgpack.decode
OTHER = uuid.UUID(int=7)


@pytest.fixture
def two() -> Iterator[tuple[Daemon, Daemon]]:
    """Daemons of two stores, with five events each."""
    with Daemon("memory:") as first, Daemon("memory:") as second:
        for daemon in (first, second):
            with rewind.connect(daemon.endpoint, timeout=30) as client:
                fill(client, 5)
        yield first, second


def store_of(daemon: Daemon) -> uuid.UUID:
    with rewind.connect(daemon.endpoint, timeout=30) as client:
        return client.info().store_id


# The topic socket of another store


def test_a_topic_socket_of_another_store_delivers_nothing(
    two: tuple[Daemon, Daemon], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = two
    feed = theirs.endpoints["topic"]
    with (
        rewind.connect(ours.endpoint, topic_endpoint=feed, timeout=30) as client,
        rewind.connect(theirs.endpoint, timeout=30) as other,
    ):
        subscription = client.subscribe()
        with consuming(subscription) as consumer:
            assert subscription.wait_for(5, PATIENCE_S)
            eventually(lambda: feed in caplog.text)
            for number in range(6, 30):
                assert other.append("s", event(b"theirs")).last == number
                assert client.append("s", event(b"ours")).last == number
                assert subscription.wait_for(number, PATIENCE_S)
            assert consumer.positions == list(range(1, 30))
            assert {each.data for each in consumer.events[5:]} == {b"ours"}
            assert subscription.position == 29
            assert subscription._source._follower.state is not LIVE  # type: ignore[attr-defined]
    (warning,) = [text for text in caplog.messages if "topic socket" in text]
    assert ours.endpoint in warning and feed in warning


def test_an_event_of_another_store_is_not_taken_for_the_next_one(
    two: tuple[Daemon, Daemon],
) -> None:
    """Theirs are published while the subscription is about to listen; ours comes after them."""
    ours, theirs = two

    async def main() -> None:
        endpoint, feed = ours.endpoint, theirs.endpoints["topic"]
        async with rewind.connect_async(endpoint, topic_endpoint=feed, timeout=30) as client:
            subscription = client.subscribe()
            consumer = asyncio.create_task(_take(subscription, 6))
            assert await subscription.wait_for(5, PATIENCE_S)
            with Raw(theirs.endpoint) as other:
                for _ in range(100):  # while the subscription goes on to look for a feed
                    other.append(("s", b"theirs"))
                    await asyncio.sleep(0)
            assert (await client.append("s", event(b"ours"))).last == 6
            events = await asyncio.wait_for(consumer, PATIENCE_S)
            assert [each.position for each in events] == [1, 2, 3, 4, 5, 6]
            assert events[-1].data == b"ours"

    asyncio.run(main())


async def _take(subscription: rewind.AsyncSubscription, count: int) -> list[rewind.Event]:
    events: list[rewind.Event] = []
    async for each in subscription:
        events.append(each)
        if len(events) == count:
            break
    return events


# A daemon that is replaced by that of another store

READS: dict[str, Callable[[Any], Iterator[Any]]] = {
    "read": lambda client: client.read(),
    "read_stream": lambda client: client.read_stream("big"),
    "read_backwards": lambda client: client.read(backwards=True),
    "filtered": lambda client: client.read(types=["t"]),
    "streams": lambda client: client.streams(),
}


@pytest.fixture
def replaced(tmp_path: Path) -> Iterator[Callable[[], Daemon]]:
    """A daemon whose store has several pages; the function puts another's in its place."""
    with Daemon(f"sqlite:{tmp_path / 'first'}") as daemon:

        def replace() -> Daemon:
            daemon.kill()
            daemon.store = f"sqlite:{tmp_path / 'second'}"
            daemon.start()
            with rewind.connect(daemon.endpoint, timeout=30) as client:
                pages_of_events(client)
            return daemon

        replace.daemon = daemon  # type: ignore[attr-defined]
        with rewind.connect(daemon.endpoint, timeout=30) as client:
            pages_of_events(client)
        yield replace


def pages_of_events(client: rewind.Client) -> None:
    """Several pages of events, and several of streams."""
    client.append("big", [event(bytes(400_000))] * 9)
    client.append_streams([(f"s-{number}", event()) for number in range(3_000)])


@pytest.mark.parametrize("reading", READS)
def test_pages_are_not_continued_on_another_store(replaced: Any, reading: str) -> None:
    with rewind.connect(replaced.daemon.endpoint, timeout=30) as client:
        items = READS[reading](client)
        next(items)
        replaced()
        with pytest.raises(rewind.StoreChanged, match="positions of one"):
            for _ in items:
                continue
        assert list(READS[reading](client))  # Another call is not tied to the first.


def test_pages_are_not_continued_on_another_store_by_asyncio_either(replaced: Any) -> None:
    async def main() -> None:
        async with rewind.connect_async(replaced.daemon.endpoint, timeout=30) as client:
            for items in (client.read(), client.streams()):
                await anext(items)
            replaced()
            with pytest.raises(rewind.StoreChanged):
                async for _ in items:
                    continue
            assert [each async for each in client.streams()]

    asyncio.run(main())


def test_a_read_goes_on_when_its_own_store_is_back(replaced: Any) -> None:
    daemon: Daemon = replaced.daemon
    with rewind.connect(daemon.endpoint, timeout=30) as client:
        items = client.read()
        next(items)
        daemon.restart()
        assert len(list(items)) == 3_008


@pytest.mark.parametrize("filters", [{}, {"stream": "big"}, {"types": ["t"]}])
def test_a_subscription_ends_when_another_store_is_there(
    replaced: Any, filters: dict[str, Any]
) -> None:
    with rewind.connect(replaced.daemon.endpoint, timeout=30) as client:
        subscription = client.subscribe(**filters)
        with consuming(subscription) as consumer:
            assert subscription.wait_caught_up(PATIENCE_S)
            taken = len(consumer.events)
            replaced()
            consumer.join()
            assert isinstance(consumer.error, rewind.StoreChanged)
            assert len(consumer.events) == taken
            assert not subscription.wait_for(10**6, PATIENCE_S)


# A store that is named

CALLS: dict[str, Callable[[rewind.Client], Any]] = {
    "append": lambda client: client.append("s", event()),
    "append_streams": lambda client: client.append_streams([("s", event())]),
    "append_with_ids": lambda client: client.append("s", event(id=uuid.uuid4())),
    "read": lambda client: list(client.read()),
    "read_stream": lambda client: list(client.read_stream("s")),
    "streams": lambda client: list(client.streams()),
    "event": lambda client: client.event(uuid.uuid4()),
    "head": lambda client: client.head(),
    "info": lambda client: client.info(),
    "subscribe": lambda client: next(client.subscribe(after=5)),
    "subscribe_stream": lambda client: next(client.subscribe(stream="s", after=5)),
}


def test_whatever_is_asked_of_another_store_than_the_one_named_is_refused(
    two: tuple[Daemon, Daemon],
) -> None:
    ours, theirs = two
    kept = store_of(ours)
    with rewind.connect(theirs.endpoint, timeout=30, store_id=kept) as client:
        for call in CALLS.values():
            with pytest.raises(rewind.StoreChanged, match=f"{store_of(theirs)}.* {kept}"):
                call(client)
    with rewind.connect(theirs.endpoint, timeout=30) as client:
        assert client.head() == 5


@pytest.mark.parametrize("form", [lambda id: id, str, lambda id: id.bytes])
def test_a_store_is_named_by_its_uuid_text_or_bytes(
    two: tuple[Daemon, Daemon], form: Callable[[uuid.UUID], Any]
) -> None:
    kept = form(store_of(two[0]))
    with rewind.connect(two[0].endpoint, timeout=30, store_id=kept) as client:
        assert client.append("s", event(b"6")).last == client.head() == 6
        assert len(list(client.read())) == 6 and list(client.streams()) == [("s", 6)]
        assert client.info().head == 6
        assert next(client.subscribe(after=5)).data == b"6"


def test_a_kept_position_is_of_its_own_store_alone(two: tuple[Daemon, Daemon]) -> None:
    ours, theirs = two
    with rewind.connect(ours.endpoint, timeout=30) as client:
        subscription = client.subscribe(store_id=client.info().store_id)
        events = list(itertools.islice(subscription, 5))
        position, store_id = subscription.position, client.info().store_id
        assert position == events[-1].position == 5
    with rewind.connect(theirs.endpoint, timeout=30) as client:
        client.append("s", event())
        assert next(client.subscribe(after=position)).position == 6  # and nobody could know better
        with pytest.raises(rewind.StoreChanged, match=str(store_id)):
            next(client.subscribe(after=position, store_id=store_id))


def test_many_appends_at_once_are_each_for_the_store_named(two: tuple[Daemon, Daemon]) -> None:
    async def main() -> list[Any]:
        kept = store_of(two[0])
        async with rewind.connect_async(two[1].endpoint, timeout=30, store_id=kept) as client:
            appends = (client.append("s", event()) for _ in range(300))
            return await asyncio.gather(*appends, return_exceptions=True)

    outcomes = asyncio.run(main())
    assert {type(outcome) for outcome in outcomes} == {rewind.StoreChanged}
    with rewind.connect(two[1].endpoint, timeout=30) as client:
        assert client.head() == 5


@pytest.mark.parametrize("wrong", [b"short", "text", 5])
def test_what_is_no_store_id_is_refused_at_once(wrong: Any) -> None:
    for connect in (rewind.connect, rewind.connect_async):
        with pytest.raises(rewind.BadRequest, match="store_id"):
            connect(store_id=wrong)  # type: ignore[operator]
    for open in (rewind.open, rewind.open_async):
        with pytest.raises(rewind.BadRequest, match="store_id"):
            open("memory:", store_id=wrong)  # type: ignore[operator]


def test_a_raw_client_is_refused_by_another_store_before_it_waits() -> None:
    with Daemon("memory:") as daemon, Raw(daemon.endpoint) as raw:
        mine = raw.native("INFO")[0]["store_id"]
        bodies: dict[str, Any] = {
            "APPEND": {"events": [[None, "s", "t", [], {}, b""]]},
            "READ": {"wait_ms": 30_000},
            "STREAMS": {},
            "INFO": {},
        }
        for command, body in bodies.items():
            error, _ = raw.native(command, {**body, "store_id": OTHER.bytes})
            assert (error["code"], error["retryable"]) == ("wrong_store", False)
            assert error["store_id"] == mine
        raw.send(b"APPEND", b"r", pack([bodies["APPEND"], {**bodies["APPEND"], "store_id": mine},
                                        {**bodies["APPEND"], "store_id": OTHER.bytes}]))  # fmt: skip
        parts = raw.native_reply()[0]
        assert [part.get("code", part.get("first")) for part in parts] == [1, 2, "wrong_store"]
        assert {part["store_id"] for part in parts} == {mine}


# A store in this process


def test_an_embedded_store_that_is_another_one_is_refused_at_once(tmp_path: Path) -> None:
    first, second = (f"sqlite:{tmp_path / name}" for name in ("first", "second"))
    with rewind.open(first) as store:
        kept = store.info().store_id
        store.append("s", event())
    rewind.open(second).close()
    with pytest.raises(rewind.StoreChanged, match=str(kept)):
        rewind.open(second, store_id=kept)
    rewind.open(second).close()  # It was given back.
    with rewind.open(second), pytest.raises(rewind.StoreChanged):  # It is shared, and stays open.
        rewind.open(second, store_id=kept)
    with rewind.open(first, store_id=str(kept)) as store:
        assert store.head() == 1 and next(store.subscribe()).position == 1
        with pytest.raises(rewind.StoreChanged):
            next(store.subscribe(store_id=OTHER))


@pytest.mark.parametrize("url", ["memory:", "PATH", "sqlite:PATH"])
def test_a_store_that_is_not_there_is_not_created_in_place_of_the_one_named(
    url: str, tmp_path: Path
) -> None:
    with pytest.raises(rewind.StoreChanged, match="there is no store"):
        rewind.open(url.replace("PATH", str(tmp_path / "nothing")), store_id=OTHER)
    assert not list(tmp_path.iterdir())


# Daemons of earlier releases, which say no store and refuse the key


class EarlierDaemon:
    """Answers as an earlier release does."""

    def __init__(self, feed: str) -> None:
        self.answers = Answers()
        self._feed = feed

    def __call__(self, frames: list[bytes], fake: FakeDaemon) -> list[bytes]:
        identity, command, request_id, body = frames
        if b"store_id" in body:
            return refusal(frames, "bad_request")
        status, request_id, reply, *chunk = self.answers.answer(command, request_id, body)
        content = unpack(reply)
        for each in content if isinstance(content, list) else [content]:
            if command != b"INFO":
                del each["store_id"]
            else:
                each["endpoints"] = {"topic": [self._feed]}
        return [identity, status, request_id, pack(content), *chunk]


@pytest.fixture
def earlier() -> Iterator[tuple[FakeDaemon, EarlierDaemon]]:
    with FakeFeed() as feed:
        answer = EarlierDaemon(feed.endpoint)
        with FakeDaemon(answer) as daemon:
            yield daemon, answer


def test_a_daemon_of_an_earlier_release_is_still_understood(
    earlier: tuple[FakeDaemon, EarlierDaemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewind.client.pages.READ_LIMIT_MAX", 3)
    daemon, _ = earlier
    with rewind.connect(daemon.endpoint, timeout=30) as client:
        for number in range(1, 11):
            assert client.append(f"s-{number % 3}", event()).last == number
        assert client.head() == client.info().head == 10
        assert [each.position for each in client.read()] == list(range(1, 11))
        assert [name for name, _ in client.streams()] == ["s-0", "s-1", "s-2"]
        for subscription in (
            client.subscribe(),
            client.subscribe(store_id=client.info().store_id),  # which INFO says there as well
        ):
            assert [next(subscription).position for _ in range(10)] == list(range(1, 11))
            subscription.stop()
        with pytest.raises(rewind.StoreChanged):
            next(client.subscribe(store_id=OTHER))


def test_a_daemon_of_an_earlier_release_is_not_believed_to_serve_the_store_named(
    earlier: tuple[FakeDaemon, EarlierDaemon],
) -> None:
    daemon, answer = earlier
    with rewind.connect(daemon.endpoint, store_id=answer.answers.store.id, timeout=30) as client:
        for call in (client.head, lambda: client.append("s", event())):
            with pytest.raises(rewind.StoreChanged, match="does not say which store"):
                call()
    assert answer.answers.store.head == 0
