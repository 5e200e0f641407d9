"""``python -m rewind`` is the same as ``rewind``."""

from rewind.cli import main

main()
