"""JSON lines to appends: ``rewind append --json``.

Lines are gathered as a daemon gathers requests: everything that has arrived, within bounds, is one
append, and nothing waits for company. A file becomes few large appends; the output of a program
that is still running is stored as it is written.

Each append is all or nothing; the whole import is not. It stops at the first line that cannot be
stored, with everything in front of it stored. Repeating it is harmless where the lines carry an
``id``, however they were cut into appends the first time: an append of which only some events are
known is refused as a conflict, and then tried again in halves. An append id for the whole gives every
line without an id one that follows from its number, so that such an import can be repeated as well.
It is not given by default: an id that is not the store's own costs time, and room in the index.

Nothing here knows Click. The form of a line is in format.py.
"""

from __future__ import annotations

import os
import select
import uuid
from collections.abc import Callable, Iterator

import msgspec

import rewind
from rewind.checks import check_event
from rewind.cli.format import parse_line
from rewind.errors import BadRequest, IdConflict, TooLarge
from rewind.events import Appended, AppendEvent, NewEvent
from rewind.wire.native import REQUEST_BYTES_MAX

APPEND_EVENTS_MAX = 500  # one sync costs little for each of 500, and halves of 500 are soon tried
APPEND_LINES_BYTES_MAX = 1024 * 1024  # a commit takes a few milliseconds, and memory stays small
WAIT_S = 0.5  # Ctrl-C is heard so late at most.
READ_BYTES = 256 * 1024  # the input is read in pieces of this size
LINE_BYTES_MAX = 6 * REQUEST_BYTES_MAX  # JSON may write each byte of the largest event as \u00XX
BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # some editors begin a file with it; it is no part of the text

Line = tuple[int, AppendEvent]  # a line is its number in the input and the event in it


class Import:
    """One run over an input, which knows how far it came.

    ``appended_events`` counts those stored by this run, ``duplicate_events`` those that were stored
    before it. Everything up to ``line`` is stored; what follows up to ``sent_line`` was sent and not
    answered. ``position`` is the position of the last event that this run appended, 0 if there is none.
    """

    def __init__(
        self,
        client: rewind.Client,
        *,
        stream: str | None,
        expected_version: int | None,
        append_id: uuid.UUID | None,
        event_bytes_max: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.appended_events = 0
        self.duplicate_events = 0
        self.line = 0
        self.sent_line = 0
        self.position = 0
        self._client = client
        self._stream = stream
        self._expected_version = expected_version
        self._append_id = append_id
        self._event_bytes_max = event_bytes_max
        self._progress = progress
        self._lines: list[Line] = []
        self._lines_bytes = 0
        self._lines_ids: set[bytes] = set()
        self._read_bytes = 0

    def run(self, descriptor: int) -> None:
        """Append every line of the input. Raises the error that stops it, which names its line."""
        number = 0
        for line in lines_arriving(descriptor):
            if line is None:
                self._flush()
                continue
            number += 1
            self._read_bytes += len(line) + 1
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
            if line.strip():
                self._add(number, line)
        self._flush()

    def _add(self, number: int, line: bytes) -> None:
        try:
            if len(line) > LINE_BYTES_MAX:
                raise TooLarge(f"it is longer than {LINE_BYTES_MAX} bytes")
            event = parse_line(line, self._stream)
            if self._append_id is not None:
                event = _with_id(event, uuid.uuid5(self._append_id, str(number)))
            check_event(event, 0, self._event_bytes_max)
        except (BadRequest, TooLarge) as error:
            # Lines in front of a bad one are stored, so that its number says where to go on.
            self._flush()
            raise _at_line(number, error) from error
        full = (
            len(self._lines) >= APPEND_EVENTS_MAX
            or self._lines_bytes + len(line) > APPEND_LINES_BYTES_MAX
        )
        if full or event.id in self._lines_ids:
            self._flush()
        self._lines.append((number, event))
        self._lines_bytes += len(line)
        if event.id is not None:
            self._lines_ids.add(event.id)

    def _flush(self) -> None:
        lines, self._lines, self._lines_bytes = self._lines, [], 0
        if self._lines_ids:
            self._lines_ids = set()
            lines = [(number, _with_id(event, uuid.uuid4())) for number, event in lines]
        if lines:
            self._append(lines)
            self._progress(self.appended_events + self.duplicate_events, self._read_bytes)

    def _append(self, lines: list[Line]) -> None:
        self.sent_line = lines[-1][0]
        try:
            appended = self._send(lines)
        except (BadRequest, IdConflict, TooLarge) as error:
            if len(lines) == 1:
                raise _at_line(lines[0][0], error) from error
            middle = len(lines) // 2
            self._append(lines[:middle])
            self._append(lines[middle:])
            return
        self.line = lines[-1][0]
        if appended.duplicate:
            self.duplicate_events += len(lines)
        else:
            self.appended_events += len(lines)
            self.position = appended.last
        if self._expected_version is not None and self._stream is not None:
            self._expected_version = appended.versions.get(self._stream, self._expected_version)

    def _send(self, lines: list[Line]) -> Appended:
        expected = None
        if self._expected_version is not None and self._stream is not None:
            expected = {self._stream: self._expected_version}
        return self._client.append_streams(
            [(event.stream, new_event(event)) for _, event in lines], expected=expected
        )


def new_event(event: AppendEvent) -> NewEvent:
    """The event as clients take it."""
    return NewEvent(event.type, event.data, id=event.id, tags=event.tags, metadata=event.metadata)


def _with_id(event: AppendEvent, id: uuid.UUID) -> AppendEvent:
    """The event, with this id if it has none. An append has ids for all its events or for none."""
    return event if event.id is not None else msgspec.structs.replace(event, id=id.bytes)


def _at_line(number: int, error: BadRequest | IdConflict | TooLarge) -> Exception:
    """The error with the number of its line in front, which replaces an index in the append."""
    return type(error)(f"line {number}: {str(error).removeprefix('events[0]: ')}")


def lines_arriving(descriptor: int) -> Iterator[bytes | None]:
    """Lines without their ends; None whenever the next one has to be waited for.

    A line above ``LINE_BYTES_MAX`` comes as its beginning, and is the last.
    """
    pieces: list[bytes] = []
    size = 0
    while True:
        if not select.select([descriptor], [], [], 0)[0]:
            yield None
            # Ctrl-C right in front of a call that blocks is not heard before that call returns.
            while not select.select([descriptor], [], [], WAIT_S)[0]:
                pass
        data = os.read(descriptor, READ_BYTES)
        if not data:
            break
        *lines, rest = data.split(b"\n")
        for line in lines:
            yield b"".join((*pieces, line))
            pieces, size = [], 0
        pieces.append(rest)
        size += len(rest)
        if size > LINE_BYTES_MAX:
            break
    if size:
        yield b"".join(pieces)
