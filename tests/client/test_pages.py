"""Bounded reads, page by page: without a socket."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from answers_by_hand import WHERE, Answers

from rewind.client import pages as pages_module
from rewind.client.names import cursor_pages, name_pages, stream_pages
from rewind.client.pages import EventPages
from rewind.client.requests import Requests
from rewind.errors import StoreChanged, WrongStore
from rewind.events import Advance, NewEvent
from rewind.wire import native
from rewind.wire.native import Read
from rewind.wire.replies import Reply

unpack = msgspec.msgpack.decode


def read(**changes: Any) -> Any:
    return EventPages(Requests(WHERE, 1), Read(**changes))


def pages(answers: Answers, pages: Any, between: Any = lambda: None) -> list[list[int]]:
    found = []
    while (asked := pages.call()) is not None:
        found.append([each.position for each in asked.decode(answers.reply(asked))])
        between()
    return found


@pytest.mark.parametrize("changes", [{}, {"until": 10**6}, {"stream": "s"}, {"types": ["t"]}])
def test_read_ends_under_writers(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "READ_LIMIT_MAX", 3)
    answers = Answers()
    answers.append(7)
    found = pages(answers, read(**changes), lambda: answers.append(5))
    assert found == [[1, 2, 3], [4, 5, 6], [7]]


def test_read_pages_backwards_and_by_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages_module, "READ_LIMIT_MAX", 3)
    answers = Answers()
    answers.append(7)
    assert pages(answers, read(backwards=True)) == [[7, 6, 5], [4, 3, 2], [1]]
    assert pages(answers, read(backwards=True, after=3, limit=3)) == [[7, 6, 5]]
    assert pages(answers, read(limit=4)) == [[1, 2, 3], [4]]
    assert pages(answers, read(limit=0)) == []
    assert pages(answers, read(after=7)) == [[]]


def test_empty_pages_are_gone_on_from() -> None:
    replies = [
        {"count": 0, "next": 5, "head": 9, "end": False},
        {"count": 0, "next": 9, "head": 9, "end": True},
    ]
    asked = read(types=["x"])
    queries = []
    for body in replies:
        one = asked.call()
        queries.append(unpack(one.body))
        assert list(one.decode(Reply(b"", body, b"\x90"))) == []
    assert [query.get("after", 0) for query in queries] == [0, 5]
    assert queries[1]["until"] == 9 and asked.call() is None


def test_a_read_notices_a_store_that_lost_events() -> None:
    asked = read()
    asked.call().decode(Reply(b"", {"count": 0, "next": 1, "head": 9, "end": False}, b"\x90"))
    with pytest.raises(StoreChanged):
        asked.call().decode(Reply(b"", {"count": 0, "next": 2, "head": 8, "end": False}, b"\x90"))


def tag_pages(requests: Requests, prefix: str) -> Any:
    return name_pages(requests, "tag", prefix)


@pytest.mark.parametrize("name", ["b", "a", None])
def test_names_that_do_not_go_on_are_malformed_and_no_endless_read(name: str | None) -> None:
    asked = tag_pages(Requests(WHERE, 1), "")
    asked.call().decode(Reply(b"", {"names": [("b", 1)], "next": "b", "end": False}, b""))
    with pytest.raises(ValueError, match="goes on after"):
        asked.call().decode(Reply(b"", {"names": [], "next": name, "end": False}, b""))


@pytest.mark.parametrize("kind", [EventPages, stream_pages, tag_pages, cursor_pages])
def test_every_further_page_is_asked_of_the_store_that_gave_the_first(
    kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "READ_LIMIT_MAX", 1)
    monkeypatch.setattr(native, "STREAMS_LIMIT_DEFAULT", 1)
    first, other = Answers(), Answers()
    for answers in (first, other):
        made = Requests(WHERE, 1)
        for name in ("s", "t"):
            answers.reply(made.append(name, [NewEvent("t", tags=[name])] * 2))
            answers.reply(made.advance(name, Advance(1)))
    asked = kind(Requests(WHERE, 1), Read() if kind is EventPages else "")
    call = asked.call()
    assert "store_id" not in unpack(call.body) and call.store_id is None
    call.decode(first.reply(call))
    further = asked.call()
    assert unpack(further.body)["store_id"] == further.store_id == first.store.id.bytes
    assert not isinstance(first.reply(further), WrongStore)
    assert isinstance(other.reply(further), WrongStore)


@pytest.mark.parametrize("store_id", [None, b"A" * 16])
def test_an_earlier_daemon_is_asked_for_pages_without_a_store(store_id: bytes | None) -> None:
    """It says none and refuses what it does not know."""
    asked = read()
    body: dict[str, Any] = {"count": 0, "next": 1, "head": 9, "end": False}
    if store_id:
        body["store_id"] = store_id
    asked.call().decode(Reply(b"", body, b"\x90"))
    assert unpack(asked.call().body).get("store_id") == store_id
