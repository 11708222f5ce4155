"""
The account's clock: real time, moved forward on demand, and the calendar of billing periods.

Webhooks are signed by the real clock all the same, or no receiver would accept them.
"""

from __future__ import annotations

import calendar
import time
from datetime import UTC, datetime

DAY = 86_400


class Clock:
    """What the stand-in takes for the present; it never goes backwards."""

    def __init__(self) -> None:
        self._ahead = 0

    def now(self) -> int:
        """Return the present second of the account."""
        return int(time.time()) + self._ahead

    def move_to(self, at: int) -> None:
        """Make `at` the present; a moment that has passed changes nothing."""
        self._ahead += max(0, at - self.now())


def months_later(at: int, months: int) -> int:
    """Return the same day and time `months` later, or the last day of a shorter month."""
    moment = datetime.fromtimestamp(at, UTC)
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    day = min(moment.day, calendar.monthrange(year, month + 1)[1])
    return int(moment.replace(year=year, month=month + 1, day=day).timestamp())


def period_end(anchor: int, start: int, recurring: dict[str, object]) -> int:
    """Return when the period that begins at `start` ends, counted from the billing anchor."""
    interval, count = str(recurring["interval"]), int(str(recurring["interval_count"]))
    if interval in ("day", "week"):
        return start + count * DAY * (7 if interval == "week" else 1)
    step = count * (12 if interval == "year" else 1)
    passed = 1
    while (end := months_later(anchor, step * passed)) <= start:
        passed += 1
    return end
