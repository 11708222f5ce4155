"""Whatever is not delivered, comes twice, too early or while something is away: one sweep later all is booked, once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from holdfast.catalog import Catalog, PlanPrice
from holdfast.catalog import catalog as the_catalog
from tests.e2e.buyers import SWEEP, WEBHOOK, Buyer, at_stripe, price_id
from tests.e2e.people import Json, problem
from tests.e2e.world import World
from tools import stripe_catalog

ROOT = Path(__file__).parents[2]
COMPLETED = "checkout.session.completed"
PRO = "holdfast_plan_pro_monthly"


@pytest.fixture(name="buyer")
def _buyer(world: World) -> Buyer:
    """Return a fresh user."""
    return Buyer(world)


def deliver(world: World, event: Json, secret: str | None = None) -> httpx.Response:
    """Deliver an event once, now, whatever the faults."""
    body = json.dumps(event).encode()
    return world.http.post(
        "/webhooks/stripe",
        content=body,
        headers={
            "content-type": "application/json",
            "stripe-signature": world.stack.stripe.sign(body, secret),
        },
    )


def event_of(world: World, kind: str, object_id: str) -> Json:
    """Return the newest event of a type about an object."""
    return next(
        event
        for event in world.stack.stripe.state.newest("event")
        if event["type"] == kind and event["data"]["object"]["id"] == object_id
    )


# --- webhooks that are not delivered ---


def _packs(buyer: Buyer) -> None:
    buyer.buy()


def _plan(buyer: Buyer) -> None:
    buyer.subscribe()


def _renewal(buyer: Buyer) -> None:
    buyer.happens("renew", buyer.subscribe())


def _refund(buyer: Buyer) -> None:
    buyer.happens("refund", buyer.buy(), 400)


def _failed_refund(buyer: Buyer) -> None:
    made = buyer.happens("refund", buyer.buy(), 400)
    buyer.happens("fail_refund", made["id"])


def _dispute(buyer: Buyer) -> None:
    buyer.happens("open_dispute", buyer.buy())


def _dispute_won(buyer: Buyer) -> None:
    opened = buyer.happens("open_dispute", buyer.buy())
    buyer.happens("close_dispute", opened["id"], "won")


def _refunded_plan(buyer: Buyer) -> None:
    buyer.happens("refund", buyer.payment_of(buyer.subscribe()), 1450)


def _canceled_plan(buyer: Buyer) -> None:
    buyer.happens("cancel_now", buyer.subscribe())


@pytest.mark.parametrize("loss", ["drop", "swallow"])
@pytest.mark.parametrize(
    ("story", "expected"),
    [
        (_packs, "10.000"),
        (_plan, "30.000"),
        (_renewal, "60.000"),
        (_refund, "6.000"),
        (_failed_refund, "10.000"),
        (_dispute, "0.000"),
        (_dispute_won, "10.000"),
        (_refunded_plan, "15.000"),
        (_canceled_plan, "30.000"),
    ],
)
def test_one_sweep_repairs_what_was_not_delivered(
    world: World, buyer: Buyer, story: Callable[[Buyer], None], expected: str, loss: str
) -> None:
    """No event at all came, known as undelivered or counted as delivered: one sweep books all, a second nothing."""
    setattr(world.stack.stripe.webhook_faults, loss, ("*",))
    story(buyer)
    assert buyer.person.movements() == []

    swept = world.reconcile()
    booked = buyer.person.movements()
    again = world.reconcile()

    assert (swept["is_complete"], again["is_complete"]) == (True, True)
    assert swept["repaired"] >= 1
    assert buyer.available == expected
    assert buyer.person.movements() == booked
    assert (buyer.plan is not None) == (story in (_plan, _renewal, _refunded_plan))


def test_a_webhook_after_the_sweep_changes_nothing(world: World, buyer: Buyer) -> None:
    """What the sweep booked is delivered late, every event of it: nothing is booked again."""
    world.stack.stripe.webhook_faults.hold = ("*",)
    subscription = buyer.subscribe()
    payment = buyer.buy()
    buyer.happens("refund", payment, 400)
    buyer.happens("renew", subscription)
    world.reconcile()
    booked = buyer.person.movements()

    world.stack.stripe.webhook_faults.reset()
    assert world.stack.stripe.release() > 20
    world.stack.stripe.drain(30)

    assert buyer.available == "66.000"
    assert buyer.person.movements() == booked


def test_webhook_and_sweep_at_the_same_moment_grant_once(world: World, buyer: Buyer) -> None:
    """Both wait for the same purchase and go on together: one grant."""
    world.stack.stripe.webhook_faults.drop = ("*",)
    session = buyer.checkout(pack_id="starter")
    buyer.pay(session)
    event = event_of(world, COMPLETED, session)

    purchase = "select from purchases where stripe_session_id = %s for update"

    with ThreadPoolExecutor(2) as pool:
        with world.meeting(purchase, session, guests=2):
            swept = pool.submit(world.reconcile)
            answered = pool.submit(world.stack.stripe.deliver, event)
        assert swept.result()["is_complete"]
        assert answered.result() == 200

    assert buyer.available == "10.000"
    assert buyer.person.movements() == ["grant"]


# --- events that come too early ---


def test_a_session_whose_purchase_appears_later(world: World, buyer: Buyer) -> None:
    """The purchase is not there yet (it is in a database that is just restored): parked, then granted by the sweep."""
    session = buyer.checkout(pack_id="starter")
    world.db.execute("create temp table kept as select * from purchases where false")
    world.db.execute(
        "with gone as (delete from purchases where stripe_session_id = %s returning *)"
        " insert into kept select * from gone",
        (session,),
    )
    buyer.pay(session)
    assert world.logged(WEBHOOK, object_id=session, outcome="parked", level="WARNING")

    assert world.retry_parked()["retried"] >= 1
    assert buyer.available == "0.000"
    world.db.execute("insert into purchases select * from kept")
    world.db.execute("drop table kept")
    assert world.retry_parked()["repaired"] >= 1

    assert buyer.available == "10.000"
    assert buyer.status(session) == "paid"


def test_an_invoice_before_its_customer_is_known(world: World, buyer: Buyer) -> None:
    """The first invoice comes before anything says whose it is: parked, and granted when the session told."""
    session = buyer.checkout(plan_id="pro", interval="month")
    world.db.execute("delete from backend.customers where user_id = %s", (buyer.person.id,))
    world.stack.stripe.webhook_faults.hold = (COMPLETED,)
    buyer.pay(session)
    assert buyer.available == "0.000"

    world.stack.stripe.release()
    world.stack.stripe.drain()
    assert buyer.status(session) == "paid"
    world.retry_parked()

    assert buyer.available == "30.000"
    assert buyer.plan


@pytest.mark.parametrize("kind", ["invoice.paid", "customer.subscription.created"])
def test_a_price_that_is_not_mirrored_is_read_on_demand(
    world: World, buyer: Buyer, kind: str
) -> None:
    """Of a price we never heard of: it is asked of Stripe, and the event takes effect at once."""
    session = buyer.checkout(plan_id="pro", interval="month")
    world.db.execute("delete from backend.prices where lookup_key = %s", (PRO,))
    world.stack.stripe.webhook_faults.drop = ("*",)
    subscription = buyer.pay(session)["subscription"]
    about = buyer.invoices(subscription)[0]["id"] if kind == "invoice.paid" else subscription

    outcome = deliver(world, event_of(world, kind, about)).json()["outcome"]

    assert outcome == ("granted" if kind == "invoice.paid" else "recorded")


def test_what_is_parked_for_an_hour_alarms(world: World, buyer: Buyer) -> None:
    """The metric of the alarm counts it, until it is resolved or given up after 30 days."""
    session = buyer.checkout(pack_id="starter")
    world.db.execute("delete from purchases where stripe_session_id = %s", (session,))
    buyer.pay(session)
    event = event_of(world, COMPLETED, session)["id"]

    park(world, event, "59 minutes")
    world.retry_parked()
    before = parked_too_long(world)
    park(world, event, "61 minutes")
    world.retry_parked()
    assert parked_too_long(world) == before + 1

    park(world, event, "31 days")
    world.retry_parked()
    assert world.rows("select outcome from backend.stripe_events where id = %s", event) == [
        {"outcome": "unknown_purchase"}
    ]
    assert world.logged(SWEEP, event_id=event, level="ERROR")
    world.retry_parked()
    assert parked_too_long(world) == before


@pytest.mark.alarming
def test_a_parked_event_of_nothing_is_given_up(world: World, buyer: Buyer) -> None:
    """Stripe does not know what the event is about: reported while it is tried, given up after 30 days."""
    session = buyer.pay(buyer.checkout(pack_id="starter"))
    foreign = {"id": "cs_test_nothing", "client_reference_id": str(uuid4())}
    event = world.stack.stripe.build_event(COMPLETED, {**session, **foreign})
    assert deliver(world, event).json() == {"outcome": "parked"}

    park(world, event["id"], "31 days")
    world.retry_parked()

    assert world.rows("select outcome from backend.stripe_events where id = %s", event["id"]) == [
        {"outcome": "unknown_purchase"}
    ]


def park(world: World, event_id: str, age: str) -> None:
    """Let an event have been parked for so long."""
    world.db.execute(
        "update backend.stripe_events set parked_at = now() - %s::interval where id = %s",
        (age, event_id),
    )


def parked_too_long(world: World) -> int:
    """Return what the last sweep counted."""
    lines = (
        json.loads(line)
        for line in world.stack.cloud.logs.text(SWEEP).splitlines()
        if line.startswith("{")
    )
    return int(
        [line["Reconcile.ParkedTooLong"] for line in lines if "Reconcile.ParkedTooLong" in line][
            -1
        ][0]
    )


# --- services that are away ---


def test_stripe_away_while_a_refund_is_told(world: World, buyer: Buyer) -> None:
    """What cannot be read again is not taken: 503, and Stripe's next try books it."""
    payment = buyer.buy()
    world.stack.stripe.webhook_faults.drop = ("*",)
    made = buyer.happens("refund", payment, 400)
    event = event_of(world, "refund.created", made["id"])
    world.stack.stripe.faults.add("down", "GET /v1/refunds/.*")

    problem(deliver(world, event), 503, "unavailable")
    assert buyer.available == "10.000"
    world.stack.stripe.faults.clear()

    assert deliver(world, event).json() == {"outcome": "clawed_back"}
    assert deliver(world, event).json() == {"outcome": "duplicate"}
    assert buyer.available == "6.000"


