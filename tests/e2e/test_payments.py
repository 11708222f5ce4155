from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.e2e.people import Json, Person, at_once
from tests.e2e.world import World

NOTHING = ("0.000", "0.000", "0.000")
TEN = ("10.000", "0.000", "0.000")
COMPLETED = "checkout.session.completed"
WEBHOOK = "StripeWebhookFunction"

SOMEBODY = "66aefc12-522c-4762-84d6-5e20361be7ac"


@dataclass
class Till:
    """A payment that has been made, and whose events only the test delivers."""

    world: World
    person: Person
    session: Json

    def event(self, kind: str = COMPLETED, **changes: Any) -> Json:
        """Return an event about the session; `changes` replace fields of the session."""
        return self.world.stack.stripe.build_event(kind, {**self.session, **changes})

    def post(self, event: Json, *, body: bytes | None = None, **headers: str) -> httpx.Response:
        """Deliver an event; it is signed as it is, whatever `body` is sent in its place."""
        signed = json.dumps(event, indent=2).encode()
        return self.world.http.post(
            "/webhooks/stripe",
            content=signed if body is None else body,
            headers={
                "content-type": "application/json; charset=utf-8",
                "stripe-signature": self.world.stack.stripe.sign(signed),
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )


@pytest.fixture(name="till")
def _till(world: World) -> Till:
    """Return a paid session none of whose events has been delivered."""
    person = world.person()
    session_id = person.checkout()
    world.stack.stripe.webhook_faults.drop = ("*",)
    return Till(world, person, world.stack.stripe.pay(session_id))


def grants(world: World, person: Person) -> int:
    """Return how many grants a user has."""
    (row,) = world.rows("select count(*) from credit_grants where user_id = %s", person.id)
    count: int = row["count"]
    return count


def test_an_event_delivered_twenty_times_at_once_grants_once(world: World) -> None:
    """Twenty copies of the paid event in the same moment: all are taken, one grants."""
    person = world.person()
    session = person.checkout()
    world.stack.stripe.webhook_faults.duplicates = 19
    world.stack.stripe.webhook_faults.concurrent = True

    world.stack.stripe.pay(session)
    world.stack.stripe.drain(30)

    delivered = [
        delivery
        for delivery in world.stack.stripe.deliveries
        if delivery.event_id == event_id(world, session)
    ]
    assert len(delivered) >= 20
    assert all(delivery.status == 200 for delivery in delivered)
    assert person.credits() == TEN
    assert person.movements() == ["grant"]


def event_id(world: World, session_id: str) -> str:
    """Return the id of the completed event of a session."""
    (event,) = (
        event
        for event in world.stack.stripe.state.newest("event")
        if event["type"] == COMPLETED and event["data"]["object"]["id"] == session_id
    )
    return str(event["id"])


def test_two_events_of_one_payment_grant_once(till: Till) -> None:
    """A twin event has another id and says the same: the purchase remembers that it was granted."""
    first, twin = till.event(), till.event()

    outcomes = sorted(at_once(8, lambda n: till.post((first, twin)[n % 2]).json()["outcome"]))

    assert outcomes.count("granted") == 1
    assert outcomes.count("already_granted") == 1
    assert outcomes.count("duplicate") == 6
    assert till.person.credits() == TEN
    assert till.person.movements() == ["grant"]


def test_twins_of_every_event_grant_once(world: World) -> None:
    """The whole payment with each of its events doubled under another id grants once."""
    person = world.person()
    session = person.checkout()
    world.stack.stripe.webhook_faults.twin = True
    world.stack.stripe.webhook_faults.shuffle = True

    world.stack.stripe.pay(session)
    world.stack.stripe.drain()

    assert person.credits() == TEN
    assert grants(world, person) == 1


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"amount_total": 1}, "amount_mismatch"),
        ({"amount_total": 999}, "amount_mismatch"),
        ({"amount_total": 1001}, "amount_mismatch"),
        ({"amount_total": None}, "amount_mismatch"),
        ({"currency": "jpy"}, "currency_mismatch"),
        ({"currency": None}, "currency_mismatch"),
        ({"client_reference_id": SOMEBODY}, "parked"),
        ({"client_reference_id": "1' or '1'='1"}, "ignored"),
        ({"client_reference_id": None}, "ignored"),
        ({"metadata": {"user_id": SOMEBODY}}, "user_mismatch"),
        ({"metadata": {}}, "user_mismatch"),
        ({"id": "cs_test_of_another_purchase"}, "session_mismatch"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else value,
)
def test_a_paid_event_that_does_not_fit_grants_nothing(
    world: World, till: Till, changes: Json, outcome: str
) -> None:
    """It is taken, for repeating cannot mend it; unless it is foreign the log calls for a look and names the reason."""
    event = till.event(**changes)
    level = {"ignored": "INFO", "parked": "WARNING"}.get(outcome, "ERROR")

    answer = till.post(event)

    assert (answer.status_code, answer.json()) == (200, {"outcome": outcome})
    assert till.person.credits() == NOTHING
    assert grants(world, till.person) == 0
    (line,) = world.logged(WEBHOOK, event_id=event["id"])
    assert (line["level"], line["outcome"]) == (level, outcome)


