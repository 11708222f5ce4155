"""
The way of one API call: who asks, what it may carry, the idempotency key, the change, the answer.

Events of a change leave after its answer (or, by switch, before it), and never under the lock.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from typing import Any

from local.standins import stripe_objects
from local.standins.server import Request, Response, json_response
from local.standins.stripe_endpoint import Endpoint
from local.standins.stripe_idempotency import IdempotencyKeys
from local.standins.stripe_params import checked
from local.standins.stripe_state import State
from local.standins.stripe_webhooks import Webhooks
from local.standins.stripe_wire import (
    API_VERSION,
    EXPANDABLE,
    Json,
    Listing,
    StripeError,
    decode,
    expand,
    page,
)

EARLY_WAIT_SECONDS = 10.0
"""How long an answer waits for its webhooks when they are switched to come first."""


class Api:
    """Serves endpoints over one state."""

    def __init__(self, api_key: str, state: State, webhooks: Webhooks) -> None:
        self._api_key = api_key
        self._state = state
        self._webhooks = webhooks
        self._idempotency_keys = IdempotencyKeys(state.now)

    def serving(self, endpoint: Endpoint) -> Callable[[Request], Response]:
        """Return the handler of `endpoint`."""
        return lambda request: self._answer(request, lambda: self._call(endpoint, request))

    def refuse_path(self, request: Request) -> Response:
        """Answer a path or method that does not exist; below /v1 only callers with a key."""
        message = f"Unrecognized request URL ({request.method}: {request.path})."
        refusal = StripeError(message, status=404).response
        return self._answer(request, refusal) if request.path.startswith("/v1/") else refusal()

    def dispatch(self, events: list[Json]) -> threading.Event:
        """Send the events of one change, with twins if switched on; the lock must be free."""
        with self._state.lock:
            if self._webhooks.faults.twin:
                events = [e for event in events for e in (event, self._state.twin(event))]
            for event in events:
                event["pending_webhooks"] = int(self._webhooks.wants(event["type"]))
            frozen = copy.deepcopy(events)
        return self._webhooks.send(frozen)

    def _answer(self, request: Request, work: Callable[[], Response]) -> Response:
        try:
            self._authenticate(request)
            response = work()
        except StripeError as error:
            response = error.response()
        headers = {"request-id": stripe_objects.new_id("req", 14), "stripe-version": API_VERSION}
        if key := request.headers.get("idempotency-key"):
            headers["idempotency-key"] = key
        response.headers = {**headers, **response.headers}
        return response

    def _authenticate(self, request: Request) -> None:
        scheme, _, key = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise StripeError("You did not provide an API key.", status=401)
        if key != self._api_key:
            raise StripeError("Invalid API Key provided.", status=401)
        version = request.headers.get("stripe-version", API_VERSION)
        if version != API_VERSION:
            raise StripeError(
                f"Invalid Stripe API version: {version}; this account speaks {API_VERSION}."
            )

    def _call(self, endpoint: Endpoint, request: Request) -> Response:
        key = None
        encoded = request.raw_query
        if request.method == "POST":
            if request.raw_query:
                raise StripeError("Parameters of a POST belong in its body.")
            encoded = request.body.decode(errors="replace")
            key = request.headers.get("idempotency-key")
        raw = decode(encoded)
        params, paths = checked(raw, endpoint.schema)
        fingerprint = json.dumps([request.method, request.path, raw], sort_keys=True)
        return self._idempotency_keys.run(
            key, fingerprint, lambda: self._execute(endpoint, request, params, paths)
        )

    def _execute(
        self, endpoint: Endpoint, request: Request, params: Json, paths: list[str]
    ) -> Response:
        request_id = stripe_objects.new_id("req", 14)
        cause = {"id": request_id, "idempotency_key": request.headers.get("idempotency-key")}
        events: list[Json] = []
        try:
            with self._state.change(cause) as events:
                found = endpoint.run(self._state, params, **request.params)
                body = page(found, params) if isinstance(found, Listing) else found
                body = copy.deepcopy(body)
                expand(body, paths, self._look_up)
            response = json_response(body)
        except StripeError as error:
            response = error.response()
        except Exception as error:
            message = f"The stand-in failed: {type(error).__name__}: {error}"
            response = StripeError(message, status=500, kind="api_error").response()
        response.headers["request-id"] = request_id
        tried = self.dispatch(events)
        if self._webhooks.faults.early:
            tried.wait(EARLY_WAIT_SECONDS)
        return response

    def _look_up(self, owner: Json, field: str, object_id: Any) -> Any:
        if field == "line_items":
            return copy.deepcopy(page(self._state.lines_of(owner), {}))
        if field == "payments":
            return copy.deepcopy(page(self._state.payments_of(owner), {}))
        kind = EXPANDABLE[owner["object"]][field]
        found = self._state.deleted.get(object_id) or self._state.get(kind, object_id)
        return copy.deepcopy(found)
