"""Names that lead where a test says: a private /etc/hosts, seen by one process and its children."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

_MOUNT = 'mount --bind "$0" /etc/hosts && exec "$@"'


def with_hosts(directory: Path, *lines: str) -> list[str]:
    """What to put in front of a command, so that these lines are /etc/hosts for it alone.

    Skips the test where the system permits no mount of its own.
    """
    if not _may_mount():
        pytest.skip("a mount namespace of one's own needs root")
    file = directory / "hosts"
    file.write_text("127.0.0.1 localhost\n" + "".join(f"{line}\n" for line in lines))
    return ["unshare", "--mount", "sh", "-c", _MOUNT, str(file)]


@functools.cache
def _may_mount() -> bool:
    try:
        command = ["unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/hosts"]
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
