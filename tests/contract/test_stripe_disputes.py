from __future__ import annotations

from typing import Any

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_wire import StripeError
from tests.contract.stripe_support import (
    Receiver,
    invoices_of,
    new_pack,
    new_plan,
    new_session,
    subscribe,
)

pytest_plugins = ["tests.contract.stripe_fixtures"]

_OPENED = ["charge.dispute.created", "charge.dispute.funds_withdrawn"]
_CLOSED = ["charge.dispute.updated", "charge.dispute.closed"]


@pytest.fixture
def intent(standin: Stripe, client: stripe.StripeClient, receiver: Receiver) -> str:
    """Return the payment intent of a bought pack, its webhooks behind us."""
    bought = str(standin.pay(new_session(client).id)["payment_intent"])
    standin.drain()
    receiver.received.clear()
    return bought


def _moved(dispute: Any) -> list[int]:
    return [transaction.amount for transaction in dispute.balance_transactions]


def test_a_dispute_takes_the_money_when_it_opens(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, intent: str
) -> None:
    """Created, then withdrawn; the charge is disputed and cannot be refunded."""
    opened = standin.open_dispute(intent)
    standin.drain()

    assert receiver.types == _OPENED
    created, withdrawn = (event.data.object for event in receiver.events)
    assert (created.status, _moved(created), _moved(withdrawn)) == ("needs_response", [], [-999])
    kept = client.v1.disputes.retrieve(opened["id"])
    assert (kept.amount, kept.payment_intent, kept.is_charge_refundable) == (999, intent, False)
    assert client.v1.charges.retrieve(str(kept.charge)).disputed is True
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"payment_intent": intent})
    assert refused.value.code == "charge_disputed"
    for query in ({"payment_intent": intent}, {"charge": str(kept.charge)}):
        assert [d.id for d in client.v1.disputes.list(query).data] == [kept.id]  # type: ignore[arg-type]


def test_a_won_dispute_gives_it_back(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, intent: str
) -> None:
    """Answered, won: reinstated, updated, closed, and refundable again."""
    dispute = standin.open_dispute(intent)["id"]
    standin.answer_dispute(dispute)
    standin.drain()
    receiver.received.clear()
    standin.close_dispute(dispute, "won")
    standin.drain()

    assert receiver.types == ["charge.dispute.funds_reinstated", *_CLOSED]
    assert receiver.events[-1].data.previous_attributes is not None
    assert receiver.events[-1].data.previous_attributes.to_dict() == {"status": "under_review"}
    kept = client.v1.disputes.retrieve(dispute)
    assert (kept.status, _moved(kept)) == ("won", [-999, 999])
    assert client.v1.refunds.create({"payment_intent": intent}).amount == 999
    with pytest.raises(StripeError, match="status won"):
        standin.close_dispute(dispute, "lost")


def test_a_lost_dispute_may_be_appealed(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, intent: str
) -> None:
    """Lost keeps the money; an appeal that is won brings it back after all."""
    dispute = standin.open_dispute(intent)["id"]
    standin.drain()
    standin.close_dispute(dispute, "lost")
    standin.drain()
    assert receiver.types == [*_OPENED, *_CLOSED]
    assert _moved(client.v1.disputes.retrieve(dispute)) == [-999]
    assert standin.appeal(dispute)["status"] == "appeal_under_review"
    standin.drain()
    receiver.received.clear()

    standin.close_dispute(dispute, "won")
    standin.drain()

    assert receiver.types == ["charge.dispute.funds_reinstated", *_CLOSED]
    assert _moved(client.v1.disputes.retrieve(dispute)) == [-999, 999]
    with pytest.raises(StripeError, match="status won"):
        standin.appeal(dispute)


def test_an_inquiry_moves_no_money(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, intent: str
) -> None:
    """A warning opens and closes; the charge can be refunded all the while."""
    dispute = standin.open_dispute(intent, inquiry=True)
    assert dispute["status"] == "warning_needs_response"
    assert client.v1.refunds.create({"payment_intent": intent, "amount": 99}).amount == 99
    assert standin.answer_dispute(dispute["id"])["status"] == "warning_under_review"
    with pytest.raises(StripeError, match="warning_under_review"):
        standin.close_dispute(dispute["id"], "won")
    standin.close_dispute(dispute["id"], "warning_closed")
    standin.drain()

    assert not {"charge.dispute.funds_withdrawn", "charge.dispute.funds_reinstated"} & set(
        receiver.types
    )
    assert _moved(client.v1.disputes.retrieve(dispute["id"])) == []


