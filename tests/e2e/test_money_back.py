"""Money that goes back: the credits follow, to the thousandth, in whatever order it is told."""

from __future__ import annotations

import pytest

from tests.e2e.buyers import WEBHOOK, Buyer, price_id
from tests.e2e.people import problem
from tests.e2e.world import World

PRICE = 1000
"""What the starter pack costs, in cents; it has 10 credits."""


@pytest.fixture(name="buyer")
def _buyer(world: World) -> Buyer:
    """Return a fresh user."""
    return Buyer(world)


def refund(buyer: Buyer, payment: str, amount: int | None = None, status: str = "succeeded") -> str:
    """Refund a payment, all that is left of it without an amount, and return the refund."""
    return str(buyer.happens("refund", payment, amount, status)["id"])


def dispute(buyer: Buyer, payment: str, amount: int | None = None, *, inquiry: bool = False) -> str:
    """Open a dispute and return it."""
    return str(buyer.happens("open_dispute", payment, amount, inquiry=inquiry)["id"])


# --- refunds ---


def test_a_full_refund_takes_all_credits(buyer: Buyer) -> None:
    """The pack is paid back, its credits are gone, and the user sees why."""
    refund(buyer, buyer.buy())

    assert buyer.person.credits() == ("0.000", "0.000", "0.000")
    assert buyer.person.movements() == ["grant", "clawback"]


def test_partial_refunds_take_their_share(buyer: Buyer) -> None:
    """Half of the money is half of the credits; the rest but a cent leaves a hundredth; the last cent takes it."""
    payment = buyer.buy()

    refund(buyer, payment, 500)
    assert buyer.available == "5.000"
    refund(buyer, payment, 499)
    assert buyer.available == "0.010"
    refund(buyer, payment, 1)
    assert buyer.available == "0.000"


def test_a_share_is_rounded_for_the_user(buyer: Buyer) -> None:
    """A third of the production pack, 1667 of 5000 cents, takes 16.670 of its 50 credits."""
    refund(buyer, buyer.buy("production"), 1667)

    assert buyer.available == "33.330"


def test_a_failed_refund_restores(buyer: Buyer) -> None:
    """The bank sent the money back to us: the credits come back."""
    payment = buyer.buy()
    refund(buyer, payment, 500)
    second = refund(buyer, payment, 500)
    assert buyer.available == "0.000"

    buyer.happens("fail_refund", second)

    assert buyer.available == "5.000"


def test_a_refund_on_its_way_counts(buyer: Buyer) -> None:
    """Pending money is gone for the user; that it arrives changes nothing, that it is canceled restores."""
    payment = buyer.buy()
    first = refund(buyer, payment, 400, "pending")
    second = refund(buyer, payment, 300, "pending")
    assert buyer.available == "3.000"

    buyer.happens("settle_refund", first)
    assert buyer.available == "3.000"
    buyer.at_stripe(f"refunds/{second}/cancel")
    assert buyer.available == "6.000"


def test_a_refund_takes_its_own_pack_only(buyer: Buyer) -> None:
    """Another pack and the plan stay as they are."""
    first = buyer.buy()
    buyer.buy("builder")
    buyer.subscribe()

    refund(buyer, first)

    assert sorted(grant["remaining"] for grant in buyer.grants) == ["25.000", "30.000"]


@pytest.mark.parametrize("kinds", [("duplicates",), ("twin",), ("shuffle",), ("twin", "shuffle")])
def test_a_refund_that_is_told_often_counts_once(buyer: Buyer, kinds: tuple[str, ...]) -> None:
    """Copies, twins and any order of the refund's events move the credits once."""
    payment = buyer.buy()
    for kind in kinds:
        setattr(buyer.stripe.webhook_faults, kind, 2 if kind == "duplicates" else True)

    refund(buyer, payment, 500)

    assert buyer.available == "5.000"
    assert buyer.person.movements() == ["grant", "clawback"]


# --- disputes ---


