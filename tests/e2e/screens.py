"""Take a picture of every page of a running studio: both themes, a desk and a phone, and list what a browser complains about.

    python -m tests.e2e.screens http://127.0.0.1:8000 --email owner@localhost --password … --workspace default --to /tmp/screens

Exits with 1 when a page answered with an error, logged to the console, or scrolls sideways.
"""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

SIZES = {"desk": (1440, 900), "phone": (390, 844)}
THEMES = ("light", "dark")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
OUTSIDE = {"sign-in": "/sign-in", "not-found": "/no-such-workspace/runs"}
INSIDE = {
    "home": "/{w}/",
    "experiments": "/{w}/experiments",
    "runs": "/{w}/runs",
    "new-run": "/{w}/runs/new",
    "compute": "/{w}/compute",
    "attach": "/{w}/compute/attach",
    "environments": "/{w}/environments",
    "members": "/{w}/settings/members",
    "tokens": "/{w}/settings/tokens",
    "secrets": "/{w}/settings/secrets",
    "general": "/{w}/settings/general",
    "search": "/{w}/jump?q=a",
    "account": "/account",
    "create": "/workspaces/new",
    "admin": "/admin/",
}
# Pages whose address has a name or a number in it: the first link of this form on the page before.
FOUND = {
    "run": ("/{w}/runs", r"^/{w}/runs/\d+$"),
    "experiment": ("/{w}/experiments", r"^/{w}/experiments/[^/]+$"),
    "target": ("/{w}/compute", r"^/{w}/compute/(?!attach)[^/]+$"),
    "pool": ("/{w}/compute", r"^/{w}/compute/pools/(?!new)[^/]+$"),
    "environment": ("/{w}/environments", r"^/{w}/environments/(?!new)[^/]+(/\d+)?$"),
}
RUN_TABS = ("logs", "metrics", "outputs", "snapshot", "configuration")


def browser_path() -> str | None:
    """The system's browser; Playwright never downloads one."""
    path = os.environ.get("RUNSTEAD_TEST_BROWSER", "/usr/bin/chromium")
    return path if Path(path).exists() else None


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser_path(), args=ARGUMENTS)
        try:
            yield opened
        finally:
            opened.close()


def sign_in(page: Page, base: str, email: str, password: str) -> None:
    page.goto(f"{base}/sign-in")
    page.fill("#email", email)
    page.fill("#password", password)
    page.click("button.pri")
    page.wait_for_url(lambda address: "/sign-in" not in address)


def addresses(page: Page, base: str, workspace: str) -> dict[str, str]:
    """Name → path of all pages that this workspace has."""
    found = {name: path.format(w=workspace) for name, path in INSIDE.items()}
    for name, (listing, pattern) in FOUND.items():
        answer = page.goto(base + listing.format(w=workspace))
        if answer is None or not answer.ok:
            continue
        paths = page.eval_on_selector_all("a[href]", "links => links.map(a => new URL(a.href).pathname)")
        path = next((p for p in paths if re.match(pattern.format(w=workspace), p)), None)
        if path:
            found[name] = path
    if "run" in found:
        found |= {f"run-{tab}": f"{found['run']}/{tab}" for tab in RUN_TABS}
    return found


def shoot(context: BrowserContext, base: str, pages: dict[str, str], to: Path, label: str) -> list[str]:
    """Save one picture per page; return what is wrong."""
    wrong: list[str] = []
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda m: complaints.append(m.text) if m.type in {"error", "warning"} else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    for name, path in pages.items():
        complaints.clear()
        answer = page.goto(base + path)
        page.wait_for_timeout(250)
        page.screenshot(path=to / f"{name}-{label}.png")
        expected = 404 if name == "not-found" else 200
        status = answer.status if answer else 0
        if status != expected:
            wrong.append(f"{name} {label}: HTTP {status} at {path}")
        sideways = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        if sideways > 0:
            wrong.append(f"{name} {label}: scrolls sideways by {sideways} px")
        wrong += [f"{name} {label}: {text}" for text in complaints if f"status of {expected}" not in text]
    page.close()
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("--email", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--workspace", default="default")
    parser.add_argument("--to", type=Path, default=Path("test-results/screens"))
    parser.add_argument("--only", default="", help="names of pages, comma-separated")
    options = parser.parse_args()
    base = options.base.rstrip("/")
    assert urlsplit(base).scheme in {"http", "https"}, "base: give the whole address, as http://127.0.0.1:8000"
    options.to.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    chosen = {name for name in options.only.split(",") if name}

    def wanted(pages: dict[str, str]) -> dict[str, str]:
        return {name: path for name, path in pages.items() if not chosen or name in chosen}

    with browser() as opened:
        for size, (width, height) in SIZES.items():
            for theme in THEMES:
                viewport = {"width": width, "height": height}
                context = opened.new_context(viewport=viewport, color_scheme=theme, has_touch=size == "phone")
                label = f"{size}-{theme}"
                wrong += shoot(context, base, wanted(OUTSIDE), options.to, label)
                page = context.new_page()
                sign_in(page, base, options.email, options.password)
                pages = wanted(addresses(page, base, options.workspace))
                page.close()
                wrong += shoot(context, base, pages, options.to, label)
                context.close()
    for line in wrong:
        print(line)
    print(f"{len(list(options.to.glob('*.png')))} pictures in {options.to}, {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
