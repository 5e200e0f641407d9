"""The log backend: append-only segments (segments.py), and the store made of them (backend.py)."""

from rewind.backends.log.backend import LogBackend

__all__ = ["LogBackend"]
