from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_conformance import CLASSES, problems
from tests.contract.stripe_support import Receiver, new_pack, new_plan, new_session, subscribe

pytest_plugins = ["tests.contract.stripe_fixtures"]


def _plain(thing: stripe.StripeObject) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(thing.to_dict(for_json=True)))
    return plain


_TYPES = {
    *("checkout.session.completed", "checkout.session.async_payment_succeeded"),
    *("checkout.session.async_payment_failed", "checkout.session.expired"),
    *("customer.subscription.created", "customer.subscription.updated"),
    *("customer.subscription.paused", "customer.subscription.resumed"),
    *("customer.subscription.deleted", "invoice.paid", "invoice.payment_failed"),
    *("invoice_payment.paid", "refund.created", "refund.updated", "refund.failed"),
    *("charge.refunded", "charge.dispute.created", "charge.dispute.updated"),
    *("charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"),
    *("charge.dispute.closed", "product.created", "product.updated", "product.deleted"),
    *("price.created", "price.deleted", "customer.deleted", "customer.discount.created"),
}
"""What the product may subscribe to, and the stand-in therefore sends (with `price.updated`)."""


def _every_plan(standin: Stripe, client: stripe.StripeClient) -> list[stripe.StripeObject]:
    """Bring about a subscription in every state, and each kind of invoice."""
    pro, business, year = (
        new_plan(client, amount, interval)
        for amount, interval in ((3000, "month"), (6000, "month"), (29000, "year"))
    )
    plain: dict[str, Any] = {}
    trial: dict[str, Any] = {"subscription_data": {"trial_period_days": 7}}
    renewed, failing, ended, paused = (
        subscribe(standin, client, pro, **more) for more in (plain, plain, plain, trial)
    )
    items: Any = [{"id": renewed.items.data[0].id, "price": business}]
    standin.renew(renewed.id)
    for behaviour in ("always_invoice", "create_prorations"):
        change: Any = {"items": items, "proration_behavior": behaviour}
        client.v1.subscriptions.update(renewed.id, change)
        items[0]["price"] = pro
    standin.apply_coupon(renewed.id, 50)
    standin.renew(renewed.id)
    items[0]["price"] = year
    client.v1.subscriptions.update(renewed.id, {"items": items})
    standin.fail_renewal(failing.id)
    standin.mark_unpaid(failing.id)
    standin.renew(failing.id)
    client.v1.subscriptions.update(ended.id, {"cancel_at_period_end": True})
    standin.renew(ended.id)
    standin.end_trial(paused.id, pays=False)
    standin.resume(paused.id)
    return [client.v1.subscriptions.retrieve(each.id) for each in (renewed, failing, ended, paused)]


def _everything(standin: Stripe, client: stripe.StripeClient) -> list[stripe.StripeObject]:
    """Bring about one object of every kind in every state the stand-in knows."""
    customer = client.v1.customers.create({"email": "a@example.com", "metadata": {"user": "1"}})
    price = new_pack(client)
    lines: Any = [{"price": price, "quantity": 2}]
    paid, delayed, failed, expired, declined, free = (
        new_session(client, line_items=lines, customer=customer.id) for _ in range(6)
    )
    standin.pay(paid.id)
    standin.pay_delayed(delayed.id)
    standin.settle_delayed(delayed.id)
    standin.pay_delayed(failed.id)
    standin.settle_delayed(failed.id, ok=False)
    standin.decline(declined.id)
    standin.decline(expired.id)
    standin.expire(expired.id)
    free = new_session(
        client,
        customer_email="b@example.com",
        line_items=[
            {
                "price_data": {
                    "currency": "usd",
                    "unit_amount": 0,
                    "product_data": {"name": "Gift"},
                },
                "quantity": 1,
            }
        ],
    )
    standin.pay(free.id)
    recurring = client.v1.prices.create(
        {
            "product_data": {"name": "Plan"},
            "currency": "usd",
            "unit_amount": 2000,
            "recurring": {"interval": "month"},
        }
    )
    client.v1.products.update(str(recurring.product), {"default_price": recurring.id})
    intent = client.v1.checkout.sessions.retrieve(paid.id).payment_intent
    bank = client.v1.checkout.sessions.retrieve(delayed.id).payment_intent
    refund = client.v1.refunds.create({"payment_intent": str(intent), "amount": 500})
    client.v1.refunds.create({"payment_intent": str(bank), "reason": "duplicate"})
    standin.fail_refund(refund.id)
    pending = standin.refund(str(intent), 300, "pending")
    for inquiry, end in ((True, "warning_closed"), (False, "won"), (False, "lost")):
        dispute = standin.open_dispute(str(intent), inquiry=inquiry)
        standin.close_dispute(standin.answer_dispute(dispute["id"])["id"], end)
    standin.appeal(dispute["id"])
    standin.settle_refund(pending["id"])
    v1 = client.v1
    plans = _every_plan(standin, client)
    doomed = v1.products.create({"name": "Doomed"})
    v1.products.delete(doomed.id)
    standin.delete_price(new_plan(client))
    v1.customers.delete(customer.id)
    return [
        *plans,
        v1.billing_portal.sessions.create(
            {
                "customer": plans[0].to_dict()["customer"],
                "flow_data": {"type": "payment_method_update"},
            }
        ),
        *v1.coupons.list().data,
        *v1.disputes.list().data,
        *(t for d in v1.disputes.list().data for t in d.balance_transactions),
        *v1.invoices.list({"limit": 100}).data,
        *v1.invoice_payments.list({"limit": 100}).data,
        *v1.subscriptions.list({"limit": 100, "status": "all"}).data,
        *v1.webhook_endpoints.list().data,
        *v1.customers.list().data,
        *v1.products.list().data,
        *v1.prices.list().data,
        *v1.checkout.sessions.list().data,
        *v1.checkout.sessions.line_items.list(paid.id).data,
        *v1.payment_intents.list().data,
        *v1.charges.list().data,
        *v1.refunds.list().data,
        *v1.events.list({"limit": 100}).data,
    ]


