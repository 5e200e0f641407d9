"""Stores open in this process: shared by whoever opens them again, given back whatever happened."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from client_contract import PATIENCE_S, Consumer, event
from conftest import DURABLE, store_url

import rewind
from rewind.backends import open_backend
from rewind.client import opened
from rewind.testing import Daemon


@pytest.fixture(params=DURABLE)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return store_url(request.param, tmp_path)


def path_in(url: str) -> Path:
    return Path(url.partition(":")[2])


def descriptors(path: Path) -> list[str]:
    """The files below a path that this process has open."""
    names = []
    for link in Path("/proc/self/fd").iterdir():
        try:
            names.append(str(link.readlink()))
        except FileNotFoundError:
            continue  # the descriptor of the listing itself
    return [name for name in names if name.startswith(str(path))]


# --- shared ---------------------------------------------------------------------


def test_a_store_that_is_open_here_is_shared(url: str) -> None:
    first = rewind.open(url)
    first.append("s", event())
    second = rewind.open(url)
    assert second.append("s", event(), 1).last == 2
    assert first.head() == second.head() == 2
    first.close()
    with pytest.raises(rewind.Closed):
        first.head()
    assert second.append("s", event(), 2).last == 3
    second.close()
    second.close()
    first.close()
    assert not descriptors(path_in(url))
    open_backend(url).close()  # the lock is free


def test_it_is_the_same_store_by_any_path(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheme, path = url.partition(":")[0], path_in(url)
    (tmp_path / "link").symlink_to(path)
    monkeypatch.chdir(tmp_path)
    spellings = [str(path), "store", "./store", "link", f"{scheme}:store", f"{scheme}:link/.", url]
    spellings += [f"{path.parent}//store", f"{path.parent}/none/../store"]
    (tmp_path / "none").mkdir()
    clients = [rewind.open(spelling) for spelling in (url, *spellings)]
    for count, client in enumerate(clients, 1):
        client.append("s", event())
        assert clients[0].head() == count
    for client in clients:
        client.close()
    assert not opened._opened


def test_another_scheme_than_that_of_the_open_store_is_refused(url: str) -> None:
    other = "log" if not url.startswith("log") else "sqlite"
    with rewind.open(url), pytest.raises(rewind.StoreForeign, match=f"not '{other}'"):
        rewind.open(f"{other}:{path_in(url)}")


def test_stores_in_memory_are_not_shared() -> None:
    with rewind.open("memory:") as one, rewind.open("memory:") as other:
        one.append("s", event())
        assert (one.head(), other.head()) == (1, 0)


def test_asyncio_and_blocking_clients_share(url: str) -> None:
    async def main() -> None:
        async with rewind.open_async(url) as one, rewind.open_async(url) as other:
            await one.append("s", event())
            with rewind.open(url) as blocking:
                assert blocking.append("s", event(), 1).last == 2
            assert await other.head() == 2

    asyncio.run(asyncio.wait_for(main(), PATIENCE_S))
    assert not opened._opened


def test_a_subscription_is_told_of_what_another_client_appends(url: str) -> None:
    with rewind.open(url) as writer, rewind.open(url) as reader:
        subscription = reader.subscribe()
        consumer = Consumer(subscription)
        assert subscription.wait_caught_up(PATIENCE_S)
        assert subscription.wait_for(writer.append("s", event()).last, PATIENCE_S)
        writer.close()
        assert not subscription.wait_for(2, 0)
        with rewind.open(url) as again:
            assert subscription.wait_for(again.append("s", event()).last, PATIENCE_S)
        reader.close()
        consumer.join()
        assert consumer.error is None


def test_threads_that_open_and_close_lose_nothing(url: str) -> None:
    rounds, failures = 20, []

    def work() -> None:
        try:
            for _ in range(rounds):
                with rewind.open(url) as client:
                    client.append("s", event())
        except BaseException as error:  # noqa: BLE001  told below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    with rewind.open(url) as client:
        assert client.head() == 4 * rounds
    assert not opened._opened


def test_a_daemons_store_is_not_shared(url: str) -> None:
    with Daemon(url) as daemon, pytest.raises(rewind.StoreLocked) as told:
        rewind.open(url)
    assert f"pid {daemon.process.pid} on" in str(told.value)
    rewind.open(url).close()


def test_a_store_that_this_process_opened_below_the_clients_is_not_shared(url: str) -> None:
    backend = open_backend(url)
    with pytest.raises(rewind.StoreLocked, match="in use by this process"):
        rewind.open(url)
    backend.close()


# --- given back -----------------------------------------------------------------


def test_a_store_whose_append_failed_can_be_opened_again(url: str) -> None:
    """The system refuses to let a file grow; the store is given back at once, by all who share it."""
    client, sharing = rewind.open(url), rewind.open(url)
    client.append("s", event())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
    stored = 1
    try:
        with pytest.raises(rewind.StoreFailed):
            for _ in range(200):
                client.append("s", rewind.NewEvent("t", os.urandom(50_000)))
                stored += 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    for use in (client.head, sharing.head, lambda: sharing.append("s", event())):
        with pytest.raises(rewind.StoreFailed):
            use()
    with rewind.open(url) as again:  # although nobody has closed the others yet
        head = again.head()
        assert head in (stored, stored + 1)  # the last one may have got through
        assert again.append("s", event()).last == head + 1
        client.close()
        sharing.close()
        assert again.append("s", event()).last == head + 2
    assert not descriptors(path_in(url))


INTERRUPTED = """
import sys
import rewind
client = rewind.open(sys.argv[1])
acknowledged = 0
for round in range(int(sys.argv[2])):
    try:
        print("appending", flush=True)  # From here on, Ctrl-C may come at any time.
        while True:
            acknowledged = client.append("s", rewind.NewEvent("t", b"x" * 2_000)).last
    except KeyboardInterrupt:
        pass
    client.close()
    client = rewind.open(sys.argv[1])
    assert acknowledged <= client.head() <= acknowledged + 1, (client.head(), acknowledged)
    acknowledged = client.head()
