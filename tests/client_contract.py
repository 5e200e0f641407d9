"""What every client keeps, whatever is behind it: run over the wire, with asyncio and embedded.

A test module derives a class from ``ClientContract`` and gives it a ``client`` fixture.
"""

from __future__ import annotations

import functools
import gc
import itertools
import math
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any

import pytest
from wrong_arguments import APPENDED, CLIENT, SUBSCRIPTION, refused, unthought

import rewind
from rewind import ANY, NO_STREAM, STREAM_EXISTS, NewEvent

PATIENCE_S = 20.0  # of a wait that ends much sooner unless something is broken


def event(data: bytes = b"d", type: str = "t", **more: Any) -> NewEvent:
    return NewEvent(type, data, **more)


def fill(client: Any, count: int, stream: str = "s", size: int = 1) -> None:
    """Append so many events, a thousand at a time."""
    for numbers in _groups(count, 1_000):
        client.append(stream, [event(b"%0*d" % (size, number)) for number in numbers])


def _groups(count: int, size: int) -> Iterator[range]:
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


@contextmanager
def consuming(subscription: Any) -> Iterator[Consumer]:
    """Iterate over it in a thread; it is stopped and joined at the end."""
    consumer = Consumer(subscription)
    try:
        yield consumer
    finally:
        subscription.stop()
        consumer.join()


class Consumer(threading.Thread):
    """Keeps what a subscription gave it, and how it ended."""

    def __init__(self, subscription: Any) -> None:
        super().__init__()
        self.subscription = subscription
        self.events: list[rewind.Event] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            for each in self.subscription:
                self.events.append(each)
        except rewind.RewindError as error:
            self.error = error

    def join(self, timeout: float | None = PATIENCE_S) -> None:
        super().join(timeout)
        assert not self.is_alive(), "the subscription did not end"

    @property
    def positions(self) -> list[int]:
        return [each.position for each in self.events]


def check_that_a_refusal_is_freed(client: Any) -> None:
    """A refusal is gone with its last reference. (What asyncio's futures keep is asyncio's.)"""
    gc.disable()  # What is left is freed at once, and not by luck.
    try:
        with pytest.raises(rewind.WrongExpectedVersion) as caught:
            client.append("s", event(), 7)
        refused = weakref.ref(caught.value)
        del caught
        assert refused() is None
    finally:
        gc.enable()


