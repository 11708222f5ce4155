"""
Fifteen invariants for any system that moves money, as the public ledger conformance kit names them.

`make conformance` prints the fifteen lines. docs/ledger.md says what each means here, and where one takes another form.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from tests.clock import Clock
from tests.factories import Balance, Ledger, new_key, new_user
from tests.racing import race
from tests.raising import raises_sqlstate

ENTRY_TYPES = {"grant", "reserve", "charge", "refund", "expire", "clawback", "restore"}
HOT_RESERVES = 500
CONNECTIONS = 50


def test_01_balanced_postings(ledger: Ledger) -> None:
    """What leaves one column of a user's books arrives in another, or at the operator: no entry loses anything."""
    user = new_user()
    key = ledger.grant(user, 10)
    reservation = ledger.reserve(user, 4)
    ledger.settle(reservation, 1)
    ledger.reverse(key, 10)

    for entry in ledger.entries(user):
        moved = entry["available_delta"] + entry["reserved_delta"] - entry["owed_delta"]
        expected = {"grant": 10, "reserve": 0, "charge": -1, "refund": 0, "clawback": -10}
        assert moved == expected[entry["type"]], entry["type"]


def test_02_append_only_journal(ledger: Ledger) -> None:
    """Nobody updates or deletes an entry, not even the tables' owner."""
    ledger.grant(new_user(), 1)
    owner = ledger.db.connection("postgres")

    with raises_sqlstate("HF007"):
        owner.execute("update public.credit_ledger set key = key")
    with raises_sqlstate("HF007"):
        owner.execute("delete from public.credit_ledger")


@pytest.mark.own_database
def test_03_tamper_evidence(ledger: Ledger) -> None:
    """An entry changed past every guard is named by `ledger.verify`."""
    ledger.grant(new_user(), 1)
    ledger.call("select sealed from ledger.seal()")
    assert ledger.call("select sealed from ledger.seal()") == 1
    admin = ledger.db.connection("supabase_admin")
    with admin.transaction():
        admin.execute("set local session_replication_role = replica")
        admin.execute("update credit_ledger set available_delta = 1000")

    assert ledger.call("select problem from ledger.verify()") == "changed"


def test_04_duplicate_is_a_no_op(ledger: Ledger) -> None:
    """The same call again changes nothing, whatever it was."""
    user, key, reversal = new_user(), new_key(), new_key()
    ledger.grant(user, 10, key=key)
    reservation = ledger.reserve(user, 4)
    ledger.settle(reservation, 4)
    ledger.reverse(key, 3, key=reversal)
    before = ledger.books(user)

    again = [
        ledger.try_grant(user, 10, key=key),
        ledger.try_reserve(user, 4, reservation),
        ledger.settle(reservation, 4),
        ledger.reverse(key, 3, key=reversal),
    ]

    assert again == ["duplicate", "already_settled", "already_settled", "duplicate"]
    assert ledger.books(user) == before


def test_05_concurrent_duplicates_collapse(ledger: Ledger) -> None:
    """Sixty-four copies of one grant at once are one grant."""
    user, key = new_user(), new_key()

    outcomes = race(ledger.db, 64, "select ledger.grant(%s, 'pack', %s, 10)", lambda _: (user, key))

    assert Counter(outcomes) == {"granted": 1, "duplicate": 63}
    assert ledger.balance(user).available == 10


