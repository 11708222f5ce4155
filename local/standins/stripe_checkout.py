"""Checkout sessions as the API makes, shows and ends them, in modes `payment` and `subscription`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.standins.stripe_catalog import PRODUCT_DATA, RECURRING
from local.standins.stripe_discounts import taken_off
from local.standins.stripe_endpoint import Endpoint
from local.standins.stripe_objects_catalog import price, product
from local.standins.stripe_objects_checkout import checkout_session, line_item
from local.standins.stripe_params import (
    LIST,
    currency,
    exactly_one,
    fields,
    integer,
    list_of,
    metadata,
    missing,
    one_of,
    text,
    url,
)
from local.standins.stripe_payer import expire, open_or_expired
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing, StripeError

_PATH = "/v1/checkout/sessions"
_LIFE_MIN, _LIFE_MAX = 30 * 60, 24 * 3600
_CHARGE_MIN = 50
"""The smallest charge in minor units of US dollars; Stripe converts other currencies to it."""

_PRICE_DATA = fields(
    {"product": text(), "product_data": PRODUCT_DATA, "recurring": RECURRING},
    {"currency": currency, "unit_amount": integer(at_least=0)},
)
_LINE = fields({"price": text(), "price_data": _PRICE_DATA, "quantity": integer(at_least=1)})
_CREATE = fields(
    {
        "cancel_url": url,
        "client_reference_id": text(200),
        "customer": text(),
        "customer_email": text(800),
        "discounts": list_of(fields({}, {"coupon": text()}), at_most=1),
        "expires_at": integer(at_least=0),
        "line_items": list_of(_LINE, at_most=100),
        "metadata": metadata,
        "payment_intent_data": fields({"metadata": metadata}),
        "payment_method_collection": one_of("always", "if_required"),
        "subscription_data": fields(
            {
                "metadata": metadata,
                "trial_period_days": integer(at_least=1, at_most=730),
            }
        ),
    },
    {"mode": one_of("payment", "subscription"), "success_url": url},
)


def _create(state: State, params: Json) -> Json:
    if "customer" in params:
        state.get("customer", params["customer"], "customer")
        if "customer_email" in params:
            exactly_one(params, ("customer", "customer_email"))
    _check_expiry(params, state.now())
    _check_mode(params)
    if not params.get("line_items"):
        raise missing("line_items")
    lines = [
        _line(state, params["mode"], line, f"line_items[{i}]")
        for i, line in enumerate(params["line_items"])
    ]
    _check_lines(params["mode"], lines)
    _reduce(state, params, lines)
    amount = sum(line["amount_total"] for line in lines)
    if 0 < amount < _CHARGE_MIN:
        raise StripeError(
            "The Checkout Session's total amount must convert to at least 50 cents.",
            code="amount_too_small",
        )
    session = checkout_session(params, lines, state.base_url, state.now())
    state.line_items[session["id"]] = lines
    state.orders[session["id"]] = params
    return state.add(session)


def _check_mode(params: Json) -> None:
    mode = params["mode"]
    for name, only in (("payment_intent_data", "payment"), ("subscription_data", "subscription")):
        if params.get(name) and mode != only:
            raise StripeError(f"You can not pass `{name}` in `{mode}` mode.", param=name)


def _check_lines(mode: str, lines: list[Json]) -> None:
    if len({line["currency"] for line in lines}) > 1:
        raise StripeError(
            "All line items of a session must have the same currency.", param="line_items"
        )
    if mode == "subscription" and len({str(line["price"]["recurring"]) for line in lines}) > 1:
        raise StripeError("All prices of a subscription must have the same interval.")


def _reduce(state: State, params: Json, lines: list[Json]) -> None:
    """Take off what a trial or a coupon makes cheaper."""
    trial = params.get("subscription_data", {}).get("trial_period_days")
    coupons = [
        state.get("coupon", each["coupon"], "discounts[0][coupon]")
        for each in params.get("discounts", [])
    ]
    for line in lines:
        if trial:
            line.update(amount_subtotal=0, amount_total=0)
        for coupon in coupons:
            off = taken_off(coupon, line["amount_total"])
            line["amount_discount"] += off
            line["amount_total"] -= off


def _check_expiry(params: Mapping[str, Any], now: int) -> None:
    life = params.get("expires_at", now + _LIFE_MAX) - now
    if not _LIFE_MIN <= life <= _LIFE_MAX:
        raise StripeError(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.",
            param="expires_at",
        )


def _line(state: State, mode: str, line: Json, path: str) -> Json:
    if "quantity" not in line:
        raise missing(f"{path}[quantity]")
    if exactly_one(line, ("price", "price_data"), path) == "price":
        sold = state.get("price", line["price"], f"{path}[price]")
        if not sold["active"]:
            raise StripeError(
                "The price specified is inactive. This field only accepts active prices.",
                param=f"{path}[price]",
            )
    else:
        sold = _inline_price(state, line["price_data"], f"{path}[price_data]")
    if (sold["type"] == "recurring") != (mode == "subscription"):
        raise StripeError(
            f"You specified `{mode}` mode but passed a {sold['type'].replace('_', '-')} price.",
            param=f"{path}[price]",
        )
    return line_item(sold, line["quantity"], state.get("product", sold["product"])["name"])


def _inline_price(state: State, data: Json, path: str) -> Json:
    """Make the price (and product) of `price_data`: real ones, but archived from the start."""
    if exactly_one(data, ("product", "product_data"), path) == "product":
        owner = state.get("product", data["product"], f"{path}[product]")
    else:
        owner = state.add(product({**data["product_data"], "active": False}, state.now()))
    return state.add(price({**data, "product": owner["id"], "active": False}, state.now()))


def _retrieve(state: State, _params: Json, object_id: str) -> Json:
    return open_or_expired(state, state.get("checkout.session", object_id))


def _list(state: State, params: Json) -> Listing:
    for session in state.newest("checkout.session"):
        open_or_expired(state, session)
    return state.listing(
        "checkout.session", _PATH, params, ("customer", "payment_intent", "status", "subscription")
    )


def _expire(state: State, _params: Json, object_id: str) -> Json:
    return expire(state, _retrieve(state, {}, object_id))


def _list_lines(state: State, _params: Json, object_id: str) -> Listing:
    return state.lines_of(state.get("checkout.session", object_id))


ENDPOINTS = [
    Endpoint("POST", _PATH, _CREATE, _create),
    Endpoint(
        "GET",
        _PATH,
        fields(
            {
                **LIST,
                "customer": text(),
                "payment_intent": text(),
                "subscription": text(),
                "status": one_of("open", "complete", "expired"),
            }
        ),
        _list,
    ),
    Endpoint("GET", f"{_PATH}/{{object_id}}", fields({}), _retrieve),
    Endpoint("POST", f"{_PATH}/{{object_id}}/expire", fields({}), _expire),
    Endpoint(
        "GET",
        f"{_PATH}/{{object_id}}/line_items",
        fields({k: v for k, v in LIST.items() if k != "created"}),
        _list_lines,
    ),
]
