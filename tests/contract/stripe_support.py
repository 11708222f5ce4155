"""What the Stripe tests share: a receiver that verifies by the SDK, a client, a pack to buy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import stripe

from local.standins.server import Request, Response, StandIn
from local.standins.stripe import Stripe

API_KEY = "sk_test_contract"
SECRET = "whsec_contract"


class Receiver(StandIn):
    """A webhook endpoint as a careful product writes one: verify, note, answer."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = threading.Event()
        self.route("POST", "/webhook", self._receive)
        self.forget()

    def forget(self) -> None:
        """Be as new: nothing received, every answer 200, at once."""
        self.requests.clear()
        self.received: list[tuple[stripe.Event, bytes]] = []
        self.refused: list[Exception] = []
        self.answers: list[int] = []
        self.on_event: Callable[[stripe.Event], object] = lambda _event: None
        self.hold.set()

    @property
    def events(self) -> list[stripe.Event]:
        """The events received and verified, in order."""
        return [event for event, _body in self.received]

    @property
    def types(self) -> list[str]:
        """Their types."""
        return [str(event.type) for event in self.events]

    def _receive(self, request: Request) -> Response:
        self.hold.wait(5)
        try:
            event = stripe.Webhook.construct_event(
                request.body, request.headers["stripe-signature"], SECRET
            )
        except stripe.SignatureVerificationError as error:
            self.refused.append(error)
            return Response(400)
        self.received.append((event, request.body))
        self.on_event(event)
        return Response(self.answers.pop(0) if self.answers else 200)


@contextmanager
def sdk_client(
    standin: Stripe, api_key: str = API_KEY, **options: Any
) -> Iterator[stripe.StripeClient]:
    """Yield an SDK client pointed at a stand-in, with its telemetry off."""
    stripe.enable_telemetry = False
    http: Any = stripe.RequestsClient(timeout=(2, 8))
    addresses: Any = dict.fromkeys(("api", "files", "connect", "meter_events"), standin.url)
    options.setdefault("max_network_retries", 0)
    try:
        yield stripe.StripeClient(api_key, http_client=http, base_addresses=addresses, **options)
    finally:
        http.close()


def new_pack(client: stripe.StripeClient, amount: int = 999, key: str = "pack_small") -> str:
    """Create a product with a one-time price; return the price's id."""
    product = client.v1.products.create({"name": "100 credits"})
    price = client.v1.prices.create(
        {"product": product.id, "currency": "usd", "unit_amount": amount, "lookup_key": key}
    )
    return price.id


def new_session(client: stripe.StripeClient, **changes: Any) -> stripe.checkout.Session:
    """Create a checkout session of one pack for a new customer."""
    params: dict[str, Any] = {
        "mode": "payment",
        "client_reference_id": "purchase_1",
        "metadata": {"purchase_id": "purchase_1"},
        "payment_intent_data": {"metadata": {"purchase_id": "purchase_1"}},
        "success_url": "http://127.0.0.1:9/done?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://127.0.0.1:9/back",
        **changes,
    }
    if "line_items" not in params:
        params["line_items"] = [{"price": new_pack(client), "quantity": 1}]
    return client.v1.checkout.sessions.create(params)  # type: ignore[arg-type]


def new_plan(
    client: stripe.StripeClient, amount: int = 2900, interval: str = "month", name: str = "Pro"
) -> str:
    """Create a product with a recurring price; return the price's id."""
    params: Any = {
        "product_data": {"name": name},
        "currency": "usd",
        "unit_amount": amount,
        "recurring": {"interval": interval},
    }
    return client.v1.prices.create(params).id


def plan_session(
    client: stripe.StripeClient, price: str, customer: str | None = None, **changes: Any
) -> stripe.checkout.Session:
    """Create a checkout session that subscribes to a price."""
    params: dict[str, Any] = {
        "mode": "subscription",
        "client_reference_id": "user_1",
        "line_items": [{"price": price, "quantity": 1}],
        "subscription_data": {"metadata": {"user_id": "user_1"}},
        "success_url": "http://127.0.0.1:9/done?session={CHECKOUT_SESSION_ID}",
        **({"customer": customer} if customer else {}),
        **changes,
    }
    return client.v1.checkout.sessions.create(params)  # type: ignore[arg-type]


def subscribe(
    standin: Stripe, client: stripe.StripeClient, price: str, **changes: Any
) -> stripe.Subscription:
    """Buy a plan by card; return the subscription as the API shows it."""
    paid = standin.pay(plan_session(client, price, **changes).id)
    return client.v1.subscriptions.retrieve(paid["subscription"])


def invoices_of(client: stripe.StripeClient, subscription: str) -> list[stripe.Invoice]:
    """Return the invoices of a subscription, oldest first."""
    return client.v1.invoices.list({"subscription": subscription, "limit": 100}).data[::-1]


def eventually(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until `holds()`; fails the test when it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)