def test_every_object_has_every_field_of_the_sdk(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """Each object in each state has all fields of its SDK class, no other, each of its type."""
    objects = [_plain(thing) for thing in _everything(standin, client)]

    embedded = {"discount", "line_item", "plan", "subscription_item"}  # compared where they are
    assert {thing["object"] for thing in objects} == set(CLASSES) - embedded
    assert [found for thing in objects for found in problems(thing)] == []


def test_every_event_parses_and_round_trips(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Each delivery verifies, keeps its JSON through the SDK, and carries a complete object."""
    _everything(standin, client)
    standin.drain(30)

    assert receiver.refused == []
    listed = client.v1.events.list({"limit": 100}).auto_paging_iter()
    assert {event.id for event in receiver.events} == {event.id for event in listed}
    assert {event.type for event in receiver.events} >= _TYPES
    for event, body in receiver.received:
        sent = json.loads(body)
        assert _plain(event) == sent
        assert problems(sent) == []
        assert problems(sent["data"]["object"]) == []


def test_an_event_is_a_copy_that_never_changes(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """The completed event still says unpaid after its session was settled."""
    session = new_session(client)
    standin.pay_delayed(session.id)
    standin.settle_delayed(session.id)

    (event,) = client.v1.events.list({"type": "checkout.session.completed"}).data
    assert event.data.object.payment_status == "unpaid"
    assert client.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"


@pytest.mark.parametrize(
    ("path", "damage"),
    [
        (("amount_total",), "absent"),
        (("livemode",), "absent"),
        (("payment_status",), "settled"),
        (("created",), "1795000000"),
        (("custom_text",), None),
        (("automatic_tax", "enabled"), "no"),
        (("paid",), True),
    ],
)
def test_the_comparison_catches_damage(
    client: stripe.StripeClient, path: tuple[str, ...], damage: object
) -> None:
    """A removed, retyped, invented or impossible field is reported by the comparison itself."""
    damaged = copy.deepcopy(_plain(new_session(client)))
    *levels, last = path
    at = damaged
    for level in levels:
        at = at[level]
    if damage == "absent":
        del at[last]
    else:
        at[last] = damage

    assert len(problems(damaged)) >= 1
    assert all(".".join(path) in found for found in problems(damaged))


@pytest.mark.parametrize(
    ("path", "damage"),
    [
        (("subscription",), "sub_1"),
        (("payment_intent",), "pi_1"),
        (("parent", "subscription_details", "subscription"), "absent"),
        (("parent", "type"), "subscription"),
        (("status_transitions", "paid_at"), "today"),
        (("lines", "data", 0, "price"), "price_1"),
        (("lines", "data", 0, "pricing"), "absent"),
        (("lines", "data", 0, "period", "end"), None),
    ],
)
def test_the_comparison_catches_an_invoice_of_old(
    standin: Stripe,
    client: stripe.StripeClient,
    path: tuple[str | int, ...],
    damage: str | None,
) -> None:
    """A field where it was before basil, or one that is missing below the surface, is reported."""
    subscription = subscribe(standin, client, new_plan(client))
    damaged = copy.deepcopy(_plain(client.v1.invoices.retrieve(str(subscription.latest_invoice))))
    assert problems(damaged) == []
    *levels, last = path
    at: Any = damaged
    for level in levels:
        at = at[level]
    if damage == "absent":
        del at[last]
    else:
        at[last] = damage

    assert len(problems(damaged)) == 1
