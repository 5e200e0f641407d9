"""Text that others wrote, made harmless: what does not print is shown as an escape.

What a stranger appended must not drive the terminal of the one who looks, nor change what a line
seems to say. So control characters (Cc), format characters (Cf, right-to-left overrides among them),
line separators, lone surrogates and characters that Python's Unicode does not know are all escaped,
in text as Python writes them in a literal, in JSON as JSON does. Everything that a command prints
passes here.
"""

from __future__ import annotations

import json
from collections.abc import Callable


def escape(text: str) -> str:
    """The text, with everything unprintable as Python would write it in a literal."""
    return _escaped(text, lambda character: ascii(character)[1:-1])


def escape_json(text: str) -> str:
    """The same JSON, with everything unprintable as JSON escapes, which only strings can hold."""
    return _escaped(text, lambda character: json.dumps(character)[1:-1])


def _escaped(text: str, form: Callable[[str], str]) -> str:
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else form(character) for character in text)
