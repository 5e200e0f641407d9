"""What one can ask the store afterwards, from the command line, and what it answers.

Each question is a function, which says what it asks and runs the command that asks it (shell.py). The
same in Python: docs/tutorial.rst.
"""

from __future__ import annotations

import shlex
import sys
import uuid

import rewind
from rewind.demo.flights import CANCELLED, DIVERTED_OR_UNKNOWN
from rewind.demo.shell import ENDPOINT, run, say, show

AIRCRAFT = "aircraft-N12221"  # it left for Fort Myers on Wednesday, and no row says where it landed
NOTES = "demo-notes"


def ask(client: rewind.Client, endpoint: str) -> None:
    """Ask all the questions. Raises ``DemoFailed`` when a command ends otherwise than it should."""
    print()
    say("What the store can answer, from the command line; the variable says where the daemon is.")
    show(f"export {ENDPOINT}={endpoint}")
    for question in (_one_aircraft, _cancelled, _one_event, _as_of, _stale_append, _resent_append):
        print()
        question(client, endpoint)


def commands(endpoint: str) -> list[str]:
    """Commands to try while the daemon is up."""
    return [
        f"export {ENDPOINT}={endpoint}",
        "rewind info",
        "rewind streams aircraft-N1",
        f"rewind read --type {CANCELLED} --tag origin:JFK",
        "rewind read --backwards -n 3 --format jsonl --decode",
        f"rewind append {NOTES} --type NoteTaken --data hello",
        "rewind tail",
        f"{shlex.quote(sys.executable or 'python')} -m rewind.demo.punctuality",
    ]


def _one_aircraft(client: rewind.Client, endpoint: str) -> None:
    say("What did one aircraft do? Its stream tells.")
    run(f"rewind read -s {AIRCRAFT}", endpoint)


def _cancelled(client: rewind.Client, endpoint: str) -> None:
    say("Which of American's flights were cancelled? Types and tags select over all streams.")
    run(f"rewind read --type {CANCELLED} --tag carrier:AA", endpoint)


def _one_event(client: rewind.Client, endpoint: str) -> None:
    last = next(iter(client.read(types=[DIVERTED_OR_UNKNOWN], backwards=True, limit=1)))
    say("What exactly is one event? Every event has a position, and an id.")
    run(f"rewind show {last.id}", endpoint)


def _as_of(client: rewind.Client, endpoint: str) -> None:
    half = client.head() // 2
    say(
        "Which cancellation was the last one known at half of it? Reading up to a position gives the "
        "store as it was."
    )
    run(f"rewind read --type {CANCELLED} --until {half} --backwards -n 1", endpoint)


def _stale_append(client: rewind.Client, endpoint: str) -> None:
    version = next(iter(client.read_stream(AIRCRAFT, backwards=True, limit=1))).version
    say("May I write on what I read, if somebody else wrote since? Not with an expected version.")
    run(
        f"rewind append {AIRCRAFT} --type NoteTaken --data late --expected-version {version - 1}",
        endpoint,
        rewind.WrongExpectedVersion.exit_code,
    )


def _resent_append(client: rewind.Client, endpoint: str) -> None:
    say("What if no answer came, and I send it again? With its append id it is stored once.")
    command = f"rewind append {NOTES} --type NoteTaken --data once --append-id {uuid.uuid4()}"
    for _ in range(2):
        run(command, endpoint)
