"""Each campaign for a moment; at length they are commands of their own."""

from __future__ import annotations

import os
from pathlib import Path

import exactly_once
import pytest
from conftest import DURABLE, store_url


@pytest.mark.parametrize("scheme", DURABLE)
def test_append_and_advance_gives_every_output_once(scheme: str, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print("seed", seed)
    assert exactly_once.run(store_url(scheme, tmp_path), 0.0, seed) > 0
