"""Rules between columns: refused by the table where a trigger can stand, named by the audit where none can."""

from __future__ import annotations

import pytest

from tests.database import Connection
from tests.factories import Ledger, new_user
from tests.raising import raises_sqlstate

REFUSED = {
    "debt beside credits": "update credit_balances set owed = 1 where user_id = %s",
    "debt and credits from the start": """
        insert into credit_balances (user_id, owed, available)
          select gen_random_uuid(), 1, 1 from credit_balances where user_id = %s""",
    "more reversed than granted": "update credit_grants set reversed = 11 where user_id = %s",
    "an amount below what is reversed": "update credit_grants set amount = 2, reversed = 3 where user_id = %s",
    "absorbed without an expiry": "update credit_grants set absorbed = 1, reversed = 1 where user_id = %s",
    "absorbed without a reversal": "update credit_grants set absorbed = 1, expired = 1 where user_id = %s",
    "a grant of nothing": """
        insert into credit_grants (user_id, source, source_key, amount, remaining)
          values (%s, 'pack', gen_random_uuid()::text, 0, 0)""",
    "a threshold below zero": "update credit_balances set low_balance_at = -1 where user_id = %s",
    "less than nothing": "update credit_balances set available = -1 where user_id = %s",
}
NAMED = {
    "settled without a charge": (
        "update credit_reservations set settled_at = now() where id = %s",
        "a reservation is reserved until it is settled",
    ),
    "charged without being settled": (
        "update credit_reservations set charged = amount where id = %s",
        "a reservation is reserved until it is settled",
    ),
    "an amount without its grant": (
        "update credit_reservations set grant_amounts = grant_amounts || 0.000 where id = %s",
        "a reservation knows its grants",
    ),
}


@pytest.mark.parametrize("broken", REFUSED.values(), ids=REFUSED)
def test_row_is_refused(ledger: Ledger, broken: str) -> None:
    """A row that breaks a rule is refused, also when it is the owner who writes it."""
    user = new_user()
    ledger.grant(user, 10)

    with raises_sqlstate("23514"):
        ledger.db.connection("postgres").execute(broken.encode(), (user,))

    assert ledger.audit(user) == []


@pytest.mark.parametrize(("broken", "invariant"), NAMED.values(), ids=NAMED)
def test_row_is_named(ledger: Ledger, superuser: Connection, broken: str, invariant: str) -> None:
    """A reservation is written on the hot path, which no rule slows down: the audit names a broken one."""
    user = new_user()
    ledger.grant(user, 10)
    reservation = ledger.reserve(user, 4)

    with superuser.transaction(force_rollback=True):
        superuser.execute(broken.encode(), (reservation,))
        found = superuser.execute("select * from ledger.audit(%s)", (user,)).fetchall()

    assert {row["invariant"] for row in found} == {invariant}
