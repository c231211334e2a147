"""The pages over many runs: what they show, what their fragments answer, and who may act."""

import json
import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from environments.models import ComputeTarget
from runs import metrics
from runs.models import Experiment, Run
from studio.capacity import capacity_of
from studio.workspaces.models import Workspace
from tests.runs.factory import make_run, make_target

EVIL = "<img src=x onerror=alert(1)>\"'&"


@pytest.fixture
def experiment(workspace: Workspace) -> Experiment:
    return Experiment.objects.create(workspace=workspace, name="digits", last_run_at=timezone.now())


@pytest.fixture
def make(workspace: Workspace, experiment: Experiment):
    target, _ = ComputeTarget.objects.get_or_create(workspace=workspace, name="box", defaults={"slots": 2})

    def run(status: str = "Completed", **fields: object) -> Run:
        number = workspace.next_number()
        now = timezone.now()
        ended = None if status in {"Running", "Queued"} else now
        defaults = {
            "name": f"run-{number}",
            "started_at": now - timedelta(minutes=3),
            "ended_at": ended,
            "target": target,
        }
        return Run.objects.create(
            workspace=workspace,
            number=number,
            uid=f"u{number}",
            experiment=experiment,
            status=status,
            **{**defaults, **fields},
        )

    return run


def log(run: Run, *records: dict) -> None:
    metrics.apply_records(run, b"".join(json.dumps(record).encode() + b"\n" for record in records))


def text(response) -> str:
    assert response.status_code == 200, response.status_code
    return response.content.decode()


def test_an_empty_workspace_says_how_to_begin(owner_client: Client, workspace: Workspace) -> None:
    assert "No runs yet" in text(owner_client.get("/vision/runs"))
    assert "No experiments yet" in text(owner_client.get("/vision/experiments"))
    assert "Three steps to the first run" in text(owner_client.get("/vision/"))


def test_rows_show_metrics_differing_parameters_the_best_value_and_a_trend(owner_client: Client, make) -> None:
    for n in range(3):
        run = make()
        log(
            run,
            *({"op": "batch", "s": s, "m": {"val/acc": 0.1 * n + s / 100, "val/loss": 1 / (s + 1)}} for s in range(5)),
        )
        log(run, {"op": "param", "k": "lr", "v": f"0.{n}"}, {"op": "param", "k": "same", "v": "1"})
    page = text(owner_client.get("/vision/runs"))
    assert ">val/acc<" in page and ">val/loss<" in page and ">lr<" in page and ">same<" not in page
    assert re.search(r'class="num best" title="0.24[^"]*">0.2400<', page)
    assert page.count('class="spark"') == 3
    chosen = text(owner_client.get("/vision/runs?cols=param.same&cols=metric.val/loss&sort=-val/loss"))
    assert ">same<" in chosen and ">val/acc<" not in chosen


def test_names_tags_and_metrics_with_markup_stay_text_on_every_page(
    owner_client: Client, make, experiment: Experiment
) -> None:
    run = make("Running", name=EVIL, waiting_for=EVIL, error={"type": EVIL, "message": EVIL})
    failed = make("Failed", name=EVIL, reason="exit_code", error={"type": EVIL, "message": EVIL})
    for row in (run, failed):
        log(row, {"k": EVIL, "v": 1}, {"op": "param", "k": EVIL, "v": EVIL}, {"op": "tag", "k": EVIL, "v": EVIL},
            {"op": "value", "k": EVIL, "v": EVIL}, {"op": "row", "k": EVIL, "v": {EVIL: EVIL}}, {"op": "list", "k": EVIL, "v": [EVIL]})  # fmt: skip
    Experiment.objects.filter(pk=experiment.pk).update(description=EVIL, primary_metric=EVIL)
    for path in ("runs", "runs?q=" + "%3Cimg%20src=x%3E", f"runs/rows?n={run.number}&rev=x", "runs/columns?search=%3Cimg", "", "live", "experiments",
                 "experiments/digits", f"runs/{run.number}/metrics", f"runs/{run.number}/metrics/pinned"):  # fmt: skip
        page = text(owner_client.get(f"/vision/{path}"))
        assert "<img src=x" not in page, path


def test_a_bad_token_is_underlined_with_its_reason_and_rows_stay(owner_client: Client, make) -> None:
    log(make(), {"op": "param", "k": "lr", "v": "0.1"})
    page = text(owner_client.get("/vision/runs?q=lr%3Eabc"))
    assert "<u>lr&gt;abc</u>: expected a number" in page
    assert 'id="row-1"' in page


