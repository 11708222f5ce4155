"""Subscriptions as the API serves them: read, changed and cancelled, never created by a call."""

from __future__ import annotations

import copy

from local.standins import stripe_invoices, stripe_lifecycle, stripe_prorations
from local.standins.stripe_clock import period_end
from local.standins.stripe_endpoint import Endpoint, retrieving
from local.standins.stripe_objects_billing import plan
from local.standins.stripe_params import (
    LIST,
    boolean,
    fields,
    integer,
    list_of,
    merged_metadata,
    metadata,
    one_of,
    text,
)
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing, StripeError

_PATH = "/v1/subscriptions"
_STATUSES = (
    *("active", "canceled", "incomplete", "incomplete_expired"),
    *("past_due", "paused", "trialing", "unpaid"),
)
_ITEM = fields({"id": text(), "price": text(), "quantity": integer(at_least=1)})
_UPDATE = fields(
    {
        "cancel_at_period_end": boolean,
        "items": list_of(_ITEM, at_most=20),
        "metadata": metadata,
        "proration_behavior": one_of("create_prorations", "always_invoice", "none"),
        "trial_end": one_of("now"),
    }
)
_WHY = fields(
    {
        "comment": text(),
        "feedback": one_of(
            *("customer_service", "low_quality", "missing_features", "other", "switched_service"),
            *("too_complex", "too_expensive", "unused"),
        ),
    }
)


def _list(state: State, params: Json) -> Listing:
    status = params.get("status")
    found = state.listing("subscription", _PATH, params, ("customer",))
    return Listing(
        [
            each
            for each in found.objects
            if (status == "all")
            or (status == "ended" and each["status"] in ("canceled", "incomplete_expired"))
            or each["status"] == status
            or (status is None and each["status"] not in ("canceled", "incomplete_expired"))
            if "price" not in params
            or params["price"] in [item["price"]["id"] for item in each["items"]["data"]]
        ],
        found.url,
    )


def update(state: State, params: Json, object_id: str) -> Json:
    """Change a subscription; a change of price is prorated as `proration_behavior` says."""
    of = state.get("subscription", object_id)
    stripe_lifecycle.must_be_live(of)
    changes: Json = {}
    if "metadata" in params:
        changes["metadata"] = merged_metadata(of["metadata"], params["metadata"])
    if "items" in params:
        changes |= _new_items(state, of, params["items"])
    if "cancel_at_period_end" in params:
        changes |= _cancellation(state, of, wanted=params["cancel_at_period_end"])
    if params.get("trial_end") == "now":
        state.update(of, changes, stripe_lifecycle.UPDATED)
        stripe_lifecycle.end_trial(state, of)
        return of
    invoice = None
    if "items" in changes:
        behaviour = params.get("proration_behavior", "create_prorations")
        invoice = _prorate(state, of, changes, behaviour)
    state.update(of, changes, stripe_lifecycle.UPDATED)
    if invoice:
        stripe_lifecycle.charge(state, of, invoice)
    return of


def _cancellation(state: State, of: Json, *, wanted: bool) -> Json:
    ends = max(item["current_period_end"] for item in of["items"]["data"])
    details = {**of["cancellation_details"], "reason": "cancellation_requested" if wanted else None}
    if wanted == of["cancel_at_period_end"]:
        return {}
    return {
        "cancel_at": ends if wanted else None,
        "cancel_at_period_end": wanted,
        "canceled_at": state.now() if wanted else None,
        "cancellation_details": details,
    }


def _new_items(state: State, of: Json, asked: list[Json]) -> Json:
    """Return the items after a change, and the new billing anchor when the interval changes."""
    items = copy.deepcopy(of["items"])
    anchor: Json = {}
    for position, change in enumerate(asked):
        path = f"items[{position}]"
        item = next((i for i in items["data"] if i["id"] == change.get("id")), None)
        if item is None:
            raise StripeError(
                f"{path}[id] must name an item of the subscription; adding items is not served.",
                param=f"{path}[id]",
            )
        item["quantity"] = change.get("quantity", item["quantity"])
        if "price" not in change:
            continue
        price = _recurring(state, change["price"], of["currency"], f"{path}[price]")
        if _interval(price) != _interval(item["price"]) and of["status"] != "trialing":
            now = state.now()
            anchor = {"billing_cycle_anchor": now}
            item["current_period_start"] = now
            item["current_period_end"] = period_end(now, now, price["recurring"])
        item.update(price=copy.deepcopy(price), plan=plan(price))
    return {"items": items, **anchor} if items != of["items"] else {}


def _recurring(state: State, price_id: str, currency: str, path: str) -> Json:
    price = state.get("price", price_id, path)
    if price["type"] != "recurring" or not price["active"] or price["currency"] != currency:
        raise StripeError(
            "The price must be recurring, active and in the subscription's currency.", param=path
        )
    return price


def _interval(price: Json) -> tuple[str, int]:
    return price["recurring"]["interval"], price["recurring"]["interval_count"]


def _prorate(state: State, of: Json, changes: Json, behaviour: str) -> Json | None:
    """Note what the change of items costs; returns the invoice when it is due at once."""
    if of["status"] == "trialing":
        return None
    lines: list[Json] = []
    restarts = "billing_cycle_anchor" in changes
    for old, new in zip(of["items"]["data"], changes["items"]["data"], strict=True):
        if old == new:
            continue
        if behaviour != "none":
            lines.append(stripe_prorations.unused(state, of, old))
        if restarts:
            period = stripe_lifecycle.period_of(new)
            lines.append(stripe_invoices.regular_line(state, of, new, period))
        elif behaviour != "none":
            lines.append(stripe_prorations.remaining(state, of, old, new))
    if not restarts and behaviour != "always_invoice":
        state.pending_lines.setdefault(of["id"], []).extend(lines)
        return None
    invoice = stripe_invoices.draft(state, of, "subscription_update", lines)
    changes["latest_invoice"] = invoice["id"]
    return invoice


def _cancel(state: State, params: Json, object_id: str) -> Json:
    of = state.get("subscription", object_id)
    why = params.get("cancellation_details") or {}
    stripe_lifecycle.end(state, of, "cancellation_requested", **why)
    return of


ENDPOINTS = [
    Endpoint(
        "GET",
        _PATH,
        fields(
            {
                **LIST,
                "customer": text(),
                "price": text(),
                "status": one_of("all", "ended", *_STATUSES),
            }
        ),
        _list,
    ),
    retrieving("subscription", _PATH),
    Endpoint("POST", f"{_PATH}/{{object_id}}", _UPDATE, update),
    Endpoint("DELETE", f"{_PATH}/{{object_id}}", fields({"cancellation_details": _WHY}), _cancel),
]
