"""The way of a new person through the pages, in a real browser against a real studio."""

import re

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]
PASSWORD = "a long enough sentence"
SCRIPT = """\
import sys, time
from runstead import Run
run = Run.get_context()
for step in range(int(sys.argv[1])):
    print("epoch", step, flush=True)
    run.log("loss", 1 / (step + 1))
    time.sleep(0.1)
with open("outputs/answer.txt", "w") as file:
    file.write("forty-two")
"""


@pytest.fixture(scope="module")
def page(browser, studio):
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.problems = []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda message: message.type == "error" and page.problems.append(f"{page.url}: {message.text}"))
    yield page
    context.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work") / "resnet"
    (folder / "data").mkdir(parents=True)
    (folder / "train.py").write_text(SCRIPT)
    (folder / ".runignore").write_text("data/\n*.tmp\n")
    (folder / "data" / "big.bin").write_bytes(b"0" * 1000)
    for package in range(10):
        place = folder / f"package {package}"
        place.mkdir()
        for number in range(50):
            (place / f"module_{number}.py").write_text(
                f"# module {package} {number}\nvalue = {package * 100 + number}\n"
            )
    return folder


def choose(page: Page, folder) -> None:
    page.locator('input[type="file"][webkitdirectory]').set_input_files(folder)
    expect(page.locator(".upload")).to_contain_text("is ready", timeout=30_000)


def start(page: Page, studio, folder, *, arguments: str, experiment: str = "first", script: str = "train.py") -> int:
    """Fill the form, press Start, return the run's number."""
    page.goto(f"{studio.url}/default/runs/new?empty")
    choose(page, folder)
    page.locator("#f-script").fill(script)
    page.locator("#f-experiment").fill(experiment)
    page.locator("#f-arguments").fill(arguments)
    page.locator("#f-environment").select_option("python:1")
    page.locator("#start").click()
    page.wait_for_url(re.compile(r"/default/runs/\d+$"), timeout=30_000)
    return int(page.url.rsplit("/", 1)[1])


def test_sign_in_by_the_printed_link_and_choose_a_password(page, studio):
    page.goto(studio.link())
    page.get_by_role("button").last.click()
    page.wait_for_url(re.compile("/account"))
    for field in page.locator('input[type="password"]').all():
        field.fill(PASSWORD)
    page.get_by_role("button", name=re.compile("password", re.I)).click()
    expect(page.locator("body")).to_contain_text(re.compile("password", re.I))
    page.goto(studio.url + "/")
    expect(page).to_have_url(f"{studio.url}/default/")


def test_drop_five_hundred_files_start_and_watch_the_log_grow(page, studio, project):
    page.goto(f"{studio.url}/default/runs/new?empty")
    choose(page, project)
    expect(page.locator(".upload")).to_contain_text("502 files")
    expect(page.locator(".tree")).to_contain_text("data/")
    expect(page.locator(".tree")).to_contain_text(".runignore")
    number = start(page, studio, project, arguments="80")
    page.goto(f"{studio.url}/default/runs/{number}/logs")
    log = page.locator(".log.view")
    expect(log).to_contain_text("epoch 3", timeout=30_000)
    expect(log).to_contain_text("epoch 30", timeout=30_000)  # it grew by itself, without a reload
    expect(page.locator("#run-header")).to_contain_text("Completed", timeout=60_000)


def test_cancel_a_second_run(page, studio, project):
    number = start(page, studio, project, arguments="3000")
    expect(page.locator("#run-header")).to_contain_text("Running", timeout=30_000)
    page.locator("summary", has_text="Cancel").click()
    page.get_by_role("button", name="Cancel run").click()
    expect(page.locator("#run-header")).to_contain_text("Canceled", timeout=30_000)
    assert studio.control("runs", ids=None)[-1]["number"] == number


def test_a_run_that_fails_at_once_is_read_at_its_traceback(page, studio, project):
    (project / "fail.py").write_text("for i in range(300):\n    print('line', i)\n{}['lost']\n")
    start(page, studio, project, arguments="", script="fail.py")
    expect(page.locator("#run-header")).to_contain_text("Failed", timeout=30_000)
    expect(page.locator(".log.view").get_by_text("KeyError: 'lost'")).to_be_in_viewport(timeout=10_000)
    expect(page.locator("#active-runs")).to_have_text("")  # the side does not say otherwise for half a minute


def test_outputs_open(page, studio):
    page.goto(f"{studio.url}/default/runs/1/outputs")
    page.get_by_role("link", name="answer.txt").first.click()
    expect(page.locator("main")).to_contain_text("forty-two")


def test_metrics_are_drawn(page, studio):
    page.goto(f"{studio.url}/default/runs/1/metrics")
    expect(page.locator("main")).to_contain_text("loss")
    expect(page.locator("canvas").first).to_be_visible(timeout=10_000)


def test_one_changed_file_uploads_one_file(page, studio, project):
    (project / "package 3" / "module_7.py").write_text("value = 'changed'\n")
    sent = []
    page.on("request", lambda r: sent.append(r) if r.method == "PUT" and "/blobs" in r.url else None)
    number = start(page, studio, project, arguments="1")
    assert len(sent) == 1, [r.url for r in sent]
    assert int(sent[0].all_headers()["content-length"]) < 2000
    expect(page.locator("#run-header")).to_contain_text("Completed", timeout=30_000)
    page.goto(f"{studio.url}/default/runs/{number}/snapshot")
    expect(page.locator("main")).to_contain_text("train.py")


def test_a_rejected_submit_keeps_everything(page, studio, project):
    page.goto(f"{studio.url}/default/runs/new?empty")
    choose(page, project)
    page.locator("#f-script").fill("missing.py")
    page.locator("#f-experiment").fill("not a name!")
    page.locator("#f-arguments").fill("--lr 0.1 'two words'")
    page.locator("#start").click()
    expect(page.locator("#errors")).to_contain_text("missing.py")
    expect(page.locator("#f-script")).to_have_value("missing.py")
    expect(page.locator("#f-experiment")).to_have_value("not a name!")
    expect(page.locator("#f-arguments")).to_have_value("--lr 0.1 'two words'")
    page.locator("#f-script").fill("train.py")
    page.locator("#f-experiment").fill("mended")
    page.locator("#f-arguments").fill("1")
    page.locator("#f-environment").select_option("python:1")
    page.locator("#start").click()
    page.wait_for_url(re.compile(r"/default/runs/\d+$"), timeout=30_000)


def test_run_list_shows_them_and_filters(page, studio):
    page.goto(f"{studio.url}/default/runs?q=status:canceled")
    rows = page.locator("table.t tbody tr")
    expect(rows).to_have_count(1)
    page.goto(f"{studio.url}/default/runs")
    expect(rows).to_have_count(5)


def test_no_page_complained(page):
    # Leaving a page ends the request that waits there, which htmx calls an error; 422 is the rejected submit above.
    expected = ("htmx:afterRequest", "htmx:sendAbort", "status of 422")
    assert [text for text in page.problems if not any(known in text for known in expected)] == []
