from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from tests.contract.stripe_support import Receiver, eventually, new_pack, new_session, sdk_client

pytest_plugins = ["tests.contract.stripe_fixtures"]

_KEY: Any = {"idempotency_key": "checkout:purchase_1"}


def _session_params(client: stripe.StripeClient) -> Any:
    return {
        "mode": "payment",
        "line_items": [{"price": new_pack(client), "quantity": 1}],
        "success_url": "http://127.0.0.1:9/ok",
    }


def test_a_repeated_call_is_replayed(client: stripe.StripeClient) -> None:
    """The same key gives the same session, marked as replayed, and makes no second one."""
    params = _session_params(client)
    first = client.v1.checkout.sessions.create(params, _KEY)
    again = client.v1.checkout.sessions.create(params, _KEY)

    assert again.to_dict() == first.to_dict()
    assert len(client.v1.checkout.sessions.list().data) == 1
    assert first.last_response is not None
    assert again.last_response is not None
    assert "idempotent-replayed" not in first.last_response.headers
    assert again.last_response.headers["idempotent-replayed"] == "true"
    assert again.last_response.headers["request-id"] != first.last_response.headers["request-id"]


def test_a_replay_shows_the_past(standin: Stripe, client: stripe.StripeClient) -> None:
    """A replay after the session's end still says open, with a URL that is dead by now."""
    params = _session_params(client)
    first = client.v1.checkout.sessions.create(params, _KEY)
    standin.expire(first.id)

    assert client.v1.checkout.sessions.create(params, _KEY).status == "open"
    assert client.v1.checkout.sessions.retrieve(first.id).status == "expired"


def test_an_error_is_replayed_too(standin: Stripe, client: stripe.StripeClient) -> None:
    """A call that executed and failed keeps failing the same way, whatever changed since."""
    session = new_session(client)
    intent = standin.pay(session.id)["payment_intent"]
    refund = client.v1.refunds.create({"payment_intent": intent})
    with pytest.raises(stripe.InvalidRequestError, match="already been refunded"):
        client.v1.refunds.create({"payment_intent": intent}, _KEY)
    standin.fail_refund(refund.id)

    with pytest.raises(stripe.InvalidRequestError, match="already been refunded") as replayed:
        client.v1.refunds.create({"payment_intent": intent}, _KEY)
    assert replayed.value.headers is not None
    assert replayed.value.headers["idempotent-replayed"] == "true"


def test_a_crash_is_replayed_too(
    standin: Stripe, client: stripe.StripeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 500 is an api_error in Stripe's shape, kept like any other answer."""
    with monkeypatch.context() as broken:
        broken.setattr(standin.state, "add", lambda _thing: 1 / 0)
        with pytest.raises(stripe.APIError, match="ZeroDivisionError"):
            client.v1.customers.create({}, _KEY)

    with pytest.raises(stripe.APIError, match="ZeroDivisionError"):
        client.v1.customers.create({}, _KEY)


def test_refused_parameters_do_not_use_up_a_key(client: stripe.StripeClient) -> None:
    """A call refused before it executed may be corrected under the same key."""
    wrong: Any = {"emial": "a@example.com"}
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        client.v1.customers.create(wrong, _KEY)

    assert client.v1.customers.create({"email": "a@example.com"}, _KEY).email == "a@example.com"


def test_a_key_is_for_one_call(client: stripe.StripeClient) -> None:
    """Other parameters or another path under a used key are an idempotency error."""
    client.v1.customers.create({"email": "a@example.com"}, _KEY)

    with pytest.raises(stripe.IdempotencyError) as other:
        client.v1.customers.create({"email": "b@example.com"}, _KEY)
    with pytest.raises(stripe.IdempotencyError):
        client.v1.products.create({"name": "a@example.com"}, _KEY)
    assert other.value.http_status == 400
    assert len(client.v1.customers.list().data) == 1


def test_a_key_has_a_length(client: stripe.StripeClient) -> None:
    """A key over 255 characters is refused."""
    client.v1.customers.create({}, {"idempotency_key": "k" * 255})
    with pytest.raises(stripe.InvalidRequestError, match="255"):
        client.v1.customers.create({}, {"idempotency_key": "k" * 256})


def test_a_key_in_use_conflicts(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """While the first call runs, a second one with its key gets 409, and the answer later."""
    standin.webhook_faults.early = True
    receiver.hold.clear()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.v1.customers.create, {}, _KEY)
        eventually(lambda: any(r.path == "/webhook" for r in receiver.requests))
        with pytest.raises(stripe.APIError) as conflict:
            client.v1.customers.create({}, _KEY)
        receiver.hold.set()
        made = first.result(5)

    assert conflict.value.http_status == 409
    body: Any = conflict.value.json_body
    assert body["error"]["code"] == "idempotency_key_in_use"
    assert client.v1.customers.create({}, _KEY).id == made.id


def test_one_of_many_at_once_executes(standin: Stripe, client: stripe.StripeClient) -> None:
    """Eight callers at one moment with one key make one customer, and all learn its id."""
    gate = threading.Barrier(8)

    def create() -> str:
        gate.wait()
        with sdk_client(standin, max_network_retries=3) as own:
            return own.v1.customers.create({}, _KEY).id

    with ThreadPoolExecutor(8) as pool:
        ids = {done.result() for done in [pool.submit(create) for _ in range(8)]}

    assert ids == {client.v1.customers.list().data[0].id}


def test_a_lost_answer_is_found_again(standin: Stripe, client: stripe.StripeClient) -> None:
    """The session exists although its answer was lost; the same key brings it back."""
    params = _session_params(client)
    standin.faults.add("lose_answer", "POST /v1/checkout/sessions", times=1)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.checkout.sessions.create(params, _KEY)
    (kept,) = client.v1.checkout.sessions.list().data

    assert client.v1.checkout.sessions.create(params, _KEY).id == kept.id
    assert len(client.v1.checkout.sessions.list().data) == 1


def test_the_sdk_survives_a_lost_answer_by_itself(standin: Stripe) -> None:
    """With retries on, the SDK repeats under its own key and never makes a second session."""
    with sdk_client(standin, max_network_retries=1) as client:
        params = _session_params(client)
        standin.faults.add("lose_answer", "POST /v1/checkout/sessions", times=1)
        session = client.v1.checkout.sessions.create(params)

        assert [s.id for s in client.v1.checkout.sessions.list().data] == [session.id]


@pytest.mark.parametrize("status", [500, 429, 409])
def test_api_faults_strike_before_anything_happens(
    standin: Stripe, client: stripe.StripeClient, status: int
) -> None:
    """A forced status creates nothing and does not use up the key."""
    standin.faults.add("status", "POST /v1/customers", times=1, status=status, body=b"{}")
    with pytest.raises(stripe.StripeError):
        client.v1.customers.create({}, _KEY)

    assert client.v1.customers.list().data == []
    assert client.v1.customers.create({}, _KEY).id


def test_an_answer_may_come_late(standin: Stripe, client: stripe.StripeClient) -> None:
    """A delayed call succeeds after the delay."""
    standin.faults.add("delay", "POST /v1/customers", seconds=0.1)
    started = time.monotonic()
    client.v1.customers.create()

    assert time.monotonic() - started >= 0.1
