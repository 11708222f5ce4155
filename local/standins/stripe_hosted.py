"""The two hosted pages, as their forms work: paying a session, and the billing portal."""

from __future__ import annotations

from urllib.parse import parse_qs

from local.standins import stripe_pages, stripe_payer, stripe_portal
from local.standins.server import Request, Response
from local.standins.stripe_controls import Change, Controls
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

REDIRECT_WAIT_SECONDS = 10.0
"""How long a page waits for the webhooks' answers before it sends its visitor on."""


class HostedPages:
    """Serves both pages over one stand-in's controls."""

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._state = controls.state

    def show_checkout(self, request: Request) -> Response:
        """Show what an open session sells, with its buttons."""
        session = self._checkout_of(request)
        if session is None:
            return stripe_pages.missing_page()
        if session["status"] != "open":
            return stripe_pages.ended_page(session)
        return stripe_pages.pay_page(session, self._state.line_items[session["id"]])

    def submit_checkout(self, request: Request) -> Response:
        """Do what the payer pressed, and send a payer who is through to the success URL."""
        session = self._checkout_of(request)
        if session is None:
            return stripe_pages.missing_page()
        action = _pressed(request)["action"]
        if action == "back" and session["cancel_url"]:
            return stripe_pages.redirect(session["cancel_url"], session)
        deeds: dict[str, Change] = {
            "pay": stripe_payer.pay,
            "pay_delayed": stripe_payer.pay_delayed,
            "decline": stripe_payer.decline,
        }
        if session["status"] == "open" and action in deeds:
            try:
                session = self._controls.act_on_session(
                    session["id"], deeds[action], REDIRECT_WAIT_SECONDS
                )
            except StripeError:  # another tab was faster
                session = self._checkout_of(request) or session
        if session["status"] == "complete":
            return stripe_pages.redirect(session["success_url"], session)
        if session["status"] == "expired":
            return stripe_pages.ended_page(session)
        alert = "Your card was declined." if action == "decline" else "Choose how to pay."
        return stripe_pages.pay_page(session, self._state.line_items[session["id"]], alert)

    def show_portal(self, request: Request) -> Response:
        """Show a customer's subscriptions, each with what may be done to it."""
        return self._portal(request)

    def submit_portal(self, request: Request) -> Response:
        """Cancel, resume, change or pay for a plan, and show what came of it; or go back."""
        pressed = _pressed(request)
        session_id = request.params["session_id"]

        def run(state: State, session: Json) -> None:
            stripe_portal.act(
                state, session, pressed["action"], pressed["subscription"], pressed["price"]
            )

        try:
            session = self._state.get("billing_portal.session", session_id)
            if pressed["action"] == "back" and session["return_url"]:
                return stripe_pages.redirect(session["return_url"], session)
            self._controls.act_on("billing_portal.session", session_id, run, REDIRECT_WAIT_SECONDS)
        except StripeError as error:
            return self._portal(request, error.message)
        return self._portal(request)

    def _portal(self, request: Request, alert: str = "") -> Response:
        try:
            with self._state.lock:
                session = self._state.get("billing_portal.session", request.params["session_id"])
                plans = [
                    (each, stripe_portal.prices_for(self._state, each))
                    for each in self._state.subscriptions_of(session["customer"])
                ]
                names = {p["id"]: p["name"] for p in self._state.newest("product")}
                return stripe_pages.portal_page(session, plans, names, alert)
        except StripeError:
            return stripe_pages.missing_page()

    def _checkout_of(self, request: Request) -> Json | None:
        try:
            return self._controls.act_on_session(
                request.params["session_id"], lambda _state, _session: None
            )
        except StripeError:
            return None


def _pressed(request: Request) -> dict[str, str]:
    form = parse_qs(request.body.decode())
    return {name: form.get(name, [""])[0] for name in ("action", "subscription", "price")}
