"""``rewind streams``, ``types``, ``tags`` and ``categories``, ``info`` and ``ping``: what a store says of
itself, and whether it answers.
"""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

import click

from rewind.cli.connection import TIMEOUT_S, client_at, connection_options, endpoint_option
from rewind.cli.format import json_text
from rewind.cli.options import (
    CATEGORY,
    JSON_FORMAT,
    SECONDS,
    STREAM,
    TAG,
    TYPE,
    count_option,
    example,
    format_option,
    option,
)
from rewind.cli.terminal import emit, encoded, look
from rewind.cli.text import info_text, name_text


def _list_of(names: str, number: str, key: str, kind: Any, number_key: str) -> click.Command:
    """The command that lists names of a kind, as ``rewind.Client`` calls them, with their numbers.

    ``number`` is what the help calls the number; ``key`` and ``number_key`` name both in JSON.
    """

    @click.command(
        names,
        help=f"List {names} and their {number}.\n\nAll of them, or those that begin with PREFIX.",
    )
    @click.argument("prefix", type=kind, default="")
    @count_option("At most so many.")
    @format_option
    @connection_options
    def list_names(
        prefix: str, limit: int | None, format: str, endpoint: str, timeout: float
    ) -> None:
        with client_at(endpoint, timeout) as client:
            for name, value in itertools.islice(getattr(client, names)(prefix), limit):
                if format == JSON_FORMAT:
                    sys.stdout.buffer.write(json_text({key: name, number_key: value}) + b"\n")
                else:
                    sys.stdout.buffer.write(encoded(name_text(name, value, look())))

    return list_names


LISTS = (
    _list_of("streams", "versions", "stream", STREAM, "version"),
    _list_of("types", "last positions", "type", TYPE, "last_position"),
    _list_of("tags", "last positions", "tag", TAG, "last_position"),
    _list_of("categories", "last positions", "category", CATEGORY, "last_position"),
)


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


COMMANDS = (*LISTS, info, ping)
