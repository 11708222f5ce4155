"""Invoices of subscriptions: drafted, finalized, charged, paid or not, and their endpoints."""

from __future__ import annotations

from local.standins import stripe_charging, stripe_objects_invoices
from local.standins.stripe_clock import DAY
from local.standins.stripe_discounts import on_invoice, use_up
from local.standins.stripe_endpoint import Endpoint, retrieving
from local.standins.stripe_objects import list_object
from local.standins.stripe_objects_payments import payment_intent
from local.standins.stripe_params import LIST, fields, one_of, text
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing, StripeError

_PATH = "/v1/invoices"
_PAYMENTS = "/v1/invoice_payments"
_EMBEDDED_LINES = 10
_CHARGE_MIN = 50
"""Less than this is not charged: it waits on the customer's balance."""


def regular_line(state: State, subscription: Json, item: Json, period: tuple[int, int]) -> Json:
    """Build the line of one whole period of an item; in a trial it costs nothing."""
    name = state.get("product", item["price"]["product"])["name"]
    trial = subscription["status"] == "trialing"
    amount = 0 if trial else item["price"]["unit_amount"] * item["quantity"]
    return stripe_objects_invoices.line(
        item,
        amount,
        period,
        f"Trial period for {name}" if trial else f"{item['quantity']} x {name}",
        discounts=on_invoice(state, subscription, amount),
        metadata=subscription["metadata"],
    )


def draft(state: State, subscription: Json, reason: str, lines: list[Json]) -> Json:
    """Keep a draft over `lines`, after those that waited for the next invoice."""
    waiting = state.pending_lines.pop(subscription["id"], [])
    customer = state.get("customer", subscription["customer"])
    every = [*waiting, *lines]
    made = stripe_objects_invoices.invoice(subscription, customer, reason, every, state.now())
    state.invoice_lines[made["id"]] = every
    made["lines"] = {
        **list_object(every[:_EMBEDDED_LINES], made["lines"]["url"]),
        "has_more": len(every) > _EMBEDDED_LINES,
    }
    use_up(state, subscription)
    return state.add(made)


def collect(state: State, invoice: Json, outcome: str, method: str = "card") -> None:
    """Finalize a draft and charge it: `succeeded`, `failed` or `pending`; zero is paid at once."""
    state.emit("invoice.created", invoice)
    finalize(state, invoice)
    if invoice["amount_due"] == 0:
        _mark_paid(state, invoice)
        return
    at = state.now()
    intent = state.add(
        payment_intent(invoice["amount_due"], invoice["currency"], invoice["customer"], {}, at)
    )
    state.add(stripe_objects_invoices.invoice_payment(invoice, intent, at))
    _charge(state, invoice, outcome, method)


def finalize(state: State, invoice: Json) -> None:
    """Fix what a draft owes, the customer's balance applied."""
    owed = invoice["total"] + invoice["starting_balance"]
    due = owed if owed >= _CHARGE_MIN else 0
    customer = state.get("customer", invoice["customer"])
    state.update(customer, {"balance": owed - due}, "customer.updated")
    invoice.update(
        amount_due=due,
        amount_remaining=due,
        effective_at=state.now(),
        ending_balance=owed - due,
        number=f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04d}",
        status="open",
    )
    customer["next_invoice_sequence"] += 1
    invoice["status_transitions"]["finalized_at"] = state.now()
    state.emit("invoice.finalized", invoice)


def pay(state: State, invoice: Json) -> None:
    """Charge an invoice again that was not paid; raises `StripeError` when it is not open."""
    if invoice["status"] == "draft":
        collect(state, invoice, "succeeded")
        return
    if invoice["status"] != "open":
        raise StripeError(f"Invoice {invoice['id']} has the status {invoice['status']}.")
    _charge(state, invoice, "succeeded", "card")


def settle(state: State, invoice: Json, *, ok: bool) -> None:
    """Let the bank answer the delayed payment of an invoice."""
    stripe_charging.settle(state, intent_of(state, invoice), ok=ok)
    if ok:
        _mark_paid(state, invoice)
    else:
        _mark_failed(state, invoice)


