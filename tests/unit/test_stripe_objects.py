from __future__ import annotations

from typing import Any

import pytest

from holdfast.stripe_objects import (
    CheckoutState,
    InvoiceLine,
    ReversalKind,
    SessionState,
    deleted_price,
    read_dispute,
    read_invoice,
    read_invoice_payment,
    read_price,
    read_refund,
    read_session,
    read_subscription,
)
from tests.unit.stripe_support import PURCHASE, SESSION, USER

LINE: dict[str, Any] = {
    "id": "il_1",
    "amount": 2900,
    "quantity": 1,
    "period": {"start": 1795000000, "end": 1797592000},
    "discount_amounts": [{"amount": 900, "discount": "di_1"}, {"amount": 100, "discount": "di_2"}],
    "parent": {
        "type": "subscription_item_details",
        "subscription_item_details": {"subscription": "sub_1", "proration": False},
    },
    "pricing": {"type": "price_details", "price_details": {"price": "price_1"}},
}
INVOICE: dict[str, Any] = {
    "id": "in_1",
    "customer": "cus_1",
    "currency": "usd",
    "status": "paid",
    "status_transitions": {"paid_at": 1795000005},
    "parent": {
        "type": "subscription_details",
        "subscription_details": {
            "subscription": "sub_1",
            "metadata": {"user_id": str(USER), "purchase_id": str(PURCHASE)},
        },
    },
    "lines": {"data": [LINE], "has_more": False},
}
PAYMENT: dict[str, Any] = {
    "id": "inpay_1",
    "invoice": "in_1",
    "status": "paid",
    "amount_paid": 1900,
    "currency": "usd",
    "payment": {"type": "payment_intent", "payment_intent": "pi_1"},
}
PRICE: dict[str, Any] = {
    "id": "price_1",
    "product": "prod_1",
    "lookup_key": "holdfast_plan_pro_monthly",
    "active": True,
    "currency": "usd",
    "unit_amount": 2900,
    "recurring": {"interval": "month", "interval_count": 1},
    "metadata": {"holdfast_item": "plan:pro:month", "holdfast_credits": "30.000"},
}


def test_a_paid_session_is_told_with_everything_the_purchase_is_compared_with() -> None:
    """A completed, paid Checkout becomes a frozen object with ids, money and claims."""
    assert read_session(SESSION) == SessionState(
        id="cs_test_1",
        mode="payment",
        state=CheckoutState.PAID,
        purchase_id=str(PURCHASE),
        user_id=str(USER),
        amount_minor=999,
        currency="usd",
        payment_intent_id="pi_1",
        customer_id=None,
        subscription_id=None,
    )


@pytest.mark.parametrize(
    ("event", "changes", "state"),
    [
        ("completed", {"payment_status": "unpaid"}, CheckoutState.PENDING),
        ("completed", {"payment_status": "no_payment_required"}, CheckoutState.PAID),
        ("completed", {"mode": "subscription"}, CheckoutState.PAID),
        ("completed", {"mode": "setup"}, CheckoutState.OTHER),
        ("async_payment_succeeded", {}, CheckoutState.PAID),
        ("async_payment_succeeded", {"payment_status": "unpaid"}, CheckoutState.PENDING),
        ("async_payment_failed", {"payment_status": "unpaid"}, CheckoutState.FAILED),
        ("async_payment_failed", {}, CheckoutState.FAILED),
        ("expired", {"status": "expired", "payment_status": "unpaid"}, CheckoutState.EXPIRED),
        (None, {}, CheckoutState.PAID),
        (None, {"payment_status": "unpaid", "status": "open"}, CheckoutState.OPEN),
        (None, {"payment_status": "unpaid", "status": "expired"}, CheckoutState.EXPIRED),
        (None, {"payment_status": "unpaid"}, CheckoutState.PENDING),
        (
            None,
            {"payment_status": "unpaid", "payment_intent": {"id": "pi_1", "status": "processing"}},
            CheckoutState.PENDING,
        ),
        (
            None,
            {
                "payment_status": "unpaid",
                "payment_intent": {"id": "pi_1", "status": "requires_payment_method"},
            },
            CheckoutState.FAILED,
        ),
    ],
)
def test_money_counts_only_when_the_session_says_paid(
    event: str | None, changes: Any, state: CheckoutState
) -> None:
    """Each event and payment status has one state; read again, a failed payment shows on the payment itself."""
    event_type = event and f"checkout.session.{event}"

    assert read_session({**SESSION, **changes}, event_type).state is state


def test_bare_sessions_and_expanded_ids_are_read() -> None:
    """A session without metadata, or with its payment intent expanded, is understood."""
    bare = read_session(
        {
            **SESSION,
            "metadata": None,
            "client_reference_id": None,
            "payment_intent": {"id": "pi_2", "status": "succeeded"},
        }
    )

    assert (bare.user_id, bare.purchase_id, bare.payment_intent_id) == (None, None, "pi_2")


