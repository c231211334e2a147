"""Attaching a real machine in a real browser: the key that the studio makes, a wrong address, Back, the fingerprint, a run there."""

import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.steps import shoot, signed_in
from tests.environments.docker_engine import IMAGE, engine_or_skip
from tests.environments.sshd import server

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def sshd():
    with server(Path("/tmp/runstead-e2e-attach"), 2263, "e2ehost") as found:
        yield found


@pytest.fixture(scope="module")
def page(browser, studio):
    with signed_in(browser, studio) as page:
        yield page


def test_the_steps_up_to_a_wrong_address_and_its_fix(page, studio, sshd):
    page.goto(f"{studio.url}/default/compute")
    shoot(page, "list")
    page.get_by_role("link", name="Attach a machine").click()
    shoot(page, "kind")
    page.get_by_text("Remote machine").click()
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("button", name="Go on").last.click()
    expect(page.locator("#name-error")).to_contain_text("Name the target")
    expect(page.locator("#host-error")).to_contain_text("Give the host")
    shoot(page, "address-refused")
    page.get_by_label("Name", exact=True).fill("gpu-box-3")
    page.get_by_label("Host").first.fill("no-such-host.invalid")
    page.get_by_label("User").first.fill(sshd.user)
    page.get_by_role("button", name="Go on").last.click()
    expect(page.locator("#key-command")).to_contain_text("authorized_keys")
    shoot(page, "access")
    page.get_by_role("button", name="Go on").last.click()
    page.get_by_role("button", name="Test", exact=True).click()
    broke = page.locator("#doctor .broke")
    expect(broke).to_contain_text("Name", timeout=30_000)
    expect(broke).to_contain_text("typing errors")
    expect(page.get_by_role("button", name="Attach anyway")).to_be_visible()
    shoot(page, "test-failed")


def test_back_loses_nothing(page, sshd):
    page.get_by_role("link", name="Back").click()
    expect(page.locator("[name=access][value=studio]")).to_be_checked()
    line = page.locator("#key-line").text_content()
    page.get_by_role("button", name="Back").click()
    expect(page.get_by_label("Name", exact=True)).to_have_value("gpu-box-3")
    page.get_by_label("Host").first.fill("a b")
    page.get_by_role("button", name="Back").click()
    expect(page.locator("[name=kind][value=ssh]")).to_be_checked()
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_label("Host").first).to_have_value("a b")
    expect(page.get_by_label("User").first).to_have_value(sshd.user)
    page.get_by_label("Host").first.fill(sshd.host)
    page.get_by_label("Port").first.fill(str(sshd.port))
    page.get_by_role("button", name="Go on").last.click()
    assert page.locator("#key-line").text_content() == line


def test_the_shown_command_lets_the_studio_in_and_each_step_appears(page, studio, sshd):
    sshd.run(page.locator("#key-command").text_content())
    page.get_by_role("button", name="Go on").last.click()
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#doctor .broke")).to_contain_text("Host key", timeout=30_000)
    printed = subprocess.run(
        ["ssh-keygen", "-lf", sshd.state / "host_key_1.pub"], check=True, capture_output=True, text=True
    ).stdout
    shown = page.locator("#fingerprint").text_content()
    assert shown.split()[1] in printed
    shoot(page, "fingerprint")
    page.get_by_role("button", name="The fingerprint is right").click()
    expect(page.locator("#doctor .now").or_(page.locator("#doctor .ok")).first).to_be_visible()
    attach = page.get_by_role("button", name="Attach gpu-box-3")
    expect(attach).to_be_visible(timeout=30_000)
    expect(page.locator("#doctor .broke")).to_have_count(0)
    shoot(page, "tested")
    attach.click()
    page.wait_for_url(f"{studio.url}/default/compute/gpu-box-3")


def run_on(page, studio, folder, target: str) -> str:
    """Send where.py of a folder to a target, and wait for its end: the run's number."""
    page.goto(f"{studio.url}/default/runs/new?empty")
    page.locator('input[type="file"][webkitdirectory]').set_input_files(folder)
    expect(page.locator(".upload")).to_contain_text("is ready", timeout=30_000)
    page.locator("#f-script").fill("where.py")
    page.locator("#f-experiment").fill("there")
    page.locator("label.opt-card", has_text=target).click()
    page.locator("#f-environment").select_option("python:1")
    page.locator("#start").click()
    page.wait_for_url(re.compile(r"/default/runs/\d+$"), timeout=30_000)
    number = page.url.rsplit("/", 1)[1]
    expect(page.locator("#run-header")).to_contain_text("Completed", timeout=90_000)
    return number


