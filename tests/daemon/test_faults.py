"""Storage failures, made by the operating system: file size limits, a full file system."""

from __future__ import annotations

import os
import resource
import subprocess
from pathlib import Path

import pytest
import zmq
from conftest import DURABLE, store_url
from raw import Raw

from rewind.testing import Daemon


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_failed_write_stops_the_daemon_with_74_and_acknowledges_nothing(
    scheme: str, tmp_path: Path
) -> None:
    with Daemon(store_url(scheme, tmp_path)) as daemon:
        with Raw(daemon.endpoints["incoming"], timeout_ms=1_000) as client:
            acknowledged = client.append(("s", b"x" * 1_000))["last"]
            # From now on the kernel refuses to let any file of the daemon grow beyond this.
            limit = (200_000, 200_000)
            resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, limit)
            try:
                for _ in range(1_000):
                    reply = client.append(("s", os.urandom(10_000)))
                    assert reply["last"] == acknowledged + 1
                    acknowledged += 1
            except zmq.Again:
                pass  # no answer: that is the point
        assert daemon.wait() == 74
        assert "stopped by the store" in daemon.log
        daemon.start()
        with Raw(daemon.endpoints["incoming"]) as client:
            head = client.native("READ", {"limit": 0})[0]["head"]
            assert head in (acknowledged, acknowledged + 1)  # the last one may have got through
            page, records = client.native("READ", {"max_bytes": 8 * 1024 * 1024})
            assert [record[0] for record in records] == list(range(1, head + 1)) and page["end"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system needs root")
@pytest.mark.parametrize("scheme", DURABLE)
def test_a_full_disk_refuses_appends_while_reads_go_on_until_there_is_room(
    scheme: str, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100m", "tmpfs", disk], check=False
    )
    if mounted.returncode != 0:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        with Daemon(store_url(scheme, disk)) as daemon, Raw(daemon.endpoints["incoming"]) as client:
            assert client.append(("s", b"first"))["first"] == 1
            ballast = disk / "ballast"
            ballast.write_bytes(bytes(50 * 1024 * 1024))
            refused = client.append(("s", b"second"))
            assert refused["code"] == "storage_full" and refused["retryable"] is True
            assert f"appends are refused from now on: {disk}" in daemon.log
            assert client.ask(b"PUBLISH", b"x")[0].startswith(b"ERROR ")
            assert client.native("READ")[0]["count"] == 1
            ballast.unlink()
            assert client.append(("s", b"second"))["first"] == 2
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
