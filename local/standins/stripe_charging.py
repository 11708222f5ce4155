"""Charging a payer: payment intents and charges, whatever they pay for."""

from __future__ import annotations

from local.standins.stripe_objects_payments import charge, payment_error
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json


def attempt(state: State, intent: Json, status: str, method: str, details: Json) -> Json:
    """Charge `intent`: `succeeded`, `pending` or `failed`; the charge's events leave with it."""
    made = state.add(charge(intent, status, method, details, state.now()))
    intent.update(latest_charge=made["id"], payment_method=made["payment_method"])
    if status == "succeeded":
        _succeed(state, intent, made)
    elif status == "pending":
        intent.update(status="processing")
        state.emit("charge.pending", made)
        state.emit("payment_intent.processing", intent)
    else:
        _fail(state, intent, made)
    return made


def settle(state: State, intent: Json, *, ok: bool) -> None:
    """Let the bank answer a charge that was pending."""
    made = state.get("charge", intent["latest_charge"])
    if ok:
        made.update(status="succeeded", amount_captured=made["amount"])
        _succeed(state, intent, made)
        return
    made.update(
        status="failed",
        paid=False,
        captured=False,
        failure_code="insufficient_funds",
        failure_message="The customer's account has insufficient funds.",
    )
    _fail(state, intent, made)


def cancel(state: State, intent: Json, reason: str) -> None:
    """Give up an intent that was never paid."""
    intent.update(status="canceled", canceled_at=state.now(), cancellation_reason=reason)
    state.emit("payment_intent.canceled", intent)


def _succeed(state: State, intent: Json, made: Json) -> None:
    intent.update(status="succeeded", amount_received=intent["amount"], last_payment_error=None)
    state.emit("charge.succeeded", made)
    state.emit("payment_intent.succeeded", intent)


def _fail(state: State, intent: Json, made: Json) -> None:
    intent.update(
        status="requires_payment_method",
        payment_method=None,
        last_payment_error=payment_error(made),
    )
    state.emit("charge.failed", made)
    state.emit("payment_intent.payment_failed", intent)
