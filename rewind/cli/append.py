"""``rewind append``: one event from the command line and stdin, or many as JSON lines.

How lines become appends is in lines.py, the form of a line is in format.py.
"""

from __future__ import annotations

import os
import shlex
import stat
import sys
import uuid
from typing import TYPE_CHECKING, Any

import click

from rewind.cli.connection import client_at, connection_options
from rewind.cli.options import ADVANCE, EXPECTED, METADATA, STREAM, TAG, TYPE, UUID, example, option
from rewind.cli.terminal import Progress, announce_stdin, complain, emit
from rewind.cli.text import counted
from rewind.errors import RewindError, TooLarge, Unavailable
from rewind.events import NewEvent
from rewind.wire.native import REQUEST_BYTES_MAX

if TYPE_CHECKING:
    from rewind.cli.lines import Import

SHOWN_COMMAND_MAX = 400  # a longer command is named and not repeated: nobody finds its end


def _each_key_once(
    ctx: click.Context, param: click.Parameter, pairs: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise click.BadParameter(f"the key {key!r} is given twice", ctx, param)
    return pairs


@click.command(
    epilog=example(
        "Copy a store:", "rewind read --format jsonl | rewind append --json -e sqlite:copy"
    )
)
@click.argument("stream", type=STREAM, required=False)
@option("--type", type=TYPE, metavar="T", help="What happened.")
@option("--tag", type=TAG, multiple=True, metavar="T", help="Repeat for several.")
@option("--meta", type=METADATA, multiple=True, callback=_each_key_once, metavar="K=V",
        help="Metadata: a key and a text; repeat for several.")  # fmt: skip
@option("--data", metavar="TEXT", allow_from_autoenv=False,
        help="The data, instead of what is on stdin.")  # fmt: skip
@option("--id", type=UUID, metavar="UUID", allow_from_autoenv=False,
        help="The event's id: makes a repetition harmless.")  # fmt: skip
@option("--append-id", type=UUID, metavar="UUID", allow_from_autoenv=False,
        help="The append's id: makes a repetition harmless; with --json, of all lines.")  # fmt: skip
@option("--json", is_flag=True, help="stdin is JSON lines, as read prints them.")
@option("--expected-version", type=EXPECTED, metavar="N|none|exists",
        help="Refuse unless STREAM is at this version.")  # fmt: skip
@option("--cursor", type=ADVANCE, multiple=True, callback=_each_key_once, metavar="NAME=POSITION",
        help="Move this cursor forward in the same commit; repeat for several.")  # fmt: skip
@option("--create", is_flag=True, help="Create a store at the PATH of -e if none is there.")
@connection_options
def append(
    stream: str | None,
    append_id: uuid.UUID | None,
    json: bool,
    expected_version: int | None,
    cursor: tuple[tuple[str, int], ...],
    create: bool,
    endpoint: str,
    timeout: float,
    **event: Any,
) -> None:
    """Append an event, or many.

    stdin is the data of one event, byte for byte, appended to STREAM. With --json it is JSON
    lines, an event each; STREAM is for lines that name none.
    """
    if json:
        if cursor:
            raise click.UsageError("--cursor is for one append; with --json there are several")
        _append_lines(stream, append_id, expected_version, create, endpoint, timeout, event)
        return
    if stream is None:
        raise click.UsageError("Missing argument 'STREAM'.")
    new_event = NewEvent(
        event["type"] or "",
        _stdin_data() if event["data"] is None else os.fsencode(event["data"]),
        id=event["id"],
        tags=event["tag"],
        metadata=dict(event["meta"]),
    )
    with client_at(endpoint, timeout, writes=True, creates=create) as client:
        try:
            appended = client.append(
                stream, new_event, expected_version, append_id=append_id, cursors=dict(cursor)
            )
        except Unavailable as error:
            error.add_note(_how_to_repeat(error, append_id is not None, event["data"] is None))
            raise
    id = new_event.id or appended.ids[0]
    again = " (it was stored before)" if appended.duplicate else ""
    emit(f"{stream} version {appended.versions[stream]} position {appended.last} id {id}{again}")


def _stdin_data() -> bytes:
    announce_stdin()
    data = sys.stdin.buffer.read(REQUEST_BYTES_MAX + 1)
    if len(data) > REQUEST_BYTES_MAX:
        raise TooLarge(f"stdin has more than {REQUEST_BYTES_MAX} bytes, too much for one event")
    if not data:
        raise click.UsageError("stdin is empty; for an event without data, give --data ''")
    return data


def _how_to_repeat(error: Unavailable, append_id_given: bool, needs_stdin: bool) -> str:
    """The command line that appends the same once, whatever became of the first one."""
    name, *arguments = sys.argv[1:]
    given: list[str] = []
    if error.append_id is not None and not append_id_given:
        given = ["--append-id", str(uuid.UUID(bytes=error.append_id))]
    command = shlex.join(["rewind", name, *given, *arguments])
    if len(command) > SHOWN_COMMAND_MAX or not command.isprintable():
        command = " ".join(["the same command", *given])
    stdin = ", with the same data on stdin" if needs_stdin else ""
    return f"to store it once, whatever became of it{stdin}: {command}"


def _append_lines(
    stream: str | None,
    append_id: uuid.UUID | None,
    expected_version: int | None,
    create: bool,
    endpoint: str,
    timeout: float,
    event: dict[str, Any],
) -> None:
    from rewind.cli.lines import Import

    given = [name for name, value in event.items() if value not in (None, ())]
    if given:
        raise click.UsageError(f"--{given[0]} is for one event; with --json each line has its own")
    if expected_version is not None and stream is None:
        raise click.UsageError("--expected-version is of STREAM, and none is given")
    announce_stdin()
    progress = Progress(typed=sys.stdin.isatty())
    status = os.fstat(sys.stdin.fileno())
    total_bytes = status.st_size if stat.S_ISREG(status.st_mode) else 0
    with client_at(endpoint, timeout, writes=True, creates=create) as client:
        import_ = Import(
            client,
            stream=stream,
            expected_version=expected_version,
            append_id=append_id,
            event_bytes_max=client.info().limits["event_bytes"],
            progress=lambda events, size: progress.show(_done(events, size, total_bytes)),
        )
        try:
            import_.run(sys.stdin.fileno())
        except (RewindError, KeyboardInterrupt, OSError) as error:
            progress.clear()
            complain(f"stopped: {_summary(import_)}{_reached(import_)}")
            if isinstance(error, Unavailable | KeyboardInterrupt):
                complain(_what_is_unknown(import_, append_id))
            raise
    progress.clear()
    emit(_summary(import_))


def _done(events: int, size: int, total_bytes: int) -> str:
    """How far an import is: events, and the share of the input if its size is known, else 0."""
    share = f", {min(100, 100 * size // total_bytes)} %" if total_bytes else ""
    return f"{counted(events, 'event')}{share}"


def _summary(import_: Import) -> str:
    text = f"{counted(import_.appended_events, 'event')} appended"
    if import_.appended_events:
        text += f", the last at position {import_.position}"
    if count := import_.duplicate_events:
        text += f"; {count} {'was' if count == 1 else 'were'} stored before"
    return text


def _reached(import_: Import) -> str:
    return f", up to line {import_.line}" if import_.line else ""


def _what_is_unknown(import_: Import, append_id: uuid.UUID | None) -> str:
    """Which lines were sent and not answered, and what to do about them."""
    first, last = import_.line + 1, import_.sent_line
    if append_id is not None:
        return "the same command with the same input stores the rest, and nothing twice"
    if last < first:
        return f"nothing behind line {import_.line} was sent"
    lines = f"line {first}" if first == last else f"lines {first} to {last}"
    return (
        f"{lines} may be stored or not: sent again, only those with an id are stored once. "
        "With --append-id, given from the start, that holds for all lines"
    )


COMMANDS = (append,)
