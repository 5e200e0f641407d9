"""The options that client commands share: kinds of values, and options that several commands take.

Click reads them all, with their variables ``REWIND_<COMMAND>_<OPTION>``. The options that say where
the store is are in connection.py, the daemon's in serve.py. Next: read.py, which uses most of them.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable
from typing import Any, TypeVar

import click

from rewind.checks import check_seconds
from rewind.errors import BadRequest
from rewind.events import INT_MAX, NO_STREAM, STREAM_EXISTS

Function = TypeVar("Function", bound=Callable[..., Any])

# --- values ---------------------------------------------------------------------


class Parsed(click.ParamType[Any]):
    """A kind of value: ``parse`` makes one of a text, or raises ``ValueError`` or ``BadRequest``."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except (ValueError, BadRequest) as error:
            self.fail(str(error), param, ctx)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{value!r} is not UTF-8") from None
    return value


def _seconds(value: str) -> float:
    with contextlib.suppress(ValueError, BadRequest):
        seconds = check_seconds(float(value), "the time to wait")
        if seconds > 0:  # Nothing is answered in no time.
            return seconds
    raise ValueError(f"{value!r} is not a time to wait: give more than 0 seconds, or inf")


def _number(value: str) -> int:
    if not re.fullmatch("[0-9]{1,19}", value) or int(value) > INT_MAX:
        raise ValueError(f"{value!r} is not a number from 0 to {INT_MAX}")
    return int(value)


def _since(value: str) -> int:
    from rewind.cli.format import parse_time

    return parse_time(value, time.time_ns())


def _expected_version(value: str) -> int:
    words = {"none": NO_STREAM, "exists": STREAM_EXISTS}
    if value in words:
        return words[value]
    return _number(value)


def _metadata(value: str) -> tuple[str, str]:
    key, equals, content = _text(value).partition("=")
    if not key or not equals:
        raise ValueError(f"{value!r}: write KEY=VALUE")
    return key, content


def _id_or_position(value: str) -> uuid.UUID | int:
    if re.fullmatch("[0-9]{1,19}", value) and 0 < int(value) <= INT_MAX:
        return int(value)
    try:
        return uuid.UUID(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither the id nor the position of an event") from None


TEXT = Parsed("text", _text)
SECONDS = Parsed("seconds", _seconds)
SINCE = Parsed("time", _since)
EXPECTED = Parsed("version", _expected_version)
METADATA = Parsed("metadata", _metadata)
ID_OR_POSITION = Parsed("id", _id_or_position)
UUID = Parsed("uuid", lambda value: uuid.UUID(value))
NUMBER = Parsed("number", _number)


# --- shared by commands ----------------------------------------------------------


def filter_options(command: Function) -> Function:
    """Give a command the options that say which events."""
    for decorate in reversed(
        (
            click.option("-s", "--stream", type=TEXT, metavar="S", help="Only this stream."),
            click.option(
                "--prefix", type=TEXT, default="", metavar="P", help="Only streams beginning so."
            ),
            click.option("--type", type=TEXT, multiple=True, metavar="T",
                          help="Only this type; repeat for any of several."),
            click.option("--tag", type=TEXT, multiple=True, metavar="T",
                          help="Only with this tag; repeat for all of several."),
            click.option("--since", type=SINCE, metavar="TIME|AGE",
                          help="Only recorded since: 2025-11-23T10:00:00Z, or 10m ago (s m h d w)."),
        )
    ):  # fmt: skip
        command = decorate(command)
    return command


def count_option(text: str) -> Callable[[Function], Function]:
    """The option that says how many events; ``text`` is its line of help."""
    return click.option("-n", "--limit", type=NUMBER, metavar="N", help=text)


def format_option(*formats: str) -> Callable[[Function], Function]:
    """The option that chooses one of these formats; the first is the default."""
    return click.option(
        "--format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="For people, or for programs.",
    )