def test_the_right_event_still_grants_after_a_wrong_one(till: Till) -> None:
    """A forged event under a valid signature does not use up the payment."""
    till.post(till.event(amount_total=1))

    assert till.post(till.event()).json() == {"outcome": "granted"}
    assert till.person.credits() == TEN


def test_another_users_purchase_cannot_be_claimed(world: World, till: Till) -> None:
    """Metadata that names another user grants neither of them anything."""
    thief = world.person()

    till.post(till.event(metadata={**till.session["metadata"], "user_id": thief.id}))

    assert thief.credits() == till.person.credits() == NOTHING


def test_a_completed_session_that_is_unpaid_grants_nothing(world: World, till: Till) -> None:
    """Complete is not paid: the purchase waits, and the log says pending."""
    event = till.event(payment_status="unpaid")

    assert till.post(event).json() == {"outcome": "pending"}

    assert till.person.credits() == NOTHING
    assert till.person.get(f"/checkout/{till.session['id']}")["status"] == "pending"
    assert len(world.logged(WEBHOOK, event_id=event["id"], outcome="pending")) == 1


def test_an_event_of_the_live_world_is_refused(world: World, till: Till) -> None:
    """A test stage takes no live money for its own: 400, so that somebody notices."""
    event = {**till.event(), "livemode": True}

    answer = till.post(event)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")
    assert till.person.credits() == NOTHING
    (line,) = world.logged(WEBHOOK, event_id=event["id"])
    assert "wrong mode" in line["message"]


Forge = Callable[[World, bytes], str]


@pytest.mark.parametrize(
    "forge",
    [
        lambda _world, _body: "",
        lambda _world, _body: "t=1,v1=",
        lambda _world, _body: "nonsense",
        lambda world, body: world.stack.stripe.sign(body, "whsec_of_somebody_else"),
        lambda world, body: world.stack.stripe.sign(body, timestamp=int(time.time()) - 301),
        lambda world, body: world.stack.stripe.sign(body).replace("v1=", "v0="),
        lambda world, body: world.stack.stripe.sign(body + b" "),
    ],
    ids=["absent", "empty", "nonsense", "other-secret", "old", "other-scheme", "other-body"],
)
def test_a_bad_signature_grants_nothing(world: World, till: Till, forge: Forge) -> None:
    """Nothing of the body is believed: 400 invalid_signature, in the answer and in the log."""
    event = till.event()
    before = len(world.logged(WEBHOOK, code="invalid_signature"))

    answer = till.post(event, stripe_signature=forge(world, json.dumps(event, indent=2).encode()))

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature")
    assert len(world.logged(WEBHOOK, code="invalid_signature")) == before + 1
    assert till.person.credits() == NOTHING
    assert till.post(event).json() == {"outcome": "granted"}, "the true delivery still counts"


@pytest.mark.parametrize("content_type", ["application/json", "application/octet-stream"])
def test_a_body_changed_by_one_byte_grants_nothing(till: Till, content_type: str) -> None:
    """The signature covers every byte, however the gateway hands the body over."""
    event = till.event()
    body = json.dumps(event, indent=2).encode()

    for changed in (body.replace(b"1000", b"1001", 1), body + b"\n", body[:-1], b""):
        answer = till.post(event, body=changed, content_type=content_type)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_signature")

    assert till.person.credits() == NOTHING


