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

import pytest

from rewind.testing import Daemon

NODE = Path(__file__).parent.parent / "node"


def test_a_node_client_publishes_listens_and_queries(daemon: Daemon) -> None:
    if not shutil.which("node") or not (NODE / "node_modules" / "zeromq").exists():
        if os.environ.get("REWIND_REQUIRE_NODE"):
            pytest.fail("Node.js or its package zeromq is missing: run npm install in tests/node")
        pytest.skip("Node.js with the package zeromq is not installed")
    endpoints = daemon.endpoints
    done = subprocess.run(
        ["node", str(NODE / "client.js"), endpoints["incoming"], endpoints["streaming"], "250"],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
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
