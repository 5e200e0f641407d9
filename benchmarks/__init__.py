"""The benchmark: Rewind beside what a user would pick instead, and beside the physical limit.

``python -m benchmarks`` runs it (``tox -e bench`` installs the peers first). The way through it:

    __main__.py    the command line
    workloads.py   what is measured, W1 to W14; steps.py: round by round; goals.py: what ought to come out
    loads.py       the load generators and their sisters, each in a process of its own (load.py)
    systems/       a file per system: how it is started, and its own best Python client
    report.py      ratios, the table, JSON and the page for the docs; plot.py: the SVG
"""
