from __future__ import annotations

import time

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_support import (
    API_KEY,
    SECRET,
    Receiver,
    new_plan,
    new_session,
    plan_session,
    sdk_client,
    subscribe,
)

pytest_plugins = ["tests.contract.stripe_fixtures"]


@pytest.mark.parametrize(
    ("status", "error"),
    [(500, stripe.APIError), (429, stripe.RateLimitError), (409, stripe.APIError)],
)
def test_the_next_calls_fail(
    standin: Stripe, client: stripe.StripeClient, status: int, error: type[stripe.StripeError]
) -> None:
    """So many calls fail as Stripe would, nothing is done, and the one after works."""
    standin.fail_next(2, status)
    for _ in range(2):
        with pytest.raises(error):
            client.v1.customers.create()
    client.v1.customers.create()
    assert len(client.v1.customers.list().data) == 1


def test_a_retry_outlives_a_failure(standin: Stripe) -> None:
    """The SDK repeats a 500 and a lost answer with the same key, and one customer is made."""
    with sdk_client(standin, max_network_retries=2) as client:
        standin.fail_next(1)
        standin.lose_next(1)
        client.v1.customers.create({"name": "once"})
        assert len(client.v1.customers.list().data) == 1


def test_a_lost_answer_is_a_done_deed(standin: Stripe, client: stripe.StripeClient) -> None:
    """Cut after the commit: the caller knows nothing, the same key tells it."""
    intent = str(standin.pay(new_session(client).id)["payment_intent"])
    standin.lose_next(1, "POST /v1/refunds")
    for _ in range(2):
        try:
            client.v1.refunds.create({"payment_intent": intent}, {"idempotency_key": "refund:1"})
        except stripe.APIConnectionError:
            continue
    assert [r.amount for r in client.v1.refunds.list().data] == [999]


def test_a_call_may_hang(standin: Stripe, client: stripe.StripeClient) -> None:
    """A slow answer comes after so many seconds, once."""
    standin.hang_next(0.3, 1, "GET /v1/prices")
    began = time.monotonic()
    client.v1.prices.list()
    client.v1.prices.list()
    assert 0.3 <= time.monotonic() - began < 5


def test_held_events_wait_for_their_release(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Hours late without waiting hours: kept, pending, then sent in another order."""
    standin.webhook_faults.hold = ("*",)
    subscribe(standin, client, new_plan(client))
    standin.drain()
    assert receiver.types == []
    pending = client.v1.events.list({"delivery_success": False, "limit": 100}).data
    standin.webhook_faults.reset()

    assert standin.release() == len(pending)
    standin.drain()

    assert sorted(receiver.types) == sorted(event.type for event in pending)
    assert client.v1.events.list({"delivery_success": False}).data == []
    assert standin.release() == 0


def test_chances_repeat_with_their_seed() -> None:
    """A third dropped, a third swallowed: the same events each time, others with another seed."""
    runs = []
    for seed in (1, 1, 2):
        with (
            Receiver() as receiver,
            Stripe(API_KEY, f"{receiver.url}/webhook", SECRET, seed=seed) as standin,
        ):
            standin.webhook_faults.switch({"drop_rate": 0.3, "swallow_rate": 0.3, "hold_rate": 0.1})
            events = [standin.build_event(f"made.up_{i}", {"id": "x"}) for i in range(60)]
            standin.webhooks.send(events).wait(10)
            standin.drain()
            runs.append([(d.type, d.fault) for d in standin.deliveries])
    assert runs[0] == runs[1] != runs[2]
    assert {fault for _type, fault in runs[0]} == {None, "dropped", "swallowed", "held"}


def test_everything_missed_is_sent_again(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """After an outage one call sends what was never taken, and nothing else."""
    session = plan_session(client, new_plan(client))
    standin.drain()
    receiver.received.clear()
    standin.webhook_faults.drop = ("invoice*",)
    standin.pay(session.id)
    standin.drain()
    standin.webhook_faults.reset()
    receiver.received.clear()

    assert standin.redeliver_undelivered() == 5
    standin.drain()

    assert all(kind.startswith("invoice") for kind in receiver.types)
    assert standin.redeliver_undelivered() == 0


def test_a_batch_of_a_subscription_is_shuffled(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """One change, another order than Stripe's, the same events."""
    session = plan_session(client, new_plan(client))
    standin.drain()
    receiver.received.clear()
    standin.webhook_faults.shuffle = True
    standin.pay(session.id)
    standin.drain()
    assert receiver.types[0] != "customer.created"
    assert set(receiver.types) >= {"invoice.paid", "checkout.session.completed"}
