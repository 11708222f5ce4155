"""The events endpoint: what happened in the last 30 days, and whether the webhook took it."""

from __future__ import annotations

from fnmatch import fnmatchcase

from local.standins.stripe_clock import DAY
from local.standins.stripe_endpoint import Endpoint, retrieving
from local.standins.stripe_params import LIST, boolean, fields, list_of, text
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, Listing, StripeError

_KEPT_SECONDS = 30 * DAY


def _list(state: State, params: Json) -> Listing:
    if "type" in params and "types" in params:
        raise StripeError("You may only specify one of these parameters: type, types.")
    wanted: list[str] = params.get("types", [params.get("type", "*")])
    delivered: bool | None = params.get("delivery_success")
    found = state.listing("event", "/v1/events", params)
    return Listing(
        [
            event
            for event in found.objects
            if event["created"] > state.now() - _KEPT_SECONDS
            and any(fnmatchcase(event["type"], pattern) for pattern in wanted)
            and delivered in (None, event["pending_webhooks"] == 0)
        ],
        found.url,
    )


ENDPOINTS = [
    Endpoint(
        "GET",
        "/v1/events",
        fields(
            {
                **LIST,
                "delivery_success": boolean,
                "type": text(),
                "types": list_of(text(), at_most=20),
            }
        ),
        _list,
    ),
    retrieving("event", "/v1/events"),
]
