from __future__ import annotations

from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_clock import DAY
from local.standins.stripe_wire import API_VERSION
from tests.contract.stripe_support import (
    API_KEY,
    SECRET,
    Receiver,
    new_pack,
    new_plan,
    new_session,
    plan_session,
    sdk_client,
    subscribe,
)

pytest_plugins = ["tests.contract.stripe_fixtures"]


def test_the_webhook_endpoint_is_shown(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A health check sees where events go, which ones, and in which version; never the secret."""
    standin.webhooks.enabled_events = ("invoice.paid", "refund.created")
    (endpoint,) = client.v1.webhook_endpoints.list().data
    assert endpoint.url == f"{receiver.url}/webhook"
    assert endpoint.enabled_events == ["invoice.paid", "refund.created"]
    assert (endpoint.api_version, endpoint.status) == (API_VERSION, "enabled")
    assert client.v1.webhook_endpoints.retrieve(endpoint.id).to_dict() == endpoint.to_dict()
    assert "secret" not in endpoint
    changed = client.v1.webhook_endpoints.update(endpoint.id, {"enabled_events": ["*"]})
    assert changed.enabled_events == ["*"]
    client.v1.customers.create()
    standin.drain()
    assert receiver.types == ["customer.created"]
    with pytest.raises(stripe.InvalidRequestError, match="No such webhook endpoint"):
        client.v1.webhook_endpoints.retrieve("we_none")


def test_a_webhook_endpoint_is_made_once(receiver: Receiver) -> None:
    """Its secret is told in the answer and signs from then on; a second one is refused."""
    wanted: Any = {"url": f"{receiver.url}/webhook", "enabled_events": ["customer.created"]}
    with Stripe(API_KEY, None, SECRET) as standin, sdk_client(standin) as client:
        assert client.v1.webhook_endpoints.list().data == []
        for wrong in (
            {"api_version": "2020-08-27"},
            {"enabled_events": ["Customer Created"]},
            {"url": "nowhere"},
        ):
            with pytest.raises(stripe.InvalidRequestError):
                client.v1.webhook_endpoints.create(wanted | wrong)
        made = client.v1.webhook_endpoints.create(wanted | {"api_version": API_VERSION})
        client.v1.customers.create()
        standin.drain()
        assert made.secret is not None
        request = receiver.requests[-1]
        header = request.headers["stripe-signature"]
        assert stripe.Webhook.construct_event(request.body, header, made.secret)
        with pytest.raises(stripe.InvalidRequestError, match="one webhook endpoint"):
            client.v1.webhook_endpoints.create(wanted)


def test_a_deleted_customer_still_answers(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """It says deleted and little else, its subscriptions end, and nothing new is sold to it."""
    subscription = subscribe(standin, client, new_plan(client))
    customer = str(subscription.customer)
    standin.drain()
    receiver.received.clear()
    assert client.v1.customers.delete(customer).deleted is True
    standin.drain()

    assert receiver.types == ["customer.subscription.deleted", "customer.deleted"]
    assert receiver.events[-1].data.object.id == customer
    kept = client.v1.customers.retrieve(customer)
    assert kept.to_dict() == {"id": customer, "object": "customer", "deleted": True}
    assert client.v1.customers.list().data == []
    deep = client.v1.subscriptions.retrieve(subscription.id, {"expand": ["customer"]}).to_dict()
    assert (deep["status"], deep["customer"]["deleted"]) == ("canceled", True)
    for again in (
        lambda: plan_session(client, new_plan(client), customer),
        lambda: client.v1.customers.update(customer, {"name": "A"}),
        lambda: client.v1.customers.delete(customer),
        lambda: client.v1.billing_portal.sessions.create({"customer": customer}),
    ):
        with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
            again()


def test_products_and_prices_may_go(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A product without prices is deleted by the API, a price by the dashboard; both tell."""
    price = new_pack(client)
    product = str(client.v1.prices.retrieve(price).product)
    with pytest.raises(stripe.InvalidRequestError, match="cannot be deleted"):
        client.v1.products.delete(product)
    standin.delete_price(price)
    assert client.v1.products.delete(product).deleted is True
    standin.drain()

    assert sorted(receiver.types)[-2:] == ["product.created", "product.deleted"]
    assert "price.deleted" in receiver.types
    for gone in (client.v1.prices.retrieve, client.v1.products.retrieve):
        with pytest.raises(stripe.InvalidRequestError):
            gone(price)


def test_events_are_kept_for_thirty_days(standin: Stripe, client: stripe.StripeClient) -> None:
    """What was missed longer ago cannot be listed any more, only its objects can."""
    session = new_session(client)
    standin.pay(session.id)
    standin.advance(29 * DAY)
    assert client.v1.events.list({"type": "checkout.session.completed"}).data
    standin.advance(2 * DAY)
    assert client.v1.events.list().data == []
    assert client.v1.checkout.sessions.list({"status": "complete"}).data[0].id == session.id


def test_idempotency_keys_are_forgotten_after_a_day(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """The same key makes a second object then: for ever, only a database protects."""
    key: Any = {"idempotency_key": "cust:1"}
    first = client.v1.customers.create({}, key)
    standin.advance(DAY - 60)
    assert client.v1.customers.create({}, key).id == first.id
    standin.advance(120)
    assert client.v1.customers.create({}, key).id != first.id
