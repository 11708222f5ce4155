from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import psycopg
import pytest

from tests.clock import Clock
from tests.database import NEVER
from tests.factories import Balance, Ledger, new_key, new_user
from tests.raising import raises_sqlstate
from tests.sql.amounts import LARGEST, NOT_AMOUNTS


class TestGranted:
    """The outcome `granted`."""

    def test_credits_become_available(self, ledger: Ledger) -> None:
        """A grant adds its amount to the balance and writes one entry under its key."""
        user = new_user()

        key = ledger.grant(user, "12.345")

        assert ledger.balance(user) == Balance(Decimal("12.345"), Decimal(0), Decimal(0))
        (entry,) = ledger.entries(user)
        assert (entry["type"], entry["key"]) == ("grant", key)
        assert entry["available_delta"] == entry["available_after"] == Decimal("12.345")
        assert ledger.audit(user) == []

    def test_grants_add_up(self, ledger: Ledger) -> None:
        """Two keys grant twice."""
        user = new_user()

        ledger.grant(user, 10)
        ledger.grant(user, 10)

        assert ledger.balance(user).available == 20

    @pytest.mark.parametrize("source", ["pack", "plan", "welcome", "adjustment"])
    def test_every_source_of_callers(self, ledger: Ledger, source: str) -> None:
        """Each source a caller may name is kept with the grant."""
        user = new_user()

        key = ledger.grant(user, source=source)

        assert ledger.grants(user)[key]["source"] == source

    def test_no_expiry_means_never(self, ledger: Ledger) -> None:
        """A grant without an expiry never expires and needs no look at the clock."""
        user = new_user()

        key = ledger.grant(user, expires_at=None)

        assert ledger.grants(user)[key]["expires_at"] == NEVER
        (balance,) = ledger.books(user)["balances"]
        assert balance["next_expiry_at"] == NEVER

    def test_smallest_and_largest_amounts(self, ledger: Ledger) -> None:
        """A thousandth and the largest amount the column holds are exact."""
        small, large = new_user(), new_user()

        ledger.grant(small, "0.001")
        ledger.grant(large, LARGEST)

        assert ledger.balance(small).available == Decimal("0.001")
        assert ledger.balance(large).available == Decimal(LARGEST)

    def test_overflowing_balance_is_refused(self, ledger: Ledger) -> None:
        """A grant the balance cannot hold fails whole."""
        user = new_user()
        ledger.grant(user, LARGEST)
        before = ledger.books(user)

        with pytest.raises(psycopg.errors.NumericValueOutOfRange):
            ledger.grant(user, LARGEST)

        assert ledger.books(user) == before


class TestDuplicate:
    """A source key, used again."""

    def test_same_key_grants_once(self, ledger: Ledger) -> None:
        """The same key with the same terms is a duplicate and changes nothing."""
        user = new_user()
        key = ledger.grant(user)
        before = ledger.books(user)

        outcome = ledger.try_grant(user, 10, key=key)

        assert outcome == "duplicate"
        assert ledger.books(user) == before

    def test_other_expiry_or_priority(self, ledger: Ledger) -> None:
        """Expiry and priority are not terms of the key: a copy that names others is a duplicate and changes neither."""
        user = new_user()
        key = ledger.grant(user)
        before = ledger.books(user)

        again = ledger.try_grant(user, 10, key=key, expires_at=datetime.now(UTC), priority=1)

        assert again == "duplicate"
        assert ledger.books(user) == before

    def test_key_stays_used_when_all_is_spent(self, ledger: Ledger) -> None:
        """One fact grants once, for ever: also when nothing of it is left."""
        user = new_user()
        key = ledger.grant(user, 5)
        ledger.settle(ledger.reserve(user, 5), 5)

        assert ledger.try_grant(user, 5, key=key) == "duplicate"
        assert ledger.balance(user).available == 0

    @pytest.mark.parametrize(
        "terms",
        [{"amount": 11}, {"source": "plan"}, {"user": new_user()}],
        ids=["amount", "source", "user"],
    )
    def test_other_terms_are_refused(self, ledger: Ledger, terms: dict[str, object]) -> None:
        """The same key with another user, amount or source raises HF002 and changes nothing."""
        user = new_user()
        key = ledger.grant(user, 10)
        before = ledger.books(user)
        asked = {"user": user, "amount": 10, "source": "pack"} | terms

        with raises_sqlstate("HF002"):
            ledger.try_grant(key=key, **asked)  # type: ignore[arg-type]

        assert ledger.books(user) == before
        assert asked["user"] == user or ledger.books(asked["user"])["balances"] == []  # type: ignore[arg-type]


