"""What browser tests of a whole studio share: a person who is signed in, and pictures on request."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page

from tests.live import Studio

SHOTS = os.environ.get("SHOTS_TO", "")
"""A folder to put pictures of the steps into; empty: none are taken."""


@contextmanager
def signed_in(browser: Browser, studio: Studio) -> Iterator[Page]:
    """A page of the person whose link the terminal showed; its ``problems`` are what the browser complained of."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.problems.append(f"{page.url}: {message.text}"))
    page.goto(studio.link())
    page.get_by_role("button").last.click()
    page.wait_for_url(re.compile("/account"))
    yield page
    context.close()


def shoot(page: Page, name: str) -> None:
    """Both themes, a desk and a phone. Fails where a page scrolls sideways."""
    if not SHOTS:
        return
    Path(SHOTS).mkdir(parents=True, exist_ok=True)
    for width, height in ((1440, 900), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("light", "dark"):
            page.emulate_media(color_scheme=theme)
            page.wait_for_timeout(150)
            page.screenshot(path=f"{SHOTS}/{name}-{width}-{theme}.png", full_page=True)
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert sideways <= 0, f"{name} scrolls sideways by {sideways} px at {width}"
    page.set_viewport_size({"width": 1440, "height": 900})
    page.emulate_media(color_scheme="light")
