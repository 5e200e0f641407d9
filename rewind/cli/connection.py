"""From ``-e`` to a client: the options that say where the store is, and the client they lead to.

An endpoint leads to a daemon. A URL or a path is a store that is opened in this process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import rewind
from rewind.cli.options import SECONDS, Function, option
from rewind.daemon import DEFAULT_INCOMING
from rewind.errors import BadConfiguration, StoreForeign

TIMEOUT_S = 5  # a daemon answers in milliseconds; one that restarts is mostly back by then


def connection_options(command: Function) -> Function:
    """Give a command the options that say where the store is, and how long to wait for it."""
    return endpoint_option(
        option(
            "--timeout",
            envvar="REWIND_TIMEOUT",
            show_envvar=True,
            type=SECONDS,
            metavar="S",
            default=TIMEOUT_S,
            show_default=True,
            help="Seconds to wait for an answer.",
        )(command)
    )


def endpoint_option(command: Function) -> Function:
    """Give a command the option that says where the store is."""
    return option(
        "-e",
        "--endpoint",
        envvar="REWIND_ENDPOINT",
        show_envvar=True,
        type=str,  # A path need not be UTF-8.
        metavar="EP|STORE",
        default=DEFAULT_INCOMING,
        show_default=True,
        help="A daemon, or a store no daemon has open (URL or path).",
    )(command)


@contextlib.contextmanager
def client_at(
    where: str, timeout: float, writes: bool = False, creates: bool | None = None
) -> Iterator[rewind.Client]:
    """A client of the daemon at an endpoint, or of a store opened in this process.

    A command that does not ``write`` opens a store read-only. ``creates``: whether one is asked to make
    a store where none is, which it does unasked where a URL names the kind of it; None for a command
    that never does. Raises what says why there is no client: ``BadConfiguration``, ``StoreForeign`` or
    another ``StoreError``.
    """
    import logging

    from rewind.backends import is_store_url

    logging.basicConfig(level=logging.WARNING, format="rewind: %(message)s")
    if "://" in where and not is_store_url(where):
        client = rewind.connect(where, timeout=timeout)
    else:
        check_store(where, creates)
        client = rewind.open(where, read_only=not writes)
    try:
        yield client
    finally:
        client.close()


def check_store(url: str, creates: bool | None) -> None:
    """Raise before a mistyped endpoint or path would become a new store. ``creates``: as above."""
    from rewind.backends import is_store_url
    from rewind.backends.directory import scheme_of
    from rewind.endpoints import without_transport

    if without_transport(url):
        raise BadConfiguration(f"{url}: write tcp://{url} for a daemon, ./{url} for a path")
    path = url.partition(":")[2] if is_store_url(url) else url
    named = path != url
    if creates or (creates is not None and named) or not path or (":" in path and not named):
        return
    if scheme_of(Path(path)) is None:
        way = "misspelt? `rewind serve` and `rewind append --create` create one"
        if creates is not None:
            way = f"misspelt? To create one there, add --create, or write its kind: sqlite:{path}"
        raise StoreForeign(f"{path} holds no store: {way}")
