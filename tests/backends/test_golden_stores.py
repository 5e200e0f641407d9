"""Stores written when their format was new are opened, read, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import DURABLE
from golden_stores import STORES, commits
from index_contract import items_of

from rewind.backends import open_backend
from rewind.events import Append, AppendEvent, decode_event
from rewind.query import NAME_KINDS, QueryItem, category_of, matcher
from rewind.store import Store


@pytest.fixture(params=DURABLE)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """The URL of a copy of a golden store, and what it holds."""
    scheme = request.param
    shutil.copytree(STORES / scheme, tmp_path / "store")
    return f"{scheme}:{tmp_path / 'store'}", json.loads((STORES / f"{scheme}.json").read_text())


def test_a_golden_store_holds_what_was_written(golden: tuple[str, dict[str, Any]]) -> None:
    url, held = golden
    backend = open_backend(url)
    records = [bytes.fromhex(record) for record in held["records"]]
    assert str(backend.store_id) == held["store_id"]
    assert backend.read(0, len(records), 10**6, 10**9) == records
    assert list(backend.check()) == []
    assert [list(row) for row in backend.streams("", "", 10**6)] == held["streams"]
    spans = {bytes.fromhex(id): (first, last) for id, first, last in held["append_ids"]}
    assert backend.appends(spans) == spans
    by_position = [(id, *span) for id, span in sorted(spans.items(), key=lambda row: row[1])]
    assert backend.append_ids(0, len(records)) == by_position
    backend.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_golden_store_is_queried(golden: tuple[str, dict[str, Any]], read_only: bool) -> None:
    url, held = golden
    events = [decode_event(bytes.fromhex(record)) for record in held["records"]]
    backend = open_backend(url, read_only=read_only)
    # Each event counts as a commit, so that all copies of the store agree on the number.
    assert backend.last()[::2] == (len(events), len(events))
    names = {
        "types": {event.type for event in events},
        "tags": {tag for event in events for tag in event.tags},
        "categories": {category_of(event.stream) for event in events},
        "streams": {event.stream for event in events},
    }
    queries = [items_of(**{field: [name]}) for field, of_kind in names.items() for name in of_kind]
    queries.append(items_of(types=["paid"], tags=["vip"]))
    queries.append([QueryItem(types=("placed", "happened"), tags=("tag",), categories=("many",))])
    for items in queries:
        matches = matcher(items)
        expected = [e.position for e in events if matches(e.stream, e.type, e.tags)]
        for backwards in (False, True):
            found, after, until = [], 0, len(events)
            while after < until:
                positions, reached = backend.matching(items, after, until, 10**6, backwards)
                found += positions
                after, until = (after, reached - 1) if backwards else (reached, until)
            assert found == (expected[::-1] if backwards else expected)
        records, _ = backend.read_matching(items, 0, len(events), 10**6, 10**9)
        assert records == [bytes.fromhex(held["records"][n - 1]) for n in expected][: len(records)]
        assert records
    for kind, field in zip(NAME_KINDS, ("types", "tags", "categories"), strict=True):
        assert {name for name, _ in backend.names(kind, "", None, 10**6)} == names[field]
    backend.close()


def test_a_golden_store_is_gone_on_with(golden: tuple[str, dict[str, Any]]) -> None:
    url, held = golden
    store = Store(open_backend(url))
    head = len(held["records"])
    retried = [append for appends in commits() for append in appends if append.id is not None]
    outcomes, records = store.append(retried)
    assert records == [] and all(outcome.duplicate for outcome in outcomes)
    one = Append(
        (AppendEvent(None, "order-1", "shipped", ("vip",), {}, b""),), expected={"order-1": 2}
    )
    ((appended,), (record,)) = store.append([one])
    assert appended.last == head + 1 and record.event.version == 3
    store.close()
    store = Store(open_backend(url))
    assert store.head == head + 1
    assert store.backend.last().number == head + 1
    assert store.backend.matching(items_of(tags=["vip"]), 0, head + 1, 9).positions == [1, head + 1]
    assert decode_event(store.record_at(head + 1)) == record.event
    store.close()
