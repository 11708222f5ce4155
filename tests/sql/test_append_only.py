from __future__ import annotations

import pytest

from tests.database import Connection
from tests.factories import Ledger, new_user
from tests.raising import raises_sqlstate

CHANGES = {
    "update": "update public.credit_ledger set description = 'rewritten'",
    "update of no row": "update public.credit_ledger set description = 'rewritten' where false",
    "delete": "delete from public.credit_ledger",
    "truncate": "truncate public.credit_ledger",
    "merge": (
        "merge into public.credit_ledger e using (select 1) s on true"
        " when matched then update set available_delta = 0"
    ),
    "insert on conflict": (
        "insert into public.credit_ledger (id, user_id, type) overriding system value"
        " select id, user_id, type from public.credit_ledger limit 1"
        " on conflict (id) do update set available_delta = 0"
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("role", ["postgres", "supabase_admin"])
def test_entries_stay_as_written(ledger: Ledger, role: str, change: str) -> None:
    """Nobody rewrites the ledger by accident: not its owner, not even a superuser."""
    user = new_user()
    ledger.grant(user)
    before = ledger.entries(user)

    with raises_sqlstate("HF007"):
        ledger.db.connection(role).execute(change.encode())

    assert ledger.entries(user) == before


def test_statements_of_the_backend_cannot_reach_the_table(functions: Connection) -> None:
    """The backend's role meets the missing right before it meets the trigger."""
    with raises_sqlstate("42501"):
        functions.execute("delete from public.credit_ledger")


def test_the_journal_itself_refuses_a_second_ending(ledger: Ledger) -> None:
    """One charge a reservation and one entry a key, even for who writes past the functions."""
    user = new_user()
    ledger.grant(user, 10)
    reservation = ledger.reserve(user, 1)
    ledger.settle(reservation, 1)
    admin = ledger.db.connection("supabase_admin")

    with raises_sqlstate("23505"):
        admin.execute(
            "insert into public.credit_ledger (user_id, type, reservation_id)"
            " values (%s, 'charge', %s)",
            (user, reservation),
        )
    with raises_sqlstate("23505"):
        admin.execute(
            "insert into public.credit_ledger (user_id, type, key)"
            " select user_id, type, key from public.credit_ledger"
            " where user_id = %s and type = 'grant'",
            (user,),
        )
