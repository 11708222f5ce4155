"""What the browser tests share: the product with its page, and what a visitor does there."""

from __future__ import annotations

import io
import itertools
import secrets
from contextlib import ExitStack
from typing import Any, LiteralString, Self
from uuid import uuid4

import psycopg
from PIL import Image
from playwright.sync_api import FilePayload, Locator, Page, expect
from psycopg.rows import dict_row

from local.frontend import Frontend
from local.stack import Stack

PACE: dict[str, Any] = {
    "pending": 0.05,
    "processing": 0.6,
    "rate_limit": None,
    "in_flight_cap": None,
    "disable_after": None,
}
IMAGE = "bfl/flux-schnell"
VIDEO = "bytedance/seedance-1-pro"
NAMED_ROLES = {
    "button",
    "link",
    "textbox",
    "combobox",
    "checkbox",
    "spinbutton",
    "image",
    "region",
    "article",
    "dialog",
    "progressbar",
    "navigation",
}
PASSWORD = "correct horse battery"


class Place:
    """The local cloud and its page. Use as a context manager."""

    def __init__(self) -> None:
        self.frontend = Frontend()
        self.stack = Stack(
            parameters={"FrontendUrl": self.frontend.url, "RequestsPerMinute": "100000"},
            run_schedules=False,
            concurrency=4,
            retry_seconds=0,
        )
        self._numbers = itertools.count(1)
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        enter = self._cleanup.enter_context
        enter(self.frontend)
        enter(self.stack)
        supabase = self.stack.supabase
        self.frontend.configure(self.stack.url, supabase.url, supabase.publishable_key)
        self.db = enter(
            psycopg.connect(self.stack.admin_database_url, autocommit=True, row_factory=dict_row)
        )
        self.set_welcome("10")
        self.calm()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def new_email(self) -> str:
        """Return an address that nobody has."""
        return f"visitor{next(self._numbers)}.{secrets.token_hex(3)}@example.com"

    def calm(self) -> None:
        """Switch every fault off."""
        for stand_in in (self.stack.supabase, self.stack.stripe, self.stack.upstash):
            stand_in.faults.clear()
        self.stack.babysea.calm()
        self.stack.babysea.behaviour.change(**PACE)

    def set_welcome(self, amount: str) -> None:
        """Set the gift of users who sign up from now on."""
        self.db.execute(
            "select backend.set_welcome('operator:test', %s, %s, true, 'a test')",
            (str(uuid4()), amount),
        )

    def make_admin(self, email: str) -> None:
        """Make a visitor an admin, as `make ops` does."""
        self.db.execute(
            "select backend.set_role('operator:test', %s, (select id from auth.users where email = %s),"
            " 'admin', 'a test')",
            (str(uuid4()), email),
        )

    def rows(self, query: LiteralString, *params: object) -> list[dict[str, Any]]:
        """Read as the superuser."""
        return self.db.execute(query, params).fetchall()


class Visitor:
    """Somebody before the page."""

    def __init__(self, place: Place, page: Page) -> None:
        self.place = place
        self.page = page
        self.email = ""

    def sign_up(self, *, credits_: str = "10") -> Self:
        """Sign up as somebody new, with so many credits."""
        self.place.set_welcome(credits_)
        self.email = self.place.new_email()
        self.page.get_by_label("E-mail").fill(self.email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign up").click()
        expect(self.page.get_by_role("navigation")).to_be_visible()
        return self

    def go(self, name: str) -> None:
        """Follow a link of the navigation."""
        self.page.get_by_role("navigation").get_by_role("link", name=name).click()

    def write(self, prompt: str, model: str = IMAGE) -> None:
        """Fill the form and wait until it has told the price."""
        self.page.get_by_label("Model", exact=True).select_option(model)
        self.page.get_by_label("Prompt", exact=True).fill(prompt)
        expect(self.page.locator(".price")).to_contain_text("This costs")

    def generate(self, prompt: str, model: str = IMAGE) -> Locator:
        """Ask for a generation and return its card."""
        self.write(prompt, model)
        self.page.get_by_role("button", name="Generate").click()
        return self.card(prompt)

    def card(self, prompt: str) -> Locator:
        """Return the card of the job with this prompt."""
        return self.page.get_by_role("article").filter(has_text=prompt)

    def is_ready(self, card: Locator) -> None:
        """Wait until a job is ready and its picture is really drawn."""
        expect(card).to_have_attribute("data-status", "succeeded", timeout=30_000)
        expect(card.locator("img, video").first).to_be_visible()
        self.page.wait_for_function(  # by the card, because a picture may be drawn anew
            """card => {
              const e = card.querySelector("img, video");
              return e && (e.tagName === "IMG" ? e.complete && e.naturalWidth > 0 : e.readyState > 0);
            }""",
            arg=card.element_handle(),
        )

    def pay(self, button: str = "pay") -> None:
        """Press a button of Stripe's page: pay, decline or back."""
        self.page.wait_for_url(f"{self.place.stack.stripe.url}/**")
        self.page.locator(f'button[value="{button}"]').click()
        if button != "decline":
            self.page.wait_for_url(f"{self.place.frontend.url}/**")

    def picture(self) -> FilePayload:
        """Return a small picture of the visitor's own."""
        data = io.BytesIO()
        Image.new("RGB", (64, 48), (200, 30, 90)).save(data, "PNG")
        return {"name": "mine.png", "mimeType": "image/png", "buffer": data.getvalue()}

    def tab_to(self, name: str) -> None:
        """Press Tab until the button or the labelled field with this name has the focus."""
        for _ in range(40):
            if (
                self.page.evaluate(
                    "e => (e.labels?.[0] ?? e).textContent",
                    self.page.evaluate_handle("document.activeElement"),
                )
                == name
            ):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"{name} cannot be reached by Tab")

    def slow_down(self) -> None:
        """Make the line as slow as a bad mobile one: 400 ms away, 50 kB a second."""
        chrome = self.page.context.new_cdp_session(self.page)
        chrome.send("Network.enable")
        chrome.send(
            "Network.emulateNetworkConditions",
            {
                "offline": False,
                "latency": 400,
                "downloadThroughput": 50_000,
                "uploadThroughput": 50_000,
            },
        )

    def nameless(self) -> list[str]:
        """Return the controls and pictures that a screen reader has no name for."""
        chrome = self.page.context.new_cdp_session(self.page)
        nodes = chrome.send("Accessibility.getFullAXTree")["nodes"]
        return [
            node["role"]["value"]
            for node in nodes
            if not node.get("ignored")
            and node.get("role", {}).get("value") in NAMED_ROLES
            and not node.get("name", {}).get("value")
        ]

    def balance(self, text: str) -> None:
        """Wait until the bar shows this balance."""
        expect(self.page.locator("#balance strong")).to_have_text(text)

    def told(self, text: str) -> None:
        """Wait until the page has said this."""
        expect(self.page.locator("#notices")).to_contain_text(text)
