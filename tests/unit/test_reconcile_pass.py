"""How far a pass over Stripe's past comes, whatever the time of one run allows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from holdfast.stripe_reader import Window
from holdfast.usecases.reconcile import OVERLAP, Reconciler

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class World:
    """A cursor for each pass, a Stripe with `an_hour` prices to apply in each hour, and runs of a limited time."""

    def __init__(self, since: datetime, *, an_hour: float = 0) -> None:
        self.cursors = {"recent": since, "late": NOW}
        self.windows: list[Window] = []
        self.an_hour = an_hour
        self.left = 0
        double: Any = self
        self.reconciler = Reconciler(double, double, double, every_seconds=900, now=lambda: NOW)

    def run(self, seconds: int) -> bool:
        """Run once, each object taking a second; return whether that was enough."""
        self.left = seconds
        return self.reconciler.run(self.has_time).is_complete

    def has_time(self) -> bool:
        """Say whether another object may be begun."""
        return self.left > 0

    def claim(self, name: str, **_: int) -> datetime:
        """Return the cursor of a pass."""
        return self.cursors[name]

    def advance(self, name: str, until: datetime) -> None:
        """Move a cursor on."""
        self.cursors[name] = until

    finish = advance

    def sessions(self, window: Window) -> list[object]:
        """Return what was made in the window."""
        self.windows.append(window)
        return [object()] * round((window.end - window.start) / timedelta(hours=1) * self.an_hour)

    def session(self, _found: object) -> Any:
        """Apply one of them."""
        self.left -= 1
        return World

    moves_credits = False

    def drip_due(self, **_: int) -> int:
        """Grant nothing."""
        return 0

    def __getattr__(self, _name: str) -> Any:
        return lambda *_, **__: []


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.usecases.reconcile.count", lambda *_: None)


def test_a_pass_looks_at_all_time_once() -> None:
    """Windows touch, the first reaches back over the cursor, and the cursor ends at the present."""
    world = World(NOW - timedelta(days=30))

    assert world.run(1)

    assert world.windows[0].start == NOW - timedelta(days=30) - OVERLAP
    assert all(a.end == b.start for a, b in pairwise(world.windows))
    assert world.windows[-1].end == NOW
    assert world.cursors["recent"] == NOW


def test_a_run_too_short_for_a_pass_comes_further() -> None:
    """Two days of which an hour alone fills a run are behind us after some runs: no run begins where the last did."""
    world = World(NOW - timedelta(days=2), an_hour=20)
    seen = [world.cursors["recent"]]

    while not world.run(60):
        seen.append(world.cursors["recent"])
        assert seen[-1] > seen[-2]
        assert len(seen) < 500

    assert world.cursors["recent"] == NOW
