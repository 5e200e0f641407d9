"""Storage: the contract every backend keeps, and the table of schemes.

A backend stores records and finds them again. It decides nothing: expected versions,
retries, conflicts, positions and times are settled above it, in store/.

To add one: copy memory.py, the smallest, give it a scheme in ``_MODULES`` below, and run
``tests/backends/test_backends.py``, which holds every backend to the same contract. A backend that
keeps files takes a ``Directory`` (directory.py): its identity, lock and synced entries.

The driver a backend needs is imported when that backend is opened, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from rewind.backends.directory import Directory, scheme_of
from rewind.errors import BadConfiguration
from rewind.events import Record


class Backend(Protocol):
    """What the store asks of a backend. One thread at a time calls it.

    Positions and versions count from 1; a range is ``after < n <= until``. Any method may raise
    ``StoreFailed`` (the disk) or ``StoreDamaged`` (bytes that are not what was written).
    """

    scheme: str
    #: What an acknowledgement means here: ``fsync`` or ``memory``.
    durability: str
    store_id: UUID
    #: Where the files are, for the free-space check; None keeps no files.
    path: Path | None

    def last(self) -> tuple[int, int]:
        """Position and ``recorded_at_ns`` of the last event; (0, 0) when there is none."""

    def versions(self, streams: Collection[str]) -> dict[str, int]:
        """The version of each of these streams; those that do not exist may be left out."""

    def positions(self, ids: Collection[bytes]) -> dict[bytes, int]:
        """Where the events with these client-chosen ids are; unknown ids are left out."""

    def appends(self, append_ids: Collection[bytes]) -> dict[bytes, tuple[int, int]]:
        """First and last position of these appends; unknown append ids are left out."""

    def commit(
        self,
        records: Sequence[Record],
        append_ids: Sequence[tuple[bytes, int, int]],
        after: int,
    ) -> None:
        """Store these records and (append id, first, last) rows: all or nothing, durable on return.

        Raises ``Behind`` when the last position is not ``after``. After ``StoreFailed`` the
        backend must not be used again.
        """

    def settle(self) -> None:
        """Do what was left to do after a commit, now that it is acknowledged.

        Every other method sees a commit whole without it.
        """

    def read(
        self, after: int, until: int, limit: int, bytes_max: int, backwards: bool = False
    ) -> list[bytes]:
        """Records by position, exact bytes; ``backwards`` starts at ``until`` and goes down.

        Stops at ``limit`` records, or before ``bytes_max`` would be passed (never before the first).
        """

    def chunk(self, after: int, until: int, limit: int, bytes_max: int) -> tuple[int, list[bytes]]:
        """How many records ``read`` would return, and their bytes, in pieces of any number of records.

        The same by less work, where records lie side by side.
        """

    def read_stream(
        self,
        stream: str,
        after: int,
        until: int,
        limit: int,
        bytes_max: int,
        backwards: bool = False,
    ) -> list[bytes]:
        """The same by the versions of one stream."""

    def streams(self, prefix: str, after: str, limit: int) -> list[tuple[str, int]]:
        """Names beginning with ``prefix`` and greater than ``after``, with versions, by name (UTF-8 order)."""

    def check(self) -> Iterator[str]:
        """Read everything; yield a line for each thing that is not as it must be."""

    def close(self) -> None:
        """Release files and locks. Everything acknowledged is durable already."""


#: Scheme -> module with a class ``Store``. Imported when opened.
_MODULES = {
    "leveldb": "rewind.backends.leveldb",
    "sqlite": "rewind.backends.sqlite",
    "log": "rewind.backends.log.backend",
    "memory": "rewind.backends.memory",
}

SCHEMES = tuple(_MODULES)


def default_scheme() -> str:
    """``leveldb`` where plyvel is installed, else ``sqlite``."""
    return "leveldb" if importlib.util.find_spec("plyvel") else "sqlite"


def is_store_url(text: str) -> bool:
    """Whether ``text`` begins with a known scheme, as in ``sqlite:PATH``."""
    return text.split(":", 1)[0] in _MODULES and ":" in text


def open_backend(url: str) -> Backend:
    """Open, and create if need be, the store at a URL or bare path.

    ``scheme:PATH``, ``memory:``, or a bare PATH, which opens whatever it holds and, when empty,
    creates the default scheme. Raises ``BadConfiguration`` or a ``StoreError``, before touching
    a byte of a store it may not open.
    """
    scheme, path = _split(url)
    if scheme == "memory":
        memory: Backend = _load(scheme)()
        return memory
    scheme = scheme or scheme_of(path) or default_scheme()
    store = _load(scheme)  # first, so that a missing driver leaves no directory behind
    directory = Directory(path, scheme, store.format_version)
    try:
        backend: Backend = store(directory)
        return backend
    except BaseException:
        directory.close()
        raise


def _split(url: str) -> tuple[str, Path]:
    scheme, colon, rest = url.partition(":")
    if colon and scheme in _MODULES:
        if scheme == "memory":
            if rest:
                raise BadConfiguration(f"store {url!r}: memory: keeps nothing and takes no path")
        elif not rest:
            raise BadConfiguration(f"store {url!r} has no path: write {scheme}:PATH")
        return scheme, Path(rest)
    if colon and re.fullmatch("[a-z][a-z0-9+.-]+", scheme):
        raise BadConfiguration(
            f"store {url!r}: unknown scheme {scheme!r}; known are {', '.join(SCHEMES)}"
        )
    if not url:
        raise BadConfiguration("the store is empty: give a path, or scheme:PATH")
    return "", Path(url)


def _load(scheme: str) -> Any:
    try:
        module = importlib.import_module(_MODULES[scheme])
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("rewind"):
            raise
        raise BadConfiguration(
            f"store scheme {scheme!r} needs the Python package {error.name!r}, which is not "
            "installed here: install it, or use sqlite:PATH"
        ) from error
    return module.Store
