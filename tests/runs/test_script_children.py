"""Children and models that a script tells of in its records: made once, bounded, ended with it."""

import json
import time
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from runs import metrics, wishes
from runs.metrics.children import MAX_CHILDREN
from runs.models import MetricSeries, ModelVersion, ModelWish, Run, RunEvent
from runs.status import EndReason, RunStatus
from studio.accounts.models import User
from studio.workspaces.models import Workspace
from tests.runs.factory import make_artifact, make_run
from tests.runs.test_detail import page

pytestmark = pytest.mark.django_db


@pytest.fixture
def run(workspace: Workspace) -> Run:
    return make_run(workspace, status=RunStatus.RUNNING)


def apply(run: Run, *records: Any) -> Run:
    data = b"".join((r if isinstance(r, bytes) else json.dumps(r).encode()) + b"\n" for r in records)
    metrics.apply_records(run, data)
    run.refresh_from_db()
    return run


def begin(key: str, name: str = "", **more: Any) -> dict[str, Any]:
    return {"op": "child", "c": key, "k": name, "t": time.time(), **more}


def of(key: str, **record: Any) -> dict[str, Any]:
    return {"op": "of", "c": key, "r": record}


def up(**record: Any) -> dict[str, Any]:
    return {"op": "parent", "r": record}


def child(run: Run, key: str) -> Run:
    return Run.objects.get(uid=f"{run.uid}_{key}")


def test_children_come_to_be_with_what_is_said_of_them(run: Run) -> None:
    apply(
        run, begin("a", "fold"), of("a", k="loss", v=0.5), of("a", op="batch", m={"loss": 0.25, "acc": 1}, s=3),
        begin("b", p="a"), of("b", op="tag", k="t", v="v"), of("b", op="param", k="lr", v="0.1"), {"k": "own", "v": 1.0},
        of("a", op="end", v="Failed", error={"type": "E", "message": "m"}),
    )  # fmt: skip
    a, b = child(run, "a"), child(run, "b")
    assert (a.name, a.parent, a.told_by, a.kind, a.experiment_id) == (
        "fold",
        run,
        run,
        "interactive",
        run.experiment_id,
    )
    assert (a.status, a.reason, a.error) == ("Failed", "reported_failed", {"type": "E", "message": "m"})
    assert (b.name, b.parent, b.told_by, b.status) == (f"{run.name}-b", a, run, "Running")
    assert b.tags.get().value == "v" and b.parameters.get().value == "0.1"
    assert dict(MetricSeries.objects.filter(run=a).values_list("name", "count")) == {"loss": 2, "acc": 1}
    assert list(MetricSeries.objects.filter(run=run).values_list("name", flat=True)) == ["own"]
    assert len({run.number, a.number, b.number}) == 3
    assert run.bad_records == 0


def test_lines_that_are_read_again_make_nothing_twice(run: Run) -> None:
    wish = {"op": "model", "id": "w1", "k": "m", "path": "outputs/m"}
    for _ in range(3):
        apply(
            run,
            begin("a", "fold"),
            of("a", op="tag", k="t", v="1"),
            of("a", op="end", v="Completed"),
            wish,
            of("a", **wish),
        )
    assert Run.objects.filter(told_by=run).count() == 1
    assert RunEvent.objects.filter(run=child(run, "a")).count() == 2
    assert ModelWish.objects.count() == 2
    assert run.bad_records == 0


