"""Where events are kept: a contract, the backends that keep it, and the way from a URL to one.

contract.py says what a backend is, opening.py finds the one of a URL. Each scheme is a file or a
folder here: memory.py is the smallest and the template; leveldb.py and log/ keep records in blocks
(blocks.py) and find them through an index (index.py); sqlite/ has tables. directory.py is what all
stores with files have in common, verify.py the check of a whole store. Start with contract.py.
"""

from rewind.backends.contract import Backend, Commit
from rewind.backends.opening import SCHEMES, default_scheme, is_store_url, locate, open_backend

__all__ = [
    "SCHEMES",
    "Backend",
    "Commit",
    "default_scheme",
    "is_store_url",
    "locate",
    "open_backend",
]
