"""Refunds and disputes: the credits follow the money, whatever the order and number of messages."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from tests.billing import Stripe
from tests.factories import Backend, Balance, Checkout, new_key
from tests.raising import raises_sqlstate

CHARGED = 999


@pytest.fixture(name="stripe")
def _stripe(backend: Backend) -> Stripe:
    return Stripe(backend)


@pytest.fixture(name="pack")
def _pack(stripe: Stripe) -> Checkout:
    """Return a paid pack: 100 credits for 999."""
    checkout = _unpaid(stripe)
    assert stripe.backend.checkout_event(checkout) == "granted"
    return checkout


def _unpaid(stripe: Stripe, credits_: int = 100) -> Checkout:
    return stripe.backend.open_purchase(stripe.user, credits_, CHARGED)


def _available(stripe: Stripe) -> Decimal:
    return stripe.ledger.balance(stripe.user).available


class TestVectors:
    """The facts' table: 100 credits for 999."""

    def test_refunds_and_a_dispute(self, stripe: Stripe, pack: Checkout) -> None:
        """Two refunds, one of which fails, a dispute that is won, and the rest refunded."""
        pi = pack.payment_intent
        steps: list[tuple[Callable[[], str], str, str]] = [
            (lambda: stripe.reversal(pi, 500, "succeeded", 1), "clawed_back", "50"),
            (lambda: stripe.reversal(pi, 499, "pending", 2), "clawed_back", "0"),
            (lambda: stripe.reversal(pi, 499, "failed", 2), "restored", "50"),
            (lambda: stripe.dispute(pi, 999, "needs_response"), "clawed_back", "0"),
            (lambda: stripe.dispute(pi, 999, "won"), "restored", "50"),
            (lambda: stripe.reversal(pi, 499, "succeeded", 3), "clawed_back", "0"),
        ]
        # 100 * 500 / 999 is 50.05005…: rounded down, 49.950 stay
        exact = {"50": Decimal("49.950"), "0": Decimal(0)}
        for step, outcome, left in steps:
            assert step() == outcome
            assert _available(stripe) == exact[left]
        assert stripe.ledger.audit(stripe.user) == []

    def test_inquiry(self, stripe: Stripe, pack: Checkout) -> None:
        """An inquiry moves no money, so no credits."""
        for status in ("warning_needs_response", "warning_under_review", "warning_closed"):
            assert stripe.dispute(pack.payment_intent, 999, status) == "unchanged"
        assert _available(stripe) == 100

    def test_inquiry_becomes_a_dispute(self, stripe: Stripe, pack: Checkout) -> None:
        """When an inquiry becomes a dispute the credits go."""
        stripe.dispute(pack.payment_intent, 999, "warning_needs_response")

        assert stripe.dispute(pack.payment_intent, 999, "needs_response") == "clawed_back"

    def test_lost_then_appealed(self, stripe: Stripe, pack: Checkout) -> None:
        """A lost dispute stays reversible: an appeal that is won brings the credits back."""
        found = [
            (stripe.dispute(pack.payment_intent, 999, status), _available(stripe))
            for status in (
                "needs_response",
                "under_review",
                "lost",
                "appeal_needs_response",
                "appeal_under_review",
                "won",
            )
        ]

        assert [outcome for outcome, _ in found] == ["clawed_back", *["unchanged"] * 4, "restored"]
        assert [left for _, left in found] == [0, 0, 0, 0, 0, 100]

    def test_many_small_refunds(self, stripe: Stripe, pack: Checkout) -> None:
        """Rounding is of the total: 999 refunds of one cent take exactly everything."""
        for number in range(9):
            stripe.reversal(pack.payment_intent, 111, number=number)

        assert _available(stripe) == 0
        grant = stripe.ledger.grants(stripe.user)[f"cs:{pack.session}"]
        assert grant["reversed"] == 100

    def test_never_more_than_was_granted(self, stripe: Stripe, pack: Checkout) -> None:
        """Refund and dispute of one payment together take no more than it granted."""
        stripe.reversal(pack.payment_intent, 999)
        assert stripe.dispute(pack.payment_intent, 999, "lost") == "unchanged"

        assert stripe.ledger.balance(stripe.user) == Balance(Decimal(0), Decimal(0), Decimal(0))

    @pytest.mark.parametrize(
        ("counts", "outcome"),
        [(True, "clawed_back"), (False, "unchanged"), (None, "unknown_status")],
    )
    def test_prevented(self, stripe: Stripe, pack: Checkout, counts: Any, outcome: str) -> None:
        """A prevented dispute counts as its balance transactions say, which the caller read."""
        assert stripe.dispute(pack.payment_intent, 999, "prevented", counts=counts) == outcome


