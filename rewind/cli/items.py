"""``--query``: an item of a query as it is written in a shell.

An item is words ``key=value``, split as a shell splits a line, each at its first ``=``::

    type=OrderPlaced type=OrderPaid tag="two words"

The keys are ``type`` (any of them), ``tag`` (all of them), ``category`` and ``stream`` (any of them). Nothing
here knows Click. What an item means is in rewind/query.py.
"""

from __future__ import annotations

import shlex

from rewind.query import QueryItem

FORM = "write key=value words, as 'type=A type=B tag=\"two words\"'"

# Key -> the field of an item, and whether its value may be empty.
_KEYS = {
    "type": ("types", True),
    "tag": ("tags", False),
    "category": ("categories", False),
    "stream": ("streams", False),
}


def parse_item(text: str) -> QueryItem:
    """The item that a text says. Raises ``ValueError``, which names the word that is wrong."""
    names: dict[str, list[str]] = {}
    for word in _words(text):
        key, equals, value = word.partition("=")
        if not equals:
            raise ValueError(f"{word!r} is no key=value: {FORM}")
        if key not in _KEYS:
            raise ValueError(f"{key!r} in {word!r} is no key: there are {', '.join(_KEYS)}")
        field, may_be_empty = _KEYS[key]
        if not value and not may_be_empty:
            raise ValueError(f"{word!r} has no value: no {key} is empty")
        names.setdefault(field, []).append(value)
    if not names:
        raise ValueError(f"the item is empty: {FORM}")
    return QueryItem(**names)


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        what = (
            "a quotation mark is not closed" if "quot" in str(error) else "it ends with a backslash"
        )
        raise ValueError(f"{text!r}: {what}") from error
