"""
What each of Stripe's objects does here, whoever brings it: the webhook, a parked event's retry, reconciliation.

Facts (a paid session, a paid invoice) are taken from the event's snapshot. States (a subscription, a refund, a dispute,
a price, a product) are read again, under a ticket taken before, so the order of events cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from holdfast.billing import BillingStore, Outcome
from holdfast.errors import ProviderError
from holdfast.observability import count, logger
from holdfast.stripe_events import ObjectKind, StripeEvent
from holdfast.stripe_objects import (
    InvoicePayment,
    PaidInvoice,
    PriceState,
    ProductState,
    Reversal,
    SessionState,
    SubscriptionState,
    deleted_price,
    read_invoice,
    read_invoice_payment,
    read_session,
)
from holdfast.stripe_reader import StripeReader

T = TypeVar("T")


class StripeApplier:
    """
    Apply what Stripe says. Everything may be repeated.

    Raises `UnavailableError` when Stripe or the database is away and `ProviderError` when Stripe refuses or does not
    know: nothing was applied then.
    """

    def __init__(self, billing: BillingStore, reader: StripeReader) -> None:
        self._billing = billing
        self._reader = reader
        self._appliers: dict[ObjectKind, Callable[[StripeEvent], Outcome]] = {
            ObjectKind.CHECKOUT_SESSION: self._apply_session,
            ObjectKind.SUBSCRIPTION: lambda event: self.subscription(event.object_id, event),
            ObjectKind.INVOICE: self._apply_invoice,
            ObjectKind.INVOICE_PAYMENT: self._apply_invoice_payment,
            ObjectKind.REFUND: lambda event: self.refund(event.object_id, event),
            ObjectKind.DISPUTE: lambda event: self.dispute(event.object_id, event),
            ObjectKind.PRICE: lambda event: self.price(event.object_id, event),
            ObjectKind.PRODUCT: lambda event: self.product(event.object_id, event),
            ObjectKind.CUSTOMER: lambda event: billing.forget_customer(event.object_id, event),
        }

    def event(self, event: StripeEvent) -> Outcome:
        """Apply a genuine event, once."""
        if event.kind is None:
            return Outcome.IGNORED
        return self._told(self._appliers[event.kind](event), event.object_id, event)

    def ticket(self) -> int:
        """Return a ticket for what is about to be listed."""
        return self._billing.take_ticket()

    def session(self, session: SessionState) -> Outcome:
        """Apply a Checkout Session as just read."""
        return self._told(self._billing.record_checkout(None, session), session.id)

    def invoice(self, invoice: PaidInvoice) -> Outcome:
        """Apply a paid invoice as just read."""
        return self._told(self._record_invoice(None, invoice), invoice.id)

    def invoice_payment(self, payment: InvoicePayment) -> Outcome:
        """Note what a payment paid of an invoice."""
        return self._told(
            self._billing.record_invoice_payment(None, payment),
            payment.payment_intent_id,
        )

    def state(self, kind: ObjectKind, object_id: str) -> Outcome:
        """Read a subscription, a refund or a dispute again and apply it."""
        apply = {
            ObjectKind.SUBSCRIPTION: self.subscription,
            ObjectKind.REFUND: self.refund,
            ObjectKind.DISPUTE: self.dispute,
        }[kind]
        return self._told(apply(object_id), object_id)

    def subscription(self, subscription_id: str, event: StripeEvent | None = None) -> Outcome:
        """Mirror a subscription."""
        ticket = self._billing.take_ticket()
        found = _known(self._reader.subscription(subscription_id))
        return self._record_subscription(event, ticket, found)

    def refund(self, refund_id: str, event: StripeEvent | None = None) -> Outcome:
        """Let the credits follow a refund."""
        ticket = self._billing.take_ticket()
        found = _known(self._reader.refund(refund_id))
        return self._billing.record_reversal(event, ticket, found)

    def dispute(self, dispute_id: str, event: StripeEvent | None = None) -> Outcome:
        """Let the credits follow a dispute."""
        ticket = self._billing.take_ticket()
        found = _known(self._reader.dispute(dispute_id))
        return self._billing.record_reversal(event, ticket, found)

    def price(self, price_id: str, event: StripeEvent | None = None) -> Outcome:
        """Mirror a price and the product it is of."""
        ticket = self._billing.take_ticket()
        found = self._reader.price(price_id) or deleted_price(price_id)
        outcome = self._billing.record_price(event, ticket, found)
        if event is None and found.product_id is not None:
            self.product(found.product_id)
        return outcome

    def listed(self, ticket: int, found: PriceState | SubscriptionState | Reversal) -> Outcome:
        """Apply what a list held; the ticket was taken before the list was asked for."""
        match found:
            case PriceState():
                return self._billing.record_price(None, ticket, found)
            case SubscriptionState():
                outcome = self._record_subscription(None, ticket, found)
            case Reversal():
                outcome = self._billing.record_reversal(None, ticket, found)
        return self._told(outcome, found.id)

    def product(self, product_id: str, event: StripeEvent | None = None) -> Outcome:
        """Mirror a product."""
        ticket = self._billing.take_ticket()
        found = self._reader.product(product_id) or ProductState(
            id=product_id, name=None, active=False, deleted=True
        )
        return self._billing.record_product(event, ticket, found)

    def _record_subscription(
        self, event: StripeEvent | None, ticket: int, found: SubscriptionState
    ) -> Outcome:
        outcome = self._billing.record_subscription(event, ticket, found)
        if outcome is Outcome.PARKED and found.price_id is not None:
            # its price may be older than our webhook
            self.price(found.price_id)
            outcome = self._billing.record_subscription(event, ticket, found)
        return outcome

    def _apply_session(self, event: StripeEvent) -> Outcome:
        session = (
            read_session(event.snapshot, event.type)
            if event.snapshot
            else _known(self._reader.session(event.object_id))
        )
        return self._billing.record_checkout(event, session)

    def _apply_invoice(self, event: StripeEvent) -> Outcome:
        invoice = (
            read_invoice(event.snapshot, self._reader.all_lines(event.snapshot))
            if event.snapshot
            else _known(self._reader.paid_invoice(event.object_id))
        )
        return self._record_invoice(event, invoice)

    def _record_invoice(self, event: StripeEvent | None, invoice: PaidInvoice) -> Outcome:
        outcome = self._billing.record_invoice(event, invoice)
        if outcome is Outcome.PARKED:
            for price_id in sorted({line.price_id for line in invoice.lines if line.price_id}):
                self.price(price_id)
            outcome = self._billing.record_invoice(event, invoice)
        return outcome

    def _apply_invoice_payment(self, event: StripeEvent) -> Outcome:
        payment = (
            read_invoice_payment(event.snapshot)
            if event.snapshot
            else self._reader.invoice_payment(event.object_id)
        )
        if payment is None:
            return Outcome.IGNORED
        return self._billing.record_invoice_payment(event, payment)

    def _told(self, outcome: Outcome, object_id: str, event: StripeEvent | None = None) -> Outcome:
        log = logger().info
        if outcome.is_suspicious:
            log = logger().error
        elif outcome is Outcome.PARKED:
            log = logger().warning
        log(
            "payment fact",
            outcome=outcome,
            object_id=object_id,
            event_id=event.id if event else None,
            event_type=event.type if event else None,
        )
        count(f"Payment.{outcome}")
        if outcome.is_suspicious:
            count("PaymentMismatch")
        return outcome


def _known(found: T | None) -> T:
    """Refuse to go on without the object: a key of another account would look like this, and lose money quietly."""
    if found is None:
        raise ProviderError(reason="stripe: does not have the object of its own event")
    return found
