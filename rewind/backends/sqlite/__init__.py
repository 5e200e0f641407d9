"""SQLite: the store that people can look into (backend.py), and an index of the log (keys.py)."""

from rewind.backends.sqlite.backend import SQLiteBackend

__all__ = ["SQLiteBackend"]
