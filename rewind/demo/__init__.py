"""A week of real flights: ``rewind demo``, its projection, and a load to measure a machine with.

``main`` is the demo; story.py has the order of things. flights.py makes rows into events (with
zones.py), punctuality.py is the projection and projection.py its process, figures.py what the
projection counts, screen.py the table, questions.py what one can ask afterwards. load.py runs the same
events through a daemon as fast as it goes. docs/tutorial.rst builds the like step by step.
"""

from rewind.demo.story import main

__all__ = ["main"]
