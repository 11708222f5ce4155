"""The life of a subscription: begun at checkout, renewed, unpaid, resumed, ended."""

from __future__ import annotations

import copy

from local.standins import stripe_discounts, stripe_invoices
from local.standins.stripe_clock import DAY, period_end
from local.standins.stripe_objects_billing import subscription, subscription_item
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

UPDATED = "customer.subscription.updated"


def begin(state: State, session: Json, outcome: str, method: str) -> tuple[Json, Json]:
    """Start what a completed session subscribes to; returns the subscription and its invoice."""
    asked = state.orders[session["id"]].get("subscription_data", {})
    at, days = state.now(), asked.get("trial_period_days")
    made = subscription(
        session["customer"],
        session["currency"],
        asked.get("metadata") or {},
        at,
        at + days * DAY if days else None,
    )
    lines = state.line_items[session["id"]]
    anchor = made["billing_cycle_anchor"]
    end = made["trial_end"] or period_end(anchor, at, lines[0]["price"]["recurring"])
    made["items"]["data"] = [
        subscription_item(made, copy.deepcopy(line["price"]), line["quantity"], (at, end))
        for line in lines
    ]
    state.add(made)
    made["discounts"] = [
        stripe_discounts.give(state, made, state.get("coupon", each["coupon"]), session["id"])["id"]
        for each in session["discounts"]
    ]
    regular = [
        stripe_invoices.regular_line(state, made, item, (at, end)) for item in made["items"]["data"]
    ]
    invoice = stripe_invoices.draft(state, made, "subscription_create", regular)
    made["latest_invoice"] = invoice["id"]
    state.emit("customer.subscription.created", made)
    stripe_invoices.collect(state, invoice, outcome, method)
    return made, invoice


def renew(state: State, of: Json, *, reason: str = "subscription_cycle") -> Json | None:
    """
    Begin the next period where the last one ends, and charge it; None: it was to be cancelled.

    A broken card makes it past due; an unpaid subscription gets a draft that nobody charges.
    """
    must_be_live(of)
    if of["cancel_at_period_end"]:
        end(state, of)
        return None
    if of["status"] == "paused":
        raise StripeError(f"Subscription {of['id']} is paused.")
    status = "active" if of["status"] == "trialing" else of["status"]
    items = copy.deepcopy(of["items"])
    for item in items["data"]:
        start = item["current_period_end"]
        item["current_period_start"] = start
        item["current_period_end"] = period_end(
            of["billing_cycle_anchor"], start, item["price"]["recurring"]
        )
    lines = [
        stripe_invoices.regular_line(state, {**of, "status": status}, item, period_of(item))
        for item in items["data"]
    ]
    invoice = stripe_invoices.draft(state, of, reason, lines)
    changes = {"items": items, "latest_invoice": invoice["id"], "status": status}
    state.update(of, changes, UPDATED)
    if status == "unpaid":
        invoice["auto_advance"] = False
        state.emit("invoice.created", invoice)
    else:
        charge(state, of, invoice)
    return invoice


def charge(state: State, of: Json, invoice: Json) -> None:
    """Charge an invoice by the customer's card; the subscription's status follows."""
    broken = of["customer"] in state.broken_cards
    stripe_invoices.collect(state, invoice, "failed" if broken else "succeeded")
    follow(state, of, invoice)


def follow(state: State, of: Json, invoice: Json) -> None:
    """Make a subscription's status that of its latest invoice, paid or not."""
    if of["latest_invoice"] != invoice["id"] or of["ended_at"] or of["status"] == "trialing":
        return
    if invoice["status"] == "paid":
        state.update(of, {"status": "active"}, UPDATED)
    elif invoice["attempted"] and of["status"] == "active":
        state.update(of, {"status": "past_due"}, UPDATED)


def end(state: State, of: Json, reason: str | None = None, **why: str) -> None:
    """Cancel for good, now; what was asked for earlier keeps its time and its reason."""
    must_be_live(of)
    at = state.now()
    details = {**of["cancellation_details"], **why}
    if reason:
        details["reason"] = reason
    of.update(
        cancellation_details=details,
        canceled_at=of["canceled_at"] or at,
        ended_at=at,
        status="canceled",
    )
    state.pending_lines.pop(of["id"], None)
    state.emit("customer.subscription.deleted", of)


def end_trial(state: State, of: Json, *, pays: bool = True) -> Json | None:
    """End a trial now: the first paid period begins, or without a card it is paused."""
    if of["status"] != "trialing":
        raise StripeError(f"Subscription {of['id']} has the status {of['status']}.")
    at = state.now()
    of.update(billing_cycle_anchor=at, trial_end=at)
    for item in of["items"]["data"]:
        item["current_period_end"] = at
    if pays:
        return renew(state, of)
    state.update(of, {"status": "paused"}, UPDATED)
    state.emit("customer.subscription.paused", of)
    return None


def resume(state: State, of: Json) -> Json | None:
    """Let a paused subscription begin a period now."""
    if of["status"] != "paused":
        raise StripeError(f"Subscription {of['id']} has the status {of['status']}.")
    at = state.now()
    of.update(billing_cycle_anchor=at, status="active")
    for item in of["items"]["data"]:
        item["current_period_end"] = at
    state.emit("customer.subscription.resumed", of)
    return renew(state, of)


def mark_unpaid(state: State, of: Json) -> None:
    """Give up collecting; raises `StripeError` when nothing is owed."""
    if of["status"] != "past_due":
        raise StripeError(f"Subscription {of['id']} has the status {of['status']}.")
    state.update(of, {"status": "unpaid"}, UPDATED)


def must_be_live(of: Json) -> None:
    """Raise `StripeError` for a subscription that has ended."""
    if of["ended_at"]:
        raise StripeError(
            f"No such subscription: '{of['id']}'", code="resource_missing", param="id", status=404
        )


def period_of(item: Json) -> tuple[int, int]:
    """Return when an item's current period begins and ends."""
    return item["current_period_start"], item["current_period_end"]


def due_at(of: Json) -> int | None:
    """Return when time next changes a subscription; None: never."""
    if of["ended_at"] or of["status"] == "paused":
        return None
    period: int = min(item["current_period_end"] for item in of["items"]["data"])
    return period if of["cancel_at"] is None else min(period, int(of["cancel_at"]))
