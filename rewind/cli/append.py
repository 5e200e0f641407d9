"""``rewind append``: one event from the command line and stdin, or many as JSON lines.

How lines become appends is in lines.py, the form of a line is in format.py.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from rewind.cli.connection import client_at, connection_options
from rewind.cli.options import EXPECTED, METADATA, TEXT, UUID
from rewind.cli.terminal import Progress, announce_stdin, complain, emit
from rewind.errors import RewindError, TooLarge
from rewind.events import NewEvent
from rewind.wire.native import REQUEST_BYTES_MAX

if TYPE_CHECKING:
    from rewind.cli.lines import Import


@click.command(
    epilog="Copy a store: rewind read --format jsonl | rewind append --json -e other-store"
)
@click.argument("stream", type=TEXT, required=False)
@click.option("--type", type=TEXT, default="", metavar="T", help="What happened.")
@click.option("--tag", type=TEXT, multiple=True, metavar="T", help="Repeat for several.")
@click.option("--meta", type=METADATA, multiple=True, metavar="K=V",
               help="Metadata: a key and a text; repeat for several.")  # fmt: skip
@click.option("--data", metavar="TEXT", allow_from_autoenv=False,
              help="The data, instead of what is on stdin.")  # fmt: skip
@click.option("--id", type=UUID, metavar="UUID", allow_from_autoenv=False,
              help="The event's id: makes a repetition harmless.")  # fmt: skip
@click.option("--json", is_flag=True,
               help="stdin is JSON lines, as `read --format jsonl` writes them.")  # fmt: skip
@click.option("--expected-version", type=EXPECTED, metavar="N|none|exists",
               help="Refuse unless STREAM is at this version.")  # fmt: skip
@connection_options
def append(
    stream: str | None,
    json: bool,
    expected_version: int | None,
    endpoint: str,
    timeout: float,
    **event: Any,
) -> None:
    """Append an event, or many.

    stdin is the data of one event, appended to STREAM. With --json it is JSON lines, an event
    each; STREAM is for lines that name none.
    """
    if json:
        _append_lines(stream, expected_version, endpoint, timeout, event)
        return
    if stream is None:
        raise click.UsageError("Missing argument 'STREAM'.")
    new_event = NewEvent(
        event["type"],
        _stdin_data() if event["data"] is None else os.fsencode(event["data"]),
        id=event["id"],
        tags=event["tag"],
        metadata=dict(event["meta"]),
    )
    with client_at(endpoint, timeout, creates=True) as client:
        appended = client.append(stream, new_event, expected_version)
    id = new_event.id or appended.ids[0]
    again = " (it was stored before)" if appended.duplicate else ""
    emit(f"{stream} version {appended.versions[stream]} position {appended.last} id {id}{again}")


def _stdin_data() -> bytes:
    announce_stdin()
    data = sys.stdin.buffer.read(REQUEST_BYTES_MAX + 1)
    if len(data) > REQUEST_BYTES_MAX:
        raise TooLarge(f"stdin has more than {REQUEST_BYTES_MAX} bytes, too much for one event")
    return data


def _append_lines(
    stream: str | None,
    expected_version: int | None,
    endpoint: str,
    timeout: float,
    event: dict[str, Any],
) -> None:
    from rewind.cli.lines import Import

    given = [name for name, value in event.items() if value not in (None, "", ())]
    if given:
        raise click.UsageError(f"--{given[0]} is for one event; with --json each line has its own")
    if expected_version is not None and stream is None:
        raise click.UsageError("--expected-version is of STREAM, and none is given")
    announce_stdin()
    progress = Progress()
    with client_at(endpoint, timeout, creates=True) as client:
        import_ = Import(
            client,
            stream=stream,
            expected_version=expected_version,
            event_bytes_max=client.info().limits["event_bytes"],
            progress=progress.show,
        )
        try:
            import_.run(sys.stdin.fileno())
        except (RewindError, KeyboardInterrupt, OSError):
            progress.clear()
            complain(f"stopped: {_summary(import_)}, up to line {import_.line}")
            raise
    progress.clear()
    emit(_summary(import_))


def _summary(import_: Import) -> str:
    text = f"{import_.appended_events} events appended"
    if import_.appended_events:
        text += f", the last at position {import_.position}"
    return (
        f"{text}; {import_.duplicate_events} were stored before"
        if import_.duplicate_events
        else text
    )


COMMANDS = (append,)
