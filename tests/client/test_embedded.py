"""The embedded client: the same contract on stores in this process, and what only it has."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from appends import event as stored_event
from appends import store_unchecked
from client_contract import (
    PATIENCE_S,
    ClientContract,
    Consumer,
    check_that_a_refusal_is_freed,
    event,
    eventually,
    fill,
)
from conftest import ALL_SCHEMES, DURABLE, store_url
from query_contract import QueryContract

import rewind


@pytest.fixture(params=ALL_SCHEMES)
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[rewind.Client]:
    with rewind.open(store_url(request.param, tmp_path)) as opened:
        yield opened


class TestContract(ClientContract, QueryContract):
    pass


def test_a_refusal_is_freed_when_nobody_holds_it_any_more(client: rewind.Client) -> None:
    check_that_a_refusal_is_freed(client)


def store_of(client: rewind.Client) -> Any:
    return client._transport._opened._store  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", DURABLE)
def test_events_are_there_after_opening_again(scheme: str, tmp_path: Path) -> None:
    url = store_url(scheme, tmp_path)
    with rewind.open(url) as client:
        fill(client, 5)
        info = client.info()
    with rewind.open(str(tmp_path / "store")) as client:  # a bare path opens what it holds
        assert client.info() == info and info.backend == scheme
        assert client.append("s", event(), 5).last == 6


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    for wrong in ("", "memory:path", "sqlite:", "mysql:path"):
        with pytest.raises(rewind.BadConfiguration):
            rewind.open(wrong)
    (tmp_path / "file").write_text("not a store")
    with pytest.raises(rewind.StoreError):
        rewind.open(str(tmp_path / "file"))


def test_appends_of_threads_share_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """While one commit is made, the next group gathers."""
    with rewind.open("memory:") as client:
        opened: Any = client._transport._opened  # type: ignore[attr-defined]
        commit = opened._store.append
        sizes: list[int] = []
        started, go_on = threading.Event(), threading.Event()

        def slow(appends: Any) -> Any:
            sizes.append(len(appends))
            started.set()
            assert go_on.wait(PATIENCE_S)
            return commit(appends)

        monkeypatch.setattr(opened._store, "append", slow)
        threads = [threading.Thread(target=client.append, args=("s", event())) for _ in range(9)]
        threads[0].start()
        started.wait(PATIENCE_S)
        for thread in threads[1:]:
            thread.start()
        eventually(lambda: len(opened._queue) == 8)
        go_on.set()
        for thread in threads:
            thread.join()
        assert sizes == [1, 8]
        assert [each.position for each in client.read()] == list(range(1, 10))


def test_refused_appends_leave_their_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with rewind.open("memory:") as client:
        opened: Any = client._transport._opened  # type: ignore[attr-defined]
        outcomes: list[object] = []

        def append(expected: int | None) -> None:
            try:
                outcomes.append(client.append("s", event(), expected).first)
            except rewind.WrongExpectedVersion as refused:
                outcomes.append(refused.code)

        opened._lock.acquire()
        threads = [threading.Thread(target=append, args=(each,)) for each in (None, 99, None)]
        for count, thread in enumerate(threads, 1):
            thread.start()
            eventually(lambda: len(opened._queue) == count)  # noqa: B023
        opened._lock.release()
        for thread in threads:
            thread.join()
        assert sorted(map(str, outcomes)) == ["1", "2", "wrong_expected_version"]


@pytest.mark.parametrize("failure", [rewind.StoreFailed("the disk"), KeyboardInterrupt()])
def test_a_failed_commit_ends_the_store(
    monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """Whether it was stored is unknown, so nothing may be built upon it."""
    client = rewind.open("memory:")
    client.append("s", event())
    subscription = client.subscribe()
    consumer = Consumer(subscription)
    assert subscription.wait_caught_up(PATIENCE_S)

    def fail(*_: object) -> None:
        raise failure

    closed: list[bool] = []
    monkeypatch.setattr(store_of(client).backend, "commit", fail)
    monkeypatch.setattr(store_of(client).backend, "close", lambda: closed.append(True))
    with pytest.raises(type(failure)):
        client.append("s", event())
    for use in (client.head, lambda: client.append("s", event()), lambda: next(client.read())):
        raised = []
        for _ in range(2):
            with pytest.raises(rewind.StoreFailed) as caught:
                use()
            raised.append(caught.value)
        assert raised[0] is not raised[1]  # One that is raised again and again only grows.
    consumer.join()
    assert isinstance(consumer.error, rewind.StoreFailed)
    client.close()
    assert closed == [True]  # its files and its lock were given back when it failed


def test_a_forked_child_is_told_that_the_store_is_not_its_own(tmp_path: Path) -> None:
    with rewind.open(f"sqlite:{tmp_path}/store") as client:
        client.append("s", event())
        child = os.fork()
        if child == 0:
            code = 1
            try:
                client.head()
            except rewind.Closed:
                client.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.append("s", event()).last == 2


def test_no_socket_library_is_needed() -> None:
    code = """
import sys
import rewind
with rewind.open("memory:") as client:
    client.append("s", rewind.NewEvent("t"))
    assert [event.position for event in client.read()] == [1]
    assert next(client.subscribe()).position == 1
assert "zmq" not in sys.modules and "asyncio" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE_S)


@pytest.mark.parametrize("scheme", DURABLE)
def test_names_that_are_refused_today_stay_readable(scheme: str, tmp_path: Path) -> None:
    """Types and tags with control characters were stored by earlier releases."""
    url = store_url(scheme, tmp_path)
    store_unchecked(url, stored_event(type="a\nb", tags=("x\x85y",)))
    with rewind.open(url) as client:
        with pytest.raises(rewind.BadRequest, match=r"type 'a\\nb' has a control character"):
            client.append("s", event(type="a\nb"))
        for filters in ({}, {"types": ["a\nb"]}, {"tags": ["x\x85y"]}):
            (found,) = client.read(**filters)
            assert (found.type, found.tags) == ("a\nb", ("x\x85y",))
