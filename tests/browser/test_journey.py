"""The whole way of a user, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from holdfast.vocabulary import GenerationStatus
from tests.browser.place import PASSWORD, VIDEO, Place, Visitor

Open = Callable[..., Visitor]
Keep = Callable[[Visitor, str], None]


WIDTH = "document.documentElement.scrollWidth"
MONTHLY_PRO = re.compile(r"Subscribe to Pro: 30 credits a month for \D*29(\D.*)? a month")


def test_sign_up_and_generate(open_page: Open, screenshot: Keep) -> None:
    """A new user signs up, finds the gift, sees the price, generates, sees the picture and what it cost."""
    visitor = open_page()
    screenshot(visitor, "sign-in")
    visitor.sign_up()
    visitor.balance("10")

    card = visitor.generate("a lighthouse in a storm")

    visitor.is_ready(card)
    visitor.balance("9.995")
    expect(card).to_contain_text("0.005 credits")
    for prompt in ("a fox in the snow", "a market at night", "paper boats on a river"):
        visitor.is_ready(visitor.generate(prompt))
    screenshot(visitor, "create")


def test_out_and_in_again(open_page: Open) -> None:
    """Who signs out sees nothing of the account; with the password everything is back; a wrong one is told."""
    visitor = open_page().sign_up()
    visitor.go("Account")
    visitor.page.get_by_role("button", name="Sign out").click()
    expect(visitor.page.get_by_role("navigation")).to_be_hidden()
    visitor.page.get_by_label("E-mail").fill(visitor.email)

    visitor.page.get_by_label("Password").fill("not the password")
    visitor.page.get_by_role("button", name="Sign in").click()
    visitor.told("do not fit together")
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Sign in").click()

    visitor.balance("10")


def test_google(open_page: Open) -> None:
    """The Google button signs in, and no code or token stays in the address."""
    visitor = open_page()

    visitor.page.get_by_role("button", name="Continue with Google").click()

    expect(visitor.page.get_by_role("navigation")).to_be_visible()
    assert not re.search("code|token", visitor.page.url)


def test_buy_a_pack(open_page: Open, screenshot: Keep) -> None:
    """A pack is paid on Stripe's page; back here the credits are there, and the ledger says so."""
    visitor = open_page().sign_up(credits_="0")
    visitor.balance("0")
    visitor.go("Credits")

    visitor.page.get_by_role("button", name=re.compile("Buy Starter")).click()
    visitor.pay()

    visitor.told("Your payment has arrived")
    visitor.balance("10")
    expect(visitor.page.get_by_label("Ledger entries")).to_contain_text("Credits in")
    assert "session_id" not in visitor.page.url
    screenshot(visitor, "credits")


def test_subscribe_to_a_plan(open_page: Open, screenshot: Keep) -> None:
    """A plan is paid on Stripe's page; back here its credits and its renewal are shown, and it is managed at Stripe."""
    visitor = open_page().sign_up(credits_="0")
    visitor.go("Credits")

    visitor.page.get_by_role("button", name=MONTHLY_PRO).click()
    visitor.pay()

    visitor.told("Your payment has arrived")
    visitor.balance("30")
    expect(visitor.page.get_by_text("Renews on")).to_be_visible()
    screenshot(visitor, "plan")
    visitor.page.get_by_role("button", name="Manage plan").click()
    visitor.page.wait_for_url(f"{visitor.place.stack.stripe.url}/**")


def test_a_second_plan_is_refused(open_page: Open) -> None:
    """Who has a plan is led to where it is changed, and pays nothing."""
    visitor = open_page().sign_up(credits_="0")
    visitor.go("Credits")
    visitor.page.get_by_role("button", name=MONTHLY_PRO).click()
    visitor.pay()
    visitor.balance("30")
    expect(visitor.page.get_by_text("Renews on")).to_be_visible()

    visitor.page.get_by_role("button", name=re.compile("Subscribe to Business")).first.click()

    visitor.told("You already have a plan")


