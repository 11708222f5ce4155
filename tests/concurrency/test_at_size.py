"""Many copies, many reserves, many rounds of everything at once. LEDGER_PROFILE=full plays more rounds."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from threading import Barrier
from typing import Any, LiteralString, NamedTuple
from uuid import UUID, uuid4

import pytest

from tests.clock import NOON, Clock
from tests.database import Connection, TestDatabase
from tests.factories import Balance, Ledger, new_key, new_user
from tests.ledger_profile import FULL, TIMEOUT_SECONDS
from tests.racing import Step, first_value, outcome_or_sqlstate, race, race_steps

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

COPIES = 64
RESERVES = 500
ROUNDS = 4000 if FULL else 1000


def call(query: LiteralString, *params: object) -> Step:
    """Return a step that runs one statement and returns its outcome, or the SQLSTATE it raised."""
    return outcome_or_sqlstate(lambda connection: first_value(connection, query, params))


CALLS: dict[str, LiteralString] = {
    "grant": "select ledger.grant(%(user)s, 'pack', %(new_key)s, 7)",
    "reserve": "select ledger.reserve(%(user)s, %(new)s, 6)",
    "full charge": "select ledger.settle(%(open)s, 4)",
    "part charge": "select ledger.settle(%(open)s, 1)",
    "refund": "select ledger.settle(%(open)s, 0)",
    "claw back": "select ledger.reverse(%(grant)s, %(new_key)s, 20)",
    "restore": "select ledger.reverse(%(reversed)s, %(new_key)s, 0)",
}
FIRST_AND_COPIES = {
    "grant": ("granted", "duplicate"),
    "reserve": ("reserved", "duplicate"),
    "full charge": ("settled", "already_settled"),
    "part charge": ("settled", "already_settled"),
    "refund": ("settled", "already_settled"),
    "claw back": ("clawed_back", "duplicate"),
    "restore": ("restored", "duplicate"),
}
ENTRIES = {"full charge": 1, "part charge": 2}


@pytest.mark.parametrize("name", CALLS)
def test_copies_of_one_call(ledger: Ledger, name: str) -> None:
    """64 copies of one call collapse to one: one outcome of the first kind, its entries once, right books."""
    user = new_user()
    names: dict[str, object] = {
        "user": user,
        "grant": ledger.grant(user, 20),
        "reversed": ledger.grant(user, 5),
        "open": ledger.reserve(user, 4),
        "new": uuid4(),
        "new_key": new_key(),
    }
    ledger.reverse(str(names["reversed"]), 3)
    before = len(ledger.entries(user))

    outcomes = race_steps(
        ledger.db,
        [lambda c: first_value(c, CALLS[name], names)] * COPIES,  # type: ignore[arg-type]
    )

    first, copy = FIRST_AND_COPIES[name]
    assert Counter(outcomes) == {first: 1, copy: COPIES - 1}
    assert len(ledger.entries(user)) - before == ENTRIES.get(name, 1)
    assert ledger.audit(user) == []


@pytest.mark.own_database
def test_copies_of_the_sweep(ledger: Ledger, clock: Clock) -> None:
    """64 sweeps at once expire each due grant once, and count it once."""
    users = [new_user() for _ in range(100)]
    for user in users:
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(hours=1))
    clock.advance(hours=1)

    counts = race(ledger.db, COPIES, "select ledger.expire_due(%s)", lambda _: (10,))

    assert sum(counts) + ledger.expire_due() == 100
    assert all(ledger.kinds(user) == ["grant", "expire"] for user in users)
    assert ledger.audit() == []


@pytest.mark.parametrize("funds", [RESERVES, 300])
def test_one_hot_balance(ledger: Ledger, funds: int) -> None:
    """500 reserves of 64 connections on one balance lose no update: as many get through as it holds credits."""
    user = new_user()
    ledger.grant(user, funds)
    shares = [range(n, RESERVES, COPIES) for n in range(COPIES)]

    def reserve_all(share: range) -> Callable[[Connection], list[Any]]:
        query = "select ledger.reserve(%s, %s, 1)"
        return lambda connection: [first_value(connection, query, (user, uuid4())) for _ in share]

    outcomes = race_steps(ledger.db, [reserve_all(share) for share in shares])

    expected = {"reserved": funds, "insufficient_credits": RESERVES - funds}
    assert Counter(itertools.chain(*outcomes)) == Counter(expected)
    assert ledger.balance(user) == Balance(Decimal(0), Decimal(funds), Decimal(0))
    assert [entry["available_after"] for entry in ledger.entries(user)] == [*range(funds, -1, -1)]
    assert ledger.audit(user) == []


class Round(NamedTuple):
    """One user with 10 credits that are about to expire, 6 of them reserved."""

    user: UUID
    key: str
    reservation: UUID
    expires_at: datetime


CONTENDERS: list[tuple[LiteralString, Callable[[Round], Sequence[object]]]] = [
    ("select ledger.settle(%s, 6)", lambda each: (each.reservation,)),
    ("select ledger.settle(%s, 0)", lambda each: (each.reservation,)),
    ("select ledger.reverse(%s, %s, 10)", lambda each: (each.key, f"re:{each.key}")),
    ("select ledger.expire_due(1)", lambda each: ()),
]

ORDERS = {
    f"{first} before {second}"
    for first, second in itertools.permutations(("clawback", "refund", "expire"), 2)
}


@pytest.mark.own_database
def test_one_winner_each(ledger: Ledger, clock: Clock) -> None:
    """
    Charge, refund, clawback and expiry of the same credits at once, many times.

    One of charge and refund wins, and what is left is what one of the 24 serial orders leaves. Each wins at times, and
    clawback, refund and expiry happen in both orders of each two.
    """
    rounds = [_round(number) for number in range(24 + ROUNDS)]
    clock.set(NOON)
    _prepare(ledger.db, rounds)
    serial = set()
    for order, each in zip(itertools.permutations(range(4)), rounds[:24], strict=True):
        clock.set(each.expires_at)
        found: dict[int, Any] = {}
        for n in order:
            query, params = CONTENDERS[n]
            found[n] = first_value(ledger.calls, query, params(each))
        serial.add((*(found[n] for n in range(3)), _left(ledger, each.user)))
    moments = iter([each.expires_at for each in rounds[24:]])
    barrier = Barrier(len(CONTENDERS), action=lambda: clock.set(next(moments)), timeout=60)
    dice = random.Random(5)
    leaders = [dice.randrange(len(CONTENDERS)) for _ in rounds]

    def contender(number: int) -> Callable[[Connection], list[Any]]:
        query, params = CONTENDERS[number]
        steps = [call(query, *params(each)) for each in rounds[24:]]

        def run(connection: Connection) -> list[Any]:
            outcomes = []
            for leader, step in zip(leaders[24:], steps, strict=True):
                barrier.wait()
                if number != leader:
                    # a short way behind, so that each one wins at times
                    connection.execute("select")
                outcomes.append(step(connection))
            return outcomes

        return run

    results = race_steps(ledger.db, [contender(n) for n in range(len(CONTENDERS))])
    ledger.expire_due(len(rounds))

    winners = Counter[str]()
    for each, charged, refunded, reversed_, expired in zip(rounds[24:], *results, strict=True):
        assert isinstance(expired, int)
        ending = (charged, refunded, reversed_, _left(ledger, each.user))
        assert ending in serial, ending
        winners["charge" if charged == "settled" else "refund"] += 1
        assert ledger.kinds(each.user).count("clawback") <= 1
    assert set(winners) == {"charge", "refund"}, "no race was run"
    assert set(_orders(ledger.db, rounds[24:])) == ORDERS, "no race was run"
    assert ledger.audit() == []


def _round(number: int) -> Round:
    # one after another, so that the sweep of a round finds that round's user due and no later one
    expires_at = NOON + timedelta(hours=1, seconds=number)
    return Round(new_user(), new_key(), uuid4(), expires_at)


def _prepare(db: TestDatabase, rounds: list[Round]) -> None:
    columns = [list(column) for column in zip(*rounds, strict=True)]
    outcomes = db.rows(
        "select ledger.grant(u, 'pack', k, 10, e) as granted, ledger.reserve(u, r, 6) as reserved"
        " from unnest(%s::uuid[], %s::text[], %s::uuid[], %s::timestamptz[]) t (u, k, r, e)",
        *columns,
    )
    assert outcomes == [{"granted": "granted", "reserved": "reserved"}] * len(rounds)


def _orders(db: TestDatabase, rounds: list[Round]) -> Counter[str]:
    """Count which of two movements of one user's credits came first, by the entries."""
    orders = Counter[str]()
    entries: dict[UUID, dict[str, tuple[int, str]]] = {each.user: {} for each in rounds}
    for row in db.rows(
        "select user_id, type, id, xmin::text as writer from credit_ledger where user_id = any(%s)",
        list(entries),
    ):
        entries[row["user_id"]][row["type"]] = row["id"], row["writer"]
    for each in entries.values():
        taken, gone, back = each["clawback"], each["expire"], each.get("refund")
        # a clawback that comes first does the expiry itself, and the sweep finds nothing to do
        orders["clawback before expire" if taken[1] == gone[1] else "expire before clawback"] += 1
        if back:
            orders["clawback before refund" if taken < back else "refund before clawback"] += 1
            orders["expire before refund" if gone < back else "refund before expire"] += 1
    return orders


def _left(ledger: Ledger, user: UUID) -> Balance:
    row = ledger.db.row(
        "select b.available, b.owed, sum(e.reserved_delta) as reserved"
        " from credit_balances b join credit_ledger e using (user_id) where user_id = %s group by 1, 2",
        user,
    )
    return Balance(**row)
