"""Random appends, retries, conflicts, restarts and reads of every kind, against a model in plain Python.

The model is the reader's idea of an event store: a list of events, and a dict of cursors. Hypothesis looks for a sequence of
steps on which a backend under the real store disagrees, and prints the shortest one.
"""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

import msgspec
import pytest
from conftest import ALL_SCHEMES
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from rewind.backends import open_backend
from rewind.errors import (
    BadRequest,
    ConditionFailed,
    CursorMoved,
    IdConflict,
    WrongExpectedVersion,
)
from rewind.events import Advance, Append, Appended, AppendEvent, decode_event, own_id
from rewind.query import Condition, QueryItem, category_of
from rewind.store import Store
from rewind.wire.native import Read

STREAMS = st.sampled_from(["a", "a-1", "a-2", "ab", "abc", "ø-1", "z"])
TYPES = st.sampled_from(["", "x", "y"])
TAGS = st.lists(st.sampled_from(["p", "q"]), unique=True, max_size=2).map(tuple)
DATA = st.one_of(st.binary(max_size=3), st.just(b"L" * 20_000))
METADATA = st.sampled_from([{}, {"k": 1}, {"k": True}])
EXPECTED = st.dictionaries(STREAMS, st.integers(-1, 4), max_size=1)
SMALL = st.integers(0, 25)
NAMES = st.sampled_from(["m", "mail", "n"])


