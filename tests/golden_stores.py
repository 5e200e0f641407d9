"""The golden stores: what each durable backend wrote when its format was new, to be read for ever.

``tests/golden/stores/SCHEME`` is a store's directory, ``SCHEME.json`` beside it what it holds.
``python tests/golden_stores.py`` writes them anew, which is only right for a scheme that is new:
a store in the world cannot be written anew. test_golden_stores.py opens copies of them.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewind.backends import open_backend
from rewind.events import Append, AppendEvent
from rewind.store import Store

STORES = Path(__file__).parent / "golden" / "stores"
SCHEMES = ("leveldb", "sqlite", "log")
CLOCK_NS = 1_357_016_400_000_000_000  # 2013-01-01T05:00:00Z
LARGE_BYTES = 20_000  # more than a block of records holds
_OF_ONE_RUN = ("lock", "LOG", "LOG.old")  # files that say nothing of the events


def commits() -> Iterator[list[Append]]:
    """Every kind of append, in the groups that are committed together."""
    placed = AppendEvent(None, "order-1", "placed", ("vip", "web"), {"correlation_id": "c1"}, b"{}")
    yield [Append((placed,), uuid.UUID(int=1).bytes, {"order-1": 0})]
    yield [Append((AppendEvent(None, "default", "", (), {}, b"from a client of Rewind 0.3"),))]
    paid = AppendEvent(uuid.UUID(int=7).bytes, "order-1", "paid", (), {}, bytes(range(256)))
    nested: dict[str, Any] = {"k": [1, None, 2.5, {"\u00e9": True}], "low": -(2**63)}
    far = AppendEvent(uuid.UUID(int=8).bytes, "\u00e4 \u6771\u4eac", "t" * 255, (), nested, b"")
    yield [Append((paid, far), uuid.UUID(int=2).bytes), Append((_plain("s" * 255),))]
    yield [Append((_plain("large", bytes(LARGE_BYTES)), _plain("large")), uuid.UUID(int=3).bytes)]
    yield [Append(tuple(_plain(f"many-{number % 7}") for number in range(300)))]
    for number in range(40):  # a stream whose events lie in blocks of their own
        yield [Append((_plain("slow"),), uuid.UUID(int=100 + number).bytes)]


def _plain(stream: str, data: bytes = b"data") -> AppendEvent:
    return AppendEvent(None, stream, "happened", ("tag",), {}, data)


def write(scheme: str) -> None:
    """Write the store of a scheme, and what it holds."""
    directory = STORES / scheme
    shutil.rmtree(directory, ignore_errors=True)
    STORES.mkdir(parents=True, exist_ok=True)
    ticks = iter(range(CLOCK_NS, CLOCK_NS + 10**9, 1_000))
    spans = []
    for half in (0, 1):  # opened twice, so that LevelDB makes a table and SQLite a checkpoint
        store = Store(open_backend(f"{scheme}:{directory}"), clock=lambda: next(ticks))
        for appends in list(commits())[half * 20 : 20 + half * 1_000]:
            outcomes, _ = store.append(appends)
            for append, outcome in zip(appends, outcomes, strict=True):
                assert not isinstance(outcome, Exception), outcome
                if append.id is not None:
                    spans.append([append.id.hex(), outcome.first, outcome.last])
        backend = store.backend
        held = {
            "store_id": str(backend.store_id),
            "records": [record.hex() for record in backend.read(0, store.head, 10**6, 10**9)],
            "append_ids": spans,
            "streams": backend.streams("", "", 10**6),
        }
        store.close()
    for name in _OF_ONE_RUN:
        for found in directory.rglob(name):
            found.unlink()
    (STORES / f"{scheme}.json").write_text(json.dumps(held, indent=0) + "\n")


if __name__ == "__main__":
    for scheme in SCHEMES:
        write(scheme)
