"""The whole way of a user, in a real browser."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.place import Place, Visitor

Open = Callable[..., Visitor]
Keep = Callable[[Visitor, str], None]


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
    screenshot(visitor, "create")
