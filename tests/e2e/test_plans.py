"""Plans: what a subscription grants, when, until when, and what each change of it does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx
import pytest

from tests.e2e.buyers import WEBHOOK, Buyer, price_id
from tests.e2e.people import at_once, problem
from tests.e2e.world import World

GRACE = timedelta(days=3)
UPDATED = "customer.subscription.updated"
EXPIRE = "POST /v1/checkout/sessions/.*/expire"


@pytest.fixture(name="buyer")
def _buyer(world: World) -> Buyer:
    """Return a fresh user."""
    return Buyer(world)


def moment(text: str) -> datetime:
    """Read a time of an answer."""
    return datetime.fromisoformat(text)


def ends(world: World, subscription: str) -> datetime:
    """Return when the period of a subscription ends at Stripe."""
    (item,) = world.stack.stripe.state.get("subscription", subscription)["items"]["data"]
    return datetime.fromtimestamp(item["current_period_end"], UTC)


def pass_months(world: World, subscription: str, months: int) -> None:
    """Let months of a paid year go by, for its drip alone."""
    world.db.execute(
        "update plan_periods set starts_at = starts_at - make_interval(months => %s),"
        " ends_at = ends_at - make_interval(months => %s),"
        " next_month_at = next_month_at - make_interval(months => %s)"
        " where subscription_id = %s",
        (months, months, months, subscription),
    )


# --- subscribing and renewing ---


@pytest.mark.parametrize(("plan_id", "expected"), [("pro", "30.000"), ("business", "60.000")])
def test_a_month_is_granted_once_and_ends_with_grace(
    world: World, buyer: Buyer, plan_id: str, expected: str
) -> None:
    """Paying at the pay page grants one month's credits, until three days after the period."""
    session = buyer.checkout(plan_id=plan_id, interval="month")
    url = world.stack.stripe.state.get("checkout.session", session)["url"]
    assert buyer.status(session) == "open"

    paid = httpx.post(url, data={"action": "pay"}, timeout=30)
    world.stack.stripe.drain()

    assert paid.status_code == 303
    subscription = world.stack.stripe.state.get("checkout.session", session)["subscription"]
    end = ends(world, subscription)
    (grant,) = buyer.grants
    assert (grant["source"], grant["amount"]) == ("plan", expected)
    assert moment(grant["expires_at"]) == end + GRACE
    assert buyer.plan
    assert moment(buyer.plan.pop("current_period_end")) == end
    assert buyer.person.get(f"/checkout/{session}") == {
        "session_id": session,
        "status": "paid",
        "kind": "plan",
        "item_id": plan_id,
        "interval": "month",
        "credits": expected,
    }


def test_the_account_shows_the_plan(buyer: Buyer) -> None:
    """Nothing without a subscription, then its plan, period and state."""
    assert buyer.plan is None

    buyer.subscribe("business", "year")

    plan = buyer.plan
    assert plan
    del plan["current_period_end"]
    assert plan == {
        "plan_id": "business",
        "interval": "year",
        "status": "active",
        "cancel_at_period_end": False,
    }


def test_every_event_of_a_subscription_doubled_and_shuffled_grants_once(
    world: World, buyer: Buyer
) -> None:
    """Copies, twins under another id and any order: one grant."""
    faults = world.stack.stripe.webhook_faults
    faults.duplicates, faults.twin, faults.shuffle = 1, True, True

    buyer.subscribe()

    assert buyer.available == "30.000"
    assert buyer.person.movements() == ["grant"]


def test_a_renewal_grants_again_and_never_touches_packs(world: World, buyer: Buyer) -> None:
    """The next paid period brings its own credits; the pack's stay, without an end, and are spent last."""
    buyer.buy()
    subscription = buyer.subscribe()
    buyer.spend("5")

    buyer.happens("renew", subscription)

    assert buyer.available == "65.000"
    first, second, pack = buyer.grants
    assert [each["remaining"] for each in (first, second, pack)] == ["25.000", "30.000", "10.000"]
    assert pack["expires_at"] is None
    assert moment(second["expires_at"]) == ends(world, subscription) + GRACE
    assert moment(first["expires_at"]) < moment(second["expires_at"])


