"""Python values as JSON, and back: what ``NewEvent.from_json`` and ``Event.json`` do.

What the standard library takes is written as it writes it. Everything else goes through msgspec, which
knows dataclasses, its own structs, attrs, datetimes, UUIDs, Decimals, enums and sets, and reads them
back by their type. NaN and infinity are refused, however deep they are, because JSON has no form for
them and readers do not agree on what stands for them; and so are bytes, which have several.

This file knows no event. Next: events.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from rewind.errors import BadJson, one_line, quoted


def to_json(value: Any, enc_hook: Callable[[Any], Any] | None = None) -> bytes:
    """The value as JSON in UTF-8. ``enc_hook`` turns an object of an unknown kind into a known one.

    Raises ``TypeError`` for what has no form in JSON, and ``BadJson`` for NaN and infinity, for a value
    that contains itself, and for text that is not Unicode. A ``TypeError`` or ``ValueError`` of
    ``enc_hook`` is the cause of one of these; everything else that it raises passes through.
    """
    encode = _encode
    if enc_hook is not None:
        encode = _encoder(lambda part: _plain(part, enc_hook))
    try:
        return encode(value).encode()
    except UnicodeEncodeError as error:
        raise BadJson(
            "value has text with half of a surrogate pair, which UTF-8 cannot say"
        ) from error
    except RecursionError as error:
        raise BadJson("value cannot be JSON: it is nested too deep, or contains itself") from error
    except ValueError as error:
        raise BadJson(f"value cannot be JSON: {one_line(str(error))}") from error
    except TypeError as error:
        raise TypeError(f"value cannot be JSON: {one_line(str(error))}") from error


def _plain(part: Any, enc_hook: Callable[[Any], Any] | None = None) -> Any:
    """A part that the standard library does not know, made of such as it does."""
    if isinstance(part, Decimal):
        if not part.is_finite():
            raise ValueError(f"Decimal values must be finite, unlike {part}")
        return str(part)
    if isinstance(part, bytes | bytearray | memoryview):
        raise TypeError(
            "it has bytes in it, which JSON has no form for: decode or encode them first, as with "
            "base64; or give bytes to NewEvent as they are"
        )
    # A set has another order in each process. A retry of an append has to be equal to it.
    plain = msgspec.to_builtins
    kept = (bytes, bytearray, memoryview, Decimal)  # These come back here, one by one.
    if enc_hook is not None:
        return plain(
            part, builtin_types=kept, str_keys=True, enc_hook=enc_hook, order="deterministic"
        )
    try:
        return plain(part, builtin_types=kept, str_keys=True, order="deterministic")
    except TypeError as error:
        raise TypeError(
            f"it has {quoted(part)} in it, which JSON has no form for ({one_line(str(error))}): give "
            "enc_hook, a function that turns it into what has one"
        ) from error


def _encoder(default: Callable[[Any], Any]) -> Callable[[Any], str]:
    return json.JSONEncoder(
        separators=(",", ":"), ensure_ascii=False, allow_nan=False, default=default
    ).encode


_encode = _encoder(_plain)


def of_json(
    data: bytes, type: Any = None, dec_hook: Callable[[Any, Any], Any] | None = None
) -> Any:
    """What the JSON says; with ``type``, as a value of that type, which may be whatever msgspec decodes
    into, and with ``dec_hook(type, value)`` any other.

    Raises ``BadJson`` when it is not JSON or not of that type; the message goes on after a noun.
    """
    try:
        if type is None:
            return json.loads(data)
        return msgspec.json.decode(data, type=type, dec_hook=dec_hook)
    except msgspec.ValidationError as error:
        raise BadJson(f"is not of the type asked for: {one_line(str(error))}") from error
    except UnicodeDecodeError as error:
        raise BadJson("is not JSON: it is not UTF-8") from error
    except RecursionError as error:
        raise BadJson("is nested too deep") from error
    except ValueError as error:
        why = "it has half of a surrogate pair" if _HALF_A_PAIR.search(data) else str(error)
        raise BadJson(f"is not JSON: {one_line(why)}") from error


# The one escape that the standard library takes and msgspec does not, with a message of its own making.
_HALF_A_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])")
