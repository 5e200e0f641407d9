"""A client nobody here wrote: Node.js with the npm package ``zeromq``, REQ and SUB.

``npm install`` in tests/node (.ci/run does it) installs it; without Node.js the test is skipped, and CI,
which sets REWIND_REQUIRE_NODE, fails instead.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from raw import Raw

from rewind.testing import Daemon

NODE = Path(__file__).parent.parent / "node"


def run(script: str, *arguments: str) -> Any:
    """What a script prints, as JSON."""
    if not shutil.which("node") or not (NODE / "node_modules" / "zeromq").exists():
        if os.environ.get("REWIND_REQUIRE_NODE"):
            pytest.fail("Node.js or its package zeromq is missing: run npm install in tests/node")
        pytest.skip("Node.js with the package zeromq is not installed")
    done = subprocess.run(
        ["node", str(NODE / script), *arguments], capture_output=True, text=True, timeout=90
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_node_client_publishes_listens_and_queries(daemon: Daemon) -> None:
    endpoints = daemon.endpoints
    seen = run("client.js", endpoints["incoming"], endpoints["streaming"], "250")
    assert seen["replies"] == ["PUBLISHED"]
    assert seen["wrong"][0].startswith("ERROR unknown command")
    events = seen["events"]
    assert [data for _, data in events[-251:]] == [f"event {n}" for n in range(250)] + ["last"]
    ids = [id for id, _ in events]
    assert len(set(ids)) == len(ids)
    chain = {id: (previous, data) for id, previous, data in seen["received"]}
    for (previous, _), (id, data) in itertools.pairwise(events):
        if id in chain:
            assert chain[id] == (previous, data)
    assert [id for id, _, _ in seen["received"]] == ids[-len(seen["received"]) :]


def test_a_node_client_decides_by_what_matches_a_query(daemon: Daemon) -> None:
    def event(stream: str, type: str, *tags: str) -> list[Any]:
        return [None, stream, type, list(tags), {}, b""]

    with Raw(daemon.endpoint) as client:
        client.append(
            event("order-1", "placed", "customer-7"),
            event("order-2", "placed", "customer-8"),
            event("order-1", "paid", "customer-7"),
            event("order-2", "placed", "customer-7", "vip"),
            event("order-9", "placed", "customer-7"),
            event("order-9", "paid"),
        )
    assert run("decide.js", daemon.endpoint, "customer-7") == {
        "read": [[1, "order-1"], [4, "order-2"], [5, "order-9"]],
        "after": 6,
        "stored": ["OK", 7, {"order-3": 1}],
        "refused": ["ERROR", "condition_failed", 0, 7],
        "cursor": ["node", 6],
    }