def test_a_dispute_takes_the_credits_and_winning_it_restores_them(buyer: Buyer) -> None:
    """Gone when it is opened, back when it is won."""
    opened = dispute(buyer, buyer.buy())
    assert buyer.available == "0.000"

    buyer.happens("answer_dispute", opened)
    assert buyer.available == "0.000"
    buyer.happens("close_dispute", opened, "won")

    assert buyer.available == "10.000"


def test_a_lost_dispute_that_is_appealed(buyer: Buyer) -> None:
    """Lost is gone, under appeal still gone, the appeal won is back."""
    opened = dispute(buyer, buyer.buy())
    buyer.happens("close_dispute", opened, "lost")
    assert buyer.available == "0.000"

    buyer.happens("appeal", opened)
    assert buyer.available == "0.000"
    buyer.happens("close_dispute", opened, "won")

    assert buyer.available == "10.000"


def test_an_inquiry_moves_nothing_until_it_is_a_dispute(buyer: Buyer) -> None:
    """A question of the bank's costs nothing, opened and closed; escalated it does."""
    payment = buyer.buy()
    closed = dispute(buyer, payment, inquiry=True)
    assert buyer.available == "10.000"
    buyer.happens("close_dispute", closed, "warning_closed")
    assert buyer.available == "10.000"

    escalated = dispute(buyer, payment, inquiry=True)
    buyer.happens("escalate_dispute", escalated)

    assert buyer.available == "0.000"


def test_a_prevented_dispute_restores(buyer: Buyer) -> None:
    """What was never filed takes nothing: its balance transactions say that the money is back."""
    opened = dispute(buyer, buyer.buy())

    buyer.happens("close_dispute", opened, "prevented")

    assert buyer.available == "10.000"


def test_the_table_of_refunds_and_disputes(buyer: Buyer) -> None:
    """Refund, refund, failure, dispute beside a refund, won, the rest refunded: each step has its balance."""
    payment = buyer.buy()

    refund(buyer, payment, 500)
    assert buyer.available == "5.000"
    second = refund(buyer, payment, 499)
    assert buyer.available == "0.010"
    buyer.happens("fail_refund", second)
    assert buyer.available == "5.000"
    opened = dispute(buyer, payment)
    assert buyer.available == "0.000", "no more than was charged is taken"
    buyer.happens("close_dispute", opened, "won")
    assert buyer.available == "5.000"
    refund(buyer, payment, 500)
    assert buyer.available == "0.000"
    assert buyer.world.rows(
        "select sum(amount) as taken, sum(reversed) as gone from credit_grants where user_id = %s",
        buyer.person.id,
    ) == [{"taken": 10, "gone": 10}]


# --- before the grant, and of plans ---


@pytest.mark.parametrize("amount", [None, 300])
def test_a_refund_that_is_told_before_its_payment(buyer: Buyer, amount: int | None) -> None:
    """The refund waits for what it takes back: granted and reversed at once when the payment is told."""
    buyer.stripe.webhook_faults.hold = ("checkout.session.completed",)
    refund(buyer, buyer.buy(), amount)
    assert buyer.available == "0.000"

    buyer.stripe.webhook_faults.reset()
    buyer.stripe.release()
    buyer.stripe.drain()

    assert buyer.available == ("7.000" if amount else "0.000")
    assert buyer.person.credits()[2] == "0.000"


def test_a_refund_whose_payment_is_never_told(buyer: Buyer) -> None:
    """The sweep asks Stripe what the refunded payment paid, and both are booked."""
    buyer.stripe.webhook_faults.swallow = ("checkout.session.completed",)
    refund(buyer, buyer.buy(), 300)
    assert buyer.available == "0.000"

    buyer.world.reconcile()

    assert buyer.available == "7.000"


def test_a_refund_of_an_invoice_takes_the_period(buyer: Buyer) -> None:
    """Half of a plan's payment takes half of that period; the next period is its own."""
    subscription = buyer.subscribe()
    first = buyer.payment_of(subscription)
    buyer.happens("renew", subscription)

    refund(buyer, first, 1450)
    assert buyer.available == "45.000"
    refund(buyer, first)
    assert buyer.available == "30.000"
    assert buyer.plan, "the plan itself goes on"


