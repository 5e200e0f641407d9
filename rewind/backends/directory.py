"""The directory a store lives in: what it says it holds, its lock, its synced entries.

::

    PATH/rewind.json   {"rewind": "event store", "scheme": ..., "format": ..., "store_id": ...,
                       "complete": ..., "crc": ...}
    PATH/lock          held with flock(2) while open; names its owner (lock.py), not who only reads
    PATH/...           the backend's own files

    crc: the CRC-32 of "SCHEME FORMAT STORE_ID". Earlier releases wrote none with format 1, and ignore it.

The identity is read before anything is written, so a path that holds something else, a newer
format or a store of another scheme is left as it was found.

What Rewind creates is for its own user alone: directories 0700, files 0600, whatever the umask is.
A directory that was there before keeps its mode.

What the backend keeps in it is not looked at here. Next: opening.py, which makes one for a URL.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import stat
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Literal
from uuid import UUID, uuid4
from zlib import crc32

import msgspec

from rewind.backends.lock import Lock
from rewind.backends.scratch import Scratch
from rewind.backends.upgrade import Tell
from rewind.errors import (
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreNotCreated,
    StoreNotPermitted,
)

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
IDENTITY_BYTES_MAX = 4_096  # An identity has some 200 bytes; what is no identity may be huge.

log = logging.getLogger("rewind")

_IDENTITY = "rewind.json"
_NEW_IDENTITY = "rewind.json.new"
_LOCK = "lock"

#: A directory with only these in it is empty: ``lost+found`` is on every new ext4 file system.
_NOTHING = {_LOCK, _NEW_IDENTITY, "lost+found"}


class _Identity(msgspec.Struct, kw_only=True):
    """The content of rewind.json."""

    rewind: Literal["event store"]
    scheme: str
    format: int
    store_id: UUID
    complete: bool
    crc: int | None = None

    def checksum(self) -> int:
        return crc32(f"{self.scheme} {self.format} {self.store_id}".encode())


def _place(path: Path) -> tuple[int, int]:
    """Device and inode of what is at a path now."""
    status = path.stat()
    return status.st_dev, status.st_ino


#: Device and inode of a store's directory and of its lock file: the same by whichever path.
Place = tuple[int, int, int, int]


def place_of(path: Path) -> Place | None:
    """Where the store at ``path`` is; None where there is none."""
    try:
        return *_place(path), *_place(path / _LOCK)
    except (OSError, ValueError):
        return None


def scheme_of(path: Path) -> str | None:
    """The scheme of the store at ``path``; None where there is nothing yet."""
    identity = _read_identity(path)
    return None if identity is None else identity.scheme


def format_of(path: Path) -> int | None:
    """The format of the store at ``path``; None where there is nothing yet."""
    identity = _read_identity(path)
    return None if identity is None else identity.format


class Directory:
    """An opened, locked store directory.

    A new store gets the id ``store_id``, or one of its own if that is None; a store that has
    another id is refused as ``StoreForeign``.

    ``path``: absolute, so that the process may change its working directory. ``created`` is True
    until ``finish`` was called on a new store: then the backend creates its files. If it is False,
    the files must be there, and a missing one is damage.

    ``read_only``: nothing in the directory is written, created or mended, so that it may lie on a
    medium that nobody can write to. Others may read it at the same time. The backend's ``commit`` is
    not called, and what it has to write in order to read goes to ``scratch``.

    ``format``: that of the store, which may be older than the newest. Then the backend upgrades it, says
    to ``tell`` how far it is (upgrade.py), and calls ``raise_format``.
    """

    def __init__(
        self,
        path: Path,
        scheme: str,
        format_version: int,
        store_id: UUID | None = None,
        read_only: bool = False,
        tell: Tell | None = None,
    ) -> None:
        self.path = path = _absolute(path)
        self.read_only = read_only
        self.tell = tell
        self._scratch: Scratch | None = None
        self._places: dict[Path, tuple[int, int]] = {}
        identity = _read_identity(path)
        if identity is not None:
            _check_identity(path, identity, scheme, format_version, store_id)
        elif not read_only and _create(path):
            sync_directory(path.parent)
        with ExitStack() as undo:
            self._lock = _take_lock(path, read_only)
            undo.callback(self.close)
            # It is read again, now that nobody else can write it.
            identity = _read_identity(path)
            if read_only and (identity is None or not identity.complete):
                raise StoreForeign(f"{path} holds no store, and none is created to be read only")
            if identity is None:
                identity = _write_identity(path, scheme, format_version, store_id or uuid4())
            _check_identity(path, identity, scheme, format_version, store_id)
            undo.pop_all()
        self.store_id = identity.store_id
        self.created = not identity.complete
        self.format = identity.format
        self._newest_format = format_version
        self._identity = identity

    def raise_format(self) -> None:
        """Note that the backend's files have the newest format, and are synced: from now on an older
        release refuses them. Does nothing to a store that is opened read-only, or up to date."""
        if self.read_only or self.format == self._newest_format:
            return
        assert not self._places, "it is called before finish, which watches rewind.json"
        before = self.format
        self._describe(complete=not self.created)
        # It is a warning, so that people see it whatever opened the store: there is no way back.
        log.warning(
            "the format of %s was %d and is %d: earlier releases of Rewind do not open it any more",
            self.path,
            before,
            self.format,
        )

    def _describe(self, complete: bool) -> None:
        """Write the identity anew: files of the newest format."""
        self.format = self._identity.format = self._newest_format
        self._identity.crc = self._identity.checksum()
        self._identity.complete = complete
        _replace(self.path, self._identity)

    def finish(self, *files: str) -> None:
        """Note that the backend's files exist: from now on, a missing one is damage.

        ``files``: some that stay what they are while the store is open, for ``confirm``.
        """
        if self.created:
            sync_directory(self.path)
            self._describe(complete=True)
            self.created = False
        if self.read_only:
            return
        try:
            self._watch([self.path / file for file in files])
        except OSError as error:
            raise translate(error, f"cannot look at {self.path}") from error

    def _watch(self, files: list[Path]) -> None:
        assert self._lock is not None, "who writes has the lock"
        watched = (self.path, self.path / _IDENTITY, *files)
        self._places = {path: _place(path) for path in watched}
        self._places[self.path / _LOCK] = self._lock.identity()
        if any(map(_others_can_read, files)):
            log.warning(
                "other users of this machine can read the events in %s: chmod -R go= %s",
                self.path,
                shlex.quote(str(self.path)),
            )

    def confirm(self) -> None:
        """Raise ``StoreFailed`` unless the directory, its identity, its lock and the files named to
        ``finish`` are still those that were opened: what is written is not found again otherwise."""
        for path, place in self._places.items():
            try:
                found = _place(path)
            except OSError as error:
                raise self._lost(f"{path}: {error.strerror}") from error
            if found != place:
                raise self._lost(f"{path} is another file")

    def _lost(self, what: str) -> StoreFailed:
        return StoreFailed(
            f"the store {self.path} was deleted, moved or replaced while it was open ({what}): "
            "nothing is stored there any more"
        )

    def scratch(self) -> Path:
        """A temporary folder, which is removed by ``close``."""
        if self._scratch is None:
            try:
                self._scratch = Scratch()
            except OSError as error:
                raise StoreFailed(
                    "reading this store needs a temporary folder, and there can be none: "
                    f"{error.strerror}. TMPDIR says where"
                ) from error
        return self._scratch.path

    def close(self) -> None:
        """Give the lock back, and remove what was temporary."""
        if self._scratch is not None:
            self._scratch.close()
        try:
            if self._lock is not None:
                self._lock.release()
        except OSError as error:
            raise translate(error, f"cannot close {self.path / _LOCK}") from error


def _others_can_read(file: Path) -> bool:
    above = all(directory.stat().st_mode & stat.S_IXOTH for directory in file.parents)
    return above and bool(file.stat().st_mode & stat.S_IROTH)


def _absolute(path: Path) -> Path:
    try:
        return path.absolute()
    except OSError as error:
        raise StoreNotCreated(
            f"{path} leads nowhere, because the working directory is gone: give an absolute path"
        ) from error


def _read_identity(path: Path) -> _Identity | None:
    """What the directory says it holds; None when it is missing or empty."""
    file = path / _IDENTITY
    try:
        text = _read_file(file)
    except FileNotFoundError:
        _check_nothing_there(path)
        return None
    except NotADirectoryError as error:
        raise StoreForeign(f"{path} is a file, not the directory of a store") from error
    except OSError as error:
        raise _cannot_read(file, error) from error
    try:
        identity = msgspec.json.decode(text, type=_Identity)
        if identity.crc is None and identity.format > 1:
            raise ValueError("its checksum is missing")
        if identity.crc is not None and identity.crc != identity.checksum():
            raise ValueError("it fails its checksum")
        if identity.format < 1:
            raise ValueError(f"there is no format {identity.format}")
    except (ValueError, RecursionError) as error:
        raise StoreDamaged(
            f"{file} is damaged: it does not describe a store ({error}). Restore it from a copy"
        ) from error
    return identity


def _read_file(file: Path) -> bytes:
    """The content of a small file. Raises ``StoreForeign`` when something else has its name."""
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # A pipe would block.
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise StoreForeign(f"{file} is not a file: {file.parent} holds no Rewind store")
        return os.read(descriptor, IDENTITY_BYTES_MAX)
    finally:
        os.close(descriptor)


def _write_identity(path: Path, scheme: str, format_version: int, store_id: UUID) -> _Identity:
    """Say what is about to be created here."""
    identity = _Identity(
        rewind="event store",
        scheme=scheme,
        format=format_version,
        store_id=store_id,
        complete=False,
    )
    identity.crc = identity.checksum()
    _replace(path, identity)
    return identity


def _check_nothing_there(path: Path) -> None:
    try:
        entries = sorted(set(os.listdir(path)) - _NOTHING)
    except FileNotFoundError as error:
        if path.is_symlink():
            raise StoreNotCreated(
                f"{path} is a symbolic link to {path.readlink()}, which does not exist: "
                "create that directory, or remove the link"
            ) from error
        return
    except OSError as error:
        raise _cannot_read(path, error) from error
    if entries:
        raise StoreForeign(
            f"{path} holds no Rewind store but other files ({entries[0]} ...): "
            "name a store, or an empty or new directory for one"
        )


def _cannot_read(path: Path, error: OSError) -> StoreError:
    impossible = error.errno in (errno.ENAMETOOLONG, errno.ELOOP)
    return translate(error, f"cannot read {path}", StoreNotCreated if impossible else StoreFailed)


def _check_identity(
    path: Path,
    identity: _Identity,
    scheme: str,
    format_version: int,
    store_id: UUID | None,
) -> None:
    if identity.scheme != scheme:
        raise StoreForeign(
            f"{path} holds a store of scheme {identity.scheme!r}, not {scheme!r}: "
            f"open it as {identity.scheme}:{path}"
        )
    if identity.format > format_version:
        raise StoreForeign(
            f"{path} has format {identity.format}, newer than {format_version}, the newest "
            "this release reads: use a newer Rewind"
        )
    if store_id is not None and identity.store_id != store_id:
        raise StoreForeign(
            f"{path} holds the store {identity.store_id}, not {store_id}: give the path of that "
            "store, or an empty or a new directory"
        )


def _create(path: Path) -> bool:
    """Create the directory; False if it exists already."""
    try:
        path.mkdir(DIRECTORY_MODE)
    except FileExistsError:
        return False
    except FileNotFoundError as error:
        raise StoreNotCreated(
            f"cannot create {path}: its parent directory does not exist"
        ) from error
    except OSError as error:
        raise translate(error, f"cannot create {path}", StoreNotCreated) from error
    return True


def _take_lock(path: Path, read_only: bool) -> Lock | None:
    """The lock; None for a reader where there is no lock to take, so that nobody can have it."""
    try:
        return Lock(path / _LOCK, shared=read_only)
    except FileNotFoundError as error:
        if read_only:
            return None
        raise translate(error, f"cannot lock {path / _LOCK}", StoreNotCreated) from error
    except OSError as error:
        raise translate(error, f"cannot lock {path / _LOCK}", StoreNotCreated) from error


def _replace(path: Path, identity: _Identity) -> None:
    """Write the identity so that a crash leaves the old one or the new one, and that whole."""
    file, new = path / _IDENTITY, path / _NEW_IDENTITY
    text = msgspec.json.encode(identity) + b"\n"
    try:
        with open(new, "wb", opener=lambda name, flags: os.open(name, flags, FILE_MODE)) as written:
            written.write(text)
            written.flush()
            os.fsync(written.fileno())
        os.replace(new, file)
        sync_directory(path)
    except OSError as error:
        with suppress(FileNotFoundError):
            new.unlink()
        raise translate(error, f"cannot write {file}", StoreNotCreated) from error


def create_directory(path: Path) -> None:
    """Create a directory of a backend, unless it is there."""
    try:
        path.mkdir(DIRECTORY_MODE, exist_ok=True)
    except OSError as error:
        raise translate(error, f"cannot create {path}") from error


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