def test_a_year_drips_month_by_month(world: World, buyer: Buyer) -> None:
    """The first month comes at once, each other one by the sweep when it begins, twelve in all."""
    subscription = buyer.subscribe("pro", "year")
    assert buyer.available == "30.000"
    (month,) = buyer.grants
    assert moment(month["expires_at"]) < datetime.now(UTC) + timedelta(days=35)

    assert world.sweep()["months_granted"] == 0
    pass_months(world, subscription, 1)
    assert world.sweep()["months_granted"] == 1
    assert world.sweep()["months_granted"] == 0
    assert buyer.available == "60.000"

    pass_months(world, subscription, 11)
    assert world.sweep()["months_granted"] == 10
    assert buyer.person.movements().count("grant") == 12


def test_a_canceled_year_goes_on_dripping(world: World, buyer: Buyer) -> None:
    """What was paid for comes, also after a cancellation."""
    subscription = buyer.subscribe("pro", "year")
    buyer.happens("cancel_now", subscription)
    assert buyer.plan is None

    pass_months(world, subscription, 1)
    world.sweep()

    assert buyer.available == "60.000"


# --- changing the plan ---


def test_an_upgrade_grants_the_difference_for_the_rest_of_the_period(
    world: World, buyer: Buyer
) -> None:
    """Half way: half of the dearer plan's month comes, half of the cheaper one's goes."""
    subscription = buyer.subscribe("pro", "month")
    buyer.half_through(subscription)

    buyer.at_portal(subscription, "change", price_id(world, "holdfast_plan_business_monthly"))

    assert buyer.available == "45.000"
    assert buyer.plan
    assert buyer.plan["plan_id"] == "business"
    buyer.happens("renew", subscription)
    assert buyer.available == "105.000"


def test_a_downgrade_takes_the_difference_back(world: World, buyer: Buyer) -> None:
    """Half way: half of the dearer month goes, half of the cheaper one comes."""
    subscription = buyer.subscribe("business", "month")
    buyer.half_through(subscription)

    buyer.at_portal(subscription, "change", price_id(world, "holdfast_plan_pro_monthly"))

    assert buyer.available == "45.000"
    assert buyer.plan
    assert buyer.plan["plan_id"] == "pro"


def test_up_and_down_gains_nothing(world: World, buyer: Buyer) -> None:
    """Whoever changes there and back three times has what one month costs."""
    subscription = buyer.subscribe("pro", "month")
    pro, business = (
        price_id(world, f"holdfast_plan_{plan_id}_monthly") for plan_id in ("pro", "business")
    )

    for price in (business, pro) * 3:
        buyer.at_portal(subscription, "change", price)

    assert buyer.available == "30.000"


def test_a_change_that_is_not_prorated_waits_for_the_next_invoice(
    world: World, buyer: Buyer
) -> None:
    """Without proration nothing moves until the renewal, which grants the new plan's month."""
    subscription = buyer.subscribe("business", "month")
    change_at_stripe(buyer, subscription, "pro", "none")
    assert buyer.available == "60.000"

    buyer.happens("renew", subscription)

    assert buyer.available == "90.000"


def test_an_invoice_of_many_lines_is_read_to_its_end(world: World, buyer: Buyer) -> None:
    """Fourteen prorations come before the plan's own line, which is on the second page: it grants all the same."""
    subscription = buyer.subscribe("pro", "month")
    for plan_id in ("business", "pro", "business", "pro", "business", "pro", "business"):
        change_at_stripe(buyer, subscription, plan_id, "create_prorations")
    assert buyer.available == "30.000"

    buyer.happens("renew", subscription)

    invoice = buyer.invoices(subscription)[0]
    assert len(world.stack.stripe.state.invoice_lines[invoice["id"]]) == 15
    assert invoice["lines"]["has_more"]
    assert buyer.available == "120.000", "two months of business: going up and down gained nothing"


