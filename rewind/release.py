"""The release, in one place."""

__version__ = "1.2.0"
PROTOCOL = 1
"""Version of the native wire protocol."""
