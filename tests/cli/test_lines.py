"""``append --json``: how lines are cut into appends, repetitions, and where an import stops."""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import rewind
from rewind import Client, NewEvent, errors
from rewind.checks import EVENT_BYTES_MAX
from rewind.cli.lines import APPEND_EVENTS_MAX, APPEND_LINES_BYTES_MAX, Import, lines_arriving


@pytest.fixture
def client() -> Iterator[Client]:
    with rewind.open("memory:") as client:
        yield client


class CountingClient:
    """A client that remembers how many events each append had."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sizes: list[int] = []

    def append_streams(self, events: Any, *, expected: Any = None) -> Any:
        self.sizes.append(len(events))
        return self.client.append_streams(events, expected=expected)


class Outcome(Import):
    """An import that keeps the error that stopped it."""

    error: errors.RewindError | None = None


def new_import(client: Any, **options: Any) -> Outcome:
    defaults = {"stream": None, "expected_version": None, "append_id": None, "event_bytes_max": EVENT_BYTES_MAX,
                "progress": lambda events, size: None}  # fmt: skip
    return Outcome(client, **{**defaults, **options})


@pytest.fixture
def run(client: Client, tmp_path: Path) -> Callable[..., Outcome]:
    def run(lines: list[Any], to: Any = None, **options: Any) -> Outcome:
        path = tmp_path / "lines"
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        outcome = new_import(client if to is None else to, **options)
        with open(path, "rb") as file:
            try:
                outcome.run(file.fileno())
            except errors.RewindError as error:
                outcome.error = error
        return outcome

    return run


def line(number: int, **fields: Any) -> dict[str, Any]:
    return {"id": str(uuid.UUID(int=number)), "stream": "s", "data": str(number), **fields}


def stored(client: Client) -> list[str]:
    return [event.data.decode() for event in client.read()]


Run = Callable[..., Outcome]


def test_a_file_is_appended_in_batches_of_bounded_count_and_bytes(client: Client, run: Run) -> None:
    counting = CountingClient(client)
    run([line(n) for n in range(1, 1202)], counting)
    assert counting.sizes == [APPEND_EVENTS_MAX, APPEND_EVENTS_MAX, 201]
    counting.sizes.clear()
    run([line(n, data="x" * (APPEND_LINES_BYTES_MAX // 3)) for n in range(5000, 5005)], counting)
    assert counting.sizes == [2, 2, 1]


def test_an_event_larger_than_a_batch_goes_alone(client: Client, run: Run) -> None:
    counting = CountingClient(client)
    outcome = run([line(1), line(2, data="x" * (2 * APPEND_LINES_BYTES_MAX)), line(3)], counting)
    assert (counting.sizes, outcome.appended_events) == ([1, 1, 1], 3)


def test_importing_again_stores_nothing(client: Client, run: Run) -> None:
    lines = [line(n) for n in range(1, 1300)]
    assert (run(lines).appended_events, run(lines).duplicate_events) == (1299, 1299)
    assert client.head() == 1299


@pytest.mark.parametrize("known", [1, 250, 500, 501, 999])
def test_an_import_cut_short_anywhere_is_finished_by_the_whole(
    client: Client, run: Run, known: int
) -> None:
    lines = [line(n) for n in range(1, 1101)]
    run(lines[:known])
    outcome = run(lines)
    assert (outcome.duplicate_events, outcome.appended_events) == (known, 1100 - known)
    assert stored(client) == [str(n) for n in range(1, 1101)]


def test_known_events_scattered_among_new_ones_are_told_apart(client: Client, run: Run) -> None:
    run([line(n) for n in range(1, 400, 7)])
    outcome = run([line(n) for n in range(1, 400)])
    assert outcome.duplicate_events == len(range(1, 400, 7))
    assert sorted(map(int, stored(client))) == list(range(1, 400))


def test_a_line_twice_in_the_input_is_stored_once(client: Client, run: Run) -> None:
    outcome = run([line(1), line(2), line(1), line(2)])
    assert (outcome.appended_events, outcome.duplicate_events, outcome.line) == (2, 2, 4)


def test_another_content_under_a_known_id_stops_at_its_line(client: Client, run: Run) -> None:
    run([line(57)])
    outcome = run([line(n, data=f"new {n}") for n in range(1, 101)])
    assert str(outcome.error).startswith("line 57: ")
    assert outcome.line == 56
    assert stored(client) == ["57", *(f"new {n}" for n in range(1, 57))]


def test_lines_with_and_without_ids_go_together(client: Client, run: Run) -> None:
    lines = [line(1), {"stream": "s", "data": "2"}, line(3)]
    assert run(lines).appended_events == 3
    assert stored(client) == ["1", "2", "3"]


def test_a_bad_line_stops_with_everything_before_it_stored(client: Client, run: Run) -> None:
    outcome = run([line(1), line(2), line(3, stream="$reserved"), line(4)])
    assert "line 3: stream '$reserved'" in str(outcome.error)
    assert (outcome.line, stored(client)) == (2, ["1", "2"])


def test_an_event_above_the_daemons_bound_is_named_before_it_is_sent(run: Run) -> None:
    outcome = run([line(1), line(2, data="x" * 101)], event_bytes_max=100)
    assert isinstance(outcome.error, errors.TooLarge)
    assert str(outcome.error).startswith("line 2: data has 101 bytes")


def test_the_expected_version_follows_on_over_batches(client: Client, run: Run) -> None:
    lines = [line(n) for n in range(1, 1001)]
    assert run(lines, stream="s", expected_version=0).appended_events == 1000
    # A repetition is no conflict, whatever version it expects.
    assert run(lines, stream="s", expected_version=0).duplicate_events == 1000
    more = [line(n) for n in range(2001, 2003)]
    assert isinstance(
        run(more, stream="s", expected_version=999).error,
        errors.WrongExpectedVersion,
    )
    assert run(more, stream="s", expected_version=-1).appended_events == 2


def test_another_writer_between_batches_is_noticed(client: Client, run: Run) -> None:
    class CrowdedClient(CountingClient):
        def append_streams(self, events: Any, *, expected: Any = None) -> Any:
            answer = super().append_streams(events, expected=expected)
            self.client.append("s", NewEvent("other"))
            return answer

    outcome = run(
        [line(n) for n in range(1, 1001)], CrowdedClient(client), stream="s", expected_version=0
    )
    assert isinstance(outcome.error, errors.WrongExpectedVersion)
    assert outcome.line == APPEND_EVENTS_MAX


def test_a_line_is_stored_while_the_next_is_still_awaited(client: Client) -> None:
    reading, writing = os.pipe()
    outcome = new_import(client, stream="s")
    subscription = client.subscribe()
    importer = threading.Thread(target=outcome.run, args=(reading,))
    importer.start()
    for number in range(3):
        os.write(writing, json.dumps({"data": str(number)}).encode() + b"\n")
        assert next(subscription).data == str(number).encode()
    os.write(writing, b'{"data":"no end of line"}')
    os.close(writing)
    importer.join()
    os.close(reading)
    assert outcome.appended_events == 4
    assert next(subscription).data == b"no end of line"


def test_lines_are_cut_wherever_the_pipe_cuts_them() -> None:
    reading, writing = os.pipe()
    complete: list[bytes | None] = []
    lines = lines_arriving(reading)
    for piece in (b"a", b"b\nc", b"\n\nd"):
        assert next(lines) is None
        os.write(writing, piece)
        if piece == b"a":
            continue
        count = piece.count(b"\n")
        complete += [next(lines) for _ in range(count)]
    os.close(writing)
    complete += [line for line in lines if line is not None]
    os.close(reading)
    assert complete == [b"ab", b"c", b"", b"d"]


def test_empty_lines_are_skipped_but_counted(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'\n\n{"data":"x"}\n  \r\n{"bad":1}\n')
    outcome = new_import(client, stream="s")
    with open(path, "rb") as file, pytest.raises(errors.BadRequest, match="line 5: "):
        outcome.run(file.fileno())
    assert (outcome.appended_events, outcome.line) == (1, 3)
