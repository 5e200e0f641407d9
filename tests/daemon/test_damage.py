"""A store that is damaged somewhere: whoever meets it is refused, alone, and everything else goes on."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from appends import key
from conftest import DURABLE, store_url
from damage import break_append_id, break_event, break_stream
from raw import Raw

import rewind
from rewind import NewEvent
from rewind.testing import Daemon

MARK = random.Random(7).randbytes(40)  # Noise, which nothing else in the files is equal to.
DATA = b"d" * 20_000  # Each event is a block of its own.


def fill(url: str) -> None:
    """Streams ``hurt`` and ``fine``, of two events and of four. The append of the first has ``key(1)``."""
    with rewind.open(url) as client:
        client.append("fine", NewEvent("t", DATA), append_id=key(2))
        client.append("hurt", NewEvent("t", MARK + DATA), append_id=key(1))
        client.append("hurt", NewEvent("t", DATA))
        for _ in range(3):  # Opening looks at the last ones.
            client.append("fine", NewEvent("t", DATA))
    rewind.open(url).close()  # LevelDB moves what is in its log into a table.


def hurt_stream(store: Path) -> None:
    break_stream(store, "hurt")


def hurt_append_id(store: Path) -> None:
    break_append_id(store, key(1))


def hurt_event(store: Path) -> None:
    break_event(store, MARK)


def one(stream: str, append_id: bytes | None = None) -> dict[str, object]:
    events = [[None, stream, "t", [], {}, b"new"]]
    return {"events": events} if append_id is None else {"events": events, "id": append_id}


def damage_in(log: str) -> list[str]:
    return [line for line in log.splitlines() if " ERROR " in line and "damage" in line]


#: The append id in hex, or as Python writes the key in SQLite's index, which has its own checksum.
NAMED = f"{key(1).hex()}|{re.escape(repr(key(1))[2:-1])}"

# What is damaged; the append that meets it; and a pattern that names it.
MET_BY_APPENDS = [
    pytest.param(hurt_stream, one("hurt"), "hurt", id="stream"),
    pytest.param(hurt_append_id, one("s", key(1)), NAMED, id="append-id"),
    pytest.param(
        hurt_event,
        {"events": [[None, "hurt", "t", [], {}, MARK + DATA]], "id": key(1)},
        "position 2",
        id="event",
    ),
]


@pytest.mark.parametrize("scheme", DURABLE)
@pytest.mark.parametrize(("hurt", "bad", "named"), MET_BY_APPENDS)
def test_an_append_that_meets_damage_is_refused_alone(
    hurt: Callable[[Path], None], bad: dict[str, object], named: str, scheme: str, tmp_path: Path
) -> None:
    fill(store_url(scheme, tmp_path))
    hurt(tmp_path / "store")
    with Daemon(store_url(scheme, tmp_path)) as daemon, Raw(daemon.endpoint) as client:
        for round in range(3):
            replies = client.native("APPEND", [one("fine"), bad, one("new"), bad, one("fine")])[0]
            assert [reply.get("code") for reply in replies] == [
                None,
                "internal",
                None,
                "internal",
                None,
            ]
            assert [replies[n]["first"] for n in (0, 2, 4)] == [7 + 3 * round + n for n in range(3)]
            assert re.search(named, replies[1]["message"]) and replies[1]["retryable"] is False
        alone = client.native("APPEND", bad)[0]
        assert alone["code"] == "internal" and "restore" in alone["message"]
        again = {"events": [[None, "fine", "t", [], {}, DATA]], "id": key(2)}
        assert client.native("APPEND", again)[0]["duplicate"] is True
        assert client.native("READ", {"limit": 0})[0]["head"] == 15
        (line,) = damage_in(daemon.log)
        assert re.search(named, line)
        daemon.stop()
        assert "stopped at head 15" in daemon.log


@pytest.mark.parametrize("scheme", DURABLE)
@pytest.mark.parametrize("hurt", [hurt_stream, hurt_event])
def test_a_read_that_meets_damage_is_refused_alone(
    hurt: Callable[[Path], None], scheme: str, tmp_path: Path
) -> None:
    fill(store_url(scheme, tmp_path))
    hurt(tmp_path / "store")
    with Daemon(store_url(scheme, tmp_path)) as daemon, Raw(daemon.endpoint) as client:
        for _ in range(3):
            refused = client.native("READ", {"stream": "hurt"})[0]
            assert refused["code"] == "internal" and "restore" in refused["message"]
            assert client.native("READ", {"stream": "fine"})[0]["count"] == 4
            assert client.native("READ", {"after": 2, "until": 4})[0]["count"] == 2
            client.append(("other", b"x"), ("other", b"y"))
            client.native("READ", {"stream": "other", "limit": 1, "after": 1})
            assert client.native("READ", {"stream": "fine"})[0]["count"] == 4
        assert len(damage_in(daemon.log)) == 1


@pytest.mark.parametrize("scheme", DURABLE)
def test_a_list_of_streams_that_meets_damage_is_refused_alone(scheme: str, tmp_path: Path) -> None:
    fill(store_url(scheme, tmp_path))
    hurt_stream(tmp_path / "store")
    with Daemon(store_url(scheme, tmp_path)) as daemon, Raw(daemon.endpoint) as client:
        assert client.native("STREAMS")[0]["code"] == "internal"
        client.append(("other", b"x"))
        assert client.native("STREAMS", {"after": "hurt"})[0]["streams"] == [["other", 1]]


@pytest.mark.parametrize("scheme", DURABLE)
@pytest.mark.parametrize(("hurt", "bad", "named"), MET_BY_APPENDS)
def test_an_embedded_store_refuses_alone_what_meets_damage(
    hurt: Callable[[Path], None], bad: dict[str, object], named: str, scheme: str, tmp_path: Path
) -> None:
    fill(store_url(scheme, tmp_path))
    hurt(tmp_path / "store")
    with rewind.open(store_url(scheme, tmp_path)) as client:
        head = 6
        for _ in range(2):
            ((_, stream, _, _, _, data),) = bad["events"]  # type: ignore[misc, attr-defined]
            append_id: bytes | None = bad.get("id")  # type: ignore[assignment]
            with pytest.raises(rewind.Internal, match=named):
                client.append(stream, NewEvent("t", data), append_id=append_id)
            if hurt is not hurt_append_id:
                with pytest.raises(rewind.StoreDamaged):
                    list(client.read_stream("hurt"))
            head += 1
            assert client.append("fine", NewEvent("t")).last == head
            assert [event.version for event in client.read_stream("fine")][:2] == [1, 2]
            assert next(client.subscribe(after=head - 1)).position == head
