"""What a user sees when something goes wrong, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.browser.place import IMAGE, Place, Visitor

Open = Callable[..., Visitor]
Keep = Callable[[Visitor, str], None]


def test_refused_payment(open_page: Open) -> None:
    """A card that is declined buys nothing, the user may go back, and is told so."""
    visitor = open_page().sign_up(credits_="0")
    visitor.go("Credits")
    visitor.page.get_by_role("button", name=re.compile("Buy Starter")).click()

    visitor.pay("decline")
    visitor.pay("back")

    visitor.told("You did not pay")
    visitor.balance("0")


def test_no_credits(open_page: Open, screenshot: Keep) -> None:
    """Without credits the page says so before and after, and leads to where they are."""
    visitor = open_page().sign_up(credits_="0")
    visitor.write("a castle")
    expect(visitor.page.locator(".price")).to_contain_text("you have 0 credits")

    visitor.page.get_by_role("button", name="Generate").click()

    visitor.told("You do not have enough credits")
    screenshot(visitor, "no-credits")
    visitor.page.locator("#notices").get_by_role("link", name="Get credits").first.click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Credits")


def test_failed_job(open_page: Open, place: Place, screenshot: Keep) -> None:
    """A job that fails says why, and the credits are back."""
    visitor = open_page().sign_up()
    place.stack.babysea.plan(outcome="fail")

    card = visitor.generate("a thing that cannot be")

    expect(card).to_have_attribute("data-status", "failed")
    expect(card.locator(".problem")).not_to_be_empty()
    visitor.balance("10")
    screenshot(visitor, "failed-job")


def test_canceled_job(open_page: Open, place: Place) -> None:
    """A job that is canceled in time costs nothing."""
    visitor = open_page().sign_up()
    place.stack.babysea.behaviour.change(processing=30)
    card = visitor.generate("changed my mind")
    visitor.balance("9.995")

    card.get_by_role("button", name="Cancel").click()

    expect(card).to_have_attribute("data-status", "canceled")
    visitor.balance("10")


def test_two_tabs(open_page: Open) -> None:
    """What one tab does the other one sees: the balance, and who is signed in."""
    first = open_page().sign_up()
    second = open_page(beside=first)
    second.balance("10")

    first.is_ready(first.generate("seen in both"))
    second.balance("9.995")

    second.go("Account")
    second.page.get_by_role("button", name="Sign out").click()
    expect(first.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_reload_while_it_is_made(open_page: Open, place: Place) -> None:
    """A reload in the middle finds the job where it is, and shows its picture when it is done."""
    visitor = open_page().sign_up()
    place.stack.babysea.behaviour.change(processing=2.5)
    expect(visitor.generate("patience")).to_be_visible()

    visitor.page.reload()

    visitor.is_ready(visitor.card("patience"))
    visitor.balance("9.995")


def test_reload_before_the_answer(open_page: Open, place: Place) -> None:
    """A reload before the answer starts no second job: the page asks again with the same key."""
    visitor = open_page().sign_up()
    visitor.write("only once")

    def swallow(route: Route) -> None:
        if route.request.method == "POST":
            route.fetch()  # it arrives and takes effect, its answer does not
        route.abort()

    visitor.page.route("**/generations", swallow, times=1)
    visitor.page.get_by_role("button", name="Generate").click()
    visitor.page.wait_for_function("sessionStorage.getItem('holdfast.pending') !== null")
    visitor.page.reload()

    visitor.is_ready(visitor.card("only once"))
    assert place.rows(
        "select count(*) from generations g join auth.users u on u.id = g.user_id where email = %s",
        visitor.email,
    ) == [{"count": 1}]


def test_slow_network(open_page: Open) -> None:
    """On a slow line a second press starts no second job, and everything still ends well."""
    visitor = open_page().sign_up()
    visitor.slow_down()
    visitor.write("slowly")
    button = visitor.page.get_by_role("button", name="Generate")
    button.dblclick()

    visitor.is_ready(visitor.card("slowly"))

    expect(visitor.card("slowly")).to_have_count(1)
    visitor.balance("9.995")


def test_offline(open_page: Open) -> None:
    """Without a connection the page says so; when it is back the same press works."""
    visitor = open_page().sign_up()
    visitor.write("through the tunnel")
    visitor.page.context.set_offline(True)
    visitor.page.get_by_role("button", name="Generate").click()
    visitor.told("cannot be reached")

    visitor.page.context.set_offline(False)
    visitor.page.get_by_role("button", name="Generate").click()

    visitor.is_ready(visitor.card("through the tunnel"))


def test_price_changed(open_page: Open, place: Place) -> None:
    """A price that rose since it was shown is not charged: the page shows the new one first."""
    visitor = open_page().sign_up()
    visitor.write("before the rise")
    visitor.page.route(
        "**/generations",
        lambda route: route.continue_(
            post_data=re.sub(
                r'"max_cost_credits":"[^"]+"',
                '"max_cost_credits":"0.001"',
                route.request.post_data or "",
            )
        ),
        times=1,
    )

    visitor.page.get_by_role("button", name="Generate").click()

    visitor.told("The price has changed")
    visitor.balance("10")
    assert place.rows("select from generations where prompt = 'before the rise'") == []


def test_signed_url_that_is_too_old(open_page: Open, place: Place) -> None:
    """A picture whose signed URL has expired is fetched anew, unseen by the user."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("here to stay"))
    place.stack.supabase.faults.add(
        "status", r"GET /storage/v1/object/sign/.*", status=400, times=1
    )

    visitor.go("Library")

    visitor.is_ready(visitor.card("here to stay"))


def test_session_that_ended(open_page: Open) -> None:
    """Who was signed out elsewhere is asked to sign in again, without an error they cannot use."""
    visitor = open_page().sign_up()
    visitor.page.evaluate(
        "s => localStorage.setItem('holdfast.session', JSON.stringify({...JSON.parse(s), access_token: 'x.y.z'}))",
        visitor.page.evaluate("localStorage.getItem('holdfast.session')"),
    )

    visitor.go("Library")

    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_old_token(open_page: Open) -> None:
    """An access token that is about to end is renewed before the next call."""
    visitor = open_page().sign_up()
    before = visitor.page.evaluate(
        """() => {
          const s = JSON.parse(localStorage.getItem('holdfast.session'));
          localStorage.setItem('holdfast.session', JSON.stringify({...s, expires_at: 0}));
          return s.refresh_token;
        }"""
    )

    visitor.go("Library")

    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("Library")
    after = visitor.page.evaluate(
        "JSON.parse(localStorage.getItem('holdfast.session')).refresh_token"
    )
    assert after != before


@pytest.mark.parametrize(
    "text", ["<img src=x onerror=alert(1)>", "'; drop table generations; --", "𓂀 ünïcode"]
)
def test_prompts_are_text(open_page: Open, text: str) -> None:
    """Whatever a prompt holds is shown as it was written."""
    visitor = open_page().sign_up()

    card = visitor.generate(text, IMAGE)

    visitor.is_ready(card)
    expect(card.locator(".prompt")).to_have_text(text)
