from __future__ import annotations

import itertools
from datetime import timedelta
from decimal import Decimal

import psycopg
import pytest

from tests.clock import Clock
from tests.factories import Balance, Ledger, new_key, new_user
from tests.raising import raises_sqlstate
from tests.sql.amounts import NOT_AMOUNTS


class TestClawback:
    """More of a grant is reversed than before."""

    def test_untouched_grant(self, ledger: Ledger) -> None:
        """Reversing an untouched grant takes it back whole, with one entry under the reversal's key."""
        user = new_user()
        key, reversal = ledger.grant(user, 10), new_key("re")

        assert ledger.reverse(key, 10, key=reversal) == "clawed_back"

        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(0))
        entry = ledger.entries(user)[-1]
        assert (entry["type"], entry["key"], entry["available_delta"]) == (
            "clawback",
            reversal,
            -10,
        )
        assert ledger.audit(user) == []

    def test_part_of_a_grant(self, ledger: Ledger) -> None:
        """A partial reversal takes its part and leaves the rest to spend."""
        user = new_user()
        key = ledger.grant(user, 10)

        assert ledger.reverse(key, "2.5") == "clawed_back"

        assert ledger.balance(user).available == Decimal("7.5")
        assert ledger.audit(user) == []

    def test_half_used_grant(self, ledger: Ledger) -> None:
        """What was spent of a reversed grant is owed."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 6), 6)

        assert ledger.reverse(key, 10) == "clawed_back"

        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(6))
        assert ledger.audit(user) == []

    def test_fully_used_grant(self, ledger: Ledger) -> None:
        """A grant that is all spent is all owed."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 10), 10)

        assert ledger.reverse(key, 10) == "clawed_back"

        assert ledger.balance(user).owed == 10
        assert ledger.audit(user) == []

    def test_other_credits_are_taken_before_debt(self, ledger: Ledger) -> None:
        """What the grant no longer has comes off other credits in spending order, then is owed."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 10), 10)
        second, third = ledger.grant(user, 3), ledger.grant(user, 4)

        ledger.reverse(key, 5)
        assert [ledger.remaining(each) for each in (second, third)] == [0, 2]
        assert ledger.balance(user) == Balance(Decimal(2), Decimal(0), Decimal(0))

        ledger.reverse(key, 10)
        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(3))
        assert ledger.audit(user) == []

    def test_partly_reserved_grant(self, ledger: Ledger) -> None:
        """Reserved credits stay with their job; they are owed until the job is refunded."""
        user = new_user()
        key = ledger.grant(user, 10)
        reservation = ledger.reserve(user, 4)

        ledger.reverse(key, 10)
        assert ledger.balance(user) == Balance(Decimal(0), Decimal(4), Decimal(4))

        ledger.settle(reservation, 0)
        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(0))
        assert ledger.audit(user) == []

    def test_debt_is_paid_by_the_next_grant(self, ledger: Ledger) -> None:
        """After a clawback of spent credits the next pack pays for them first."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 10), 10)
        ledger.reverse(key, 10)

        ledger.grant(user, 25)

        assert ledger.balance(user) == Balance(Decimal(15), Decimal(0), Decimal(0))
        assert ledger.audit(user) == []

    def test_total_counts_not_the_steps(self, ledger: Ledger) -> None:
        """3 then 7 of 10 take 7 in all: a total is handed over, not a difference."""
        user = new_user()
        key = ledger.grant(user, 10)

        ledger.reverse(key, 3)
        ledger.reverse(key, 7)

        assert ledger.balance(user).available == 3
        assert [entry["available_delta"] for entry in ledger.entries(user)] == [10, -3, -4]


