"""From a URL to an opened backend: the table of schemes, and the grammar of store URLs.

The driver a backend needs is imported when that backend is opened, never before: the command line
would otherwise load one to print its help. What a backend promises is in contract.py, what its
directory says in directory.py.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID

from rewind.backends.contract import Backend
from rewind.backends.directory import Directory, scheme_of
from rewind.backends.upgrade import Tell
from rewind.errors import MESSAGE_CHARS_MAX, BadConfiguration, StoreForeign, one_line, quoted

#: Scheme -> module, and the class in it. The module is imported when a store is opened.
BACKENDS = {
    "leveldb": ("rewind.backends.leveldb", "LevelDBBackend"),
    "sqlite": ("rewind.backends.sqlite", "SQLiteBackend"),
    "log": ("rewind.backends.log", "LogBackend"),
    "memory": ("rewind.backends.memory", "MemoryBackend"),
}

SCHEMES = tuple(BACKENDS)


def default_scheme() -> str:
    """``leveldb`` where plyvel is installed, else ``sqlite``."""
    return "leveldb" if importlib.util.find_spec("plyvel") else "sqlite"


def is_store_url(text: str) -> bool:
    """Whether ``text`` begins with a known scheme, as in ``sqlite:PATH``."""
    return text.split(":", 1)[0] in BACKENDS and ":" in text


def open_backend(
    url: str,
    store_id: UUID | None = None,
    *,
    read_only: bool = False,
    progress: Tell | None = None,
) -> Backend:
    """Open, and create if need be, the store at a URL or bare path.

    ``scheme:PATH``, ``memory:``, or a bare PATH, which opens whatever it holds and, when empty,
    creates the default scheme. ``store_id`` is the id of a store that is created, one of its own
    if None; with it, a store that has another id is ``StoreForeign``. ``read_only``: the store must
    exist, and not a byte of it is written, whatever state it was left in. A store of an older format
    is brought up to date first: ``progress`` is called with how many events are done, and of how many.
    Raises ``BadConfiguration`` or a ``StoreError``, before touching a byte of a store it may not open.
    """
    scheme, path = _split(url)
    if scheme == "memory":
        memory: Backend = _load(scheme)(store_id)
        memory.read_only = read_only
        return memory
    scheme = scheme or _scheme_at(path)
    # The driver comes first, so that a missing one leaves no directory behind.
    backend_class = _load(scheme)
    with ExitStack() as undo:
        format_version = backend_class.format_version
        directory = Directory(path, scheme, format_version, store_id, read_only, progress)
        undo.callback(directory.close)
        backend: Backend = backend_class(directory)
        undo.pop_all()
    return backend


def locate(url: str) -> tuple[str, Path | None]:
    """The scheme that a URL names, empty for a bare path, and the path, None for ``memory:``.

    Raises ``BadConfiguration``.
    """
    scheme, path = _split(url)
    return scheme, None if scheme == "memory" else path


def _split(url: str) -> tuple[str, Path]:
    """The scheme, empty for a bare path, and the path, which means nothing to ``memory``."""
    scheme, colon, path = url.partition(":")
    if not (colon and re.fullmatch("[A-Za-z][A-Za-z0-9+.-]+", scheme)):
        scheme, path = "", url
    elif scheme in ("tcp", "ipc", "inproc"):
        raise BadConfiguration(
            f"store {quoted(url, MESSAGE_CHARS_MAX)} is the endpoint of a daemon: connect to it, or give a path"
        )
    elif scheme not in BACKENDS:
        raise BadConfiguration(
            f"store {quoted(url, MESSAGE_CHARS_MAX)}: unknown scheme {quoted(scheme)}; known are {', '.join(SCHEMES)}, "
            f"and ./{one_line(url)} is a path"
        )
    elif scheme == "memory":
        if path:
            raise BadConfiguration(
                f"store {quoted(url, MESSAGE_CHARS_MAX)}: memory: keeps nothing and takes no path"
            )
        return scheme, Path()
    elif not path:
        raise BadConfiguration(
            f"store {quoted(url, MESSAGE_CHARS_MAX)} has no path: write {scheme}:PATH"
        )
    elif re.match("//[^/]", path):
        raise BadConfiguration(
            f"store {quoted(url, MESSAGE_CHARS_MAX)} names a host, but a store is on this machine: write {scheme}:/PATH"
        )
    _check_path(url, path)
    return scheme, Path(path)


def _check_path(url: str, path: str) -> None:
    if not path:
        raise BadConfiguration("the store is empty: give a path, or scheme:PATH")
    if "\0" in path:
        raise BadConfiguration(
            f"store {quoted(url, MESSAGE_CHARS_MAX)}: a path has no NUL characters"
        )
    if path.startswith("~"):
        raise BadConfiguration(
            f"store {quoted(url, MESSAGE_CHARS_MAX)}: ~ is for the shell to replace, and it did not: "
            "write the directory out, or ./~ if it is really called so"
        )


def _scheme_at(path: Path) -> str:
    """The scheme of the store at a bare path, or the one that a new store gets."""
    scheme = scheme_of(path) or default_scheme()
    if scheme not in BACKENDS or scheme == "memory":
        raise StoreForeign(
            f"{path} says that it holds a store of scheme {scheme!r}, which this release does not "
            "know: use a newer Rewind, or restore rewind.json from a copy"
        )
    return scheme


def _load(scheme: str) -> Any:
    """The backend's class. Raises ``BadConfiguration`` when its driver is not installed."""
    module_name, class_name = BACKENDS[scheme]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("rewind"):
            raise
        raise BadConfiguration(
            f"store scheme {scheme!r} needs the Python package {error.name!r}, which is not "
            "installed here: install it, or use sqlite:PATH"
        ) from error
    return getattr(module, class_name)
