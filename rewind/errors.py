"""Every error Rewind knows, what it is called on the wire, and whether to retry.

Three families, told apart by whose fault they are:

* ``RequestError``: the fault of the caller, or a state of the daemon that will pass. It travels
  in a reply as a map of ``code``, ``message``, ``retryable`` and what the code promises.
* ``StoreError``: the store cannot be opened or has stopped working. It carries the exit code of
  a daemon that meets it.
* ``ClientError``: a client found it out by itself.

This module imports nothing of Rewind. Next: events.py.
"""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

QUOTED_CHARS_MAX = 80  # a message that quotes what it refuses is still read at a glance
MESSAGE_CHARS_MAX = 400  # another program's message fits, and 16 MB that it echoes do not


def quoted(value: object, most: int = QUOTED_CHARS_MAX) -> str:
    """A value as a message quotes it: on one line, at most so many characters of it.

    Texts, bytes and numbers are as Python writes them, so whatever does not print is escaped;
    anything else is named by its kind, because its own form may be of any length.
    """
    if isinstance(value, str | bytes | bytearray):
        size = len(value)
        shown = repr(value[:most])
        if size <= most and len(shown) <= most:
            return shown
        unit = "characters" if isinstance(value, str) else "bytes"
        return f"{shown[:most]}... ({size} {unit})"
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, int):
        bits = value.bit_length()
        return int.__repr__(value) if bits <= 128 else f"an integer of {bits} bits"
    return f"a value of type {one_line(type(value).__name__, most)}"


def one_line(text: str, most: int = MESSAGE_CHARS_MAX) -> str:
    """A text of unknown origin as part of a message: one line, at most so many of its characters."""
    shown = escape(text[:most])
    return shown if len(text) <= most and len(shown) <= most else shown[:most] + "..."


def escape(text: str) -> str:
    """The text, with everything that does not print as Python would write it in a literal.

    That is control and format characters, line separators, lone surrogates, and characters that
    Python's Unicode does not know.
    """
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else ascii(character)[1:-1] for character in text
    )


class RewindError(Exception):
    """Base of every error Rewind raises on purpose."""

    #: Exit code of a command line that ends with this error.
    exit_code: ClassVar[int] = 1

    def __reduce__(self) -> tuple[Any, ...]:
        # An exception is copied by calling its class with its message, unless it says otherwise;
        # not every class here takes a message. A process pool hangs on what it cannot unpickle.
        return _again, (type(self), self.args), self.__dict__


def _again(kind: type[RewindError], args: tuple[Any, ...]) -> RewindError:
    """An error with this message, without its ``__init__``; its attributes are set afterwards."""
    return kind.__new__(kind, *args)


# --- errors that are kept -----------------------------------------------------
#
# A traceback keeps every frame that the error passed, with all that is in it: a request, a batch, and
# often whatever keeps the error, which is a cycle. So an error that becomes a value loses its
# traceback, and what is raised later is a copy.

AnyError = TypeVar("AnyError", bound=Exception)


def without_traceback(error: AnyError) -> AnyError:
    """The error itself, as a value that may be kept: it keeps nothing else alive."""
    error.__cause__ = error.__context__ = error.__traceback__ = None
    return error


def fresh(kept: AnyError) -> AnyError:
    """A copy to raise of an error that is kept, with its cause.

    Raising the kept one adds a traceback to it, each time another.
    """
    kind = type(kept)
    error = kind.__new__(kind, *kept.args)
    error.__dict__.update(kept.__dict__)
    error.__cause__ = kept.__cause__
    return error


# --- refused requests ---------------------------------------------------------


class RequestError(RewindError):
    """A request was refused; nothing of it was stored."""

    #: The word on the wire.
    code: ClassVar[str] = "internal"
    #: True when the same bytes may succeed later.
    retryable: ClassVar[bool] = False
    #: The store that refused it, 16 bytes; None if its daemon does not say that, as earlier ones.
    store_id: bytes | None = None

    def details(self) -> dict[str, Any]:
        """What the code promises besides its message, ready for the wire."""
        return {}


class BadRequest(RequestError):
    """The request is malformed; the message names the part."""

    code = "bad_request"


class WrongKind(BadRequest, TypeError):
    """An argument is of a wrong kind: a text for a list, a text for a number. The message names it and
    says what to write; nothing was sent."""


class UnknownCommand(RequestError):
    """No such command."""

    code = "unknown_command"


class TooLarge(RequestError):
    """An event, a request or a limit asked for is above its bound."""

    code = "too_large"


class ConcurrencyConflict(RequestError):
    """Something has happened since the decision was made: read again, and decide again."""


class WrongExpectedVersion(ConcurrencyConflict):
    """A stream was not at the version the append expected.

    ``expected``: the version asked for, -1 for "exists". ``actual``: the stream's
    version before the append, 0 when there is no such stream.
    """

    code = "wrong_expected_version"

    def __init__(self, stream: str, expected: int, actual: int) -> None:
        name = quoted(stream)
        wish = {-1: "it to exist", 0: "none"}.get(expected, f"version {expected}")
        if actual == 0:
            found = f"there is no stream {name} yet"
        elif expected == 0:
            found = f"there is a stream {name} already, at version {actual}"
        else:
            found = f"stream {name} is at version {actual}"
        super().__init__(f"{found}: the append expected {wish}")
        self.stream = stream
        self.expected = expected
        self.actual = actual

    def details(self) -> dict[str, Any]:
        return {"stream": self.stream, "expected": self.expected, "actual": self.actual}


