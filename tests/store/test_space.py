"""The decision of storage_full, and how often the file system is asked for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from appends import append, event

from rewind.errors import StorageFull
from rewind.events import Append, Record
from rewind.store.plan import Facts, plan
from rewind.store.space import (
    FREE_BYTES_PLENTY,
    FREE_BYTES_RESERVE,
    FREE_BYTES_S,
    RecentFreeBytes,
    free_bytes_at,
    refusal_if_full,
)

HERE = Path("here")


def records(*appends: Append) -> list[Record]:
    nothing = Facts(0, 0, bytes(8), {}, {}, {}, lambda first, last: [])
    return plan(appends, nothing, 1, "fsync").records


def test_records_fit_when_the_reserve_stays_free_after_writing_them_three_times() -> None:
    new = records(append(event(data=bytes(1_000))), append())
    needed = FREE_BYTES_RESERVE + 3 * sum(len(record.encoded) for record in new)
    assert refusal_if_full(new, HERE, needed) is None
    refusal = refusal_if_full(new, HERE, needed - 1)
    assert isinstance(refusal, StorageFull) and refusal.retryable
    assert str(refusal).startswith(f"here has {needed - 1} bytes free, and {needed} are needed")


def test_a_file_system_that_cannot_tell_is_taken_as_having_room() -> None:
    assert refusal_if_full(records(append()), HERE, None) is None


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
