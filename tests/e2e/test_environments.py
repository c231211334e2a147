"""Environments in a real browser: made from a file, built, looked into, compared, and a run in one. All packages come from a folder here."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.steps import shoot, signed_in
from tests.environments.wheels import wheel

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
CONDA = "name: tiny-3\nchannels:\n  - conda-forge\ndependencies:\n  - python=3.11\n  - numpy=1.26\n  - pip:\n      - wandb==0.18.0\n"
KINDS = {
    "packages": ("#packages", "#conda_packages"),
    "conda": ("#conda_packages", "#dockerfile"),
    "dockerfile": ("#dockerfile", "#packages"),
    "image": ("#image", "#dockerfile"),
    "interpreter": ("#interpreter_path", "#packages"),
    "conda_environment": ("#conda_environment", "#interpreter_path"),
}


@pytest.fixture(scope="module")
def page(browser, studio):
    with signed_in(browser, studio) as page:
        yield page


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "tiny-a", "1.0", "tiny-b>=1", headers="License: MIT\n")
    wheel(folder, "tiny-b", "2.0", headers="License: Apache-2.0\n")
    wheel(folder, "tiny-c", "3.1")
    return folder


@pytest.fixture
def new(page, studio) -> Page:
    page.goto(f"{studio.url}/default/environments/new")
    return page


def choose(page: Page, kind: str) -> None:
    page.locator("label.opt-card", has=page.locator(f'[name="kind"][value="{kind}"]')).click()


def drop(page: Page, name: str, data: bytes) -> None:
    """Let a file fall on the page, as a person does who misses the box."""
    transfer = page.evaluate_handle(
        "([name, bytes]) => { const all = new DataTransfer(); all.items.add(new File([new Uint8Array(bytes)], name)); return all; }",
        [name, list(data)],
    )
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event("main", event, {"dataTransfer": transfer})


def ready(page: Page) -> None:
    page.get_by_role("button", name="Build now").click()
    expect(page.locator("#builds .st")).to_contain_text("Ready", timeout=60_000)


def test_a_target_is_told_where_its_packages_are(page, studio, wheels):
    page.goto(f"{studio.url}/default/environments")
    shoot(page, "list")
    page.goto(f"{studio.url}/default/compute/local/edit")
    page.locator("summary", has_text="Packages").click()
    page.get_by_label("Folders of wheels").fill(str(wheels))
    page.get_by_text("Ask nothing but what is named here").click()
    shoot(page, "target-packages")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(f"{studio.url}/default/compute/local")


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_shows_what_belongs_to_it(new, kind):
    choose(new, kind)
    shown, hidden = KINDS[kind]
    expect(new.locator(shown)).to_be_visible()
    expect(new.locator(hidden)).to_be_hidden()
    shoot(new, f"new-{kind}")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_file_that_is_dropped_anywhere_fills_in_the_form(new, encoding):
    drop(new, "environment.yml", CONDA.encode(encoding))
    expect(new.locator(".chead")).to_contain_text("Filled in from environment.yml, read as a conda file")
    expect(new.locator("#name")).to_have_value("tiny-3")
    expect(new.locator("#conda_packages")).to_have_value("numpy=1.26")
    expect(new.locator("#packages")).to_have_value("wandb==0.18.0")
    expect(new.locator("#python_version")).to_have_value("3.11")
    shoot(new, f"filled-{encoding}")


def test_a_file_that_is_too_large_is_said_before_it_is_sent(new):
    drop(new, "model.bin", b"0" * 1_000_001)
    expect(new.locator("#source-errors")).to_contain_text("model.bin has 1,000 KB; the limit is 1000 KB")


def test_what_is_wrong_is_said_at_its_line_and_nothing_is_lost(new):
    new.locator("summary", has_text="Fill in from a file").click()
    new.locator("#source").fill("tiny-a\n-e .\nnumpy==$(id)\n")
    new.get_by_role("button", name="Fill in the form").click()
    errors = new.locator("#source-errors")
    expect(errors).to_contain_text("Line 2")
    expect(errors).to_contain_text("Line 3")
    expect(new.locator("#source")).to_have_value("tiny-a\n-e .\nnumpy==$(id)\n")
    shoot(new, "filled-refused")
    new.locator("#packages").fill("numpy==\nsix")
    new.locator("#python_version").click()
    expect(new.locator("#packages-errors")).to_contain_text("Line 1")
    shoot(new, "typed-refused")


def test_an_environment_is_made_from_pasted_requirements_and_built(new, studio):
    new.locator("summary", has_text="Fill in from a file").click()
    new.locator("#source").fill("# what we need\ntiny-a==1.0\n")
    new.get_by_role("button", name="Fill in the form").click()
    expect(new.locator("#packages")).to_have_value("tiny-a==1.0")
    new.locator("#name").fill("tiny")
    new.locator("#description").fill("Small and ours")
    new.locator("#description").press("Tab")
    expect(new.get_by_label("The same from code")).to_contain_text("tiny-a==1.0")
    shoot(new, "new-filled")
    new.get_by_role("button", name="Make environment").click()
    new.wait_for_url(f"{studio.url}/default/environments/tiny/1")
    expect(new.locator("#builds .st")).to_contain_text("Not built yet")
    shoot(new, "version-unbuilt")
    ready(new)
    packages = new.locator("#package-rows")
    expect(packages.locator("tr", has_text="tiny-a")).to_contain_text("MIT")
    expect(packages.locator("tr", has_text="tiny-b")).to_contain_text("2.0")
    expect(new.get_by_label("Exact lock")).to_contain_text("linux-")
    new.get_by_label("Exact lock").locator("summary").click()
    expect(new.get_by_label("Exact lock")).to_contain_text("--hash=sha256:")
    shoot(new, "version")
    new.get_by_role("searchbox", name="Search packages").fill("apache")
    expect(packages.locator("tr:visible")).to_have_count(1)
    expect(new.locator("#package-count")).to_have_text("1 of 2")


def test_the_log_of_the_build_is_one_click_away(page, studio):
    page.goto(f"{studio.url}/default/environments/tiny/1")
    page.get_by_role("link", name="Build log").click()
    expect(page.locator(".log.view")).to_contain_text("+ Record what was installed")
    shoot(page, "build-log")


def test_the_next_version_is_compared_with_this_one(page, studio):
    page.goto(f"{studio.url}/default/environments/tiny/1")
    page.get_by_role("link", name="New version").click()
    page.locator("#packages").fill("tiny-a==1.0\ntiny-c")
    page.get_by_role("button", name="Make version").first.click()
    page.wait_for_url(f"{studio.url}/default/environments/tiny/2")
    page.get_by_role("link", name="Compare with 1").click()
    expect(page.get_by_label("Packages")).to_contain_text("not both versions have been built here yet")
    page.goto(f"{studio.url}/default/environments/tiny/2")
    ready(page)
    page.get_by_role("link", name="Compare with 1").click()
    card = page.get_by_label("Packages")
    expect(card).to_contain_text("0 changed, 1 added, 0 removed")
    expect(card.locator("tr", has_text="tiny-c")).to_contain_text("3.1")
    shoot(page, "compare")


def test_a_package_that_is_not_there_fails_in_seconds_with_its_name(new, studio):
    new.locator("#name").fill("lacking")
    new.locator("#packages").fill("no-such-thing>=1")
    new.get_by_role("button", name="Make environment").click()
    new.wait_for_url(f"{studio.url}/default/environments/lacking/1")
    new.get_by_role("button", name="Build now").click()
    banner = new.get_by_role("alert")
    expect(banner).to_contain_text("The build on local failed", timeout=30_000)
    expect(banner).to_contain_text("no-such-thing")
    shoot(new, "version-failed")


def compose(page: Page, studio, folder, script: str, arguments: str = "") -> None:
    """From the version's page to a form that lacks nothing but Start."""
    (folder / "train.py").write_text(script)
    page.goto(f"{studio.url}/default/environments/tiny/1")
    page.get_by_role("link", name="New run").click()
    page.wait_for_url(f"{studio.url}/default/runs/new?environment=tiny:1")  # with its scripts
    page.locator('input[type="file"][webkitdirectory]').set_input_files(folder)
    expect(page.locator(".upload")).to_contain_text("is ready", timeout=30_000)
    page.locator("#f-script").fill("train.py")
    page.locator("#f-experiment").fill("tiny")
    page.locator("#f-arguments").fill(arguments)
    page.locator("#f-arguments").press("Tab")
    expect(page.locator("#f-environment")).to_have_value("tiny:1")


