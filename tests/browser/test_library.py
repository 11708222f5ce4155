"""The library and the ledger when there is much in them, in a real browser."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from PIL import Image
from playwright.sync_api import expect

from tests.browser.place import IMAGE, VIDEO, Place, Visitor

Open = Callable[..., Visitor]
PAGE = 12
LEDGER_PAGE = 20


def make(visitor: Visitor, *prompts: str) -> None:
    """Let jobs be made one after the other, as another program of the visitor would."""
    token = visitor.page.evaluate(
        "JSON.parse(localStorage.getItem('holdfast.session')).access_token"
    )
    headers = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=visitor.place.stack.url, headers=headers, timeout=60) as http:
        for prompt in prompts:
            asked = http.post(
                "/generations",
                json={"model": IMAGE, "prompt": prompt},
                headers={"idempotency-key": str(uuid4())},
            )
            assert asked.status_code == 202, asked.text
            while True:
                if http.get(f"/generations/{asked.json()['id']}").json()["status"] == "succeeded":
                    break
                visitor.page.wait_for_timeout(50)


def shown(visitor: Visitor, *prompts: str, **filters: str) -> None:
    """Set the filters of the library and wait until exactly these jobs are shown."""
    for label in ("State", "Kind"):
        visitor.page.get_by_label(label).select_option(filters.get(label.lower(), ""))
    expect(visitor.page.get_by_role("article").locator(".prompt")).to_have_text(list(prompts))


def test_state_filter(open_page: Open, place: Place) -> None:
    """Each state shows the jobs that are in it, and says so when there are none."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("one that worked"))
    place.stack.babysea.plan(outcome="fail", times=1)
    failed = visitor.generate("one that failed")
    expect(failed).to_have_attribute("data-status", "failed")
    place.stack.babysea.behaviour.change(processing=30)
    expect(visitor.generate("one under way")).to_have_attribute("data-status", "processing")
    visitor.go("Library")

    shown(visitor, "one under way", "one that failed", "one that worked")
    shown(visitor, "one that worked", state="succeeded")
    shown(visitor, "one that failed", state="failed")
    shown(visitor, state="canceled")
    expect(visitor.page.get_by_text("Nothing here yet")).to_be_visible()
    shown(visitor, "one under way", state="processing")
    card = visitor.card("one under way")
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_have_attribute("data-status", "canceled")
    shown(visitor, "one under way", state="canceled")
    expect(visitor.page.get_by_text("Nothing here yet")).to_be_hidden()


def test_kind_filter(open_page: Open, place: Place) -> None:
    """Pictures and videos can be told apart, and by state as well."""
    visitor = open_page().sign_up()
    visitor.is_ready(visitor.generate("a picture"))
    visitor.is_ready(visitor.generate("a film", VIDEO))
    place.stack.babysea.plan(outcome="fail", times=1)
    expect(visitor.generate("a torn film", VIDEO)).to_have_attribute("data-status", "failed")
    visitor.go("Library")

    shown(visitor, "a torn film", "a film", "a picture")
    shown(visitor, "a picture", kind="image")
    shown(visitor, "a torn film", "a film", kind="video")
    shown(visitor, "a film", kind="video", state="succeeded")
    shown(visitor, kind="image", state="failed")


def test_show_more(open_page: Open, place: Place) -> None:
    """Older jobs and older movements come when they are asked for, each once, until there are no more."""
    place.stack.babysea.behaviour.change(processing=0.05)
    visitor = open_page().sign_up()
    prompts = [f"number {n}" for n in range(1, PAGE + 2)]
    make(visitor, *prompts)
    visitor.go("Library")
    cards = visitor.page.get_by_role("article").locator(".prompt")
    more = visitor.page.get_by_role("button", name="Show more")
    expect(cards).to_have_text(prompts[:0:-1])

    more.click()

    expect(cards).to_have_text(prompts[::-1])
    expect(more).to_be_hidden()
    visitor.go("Credits")
    rows = visitor.page.get_by_label("Ledger entries").locator("tbody tr")
    expect(rows).to_have_count(LEDGER_PAGE)
    more.click()
    expect(rows).to_have_count(1 + 2 * len(prompts))
    expect(rows.last).to_contain_text("Credits in")
    expect(more).to_be_hidden()


@pytest.mark.parametrize(
    ("model", "name", "form"),
    [
        (IMAGE, r"flux-schnell-[0-9a-f]{8}-1\.png", "PNG"),
        (VIDEO, r"seedance-1-pro-[0-9a-f]{8}-1\.mp4", None),
    ],
    ids=["image", "video"],
)
def test_download(open_page: Open, model: str, name: str, form: str | None) -> None:
    """A download is the file that was made, under a name that says which model made it and which number it has."""
    visitor = open_page().sign_up()
    card = visitor.generate("to be kept", model)
    visitor.is_ready(card)

    with visitor.page.expect_download() as download:
        card.get_by_role("link", name="Download").click()

    assert re.fullmatch(name, download.value.suggested_filename)
    data = Path(download.value.path()).read_bytes()
    assert data in visitor.place.stack.babysea.jobs[-1].files.values()
    if form:
        assert Image.open(io.BytesIO(data)).format == form
