"""Sphinx for these pages: nothing but the pages."""

from pathlib import Path

_release: dict[str, str] = {}
exec((Path(__file__).parent.parent / "rewind" / "release.py").read_text(encoding="utf-8"), _release)

project = "Rewind"
author = "the authors of Rewind"
copyright = author
version = release = _release["__version__"]

extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"Rewind {release}"
html_show_sourcelink = False
