"""Disputes and inquiries: opened by a payer's bank, closed, appealed; money moves with them."""

from __future__ import annotations

import copy

from local.standins import stripe_objects_disputes
from local.standins.stripe_endpoint import listing, retrieving
from local.standins.stripe_params import text
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

_PATH = "/v1/disputes"
_PREFIX = "charge.dispute"
_OPEN = ("needs_response", "under_review", "appeal_needs_response", "appeal_under_review")
_INQUIRY = ("warning_needs_response", "warning_under_review")


def open_dispute(
    state: State,
    payment_intent: str,
    amount: int | None,
    *,
    inquiry: bool,
    reason: str = "fraudulent",
) -> Json:
    """Dispute the charge of a payment, or only ask about it, which moves no money."""
    intent = state.get("payment_intent", payment_intent)
    charge = state.get("charge", intent["latest_charge"]) if intent["latest_charge"] else {}
    if charge.get("status") != "succeeded":
        raise StripeError(f"{payment_intent} does not have a successful charge to dispute.")
    amount = charge["amount"] if amount is None else amount
    if not 0 < amount <= charge["amount"]:
        raise StripeError(f"The charge is of {charge['amount']}, not {amount}.")
    at = state.now()
    dispute = state.add(
        stripe_objects_disputes.dispute(charge, amount, reason, at, inquiry=inquiry)
    )
    charge["disputed"] = True
    state.emit(f"{_PREFIX}.created", dispute)
    if not inquiry:
        _move(state, dispute, -amount, "funds_withdrawn")
    return dispute


def escalate(state: State, dispute: Json) -> Json:
    """Let an inquiry become a dispute: now the money leaves."""
    _must_be(dispute, _INQUIRY)
    changes = {"is_charge_refundable": False, "status": "needs_response"}
    state.update(dispute, changes, f"{_PREFIX}.updated")
    _move(state, dispute, -dispute["amount"], "funds_withdrawn")
    return dispute


def close(state: State, dispute: Json, status: str) -> Json:
    """
    End a dispute as `won`, `lost`, `warning_closed` (an inquiry) or `prevented`.

    The money returns when it is won. A prevented one was never filed: what had left returns too.
    """
    _must_be(
        dispute, {"warning_closed": _INQUIRY, "prevented": _OPEN + _INQUIRY}.get(status, _OPEN)
    )
    if status not in ("won", "lost", "warning_closed", "prevented"):
        raise StripeError(f"A dispute is not closed as {status}.")
    gone = -sum(moved["amount"] for moved in dispute["balance_transactions"])
    if gone and status != "lost":
        _move(state, dispute, gone, "funds_reinstated")
    previous = {"status": dispute["status"]}
    dispute.update(is_charge_refundable=status != "lost", status=status)
    state.emit(f"{_PREFIX}.updated", dispute, previous)
    state.emit(f"{_PREFIX}.closed", dispute, previous)
    return dispute


def answer(state: State, dispute: Json) -> Json:
    """Send the evidence: what needed a response is under review."""
    waits = dispute["status"].removesuffix("needs_response")
    _must_be(dispute, (f"{waits}needs_response",))
    details = copy.deepcopy(dispute["evidence_details"])
    details.update(has_evidence=True, submission_count=1, submission_method="manual")
    changes = {"evidence_details": details, "status": f"{waits}under_review"}
    state.update(dispute, changes, f"{_PREFIX}.updated")
    return dispute


def appeal(state: State, dispute: Json) -> Json:
    """Contest a lost dispute; it is closed again as `won` or `lost`."""
    _must_be(dispute, ("lost",))
    state.update(dispute, {"status": "appeal_under_review"}, f"{_PREFIX}.updated")
    return dispute


def _move(state: State, dispute: Json, amount: int, event: str) -> None:
    moved = stripe_objects_disputes.balance_transaction(dispute, amount, state.now())
    dispute["balance_transactions"].append(moved)
    state.emit(f"{_PREFIX}.{event}", dispute)


def _must_be(dispute: Json, allowed: tuple[str, ...]) -> None:
    if dispute["status"] not in allowed:
        raise StripeError(f"Dispute {dispute['id']} has the status {dispute['status']}.")


ENDPOINTS = [
    listing("dispute", _PATH, {"charge": text(), "payment_intent": text()}),
    retrieving("dispute", _PATH),
]
