"""``rewind streams``, ``info`` and ``ping``: what a store says of itself, and whether it answers."""

from __future__ import annotations

import itertools
import sys
import time

import click

from rewind.cli.connection import TIMEOUT_S, client_at, connection_options, endpoint_option
from rewind.cli.format import json_text
from rewind.cli.options import (
    JSON_FORMAT,
    NAME,
    SECONDS,
    count_option,
    example,
    format_option,
    option,
)
from rewind.cli.terminal import emit, encoded, look
from rewind.cli.text import info_text, stream_text


@click.command()
@click.argument("prefix", type=NAME, default="")
@count_option("At most so many.")
@format_option
@connection_options
def streams(prefix: str, limit: int | None, format: str, endpoint: str, timeout: float) -> None:
    """List streams and their versions.

    All of them, or those whose names begin with PREFIX.
    """
    with client_at(endpoint, timeout) as client:
        for name, version in itertools.islice(client.streams(prefix), limit):
            if format == JSON_FORMAT:
                sys.stdout.buffer.write(json_text({"stream": name, "version": version}) + b"\n")
            else:
                sys.stdout.buffer.write(encoded(stream_text(name, version, look())))


@click.command()
@format_option
@connection_options
def info(format: str, endpoint: str, timeout: float) -> None:
    """Print what the daemon says of itself.

    Its release, store, head and durability, where it is bound, and its limits.
    """
    with client_at(endpoint, timeout) as client:
        answer = client.info()
    if format == JSON_FORMAT:
        sys.stdout.buffer.write(json_text(answer) + b"\n")
    else:
        sys.stdout.buffer.write(encoded(info_text(answer, look())))


@click.command(epilog=example("In a script, after starting a daemon:", "rewind ping --wait 30"))
@option("--wait", type=SECONDS, metavar="S", default=TIMEOUT_S, show_default=True,
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
