"""Random stories, told to the SQL and to the plain-Python model: both must say the same at every step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.clock import NOON, Clock
from tests.database import NEVER, TestDatabase
from tests.factories import Balance, Ledger
from tests.ledger_profile import FULL, TIMEOUT_SECONDS
from tests.sql.model import Grant, MisuseError, Model

SOURCES = st.sampled_from(["pack", "plan", "welcome", "adjustment"])
LIFETIMES = st.sampled_from([None, timedelta(0), timedelta(days=1), timedelta(days=10)])
BEGINNINGS = st.sampled_from(
    [[], [timedelta(days=1), timedelta(days=10), None], [timedelta(days=10), None, None]]
)
PAUSES = st.sampled_from(
    [timedelta(hours=1), timedelta(days=1), timedelta(days=9), timedelta(days=31)]
)
# few and round, so that they meet: exact ends, shared keys, a total that returns
AMOUNTS = st.sampled_from([Decimal(n) for n in ("0.001", "1", "2.5", "4", "7", "10", "20")])
ODD_AMOUNTS = st.sampled_from(
    [Decimal(n) for n in ("0", "-1", "0.0005", "1e11", "NaN", "Infinity")]
)
SHARES = st.sampled_from([Decimal(n) for n in ("0", "0.25", "0.5", "0.999", "1", "1.25")])

AUDIT_EVERY = 5


class LedgerStory(RuleBasedStateMachine):
    """Two users, everything the ledger can do, and time."""

    database: TestDatabase
    clock: Clock

    grants = Bundle("grants")
    reservations = Bundle("reservations")
    reversals = Bundle("reversals")

    @initialize(target=grants, lives=BEGINNINGS)
    def begin(self, lives: list[timedelta | None]) -> object:
        """Two fresh users, one perhaps with credits: the books of earlier stories stay where they are."""
        self.ledger = Ledger(self.database)
        self.clock.set(NOON)
        self.model = Model(now=NOON)
        self.users = [uuid4(), uuid4()]
        keys = [f"cs:{uuid4()}" for _ in lives]
        for key, life in zip(keys, lives, strict=True):
            self._grant(self.users[0], "pack", key, Decimal(4), life, 100)
        return multiple(*keys)

    @rule(target=grants, user=st.integers(0, 1), source=SOURCES, amount=AMOUNTS, life=LIFETIMES,
          priority=st.sampled_from([50, 100]))  # fmt: skip
    def grant(
        self, user: int, source: str, amount: Decimal, life: timedelta | None, priority: int
    ) -> str:
        """Grant under a new key."""
        key = f"cs:{uuid4()}"
        self._grant(self.users[user], source, key, amount, life, priority)
        return key

    @rule(key=grants, amount=st.none() | AMOUNTS | ODD_AMOUNTS, other=st.booleans())
    def grant_again(self, key: str, amount: Decimal | None, *, other: bool) -> None:
        """Grant under a used key: the same terms or others."""
        known = self.model.grants[key]
        user = self.users[0] if other else known.user
        self._grant(user, known.source, key, known.amount if amount is None else amount, None, 100)

    @rule(target=reservations, user=st.integers(0, 1), amount=AMOUNTS | ODD_AMOUNTS)
    def reserve(self, user: int, amount: Decimal) -> UUID:
        """Reserve under a new id."""
        reservation = uuid4()
        self._reserve(self.users[user], reservation, amount)
        return reservation

    @rule(target=reservations, user=st.integers(0, 1), share=SHARES)
    def reserve_share(self, user: int, share: Decimal) -> UUID:
        """Reserve part of what is there, to the last credit and beyond."""
        reservation = uuid4()
        amount = round(self.model.available(self.users[user]) * share, 3)
        self._reserve(self.users[user], reservation, amount)
        return reservation

    @rule(reservation=reservations, user=st.integers(0, 1), amount=st.none() | AMOUNTS)
    def reserve_again(self, reservation: UUID, user: int, amount: Decimal | None) -> None:
        """Reserve under a used id: the same terms or others."""
        known = self.model.reservations.get(reservation)
        if known and amount is None:
            self._reserve(known.user, reservation, known.amount)
        else:
            self._reserve(self.users[user], reservation, amount or Decimal(1))

    @rule(reservation=reservations, share=SHARES)
    def settle_any(self, reservation: UUID, share: Decimal) -> None:
        """Settle for a share of the amount, also what is settled already or was never reserved."""
        self._settle(reservation, share)

    @precondition(lambda self: self.model.open_reservations())
    @rule(pick=st.integers(0, 99), share=SHARES)
    def settle_open(self, pick: int, share: Decimal) -> None:
        """Settle one that is open, of which a random id is seldom."""
        found = self.model.open_reservations()
        self._settle(found[pick % len(found)], share)

    @rule(reservation=reservations, charge=ODD_AMOUNTS)
    def settle_oddly(self, reservation: UUID, charge: Decimal) -> None:
        """Settle for what may be no amount."""
        self._agree(
            lambda: self.model.settle(reservation, charge),
            lambda: self.ledger.settle(reservation, charge),
        )

    @rule(target=reversals, key=grants, share=SHARES)
    def reverse(self, key: str, share: Decimal) -> tuple[str, str, Decimal]:
        """Set how much of a grant is reversed, up and down."""
        total = round(self.model.grants[key].amount * share, 3)
        reversal = f"re:{uuid4()}"
        self._reverse(key, reversal, total)
        return key, reversal, total

    @rule(target=reversals, reversal=reversals, key=st.none() | grants, total=st.none() | AMOUNTS)
    def reverse_again(
        self, reversal: tuple[str, str, Decimal], key: str | None, total: Decimal | None
    ) -> object:
        """Deliver a reversal again: a late copy, or its key with other terms."""
        known_key, name, known_total = reversal
        self._reverse(key or known_key, name, known_total if total is None else total)
        return multiple()

    @rule(pause=PAUSES)
    def wait(self, pause: timedelta) -> None:
        """Let time pass."""
        self.clock.set(self.model.now + pause)
        self.model.advance(self.model.now + pause)

    @rule()
    def sweep(self) -> None:
        """Expire what is due; how much can be spent does not change by it."""
        due = self.database.value(
            "select count(*) from credit_grants where is_open and expires_at <= ledger.clock()"
        )
        assert self.ledger.expire_due() == due

    @invariant()
    def books_agree(self) -> None:
        """Compare all that a user can notice, and each reservation with what it was taken from."""
        for user in getattr(self, "users", []):
            assert self._reservations(user) == {
                name: (
                    each.amount,
                    each.charged,
                    each.charged is not None,
                    [(self._key_of(grant), part) for grant, part in each.taken],
                )
                for name, each in self.model.reservations.items()
                if each.user == user
            }
            expected = {
                key: (grant.remaining, grant.reversed)
                for key, grant in self.model.grants.items()
                if grant.user == user
            }
            found = self.database.rows(
                "select source_key, reversed,"
                " case when expires_at > ledger.clock() then remaining else 0 end as spendable"
                " from credit_grants where user_id = %s",
                user,
            )
            assert {r["source_key"]: (r["spendable"], r["reversed"]) for r in found} == expected
            model = self.model
            balance = self.ledger.balance(user)
            assert Balance(model.available(user), balance.reserved, balance.owed) == Balance(
                sum((row["spendable"] for row in found), Decimal(0)),
                model.reserved(user),
                model.owed(user),
            )

    @invariant()
    def audit_agrees(self) -> None:
        """Audit the story's users, but not at every step: it would be half of the time."""
        self.steps = getattr(self, "steps", -1) + 1
        if self.steps % AUDIT_EVERY == 0:
            self._audit()

    def teardown(self) -> None:
        """Whatever happened, the books are right."""
        self._audit()

    def _audit(self) -> None:
        for user in getattr(self, "users", []):
            assert self.ledger.audit(user) == []

    def _reservations(self, user: UUID) -> dict[UUID, object]:
        found = self.database.rows(
            "select r.id, r.amount, r.charged, r.settled_at is not null as settled, r.grant_amounts,"
            " array(select g.source_key from unnest(r.grant_ids) with ordinality t (id, n)"
            "       join credit_grants g using (id) order by n) as keys"
            " from credit_reservations r where r.user_id = %s",
            user,
        )
        return {
            row["id"]: (
                row["amount"],
                row["charged"],
                row["settled"],
                list(zip(row["keys"], row["grant_amounts"], strict=True)),
            )
            for row in found
        }

    def _key_of(self, grant: Grant) -> str:
        return next(key for key, each in self.model.grants.items() if each is grant)

    def _grant(
        self,
        user: UUID,
        source: str,
        key: str,
        amount: Decimal,
        life: timedelta | None,
        priority: int,
    ) -> None:
        expires_at: datetime = NEVER if life is None else self.model.now + life
        self._agree(
            lambda: self.model.grant(user, source, key, amount, expires_at, priority),
            lambda: self.ledger.try_grant(
                user,
                amount,
                key=key,
                source=source,
                expires_at=None if life is None else expires_at,
                priority=priority,
            ),
        )

    def _reserve(self, user: UUID, reservation: UUID, amount: Decimal) -> None:
        self._agree(
            lambda: self.model.reserve(user, reservation, amount),
            lambda: self.ledger.try_reserve(user, amount, reservation),
        )

    def _settle(self, reservation: UUID, share: Decimal) -> None:
        known = self.model.reservations.get(reservation)
        charge = round((known.amount if known else Decimal(1)) * share, 3)
        self._agree(
            lambda: self.model.settle(reservation, charge),
            lambda: self.ledger.settle(reservation, charge),
        )

    def _reverse(self, key: str, reversal: str, total: Decimal) -> None:
        self._agree(
            lambda: self.model.reverse(key, reversal, total),
            lambda: self.ledger.reverse(key, total, key=reversal),
        )

    @staticmethod
    def _agree(expected: Callable[[], str], found: Callable[[], str]) -> None:
        assert _outcome(found) == _outcome(expected)


def _outcome(call: Callable[[], str]) -> str:
    try:
        return call()
    except MisuseError as error:
        return error.sqlstate
    except psycopg.Error as error:
        return error.sqlstate or repr(error)


@pytest.fixture(name="story")
def _story(db: TestDatabase, clock: Clock) -> Iterator[type[LedgerStory]]:
    LedgerStory.database, LedgerStory.clock = db, clock
    yield LedgerStory
    del LedgerStory.database, LedgerStory.clock


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.own_database
def test_sql_agrees_with_the_model(story: type[LedgerStory], ledger: Ledger) -> None:
    """Whatever is done in whatever order, outcomes and balances are the model's, and the audit is empty."""
    run_state_machine_as_test(
        story,
        settings=settings(
            max_examples=2000 if FULL else 50,
            stateful_step_count=50 if FULL else 30,
            deadline=None,
            database=None,
            print_blob=True,
            suppress_health_check=list(HealthCheck),
        ),
    )

    assert ledger.audit() == []
