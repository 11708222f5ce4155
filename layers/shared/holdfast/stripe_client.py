"""
Calls that change something at Stripe: customers, payment pages, portal pages.

Every one may be repeated: it carries an idempotency key, makes a page that nobody has seen yet, or closes one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

import stripe

from holdfast.errors import ProviderError, UnavailableError

if TYPE_CHECKING:
    from stripe.params.checkout import SessionCreateParams

CONNECT_SECONDS = 2.0


@dataclass(frozen=True)
class CheckoutOrder:
    """What is about to be bought: a purchase, its price at Stripe, and whether that renews."""

    id: UUID
    user_id: UUID
    price_id: str
    is_plan: bool
    trial_days: int = 0


@dataclass(frozen=True)
class CheckoutSession:
    """A new Checkout Session: the page to send the user to."""

    id: str
    url: str


class CustomerGoneError(Exception):
    """Stripe has no such customer any more."""


def connect(
    api_key: str,
    api_base: str | None = None,
    *,
    read_seconds: float = 6,
    retries: int = 2,
    http: stripe.HTTPClient | None = None,
) -> stripe.StripeClient:
    """
    Return a client of Stripe, or of what answers at `api_base`. `http` is replaced in tests.

    One attempt takes 2 seconds to connect and `read_seconds` for the answer at most; three of them and their waits end
    before API Gateway's 30 seconds do.
    """
    # Before the first request: telemetry wants a home directory, which Lambda may not have.
    stripe.enable_telemetry = False
    base: Any = {}
    if api_base:
        base = dict.fromkeys(("api", "files", "connect", "meter_events"), api_base)
    return stripe.StripeClient(
        api_key,
        base_addresses=base,
        http_client=http or stripe.RequestsClient(timeout=(CONNECT_SECONDS, read_seconds)),
        max_network_retries=retries,
    )


class StripeBilling:
    """
    Make and close things at Stripe.

    Raises `UnavailableError` when the outcome is unknown (the same call may be repeated), `ProviderError` when Stripe
    refused.
    """

    def __init__(self, client: stripe.StripeClient) -> None:
        self._client = client

    def create_session(
        self, order: CheckoutOrder, customer_id: str, success_url: str, cancel_url: str
    ) -> CheckoutSession:
        """
        Open the page on which `order` is paid.

        Repeating it for the same order and customer gives the same session, so the URLs must not vary. Raises
        `CustomerGoneError` when the customer was deleted.
        """
        names = {"user_id": str(order.user_id), "purchase_id": str(order.id)}
        params: SessionCreateParams = {
            "mode": "subscription" if order.is_plan else "payment",
            "customer": customer_id,
            "client_reference_id": str(order.id),
            "line_items": [{"quantity": 1, "price": order.price_id}],
            "metadata": names,
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        if order.is_plan:
            params["subscription_data"] = {"metadata": names}
            if order.trial_days:
                params["subscription_data"]["trial_period_days"] = order.trial_days
        else:
            params["payment_intent_data"] = {"metadata": names}
        with translated_errors(customer_id):
            # with the customer: a replaced one is another request
            session = self._client.v1.checkout.sessions.create(
                params, {"idempotency_key": f"checkout:{order.id}:{customer_id}"}
            )
        if session.url is None:
            raise ProviderError(reason="stripe: a session without a URL")
        return CheckoutSession(session.id, session.url)

    def expire_session(self, session_id: str) -> None:
        """Close an open payment page; raises `ProviderError` when it is not open."""
        with translated_errors():
            self._client.v1.checkout.sessions.expire(session_id)

    def create_customer(self, user_id: UUID, number: int) -> str:
        """Return the id of the user's `number`th customer, a new one unless it was just made."""
        # Nothing that can change: another e-mail under the same key would be refused.
        with translated_errors():
            customer = self._client.v1.customers.create(
                {"metadata": {"user_id": str(user_id)}},
                {"idempotency_key": f"cust:{user_id}:{number}"},
            )
        return customer.id

    def create_portal_session(self, customer_id: str, return_url: str) -> str:
        """
        Return the page on which a customer manages plan, cards and invoices.

        The URL lets in whoever has it: it is not to be logged or kept. Raises `CustomerGoneError`.
        """
        with translated_errors(customer_id):
            session = self._client.v1.billing_portal.sessions.create(
                {"customer": customer_id, "return_url": return_url}
            )
        return session.url


@contextmanager
def translated_errors(customer_id: str | None = None) -> Iterator[None]:
    """
    Turn Stripe's errors into ours: `UnavailableError` when the outcome is unknown, `ProviderError` for a refusal.

    With a `customer_id`, a refusal of just that customer is a `CustomerGoneError`.
    """
    try:
        yield
    except (stripe.APIConnectionError, stripe.RateLimitError, stripe.APIError) as error:
        # A plain APIError is a 409 or 5xx that outlived the retries; refusals derive elsewhere.
        raise UnavailableError(reason=_reason(error), retry_after=5) from error
    except stripe.InvalidRequestError as error:
        is_gone = error.code == "resource_missing" and error.param == "customer"
        if customer_id is not None and is_gone:
            raise CustomerGoneError from error
        raise _refusal(error) from error
    except stripe.StripeError as error:
        raise _refusal(error) from error


def _refusal(error: stripe.StripeError) -> ProviderError:
    return ProviderError(
        "The payment service refused the request.",
        reason=_reason(error),
        provider_code=error.code or type(error).__name__,
    )


def _reason(error: stripe.StripeError) -> str:
    """Name the error without its message, which may repeat what was sent."""
    return f"stripe: {type(error).__name__} {error.http_status} {error.code} {error.request_id}"
