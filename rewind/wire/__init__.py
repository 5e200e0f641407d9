"""Frames: requests and replies of the three dialects as values and as bytes, and on and off a socket."""