class TestStates:
    """Which states count, and readings that cross."""

    @pytest.mark.parametrize(
        ("status", "left"),
        [
            ("pending", 0),
            ("requires_action", 0),
            ("succeeded", 0),
            ("failed", 100),
            ("canceled", 100),
        ],
    )
    def test_refund(self, stripe: Stripe, pack: Checkout, status: str, left: int) -> None:
        """A refund takes the credits unless it failed or was canceled."""
        stripe.reversal(pack.payment_intent, 999, status)

        assert _available(stripe) == left

    @pytest.mark.parametrize("kind", ["refund", "dispute"])
    @pytest.mark.parametrize("before", [[], ["pending", "needs_response"]])
    def test_unknown_status(
        self, stripe: Stripe, pack: Checkout, kind: str, before: list[str]
    ) -> None:
        """A state we do not know changes nothing and says so; what was known stays."""
        for status in before:
            stripe.reversal(pack.payment_intent, 999, status, kind=kind)
        had = _available(stripe)

        outcome = stripe.reversal(pack.payment_intent, 999, "half_way", kind=kind)

        assert outcome == "unknown_status"
        assert _available(stripe) == had

    def test_older_reading(self, stripe: Stripe, pack: Checkout) -> None:
        """Of two readings the one begun last counts, whichever is written first."""
        older, newer = stripe.ticket(), stripe.ticket()
        stripe.reversal(pack.payment_intent, 999, "failed", ticket=newer)

        assert stripe.reversal(pack.payment_intent, 999, "succeeded", ticket=older) == "stale"
        assert stripe.reversal(pack.payment_intent, 999, "succeeded", ticket=newer) == "stale"
        assert _available(stripe) == 100

    def test_same_event_again(self, stripe: Stripe, pack: Checkout) -> None:
        """The same event is a duplicate; another event of the same state changes nothing."""
        event = new_key("evt")
        assert stripe.reversal(pack.payment_intent, 500, event=event) == "clawed_back"
        assert stripe.reversal(pack.payment_intent, 500, event=event) == "duplicate"
        assert stripe.reversal(pack.payment_intent, 500) == "unchanged"
        assert stripe.ledger.kinds(stripe.user) == ["grant", "clawback"]

    def test_other_currency(self, stripe: Stripe, pack: Checkout) -> None:
        """What is in another currency than the payment cannot be weighed against it: kept, not counted."""
        assert stripe.reversal(pack.payment_intent, 999, currency="eur") == "currency_mismatch"
        assert _available(stripe) == 100
        assert stripe.reversal(pack.payment_intent, 500, number=2) == "clawed_back"

    @pytest.mark.parametrize("amount", [None, -1, 10**14 + 1])
    def test_absurd_amount(self, stripe: Stripe, pack: Checkout, amount: int | None) -> None:
        """What cannot be an amount is refused, and the event stays open."""
        event = new_key("evt")
        with raises_sqlstate("HF001"):
            stripe.reversal(pack.payment_intent, amount, event=event)

        assert stripe.db.rows("select from backend.stripe_events where id = %s", event) == []

    def test_more_than_was_charged(self, stripe: Stripe, pack: Checkout) -> None:
        """A dispute larger than the charge takes what was granted, no more."""
        assert stripe.dispute(pack.payment_intent, 5000, "lost") == "clawed_back"
        assert _available(stripe) == 0

    def test_amount_changes(self, stripe: Stripe, pack: Checkout) -> None:
        """A dispute whose amount shrinks gives the difference back."""
        stripe.dispute(pack.payment_intent, 999, "needs_response")
        assert stripe.dispute(pack.payment_intent, 500, "under_review") == "restored"
        assert _available(stripe) == Decimal("49.950")

    def test_reversal_does_not_change_its_payment(self, stripe: Stripe, pack: Checkout) -> None:
        """A refund keeps the payment it is of."""
        stripe.reversal(pack.payment_intent, 500)

        assert stripe.reversal("pi_other", 500) == "stale"

    def test_without_a_payment(self, stripe: Stripe) -> None:
        """A refund that names no payment intent is not of ours."""
        assert stripe.reversal(None, 500) == "ignored"


