"""
A stand-in for Stripe: Checkout, catalogue, subscriptions, refunds, disputes, events and webhooks.

It keeps state, fails closed (an unknown path or parameter is an error, as a wrong one would be at
Stripe) and signs webhooks with its own code. This module joins the parts: who may call, which
endpoint answers, what the answer carries, and when events leave.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from local.standins import (
    stripe_account,
    stripe_catalog,
    stripe_checkout,
    stripe_customers,
    stripe_discounts,
    stripe_disputes,
    stripe_events,
    stripe_invoices,
    stripe_objects,
    stripe_payments,
    stripe_portal,
    stripe_refunds,
    stripe_subscriptions,
)
from local.standins.server import Request, Response, StandIn, json_response
from local.standins.stripe_api import Api
from local.standins.stripe_controls import Controls
from local.standins.stripe_endpoint import Endpoint
from local.standins.stripe_faults import WebhookFaults
from local.standins.stripe_hosted import HostedPages
from local.standins.stripe_state import State
from local.standins.stripe_webhooks import Delivery, Webhooks
from local.standins.stripe_wire import Json, StripeError

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_ENDPOINTS: list[Endpoint] = [
    *stripe_account.ENDPOINTS,
    *stripe_catalog.ENDPOINTS,
    *stripe_checkout.ENDPOINTS,
    *stripe_customers.ENDPOINTS,
    *stripe_discounts.ENDPOINTS,
    *stripe_disputes.ENDPOINTS,
    *stripe_events.ENDPOINTS,
    *stripe_invoices.ENDPOINTS,
    *stripe_payments.ENDPOINTS,
    *stripe_portal.ENDPOINTS,
    *stripe_refunds.ENDPOINTS,
    *stripe_subscriptions.ENDPOINTS,
]


class Stripe(Controls, StandIn):
    """
    The stand-in. `api_key` must be a test key; `webhook_url` may be set later (None: no endpoint).

    `seed` repeats the chances of webhook faults. Raises `ValueError` for any key that is not a test
    key, so that a real one is never configured.
    """

    def __init__(
        self,
        api_key: str,
        webhook_url: str | None,
        webhook_secret: str,
        port: int = 0,
        seed: int = 0,
    ) -> None:
        if not api_key.startswith("sk_test_"):
            raise ValueError("the stand-in for Stripe takes test keys only (sk_test_...)")
        super().__init__(port, seed)
        self.webhooks = Webhooks(webhook_url, webhook_secret, self._mark_delivered, seed)
        self.state = State(self.url, self.webhooks)
        self._api = Api(api_key, self.state, self.webhooks)
        for endpoint in _ENDPOINTS:
            self.route(endpoint.method, endpoint.path, self._api.serving(endpoint))
        pages = HostedPages(self)
        self.route("GET", "/c/pay/{session_id}", pages.show_checkout)
        self.route("POST", "/c/pay/{session_id}", pages.submit_checkout)
        self.route("GET", "/p/session/{session_id}", pages.show_portal)
        self.route("POST", "/p/session/{session_id}", pages.submit_portal)
        self._route_controls()

    # The account's webhook endpoint.

    @property
    def webhook_url(self) -> str | None:
        """Where events are delivered; None: nowhere."""
        return self.webhooks.url

    @webhook_url.setter
    def webhook_url(self, url: str | None) -> None:
        self.webhooks.url = url

    @property
    def webhook_faults(self) -> WebhookFaults:
        """The fault switches of webhook delivery; `faults` are those of the API's own answers."""
        return self.webhooks.faults

    @property
    def deliveries(self) -> list[Delivery]:
        """Every attempt to deliver so far, oldest first."""
        return list(self.webhooks.log)

    # Webhooks, forged.

    def sign(self, body: bytes, secret: str | None = None, timestamp: int | None = None) -> str:
        """Return a `Stripe-Signature` header for any body."""
        return self.webhooks.sign(body, secret, timestamp)

    def build_event(self, kind: str, subject: Json, **overrides: Any) -> Json:
        """Return an event the API does not know of, for tests that forge one."""
        return {**stripe_objects.event(kind, copy.deepcopy(subject), self.state.now()), **overrides}

    def deliver(self, event: Json) -> int | None:
        """Send an event once, now; return the answer's status (None: there was no answer)."""
        return self.webhooks.deliver(event)

    def stop(self) -> None:
        """Stop serving; deliveries not yet sent are given up."""
        self.webhooks.close()
        super().stop()

    # The API.

    def handle(self, request: Request) -> Response:
        """Answer one request; refuses one that names another host (DNS rebinding)."""
        host = request.headers.get("host", "").rsplit(":", 1)[0]
        if host not in _LOOPBACK:
            return StripeError("The stand-in answers on loopback only.", status=403).response()
        return super().handle(request)

    def not_found(self, request: Request) -> Response:
        """Answer an unknown path or method in Stripe's shape."""
        return self._api.refuse_path(request)

    def _mark_delivered(self, event_id: str) -> None:
        with self.state.lock:
            if self.state.has("event", event_id):  # a forged event is not kept
                self.state.get("event", event_id)["pending_webhooks"] = 0

    # The same controls over HTTP, for people at a terminal.

    def _route_controls(self) -> None:
        for name in self.names:
            self.route("POST", f"/_control/{name}", _control(getattr(self, name)))
        faults = self.webhook_faults
        switch = _control(lambda **options: faults.switch(options))
        self.route("POST", "/_control/webhook_faults", switch)
        self.route("DELETE", "/_control/webhook_faults", _control(faults.reset))
        self.route(
            "GET",
            "/_control/deliveries",
            lambda _: json_response([asdict(d) for d in self.deliveries]),
        )


def _control(act: Callable[..., Any]) -> Callable[[Request], Response]:
    """Call `act` with the members of the JSON body; a refusal is answered as 400 or as Stripe's."""

    def serve(request: Request) -> Response:
        try:
            return json_response(act(**(request.json() or {})))
        except StripeError as error:
            return error.response()
        except (TypeError, ValueError, TimeoutError) as error:
            return json_response({"error": str(error)}, 400)

    return serve
