"""Checkout sessions in mode `payment`: made by the API, ended by the payer or by time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.standins import stripe_objects
from local.standins.stripe_catalog import PRODUCT_DATA
from local.standins.stripe_endpoint import Endpoint
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
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing, StripeError

_PATH = "/v1/checkout/sessions"
_LIFE_MIN, _LIFE_MAX = 30 * 60, 24 * 3600
_CHARGE_MIN = 50
"""The smallest charge in minor units of US dollars; Stripe converts other currencies to it."""

_PRICE_DATA = fields(
    {"product": text(), "product_data": PRODUCT_DATA},
    {"currency": currency, "unit_amount": integer(at_least=0)},
)
_LINE = fields({"price": text(), "price_data": _PRICE_DATA, "quantity": integer(at_least=1)})
_CREATE = fields(
    {
        "cancel_url": url,
        "client_reference_id": text(200),
        "customer": text(),
        "customer_email": text(800),
        "expires_at": integer(at_least=0),
        "line_items": list_of(_LINE, at_most=100),
        "metadata": metadata,
        "payment_intent_data": fields({"metadata": metadata}),
    },
    {"mode": one_of("payment"), "success_url": url},
)


def _create(state: State, params: Json) -> Json:
    if "customer" in params:
        state.get("customer", params["customer"], "customer")
        if "customer_email" in params:
            exactly_one(params, ("customer", "customer_email"))
    _check_expiry(params)
    if not params.get("line_items"):
        raise missing("line_items")
    lines = [_line(state, line, f"line_items[{i}]") for i, line in enumerate(params["line_items"])]
    used = {line["currency"] for line in lines}
    if len(used) > 1:
        raise StripeError(
            "All line items of a session must have the same currency.", param="line_items"
        )
    amount = sum(line["amount_total"] for line in lines)
    if 0 < amount < _CHARGE_MIN:
        raise StripeError(
            "The Checkout Session's total amount must convert to at least 50 cents.",
            code="amount_too_small",
        )
    session = stripe_objects.checkout_session(params, amount, used.pop(), state.base_url)
    state.line_items[session["id"]] = lines
    state.intent_metadata[session["id"]] = (
        params.get("payment_intent_data", {}).get("metadata") or {}
    )
    return state.add(session)


def _check_expiry(params: Mapping[str, Any]) -> None:
    life = params.get("expires_at", stripe_objects.now() + _LIFE_MAX) - stripe_objects.now()
    if not _LIFE_MIN <= life <= _LIFE_MAX:
        raise StripeError(
            "The `expires_at` timestamp must be between 30 minutes and 24 hours from now.",
            param="expires_at",
        )


def _line(state: State, line: Json, path: str) -> Json:
    if "quantity" not in line:
        raise missing(f"{path}[quantity]")
    if exactly_one(line, ("price", "price_data"), path) == "price":
        price = state.get("price", line["price"], f"{path}[price]")
        if not price["active"]:
            raise StripeError(
                "The price specified is inactive. This field only accepts active prices.",
                param=f"{path}[price]",
            )
        if price["type"] != "one_time":
            raise StripeError(
                "You specified `payment` mode but passed a recurring price.",
                param=f"{path}[price]",
            )
    else:
        price = _inline_price(state, line["price_data"], f"{path}[price_data]")
    product = state.get("product", price["product"])
    return stripe_objects.line_item(price, line["quantity"], product["name"])


def _inline_price(state: State, data: Json, path: str) -> Json:
    """Make the price (and product) of `price_data`: real ones, but archived from the start."""
    if exactly_one(data, ("product", "product_data"), path) == "product":
        product = state.get("product", data["product"], f"{path}[product]")
    else:
        product = state.add(stripe_objects.product({**data["product_data"], "active": False}))
    return state.add(stripe_objects.price({**data, "product": product["id"], "active": False}))


def open_or_expired(state: State, session: Json) -> Json:
    """Return the session, expired now if its time is over."""
    if session["status"] == "open" and session["expires_at"] <= stripe_objects.now():
        _end(state, session)
    return session


def expire(state: State, session: Json) -> Json:
    """End an open session; raises `StripeError` for any other."""
    _must_be_open(session)
    return _end(state, session)


def _end(state: State, session: Json) -> Json:
    if session["payment_intent"]:
        intent = state.get("payment_intent", session["payment_intent"])
        intent.update(
            status="canceled", canceled_at=stripe_objects.now(), cancellation_reason="automatic"
        )
        state.emit("payment_intent.canceled", intent)
    session.update(status="expired", url=None)
    state.emit("checkout.session.expired", session)
    return session


def pay(state: State, session: Json) -> Json:
    """Pay an open session by card: charged, complete, paid."""
    details = _complete(state, session)
    if session["amount_total"] == 0:
        session.update(payment_status="no_payment_required")
    else:
        intent = _attempt(state, session, "succeeded", "card", details)
        _succeed(state, intent, state.get("charge", intent["latest_charge"]))
        session.update(payment_status="paid")
    state.emit("checkout.session.completed", session)
    return session


def pay_delayed(state: State, session: Json) -> Json:
    """Pay an open session by bank debit: complete, but unpaid until it is settled."""
    if session["amount_total"] == 0:
        raise StripeError("There is nothing to pay by a delayed method.")
    details = _complete(state, session)
    intent = _attempt(state, session, "pending", "us_bank_account", details)
    intent.update(status="processing")
    state.emit("charge.pending", state.get("charge", intent["latest_charge"]))
    state.emit("payment_intent.processing", intent)
    state.emit("checkout.session.completed", session)
    return session


def settle_delayed(state: State, session: Json, *, ok: bool) -> Json:
    """Let the bank answer a delayed payment; raises `StripeError` when none is waiting."""
    intent_id = session["payment_intent"]
    intent = state.get("payment_intent", intent_id) if intent_id else None
    if not intent or intent["status"] != "processing":
        raise StripeError(f"No delayed payment of session {session['id']} is waiting.")
    charge = state.get("charge", intent["latest_charge"])
    if ok:
        charge.update(status="succeeded", amount_captured=charge["amount"])
        _succeed(state, intent, charge)
        session.update(payment_status="paid")
        state.emit("checkout.session.async_payment_succeeded", session)
    else:
        charge.update(
            status="failed",
            paid=False,
            captured=False,
            failure_code="insufficient_funds",
            failure_message="The customer's account has insufficient funds.",
        )
        _fail(state, intent, charge)
        state.emit("checkout.session.async_payment_failed", session)
    return session


def decline(state: State, session: Json) -> Json:
    """Let a card be declined: the session stays open for another try."""
    _must_be_open(session)
    intent = _attempt(state, session, "failed", "card", _details(state, session))
    _fail(state, intent, state.get("charge", intent["latest_charge"]))
    return session


def _must_be_open(session: Json) -> None:
    if session["status"] != "open":
        raise StripeError(
            f'Only Checkout Sessions with a status in ["open"] can do this. '
            f"This Checkout Session has a status of {session['status']}.",
        )


def _complete(state: State, session: Json) -> Json:
    _must_be_open(session)
    details = _details(state, session)
    session.update(status="complete", url=None, customer_details=details)
    return details


def _details(state: State, session: Json) -> Json:
    if not session["customer"]:
        email = session["customer_email"] or "payer@example.com"
        return stripe_objects.customer_details(email, "Local Payer")
    customer = state.get("customer", session["customer"])
    return stripe_objects.customer_details(customer["email"], customer["name"])


def _attempt(state: State, session: Json, status: str, method: str, details: Json) -> Json:
    """Charge the session's payment intent, made at the first attempt and kept for the next."""
    if session["payment_intent"]:
        intent = state.get("payment_intent", session["payment_intent"])
    else:
        intent = state.add(
            stripe_objects.payment_intent(session, state.intent_metadata[session["id"]])
        )
        session["payment_intent"] = intent["id"]
    charge = state.add(stripe_objects.charge(intent, status, method, details))
    intent.update(latest_charge=charge["id"], payment_method=charge["payment_method"])
    return intent


def _succeed(state: State, intent: Json, charge: Json) -> None:
    intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
    state.emit("charge.succeeded", charge)
    state.emit("payment_intent.succeeded", intent)


def _fail(state: State, intent: Json, charge: Json) -> None:
    intent.update(
        status="requires_payment_method",
        payment_method=None,
        last_payment_error=stripe_objects.payment_error(charge),
    )
    state.emit("charge.failed", charge)
    state.emit("payment_intent.payment_failed", intent)


def _retrieve(state: State, _params: Json, object_id: str) -> Json:
    return open_or_expired(state, state.get("checkout.session", object_id))


def _list(state: State, params: Json) -> Listing:
    for session in state.newest("checkout.session"):
        open_or_expired(state, session)
    return state.listing(
        "checkout.session", _PATH, params, ("customer", "payment_intent", "status")
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
