"""Binding: what is at a path stays, who can connect, and where a name leads."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import DURABLE, store_url
from hosts import with_hosts
from raw import Raw

from rewind import NewEvent, open
from rewind.backends.memory import MemoryBackend
from rewind.daemon.server import Server
from rewind.daemon.settings import Settings
from rewind.errors import CannotBind
from rewind.store import Store
from rewind.testing import Daemon

BINDS = ("incoming", "streaming", "topic", "gorewind")
FREE = "tcp://127.0.0.1:*"


def start(*options: str, before: list[str] | None = None) -> subprocess.CompletedProcess[str]:
    """Start a daemon that is expected to end at once."""
    command = [*(before or []), sys.executable, "-m", "rewind", "serve", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def binds(**endpoints: str) -> list[str]:
    """The options for these binds; the others are free ports."""
    given = {"incoming": FREE, "streaming": "", "topic": "", "gorewind": "", **endpoints}
    return [part for name, at in given.items() for part in (f"--{name}-bind", at)]


def assert_refused(code: int, words: str, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == code, done
    assert words in done.stderr and done.stderr.count("\n") == 1, done.stderr


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A path for a Unix socket, in a directory that holds nothing else."""
    directory = tmp_path / "run"
    directory.mkdir()
    return directory / "socket"


# --- what is there stays ------------------------------------------------------------


@pytest.mark.parametrize("name", BINDS)
def test_a_file_is_never_replaced_by_a_socket(file: Path, name: str) -> None:
    file.write_text("precious")
    done = start("--store", "memory:", *binds(**{name: f"ipc://{file}"}))
    assert_refused(71, f"cannot bind --{name}-bind ipc://{file}: a file is there", done)
    assert file.read_text() == "precious"


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose files have paths that are short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="rewind-") as path:
        yield Path(path)


@pytest.mark.parametrize("scheme", DURABLE)
def test_no_socket_takes_the_place_of_the_store(scheme: str, short_path: Path) -> None:
    url = store_url(scheme, short_path)
    with open(url) as client:
        client.append("s", NewEvent("t", b"kept"))
    files = sorted(path for path in (short_path / "store").rglob("*") if path.is_file())
    for path in [*files, short_path / "store" / "new"]:
        done = start("--store", url, *binds(incoming=f"ipc://{path}"))
        assert_refused(78, "inside of the store's directory", done)
    with open(url) as client:
        assert [event.data for event in client.read()] == [b"kept"]


def test_the_stores_directory_is_known_by_another_name_too(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "store")
    done = start(
        "--store", f"sqlite:{tmp_path / 'store'}", *binds(topic=f"ipc://{tmp_path}/link/s")
    )
    assert_refused(78, "inside of the store's directory", done)


@pytest.mark.parametrize("kind", ["directory", "named pipe", "symbolic link"])
def test_whatever_else_is_there_stays_as_well(file: Path, kind: str) -> None:
    if kind == "directory":
        file.mkdir()
    elif kind == "named pipe":
        os.mkfifo(file)
    else:
        file.symlink_to("nowhere")
    before = file.lstat()
    assert_refused(
        71, f"a {kind} is there", start("--store", "memory:", *binds(topic=f"ipc://{file}"))
    )
    assert (file.lstat().st_ino, file.lstat().st_mode) == (before.st_ino, before.st_mode)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_a_socket_that_somebody_has_stays_theirs(file: Path, kind: socket.SocketKind) -> None:
    with socket.socket(socket.AF_UNIX, kind) as theirs:
        theirs.bind(str(file))
        if kind != socket.SOCK_DGRAM:
            theirs.listen(0)
        before = file.lstat().st_ino
        done = start("--store", "memory:", *binds(streaming=f"ipc://{file}"))
        assert_refused(71, "another process listens there", done)
        assert file.lstat().st_ino == before