@pytest.mark.parametrize(
    "record",
    [
        {"op": "child"}, {"op": "child", "c": "A"}, {"op": "child", "c": "x" * 17}, {"op": "child", "c": 5},
        {"op": "child", "c": "a", "p": "../x"}, {"op": "child", "c": "a", "k": {}}, {"op": "of", "c": "never", "r": {"k": "a", "v": 1}},
        {"op": "of", "c": "kid"}, {"op": "of", "c": "kid", "r": []}, {"op": "of", "c": "kid", "r": {"op": "end", "v": "Running"}},
        {"op": "of", "c": "kid", "r": {"op": "child", "c": "b"}}, {"op": "of", "c": "kid", "r": {"op": "of", "c": "b", "r": {}}},
        {"op": "of", "c": "kid", "r": {"k": ["a"], "v": 1}}, {"op": "of", "c": "kid", "r": {"k": "a", "v": "x"}},
        {"op": "of", "c": "kid", "r": {"op": 5}}, {"op": "end", "v": "Completed"},
        {"op": "model", "k": "m", "path": "a"}, {"op": "model", "id": "w", "k": "m", "path": "../a"},
        {"op": "model", "id": "w", "k": "", "path": "a"}, {"op": "model", "id": "w", "k": "m", "path": "a", "v": {"tags": 5}},
        {"op": "model", "id": "w", "k": "m", "path": "a", "v": {"tags": {"a": []}}},
    ],
)  # fmt: skip
def test_what_is_no_such_record_is_counted_and_spoils_nothing(run: Run, record: Any) -> None:
    apply(run, begin("kid"), record, of("kid", k="after", v=1.0))
    assert run.bad_records == 1
    assert MetricSeries.objects.get(run=child(run, "kid")).name == "after"
    assert Run.objects.filter(told_by=run).count() == 1
    assert not ModelWish.objects.exists()


def test_no_script_reaches_runs_that_are_not_its_own(run: Run, workspace: Workspace) -> None:
    other = make_run(workspace, status=RunStatus.RUNNING)
    foreign = make_run(workspace, status=RunStatus.RUNNING)
    Run.objects.filter(pk=foreign.pk).update(uid=f"{run.uid}_f")
    apply(other, begin("x"))
    apply(run, begin("f"), of("f", k="a", v=1.0), begin("y", p="x"))
    assert run.bad_records == 1
    assert not MetricSeries.objects.filter(run=foreign).exists()
    assert child(run, "y").parent == run


def test_a_run_tells_its_parent_metrics_and_tags_and_nothing_else(run: Run, workspace: Workspace) -> None:
    parent = make_run(workspace, status=RunStatus.COMPLETED, name="above")
    below = make_run(workspace, status=RunStatus.RUNNING, parent=parent)
    apply(
        below, up(k="child loss", v=3.0), up(op="batch", m={"child loss": 2.0}, s=7), up(op="tag", k="best", v="2"), up(op="row", k="t", v={"x": 1}),
        {"k": "own", "v": 1.0},
    )  # fmt: skip
    series = MetricSeries.objects.get(run=parent)
    assert (series.name, series.count, series.last, series.last_step) == ("child loss", 2, 2.0, 7)
    assert list(parent.tags.values_list("name", "value")) == [("best", "2")] and parent.values.count() == 1
    assert (
        list(MetricSeries.objects.filter(run=below).values_list("name", flat=True)) == ["own"] and not below.bad_records
    )
    refused = (
        up(op="name", v="mine"), up(op="image", k="i", path="i.png"), up(op="model", id="w", k="m", path="a"), up(op="end", v="Failed"),
        up(op="child", c="a"), up(op="parent", r={"k": "a", "v": 1.0}), up(op=["x"]), {"op": "parent"}, of("a", op="parent", r={"k": "a", "v": 1}),
    )  # fmt: skip
    assert apply(below, *refused).bad_records >= len(refused)
    assert apply(run, up(k="a", v=1.0)).bad_records == 1  # it has none
    parent.refresh_from_db()
    assert (parent.name, parent.status, parent.bad_records) == ("above", "Completed", 0)
    assert not Run.objects.filter(told_by__in=[parent, below]).exclude(parent=below).exists()


def test_there_is_a_bound_and_parents_in_a_ring_are_no_trap(run: Run) -> None:
    apply(run, *(begin(f"k{number}") for number in range(MAX_CHILDREN - 2)))
    apply(run, begin("r1", p="r2"), begin("r2", p="r1"), begin("over"), begin("self", p="self"))
    assert Run.objects.filter(told_by=run).count() == MAX_CHILDREN
    assert run.bad_records == 2
    for key in ("r1", "r2"):
        assert child(run, key).parent == run