client.close()
print("done", acknowledged, flush=True)
"""


def test_a_store_whose_append_was_interrupted_can_be_opened_again(url: str) -> None:
    rounds = 10
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, url, str(rounds)], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        for _ in range(rounds):
            assert child.stdout.readline() == "appending\n"
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.02)  # it appends meanwhile
            child.send_signal(signal.SIGINT)
        done = child.stdout.readline().split()
    assert child.returncode == 0 and done[0] == "done"
    with rewind.open(url) as client:
        assert client.head() == int(done[1])


@pytest.mark.parametrize("url", ["sqlite:{}", "log:{}"])
def test_a_store_that_is_damaged_at_its_end_is_given_back(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = url.format(tmp_path / "store")
    rewind.open(url).close()

    def damaged(*_: object) -> None:
        raise rewind.StoreDamaged("the last record fails its checksum")

    monkeypatch.setattr("rewind.client.opened.Store", damaged)
    with pytest.raises(rewind.StoreDamaged):
        rewind.open(url)
    assert not descriptors(tmp_path)


# --- forked ---------------------------------------------------------------------


FORKED = """
import gc, os, sys
import rewind
url = sys.argv[1]
client = rewind.open(url)
client.append("s", rewind.NewEvent("t"))
subscription = client.subscribe()
parent = os.getpid()
child = os.fork()
if child == 0:
    for use, error in (
        (client.head, rewind.Closed),
        (lambda: client.append("s", rewind.NewEvent("t")), rewind.Closed),
        (lambda: next(subscription), rewind.Closed),
        (lambda: rewind.open(url), rewind.StoreLocked),
    ):
        try:
            use()
        except error as told:
            assert str(parent) in str(told) or "forked" in str(told), told
        else:
            raise AssertionError(f"{use} is not refused")
    client.close()
    del client, subscription, use
    gc.collect()
    sys.exit(7)  # like a program that ends: the interpreter collects what it has inherited
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert client.append("s", rewind.NewEvent("t"), 1).last == 2
child = os.fork()
if child == 0:
    sys.stdin.read()  # it lives on when its parent has closed the store
    try:
        rewind.open(url)
    except rewind.StoreLocked as told:
        assert "forked" in str(told)
        sys.exit(8)
client.close()
rewind.open(url).close()
sys.stdin.close()
print("closed", flush=True)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_is_refused_and_takes_nothing_away(url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKED, url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        assert parent.stdin and parent.stdout and parent.stderr
        assert parent.stdout.readline() == "closed\n", parent.stderr.read()
        parent.stdin.close()
        assert parent.wait(PATIENCE_S) == 8, parent.stderr.read()
    with rewind.open(url) as client:
        assert client.head() == 2


SURVIVOR = """
import os, sys
import rewind
url = sys.argv[1]
client = rewind.open(url)
client.append("s", rewind.NewEvent("t"))
if os.fork() == 0:
    print("forked", flush=True)
    sys.stdin.read()
    sys.exit()
client.close()
os._exit(0)
"""


def test_a_child_that_ends_later_harms_no_later_owner(url: str) -> None:
    """SQLite would remove the -wal file that a killed owner has left, with its commits."""
    with subprocess.Popen(
        [sys.executable, "-c", SURVIVOR, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin and parent.stdout and parent.stdout.readline() == b"forked\n"
        parent.wait(PATIENCE_S)
        with Daemon(url) as daemon:
            with rewind.connect(daemon.endpoint) as client:
                client.append("s", event(), 1)
            daemon.kill()
        parent.stdin.close()
        assert parent.stdout.read() == b""  # the child has ended, too
    with rewind.open(url) as client:
        assert client.head() == 2