@pytest.mark.own_database
class TestClawbackOfExpired:
    """Grants that expired before or after their reversal."""

    def test_nothing_is_taken_for_what_expired(self, ledger: Ledger, clock: Clock) -> None:
        """Credits that expired unspent are gone already: their reversal costs the user nothing."""
        user = new_user()
        key = ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        other = ledger.grant(user, 10)
        clock.advance(days=1)

        assert ledger.reverse(key, 10) == "clawed_back"

        assert ledger.remaining(other) == 10
        assert ledger.balance(user) == Balance(Decimal(10), Decimal(0), Decimal(0))
        assert ledger.audit() == []

    def test_spent_part_of_an_expired_grant(self, ledger: Ledger, clock: Clock) -> None:
        """Of an expired grant only what was spent is taken, and the absorbed part comes first."""
        user = new_user()
        key = ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        ledger.settle(ledger.reserve(user, 6), 6)
        clock.advance(days=1)

        ledger.reverse(key, 4)
        assert ledger.balance(user).owed == 0
        ledger.reverse(key, 10)
        assert ledger.balance(user).owed == 6
        assert ledger.audit() == []

    def test_restore_gives_back_only_what_was_taken(self, ledger: Ledger, clock: Clock) -> None:
        """Undoing a reversal of an expired grant restores what was taken, not what had expired."""
        user = new_user()
        key = ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        ledger.settle(ledger.reserve(user, 6), 6)
        clock.advance(days=1)
        ledger.reverse(key, 10)

        ledger.reverse(key, 0)

        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(0))
        assert ledger.audit() == []

    def test_restore_after_the_expiry(self, ledger: Ledger, clock: Clock) -> None:
        """Credits clawed back before their grant expired come back afterwards, for 30 days."""
        user = new_user()
        key = ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        ledger.reverse(key, 10)
        clock.advance(days=5)
        undo = new_key("re")

        assert ledger.reverse(key, 4, key=undo) == "restored"

        restored = ledger.grants(user)[f"restored:{undo}"]
        assert (restored["source"], restored["remaining"]) == ("restored", 6)
        assert restored["expires_at"] == clock.now() + timedelta(days=30)
        assert ledger.audit() == []

    def test_part_that_lives_on_as_restored(self, ledger: Ledger, clock: Clock) -> None:
        """Restored credits of an expired grant are taken like any others; for its expired part nothing is."""
        user = new_user()
        key = ledger.grant(user, 10, expires_at=clock.now() + timedelta(days=1))
        reservation = ledger.reserve(user, 6)
        clock.advance(days=2)
        ledger.settle(reservation, 0)  # 4 expired, 6 live on
        ledger.settle(ledger.reserve(user, 2), 2)

        assert ledger.reverse(key, 10) == "clawed_back"

        assert ledger.remaining(f"restored:{reservation}") == 0
        assert ledger.balance(user) == Balance(Decimal(0), Decimal(0), Decimal(2))
        assert ledger.grants(user)[key]["absorbed"] == 4
        assert ledger.audit() == []

    @pytest.mark.parametrize("is_over", [False, True])
    def test_restore_of_other_credits(self, ledger: Ledger, clock: Clock, *, is_over: bool) -> None:
        """What was taken off other grants comes back to the disputed one: until its expiry, or for 30 days."""
        user = new_user()
        expires_at = clock.now() + timedelta(days=9)
        disputed = ledger.grant(user, 10, expires_at=expires_at)
        ledger.settle(ledger.reserve(user, 10), 10)
        other, undo = ledger.grant(user, 10), new_key("re")
        ledger.reverse(disputed, 10)
        clock.advance(days=10 if is_over else 1)

        assert ledger.reverse(disputed, 0, key=undo) == "restored"

        home = ledger.grants(user)[f"restored:{undo}" if is_over else disputed]
        until = clock.now() + timedelta(days=30) if is_over else expires_at
        assert (home["remaining"], home["expires_at"]) == (10, until)
        assert ledger.remaining(other) == 0
        assert ledger.audit() == []