def test_many_children_become_rows_in_few_queries_and_none_cost_none(run: Run) -> None:
    with CaptureQueriesContext(
        connection,
    ) as none:
        apply(run, {"k": "a", "v": 1.0})
    assert not [query for query in none if "told_by" in query["sql"].split("WHERE")[-1]]
    with CaptureQueriesContext(connection) as many:
        apply(run, *(begin(f"k{number}") for number in range(200)))
    assert len(many) < 20
    assert Run.objects.filter(told_by=run).count() == 200


def final(run: Run, reason: EndReason) -> Run:
    Run.objects.filter(pk=run.pk).update(status=reason.status, reason=reason)
    run.refresh_from_db()
    wishes.settle(run)
    return run


@pytest.mark.parametrize("reason", [EndReason.EXITED, EndReason.EXIT_CODE, EndReason.CANCELED, EndReason.TIMED_OUT])
def test_children_that_were_left_open_end_as_the_script_does(run: Run, reason: EndReason) -> None:
    apply(run, begin("a"), begin("b", p="a"), begin("done"), of("done", op="end", v="Completed"))
    final(run, reason)
    assert [child(run, key).status for key in ("a", "b", "done")] == [reason.status, reason.status, "Completed"]
    assert child(run, "a").reason == reason
    apply(run, of("a", op="end", v="Canceled"))
    assert child(run, "a").status == reason.status


def test_wishes_become_versions_once_or_say_why_not(run: Run) -> None:
    apply(
        run, begin("a"), {"op": "model", "id": "1", "k": "m", "path": "outputs/m", "v": {"tags": {"x": None}, "description": "d"}},
        {"op": "model", "id": "2", "k": "gone", "path": "outputs/gone"}, {"op": "model", "id": "3", "k": "a/b", "path": "outputs/m"},
        {"op": "model", "id": "4", "k": "skipped", "path": "outputs/s"}, {"op": "model", "id": "5", "k": "m", "path": "outputs"},
        of("a", op="model", id="1", k="of-child", path="own"), of("a", op="model", id="2", k="of-script", path="outputs/m"),
    )  # fmt: skip
    make_artifact(run, "outputs/m", b"m")
    make_artifact(run, "outputs/s", None, skipped="a link")
    make_artifact(child(run, "a"), "own/x", b"x")
    for _ in range(2):
        final(run, EndReason.EXIT_CODE)
    found = {(str(version), version.run) for version in ModelVersion.objects.all()}
    assert found == {("m:1", run), ("of-child:1", child(run, "a")), ("of-script:1", run)}
    assert ModelVersion.objects.get(model__name="m").tags == {"x": None}
    told = [event.detail for event in run.events.all() if event.detail]
    assert len(told) == 7
    assert any("gone, which was not registered: 'outputs/gone' is no artifact" in text for text in told)
    assert any("a/b, which was not registered: 'a/b' is not a name" in text for text in told)
    assert any("outputs/s was not collected (a link)" in text for text in told)
    assert not ModelWish.objects.filter(settled_at=None).exists()


def test_a_client_of_an_interactive_run_has_calls_of_its_own_for_these(workspace: Workspace) -> None:
    from runs import outside

    own = outside.begin(workspace, None, "by-hand")
    for record in (begin("a"), {"op": "model", "id": "w", "k": "m", "path": "a"}, up(k="a", v=1.0)):
        with pytest.raises(outside.RecordsRefused, match="calls of its own"):
            outside.take_records(own, json.dumps(record).encode())
    assert not Run.objects.filter(told_by=own).exists()