def test_a_run_sent_there_completes(page, studio, sshd, tmp_path):
    (tmp_path / "where.py").write_text("import getpass\nprint('run by', getpass.getuser())\n")
    number = run_on(page, studio, tmp_path, "gpu-box-3")
    page.goto(f"{studio.url}/default/runs/{number}/logs")
    expect(page.locator(".log.view")).to_contain_text(f"run by {sshd.user}")
    page.goto(f"{studio.url}/default/compute/gpu-box-3")
    expect(page.get_by_label("History")).to_contain_text("attached it")
    expect(page.get_by_label("History")).to_contain_text(f"#{number}")
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#doctor")).to_contain_text("steps passed", timeout=30_000)
    shoot(page, "target")
    page.goto(f"{studio.url}/default/compute")
    shoot(page, "list-two")


def test_a_new_key_replaces_the_old_one_once_it_has_worked(page, studio, sshd):
    page.goto(f"{studio.url}/default/compute/gpu-box-3/access")
    old = page.locator("#key-line").text_content()
    page.get_by_role("button", name="Make a new key").click()
    expect(page.locator("main")).to_contain_text("waits for its first use")
    line = page.locator("#key-line").text_content()
    assert line != old
    page.get_by_role("button", name="Save").click()
    expect(page.locator("#summary")).to_contain_text("The old key stays in use")
    shoot(page, "rotate")
    sshd.authorized.write_text(line + "\n")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(f"{studio.url}/default/compute/gpu-box-3")
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#doctor")).to_contain_text("steps passed", timeout=30_000)


def test_a_changed_host_key_is_shown_with_both_fingerprints(page, studio, sshd):
    page.goto(f"{studio.url}/default/compute/gpu-box-3/edit")
    shoot(page, "edit")
    page.get_by_label("Host").first.fill("localhost")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("button", name="Test").click()
    expect(page.locator("#doctor .confirm")).to_be_visible(timeout=30_000)
    page.get_by_role("button", name="The fingerprint is right").click()
    expect(page.locator("#doctor")).to_contain_text("steps passed", timeout=30_000)


def test_detaching_says_what_goes_and_what_stays(page, studio):
    page.goto(f"{studio.url}/default/compute/gpu-box-3")
    page.get_by_role("link", name="Detach").click()
    expect(page.locator("main")).to_contain_text("Stays")
    expect(page.get_by_role("link", name="Keep it")).to_be_focused()
    shoot(page, "detach")
    page.get_by_role("button", name="Detach gpu-box-3").click()
    page.wait_for_url(f"{studio.url}/default/compute")
    expect(page.locator("#targets")).not_to_contain_text("gpu-box-3")


def test_docker_on_this_machine_is_attached_by_the_wizard_and_runs(page, studio, tmp_path):
    engine_or_skip()
    page.goto(f"{studio.url}/default/compute/attach")
    page.locator("label.opt-card", has_text="Docker, this machine").click()
    page.get_by_role("button", name="Go on").click()
    page.get_by_label("Name", exact=True).fill("boxes")
    page.get_by_label("Base image").fill(IMAGE)
    page.get_by_label("Memory per run").fill("512 MB")
    page.get_by_role("button", name="Go on").last.click()
    page.get_by_role("button", name="Test", exact=True).click()
    attach = page.get_by_role("button", name="Attach boxes")
    expect(attach).to_be_visible(timeout=30_000)
    expect(page.locator("#doctor")).to_contain_text("Docker engine")
    expect(page.locator("#doctor")).to_contain_text(IMAGE)
    shoot(page, "docker-tested")
    attach.click()
    page.wait_for_url(f"{studio.url}/default/compute/boxes")
    (tmp_path / "where.py").write_text("import os\nprint('contained', os.path.exists('/.dockerenv'))\n")
    number = run_on(page, studio, tmp_path, "boxes")
    page.goto(f"{studio.url}/default/runs/{number}/logs")
    expect(page.locator(".log.view")).to_contain_text("contained True")


def test_no_page_complained(page):
    # What a refused form answers, and htmx's words about a check that a later one replaced.
    expected = ("status of 422", "htmx:afterRequest", "htmx:sendAbort")
    assert [text for text in page.problems if not any(words in text for words in expected)] == []
