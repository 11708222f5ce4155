"""Builders of checkout sessions, their lines and what the payer typed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.standins.stripe_objects import kept_metadata, new_id
from local.standins.stripe_wire import Json

_DAY = 86_400


def line_item(of_price: Json, quantity: int, description: str) -> Json:
    """Build a line of a checkout session."""
    amount = of_price["unit_amount"] * quantity
    return {
        "id": new_id("li"),
        "object": "item",
        "adjustable_quantity": None,
        "amount_discount": 0,
        "amount_subtotal": amount,
        "amount_tax": 0,
        "amount_total": amount,
        "currency": of_price["currency"],
        "description": description,
        "metadata": {},
        "price": of_price,
        "quantity": quantity,
    }


def checkout_session(params: Mapping[str, Any], lines: list[Json], base_url: str, at: int) -> Json:
    """Build an open checkout session over `lines`; its pay page is below `base_url`."""
    subscribes = params["mode"] == "subscription"
    subtotal, discount, total = (
        sum(line[name] for line in lines)
        for name in ("amount_subtotal", "amount_discount", "amount_total")
    )
    session_id = new_id("cs_test", 58)
    return {
        "id": session_id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "allowed_payment_method_types": None,
        "amount_subtotal": subtotal,
        "amount_total": total,
        "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
        "billing_address_collection": None,
        "branding_settings": {
            "background_color": "#ffffff",
            "border_style": "rounded",
            "button_color": "#0074d4",
            "display_name": "Local stand-in",
            "font_family": "default",
            "icon": None,
            "logo": None,
        },
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": at,
        "currency": lines[0]["currency"],
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": params.get("customer"),
        "customer_account": None,
        "customer_creation": _customer_creation(params),
        "customer_details": None,
        "customer_email": params.get("customer_email"),
        "discounts": [
            {"coupon": each["coupon"], "promotion_code": None}
            for each in params.get("discounts", [])
        ],
        "excluded_payment_method_types": None,
        "expires_at": params.get("expires_at", at + _DAY),
        "integration_identifier": None,
        "invoice": None,
        "invoice_creation": None
        if subscribes
        else {
            "enabled": False,
            "invoice_data": {
                "account_tax_ids": None,
                "custom_fields": None,
                "description": None,
                "footer": None,
                "issuer": None,
                "metadata": {},
                "rendering_options": None,
            },
        },
        "livemode": False,
        "locale": None,
        "managed_payments": {"enabled": False},
        "metadata": kept_metadata(params),
        "mode": params["mode"],
        "name_collection": None,
        "optional_items": None,
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": params.get(
            "payment_method_collection", "always" if subscribes else "if_required"
        ),
        "payment_method_configuration_details": None,
        "payment_method_options": {},
        "payment_method_types": ["card", "us_bank_account"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": False},
        "presentment_details": None,
        "recovered_from": None,
        "redirect_on_completion": None,
        "return_url": None,
        "saved_payment_method_options": None,
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": params["success_url"],
        "tax_id_collection": None,
        "total_details": {"amount_discount": discount, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{base_url}/c/pay/{session_id}",
        "wallet_options": None,
    }


def _customer_creation(params: Mapping[str, Any]) -> str | None:
    if params.get("customer"):
        return None
    return "always" if params["mode"] == "subscription" else "if_required"


def customer_details(email: str | None, name: str | None) -> Json:
    """Build what the payer typed on the pay page."""
    return {
        "address": None,
        "business_name": None,
        "email": email,
        "individual_name": None,
        "name": name,
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }
