"""The options that client commands share: kinds of values, and options that several commands take.

Click reads them all, with their variables ``REWIND_<COMMAND>_<OPTION>``. The options that say where
the store is are in connection.py, the daemon's in serve.py. Next: read.py, which uses most of them.
Every option of a command is made by ``option``, so that all are refused in the same words.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from rewind.checks import check_seconds
from rewind.cli.items import parse_item
from rewind.errors import BadRequest
from rewind.events import INT_MAX, NO_STREAM, STREAM_EXISTS

Function = TypeVar("Function", bound=Callable[..., Any])

# --- options --------------------------------------------------------------------


#: A context's ``meta`` has the options that a variable has set under this key.
_FROM_VARIABLES = "rewind.from_variables"


class Option(click.Option):
    """An option that is refused in words that lead to the mistake.

    Given twice, it is refused, unless it is there to be repeated: Click would let the last one win.
    A wrong value that comes from a variable is blamed on that variable.
    """

    def add_to_parser(self, parser: Any, ctx: click.Context) -> None:
        if self.multiple or self.is_flag:
            super().add_to_parser(parser, ctx)
        else:
            parser.add_option(obj=self, opts=self.opts, dest=self.name, action="append", nargs=1)

    def consume_value(
        self, ctx: click.Context, opts: Mapping[str, Any]
    ) -> tuple[Any, ParameterSource]:
        given = opts.get(str(self.name))
        if isinstance(given, list) and not self.multiple:
            if len(given) > 1 and not ctx.resilient_parsing:
                raise click.UsageError(
                    f"{self.opts[-1]} is given {len(given)} times and can be given once: {_list(given)}",
                    ctx,
                )
            opts = {**opts, str(self.name): given[-1]}
        value, source = super().consume_value(ctx, opts)
        if source is ParameterSource.ENVIRONMENT:
            # Some releases of Click say where a value is from only after they have converted it.
            ctx.meta.setdefault(_FROM_VARIABLES, set()).add(self)
        return value, source

    def get_error_hint(self, ctx: click.Context | None) -> str:
        if ctx is not None and self in ctx.meta.get(_FROM_VARIABLES, ()):
            return f"the variable {self.variable(ctx)}"
        return " / ".join(f"'{name}'" for name in self.opts)

    def variable(self, ctx: click.Context) -> str:
        """The variable that sets this option."""
        if isinstance(self.envvar, str):
            return self.envvar
        return f"{ctx.auto_envvar_prefix}_{self.name}".upper()


def _list(values: list[str]) -> str:
    return ", ".join(map(repr, values))


def option(*names: str, **settings: Any) -> Callable[[Function], Function]:
    """An option of a command, as ``click.option`` makes one."""
    return click.option(*names, cls=Option, **settings)


def example(text: str, *commands: str) -> str:
    """The end of a command's help: commands that no terminal breaks."""
    lines = "\n".join(f"  {command}" for command in commands)
    return f"\b\n{text}\n{lines}"


# --- values ---------------------------------------------------------------------


if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    ParamType = click.ParamType  # it is generic since Click 8.4 only


class Parsed(ParamType):
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


class _Name(Parsed):
    """A name, or its beginning. Tab offers those of the daemon that ``-e`` leads to.

    ``of``: what is called so, a word of names.py.
    """

    def __init__(self, of: str) -> None:
        super().__init__("text", _text)
        self._of = of

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from rewind.cli.names import offered

        names = offered(ctx.params.get("endpoint") or "", self._of, incomplete)
        return [CompletionItem(name) for name in names]


