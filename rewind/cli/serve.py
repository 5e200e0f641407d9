"""``rewind serve``, and ``rewind`` alone: the daemon and its options.

The daemon's options are a table beside ``Settings``, which reads their variables and checks their
values. A daemon's life is in daemon/process.py, which is imported when it begins.
"""

from __future__ import annotations

import os
from typing import Any

import click

from rewind.cli.options import Function
from rewind.daemon.settings import LOG_LEVELS, Settings, option, settings, variable


class Setting(click.Option):
    """An option of the daemon. Its environment variable is settings.py's to read, and ours to show."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        return None

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        default = getattr(Settings(), str(self.name))
        shown = " ".join(default) if isinstance(default, tuple) else str(default)
        if not self.is_flag:
            extra["default"] = shown or "off"
        return extra


_SETTINGS = (
    ("store", "URL|PATH", "Where events are kept: leveldb:, sqlite: or log: and a path, memory:, or a bare path."),
    ("incoming_bind", "EP", "Where clients connect."),
    ("streaming_bind", "EP", "Feed for subscribers of Rewind 0.3."),
    ("topic_bind", "EP", "Feed of all events, by stream."),
    ("gorewind_bind", "EP", "Feed for subscribers of gorewind."),
    ("max_event_bytes", "N", "The largest data an event may have."),
    ("feed_messages", "N", "How far a slow subscriber may lag before it loses messages."),
    ("insecure", None, "Allow binding where other machines can connect; they need no password."),
    ("log_level", "L", f"One of {', '.join(LOG_LEVELS)}."),
)  # fmt: skip


def serve_options(command: Function) -> Function:
    """Every setting of settings.py as an option."""
    for name, metavar, text in reversed(_SETTINGS):
        command = click.option(
            option(name),
            cls=Setting,
            envvar=variable(name),
            show_envvar=True,
            metavar=metavar,
            multiple=name.endswith("_bind"),
            is_flag=name == "insecure",
            default=None,
            help=text,
        )(command)
    return command


@click.command(epilog="Every option that takes EP can be repeated; an empty one turns a feed off.")
@serve_options
@click.pass_context
def serve(context: click.Context, /, **options: Any) -> int:
    """Run the daemon (the same as no command)."""
    return run_daemon({**context.obj, **given(options)})


def given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value not in (None, ())}


def run_daemon(options: dict[str, Any]) -> int:
    chosen = settings(options, os.environ)
    from rewind.daemon import process

    return process.serve(chosen)


COMMANDS = (serve,)
