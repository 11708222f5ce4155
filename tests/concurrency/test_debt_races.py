"""Debt, when several calls would pay it at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from uuid import UUID

from tests.factories import Balance, Ledger, new_key, new_user
from tests.racing import race

GRANTS = 8
ROUNDS = 8


def test_parallel_grants_pay_a_debt_once(ledger: Ledger) -> None:
    """Eight grants of 5 meet a debt of 10: together they pay 10 and leave 30, whoever comes first."""
    for _ in range(ROUNDS):
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 10), 10)
        ledger.reverse(key, 10)
        assert ledger.balance(user).owed == 10

        outcomes = race(
            ledger.db,
            GRANTS,
            "select ledger.grant(%s, 'pack', %s, 5)",
            _to(user),
        )

        assert Counter(outcomes) == {"granted": GRANTS}
        assert ledger.balance(user) == Balance(Decimal(30), Decimal(0), Decimal(0))
        assert ledger.audit(user) == []


def _to(user: UUID) -> Callable[[int], tuple[object, ...]]:
    return lambda _: (user, new_key())
