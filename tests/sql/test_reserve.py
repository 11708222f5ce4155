from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg
import pytest

from tests.clock import Clock
from tests.factories import Balance, Ledger, new_user
from tests.raising import raises_sqlstate
from tests.sql.amounts import NOT_AMOUNTS


class TestReserved:
    """The outcome `reserved`."""

    def test_credits_are_set_aside(self, ledger: Ledger) -> None:
        """A reservation moves credits from available to reserved with one entry."""
        user = new_user()
        ledger.grant(user, 10)

        reservation = ledger.reserve(user, "3.5")

        assert ledger.balance(user) == Balance(Decimal("6.5"), Decimal("3.5"), Decimal(0))
        entry = ledger.entries(user)[-1]
        assert (entry["type"], entry["reservation_id"]) == ("reserve", reservation)
        assert (entry["available_delta"], entry["reserved_delta"]) == (
            Decimal("-3.5"),
            Decimal("3.5"),
        )
        assert ledger.audit(user) == []

    def test_whole_balance(self, ledger: Ledger) -> None:
        """The last thousandth can be reserved, and not one more."""
        user = new_user()
        ledger.grant(user, "0.002")

        ledger.reserve(user, "0.002")

        assert ledger.try_reserve(user, "0.001") == "insufficient_credits"

    def test_several_grants(self, ledger: Ledger) -> None:
        """A reservation larger than one grant takes from as many as it needs and says how much."""
        user = new_user()
        first, second, third = (ledger.grant(user, 4) for _ in range(3))

        reservation = ledger.reservation(ledger.reserve(user, 6))

        ids = [ledger.grants(user)[key]["id"] for key in (first, second)]
        assert reservation["grant_ids"] == ids
        assert reservation["grant_amounts"] == [4, 2]
        assert [ledger.remaining(key) for key in (first, second, third)] == [0, 2, 4]

    @pytest.mark.own_database
    @pytest.mark.parametrize("amounts", [[1] * 6, [2] * 3, [6]], ids=str)
    def test_spending_order(self, ledger: Ledger, clock: Clock, amounts: list[int]) -> None:
        """Soonest expiry first, then lower priority, then the oldest, from one grant or from several."""
        user = new_user()
        soon, late = clock.now() + timedelta(days=1), clock.now() + timedelta(days=9)
        fifth = ledger.grant(user, 1)
        fourth = ledger.grant(user, 1, priority=50)
        third = ledger.grant(user, 1, expires_at=late)
        second = ledger.grant(user, 1, expires_at=soon, priority=101)
        first = ledger.grant(user, 1, expires_at=soon, priority=100)
        also_first = ledger.grant(user, 1, expires_at=soon, priority=100)

        taken = [ledger.reservation(ledger.reserve(user, amount)) for amount in amounts]

        key_of = {row["id"]: key for key, row in ledger.grants(user).items()}
        spent = [key_of[grant_id] for each in taken for grant_id in each["grant_ids"]]
        assert spent == [first, also_first, second, third, fourth, fifth]

    def test_zero(self, ledger: Ledger) -> None:
        """A free reservation needs no credits and no balance, and ends like any other."""
        user = new_user()

        reservation = ledger.reserve(user, 0)

        assert ledger.try_reserve(user, 0, reservation) == "duplicate"
        assert ledger.settle(reservation, 0) == "settled"
        assert ledger.try_reserve(user, 0, reservation) == "already_settled"
        assert ledger.audit(user) == []


class TestRepeated:
    """A reservation id, used again."""

    def test_open_reservation(self, ledger: Ledger) -> None:
        """The same reservation asked for again is a duplicate and takes nothing."""
        user = new_user()
        ledger.grant(user, 10)
        reservation = ledger.reserve(user, 4)
        before = ledger.books(user)

        assert ledger.try_reserve(user, 4, reservation) == "duplicate"
        assert ledger.books(user) == before

    def test_open_reservation_with_nothing_left(self, ledger: Ledger) -> None:
        """A repeated call is told duplicate, not insufficient, when the first took the last credit."""
        user = new_user()
        ledger.grant(user, 4)
        reservation = ledger.reserve(user, 4)

        assert ledger.try_reserve(user, 4, reservation) == "duplicate"

    @pytest.mark.parametrize("charge", [0, 1, 4])
    def test_settled_reservation(self, ledger: Ledger, charge: int) -> None:
        """A settled id never reserves again, charged or refunded: no output for a refunded job."""
        user = new_user()
        ledger.grant(user, 10)
        reservation = ledger.reserve(user, 4)
        ledger.settle(reservation, charge)
        before = ledger.books(user)

        assert ledger.try_reserve(user, 4, reservation) == "already_settled"
        assert ledger.books(user) == before

    @pytest.mark.parametrize("settled", [False, True])
    @pytest.mark.parametrize("left", [0, 6])
    def test_other_amount(self, ledger: Ledger, left: int, *, settled: bool) -> None:
        """The same id with another amount raises HF003, whatever is left and however it ended."""
        user = new_user()
        ledger.grant(user, 4 + left)
        reservation = ledger.reserve(user, 4)
        if settled:
            ledger.settle(reservation, 4)
        before = ledger.books(user)

        for amount in ("3.999", "5", "0"):
            with raises_sqlstate("HF003"):
                ledger.try_reserve(user, amount, reservation)

        assert ledger.books(user) == before

    @pytest.mark.parametrize("amount", [4, 0])
    def test_other_user(self, ledger: Ledger, amount: int) -> None:
        """Another user's id raises HF003 for rich and poor alike, and both books stay as they were."""
        user, rich, poor = new_user(), new_user(), new_user()
        ledger.grant(user, 10)
        ledger.grant(rich, 10)
        reservation = ledger.reserve(user, amount)
        before = [ledger.books(each) for each in (user, rich, poor)]

        for other in (rich, poor):
            with raises_sqlstate("HF003"):
                ledger.try_reserve(other, amount, reservation)

        assert [ledger.books(each) for each in (user, rich, poor)] == before

    def test_a_stranger_learns_only_that_the_id_is_used(self, ledger: Ledger) -> None:
        """Whoever asks, and however the reservation ended, the refusal has the same words and no detail."""
        user, stranger = new_user(), new_user()
        ledger.grant(user, 10)
        ledger.grant(stranger, 10)
        reserved, settled = ledger.reserve(user, 4), ledger.reserve(user, 4)
        ledger.settle(settled, 4)
        asked = [
            (user, 3, reserved),
            *((stranger, n, r) for n in (3, 4) for r in (reserved, settled)),
        ]

        said = [_refusal(ledger, *each) for each in asked]

        assert said == [("HF003", "this id reserved something else", None, None)] * 5


