from __future__ import annotations

from datetime import timedelta

import pytest

from tests.clock import Clock
from tests.factories import Ledger, new_user

pytestmark = pytest.mark.own_database


def test_due_grants_expire(ledger: Ledger, clock: Clock) -> None:
    """The sweep expires what is due of every user, with one entry a grant."""
    users = [new_user() for _ in range(3)]
    for user in users:
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=1))
        ledger.grant(user, 3, expires_at=clock.now() + timedelta(days=1))
        ledger.grant(user, 2, expires_at=clock.now() + timedelta(days=2))
    clock.advance(days=1)

    assert ledger.expire_due() == 6

    for user in users:
        assert ledger.balance(user).available == 2
        assert ledger.kinds(user)[3:] == ["expire", "expire"]
    assert ledger.audit() == []


def test_sweep_twice(ledger: Ledger, clock: Clock) -> None:
    """What expired is not expired again."""
    ledger.grant(new_user(), 5, expires_at=clock.now() + timedelta(days=1))
    clock.advance(days=1)
    ledger.expire_due()

    assert ledger.expire_due() == 0
    assert ledger.audit() == []


def test_nothing_is_due(ledger: Ledger, clock: Clock) -> None:
    """Before its time nothing expires, and what never expires never does."""
    ledger.grant(new_user(), 5, expires_at=clock.now() + timedelta(days=1))
    ledger.grant(new_user(), 5)
    clock.advance(hours=23)

    assert ledger.expire_due() == 0
    clock.advance(days=365 * 100)
    assert ledger.expire_due() == 1


def test_limit_counts_users(ledger: Ledger, clock: Clock) -> None:
    """One run takes so many users, the longest due first; the next run takes the others."""
    users = [new_user() for _ in range(5)]
    for n, user in enumerate(users):
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=5 - n))
    clock.advance(days=9)

    assert ledger.expire_due(2) == 2
    assert [ledger.balance(user).available for user in users] == [5, 5, 5, 0, 0]
    assert ledger.expire_due(2) == 2
    assert ledger.expire_due(2) == 1
    assert ledger.audit() == []


def test_spent_grant_does_not_expire(ledger: Ledger, clock: Clock) -> None:
    """A grant with nothing left writes no expiry."""
    user = new_user()
    ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=1))
    ledger.settle(ledger.reserve(user, 5), 5)
    clock.advance(days=1)

    assert ledger.expire_due() == 0
    assert "expire" not in ledger.kinds(user)
    assert ledger.audit() == []


def test_users_at_work_are_skipped(ledger: Ledger, clock: Clock) -> None:
    """A user whose balance somebody holds is left for the next run; the sweep does not wait."""
    busy, idle = new_user(), new_user()
    for user in (busy, idle):
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=1))
    clock.advance(days=1)

    with ledger.db.connect("postgres") as other, other.transaction():
        other.execute("select from credit_balances where user_id = %s for update", (busy,))
        assert ledger.expire_due() == 1

    assert ledger.balance(busy).available == 5
    assert ledger.expire_due() == 1
    assert ledger.audit() == []


def test_refund_into_a_grant_that_is_due_but_not_swept(ledger: Ledger, clock: Clock) -> None:
    """Credits refunded to a grant past its expiry are restored, though the sweep was not there yet."""
    user = new_user()
    key = ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=1))
    reservation = ledger.reserve(user, 2)
    clock.advance(days=1)

    ledger.settle(reservation, 0)

    assert ledger.remaining(f"restored:{reservation}") == 2
    assert ledger.expire_due() == 1
    assert ledger.remaining(key) == 0
    assert ledger.balance(user).available == 2
    assert ledger.audit() == []
