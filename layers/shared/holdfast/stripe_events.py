"""
Stripe's signed events: which are listened to, what kind of object each is about, and whether one is genuine.

The envelope is believed; what it holds is read by `stripe_objects`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import stripe

from holdfast.errors import ConfigurationError, InvalidSignatureError, MalformedRequestError
from holdfast.observability import count, logger

TOLERANCE_SECONDS = 300


class ObjectKind(StrEnum):
    """What an event is about."""

    CHECKOUT_SESSION = "checkout_session"
    SUBSCRIPTION = "subscription"
    INVOICE = "invoice"
    INVOICE_PAYMENT = "invoice_payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    PRICE = "price"
    PRODUCT = "product"
    CUSTOMER = "customer"


EVENT_KINDS: dict[str, ObjectKind] = {
    "checkout.session.completed": ObjectKind.CHECKOUT_SESSION,
    "checkout.session.async_payment_succeeded": ObjectKind.CHECKOUT_SESSION,
    "checkout.session.async_payment_failed": ObjectKind.CHECKOUT_SESSION,
    "checkout.session.expired": ObjectKind.CHECKOUT_SESSION,
    "customer.subscription.created": ObjectKind.SUBSCRIPTION,
    "customer.subscription.updated": ObjectKind.SUBSCRIPTION,
    "customer.subscription.deleted": ObjectKind.SUBSCRIPTION,
    "customer.subscription.paused": ObjectKind.SUBSCRIPTION,
    "customer.subscription.resumed": ObjectKind.SUBSCRIPTION,
    "invoice.paid": ObjectKind.INVOICE,
    "invoice_payment.paid": ObjectKind.INVOICE_PAYMENT,
    "refund.created": ObjectKind.REFUND,
    "refund.updated": ObjectKind.REFUND,
    "refund.failed": ObjectKind.REFUND,
    "charge.dispute.created": ObjectKind.DISPUTE,
    "charge.dispute.updated": ObjectKind.DISPUTE,
    "charge.dispute.closed": ObjectKind.DISPUTE,
    "charge.dispute.funds_withdrawn": ObjectKind.DISPUTE,
    "charge.dispute.funds_reinstated": ObjectKind.DISPUTE,
    "price.created": ObjectKind.PRICE,
    "price.updated": ObjectKind.PRICE,
    "price.deleted": ObjectKind.PRICE,
    "product.created": ObjectKind.PRODUCT,
    "product.updated": ObjectKind.PRODUCT,
    "product.deleted": ObjectKind.PRODUCT,
    "customer.deleted": ObjectKind.CUSTOMER,
}
"""The events that are acted on; the endpoint at Stripe need send no others. docs/billing.md has a row for each."""


@dataclass(frozen=True, kw_only=True)
class StripeEvent:
    """
    A genuine event. `created` is in unix seconds.

    `snapshot` is its object at that time, or None when it was written in another API version than ours, whose fields
    may lie elsewhere: then the object has to be read again.
    """

    id: str
    type: str
    created: int
    object_id: str
    snapshot: dict[str, Any] | None

    @property
    def kind(self) -> ObjectKind | None:
        """What it is about, if it is of a type that is acted on."""
        return EVENT_KINDS.get(self.type)


def verify_event(
    body: bytes, signature_header: str | None, secrets: Sequence[str], *, livemode: bool
) -> StripeEvent:
    """
    Verify a webhook delivery and return its event.

    Raises `InvalidSignatureError`, `MalformedRequestError` for an event of the other mode (test or live),
    `ConfigurationError` without a usable secret.
    """
    event = _verified(body, signature_header, secrets)
    if event.livemode is not livemode:
        logger().error("a Stripe event of the wrong mode", event_id=event.id)
        count("StripeWrongMode")
        raise MalformedRequestError("The event's livemode does not fit this stage.")
    return read_event(event)


def read_event(event: stripe.Event) -> StripeEvent:
    """Read an event whose origin is certain: verified, or asked of Stripe itself."""
    found = event.data.object.to_dict()
    has_our_version = event.api_version == stripe.api_version
    if not has_our_version:
        # The endpoint's version is fixed when it is made: somebody made it with another.
        logger().error("a Stripe event of another API version", api_version=event.api_version)
        count("StripeApiVersionMismatch")
    return StripeEvent(
        id=event.id,
        type=event.type,
        created=event.created,
        object_id=str(found.get("id", "")),
        snapshot=found if has_our_version else None,
    )


def _verified(body: bytes, signature_header: str | None, secrets: Sequence[str]) -> stripe.Event:
    # Stripe's own check takes an empty secret for a secret.
    if not secrets or not all(secret.strip() for secret in secrets):
        raise ConfigurationError("a Stripe webhook secret is empty")
    for secret in secrets:
        try:
            event: stripe.Event = stripe.Webhook.construct_event(
                body, signature_header or "", secret.strip(), TOLERANCE_SECONDS
            )
        except (stripe.SignatureVerificationError, ValueError, TypeError, AttributeError):
            continue
        return event
    raise InvalidSignatureError("The delivery is not a signed event.")
