"""``python -m rewind`` is ``rewind``."""

from rewind.cli import main

main()
