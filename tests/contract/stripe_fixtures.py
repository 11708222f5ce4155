"""Fixtures of the Stripe tests: the stand-in, the real SDK pointed at it, a webhook receiver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_support import API_KEY, SECRET, Receiver, sdk_client


@pytest.fixture(scope="module")
def receiver_server() -> Iterator[Receiver]:
    """Yield the running receiver of one module."""
    with Receiver() as running:
        yield running


@pytest.fixture
def receiver(receiver_server: Receiver) -> Receiver:
    """Return a webhook receiver that verifies every delivery and has seen none yet."""
    receiver_server.forget()
    return receiver_server


@pytest.fixture
def standin(receiver: Receiver) -> Iterator[Stripe]:
    """Yield a stand-in for Stripe that delivers to the receiver and retries without delay."""
    with Stripe(API_KEY, f"{receiver.url}/webhook", SECRET) as running:
        running.webhooks.backoff = (0.01, 0.01)
        yield running
        receiver.hold.set()
    running.drain()  # or the next test would hear of this one


@pytest.fixture
def client(standin: Stripe) -> Iterator[stripe.StripeClient]:
    """Yield the SDK's client, pointed at the stand-in."""
    with sdk_client(standin) as built:
        yield built