def test_an_inquiry_may_become_a_dispute(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, intent: str
) -> None:
    """The same dispute needs a response now, and its money is gone."""
    dispute = standin.open_dispute(intent, 500, inquiry=True)["id"]
    standin.drain()
    standin.escalate_dispute(dispute)
    standin.drain()

    assert receiver.types == [
        "charge.dispute.created",
        "charge.dispute.updated",
        "charge.dispute.funds_withdrawn",
    ]
    assert _moved(client.v1.disputes.retrieve(dispute)) == [-500]
    with pytest.raises(StripeError, match="needs_response"):
        standin.escalate_dispute(dispute)


@pytest.mark.parametrize("moved", [[], [-999, 999]])
def test_a_prevented_dispute_moves_nothing_in_sum(
    standin: Stripe, client: stripe.StripeClient, intent: str, moved: list[int]
) -> None:
    """Prevented says nothing by itself: the balance transactions do."""
    dispute = standin.open_dispute(intent, inquiry=not moved)["id"]
    assert standin.close_dispute(dispute, "prevented")["status"] == "prevented"
    assert _moved(client.v1.disputes.retrieve(dispute)) == moved


def test_a_dispute_may_follow_a_partial_refund(
    standin: Stripe, client: stripe.StripeClient, intent: str
) -> None:
    """It is about the whole charge unless told otherwise; more than that cannot be."""
    client.v1.refunds.create({"payment_intent": intent, "amount": 500})
    assert standin.open_dispute(intent)["amount"] == 999
    for wrong in (0, 1000):
        with pytest.raises(StripeError, match="charge is of 999"):
            standin.open_dispute(intent, wrong)
    declined = standin.decline(new_session(client, line_items=_lines(client)).id)
    with pytest.raises(StripeError, match="successful charge"):
        standin.open_dispute(declined["payment_intent"])
    with pytest.raises(StripeError, match="not closed as forgotten"):
        standin.close_dispute(client.v1.disputes.list().data[0].id, "forgotten")


def _lines(client: stripe.StripeClient) -> list[dict[str, object]]:
    return [{"price": new_pack(client, 500, "other"), "quantity": 1}]


def test_an_invoice_is_refunded_and_disputed_by_its_payment(
    standin: Stripe, client: stripe.StripeClient
) -> None:
    """Only the payment intent links them: neither refund nor dispute names the invoice."""
    subscription = subscribe(standin, client, new_plan(client))
    (invoice,) = invoices_of(client, subscription.id)
    (payment,) = client.v1.invoice_payments.list({"invoice": invoice.id}).data
    intent = str(payment.payment.payment_intent)
    refund = standin.refund(intent, 900)
    dispute = standin.open_dispute(intent, 2000)
    assert refund["payment_intent"] == dispute["payment_intent"] == intent
    assert invoice.id not in str(refund) + str(dispute)


def test_a_refund_may_be_on_its_way(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver, intent: str
) -> None:
    """Pending says why; it arrives, fails or is given up, and its money counts accordingly."""
    arrives, fails, given_up = (standin.refund(intent, 300, "pending") for _ in range(3))
    assert (arrives["status"], arrives["pending_reason"]) == ("pending", "processing")
    standin.settle_refund(arrives["id"])
    standin.fail_refund(fails["id"])
    client.v1.refunds.cancel(given_up["id"])
    standin.drain()

    statuses = {r.id: r.status for r in client.v1.refunds.list({"payment_intent": intent}).data}
    assert [statuses[r["id"]] for r in (arrives, fails, given_up)] == [
        *("succeeded", "failed", "canceled"),
    ]
    (charge,) = client.v1.charges.list({"payment_intent": intent}).data
    assert charge.amount_refunded == 300
    assert receiver.types.count("refund.updated") == 3
    with pytest.raises(StripeError, match="status succeeded"):
        standin.settle_refund(arrives["id"])
    with pytest.raises(StripeError, match="begin as failed"):
        standin.refund(intent, status="failed")
