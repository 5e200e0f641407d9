"""What tests need to meet a real daemon: ``Daemon`` starts one, on free ports, for a ``with`` block.

    with Daemon("memory:") as daemon, rewind.connect(daemon.endpoint) as client:
        client.append("order-1", rewind.NewEvent("OrderPlaced"))

Rewind's own tests, demo and benchmarks start their daemons with it. process.py runs and ends any
Python module, daemon.py knows the daemon's options and its ready line. No test framework is needed.
"""

from rewind.testing.daemon import Daemon
from rewind.testing.process import Process, ProcessFailed

__all__ = ["Daemon", "Process", "ProcessFailed"]