def test_a_socket_whose_queue_is_full_is_still_listened_on(file: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as theirs:
        theirs.bind(str(file))
        theirs.listen(0)
        waiting = [socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(3)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(str(file))
        done = start("--store", "memory:", *binds(streaming=f"ipc://{file}"))
        assert_refused(71, "another process listens there", done)
        for one in waiting:
            one.close()


def test_what_a_killed_daemon_left_behind_is_taken_over(file: Path) -> None:
    options = ("--incoming-bind", f"ipc://{file}")
    with Daemon("memory:", *options) as daemon:
        daemon.kill()
        assert file.is_socket()
        daemon.start()
        with Raw(f"ipc://{file}") as raw:
            assert raw.native("INFO")[0]["head"] == 0
        assert daemon.stop() == 0
    assert not file.exists(), "a good end leaves no socket behind"


def test_one_path_cannot_be_bound_twice(file: Path) -> None:
    both = f"ipc://{file}"
    done = start("--store", "memory:", *binds(incoming=both, topic=both))
    assert_refused(71, "another process listens there", done)
    assert not file.exists()


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = start("--store", "memory:", *binds(topic=f"ipc://{tmp_path}/no/socket"))
    assert_refused(71, "No such file or directory", done)


# --- who can connect ----------------------------------------------------------------


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.mark.parametrize(
    ("umask", "options", "mode"),
    [
        (0o022, (), 0o640),  # Who connects needs to write: the daemon's user alone can.
        (0o007, (), 0o660),
        (0o000, (), 0o660),
        (0o077, (), 0o600),
        (0o000, ("--insecure",), 0o666),
        (0o022, ("--insecure",), 0o644),
    ],
    indirect=["umask"],
)
def test_other_users_cannot_connect(
    umask: None, file: Path, options: tuple[str, ...], mode: int
) -> None:
    with Daemon("memory:", "--incoming-bind", f"ipc://{file}", *options):
        assert stat.S_IMODE(file.lstat().st_mode) == mode


@pytest.mark.parametrize("name", BINDS)
def test_a_socket_without_a_file_needs_insecure(name: str) -> None:
    endpoint = f"ipc://@rewind-{os.getpid()}-{name}"
    options = ["--store", "memory:", *binds(**{name: endpoint})]
    assert_refused(78, "add --insecure", start(*options))
    with Daemon("memory:", f"--{name}-bind", endpoint, "--insecure") as daemon:
        assert endpoint in daemon.log


# --- names --------------------------------------------------------------------------


def test_a_name_is_judged_by_where_it_leads(tmp_path: Path) -> None:
    before = with_hosts(tmp_path)
    (tmp_path / "hosts").write_text("10.1.2.3 localhost\n")
    done = start("--store", "memory:", *binds(incoming="tcp://localhost:*"), before=before)
    assert_refused(78, "tcp://localhost:* leads to 10.1.2.3, which can be reached", done)


def test_a_name_of_this_machine_is_as_good_as_its_address(tmp_path: Path) -> None:
    before = with_hosts(tmp_path, "127.0.1.1 here.test", "::1 here.test", "::1 six.test")
    code = (
        "import sys\n"
        "from rewind.testing import Daemon\n"
        "for name in ('here.test', 'six.test', 'LOCALHOST'):\n"
        "    with Daemon('memory:', '--incoming-bind', f'tcp://{name}:*') as daemon:\n"
        "        print(daemon.log.partition('incoming=')[2].split()[0].split(',')[-1])\n"
    )
    done = subprocess.run(
        [*before, sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    here, six, localhost = done.stdout.splitlines()
    assert here.startswith("tcp://127.0.1.1:")  # IPv4 goes first: every client can connect to it.
    assert six.startswith("tcp://[::1]:")
    assert localhost.startswith("tcp://127.0.0.1:")


def test_a_name_without_an_address_is_exit_71() -> None:
    done = start("--store", "memory:", *binds(topic=f"tcp://{'x' * 64}.test:*"))
    assert_refused(71, "no address is known", done)


def test_where_zeromq_would_abort_is_an_error_of_rewinds(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied() -> list[tuple[int, str]]:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "if_nameindex", denied)
    settings = Settings(incoming_bind=(FREE,), streaming_bind=(), topic_bind=())
    with pytest.raises(CannotBind, match="AF_NETLINK"):
        Server(settings, Store(MemoryBackend()))
