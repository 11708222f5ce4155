"""Payments that take their time, plans that change or fail, and money that goes back, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.place import Visitor

Open = Callable[..., Visitor]
STARTER = re.compile("Buy Starter")
PRO = re.compile("Subscribe to Pro: .* a month$")
PRO_YEARLY = re.compile("Subscribe to Pro: .* a year$")
NOT_PAID = re.compile("past.due|payment failed|not paid")


@pytest.fixture(name="buyer")
def _buyer(open_page: Open) -> Visitor:
    """Return somebody without credits, before what can be bought."""
    visitor = open_page().sign_up(credits_="0")
    visitor.go("Credits")
    return visitor


def press(buyer: Visitor, name: str | re.Pattern[str]) -> None:
    """Press a button of the page."""
    buyer.page.get_by_role("button", name=name).click()


def bought(buyer: Visitor) -> dict[str, Any]:
    """Return what is known of a buyer's newest purchase."""
    return buyer.place.rows(
        "select p.* from purchases p join auth.users u on u.id = p.user_id"
        " where u.email = %s order by p.created_at desc limit 1",
        buyer.email,
    )[0]


def at_stripe(buyer: Visitor, control: str, *args: Any, **options: Any) -> None:
    """Let something happen at Stripe, and wait until the product has heard of it."""
    stripe = buyer.place.stack.stripe
    getattr(stripe, control)(*args, **options)
    stripe.drain(30)


def to_portal(buyer: Visitor, button: str) -> None:
    """Press the button that leads to the billing portal."""
    press(buyer, button)
    buyer.page.wait_for_url(f"{buyer.place.stack.stripe.url}/**")


def at_portal(buyer: Visitor, button: str | re.Pattern[str]) -> None:
    """Go to the portal, press a button there, and come back to the credits."""
    to_portal(buyer, "Manage plan")
    press(buyer, button)
    press(buyer, "Back")
    buyer.page.wait_for_url(f"{buyer.place.frontend.url}/**")
    buyer.go("Credits")


def figures(buyer: Visitor) -> Locator:
    """Return the panel with the balance, the plan and the grants."""
    return buyer.page.get_by_role("region", name="Balance")


def figure(buyer: Visitor, name: str) -> Locator:
    """Return one of the figures of the balance."""
    return figures(buyer).locator(".figure").filter(has_text=name).locator("dd").first


def subscribe(buyer: Visitor, offer: re.Pattern[str] = PRO) -> str:
    """Subscribe to a plan and return its subscription."""
    press(buyer, offer)
    buyer.pay()
    buyer.told("Your payment has arrived")
    expect(figures(buyer)).to_contain_text("Renews on")
    return str(bought(buyer)["stripe_subscription_id"])


@pytest.mark.parametrize(
    ("offer", "credits_"), [(STARTER, "10"), (PRO, "30")], ids=["pack", "plan"]
)
def test_delayed_payment_that_succeeds(
    buyer: Visitor, offer: re.Pattern[str], credits_: str
) -> None:
    """Back from the payment page the money is said to be on its way; when it is here the credits are."""
    press(buyer, offer)
    buyer.pay("pay_delayed")
    buyer.told("The payment is on its way")
    buyer.balance("0")

    at_stripe(buyer, "settle_delayed", bought(buyer)["stripe_session_id"])
    buyer.page.reload()

    buyer.balance(credits_)
    buyer.told("Your payment has arrived")


def test_delayed_payment_that_fails(buyer: Visitor) -> None:
    """A payment that was on its way and failed is told at the next visit, and the pack can be bought again."""
    press(buyer, STARTER)
    buyer.pay("pay_delayed")
    buyer.told("The payment is on its way")

    at_stripe(buyer, "settle_delayed", bought(buyer)["stripe_session_id"], ok=False)
    buyer.page.reload()

    buyer.told("The payment did not work")
    buyer.balance("0")
    press(buyer, STARTER)
    buyer.pay()
    buyer.balance("10")


def test_yearly_plan(buyer: Visitor) -> None:
    """A plan paid for a year gives the credits of its first month now, and says when it renews."""
    subscribe(buyer, PRO_YEARLY)

    buyer.balance("30")
    expect(figures(buyer)).to_contain_text("yearly")
    assert (bought(buyer)["interval"], bought(buyer)["amount_minor"]) == ("year", 29_000)


def test_plan_changed(buyer: Visitor) -> None:
    """A plan changed in the portal is the one the page shows, with the credits that come with it."""
    subscribe(buyer)
    expect(figures(buyer)).to_contain_text(re.compile("Plan: pro", re.IGNORECASE))

    at_portal(buyer, re.compile("Change to Business: .* month$"))

    expect(figures(buyer)).to_contain_text(re.compile("Plan: business", re.IGNORECASE))
    expect(buyer.page.locator("#balance strong")).not_to_have_text("30")


