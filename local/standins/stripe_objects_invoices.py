"""Builders of invoices, their lines and their payments, in the shape they have since basil."""

from __future__ import annotations

from local.standins.stripe_objects import list_object, new_id
from local.standins.stripe_wire import Json


def invoice(subscription: Json, customer: Json, reason: str, lines: list[Json], at: int) -> Json:
    """Build a draft of an invoice over `lines`; it owes what they say, less what is credited."""
    invoice_id = new_id("in")
    for line in lines:
        line["invoice"] = invoice_id
    subtotal = sum(line["subtotal"] for line in lines)
    discounts: dict[str, int] = {}
    for line in lines:
        for each in line["discount_amounts"]:
            discounts[each["discount"]] = discounts.get(each["discount"], 0) + each["amount"]
    total = subtotal - sum(discounts.values())
    due = max(0, total + customer["balance"])
    return {
        "id": invoice_id,
        "object": "invoice",
        "account_country": "US",
        "account_name": "Local stand-in",
        "account_tax_ids": None,
        "amount_due": due,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": due,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": at,
        "currency": subscription["currency"],
        "custom_fields": None,
        "customer": customer["id"],
        "customer_account": None,
        "customer_address": None,
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_shipping": None,
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": list(discounts),
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": list_object(lines, f"/v1/invoices/{invoice_id}/lines"),
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": {
            "quote_details": None,
            "subscription_details": {
                "metadata": dict(subscription["metadata"]),
                "subscription": subscription["id"],
            },
            "type": "subscription_details",
        },
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": at,
        "period_start": at,
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": customer["balance"],
        "statement_descriptor": None,
        "status": "draft",
        "status_details": None,
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal,
        "test_clock": None,
        "threshold_reason": None,
        "total": total,
        "total_discount_amounts": [
            {"amount": amount, "discount": name} for name, amount in discounts.items()
        ],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [
            {
                "amount": amount,
                "credit_balance_transaction": None,
                "discount": name,
                "type": "discount",
            }
            for name, amount in discounts.items()
        ],
        "total_taxes": [],
        "webhooks_delivered_at": None,
    }


def line(
    item: Json,
    amount: int,
    period: tuple[int, int],
    description: str,
    *,
    discounts: list[tuple[str, int]],
    metadata: Json,
    proration: bool = False,
    credited: Json | None = None,
) -> Json:
    """Build a line for an item of a subscription; `credited` is the line a credit undoes."""
    price = item["price"]
    return {
        "id": new_id("il"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": description,
        "discount_amounts": [{"amount": off, "discount": name} for name, off in discounts],
        "discountable": not proration,
        "discounts": [name for name, _off in discounts],
        "invoice": None,
        "livemode": False,
        "metadata": dict(metadata),
        "parent": {
            "invoice_item_details": None,
            "subscription_item_details": {
                "invoice_item": new_id("ii") if proration else None,
                "proration": proration,
                "proration_details": {"credited_items": _credited(credited)},
                "subscription": item["subscription"],
                "subscription_item": item["id"],
            },
            "type": "subscription_item_details",
        },
        "period": {"start": period[0], "end": period[1]},
        "pretax_credit_amounts": [
            {
                "amount": off,
                "credit_balance_transaction": None,
                "discount": name,
                "type": "discount",
            }
            for name, off in discounts
        ],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": item["quantity"],
        "quantity_decimal": str(item["quantity"]),
        "subscription": item["subscription"],
        "subtotal": amount,
        "taxes": [],
    }


def _credited(line_item: Json | None) -> Json | None:
    if line_item is None:
        return None
    return {"invoice": line_item["invoice"], "invoice_line_items": [line_item["id"]]}


def invoice_payment(of_invoice: Json, intent: Json, at: int) -> Json:
    """Build the link between an invoice and the payment intent that pays it."""
    return {
        "id": new_id("inpay"),
        "object": "invoice_payment",
        "amount_paid": None,
        "amount_requested": intent["amount"],
        "created": at,
        "currency": of_invoice["currency"],
        "invoice": of_invoice["id"],
        "is_default": True,
        "livemode": False,
        "payment": {"payment_intent": intent["id"], "type": "payment_intent"},
        "status": "open",
        "status_transitions": {"canceled_at": None, "paid_at": None},
    }
