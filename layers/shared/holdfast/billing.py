"""
Stripe: Checkout Sessions on the way out, signed events on the way in.

Stripe's objects end here: the rest of the project sees frozen dataclasses with the fields it needs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from uuid import UUID

import stripe

from holdfast.errors import (
    ConfigurationError,
    InvalidSignatureError,
    MalformedRequestError,
    ProviderError,
    UnavailableError,
)
from holdfast.observability import count, logger

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

TOLERANCE_SECONDS = 300

# Three attempts and their waits end before API Gateway's 30 seconds do.
_TIMEOUT_SECONDS = (2.0, 6.0)
_RETRIES = 2

_COMPLETED = "checkout.session.completed"
_SUCCEEDED = "checkout.session.async_payment_succeeded"
_FAILED = "checkout.session.async_payment_failed"
_EXPIRED = "checkout.session.expired"
_CHECKOUT_EVENTS = frozenset({_COMPLETED, _SUCCEEDED, _FAILED, _EXPIRED})


class CheckoutState(StrEnum):
    """What became of a Checkout Session, as far as Stripe has said."""

    OPEN = "open"
    PENDING = "pending"
    PAID = "paid"
    FAILED = "failed"
    EXPIRED = "expired"
    OTHER = "other"
    """Neither a payment nor a subscription."""


@dataclass(frozen=True)
class PackPurchase:
    """What is about to be bought. `amount_minor` is in the currency's minor unit."""

    id: UUID
    user_id: UUID
    name: str
    amount_minor: int
    currency: str


@dataclass(frozen=True)
class CheckoutSession:
    """A new Checkout Session: the page to send the user to, until it expires."""

    id: str
    url: str
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """
    A Checkout Session as Stripe has it.

    `purchase_id` and `user_id` are the texts that were given at its creation; they are claims to be
    compared with the purchase, not facts.
    """

    session_id: str
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
class CheckoutEvent(SessionState):
    """An event about a Checkout Session. `created` is in unix seconds."""

    id: str
    type: str
    created: int


@dataclass(frozen=True, kw_only=True)
class OtherEvent:
    """An event of a type that moves no credits here."""

    id: str
    type: str
    created: int