class _Since(ParamType):
    """A time or an age as nanoseconds since 1970. ``--local`` is read before it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from rewind.cli.times import parse_time

        local = ctx is not None and ctx.meta.get(_LOCAL, False)
        try:
            return parse_time(value, time.time_ns(), None if local else UTC)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_LOCAL = "rewind.local"


def _keep_local(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    ctx.meta[_LOCAL] = value


class _Item(Parsed):
    """An item of a query. A variable has one a line, because an item has spaces in it."""

    def split_envvar_value(self, rv: str) -> list[str]:
        return [line for line in rv.splitlines() if line.strip()]


def _expected_version(value: str) -> int:
    words = {"none": NO_STREAM, "exists": STREAM_EXISTS}
    if value in words:
        return words[value]
    try:
        return _number(value)
    except ValueError as error:
        raise ValueError(f"{error}, nor none or exists") from None


def _metadata(value: str) -> tuple[str, str]:
    key, equals, content = _text(value).partition("=")
    if not key or not equals:
        raise ValueError(f"{value!r}: write KEY=VALUE")
    return key, content


def _advance(value: str) -> tuple[str, int]:
    name, equals, position = _text(value).rpartition("=")
    if not name or not equals:
        raise ValueError(f"{value!r}: write NAME=POSITION")
    return name, _number(position)


def _uuid(value: str) -> uuid.UUID:
    try:
        return uuid.UUID(value)
    except ValueError:
        raise ValueError(f"{value!r} is not a UUID") from None


def _id_or_position(value: str) -> uuid.UUID | int:
    if re.fullmatch("[0-9]{1,19}", value) and 0 < int(value) <= INT_MAX:
        return int(value)
    try:
        return uuid.UUID(value)
    except ValueError:
        raise ValueError(f"{value!r} is neither the id nor the position of an event") from None


NOW = "now"


def _place(value: str) -> int | str:
    """A position, or now."""
    if value == NOW:
        return NOW
    try:
        return _number(value)
    except ValueError as error:
        raise ValueError(f"{error}, nor {NOW}") from None


TEXT = Parsed("text", _text)
STREAM, TYPE, TAG = _Name("streams"), _Name("types"), _Name("tags")
CATEGORY, CURSOR = _Name("categories"), _Name("cursors")
ITEM = _Item("item", lambda value: parse_item(_text(value)))
PLACE = Parsed("position", _place)
SECONDS = Parsed("seconds", _seconds)
SINCE = _Since()
EXPECTED = Parsed("version", _expected_version)
METADATA = Parsed("metadata", _metadata)
ADVANCE = Parsed("cursor", _advance)
ID_OR_POSITION = Parsed("id", _id_or_position)
UUID = Parsed("uuid", _uuid)
NUMBER = Parsed("number", _number)


# --- shared by commands ----------------------------------------------------------


def filter_options(command: Function) -> Function:
    """Give a command the options that say which events."""
    for decorate in reversed(
        (
            option("-s", "--stream", type=STREAM, metavar="S", help="Only this stream."),
            option("--prefix", type=STREAM, default="", metavar="P", help="Only streams beginning so."),
            option("--category", type=CATEGORY, multiple=True, metavar="C",
                   help="Only streams named C or C-...; repeat for any of several."),
            option("--type", type=TYPE, multiple=True, metavar="T",
                   help="Only this type; repeat for any of several."),
            option("--tag", type=TAG, multiple=True, metavar="T",
                   help="Only with this tag; repeat for all of several."),
            option("--query", type=ITEM, multiple=True, metavar="ITEM",
                   help="Instead of these: 'type=A type=B tag=x', with the keys type, tag, category and "
                        "stream; repeat for any of several."),
            option("--since", type=SINCE, metavar="TIME|AGE",
                   help="Only recorded since: 2025-11-23T10:00:00Z, '2025-11-23 10:00', 2025-11-23, "
                        "today, yesterday; or 10m, 1h30m ago (s m h d w)."),
            option("--local", is_flag=True, is_eager=True, expose_value=False, callback=_keep_local,
                   help="A time without a zone is local, not UTC."),
        )
    ):  # fmt: skip
        command = decorate(command)
    return command


class FilterCommand(click.Command):
    """A command with those options, for which ``rewind read STREAM`` is a likely slip."""

    allow_extra_args = True  # Here they are refused, with what to write.

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        if rest and not ctx.resilient_parsing:
            raise click.UsageError(
                f"unexpected argument {rest[0]!r}: a stream is given with --stream", ctx
            )
        return rest


def count_option(text: str) -> Callable[[Function], Function]:
    """The option that says how many; ``text`` is its line of help."""
    return option("-n", "--limit", type=NUMBER, metavar="N", help=text)


TEXT_FORMAT, JSON_FORMAT = "text", "jsonl"


def format_option(command: Function) -> Function:
    """Give a command the option that chooses for whom it prints: ``TEXT_FORMAT`` or ``JSON_FORMAT``.

    ``json`` and ``jsonl`` are one, so that nobody has to know which command prints one line.
    """
    return option(
        "--format",
        type=click.Choice((TEXT_FORMAT, JSON_FORMAT, "json")),
        callback=lambda ctx, param, value: JSON_FORMAT if value == "json" else value,
        default=TEXT_FORMAT,
        show_default=True,
        help="For people, or for programs.",
    )(command)


def decode_option(command: Function) -> Function:
    """Give a command the option that adds data as the JSON value it is."""
    return option(
        "--decode",
        is_flag=True,
        help="With --format jsonl: add data_json, the data as a value, where content_type is JSON.",
    )(command)


def refuse_decoded_text(decode: bool, format: str) -> None:
    """Raise a usage error for ``--decode`` with a format that has no place for it."""
    if decode and format != JSON_FORMAT:
        raise click.UsageError("--decode goes with --format jsonl")
