"""An upgrade says how far it is, to people and to a progress bar."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rewind.backends.upgrade import Progress


def test_progress_is_said_every_couple_of_seconds_and_at_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    seconds = iter([0.0, 0.0, 0.5, 1.9, 2.1, 4.0, 4.2, 4.3])
    told: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO, logger="rewind"):
        progress = Progress(
            Path("/s"), 1_200_000, lambda *done: told.append(done), clock=lambda: next(seconds)
        )
        steps = [0, 1, 2, 1_000, 5_000, 6_000, 1_200_000]
        for done in steps:
            progress.reached(done)
    assert told == [(done, 1_200_000) for done in steps]
    said = [
        record.getMessage().removeprefix("building the index of /s: ") for record in caplog.records
    ]
    assert said == [f"{done} of 1,200,000 events" for done in ("0", "1,000", "6,000", "1,200,000")]
