"""Builders of payment intents, charges and refunds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.standins.stripe_objects import kept_metadata, new_id
from local.standins.stripe_wire import Json


def payment_intent(
    amount: int, currency: str, customer: str | None, metadata: Mapping[str, str], at: int
) -> Json:
    """Build a payment intent, as it is before the first attempt to charge."""
    intent_id = new_id("pi")
    return {
        "id": intent_id,
        "object": "payment_intent",
        "allowed_payment_method_types": None,
        "amount": amount,
        "amount_capturable": 0,
        "amount_details": {"tip": {}},
        "amount_received": 0,
        "application": None,
        "application_fee_amount": None,
        "automatic_payment_methods": None,
        "canceled_at": None,
        "cancellation_reason": None,
        "capture_method": "automatic_async",
        "client_secret": new_id(f"{intent_id}_secret"),
        "confirmation_method": "automatic",
        "created": at,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "description": None,
        "excluded_payment_method_types": None,
        "hooks": None,
        "last_payment_error": None,
        "latest_charge": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": dict(metadata),
        "next_action": None,
        "on_behalf_of": None,
        "payment_details": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card", "us_bank_account"],
        "payment_record": None,
        "presentment_details": None,
        "processing": None,
        "receipt_email": None,
        "review": None,
        "setup_future_usage": None,
        "shipping": None,
        "source": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": "requires_payment_method",
        "transfer_data": None,
        "transfer_group": None,
    }


def charge(intent: Json, status: str, method: str, details: Json, at: int) -> Json:
    """Build a charge of `intent`: `succeeded`, `pending` or `failed`, by `card` or bank account."""
    failed = status == "failed"
    return {
        "id": new_id("ch"),
        "object": "charge",
        "amount": intent["amount"],
        "amount_captured": intent["amount"] if status == "succeeded" else 0,
        "amount_refunded": 0,
        "application": None,
        "application_fee": None,
        "application_fee_amount": None,
        "authorization_code": None,
        "balance_transaction": None,
        "billing_details": {
            "address": None,
            "email": details["email"],
            "name": details["name"],
            "phone": None,
            "tax_id": None,
        },
        "calculated_statement_descriptor": "LOCAL STAND-IN",
        "captured": not failed,
        "created": at,
        "currency": intent["currency"],
        "customer": intent["customer"],
        "description": None,
        "disputed": False,
        "failure_balance_transaction": None,
        "failure_code": "card_declined" if failed else None,
        "failure_message": "Your card was declined." if failed else None,
        "fraud_details": {},
        "livemode": False,
        "metadata": dict(intent["metadata"]),
        "on_behalf_of": None,
        "outcome": _outcome(failed=failed),
        "paid": not failed,
        "payment_intent": intent["id"],
        "payment_method": new_id("pm"),
        "payment_method_details": _CARD if method == "card" else _BANK_ACCOUNT,
        "presentment_details": None,
        "radar_options": {},
        "receipt_email": None,
        "receipt_number": None,
        "receipt_url": None,
        "refunded": False,
        "review": None,
        "shipping": None,
        "source": None,
        "source_transfer": None,
        "statement_descriptor": None,
        "statement_descriptor_suffix": None,
        "status": status,
        "transfer_data": None,
        "transfer_group": None,
    }


def _outcome(*, failed: bool) -> Json:
    return {
        "advice_code": "try_again_later" if failed else None,
        "network_advice_code": None,
        "network_decline_code": None,
        "network_status": "declined_by_network" if failed else "approved_by_network",
        "reason": "generic_decline" if failed else None,
        "risk_level": "normal",
        "risk_score": 11,
        "seller_message": "The bank declined the charge." if failed else "Payment complete.",
        "type": "issuer_declined" if failed else "authorized",
    }


_CARD: Json = {
    "type": "card",
    "card": {
        "amount_authorized": None,
        "authorization_code": None,
        "brand": "visa",
        "checks": {
            "address_line1_check": None,
            "address_postal_code_check": None,
            "cvc_check": "pass",
        },
        "country": "US",
        "exp_month": 12,
        "exp_year": 2034,
        "extended_authorization": {"status": "disabled"},
        "fingerprint": "localstandin0000",
        "funding": "credit",
        "incremental_authorization": {"status": "unavailable"},
        "installments": None,
        "last4": "4242",
        "mandate": None,
        "multicapture": {"status": "unavailable"},
        "network": "visa",
        "network_token": {"used": False},
        "network_transaction_id": None,
        "overcapture": {"maximum_amount_capturable": 0, "status": "unavailable"},
        "regulated_status": "unregulated",
        "three_d_secure": None,
        "wallet": None,
    },
}
_BANK_ACCOUNT: Json = {
    "type": "us_bank_account",
    "us_bank_account": {
        "account_holder_type": "individual",
        "account_type": "checking",
        "bank_name": "LOCAL TEST BANK",
        "expected_debit_date": None,
        "fingerprint": "localstandin0001",
        "last4": "6789",
        "mandate": None,
        "payment_reference": None,
        "routing_number": "110000000",
    },
}


def payment_error(of_charge: Json) -> Json:
    """Build `last_payment_error` of a payment intent whose charge failed."""
    return {
        "advice_code": "try_again_later",
        "charge": of_charge["id"],
        "code": of_charge["failure_code"],
        "decline_code": "generic_decline",
        "doc_url": None,
        "message": of_charge["failure_message"],
        "type": "card_error",
    }


def refund(
    of_charge: Json, amount: int, params: Mapping[str, Any], at: int, status: str = "succeeded"
) -> Json:
    """Build a refund that went through, or is on its way (`pending`)."""
    return {
        "id": new_id("re"),
        "object": "refund",
        "amount": amount,
        "balance_transaction": None,
        "charge": of_charge["id"],
        "created": at,
        "currency": of_charge["currency"],
        "customer": of_charge["customer"],
        "customer_account": None,
        "destination_details": {
            "card": {
                "reference": None,
                "reference_status": "pending",
                "reference_type": "acquirer_reference_number",
                "type": "refund",
            },
            "type": "card",
        }
        if of_charge["payment_method_details"]["type"] == "card"
        else {"type": "us_bank_transfer", "us_bank_transfer": {}},
        "metadata": kept_metadata(params),
        "payment_intent": of_charge["payment_intent"],
        "payment_method": of_charge["payment_method"],
        "pending_reason": "processing" if status == "pending" else None,
        "presentment_details": None,
        "reason": params.get("reason"),
        "receipt_number": None,
        "source_transfer_reversal": None,
        "status": status,
        "transfer_reversal": None,
    }
