"""Names of streams: those that Tab offers, and those near one that is perhaps misspelt."""

from __future__ import annotations

import difflib
import itertools
import logging
import shlex

import rewind
from rewind.errors import RewindError

OFFER_S = 1.0  # a daemon answers in milliseconds; whoever pressed Tab waits no longer for one
OFFERED_MAX = 100  # a terminal shows so many at once
COMPARED_MAX = 10_000  # a moment's work, and a hint is no more

log = logging.getLogger("rewind")


def offered(endpoint: str, beginning: str) -> list[str]:
    """Streams of the daemon at an endpoint whose names begin so; none if no daemon answers soon.

    A store that no daemon has open is left alone: opening it would lock it. Names that a shell would
    take apart are left out.
    """
    if not endpoint.startswith(("tcp://", "ipc://")):
        return []
    try:
        with rewind.connect(endpoint, timeout=OFFER_S) as client:
            names = [name for name, _ in itertools.islice(client.streams(beginning), OFFERED_MAX)]
    except (RewindError, OSError) as error:
        log.debug("no stream can be offered: %s", error)  # Tab has no place for an error
        return []
    return [name for name in names if shlex.quote(name) == name]


def near(client: rewind.Client, name: str) -> list[str]:
    """Streams whose names are much like this one, the nearest first."""
    names = [other for other, _ in itertools.islice(client.streams(), COMPARED_MAX)]
    return difflib.get_close_matches(name, names, 3)
