"""The billing portal: sessions made by the API, and what a customer does on its page."""

from __future__ import annotations

from local.standins import stripe_invoices, stripe_lifecycle, stripe_subscriptions
from local.standins.stripe_endpoint import Endpoint
from local.standins.stripe_objects_account import portal_session
from local.standins.stripe_params import exactly_one, fields, one_of, text, url
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

_OF = fields({}, {"subscription": text()})
_FLOWS = ("payment_method_update", "subscription_cancel", "subscription_update")
_FLOW = fields({"subscription_cancel": _OF, "subscription_update": _OF}, {"type": one_of(*_FLOWS)})


def _create(state: State, params: Json) -> Json:
    customer = state.get("customer", params["customer"], "customer")
    configuration = params.get("configuration", state.portal_configuration)
    if configuration is None:
        raise StripeError(
            "No configuration provided and your test mode default configuration has not been "
            "created. Provide a configuration or create your default by saving your customer "
            "portal settings in test mode."
        )
    if configuration != state.portal_configuration:
        raise StripeError(f"No such configuration: '{configuration}'", param="configuration")
    flow = params.get("flow_data")
    if flow and flow["type"] != "payment_method_update":
        exactly_one(flow, (flow["type"],), "flow_data")
        of = state.get("subscription", flow[flow["type"]]["subscription"], "flow_data")
        if of["customer"] != customer["id"]:
            raise StripeError("The subscription is another customer's.", param="flow_data")
    return state.add(portal_session(params, configuration, state.base_url, state.now()))


def prices_for(state: State, subscription: Json) -> list[Json]:
    """Return the prices a subscription may change to, cheapest first."""
    (item,) = subscription["items"]["data"][:1]
    return sorted(
        (
            price
            for price in state.newest("price")
            if price["active"]
            and price["type"] == "recurring"
            and price["currency"] == subscription["currency"]
            and price["id"] != item["price"]["id"]
            and state.get("product", price["product"])["active"]
        ),
        key=lambda price: (price["unit_amount"], price["id"]),
    )


def act(state: State, session: Json, action: str, subscription_id: str, price_id: str) -> None:
    """
    Do what a button of the page says: `cancel` (at the period's end), `resume`, `change` or `pay`.

    `pay` pays the invoice that a failed renewal left open, with a card that works. Raises
    `StripeError` for another customer's subscription, another price and another action.
    """
    live = state.subscriptions_of(session["customer"])
    if subscription_id not in [each["id"] for each in live]:
        raise StripeError(f"No such subscription: '{subscription_id}'", status=404)
    of = state.get("subscription", subscription_id)
    if action in ("cancel", "resume"):
        wanted = {"cancel_at_period_end": action == "cancel"}
        stripe_subscriptions.update(state, wanted, subscription_id)
        return
    if action == "pay":
        state.broken_cards.discard(of["customer"])
        invoice = state.get("invoice", of["latest_invoice"])
        stripe_invoices.pay(state, invoice)
        stripe_lifecycle.follow(state, of, invoice)
        return
    if action != "change" or price_id not in [price["id"] for price in prices_for(state, of)]:
        raise StripeError("The portal offers no such thing.")
    item = {"id": of["items"]["data"][0]["id"], "price": price_id}
    change = {"items": [item], "proration_behavior": "always_invoice"}
    stripe_subscriptions.update(state, change, subscription_id)


ENDPOINTS = [
    Endpoint(
        "POST",
        "/v1/billing_portal/sessions",
        fields(
            {"configuration": text(), "flow_data": _FLOW, "return_url": url},
            {"customer": text()},
        ),
        _create,
    ),
]
