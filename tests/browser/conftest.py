"""
A real browser before the real page and the local cloud: `make test-browser`.

Left out of `make test`, because it needs Chromium: BROWSER is the path of one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

CHROMIUM = os.environ.get("BROWSER", "")
collect_ignore_glob = [] if CHROMIUM else ["*.py"]

if CHROMIUM:
    from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

    from tests.browser.place import Place, Visitor

    PATIENCE = 20_000  # milliseconds: the first call of a function starts a process
    expect.set_options(timeout=PATIENCE)
    SCREENSHOTS = Path(os.environ.get("SCREENSHOTS", ".cache/screenshots"))
    QUIET = (  # a closed network answers each of its errands with an error, many at a time
        "--disable-quic --disable-background-networking --disable-component-update --disable-sync"
    )

    @pytest.fixture(name="place", scope="session")
    def _place() -> Iterator[Place]:
        with Place() as place:
            yield place

    @pytest.fixture(name="browser", scope="session")
    def _browser() -> Iterator[Browser]:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=CHROMIUM, args=["--no-sandbox", "--no-first-run", *QUIET.split()]
            )
            yield browser
            browser.close()

    @pytest.fixture(name="open_page")
    def _open_page(place: Place, browser: Browser) -> Iterator[Callable[..., Visitor]]:
        """Return a function that opens the page for somebody; nothing may break the rules of the page meanwhile."""
        contexts: list[BrowserContext] = []
        complaints: list[str] = []

        def open_page(*, beside: Visitor | None = None, **options: object) -> Visitor:
            if beside is None:
                contexts.append(browser.new_context(**options))  # type: ignore[arg-type]
                page: Page = contexts[-1].new_page()
            else:
                page = beside.page.context.new_page()
            page.set_default_timeout(PATIENCE)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on(
                "console",
                lambda message: (
                    complaints.append(message.text)
                    if "Content Security Policy" in message.text or "Uncaught" in message.text
                    else None
                ),
            )
            page.goto(place.frontend.url)
            return Visitor(place, page)

        yield open_page
        for context in contexts:
            context.close()
        place.calm()
        assert complaints == []

    @pytest.fixture(name="screenshot")
    def _screenshot() -> Callable[[Visitor, str], None]:
        """Return a function that keeps what a visitor sees as a file."""

        def keep(visitor: Visitor, name: str) -> None:
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            visitor.page.wait_for_timeout(250)  # the last animation is over
            visitor.page.screenshot(path=SCREENSHOTS / f"{name}.png")

        return keep
