"""
Ids, metadata and the event: what all of Stripe's objects share.

The `stripe_objects*` modules are the only place that builds them, with every field the service
sends, null ones included: a handler that reads a field which is absent here would also fail against
Stripe. The contract tests compare each builder with the SDK's own classes.
"""

from __future__ import annotations

import secrets
import string
from collections.abc import Mapping
from typing import Any

from local.standins.stripe_wire import API_VERSION, Json

_ALPHABET = string.ascii_letters + string.digits


def new_id(prefix: str, length: int = 24) -> str:
    """Return an unguessable id; the local cloud keeps its database, so a counter would repeat."""
    return f"{prefix}_{''.join(secrets.choice(_ALPHABET) for _ in range(length))}"


def kept_metadata(params: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a create call, without the keys an empty value unsets."""
    return {name: entry for name, entry in (params.get("metadata") or {}).items() if entry}


def list_object(members: list[Json], url: str) -> Json:
    """Build a list that has one page."""
    return {"object": "list", "data": members, "has_more": False, "url": url}


def event(
    kind: str,
    subject: Json,
    at: int,
    previous: Json | None = None,
    request: Json | None = None,
    pending: int = 1,
) -> Json:
    """Build an event about `subject`, which must be a copy: an event never changes later."""
    data: Json = {"object": subject}
    if previous is not None:
        data["previous_attributes"] = previous
    return {
        "id": new_id("evt"),
        "object": "event",
        "api_version": API_VERSION,
        "created": at,
        "data": data,
        "livemode": False,
        "pending_webhooks": pending,
        "request": request or {"id": None, "idempotency_key": None},
        "type": kind,
    }
