"""The log backend: append-only segments (segments.py), and the store made of them (backend.py)."""