def test_plan_canceled_and_kept(buyer: Visitor) -> None:
    """A plan canceled in the portal says on which day it ends; taken back there, it renews again."""
    subscribe(buyer)

    at_portal(buyer, "Cancel at the period's end")
    expect(figures(buyer)).to_contain_text("Ends on")
    expect(figures(buyer)).not_to_contain_text("Renews on")
    buyer.balance("30")

    at_portal(buyer, "Keep the plan")
    expect(figures(buyer)).to_contain_text("Renews on")


def test_plan_that_ended(buyer: Visitor) -> None:
    """A plan that is over is not shown, and another one can be had."""
    subscription = subscribe(buyer)

    at_stripe(buyer, "cancel_now", subscription)
    buyer.page.reload()

    expect(figure(buyer, "Available")).to_have_text("30")
    expect(figures(buyer)).not_to_contain_text("Renews on")
    subscribe(buyer)


def test_portal_without_a_plan(buyer: Visitor) -> None:
    """Who bought something finds their cards and invoices, also without a plan; who did not has no such button."""
    offered = buyer.page.get_by_role("button", name="Cards and invoices")
    expect(buyer.page.get_by_role("button", name=STARTER)).to_be_visible()
    expect(offered).to_have_count(0)
    press(buyer, STARTER)
    buyer.pay()

    to_portal(buyer, "Cards and invoices")

    expect(buyer.page.get_by_role("button", name="Back")).to_be_visible()


def test_renewal_that_fails(buyer: Visitor) -> None:
    """A renewal that was not paid is shown; paid in the portal, the plan and its credits are back."""
    subscription = subscribe(buyer)
    at_stripe(buyer, "fail_renewal", subscription)
    buyer.page.reload()
    expect(figures(buyer)).to_contain_text(NOT_PAID)
    buyer.balance("30")

    at_portal(buyer, "Pay what is open")

    buyer.balance("60")
    expect(figures(buyer)).not_to_contain_text(NOT_PAID)


def gets_money_back_for_what_is_spent(buyer: Visitor) -> None:
    """Buy a pack, spend a little of it, and have the whole payment refunded."""
    press(buyer, STARTER)
    buyer.pay()
    buyer.balance("10")
    buyer.go("Create")
    buyer.is_ready(buyer.generate("bought and spent"))
    expect(buyer.page.locator("#balance")).not_to_contain_text("owed")
    at_stripe(buyer, "refund", bought(buyer)["stripe_payment_intent_id"])


def test_owed(buyer: Visitor) -> None:
    """Spent credits whose payment went back are owed: the page says so, and why nothing can be made until then."""
    gets_money_back_for_what_is_spent(buyer)
    buyer.page.reload()

    buyer.balance("0")
    expect(buyer.page.locator("#balance")).to_contain_text("0.005 owed")
    buyer.write("on credit")
    expect(buyer.page.locator(".price")).to_contain_text("you have 0 credits")
    buyer.page.get_by_role("button", name="Generate").click()
    buyer.told("You do not have enough credits")
    expect(buyer.page.locator(".price")).to_contain_text("You owe 0.005 credits")
    expect(buyer.card("on credit")).to_have_count(0)


def test_debt_paid(buyer: Visitor) -> None:
    """What is owed stands beside the balance and is paid by the next credits."""
    gets_money_back_for_what_is_spent(buyer)
    buyer.go("Credits")
    expect(figure(buyer, "Owed")).to_have_text("0.005")
    expect(buyer.page.get_by_label("Ledger entries")).to_contain_text("Taken back")

    press(buyer, STARTER)
    buyer.pay()

    buyer.balance("9.995")
    expect(figure(buyer, "Available")).to_have_text("9.995")
    expect(figures(buyer)).not_to_contain_text("Owed")


def test_reserved(open_page: Open) -> None:
    """While a job is under way its credits are shown as reserved; when it has ended they are not any more."""
    visitor = open_page().sign_up()
    visitor.place.stack.babysea.behaviour.change(processing=30)
    card = visitor.generate("still being made")
    expect(visitor.page.locator("#balance")).to_contain_text("0.005 reserved")

    visitor.go("Credits")
    expect(figure(visitor, "Reserved")).to_have_text("0.005")
    expect(figure(visitor, "Available")).to_have_text("9.995")
    visitor.go("Create")
    card.get_by_role("button", name="Cancel").click()

    expect(card).to_have_attribute("data-status", "canceled")
    expect(visitor.page.locator("#balance")).not_to_contain_text("reserved")
    visitor.go("Credits")
    expect(figure(visitor, "Reserved")).to_have_text("0")
