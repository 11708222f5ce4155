from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import pytest

from tests.clock import Clock
from tests.factories import Balance, Ledger, new_user
from tests.raising import raises_sqlstate
from tests.sql.amounts import NOT_AMOUNTS


class TestSettled:
    """The outcome `settled`."""

    def test_full_charge(self, ledger: Ledger) -> None:
        """A full charge ends the reservation with one entry and touches the balance no more."""
        user, reservation = _reserved(ledger, 4)

        assert ledger.settle(reservation, 4) == "settled"

        assert ledger.balance(user) == Balance(Decimal(6), Decimal(0), Decimal(0))
        assert ledger.kinds(user) == ["grant", "reserve", "charge"]
        assert ledger.entries(user)[-1]["available_after"] is None
        assert ledger.audit(user) == []

    def test_full_refund(self, ledger: Ledger) -> None:
        """A charge of zero gives everything back."""
        user, reservation = _reserved(ledger, 4)

        assert ledger.settle(reservation, 0) == "settled"

        assert ledger.balance(user) == Balance(Decimal(10), Decimal(0), Decimal(0))
        assert ledger.kinds(user) == ["grant", "reserve", "refund"]
        assert ledger.audit(user) == []

    def test_full_refund_of_several_grants(self, ledger: Ledger) -> None:
        """What several grants gave returns to each of them, its own part."""
        user = new_user()
        keys = [ledger.grant(user, amount) for amount in (3, "2.5", 4)]
        ledger.settle(ledger.reserve(user, 1), 1)
        reservation = ledger.reserve(user, 6)  # 2 + 2.5 + 1.5
        assert [ledger.remaining(key) for key in keys] == [0, 0, Decimal("2.5")]

        assert ledger.settle(reservation, 0) == "settled"

        assert [ledger.remaining(key) for key in keys] == [2, Decimal("2.5"), 4]
        assert ledger.audit(user) == []

    def test_partial_charge(self, ledger: Ledger) -> None:
        """A partial charge refunds the rest in the same call."""
        user, reservation = _reserved(ledger, 4)

        assert ledger.settle(reservation, "1.333") == "settled"

        assert ledger.balance(user) == Balance(Decimal("8.667"), Decimal(0), Decimal(0))
        assert ledger.kinds(user) == ["grant", "reserve", "charge", "refund"]
        assert ledger.reservation(reservation)["charged"] == Decimal("1.333")
        assert ledger.audit(user) == []

    def test_charge_uses_what_was_taken_first(self, ledger: Ledger) -> None:
        """What is refunded returns to the grants taken last, each its own part."""
        user = new_user()
        keys = [ledger.grant(user, 3) for _ in range(4)]
        reservation = ledger.reserve(user, 8)  # 3 + 3 + 2

        ledger.settle(reservation, 4)

        assert [ledger.remaining(key) for key in keys] == [0, 2, 3, 3]
        assert ledger.audit(user) == []


class TestRepeated:
    """A reservation that is settled already."""

    @pytest.mark.parametrize("first", [0, 2, 4])
    @pytest.mark.parametrize("second", [0, 2, 4, 5])
    def test_first_one_wins(self, ledger: Ledger, first: int, second: int) -> None:
        """A settled reservation answers already_settled to every later charge and stays as it is."""
        user, reservation = _reserved(ledger, 4)
        ledger.settle(reservation, first)
        before = ledger.books(user)

        assert ledger.settle(reservation, second) == "already_settled"
        assert ledger.books(user) == before


class TestRefused:
    """What is not settled."""

    def test_unknown_reservation(self, ledger: Ledger) -> None:
        """An unknown id is not_found."""
        assert ledger.settle(uuid4(), 0) == "not_found"

    @pytest.mark.parametrize("amount", ["0", "4"])
    def test_charge_beyond_the_amount(self, ledger: Ledger, amount: str) -> None:
        """A charge beyond the reservation raises HF004 and leaves it open."""
        user, reservation = _reserved(ledger, amount)
        before = ledger.books(user)

        with raises_sqlstate("HF004"):
            ledger.settle(reservation, Decimal(amount) + Decimal("0.001"))

        assert ledger.books(user) == before

    @pytest.mark.parametrize("charge", NOT_AMOUNTS.values(), ids=NOT_AMOUNTS)
    def test_not_an_amount(self, ledger: Ledger, charge: str) -> None:
        """What is no amount raises HF001 and leaves the reservation open."""
        user, reservation = _reserved(ledger, 4)
        before = ledger.books(user)

        with raises_sqlstate("HF001"):
            ledger.settle(reservation, charge)

        assert ledger.books(user) == before


