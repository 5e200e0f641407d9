"""What one can ask the store afterwards, from Python here, with the command line for the same.

Each question is a function: it asks with the client, and prints what it asked and what it got.
Next: docs/tutorial.rst.
"""

from __future__ import annotations

import itertools
import shlex
import sys
import uuid
from collections.abc import Iterable
from datetime import datetime

import rewind
from rewind.demo.flights import CANCELLED, DIVERTED_OR_UNKNOWN

AIRCRAFT = "aircraft-N12221"  # it left for Fort Myers on Wednesday, and no row says where it landed
NOTES = "demo-notes"
SHOWN_EVENTS = 8


def ask(client: rewind.Client, endpoint: str) -> None:
    """Ask all the questions."""
    for question in (_one_aircraft, _cancelled, _one_event, _as_of, _stale_append, _resent_append):
        question(client, endpoint)


def commands(endpoint: str) -> list[str]:
    """Commands to try while the daemon is up."""
    return [
        f"rewind info -e {endpoint}",
        f"rewind streams aircraft-N1 -e {endpoint}",
        f"rewind read --type {CANCELLED} --tag origin:JFK -e {endpoint}",
        f"rewind read --backwards -n 3 --format jsonl -e {endpoint}",
        f"rewind append {NOTES} --type NoteTaken --data hello -e {endpoint}",
        f"rewind tail -e {endpoint}",
        f"{_python()} -m rewind.demo.punctuality -e {endpoint}",
    ]


def _one_aircraft(client: rewind.Client, endpoint: str) -> None:
    _question(
        "What did one aircraft do? Its stream tells.", f"rewind read -s {AIRCRAFT} -e {endpoint}"
    )
    _print_events(client.read_stream(AIRCRAFT))


def _cancelled(client: rewind.Client, endpoint: str) -> None:
    _question(
        "Which of American's flights were cancelled? Types and tags select over all streams.",
        f"rewind read --type {CANCELLED} --tag carrier:AA -e {endpoint}",
    )
    _print_events(client.read(types=[CANCELLED], tags=["carrier:AA"]))


def _one_event(client: rewind.Client, endpoint: str) -> None:
    last = next(iter(client.read(types=[DIVERTED_OR_UNKNOWN], backwards=True, limit=1)))
    _question(
        "What exactly is that event? Every event has an id.", f"rewind show {last.id} -e {endpoint}"
    )
    event = client.event(last.id)
    _answer(f"{event.type}, position {event.position}, version {event.version} of {event.stream}")
    _answer(f"occurred_at {event.metadata['occurred_at']}, recorded_at {event.recorded_at:%FT%TZ}")
    _answer(event.data.decode())


def _as_of(client: rewind.Client, endpoint: str) -> None:
    half = client.head() // 2
    _question(
        "What was known at half of it? Reading up to a position gives the store as it was.",
        f"rewind read --type {CANCELLED} --until {half} -e {endpoint}",
    )
    then = sum(1 for _ in client.read(types=[CANCELLED], until=half))
    now = sum(1 for _ in client.read(types=[CANCELLED]))
    _answer(f"{then} cancelled flights at position {half:,}, {now} by the end")


def _stale_append(client: rewind.Client, endpoint: str) -> None:
    version = next(iter(client.read_stream(AIRCRAFT, backwards=True, limit=1))).version
    _question(
        "May I write on what I read, if somebody else wrote since? Not with an expected version.",
        f"rewind append {AIRCRAFT} --type NoteTaken --data late --expected-version {version - 1} "
        f"-e {endpoint}",
    )
    try:
        client.append(AIRCRAFT, rewind.NewEvent("NoteTaken", b"late"), expected_version=version - 1)
    except rewind.WrongExpectedVersion as refused:
        _answer(f"refused: {refused}")


def _resent_append(client: rewind.Client, endpoint: str) -> None:
    _question(
        "What if no reply came, and I send it again? With its append id it is stored once. On the "
        "\ncommand line the event's own id does it: run this twice.",
        f"rewind append {NOTES} --type NoteTaken --data twice --id {uuid.uuid4()} -e {endpoint}",
    )
    append_id = uuid.uuid4()
    note = rewind.NewEvent("NoteTaken", b"once")
    for sent in ("first", "again"):
        answer = client.append(NOTES, note, append_id=append_id)
        _answer(f"sent {sent}: position {answer.last}, duplicate {answer.duplicate}")


# --- printing -------------------------------------------------------------------


def _question(question: str, command: str) -> None:
    print(f"\n{question}\n  $ {command}")


def _answer(text: str) -> None:
    print(f"    {text}")


def _print_events(events: Iterable[rewind.Event]) -> None:
    """The first few, a line each, and how many there are."""
    events = iter(events)
    for event in itertools.islice(events, SHOWN_EVENTS):
        flight = event.json()
        at = datetime.fromisoformat(event.metadata["occurred_at"])
        delay = flight.get("delay_minutes")
        late = "" if delay is None else f"{delay:+d} min"
        _answer(
            f"{at:%a %d %b %H:%M}  {event.type:<24}{flight['flight'].split('-')[0]:<8}"
            f"{flight['origin']} to {flight['dest']}  {late}".rstrip()
        )
    if more := sum(1 for _ in events):
        _answer(f"and {more} more")


def _python() -> str:
    return shlex.quote(sys.executable or "python")
