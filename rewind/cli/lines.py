"""JSON lines to appends: ``rewind append --json``. No click.

Lines are gathered as a daemon gathers requests: everything that has arrived, within bounds, is one
append, and nothing waits for company. A file becomes few large appends; the output of a program
that is still running is stored as it is written.

Each append is all or nothing; the whole import is not. It stops at the first line that cannot be
stored, with everything in front of it stored. Repeating it is harmless where the lines carry an
``id``, however they were cut into appends the first time: an append of which only some events are
known is refused as a conflict, and then tried again in halves.

The form of a line is in format.py.
"""

from __future__ import annotations

import os
import select
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from rewind.checks import check_event
from rewind.cli.format import parse_line
from rewind.errors import BadRequest, IdConflict, TooLarge
from rewind.events import Appended, AppendEvent, NewEvent
from rewind.wire.native import REQUEST_BYTES_MAX

if TYPE_CHECKING:
    from rewind.client.blocking import Client

BATCH_EVENTS_MAX = 500  # an eighth of what a request may hold; one sync for 500 costs little each
BATCH_BYTES_MAX = 1024 * 1024  # of lines; a commit of a few milliseconds, and memory stays small
CHUNK_BYTES = 256 * 1024  # of input at a time
LINE_BYTES_MAX = 6 * REQUEST_BYTES_MAX  # the largest event with every byte written as \u00XX

Numbered = tuple[int, AppendEvent]


class Import:
    """One run over an input, and how far it came.

    ``appended``, ``known``: events stored now, and found stored already. ``line``: everything
    up to this line is stored. ``position``: of the last event appended, 0 if none was.
    """

    def __init__(
        self,
        client: Client,
        *,
        stream: str | None,
        expected_version: int | None,
        event_bytes_max: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.appended = 0
        self.known = 0
        self.line = 0
        self.position = 0
        self._client = client
        self._stream = stream
        self._expected_version = expected_version
        self._event_bytes_max = event_bytes_max
        self._progress = progress
        self._batch: list[Numbered] = []
        self._batch_bytes = 0
        self._batch_ids: set[bytes] = set()
        self._read_bytes = 0

    def run(self, descriptor: int) -> None:
        """Append every line of the input. Raises what refused one, naming its line."""
        number = 0
        for line in lines_arriving(descriptor):
            if line is None:
                self._flush()
                continue
            number += 1
            self._read_bytes += len(line) + 1
            if line.strip():
                self._add(number, line)
        self._flush()

    def _add(self, number: int, line: bytes) -> None:
        try:
            if len(line) > LINE_BYTES_MAX:
                raise TooLarge(f"it is longer than {LINE_BYTES_MAX} bytes")
            event = parse_line(line, self._stream)
            check_event(event, 0, self._event_bytes_max)
        except (BadRequest, TooLarge) as refused:
            self._flush()  # what is in front of a bad line is stored, so its number says where to go on
            raise _at_line(number, refused) from refused
        full = (
            len(self._batch) >= BATCH_EVENTS_MAX or self._batch_bytes + len(line) > BATCH_BYTES_MAX
        )
        if full or event.id in self._batch_ids:
            self._flush()
        self._batch.append((number, event))
        self._batch_bytes += len(line)
        if event.id is not None:
            self._batch_ids.add(event.id)

    def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if self._batch_ids:
            self._batch_ids = set()
            batch = [(number, _with_id(event)) for number, event in batch]
        if batch:
            self._append(batch)
            self._progress(self.appended + self.known, self._read_bytes)

    def _append(self, batch: list[Numbered]) -> None:
        try:
            appended = self._send(batch)
        except (BadRequest, IdConflict, TooLarge) as refused:
            if len(batch) == 1:
                raise _at_line(batch[0][0], refused) from refused
            middle = len(batch) // 2
            self._append(batch[:middle])
            self._append(batch[middle:])
            return
        self.line = batch[-1][0]
        if appended.duplicate:
            self.known += len(batch)
        else:
            self.appended += len(batch)
            self.position = appended.last
        if self._expected_version is not None and self._stream is not None:
            self._expected_version = appended.versions.get(self._stream, self._expected_version)

    def _send(self, batch: list[Numbered]) -> Appended:
        expected = None
        if self._expected_version is not None and self._stream is not None:
            expected = {self._stream: self._expected_version}
        return self._client.append_streams(
            [(event.stream, new_event(event)) for _, event in batch], expected=expected
        )


def new_event(event: AppendEvent) -> NewEvent:
    """The event as the clients take it."""
    return NewEvent(event.type, event.data, id=event.id, tags=event.tags, metadata=event.metadata)


def _with_id(event: AppendEvent) -> AppendEvent:
    """An append has ids for all its events or for none, so one line with an id gives ids to all."""
    if event.id is not None:
        return event
    return AppendEvent(
        uuid.uuid4().bytes, event.stream, event.type, event.tags, event.metadata, event.data
    )


def _at_line(number: int, refused: BadRequest | IdConflict | TooLarge) -> Exception:
    return type(refused)(f"line {number}: {str(refused).removeprefix('events[0]: ')}")


def lines_arriving(descriptor: int) -> Iterator[bytes | None]:
    """Lines without their ends; None whenever the next one has to be waited for.

    A line above ``LINE_BYTES_MAX`` comes as its beginning, and is the last.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
        chunk = os.read(descriptor, CHUNK_BYTES)
        if not chunk:
            break
        *ended, rest = chunk.split(b"\n")
        for line in ended:
            yield b"".join((*pieces, line))
            pieces, size = [], 0
        pieces.append(rest)
        size += len(rest)
        if size > LINE_BYTES_MAX:
            break
    if size:
        yield b"".join(pieces)
