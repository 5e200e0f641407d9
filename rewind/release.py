"""The release, in one place."""

__version__ = "1.1.0"
PROTOCOL = 1
"""Version of the native wire protocol."""
