"""Every way in which Python copies a value, also from process to process."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any


def _pickled(protocol: int, value: Any) -> Any:
    return pickle.loads(pickle.dumps(value, protocol))


COPIES: dict[str, Callable[[Any], Any]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    # Protocols 0 and 1 are of before Python 2.3, and nothing uses them by itself.
    **{
        f"pickle {protocol}": functools.partial(_pickled, protocol)
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1)
    },
}
