"""What can be chosen before a job is made, in a real browser: pictures to begin and end with, options, their price."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image
from playwright.sync_api import FilePayload, expect

from tests.browser.place import VIDEO, Visitor

Open = Callable[..., Visitor]
WITH_SOUND = "bytedance/seedance-1.5-pro"


def frame(name: str, red: int) -> FilePayload:
    """Return a picture of one colour."""
    data = io.BytesIO()
    Image.new("RGB", (96, 54), (red, 90, 160)).save(data, "PNG")
    return {"name": f"{name}.png", "mimeType": "image/png", "buffer": data.getvalue()}


def price(visitor: Visitor, credits_: str) -> None:
    """Wait until the form says that what is chosen costs so many credits."""
    expect(visitor.page.locator(".price strong")).to_have_text(f"{credits_} credits")


def asked(visitor: Visitor, prompt: str) -> Any:
    """Return the job that BabySea was asked for."""
    (job,) = (
        job for job in visitor.place.stack.babysea.jobs if job.body["generation_prompt"] == prompt
    )
    return job


def test_first_and_last_frame(open_page: Open) -> None:
    """A film begins with one own picture and ends with another, and each arrives where it belongs."""
    visitor = open_page().sign_up()
    first, last = frame("first", 250), frame("last", 20)
    visitor.page.get_by_label("Model", exact=True).select_option(VIDEO)
    visitor.page.get_by_label("First frame").set_input_files(first)
    visitor.told("The picture is uploaded")
    visitor.page.get_by_label("Close this message").first.click()
    visitor.page.get_by_label("Last frame").set_input_files(last)
    visitor.told("The picture is uploaded")

    visitor.page.get_by_label("Prompt", exact=True).fill("from dawn to dusk")
    visitor.page.get_by_role("button", name="Generate").click()

    visitor.is_ready(visitor.card("from dawn to dusk"))
    job = asked(visitor, "from dawn to dusk")
    assert (job.source, job.last_frame) == (first["buffer"], last["buffer"])


def test_options_change_the_price(open_page: Open) -> None:
    """Length, resolution and sound each change the price that is shown; what was shown is what is paid."""
    visitor = open_page().sign_up()
    visitor.write("rain on a tin roof", WITH_SOUND)
    price(visitor, "0.06")

    visitor.page.get_by_label("Length").select_option("12 seconds")
    price(visitor, "0.18")
    visitor.page.get_by_label("Resolution").select_option("720p")
    price(visitor, "0.384")
    visitor.page.get_by_label("With sound").check()
    price(visitor, "0.768")
    visitor.page.get_by_role("button", name="Generate").click()

    visitor.is_ready(visitor.card("rain on a tin roof"))
    visitor.balance("9.232")
    body = asked(visitor, "rain on a tin roof").body
    assert (body["generation_duration"], body["generation_resolution"]) == (12, "720p")
    assert body["generation_generate_audio"] is True


def test_another_model_has_other_options(open_page: Open) -> None:
    """Another model shows its own options only, and its own price."""
    visitor = open_page().sign_up()
    visitor.write("a pond", WITH_SOUND)
    price(visitor, "0.06")

    visitor.page.get_by_label("Model", exact=True).select_option("bfl/flux-2-pro")

    price(visitor, "0.03")
    expect(visitor.page.get_by_label("Length")).to_have_count(0)
    expect(visitor.page.get_by_label("With sound")).to_have_count(0)
    visitor.page.get_by_label("Resolution").select_option("4MP")
    price(visitor, "0.075")
