"""
What Stripe says, written down: each call is one SQL function, one transaction with its own gate.

`event` is the event that brought it, or None when we found it ourselves: then nothing marks an event as seen, and the
object's own key keeps it from taking effect twice (sql/migrations/0013).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any, LiteralString

from holdfast.catalog import Catalog
from holdfast.database import Database
from holdfast.stripe_events import StripeEvent
from holdfast.stripe_objects import (
    InvoicePayment,
    PaidInvoice,
    PriceState,
    ProductState,
    Reversal,
    SessionState,
    SubscriptionState,
)


class Outcome(StrEnum):
    """What a fact of Stripe's did, or why it did nothing."""

    GRANTED = "granted"
    TAKEN_BACK = "taken_back"
    CLAWED_BACK = "clawed_back"
    RESTORED = "restored"
    SUBSCRIBED = "subscribed"
    LINKED = "linked"
    RECORDED = "recorded"
    RECORDED_SECOND = "recorded_second"
    FORGOTTEN = "forgotten"
    PENDING = "pending"
    CLOSED = "closed"
    NOTED = "noted"

    DUPLICATE = "duplicate"
    ALREADY_GRANTED = "already_granted"
    NOTHING_TO_GRANT = "nothing_to_grant"
    UNCHANGED = "unchanged"
    STALE = "stale"
    UNKNOWN = "unknown"
    IGNORED = "ignored"
    PARKED = "parked"

    SESSION_MISMATCH = "session_mismatch"
    USER_MISMATCH = "user_mismatch"
    AMOUNT_MISMATCH = "amount_mismatch"
    CURRENCY_MISMATCH = "currency_mismatch"
    UNKNOWN_STATUS = "unknown_status"
    OFF_CATALOG = "off_catalog"

    @property
    def is_suspicious(self) -> bool:
        """Say whether somebody should look: money may have moved without credits, or the other way round."""
        return self.endswith("_mismatch") or self in (
            Outcome.UNKNOWN_STATUS,
            Outcome.OFF_CATALOG,
            Outcome.RECORDED_SECOND,
        )

    @property
    def moves_credits(self) -> bool:
        """Say whether balances changed."""
        return self in (
            Outcome.GRANTED,
            Outcome.TAKEN_BACK,
            Outcome.CLAWED_BACK,
            Outcome.RESTORED,
        )


@dataclass(frozen=True)
class SellablePrice:
    """A price that can be bought now. `amount_minor` is in the currency's minor unit; `credits` is what it grants."""

    price_id: str
    credits: Decimal
    amount_minor: int
    currency: str


class BillingStore:
    """Write down what Stripe says; raises `UnavailableError` when the database is away."""

    def __init__(self, database: Database, catalog: Catalog) -> None:
        self._database = database
        self._catalog = catalog

    def take_ticket(self) -> int:
        """Return a number for one reading of a state, to be taken before the reading."""
        ticket: int = self._database.one("select backend.take_ticket() as ticket")["ticket"]
        return ticket

    def record_checkout(self, event: StripeEvent | None, session: SessionState) -> Outcome:
        """Apply what is known of a payment session: a pack is granted, a plan linked."""
        return self._record(
            "select backend.record_checkout(%s, %s) as outcome", event, asdict(session)
        )

    def record_subscription(
        self, event: StripeEvent | None, ticket: int, subscription: SubscriptionState
    ) -> Outcome:
        """Mirror a subscription."""
        return self._record(
            "select backend.record_subscription(%s, %s, %s) as outcome",
            event,
            ticket,
            asdict(subscription),
        )

    def record_invoice(self, event: StripeEvent | None, invoice: PaidInvoice) -> Outcome:
        """Grant what the lines of a paid invoice bought."""
        return self._record(
            "select backend.record_invoice(%s, %s) as outcome", event, asdict(invoice)
        )

    def record_invoice_payment(self, event: StripeEvent | None, payment: InvoicePayment) -> Outcome:
        """Note which payment paid an invoice."""
        return self._record(
            "select backend.record_invoice_payment(%s, %s, %s, %s, %s) as outcome",
            event,
            payment.invoice_id,
            payment.payment_intent_id,
            payment.amount_minor,
            payment.currency,
        )

    def record_reversal(
        self, event: StripeEvent | None, ticket: int, reversal: Reversal
    ) -> Outcome:
        """Let the credits follow a refund or a dispute."""
        return self._record(
            "select backend.record_reversal(%s, %s, %s) as outcome",
            event,
            ticket,
            asdict(reversal),
        )

    def record_price(self, event: StripeEvent | None, ticket: int, price: PriceState) -> Outcome:
        """Mirror a price, with what the catalogue says that it grants."""
        terms = self._catalog.terms_of(price)
        return self._record(
            "select backend.record_price(%s, %s, %s) as outcome",
            event,
            ticket,
            asdict(price) | (terms.model_dump() if terms else {"credits": None, "months": None}),
        )

    def record_product(
        self, event: StripeEvent | None, ticket: int, product: ProductState
    ) -> Outcome:
        """Mirror a product."""
        return self._record(
            "select backend.record_product(%s, %s, %s, %s, %s, %s) as outcome",
            event,
            ticket,
            product.id,
            product.name,
            product.active,
            product.deleted,
        )

    def forget_customer(self, customer_id: str, event: StripeEvent | None) -> Outcome:
        """Note that a customer was deleted at Stripe."""
        row = self._database.one(
            "select backend.forget_customer(%s, %s) as outcome", (customer_id, _gate(event))
        )
        return Outcome(row["outcome"])

    def sellable_prices(self) -> dict[str, SellablePrice]:
        """Return what can be bought now, by lookup key."""
        rows = self._database.all(
            "select lookup_key, price_id, credits, amount_minor, currency"
            " from backend.list_catalog()"
        )
        return {row.pop("lookup_key"): SellablePrice(**row) for row in rows}

    def sellable_price(self, lookup_key: str) -> SellablePrice | None:
        """Return the price to sell under a lookup key, if it is mirrored."""
        rows = self._database.all("select * from backend.find_price(%s)", (lookup_key,))
        return SellablePrice(**rows[0]) if rows else None

    def _record(self, query: LiteralString, event: StripeEvent | None, *fields: object) -> Outcome:
        row = self._database.one(query, (_gate(event), *fields))
        return Outcome(row["outcome"])


def _gate(event: StripeEvent | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {
        "id": event.id,
        "type": event.type,
        "created": event.created,
        "object_id": event.object_id,
    }
