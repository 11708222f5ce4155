"""
The account's webhook endpoint, as a setup tool and a health check see it.

There is one at most: the one that gets the events. A call makes it only where none is configured.
"""

from __future__ import annotations

import re

from local.standins.stripe_endpoint import Endpoint
from local.standins.stripe_objects import new_id
from local.standins.stripe_objects_account import webhook_endpoint
from local.standins.stripe_params import LIST, fields, list_of, metadata, text, url
from local.standins.stripe_state import State
from local.standins.stripe_wire import API_VERSION, Json, Listing, StripeError, no_such

_PATH = "/v1/webhook_endpoints"
_TYPE = re.compile(r"\*|[a-z0-9_]+(\.[a-z0-9_]+)+")


def _create(state: State, params: Json) -> Json:
    webhooks = state.webhooks
    if webhooks.url is not None:
        raise StripeError("The stand-in has one webhook endpoint; update it instead.")
    if params.get("api_version", API_VERSION) != API_VERSION:
        raise StripeError(f"The stand-in speaks {API_VERSION} only.", param="api_version")
    _check_types(params["enabled_events"])
    webhooks.endpoint = webhook_endpoint(params, state.now())
    webhooks.secret = new_id("whsec", 32)
    webhooks.url, webhooks.enabled_events = params["url"], params["enabled_events"]
    return {**_current(state), "secret": webhooks.secret}


def _update(state: State, params: Json, object_id: str) -> Json:
    endpoint = _retrieve(state, {}, object_id)
    _check_types(params.get("enabled_events", ["*"]))
    webhooks = state.webhooks
    webhooks.endpoint = {**endpoint, **params}
    webhooks.url = params.get("url", webhooks.url)
    webhooks.enabled_events = params.get("enabled_events", webhooks.enabled_events)
    return _current(state)


def _check_types(types: list[str]) -> None:
    if not types or not all(_TYPE.fullmatch(kind) for kind in types):
        raise StripeError("enabled_events names event types, or * for all.", param="enabled_events")


def _current(state: State) -> Json:
    webhooks = state.webhooks
    types = list(webhooks.enabled_events)
    return {**webhooks.endpoint, "enabled_events": types, "url": webhooks.url}


def _retrieve(state: State, _params: Json, object_id: str) -> Json:
    if state.webhooks.url is None or state.webhooks.endpoint["id"] != object_id:
        raise no_such("webhook endpoint", object_id)
    return _current(state)


def _list(state: State, _params: Json) -> Listing:
    return Listing([_current(state)] if state.webhooks.url else [], _PATH)


_EVENTS = list_of(text(), at_most=300)
ENDPOINTS = [
    Endpoint(
        "POST",
        _PATH,
        fields(
            {"api_version": text(), "description": text(), "metadata": metadata},
            {"enabled_events": _EVENTS, "url": url},
        ),
        _create,
    ),
    Endpoint("GET", _PATH, fields(LIST), _list),
    Endpoint("GET", f"{_PATH}/{{object_id}}", fields({}), _retrieve),
    Endpoint(
        "POST",
        f"{_PATH}/{{object_id}}",
        fields({"description": text(), "enabled_events": _EVENTS, "url": url}),
        _update,
    ),
]
