"""The directory a store lives in: what it says it holds, its lock, its synced entries.

::

    PATH/rewind.json   {"rewind": "event store", "scheme": ..., "format": ..., "store_id": ..., "complete": ...}
    PATH/lock          held with flock(2) while open; names its owner
    PATH/...           the backend's own files

The identity is read before anything is written, so a path that holds something else, a newer
format or a store of another scheme is left as it was found.

What the backend keeps in it is not looked at here. Next: opening.py, which makes one for a URL.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import uuid
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from rewind.errors import (
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreLocked,
    StoreNotCreated,
    StoreNotPermitted,
)

_IDENTITY = "rewind.json"
_LOCK = "lock"
_KIND = "event store"


def scheme_of(path: Path) -> str | None:
    """The scheme of the store at ``path``; None where there is nothing yet."""
    identity = _read_identity(path)
    return None if identity is None else str(identity["scheme"])


class Directory:
    """An opened, locked store directory.

    A new store gets the id ``store_id``, or one of its own if that is None; a store that has
    another id is refused as ``StoreForeign``.

    ``created`` is True until ``finish`` was called on a new store: then the backend creates its
    files. If it is False, the files must be there, and a missing one is damage.
    """

    def __init__(
        self, path: Path, scheme: str, format_version: int, store_id: uuid.UUID | None = None
    ) -> None:
        self.path = path
        identity = _read_identity(path)
        if identity is not None:
            _check_identity(path, identity, scheme, format_version, store_id)
        elif _create(path):
            sync_directory(path.absolute().parent)
        with ExitStack() as undo:
            self._lock = _take_lock(path)
            undo.callback(self.close)
            # It is read again, now that nobody else can write it.
            identity = _read_identity(path)
            if identity is None:
                identity = _write_identity(path, scheme, format_version, store_id or uuid.uuid4())
            _check_identity(path, identity, scheme, format_version, store_id)
            undo.pop_all()
        self.store_id = uuid.UUID(identity["store_id"])
        self.created = not identity["complete"]
        self._identity = identity

    def finish(self) -> None:
        """Note that the backend's files exist: from now on, a missing one is damage."""
        if self.created:
            sync_directory(self.path)
            self._identity["complete"] = True
            _replace(self.path / _IDENTITY, self._identity)
            self.created = False

    def close(self) -> None:
        """Give the lock back."""
        lock, self._lock = self._lock, -1
        try:
            if lock >= 0:
                os.close(lock)
        except OSError as error:
            raise translate(error, f"cannot close {self.path / _LOCK}") from error


def _read_identity(path: Path) -> dict[str, Any] | None:
    """What the directory says it holds; None when it is missing or empty."""
    try:
        text = (path / _IDENTITY).read_bytes()
    except FileNotFoundError:
        _check_nothing_there(path)
        return None
    except NotADirectoryError as error:
        raise StoreForeign(f"{path} is a file, not the directory of a store") from error
    except OSError as error:
        raise translate(error, f"cannot read {path / _IDENTITY}") from error
    try:
        identity = json.loads(text)
        if identity["rewind"] != _KIND:
            raise ValueError("not an event store's")
        str(identity["scheme"]), int(identity["format"]), bool(identity["complete"])
        uuid.UUID(identity["store_id"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreDamaged(
            f"{path / _IDENTITY} is damaged: it does not describe a store"
        ) from error
    return identity  # type: ignore[no-any-return]


def _write_identity(
    path: Path, scheme: str, format_version: int, store_id: uuid.UUID
) -> dict[str, Any]:
    """Say what is about to be created here."""
    identity: dict[str, Any] = {
        "rewind": _KIND,
        "scheme": scheme,
        "format": format_version,
        "store_id": str(store_id),
        "complete": False,
    }
    _replace(path / _IDENTITY, identity)
    return identity


def _check_nothing_there(path: Path) -> None:
    try:
        entries = sorted(set(os.listdir(path)) - {_LOCK, _IDENTITY + ".new"})
    except FileNotFoundError:
        return
    except OSError as error:
        raise translate(error, f"cannot read {path}") from error
    if entries:
        raise StoreForeign(
            f"{path} holds no Rewind store but other files ({entries[0]} ...): "
            "give an empty or a new directory"
        )


def _check_identity(
    path: Path,
    identity: dict[str, Any],
    scheme: str,
    format_version: int,
    store_id: uuid.UUID | None,
) -> None:
    if identity["scheme"] != scheme:
        raise StoreForeign(
            f"{path} holds a store of scheme {identity['scheme']!r}, not {scheme!r}: "
            f"open it as {identity['scheme']}:{path}"
        )
    if identity["format"] > format_version:
        raise StoreForeign(
            f"{path} has format {identity['format']}, newer than {format_version}, the newest "
            "this release reads: use a newer Rewind"
        )
    if store_id is not None and uuid.UUID(identity["store_id"]) != store_id:
        raise StoreForeign(
            f"{path} holds the store {identity['store_id']}, not {store_id}: give the path of that "
            "store, or an empty or a new directory"
        )


def _create(path: Path) -> bool:
    """Create the directory; False if it exists already."""
    try:
        path.mkdir()
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise StoreNotCreated(
            f"cannot create {path}: its parent directory does not exist"
        ) from error
    except OSError as error:
        raise translate(error, f"cannot create {path}", StoreNotCreated) from error
    return True


def _take_lock(path: Path) -> int:
    try:
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise translate(error, f"cannot open {path / _LOCK}", StoreNotCreated) from error
    try:
        with ExitStack() as undo:
            undo.callback(os.close, lock)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                owner = os.pread(lock, 300, 0).decode(errors="replace").strip()
                raise StoreLocked(
                    f"the store {path} is in use by {owner or 'another process'}: stop it first"
                ) from error
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
            undo.pop_all()
    except OSError as error:
        raise translate(error, f"cannot lock {path}") from error
    return lock


def _replace(path: Path, content: dict[str, Any]) -> None:
    """Write a small file so that a crash leaves the old one or the new one, and that whole."""
    new = path.with_name(path.name + ".new")
    try:
        with open(new, "w", encoding="utf-8") as file:
            json.dump(content, file)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(FileNotFoundError):
            new.unlink()
        raise translate(error, f"cannot write {path}", StoreNotCreated) from error


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable; a synced file without a synced name can be lost."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise translate(error, f"cannot sync the directory {path}") from error


def translate(error: OSError, what: str, otherwise: type[StoreError] = StoreFailed) -> StoreError:
    """An error of the operating system in our words: not permitted, or ``otherwise``."""
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return StoreNotPermitted(f"{what}: {error.strerror}")
    return otherwise(f"{what}: {error.strerror}")
