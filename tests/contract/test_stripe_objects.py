from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_conformance import CLASSES, problems
from tests.contract.stripe_support import Receiver, new_pack, new_session

pytest_plugins = ["tests.contract.stripe_fixtures"]


def _plain(thing: stripe.StripeObject) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(thing.to_dict(for_json=True)))
    return plain


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
    v1 = client.v1
    return [
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

    assert {thing["object"] for thing in objects} == set(CLASSES)
    assert [found for thing in objects for found in problems(thing)] == []


def test_every_event_parses_and_round_trips(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Each delivery verifies, keeps its JSON through the SDK, and carries a complete object."""
    _everything(standin, client)
    standin.drain(10)

    assert receiver.refused == []
    assert len(receiver.events) == len(client.v1.events.list({"limit": 100}).data)
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
