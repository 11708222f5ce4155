"""The ledger under real connections that do the same thing at the same moment."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from tests.clock import Clock
from tests.database import Connection
from tests.factories import Balance, Ledger, new_key, new_user
from tests.racing import Step, first_value, outcome_or_sqlstate, race, race_steps

RESERVE = "select ledger.reserve(%s, %s, %s::numeric)"
SETTLE = "select ledger.settle(%s, %s::numeric)"
REVERSE = "select ledger.reverse(%s, %s, %s::numeric)"
GRANT = "select ledger.grant(%s, 'pack', %s, %s::numeric)"


def call(query: Any, *params: object) -> Step:
    """Return a step that runs one statement and returns its outcome, or the SQLSTATE it raised."""
    return outcome_or_sqlstate(lambda connection: first_value(connection, query, params))


class TestReserve:
    """Many jobs, one balance."""

    def test_copies_of_one_call(self, ledger: Ledger) -> None:
        """64 copies of one reservation reserve once; the others are duplicates."""
        user, reservation = new_user(), uuid4()
        ledger.grant(user, 100)

        outcomes = race(ledger.db, 64, RESERVE, lambda _: (user, reservation, 3))

        assert Counter(outcomes) == {"reserved": 1, "duplicate": 63}
        assert ledger.balance(user) == Balance(Decimal(97), Decimal(3), Decimal(0))
        assert ledger.audit(user) == []

    def test_copies_for_the_last_credits(self, ledger: Ledger) -> None:
        """When the first copy takes the last credits the others are duplicates, not refused."""
        user, reservation = new_user(), uuid4()
        ledger.grant(user, 3)

        outcomes = race(ledger.db, 16, RESERVE, lambda _: (user, reservation, 3))

        assert Counter(outcomes) == {"reserved": 1, "duplicate": 15}

    def test_copies_of_a_free_call(self, ledger: Ledger) -> None:
        """Without a balance to wait for, copies still reserve once."""
        user, reservation = new_user(), uuid4()

        outcomes = race(ledger.db, 16, RESERVE, lambda _: (user, reservation, 0))

        assert Counter(outcomes) == {"reserved": 1, "duplicate": 15}
        assert ledger.audit(user) == []

    def test_more_than_the_balance(self, ledger: Ledger) -> None:
        """Of 200 reservations exactly as many get through as the balance holds."""
        user = new_user()
        for amount in (20, "7.5", "22.5"):
            ledger.grant(user, amount)

        outcomes = race_steps(
            ledger.db,
            [
                lambda c: [first_value(c, RESERVE, (user, uuid4(), "1.5")) for _ in range(10)]
                for _ in range(20)
            ],
        )

        assert Counter(itertools.chain(*outcomes)) == {"reserved": 33, "insufficient_credits": 167}
        assert ledger.balance(user) == Balance(Decimal("0.5"), Decimal("49.5"), Decimal(0))
        assert ledger.audit(user) == []

    def test_one_id_of_two_users(self, ledger: Ledger) -> None:
        """Two users reaching for one id: one gets it, the other's money stays where it was."""
        for _ in range(10):
            users, reservation = [new_user(), new_user()], uuid4()
            for user in users:
                ledger.grant(user, 5)

            outcomes = race_steps(
                ledger.db, [call(RESERVE, user, reservation, 5) for user in users]
            )

            assert sorted(outcomes) == ["HF003", "reserved"]
            loser = users[outcomes.index("HF003")]
            assert ledger.balance(loser) == Balance(Decimal(5), Decimal(0), Decimal(0))
            assert ledger.audit(loser) == []


class TestGrant:
    """One fact, heard many times."""

    def test_copies_of_one_call(self, ledger: Ledger) -> None:
        """Copies of one grant grant once, also to a user who had no balance yet."""
        user, key = new_user(), new_key()

        outcomes = race(ledger.db, 32, GRANT, lambda _: (user, key, 10))

        assert Counter(outcomes) == {"granted": 1, "duplicate": 31}
        assert ledger.balance(user).available == 10
        assert ledger.audit(user) == []

    def test_one_key_for_two_users(self, ledger: Ledger) -> None:
        """Two users, one key: one is granted, the other is refused."""
        for _ in range(10):
            users, key = [new_user(), new_user()], new_key()

            outcomes = race_steps(ledger.db, [call(GRANT, user, key, 5) for user in users])

            assert sorted(outcomes) == ["HF002", "granted"]
            assert sum(ledger.balance(user).available for user in users) == 5


class TestSettle:
    """One reservation, many who want to end it."""

    def test_copies_of_one_call(self, ledger: Ledger) -> None:
        """Many settlements of one reservation: one wins, whatever each wanted to charge."""
        user = new_user()
        ledger.grant(user, 10)
        reservation = ledger.reserve(user, 4)

        outcomes = race(ledger.db, 32, SETTLE, lambda n: (reservation, n % 5))

        assert Counter(outcomes) == {"settled": 1, "already_settled": 31}
        charged = ledger.reservation(reservation)["charged"]
        assert ledger.balance(user) == Balance(10 - charged, Decimal(0), Decimal(0))
        assert ledger.audit(user) == []

    def test_full_charge_does_not_wait_for_the_balance(self, ledger: Ledger) -> None:
        """A full charge goes through while somebody holds the balance row; a refund waits for it."""
        user = new_user()
        ledger.grant(user, 10)
        charged, refunded = ledger.reserve(user, 4), ledger.reserve(user, 4)

        with ledger.db.connect("postgres") as holder, holder.transaction():
            holder.execute("select from credit_balances where user_id = %s for update", (user,))
            with ledger.db.connect("holdfast_backend") as other:
                other.execute("set lock_timeout = '300ms'")
                assert call(SETTLE, charged, 4)(other) == "settled"
                assert call(SETTLE, refunded, 0)(other) == "55P03"

        assert ledger.settle(refunded, 0) == "settled"
        assert ledger.audit(user) == []


