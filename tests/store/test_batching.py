"""What appends answer, and what they leave behind, does not depend on how they were batched.

Any sequence of appends, with ids that repeat and conflict, expected versions, conditions and cursors:
hypothesis cuts it into batches, and compares with the same appends committed one by one.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from appends import key
from conftest import ALL_SCHEMES, store_url
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rewind.backends import open_backend
from rewind.checks import check_append
from rewind.errors import RequestError
from rewind.events import Advance, Append, Appended, AppendEvent, own_id, own_id_position
from rewind.query import Condition, QueryItem
from rewind.store import Store
from rewind.store.cursors import MARK
from rewind.wire.native import Read

NUMBERS = st.integers(0, 6)
STREAMS = ("a", "a-1", "b")
TYPES = ("", "x", "y")
TAGS = ("p", "q")
POSITIONS_MAX = 6


def rarely(usual: Any, strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(st.just(usual), st.just(usual), st.just(usual), strategy)


@st.composite
def events(draw: st.DrawFn) -> list[tuple[Any, ...]]:
    """Events whose content follows from a number, mostly, so that ids are often sent again with it.

    The first field is None, a client's id, or the position in an id that the store makes itself.
    """
    numbers = draw(st.lists(st.integers(1, 3), unique=True, min_size=1, max_size=2))
    ids: list[Any] = draw(
        st.sampled_from(
            [[None] * len(numbers), [key(10 + number) for number in numbers], [*map(str, numbers)]]
        )
    )
    if isinstance(ids[0], str):
        first = draw(st.integers(1, POSITIONS_MAX))
        ids = list(range(first, first + len(numbers)))
    return [
        (
            id,
            STREAMS[number % 3],
            TYPES[number % 2],
            TAGS[: number % 3],
            {},
            draw(rarely(b"1", st.just(b"2"))),
        )
        for id, number in zip(ids, numbers, strict=True)
    ]


ITEMS = st.builds(
    lambda **names: {name: tuple(given) for name, given in names.items() if given},
    types=st.lists(st.sampled_from(TYPES), max_size=2),
    tags=st.lists(st.sampled_from(TAGS), max_size=2),
    categories=rarely([], st.just(["a"])),
    streams=rarely([], st.lists(st.sampled_from(STREAMS), max_size=2)),
)
QUERIES = st.lists(ITEMS.filter(bool).map(lambda n: QueryItem(**n)), min_size=1, max_size=2)
CONDITIONS = st.builds(Condition, rarely(None, st.none()) | QUERIES.map(tuple), NUMBERS)
ADVANCES = st.builds(
    Advance, st.none() | NUMBERS, rarely(None, NUMBERS), rarely(False, st.just(True))
)
FORWARD = st.builds(Advance, NUMBERS, rarely(None, NUMBERS))
NAMED = st.sampled_from(["m", "n"])
GUARDS = {
    "expected": rarely(
        {}, st.dictionaries(st.sampled_from(STREAMS), st.integers(-1, 3), max_size=1)
    ),
    "conditions": st.just(()) | (st.lists(CONDITIONS, max_size=2).map(tuple)),
}
SAID = st.one_of(
    st.fixed_dictionaries(
        {
            "events": events(),
            "id": st.none() | st.integers(1, 2).map(key),
            "cursors": rarely({}, st.dictionaries(NAMED, FORWARD, max_size=2)),
            **GUARDS,
        }
    ),
    st.fixed_dictionaries(  # The events of the append so far back, or of that and the next one.
        {
            "events": st.tuples(st.integers(1, 4), st.integers(1, 2)),
            "id": st.none() | st.integers(1, 2).map(key),
            "cursors": st.just({}) | st.dictionaries(NAMED, FORWARD, max_size=2),
            **GUARDS,
        }
    ),
    st.fixed_dictionaries(
        {
            "events": st.just([]),
            "cursors": st.dictionaries(NAMED, ADVANCES, min_size=1, max_size=2),
            **GUARDS,
        }
    ),
)


def appends_for(store: Store, said: Sequence[dict[str, Any]]) -> list[Append]:
    """These appends, with the ids that this store would make."""
    appends: list[Append] = []
    for fields in said:
        if isinstance(fields["events"], tuple):
            back, count = fields["events"]
            start = max(len(appends) - back, 0)
            repeated = [
                event for append in appends[start : start + count] for event in append.events
            ]
            events = tuple(repeated)
        else:
            events = tuple(
                AppendEvent(own_id(store.own_prefix, id) if isinstance(id, int) else id, *rest)
                for id, *rest in fields["events"]
            )
        append = Append(**{**fields, "events": events})
        try:
            check_append(append)
        except RequestError:
            continue
        appends.append(append)
    return appends


def plain(store: Store, outcome: Appended | RequestError) -> Any:
    if isinstance(outcome, RequestError):
        text = str(outcome)
        return type(outcome), None if "form this store makes" in text else text, outcome.details()
    ids = [own_id_position(store.own_prefix, id) for id in outcome.id_bytes]
    return outcome.first, outcome.last, ids, outcome.versions, outcome.duplicate


def contents(store: Store) -> Any:
    events = store.read(Read()).events
    own = [own_id_position(store.own_prefix, event.id_bytes) for event in events]
    rows = [
        (number or event.id_bytes, event.stream, event.version, event.type, event.tags, event.data)
        for event, number in zip(events, own, strict=True)
    ]
    cursors, end = store.cursors("", "", 100)
    assert end and len(store.backend.marks_from("", "", 100)) == len(cursors), MARK
    places = [(cursor.name, cursor.position, cursor.lag_events) for cursor in cursors]
    return rows, store.backend.append_ids(0, store.head), places


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_batches_change_no_answer_and_nothing_that_is_stored(scheme: str) -> None:
    @settings(
        max_examples=500 if scheme == "memory" else 25,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(
        said=st.lists(SAID, min_size=2, max_size=10),
        batches=st.integers(1, 9).map(lambda first: [first, 10 - first])
        | st.lists(st.integers(1, 6), min_size=10, max_size=10),
    )
    def check(said: list[dict[str, Any]], batches: list[int]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            found = []
            for place, sizes in (("one", [1] * 10), ("many", batches)):
                (Path(folder) / place).mkdir()
                backend = open_backend(store_url(scheme, Path(folder) / place))
                store = Store(backend, clock=lambda: 1)
                appends, outcomes = appends_for(store, said), []
                for size in sizes:
                    batch, appends = appends[:size], appends[size:]
                    outcomes += [plain(store, outcome) for outcome in store.append(batch)[0]]
                found.append((outcomes, contents(store)))
                store.close()
            assert found[0] == found[1]

    check()
