from __future__ import annotations

import http.client
import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import stripe

from local.standins.stripe import Stripe
from local.standins.stripe_pages import money
from tests.contract.stripe_support import Receiver, new_pack, new_session

pytest_plugins = ["tests.contract.stripe_fixtures"]


class Page:
    """What a browser sees of one answer; it follows no redirect by itself."""

    def __init__(self, url: str | None, action: str | None = None) -> None:
        assert url is not None
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=5)
        try:
            if action is None:
                connection.request("GET", parts.path)
            else:
                headers = {"Content-Type": "application/x-www-form-urlencoded"}
                connection.request("POST", parts.path, urlencode({"action": action}), headers)
            answer = connection.getresponse()
            self.status = answer.status
            self.headers = answer.headers
            self.html = answer.read().decode()
        finally:
            connection.close()

    @property
    def buttons(self) -> list[str]:
        """The values of the buttons, in order."""
        return re.findall(r'<button name="action" value="(\w+)"', self.html)


def test_the_page_shows_what_is_bought(client: stripe.StripeClient) -> None:
    """Lines, total and the four buttons are there, and nothing loads from elsewhere."""
    lines: Any = [{"price": new_pack(client), "quantity": 3}]
    page = Page(new_session(client, line_items=lines).url)

    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "100 credits" in page.html
    assert "29.97 USD" in page.html
    assert page.buttons == ["pay", "pay_delayed", "decline", "back"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "http" not in page.html


def test_nothing_to_pay_is_confirmed_with_one_button(client: stripe.StripeClient) -> None:
    """A free session offers neither a delayed method nor a decline."""
    lines: Any = [{"price": new_pack(client, 0, "free"), "quantity": 1}]
    session = new_session(client, line_items=lines)

    assert Page(session.url).buttons == ["pay", "back"]
    assert Page(session.url, "pay").status == 303


def test_paying_tells_the_webhook_before_the_payer_returns(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """The redirect to the success URL, with the session's id, comes after the webhook's answer."""
    session = new_session(client)
    standin.drain()
    receiver.on_event = lambda _event: time.sleep(0.05)

    page = Page(session.url, "pay")

    assert page.status == 303
    assert page.headers["location"] == f"http://127.0.0.1:9/done?session={session.id}"
    assert receiver.types[-1] == "checkout.session.completed"
    assert client.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_a_delayed_method_returns_the_payer_unpaid(client: stripe.StripeClient) -> None:
    """The payer goes to the success URL although the money is not there yet."""
    session = new_session(client)

    assert Page(session.url, "pay_delayed").status == 303
    kept = client.v1.checkout.sessions.retrieve(session.id)
    assert (kept.status, kept.payment_status) == ("complete", "unpaid")


def test_a_decline_shows_the_page_again(client: stripe.StripeClient) -> None:
    """A declined card leaves the payer on the page, told why, free to pay."""
    session = new_session(client)
    page = Page(session.url, "decline")

    assert page.status == 200
    assert "Your card was declined." in page.html
    assert "pay" in page.buttons
    assert Page(session.url, "pay").status == 303


def test_back_leads_to_the_cancel_url(client: stripe.StripeClient) -> None:
    """Back redirects and leaves the session open; without a cancel URL there is no such button."""
    session = new_session(client)
    page = Page(session.url, "back")

    assert (page.status, page.headers["location"]) == (303, "http://127.0.0.1:9/back")
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"
    lines: Any = [{"price": new_pack(client, 500, "other"), "quantity": 1}]
    bare = client.v1.checkout.sessions.create(
        {"mode": "payment", "line_items": lines, "success_url": "http://127.0.0.1:9/ok"}
    )
    assert "back" not in Page(bare.url).buttons
    assert Page(bare.url, "back").status == 200


def test_paying_twice_pays_once(
    standin: Stripe, client: stripe.StripeClient, receiver: Receiver
) -> None:
    """A second click is redirected like the first, and charges nothing."""
    session = new_session(client)
    first, second = Page(session.url, "pay"), Page(session.url, "pay")
    standin.drain()

    assert first.headers["location"] == second.headers["location"]
    assert receiver.types.count("checkout.session.completed") == 1
    assert len(client.v1.charges.list().data) == 1


def test_two_tabs_pay_once(client: stripe.StripeClient) -> None:
    """Eight tabs at the same moment are all sent on, and one charge is made."""
    session = new_session(client)
    with ThreadPoolExecutor(8) as pool:
        pages = list(pool.map(lambda _tab: Page(session.url, "pay"), range(8)))

    assert {page.status for page in pages} == {303}
    assert len(client.v1.charges.list().data) == 1


def test_an_ended_session_has_no_buttons(standin: Stripe, client: stripe.StripeClient) -> None:
    """A paid or expired session shows that it is over; an unknown one is not found."""
    session = new_session(client)
    standin.expire(session.id)

    for page in (Page(session.url), Page(session.url, "pay")):
        assert (page.status, page.buttons) == (200, [])
        assert "has expired" in page.html
    assert Page(f"{standin.url}/c/pay/cs_test_none").status == 404
    assert Page(f"{standin.url}/c/pay/cs_test_none", "pay").status == 404


def test_an_unknown_action_does_nothing(client: stripe.StripeClient) -> None:
    """A form with another action only shows the page again."""
    session = new_session(client)

    assert Page(session.url, "refund").buttons[0] == "pay"
    assert client.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_names_are_escaped(client: stripe.StripeClient) -> None:
    """Markup in a product's name is text on the page."""
    evil = '<script>alert("1")</script>&'
    product = client.v1.products.create({"name": evil})
    price = client.v1.prices.create({"product": product.id, "currency": "usd", "unit_amount": 999})
    lines: Any = [{"price": price.id, "quantity": 1}]
    page = Page(new_session(client, line_items=lines).url)

    assert "<script" not in page.html
    assert "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;" in page.html


def test_the_redirect_is_a_plain_header(client: stripe.StripeClient) -> None:
    """A success URL outside ASCII is percent-encoded, what it had encoded stays."""
    session = new_session(client, success_url="http://127.0.0.1:9/d\u00e9j\u00e0?a=%20b#c")

    assert Page(session.url, "pay").headers["location"] == (
        "http://127.0.0.1:9/d%C3%A9j%C3%A0?a=%20b#c"
    )


def test_a_slow_webhook_does_not_hold_the_payer_for_ever(
    client: stripe.StripeClient, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payer is sent on when the webhook does not answer in time."""
    monkeypatch.setattr("local.standins.stripe_hosted.REDIRECT_WAIT_SECONDS", 0.1)
    session = new_session(client)
    receiver.hold.clear()
    started = time.monotonic()
    page = Page(session.url, "pay")
    receiver.hold.set()

    assert page.status == 303
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [(999, "usd", "9.99 USD"), (5, "eur", "0.05 EUR"), (500, "jpy", "500 JPY")],
)
def test_amounts_read_as_money(amount: int, currency: str, shown: str) -> None:
    """Minor units become a decimal amount, except in currencies without them."""
    assert money(amount, currency) == shown