def change_at_stripe(buyer: Buyer, subscription: str, plan_id: str, proration: str) -> None:
    """Change the plan in the dashboard."""
    (item,) = buyer.stripe.state.get("subscription", subscription)["items"]["data"]
    buyer.at_stripe(
        f"subscriptions/{subscription}",
        **{
            "items[0][id]": item["id"],
            "items[0][price]": price_id(buyer.world, f"holdfast_plan_{plan_id}_monthly"),
            "proration_behavior": proration,
        },
    )


# --- ending ---


def test_cancel_at_the_end_of_the_period_keeps_what_is_paid(buyer: Buyer) -> None:
    """The plan shows its end, the credits stay; at the end the plan goes and nothing more is granted."""
    subscription = buyer.subscribe()

    buyer.at_portal(subscription, "cancel")

    assert buyer.plan
    assert buyer.plan["cancel_at_period_end"] is True
    assert buyer.available == "30.000"
    buyer.happens("renew", subscription)
    assert buyer.plan is None
    assert buyer.available == "30.000"


def test_a_cancellation_can_be_taken_back(buyer: Buyer) -> None:
    """Resumed before the end, the plan goes on."""
    subscription = buyer.subscribe()
    buyer.at_portal(subscription, "cancel")

    buyer.at_portal(subscription, "resume")

    assert buyer.plan
    assert buyer.plan["cancel_at_period_end"] is False


def test_cancel_now_keeps_what_is_paid(buyer: Buyer) -> None:
    """The plan ends at once; the credits of the paid period live to their end."""
    subscription = buyer.subscribe()
    before = buyer.grants

    buyer.happens("cancel_now", subscription)

    assert buyer.plan is None
    assert buyer.grants == before


def test_late_events_do_not_revive_a_canceled_plan(world: World, buyer: Buyer) -> None:
    """An update that is delivered after the end changes nothing."""
    subscription = buyer.subscribe()
    world.stack.stripe.webhook_faults.hold = (UPDATED,)
    buyer.happens("renew", subscription)
    buyer.at_portal(subscription, "cancel")
    buyer.happens("cancel_now", subscription)
    assert buyer.plan is None

    assert world.stack.stripe.release() >= 2
    world.stack.stripe.drain()

    assert buyer.plan is None
    (row,) = world.rows("select status from subscriptions where id = %s", subscription)
    assert row["status"] == "canceled"


# --- not paid, paid late, not paid at all ---


def test_a_renewal_that_fails_grants_nothing_and_takes_nothing(buyer: Buyer) -> None:
    """Past due: the plan shows it, what was granted lives on; the late payment grants the period."""
    subscription = buyer.subscribe()

    buyer.happens("fail_renewal", subscription)

    assert buyer.plan
    assert buyer.plan["status"] == "past_due"
    assert buyer.available == "30.000"
    buyer.happens("pay_invoice", buyer.invoices(subscription)[0]["id"])
    assert buyer.plan["status"] == "active"
    assert buyer.available == "60.000"


def test_an_unpaid_plan_paid_late_grants_then(buyer: Buyer) -> None:
    """Unpaid grants nothing, nor does its next period; each of the invoices grants when it is paid."""
    subscription = buyer.subscribe()
    buyer.happens("fail_renewal", subscription)
    buyer.happens("mark_unpaid", subscription)
    buyer.happens("renew", subscription)
    assert buyer.plan
    assert buyer.plan["status"] == "unpaid"
    assert buyer.available == "30.000"

    draft, late, _first = buyer.invoices(subscription)
    buyer.happens("pay_invoice", late["id"])
    assert buyer.available == "60.000"
    buyer.happens("pay_invoice", draft["id"])

    assert buyer.available == "90.000"
    assert buyer.plan["status"] == "active"