def test_the_database_away_while_an_invoice_is_told(world: World, buyer: Buyer) -> None:
    """Nothing is kept of it: 503, and the next try grants once."""
    world.stack.stripe.webhook_faults.drop = ("*",)
    subscription = buyer.subscribe()
    event = event_of(world, "invoice.paid", buyer.invoices(subscription)[0]["id"])

    with world.database_away():
        problem(deliver(world, event), 503, "unavailable")

    assert deliver(world, event).json() == {"outcome": "granted"}
    assert buyer.available == "30.000"


@pytest.mark.alarming
@pytest.mark.parametrize("trouble", ["down", "refused"])
def test_stripe_away_during_a_sweep(world: World, buyer: Buyer, trouble: str) -> None:
    """The sweep says that it did not get through, does the rest of its work, and the next one makes good."""
    world.stack.stripe.webhook_faults.swallow = ("*",)
    buyer.buy()
    year = buyer.subscribe("pro", "year")
    deliver(world, event_of(world, "invoice.paid", buyer.invoices(year)[0]["id"]))
    world.db.execute(
        "update plan_periods set next_month_at = now() where subscription_id = %s", (year,)
    )
    if trouble == "down":
        world.stack.stripe.faults.add("down", "GET /v1/checkout/sessions")
    else:
        world.stack.stripe.fail_next(100, 401, "GET /v1/checkout/sessions")

    swept = world.reconcile()

    assert swept["is_complete"] is False
    assert swept["months_granted"] == 1
    world.stack.stripe.faults.clear()
    assert world.reconcile()["is_complete"]
    assert buyer.available == "70.000"