class TestRefused:
    """What is not reserved."""

    def test_too_little(self, ledger: Ledger) -> None:
        """A reservation beyond the balance is refused and leaves no row."""
        user = new_user()
        ledger.grant(user, 10)
        before = ledger.books(user)

        assert ledger.try_reserve(user, "10.001") == "insufficient_credits"
        assert ledger.books(user) == before

    def test_unknown_user(self, ledger: Ledger) -> None:
        """Who never had credits has too few."""
        user = new_user()

        assert ledger.try_reserve(user, 1) == "insufficient_credits"
        assert not any(ledger.books(user).values())

    def test_reserved_credits_cannot_be_reserved_again(self, ledger: Ledger) -> None:
        """What one job holds is not there for another."""
        user = new_user()
        ledger.grant(user, 5)
        ledger.reserve(user, 3)

        assert ledger.try_reserve(user, 3) == "insufficient_credits"

    @pytest.mark.parametrize("amount", NOT_AMOUNTS.values(), ids=NOT_AMOUNTS)
    def test_not_an_amount(self, ledger: Ledger, amount: str) -> None:
        """What is no amount raises HF001 and changes nothing."""
        user = new_user()
        ledger.grant(user, 10)
        before = ledger.books(user)

        with raises_sqlstate("HF001"):
            ledger.try_reserve(user, amount)

        assert ledger.books(user) == before

    @pytest.mark.parametrize("amount", [0, 1])
    def test_missing_id(self, ledger: Ledger, amount: int) -> None:
        """A reservation without an id is refused and takes nothing."""
        user = new_user()
        ledger.grant(user, 10)

        with pytest.raises(psycopg.errors.NotNullViolation):
            ledger.call("select ledger.reserve(%s, null, %s)", user, amount)

        assert ledger.balance(user).available == 10

    def test_debtor(self, ledger: Ledger) -> None:
        """Who owes credits can reserve nothing that costs."""
        user = new_user()
        key = ledger.grant(user, 5)
        ledger.settle(ledger.reserve(user, 5), 5)
        ledger.reverse(key, 5)

        assert ledger.try_reserve(user, "0.001") == "insufficient_credits"
        assert ledger.try_reserve(user, 0, uuid4()) == "reserved"
        assert ledger.audit(user) == []


@pytest.mark.own_database
class TestDueExpiry:
    """Credits that expire while nobody looks."""

    def test_expired_credits_cannot_be_reserved(self, ledger: Ledger, clock: Clock) -> None:
        """A due expiry is applied by the reservation itself, sweep or no sweep."""
        user = new_user()
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(days=1))
        ledger.grant(user, 2)
        clock.advance(days=1)

        assert ledger.try_reserve(user, 3) == "insufficient_credits"
        assert ledger.try_reserve(user, 2) == "reserved"
        assert ledger.kinds(user) == ["grant", "grant", "expire", "reserve"]
        assert ledger.audit() == []

    def test_credits_live_until_their_expiry(self, ledger: Ledger, clock: Clock) -> None:
        """A second before its expiry a grant is spent; at the expiry it is gone."""
        user = new_user()
        ledger.grant(user, 5, expires_at=clock.now() + timedelta(seconds=2))

        clock.advance(seconds=1)
        assert ledger.try_reserve(user, 1) == "reserved"
        clock.advance(seconds=1)
        assert ledger.try_reserve(user, 1) == "insufficient_credits"
        assert ledger.audit() == []


def _refusal(ledger: Ledger, user: UUID, amount: int, reservation: UUID) -> tuple[object, ...]:
    with pytest.raises(psycopg.Error) as refused:
        ledger.try_reserve(user, amount, reservation)
    said = refused.value.diag
    return said.sqlstate, said.message_primary, said.message_detail, said.message_hint
