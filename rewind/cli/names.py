"""Names of streams, types, cursors and the like: those that Tab offers, and those near one that is
perhaps misspelt.
"""

from __future__ import annotations

import difflib
import itertools
import logging
import shlex
from collections.abc import Iterable, Iterator

import rewind
from rewind.errors import RewindError

OFFER_S = 1.0  # a daemon answers in milliseconds; whoever pressed Tab waits no longer for one
OFFERED_MAX = 100  # a terminal shows so many at once
COMPARED_MAX = 10_000  # a moment's work, and a hint is no more

log = logging.getLogger("rewind")

#: What there are names of: how ``rewind.Client`` and the commands that list them call it.
STREAMS, TYPES, TAGS, CATEGORIES, CURSORS = "streams", "types", "tags", "categories", "cursors"


def names(client: rewind.Client, of: str, beginning: str = "") -> Iterator[str]:
    """The names of streams, types, tags, categories or cursors that begin so."""
    if of == CURSORS:
        return (cursor.name for cursor in client.cursors(beginning))
    return (name for name, _ in getattr(client, of)(beginning))


def offered(endpoint: str, of: str, beginning: str) -> list[str]:
    """Names that begin so, of the daemon at an endpoint; none if no daemon answers soon.

    A store that no daemon has open is left alone: opening it would lock it. Names that a shell would
    take apart are left out.
    """
    if not endpoint.startswith(("tcp://", "ipc://")):
        return []
    try:
        with rewind.connect(endpoint, timeout=OFFER_S) as client:
            found = list(itertools.islice(names(client, of, beginning), OFFERED_MAX))
    except (RewindError, OSError) as error:
        log.debug("no name can be offered: %s", error)  # Tab has no place for an error
        return []
    return [name for name in found if shlex.quote(name) == name]


def near(name: str, others: Iterable[str]) -> list[str]:
    """Those of the others that are much like this name, the nearest first."""
    return difflib.get_close_matches(name, list(itertools.islice(others, COMPARED_MAX)), 3)