def test_enter_in_the_filter_presses_no_entry_of_its_menu(owner_client: Client, make) -> None:
    make()
    form = text(owner_client.get("/vision/runs")).partition('<form class="filters"')[2].partition("</form>")[0]
    assert "name=" not in re.search(r"<button[^>]*type=\"submit\"[^>]*>", form)[0]


def test_no_match_names_the_token_to_drop(owner_client: Client, make) -> None:
    make()
    page = text(owner_client.get("/vision/runs?q=status:failed+user:me"))
    assert "No run matches these filters" in page
    make("Failed")
    page = text(owner_client.get("/vision/runs?q=status:failed+zzz"))
    assert "1 run matches if you drop <b>zzz</b>" in page


def test_active_rows_are_polled_until_none_is_active(owner_client: Client, make) -> None:
    done, run = make(), make("Running")
    page = text(owner_client.get("/vision/runs"))
    poll = re.search(r'id="run-poll" hx-get="([^"]+)"', page)[1].replace("&amp;", "&")
    assert f"n={run.number}&" in poll and f"{done.number}," not in poll
    assert owner_client.get(poll).status_code == 204
    log(run, {"k": "loss", "v": 1}, {"k": "loss", "v": 0.5})
    changed = text(owner_client.get(poll.replace("cols=none", "cols=metric.loss")))
    assert f'id="row-{run.number}"' in changed and "0.5000" in changed and 'hx-trigger="every 5s"' in changed
    again = re.search(r'id="run-poll" hx-get="([^"]+)"', changed)[1].replace("&amp;", "&")
    assert owner_client.get(again).status_code == 204
    make()
    assert "1 new run." in text(owner_client.get(again))
    Run.objects.filter(pk=run.pk).update(status="Completed", ended_at=timezone.now())
    last = text(owner_client.get(again))
    assert "Completed" in last and "hx-get" not in last.partition("<template>")[0]


def test_counts_come_after_the_rows(owner_client: Client, make) -> None:
    make(), make("Failed"), make("Running")
    page = text(owner_client.get("/vision/runs/counts?q=status:failed"))
    assert "1 of 3" in page
    assert re.search(r'id="count-active"[^>]*>1<', page) and re.search(r'id="count-failed-today"[^>]*>1<', page)


def test_selected_runs_are_tagged_archived_and_restored(contributor_client: Client, make) -> None:
    runs = [make(), make(), make("Running")]
    numbers = [run.number for run in runs]
    answer = contributor_client.post(
        "/vision/runs/act",
        {"run": numbers, "action": "tag", "tags": "good, stage=2"},
        headers={"Accept": "application/json"},
    )
    assert answer.json()["text"] == "3 runs tagged"
    assert dict(runs[0].tags.values_list("name", "value")) == {"good": None, "stage": "2"}
    answer = contributor_client.post(
        "/vision/runs/act", {"run": numbers, "action": "archive"}, headers={"Accept": "application/json"}
    )
    assert answer.json() == {"text": "2 runs archived; 1 left, active or archived already", "undo": "restore"}
    assert Run.objects.filter(archived_at=None).count() == 1
    contributor_client.post("/vision/runs/act", {"run": numbers, "action": "restore"})
    assert Run.objects.filter(archived_at=None).count() == 3


def test_cancel_asks_only_active_runs(contributor_client: Client, make) -> None:
    active, done = make("Running"), make()
    answer = contributor_client.post(
        "/vision/runs/act",
        {"run": [active.number, done.number], "action": "cancel"},
        headers={"Accept": "application/json"},
    )
    assert answer.json()["text"] == "1 run asked to end"
    assert set(Run.objects.values_list("status", flat=True)) == {"CancelRequested", "Completed"}


@pytest.mark.parametrize(
    "fields", [{"action": "archive"}, {"action": "explode", "run": ["1"]}, {"action": "tag", "run": ["1"], "tags": ""}]
)
def test_a_wrong_action_says_why(contributor_client: Client, make, fields: dict) -> None:
    make()
    answer = contributor_client.post("/vision/runs/act", fields, headers={"Accept": "application/json"})
    assert answer.status_code == 422 and answer.json()["error"].endswith(".")


