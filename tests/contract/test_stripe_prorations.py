from __future__ import annotations

from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_clock import months_later
from tests.contract.stripe_support import (
    Receiver,
    invoices_of,
    new_pack,
    new_plan,
    new_session,
    plan_session,
    subscribe,
)

pytest_plugins = ["tests.contract.stripe_fixtures"]


def _change(
    client: stripe.StripeClient, subscription: stripe.Subscription, price: str, behaviour: str = ""
) -> stripe.Subscription:
    params: dict[str, Any] = {"items": [{"id": subscription.items.data[0].id, "price": price}]}
    if behaviour:
        params["proration_behavior"] = behaviour
    return client.v1.subscriptions.update(subscription.id, params)  # type: ignore[arg-type]


def _halfway(standin: Stripe, subscription: stripe.Subscription) -> None:
    """Move the clock to the middle of the period."""
    item = subscription.items.data[0]
    middle = (item.current_period_start + item.current_period_end) // 2
    standin.advance(middle - standin.now())


def _lines(invoice: stripe.Invoice) -> list[tuple[int, bool]]:
    found = []
    for line in invoice.lines.data:
        assert line.parent is not None
        assert line.parent.subscription_item_details is not None
        found.append((line.amount, line.parent.subscription_item_details.proration))
    return found