def test_a_trial_grants_nothing_until_it_is_paid(world: World, buyer: Buyer) -> None:
    """A trial costs nothing and brings nothing; its end, charged, brings the first month."""
    session = with_trial(buyer)

    subscription = buyer.pay(session)["subscription"]

    assert buyer.plan
    assert buyer.plan["status"] == "trialing"
    assert buyer.available == "0.000"
    assert buyer.status(session) == "paid"
    buyer.happens("end_trial", subscription)
    assert buyer.plan["status"] == "active"
    assert buyer.available == "30.000"


def test_a_trial_without_a_card_is_paused_and_resumed(buyer: Buyer) -> None:
    """Paused grants nothing; the period that begins when it is resumed does."""
    subscription = buyer.pay(with_trial(buyer))["subscription"]

    buyer.happens("end_trial", subscription, pays=False)

    assert buyer.plan
    assert buyer.plan["status"] == "paused"
    assert buyer.available == "0.000"
    buyer.happens("resume", subscription)
    assert buyer.plan["status"] == "active"
    assert buyer.available == "30.000"


def with_trial(buyer: Buyer) -> str:
    """Open a page whose plan begins with a week's trial, as if the catalogue said so."""
    session = buyer.checkout(plan_id="pro", interval="month")
    buyer.stripe.state.orders[session]["subscription_data"]["trial_period_days"] = 7
    buyer.stripe.state.get("checkout.session", session).update(amount_subtotal=0, amount_total=0)
    return session


def test_a_coupon_over_everything_grants_nothing(buyer: Buyer) -> None:
    """A period that costs nothing brings nothing, and the next paid one does."""
    subscription = buyer.subscribe()
    buyer.happens("apply_coupon", subscription)

    buyer.happens("renew", subscription)
    assert buyer.invoices(subscription)[0]["total"] == 0
    assert buyer.available == "30.000"

    buyer.happens("renew", subscription)
    assert buyer.available == "60.000"


def test_a_coupon_over_a_part_grants_in_full(buyer: Buyer) -> None:
    """A period that was paid in part brings all its credits."""
    subscription = buyer.subscribe()
    buyer.happens("apply_coupon", subscription, percent_off=50)

    buyer.happens("renew", subscription)

    assert buyer.available == "60.000"


# --- one plan a user ---


@pytest.mark.parametrize("change", ["active", "past_due", "canceling"])
def test_a_second_plan_is_refused(buyer: Buyer, change: str) -> None:
    """Whoever has a plan that has not ended changes it in the portal: 409, and no session."""
    subscription = buyer.subscribe()
    if change == "past_due":
        buyer.happens("fail_renewal", subscription)
    elif change == "canceling":
        buyer.at_portal(subscription, "cancel")
    sessions = len(buyer.stripe.state.newest("checkout.session"))

    answer = buyer.person.http.post("/checkout", json={"plan_id": "business", "interval": "month"})

    problem(answer, 409, "already_subscribed")
    assert len(buyer.stripe.state.newest("checkout.session")) == sessions
    assert buyer.buy(), "a pack can be bought all the same"


def test_after_the_end_a_plan_can_be_bought_again(buyer: Buyer) -> None:
    """A canceled plan does not stand in the way of the next, which grants."""
    buyer.happens("cancel_now", buyer.subscribe())

    buyer.subscribe("business")

    assert buyer.available == "90.000"
    assert buyer.plan
    assert buyer.plan["plan_id"] == "business"


def test_of_two_pages_of_a_plan_only_the_newer_can_be_paid(world: World, buyer: Buyer) -> None:
    """A second page closes the first, also under a lost answer; packs' pages stay."""
    pack = buyer.checkout(pack_id="starter")
    first = buyer.checkout(plan_id="pro", interval="month")
    world.stack.stripe.lose_next(match=EXPIRE)

    second = buyer.checkout(plan_id="business", interval="month")
    world.stack.stripe.drain(30)

    assert [buyer.status(each) for each in (pack, first, second)] == ["open", "expired", "open"]
    buyer.pay(second)
    assert buyer.available == "60.000"


