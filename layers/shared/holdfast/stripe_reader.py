"""
What Stripe knows: its objects, read again by id, and those that were made in a stretch of time.

A state that is read here is newer than any event about it. Lists page on by themselves. Everything raises
`UnavailableError` when Stripe is away and `ProviderError` when it refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import stripe

from holdfast.errors import ProviderError
from holdfast.stripe_client import translated_errors
from holdfast.stripe_events import EVENT_KINDS, StripeEvent, read_event
from holdfast.stripe_objects import (
    Found,
    InvoicePayment,
    PaidInvoice,
    PriceState,
    ProductState,
    Reversal,
    SessionState,
    SubscriptionState,
    read_dispute,
    read_invoice,
    read_invoice_payment,
    read_price,
    read_product,
    read_refund,
    read_session,
    read_subscription,
)

_PAGE = 100
_EVENT_TYPES_A_CALL = 20
_PAID_BY = ["payment_intent", "subscription"]
_EACH_PAID_BY = [f"data.{name}" for name in _PAID_BY]


@dataclass(frozen=True)
class Window:
    """A stretch of time in which objects were made at Stripe; its end is excluded."""

    start: datetime
    end: datetime

    @property
    def filter(self) -> Any:  # noqa: ANN401 - each list of the SDK has its own type for the same two fields
        """The window as Stripe's lists take it."""
        return {"gte": int(self.start.timestamp()), "lt": int(self.end.timestamp())}


