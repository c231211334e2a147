"""The shell in a real browser: what its scripts promise, at a desk and on a phone, by mouse and by keyboard."""

import re
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from environments.models import ComputeTarget
from studio.accounts.models import User
from studio.workspaces.models import Membership, Role, Workspace
from tests.conftest import PASSWORD
from tests.e2e.screens import browser, sign_in
from tests.studio.world import World, fill

pytestmark = [pytest.mark.e2e, pytest.mark.django_db(transaction=True)]
PHONE = {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def world(workspace: Workspace, owner: User, reader: User) -> World:
    return fill(workspace, owner, reader, name="ours", number=7)


@pytest.fixture
def page_of(chromium: Browser, live_server, world: World, owner: User) -> Iterator[Callable[..., Page]]:
    contexts = []

    def make(path: str = "/vision/settings/members", *, who: User | None = owner, **options: object) -> Page:
        options.setdefault("viewport", {"width": 1440, "height": 900})
        context = chromium.new_context(base_url=live_server.url, **options)
        contexts.append(context)
        page = context.new_page()
        page.complaints = []
        page.on("console", lambda m: page.complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        if who is not None:
            sign_in(page, live_server.url, who.email, PASSWORD)
        page.complaints.clear()  # the pages that the sign-in leads to have tests of their own
        page.goto(path)
        return page

    yield make
    for context in contexts:
        context.close()


def test_the_jump_box_opens_by_key_finds_and_goes(page_of: Callable[..., Page]) -> None:
    page = page_of()
    page.keyboard.press("Control+k")
    box = page.locator("#jumpbox")
    expect(box).to_be_visible()
    expect(box.locator("input")).to_be_focused()
    page.keyboard.type("secr")
    first = box.locator("a").first
    expect(first).to_contain_text("Secrets")
    expect(first).to_have_attribute("aria-selected", "true")
    page.keyboard.press("Enter")
    page.wait_for_url("**/settings/secrets")
    assert page.complaints == []


def test_the_jump_box_finds_a_run_by_number_and_walks_by_arrows(page_of: Callable[..., Page]) -> None:
    page = page_of()
    page.click("[data-jump]")
    page.keyboard.type("7")
    expect(page.locator("#jumplist a").first).to_contain_text("ours-run")
    page.keyboard.press("Escape")
    expect(page.locator("#jumpbox")).to_be_hidden()
    page.keyboard.press("Control+k")
    expect(page.locator("#jumplist a").nth(3)).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#jumplist a").nth(1)).to_have_attribute("aria-selected", "true")
    expect(page.locator("#jumpbox input")).to_have_attribute("aria-activedescendant", "jump-1")


def test_names_in_the_jump_box_are_inert(page_of: Callable[..., Page], world: World) -> None:
    world.run.name = '<img src=x onerror="document.title=1"><b hx-get="/x" hx-trigger="load">evil'
    world.run.save()
    page = page_of()
    page.keyboard.press("Control+k")
    page.keyboard.type("evil")
    expect(page.locator("#jumplist a").first).to_contain_text("<img src=x")
    assert page.locator("#jumplist img").count() == 0
    assert page.complaints == []


def test_single_letters_work_outside_fields_only(page_of: Callable[..., Page]) -> None:
    page = page_of()
    page.focus("#email")
    page.keyboard.type("?n")
    assert page.input_value("#email") == "?n"
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()
    page.keyboard.press("g")
    page.keyboard.press("c")
    page.wait_for_url("**/vision/compute")


def test_single_letters_can_be_turned_off(page_of: Callable[..., Page], owner: User) -> None:
    owner.preferences = {"keys": "off"}
    owner.save()
    page = page_of()
    page.keyboard.press("?")
    page.keyboard.press("Control+k")
    expect(page.locator("#jumpbox")).to_be_visible()
    expect(page.locator("#help")).to_be_hidden()


def test_the_theme_follows_the_system_until_chosen_and_is_there_at_the_first_paint(
    page_of: Callable[..., Page],
) -> None:
    page = page_of(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(12, 14, 17)"
    page.click("[data-theme-toggle]")
    assert page.evaluate(background) == "rgb(246, 247, 249)"
    expect(page.locator("[data-theme-toggle]")).to_have_attribute("aria-label", "Use dark theme")
    # Scripts of type module run late: without them the theme must be set all the same.
    page.route("**/app*.js", lambda route: route.abort())
    page.reload()
    assert page.evaluate("document.documentElement.dataset.theme") == "light"


def test_on_a_phone_the_sidebar_is_a_drawer(page_of: Callable[..., Page]) -> None:
    page = page_of(viewport=PHONE)
    side = page.locator("#side")
    expect(side).to_be_hidden()
    page.click(".menu-btn")
    expect(side).to_be_visible()
    expect(page.locator(".menu-btn")).to_have_attribute("aria-expanded", "true")
    assert page.evaluate("document.querySelector('#side').contains(document.activeElement)")
    page.keyboard.press("Escape")
    expect(side).to_be_hidden()
    expect(page.locator(".menu-btn")).to_have_attribute("aria-expanded", "false")


def test_what_cannot_be_undone_asks_once_in_place(page_of: Callable[..., Page], reader: User) -> None:
    page = page_of()
    button = page.get_by_role("button", name="Remove Rita Reader")
    button.click()
    armed = page.locator("[data-armed]")
    expect(armed).to_have_text("Remove Rita Reader?")
    assert Membership.objects.filter(user=reader).exists()
    page.locator("h1").click()
    expect(armed).to_have_count(0)
    button.click()
    button.click()
    expect(page.locator(".banner.ok")).to_contain_text("was removed")
    assert not Membership.objects.filter(user=reader).exists()
    assert page.complaints == []


def test_a_copied_link_signs_its_person_in_once(page_of: Callable[..., Page], live_server) -> None:
    page = page_of(permissions=["clipboard-read", "clipboard-write"])
    page.fill("#email", "new@example.test")
    page.click("text=Add member")
    shown = page.inner_text("#link")
    page.click("[data-copy-from='#link']")
    expect(page.locator("#announcer")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == shown
    path = "/sign-in/link/" + shown.partition("/sign-in/link/")[2]
    guest = page_of(path, who=None)
    guest.click("button.pri")
    guest.wait_for_url("**/account?first=1")
    expect(guest.locator("#new")).to_be_focused()
    guest.fill("#new", "a quite different passphrase")
    guest.click("text=Set password")
    expect(guest.locator(".banner.ok")).to_contain_text("Password set")
    assert guest.complaints == []


def test_a_hidden_tab_asks_nothing_and_a_seen_one_asks_at_once(page_of: Callable[..., Page]) -> None:
    page = page_of()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if request.url.endswith("/capacity") else None)
    hide = "Object.defineProperty(document, 'hidden', {configurable: true, get: () => %s})"
    page.evaluate(hide % "true")
    page.evaluate("htmx.ajax('GET', '/vision/capacity', {source: document.querySelector('#capacity')})")
    page.wait_for_function("true")
    assert asked == []
    page.evaluate(hide % "false")
    with page.expect_response("**/capacity") as answer:
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert answer.value.status == 200
    expect(page.locator("#capacity")).to_contain_text("3 slots free of 3")
    assert page.complaints == []


def test_after_three_failed_polls_it_says_so_and_comes_back(page_of: Callable[..., Page]) -> None:
    page = page_of()
    broken = True

    def answer(route: Route) -> None:
        if broken:
            route.fulfill(status=503, body="")
        else:
            route.continue_()

    page.route("**/capacity", answer)
    poll = "htmx.ajax('GET', '/vision/capacity', {source: document.querySelector('#capacity')})"
    before = page.inner_text("#capacity")
    for _ in range(2):
        page.evaluate(poll)
    expect(page.locator("#paused")).to_be_hidden()
    page.evaluate(poll)
    expect(page.locator("#paused")).to_be_visible()
    expect(page.locator("#paused")).to_have_text(re.compile(r"Live updates paused\s*Trying again in \d+ s\."))
    assert page.inner_text("#capacity") == before
    broken = False
    page.click("[data-try-now]")
    expect(page.locator("#paused")).to_be_hidden()


def test_a_poll_does_not_take_what_someone_is_reading(page_of: Callable[..., Page], world: World) -> None:
    page = page_of()
    poll = "htmx.ajax('GET', '/vision/capacity', {source: document.querySelector('#capacity')})"
    page.evaluate("document.getSelection().selectAllChildren(document.querySelector('#capacity'))")
    ComputeTarget.objects.update(slots=5)
    with page.expect_response("**/capacity"):
        page.evaluate(poll)
    expect(page.locator("#capacity")).to_contain_text("3 slots free of 3")
    page.evaluate("document.getSelection().removeAllRanges()")
    page.evaluate(poll)
    expect(page.locator("#capacity")).to_contain_text("10 slots free of 10")


def test_every_settings_page_is_reached_and_used_by_keyboard(page_of: Callable[..., Page]) -> None:
    page = page_of()
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "email":
            break
    expect(page.locator("#email")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"


NAMELESS = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea')]
  .filter(e => e.checkVisibility({ visibilityProperty: true }) && !e.closest('[aria-hidden=true]') && e.getAttribute('aria-hidden') !== 'true')
  .filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.labels?.length || e.innerText?.trim()
    || e.getAttribute('title')))
  .map(e => e.outerHTML.slice(0, 120))"""
SMALL = """() => [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select')]
  .filter(e => e.checkVisibility({ visibilityProperty: true }) && !e.closest('p, .sr, .skip') && !e.matches('.sr, .skip'))
  .map(e => [e, (e.closest('label') ?? e).getBoundingClientRect()])
  .filter(([, r]) => r.width > 0 && (r.width < 24 || r.height < 20))
  .map(([e, r]) => `${e.outerHTML.slice(0, 80)} ${r.width}x${r.height}`)"""


@pytest.mark.parametrize("size", ["desk", "phone"])
@pytest.mark.parametrize(
    "path",
    [
        "/vision/settings/members",
        "/vision/settings/tokens",
        "/vision/settings/secrets",
        "/vision/settings/general",
        "/vision/jump?q=a",
        "/account",
        "/workspaces/new",
        "/sign-in",
    ],
)
def test_every_control_has_a_name_and_a_size_that_fingers_hit(
    path: str, size: str, page_of: Callable[..., Page]
) -> None:
    options = {"viewport": PHONE, "has_touch": True} if size == "phone" else {}
    page = page_of(path, who=None, **options) if path == "/sign-in" else page_of(path, **options)
    assert page.evaluate(NAMELESS) == []
    assert page.evaluate(SMALL) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("document.querySelectorAll('h1').length") == 1
    assert page.complaints == []


def test_a_reader_is_offered_nothing_that_would_be_refused(page_of: Callable[..., Page], reader: User) -> None:
    page = page_of(who=reader)
    assert page.get_by_role("button", name=re.compile("Remove|Add member|New link")).count() == 0
    page.goto("/vision/settings/secrets")
    assert page.locator("#value").count() == 0
    assert Membership.objects.get(user=reader).role == Role.READER
