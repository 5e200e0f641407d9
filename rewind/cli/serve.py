"""``rewind serve``, and ``rewind`` without a command: the daemon's options, and the call that runs it.

Here a setting gets its option and its line of help. Environment variables, defaults and what values
are allowed are in daemon/settings.py, a daemon's life is in daemon/process.py.
"""

from __future__ import annotations

import os
from typing import Any

import click

from rewind import daemon
from rewind.cli.options import Function, Option


class Setting(Option):
    """A setting as an option: the help shows its variable and its default, settings.py reads them."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        return None

    def get_help_extra(self, ctx: click.Context) -> Any:
        extra = super().get_help_extra(ctx)
        default = getattr(daemon.Settings(), str(self.name))
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
    ("log_level", "L", f"One of {', '.join(daemon.LOG_LEVELS)}."),
)  # fmt: skip


def serve_options(command: Function) -> Function:
    """Give a command every setting of the daemon as an option."""
    for name, metavar, text in reversed(_SETTINGS):
        command = click.option(
            daemon.option(name),
            cls=Setting,
            envvar=daemon.variable(name),
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
    return run_daemon({**context.obj, **given_options(options)})


def given_options(options: dict[str, Any]) -> dict[str, Any]:
    """The options that stand on the command line."""
    return {name: value for name, value in options.items() if value not in (None, ())}


def run_daemon(options: dict[str, Any]) -> int:
    """Run a daemon to its end. Returns its exit code. Raises ``BadConfiguration``."""
    return daemon.serve(daemon.settings(options, os.environ))


COMMANDS = (serve,)
