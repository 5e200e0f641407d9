"""Text that others wrote, made harmless: what does not print is shown as an escape.

What a stranger appended must not drive the terminal of the one who looks, nor change what a line
seems to say. So control characters (Cc), format characters (Cf, right-to-left overrides among them),
line separators, lone surrogates and characters that Python's Unicode does not know are all escaped,
in text as Python writes them in a literal, in JSON as JSON does. Everything that a command prints
passes here.
"""

from __future__ import annotations

import json

from rewind.errors import escape

__all__ = ["escape", "escape_json"]


def escape_json(text: str) -> str:
    """The same JSON, with everything unprintable as JSON escapes, which only strings can hold."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else json.dumps(character)[1:-1] for character in text
    )
