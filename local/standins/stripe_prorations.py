"""What a change of plan in mid-period costs: a credit for the old plan, a charge for the new."""

from __future__ import annotations

from decimal import Decimal

from local.standins.stripe_discounts import on_invoice, rounded
from local.standins.stripe_invoices import subscription_id
from local.standins.stripe_objects_invoices import line
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json


def unused(state: State, subscription: Json, item: Json) -> Json:
    """Build the credit for the rest of an item's period; it names the line it credits."""
    return _line(state, subscription, item, item, -1, "Unused time on")


def remaining(state: State, subscription: Json, old: Json, new: Json) -> Json:
    """Build the charge for what is left of the period at the new price."""
    return _line(state, subscription, old, new, 1, "Remaining time on")


def _line(
    state: State, subscription: Json, period_of: Json, item: Json, sign: int, words: str
) -> Json:
    start, end = period_of["current_period_start"], period_of["current_period_end"]
    at = min(max(state.now(), start), end)
    full = item["price"]["unit_amount"] * item["quantity"]
    full -= sum(off for _name, off in on_invoice(state, subscription, full))
    amount = sign * rounded(Decimal(full) * (end - at) / (end - start))
    name = state.get("product", item["price"]["product"])["name"]
    return line(
        item,
        amount,
        (at, end),
        f"{words} {item['quantity']} x {name}",
        discounts=[],
        metadata=subscription["metadata"],
        proration=True,
        credited=_line_to_credit(state, item) if sign < 0 else None,
    )


def _line_to_credit(state: State, item: Json) -> Json | None:
    """Return the newest invoiced line of an item at its price."""
    for invoice in state.newest("invoice"):
        if subscription_id(invoice) != item["subscription"]:
            continue
        for candidate in state.invoice_lines[invoice["id"]]:
            priced = candidate["pricing"]["price_details"]["price"] == item["price"]["id"]
            if priced and candidate["amount"] > 0:
                return candidate
    return None
