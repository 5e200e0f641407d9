"""Stores written when their format was new are opened, read, and gone on with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import DURABLE
from golden_stores import STORES, commits

from rewind.backends import open_backend
from rewind.events import Append, AppendEvent, decode_event
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


def test_a_golden_store_is_gone_on_with(golden: tuple[str, dict[str, Any]]) -> None:
    url, held = golden
    store = Store(open_backend(url))
    head = len(held["records"])
    retried = [append for appends in commits() for append in appends if append.id is not None]
    outcomes, records = store.append(retried)
    assert records == [] and all(outcome.duplicate for outcome in outcomes)
    one = Append((AppendEvent(None, "order-1", "shipped", (), {}, b""),), expected={"order-1": 2})
    ((appended,), (record,)) = store.append([one])
    assert appended.last == head + 1 and record.event.version == 3
    store.close()
    store = Store(open_backend(url))
    assert store.head == head + 1
    assert decode_event(store.record_at(head + 1)) == record.event
    store.close()