class Waiting(threading.Thread):
    """Waits, by calling something, for the answer of which the test goes on without."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        super().__init__(daemon=True)
        self.answer: Any = None
        self._call = functools.partial(call, *arguments)
        self.start()

    def run(self) -> None:
        self.answer = self._call()

    def join(self, timeout: float | None = PATIENCE_S) -> None:
        super().join(timeout)
        assert not self.is_alive(), "the wait did not end"


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until it holds."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < give_up_s, what or "it never became true"
        time.sleep(0.005)


class ClientContract:
    """The tests. ``client`` is a fresh client of an empty store."""

    # Appending

    def test_append_tells_where_the_events_are(self, client: Any) -> None:
        one = client.append("order-1", event(b"1"))
        assert (one.first, one.last, one.versions) == (1, 1, {"order-1": 1})
        assert not one.duplicate and one.durability == client.info().durability
        three = client.append("order-1", [event(b"2"), event(b"3"), event(b"4")])
        assert (three.first, three.last, three.versions) == (2, 4, {"order-1": 4})
        assert [client.event(id).data for id in three.ids] == [b"2", b"3", b"4"]

    def test_every_field_comes_back(self, client: Any) -> None:
        id = uuid.uuid4()
        metadata = {"a": [1, 2.5, None, True, {"b": "ø"}]}
        before = datetime.now(UTC)
        appended = client.append(
            "s-ø", event(b"\x00\xff", "type", id=id, tags=["x", "y"], metadata=metadata)
        )
        assert appended.ids == ()
        stored = client.event(id)
        assert (stored.id, stored.stream, stored.version, stored.position) == (id, "s-ø", 1, 1)
        assert (stored.type, stored.tags, stored.data) == ("type", ("x", "y"), b"\x00\xff")
        assert stored.metadata == metadata
        assert before.replace(microsecond=0) <= stored.recorded_at <= datetime.now(UTC)

    def test_retry_returns_first_position(self, client: Any) -> None:
        id = uuid.uuid4()
        first = client.append("s", [event(b"1"), event(b"2")], NO_STREAM, append_id=id)
        client.append("s", event(b"3"))
        for form in (id, str(id), id.bytes):
            again = client.append("s", [event(b"1"), event(b"2")], NO_STREAM, append_id=form)
            assert again.duplicate
            assert (again.first, again.last, again.ids) == (first.first, first.last, first.ids)
        assert client.head() == 3

    def test_retry_by_event_ids(self, client: Any) -> None:
        events = [event(b"1", id=uuid.uuid4()), event(b"2", id=uuid.uuid4())]
        assert client.append("s", events).last == 2
        assert client.append("s", events).duplicate
        with pytest.raises(rewind.IdConflict):
            client.append("s", [*events[:1], event(b"other", id=events[1].id)])
        with pytest.raises(rewind.IdConflict):
            client.append("s", event(b"other", id=events[0].id))

    def test_append_id_with_other_content_is_a_conflict(self, client: Any) -> None:
        id = uuid.uuid4()
        client.append("s", event(b"1"), append_id=id)
        with pytest.raises(rewind.IdConflict):
            client.append("s", event(b"2"), append_id=id)

    def test_two_appends_of_the_same_content_are_two(self, client: Any) -> None:
        same = event(b"same")
        assert [client.append("s", same).last for _ in range(3)] == [1, 2, 3]

    def test_expected_version(self, client: Any) -> None:
        client.append("s", event(), NO_STREAM)
        client.append("s", event(), 1)
        client.append("s", event(), STREAM_EXISTS)
        client.append("s", event(), ANY)
        for stream, expected, actual in (("s", 0, 4), ("s", 3, 4), ("new", -1, 0), ("new", 1, 0)):
            with pytest.raises(rewind.WrongExpectedVersion) as refused:
                client.append(stream, event(), expected)
            assert refused.value.stream == stream
            assert (refused.value.expected, refused.value.actual) == (expected, actual)
        assert client.head() == 4

    def test_append_to_several_streams_is_one(self, client: Any) -> None:
        pairs = [("a", event(b"1")), ("b", event(b"2")), ("a", event(b"3"))]
        appended = client.append_streams(pairs, expected={"a": 0, "guard": NO_STREAM})
        assert (appended.first, appended.last) == (1, 3)
        assert appended.versions == {"a": 2, "b": 1}
        client.append("guard", event())
        with pytest.raises(rewind.WrongExpectedVersion):
            client.append_streams(pairs, expected={"guard": NO_STREAM})
        assert [e.data for e in client.read(prefix="a")] == [b"1", b"3"]
        assert client.head() == 4

    @pytest.mark.parametrize(
        ("stream", "events"),
        [
            ("s", []),
            ("", [event()]),
            ("$own", [event()]),
            ("a\nb", [event()]),
            ("x" * 256, [event()]),
            ("\ud800", [event()]),
            (5, [event()]),
            ("s", [event(type="\ud800")]),
            ("s", [event(tags=[""])]),
            ("s", [event(tags=["t"] * 33)]),
            ("s", [event(metadata={"when": datetime.now()})]),
            ("s", [event(metadata={"x": object()})]),
            ("s", [event(metadata={"x": 2**63})]),
            ("s", [event(metadata={1: "x"})]),
            ("s", [event(metadata={"$own": 1})]),
            ("s", [event(id=uuid.uuid4()), event()]),
        ],
    )
    def test_malformed_append_is_refused(self, client: Any, stream: Any, events: Any) -> None:
        with pytest.raises(rewind.BadRequest):
            client.append(stream, events)
        assert client.head() == 0

    def test_too_much_is_refused(self, client: Any) -> None:
        with pytest.raises(rewind.TooLarge):
            client.append("s", event(bytes(4 * 1024 * 1024 + 1)))
        with pytest.raises(rewind.TooLarge):
            client.append("s", [event()] * 4_097)
        with pytest.raises(rewind.TooLarge):
            client.append("s", [event(bytes(4 * 1024 * 1024))] * 5)
        assert client.append("s", event(bytes(4 * 1024 * 1024))).last == 1

    def test_append_id_that_is_none_is_refused(self, client: Any) -> None:
        for wrong in (b"short", "text", 5):
            with pytest.raises(rewind.BadRequest):
                client.append("s", event(), append_id=wrong)

    # Arguments of a wrong kind

    @pytest.mark.parametrize("method", CLIENT)
    def test_a_wrong_argument_is_refused_by_name(self, client: Any, method: str) -> None:
        right, wrong = CLIENT[method]
        assert unthought(getattr(rewind.Client, method), wrong) == set()
        for name, values in wrong.items():
            for value in values:
                refused(getattr(client, method), right, name, value)
        assert client.head() == 0
        with suppress(rewind.UnknownEvent):
            getattr(client, method)(**right)

    @pytest.mark.parametrize("method", SUBSCRIPTION)
    def test_a_wrong_argument_of_a_subscription_is_refused(self, client: Any, method: str) -> None:
        right, wrong = SUBSCRIPTION[method]
        assert unthought(getattr(rewind.Subscription, method), wrong) == set()
        subscription = client.subscribe()
        for name, values in wrong.items():
            for value in values:
                refused(getattr(subscription, method), right, name, value)
        subscription.stop()

    @pytest.mark.parametrize("name", APPENDED)
    def test_what_no_event_may_hold_is_not_appended(self, client: Any, name: str) -> None:
        def append(**fields: Any) -> Any:
            return client.append("s", [event(), NewEvent(**fields)])

        for value in APPENDED[name]:
            refused(append, {"type": "A"}, name, value)
        assert client.head() == 0

    def test_a_generator_that_fails_fails_as_it_does(self, client: Any) -> None:
        def broken() -> Iterator[Any]:
            yield event()
            raise TypeError("this is the caller's own")

        with pytest.raises(TypeError, match="caller's own") as failed:
            client.append("s", broken())
        assert type(failed.value) is TypeError and client.head() == 0

    def test_all_kinds_of_one_thing_are_taken(self, client: Any) -> None:
        class Name(StrEnum):
            STREAM = "s"
            TYPE = "t"
            TAG = "g"

        class Number(IntEnum):
            ONE = 1

        given = [
            NewEvent(
                Name.TYPE, bytearray(b"1"), tags={Name.TAG}, metadata=MappingProxyType({"a": 1})
            ),
            NewEvent("t", memoryview(b"123")[::2]),
        ]
        client.append(Name.STREAM, (each for each in given), rewind.ANY)
        one = client.append_streams([["s", event()]], expected={"s": Number.ONE + 1, "z": ANY})
        assert one.versions == {"s": 3}
        first, second, _ = client.read_stream(Name.STREAM)
        assert (first.data, first.tags, first.metadata) == (b"1", ("g",), {"a": 1})
        assert second.data == b"13"
        found = client.read(
            after=Number.ONE, prefix=Name.STREAM, types=(each for each in Name), tags=iter(())
        )
        assert [each.position for each in found] == [2, 3]

    # Reading

    def test_read_ranges(self, client: Any) -> None:
        fill(client, 10)

        def read(**range_: Any) -> list[int]:
            return [each.position for each in client.read(**range_)]

        assert read() == list(range(1, 11))
        assert read(after=3, until=6) == [4, 5, 6]
        assert read(after=8, limit=5) == [9, 10]
        assert read(limit=3) == [1, 2, 3]
        assert read(backwards=True, limit=2) == [10, 9]
        assert read(backwards=True, after=2, until=5) == [5, 4, 3]
        assert read(after=10) == read(after=99) == read(until=0) == read(limit=0) == []
        assert read(backwards=True, until=0) == read(after=5, until=3) == []

    def test_read_filters(self, client: Any) -> None:
        client.append("order-1", event(b"1", "placed", tags=["vip", "eu"]))
        client.append("order-2", event(b"2", "paid", tags=["vip"]))
        client.append("user-1", event(b"3", "placed"))

        def read(**filters: Any) -> list[bytes]:
            return [each.data for each in client.read(**filters)]

        assert read(prefix="order-") == [b"1", b"2"]
        assert read(types=["placed"]) == [b"1", b"3"]
        assert read(types=["placed", "paid"], prefix="order-", backwards=True) == [b"2", b"1"]
        assert read(tags=["vip"]) == [b"1", b"2"]
        assert read(tags=["vip", "eu"]) == [b"1"]
        assert read(tags=["none"]) == []
        third = client.event(next(iter(client.read(after=2))).id)
        assert read(since=third.recorded_at_ns) == [b"3"]
        assert read(since=0) == [b"1", b"2", b"3"]
        assert read(since=time.time_ns() + 10**12) == []

    def test_read_stream_counts_versions(self, client: Any) -> None:
        for number in range(6):
            client.append("even" if number % 2 == 0 else "odd", event(b"%d" % number))
        assert [each.data for each in client.read_stream("odd")] == [b"1", b"3", b"5"]
        assert [each.version for each in client.read_stream("odd", after=1)] == [2, 3]
        assert [each.version for each in client.read_stream("odd", until=2, backwards=True)] == [
            2,
            1,
        ]
        assert [each.version for each in client.read_stream("odd", limit=1)] == [1]
        assert list(client.read_stream("nobody")) == []

    def test_read_goes_on_over_pages(self, client: Any) -> None:
        fill(client, 3_000, size=1_500)
        assert [each.position for each in client.read()] == list(range(1, 3_001))
        assert [each.version for each in client.read_stream("s")] == list(range(1, 3_001))
        backwards = [each.position for each in client.read(backwards=True, limit=2_500)]
        assert backwards == list(range(3_000, 500, -1))
        assert len(list(client.read(limit=2_999))) == 2_999

    def test_read_ends_under_writers(self, client: Any) -> None:
        fill(client, 3_000, size=1_500)
        for reading in (
            client.read(until=10**9),
            client.read_stream("s"),
            client.read(types=["t"]),
        ):
            head = client.head()
            count = 0
            for _ in reading:
                if count % 500 == 0:
                    client.append("s", event(bytes(1_500)))
                count += 1
            assert count == head

    def test_sparse_filter_finds_all(self, client: Any) -> None:
        client.append("s", event(type="rare"))
        fill(client, 9_000)
        client.append("s", event(type="rare"))
        assert [each.position for each in client.read(types=["rare"])] == [1, 9_002]
        assert [each.position for each in client.read(types=["rare"], backwards=True)] == [9_002, 1]

    def test_abandoned_read_does_no_harm(self, client: Any) -> None:
        fill(client, 3_000, size=1_500)
        for _ in range(5):
            reading = client.read()
            assert next(reading).position == 1
            reading.close()
        assert client.head() == 3_000

    @pytest.mark.parametrize(
        "wrong",
        [{"after": -1}, {"limit": -1}, {"until": 2**63}, {"types": "text"}, {"tags": "text"}],
    )
    def test_malformed_read_is_refused_at_once(self, client: Any, wrong: dict[str, Any]) -> None:
        with pytest.raises(rewind.BadRequest):
            client.read(**wrong)

    def test_unknown_event(self, client: Any) -> None:
        with pytest.raises(rewind.UnknownEvent):
            client.event(uuid.uuid4())
        with pytest.raises(rewind.BadRequest):
            client.event("no id")

    def test_head_and_info(self, client: Any) -> None:
        assert client.head() == 0
        fill(client, 5)
        info = client.info()
        assert client.head() == info.head == 5
        assert (info.name, info.release, info.protocol) == ("rewind", rewind.__version__, 1)
        assert isinstance(info.store_id, uuid.UUID) and info == client.info()
        assert info.limits["event_bytes"] == 4 * 1024 * 1024

    def test_streams_come_by_name_with_versions(self, client: Any) -> None:
        names = [f"order-{number:05}" for number in range(2_500)]
        for group in _groups(2_500, 1_000):
            client.append_streams([(names[number], event()) for number in reversed(group)])
        client.append("order-00007", event())
        client.append("user", event())
        assert list(client.streams("order-")) == [(n, 2 if n[-5:] == "00007" else 1) for n in names]
        assert list(client.streams("u")) == [("user", 1)]
        assert len(list(client.streams())) == 2_501
        assert list(client.streams("none")) == []

    # Subscriptions

    def test_subscription_catches_up_and_goes_on(self, client: Any) -> None:
        fill(client, 2_500)
        subscription = client.subscribe()
        assert not subscription.caught_up
        with consuming(subscription) as consumer:
            assert subscription.wait_caught_up(PATIENCE_S)
            for number in range(300):
                last = client.append("s", event(b"%d" % number)).last
            assert subscription.wait_for(last, PATIENCE_S)
            assert subscription.wait_caught_up(PATIENCE_S)
            assert consumer.positions == list(range(1, 2_801))
            assert subscription.position == 2_800

    def test_subscription_from_a_position(self, client: Any) -> None:
        fill(client, 5)
        subscription = client.subscribe(after=3)
        assert subscription.position == 3
        assert subscription.wait_for(3, 0)
        assert not subscription.wait_for(4, 0)
        assert [next(subscription).position for _ in range(2)] == [4, 5]
        assert subscription.position == 5
        subscription.stop()

    def test_a_subscription_that_names_its_store_is_of_that_one(self, client: Any) -> None:
        fill(client, 3)
        subscription = client.subscribe(after=2, store_id=client.info().store_id)
        assert next(subscription).position == 3
        subscription.stop()
        with pytest.raises(rewind.StoreChanged, match="positions of one mean nothing"):
            next(client.subscribe(after=2, store_id=uuid.UUID(int=7)))

    def test_subscription_to_a_stream_counts_versions(self, client: Any) -> None:
        for _ in range(4):
            client.append_streams([("a", event()), ("b", event())])
        subscription = client.subscribe(stream="b", after=2)
        with consuming(subscription) as consumer:
            assert subscription.wait_for(4, PATIENCE_S)
            client.append_streams([("a", event()), ("b", event()), ("bb", event())])
            assert subscription.wait_for(5, PATIENCE_S)
            assert [each.version for each in consumer.events] == [3, 4, 5]
            assert {each.stream for each in consumer.events} == {"b"}
            assert subscription.position == 5

    def test_filtered_subscription(self, client: Any) -> None:
        filters = [
            {"prefix": "order-"},
            {"types": ["placed"]},
            {"tags": ["vip", "eu"]},
            {"prefix": "order-", "types": ["placed", "paid"], "tags": ["vip"]},
        ]
        wanted = ("order-1", event(type="placed", tags=["eu", "vip"]))
        other = ("user-1", event(type="left", tags=["eu"]))
        client.append_streams([wanted, other, wanted])
        for filter_ in filters:
            subscription = client.subscribe(**filter_)
            with consuming(subscription) as consumer:
                assert subscription.wait_caught_up(PATIENCE_S)
                before = client.head()
                client.append_streams([other, wanted])
                assert subscription.wait_for(before + 2, PATIENCE_S)
                assert {each.stream for each in consumer.events} == {"order-1"}
                assert subscription.position == before + 2

    def test_wait_for_passes_events_that_do_not_match(self, client: Any) -> None:
        subscription = client.subscribe(types=["never"])
        with consuming(subscription) as consumer:
            assert subscription.wait_caught_up(PATIENCE_S)
            fill(client, 3)
            start_s = time.monotonic()
            assert subscription.wait_for(3, PATIENCE_S)
            assert time.monotonic() - start_s < PATIENCE_S / 4
            assert consumer.events == [] and subscription.position == 3

    def test_wait_for_waits_for_the_handling(self, client: Any) -> None:
        subscription = client.subscribe()
        client.append("s", event())
        assert next(subscription).position == 1
        assert subscription.position == 1
        assert not subscription.wait_for(1, 0) and not subscription.caught_up
        with consuming(subscription):
            assert subscription.wait_for(1, PATIENCE_S)
            assert subscription.wait_caught_up(PATIENCE_S)

    def test_batches(self, client: Any) -> None:
        fill(client, 1_200)
        subscription = client.subscribe()
        sizes = []
        for batch in subscription.batches(500, max_wait=0.05):
            sizes.append(len(batch))
            if not batch:
                break
        assert sum(sizes) == 1_200 and max(sizes) == 500
        assert subscription.caught_up and subscription.position == 1_200
        client.append("s", [event(), event()])
        assert [len(batch) for batch in itertools.islice(subscription.batches(1), 2)] == [1, 1]
        subscription.stop()
        assert list(subscription.batches()) == []

    @pytest.mark.parametrize("wrong", [-1, -0.0015, math.nan, "1", True])
    def test_a_duration_that_is_none_is_refused_by_name(self, client: Any, wrong: Any) -> None:
        refused = (rewind.BadRequest, TypeError)
        for append in (
            lambda: client.append("s", event(), timeout=wrong),
            lambda: client.append_streams([("s", event())], timeout=wrong),
        ):
            with pytest.raises(refused, match="timeout"):
                append()
        subscription = client.subscribe()
        with pytest.raises(refused, match="timeout"):
            subscription.wait_for(0, wrong)
        with pytest.raises(refused, match="timeout"):
            subscription.wait_caught_up(wrong)
        with pytest.raises(refused, match="max_wait"):
            next(subscription.batches(max_wait=wrong))
        assert client.head() == 0

    def test_zero_does_not_wait_and_infinity_does_as_long_as_it_takes(self, client: Any) -> None:
        last = client.append("s", event(), timeout=math.inf).last
        subscription = client.subscribe()
        assert not subscription.wait_caught_up(0) and not subscription.wait_for(last, 0)
        found = next(filter(None, subscription.batches(max_wait=0)))
        client.append("s", event())
        found += next(filter(None, subscription.batches(max_wait=math.inf)))
        assert [each.position for each in found] == [last, last + 1]
        with consuming(subscription):
            assert subscription.wait_for(last, math.inf) and subscription.wait_caught_up(math.inf)

    def test_stop_from_another_thread(self, client: Any) -> None:
        fill(client, 3)
        for filters in ({}, {"types": ["t"]}, {"stream": "s"}):
            subscription = client.subscribe(**filters)
            consumer = Consumer(subscription)
            assert subscription.wait_caught_up(PATIENCE_S)
            subscription.stop()
            consumer.join()
            assert consumer.error is None and len(consumer.events) == 3
            assert list(subscription) == []
            assert not subscription.wait_for(99, PATIENCE_S)
            subscription.stop()

    def test_stop_before_the_first_event(self, client: Any) -> None:
        fill(client, 3)
        subscription = client.subscribe()
        subscription.stop()
        assert list(subscription) == []

    def test_stop_before_the_first_event_ends_what_waits(self, client: Any) -> None:
        subscription = client.subscribe()
        subscription.stop()
        assert not subscription.wait_for(1) and not subscription.wait_caught_up()
        for wait in ("wait_for", "wait_caught_up"):
            subscription = client.subscribe()
            waiting = Waiting(getattr(subscription, wait), *[1][: wait == "wait_for"])
            subscription.stop()
            waiting.join()
            assert waiting.answer is False
            assert list(subscription) == []

    def test_stop_drops_what_was_not_handed_out(self, client: Any) -> None:
        fill(client, 10)
        subscription = client.subscribe()
        assert next(subscription).position == 1
        subscription.stop()
        assert list(subscription) == [] and subscription.position == 1

    def test_subscription_beyond_the_head_is_of_another_store(self, client: Any) -> None:
        fill(client, 3)
        for after, filters in ((4, {}), (4, {"types": ["t"]}), (4, {"stream": "s"})):
            subscription = client.subscribe(after=after, **filters)
            with pytest.raises(rewind.StoreChanged):
                next(subscription)
            assert list(subscription) == []

    @pytest.mark.parametrize(
        "wrong", [{"after": -1}, {"stream": "s", "prefix": "s"}, {"stream": ""}, {"types": "text"}]
    )
    def test_malformed_subscription_is_refused(self, client: Any, wrong: dict[str, Any]) -> None:
        with pytest.raises(rewind.BadRequest):
            client.subscribe(**wrong)

    # Sharing and closing

    def test_threads_share_client(self, client: Any) -> None:
        def work(number: int) -> None:
            for index in range(30):
                appended = client.append(f"s-{number}", event(b"%d" % index), index)
                assert client.event(appended.ids[0]).version == index + 1

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert client.head() == 240
        assert sorted(client.streams()) == [(f"s-{number}", 30) for number in range(8)]

    def test_use_after_close(self, client: Any) -> None:
        fill(client, 3)
        subscription = client.subscribe()
        consumer = Consumer(subscription)
        assert subscription.wait_caught_up(PATIENCE_S)
        client.close()
        consumer.join()
        assert consumer.error is None
        for use in (
            client.head,
            client.info,
            lambda: client.append("s", event()),
            lambda: client.event(uuid.uuid4()),
            lambda: next(client.read()),
            lambda: next(client.streams()),
            lambda: client.subscribe(),
        ):
            with pytest.raises(rewind.Closed):
                use()
        client.close()