class StripeReader:
    """Read Stripe's objects. What Stripe does not have is None."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self._v1 = client.v1

    def session(self, session_id: str) -> SessionState | None:
        """Read a Checkout Session, with what says whether a delayed payment failed."""
        retrieve = self._v1.checkout.sessions.retrieve
        found = _found(lambda: retrieve(session_id, {"expand": _PAID_BY}))
        return None if found is None else read_session(found)

    def subscription(self, subscription_id: str) -> SubscriptionState | None:
        """Read a subscription."""
        found = _found(lambda: self._v1.subscriptions.retrieve(subscription_id))
        return None if found is None else read_subscription(found)

    def paid_invoice(self, invoice_id: str) -> PaidInvoice | None:
        """Read an invoice with its payments and all its lines; None as well unless it is paid."""
        found = _found(lambda: self._v1.invoices.retrieve(invoice_id, {"expand": ["payments"]}))
        return None if found is None else self._paid(found)

    def all_lines(self, invoice: Found) -> list[Found]:
        """Return all lines of an invoice, which itself carries only the first few."""
        lines: list[Found] = invoice["lines"]["data"]
        if invoice["lines"]["has_more"]:
            listing = self._v1.invoices.line_items.list
            lines = list(_pages(lambda: listing(invoice["id"], {"limit": _PAGE})))
        return lines

    def invoice_payment(self, invoice_payment_id: str) -> InvoicePayment | None:
        """Read what a payment paid of an invoice; None as well unless it is paid."""
        found = _found(lambda: self._v1.invoice_payments.retrieve(invoice_payment_id))
        return None if found is None else read_invoice_payment(found)

    def refund(self, refund_id: str) -> Reversal | None:
        """Read a refund."""
        found = _found(lambda: self._v1.refunds.retrieve(refund_id))
        return None if found is None else read_refund(found)

    def dispute(self, dispute_id: str) -> Reversal | None:
        """Read a dispute."""
        found = _found(lambda: self._v1.disputes.retrieve(dispute_id))
        return None if found is None else read_dispute(found)

    def price(self, price_id: str) -> PriceState | None:
        """Read a price."""
        found = _found(lambda: self._v1.prices.retrieve(price_id))
        return None if found is None else read_price(found)

    def price_of(self, lookup_key: str) -> PriceState | None:
        """Read the active price that has a lookup key now."""
        keyed: Any = {"lookup_keys": [lookup_key], "active": True}
        return next(map(read_price, _pages(lambda: self._v1.prices.list(keyed))), None)

    def product(self, product_id: str) -> ProductState | None:
        """Read a product."""
        found = _found(lambda: self._v1.products.retrieve(product_id))
        return None if found is None else read_product(found)

    def undelivered_events(self, window: Window) -> Iterator[StripeEvent]:
        """Yield the events of the window that some endpoint has not taken (Stripe keeps them 30 days)."""
        types = list(EVENT_KINDS)
        for at in range(0, len(types), _EVENT_TYPES_A_CALL):
            params: Any = {
                "delivery_success": False,
                "types": types[at : at + _EVENT_TYPES_A_CALL],
                "created": window.filter,
                "limit": _PAGE,
            }
            with translated_errors():
                for event in self._v1.events.list(params).auto_paging_iter():
                    yield read_event(event)

    def sessions(self, window: Window) -> Iterator[SessionState]:
        """Yield the Checkout Sessions of the window, whatever became of them."""
        params: Any = {"expand": _EACH_PAID_BY, **_within(window)}
        return map(read_session, _pages(lambda: self._v1.checkout.sessions.list(params)))

    def sessions_of(self, payment_intent_id: str) -> Iterator[SessionState]:
        """Yield the Checkout Session that a payment was made in, if it was."""
        params: Any = {"payment_intent": payment_intent_id, "expand": _EACH_PAID_BY}
        return map(read_session, _pages(lambda: self._v1.checkout.sessions.list(params)))

    def paid_invoices(self, window: Window) -> Iterator[PaidInvoice]:
        """Yield the paid invoices of the window, each with its payments and all its lines."""
        params: Any = {"status": "paid", "expand": ["data.payments"], **_within(window)}
        found = map(self._paid, _pages(lambda: self._v1.invoices.list(params)))
        return (invoice for invoice in found if invoice is not None)

    def invoice_payments(self, window: Window) -> Iterator[InvoicePayment]:
        """Yield what was paid of invoices in the window."""
        params: Any = {"status": "paid", **_within(window)}
        return _payments(_pages(lambda: self._v1.invoice_payments.list(params)))

    def invoice_payments_of(self, payment_intent_id: str) -> Iterator[InvoicePayment]:
        """Yield the invoices that a payment paid."""
        payment = {"type": "payment_intent", "payment_intent": payment_intent_id}
        params: Any = {"status": "paid", "payment": payment}
        return _payments(_pages(lambda: self._v1.invoice_payments.list(params)))

    def subscriptions(self, window: Window) -> Iterator[SubscriptionState]:
        """Yield the subscriptions that began in the window, ended ones too."""
        params: Any = {"status": "all", **_within(window)}
        return map(read_subscription, _pages(lambda: self._v1.subscriptions.list(params)))

    def refunds(self, window: Window) -> Iterator[Reversal]:
        """Yield the refunds of the window."""
        return map(read_refund, _pages(lambda: self._v1.refunds.list(_within(window))))

    def disputes(self, window: Window) -> Iterator[Reversal]:
        """Yield the disputes of the window."""
        return map(read_dispute, _pages(lambda: self._v1.disputes.list(_within(window))))

    def prices(self) -> Iterator[PriceState]:
        """Yield the active prices."""
        params: Any = {"active": True, "limit": _PAGE}
        return map(read_price, _pages(lambda: self._v1.prices.list(params)))

    def _paid(self, found: Found) -> PaidInvoice | None:
        if found.get("status") != "paid":
            return None
        return read_invoice(found, self.all_lines(found))


def _within(window: Window) -> Any:  # noqa: ANN401 - see Window.filter
    return {"created": window.filter, "limit": _PAGE}


def _found(retrieve: Callable[[], stripe.StripeObject]) -> Found | None:
    try:
        with translated_errors():
            return retrieve().to_dict()
    except ProviderError as refused:
        if refused.provider_code == "resource_missing":
            return None
        raise


def _pages(listing: Callable[[], stripe.ListObject[Any]]) -> Iterator[Found]:
    with translated_errors():
        for found in listing().auto_paging_iter():
            yield found.to_dict()


def _payments(found: Iterator[Found]) -> Iterator[InvoicePayment]:
    payments = map(read_invoice_payment, found)
    return (payment for payment in payments if payment is not None)
