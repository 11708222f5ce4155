from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_wire import StripeError
from tests.contract.stripe_support import Receiver, new_pack, new_session

pytest_plugins = ["tests.contract.stripe_fixtures"]


def test_a_pack_is_bought_end_to_end(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A payer pays, the webhook hears of it in Stripe's order, and the API shows the same."""
    customer = client.v1.customers.create({"email": "a@example.com"})
    session = new_session(client, customer=customer.id)
    assert (session.status, session.payment_status, session.payment_intent) == (
        "open",
        "unpaid",
        None,
    )
    standin.drain()

    standin.pay(session.id)
    standin.drain()

    assert receiver.types[-3:] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]
    told = receiver.events[-1].data.object
    assert (told.id, told.payment_status, told.amount_total) == (session.id, "paid", 999)
    assert told.client_reference_id == "purchase_1"
    assert told.customer_details.email == "a@example.com"
    assert "line_items" not in told
    kept = client.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items"]})
    assert (kept.status, kept.url) == ("complete", None)
    assert kept.line_items is not None
    (line,) = kept.line_items.data
    assert line.price is not None
    assert (line.price.lookup_key, line.quantity, line.amount_total) == ("pack_small", 1, 999)
    intent = client.v1.payment_intents.retrieve(str(kept.payment_intent))
    assert intent.metadata.to_dict() == {"purchase_id": "purchase_1"}
    assert (intent.status, intent.amount_received) == ("succeeded", 999)
    (found,) = client.v1.checkout.sessions.list({"payment_intent": intent.id}).data
    assert found.id == session.id


