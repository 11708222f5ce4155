"""Signing up where the address has to be confirmed, in a real browser: the mail, its link, the gift."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from local.standins.supabase_oauth import GoogleUser
from tests.browser.place import PASSWORD, Place, Visitor

Open = Callable[..., Visitor]


@pytest.fixture(name="_confirming")
def _confirming(place: Place) -> Iterator[None]:
    """Let Supabase Auth ask for a confirmed address, as a new project does."""
    auth = place.stack.supabase.auth
    auth.autoconfirm = False
    yield
    auth.autoconfirm = True


@pytest.fixture(name="_no_email")
def _no_email(place: Place) -> Iterator[None]:
    """Let Google tell no address."""
    oauth = place.stack.supabase.auth.oauth
    before, oauth.google_user = oauth.google_user, GoogleUser("300", "Nobody", None)
    yield
    oauth.google_user = before


def ask_in(visitor: Visitor, button: str) -> None:
    """Fill the form of the sign-in view and press a button of it."""
    visitor.page.get_by_label("E-mail").fill(visitor.email)
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name=button).click()


def links(visitor: Visitor) -> list[str]:
    """Return the links that were mailed to a visitor."""
    mails = visitor.place.stack.supabase.auth.confirmation.mails
    return [mail.link for mail in mails if mail.to == visitor.email]


def newcomer(open_page: Open, place: Place) -> Visitor:
    """Return somebody who has asked for an account and was sent a mail."""
    place.set_welcome("10")
    visitor = open_page()
    visitor.email = place.new_email()
    ask_in(visitor, "Sign up")
    visitor.told("We sent you an e-mail. Follow its link")
    return visitor


@pytest.mark.usefixtures("_confirming")
def test_confirmation_mail(open_page: Open, place: Place) -> None:
    """Before the link is followed nobody is let in and the page says why; its link signs in, and the gift is there."""
    visitor = newcomer(open_page, place)
    expect(visitor.page.get_by_role("navigation")).to_be_hidden()
    ask_in(visitor, "Sign in")
    visitor.told("Please confirm your e-mail first")

    visitor.page.goto(links(visitor)[0])

    visitor.balance("10")
    assert not re.search("token|type=signup", visitor.page.url)
    visitor.go("Account")
    visitor.page.get_by_role("button", name="Sign out").click()
    ask_in(visitor, "Sign in")
    visitor.balance("10")


@pytest.mark.usefixtures("_confirming")
def test_used_link(open_page: Open, place: Place) -> None:
    """A link that is good no more signs nobody in, and the page says so; signing up again sends one that does."""
    visitor = newcomer(open_page, place)
    first = links(visitor)[0]
    with visitor.page.expect_response("**/signup?*"):
        ask_in(visitor, "Sign up")

    visitor.page.goto(first)

    visitor.told("This link was used before")
    expect(visitor.page.get_by_role("button", name="Sign in")).to_be_visible()
    assert "error" not in visitor.page.url
    visitor.page.goto(links(visitor)[-1])
    visitor.balance("10")


@pytest.mark.usefixtures("_no_email")
def test_gift_that_waits(open_page: Open, place: Place) -> None:
    """Who came without a confirmed address is told in the account that the gift waits for it, and then gets it."""
    place.set_welcome("10")
    visitor = open_page()
    visitor.page.get_by_role("button", name="Continue with Google").click()
    visitor.balance("0")
    visitor.go("Account")
    expect(
        visitor.page.get_by_text("Confirm your e-mail to get your welcome credits")
    ).to_be_visible()

    place.rows(
        "update auth.users set email = %s, email_confirmed_at = now()"
        " where id = (select user_id from auth.identities where provider_id = '300') returning id",
        place.new_email(),
    )
    visitor.page.reload()

    visitor.balance("10")
    expect(visitor.page.get_by_text("Confirm your e-mail")).to_be_hidden()
