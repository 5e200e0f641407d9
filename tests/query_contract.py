"""What every client keeps of queries, conditions, cursors and decisions; beside client_contract.py.

A test module derives a class from ``QueryContract`` and gives it a ``client`` fixture: a fresh client of
an empty store.
"""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from client_contract import PATIENCE_S, consuming, event, fill

import rewind
from rewind import NOW, Advance, AppendCondition, Query, QueryItem

VIP = QueryItem(tags=["vip"])


def store_orders(client: Any) -> None:
    """Six events of four streams; their data are their positions."""
    placed, paid, left = ("placed", ["vip", "eu"]), ("paid", ["vip"]), ("left", ())
    for number, (stream, (type, tags)) in enumerate(
        [
            ("order-1", placed),
            ("order-2", ("placed", ["eu"])),
            ("user-1", left),
            ("order-1", paid),
            ("invoice", ("placed", ["vip"])),
            ("user-1", ("placed", ())),
        ]
    ):
        client.append(stream, event(b"%d" % (number + 1), type, tags=tags))


def positions(events: Iterable[rewind.Event]) -> list[int]:
    return [each.position for each in events]


class QueryContract:
    """The tests."""

    # Queries

    @pytest.mark.parametrize(
        ("query", "found"),
        [
            (QueryItem(types=["placed"]), [1, 2, 5, 6]),
            (QueryItem(types=["placed", "paid"], tags=["vip"]), [1, 4, 5]),
            (QueryItem(tags=["vip", "eu"]), [1]),
            (QueryItem(categories=["order", "invoice"]), [1, 2, 4, 5]),
            (QueryItem(streams=["order-1", "user-1"]), [1, 3, 4, 6]),
            (QueryItem(categories=["user"], types=["placed"]), [6]),
            (Query(QueryItem(tags=["eu"]), QueryItem(types=["left"])), [1, 2, 3]),
            (Query(QueryItem(tags=["none"])), []),
            (Query.all(), [1, 2, 3, 4, 5, 6]),
        ],
    )
    def test_a_query_finds_what_matches_in_order(
        self, client: Any, query: Any, found: list[int]
    ) -> None:
        store_orders(client)
        assert positions(client.read(query=query)) == found
        assert positions(client.read(query=query, backwards=True)) == found[::-1]
        assert positions(client.read(query=query, limit=2)) == found[:2]
        between = [each for each in found if 1 < each <= 5]
        assert positions(client.read(query=query, after=1, until=5)) == between
        last = client.last(query=query)
        assert last == (client.event(last.id) if found else None)
        assert (last.position if last else 0) == max(found, default=0)

    def test_categories_go_with_types_and_tags(self, client: Any) -> None:
        store_orders(client)
        assert positions(client.read(categories=["order"])) == [1, 2, 4]
        assert positions(client.read(categories=["order", "user"], types=["placed"])) == [1, 2, 6]
        assert positions(client.read(categories=["order"], tags=["vip"])) == [1, 4]

    @pytest.mark.parametrize(
        "filters",
        [
            {"query": VIP, "types": ["t"]},
            {"query": VIP, "tags": ["t"]},
            {"query": VIP, "prefix": "o"},
            {"query": VIP, "categories": ["order"]},
            {"query": Query.all(), "types": ["t"]},
            {"categories": ["order"], "prefix": "o"},
        ],
    )
    def test_a_query_says_all_of_what_is_meant(self, client: Any, filters: dict[str, Any]) -> None:
        for ask in (client.read, client.subscribe):
            with pytest.raises(
                rewind.BadRequest, match=r"give (query|categories) or \w+, not both"
            ):
                ask(**filters)
        with pytest.raises(rewind.BadRequest, match="give query or stream, not both"):
            client.last(stream="s", query=VIP)

    def test_a_query_goes_on_over_pages(self, client: Any) -> None:
        fill(client, 3_000, "order-1", size=1_500)
        fill(client, 10, "user-1")
        fill(client, 10, "order-1")
        found = [*range(1, 3_001), *range(3_011, 3_021)]
        assert positions(client.read(query=QueryItem(categories=["order"]))) == found

    def test_last(self, client: Any) -> None:
        assert client.last() is client.last(stream="s") is client.last(query=VIP) is None
        store_orders(client)
        assert client.last().position == 6
        assert client.last(stream="order-1").position == 4
        assert client.last(query=VIP).position == 5

    # Conditions

    def test_events_make_a_condition_of_what_was_handed_out(self, client: Any) -> None:
        store_orders(client)
        query = Query(VIP)
        events = client.read(query=VIP)
        assert events.head is None
        with pytest.raises(rewind.BadRequest, match="has not begun"):
            events.condition()
        for position, after in ((1, 1), (4, 4), (5, 6)):
            assert next(events).position == position and events.head == 6
            assert events.condition() == AppendCondition(query, after)
        assert list(events) == [] and events.condition() == AppendCondition(query, 6)

    def test_a_condition_is_of_what_was_asked_for(self, client: Any) -> None:
        store_orders(client)

        def condition(**asked: Any) -> AppendCondition:
            events = client.read(**asked)
            list(events)
            found: AppendCondition = events.condition()
            return found

        assert condition() == AppendCondition(Query.all(), 6)
        assert condition(after=6) == condition(query=Query.all(), after=3)
        assert condition(types=["left"], tags=["x"]).fail_if_events_match == Query(
            QueryItem(types=["left"], tags=["x"])
        )
        assert condition(categories=["user"]) == AppendCondition(QueryItem(categories=["user"]), 6)
        assert condition(query=VIP, limit=2) == AppendCondition(VIP, 4)
        assert condition(query=VIP, limit=3) == AppendCondition(VIP, 5)
        assert condition(query=VIP, limit=4) == AppendCondition(VIP, 6)
        stream = client.read_stream("order-1")
        assert positions(stream) == [1, 4]
        assert stream.condition() == AppendCondition(QueryItem(streams=["order-1"]), 6)
        stream = client.read_stream("order-1", limit=1)
        assert positions(stream) == [1]
        assert stream.condition() == AppendCondition(QueryItem(streams=["order-1"]), 1)

    def test_a_condition_of_a_read_over_pages(self, client: Any) -> None:
        fill(client, 3_000, size=1_500)
        events = client.read()
        for position in range(1, 3_001):
            assert next(events).position == position
            assert events.condition().after == position
        assert events.head == 3_000

    @pytest.mark.parametrize(
        "asked", [{"backwards": True}, {"since": 5}, {"prefix": "o"}, {"until": 9}]
    )
    def test_a_read_that_leaves_events_out_makes_no_condition(
        self, client: Any, asked: dict[str, Any]
    ) -> None:
        store_orders(client)
        events = client.read(**asked)
        list(events)
        with pytest.raises(rewind.BadRequest, match=f"a read with {next(iter(asked))} makes no"):
            events.condition()

    def test_a_read_can_be_ended(self, client: Any) -> None:
        store_orders(client)
        with client.read() as events:
            assert next(events).position == 1
        assert list(events) == [] and events.condition().after == 1
        events = client.read()
        next(events)
        events.close()
        assert list(events) == []

    def test_an_append_fails_if_an_event_matches_its_condition(self, client: Any) -> None:
        store_orders(client)
        client.append("s", event(), conditions=AppendCondition(VIP, 5))
        with pytest.raises(rewind.ConditionFailed) as failed:
            client.append("s", event(), conditions=[AppendCondition(VIP, 5), AppendCondition(VIP)])
        assert (failed.value.condition, failed.value.position) == (1, 1)
        with pytest.raises(rewind.ConcurrencyConflict, match=r"conditions\[0\] failed"):
            client.append_streams([("s", event())], conditions=AppendCondition(Query.all(), 6))
        with pytest.raises(rewind.BadRequest, match="after"):
            client.append("s", event(), conditions=AppendCondition(VIP, 99))
        assert client.head() == 7

    def test_a_retry_is_looked_at_before_conditions(self, client: Any) -> None:
        id, free = uuid.uuid4(), AppendCondition(QueryItem(tags=["name:ada"]))
        ada = event(tags=["name:ada"])
        first = client.append("s", ada, append_id=id, conditions=free)
        again = client.append("s", ada, append_id=id, conditions=free)
        assert (again.first, again.duplicate) == (first.first, True)
        with pytest.raises(rewind.ConditionFailed):
            client.append("s", ada, conditions=free)

    def test_a_condition_that_is_too_wide_is_asked_on_by_itself(self, client: Any) -> None:
        """Each event has one of the two tags, so both lists have to be walked through to their ends."""
        for first in range(0, 6_000, 1_000):
            client.append(
                "s",
                [event(tags=["a" if each % 2 else "b"]) for each in range(first, first + 1_000)],
            )
        both = AppendCondition(QueryItem(tags=["a", "b"]))
        one = AppendCondition(QueryItem(tags=["c", "d"]))
        assert client.append("t", event(tags=["a", "b"]), conditions=[one, both]).last == 6_001
        with pytest.raises(rewind.ConditionFailed) as failed:
            client.append("t", event(), conditions=[one, both])
        assert (failed.value.condition, failed.value.position) == (1, 6_001)

    # What was appended

    def test_appended_gives_the_first_answer_again(self, client: Any) -> None:
        id = uuid.uuid4()
        assert client.appended(id) is None
        done = client.append("s", [event(), event()], append_id=id)
        client.append("s", event())
        for form in (id, str(id), id.bytes):
            found = client.appended(form)
            assert found.duplicate and (found.first, found.last, found.ids) == (1, 2, done.ids)
            assert found.versions == {"s": 2} and found.durability == done.durability

    # Names

    def test_names_come_in_their_order_with_their_last_position(self, client: Any) -> None:
        assert list(client.types()) == list(client.tags()) == list(client.categories()) == []
        store_orders(client)
        assert list(client.types()) == [("left", 3), ("paid", 4), ("placed", 6)]
        assert list(client.types("p")) == [("paid", 4), ("placed", 6)]
        assert list(client.tags()) == [("eu", 2), ("vip", 5)]
        assert list(client.categories()) == [("invoice", 5), ("order", 4), ("user", 6)]
        assert list(client.categories("o")) == [("order", 4)]
        assert list(client.tags("none")) == []
        client.append("s", event(type=""))
        assert next(iter(client.types())) == ("", 7)

    def test_names_go_on_over_pages(self, client: Any) -> None:
        names = [f"tag-{number:05}" for number in range(2_500)]
        for first in range(0, 2_500, 500):
            client.append("s", [event(tags=[name]) for name in names[first : first + 500]])
        assert list(client.tags("tag-")) == list(zip(names, range(1, 2_501), strict=True))

    # Cursors

    def test_a_cursor_is_advanced(self, client: Any) -> None:
        missing = client.cursor("mailer")
        assert (missing.name, missing.position, missing.updated_at) == ("mailer", 0, None)
        store_orders(client)
        before = datetime.now(UTC) - timedelta(seconds=60)
        client.advance("mailer", 4)
        client.advance("mailer", 4)
        found = client.cursor("mailer")
        assert (found.position, found.lag_events) == (4, 2) and found.lag_seconds >= 0
        assert before < found.updated_at < datetime.now(UTC) + timedelta(seconds=60)
        client.advance("mailer", 6, expected=4)
        found = client.cursor("mailer")
        assert (found.position, found.lag_events, found.lag_seconds) == (6, 0, 0)
        for position, expected in ((5, None), (6, 4), (6, 0)):
            with pytest.raises(rewind.CursorMoved) as moved:
                client.advance("mailer", position, expected=expected)
            assert (moved.value.cursor, moved.value.actual) == ("mailer", 6)
        with pytest.raises(rewind.BadRequest, match="head"):
            client.advance("mailer", 7)

    def test_a_cursor_is_reset_and_deleted(self, client: Any) -> None:
        store_orders(client)
        client.advance("mailer", 6)
        client.reset_cursor("mailer", 2)
        assert client.cursor("mailer").position == 2
        client.delete_cursor("mailer")
        client.delete_cursor("mailer")
        assert client.cursor("mailer").updated_at is None and list(client.cursors()) == []
        client.advance("mailer", 3, expected=0)

    def test_cursors_come_in_their_order(self, client: Any) -> None:
        store_orders(client)
        names = [f"c-{number:03}" for number in range(300)]
        for name in names:
            client.advance(name, 5)
        client.advance("mailer", 6)
        assert [(each.name, each.position, each.lag_events) for each in client.cursors("c-")] == [
            (name, 5, 1) for name in names
        ]
        assert client.cursor("mailer") in list(client.cursors())
        assert list(client.cursors("none")) == []

    def test_a_cursor_moves_with_what_came_of_its_events(self, client: Any) -> None:
        store_orders(client)
        id = uuid.uuid4()
        outcome = event(type="mailed")

        def mail(position: int, **more: Any) -> Any:
            return client.append("mails", outcome, cursors={"mailer": position}, **more)

        assert mail(4, append_id=id).last == 7 and client.cursor("mailer").position == 4
        assert mail(4, append_id=id).duplicate
        for position in (3, 4):
            with pytest.raises(rewind.CursorMoved):
                mail(position)
        with pytest.raises(rewind.BadRequest):
            mail(8)
        assert client.head() == 7
        moves = {"mailer": Advance(5, expected=4), "other": 6}
        assert client.append_streams([("mails", outcome)], cursors=moves).last == 8
        assert [(each.name, each.position) for each in client.cursors()] == [
            ("mailer", 5),
            ("other", 6),
        ]
        for wrong in (Advance(None), Advance(8, reset=True)):
            with pytest.raises(rewind.BadRequest, match=r"cursors\['mailer'\]"):
                client.append("mails", outcome, cursors={"mailer": wrong})

    def test_cursors_move_without_events(self, client: Any) -> None:
        store_orders(client)
        done = client.append("s", [], cursors={"a": 1, "b": Advance(2)})
        assert (done.first, done.last, done.ids, done.versions) == (0, 0, (), {})
        assert client.append_streams([], cursors={"a": Advance(3, expected=1)}).last == 0
        assert [each.position for each in client.cursors()] == [3, 2]
        with pytest.raises(rewind.BadRequest, match="id"):
            client.append("s", [], append_id=uuid.uuid4(), cursors={"a": 4})
        with pytest.raises(rewind.WrongExpectedVersion):
            client.append("s", [], 5, cursors={"a": 4})
        with pytest.raises(rewind.ConditionFailed):
            client.append("s", [], conditions=AppendCondition(VIP), cursors={"a": 4})
        assert client.cursor("a").position == 3

    # Subscriptions

    def test_a_subscription_to_a_query(self, client: Any) -> None:
        store_orders(client)
        for filters in ({"query": VIP}, {"tags": ["vip"], "categories": ["order", "invoice"]}):
            subscription = client.subscribe(**filters)
            with consuming(subscription) as consumer:
                assert subscription.wait_caught_up(PATIENCE_S)
                last = client.append_streams(
                    [("order-9", event(tags=["vip"])), ("user-1", event())]
                ).last
                assert subscription.wait_for(last, PATIENCE_S)
                assert [each for each in consumer.positions if each <= 6] == [1, 4, 5]
                assert consumer.positions[-1] == last - 1
                assert subscription.position == last

    def test_position_passes_events_that_do_not_match(self, client: Any) -> None:
        store_orders(client)
        subscription = client.subscribe(query=VIP)
        batches = subscription.batches(max_wait=0)
        found = list(
            itertools.takewhile(len, itertools.dropwhile(lambda batch: not batch, batches))
        )
        assert positions(itertools.chain(*found)) == [1, 4, 5]
        assert subscription.position == 6
        client.advance("vips", subscription.position)
        assert client.cursor("vips").lag_events == 0
        subscription.stop()

    def test_a_subscription_from_now(self, client: Any) -> None:
        fill(client, 5, "s")
        for filters in ({}, {"query": QueryItem(streams=["s"])}, {"stream": "s"}):
            subscription = client.subscribe(after=NOW, **filters)
            last = client.append("s", event(b"next"))
            assert next(subscription).position == last.last
            subscription.stop()
        assert next(client.subscribe(after=0)).position == 1

    def test_a_subscription_since_a_time(self, client: Any) -> None:
        fill(client, 2_500, "s")
        third = next(iter(client.read(after=2_400)))
        for filters in ({}, {"types": ["t"]}, {"stream": "s"}):
            since = third.recorded_at_ns
            wanted = next(iter(client.read(since=since))).position
            subscription = client.subscribe(since=since, **filters)
            with consuming(subscription) as consumer:
                assert subscription.wait_caught_up(PATIENCE_S)
                last = client.append("s", [event(), event()]).last
                assert subscription.wait_for(last, PATIENCE_S)
                assert consumer.positions == list(range(wanted, last + 1))

    def test_a_subscription_since_a_time_to_come_waits_for_it(self, client: Any) -> None:
        fill(client, 3)
        subscription = client.subscribe(since=datetime.now(UTC) + timedelta(hours=1))
        with consuming(subscription) as consumer:
            assert subscription.wait_caught_up(PATIENCE_S)
            last = client.append("s", event()).last
            assert subscription.wait_for(last, PATIENCE_S)
            assert consumer.events == [] and subscription.position == last

    def test_a_subscription_begins_where_its_cursor_stands(self, client: Any) -> None:
        store_orders(client)
        client.advance("mailer", 4)
        for after in (0, 1, NOW):
            subscription = client.subscribe(after=after, cursor="mailer")
            assert next(subscription).position == 5
            subscription.stop()
        subscription = client.subscribe(cursor="mailer", query=QueryItem(types=["placed"]))
        assert [next(subscription).position for _ in range(2)] == [5, 6]
        subscription.stop()
        assert client.cursor("mailer").position == 4  # Reading does not move it.

    def test_a_cursor_that_does_not_exist_begins_where_the_caller_says(self, client: Any) -> None:
        store_orders(client)
        subscription = client.subscribe(after=3, cursor="new")
        assert next(subscription).position == 4
        subscription.stop()
        assert client.cursor("new").updated_at is None
        subscription = client.subscribe(after=NOW, cursor="new")
        client.append("s", event())
        assert next(subscription).position == 7
        subscription.stop()
        assert client.cursor("new").position == 6  # It was put there before the first event came.
        subscription = client.subscribe(after=NOW, cursor="new")
        assert next(subscription).position == 7
        subscription.stop()

    def test_a_cursor_begins_now_in_an_empty_store(self, client: Any) -> None:
        subscription = client.subscribe(after=NOW, cursor="new")
        client.append("s", event())
        assert next(subscription).position == 1
        subscription.stop()
        again = client.subscribe(after=NOW, cursor="new")
        assert next(again).position == 1
        again.stop()

    def test_a_cursor_is_no_version(self, client: Any) -> None:
        with pytest.raises(rewind.BadRequest, match="give cursor or stream, not both"):
            client.subscribe(cursor="mailer", stream="s")

    def test_a_subscription_from_now_names_its_store(self, client: Any) -> None:
        for more in ({}, {"cursor": "mailer"}):
            with pytest.raises(rewind.StoreChanged):
                next(client.subscribe(after=NOW, store_id=uuid.UUID(int=7), **more))

    # Decisions

    def test_a_decision_on_a_stream(self, client: Any) -> None:
        def deposit(events: list[rewind.Event]) -> Any:
            return event(b"%d" % len(events), "deposited")

        for number in range(3):
            done = client.decide(deposit, stream="account-1")
            assert done.versions == {"account-1": number + 1}
        assert [each.data for each in client.read_stream("account-1")] == [b"0", b"1", b"2"]
        pairs = [("audit", event()), ("account-1", event(b"3"))]
        done = client.decide(lambda events: pairs, stream="account-1")
        assert done.versions == {"audit": 1, "account-1": 4}

    def test_a_decision_on_a_query(self, client: Any) -> None:
        name = QueryItem(tags=["name:ada"])

        class Taken(Exception):
            pass

        def register(taken: bool) -> Any:
            if taken:
                raise Taken
            return [("user-1", event(type="registered", tags=["name:ada"]))]

        done = client.decide(register, query=name, fold=lambda state, each: True, initial=False)
        assert done.last == 1
        with pytest.raises(Taken):
            client.decide(register, query=name, fold=lambda state, each: True, initial=False)
        assert client.head() == 1
        with pytest.raises(TypeError, match="a query names no stream"):
            client.decide(lambda events: event(), query=name)
        for on in ({"query": name}, {"stream": "user-1"}):
            with pytest.raises(TypeError, match="of one pair too"):
                client.decide(lambda events: ("user-1", event()), **on)

    def test_a_decision_for_nothing(self, client: Any) -> None:
        for nothing in (None, []):
            assert client.decide(lambda events, n=nothing: n, stream="s") is None
        assert client.head() == 0

    def test_a_command_is_handled_once(self, client: Any) -> None:
        command = uuid.uuid4()
        decided: list[int] = []

        def decision(events: list[rewind.Event]) -> Any:
            decided.append(len(events))
            if events:
                raise ValueError("too late")
            return event()

        first = client.decide(decision, stream="s", append_id=command)
        client.append("s", event())
        again = client.decide(decision, stream="s", append_id=command)
        assert again.duplicate and (again.first, again.ids) == (first.first, first.ids)
        assert decided == [0]
        with pytest.raises(ValueError, match="too late"):
            client.decide(decision, stream="s", append_id=uuid.uuid4())

    @pytest.mark.parametrize("on", ["stream", "query"])
    def test_decisions_that_race_are_made_one_after_the_other(self, client: Any, on: str) -> None:
        """Invoice numbers without gaps, drawn by eight threads."""
        what = {"stream": "invoices"} if on == "stream" else {"query": QueryItem(types=["invoice"])}

        def work() -> None:
            for _ in range(5):
                client.decide(
                    lambda count: [("invoices", event(b"%d" % (count + 1), "invoice"))],
                    fold=lambda count, each: count + 1,
                    initial=0,
                    attempts=10_000,
                    **what,
                )

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        numbers = [int(each.data) for each in client.read()]
        assert numbers == list(range(1, 41))

    @pytest.mark.parametrize("what", [{}, {"stream": "s", "query": VIP}])
    def test_a_decision_depends_on_something(self, client: Any, what: dict[str, Any]) -> None:
        with pytest.raises(rewind.BadRequest, match="give stream or query, and not both"):
            client.decide(lambda events: None, **what)