def test_the_page_shows_the_children_and_what_became_of_wishes(run: Run, contributor_client: Client) -> None:
    apply(run, begin("a", "fold <1>"), begin("b", "fold 2"), of("b", op="end", v="Failed"))
    apply(run, {"op": "model", "id": "1", "k": "digits", "path": "outputs/none"})
    assert f'href="/vision/runs/{run.number}/children"' in page(contributor_client.get(f"/vision/runs/{run.number}"))
    answer = contributor_client.get(f"/vision/runs/{run.number}/children")
    assert "fold <1>" in page(answer) and "fold 2" in page(answer)
    assert "fold <1>" not in answer.content.decode()
    final(run, EndReason.EXITED)
    assert "digits, which was not registered" in page(contributor_client.get(f"/vision/runs/{run.number}"))
    own = page(contributor_client.get(f"/vision/runs/{child(run, 'a').number}"))
    assert f'child of <a href="/vision/runs/{run.number}">' in own


def test_what_hangs_on_a_run_that_is_given_up_ends_with_it(run: Run, owner: User) -> None:
    from runs.detaching import give_up

    apply(run, begin("a"), {"op": "model", "id": "1", "k": "m", "path": "outputs/m"})
    Run.objects.filter(pk=run.pk).update(launched=True)
    run.refresh_from_db()
    give_up(run.target, [run], owner)
    assert (child(run, "a").status, child(run, "a").reason) == ("Failed", "supervisor_lost")
    assert ModelWish.objects.get().settled_at is not None


def test_models_are_made_one_by_one_and_once_however_often_it_is_tried(run: Run) -> None:
    make_artifact(run, "outputs/m/weights", b"w")
    apply(run, *({"op": "model", "id": f"w{n}", "k": "net", "path": "outputs/m"} for n in range(4)))
    calls = []

    def held() -> None:
        calls.append(ModelVersion.objects.count())
        if len(calls) == 3:
            raise RuntimeError("the lease was lost")

    with pytest.raises(RuntimeError):
        wishes.grant(run, held)
    assert calls == [0, 1, 2], "each is there before the next one is begun"
    wishes.grant(run, lambda: None)
    run.reason = EndReason.EXITED
    wishes.settle(run)
    assert sorted(ModelVersion.objects.values_list("number", flat=True)) == [1, 2, 3, 4]
    assert RunEvent.objects.filter(run=run, detail__startswith="Registered").count() == 4


def test_two_who_settle_the_same_wish_make_one_model(run: Run) -> None:
    make_artifact(run, "outputs/m/weights", b"w")
    apply(run, {"op": "model", "id": "w", "k": "net", "path": "outputs/m"})
    wish = wishes.open_wishes(run).get()
    wishes.settle_one(wish, run)
    wishes.settle_one(wish, run)
    assert ModelVersion.objects.count() == 1


def test_a_script_and_its_children_share_the_number_of_wishes(run: Run, monkeypatch) -> None:
    monkeypatch.setattr("runs.metrics.applying.MAX_WISHES", 3)
    wish = [{"op": "model", "id": f"w{n}", "k": "net", "path": "outputs/m"} for n in range(2)]
    apply(run, begin("a"), begin("b"), *wish, *(of("a", **one) for one in wish), *(of("b", **one) for one in wish))
    assert ModelWish.objects.count() == 3
    assert sum(Run.objects.values_list("bad_records", flat=True)) == 3


def test_the_page_of_a_child_says_that_a_script_began_it(run: Run, contributor_client: Client) -> None:
    apply(
        run,
        begin("a", "fold"),
        of("a", op="end", v="Failed", error={"type": "E", "message": "m", "detail": "one\n  two"}),
    )
    own = f"/vision/runs/{child(run, 'a').number}"
    shown = page(contributor_client.get(own))
    assert "In its script" in shown and "Interactive" not in shown
    assert "E: m" in shown and "one\n  two</pre>" in shown
    assert f'href="/vision/runs/{run.number}/logs">Open its log' in shown
    assert f'href="/vision/runs/{run.number}/configuration">#{run.number}' in page(
        contributor_client.get(f"{own}/configuration")
    )
    assert "In its script" in page(contributor_client.get("/vision/runs?q=children:yes"))