def payment_of(state: State, invoice: Json) -> Json | None:
    """Return the invoice's payment; None: it had nothing to be charged."""
    return next(iter(state.payments_of(invoice).objects), None)


def intent_of(state: State, invoice: Json) -> Json:
    """Return the payment intent of an invoice; raises `StripeError` when there is none."""
    payment = payment_of(state, invoice)
    if payment is None:
        raise StripeError(f"Invoice {invoice['id']} has no payment.")
    return state.get("payment_intent", payment["payment"]["payment_intent"])


def _charge(state: State, invoice: Json, outcome: str, method: str) -> None:
    customer = state.get("customer", invoice["customer"])
    stripe_charging.attempt(state, intent_of(state, invoice), outcome, method, customer)
    if outcome == "succeeded":
        _mark_paid(state, invoice)
    elif outcome == "failed":
        _mark_failed(state, invoice)


def _mark_paid(state: State, invoice: Json) -> None:
    due, at = invoice["amount_due"], state.now()
    invoice.update(
        amount_paid=due,
        amount_remaining=0,
        attempt_count=invoice["attempt_count"] + bool(due),
        attempted=True,
        auto_advance=False,
        next_payment_attempt=None,
        status="paid",
    )
    invoice["status_transitions"]["paid_at"] = at
    payment = payment_of(state, invoice)
    if payment:
        payment.update(amount_paid=due, status="paid")
        payment["status_transitions"]["paid_at"] = at
    state.emit("invoice.paid", invoice)
    state.emit("invoice.payment_succeeded", invoice)
    if payment:
        state.emit("invoice_payment.paid", payment)


def _mark_failed(state: State, invoice: Json) -> None:
    invoice.update(
        attempt_count=invoice["attempt_count"] + 1,
        attempted=True,
        next_payment_attempt=state.now() + 3 * DAY,
    )
    state.emit("invoice.payment_failed", invoice)


def _list(state: State, params: Json) -> Listing:
    found = state.listing("invoice", _PATH, params, ("customer", "status"))
    if "subscription" not in params:
        return found
    wanted = params["subscription"]
    return Listing([i for i in found.objects if subscription_id(i) == wanted], found.url)


def subscription_id(invoice: Json) -> str:
    """Return the subscription an invoice is for."""
    return str(invoice["parent"]["subscription_details"]["subscription"])


def _list_lines(state: State, _params: Json, object_id: str) -> Listing:
    state.get("invoice", object_id)
    return Listing(state.invoice_lines[object_id], f"{_PATH}/{object_id}/lines")


def _list_payments(state: State, params: Json) -> Listing:
    found = state.listing("invoice_payment", _PAYMENTS, params, ("invoice", "status"))
    payment = params.get("payment")
    if payment is None:
        return found
    if "payment_intent" not in payment:
        raise StripeError("payment[payment_intent] is missing.", param="payment[payment_intent]")
    wanted = payment["payment_intent"]
    return Listing(
        [p for p in found.objects if p["payment"]["payment_intent"] == wanted], found.url
    )


ENDPOINTS = [
    Endpoint(
        "GET",
        _PATH,
        fields(
            {
                **LIST,
                "customer": text(),
                "status": one_of("draft", "open", "paid", "uncollectible", "void"),
                "subscription": text(),
            }
        ),
        _list,
    ),
    retrieving("invoice", _PATH),
    Endpoint(
        "GET",
        f"{_PATH}/{{object_id}}/lines",
        fields({k: v for k, v in LIST.items() if k != "created"}),
        _list_lines,
    ),
    Endpoint(
        "GET",
        _PAYMENTS,
        fields(
            {
                **LIST,
                "invoice": text(),
                "payment": fields({"payment_intent": text()}, {"type": one_of("payment_intent")}),
                "status": one_of("canceled", "open", "paid"),
            }
        ),
        _list_payments,
    ),
    retrieving("invoice_payment", _PAYMENTS),
]
