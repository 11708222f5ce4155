"""Builders of what belongs to the account: portal sessions and webhook endpoints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from local.standins.stripe_objects import kept_metadata, new_id
from local.standins.stripe_wire import Json


def portal_session(params: Mapping[str, Any], configuration: str, base_url: str, at: int) -> Json:
    """Build a portal session; its page is below `base_url`."""
    session_id = new_id("bps")
    return {
        "id": session_id,
        "object": "billing_portal.session",
        "after_expiration": None,
        "configuration": configuration,
        "created": at,
        "customer": params["customer"],
        "customer_account": None,
        "flow": _flow(params.get("flow_data")),
        "livemode": False,
        "locale": None,
        "on_behalf_of": None,
        "return_url": params.get("return_url"),
        "url": f"{base_url}/p/session/{session_id}",
    }


def _flow(asked: Json | None) -> Json | None:
    if asked is None:
        return None
    return {
        "after_completion": {
            "hosted_confirmation": None,
            "redirect": None,
            "type": "portal_homepage",
        },
        "customer_update": None,
        "subscription_cancel": None,
        "subscription_pause": None,
        "subscription_update": None,
        "subscription_update_confirm": None,
        **asked,
    }


def webhook_endpoint(params: Mapping[str, Any], at: int) -> Json:
    """Build a webhook endpoint; its secret is told once, in the answer of the create call."""
    return {
        "id": new_id("we"),
        "object": "webhook_endpoint",
        "api_version": params.get("api_version"),
        "application": None,
        "created": at,
        "description": params.get("description"),
        "enabled_events": list(params["enabled_events"]),
        "livemode": False,
        "metadata": kept_metadata(params),
        "status": "enabled",
        "url": params["url"],
    }