class TestDebt:
    """Credits that are spent."""

    def test_spent_credits(self, stripe: Stripe, pack: Checkout) -> None:
        """A refund of spent credits leaves a debt; a debtor cannot reserve; a restore pays it."""
        stripe.ledger.settle(stripe.ledger.reserve(stripe.user, 80), 80)
        stripe.reversal(pack.payment_intent, 999, "pending")

        assert stripe.ledger.balance(stripe.user) == Balance(Decimal(0), Decimal(0), Decimal(80))
        assert stripe.ledger.try_reserve(stripe.user, "0.001") == "insufficient_credits"

        stripe.reversal(pack.payment_intent, 999, "failed")
        assert stripe.ledger.balance(stripe.user) == Balance(Decimal(20), Decimal(0), Decimal(0))
        assert stripe.ledger.audit(stripe.user) == []

    def test_next_pack_pays(self, stripe: Stripe, pack: Checkout) -> None:
        """The next purchase pays the debt first."""
        stripe.ledger.settle(stripe.ledger.reserve(stripe.user, 80), 80)
        stripe.reversal(pack.payment_intent, 999)
        stripe.backend.checkout_event(_unpaid(stripe))

        assert stripe.ledger.balance(stripe.user) == Balance(Decimal(20), Decimal(0), Decimal(0))


class TestBeforeTheGrant:
    """A reversal that comes before what it reverses."""

    def test_noted_then_applied(self, stripe: Stripe) -> None:
        """A refund of a payment nobody knows is kept, and applied when the payment is known."""
        checkout = _unpaid(stripe)
        assert stripe.reversal(checkout.payment_intent, 999) == "noted"
        kept = stripe.db.row(
            "select user_id, counts from payment_reversals where payment_intent_id = %s",
            checkout.payment_intent,
        )
        assert kept == {"user_id": None, "counts": True}

        assert stripe.backend.checkout_event(checkout) == "granted"

        assert stripe.ledger.kinds(stripe.user) == ["grant", "clawback"]
        assert _available(stripe) == 0
        assert (
            stripe.db.value(
                "select user_id from payment_reversals where payment_intent_id = %s",
                checkout.payment_intent,
            )
            == stripe.user
        )

    def test_every_order(self, backend: Backend) -> None:
        """Payment, two refunds and a dispute in every order end alike."""
        for order in itertools.permutations(range(4)):
            stripe = Stripe(backend)
            checkout = _unpaid(stripe)
            steps = [
                lambda: backend.checkout_event(checkout),  # noqa: B023 - called in this round
                lambda: stripe.reversal(checkout.payment_intent, 300, number=1),  # noqa: B023
                lambda: stripe.reversal(checkout.payment_intent, 99, number=2),  # noqa: B023
                lambda: stripe.dispute(checkout.payment_intent, 100, "lost"),  # noqa: B023
            ]
            for number in order:
                steps[number]()
            assert _available(stripe) == Decimal("50.051"), order


class TestUnmatched:
    """What the sweep has to ask Stripe about."""

    @pytest.mark.own_database
    def test_claimed(self, stripe: Stripe, pack: Checkout) -> None:
        """Only those of unknown payments are listed, and not again before a while."""
        stripe.reversal(pack.payment_intent, 1)
        stripe.reversal("pi_strange", 1, number=2)
        look = "select * from backend.unmatched_reversals(10, %s)"

        first = stripe.ledger.calls.execute(look, (900,)).fetchall()

        assert first == [{"id": stripe.id("re", 2), "payment_intent_id": "pi_strange"}]
        assert stripe.ledger.calls.execute(look, (900,)).fetchall() == []
        assert stripe.ledger.calls.execute(look, (0,)).fetchall() == first

    @pytest.mark.own_database
    def test_given_up(self, stripe: Stripe) -> None:
        """After a month a refund of nobody we know is left alone; it still waits for its payment."""
        stripe.reversal("pi_strange", 1)
        stripe.db.connection("postgres").execute(
            "update payment_reversals set created_at = now() - interval '31 days'"
        )

        assert (
            stripe.ledger.calls.execute("select * from backend.unmatched_reversals(10)").fetchall()
            == []
        )
