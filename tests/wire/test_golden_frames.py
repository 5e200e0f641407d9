"""Every frame of every dialect, byte for byte, in a session that is also the published vectors."""

from __future__ import annotations

import json

import golden_session


def test_the_golden_session_is_answered_with_the_golden_frames() -> None:
    expected = json.loads(golden_session.GOLDEN.read_text())
    actual = golden_session.run()
    for exchange, golden in zip(actual["exchanges"], expected["exchanges"], strict=True):
        assert exchange == golden
    assert actual["feeds"] == expected["feeds"]


def test_the_documented_vectors_are_the_golden_frames() -> None:
    golden = json.loads(golden_session.GOLDEN.read_text())
    assert golden_session.VECTORS.read_text() == golden_session.vectors(golden)