def test_a_delayed_payment_is_complete_before_it_is_paid(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Completed comes unpaid; async_payment_succeeded comes when the bank has answered."""
    session = new_session(client)
    standin.drain()
    standin.pay_delayed(session.id)
    standin.drain()
    assert receiver.types[-1] == "checkout.session.completed"
    assert receiver.events[-1].data.object.payment_status == "unpaid"

    standin.settle_delayed(session.id)
    standin.drain()

    assert receiver.types[-3:] == [
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.async_payment_succeeded",
    ]
    assert receiver.events[-1].data.object.payment_status == "paid"


def test_a_delayed_payment_may_fail(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A failed delayed payment leaves the session complete and unpaid, and settles once."""
    session = new_session(client)
    standin.pay_delayed(session.id)
    standin.settle_delayed(session.id, ok=False)
    standin.drain()

    assert "checkout.session.async_payment_failed" in receiver.types
    kept = client.v1.checkout.sessions.retrieve(session.id)
    assert (kept.status, kept.payment_status) == ("complete", "unpaid")
    with pytest.raises(StripeError, match="No delayed payment"):
        standin.settle_delayed(session.id)
    free = new_session(client, line_items=[{"price": new_pack(client, 0, "free"), "quantity": 1}])
    with pytest.raises(StripeError, match="nothing to pay"):
        standin.pay_delayed(free.id)


def test_a_declined_card_may_be_tried_again(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A decline leaves the session open; the next try charges the same payment intent."""
    session = new_session(client)
    standin.drain()
    standin.decline(session.id)
    standin.drain()
    assert receiver.types[-2:] == ["charge.failed", "payment_intent.payment_failed"]
    first = client.v1.checkout.sessions.retrieve(session.id)
    assert first.status == "open"

    paid = standin.pay(session.id)

    assert paid["payment_intent"] == first.payment_intent
    charges = client.v1.charges.list({"payment_intent": str(first.payment_intent)}).data
    assert [charge.status for charge in charges] == ["succeeded", "failed"]


def test_a_session_expires_once(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """An expired session has no URL, tells the webhook, and can be neither paid nor expired."""
    session = new_session(client)
    standin.drain()
    expired = client.v1.checkout.sessions.expire(session.id)
    standin.drain()

    assert (expired.status, expired.url) == ("expired", None)
    assert receiver.types[-1] == "checkout.session.expired"
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.checkout.sessions.expire(session.id)
    with pytest.raises(StripeError, match="status of expired"):
        standin.pay(session.id)


def test_a_session_expires_by_itself(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A session whose time is over is expired for whoever looks, and its payer comes too late."""
    session = new_session(client)
    standin.state.get("checkout.session", session.id)["expires_at"] = session.created

    with pytest.raises(StripeError, match="status of expired"):
        standin.pay(session.id)
    standin.drain()

    assert client.v1.checkout.sessions.retrieve(session.id).status == "expired"
    assert receiver.types.count("checkout.session.expired") == 1


def test_nothing_to_pay_needs_no_payment(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A session over zero completes as no_payment_required, without a payment intent."""
    free = new_pack(client, 0, "free")
    session = new_session(client, line_items=[{"price": free, "quantity": 1}])

    paid = standin.pay(session.id)

    assert (paid["payment_status"], paid["payment_intent"]) == ("no_payment_required", None)


def test_partial_refunds_add_up_to_the_charge(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Refunds sum on the charge, the last makes it refunded, and none goes beyond it."""
    intent = str(standin.pay(new_session(client).id)["payment_intent"])
    first = client.v1.refunds.create({"payment_intent": intent, "amount": 500})
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded") as over:
        client.v1.refunds.create({"payment_intent": intent, "amount": 500})
    standin.drain()
    rest = client.v1.refunds.create({"charge": str(first.charge)})
    with pytest.raises(stripe.InvalidRequestError) as again:
        client.v1.refunds.create({"payment_intent": intent})
    standin.drain()

    assert (first.amount, rest.amount, rest.status) == (500, 499, "succeeded")
    assert over.value.param == "amount"
    assert again.value.code == "charge_already_refunded"
    assert [r.id for r in client.v1.refunds.list({"payment_intent": intent}).data] == [
        rest.id,
        first.id,
    ]
    refunded = [e for e in receiver.events if e.type == "charge.refunded"]
    assert [(e.data.object.amount_refunded, e.data.object.refunded) for e in refunded] == [
        (500, False),
        (999, True),
    ]
    assert [e.data.previous_attributes.amount_refunded for e in refunded] == [0, 500]  # type: ignore[union-attr]
    assert receiver.types.count("refund.created") == 2


def test_a_refund_may_come_back(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A failed refund says why, and its money can be refunded again."""
    intent = str(standin.pay(new_session(client).id)["payment_intent"])
    refund = client.v1.refunds.create({"payment_intent": intent})
    standin.drain()
    standin.fail_refund(refund.id)
    standin.drain()

    failed = client.v1.refunds.retrieve(refund.id)
    assert (failed.status, failed.failure_reason) == ("failed", "expired_or_canceled_card")
    assert receiver.types[-3:] == ["refund.updated", "refund.failed", "charge.updated"]
    assert client.v1.refunds.create({"payment_intent": intent}).amount == 999
    with pytest.raises(StripeError, match="status failed"):
        standin.fail_refund(refund.id)


@pytest.mark.parametrize("act", [Stripe.decline, Stripe.pay_delayed])
def test_only_a_successful_charge_is_refunded(
    standin: Stripe, client: stripe.StripeClient, act: Callable[[Stripe, str], Any]
) -> None:
    """What was declined, or is still on its way, cannot be refunded."""
    intent = act(standin, new_session(client).id)["payment_intent"]

    with pytest.raises(stripe.InvalidRequestError, match="successful charge"):
        client.v1.refunds.create({"payment_intent": intent})


def test_an_unknown_payment_is_not_refunded(client: stripe.StripeClient) -> None:
    """An id that names nothing is an error of that parameter, not a 404 of the path."""
    with pytest.raises(stripe.InvalidRequestError, match="No such payment_intent") as refused:
        client.v1.refunds.create({"payment_intent": "pi_none"})

    assert (refused.value.http_status, refused.value.param) == (400, "payment_intent")