class TestRestore:
    """Less of a grant is reversed than before."""

    def test_grant_gets_its_credits_back(self, ledger: Ledger) -> None:
        """A total of zero undoes the reversal, in the grant's own row."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.reverse(key, 10)

        assert ledger.reverse(key, 0) == "restored"

        assert ledger.remaining(key) == 10
        assert ledger.kinds(user) == ["grant", "clawback", "restore"]
        assert ledger.audit(user) == []

    def test_debt_goes_first(self, ledger: Ledger) -> None:
        """What is restored pays the debt before it is available."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 6), 6)
        ledger.reverse(key, 10)

        ledger.reverse(key, 3)
        assert ledger.balance(user) == Balance(Decimal(1), Decimal(0), Decimal(0))
        assert ledger.audit(user) == []

    def test_restore_of_debt_paid_meanwhile(self, ledger: Ledger) -> None:
        """When a later grant paid the debt, the restore makes the credits available."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.settle(ledger.reserve(user, 10), 10)
        ledger.reverse(key, 10)
        ledger.grant(user, 10)

        ledger.reverse(key, 0)

        assert ledger.balance(user) == Balance(Decimal(10), Decimal(0), Decimal(0))
        assert ledger.audit(user) == []

    def test_restore_before_a_refund(self, ledger: Ledger) -> None:
        """A grant may hold more than its amount: what other grants paid for its open reservation came back to it."""
        user = new_user()
        disputed = ledger.grant(user, 10)
        other = ledger.grant(user, 10)
        reservation = ledger.reserve(user, 6)
        ledger.reverse(disputed, 10)  # 4 of its own, 6 of the other
        ledger.reverse(disputed, 0)

        ledger.settle(reservation, 0)

        assert [ledger.remaining(key) for key in (disputed, other)] == [16, 4]
        assert ledger.balance(user) == Balance(Decimal(20), Decimal(0), Decimal(0))
        assert ledger.try_reserve(user, 20) == "reserved"
        assert ledger.audit(user) == []

    @pytest.mark.parametrize("spent", [0, 4, 10])
    def test_every_order_ends_the_same(self, ledger: Ledger, spent: int) -> None:
        """Whatever way the total wandered, the last total alone decides the balance."""
        totals = [Decimal(0), Decimal("2.5"), Decimal(7), Decimal(10)]
        for walk in itertools.permutations(totals):
            user = new_user()
            key = ledger.grant(user, 10)
            ledger.grant(user, 1)
            ledger.settle(ledger.reserve(user, spent), spent)
            for total in walk:
                ledger.reverse(key, total)
            net = 11 - spent - walk[-1]

            assert ledger.balance(user) == Balance(
                max(net, Decimal(0)), Decimal(0), max(-net, Decimal(0))
            )
            assert ledger.audit(user) == []

    @pytest.mark.parametrize(
        "order",
        list(itertools.permutations(["reverse", "grant", "settle", "restore"])),
        ids="-".join,
    )
    def test_every_order_with_other_movements(self, ledger: Ledger, order: tuple[str, ...]) -> None:
        """Reversal, restore, another grant and a refund add up to the same in any order."""
        user = new_user()
        first, disputed = ledger.grant(user, 5), ledger.grant(user, 10)
        reservation = ledger.reserve(user, 8)
        steps = {
            "reverse": lambda: ledger.reverse(disputed, 10),
            "restore": lambda: ledger.reverse(disputed, 4),
            "grant": lambda: ledger.grant(user, 2),
            "settle": lambda: ledger.settle(reservation, 3),
        }
        for step in order:
            steps[step]()
        reversed_total = 4 if order.index("restore") > order.index("reverse") else 10

        balance = ledger.balance(user)

        assert balance.available - balance.owed == 5 + 10 + 2 - 3 - reversed_total
        assert balance.reserved == 0
        assert first in ledger.grants(user)
        assert ledger.audit(user) == []


class TestRepeated:
    """A reversal key, used again."""

    def test_same_key_reverses_once(self, ledger: Ledger) -> None:
        """The same reversal again is a duplicate."""
        user = new_user()
        key, reversal = ledger.grant(user, 10), new_key("re")
        ledger.reverse(key, 4, key=reversal)
        before = ledger.books(user)

        assert ledger.reverse(key, 4, key=reversal) == "duplicate"
        assert ledger.books(user) == before

    def test_late_copy_does_not_undo_a_newer_total(self, ledger: Ledger) -> None:
        """A copy of an old reversal that arrives after a newer one changes nothing."""
        user = new_user()
        key, old = ledger.grant(user, 10), new_key("re")
        ledger.reverse(key, 3, key=old)
        ledger.reverse(key, 7)

        assert ledger.reverse(key, 3, key=old) == "duplicate"
        assert ledger.balance(user).available == 3

    def test_late_copy_of_a_reversal_without_effect(self, ledger: Ledger) -> None:
        """Also a reversal that changed nothing is remembered: its copy restores nothing later."""
        user = new_user()
        key, idle = ledger.grant(user, 10), new_key("re")
        assert ledger.reverse(key, 0, key=idle) == "unchanged"
        ledger.reverse(key, 10)

        assert ledger.reverse(key, 0, key=idle) == "duplicate"
        assert ledger.balance(user).available == 0

    def test_same_total_under_another_key(self, ledger: Ledger) -> None:
        """A total that is reached already is unchanged and writes no entry."""
        user = new_user()
        key = ledger.grant(user, 10)
        ledger.reverse(key, 4)
        entries = ledger.entries(user)

        assert ledger.reverse(key, 4) == "unchanged"
        assert ledger.entries(user) == entries

    def test_key_with_other_terms(self, ledger: Ledger) -> None:
        """A reversal key used for another grant or another total raises HF005 and changes nothing."""
        user = new_user()
        key, other, reversal = ledger.grant(user, 10), ledger.grant(user, 10), new_key("re")
        ledger.reverse(key, 4, key=reversal)
        before = ledger.books(user)

        for source_key, total in ((other, 4), (key, 5), (key, 0)):
            with raises_sqlstate("HF005"):
                ledger.reverse(source_key, total, key=reversal)

        assert ledger.books(user) == before


class TestRefused:
    """What is not reversed."""

    def test_unknown_grant(self, ledger: Ledger) -> None:
        """A reversal of an unknown grant is not_found and keeps its key unused."""
        user, reversal = new_user(), new_key("re")
        assert ledger.reverse(new_key(), 1, key=reversal) == "not_found"

        assert ledger.reverse(ledger.grant(user, 10), 1, key=reversal) == "clawed_back"

    def test_more_than_was_granted(self, ledger: Ledger) -> None:
        """A total beyond the grant raises HF006: refund and dispute never take more than it gave."""
        user = new_user()
        key = ledger.grant(user, 10)
        before = ledger.books(user)

        with raises_sqlstate("HF006"):
            ledger.reverse(key, "10.001")

        assert ledger.books(user) == before

    @pytest.mark.parametrize("total", NOT_AMOUNTS.values(), ids=NOT_AMOUNTS)
    def test_not_an_amount(self, ledger: Ledger, total: str) -> None:
        """What is no amount raises HF001 and changes nothing."""
        user = new_user()
        key = ledger.grant(user, 10)
        before = ledger.books(user)

        with raises_sqlstate("HF001"):
            ledger.reverse(key, total)

        assert ledger.books(user) == before

    def test_missing_key(self, ledger: Ledger) -> None:
        """A reversal without a key is refused: nothing could tell its copies apart."""
        user = new_user()
        key = ledger.grant(user, 10)

        with pytest.raises(psycopg.errors.NotNullViolation):
            ledger.call("select ledger.reverse(%s, null, 1)", key)

        assert ledger.balance(user).available == 10