class TestReverse:
    """One grant, many reversals."""

    def test_copies_of_one_call(self, ledger: Ledger) -> None:
        """Copies of one reversal reverse once."""
        user = new_user()
        key, reversal = ledger.grant(user, 10), new_key("re")

        outcomes = race(ledger.db, 32, REVERSE, lambda _: (key, reversal, 4))

        assert Counter(outcomes) == {"clawed_back": 1, "duplicate": 31}
        assert ledger.balance(user).available == 6
        assert ledger.audit(user) == []

    def test_growing_totals(self, ledger: Ledger) -> None:
        """Whichever of many totals is applied last alone decides what is reversed."""
        user = new_user()
        key = ledger.grant(user, 20)

        race(ledger.db, 16, REVERSE, lambda n: (key, new_key("re"), n))

        reversed_total = ledger.grants(user)[key]["reversed"]
        assert ledger.balance(user).available == 20 - reversed_total
        assert ledger.audit(user) == []


@pytest.mark.own_database
class TestExpiry:
    """The moment of expiry."""

    def test_sweep_against_everything(self, ledger: Ledger, clock: Clock) -> None:
        """Expiry, refund, charge, clawback and a new job at the moment of expiry: one order, right books."""
        for _ in range(12):
            user = new_user()
            key = ledger.grant(user, 10, expires_at=clock.now())
            ledger.db.connection("postgres").execute("select 1")
            clock.advance(seconds=-1)
            reservation = ledger.reserve(user, 4)
            clock.advance(seconds=1)

            outcomes = race_steps(
                ledger.db,
                [
                    call("select ledger.expire_due(10)"),
                    call("select ledger.expire_due(10)"),
                    call(SETTLE, reservation, 1),
                    call(SETTLE, reservation, 0),
                    call(REVERSE, key, new_key("re"), 10),
                    call(RESERVE, user, uuid4(), 2),
                ],
            )

            assert sorted(outcomes[2:4]) == ["already_settled", "settled"]
            assert outcomes[4] == "clawed_back"
            ledger.expire_due()
            assert ledger.audit(user) == []

    def test_due_grants_expire_once(self, ledger: Ledger, clock: Clock) -> None:
        """Many sweeps at once expire every due grant once between them."""
        users = [new_user() for _ in range(30)]
        for user in users:
            ledger.grant(user, 5, expires_at=clock.now())
        clock.advance(seconds=1)

        counts = race(ledger.db, 8, "select ledger.expire_due(%s)", lambda _: (30,))

        assert sum(counts) + ledger.expire_due() == 30
        assert all(ledger.kinds(user) == ["grant", "expire"] for user in users)
        assert ledger.audit() == []


class TestEverything:
    """All kinds of calls together."""

    def test_one_winner(self, ledger: Ledger) -> None:
        """Two settlements and a reversal of the money they share end as if one after another."""
        for _ in range(15):
            user = new_user()
            key = ledger.grant(user, 10)
            reservation = ledger.reserve(user, 6)

            outcomes = race_steps(
                ledger.db,
                [
                    call(SETTLE, reservation, 6),
                    call(SETTLE, reservation, 0),
                    call(REVERSE, key, new_key("re"), 10),
                ],
            )

            assert sorted(outcomes[:2]) == ["already_settled", "settled"]
            owed = 6 if outcomes[0] == "settled" else 0
            assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(owed))
            assert ledger.audit(user) == []

    def test_random_traffic(self, ledger: Ledger) -> None:
        """A storm of everything over a few users: no deadlock, no error, right books."""
        users = [new_user() for _ in range(4)]
        keys = {user: [ledger.grant(user, 50) for _ in range(2)] for user in users}

        outcomes = race_steps(
            ledger.db, [_storm(random.Random(seed), users, keys) for seed in range(12)]
        )

        seen = Counter(itertools.chain(*outcomes))
        assert seen.keys() <= {
            "granted",
            "reserved",
            "insufficient_credits",
            "settled",
            "clawed_back",
            "restored",
            "unchanged",
            "0",
        }
        for user in users:
            assert ledger.audit(user) == []


def _storm(dice: random.Random, users: list[UUID], keys: dict[UUID, list[str]]) -> Step:
    """Return a step of 25 random calls; what it reserved it settles itself."""

    def run(connection: Connection) -> list[str]:
        outcomes, mine = [], []
        for _ in range(25):
            user = dice.choice(users)
            kind = dice.choice(
                ["grant", "reserve", "reserve", "settle", "settle", "reverse", "expire"]
            )
            if kind == "grant":
                step = call(GRANT, user, new_key(), dice.randint(1, 5))
            elif kind == "reserve":
                mine.append((uuid4(), dice.randint(0, 20)))
                step = call(RESERVE, user, *mine[-1])
            elif kind == "settle" and mine:
                reservation, amount = mine.pop()
                step = call(SETTLE, reservation, dice.randint(0, amount))
            elif kind == "reverse":
                step = call(REVERSE, dice.choice(keys[user]), new_key("re"), dice.randint(0, 50))
            else:
                step = call("select ledger.expire_due(5)")
            outcomes.append(str(step(connection)))
        return [outcome for outcome in outcomes if outcome != "not_found"]

    return run
