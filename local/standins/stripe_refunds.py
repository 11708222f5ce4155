"""Refunds: partial ones up to the charge, on their way, through, failed or given up."""

from __future__ import annotations

from local.standins import stripe_objects_payments
from local.standins.stripe_endpoint import Endpoint, listing, retrieving
from local.standins.stripe_params import exactly_one, fields, integer, metadata, one_of, text
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

_PATH = "/v1/refunds"


def refund(state: State, params: Json, status: str = "succeeded") -> Json:
    """Send money of a charge back; raises `StripeError` for more than what is left of it."""
    charge = _refundable(state, params)
    left = charge["amount_captured"] - charge["amount_refunded"]
    if left == 0:
        raise StripeError(
            f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
        )
    amount = params.get("amount", left)
    if amount > left:
        raise StripeError(
            f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
            param="amount",
        )
    made = state.add(stripe_objects_payments.refund(charge, amount, params, state.now(), status))
    state.emit("refund.created", made)
    _book(state, charge, amount, "charge.refunded")
    return made


def _refundable(state: State, params: Json) -> Json:
    given = exactly_one(params, ("charge", "payment_intent"))
    named = state.get(given, params[given], given)
    charge = named
    if given == "payment_intent" and named["latest_charge"]:
        charge = state.get("charge", named["latest_charge"])
    if charge["status"] != "succeeded":
        raise StripeError(f"{named['id']} does not have a successful charge to refund.")
    disputes = (d for d in state.newest("dispute") if d["charge"] == charge["id"])
    if not all(d["is_charge_refundable"] for d in disputes):
        raise StripeError(
            f"Charge {charge['id']} has been charged back; cannot issue a refund.",
            code="charge_disputed",
        )
    return charge


def _book(state: State, charge: Json, amount: int, event: str) -> None:
    refunded = charge["amount_refunded"] + amount
    changes = {"amount_refunded": refunded, "refunded": refunded == charge["amount_captured"]}
    state.update(charge, changes, event)


def settle(state: State, refund_id: str) -> Json:
    """Let a refund arrive that was on its way."""
    made = _in_status(state, refund_id, "pending")
    state.update(made, {"pending_reason": None, "status": "succeeded"}, "refund.updated")
    return made


def fail(state: State, refund_id: str) -> Json:
    """Let the payer's bank send a refund back: the money returns to the merchant."""
    made = _in_status(state, refund_id, "pending", "succeeded")
    changes = {"status": "failed", "failure_reason": "expired_or_canceled_card"}
    made.setdefault("failure_reason", None)
    made.setdefault("failure_balance_transaction", None)
    state.update(made, {**changes, "pending_reason": None}, "refund.updated")
    state.emit("refund.failed", made)
    _book(state, state.get("charge", made["charge"]), -made["amount"], "charge.updated")
    return made


def _cancel(state: State, _params: Json, object_id: str) -> Json:
    made = _in_status(state, object_id, "pending")
    state.update(made, {"pending_reason": None, "status": "canceled"}, "refund.updated")
    _book(state, state.get("charge", made["charge"]), -made["amount"], "charge.updated")
    return made


def _in_status(state: State, refund_id: str, *allowed: str) -> Json:
    made = state.get("refund", refund_id)
    if made["status"] not in allowed:
        raise StripeError(f"Refund {refund_id} has the status {made['status']}.")
    return made


def _create(state: State, params: Json) -> Json:
    return refund(state, params)


ENDPOINTS = [
    Endpoint(
        "POST",
        _PATH,
        fields(
            {
                "amount": integer(at_least=1),
                "charge": text(),
                "metadata": metadata,
                "payment_intent": text(),
                "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
            }
        ),
        _create,
    ),
    listing("refund", _PATH, {"charge": text(), "payment_intent": text()}),
    retrieving("refund", _PATH),
    Endpoint("POST", f"{_PATH}/{{object_id}}/cancel", fields({}), _cancel),
]
