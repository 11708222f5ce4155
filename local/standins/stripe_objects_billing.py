"""Builders of subscriptions, their items, coupons and discounts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.standins.stripe_objects import kept_metadata, list_object, new_id
from local.standins.stripe_wire import Json


def subscription(
    customer: str, currency: str, metadata: Mapping[str, str], start: int, trial_end: int | None
) -> Json:
    """Build a subscription without items; `items` are added by whoever knows the prices."""
    subscription_id = new_id("sub")
    url = f"/v1/subscription_items?subscription={subscription_id}"
    return {
        "id": subscription_id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": trial_end or start,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": None, "type": "classic"},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {
            "comment": None,
            "feedback": None,
            "feedback_option": None,
            "reason": None,
        },
        "collection_method": "charge_automatically",
        "created": start,
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {
            "account_tax_ids": None,
            "custom_fields": None,
            "description": None,
            "footer": None,
            "issuer": {"type": "self"},
        },
        "items": list_object([], url),
        "latest_invoice": None,
        "livemode": False,
        "managed_payments": None,
        "metadata": dict(metadata),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "presentment_details": None,
        "schedule": None,
        "start_date": start,
        "status": "trialing" if trial_end else "active",
        "status_details": None,
        "test_clock": None,
        "transfer_data": None,
        "trial_end": trial_end,
        "trial_settings": {
            "end_behavior": {
                "billing_cycle_anchor": None,
                "missing_payment_method": "create_invoice",
            }
        },
        "trial_start": start if trial_end else None,
    }


def subscription_item(of: Json, price: Json, quantity: int, period: tuple[int, int]) -> Json:
    """Build an item of the subscription `of`; `price` must be a copy."""
    start, end = period
    return {
        "id": new_id("si", 14),
        "object": "subscription_item",
        "billed_until": None,
        "billing_thresholds": None,
        "created": of["created"],
        "current_period_end": end,
        "current_period_start": start,
        "current_trial": None,
        "discounts": [],
        "metadata": {},
        "plan": plan(price),
        "price": price,
        "quantity": quantity,
        "subscription": of["id"],
        "tax_rates": [],
    }


def plan(price: Json) -> Json:
    """Build the older twin of a recurring price, which items still carry."""
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": "per_unit",
        "created": price["created"],
        "currency": price["currency"],
        "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"],
        "livemode": False,
        "metadata": dict(price["metadata"]),
        "meter": None,
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": None,
        "transform_usage": None,
        "trial_period_days": None,
        "usage_type": "licensed",
    }


def coupon(params: Mapping[str, Any], at: int) -> Json:
    """Build a coupon of `percent_off`, or of `amount_off` in a currency."""
    percent = params.get("percent_off")
    return {
        "id": params.get("id") or new_id("", 8)[1:],
        "object": "coupon",
        "amount_off": params.get("amount_off"),
        "created": at,
        "currency": params.get("currency"),
        "duration": params.get("duration", "once"),
        "duration_in_months": params.get("duration_in_months"),
        "livemode": False,
        "max_redemptions": None,
        "metadata": kept_metadata(params),
        "name": params.get("name"),
        "percent_off": None if percent is None else float(percent),
        "redeem_by": None,
        "times_redeemed": 0,
        "valid": True,
    }


def discount(
    of_coupon: Json, subscription: Json, at: int, end: int | None, session: str | None = None
) -> Json:
    """Build the use of a coupon by a subscription; `end` is when it stops to apply."""
    return {
        "id": new_id("di"),
        "object": "discount",
        "checkout_session": session,
        "customer": subscription["customer"],
        "customer_account": None,
        "end": end,
        "invoice": None,
        "invoice_item": None,
        "promotion_code": None,
        "source": {"coupon": of_coupon["id"], "type": "coupon"},
        "start": at,
        "subscription": subscription["id"],
        "subscription_item": None,
    }