def test_a_body_in_base64_and_odd_header_names_are_read(till: Till) -> None:
    """What the gateway encodes, and how a sender writes the header's name, changes nothing."""
    event = till.event()
    signed = json.dumps(event, indent=2).encode()
    signature = till.world.stack.stripe.sign(signed)

    answer = till.world.http.post(
        "/webhooks/stripe",
        content=signed,
        headers={"Content-Type": "application/octet-stream", "STRIPE-Signature": signature},
    )

    assert answer.json() == {"outcome": "granted"}
    assert till.person.credits() == TEN


def test_an_event_of_no_interest_is_taken(till: Till) -> None:
    """Types that move no credits here are answered 200, or Stripe would repeat them for days."""
    answer = till.post(till.event("customer.updated"))

    assert (answer.status_code, answer.json()) == (200, {"outcome": "ignored"})
    assert till.person.credits() == NOTHING


def test_a_delayed_payment_grants_when_it_succeeds(world: World) -> None:
    """Pending at first, then granted once, also when both events come again afterwards."""
    person = world.person()
    session = person.checkout()
    stripe = world.stack.stripe
    stripe.pay_delayed(session)
    stripe.drain()
    assert person.get(f"/checkout/{session}")["status"] == "pending"
    assert person.credits() == NOTHING

    stripe.settle_delayed(session, ok=True)
    stripe.drain()
    for event in copy.copy(stripe.state.newest("event")):
        if event["data"]["object"]["id"] == session:
            stripe.redeliver(event["id"])
    stripe.drain()

    assert person.get(f"/checkout/{session}")["status"] == "paid"
    assert person.credits() == TEN
    assert person.movements() == ["grant"]


def test_a_delayed_payment_that_fails_grants_nothing(world: World) -> None:
    """The bank said no: the purchase is closed and no credits appear."""
    person = world.person()
    session = person.checkout()
    world.stack.stripe.pay_delayed(session)
    world.stack.stripe.settle_delayed(session, ok=False)
    world.stack.stripe.drain()

    assert person.get(f"/checkout/{session}")["status"] == "failed"
    assert person.credits() == NOTHING


def test_an_expired_session_is_closed(world: World) -> None:
    """A page that nobody paid at ends the purchase without credits."""
    person = world.person()
    session = person.checkout()
    world.stack.stripe.expire(session)
    world.stack.stripe.drain()

    assert person.get(f"/checkout/{session}")["status"] == "expired"
    assert person.credits() == NOTHING


def test_the_webhook_may_come_before_the_session_is_noted(world: World) -> None:
    """A payment whose session id never reached the database (the answer was lost) grants all the same."""
    person = world.person()
    session = person.checkout()
    world.db.execute(
        "update purchases set stripe_session_id = null, status = 'created'"
        " where stripe_session_id = %s",
        (session,),
    )

    world.stack.stripe.pay(session)
    world.stack.stripe.drain()

    assert person.get(f"/checkout/{session}")["status"] == "paid"
    assert person.credits() == TEN


def test_the_retry_grants_when_the_database_was_away(world: World) -> None:
    """While the database is away the event is not taken; delivered again it grants, once."""
    person = world.person()
    session = person.checkout()
    world.stack.stripe.webhook_faults.drop = ("*",)
    world.stack.stripe.pay(session)
    event = world.stack.stripe.state.get("event", event_id(world, session))
    with world.database_away():
        assert world.stack.stripe.deliver(event) == 503
        assert world.stack.stripe.deliver(event) == 503

    assert person.credits() == NOTHING
    assert world.stack.stripe.deliver(event) == 200
    assert world.stack.stripe.deliver(event) == 200
    assert person.credits() == TEN
    assert person.movements() == ["grant"]


def test_stripe_away_sells_nothing_and_loses_nothing(world: World) -> None:
    """No session, no page: 503 with Retry-After, no credits, and the next try works."""
    person = world.person()
    world.stack.stripe.faults.add("down", "POST /v1/checkout/sessions")

    answer = person.http.post("/checkout", json={"pack_id": "starter"})

    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    world.stack.stripe.faults.clear()
    assert person.checkout()
