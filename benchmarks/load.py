"""A load generator's process: ``python -m benchmarks.load LOAD JSON``, started by workloads.py.

It connects, says ``ready``, waits for a line on its standard input, puts the load on the system and
prints the figures as one line of JSON. LOAD is a function of loads.py or its sisters, JSON its arguments.
"""

from __future__ import annotations

import gc
import json
import sys

from benchmarks import delivery_loads, loads, tagged_loads

LOADS = loads.LOADS | tagged_loads.LOADS | delivery_loads.LOADS


def start() -> None:
    """Say that the load is ready, and wait until it may begin."""
    gc.freeze()
    print("ready", flush=True)
    sys.stdin.readline()


def main() -> None:
    """Run one load."""
    load = LOADS[sys.argv[1]]
    print(json.dumps(load(start, **json.loads(sys.argv[2]))), flush=True)


if __name__ == "__main__":
    main()
