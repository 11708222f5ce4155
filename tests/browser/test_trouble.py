"""What a user sees when something goes wrong, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from holdfast.usecases.create_upload import PictureType
from tests.browser.place import IMAGE, VIDEO, Place, Visitor

Open = Callable[..., Visitor]
Keep = Callable[[Visitor, str], None]
KEPT = "holdfast.pending"


def started(place: Place, prompt: str) -> int:
    """Return how many generations there are with this prompt, which a test uses for itself."""
    return len(place.rows("select from generations where prompt = %s", prompt))


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


def test_no_notice_covers_a_control(open_page: Open) -> None:
    """On a phone every control can be brought to where no message lies over it."""
    visitor = open_page(viewport={"width": 390, "height": 700}, has_touch=True, is_mobile=True)
    visitor.sign_up(credits_="0")
    visitor.write("a castle")
    visitor.page.get_by_role("button", name="Generate").click()
    visitor.told("You do not have enough credits")

    covered = visitor.page.locator("main").evaluate(
        """main => [...main.querySelectorAll("button, select, input, textarea, summary")]
          .filter(control => control.checkVisibility())
          .filter(control => {
            control.scrollIntoView({ block: "nearest", behavior: "instant" });
            const { left, top, bottom } = control.getBoundingClientRect();
            return [top + 2, bottom - 2].some(y => document.elementFromPoint(left + 5, y) !== control);
          })
          .map(control => control.name || control.textContent)"""
    )

    assert covered == []


def test_unfit_picture(open_page: Open) -> None:
    """What the server does not take as a picture is refused with its reason, because no field is marked."""
    visitor = open_page().sign_up()
    visitor.page.get_by_label("Model", exact=True).select_option("bfl/flux-1.1-pro")
    chooser = visitor.page.get_by_label("Picture to start from")
    expect(chooser).to_have_attribute("accept", ",".join(PictureType))

    chooser.set_input_files({"name": "a.gif", "mimeType": "image/gif", "buffer": b"GIF89a"})

    visitor.told("Type: Input should be 'image/jpeg', 'image/png' or 'image/webp'.")


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


def test_cancel_without_an_answer(open_page: Open, place: Place) -> None:
    """While the provider has not confirmed a cancel the page says so, and nothing is given back on a guess."""
    visitor = open_page().sign_up()
    place.stack.babysea.behaviour.change(processing=30)
    card = visitor.generate("not heard yet")
    expect(card).to_have_attribute("data-status", "processing")
    place.stack.babysea.faults.add("down", r"POST /v1/content/generation/cancel/.*", times=1)

    card.get_by_role("button", name="Cancel").click()

    visitor.told("We asked for it to be stopped")
    expect(card).to_have_attribute("data-status", "processing")
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


@pytest.mark.parametrize("status", [0, 500, 502], ids=["nothing", "500", "502"])
def test_pressed_again_after_a_lost_answer(open_page: Open, place: Place, status: int) -> None:
    """When all answers were lost, pressing again asks with the same key: one job, paid once."""
    prompt = f"just the one, {status}"
    visitor = open_page().sign_up()
    visitor.write(prompt)

    def swallow(route: Route) -> None:
        arrived = route.fetch()  # it arrives and takes effect, its answer does not
        if status:
            route.fulfill(response=arrived, status=status, body="{}")
        else:
            route.abort()

    visitor.page.route("**/generations", swallow)
    visitor.page.get_by_role("button", name="Generate").click()
    expect(visitor.page.locator(".notice.bad")).to_be_visible()
    assert started(place, prompt) == 1
    visitor.page.unroute("**/generations")

    visitor.page.get_by_role("button", name="Generate").click()

    visitor.is_ready(visitor.card(prompt))
    assert started(place, prompt) == 1
    visitor.balance("9.995")


def test_the_same_wish_twice(open_page: Open, place: Place) -> None:
    """Who has seen the answer and presses again wants a second one, and gets it."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("two of these"))

    visitor.page.get_by_role("button", name="Generate").click()

    expect(visitor.card("two of these")).to_have_count(2)
    assert started(place, "two of these") == 2


def test_refused_for_good(open_page: Open, place: Place) -> None:
    """What the provider refused has ended: pressing again is a new request, not the old failure."""
    visitor = open_page().sign_up()
    visitor.write("second try")
    place.stack.babysea.refuse("BSE4006", times=1)
    visitor.page.get_by_role("button", name="Generate").click()
    visitor.told("The service that makes the media refused this")

    visitor.page.get_by_role("button", name="Generate").click()

    visitor.is_ready(visitor.card("second try"))
    assert started(place, "second try") == 2
    visitor.balance("9.995")


def test_somebody_elses_request(open_page: Open, place: Place) -> None:
    """A request that was kept for one user is never sent for another, nor left behind."""
    visitor = open_page().sign_up()
    visitor.write("not for others")
    visitor.page.route("**/generations", lambda route: route.abort())
    visitor.page.get_by_role("button", name="Generate").click()
    visitor.told("cannot be reached")
    visitor.page.unroute("**/generations")
    kept = visitor.page.evaluate(f"sessionStorage.getItem({KEPT!r})")

    visitor.go("Account")
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()
    assert visitor.page.evaluate(f"sessionStorage.getItem({KEPT!r})") is None
    visitor.sign_up()
    visitor.page.evaluate("([key, kept]) => sessionStorage.setItem(key, kept)", [KEPT, kept])
    visitor.go("Library")
    visitor.go("Create")

    expect(visitor.page.get_by_text("What you make appears here")).to_be_visible()
    assert visitor.page.evaluate(f"sessionStorage.getItem({KEPT!r})") is None
    assert started(place, "not for others") == 0


def test_pressed_before_the_price_is_there(open_page: Open, place: Place) -> None:
    """On a slow line the price of what was chosen is fetched and shown before the request goes, and is its bound."""
    visitor = open_page().sign_up()
    visitor.write("in a hurry")
    visitor.slow_down()
    sent: list[dict[str, str]] = []
    visitor.page.on(
        "request",
        lambda request: (
            sent.append(request.post_data_json) if request.url.endswith("/generations") else None
        ),
    )

    visitor.page.get_by_label("Model", exact=True).select_option("bfl/flux-1.1-pro")
    visitor.page.get_by_role("button", name="Generate").click()

    visitor.is_ready(visitor.card("in a hurry"))
    (row,) = place.rows("select cost_credits from generations where prompt = 'in a hurry'")
    assert [request["max_cost_credits"] for request in sent] == [f"{row['cost_credits']:.3f}"]
    price = f"{row['cost_credits'].normalize():f}"
    expect(visitor.page.locator(".price strong")).to_have_text(f"{price} credits")


def test_prices_that_come_in_another_order(open_page: Open) -> None:
    """An answer that is late does not put the price of another model back."""
    visitor = open_page().sign_up()
    visitor.write("which price")
    cheap = visitor.page.locator(".price strong").inner_text()
    late: list[Route] = []
    visitor.page.route("**/estimates", lambda route: late.append(route), times=1)  # noqa: PLW0108 - Playwright marks what it is given
    with visitor.page.expect_request("**/estimates"):
        visitor.page.get_by_label("Model", exact=True).select_option(VIDEO)
    visitor.page.get_by_label("Model", exact=True).select_option(IMAGE)
    expect(visitor.page.locator(".price strong")).to_have_text(cheap)

    visitor.page.wait_for_timeout(500)  # nothing is under way any more but the late one

    late[0].continue_()
    late[0].request.response()
    visitor.page.wait_for_timeout(300)

    expect(visitor.page.locator(".price strong")).to_have_text(cheap)


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
