from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_support import Receiver, invoices_of, new_pack, new_plan, subscribe

pytest_plugins = ["tests.contract.stripe_fixtures"]

_BACK = "http://127.0.0.1:9/account"


def _page(url: str, **pressed: str) -> tuple[int, str, str | None]:
    """Return what a browser gets: status, text and where it is sent."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=5)
    try:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        method = "POST" if pressed else "GET"
        connection.request(method, parts.path, urlencode(pressed) if pressed else None, headers)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["location"]
    finally:
        connection.close()


def _open(client: stripe.StripeClient, customer: str) -> str:
    session = client.v1.billing_portal.sessions.create({"customer": customer, "return_url": _BACK})
    return session.url


def test_a_customer_cancels_and_resumes(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """The page shows the plan; its button asks for the period's end, the next takes it back."""
    subscription = subscribe(standin, client, new_plan(client))
    url = _open(client, str(subscription.customer))
    status, text, _ = _page(url)
    assert status == 200
    assert "Pro, 29.00 USD / month" in text
    assert "http" not in text

    _status, text, _ = _page(url, action="cancel", subscription=subscription.id)
    assert "Keep the plan" in text
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end is True
    _page(url, action="resume", subscription=subscription.id)
    assert client.v1.subscriptions.retrieve(subscription.id).cancel_at_period_end is False
    standin.drain()
    assert receiver.types.count("customer.subscription.updated") == 2
    assert _page(url, action="back")[::2] == (303, _BACK)


def test_a_customer_changes_plan(standin: Stripe, client: stripe.StripeClient) -> None:
    """Active recurring prices are offered, and the change is invoiced at once."""
    subscription = subscribe(standin, client, new_plan(client))
    business = new_plan(client, 5900, name="Business <b>")
    archived, pack = new_plan(client, 100), new_pack(client)
    client.v1.prices.update(archived, {"active": False})
    url = _open(client, str(subscription.customer))
    text = _page(url)[1]
    assert "Change to Business &lt;b&gt;, 59.00 USD / month" in text
    assert archived not in text
    assert pack not in text

    _page(url, action="change", subscription=subscription.id, price=business)

    assert client.v1.subscriptions.retrieve(subscription.id).items.data[0].price.id == business
    assert invoices_of(client, subscription.id)[1].billing_reason == "subscription_update"
    alert = _page(url, action="change", subscription=subscription.id, price=archived)[1]
    assert 'role="alert"' in alert


def test_a_customer_sees_only_its_own(standin: Stripe, client: stripe.StripeClient) -> None:
    """Another's subscription is neither shown nor changed, an unknown page is a 404."""
    mine, other = (subscribe(standin, client, new_plan(client)) for _ in range(2))
    url = _open(client, str(mine.customer))
    assert other.id not in _page(url)[1]
    assert "No such subscription" in _page(url, action="cancel", subscription=other.id)[1]
    assert client.v1.subscriptions.retrieve(other.id).cancel_at_period_end is False
    assert _page(f"{standin.url}/p/session/bps_none")[0] == 404
    assert _page(f"{standin.url}/p/session/bps_none", action="cancel")[0] == 404


def test_without_a_saved_configuration_there_is_no_portal(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """As in a fresh account: creation fails and says why."""
    customer = client.v1.customers.create().id
    configuration = standin.state.portal_configuration
    assert _open(client, customer).startswith(standin.url)
    standin.state.portal_configuration = None
    with pytest.raises(stripe.InvalidRequestError, match="default configuration"):
        _open(client, customer)
    assert configuration is not None


def test_flows_name_what_they_are_about(standin: Stripe, client: stripe.StripeClient) -> None:
    """A flow's subscription must be there and be the customer's; unknown flows are refused."""
    mine, other = (subscribe(standin, client, new_plan(client)) for _ in range(2))
    customer = str(mine.customer)
    create: Any = client.v1.billing_portal.sessions.create
    flow = {"type": "subscription_cancel", "subscription_cancel": {"subscription": mine.id}}
    session = create({"customer": customer, "flow_data": flow})
    assert session.flow.subscription_cancel.subscription == mine.id
    for wrong in (
        {"type": "subscription_cancel"},
        {"type": "subscription_cancel", "subscription_cancel": {"subscription": other.id}},
        {"type": "subscription_cancel", "subscription_cancel": {"subscription": "sub_none"}},
        {"type": "subscription_pause"},
    ):
        with pytest.raises(stripe.InvalidRequestError):
            create({"customer": customer, "flow_data": wrong})
    for params in ({"customer": "cus_none"}, {"customer": customer, "configuration": "bpc_none"}):
        with pytest.raises(stripe.InvalidRequestError):
            create(params)


def test_a_customer_pays_what_a_failed_renewal_left(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """Past due, the page offers to pay: then it is active, and there is nothing to pay any more."""
    subscription = subscribe(standin, client, new_plan(client))
    url = _open(client, str(subscription.customer))
    assert "Pay what is open" not in _page(url)[1]
    alert = _page(url, action="pay", subscription=subscription.id)[1]
    assert 'role="alert"' in alert
    standin.fail_renewal(subscription.id)
    assert "Pay what is open" in _page(url)[1]

    text = _page(url, action="pay", subscription=subscription.id)[1]

    assert "Pay what is open" not in text
    assert client.v1.subscriptions.retrieve(subscription.id).status == "active"
    assert invoices_of(client, subscription.id)[0].status == "paid"
