"""What a stranger appended is shown, and drives no terminal."""

from __future__ import annotations

import pytest
from hostile import UNPRINTABLE, unprintable

from rewind.cli.escape import escape, escape_json


def test_escape_leaves_what_people_read() -> None:
    assert escape('h\u00e9 \u4f60 \U0001f600 \\ "') == 'h\u00e9 \u4f60 \U0001f600 \\ "'
    assert escape("a\nb\x1b\udcff\u202e") == "a\\nb\\x1b\\udcff\\u202e"


@pytest.mark.parametrize("form", [escape, escape_json])
def test_every_control_and_format_character_is_escaped(form: object) -> None:
    assert len(UNPRINTABLE) > 200
    assert callable(form)
    for character in UNPRINTABLE:
        shown = form(f"a{character}b")
        assert "\n" not in shown and unprintable(shown) == []
        assert shown.startswith("a\\") and shown.endswith("b")