def test_a_reader_sees_no_actions_and_may_take_none(reader_client: Client, make, experiment: Experiment) -> None:
    make()
    page = text(reader_client.get("/vision/runs"))
    assert 'name="run"' not in page and "/runs/new" not in page
    assert reader_client.post("/vision/runs/act", {"run": ["1"], "action": "archive"}).status_code == 403
    assert reader_client.post("/vision/experiments/digits/edit", {"archived": "1"}).status_code == 403


@pytest.mark.parametrize("path", ["runs", "runs/rows", "runs/counts", "runs/columns", "", "live", "experiments", "experiments/digits",
                                  "runs/1/metrics", "runs/1/metrics/data", "runs/1/metrics/pinned", "runs/1/metrics/1.csv"])  # fmt: skip
def test_a_stranger_finds_nothing(stranger_client: Client, make, path: str) -> None:
    make()
    assert stranger_client.get(f"/vision/{path}").status_code == 404


def test_the_way_back_stays_in_the_workspace(contributor_client: Client, make) -> None:
    make()
    for wanted, expected in (
        ("/vision/runs?q=x", "/vision/runs?q=x"),
        ("https://example.test/", "/vision/runs"),
        ("//example.test", "/vision/runs"),
    ):
        answer = contributor_client.post("/vision/runs/act", {"run": ["1"], "action": "restore", "next": wanted})
        assert answer["Location"] == expected


def test_points_as_json_new_ones_only_and_as_csv(reader_client: Client, make) -> None:
    run = make("Running")
    log(
        run,
        *({"k": "loss", "v": n, "s": n, "t": 1000 + n} for n in range(4)),
        {"k": "loss", "v": "NaN", "s": 4, "t": 1004},
    )
    series = run.series.get()
    base = f"/vision/runs/{run.number}/metrics"
    answer = reader_client.get(f"{base}/data?s={series.pk}").json()
    assert answer["series"][str(series.pk)]["y"] == [0, 1, 2, 3, None] and answer["final"] is False
    assert reader_client.get(f"{base}/data?s={series.pk}:5").json()["series"] == {}
    assert reader_client.get(f"{base}/data?s={series.pk}:3&x=time").json()["series"][str(series.pk)]["x"] == [
        1003,
        1004,
    ]
    assert reader_client.get(f"{base}/data?s=x").status_code == 400
    assert reader_client.get(f"{base}/data?s=1&low={2**63}").status_code == 400
    lines = b"".join(reader_client.get(f"{base}/{series.pk}.csv").streaming_content).decode().splitlines()
    assert lines[0] == "step,time,value" and lines[1].startswith("0,1970-01-01T00:16:40") and lines[5].endswith(",nan")
    other = make()
    assert reader_client.get(f"/vision/runs/{other.number}/metrics/{series.pk}.csv").status_code == 404


def test_home_shows_what_is_active_and_what_failed_since_the_last_visit(owner_client: Client, make) -> None:
    run = make("Running")
    make("Failed", name="broken", reason="exit_code", error={"type": "ValueError", "message": "bad value"})
    log(run, {"k": "epoch", "v": 3}, {"op": "param", "k": "epochs", "v": "10"})
    page = text(owner_client.get("/vision/"))
    assert "epoch 3 of 10" in page and "ValueError: bad value" in page and "1 of 2 free" not in page
    fragment = re.search(r'hx-get="(/vision/live\?rev=[^"]+)"', page)[1]
    assert owner_client.get(fragment).status_code == 204
    Run.objects.filter(pk=run.pk).update(launched=True)
    assert "1 of 2 free" in text(owner_client.get("/vision/"))


def test_an_experiment_is_described_measured_and_archived(
    contributor_client: Client, make, experiment: Experiment
) -> None:
    for n in range(3):
        log(make(), {"k": "f1", "v": n})
    contributor_client.post(
        "/vision/experiments/digits/edit", {"description": "why", "primary_metric": "f1", "goal": "maximize"}
    )
    page = text(contributor_client.get("/vision/experiments/digits"))
    assert "why" in page and 'title="2.0"' in page and 'id="row-3"' in page
    assert 'title="f1 2.0"' in text(contributor_client.get("/vision/experiments"))
    contributor_client.post("/vision/experiments/digits/edit", {"archived": "1"})
    assert 'href="/vision/experiments/digits"' not in text(contributor_client.get("/vision/experiments"))
    assert 'href="/vision/experiments/digits"' in text(contributor_client.get("/vision/experiments?archived=yes"))


