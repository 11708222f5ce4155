"""What a user reads when the real server refuses, on a product with tight limits, in a real browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import expect

from local.stack import Stack
from tests.browser.place import Place, Visitor

Open = Callable[..., Visitor]
FOUR_PICTURES = "bytedance/seedream-4"


class StrictPlace(Place):
    """The local cloud and its page, where little is allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = Stack(
            parameters={
                "FrontendUrl": self.frontend.url,
                "RequestsPerMinute": "100000",
                "MaxActiveGenerations": "2",
                "GenerationsPerHour": "3",
                "DailySpendCredits": "0.25",
            },
            run_schedules=False,
            concurrency=4,
            retry_seconds=0,
        )


@pytest.fixture(name="place", scope="module")
def _place() -> Iterator[Place]:
    """Return a place of its own: in the other tests' one nobody meets a limit."""
    with StrictPlace() as place:
        yield place


def ask(visitor: Visitor) -> None:
    """Press the button that starts a job."""
    visitor.page.get_by_role("button", name="Generate").click()


def elapse(visitor: Visitor, seconds: int) -> None:
    """Let it be so much longer ago that a visitor's jobs were started."""
    visitor.place.db.execute(
        "update generations set created_at = created_at - make_interval(secs => %s)"
        " where user_id = (select id from auth.users where email = %s)",
        (seconds, visitor.email),
    )


def test_content_rejected(open_page: Open, place: Place) -> None:
    """What the content policy does not allow is told as that, and costs nothing."""
    visitor = open_page().sign_up()
    place.stack.babysea.refuse("BSE2006", times=1)
    visitor.write("something that is not allowed")

    ask(visitor)

    visitor.told("The content policy does not allow this prompt or picture. Nothing was charged.")
    visitor.balance("10")
    visitor.go("Library")
    card = visitor.card("something that is not allowed")
    expect(card).to_have_attribute("data-status", "failed")
    expect(card.locator(".problem")).to_contain_text("The content policy does not allow")


def test_too_many_active(open_page: Open, place: Place) -> None:
    """With two jobs under way a third is refused and the reason told; when one has ended there is room again."""
    visitor = open_page().sign_up()
    place.stack.babysea.behaviour.change(processing=30)
    first = visitor.generate("the first one")
    expect(visitor.generate("the second one")).to_have_attribute("data-status", "processing")
    visitor.write("the third one")

    ask(visitor)

    visitor.told("You have as many jobs running as allowed. Wait for one to finish.")
    visitor.told("Try again in 10 seconds.")
    visitor.balance("9.99")
    first.get_by_role("button", name="Cancel").click()
    expect(first).to_have_attribute("data-status", "canceled")
    place.stack.babysea.behaviour.change(processing=0.1)
    ask(visitor)
    visitor.is_ready(visitor.card("the third one"))


def test_rate_limited(open_page: Open) -> None:
    """Who has started as many jobs as an hour allows reads how long to wait, and then can go on."""
    visitor = open_page().sign_up()
    for prompt in ("early", "often", "again"):
        visitor.is_ready(visitor.generate(prompt))
    visitor.write("once too often")

    ask(visitor)
    visitor.told("That was a bit fast. Try again in 60 minutes.")
    elapse(visitor, 45 * 60)
    ask(visitor)
    visitor.told("That was a bit fast. Try again in 15 minutes.")
    elapse(visitor, 15 * 60)
    ask(visitor)

    visitor.is_ready(visitor.card("once too often"))


def test_daily_limit(open_page: Open) -> None:
    """Who has spent what a day allows reads when there is room again; what still fits is made."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("four of a kind", FOUR_PICTURES))
    visitor.is_ready(visitor.generate("four more", FOUR_PICTURES))
    visitor.balance("9.76")
    visitor.write("and four again", FOUR_PICTURES)

    ask(visitor)

    visitor.told("You have reached your limit for today. Try again in 24 hours.")
    visitor.balance("9.76")
    visitor.is_ready(visitor.generate("a small one"))


def test_dearer_than_a_day(open_page: Open) -> None:
    """What alone is over the limit of a day is told as that: to wait would not help."""
    visitor = open_page().sign_up()
    visitor.write("an epic", "google/veo-2")

    ask(visitor)

    visitor.told("This alone costs more than you may spend in a day.")
    expect(visitor.page.locator("#notices")).not_to_contain_text("Try again")
    visitor.balance("10")
