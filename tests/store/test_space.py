"""The decision of storage_full, and how often the file system is asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewind.errors import StorageFull
from rewind.store.space import (
    FREE_BYTES_PLENTY,
    FREE_BYTES_RESERVE,
    FREE_BYTES_S,
    RecentFreeBytes,
    free_bytes_at,
    refusal_if_full,
)

HERE = Path("here")


def test_what_is_written_fits_when_the_reserve_stays_free_after_writing_it_three_times() -> None:
    needed = FREE_BYTES_RESERVE + 3 * 1_234
    assert refusal_if_full(1_234, HERE, needed) is None
    refusal = refusal_if_full(1_234, HERE, needed - 1)
    assert isinstance(refusal, StorageFull) and refusal.retryable
    assert str(refusal).startswith(f"here has {needed - 1} bytes free, and {needed} are needed")


def test_a_file_system_that_cannot_tell_is_taken_as_having_room() -> None:
    assert refusal_if_full(1_234, HERE, None) is None


def test_the_free_space_of_a_path_that_is_gone_is_unknown(tmp_path: Path) -> None:
    assert free_bytes_at(tmp_path)
    assert free_bytes_at(tmp_path / "gone") is None


@pytest.mark.parametrize(
    ("free", "asked"), [(FREE_BYTES_PLENTY, 1), (FREE_BYTES_PLENTY - 1, 3), (None, 1)]
)
def test_free_space_is_asked_each_time_unless_there_is_plenty(free: int | None, asked: int) -> None:
    questions = []
    free_bytes = RecentFreeBytes(lambda path: questions.append(path) or free, lambda: 5.0)
    assert [free_bytes(HERE) for _ in range(3)] == [free] * 3
    assert questions == [HERE] * asked


def test_plenty_of_free_space_is_asked_for_again_after_a_while() -> None:
    now_s = [5.0]
    answers = iter([FREE_BYTES_PLENTY, 7])
    free_bytes = RecentFreeBytes(lambda path: next(answers), lambda: now_s[0])
    assert free_bytes(HERE) == FREE_BYTES_PLENTY
    now_s[0] += FREE_BYTES_S
    assert free_bytes(HERE) == 7