def test_list_pages_take_a_fixed_number_of_queries(owner_client: Client, make, django_assert_max_num_queries) -> None:
    for n in range(30):
        log(
            make("Running" if n % 3 else "Completed"),
            {"k": "loss", "v": n},
            {"op": "param", "k": "lr", "v": str(n)},
            {"op": "tag", "k": "t"},
        )
    with django_assert_max_num_queries(26):
        owner_client.get("/vision/runs?sort=-loss&q=lr%3E3+status:active")


def test_the_capacity_counts_only_targets_that_a_run_could_start_on(workspace):
    now = timezone.now()
    make_target(workspace, slots=3)
    make_target(workspace, "away", slots=5, unreachable_since=now)
    sick = make_target(workspace, "sick", slots=7, quarantined_at=now)
    make_run(workspace, target=sick, status="Running", launched=True)
    found = capacity_of(workspace)
    assert (found.slots, found.busy, found.free, found.active) == (3, 0, 3, 1)


def test_child_runs_stand_under_their_parents(contributor_client: Client, workspace: Workspace, make) -> None:
    parent, other = make(), make()
    folds = [make(parent=parent, name=f"fold-{number}") for number in range(3)]
    make(parent=parent, archived_at=timezone.now())
    base = f"/{workspace.slug}/runs"

    page = text(contributor_client.get(base))
    assert rows_of(page) == {parent.number, other.number}
    assert f'<a class="tag" href="{base}/{parent.number}/children">3 children</a>' in page
    page = text(contributor_client.get(base, {"q": "children:yes"}))
    assert rows_of(page) == {parent.number, other.number, *(fold.number for fold in folds)}
    of = f'<a class="tag" href="{base}/{parent.number}" title="Child of run {parent.number}">of #{parent.number}</a>'
    assert page.count(of) == 3

    here = f"{base}/{parent.number}"
    assert "Child runs" in text(contributor_client.get(f"{here}/configuration"))
    assert "Child runs" not in text(contributor_client.get(f"{base}/{other.number}/configuration"))
    page = text(contributor_client.get(f"{here}/children"))
    assert rows_of(page) == {fold.number for fold in folds} and of not in page
    assert rows_of(text(contributor_client.get(f"{here}/children", {"q": "fold-1"}))) == {folds[1].number}
    assert rows_of(text(contributor_client.get(f"{base}/{other.number}/children"))) == set()

    counted = text(contributor_client.get(f"{base}/counts"))
    assert re.search(r'id="run-count"[^>]*>2<', counted)
    counted = text(contributor_client.get(f"{base}/counts", {"of": parent.number}))
    assert re.search(r'id="run-count"[^>]*>3<', counted)
    assert contributor_client.get(f"{base}/counts", {"of": "999"}).status_code == 404
    for asked, said in (("children:yes", "5"), ("children:yes fold-1", "1 of 5"), ("children:yes archived:any", "6")):
        counted = text(contributor_client.get(f"{base}/counts", {"q": asked}))
        assert f">{said}</span>" in counted.split("\n")[0], asked


def test_a_list_that_finds_only_child_runs_says_so(contributor_client: Client, workspace: Workspace, make) -> None:
    make(parent=make(), name="fold")
    page = text(contributor_client.get(f"/{workspace.slug}/runs", {"q": "name:fold"}))
    assert "Only child runs match" in page and "1 child run matches" in page
    address = re.search(r'<a class="btn" href="([^"]*)">Show them', page)[1]
    assert rows_of(text(contributor_client.get(address))) == {2}


def test_the_children_of_a_running_parent_are_polled_in_their_scope(
    contributor_client: Client, workspace: Workspace, make
) -> None:
    parent = make("Running")
    fold = make("Running", parent=parent)
    base = f"/{workspace.slug}/runs"
    page = text(contributor_client.get(f"{base}/{parent.number}/children"))
    address = re.search(r'hx-get="([^"]*/runs/rows[^"]*)"', page)[1].replace("&amp;", "&")
    assert f"of={parent.number}" in address
    assert contributor_client.get(address).status_code == 204
    make("Completed", parent=parent)
    make("Completed")
    news = text(contributor_client.get(address))
    assert "1 new run" in news and f'href="{base}/{parent.number}/children' in news
    Run.objects.filter(pk=fold.pk).update(status="Failed", ended_at=timezone.now())
    assert "Failed" in text(contributor_client.get(address))


def rows_of(page: str) -> set[int]:
    return {int(number) for number in re.findall(r'<tr id="row-(\d+)"', page)}