@pytest.mark.alarming
def test_the_database_away_during_a_sweep(world: World, buyer: Buyer) -> None:
    """The sweep that could not work is followed by one that makes good."""
    world.stack.stripe.webhook_faults.swallow = ("*",)
    buyer.buy()

    with world.database_away():
        assert world.stack.cloud.fire("RecoverySweepFunction").is_error

    assert world.reconcile()["is_complete"]
    assert buyer.available == "10.000"


# --- signatures and versions ---


def test_two_secrets_are_live_at_once(world: World, buyer: Buyer) -> None:
    """While a secret is rolled, events signed with the old one, the new one or both are taken; with another none."""
    next_secret = world.stack.next_webhook_secret
    faults = world.stack.stripe.webhook_faults
    faults.drop = ("*",)
    session = buyer.checkout(pack_id="starter")
    buyer.pay(session)
    event = event_of(world, COMPLETED, session)

    problem(deliver(world, event, "whsec_of_somebody_else"), 400, "invalid_signature")
    assert deliver(world, event, next_secret).json() == {"outcome": "granted"}
    assert deliver(world, event).json() == {"outcome": "duplicate"}
    faults.reset()
    faults.second_secret = next_secret
    buyer.buy()
    assert buyer.available == "20.000"


def test_live_events_are_refused_on_a_test_endpoint(world: World, buyer: Buyer) -> None:
    """Each of a subscription's events is refused with 400 when it says that it is of live money."""
    webhooks = world.stack.stripe.webhooks
    world.stack.stripe.webhook_faults.livemode = True
    webhooks.backoff, kept = (), webhooks.backoff
    before = len(webhooks.log)
    try:
        buyer.subscribe()
    finally:
        webhooks.backoff = kept

    refused = {delivery.type: delivery.status for delivery in webhooks.log[before:]}
    assert {"checkout.session.completed", "invoice.paid"} <= refused.keys()
    assert set(refused.values()) == {400}
    assert buyer.available == "0.000"
    assert buyer.plan is None


