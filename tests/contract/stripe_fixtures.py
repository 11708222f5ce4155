"""Fixtures of the Stripe tests: the stand-in, the real SDK pointed at it, a webhook receiver."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_support import API_KEY, SECRET, Receiver, sdk_client


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a webhook receiver that verifies every delivery."""
    with Receiver() as running:
        yield running


@pytest.fixture
def standin(receiver: Receiver) -> Iterator[Stripe]:
    """Yield a stand-in for Stripe that delivers to the receiver and retries without delay."""
    with Stripe(API_KEY, f"{receiver.url}/webhook", SECRET) as running:
        running.webhooks.backoff = (0.01, 0.01)
        yield running
        running.webhook_faults.reset()


@pytest.fixture
def client(standin: Stripe) -> Iterator[stripe.StripeClient]:
    """Yield the SDK's client, pointed at the stand-in."""
    with sdk_client(standin) as built:
        yield built
