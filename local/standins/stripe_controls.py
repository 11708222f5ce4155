"""
What happens to the account from outside its API: payers, banks, the dashboard and time.

Each method changes the state and sends the events of the change in the background, like a call of
the API. All raise `StripeError` for what cannot happen, and answer a copy of the object.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from local.standins import (
    stripe_catalog,
    stripe_customers,
    stripe_discounts,
    stripe_disputes,
    stripe_invoices,
    stripe_lifecycle,
    stripe_payer,
    stripe_refunds,
    stripe_time,
)
from local.standins.stripe_api import Api
from local.standins.stripe_network import NetworkControls
from local.standins.stripe_state import State
from local.standins.stripe_wire import Json, StripeError

Change = Callable[[State, Json], object]


class Controls(NetworkControls):
    """The controls of one stand-in; `names` are those a person at a terminal may use too."""

    _api: Api

    names = (
        *("pay", "pay_delayed", "settle_delayed", "decline", "expire"),
        *(
            "advance",
            "renew",
            "fail_renewal",
            "pay_invoice",
            "mark_unpaid",
            "break_card",
            "mend_card",
        ),
        *("end_trial", "resume", "cancel_now", "apply_coupon"),
        *("refund", "settle_refund", "fail_refund"),
        *("open_dispute", "escalate_dispute", "answer_dispute", "close_dispute", "appeal"),
        *("delete_customer", "delete_price"),
        *("redeliver", "redeliver_undelivered", "release", "drain"),
        *("fail_next", "hang_next", "lose_next"),
    )

    # Checkout.

    def pay(self, session_id: str) -> Json:
        """Pay an open session by card; its events leave in the background."""
        return self.act_on_session(session_id, stripe_payer.pay)

    def pay_delayed(self, session_id: str) -> Json:
        """Pay an open session by a method that settles later."""
        return self.act_on_session(session_id, stripe_payer.pay_delayed)

    def settle_delayed(self, session_id: str, *, ok: bool = True) -> Json:
        """Let a delayed payment succeed or fail."""
        return self.act_on_session(session_id, lambda *a: stripe_payer.settle_delayed(*a, ok=ok))

    def decline(self, session_id: str) -> Json:
        """Let the payer's card be declined; the session stays open."""
        return self.act_on_session(session_id, stripe_payer.decline)

    def expire(self, session_id: str) -> Json:
        """End an open session as if its time were over."""
        return self.act_on_session(session_id, stripe_payer.expire)

    def act_on_session(self, session_id: str, change: Change, wait: float = 0.0) -> Json:
        """Change a session, expired first if its time is over; wait for its webhooks if asked."""

        def run(state: State, session: Json) -> None:
            stripe_payer.open_or_expired(state, session)
            change(state, session)

        return self.act_on("checkout.session", session_id, run, wait)

    # Time and subscriptions.

    def now(self) -> int:
        """Return the present second of the account."""
        return self.state.now()

    def advance(self, seconds: float) -> int:
        """
        Move the account's clock forward; returns the new present.

        On the way, in order: sessions expire, trials end, subscriptions renew (a broken card makes
        them past due) or, if they were to be cancelled, end.
        """
        return int(self._change(lambda state: stripe_time.advance(state, int(seconds))))

    def renew(self, subscription_id: str) -> Json:
        """Renew one subscription, whatever the clock says; returns it, past due if not paid."""
        return self.act_on("subscription", subscription_id, stripe_lifecycle.renew)

    def fail_renewal(self, subscription_id: str) -> Json:
        """Renew one subscription with a card that is declined: it becomes past due."""

        def run(state: State, of: Json) -> None:
            before = set(state.broken_cards)
            state.broken_cards.add(of["customer"])
            try:
                stripe_lifecycle.renew(state, of)
            finally:
                state.broken_cards = before

        return self.act_on("subscription", subscription_id, run)

    def break_card(self, customer_id: str) -> None:
        """Let every later renewal of a customer be declined."""
        self._change(lambda state: state.broken_cards.add(customer_id))

    def mend_card(self, customer_id: str) -> None:
        """Let the customer's card work again."""
        self._change(lambda state: state.broken_cards.discard(customer_id))

    def pay_invoice(self, invoice_id: str) -> Json:
        """Pay an open (or draft) invoice late; its subscription is active again."""

        def run(state: State, invoice: Json) -> None:
            stripe_invoices.pay(state, invoice)
            of = state.get("subscription", stripe_invoices.subscription_id(invoice))
            stripe_lifecycle.follow(state, of, invoice)

        return self.act_on("invoice", invoice_id, run)

    def mark_unpaid(self, subscription_id: str) -> Json:
        """Give up collecting from a past due subscription."""
        return self.act_on("subscription", subscription_id, stripe_lifecycle.mark_unpaid)

    def end_trial(self, subscription_id: str, *, pays: bool = True) -> Json:
        """End a trial now: charged, or paused for want of a payment method."""
        return self.act_on(
            "subscription", subscription_id, lambda *a: stripe_lifecycle.end_trial(*a, pays=pays)
        )

    def resume(self, subscription_id: str) -> Json:
        """Let a paused subscription begin a new period, charged now."""
        return self.act_on("subscription", subscription_id, stripe_lifecycle.resume)

    def cancel_now(self, subscription_id: str) -> Json:
        """End a subscription at once, as the dashboard does."""
        return self.act_on(
            "subscription",
            subscription_id,
            lambda state, of: stripe_lifecycle.end(state, of, "cancellation_requested"),
        )

    def create_coupon(self, percent_off: int = 100, duration: str = "once") -> Json:
        """Make a coupon; its id may be given to a checkout session."""
        params = {"percent_off": percent_off, "duration": duration}
        return dict(self._change(lambda state: stripe_discounts.create_coupon(state, params)))

    def apply_coupon(
        self, subscription_id: str, percent_off: int = 100, duration: str = "once"
    ) -> Json:
        """Make the next invoice of a subscription cheaper, or all (`duration` forever)."""
        params = {"percent_off": percent_off, "duration": duration}

        def run(state: State, of: Json) -> None:
            coupon = stripe_discounts.create_coupon(state, params)
            used = stripe_discounts.give(state, of, coupon)
            state.update(of, {"discounts": [used["id"]]}, stripe_lifecycle.UPDATED)

        return self.act_on("subscription", subscription_id, run)

    # Money that goes back.

    def refund(
        self, payment_intent: str, amount: int | None = None, status: str = "succeeded"
    ) -> Json:
        """Refund a payment, the rest of it by default; `pending` is on its way."""
        if status not in ("succeeded", "pending"):
            raise StripeError(f"A refund does not begin as {status}.")
        params: Json = {"payment_intent": payment_intent}
        if amount is not None:
            params["amount"] = amount
        return dict(self._change(lambda state: stripe_refunds.refund(state, params, status)))

    def settle_refund(self, refund_id: str) -> Json:
        """Let a pending refund arrive."""
        return dict(self._change(lambda state: stripe_refunds.settle(state, refund_id)))

    def fail_refund(self, refund_id: str) -> Json:
        """Let a refund come back, pending or gone through."""
        return dict(self._change(lambda state: stripe_refunds.fail(state, refund_id)))

    def open_dispute(
        self, payment_intent: str, amount: int | None = None, *, inquiry: bool = False
    ) -> Json:
        """Dispute a payment, all of it by default; an inquiry moves no money."""
        return dict(
            self._change(
                lambda state: stripe_disputes.open_dispute(
                    state, payment_intent, amount, inquiry=inquiry
                )
            )
        )

    def escalate_dispute(self, dispute_id: str) -> Json:
        """Let an inquiry become a dispute."""
        return self.act_on("dispute", dispute_id, stripe_disputes.escalate)

    def answer_dispute(self, dispute_id: str) -> Json:
        """Send evidence: the dispute is under review."""
        return self.act_on("dispute", dispute_id, stripe_disputes.answer)

    def close_dispute(self, dispute_id: str, status: str) -> Json:
        """Close a dispute as `won`, `lost`, `warning_closed` or `prevented`."""
        return self.act_on(
            "dispute", dispute_id, lambda state, of: stripe_disputes.close(state, of, status)
        )

    def appeal(self, dispute_id: str) -> Json:
        """Contest a lost dispute; close it again as won or lost."""
        return self.act_on("dispute", dispute_id, stripe_disputes.appeal)

    # The dashboard.

    def delete_customer(self, customer_id: str) -> Json:
        """Delete a customer; what it is subscribed to ends first."""
        return dict(self._change(lambda state: stripe_customers.delete(state, {}, customer_id)))

    def delete_price(self, price_id: str) -> Json:
        """Delete a price, which only the dashboard can."""
        return dict(self._change(lambda state: stripe_catalog.delete_price(state, price_id)))

    # How a change is made.

    def act_on(self, kind: str, object_id: str, change: Change, wait: float = 0.0) -> Json:
        """Change one object and answer a copy; wait for its webhooks if asked, in seconds."""

        def run(state: State) -> Json:
            thing = state.get(kind, object_id)
            change(state, thing)
            return thing

        return dict(self._change(run, wait))

    def _change(self, change: Callable[[State], Any], wait: float = 0.0) -> Any:
        events: list[Json] = []
        try:
            with self.state.change() as events:
                return copy.deepcopy(change(self.state))
        finally:
            self._api.dispatch(events).wait(wait)
