"""Each invariant is broken by hand, past every guard, and the audit must name it and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from uuid import UUID

import psycopg
import pytest

from tests.database import Connection
from tests.factories import Ledger, new_user


@dataclass(frozen=True)
class Books:
    """A user with one of each: grants open, reversed and spent, reservations open, charged and split."""

    user: UUID
    grant: str
    open: UUID
    charged: UUID
    split: UUID


@pytest.fixture(name="books")
def _books(ledger: Ledger) -> Books:
    user = new_user()
    grant = ledger.grant(user, 100)
    charged, split = ledger.reserve(user, 10), ledger.reserve(user, 20)
    ledger.settle(charged, 10)
    ledger.settle(split, 5)
    ledger.reverse(grant, 30)
    ledger.reverse(grant, 25)
    books = Books(user, grant, ledger.reserve(user, 7), charged, split)
    assert ledger.audit(user) == []
    return books


@pytest.fixture(name="unguarded")
def _unguarded(superuser: Connection) -> Iterator[Connection]:
    """Return a superuser's connection whose transaction runs no trigger and keeps nothing."""
    with superuser.transaction(force_rollback=True):
        superuser.execute("set local session_replication_role = replica")
        yield superuser


# invariant -> what breaks it and nothing else
BREAKAGES = {
    "available is the sum of the entries": """
        update credit_balances set available = available + 1 where user_id = %(user)s;
        update credit_grants set remaining = remaining + 1 where source_key = %(grant)s""",
    "available is what remains of the grants": """
        update credit_grants set remaining = remaining - 1 where source_key = %(grant)s""",
    "owed is the sum of the entries": """
        update credit_grants set remaining = 0 where user_id = %(user)s;
        update credit_balances set available = 0, owed = 1 where user_id = %(user)s;
        insert into credit_ledger (user_id, type, available_delta, available_after, owed_after)
          select user_id, 'expire', -sum(available_delta), 0, 0 from credit_ledger
           where user_id = %(user)s group by 1""",
    "debt leaves nothing available": """
        update credit_balances set owed = 1 where user_id = %(user)s;
        insert into credit_ledger (user_id, type, owed_delta, available_after, owed_after)
          select user_id, 'clawback', 1, sum(available_delta), 1 from credit_ledger
           where user_id = %(user)s group by 1""",
    "no expiry is overlooked": """
        update credit_grants set expires_at = '2020-01-01' where source_key = %(grant)s""",
    "entries and grants have a balance": """
        delete from credit_balances where user_id = %(user)s""",
    "a reservation is reserved until it is settled": """
        update credit_ledger set reserved_delta = reserved_delta + 1 where reservation_id = %(open)s""",
    "charge and refund make the amount": """
        update credit_ledger set type = 'refund' where reservation_id = %(charged)s and type = 'charge'""",
    "what a user paid is what was charged": """
        update credit_ledger set reservation_id = %(open)s
         where user_id = %(user)s and type = 'restore'""",
    "a reservation knows its grants": """
        update credit_reservations set grant_amounts = array[6.999] where id = %(open)s""",
    "an entry's reservation exists": """
        delete from credit_reservations where id = %(charged)s""",
    "a grant is granted once and in full": """
        update credit_grants set amount = amount + 1 where source_key = %(grant)s""",
    "a grant's expiry is entered": """
        update credit_grants set expired = 1 where source_key = %(grant)s""",
    "a grant's reversals are entered": """
        update credit_grants set reversed = reversed + 1 where source_key = %(grant)s""",
    "each entry carries the balance after it": """
        update credit_ledger set available_after = available_after + 1
         where user_id = %(user)s and type = 'grant'""",
}


@pytest.mark.parametrize(("invariant", "breakage"), BREAKAGES.items(), ids=BREAKAGES)
def test_broken_invariant_is_named(
    books: Books, unguarded: Connection, invariant: str, breakage: str
) -> None:
    """Whatever breaks one invariant of a user is reported as exactly that, for that user."""
    psycopg.ClientCursor(unguarded).execute(breakage.encode(), asdict(books))

    found = unguarded.execute("select * from ledger.audit(%s)", (books.user,)).fetchall()

    assert {row["invariant"] for row in found} == {invariant}
    assert {row["user_id"] for row in found} == {books.user}


def test_every_invariant_is_broken_above(ledger: Ledger) -> None:
    """An invariant added to the audit needs a breakage here."""
    source = ledger.db.value("select prosrc from pg_proc where oid = 'ledger.audit'::regproc")
    named = re.findall(r"select \w\.user_id, '((?:[^']|'')+)'", source)

    assert {name.replace("''", "'") for name in named} == BREAKAGES.keys()


def test_missing_balance_without_movements(ledger: Ledger) -> None:
    """A user with nothing but free jobs needs no balance."""
    user = new_user()
    ledger.settle(ledger.reserve(user, 0), 0)

    assert ledger.audit(user) == []


def test_only_the_user_asked_for(books: Books, ledger: Ledger, unguarded: Connection) -> None:
    """The audit of one user is not disturbed by another's broken books; the audit of all finds them."""
    other = new_user()
    ledger.grant(other)
    unguarded.execute(
        "update credit_balances set next_expiry_at = 'infinity', available = available + 1"
        " where user_id = %s",
        (books.user,),
    )

    assert unguarded.execute("select from ledger.audit(%s)", (other,)).fetchall() == []
    everybody = unguarded.execute("select distinct user_id from ledger.audit()").fetchall()
    assert {"user_id": books.user} in everybody
    assert {"user_id": other} not in everybody


def test_audit_sees_one_moment(ledger: Ledger) -> None:
    """An audit beside open transactions reports nothing: it sees all of a movement or none."""
    user = new_user()
    ledger.grant(user)
    with ledger.db.connect("holdfast_backend") as other, other.transaction():
        other.execute("select ledger.reserve(%s, gen_random_uuid(), 3)", (user,))
        assert ledger.audit(user) == []
    assert ledger.audit(user) == []
