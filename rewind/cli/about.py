"""``rewind streams``, ``info`` and ``ping``: what a store says of itself, and whether it answers."""

from __future__ import annotations

import sys
import time

import click

from rewind.cli.connection import TIMEOUT_S, client_at, connection_options, endpoint_option
from rewind.cli.format import escape, info_text, json_text
from rewind.cli.options import SECONDS, TEXT, format_option
from rewind.cli.terminal import emit, encoded


@click.command()
@click.argument("prefix", type=TEXT, default="")
@format_option("text", "jsonl")
@connection_options
def streams(prefix: str, format: str, endpoint: str, timeout: float) -> None:
    """List streams and their versions.

    All of them, or those whose names begin with PREFIX.
    """
    with client_at(endpoint, timeout) as client:
        for name, version in client.streams(prefix):
            if format == "jsonl":
                sys.stdout.buffer.write(json_text({"stream": name, "version": version}) + b"\n")
            else:
                sys.stdout.buffer.write(encoded(f"{version:>8}  {escape(name)}"))


@click.command()
@format_option("text", "json")
@connection_options
def info(format: str, endpoint: str, timeout: float) -> None:
    """Print what the daemon says of itself.

    Its release, store, head and durability, where it is bound, and its limits.
    """
    with client_at(endpoint, timeout) as client:
        answer = client.info()
    if format == "json":
        sys.stdout.buffer.write(json_text(answer) + b"\n")
    else:
        emit(info_text(answer))


@click.command(epilog="In a script, after starting a daemon: rewind ping --wait 30")
@click.option("--wait", type=SECONDS, metavar="S", default=TIMEOUT_S, show_default=True,
               help="Seconds to wait for the first answer.")  # fmt: skip
@endpoint_option
def ping(wait: float, endpoint: str) -> None:
    """Wait until the daemon answers, and say how fast."""
    with client_at(endpoint, wait) as client:
        client.head()  # the first request connects; the second is the one to measure
        began_s = time.perf_counter()
        head = client.head()
        took_ms = (time.perf_counter() - began_s) * 1000
    emit(f"{endpoint} answers in {took_ms:.1f} ms, head {head}")


COMMANDS = (streams, info, ping)
