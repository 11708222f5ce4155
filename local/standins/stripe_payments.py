"""Payment intents, charges and refunds."""

from __future__ import annotations

from local.standins import stripe_objects
from local.standins.stripe_endpoint import Endpoint, listing, retrieving
from local.standins.stripe_params import exactly_one, fields, integer, metadata, one_of, text
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError


def _create_refund(state: State, params: Json) -> Json:
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
    refund = state.add(stripe_objects.refund(charge, amount, params))
    state.emit("refund.created", refund)
    _book(state, charge, amount, "charge.refunded")
    return refund


def _refundable(state: State, params: Json) -> Json:
    given = exactly_one(params, ("charge", "payment_intent"))
    named = state.get(given, params[given], given)
    charge = named if given == "charge" else state.get("charge", named["latest_charge"])
    if charge["status"] != "succeeded":
        raise StripeError(f"{named['id']} does not have a successful charge to refund.")
    return charge


def _book(state: State, charge: Json, amount: int, event: str) -> None:
    refunded = charge["amount_refunded"] + amount
    changes = {"amount_refunded": refunded, "refunded": refunded == charge["amount_captured"]}
    state.update(charge, changes, event)


def fail_refund(state: State, refund: Json) -> Json:
    """Let the payer's bank send a refund back: the money returns to the merchant."""
    if refund["status"] != "succeeded":
        raise StripeError(f"Refund {refund['id']} has the status {refund['status']}.")
    changes = {"status": "failed", "failure_reason": "expired_or_canceled_card"}
    refund.setdefault("failure_reason", None)
    refund.setdefault("failure_balance_transaction", None)
    state.update(refund, changes, "refund.updated")
    state.emit("refund.failed", refund)
    charge = state.get("charge", refund["charge"])
    _book(state, charge, -refund["amount"], "charge.updated")
    return refund


ENDPOINTS = [
    listing("payment_intent", "/v1/payment_intents", {"customer": text()}),
    retrieving("payment_intent", "/v1/payment_intents"),
    listing("charge", "/v1/charges", {"customer": text(), "payment_intent": text()}),
    retrieving("charge", "/v1/charges"),
    Endpoint(
        "POST",
        "/v1/refunds",
        fields(
            {
                "amount": integer(at_least=1),
                "charge": text(),
                "metadata": metadata,
                "payment_intent": text(),
                "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
            }
        ),
        _create_refund,
    ),
    listing("refund", "/v1/refunds", {"charge": text(), "payment_intent": text()}),
    retrieving("refund", "/v1/refunds"),
]
