"""The Python blocks of a page, and what they define: so that tests run the very code that people read."""

from __future__ import annotations

import ast
import re
import textwrap
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"


def blocks(text: str) -> list[str]:
    """The Python blocks of a page."""
    found = re.findall(
        r"^\.\. code-block:: python\n\n((?:(?: {3,}.*)?\n)+)", text + "\n", re.MULTILINE
    )
    return [textwrap.dedent(block) for block in found]


def defined(page: str) -> dict[str, Any]:
    """The imports, constants, classes and functions of a page, by name; nothing else of it has run.

    A function finds there whatever the caller adds to it, the client for example.
    """
    names: dict[str, Any] = {}
    for block in blocks((DOCS / f"{page}.rst").read_text(encoding="utf-8")):
        kept = [statement for statement in ast.parse(block).body if _defines(statement)]
        exec(compile(ast.Module(kept, []), f"{page}.rst", "exec"), names)
    return names


def _defines(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Assign):
        return all(isinstance(name, ast.Name) and name.id.isupper() for name in statement.targets)
    return isinstance(statement, ast.Import | ast.ImportFrom | ast.ClassDef | ast.FunctionDef)