def test_06_no_lost_update_on_a_hot_account(ledger: Ledger) -> None:
    """Five hundred reserves of one balance, fifty at a time, each take their credit."""
    user = new_user()
    ledger.grant(user, HOT_RESERVES)
    for _ in range(HOT_RESERVES // CONNECTIONS):
        outcomes = race(
            ledger.db,
            CONNECTIONS,
            "select ledger.reserve(%s, gen_random_uuid(), 1)",
            lambda _: (user,),
        )
        assert Counter(outcomes) == {"reserved": CONNECTIONS}

    assert ledger.balance(user) == Balance(Decimal(0), Decimal(HOT_RESERVES), Decimal(0))
    assert ledger.audit(user) == []


def test_07_conservation(ledger: Ledger) -> None:
    """Granted less charged, expired and reversed is what is available, reserved and not owed."""
    user = new_user()
    key = ledger.grant(user, 10)
    ledger.grant(user, 7)
    ledger.settle(ledger.reserve(user, 12), "2.5")
    ledger.reserve(user, 3)
    ledger.reverse(key, 4)

    balance = ledger.balance(user)
    assert balance.available + balance.reserved - balance.owed == Decimal(17) - Decimal("2.5") - 4


def test_08_balance_is_a_projection_of_the_journal(ledger: Ledger) -> None:
    """Summing the entries gives the balance, column by column."""
    user = new_user()
    key = ledger.grant(user, 10)
    ledger.settle(ledger.reserve(user, 8), 5)
    ledger.reserve(user, 1)
    ledger.reverse(key, 10)

    entries = ledger.entries(user)
    balance = ledger.balance(user)
    assert sum(e["available_delta"] for e in entries) == balance.available
    assert sum(e["reserved_delta"] for e in entries) == balance.reserved
    assert sum(e["owed_delta"] for e in entries) == balance.owed


def test_09_overdraft_guard_under_drain(ledger: Ledger) -> None:
    """Sixty-four want one credit of ten: ten get it, and the balance stops at zero."""
    user = new_user()
    ledger.grant(user, 10)

    outcomes = race(
        ledger.db, 64, "select ledger.reserve(%s, gen_random_uuid(), 1)", lambda _: (user,)
    )

    assert Counter(outcomes) == {"reserved": 10, "insufficient_credits": 54}
    assert ledger.balance(user).available == 0


def test_10_no_precision_drift(ledger: Ledger) -> None:
    """A thousand thousandths are one, exactly."""
    user = new_user()
    ledger.grant(user, 1)
    for _ in range(100):
        ledger.settle(ledger.reserve(user, "0.010"), "0.003")

    assert ledger.balance(user).available == Decimal("0.700")


def test_11_no_mixing_of_currencies(ledger: Ledger) -> None:
    """There is one unit, the credit: no column and no parameter of the ledger could name another."""
    columns = ledger.db.rows(
        "select column_name from information_schema.columns"
        " where table_schema = 'public' and table_name like 'credit\\_%%'"
    )

    assert columns
    assert not [row for row in columns if "currency" in row["column_name"]]


def test_12_reversal_is_compensation(ledger: Ledger) -> None:
    """Taking back adds an entry; what was written stays as it was."""
    user = new_user()
    key = ledger.grant(user, 10)
    before = ledger.entries(user)

    ledger.reverse(key, 10)
    ledger.reverse(key, 0)

    assert ledger.entries(user)[:1] == before
    assert ledger.kinds(user) == ["grant", "clawback", "restore"]


@pytest.mark.own_database
def test_13_state_rebuilds_from_the_log(ledger: Ledger, clock: Clock) -> None:
    """What a user ever had available, reserved and owed can be added up from the entries, in their order."""
    user, tomorrow = new_user(), clock.now() + timedelta(days=1)
    first, second = new_key(), new_key()
    jobs = [uuid4() for _ in range(3)]
    story: list[Callable[[], object]] = [
        lambda: ledger.grant(user, 10, key=first),
        lambda: ledger.grant(user, 5, key=second, expires_at=tomorrow),
        lambda: ledger.reserve(user, 6, jobs[0]),
        lambda: ledger.reserve(user, 3, jobs[1]),
        lambda: ledger.settle(jobs[0], 2),
        lambda: ledger.settle(jobs[1], 3),
        lambda: clock.advance(days=2),
        ledger.expire_due,
        lambda: ledger.reserve(user, 4, jobs[2]),
        lambda: ledger.reverse(first, 10),  # more than there is: debt
        lambda: ledger.settle(jobs[2], 1),  # pays some of it
        lambda: ledger.grant(user, 1),
        lambda: ledger.reverse(first, 0),
        lambda: ledger.reverse(second, 5),
    ]

    told = [(step(), len(ledger.entries(user)), ledger.balance(user)) for step in story]

    entries = ledger.entries(user)
    for _, written, balance in told:
        assert _sum(entries[:written]) == balance
    for number, entry in enumerate(entries, 1):
        total = _sum(entries[:number])
        assert entry["available_after"] in (None, total.available)
        assert entry["owed_after"] in (None, total.owed)
    assert {entry["type"] for entry in entries} == ENTRY_TYPES
    assert max(balance.owed for _, _, balance in told) > 0


def _sum(entries: Sequence[Mapping[str, Any]]) -> Balance:
    columns = ("available_delta", "reserved_delta", "owed_delta")
    return Balance(*(sum((e[column] for e in entries), Decimal(0)) for column in columns))


def test_14_per_account_order_is_monotonic(ledger: Ledger) -> None:
    """Entries that move a balance are numbered in the order they moved it, also when many write at once."""
    user = new_user()
    ledger.grant(user, 100)
    race(ledger.db, 40, "select ledger.reserve(%s, gen_random_uuid(), 1)", lambda _: (user,))

    after = [entry["available_after"] for entry in ledger.entries(user)]
    assert after == sorted(after, reverse=True)


def test_15_a_refused_duplicate_is_not_reported_as_applied(ledger: Ledger) -> None:
    """A request refused for credits is refused again, never called a duplicate; after a top-up it is applied."""
    user, wanted = new_user(), uuid4()

    assert [ledger.try_reserve(user, 5, wanted) for _ in range(2)] == ["insufficient_credits"] * 2
    ledger.grant(user, 5)
    assert ledger.try_reserve(user, 5, wanted) == "reserved"
