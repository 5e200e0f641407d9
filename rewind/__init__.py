"""Rewind: an event store that talks ZeroMQ.

``connect(endpoint)`` reaches a daemon, ``open(url)`` a store in this process; both give a
``Client``. ``connect_async`` and ``open_async`` give an ``AsyncClient``. See docs/python.rst.
"""

from typing import TYPE_CHECKING, Any

from rewind.errors import (
    BadConfiguration,
    BadJson,
    BadRequest,
    CannotBind,
    ClientError,
    Closed,
    ConcurrencyConflict,
    ConditionFailed,
    ConditionTooWide,
    CursorMoved,
    Forbidden,
    IdConflict,
    Internal,
    Overloaded,
    RequestError,
    RewindError,
    ShuttingDown,
    StorageFull,
    StoreChanged,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForeign,
    StoreLocked,
    StoreNotCreated,
    StoreNotPermitted,
    TooLarge,
    Unavailable,
    UnknownCommand,
    UnknownEvent,
    WrongExpectedVersion,
    WrongKind,
)
from rewind.events import ANY, NO_STREAM, NOW, STREAM_EXISTS, Advance, Appended, Event, NewEvent
from rewind.query import AppendCondition, Query, QueryItem
from rewind.release import __version__

if TYPE_CHECKING:
    from rewind.client.async_subscription import AsyncSubscription
    from rewind.client.asynchronous import AsyncClient, connect_async, open_async
    from rewind.client.blocking import Client, connect, open
    from rewind.client.names import CursorInfo
    from rewind.client.reading import AsyncEvents, Events
    from rewind.client.requests import Info
    from rewind.client.subscription import Subscription

__all__ = [
    "ANY",
    "NOW",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Advance",
    "AppendCondition",
    "Appended",
    "AsyncClient",
    "AsyncEvents",
    "AsyncSubscription",
    "BadConfiguration",
    "BadJson",
    "BadRequest",
    "CannotBind",
    "Client",
    "ClientError",
    "Closed",
    "ConcurrencyConflict",
    "ConditionFailed",
    "ConditionTooWide",
    "CursorInfo",
    "CursorMoved",
    "Event",
    "Events",
    "Forbidden",
    "IdConflict",
    "Info",
    "Internal",
    "NewEvent",
    "Overloaded",
    "Query",
    "QueryItem",
    "RequestError",
    "RewindError",
    "ShuttingDown",
    "StorageFull",
    "StoreChanged",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreForeign",
    "StoreLocked",
    "StoreNotCreated",
    "StoreNotPermitted",
    "Subscription",
    "TooLarge",
    "Unavailable",
    "UnknownCommand",
    "UnknownEvent",
    "WrongExpectedVersion",
    "WrongKind",
    "__version__",
    "connect",
    "connect_async",
    "open",
    "open_async",
]

# Each of these names is imported when it is first used, so that ``import rewind`` costs little.
_MODULES = {
    "connect": "rewind.client.blocking",
    "open": "rewind.client.blocking",
    "Client": "rewind.client.blocking",
    "Subscription": "rewind.client.subscription",
    "Events": "rewind.client.reading",
    "connect_async": "rewind.client.asynchronous",
    "open_async": "rewind.client.asynchronous",
    "AsyncClient": "rewind.client.asynchronous",
    "AsyncSubscription": "rewind.client.async_subscription",
    "AsyncEvents": "rewind.client.reading",
    "CursorInfo": "rewind.client.names",
    "Info": "rewind.client.requests",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'rewind' has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