def test_a_refund_of_an_invoice_that_is_told_first(buyer: Buyer) -> None:
    """Neither the invoice nor its payment is known when the refund is: in the end all fits."""
    buyer.stripe.webhook_faults.hold = ("invoice*",)
    subscription = buyer.subscribe()
    refund(buyer, buyer.payment_of(subscription), 1450)
    assert buyer.available == "0.000"

    buyer.stripe.webhook_faults.reset()
    buyer.stripe.release()
    buyer.stripe.drain()

    assert buyer.available == "15.000"


def test_a_refunded_year_stops_dripping(world: World, buyer: Buyer) -> None:
    """All money back takes the month that came; each month that still begins comes and goes at once."""
    subscription = buyer.subscribe("pro", "year")
    refund(buyer, buyer.payment_of(subscription))
    assert buyer.available == "0.000"

    world.db.execute(
        "update plan_periods set starts_at = starts_at - interval '1 month',"
        " next_month_at = next_month_at - interval '1 month' where subscription_id = %s",
        (subscription,),
    )
    world.sweep()

    assert buyer.available == "0.000"
    assert buyer.person.movements() == ["grant", "clawback", "grant", "clawback"]


def test_a_disputed_upgrade_takes_its_part(world: World, buyer: Buyer) -> None:
    """The payment of an upgrade is its own: disputed, it takes the upgrade's credits, not the first month's."""
    subscription = buyer.subscribe()
    buyer.half_through(subscription)
    buyer.at_portal(subscription, "change", price_id(world, "holdfast_plan_business_monthly"))
    assert buyer.available == "45.000"

    dispute(buyer, buyer.payment_of(subscription))

    assert buyer.available == "15.000"


# --- debt ---


def test_spent_credits_become_debt_and_the_next_pack_pays_it(buyer: Buyer) -> None:
    """Refunded after it was spent: the user owes, cannot start anything, and the next pack pays first."""
    payment = buyer.buy()
    buyer.spend("8")

    refund(buyer, payment)

    assert buyer.person.credits() == ("0.000", "0.000", "8.000")
    found = problem(buyer.person.ask(), 402, "insufficient_credits")
    assert found["status"] == 402
    buyer.buy()
    assert buyer.person.credits() == ("2.000", "0.000", "0.000")
    assert buyer.person.finished(buyer.person.start())["status"] == "succeeded"


def test_debt_is_forgiven_when_the_money_comes_back(buyer: Buyer) -> None:
    """A dispute over spent credits is a debt; won, the user is where they were."""
    payment = buyer.buy()
    buyer.spend("8")
    opened = dispute(buyer, payment)
    assert buyer.person.credits() == ("0.000", "0.000", "8.000")

    buyer.happens("close_dispute", opened, "won")

    assert buyer.person.credits() == ("2.000", "0.000", "0.000")


def test_a_refund_in_another_currency_moves_nothing_and_alarms(world: World, buyer: Buyer) -> None:
    """Cents of another money are no share of this one: nothing moves, and somebody looks."""
    payment = buyer.buy()
    buyer.stripe.webhook_faults.hold = ("refund.*", "charge.*")
    made = refund(buyer, payment, 500)
    buyer.stripe.state.get("refund", made)["currency"] = "eur"

    buyer.stripe.release()
    buyer.stripe.drain()

    assert buyer.available == "10.000"
    assert world.logged(WEBHOOK, object_id=made, outcome="currency_mismatch", level="ERROR")


def test_a_status_that_is_not_known_moves_nothing_and_alarms(world: World, buyer: Buyer) -> None:
    """Stripe says something new of a dispute: what was known stays, and somebody looks."""
    opened = dispute(buyer, buyer.buy())
    buyer.stripe.state.get("dispute", opened)["status"] = "half_won"

    for event in buyer.stripe.state.newest("event"):
        if event["type"] == "charge.dispute.created" and event["data"]["object"]["id"] == opened:
            twin = buyer.stripe.state.twin(event)
            buyer.stripe.deliver(twin)

    assert buyer.available == "0.000"
    assert world.logged(WEBHOOK, object_id=opened, outcome="unknown_status", level="ERROR")
