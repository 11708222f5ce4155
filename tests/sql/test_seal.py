"""Tamper evidence: what was sealed cannot be changed unnoticed."""

from __future__ import annotations

from typing import Any, LiteralString
from uuid import uuid4

import pytest

from tests.database import TestDatabase
from tests.factories import Ledger, new_user

pytestmark = pytest.mark.own_database

Finding = tuple[int, int | None, str]


class Seals:
    """A ledger with five sealed entries, numbers 1 to 5, and somebody with the rights to change them."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        user = new_user()
        for _ in range(5):
            ledger.grant(user, 10)
        self.seal()
        assert self.seal()["sealed"] == 5

    def seal(self) -> dict[str, Any]:
        """Seal as the sweep does."""
        row = self.ledger.calls.execute("select * from ledger.seal()").fetchone()
        assert row
        return dict(row)

    def findings(self, *noted: Any) -> list[Finding]:
        """Return what verify finds."""
        query: LiteralString = (
            "select * from ledger.verify(%s, %s)" if noted else "select * from ledger.verify()"
        )
        rows = self.ledger.calls.execute(query, noted).fetchall()
        return [(row["seal_id"], row["entry_id"], row["problem"]) for row in rows]

    def tamper(self, statement: LiteralString, *params: object) -> None:
        """Change a table with every right there is, past the append-only trigger."""
        with self.ledger.db.connection("supabase_admin").transaction():
            admin = self.ledger.db.connection("supabase_admin")
            admin.execute("set local session_replication_role = replica")
            admin.execute(statement, params)


@pytest.fixture(name="seals")
def _seals(ledger: Ledger) -> Seals:
    """Return five sealed entries."""
    return Seals(ledger)


def test_an_untouched_chain_is_right(seals: Seals) -> None:
    """Nothing is found where nothing was touched, over several batches."""
    for _ in range(3):
        seals.ledger.grant(new_user(), 1)
        seals.seal()
        seals.seal()

    assert seals.findings() == []


@pytest.mark.parametrize(
    "change",
    [
        "available_delta = 11",
        "reserved_delta = 1",
        "owed_delta = 1",
        "available_after = 0",
        "owed_after = null",
        "type = 'restore'",
        "user_id = gen_random_uuid()",
        "reservation_id = gen_random_uuid()",
        "grant_id = null",
        "key = key || ' '",
        "description = ''",
        "created_at = created_at + interval '1 microsecond'",
    ],
)
def test_a_change_is_named(seals: Seals, change: LiteralString) -> None:
    """Every column counts: the changed entry is named, and only that one."""
    seals.tamper("update public.credit_ledger set " + change + " where id = 2")

    assert seals.findings() == [(1, 2, "changed")]


def test_an_owner_past_the_trigger_is_found(seals: Seals) -> None:
    """The tables' owner can switch the trigger off and change what is sealed, but not unnoticed."""
    owner = seals.ledger.db.connection("postgres")
    owner.execute("alter table public.credit_ledger disable trigger user")
    owner.execute("update public.credit_ledger set available_delta = 11 where id = 2")
    owner.execute("alter table public.credit_ledger enable trigger user")

    assert seals.findings() == [(1, 2, "changed")]


def test_a_removal_is_named(seals: Seals) -> None:
    """A deleted entry leaves its number."""
    seals.tamper("delete from public.credit_ledger where id = 3")

    assert seals.findings() == [(1, 3, "removed")]


@pytest.mark.parametrize("number", [-1, 0])
def test_an_insertion_is_named(seals: Seals, number: int) -> None:
    """An entry slipped in before what is sealed stands out."""
    seals.tamper(
        "insert into public.credit_ledger (id, user_id, type) overriding system value"
        " values (%s, %s, 'grant')",
        number,
        uuid4(),
    )

    assert seals.findings() == [(1, number, "inserted")]


def test_a_changed_seal_is_named(seals: Seals) -> None:
    """Making a seal fit a changed entry breaks the chain."""
    seals.tamper("update public.credit_ledger set available_delta = 11 where id = 2")
    seals.tamper(
        "update ledger.seals set entry_hashes[2] ="
        " (select ledger.entry_hash(e) from public.credit_ledger e where e.id = 2)"
    )

    assert seals.findings() == [(1, None, "the seal was changed")]


def test_a_seal_made_to_fit_breaks_the_next_one(seals: Seals) -> None:
    """Each seal covers the one before: to hide a change, every later seal would have to be written anew."""
    seals.ledger.grant(new_user(), 1)
    seals.seal()
    assert seals.seal()["sealed"] == 1
    seals.tamper("update public.credit_ledger set available_delta = 11 where id = 2")
    seals.tamper(
        "update ledger.seals set entry_hashes[2] ="
        " (select ledger.entry_hash(e) from public.credit_ledger e where e.id = 2) where id = 1"
    )
    seals.tamper(
        "update ledger.seals set hash = ledger.batch_hash(null, entry_ids, entry_hashes) where id = 1"
    )

    assert seals.findings() == [(2, None, "the seal was changed")]


def test_a_chain_written_anew_is_found_by_a_noted_hash(seals: Seals) -> None:
    """Whoever rewrites everything cannot rewrite what was noted elsewhere."""
    noted = seals.ledger.calls.execute("select * from ledger.newest_seal()").fetchone()
    assert noted
    seals.tamper("delete from public.credit_ledger where id = 5")
    seals.tamper("delete from ledger.seals")
    seals.tamper("delete from ledger.seal_horizon")
    seals.seal()
    seals.seal()

    assert seals.findings() == []
    found = seals.findings(noted["seal_id"], noted["seal_hash"])
    assert found == [(noted["seal_id"], None, "the seal was removed")]


def test_another_hash_than_the_noted_one_is_found(seals: Seals) -> None:
    """A seal that is there but different is not the one that was noted."""
    assert seals.findings(1, "00") == [(1, None, "the seal is not the one that was noted")]


def test_an_entry_of_an_open_transaction_is_never_missed(
    seals: Seals, database: TestDatabase
) -> None:
    """A transaction that drew its number before the seal and ends after it is in a later batch, not lost."""
    with database.connect("holdfast_backend") as slow, slow.transaction():
        slow.execute("select ledger.grant(%s, 'pack', 'slow', 1)", (new_user(),))
        seals.ledger.grant(new_user(), 1)
        assert [seals.seal()["sealed"] for _ in range(3)] == [0, 0, 0]

    assert seals.seal()["sealed"] == 2
    assert seals.findings() == []


def test_a_dump_restored_elsewhere_goes_on(seals: Seals) -> None:
    """A horizon of another cluster, whose transactions were numbered higher, is set anew."""
    seals.ledger.grant(new_user(), 1)
    seals.seal()
    seals.tamper("update ledger.seal_horizon set snapshot_xmax = '99999999999'")
    seals.seal()

    assert seals.seal()["sealed"] == 1
    assert seals.findings() == []


def test_what_piled_up_is_sealed_in_parts(seals: Seals) -> None:
    """However many entries wait, a call seals 20,000 at most, so that it ends in time; the next one goes on."""
    seals.tamper(
        """insert into public.credit_ledger (user_id, type, reserved_delta, reservation_id)
           select gen_random_uuid(), 'charge', -1, gen_random_uuid() from generate_series(1, 20003)"""
    )
    seals.seal()

    assert [seals.seal()["sealed"] for _ in range(3)] == [20_000, 3, 0]
    assert seals.findings() == []