def test_an_invoice_is_told_with_its_lines_and_who_paid() -> None:
    """Subscription, claim and price lie where they lie since basil; discounts are summed, not subtracted."""
    invoice = read_invoice({**INVOICE, "payments": {"data": [PAYMENT]}})

    assert (invoice.id, invoice.customer_id, invoice.subscription_id) == ("in_1", "cus_1", "sub_1")
    assert (invoice.user_id, invoice.paid_at) == (str(USER), 1795000005)
    assert invoice.lines == (
        InvoiceLine(
            id="il_1",
            price_id="price_1",
            amount_minor=2900,
            discount_minor=1000,
            quantity=1,
            proration=False,
            period_start=1795000000,
            period_end=1797592000,
            subscription_id="sub_1",
        ),
    )
    assert [(p.payment_intent_id, p.amount_minor) for p in invoice.payments] == [("pi_1", 1900)]


def test_another_products_user_is_no_claim() -> None:
    """Many products write a user_id; only with a purchase of ours beside it does it say something to us."""
    details = {"subscription": "sub_1", "metadata": {"user_id": "somebody"}}
    parent = {"type": "subscription_details", "subscription_details": details}

    assert read_invoice({**INVOICE, "parent": parent}).user_id is None


def test_an_invoice_that_is_nobodys_subscription_is_read_too() -> None:
    """A one-off invoice has no parent, and its lines belong to an invoice item."""
    item = {"type": "invoice_item_details", "invoice_item_details": {"proration": True}}
    invoice = read_invoice(
        {
            **INVOICE,
            "parent": None,
            "lines": {"data": [{**LINE, "parent": item, "pricing": None}], "has_more": False},
        }
    )

    assert (invoice.subscription_id, invoice.user_id, invoice.payments) == (None, None, ())
    (line,) = invoice.lines
    assert (line.price_id, line.subscription_id, line.proration) == (None, None, True)


@pytest.mark.parametrize(
    "changes", [{"status": "open"}, {"payment": {"type": "out_of_band_payment"}}]
)
def test_only_money_that_came_through_stripe_links_an_invoice(changes: Any) -> None:
    """An unpaid payment, or one noted by hand, has nothing that could be refunded."""
    assert read_invoice_payment({**PAYMENT, **changes}) is None


def test_a_subscriptions_period_is_read_from_its_item() -> None:
    """Since basil the subscription itself has none."""
    found = read_subscription(
        {
            "id": "sub_1",
            "customer": {"id": "cus_1"},
            "metadata": {"user_id": str(USER), "purchase_id": str(PURCHASE)},
            "status": "active",
            "cancel_at_period_end": True,
            "created": 1795000000,
            "items": {
                "data": [
                    {
                        "price": {"id": "price_1"},
                        "current_period_start": 1795000000,
                        "current_period_end": 1797592000,
                    }
                ]
            },
        }
    )

    assert (found.customer_id, found.price_id, found.user_id) == ("cus_1", "price_1", str(USER))
    assert (found.current_period_start, found.current_period_end) == (1795000000, 1797592000)
    assert found.cancel_at_period_end is True
    assert found.ended_at is None


@pytest.mark.parametrize(
    ("moved", "counts"),
    [([], False), ([-999], True), ([-999, 999], False), ([-999, 999, -999], True)],
)
def test_a_disputes_money_is_the_sum_of_its_transactions(moved: list[int], counts: object) -> None:
    """What was withdrawn and not returned is gone."""
    dispute = read_dispute(
        {
            "id": "dp_1",
            "amount": 999,
            "currency": "usd",
            "status": "prevented",
            "payment_intent": "pi_1",
            "balance_transactions": [{"amount": amount} for amount in moved],
        }
    )

    assert (dispute.kind, dispute.counts) == (ReversalKind.DISPUTE, counts)


def test_a_refund_without_a_payment_is_nobodys() -> None:
    """A refund of an old charge has no payment intent; it is told so."""
    refund = read_refund(
        {
            "id": "re_1",
            "amount": 5,
            "currency": "usd",
            "status": "succeeded",
            "payment_intent": None,
        }
    )

    assert (refund.kind, refund.payment_intent_id) == (ReversalKind.REFUND, None)


def test_a_price_is_told_with_what_is_written_on_it() -> None:
    """Amount, period in months, and the item and credits the catalogue wrote."""
    price = read_price(PRICE)

    assert (price.amount_minor, price.interval, price.months) == (2900, "month", 1)
    assert (price.item, price.credits) == ("plan:pro:month", "30.000")


@pytest.mark.parametrize(
    ("recurring", "interval", "months"),
    [
        (None, None, 0),
        ({"interval": "week"}, None, 0),
        ({"interval": "month", "interval_count": 3}, "month", 3),
        ({"interval": "year", "interval_count": 1}, "year", 12),
    ],
)
def test_a_prices_period_is_counted_in_months(recurring: Any, interval: Any, months: int) -> None:
    """Weeks and days are no months; several months are."""
    price = read_price({**PRICE, "recurring": recurring})

    assert (price.interval, price.months) == (interval, months)


def test_a_deleted_price_keeps_its_name_only() -> None:
    """It sells nothing any more."""
    price = deleted_price("price_1")

    assert (price.id, price.deleted, price.active, price.lookup_key) == (
        "price_1",
        True,
        False,
        None,
    )