def test_an_event_of_another_api_version_is_read_again(world: World, buyer: Buyer) -> None:
    """Fields may lie elsewhere in it, so only its id is believed; everything is granted, and an alarm is counted."""
    world.stack.stripe.webhook_faults.api_version = "2024-06-20"

    buyer.buy()
    subscription = buyer.subscribe()
    buyer.happens("refund", buyer.payment_of(subscription), 1450)

    assert buyer.available == "25.000"
    assert world.logged(WEBHOOK, message="a Stripe event of another API version", level="ERROR")


# --- by hand ---


def run(world: World, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a tool as its make target does; nobody answers its questions."""
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "layers/shared")]),
            "DATABASE_URL": world.stack.secrets["DATABASE_URL"],
            "STRIPE_API_KEY": world.stack.secrets["STRIPE_API_KEY"],
            "STRIPE_API_BASE": world.stack.stripe.url,
            **environment,
        },
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=60,
        check=False,
    )


def test_reconcile_by_hand(world: World, buyer: Buyer) -> None:
    """`make reconcile` books what was lost, says how much, and finds nothing the second time."""
    world.stack.stripe.webhook_faults.swallow = ("*",)
    buyer.buy()
    buyer.subscribe()
    time.sleep(1)
    since = f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}"

    first = run(world, "tools.reconcile", "--since", since)
    second = run(world, "tools.reconcile", "--since", since)

    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    assert "0 balances changed" not in first.stdout
    assert "\n0 balances changed" in second.stdout
    assert buyer.available == "40.000"


def test_reconcile_by_hand_says_where_it_stopped(world: World) -> None:
    """With Stripe away it ends with 1 and the day to begin at again."""
    today = f"{datetime.now(UTC):%Y-%m-%d}"

    stopped = run(world, "tools.reconcile", "--since", today, STRIPE_API_BASE="http://127.0.0.1:9")

    assert stopped.returncode == 1
    assert f"stopped at {today}" in stopped.stdout


# --- the catalogue at Stripe ---


def test_the_catalogue_is_published_once(world: World) -> None:
    """The stack published it when it started: another run finds nothing to do."""
    prices = len(world.stack.stripe.state.newest("price"))

    done = run(world, "tools.stripe_catalog")

    assert (done.returncode, done.stdout) == (0, "Stripe is up to date with the catalogue\n")
    assert len(world.stack.stripe.state.newest("price")) == prices


def test_nothing_is_published_without_a_yes(world: World) -> None:
    """The plan is shown first, and no answer is a no."""
    price = price_id(world, "holdfast_pack_starter")
    at_stripe(world, f"prices/{price}", active="false")
    try:
        refused = run(world, "tools.stripe_catalog")
        assert refused.returncode == 1
        assert "create price holdfast_pack_starter" in refused.stdout
        assert "nothing was done" in refused.stdout
        assert price_id(world, "holdfast_pack_starter") == price
    finally:
        at_stripe(world, f"prices/{price}", active="true")


@pytest.fixture(name="dearer")
def _dearer(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Publish a catalogue in which a month of pro is $39 for 40 credits, and afterwards ours again."""
    ours = the_catalog()
    monkeypatch.setenv("STRIPE_API_KEY", world.stack.secrets["STRIPE_API_KEY"])
    monkeypatch.setenv("STRIPE_API_BASE", world.stack.stripe.url)
    month, year = (
        PlanPrice(interval="month", amount_minor=3900),
        PlanPrice(interval="year", amount_minor=29000),
    )
    plans = tuple(
        plan.model_copy(update={"credits": Decimal(40), "prices": (month, year)})
        if plan.id == "pro"
        else plan
        for plan in ours.plans
    )
    for entries in (plans, ours.plans):
        changed = Catalog(packs=ours.packs, plans=entries)
        monkeypatch.setattr(stripe_catalog, "catalog", lambda found=changed: found)
        assert stripe_catalog.main(["--yes"]) == 0
        world.stack.stripe.drain(30)
        if entries is plans:
            yield


def test_a_new_price_leaves_old_subscribers_alone(
    world: World, request: pytest.FixtureRequest
) -> None:
    """Another price or number of credits is a new price: new subscribers get it, old ones pay and get what they did."""
    old, new = Buyer(world), Buyer(world)
    subscription = old.subscribe()
    before = price_id(world, PRO)

    request.getfixturevalue("dearer")
    after = price_id(world, PRO)
    new.subscribe()
    old.happens("renew", subscription)

    assert after != before
    assert new.available == "40.000"
    assert old.available == "60.000"
    assert [invoice["total"] for invoice in old.invoices(subscription)] == [2900, 2900]
    shown = [plan for plan in world.http.get("/catalog").json()["plans"] if plan["id"] == "pro"]
    assert shown[0]["prices"][0]["amount_minor"] == 3900


def test_a_pack_grants_what_its_price_says(world: World, buyer: Buyer) -> None:
    """Amount and credits go together, also while the deployed file is older than the prices at Stripe."""
    path = f"prices/{price_id(world, 'holdfast_pack_starter')}"
    at_stripe(world, path, **{"metadata[holdfast_credits]": "11.5"})
    try:
        buyer.buy("starter")
        assert buyer.available == "11.500"
        shown = {pack["id"]: pack["credits"] for pack in world.http.get("/catalog").json()["packs"]}
        assert shown["starter"] == "11.500"
    finally:
        at_stripe(world, path, **{"metadata[holdfast_credits]": "10.000"})


@pytest.mark.parametrize("what", ["prices", "products"])
def test_what_is_archived_is_not_sold(world: World, buyer: Buyer, what: str) -> None:
    """Archived at Stripe it is neither shown nor sold, while old invoices still grant; back again it sells."""
    subscription = buyer.subscribe()
    price = price_id(world, PRO)
    archived = price if what == "prices" else "holdfast_plan_pro"
    at_stripe(world, f"{what}/{archived}", active="false")
    try:
        assert "month" not in intervals(world, "pro")
        answer = world.person().http.post("/checkout", json={"plan_id": "pro", "interval": "month"})
        problem(answer, 503, "unavailable")
        buyer.happens("renew", subscription)
        assert buyer.available == "60.000"
    finally:
        at_stripe(world, f"{what}/{archived}", active="true")
    assert "month" in intervals(world, "pro")


@pytest.mark.parametrize("found_by", ["sweep", "checkout"])
def test_a_price_older_than_the_webhook_is_found(world: World, buyer: Buyer, found_by: str) -> None:
    """Made before the endpoint was: the sweep mirrors it, or the first who wants to buy it."""
    world.db.execute("delete from backend.prices where lookup_key = %s", (PRO,))
    assert "month" not in intervals(world, "pro")

    if found_by == "sweep":
        world.reconcile()
    else:
        buyer.checkout(plan_id="pro", interval="month")

    assert "month" in intervals(world, "pro")


def intervals(world: World, plan_id: str) -> list[str]:
    """Return the periods that a plan is offered for; nothing when it is not shown."""
    plans = world.http.get("/catalog").json()["plans"]
    return [
        price["interval"] for plan in plans if plan["id"] == plan_id for price in plan["prices"]
    ]
