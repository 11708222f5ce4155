from __future__ import annotations

import calendar
import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_clock import DAY, months_later, period_end
from local.standins.stripe_wire import StripeError
from tests.contract.stripe_support import (
    Receiver,
    invoices_of,
    new_pack,
    new_plan,
    plan_session,
    subscribe,
)

pytest_plugins = ["tests.contract.stripe_fixtures"]

_PAID = [
    *("invoice.created", "invoice.finalized", "charge.succeeded", "payment_intent.succeeded"),
    *("invoice.paid", "invoice.payment_succeeded", "invoice_payment.paid"),
]
_FAILED = [
    *("invoice.created", "invoice.finalized", "charge.failed"),
    *("payment_intent.payment_failed", "invoice.payment_failed"),
]
_UPDATED = "customer.subscription.updated"


def _quiet(standin: Stripe, receiver: Receiver) -> None:
    """Let what was sent so far be behind us."""
    standin.drain()
    receiver.received.clear()


def _item(subscription: stripe.Subscription) -> stripe.SubscriptionItem:
    (item,) = subscription.items.data
    return item


def test_a_plan_is_bought_in_stripes_order(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """The subscription is created, its invoice paid, the payment linked, the session completed."""
    session = plan_session(client, new_plan(client))
    assert (session.payment_intent, session.subscription, session.amount_total) == (
        None,
        None,
        2900,
    )
    _quiet(standin, receiver)
    standin.pay(session.id)
    standin.drain()

    assert receiver.types == [
        "customer.created",
        "customer.subscription.created",
        *_PAID,
        "checkout.session.completed",
    ]
    told = receiver.events[-1].data.object
    assert (told.payment_status, told.payment_intent) == ("paid", None)
    created = receiver.events[1].data.object
    assert (created.id, created.latest_invoice) == (told.subscription, told.invoice)
    assert created.metadata.to_dict() == {"user_id": "user_1"}
    assert (created.status, created.customer) == ("active", told.customer)
    for gone in ("current_period_end", "current_period_start"):
        assert gone not in created


def test_an_invoice_has_the_shape_of_endive(standin: Stripe, client: stripe.StripeClient) -> None:
    """Subscription, price, payment and period are where basil put them, and nowhere else."""
    price = new_plan(client)
    subscription = subscribe(standin, client, price)
    (invoice,) = invoices_of(client, subscription.id)

    assert invoice.parent is not None
    assert invoice.parent.subscription_details is not None
    assert invoice.parent.subscription_details.subscription == subscription.id
    assert invoice.parent.subscription_details.metadata is not None
    assert invoice.parent.subscription_details.metadata.to_dict() == {"user_id": "user_1"}
    (line,) = invoice.lines.data
    assert line.pricing is not None
    assert line.pricing.price_details is not None
    assert line.pricing.price_details.price == price
    item = _item(subscription)
    period = (item.current_period_start, item.current_period_end)
    assert (line.period.start, line.period.end) == period
    assert line.period.end == months_later(line.period.start, 1)
    for gone in ("subscription", "payment_intent", "charge", "paid"):
        assert gone not in invoice
    for gone in ("price", "plan", "proration"):
        assert gone not in line
    assert client.v1.invoices.line_items.list(invoice.id).data[0].id == line.id


def test_a_payment_leads_to_its_invoice_and_back(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """invoice_payments answer by invoice and by payment intent; a refund knows only the latter."""
    subscription = subscribe(standin, client, new_plan(client))
    other = subscribe(standin, client, new_plan(client, 5900))
    (invoice,) = invoices_of(client, subscription.id)
    listed = client.v1.invoice_payments.list

    (payment,) = listed({"invoice": invoice.id}).data
    intent = str(payment.payment.payment_intent)
    assert (payment.status, payment.amount_paid) == ("paid", 2900)
    back: Any = {"type": "payment_intent", "payment_intent": intent}
    assert [p.id for p in listed({"payment": back}).data] == [payment.id]
    assert len(listed({"status": "paid"}).data) == 2
    shown = client.v1.invoices.retrieve(
        invoice.id, {"expand": ["payments.data.payment.payment_intent"]}
    )
    assert shown.payments is not None
    assert shown.payments.data[0].payment.payment_intent.id == intent  # type: ignore[union-attr]
    assert client.v1.invoices.list({"subscription": other.id}).data[0].id != invoice.id
    refund = client.v1.refunds.create({"payment_intent": intent, "amount": 900})
    assert refund.payment_intent == intent


def test_time_renews_a_subscription(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """At the period's end the next one begins, is invoiced and paid, at its own moment."""
    subscription = subscribe(standin, client, new_plan(client))
    end = _item(subscription).current_period_end
    _quiet(standin, receiver)
    standin.advance(end - standin.now() - 10)
    standin.drain()
    assert receiver.types == []

    standin.advance(3600)
    standin.drain()

    assert receiver.types == [_UPDATED, *_PAID]
    update = receiver.events[0]
    assert update.created == end
    assert update.data.previous_attributes is not None
    assert set(update.data.previous_attributes.to_dict()) == {"items", "latest_invoice"}
    first, second = invoices_of(client, subscription.id)
    assert second.billing_reason == "subscription_cycle"
    assert second.lines.data[0].id != first.lines.data[0].id
    assert second.lines.data[0].period.start == end
    standin.advance(95 * DAY)
    periods = [i.lines.data[0].period for i in invoices_of(client, subscription.id)]
    assert len(periods) == 5
    assert all(a.end == b.start for a, b in itertools.pairwise(periods))


def test_webhooks_of_the_future_are_signed_now(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """However far the account's clock went, deliveries still pass the receiver's tolerance."""
    subscribe(standin, client, new_plan(client, interval="year"))
    standin.advance(400 * DAY)
    standin.drain()

    assert receiver.refused == []
    newest = max(event.created for event in receiver.events)
    assert newest > datetime.now(UTC).timestamp() + 300 * DAY
    with pytest.raises(ValueError, match="backwards"):
        standin.advance(-1)


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2026-01-31", 1, "2026-02-28"),
        ("2026-01-31", 2, "2026-03-31"),
        ("2023-12-15", 2, "2024-02-15"),
    ],
)
def test_months_keep_their_day(day: str, months: int, expected: str) -> None:
    """A month later is the same day, or the last of a shorter month."""
    at = calendar.timegm(datetime.fromisoformat(day).timetuple())
    assert datetime.fromtimestamp(months_later(at, months), UTC).date().isoformat() == expected


def test_periods_are_counted_from_the_anchor() -> None:
    """A plan begun on the 31st is due on the 28th and then on the 31st again."""
    anchor = calendar.timegm(datetime(2026, 1, 31, tzinfo=UTC).timetuple())
    monthly: Any = {"interval": "month", "interval_count": 1}
    days, at = [], anchor
    for _ in range(3):
        at = period_end(anchor, at, monthly)
        days.append(datetime.fromtimestamp(at, UTC).day)
    assert days == [28, 31, 30]
    assert (
        period_end(anchor, anchor, {"interval": "week", "interval_count": 2}) == anchor + 14 * DAY
    )


def test_a_declined_renewal_is_past_due_until_it_is_paid(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """The invoice stays open, the subscription is past due; a late payment makes it active."""
    subscription = subscribe(standin, client, new_plan(client))
    _quiet(standin, receiver)
    assert standin.fail_renewal(subscription.id)["status"] == "past_due"
    standin.drain()
    assert receiver.types == [_UPDATED, *_FAILED, _UPDATED]
    invoice = invoices_of(client, subscription.id)[-1]
    assert (invoice.status, invoice.amount_paid, invoice.status_transitions.paid_at) == (
        "open",
        0,
        None,
    )

    _quiet(standin, receiver)
    standin.pay_invoice(invoice.id)
    standin.drain()

    assert receiver.types == [*_PAID[2:], _UPDATED]
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    charges = client.v1.charges.list({"payment_intent": str(payment.payment.payment_intent)}).data
    assert [c.status for c in charges] == ["succeeded", "failed"]
    with pytest.raises(StripeError, match="status paid"):
        standin.pay_invoice(invoice.id)


def test_an_unpaid_subscription_gets_drafts_only(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """Given up, it goes on making invoices that nobody charges."""
    subscription = subscribe(standin, client, new_plan(client))
    with pytest.raises(StripeError, match="status active"):
        standin.mark_unpaid(subscription.id)
    standin.break_card(str(subscription.customer))
    standin.advance(32 * DAY)
    assert standin.mark_unpaid(subscription.id)["status"] == "unpaid"
    standin.mend_card(str(subscription.customer))
    standin.advance(31 * DAY)

    assert [i.status for i in invoices_of(client, subscription.id)] == ["paid", "open", "draft"]
    standin.pay_invoice(invoices_of(client, subscription.id)[-1].id)
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_a_trial_costs_nothing_and_then_something(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A trial completes as no_payment_required with an invoice over zero; its end is charged."""
    data = {"trial_period_days": 7, "metadata": {"user_id": "user_1"}}
    session = plan_session(client, new_plan(client), subscription_data=data)
    assert session.amount_total == 0
    paid = standin.pay(session.id)
    subscription = client.v1.subscriptions.retrieve(paid["subscription"])
    assert (paid["payment_status"], subscription.status) == ("no_payment_required", "trialing")
    (first,) = invoices_of(client, subscription.id)
    assert (first.status, first.total, first.lines.data[0].amount) == ("paid", 0, 0)
    assert client.v1.invoice_payments.list({"invoice": first.id}).data == []

    standin.advance(8 * DAY)

    second = invoices_of(client, subscription.id)[1]
    assert (second.billing_reason, second.amount_paid) == ("subscription_cycle", 2900)
    assert second.lines.data[0].period.start == subscription.trial_end
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_a_trial_ends_early_or_in_a_pause(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Ended now it is charged now; without a payment method it is paused until it is resumed."""
    price, data = new_plan(client), {"trial_period_days": 7}
    ended, paused = (subscribe(standin, client, price, subscription_data=data) for _ in range(2))
    client.v1.subscriptions.update(ended.id, {"trial_end": "now"})
    assert [i.total for i in invoices_of(client, ended.id)] == [0, 2900]
    _quiet(standin, receiver)
    assert standin.end_trial(paused.id, pays=False)["status"] == "paused"
    standin.drain()
    assert receiver.types == [_UPDATED, "customer.subscription.paused"]
    standin.advance(60 * DAY)
    assert len(invoices_of(client, paused.id)) == 1
    with pytest.raises(StripeError, match="paused"):
        standin.renew(paused.id)

    assert standin.resume(paused.id)["status"] == "active"
    standin.drain()

    assert "customer.subscription.resumed" in receiver.types
    assert invoices_of(client, paused.id)[-1].amount_paid == 2900
    for control in (standin.resume, standin.end_trial):
        with pytest.raises(StripeError, match="status active"):
            control(paused.id)


def test_cancelling_at_the_periods_end_ends_it_then(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """The request is an update with its time; the end is a deletion, without a last invoice."""
    subscription = subscribe(standin, client, new_plan(client))
    end = _item(subscription).current_period_end
    _quiet(standin, receiver)
    asked = client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    again = client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert asked.to_dict() == again.to_dict()
    assert (asked.status, asked.cancel_at) == ("active", end)
    standin.advance(40 * DAY)
    standin.drain()

    assert receiver.types == [_UPDATED, "customer.subscription.deleted"]
    gone = client.v1.subscriptions.retrieve(subscription.id)
    assert (gone.status, gone.ended_at, gone.canceled_at) == ("canceled", end, asked.canceled_at)
    assert len(invoices_of(client, subscription.id)) == 1
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.cancel(subscription.id)


def test_a_cancellation_may_be_taken_back(standin: Stripe, client: stripe.StripeClient) -> None:
    """Resumed before its end it goes on as if nothing was."""
    subscription = subscribe(standin, client, new_plan(client))
    client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    kept = client.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (kept.cancel_at, kept.canceled_at) == (None, None)
    standin.advance(32 * DAY)
    assert len(invoices_of(client, subscription.id)) == 2


def test_cancelling_now_is_a_deletion(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """By the API or the dashboard: canceled at once, and lists leave it out unless asked."""
    price = new_plan(client)
    mine, other = (subscribe(standin, client, price) for _ in range(2))
    _quiet(standin, receiver)
    why: Any = {"cancellation_details": {"feedback": "too_expensive"}}
    gone = client.v1.subscriptions.cancel(mine.id, why)
    standin.cancel_now(other.id)
    standin.drain()

    assert receiver.types == ["customer.subscription.deleted"] * 2
    assert gone.status == "canceled"
    assert gone.cancellation_details is not None
    assert gone.cancellation_details.feedback == "too_expensive"
    listed = client.v1.subscriptions.list
    assert listed().data == []
    assert [s.id for s in listed({"status": "all"}).data] == [other.id, mine.id]
    assert [s.id for s in listed({"status": "ended", "customer": str(mine.customer)}).data] == [
        mine.id
    ]
    assert listed({"status": "all", "price": "price_none"}).data == []
    for late in (standin.renew, standin.cancel_now):
        with pytest.raises(StripeError, match="No such subscription"):
            late(mine.id)


@pytest.mark.parametrize("status", ["active", "past_due"])
def test_a_plan_may_be_paid_by_a_delayed_method(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, status: str
) -> None:
    """Completed comes unpaid with an open invoice; the bank's answer pays it or does not."""
    ok = status == "active"
    session = plan_session(client, new_plan(client))
    done = standin.pay_delayed(session.id)
    assert (done["payment_status"], done["status"]) == ("unpaid", "complete")
    (invoice,) = invoices_of(client, done["subscription"])
    assert invoice.status == "open"
    _quiet(standin, receiver)
    standin.settle_delayed(session.id, ok=ok)
    standin.drain()

    word = "succeeded" if ok else "failed"
    assert f"checkout.session.async_payment_{word}" in receiver.types
    assert ("invoice.paid" in receiver.types) == ok
    assert client.v1.subscriptions.retrieve(done["subscription"]).status == status
    with pytest.raises(StripeError, match="No delayed payment"):
        standin.settle_delayed(session.id)


def test_a_declined_card_subscribes_to_nothing(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """The session stays open, without a subscription; the next card may work."""
    session = plan_session(client, new_plan(client))
    assert standin.decline(session.id)["status"] == "open"
    assert client.v1.subscriptions.list({"status": "all"}).data == []
    assert standin.pay(session.id)["subscription"]


def test_modes_and_prices_must_fit(client: stripe.StripeClient) -> None:
    """A pack is no plan, two intervals are no subscription, and data belongs to its mode."""
    month, year = new_plan(client), new_plan(client, 29000, "year")
    for changes, message in (
        ({"line_items": [{"price": new_pack(client), "quantity": 1}]}, "one-time"),
        ({"line_items": [{"price": p, "quantity": 1} for p in (month, year)]}, "interval"),
        ({"payment_intent_data": {"metadata": {"a": "b"}}}, "payment_intent_data"),
        ({"mode": "payment"}, "subscription_data"),
        ({"subscription_data": {"trial_period_days": 0}}, "greater"),
        ({"subscription_data": {"trial_end": 1}}, "unknown parameter"),
        ({"discounts": [{"coupon": "none"}]}, "No such coupon"),
    ):
        with pytest.raises(stripe.InvalidRequestError, match=message):
            plan_session(client, month, **changes)


def test_sessions_expire_as_time_passes(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Moving the clock a day ends what nobody paid, at the moment it was due."""
    session = plan_session(client, new_plan(client))
    _quiet(standin, receiver)
    standin.advance(2 * DAY)
    standin.drain()

    assert receiver.types == ["checkout.session.expired"]
    assert receiver.events[0].created == session.expires_at
    assert client.v1.checkout.sessions.list({"status": "expired"}).data[0].id == session.id


def test_a_session_is_found_by_its_subscription(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """The way back from an invoice whose customer is not known."""
    first, second = (subscribe(standin, client, new_plan(client)) for _ in range(2))
    (found,) = client.v1.checkout.sessions.list({"subscription": first.id}).data
    assert found.subscription == first.id != second.id
    deep = client.v1.checkout.sessions.retrieve(
        found.id, {"expand": ["subscription.latest_invoice", "invoice.customer"]}
    ).to_dict()
    assert deep["subscription"]["latest_invoice"]["id"] == deep["invoice"]["id"]
    assert deep["invoice"]["customer"]["id"] == first.customer
