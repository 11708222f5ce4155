"""Coupons, and what they take off: at checkout and on the invoices of a subscription."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from local.standins.stripe_clock import months_later
from local.standins.stripe_endpoint import Endpoint, listing, retrieving
from local.standins.stripe_objects_billing import coupon, discount
from local.standins.stripe_params import (
    currency,
    exactly_one,
    fields,
    integer,
    metadata,
    one_of,
    text,
)
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

_PATH = "/v1/coupons"


def rounded(amount: Decimal) -> int:
    """Return an amount in whole minor units, halves away from zero."""
    return int(amount.quantize(Decimal(1), ROUND_HALF_UP))


def taken_off(of_coupon: Json, amount: int) -> int:
    """Return what a coupon takes off an amount."""
    if of_coupon["percent_off"] is None:
        return min(amount, int(of_coupon["amount_off"]))
    return rounded(amount * Decimal(str(of_coupon["percent_off"])) / 100)


def create_coupon(state: State, params: Json) -> Json:
    """Keep a new coupon; raises `StripeError` unless it is by percent or by amount."""
    if exactly_one(params, ("percent_off", "amount_off")) == "amount_off":
        exactly_one(params, ("currency",))
    if "id" in params and state.has("coupon", params["id"]):
        raise StripeError(
            f"Coupon already exists: {params['id']}", code="resource_already_exists", param="id"
        )
    made = state.add(coupon(params, state.now()))
    state.emit("coupon.created", made)
    return made


def give(state: State, subscription: Json, of_coupon: Json, session: str | None = None) -> Json:
    """Let a subscription use a coupon from now on, in place of what it used before."""
    of_coupon["times_redeemed"] += 1
    end = None
    if of_coupon["duration"] == "repeating":
        end = months_later(state.now(), of_coupon["duration_in_months"] or 1)
    made = state.add(discount(of_coupon, subscription, state.now(), end, session))
    state.emit("customer.discount.created", made)
    return made


def on_invoice(state: State, subscription: Json, amount: int) -> list[tuple[str, int]]:
    """Return what each live discount of a subscription takes off a line of `amount`."""
    found: list[tuple[str, int]] = []
    for name in subscription["discounts"]:
        used = state.get("discount", name)
        if used["end"] is not None and used["end"] <= state.now():
            continue
        off = taken_off(state.get("coupon", used["source"]["coupon"]), amount)
        amount -= off
        found.append((name, off))
    return found


def use_up(state: State, subscription: Json) -> None:
    """Take away the discounts that were for one invoice only."""
    subscription["discounts"] = [
        name
        for name in subscription["discounts"]
        if state.get("coupon", state.get("discount", name)["source"]["coupon"])["duration"]
        != "once"
    ]


ENDPOINTS = [
    Endpoint(
        "POST",
        _PATH,
        fields(
            {
                "amount_off": integer(at_least=1),
                "currency": currency,
                "duration": one_of("forever", "once", "repeating"),
                "duration_in_months": integer(at_least=1),
                "id": text(),
                "metadata": metadata,
                "name": text(40),
                "percent_off": integer(at_least=1, at_most=100),
            }
        ),
        create_coupon,
    ),
    listing("coupon", _PATH, {}),
    retrieving("coupon", _PATH),
]