class StripeBilling:
    """
    Calls of Stripe's API.

    Raises `UnavailableError` when the outcome is unknown (the same call may be repeated, it carries
    an idempotency key), `ProviderError` when Stripe refused. `http` is replaced in tests.
    """

    def __init__(
        self, api_key: str, api_base: str | None = None, *, http: stripe.HTTPClient | None = None
    ) -> None:
        # Before the first request: telemetry wants a home directory, which Lambda may not have.
        stripe.enable_telemetry = False
        base: Any = {}
        if api_base:
            base = dict.fromkeys(("api", "files", "connect", "meter_events"), api_base)
        self._client = stripe.StripeClient(
            api_key,
            base_addresses=base,
            http_client=http or stripe.RequestsClient(timeout=_TIMEOUT_SECONDS),
            max_network_retries=_RETRIES,
        )

    def create_pack_session(
        self, purchase: PackPurchase, customer_id: str | None, success_url: str, cancel_url: str
    ) -> CheckoutSession:
        """
        Open the page on which `purchase` is paid.

        Repeating it for the same purchase gives the same session, so the URLs must not vary.
        """
        names = {"user_id": str(purchase.user_id), "purchase_id": str(purchase.id)}
        params: SessionCreateParams = {
            "mode": "payment",
            "client_reference_id": str(purchase.id),
            "line_items": [
                {
                    "quantity": 1,
                    "price_data": {
                        "currency": purchase.currency,
                        "unit_amount": purchase.amount_minor,
                        "product_data": {"name": purchase.name},
                    },
                }
            ],
            "metadata": names,
            "payment_intent_data": {"metadata": names},
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        if customer_id is not None:
            params["customer"] = customer_id
        with _translated_errors():
            session = self._client.v1.checkout.sessions.create(
                params, {"idempotency_key": f"checkout:{purchase.id}"}
            )
        if session.url is None:
            raise ProviderError(reason="stripe: a session without a URL")
        return CheckoutSession(
            session.id, session.url, datetime.fromtimestamp(session.expires_at, UTC)
        )

    def get_session(self, session_id: str) -> SessionState | None:
        """Return a session's state, or None when Stripe has no such session."""
        try:
            with _translated_errors():
                session = self._client.v1.checkout.sessions.retrieve(session_id)
        except ProviderError as refused:
            if refused.provider_code == "resource_missing":
                return None
            raise
        found = session.to_dict()
        return SessionState(**_fields(found), state=_state(found, None))

    def create_customer(self, user_id: UUID) -> str:
        """Return the id of the user's Stripe customer, a new one unless it was just made."""
        # Nothing that can change: another e-mail under the same key would be refused.
        with _translated_errors():
            customer = self._client.v1.customers.create(
                {"metadata": {"user_id": str(user_id)}}, {"idempotency_key": f"cust:{user_id}"}
            )
        return customer.id


def parse_event(
    body: bytes, signature_header: str | None, secrets: Sequence[str], *, livemode: bool
) -> CheckoutEvent | OtherEvent:
    """
    Verify a webhook delivery and return what it says.

    Raises `InvalidSignatureError`, `MalformedRequestError` for an event of the other mode (test or
    live), `ConfigurationError` without a usable secret.
    """
    event = _verified(body, signature_header, secrets)
    if event.livemode is not livemode:
        logger().error("a Stripe event of the wrong mode", event_id=event.id)
        count("StripeWrongMode")
        raise MalformedRequestError("The event's livemode does not fit this stage.")
    if event.api_version != stripe.api_version:
        # The endpoint's version is fixed when it is made: somebody made it with another.
        logger().error("a Stripe event of another API version", api_version=event.api_version)
        count("StripeApiVersionMismatch")
    if event.type not in _CHECKOUT_EVENTS:
        return OtherEvent(id=event.id, type=event.type, created=event.created)
    session = event.data.object.to_dict()
    return CheckoutEvent(
        **_fields(session),
        state=_state(session, event.type),
        id=event.id,
        type=event.type,
        created=event.created,
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


def _fields(session: dict[str, Any]) -> dict[str, Any]:
    metadata = session.get("metadata") or {}
    return {
        "session_id": session["id"],
        "mode": session.get("mode"),
        "purchase_id": session.get("client_reference_id"),
        "user_id": metadata.get("user_id"),
        "amount_minor": session.get("amount_total"),
        "currency": session.get("currency"),
        "payment_intent_id": _id_of(session.get("payment_intent")),
        "customer_id": _id_of(session.get("customer")),
        "subscription_id": _id_of(session.get("subscription")),
    }


def _id_of(expandable: Any) -> str | None:  # noqa: ANN401 - an id, or the object itself
    found = expandable["id"] if isinstance(expandable, dict) else expandable
    return None if found is None else str(found)


def _state(session: dict[str, Any], event_type: str | None) -> CheckoutState:
    """Read the state. Money counts as here only when the session itself says so."""
    if session.get("mode") not in ("payment", "subscription"):
        return CheckoutState.OTHER
    if event_type == _FAILED:
        return CheckoutState.FAILED
    if event_type == _EXPIRED or session.get("status") == "expired":
        return CheckoutState.EXPIRED
    if session.get("payment_status") in ("paid", "no_payment_required"):
        return CheckoutState.PAID
    return CheckoutState.OPEN if session.get("status") == "open" else CheckoutState.PENDING


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError) as error:
        # A plain APIError is a 409 or 5xx that outlived the retries; refusals derive elsewhere.
        raise UnavailableError(reason=_reason(error), retry_after=5) from error
    except stripe.StripeError as error:
        raise ProviderError(
            "The payment service refused the request.",
            reason=_reason(error),
            provider_code=error.code or type(error).__name__,
        ) from error


def _reason(error: stripe.StripeError) -> str:
    """Name the error without its message, which may repeat what was sent."""
    return f"stripe: {type(error).__name__} {error.http_status} {error.code} {error.request_id}"