def test_the_composer_names_what_is_missing_on_the_target_with_its_fix(page, studio, tmp_path):
    compose(page, studio, tmp_path, "import tiny_a, tiny_c\n", "--data /no/such/folder")
    checks = page.locator("#examined")
    expect(checks).to_contain_text("answered in", timeout=20_000)
    missing = checks.locator("li", has_text="tiny_c")
    expect(missing).to_contain_text("train.py, line 1 imports tiny_c, which tiny:1 does not hold")
    expect(missing).to_contain_text("Add tiny-c to the environment's packages.")
    expect(checks.locator("li", has_text="/no/such/folder")).to_be_visible()
    shoot(page, "composer-missing")
    page.locator("#start").click()
    expect(page.locator("#would-fail")).to_be_visible()
    assert "/runs/new" in page.url


def test_a_run_in_it_finds_its_packages(page, studio, tmp_path):
    compose(page, studio, tmp_path, "import tiny_a, tiny_b\nprint('with', tiny_a.version, tiny_b.version)\n")
    checks = page.locator("#examined")
    expect(checks).to_contain_text("answered in", timeout=20_000)
    expect(checks.locator("li.fail, li.warn")).to_have_count(0)
    shoot(page, "composer")
    page.locator("#start").click()
    page.wait_for_url(re.compile(r"/default/runs/\d+$"), timeout=30_000)
    number = page.url.rsplit("/", 1)[1]
    expect(page.locator("#run-header")).to_contain_text("Completed", timeout=60_000)
    page.goto(f"{studio.url}/default/runs/{number}/logs")
    expect(page.locator(".log.view")).to_contain_text("with 1.0 2.0")
    page.goto(f"{studio.url}/default/environments/tiny/1")
    expect(page.get_by_label("Runs that used it")).to_contain_text(f"#{number}")


def test_no_page_complained(page):
    # What a refused form answers, and htmx's words about a check that a later one replaced.
    expected = ("status of 422", "htmx:afterRequest", "htmx:sendAbort")
    assert [text for text in page.problems if not any(words in text for words in expected)] == []
