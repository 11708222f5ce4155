"""What the payer, the bank and time do to a checkout session."""

from __future__ import annotations

from local.standins import stripe_charging, stripe_invoices, stripe_lifecycle
from local.standins.stripe_objects_catalog import customer
from local.standins.stripe_objects_checkout import customer_details
from local.standins.stripe_objects_payments import payment_intent
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

_COMPLETED = "checkout.session.completed"


def pay(state: State, session: Json) -> Json:
    """Pay an open session by card: charged, complete, paid; its subscription begins."""
    details = _complete(state, session)
    if session["mode"] == "subscription":
        _subscribe(state, session, "succeeded", "card")
    elif session["amount_total"]:
        stripe_charging.attempt(state, _intent(state, session), "succeeded", "card", details)
    session["payment_status"] = "paid" if session["amount_total"] else "no_payment_required"
    state.emit(_COMPLETED, session)
    return session


def pay_delayed(state: State, session: Json) -> Json:
    """Pay an open session by bank debit: complete, but unpaid until it is settled."""
    if session["amount_total"] == 0:
        raise StripeError("There is nothing to pay by a delayed method.")
    details = _complete(state, session)
    if session["mode"] == "subscription":
        _subscribe(state, session, "pending", "us_bank_account")
    else:
        intent = _intent(state, session)
        stripe_charging.attempt(state, intent, "pending", "us_bank_account", details)
    state.emit(_COMPLETED, session)
    return session


def settle_delayed(state: State, session: Json, *, ok: bool) -> Json:
    """Let the bank answer a delayed payment; raises `StripeError` when none is waiting."""
    invoice = state.get("invoice", session["invoice"]) if session["invoice"] else None
    if invoice and stripe_invoices.payment_of(state, invoice):
        intent = stripe_invoices.intent_of(state, invoice)
    else:
        intent_id = session["payment_intent"]
        intent = state.get("payment_intent", intent_id) if intent_id else {"status": "none"}
    if intent["status"] != "processing":
        raise StripeError(f"No delayed payment of session {session['id']} is waiting.")
    if invoice:
        stripe_invoices.settle(state, invoice, ok=ok)
        of = state.get("subscription", session["subscription"])
        stripe_lifecycle.follow(state, of, invoice)
    else:
        stripe_charging.settle(state, intent, ok=ok)
    if ok:
        session.update(payment_status="paid")
    outcome = "succeeded" if ok else "failed"
    state.emit(f"checkout.session.async_payment_{outcome}", session)
    return session


def decline(state: State, session: Json) -> Json:
    """Let a card be declined: the session stays open for another try."""
    _must_be_open(session)
    if session["amount_total"] == 0:
        raise StripeError("There is nothing to decline.")
    intent = _intent(state, session)
    stripe_charging.attempt(state, intent, "failed", "card", _details(state, session))
    return session


def expire(state: State, session: Json) -> Json:
    """End an open session; raises `StripeError` for any other."""
    _must_be_open(session)
    if session["payment_intent"]:
        intent = state.get("payment_intent", session["payment_intent"])
        stripe_charging.cancel(state, intent, "automatic")
    session.update(status="expired", url=None)
    state.emit("checkout.session.expired", session)
    return session


def open_or_expired(state: State, session: Json) -> Json:
    """Return the session, expired now if its time is over."""
    if session["status"] == "open" and session["expires_at"] <= state.now():
        expire(state, session)
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
    if session["customer_creation"] == "always":
        made = state.add(
            customer({"email": details["email"], "name": details["name"]}, state.now())
        )
        state.emit("customer.created", made)
        session["customer"] = made["id"]
    session.update(status="complete", url=None, customer_details=details)
    return details


def _subscribe(state: State, session: Json, outcome: str, method: str) -> None:
    of, invoice = stripe_lifecycle.begin(state, session, outcome, method)
    session.update(subscription=of["id"], invoice=invoice["id"])


def _details(state: State, session: Json) -> Json:
    if not session["customer"]:
        email = session["customer_email"] or "payer@example.com"
        return customer_details(email, "Local Payer")
    payer = state.get("customer", session["customer"])
    return customer_details(payer["email"], payer["name"])


def _intent(state: State, session: Json) -> Json:
    """Return the session's payment intent, made at the first attempt and kept for the next."""
    if session["payment_intent"]:
        return state.get("payment_intent", session["payment_intent"])
    metadata = state.orders[session["id"]].get("payment_intent_data", {}).get("metadata") or {}
    made = state.add(
        payment_intent(
            session["amount_total"],
            session["currency"],
            session["customer"],
            metadata,
            state.now(),
        )
    )
    if session["mode"] == "payment":  # a subscription's payments belong to its invoices
        session["payment_intent"] = made["id"]
    return made
