"""The daemon: its settings, its sockets and the turn, the peers it answers, the feeds it publishes.

process.py is a daemon's life from start to exit code; server.py serves.
"""
