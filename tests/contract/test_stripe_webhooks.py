from __future__ import annotations

import http.client
import json
import threading
from typing import Any

import pytest
import stripe

from local.standins.server import Response
from local.standins.stripe import Stripe
from local.standins.stripe_wire import API_VERSION
from tests.contract.stripe_support import (
    API_KEY,
    SECRET,
    Receiver,
    eventually,
    new_plan,
    new_session,
    subscribe,
)

pytest_plugins = ["tests.contract.stripe_fixtures"]

_PAID = ["charge.succeeded", "payment_intent.succeeded", "checkout.session.completed"]


@pytest.fixture
def session(standin: Stripe, client: stripe.StripeClient, receiver: Receiver) -> str:
    """Return the id of an open session, the webhooks of its making behind us."""
    made = new_session(client)
    standin.drain()
    receiver.received.clear()
    standin.webhooks.log.clear()
    return made.id


def test_a_delivery_looks_like_stripes(standin: Stripe, session: str, receiver: Receiver) -> None:
    """A delivery is a JSON POST whose signature the SDK accepts over the raw body."""
    standin.pay(session)
    standin.drain()

    request = receiver.requests[-1]
    assert request.method == "POST"
    assert request.headers["content-type"].startswith("application/json")
    assert receiver.refused == []
    event = receiver.events[-1]
    assert (event.api_version, event.livemode, event.pending_webhooks) == (API_VERSION, False, 1)


