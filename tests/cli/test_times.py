"""Times as text: exact both ways, in every form that people write."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from rewind.cli.times import FORMS, parse_time, span_text, time_text

NOW_NS = 1_763_894_280 * 10**9  # 2025-11-23T10:38:00Z
MIDNIGHT_NS = NOW_NS - (10 * 60 + 38) * 60 * 10**9
DAY_NS = 86_400 * 10**9
HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2025-11-23T10:38:00Z", NOW_NS),
        ("2025-11-23t10:38:00z", NOW_NS),
        ("2025-11-23 10:38:00.5Z", NOW_NS + 500_000_000),
        ("2025-11-23T11:38:00.000000001+01:00", NOW_NS + 1),
        ("2025-11-23T05:08:00-05:30", NOW_NS),
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.5Z", 0),
        ("0001-01-01T00:00:00Z", 0),
        ("2999-01-01T00:00:00Z", 2**63 - 1),
        ("0s", NOW_NS),
        ("30s", NOW_NS - 30 * 10**9),
        ("10m", NOW_NS - 600 * 10**9),
        ("2h", NOW_NS - 7200 * 10**9),
        ("3d", NOW_NS - 259_200 * 10**9),
        ("1w", NOW_NS - 604_800 * 10**9),
        ("99999d", 0),
        ("1h30m", NOW_NS - 5400 * 10**9),
        ("1d12h", NOW_NS - 129_600 * 10**9),
        ("2025-11-23", MIDNIGHT_NS),
        ("2025-11-23 10:38", NOW_NS),
        ("2025-11-23T10:38", NOW_NS),
        ("2025-11-23T10:38Z", NOW_NS),
        ("2025-11-23 10:38:00.5", NOW_NS + 500_000_000),
        ("2025-11-23 11:38+01:00", NOW_NS),
        ("today", MIDNIGHT_NS),
        ("yesterday", MIDNIGHT_NS - DAY_NS),
    ],
)
def test_times_are_exact_and_ages_count_back_from_now(text: str, time_ns: int) -> None:
    assert parse_time(text, NOW_NS) == time_ns


@pytest.mark.parametrize(
    "text",
    ["", "now", "10", "10x", "-5m", "1.5h", "2025-11-23 10", "2025-13-01T00:00:00Z", "1h 30m", "2025-11-23Z",
     "2025-11-23T10:38:00.1234567890Z", "2025-11-23T10:38.5Z", "999999999w", "2025-11-23T10:38:00+99:00",
     "2025-02-30", "Yesterday", "\u0661m"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text, NOW_NS)


def test_a_refusal_lists_the_forms_and_each_is_one() -> None:
    with pytest.raises(ValueError) as refused:
        parse_time("noon", NOW_NS)
    assert FORMS in str(refused.value)
    for form in FORMS.split(", "):
        parse_time(form, NOW_NS)


@pytest.fixture
def in_helsinki(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The zone of this machine is two hours ahead of UTC, in summer three."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "EET-2EEST,M3.5.0/3,M10.5.0/4")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2025-11-23 12:38", NOW_NS),
        ("2025-11-23", MIDNIGHT_NS - 2 * HOUR_NS),
        ("today", MIDNIGHT_NS - 2 * HOUR_NS),
        ("yesterday", MIDNIGHT_NS - DAY_NS - 2 * HOUR_NS),
        ("2025-07-01", MIDNIGHT_NS - 145 * DAY_NS - 3 * HOUR_NS),
        ("2025-11-23T10:38:00Z", NOW_NS),
        ("10m", NOW_NS - 600 * 10**9),
    ],
)
def test_a_time_without_a_zone_is_local_if_so_asked(
    in_helsinki: None, text: str, time_ns: int
) -> None:
    assert parse_time(text, NOW_NS, None) == time_ns


def test_today_is_the_day_it_is_here(in_helsinki: None) -> None:
    late_ns = MIDNIGHT_NS + 23 * HOUR_NS  # it is 01:00 of the next day there
    assert parse_time("today", late_ns, None) == MIDNIGHT_NS + DAY_NS - 2 * HOUR_NS
    assert parse_time("today", late_ns) == MIDNIGHT_NS


@pytest.mark.parametrize("time_ns", [0, 1, NOW_NS + 999_999_999, 2**63 - 1])
def test_a_printed_time_is_read_back_exactly(time_ns: int) -> None:
    assert parse_time(time_text(time_ns), 0) == time_ns


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.0, "0s"), (0.04, "0.0s"), (0.19, "0.1s"), (9.99, "9.9s"), (10, "10s"), (59.9, "59s"), (60, "1m"),
     (61, "1m1s"), (3599, "59m59s"), (3600, "1h"), (3601, "1h"), (5400, "1h30m"), (86_399, "23h59m"),
     (86_400, "1d"), (90_061, "1d1h"), (400 * 86_400, "400d")],
)  # fmt: skip
def test_a_span_of_time_is_short(seconds: float, text: str) -> None:
    assert span_text(seconds) == text