def test_of_pages_opened_at_once_one_can_be_paid(world: World, buyer: Buyer) -> None:
    """However many are asked for at the same moment, one plan is all that can be bought."""
    wish = {"plan_id": "pro", "interval": "month"}

    sessions = at_once(5, lambda _: buyer.checkout(**wish))

    world.stack.stripe.drain(30)
    assert sorted(buyer.status(each) for each in sessions) == ["expired"] * 4 + ["open"]


@pytest.mark.parametrize("untold", ["*", "customer.subscription.*"])
def test_a_plan_paid_a_moment_ago_is_not_paid_again(
    world: World, buyer: Buyer, untold: str
) -> None:
    """Before any event of the paid page came, or any of its subscription: 409, and no page is left open."""
    world.stack.stripe.webhook_faults.hold = (untold, "invoice*")
    buyer.pay(buyer.checkout(plan_id="pro", interval="month"))

    answer = buyer.person.http.post("/checkout", json={"plan_id": "pro", "interval": "year"})

    problem(answer, 409, "already_subscribed")
    assert [page["status"] for page in buyer.pages] == ["expired", "complete"]


def test_a_plan_that_ended_before_it_was_told_does_not_stand_in_the_way(
    world: World, buyer: Buyer
) -> None:
    """A subscription that is over at Stripe, of which no event came, is no reason to refuse the next."""
    world.stack.stripe.webhook_faults.hold = ("*",)
    buyer.happens("cancel_now", buyer.subscribe())

    session = buyer.checkout(plan_id="pro", interval="month")

    assert buyer.status(session) == "open"


def test_no_page_is_given_out_beside_one_that_cannot_be_closed(world: World, buyer: Buyer) -> None:
    """Stripe refuses, or is away: an error, and the next try closes what both left open."""
    first = buyer.checkout(plan_id="pro", interval="month")
    wish = {"plan_id": "pro", "interval": "month"}

    world.stack.stripe.fail_next(1, 403, EXPIRE)
    problem(buyer.person.http.post("/checkout", json=wish), 502, "provider_error")
    world.stack.stripe.faults.add("down", EXPIRE)
    problem(buyer.person.http.post("/checkout", json=wish), 503, "unavailable")
    world.stack.stripe.faults.clear()
    last = buyer.checkout(**wish)

    world.stack.stripe.drain(30)
    assert (buyer.status(first), buyer.status(last)) == ("expired", "open")
    assert [page["id"] for page in buyer.pages if page["status"] == "open"] == [last]


def test_two_plans_all_the_same_both_grant_and_alarm(world: World, buyer: Buyer) -> None:
    """A second plan sold by hand at Stripe: what was paid is granted, and somebody is told of the second."""
    first = buyer.subscribe()
    by_hand = buyer.at_stripe(
        "checkout/sessions",
        **{
            "mode": "subscription",
            "customer": buyer.customers[0],
            "line_items[0][price]": price_id(world, "holdfast_plan_pro_monthly"),
            "line_items[0][quantity]": "1",
            "success_url": "https://example.com/",
        },
    )

    second = buyer.pay(by_hand["id"])["subscription"]

    assert buyer.available == "60.000"
    seconds = {
        line["object_id"]
        for line in world.logged(WEBHOOK, outcome="recorded_second", level="ERROR")
    }
    assert seconds & {first, second} == {second}


@pytest.mark.parametrize(
    "wish",
    [
        {"plan_id": "nothing", "interval": "month"},
        {"plan_id": "free", "interval": "month"},
        {"plan_id": "pro", "interval": "week"},
        {"plan_id": "pro"},
        {"pack_id": "starter", "interval": "month"},
        {"pack_id": "starter", "plan_id": "pro", "interval": "month"},
        {},
    ],
    ids=str,
)
def test_what_is_not_sold_is_refused(buyer: Buyer, wish: dict[str, str]) -> None:
    """An unknown or free plan, another interval, both kinds or none: 422, and no purchase is written."""
    problem(buyer.person.http.post("/checkout", json=wish), 422, "invalid_request")

    assert buyer.world.rows("select id from purchases where user_id = %s", buyer.person.id) == []
