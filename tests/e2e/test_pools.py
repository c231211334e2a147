"""A pool in a real browser: made, looked at, a run sent to it from the composer, removed."""

import re

import pytest
from playwright.sync_api import expect

from tests.e2e.steps import shoot, signed_in
from tests.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def page(browser, studio, tmp_path_factory):
    for name in ("node-a", "node-b"):
        studio.control("target", root=str(tmp_path_factory.mktemp("roots") / name))
    with signed_in(browser, studio) as page:
        yield page
        assert not [said for said in page.problems if "htmx:" not in said]  # a poll that the next page cut


def test_a_pool_is_made(page, studio):
    page.goto(f"{studio.url}/default/compute")
    page.get_by_role("link", name="New pool").click()
    shoot(page, "pool-new")
    page.get_by_label("Name", exact=True).fill("cluster")
    page.locator("#members").fill("node-b\nnode-x")
    page.get_by_role("button", name="Make pool").click()
    expect(page.locator("#members-error")).to_contain_text("'node-x' is not an attached target. Did you mean")
    shoot(page, "pool-refused")
    page.problems.clear()  # Chromium tells the refusal's 422
    page.locator("#members").fill("node-b\nnode-a")
    page.locator("#description").fill("Two folders of this machine")
    page.get_by_role("button", name="Make pool").click()
    page.wait_for_url(f"{studio.url}/default/compute/pools/cluster")
    expect(page.get_by_label("Targets", exact=True).locator("tbody tr").first).to_contain_text("node-b")
    shoot(page, "pool")


def test_a_run_is_sent_to_it_from_the_composer(page, studio, tmp_path):
    (tmp_path / "train.py").write_text(
        "import os, sys, time\nend = time.time() + 100\nwhile not os.path.exists(sys.argv[1]) and time.time() < end:\n    time.sleep(0.1)\n"
    )
    page.goto(f"{studio.url}/default/runs/new?target=cluster&environment=python:1")
    page.locator('input[type="file"][webkitdirectory]').set_input_files(tmp_path)
    expect(page.locator(".upload")).to_contain_text("is ready", timeout=30_000)
    page.locator("#f-script").fill("train.py")
    page.locator("#f-arguments").fill(str(tmp_path / "stop"))
    page.locator("#f-experiment").fill("pools")
    page.locator("#f-experiment").press("Tab")
    expect(page.locator('[name="target"][value="cluster"]')).to_be_checked()
    expect(page.locator(".checks").first).to_contain_text("2 of 2 targets of cluster are usable", timeout=20_000)
    expect(page.locator("#examined")).to_contain_text("On node-b", timeout=20_000)
    expect(page.locator("#examined")).to_contain_text("answered in", timeout=20_000)
    shoot(page, "pool-composer")
    page.locator("#start").click()
    page.wait_for_url(re.compile(r"/default/runs/\d+$"), timeout=30_000)
    facts = page.locator("#run-header .facts")
    expect(facts).to_contain_text("cluster → node-b", timeout=30_000)
    until(lambda: studio.control("runs")[0]["status"] == "Running", 60)
    page.reload()
    shoot(page, "pool-run")
    page.goto(f"{studio.url}/default/compute/pools/cluster")
    expect(page.get_by_label("Running", exact=True)).to_contain_text("on node-b")
    expect(page.get_by_label("Targets", exact=True).locator("tbody tr").first).to_contain_text("0 of 1 free")
    shoot(page, "pool-running")
    page.goto(f"{studio.url}/default/compute")
    shoot(page, "compute-list")
    (tmp_path / "stop").touch()


def test_a_drained_member_is_passed_over_and_the_page_says_so(page, studio):
    page.goto(f"{studio.url}/default/compute/node-a")
    page.get_by_role("button", name="Drain").click()
    page.goto(f"{studio.url}/default/compute/pools/cluster")
    expect(page.get_by_label("Targets", exact=True)).to_contain_text("passed over: draining")


def test_it_is_edited_and_removed(page, studio):
    page.goto(f"{studio.url}/default/compute/pools/cluster")
    page.get_by_role("link", name="Edit").click()
    expect(page.locator("#members")).to_have_value("node-b\nnode-a")
    page.locator("#min_nodes").fill("2")
    shoot(page, "pool-edit")
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#pool-live")).to_contain_text("1 of at least 2 targets is usable")
    shoot(page, "pool-lacking")
    page.get_by_role("link", name="Remove").click()
    shoot(page, "pool-remove")
    page.get_by_role("button", name="Remove cluster").click()
    page.wait_for_url(f"{studio.url}/default/compute")
    expect(page.get_by_label("Pools")).not_to_contain_text("cluster")