def test_library(open_page: Open, screenshot: Keep) -> None:
    """What was made is in the library, can be told apart by kind, downloaded, and deleted for good."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("a red boat"))
    visitor.is_ready(visitor.generate("waves", VIDEO))
    visitor.go("Library")
    visitor.is_ready(visitor.card("a red boat"))
    visitor.is_ready(visitor.card("waves"))
    screenshot(visitor, "library")
    states = visitor.page.get_by_label("State").locator("option")
    assert states.evaluate_all("options => options.map(o => o.value)") == ["", *GenerationStatus]

    visitor.page.get_by_label("Kind").select_option("video")
    expect(visitor.page.get_by_role("article")).to_have_count(1)
    with visitor.page.expect_download() as download:
        visitor.card("waves").get_by_role("link", name="Download").click()
    assert download.value.suggested_filename.endswith(".mp4")

    visitor.card("waves").get_by_role("button", name="Delete").click()
    visitor.page.get_by_role("dialog").get_by_role("button", name="Keep it").click()
    expect(visitor.card("waves")).to_be_visible()
    visitor.card("waves").get_by_role("button", name="Delete").click()
    visitor.page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(visitor.card("waves")).to_have_count(0)
    visitor.page.reload()
    visitor.is_ready(visitor.card("a red boat"))
    expect(visitor.page.get_by_role("article")).to_have_count(1)


def test_own_picture(open_page: Open) -> None:
    """An own picture is uploaded, used for a job, found in the account, and deleted there."""
    visitor = open_page().sign_up()
    visitor.page.get_by_label("Model", exact=True).select_option("bfl/flux-1.1-pro")
    visitor.page.get_by_label("Picture to start from").set_input_files(visitor.picture())
    visitor.told("The picture is uploaded")
    visitor.is_ready(visitor.generate("in the style of this", "bfl/flux-1.1-pro"))

    visitor.go("Account")
    uploads = visitor.page.get_by_label("Your uploads")
    expect(uploads.get_by_role("img")).to_be_visible()
    uploads.get_by_role("button", name="Delete").click()
    visitor.page.get_by_role("dialog").get_by_role("button", name="Delete").click()

    expect(uploads.get_by_role("img")).to_have_count(0)


def test_low_balance(open_page: Open) -> None:
    """The warning comes when the balance falls below what the user has set, with the way to more credits."""
    visitor = open_page().sign_up()
    visitor.go("Account")
    visitor.page.get_by_label("Warn me below").fill("9.999")
    visitor.page.get_by_role("button", name="Save").click()
    visitor.told("Saved")
    visitor.go("Create")

    visitor.is_ready(visitor.generate("a small thing"))

    visitor.told("Your balance is low: 9.995 credits left")
    visitor.go("Account")
    expect(visitor.page.get_by_label("Alerts")).to_contain_text("below 9.999")


def test_presets_and_what_happened(open_page: Open) -> None:
    """A portrait is put together from named looks; afterwards the page tells what happened to it, step by step."""
    visitor = open_page().sign_up()
    visitor.write("in the rain")
    visitor.page.get_by_label("What is it for?").select_option("portrait")
    visitor.page.get_by_label("Person").select_option("mara")
    visitor.page.get_by_label("Pose").select_option("walking")
    visitor.page.get_by_role("button", name="Generate").click()
    card = visitor.card("in the rain")
    visitor.is_ready(card)

    card.get_by_text("What happened").click()

    expect(card.get_by_role("listitem")).to_have_count(4)
    expect(card.get_by_role("listitem").first).to_contain_text("Waiting")
    expect(card.get_by_role("listitem").last).to_contain_text("Ready")
    (row,) = visitor.place.rows(
        "select prompt, fields from generations where user_id ="
        " (select id from auth.users where email = %s)",
        visitor.email,
    )
    assert row["fields"]["presets"] == {"model": "mara", "pose": "walking"}


def test_credits_by_hand(open_page: Open, place: Place) -> None:
    """An admin gives credits to the id that somebody tells them, and cannot take more than are there."""
    somebody = open_page().sign_up(credits_="0")
    somebody.go("Account")
    expect(somebody.page.get_by_label("Credits by hand")).to_be_hidden()
    somebody.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    somebody.page.get_by_role("button", name="Copy").click()
    somebody.told("Copied")
    told = somebody.page.evaluate("navigator.clipboard.readText()")
    assert told == somebody.page.get_by_label("Your id").input_value()
    admin = open_page().sign_up(credits_="0")
    place.make_admin(admin.email)
    admin.page.reload()
    admin.go("Account")

    form = admin.page.get_by_label("Credits by hand")
    form.get_by_label("User").fill(told)
    form.get_by_label("Credits", exact=True).fill("5.5")
    form.get_by_label("Reason").fill("for the trouble")
    form.get_by_role("button", name="Adjust").click()

    admin.told("5.5 credits: adjusted")
    form.get_by_label("User").fill(told)
    form.get_by_label("Credits", exact=True).fill("-6")
    form.get_by_label("Reason").fill("too much")
    form.get_by_role("button", name="Adjust").click()
    admin.told("The user has less available than that.")
    somebody.page.reload()
    somebody.balance("5.5")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_phone(open_page: Open, screenshot: Keep, scheme: str) -> None:
    """On a phone no view is wider than the screen, by day and by night."""
    visitor = open_page(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    expect(visitor.page.get_by_role("heading", level=1)).to_be_visible()
    widths = {"Sign in": visitor.page.evaluate(WIDTH)}
    visitor.sign_up()
    visitor.is_ready(visitor.generate("a mountain lake"))
    screenshot(visitor, f"phone-{scheme}")

    for name in ("Create", "Library", "Credits", "Account"):
        visitor.go(name)
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text(name)
        widths[name] = visitor.page.evaluate(WIDTH)

    # not innerWidth: on a phone that grows with what is too wide
    assert widths == dict.fromkeys(widths, 390)


def test_keyboard_alone(open_page: Open) -> None:
    """Signing up, generating and deleting work without a pointer, and the focus can be seen and is not lost."""
    visitor = open_page()
    keys = visitor.page.keyboard
    keys.type(visitor.place.new_email())
    keys.press("Tab")
    keys.type(PASSWORD)
    for _ in range(2):
        keys.press("Tab")  # past "Sign in"
    keys.press("Enter")
    expect(visitor.page.get_by_label("Prompt", exact=True)).to_be_visible()
    visitor.tab_to("Prompt")
    keys.type("by keyboard")
    expect(visitor.page.locator(".price")).to_contain_text("This costs")
    visitor.tab_to("Generate")
    assert visitor.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"

    keys.press("Enter")

    visitor.is_ready(visitor.card("by keyboard"))
    visitor.tab_to("Delete")
    keys.press("Enter")
    expect(visitor.page.get_by_role("dialog")).to_be_visible()
    visitor.tab_to("Delete")
    keys.press("Enter")
    expect(visitor.card("by keyboard")).to_have_count(0)
    assert visitor.page.evaluate("document.activeElement !== document.body")


def test_what_is_read_out(open_page: Open, place: Place) -> None:
    """A screen reader hears how a job ended, keeps its place when things change, and is told what a field lacks."""
    visitor = open_page().sign_up()
    place.stack.babysea.behaviour.change(processing=2)
    visitor.page.get_by_role("button", name="Generate").click()
    prompt = visitor.page.get_by_label("Prompt", exact=True)
    expect(prompt).to_be_focused()
    expect(prompt).to_have_accessible_description("Say what you want to see.")

    card = visitor.generate("heard and not seen")
    card.get_by_role("button", name="Cancel").focus()
    visitor.is_ready(card)

    expect(card).to_be_focused()
    expect(visitor.page.locator("#said")).to_have_text("Ready: Flux schnell, heard and not seen")
    expect(prompt).to_have_accessible_description("")
    visitor.go("Account")
    visitor.page.get_by_label("Warn me below").fill("3")
    visitor.tab_to("Save")
    visitor.page.keyboard.press("Enter")
    visitor.told("Saved")
    expect(visitor.page.get_by_role("button", name="Save")).to_be_focused()


def test_skip_link(open_page: Open) -> None:
    """The link past the navigation moves the focus, and nothing that was typed is lost."""
    visitor = open_page().sign_up()
    visitor.write("half a thought")

    visitor.page.get_by_role("link", name="Skip to the content").focus()
    visitor.page.keyboard.press("Enter")

    expect(visitor.page.locator("#main")).to_be_focused()
    visitor.page.wait_for_timeout(300)  # as long as opening a view takes
    expect(visitor.page.get_by_label("Prompt", exact=True)).to_have_value("half a thought")


def test_names_for_a_screen_reader(open_page: Open) -> None:
    """Every control, picture and region of every view has a name that can be read out."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("a named thing"))
    for name in ("Create", "Library", "Credits", "Account"):
        visitor.go(name)
        expect(visitor.page.get_by_role("heading", level=1)).to_have_text(name)
        assert visitor.nameless() == [], name


def test_hand_made_addresses(open_page: Open, place: Place) -> None:
    """An address that names no view, or holds markup, shows the page and runs nothing."""
    visitor = open_page().sign_up()
    for part in (
        "#/nothing",
        "#/constructor",
        "#/toString",
        "#/__proto__",
        "#/<img src=x onerror=alert(1)>",
        "?paid=1&session_id=<script>",
    ):
        visitor.page.goto(f"{place.frontend.url}/{part}")
        expect(visitor.page.get_by_role("heading", level=1)).to_be_attached()
