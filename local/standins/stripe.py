"""
A stand-in for Stripe: Checkout in mode `payment`, its catalogue, refunds, events and webhooks.

It keeps state, fails closed (an unknown path or parameter is an error, as a wrong one would be at
Stripe) and signs webhooks with its own code. This module joins the parts: who may call, which
endpoint answers, what the answer carries, and when events leave.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from local.standins import (
    stripe_catalog,
    stripe_checkout,
    stripe_events,
    stripe_objects,
    stripe_pages,
    stripe_payments,
)
from local.standins.server import Request, Response, StandIn, json_response
from local.standins.stripe_api import Api
from local.standins.stripe_endpoint import Endpoint
from local.standins.stripe_state import State
from local.standins.stripe_webhooks import Delivery, WebhookFaults, Webhooks
from local.standins.stripe_wire import Json, StripeError

REDIRECT_WAIT_SECONDS = 10.0
"""How long the pay page waits for the webhook's answer before it sends the payer on."""

_LOOPBACK = frozenset({"127.0.0.1", "localhost"})
_ENDPOINTS: list[Endpoint] = [
    *stripe_catalog.ENDPOINTS,
    *stripe_checkout.ENDPOINTS,
    *stripe_payments.ENDPOINTS,
    *stripe_events.ENDPOINTS,
]
Change = Callable[[State, Json], Json]


class Stripe(StandIn):
    """
    The stand-in. `api_key` must be a test key; `webhook_url` may be set later (None: no endpoint).

    Raises `ValueError` for any key that is not a test key, so that a real one is never configured.
    """

    def __init__(
        self, api_key: str, webhook_url: str | None, webhook_secret: str, port: int = 0
    ) -> None:
        if not api_key.startswith("sk_test_"):
            raise ValueError("the stand-in for Stripe takes test keys only (sk_test_...)")
        super().__init__(port)
        self.state = State(self.url)
        self.webhooks = Webhooks(webhook_url, webhook_secret, self._mark_delivered)
        self._api = Api(api_key, self.state, self.webhooks)
        for endpoint in _ENDPOINTS:
            self.route(endpoint.method, endpoint.path, self._api.serving(endpoint))
        self.route("GET", "/c/pay/{session_id}", self._show_page)
        self.route("POST", "/c/pay/{session_id}", self._submit_page)
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

    # What the payer, the bank and time do.

    def pay(self, session_id: str) -> Json:
        """Pay an open session by card; its events leave in the background."""
        return self._act(session_id, stripe_checkout.pay)

    def pay_delayed(self, session_id: str) -> Json:
        """Pay an open session by a method that settles later."""
        return self._act(session_id, stripe_checkout.pay_delayed)

    def settle_delayed(self, session_id: str, *, ok: bool = True) -> Json:
        """Let a delayed payment succeed or fail."""
        return self._act(session_id, lambda *a: stripe_checkout.settle_delayed(*a, ok=ok))

    def decline(self, session_id: str) -> Json:
        """Let the payer's card be declined; the session stays open."""
        return self._act(session_id, stripe_checkout.decline)

    def expire(self, session_id: str) -> Json:
        """End an open session as if its time were over."""
        return self._act(session_id, stripe_checkout.expire)

    def fail_refund(self, refund_id: str) -> Json:
        """Let a refund that had gone through come back."""
        with self.state.change() as events:
            refund = stripe_payments.fail_refund(self.state, self.state.get("refund", refund_id))
            answer = copy.deepcopy(refund)
        self._api.dispatch(events)
        return answer

    # Webhooks, driven and forged.

    def redeliver(self, event_id: str) -> None:
        """Send an event again, in the background."""
        with self.state.lock:
            event = copy.deepcopy(self.state.get("event", event_id))
        self.webhooks.redeliver(event)

    def drain(self, timeout: float = 10.0) -> None:
        """Wait until no delivery is under way or to be retried; raises `TimeoutError`."""
        self.webhooks.drain(timeout)

    def sign(self, body: bytes, secret: str | None = None, timestamp: int | None = None) -> str:
        """Return a `Stripe-Signature` header for any body."""
        return self.webhooks.sign(body, secret, timestamp)

    def build_event(self, kind: str, subject: Json, **overrides: Any) -> Json:
        """Return an event the API does not know of, for tests that forge one."""
        return {**stripe_objects.event(kind, copy.deepcopy(subject)), **overrides}

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

    def _act(self, session_id: str, change: Change, wait: float = 0.0) -> Json:
        events: list[Json] = []
        try:
            with self.state.change() as events:
                session = self.state.get("checkout.session", session_id)
                stripe_checkout.open_or_expired(self.state, session)
                return copy.deepcopy(change(self.state, session))
        finally:
            self._api.dispatch(events).wait(wait)

    # The pay page.

    def _show_page(self, request: Request) -> Response:
        session = self._session_of(request)
        if session is None:
            return stripe_pages.missing_page()
        if session["status"] != "open":
            return stripe_pages.ended_page(session)
        return stripe_pages.pay_page(session, self.state.line_items[session["id"]])

    def _submit_page(self, request: Request) -> Response:
        session = self._session_of(request)
        if session is None:
            return stripe_pages.missing_page()
        action = parse_qs(request.body.decode()).get("action", [""])[0]
        if action == "back" and session["cancel_url"]:
            return stripe_pages.redirect(session["cancel_url"], session)
        deeds: dict[str, Change] = {
            "pay": stripe_checkout.pay,
            "pay_delayed": stripe_checkout.pay_delayed,
            "decline": stripe_checkout.decline,
        }
        if session["status"] == "open" and action in deeds:
            try:
                session = self._act(session["id"], deeds[action], REDIRECT_WAIT_SECONDS)
            except StripeError:  # another tab was faster
                session = self._session_of(request) or session
        if session["status"] == "complete":
            return stripe_pages.redirect(session["success_url"], session)
        if session["status"] == "expired":
            return stripe_pages.ended_page(session)
        alert = "Your card was declined." if action == "decline" else "Choose how to pay."
        return stripe_pages.pay_page(session, self.state.line_items[session["id"]], alert)

    def _session_of(self, request: Request) -> Json | None:
        try:
            return self._act(request.params["session_id"], lambda _state, session: session)
        except StripeError:
            return None

    # The same controls over HTTP, for people at a terminal.

    def _route_controls(self) -> None:
        acts: dict[str, Callable[..., Any]] = {
            "pay": self.pay,
            "pay_delayed": self.pay_delayed,
            "settle_delayed": self.settle_delayed,
            "decline": self.decline,
            "expire": self.expire,
            "fail_refund": self.fail_refund,
            "redeliver": self.redeliver,
            "drain": self.drain,
            "webhook_faults": lambda **options: self.webhook_faults.switch(options),
        }
        for name, act in acts.items():
            self.route("POST", f"/_control/{name}", _control(act))
        self.route("DELETE", "/_control/webhook_faults", _control(self.webhook_faults.reset))
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
