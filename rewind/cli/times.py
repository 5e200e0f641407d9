"""Times as text, both ways: what a command prints, and what ``--since`` takes.

Every time printed is UTC and says so. A time that is given without a zone is UTC too, or local where
``--local`` says so. Nothing here knows Click or a clock.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo

from rewind.events import INT_MAX

AGE_DAYS_MAX = 366_000  # a thousand years go back further than any clock

FORMS = "2025-11-23T10:38:00Z, 2025-11-23 10:38, 2025-11-23, today, yesterday, 10m, 1h30m, 3d"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_AGE = re.compile(r"(?:[0-9]{1,9}[smhdw])+")
_AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_DAYS_AGO = {"today": 0, "yesterday": 1}
_TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:(?<=:[0-9]{2}:[0-9]{2})\.([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})?)?"
)


def time_text(time_ns: int) -> str:
    """RFC 3339 in UTC with nine decimals: the exact time."""
    return (
        f"{_EPOCH + timedelta(seconds=time_ns // 10**9):%Y-%m-%dT%H:%M:%S}.{time_ns % 10**9:09d}Z"
    )


def short_time_text(time_ns: int) -> str:
    """RFC 3339 in UTC to the millisecond."""
    return time_text(time_ns)[:23] + "Z"


def second_text(time_ns: int) -> str:
    """RFC 3339 in UTC to the second."""
    return time_text(time_ns)[:19] + "Z"


def span_text(seconds: float) -> str:
    """A span of time in its largest unit and the next, rounded down; below ten seconds with a decimal."""
    if 0 < seconds < 10:
        return f"{int(seconds * 10) / 10}s"
    whole = int(seconds)
    parts = (
        (whole // 86_400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "m"), (whole % 60, "s")
    )  # fmt: skip
    largest = next((index for index, (number, _) in enumerate(parts) if number), len(parts))
    shown = parts[largest : largest + 2]
    return "".join(f"{number}{unit}" for number, unit in shown if number) or "0s"


def parse_time(text: str, now_ns: int, zone: tzinfo | None = UTC) -> int:
    """Nanoseconds since 1970 of a time, a day's beginning, or an age before now: one of ``FORMS``.

    ``zone`` is where a time without one was; None is the zone of this machine. A time out of bounds
    is the bound: 0, or ``INT_MAX`` in 2262. Raises ``ValueError``, which lists the forms.
    """
    if _AGE.fullmatch(text):
        parts = re.findall("([0-9]+)([smhdw])", text)
        seconds = sum(int(number) * _AGE_SECONDS[unit] for number, unit in parts)
        if seconds <= AGE_DAYS_MAX * 86_400:
            return max(0, now_ns - seconds * 10**9)
    elif (days := _DAYS_AGO.get(text)) is not None:
        now = _EPOCH + timedelta(seconds=now_ns // 10**9)
        day = now.astimezone(zone).date() - timedelta(days=days)
        return _time_ns(f"{day}T00:00", "", zone)
    elif (time := _TIME.fullmatch(text)) is not None:
        day_text, clock, decimals, own_zone = time.groups()
        try:
            moment = f"{day_text}T{clock or '00:00'}{(own_zone or '').upper()}"
            return _time_ns(moment, decimals or "", zone)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"{text!r} is not a time: {error}") from error
    raise ValueError(f"{text!r} is not a time: write one as {FORMS}")


def _time_ns(moment: str, decimals: str, zone: tzinfo | None) -> int:
    time = datetime.fromisoformat(moment)
    if time.tzinfo is None:
        # Without an argument, astimezone takes a naive time as local.
        time = time.astimezone() if zone is None else time.replace(tzinfo=zone)
    since_epoch = time - _EPOCH
    seconds = since_epoch.days * 86_400 + since_epoch.seconds
    return min(max(0, seconds * 10**9 + int(decimals.ljust(9, "0"))), INT_MAX)
