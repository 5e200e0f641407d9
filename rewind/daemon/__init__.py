"""The daemon: its settings, its sockets and the turn, what waits, the peers it answers, the feeds.

``serve`` runs one from start to exit code (process.py). server.py has the sockets and the turn,
reads.py what waits to be answered, peers.py the sending side, feeds.py what is published, settings.py
what a daemon runs with. Importing this loads no ZeroMQ and no store.
"""

from __future__ import annotations

from rewind.daemon.settings import (
    DEFAULT_INCOMING,
    LOG_LEVELS,
    Settings,
    option,
    settings,
    variable,
)

__all__ = [
    "DEFAULT_INCOMING",
    "LOG_LEVELS",
    "Settings",
    "option",
    "serve",
    "settings",
    "variable",
]


def serve(settings: Settings) -> int:
    """Run a daemon until SIGTERM or SIGINT. Returns its exit code; raises nothing of Rewind's."""
    from rewind.daemon import process  # It imports ZeroMQ and the store, so it waits until now.

    return process.serve(settings)