class TestRefused:
    """What is not granted."""

    @pytest.mark.parametrize("amount", ["0", *NOT_AMOUNTS.values()], ids=["zero", *NOT_AMOUNTS])
    def test_not_an_amount(self, ledger: Ledger, amount: str) -> None:
        """Zero and whatever is no amount raise HF001 and leave no trace, not even a balance."""
        user = new_user()

        with raises_sqlstate("HF001"):
            ledger.try_grant(user, amount, key=new_key())

        assert not any(ledger.books(user).values())

    @pytest.mark.parametrize(
        ("source", "key"), [("gift", "cs:1"), ("restored", "cs:2"), ("pack", "restored:3")]
    )
    def test_unknown_source(self, ledger: Ledger, source: str, key: str) -> None:
        """An unknown source is refused, and so are the source and the keys of the ledger's own."""
        user = new_user()

        with raises_sqlstate("23514"):
            ledger.try_grant(user, 1, key=key, source=source)

        assert not any(ledger.books(user).values())

    @pytest.mark.parametrize("missing", ["user", "key"])
    def test_missing_user_or_key(self, ledger: Ledger, missing: str) -> None:
        """Without a user or without a key nothing is granted."""
        params = {"user": new_user(), "key": new_key()} | {missing: None}

        with pytest.raises(psycopg.errors.NotNullViolation):
            ledger.call(
                "select ledger.grant(%s::uuid, 'pack', %s, 1)", params["user"], params["key"]
            )


class TestDebt:
    """Grants to a user who owes."""

    def test_grant_pays_debt_first(self, ledger: Ledger) -> None:
        """A grant larger than the debt clears it and makes the rest available."""
        user = _owing(ledger, 10)

        key = ledger.grant(user, 15)

        assert ledger.balance(user) == Balance(Decimal(5), Decimal(0), Decimal(0))
        assert ledger.remaining(key) == 5
        last = ledger.entries(user)[-1]
        assert (last["available_delta"], last["owed_delta"]) == (5, -10)
        assert ledger.audit(user) == []

    @pytest.mark.parametrize(("amount", "owed"), [(4, 6), (10, 0)])
    def test_grant_within_debt(self, ledger: Ledger, amount: int, owed: int) -> None:
        """A grant not larger than the debt lowers it and leaves nothing available."""
        user = _owing(ledger, 10)

        key = ledger.grant(user, amount)

        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(owed))
        assert ledger.remaining(key) == 0
        assert ledger.audit(user) == []


@pytest.mark.own_database
def test_grant_that_is_already_over(ledger: Ledger, clock: Clock) -> None:
    """Credits granted after their expiry are granted, and expire at the next look."""
    user = new_user()

    ledger.grant(user, 5, expires_at=clock.now() - timedelta(days=1))

    assert ledger.try_reserve(user, 1) == "insufficient_credits"
    assert ledger.kinds(user) == ["grant", "expire"]
    assert ledger.audit() == []


def _owing(ledger: Ledger, amount: int) -> UUID:
    """Return a user who spent a grant that was then clawed back."""
    user = new_user()
    key = ledger.grant(user, amount)
    ledger.settle(ledger.reserve(user, amount), amount)
    assert ledger.reverse(key, amount) == "clawed_back"
    assert ledger.balance(user).owed == amount
    return user