class ConditionFailed(ConcurrencyConflict):
    """An event matches a condition of the append, after the position that it was decided at.

    ``condition``: which of the append's conditions, from 0. ``position``: of the first such event.
    """

    code = "condition_failed"

    def __init__(self, condition: int, position: int) -> None:
        super().__init__(
            f"conditions[{condition}] failed: the event at position {position} matches, which is after "
            "the position of the decision"
        )
        self.condition = condition
        self.position = position

    def details(self) -> dict[str, Any]:
        return {"condition": self.condition, "position": self.position}


class CursorMoved(ConcurrencyConflict):
    """A cursor is not where the append takes it to be, or would go back.

    ``expected``: where it was expected to be; None if the append did not say. ``actual``: where it is,
    0 when there is no such cursor.
    """

    code = "cursor_moved"

    def __init__(self, cursor: str, expected: int | None, actual: int, message: str = "") -> None:
        found = f"cursor {quoted(cursor)} is at {actual}"
        wish = "" if expected is None else f": it was expected at {expected}"
        super().__init__(message or found + wish)
        self.cursor = cursor
        self.expected = expected
        self.actual = actual

    def details(self) -> dict[str, Any]:
        return {"cursor": self.cursor, "expected": self.expected, "actual": self.actual}


class ConditionTooWide(RequestError):
    """More would have to be looked at, to decide a condition, than one append may.

    ``condition``: which of the append's conditions, from 0. ``examined``: a position; no event up to
    there matches, so the same append with ``after`` there goes on. Clients do that by themselves.
    """

    code = "condition_too_wide"

    def __init__(self, condition: int, examined: int) -> None:
        super().__init__(
            f"conditions[{condition}] looks at too much at once: nothing matches up to position "
            f"{examined}; ask again with after: {examined}"
        )
        self.condition = condition
        self.examined = examined

    def details(self) -> dict[str, Any]:
        return {"condition": self.condition, "examined": self.examined}


class IdConflict(RequestError):
    """An id is known already, with other content or in another append."""

    code = "id_conflict"


class WrongStore(RequestError):
    """The request is meant for another store. Clients raise it as ``StoreChanged``."""

    code = "wrong_store"


class UnknownEvent(RequestError):
    """No event has this id."""

    code = "unknown_event"


class StorageFull(RequestError):
    """Too little free space; reads go on, appends resume when there is room."""

    code = "storage_full"
    retryable = True


class Overloaded(RequestError):
    """A bounded queue is full; try again."""

    code = "overloaded"
    retryable = True


class Forbidden(RequestError):
    """This client may not do that."""

    code = "forbidden"
    exit_code = 77


class ShuttingDown(RequestError):
    """The daemon is stopping and did not do this."""

    code = "shutting_down"
    retryable = True


class Internal(RequestError):
    """The daemon failed at this request; its log says how."""

    code = "internal"
    exit_code = 70


#: Wire code -> error class, for clients that turn a reply back into an exception.
REQUEST_ERRORS: dict[str, type[RequestError]] = {
    error.code: error
    for error in (
        BadRequest,
        UnknownCommand,
        TooLarge,
        WrongExpectedVersion,
        ConditionFailed,
        CursorMoved,
        ConditionTooWide,
        IdConflict,
        WrongStore,
        UnknownEvent,
        StorageFull,
        Overloaded,
        Forbidden,
        ShuttingDown,
        Internal,
    )
}


# --- the store and the start --------------------------------------------------


class StoreError(RewindError):
    """The store cannot be opened, or may not be used any longer."""

    exit_code = 74


class StoreFailed(StoreError):
    """The system failed a write, a sync or a read. After a failed write the process must end."""

    exit_code = 74


class StoreDamaged(StoreError):
    """Stored bytes are not what was written; the message says where."""

    exit_code = 65


class StoreForeign(StoreError):
    """The path holds something else: another scheme, a newer format, no store at all."""

    exit_code = 65


class StoreLocked(StoreError):
    """Another process has the store open; the message names it."""

    exit_code = 75


class StoreNotCreated(StoreError):
    """The store's directory or files cannot be created."""

    exit_code = 73


class StoreNotPermitted(StoreError):
    """The operating system denies access to the store."""

    exit_code = 77


class BadConfiguration(RewindError):
    """A setting is wrong; the message says which, from where, and what to write instead."""

    exit_code = 78


class CannotBind(RewindError):
    """An endpoint could not be bound."""

    exit_code = 71


class BindNotPermitted(CannotBind):
    """The operating system denies binding an endpoint."""

    exit_code = 77


class Behind(RewindError):
    """A commit was planned on another head or commit number than the backend's; plan again.

    ``head``: the backend's head, a position. ``number``: of its last commit.
    """

    def __init__(self, head: int, number: int) -> None:
        super().__init__(f"the store's head is {head}, and its last commit has the number {number}")
        self.head = head
        self.number = number


# --- clients ------------------------------------------------------------------


class ClientError(RewindError):
    """Base of the errors that a client finds out by itself."""


class Unavailable(ClientError):
    """No answer within the time-out, retries included, or one that cannot be understood.

    ``append_id``: 16 bytes when the call was an append, else None. The append may or may
    not have been stored; sending it again with this id is safe.
    """

    exit_code = 69

    def __init__(self, message: str, append_id: bytes | None = None) -> None:
        super().__init__(message)
        self.append_id = append_id


class StoreChanged(ClientError):
    """Another store, or an older copy, is behind the endpoint than the one this is about.

    That is the store of the ``store_id`` that was given, or the first that answered this read,
    subscription or repeated call.
    """

    exit_code = 65


class BadJson(ClientError, ValueError):
    """An event's data is not JSON, or not of the type that was asked for; the message names the event.
    Or a value has no form in JSON, as NaN."""


class Closed(ClientError):
    """The client or the subscription was closed."""