def test_a_failure_is_retried_until_it_is_taken(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """500, 302 and no answer are failures; each attempt is signed anew; a 2xx ends it."""
    standin.webhooks.backoff = (0.01, 1.1, 0.01)
    receiver.answers = [500, 302, 204]
    standin.webhooks.enabled_events = ("checkout.session.completed",)
    standin.pay(session)
    standin.drain()

    assert [(d.attempt, d.status, d.delivered) for d in standin.deliveries] == [
        (1, 500, False),
        (2, 302, False),
        (3, 204, True),
    ]
    assert len({event.id for event in receiver.events}) == 1
    signatures = [r.headers["stripe-signature"] for r in receiver.requests[-3:]]
    assert len({header.split(",")[0] for header in signatures}) >= 2
    assert client.v1.events.list({"delivery_success": False}).data == []


def test_what_is_never_taken_stays_pending(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """After the last attempt the event is listed as undelivered, and may be sent again."""
    receiver.answers = [200, 200, 500, 500, 500]
    standin.pay(session)
    standin.drain()

    (lost,) = client.v1.events.list({"delivery_success": False}).data
    assert (lost.type, lost.pending_webhooks) == ("checkout.session.completed", 1)
    assert [d.attempt for d in standin.deliveries if d.event_id == lost.id] == [1, 2, 3]
    standin.redeliver(lost.id)
    standin.drain()
    assert client.v1.events.list({"delivery_success": False}).data == []
    assert receiver.events[-1].id == lost.id


def test_a_receiver_that_is_down_is_no_error(standin: Stripe, session: str) -> None:
    """Nobody listening: attempts without a status, and the payment stands."""
    standin.webhook_url = "http://127.0.0.1:9/webhook"
    standin.pay(session)
    standin.drain()

    assert {d.status for d in standin.deliveries} == {None}
    assert len(standin.deliveries) == 9


def test_without_an_endpoint_nothing_is_pending(
    standin: Stripe, client: stripe.StripeClient, session: str
) -> None:
    """No webhook URL: events are kept and count as delivered to all of no endpoints."""
    standin.webhook_url = None
    standin.pay(session)
    standin.drain()

    assert standin.deliveries == []
    (event,) = client.v1.events.list({"type": "checkout.session.completed"}).data
    assert event.pending_webhooks == 0


def test_only_enabled_events_are_sent(standin: Stripe, session: str, receiver: Receiver) -> None:
    """An endpoint gets the types it subscribed to."""
    standin.webhooks.enabled_events = ("checkout.session.*",)
    standin.pay(session)
    standin.drain()

    assert receiver.types == ["checkout.session.completed"]


def test_events_are_listed_by_type_and_cursor(
    standin: Stripe, client: stripe.StripeClient, session: str
) -> None:
    """Events filter by one type, a wildcard or several, and page like everything else."""
    standin.pay(session)
    listed = client.v1.events.list

    assert [e.type for e in listed({"types": _PAID}).data] == _PAID[::-1]
    assert [e.type for e in listed({"type": "payment_intent.*"}).data] == [_PAID[1]]
    newest, older = listed({"types": _PAID, "limit": 2}).data
    assert [e.id for e in listed({"types": _PAID, "ending_before": older.id}).data] == [newest.id]
    assert client.v1.events.retrieve(newest.id).type == newest.type
    with pytest.raises(stripe.InvalidRequestError, match="type, types"):
        listed({"type": "charge.succeeded", "types": _PAID})


def test_an_event_names_the_call_that_caused_it(client: stripe.StripeClient) -> None:
    """`request` holds the id of the API call and its idempotency key."""
    made = client.v1.customers.create({}, {"idempotency_key": "cust:1"})
    (event,) = client.v1.events.list({"type": "customer.created"}).data

    assert event.request is not None
    assert made.last_response is not None
    assert event.request.idempotency_key == "cust:1"
    assert event.request.id == made.last_response.headers["request-id"]


def test_duplicates_arrive_again(standin: Stripe, session: str, receiver: Receiver) -> None:
    """Two extra copies make three deliveries of one event id each."""
    standin.webhook_faults.duplicates = 2
    standin.pay(session)
    standin.drain()

    assert receiver.types == [kind for kind in _PAID for _ in range(3)]
    assert len({event.id for event in receiver.events}) == 3


def test_duplicates_may_arrive_at_once(standin: Stripe, session: str, receiver: Receiver) -> None:
    """Concurrent copies are all inside the receiver at the same moment."""
    together = threading.Barrier(4)
    receiver.on_event = lambda _event: together.wait(5)
    standin.webhook_faults.duplicates = 3
    standin.webhook_faults.concurrent = True
    standin.webhooks.enabled_events = ("checkout.session.completed",)
    standin.pay(session)
    standin.drain()

    assert [d.status for d in standin.deliveries] == [200] * 4
    assert len({event.id for event in receiver.events}) == 1


def test_twins_have_ids_of_their_own(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """One change, two events: same object, different ids, both known to the API."""
    standin.webhook_faults.twin = True
    standin.pay(session)
    standin.drain()

    first, second = receiver.events[-2:]
    assert first.type == second.type == "checkout.session.completed"
    assert first.id != second.id
    assert first.data.object.to_dict() == second.data.object.to_dict()
    assert client.v1.events.retrieve(second.id).id == second.id


def test_shuffling_changes_the_order_the_same_way_each_time() -> None:
    """Events of one change leave out of order, and a new stand-in repeats the same orders."""
    runs = []
    for _ in range(2):
        with Receiver() as receiver, Stripe(API_KEY, f"{receiver.url}/webhook", SECRET) as standin:
            standin.webhook_faults.shuffle = True
            for _ in range(5):
                events = [standin.build_event(kind, {"id": "x"}) for kind in _PAID]
                standin.webhooks.send(events).wait(5)
            standin.drain()
            runs.append(receiver.types)

    assert runs[0] == runs[1]
    assert runs[0] != _PAID * 5
    assert sorted(runs[0]) == sorted(_PAID * 5)


def test_dropped_events_stay_pending(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """A dropped event never arrives and is found by asking for undelivered ones."""
    standin.webhook_faults.drop = ("checkout.session.*",)
    standin.pay(session)
    standin.drain()

    assert receiver.types == _PAID[:2]
    (missed,) = client.v1.events.list({"delivery_success": False}).data
    assert missed.type == "checkout.session.completed"
    assert [d.fault for d in standin.deliveries] == [None, None, "dropped"]


def test_swallowed_events_count_as_delivered(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """A swallowed event never arrives, and Stripe believes it did: only objects tell of it."""
    standin.webhook_faults.swallow = ("checkout.session.completed",)
    standin.pay(session)
    standin.drain()

    assert receiver.types == _PAID[:2]
    assert client.v1.events.list({"delivery_success": False}).data == []
    assert [s.id for s in client.v1.checkout.sessions.list({"status": "complete"}).data] == [
        session
    ]


def test_a_delayed_event_is_overtaken(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """A delayed type arrives after what followed it; draining waits for it."""
    standin.webhook_faults.delay = {"checkout.session.completed": 0.3}
    intent = standin.pay(session)["payment_intent"]
    client.v1.refunds.create({"payment_intent": intent})
    standin.drain()

    assert receiver.types[-1] == "checkout.session.completed"
    assert set(receiver.types[:-1]) == {*_PAID[:2], "refund.created", "charge.refunded"}


def test_an_answer_does_not_wait_for_its_webhook(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """The API answers while the webhook is still at work."""
    receiver.hold.clear()
    client.v1.customers.create()
    assert receiver.types == []

    receiver.hold.set()
    standin.drain()
    assert receiver.types == ["customer.created"]


def test_an_early_webhook_is_answered_before_the_api_answers(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Switched to early, the webhook is through when the caller learns the new id."""
    standin.webhook_faults.early = True
    client.v1.customers.create()

    assert receiver.types == ["customer.created"]


def test_an_early_webhook_comes_before_a_lost_answer(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """Early and lost together: the world knows what the caller does not."""
    standin.webhook_faults.early = True
    standin.faults.add("lose_answer", "POST /v1/customers", times=1)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create()

    assert receiver.types == ["customer.created"]


@pytest.mark.parametrize(
    ("fault", "message"),
    [("bad_secret", "No signatures found"), ("stale_timestamp", "outside the tolerance")],
)
def test_bad_signatures_are_refused(
    standin: Stripe, session: str, receiver: Receiver, fault: str, message: str
) -> None:
    """A wrong secret and an old timestamp each fail verification in their own way."""
    standin.webhook_faults.switch({fault: True})
    standin.pay(session)
    standin.drain()

    assert receiver.events == []
    assert len(receiver.refused) == 9
    assert all(message in str(error) for error in receiver.refused)


def test_other_version_and_mode_pass_the_signature(
    standin: Stripe, session: str, receiver: Receiver
) -> None:
    """An event of another version or of live mode verifies: only its content gives it away."""
    standin.webhook_faults.switch({"api_version": "2020-08-27", "livemode": True})
    standin.pay(session)
    standin.drain()

    assert {(e.api_version, e.livemode) for e in receiver.events} == {("2020-08-27", True)}


def test_two_secrets_sign_while_one_is_rolled(
    standin: Stripe, session: str, receiver: Receiver
) -> None:
    """Both signatures are there, and the old receiver still finds its own."""
    standin.webhook_faults.second_secret = "whsec_next"
    standin.pay(session)
    standin.drain()

    assert len(receiver.events) == 3
    request = receiver.requests[-1]
    assert request.headers["stripe-signature"].count("v1=") == 2
    stripe.Webhook.construct_event(request.body, request.headers["stripe-signature"], "whsec_next")


def test_reset_switches_every_fault_off(standin: Stripe, session: str, receiver: Receiver) -> None:
    """After a reset deliveries are as they were at first."""
    faults = standin.webhook_faults
    faults.switch({"drop": ["*"], "duplicates": 4, "bad_secret": True, "delay": {"*": 9}})
    faults.reset()
    standin.pay(session)
    standin.drain()

    assert receiver.types == _PAID
    with pytest.raises(ValueError, match="no such webhook fault: dorp"):
        faults.switch({"dorp": []})


def test_events_may_be_forged(standin: Stripe, receiver: Receiver) -> None:
    """A test builds, changes, signs and sends what the API would never send."""
    event = standin.build_event("charge.exotic", {"id": "ch_1", "object": "charge"}, livemode=True)

    assert standin.deliver(event) == 200
    assert receiver.types[-1] == "charge.exotic"
    assert receiver.events[-1].livemode is True
    body = json.dumps(event).encode()
    stripe.Webhook.construct_event(body, standin.sign(body), SECRET)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(body, standin.sign(body, "whsec_other"), SECRET)
    with pytest.raises(stripe.SignatureVerificationError, match="tolerance"):
        stripe.Webhook.construct_event(body, standin.sign(body, timestamp=1), SECRET)
    standin.webhook_url = None
    assert standin.deliver(event) is None


@pytest.mark.parametrize("body", [b"{}", "\u00e9\u4e2d".encode(), b"", b'{"a": "b\\n"}'])
def test_the_sdk_signs_as_the_standin_does(standin: Stripe, body: bytes) -> None:
    """Two implementations of the signature agree on any text."""
    ours = standin.sign(body, timestamp=1_795_000_000)
    theirs = stripe.WebhookSignature.generate_signature_header(
        body.decode(), SECRET, timestamp=1_795_000_000
    )

    assert ours == theirs


def test_draining_gives_up(standin: Stripe, session: str, receiver: Receiver) -> None:
    """A delivery that does not end makes draining raise instead of pass."""
    receiver.hold.clear()
    standin.pay(session)
    with pytest.raises(TimeoutError, match="unfinished"):
        standin.drain(0.05)
    receiver.hold.set()
    standin.drain()


def test_stopping_gives_up_what_is_not_sent(receiver: Receiver) -> None:
    """A stopped stand-in neither retries nor sends what is delayed, and does not linger."""
    receiver.answers = [500]
    with Stripe(API_KEY, f"{receiver.url}/webhook", SECRET) as standin:
        standin.webhooks.backoff = (60.0,)
        standin.webhook_faults.delay = {"late.*": 60.0}
        events = [standin.build_event(kind, {}) for kind in ("refused.once", "late.event")]
        standin.webhooks.send(events).wait(5)
    standin.drain(1)
    standin.webhooks.send(events)
    standin.drain(1)

    assert receiver.types == ["refused.once"]


def _control(
    standin: Stripe, method: str, name: str, body: dict[str, Any] | None = None
) -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", int(standin.url.rsplit(":", 1)[1]))
    try:
        connection.request(method, f"/_control/{name}", json.dumps(body or {}))
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def test_the_controls_work_over_http(
    standin: Stripe, client: stripe.StripeClient, session: str, receiver: Receiver
) -> None:
    """A person at a terminal can pay, settle, refuse, redeliver, drain and break things."""
    status, paid = _control(standin, "POST", "pay_delayed", {"session_id": session})
    assert (status, paid["payment_status"]) == (200, "unpaid")
    status, paid = _control(standin, "POST", "settle_delayed", {"session_id": session, "ok": True})
    assert (status, paid["payment_status"]) == (200, "paid")
    assert _control(standin, "POST", "drain", {"timeout": 5})[0] == 200
    event_id = receiver.events[-1].id
    assert _control(standin, "POST", "redeliver", {"event_id": event_id})[0] == 200
    eventually(lambda: [e.id for e in receiver.events].count(event_id) == 2)
    standin.drain()
    assert len(_control(standin, "GET", "deliveries")[1]) == len(standin.deliveries)
    assert _control(standin, "POST", "webhook_faults", {"drop": ["*"]})[0] == 200
    assert standin.webhook_faults.drop == ["*"]
    assert _control(standin, "DELETE", "webhook_faults")[0] == 200
    assert not standin.webhook_faults.drop


def test_every_control_is_offered_over_http(standin: Stripe, client: stripe.StripeClient) -> None:
    """Time, plans, refunds and disputes are at the terminal's hand too; answers are plain JSON."""
    subscription = subscribe(standin, client, new_plan(client)).id
    (payment,) = client.v1.invoice_payments.list().data
    intent = str(payment.payment.payment_intent)
    assert _control(standin, "POST", "renew", {"subscription_id": subscription})[0] == 200
    status, refund = _control(standin, "POST", "refund", {"payment_intent": intent, "amount": 900})
    assert (status, refund["amount"]) == (200, 900)
    status, dispute = _control(standin, "POST", "open_dispute", {"payment_intent": intent})
    assert (status, dispute["status"]) == (200, "needs_response")
    before = standin.now()
    assert _control(standin, "POST", "advance", {"seconds": 60})[1] >= before + 60
    assert _control(standin, "POST", "advance", {"seconds": -60})[0] == 400
    for name in standin.names:
        assert _control(standin, "POST", name, {"no_such_argument": 1})[0] == 400


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("pay", {"session_id": "cs_none"}, 404),
        ("pay", {}, 400),
        ("settle_delayed", {"session_id": "cs_none", "maybe": True}, 400),
        ("webhook_faults", {"dorp": []}, 400),
        ("fly", {}, 404),
    ],
)
def test_a_wrong_control_is_refused(
    standin: Stripe, name: str, body: dict[str, Any], status: int
) -> None:
    """Unknown sessions, members, switches and controls are errors that say so."""
    answered, error = _control(standin, "POST", name, body)

    assert answered == status
    assert error["error"]


def test_a_redirecting_receiver_is_not_followed(
    standin: Stripe, session: str, receiver: Receiver
) -> None:
    """A 307 elsewhere is a failed attempt, and nobody else hears of the event."""
    receiver.route("POST", "/elsewhere", lambda _r: Response(200))
    receiver.route("POST", "/moved", lambda _r: Response(307, b"", {"location": "/elsewhere"}))
    standin.webhook_url = f"{receiver.url}/moved?from=stripe"
    standin.pay(session)
    standin.drain()

    assert {d.status for d in standin.deliveries} == {307}
    assert receiver.requests[-1].raw_query == "from=stripe"
    assert all(request.path != "/elsewhere" for request in receiver.requests)
