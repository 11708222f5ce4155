"""Low balance: one alert a descent, in the transaction that crosses, and never lost on its way out."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.clock import Clock
from tests.database import TestDatabase
from tests.factories import Ledger, new_user


def alerts(ledger: Ledger, user: UUID) -> list[dict[str, Any]]:
    """Return a user's alerts, newest first."""
    return ledger.calls.execute(
        "select type, threshold, available from backend.list_alerts(%s, 100)", (user,)
    ).fetchall()


def low(available: str, threshold: str = "0.5") -> dict[str, Any]:
    """Return the alert that is expected."""
    return {
        "type": "low_balance",
        "threshold": Decimal(threshold),
        "available": Decimal(available),
    }


def test_crossing(ledger: Ledger) -> None:
    """A reserve that leaves less than 0.50 raises one alert; the next one, lower still, none."""
    user = new_user()
    ledger.grant(user, 2)
    ledger.reserve(user, "1.5")
    assert alerts(ledger, user) == []  # exactly at the threshold

    ledger.reserve(user, "0.1")
    ledger.reserve(user, "0.1")

    assert alerts(ledger, user) == [low("0.4")]


def test_rearmed(ledger: Ledger) -> None:
    """When the balance has recovered, the next descent alerts again."""
    user = new_user()
    ledger.grant(user, 1)
    ledger.reserve(user, 1)
    ledger.grant(user, 1)
    ledger.reserve(user, "0.8")

    assert alerts(ledger, user) == [low("0.2"), low("0")]


def test_repeated_reserve(ledger: Ledger) -> None:
    """A duplicate reserve takes and gives back within its transaction: no alert."""
    user = new_user()
    ledger.grant(user, 3)
    reservation = ledger.reserve(user, 1)
    assert ledger.try_reserve(user, 1, reservation) == "duplicate"
    ledger.calls.execute("select backend.set_low_balance(%s, 1.5)", (user,))

    assert ledger.try_reserve(user, 1, reservation) == "duplicate"

    assert alerts(ledger, user) == []


def test_refused_reserve(ledger: Ledger) -> None:
    """A reserve that is refused for credits alerts nobody."""
    user = new_user()
    ledger.grant(user, 1)

    assert ledger.try_reserve(user, 2) == "insufficient_credits"

    assert alerts(ledger, user) == []


def test_own_threshold(ledger: Ledger) -> None:
    """A user's own threshold counts; setting it above the balance raises nothing by itself; 0 is never crossed."""
    user = new_user()
    ledger.grant(user, 5)
    ledger.calls.execute("select backend.set_low_balance(%s, 6)", (user,))
    assert alerts(ledger, user) == []
    ledger.calls.execute("select backend.set_low_balance(%s, 4)", (user,))
    ledger.reserve(user, 2)
    ledger.calls.execute("select backend.set_low_balance(%s, 0)", (user,))
    ledger.reserve(user, 3)

    assert alerts(ledger, user) == [low("3", threshold="4")]


def test_with_its_cause_or_not_at_all(db: TestDatabase, ledger: Ledger) -> None:
    """A transaction that is rolled back leaves no alert."""
    user = new_user()
    ledger.grant(user, 1)
    with db.connect("holdfast_backend") as session, session.transaction(force_rollback=True):
        session.execute("select ledger.reserve(%s, %s, 1)", (user, uuid4()))
        session.execute("set constraints all immediate")

    assert alerts(ledger, user) == []


@pytest.mark.own_database
def test_expiry_and_clawback(ledger: Ledger, clock: Clock) -> None:
    """Whatever empties a balance alerts: an expiry, a payment taken back."""
    expiring, reversed_ = new_user(), new_user()
    ledger.grant(expiring, 5, expires_at=clock.now() + timedelta(days=1))
    key = ledger.grant(reversed_, 5)
    clock.advance(days=1)

    ledger.expire_due()
    ledger.reverse(key, 5)

    assert alerts(ledger, expiring) == [low("0")]
    assert alerts(ledger, reversed_) == [low("0")]


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["grant", "reserve"]), st.integers(1, 20)), max_size=12
    )
)
def test_model(ledger: Ledger, steps: list[tuple[str, int]]) -> None:
    """Over any run of grants and reserves there are as many alerts as descents through the threshold."""
    user = new_user()
    available = Decimal(0)
    descents = 0
    for step, tenths in steps:
        amount = Decimal(tenths) / 10
        before = available
        if step == "grant":
            ledger.grant(user, amount)
            available += amount
        elif ledger.try_reserve(user, amount) == "reserved":
            available -= amount
        descents += before >= Decimal("0.5") > available

    assert len(alerts(ledger, user)) == descents


@pytest.mark.own_database
class TestOutbox:
    """Alerts on their way to the event bus."""

    CLAIM = "select id, user_id from backend.claim_alerts(%s, 60)"

    def _alert(self, ledger: Ledger) -> UUID:
        user = new_user()
        ledger.grant(user, 1)
        ledger.reserve(user, 1)
        return user

    def test_sent_once(self, ledger: Ledger, clock: Clock) -> None:
        """A claimed alert is nobody else's; a finished one is never claimed again."""
        user = self._alert(ledger)
        claimed = ledger.calls.execute(self.CLAIM, (10,)).fetchall()
        assert [row["user_id"] for row in claimed] == [user]
        assert ledger.calls.execute(self.CLAIM, (10,)).fetchall() == []

        finished = ledger.call("select backend.finish_alerts(%s)", [claimed[0]["id"]])

        assert finished == 1
        clock.advance(hours=1)
        assert ledger.calls.execute(self.CLAIM, (10,)).fetchall() == []
        assert len(alerts(ledger, user)) == 1  # the row a frontend reads stays

    def test_dead_sender(self, ledger: Ledger, clock: Clock) -> None:
        """An alert whose sender died is claimed again when its lease is over."""
        self._alert(ledger)
        first = ledger.calls.execute(self.CLAIM, (10,)).fetchall()
        clock.advance(seconds=60)

        assert ledger.calls.execute(self.CLAIM, (10,)).fetchall() == first

    def test_shared(self, db: TestDatabase, ledger: Ledger) -> None:
        """Two sweeps at once take different alerts."""
        for _ in range(2):
            self._alert(ledger)
        with db.connect("holdfast_backend") as other, other.transaction():
            mine = other.execute(self.CLAIM, (1,)).fetchall()
            theirs = ledger.calls.execute(self.CLAIM, (10,)).fetchall()

        assert len(mine) == len(theirs) == 1
        assert mine != theirs
