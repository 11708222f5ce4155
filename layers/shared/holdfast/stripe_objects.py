"""
Stripe's objects as this project reads them.

Stripe's own objects end here: each reader takes what the SDK's `to_dict()` gives and returns a frozen dataclass with
the fields we need, named as the SQL functions name them. Field locations are those of API version 2026-10-28.endive.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Found = dict[str, Any]

_PAYMENT_OVER = frozenset({"requires_payment_method", "canceled"})
_PLAN_OVER = frozenset({"canceled", "incomplete_expired"})
_PLAN_NOT_PAID = _PLAN_OVER | {"past_due", "unpaid"}


class CheckoutState(StrEnum):
    """What became of a Checkout Session, as far as Stripe has said."""

    OPEN = "open"
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    OTHER = "other"
    """Neither a payment nor a subscription."""


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """
    A Checkout Session.

    `purchase_id` and `user_id` are the texts that were given at its creation: claims, to be compared with the purchase.
    """

    id: str
    mode: str | None
    state: CheckoutState
    purchase_id: str | None
    user_id: str | None
    amount_minor: int | None
    currency: str | None
    payment_intent_id: str | None
    customer_id: str | None
    subscription_id: str | None


@dataclass(frozen=True, kw_only=True)
class SubscriptionState:
    """A subscription; times are unix seconds. `user_id` is a claim."""

    id: str
    customer_id: str | None
    user_id: str | None
    price_id: str | None
    status: str
    current_period_start: int | None
    current_period_end: int | None
    cancel_at_period_end: bool
    cancel_at: int | None
    canceled_at: int | None
    ended_at: int | None
    created: int

    @property
    def is_over(self) -> bool:
        """Whether it has ended, for good."""
        return self.status in _PLAN_OVER


@dataclass(frozen=True, kw_only=True)
class InvoiceLine:
    """A line of an invoice: its amount before discounts, and the period it is for, in unix seconds."""

    id: str
    price_id: str | None
    amount_minor: int
    discount_minor: int
    quantity: int | None
    proration: bool
    period_start: int
    period_end: int
    subscription_id: str | None


@dataclass(frozen=True, kw_only=True)
class InvoicePayment:
    """What one payment paid of an invoice."""

    payment_intent_id: str
    amount_minor: int
    currency: str
    invoice_id: str


@dataclass(frozen=True, kw_only=True)
class PaidInvoice:
    """An invoice that was paid. `payments` are those that came with it; `user_id` is a claim."""

    id: str
    customer_id: str | None
    subscription_id: str | None
    user_id: str | None
    currency: str
    paid_at: int | None
    lines: tuple[InvoiceLine, ...]
    payments: tuple[InvoicePayment, ...]


class ReversalKind(StrEnum):
    """How money goes back."""

    REFUND = "refund"
    DISPUTE = "dispute"


@dataclass(frozen=True, kw_only=True)
class Reversal:
    """A refund or a dispute. `counts` says of a prevented dispute whether its money is gone."""

    id: str
    kind: ReversalKind
    payment_intent_id: str | None
    amount_minor: int
    currency: str
    status: str
    counts: bool


@dataclass(frozen=True, kw_only=True)
class PriceState:
    """
    A price. `months` is the length of its period, 0 when it is paid once or by the day or week.

    `item` and `credits` are what `make stripe-catalog` wrote on it, so that a price keeps what it was sold for.
    """

    id: str
    product_id: str | None
    lookup_key: str | None
    active: bool
    deleted: bool
    currency: str | None
    amount_minor: int | None
    interval: str | None
    months: int
    item: str | None
    credits: str | None


@dataclass(frozen=True, kw_only=True)
class ProductState:
    """A product."""

    id: str
    name: str | None
    active: bool
    deleted: bool


ITEM_METADATA = "holdfast_item"
CREDITS_METADATA = "holdfast_credits"


def read_session(session: Found, event_type: str | None = None) -> SessionState:
    """Read a Checkout Session; the type of its event says more than a snapshot when a payment failed."""
    metadata = session.get("metadata") or {}
    return SessionState(
        id=session["id"],
        mode=session.get("mode"),
        state=_checkout_state(session, event_type)
        if session.get("mode") in ("payment", "subscription")
        else CheckoutState.OTHER,
        purchase_id=session.get("client_reference_id"),
        user_id=metadata.get("user_id"),
        amount_minor=session.get("amount_total"),
        currency=session.get("currency"),
        payment_intent_id=_id_of(session.get("payment_intent")),
        customer_id=_id_of(session.get("customer")),
        subscription_id=_id_of(session.get("subscription")),
    )


def read_subscription(subscription: Found) -> SubscriptionState:
    """Read a subscription. Since basil its period is on the item, of which ours have one."""
    item: Found = next(iter(subscription["items"]["data"]), {})
    return SubscriptionState(
        id=subscription["id"],
        customer_id=_id_of(subscription.get("customer")),
        user_id=_claim(subscription.get("metadata")),
        price_id=_id_of(item.get("price")),
        status=subscription["status"],
        current_period_start=item.get("current_period_start"),
        current_period_end=item.get("current_period_end"),
        cancel_at_period_end=bool(subscription.get("cancel_at_period_end")),
        cancel_at=subscription.get("cancel_at"),
        canceled_at=subscription.get("canceled_at"),
        ended_at=subscription.get("ended_at"),
        created=subscription["created"],
    )


def read_invoice(invoice: Found, lines: list[Found] | None = None) -> PaidInvoice:
    """Read a paid invoice; `lines` replaces the first page of them that it carries."""
    parent = (invoice.get("parent") or {}).get("subscription_details") or {}
    payments = (invoice.get("payments") or {}).get("data") or []
    found = (read_invoice_payment(payment) for payment in payments)
    return PaidInvoice(
        id=invoice["id"],
        customer_id=_id_of(invoice.get("customer")),
        subscription_id=_id_of(parent.get("subscription")),
        user_id=_claim(parent.get("metadata")),
        currency=invoice["currency"],
        paid_at=(invoice.get("status_transitions") or {}).get("paid_at"),
        lines=tuple(_read_line(line) for line in lines or invoice["lines"]["data"]),
        payments=tuple(payment for payment in found if payment is not None),
    )


def _read_line(line: Found) -> InvoiceLine:
    parent = line.get("parent") or {}
    origin = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    pricing = (line.get("pricing") or {}).get("price_details") or {}
    return InvoiceLine(
        id=line["id"],
        price_id=_id_of(pricing.get("price")),
        amount_minor=line["amount"],
        discount_minor=sum(each["amount"] for each in line.get("discount_amounts") or []),
        quantity=line.get("quantity"),
        proration=bool(origin.get("proration")),
        period_start=line["period"]["start"],
        period_end=line["period"]["end"],
        subscription_id=_id_of(origin.get("subscription")),
    )


def read_invoice_payment(payment: Found) -> InvoicePayment | None:
    """Read what a payment paid of an invoice; None unless it is paid and its money came through Stripe."""
    payment_intent_id = _id_of((payment.get("payment") or {}).get("payment_intent"))
    if payment.get("status") != "paid" or payment_intent_id is None:
        return None
    return InvoicePayment(
        payment_intent_id=payment_intent_id,
        amount_minor=payment["amount_paid"],
        currency=payment["currency"],
        invoice_id=_id_of(payment["invoice"]) or "",
    )


def read_refund(refund: Found) -> Reversal:
    """Read a refund."""
    return _read_reversal(ReversalKind.REFUND, refund, counts=False)


def read_dispute(dispute: Found) -> Reversal:
    """Read a dispute. Its balance transactions say whether the money is with us."""
    moved = sum(each["amount"] for each in dispute.get("balance_transactions") or [])
    return _read_reversal(ReversalKind.DISPUTE, dispute, counts=moved < 0)


def _read_reversal(kind: ReversalKind, found: Found, *, counts: bool) -> Reversal:
    return Reversal(
        id=found["id"],
        kind=kind,
        payment_intent_id=_id_of(found.get("payment_intent")),
        amount_minor=found["amount"],
        currency=found["currency"],
        status=found.get("status") or "",
        counts=counts,
    )


def read_price(price: Found) -> PriceState:
    """Read a price."""
    recurring = price.get("recurring") or {}
    metadata = price.get("metadata") or {}
    interval = recurring.get("interval")
    return PriceState(
        id=price["id"],
        product_id=_id_of(price.get("product")),
        lookup_key=price.get("lookup_key"),
        active=bool(price.get("active")),
        deleted=bool(price.get("deleted")),
        currency=price.get("currency"),
        amount_minor=price.get("unit_amount"),
        interval=interval if interval in ("month", "year") else None,
        months={"month": 1, "year": 12}.get(interval or "", 0) * recurring.get("interval_count", 1),
        item=metadata.get(ITEM_METADATA),
        credits=metadata.get(CREDITS_METADATA),
    )


def deleted_price(price_id: str) -> PriceState:
    """Return what is known of a price that Stripe no longer has."""
    return read_price({"id": price_id, "deleted": True})


def read_product(product: Found) -> ProductState:
    """Read a product."""
    return ProductState(
        id=product["id"],
        name=product.get("name"),
        active=bool(product.get("active")),
        deleted=bool(product.get("deleted")),
    )


def _claim(metadata: Found | None) -> str | None:
    """Return whose subscription it says it is; without a purchase it is another product's on the same account."""
    found: str | None = (metadata or {}).get("user_id")
    return found if (metadata or {}).get("purchase_id") else None


def _id_of(expandable: Any) -> str | None:  # noqa: ANN401 - an id, or the object itself
    found = expandable["id"] if isinstance(expandable, dict) else expandable
    return None if found is None else str(found)


def _checkout_state(session: Found, event_type: str | None) -> CheckoutState:
    """Read the state. Money counts as here only when the session itself says so."""
    if event_type == "checkout.session.async_payment_failed":
        return CheckoutState.FAILED
    if session.get("status") == "expired":
        return CheckoutState.EXPIRED
    if session.get("payment_status") in ("paid", "no_payment_required"):
        return CheckoutState.PAID
    if session.get("status") == "open":
        return CheckoutState.OPEN
    over = {"payment_intent": _PAYMENT_OVER, "subscription": _PLAN_NOT_PAID}
    is_over = any(
        isinstance(session.get(name), dict) and session[name]["status"] in statuses
        for name, statuses in over.items()
    )
    return CheckoutState.FAILED if is_over else CheckoutState.PENDING