def test_an_upgrade_may_be_invoiced_at_once(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A credit for the old plan's rest and a charge for the new one's, paid as an update."""
    pro, business = new_plan(client, 3000), new_plan(client, 6000)
    subscription = subscribe(standin, client, pro)
    _halfway(standin, subscription)
    standin.drain()
    receiver.received.clear()
    changed = _change(client, subscription, business, "always_invoice")
    standin.drain()

    assert receiver.types[0] == "customer.subscription.updated"
    assert "invoice.paid" in receiver.types
    first, update = invoices_of(client, subscription.id)
    assert changed.latest_invoice == update.id
    assert (update.billing_reason, update.amount_paid) == ("subscription_update", 1500)
    assert _lines(update) == [(-1500, True), (3000, True)]
    credit, charge = update.lines.data
    assert credit.parent is not None
    assert credit.parent.subscription_item_details is not None
    details = credit.parent.subscription_item_details.proration_details
    assert details is not None
    assert details.credited_items is not None
    assert details.credited_items.invoice == first.id
    assert details.credited_items.invoice_line_items == [first.lines.data[0].id]
    end = subscription.items.data[0].current_period_end
    assert {credit.period.end, charge.period.end} == {end}
    assert changed.items.data[0].current_period_end == end


def test_by_default_an_upgrade_waits_for_the_next_invoice(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """Prorations come first on the renewal's invoice, before the regular line."""
    pro, business = new_plan(client, 3000), new_plan(client, 6000)
    subscription = subscribe(standin, client, pro)
    _halfway(standin, subscription)
    _change(client, subscription, business)
    assert len(invoices_of(client, subscription.id)) == 1

    standin.renew(subscription.id)

    renewal = invoices_of(client, subscription.id)[1]
    assert _lines(renewal) == [(-1500, True), (3000, True), (6000, False)]
    assert (renewal.billing_reason, renewal.amount_paid) == ("subscription_cycle", 7500)


def test_many_prorations_fill_more_than_one_page(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """An invoice shows ten lines; the plan's own line is on the next page."""
    prices = [new_plan(client, 3000), new_plan(client, 6000)]
    subscription = subscribe(standin, client, prices[0])
    for turn in range(1, 7):
        _change(client, subscription, prices[turn % 2])
    standin.renew(subscription.id)

    renewal = invoices_of(client, subscription.id)[1]
    assert (len(renewal.lines.data), renewal.lines.has_more) == (10, True)
    lines = list(client.v1.invoices.line_items.list(renewal.id).auto_paging_iter())
    assert (len(lines), lines[-1].amount, renewal.total) == (13, 3000, sum(n.amount for n in lines))


def test_without_proration_the_price_changes_and_nothing_else(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """The new amount comes with the next period."""
    subscription = subscribe(standin, client, new_plan(client, 3000))
    _halfway(standin, subscription)
    _change(client, subscription, new_plan(client, 6000), "none")
    standin.renew(subscription.id)
    assert [_lines(i) for i in invoices_of(client, subscription.id)] == [
        [(3000, False)],
        [(6000, False)],
    ]


def test_a_new_interval_begins_a_new_period_now(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """From monthly to yearly: the rest is credited, a whole year is charged at once."""
    subscription = subscribe(standin, client, new_plan(client, 3000))
    _halfway(standin, subscription)
    changed = _change(client, subscription, new_plan(client, 29000, "year"))

    update = invoices_of(client, subscription.id)[1]
    assert _lines(update) == [(-1500, True), (29000, False)]
    assert update.amount_paid == 27500
    item = changed.items.data[0]
    assert changed.billing_cycle_anchor == item.current_period_start
    assert item.current_period_end == months_later(item.current_period_start, 12)


def test_a_downgrades_credit_pays_later_invoices(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """What a negative invoice leaves is on the customer's balance; the next one costs less."""
    subscription = subscribe(standin, client, new_plan(client, 6000))
    _halfway(standin, subscription)
    _change(client, subscription, new_plan(client, 3000), "always_invoice")
    update = invoices_of(client, subscription.id)[1]
    assert (update.total, update.amount_due, update.status) == (-1500, 0, "paid")
    assert update.ending_balance == -1500
    customer = str(subscription.customer)
    assert client.v1.customers.retrieve(customer).balance == -1500

    standin.renew(subscription.id)

    renewal = invoices_of(client, subscription.id)[2]
    assert (renewal.total, renewal.starting_balance, renewal.amount_paid) == (3000, -1500, 1500)
    (payment,) = client.v1.invoice_payments.list({"invoice": renewal.id}).data
    assert payment.amount_paid == 1500
    assert client.v1.customers.retrieve(customer).balance == 0


def test_too_little_to_charge_waits_on_the_balance(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """Less than 50 cents is not charged: the invoice is paid, the customer owes it."""
    subscription = subscribe(standin, client, new_plan(client, 3000))
    _change(client, subscription, new_plan(client, 3020), "always_invoice")
    update = invoices_of(client, subscription.id)[1]
    assert (update.total, update.amount_due, update.status) == (20, 0, "paid")
    assert client.v1.customers.retrieve(str(subscription.customer)).balance == 20


@pytest.mark.parametrize(
    ("duration", "paid"), [("once", [2900, 0, 2900]), ("forever", [2900, 0, 0])]
)
def test_a_coupon_makes_a_period_free(
    standin: Stripe, client: stripe.StripeClient, duration: str, paid: list[int]
) -> None:
    """100 % off: an invoice over zero, paid without a payment, once or for ever."""
    subscription = subscribe(standin, client, new_plan(client))
    standin.apply_coupon(subscription.id, 100, duration)
    standin.renew(subscription.id)
    standin.renew(subscription.id)

    invoices = invoices_of(client, subscription.id)
    assert [i.amount_paid for i in invoices] == paid
    (line,) = invoices[1].lines.data
    assert line.discount_amounts is not None
    assert (line.amount, [d.amount for d in line.discount_amounts]) == (2900, [2900])
    assert (invoices[1].subtotal, invoices[1].total, invoices[1].status) == (2900, 0, "paid")
    assert client.v1.invoice_payments.list({"invoice": invoices[1].id}).data == []
    shown = client.v1.invoices.retrieve(invoices[1].id, {"expand": ["discounts.source.coupon"]})
    assert shown.discounts[0].source.coupon.percent_off == 100.0  # type: ignore[union-attr]


def test_a_coupon_at_checkout(standin: Stripe, client: stripe.StripeClient) -> None:
    """Part off a plan or a pack; all off needs no payment."""
    half: Any = client.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    plan = plan_session(client, new_plan(client), discounts=[{"coupon": half.id}])
    assert (plan.amount_subtotal, plan.amount_total) == (2900, 1450)
    subscription = standin.pay(plan.id)["subscription"]
    standin.renew(subscription)
    assert [i.amount_paid for i in invoices_of(client, subscription)] == [1450, 1450]

    off: Any = client.v1.coupons.create({"amount_off": 99, "currency": "usd"})
    lines = [{"price": new_pack(client), "quantity": 1}]
    pack = new_session(client, line_items=lines, discounts=[{"coupon": off.id}])
    assert pack.amount_total == 900
    free = plan_session(
        client, new_plan(client), discounts=[{"coupon": standin.create_coupon(100)["id"]}]
    )
    assert standin.pay(free.id)["payment_status"] == "no_payment_required"
    repeated: Any = {"percent_off": 10, "duration": "repeating", "duration_in_months": 1}
    brief = client.v1.coupons.create(repeated)
    short = plan_session(client, new_plan(client), discounts=[{"coupon": brief.id}])
    subscription = standin.pay(short.id)["subscription"]
    standin.advance(32 * 86_400)
    assert [i.amount_paid for i in invoices_of(client, subscription)] == [2610, 2900]


def test_a_coupon_is_by_percent_or_by_amount(client: stripe.StripeClient) -> None:
    """Neither, both, an amount without a currency and a taken id are refused."""
    client.v1.coupons.create({"id": "ten", "percent_off": 10})
    wrong: list[Any] = [
        {},
        {"percent_off": 10, "amount_off": 5},
        {"amount_off": 5},
        {"id": "ten", "percent_off": 10},
    ]
    for params in wrong:
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.coupons.create(params)
    assert [c.id for c in client.v1.coupons.list().data] == ["ten"]


def test_a_wrong_change_is_refused(standin: Stripe, client: stripe.StripeClient) -> None:
    """Other items, one-time, archived and foreign-currency prices change nothing."""
    subscription = subscribe(standin, client, new_plan(client))
    archived = new_plan(client, 5900)
    client.v1.prices.update(archived, {"active": False})
    item = subscription.items.data[0].id
    wrong: list[Any] = [
        {"items": [{"price": new_plan(client)}]},
        {"items": [{"id": item, "price": new_pack(client)}]},
        {"items": [{"id": item, "price": archived}]},
        {"proration_behaviour": "none"},
        {"proration_behavior": "some"},
        {"payment_method_types": ["card"]},
    ]
    for params in wrong:
        with pytest.raises(stripe.InvalidRequestError):
            client.v1.subscriptions.update(subscription.id, params)
    kept = client.v1.subscriptions.update(subscription.id, {"metadata": {"more": "1"}})
    assert kept.metadata.to_dict() == {"user_id": "user_1", "more": "1"}
    assert kept.items.to_dict() == subscription.items.to_dict()


def test_a_trial_changes_plan_for_nothing(standin: Stripe, client: stripe.StripeClient) -> None:
    """Nothing was paid, so nothing is prorated; the first charge is the new price."""
    trial = subscribe(standin, client, new_plan(client), subscription_data={"trial_period_days": 7})
    _change(client, trial, new_plan(client, 5900), "always_invoice")
    standin.end_trial(trial.id)
    assert [i.total for i in invoices_of(client, trial.id)] == [0, 5900]
