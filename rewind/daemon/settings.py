"""The daemon's settings, validated once, each knowing where it came from.

An option beats its environment variable, which beats the default. Nothing here opens anything; the
system is asked where the names of hosts lead, so that what was looked at is what is bound.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rewind.checks import EVENT_BYTES_MAX
from rewind.endpoints import check_bind, resolve
from rewind.errors import BadConfiguration, CannotBind, Unavailable
from rewind.wire.native import REQUEST_BYTES_MAX

DEFAULT_INCOMING = "tcp://127.0.0.1:9090"
DEFAULT_STREAMING = "tcp://127.0.0.1:9091"
DEFAULT_TOPIC = "tcp://127.0.0.1:9092"
DEFAULT_STORE = "rewind-data"
FEED_MESSAGES_MAX = 100_000  # a slow subscriber that lags more loses messages

LOG_LEVELS = ("debug", "info", "warning", "error")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a daemon runs with. Binds are lists of ZeroMQ endpoints; an empty one disables a feed."""

    store: str = DEFAULT_STORE
    incoming_bind: tuple[str, ...] = (DEFAULT_INCOMING,)
    streaming_bind: tuple[str, ...] = (DEFAULT_STREAMING,)
    topic_bind: tuple[str, ...] = (DEFAULT_TOPIC,)
    gorewind_bind: tuple[str, ...] = ()
    max_event_bytes: int = EVENT_BYTES_MAX
    feed_messages: int = FEED_MESSAGES_MAX
    insecure: bool = False
    log_level: str = "info"

    @property
    def logging_level(self) -> int:
        """The level for the logging module."""
        return int(getattr(logging, self.log_level.upper()))


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return f"REWIND_{name.upper()}"


def option(name: str) -> str:
    """The command-line option of a setting."""
    return "--" + name.replace("_", "-")


def settings(options: Mapping[str, Any], environ: Mapping[str, str]) -> Settings:
    """Settings from options (absent or None: not given) and environment variables.

    A bind whose host is a name holds its address in the result. Raises ``BadConfiguration``, naming
    the setting and where its value came from, and ``CannotBind`` for a name without an address.
    """
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for name in Settings.__struct_fields__:
        value = options.get(name)
        if value is not None and value != ():
            sources[name], values[name] = option(name), _parse(name, value, option(name))
        elif variable(name) in environ:
            text = environ[variable(name)]
            sources[name] = variable(name)
            values[name] = _parse(name, text, variable(name))
    return _judged(Settings(**values), sources)


def _parse(name: str, value: Any, source: str) -> Any:
    if name.endswith("_bind"):
        parts: Sequence[str] = value.split() if isinstance(value, str) else value
        return tuple(part for part in parts if part)
    if name in ("max_event_bytes", "feed_messages"):
        most = REQUEST_BYTES_MAX if name == "max_event_bytes" else 2**31 - 1
        return _integer(value, most, source)
    if name == "insecure":
        return value if isinstance(value, bool) else _boolean(value, source)
    if name == "log_level" and value not in LOG_LEVELS:
        raise BadConfiguration(f"{source}={value}: choose one of {', '.join(LOG_LEVELS)}")
    if not value:
        raise BadConfiguration(f"{source} is empty: give a value or leave it out")
    return value


def _integer(value: Any, most: int, source: str) -> int:
    try:
        number = int(value)
    except ValueError as error:
        raise BadConfiguration(f"{source}={value}: not a whole number") from error
    if not 1 <= number <= most:
        raise BadConfiguration(f"{source}={number}: 1 to {most} is allowed")
    return number


def _boolean(text: str, source: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise BadConfiguration(f"{source}={text}: write 1 or 0")


def _judged(result: Settings, sources: Mapping[str, str]) -> Settings:
    """The settings with what is really to be bound: an address for each name, and it was looked at."""
    binds = {}
    for name in ("incoming_bind", "streaming_bind", "topic_bind", "gorewind_bind"):
        source = sources.get(name, option(name))
        binds[name] = tuple(
            _judge(endpoint, source, result.insecure) for endpoint in getattr(result, name)
        )
    if not result.incoming_bind:
        source = sources.get("incoming_bind", option("incoming_bind"))
        raise BadConfiguration(f"{source} is empty: without it nobody can reach the daemon")
    return msgspec.structs.replace(result, **binds)


def _judge(text: str, source: str, insecure: bool) -> str:
    """The endpoint to bind for what a setting holds, if it may be bound.

    Of several addresses of a name the first of IPv4 is taken, since every ZeroMQ client can connect
    to it, and of IPv6 only where there is no other.
    """
    endpoint = check_bind(text, source)
    try:
        found = resolve(endpoint)
    except Unavailable as error:
        raise CannotBind(f"cannot bind {source}={text}: {error}") from error
    address = min(found, key=lambda one: one.host.startswith("["))
    if insecure or (address.loopback and not address.is_abstract):
        return address.text
    if address.is_abstract:
        raise BadConfiguration(
            f"{source}={text} has no file, so every user of this machine could read and write: write "
            "ipc://PATH, or add --insecure if all of them are trusted"
        )
    leads = "" if address == endpoint else f" leads to {address.host}, which"
    raise BadConfiguration(
        f"{source}={text}{leads} can be reached from other machines, and anyone there could "
        "read and write: bind to 127.0.0.1, or add --insecure if the network is trusted"
    )