def names(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.one_of(st.just(()), st.lists(strategy, max_size=2).map(tuple))


QUERIES = st.lists(
    st.builds(
        lambda *named: named,
        names(TYPES),
        names(st.sampled_from(["p", "q", "none"])),
        names(st.sampled_from(["a", "ab", "ø", "none"])),
        names(STREAMS),
    )
    .filter(any)
    .map(lambda n: QueryItem(types=n[0], tags=n[1], categories=n[2], streams=n[3])),
    min_size=1,
    max_size=2,
).map(tuple)


def new_event(id: bytes | None = None) -> st.SearchStrategy[AppendEvent]:
    return st.builds(AppendEvent, st.just(id), STREAMS, TYPES, TAGS, METADATA, DATA)


def identified(event: AppendEvent, id: bytes) -> AppendEvent:
    return msgspec.structs.replace(event, id=id)


EVENT = AppendEvent(None, "z", "", (), {}, b"")


def matches(items: tuple[QueryItem, ...] | None, event: dict[str, Any]) -> bool:
    return items is None or any(
        (not item.types or event["type"] in item.types)
        and set(item.tags) <= set(event["tags"])
        and (not item.categories or category_of(event["stream"]) in item.categories)
        and (not item.streams or event["stream"] in item.streams)
        for item in items
    )


class Model(RuleBasedStateMachine):
    scheme = "memory"

    @initialize()
    def begin(self) -> None:
        self.directory = tempfile.mkdtemp()
        self.url = "memory:" if self.scheme == "memory" else f"{self.scheme}:{self.directory}/store"
        self.time = 1_000
        self.open()
        self.events: list[dict[str, Any]] = []
        self.done: list[tuple[Append, Appended]] = []
        self.cursors: dict[str, int] = {}
        self.commits = 0
        self.ids = 0

    def open(self) -> None:
        self.store = Store(open_backend(self.url), clock=lambda: self.time)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.directory)

    def next_id(self) -> bytes:
        self.ids += 1
        return b"\x40" + self.ids.to_bytes(15, "big")

    # What the model says

    def version(self, stream: str) -> int:
        return sum(event["stream"] == stream for event in self.events)

    def fits(self, append: Append) -> bool:
        actual = {stream: self.version(stream) for stream in append.expected}
        return all(
            expected == actual[stream] or (expected == -1 and actual[stream] > 0)
            for stream, expected in append.expected.items()
        )

    def take(self, append: Append, outcome: Any) -> None:
        """Check the outcome of a new append, and add it to the model."""
        if not self.fits(append):
            assert isinstance(outcome, WrongExpectedVersion), outcome
            assert outcome.actual == self.version(outcome.stream)
            return
        assert isinstance(outcome, Appended) and not outcome.duplicate, outcome
        assert outcome.first == len(self.events) + 1
        for event in append.events:
            self.events.append(
                {
                    "position": len(self.events) + 1,
                    "stream": event.stream,
                    "version": self.version(event.stream) + 1,
                    "type": event.type,
                    "tags": event.tags,
                    "metadata": event.metadata,
                    "data": event.data,
                    "recorded_at_ns": self.time,
                    "id": event.id,
                }
            )
        assert outcome.last == len(self.events)
        assert outcome.versions == {e.stream: self.version(e.stream) for e in append.events}
        if append.id is not None or append.events[0].id is not None:
            self.done.append((append, outcome))

    def first_match(self, condition: Condition) -> int | None:
        """The position of the first event behind the condition's that matches."""
        for event in self.events[condition.after :]:
            if matches(condition.fail_if_events_match, event):
                return int(event["position"])
        return None

    # Steps

    @rule(
        batch=st.lists(
            st.tuples(
                st.lists(new_event(), min_size=1, max_size=4),
                EXPECTED,
                st.booleans(),
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def append(self, batch: list[Any]) -> None:
        appends = []
        for events, expected, with_id, with_event_ids in batch:
            if with_event_ids:
                events = [identified(event, self.next_id()) for event in events]
            id = self.next_id() if with_id and not with_event_ids else None
            appends.append(Append(tuple(events), id, expected))
        outcomes, _ = self.store.append(appends)
        for append, outcome in zip(appends, outcomes, strict=True):
            self.take(append, outcome)

    @rule(
        guards=st.lists(
            st.tuples(st.lists(new_event(), max_size=2), st.none() | QUERIES, st.integers(-1, 8)),
            min_size=1,
            max_size=5,
        )
    )
    def append_with_conditions(self, guards: list[Any]) -> None:
        """Each decides on what it read some events ago, or will have read when its turn comes."""
        appends, head = [], len(self.events)
        for events, query, ago in guards:
            condition = Condition(query, max(head - ago, 0))
            events = tuple(events) or (AppendEvent(None, "z", "x", (), {}, b""),)
            appends.append(Append(events, conditions=(condition,)))
            head += ago % 2
        outcomes, _ = self.store.append(appends)
        for append, outcome in zip(appends, outcomes, strict=True):
            condition = append.conditions[0]
            if condition.after > len(self.events):
                assert isinstance(outcome, BadRequest)
            elif (position := self.first_match(condition)) is not None:
                assert isinstance(outcome, ConditionFailed)
                assert (outcome.condition, outcome.position) == (0, position)
            else:
                self.take(append, outcome)

    @rule(
        moves=st.lists(
            st.tuples(
                st.booleans(),
                NAMES,
                st.none() | SMALL,
                st.none() | st.none() | SMALL,
                st.booleans(),
            ),
            min_size=1,
            max_size=4,
        )
    )
    def move_cursors(self, moves: list[Any]) -> None:
        appends = []
        for with_event, name, position, expected, reset in moves:
            if with_event:
                advance, events = Advance(position or 0, expected), (EVENT,)
            else:
                advance, events = Advance(position, expected, reset), ()
            appends.append(Append(events, cursors={name: advance}))
        outcomes, _ = self.store.append(appends)
        for append, outcome in zip(appends, outcomes, strict=True):
            ((name, advance),) = append.cursors.items()
            at, position = self.cursors.get(name, 0), advance.position
            if position is not None and position > len(self.events):
                assert isinstance(outcome, BadRequest)
            elif (
                advance.expected not in (None, at)
                or (append.events and position <= at)
                or (position is not None and position < at and not advance.reset)
            ):
                assert isinstance(outcome, CursorMoved) and outcome.actual == at
            else:
                if position is None:
                    self.cursors.pop(name, None)
                else:
                    self.cursors[name] = position
                if append.events:
                    self.take(append, outcome)
                else:
                    assert outcome == Appended(0, 0, (), {}, False, self.store.durability)

    @rule(
        ahead=st.sampled_from([1, 1, 1, 2, 5]),
        events=st.lists(new_event(), min_size=1, max_size=3),
        behind=st.booleans(),
    )
    def import_of_a_longer_copy(self, ahead: int, events: list[AppendEvent], behind: bool) -> None:
        """Events with the ids that the store would make itself, where they fit and where they do not."""
        first = len(self.events) + ahead
        ids = [own_id(self.store.own_prefix, first + index) for index in range(len(events))]
        longer = Append(tuple(identified(event, id) for event, id in zip(events, ids, strict=True)))
        fills = Append((AppendEvent(self.next_id(), "z", "", (), {}, b""),))
        appends = [fills, longer] if behind else [longer]
        outcomes, _ = self.store.append(appends)
        if behind:
            self.take(fills, outcomes[0])
        if ahead == 1 + behind:
            self.take(longer, outcomes[-1])
        else:
            assert isinstance(outcomes[-1], BadRequest), outcomes

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        if not self.done:
            return
        append, first = data.draw(st.sampled_from(self.done))
        (again,), records = self.store.append([append])
        assert not records
        assert again == Appended(
            first.first, first.last, first.id_bytes, first.versions, True, first.durability
        )

    @rule(data=st.data(), extra=new_event())
    def conflict(self, data: st.DataObject, extra: AppendEvent) -> None:
        if not self.done:
            return
        append, _ = data.draw(st.sampled_from(self.done))
        if append.id is not None:
            changed = Append((*append.events, extra), append.id)
        else:
            changed = Append((*append.events, identified(extra, self.next_id())))
        (refused,), records = self.store.append([changed])
        assert isinstance(refused, IdConflict) and not records

    @rule(step=st.integers(-5, 50))
    def time_passes(self, step: int) -> None:
        self.time = max([self.time + step, *(e["recorded_at_ns"] for e in self.events[-1:])])

    @rule()
    def restart(self) -> None:
        if self.scheme != "memory":
            self.store.close()
            self.open()

    @rule(
        after=SMALL,
        until=st.none() | SMALL,
        limit=st.none() | st.integers(0, 5),
        max_bytes=st.none() | st.sampled_from([0, 200, 30_000]),
        backwards=st.booleans(),
        stream=st.none() | STREAMS,
        prefix=st.none() | st.sampled_from(["", "a", "ab", "none"]),
        types=st.lists(TYPES, unique=True, max_size=2).map(tuple),
        tags=TAGS,
        since=st.none() | st.integers(990, 1_200),
    )
    def read(self, **query: Any) -> None:
        if query["stream"] is not None:
            query["prefix"] = None
        asked = Read(**query)
        wanted = self.matching(asked)
        answer = self.store.read(asked)
        found = [event.position for event in answer.events]
        assert found == [e["position"] for e in wanted][: len(found)]
        assert answer.head == len(self.events)
        if asked.limit != 0 and asked.limit is None and asked.max_bytes is None:
            assert len(found) == len(wanted) and answer.end
        if answer.end:
            assert len(found) == len(wanted) or asked.limit == 0
        assert asked.limit is None or len(found) <= asked.limit
        if wanted and asked.limit != 0:
            assert found or not answer.end

    def matching(self, query: Read) -> list[dict[str, Any]]:
        events = self.events
        count = "position"
        if query.stream is not None:
            events, count = [e for e in events if e["stream"] == query.stream], "version"
        chosen = [
            e
            for e in events
            if query.after < e[count] <= (len(self.events) if query.until is None else query.until)
            and e["stream"].startswith(query.prefix or "")
            and (not query.types or e["type"] in query.types)
            and set(query.tags) <= set(e["tags"])
            and (query.since is None or e["recorded_at_ns"] >= query.since)
            and matches(query.query, e)
        ]
        return chosen[::-1] if query.backwards else chosen

    @rule(
        query=QUERIES,
        after=SMALL,
        until=st.none() | SMALL,
        limit=st.none() | st.integers(1, 5),
        max_bytes=st.none() | st.sampled_from([0, 200, 30_000]),
        backwards=st.booleans(),
        since=st.none() | st.integers(990, 1_200),
    )
    def read_by_query(self, **asked: Any) -> None:
        """Page by page to the end."""
        wanted = self.matching(Read(**asked))
        found: list[int] = []
        while True:
            answer = self.store.read(Read(**asked))
            found += [event.position for event in answer.events]
            if answer.end:
                break
            asked["until" if asked["backwards"] else "after"] = answer.next
        assert found == [e["position"] for e in wanted]

    @rule(prefix=st.sampled_from(["", "a", "none"]), limit=st.integers(1, 3))
    def names_of_every_kind(self, prefix: str, limit: int) -> None:
        for kind in ("type", "tag", "category"):
            last: dict[str, int] = {}
            for event in self.events:
                category = category_of(event["stream"])
                named = {"type": [event["type"]], "tag": event["tags"], "category": [category]}
                last |= dict.fromkeys(named[kind], event["position"])
            wanted = sorted((n for n in last if n.startswith(prefix)), key=str.encode)
            found: list[Any] = []
            after, end = None, False
            while not end:
                page, end = self.store.names(kind, prefix, after, limit)
                found += page
                after = page[-1][0] if page else after
            assert [tuple(row) for row in found] == [(name, last[name]) for name in wanted]

    @rule(
        prefix=st.sampled_from(["", "a", "ab", "ø", "none"]),
        after=st.sampled_from(["", "a", "abc", "zz"]),
        limit=st.integers(0, 6),
    )
    def streams(self, prefix: str, after: str, limit: int) -> None:
        names = sorted({e["stream"] for e in self.events}, key=str.encode)
        wanted = [
            (n, self.version(n))
            for n in names
            if n.startswith(prefix) and n.encode() > after.encode()
        ]
        found, end = self.store.streams(prefix, after, limit)
        assert [tuple(row) for row in found] == wanted[:limit]
        assert end is (len(wanted) <= limit)

    @rule(data=st.data())
    def by_id(self, data: st.DataObject) -> None:
        if not self.events:
            return
        event = data.draw(st.sampled_from(self.events))
        alone = Read(after=event["position"] - 1, until=event["position"])
        stored = self.store.read(alone).events[0]
        assert event["id"] in (None, stored.id_bytes)
        assert self.store.read(Read(id=stored.id_bytes)).events[0] == stored

    @invariant()
    def everything_is_there(self) -> None:
        if not hasattr(self, "events"):
            return
        assert self.store.head == len(self.events)
        cursors, end = self.store.cursors("", "", 10)
        assert {cursor.name: cursor.position for cursor in cursors} == self.cursors and end
        assert self.store.cursor("m").position == self.cursors.get("m", 0)
        last = self.store.backend.last()
        assert last.position == len(self.events) and last.number >= self.commits
        self.commits = last.number
        stored = [
            decode_event(record) for record in self.store.backend.read(0, 10**9, 10**6, 10**9)
        ]
        for event, wanted in zip(stored, self.events, strict=True):
            assert {name: getattr(event, name) for name in wanted if name != "id"} == {
                name: value for name, value in wanted.items() if name != "id"
            }


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_every_backend_behaves_like_a_list(scheme: str) -> None:
    machine = type("Model_" + scheme, (Model,), {"scheme": scheme})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=25,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