class TestRefundAndDebt:
    """Refunds to a user who owes."""

    def test_refund_pays_debt_first(self, ledger: Ledger) -> None:
        """Credits that come back pay what is owed before they are available."""
        user = new_user()
        key = ledger.grant(user, 10)
        reservation = ledger.reserve(user, 8)
        ledger.reverse(key, 5)  # 2 were left, 3 are owed

        assert ledger.settle(reservation, 1) == "settled"

        assert ledger.balance(user) == Balance(Decimal(4), Decimal(0), Decimal(0))
        last = ledger.entries(user)[-1]
        assert (last["available_delta"], last["owed_delta"]) == (4, -3)
        assert ledger.audit(user) == []

    def test_refund_within_debt(self, ledger: Ledger) -> None:
        """A refund not larger than the debt makes nothing available."""
        user = new_user()
        key = ledger.grant(user, 10)
        reservation = ledger.reserve(user, 10)
        ledger.reverse(key, 10)

        assert ledger.settle(reservation, 4) == "settled"

        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(4))
        assert ledger.remaining(key) == 0
        assert ledger.audit(user) == []


@pytest.mark.own_database
class TestExpiredWhileReserved:
    """Refunds to grants that are over."""

    def test_refund_becomes_a_restored_grant(self, ledger: Ledger, clock: Clock) -> None:
        """Credits of a grant that expired meanwhile come back for 30 days under a new grant."""
        user = new_user()
        ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        reservation = ledger.reserve(user, 4)
        clock.advance(days=2)

        assert ledger.settle(reservation, 1) == "settled"

        restored = ledger.grants(user)[f"restored:{reservation}"]
        assert (restored["source"], restored["amount"], restored["remaining"]) == (
            "restored",
            3,
            3,
        )
        assert restored["expires_at"] == clock.now() + timedelta(days=30)
        assert ledger.try_reserve(user, 3) == "reserved"
        assert ledger.audit() == []

    def test_restored_credits_expire_too(self, ledger: Ledger, clock: Clock) -> None:
        """After the 30 days restored credits are gone."""
        user = new_user()
        ledger.grant(user, 4, expires_at=clock.now() + timedelta(days=1))
        reservation = ledger.reserve(user, 4)
        clock.advance(days=2)
        ledger.settle(reservation, 0)

        clock.advance(days=29)
        assert ledger.expire_due() == 0
        clock.advance(days=1)
        assert ledger.expire_due() == 1
        assert ledger.balance(user).available == 0
        assert ledger.audit() == []

    def test_restored_credits_expire_after_a_sweep(self, ledger: Ledger, clock: Clock) -> None:
        """The restored grant's expiry is noted also when nothing else of the account can expire any more."""
        user = new_user()
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=1))
        reservation = ledger.reserve(user, 5)
        ledger.grant(user, 1, expires_at=clock.now() + timedelta(days=1))
        clock.advance(days=2)
        assert ledger.expire_due() == 1

        ledger.settle(reservation, 0)

        assert ledger.audit(user) == []
        clock.advance(days=31)
        assert ledger.expire_due() == 1
        assert ledger.balance(user).available == 0

    def test_each_part_finds_its_own_home(self, ledger: Ledger, clock: Clock) -> None:
        """Of several grants only the expired ones' parts become a restored grant."""
        user = new_user()
        gone = [
            ledger.grant(user, 2, expires_at=clock.now() + timedelta(days=days)) for days in (1, 2)
        ]
        alive = ledger.grant(user, 5)
        reservation = ledger.reserve(user, 6)  # 2 + 2 + 2
        clock.advance(days=3)

        ledger.settle(reservation, 1)

        assert [ledger.remaining(key) for key in gone] == [0, 0]
        assert ledger.remaining(f"restored:{reservation}") == 3
        assert ledger.remaining(alive) == 5
        assert ledger.audit() == []

    def test_full_charge_restores_nothing(self, ledger: Ledger, clock: Clock) -> None:
        """An expiry does not reach credits that are reserved, and a charge then uses them up."""
        user = new_user()
        ledger.grant(user, 4, expires_at=clock.now() + timedelta(days=1))
        reservation = ledger.reserve(user, 4)
        clock.advance(days=2)
        assert ledger.expire_due() == 0

        assert ledger.settle(reservation, 4) == "settled"

        assert ledger.kinds(user) == ["grant", "reserve", "charge"]
        assert ledger.audit() == []


def _reserved(ledger: Ledger, amount: int | str) -> tuple[UUID, UUID]:
    user = new_user()
    ledger.grant(user, 10)
    return user, ledger.reserve(user, amount)
