"""Runs that a client begins, tells of and ends; files kept with them; models made of these."""

import io
import json
import math
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from runs import artifacts, outside, registering
from runs.config import ConfigError
from runs.header import header
from runs.metrics import points
from runs.models import Artifact, Experiment, MetricSeries, MetricValue, Run
from runs.status import EndReason, RunStatus
from runs.submission import cancel
from studio.accounts.models import User
from studio.models import AuditEvent
from studio.workspaces.models import Workspace
from tests.runs.factory import make_artifact, make_run


def lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


@pytest.fixture
def run(workspace: Workspace, contributor: User) -> Run:
    return outside.begin(workspace, contributor, "digits")


def test_a_run_begins_running_without_target_environment_and_snapshot(workspace: Workspace, contributor: User) -> None:
    run = outside.begin(
        workspace, contributor, "digits", name="by hand", tags={"a": None, "b": "1"}, properties={"p": 1}, notes="n"
    )
    run.refresh_from_db()
    assert (run.kind, run.status, run.name, run.notes) == ("interactive", RunStatus.RUNNING, "by hand", "n")
    assert (run.target, run.environment, run.snapshot) == (None, None, None)
    assert run.started_at == run.created_at and run.properties == {"p": 1}
    assert {tag.name: tag.value for tag in run.tags.all()} == {"a": None, "b": "1"}
    assert [event.new for event in run.events.all()] == [RunStatus.RUNNING]


def test_the_same_request_makes_one_run(workspace: Workspace, contributor: User) -> None:
    first, second = (outside.begin(workspace, contributor, "digits", request_id="k") for _ in range(2))
    assert first.pk == second.pk and Run.objects.count() == 1


def test_a_child_lies_in_its_parents_workspace(workspace: Workspace, foreign_workspace: Workspace, run: Run) -> None:
    assert outside.begin(workspace, None, "digits", parent=run).parent == run
    with pytest.raises(ConfigError) as refused:
        outside.begin(foreign_workspace, None, "digits", parent=run)
    assert set(refused.value.errors) == {"parent"}


def test_a_bad_name_and_a_taken_id_are_refused_and_leave_nothing(workspace: Workspace, run: Run) -> None:
    with pytest.raises(ConfigError) as refused:
        outside.begin(workspace, None, "../x", uid=run.uid)
    assert set(refused.value.errors) == {"experiment", "uid"}
    assert Experiment.objects.count() == 1 and Run.objects.count() == 1


def test_a_clients_clock_may_be_ahead(workspace: Workspace) -> None:
    ahead = timezone.now() + timedelta(days=3)
    run = outside.begin(workspace, None, "digits", started_at=ahead)
    assert run.started_at is not None and run.started_at <= timezone.now()
    outside.finish(run, RunStatus.COMPLETED, ended_at=run.started_at - timedelta(hours=1))
    assert run.ended_at == run.started_at


@pytest.mark.parametrize("status", [RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED])
def test_ending_it_twice_is_ending_it_once(run: Run, status: RunStatus) -> None:
    for _ in range(2):
        outside.finish(Run.objects.get(pk=run.pk), status, "why")
    run.refresh_from_db()
    assert run.status == status and run.error == {"message": "why"}
    assert EndReason(run.reason).status == status
    assert run.events.count() == 2


def test_another_ending_is_refused_and_a_run_can_be_taken_up_again(run: Run) -> None:
    outside.finish(run, RunStatus.FAILED, {"type": "ValueError", "message": "m", "unknown": "x"})
    assert run.error == {"type": "ValueError", "message": "m"}
    with pytest.raises(outside.Ended):
        outside.finish(Run.objects.get(pk=run.pk), RunStatus.COMPLETED)
    outside.reopen(run)
    run.refresh_from_db()
    assert (run.status, run.reason, run.error, run.ended_at) == (RunStatus.RUNNING, "", {}, None)
    outside.finish(run, RunStatus.COMPLETED)
    assert [event.new for event in run.events.all()] == ["Running", "Failed", "Running", "Completed"]


def test_a_run_on_a_target_is_not_a_clients_to_end(workspace: Workspace) -> None:
    run = make_run(workspace, status=RunStatus.RUNNING)
    for call in (lambda: outside.finish(run, RunStatus.COMPLETED), lambda: outside.reopen(run)):
        with pytest.raises(outside.NotOutside):
            call()
    run.refresh_from_db()
    assert run.status == RunStatus.RUNNING


def test_cancelling_ends_it_at_once(run: Run, contributor: User) -> None:
    assert cancel(run, contributor)
    run.refresh_from_db()
    assert (run.status, run.reason, run.canceled_by) == (RunStatus.CANCELED, EndReason.CANCELED, contributor)
    assert [event.new for event in run.events.all()] == ["Running", "CancelRequested", "Canceled"]
    assert not cancel(run, contributor)


def test_records_are_applied_at_once(run: Run) -> None:
    sent = lines(
        {"k": "loss", "v": 1.5, "s": 3, "t": 1795470000.5},
        {"k": "loss", "v": "NaN"},
        {"op": "batch", "s": 4, "m": {"acc": 0.5, "loss": 1}},
        {"op": "list", "k": "l", "v": [1, "a"]},
        {"op": "tag", "k": "stage", "v": "final"},
        {"op": "param", "k": "lr", "v": "0.1"},
        {"op": "property", "k": "p", "v": {"a": 1}},
        {"op": "name", "v": "new"},
    )
    assert outside.take_records(run, b"\n" + sent) == 8
    loss = points(MetricSeries.objects.get(run=run, name="loss"))
    assert loss["step"] == [3, 1, 4] and loss["value"][0] == 1.5 and math.isnan(loss["value"][1])
    run.refresh_from_db()
    assert (run.name, run.properties, run.bad_records) == ("new", {"p": {"a": 1}}, 0)
    assert run.tags.get().value == "final" and run.parameters.get().number == 0.1
    assert MetricValue.objects.get().data == [1, "a"]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (b"nothing", "JSON"), (b"[]", "JSON object"), (b"\xff\xfe", "JSON"), (b"[" * 100_000, "JSON"), (b'{"k": ""}', "v:"),
        (b'{"k": "", "v": 1}', "k:"), (b'{"k": "a\\u0000", "v": 1}', "k:"), (b'{"k": "a", "v": [1]}', "v:"),
        (b'{"k": "a", "v": 1, "s": 9223372036854775808}', "s:"), (b'{"op": "batch", "m": {"a": 1, "b": null}}', "v:"),
        (b'{"op": "image", "k": "i", "path": "../x"}', "path:"), (b'{"op": "what"}', "op:"), (b'{"op": 3}', "op:"),
        (b'{"op": "table", "k": "t", "v": {"a": [1], "b": []}}', "v:"),
    ],
)  # fmt: skip
def test_one_bad_record_and_none_is_applied(run: Run, bad: bytes, field: str) -> None:
    good = lines({"k": "loss", "v": 1}, {"op": "tag", "k": "a", "v": "b"})
    with pytest.raises(outside.RecordsRefused) as refused:
        outside.take_records(run, good + bad + b"\n" + good)
    assert refused.value.line == 3 and field in refused.value.rule
    assert not MetricSeries.objects.exists() and not run.tags.exists()
    run.refresh_from_db()
    assert run.bad_records == 0


def test_a_property_that_would_change_refuses_the_whole_call(run: Run) -> None:
    outside.take_records(run, lines({"op": "property", "k": "p", "v": 1}))
    outside.take_records(run, lines({"op": "property", "k": "p", "v": 1}, {"k": "loss", "v": 1}))
    with pytest.raises(outside.RecordsRefused, match="property p"):
        outside.take_records(run, lines({"k": "loss", "v": 2}, {"op": "property", "k": "p", "v": 2}))
    assert MetricSeries.objects.get().count == 1


def test_what_a_run_has_no_room_for_refuses_the_whole_call(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runs.metrics.applying.MAX_SERIES", 2)
    with pytest.raises(outside.RecordsRefused) as refused:
        outside.take_records(run, lines({"op": "batch", "m": {"a": 1, "b": 2, "c": 3}}))
    assert refused.value.line == 0 and not MetricSeries.objects.exists()


@pytest.mark.parametrize("size", [0, 10, 2 * 1024 * 1024 + 1])
def test_a_file_is_kept_and_replaced(run: Run, size: int) -> None:
    artifacts.keep(run, "models/a.bin", io.BytesIO(b"old"))
    row = artifacts.keep(run, "models/a.bin", iter([b"x" * size]))
    assert Artifact.objects.get() == row and row.size == size
    with artifacts.open_(row) as file:
        assert file.read() == b"x" * size


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./a", "a/.", "a\\b", "C:/x", "a\0b", "a\nb", "\x7f", "\ud800", "a/" * 101 + "b",
     "é" * 200, "x/" * 90 + "y" * 200 + "/" + "z" * 250 + "/" + "z" * 250 + "/" + "z" * 250],
)  # fmt: skip
def test_a_path_that_is_none_keeps_nothing(run: Run, path: str) -> None:
    def unread() -> object:
        raise AssertionError("the body was read before the path was checked")
        yield b""

    with pytest.raises(artifacts.ArtifactRefused):
        artifacts.keep(run, path, unread())  # type: ignore[arg-type]
    assert not Artifact.objects.exists()


def test_a_path_is_a_file_or_a_folder(run: Run) -> None:
    artifacts.keep(run, "a/b", io.BytesIO(b"1"))
    artifacts.keep(run, "A", io.BytesIO(b"1"))
    for path in ("a", "a/b/c"):
        with pytest.raises(artifacts.ArtifactRefused):
            artifacts.keep(run, path, io.BytesIO(b"2"))
    artifacts.keep(run, "a0", io.BytesIO(b"1"))
    assert sorted(Artifact.objects.values_list("path", flat=True)) == ["A", "a/b", "a0"]


def test_files_over_the_limit_are_refused(run: Run, settings) -> None:
    settings.OUTPUT_MAX_BYTES = 10
    artifacts.keep(run, "a", io.BytesIO(b"12345"))
    with pytest.raises(artifacts.ArtifactRefused) as refused:
        artifacts.keep(run, "b", iter([b"123", b"456"]))
    assert refused.value.large
    artifacts.keep(run, "a", io.BytesIO(b"1234567890"))  # in its own place


def test_a_file_or_a_folder_becomes_a_version(workspace: Workspace, contributor: User, run: Run) -> None:
    for path, data in (("model/a.bin", b"1"), ("model/sub/b.bin", b"22"), ("models.txt", b"")):
        make_artifact(run, path, data)
    first = registering.register(workspace, contributor, "Digits 1.0", run, "model/a.bin", tags={"x": None})
    second = registering.register(workspace, contributor, "Digits 1.0", run, "model/", properties={"p": 1})
    assert (first.number, second.number) == (1, 2)
    assert [path for path, _, _ in first.files] == ["a.bin"]
    assert [(path, size) for path, size, _ in second.files] == [("a.bin", 1), ("sub/b.bin", 2)]
    artifacts.keep(run, "model/a.bin", io.BytesIO(b"changed"))
    second.refresh_from_db()
    assert second.files[0][1] == 1
    assert AuditEvent.objects.filter(action="model.register").count() == 2
    registering.remove([second], contributor)
    assert registering.register(workspace, contributor, "Digits 1.0", run, "").number == 3


@pytest.mark.parametrize(
    ("name", "path", "field"),
    [("m", "nothing", "path"), ("m", "mod", "path"), ("m", "skipped", "path"), ("a/b", "model", "name"), ("a:b", "model", "name"),
     ("", "model", "name"), (" m", "model", "name"), ("m" * 256, "model", "name"), ("m\n", "model", "name")],
)  # fmt: skip
def test_what_is_no_model_is_refused(workspace: Workspace, run: Run, name: str, path: str, field: str) -> None:
    make_artifact(run, "model/a", b"1")
    make_artifact(run, "skipped", None, skipped="too large")
    with pytest.raises(ConfigError) as refused:
        registering.register(workspace, None, name, run, path)
    assert set(refused.value.errors) == {field}
    assert not workspace.models.exists()


def test_a_foreign_run_gives_no_model(foreign_workspace: Workspace, run: Run) -> None:
    make_artifact(run, "a", b"1")
    with pytest.raises(ConfigError) as refused:
        registering.register(foreign_workspace, None, "m", run, "a")
    assert set(refused.value.errors) == {"run"}


def test_an_alias_is_held_by_one_version(workspace: Workspace, run: Run) -> None:
    make_artifact(run, "a", b"1")
    one, two = (registering.register(workspace, None, "m", run, "a") for _ in range(2))
    registering.set_alias(one, "best")
    registering.set_alias(two, "best")
    one.refresh_from_db()
    assert (one.aliases, two.aliases) == ([], ["best"])
    assert registering.find_version(one.model, "best") == two == registering.find_version(one.model, "latest")
    assert registering.find_version(one.model, "1") == one and registering.find_version(one.model, "7") is None
    registering.drop_alias(one.model, "best")
    assert registering.find_version(one.model, "best") is None


# The pages of a run without target, environment and snapshot.


@pytest.mark.parametrize(
    "tab", ["", "/logs", "/metrics", "/outputs", "/snapshot", "/configuration", "/header?tab=overview"]
)
@pytest.mark.parametrize("ended", [False, True])
def test_every_tab_shows_it(contributor_client: Client, workspace: Workspace, run: Run, tab: str, ended: bool) -> None:
    outside.begin(workspace, None, "digits", parent=run)
    outside.take_records(run, lines({"k": "loss", "v": 1}, {"k": "loss", "v": 2}))
    if ended:
        outside.finish(run, RunStatus.FAILED, {"type": "ValueError", "message": "bad"})
    number = run.number + (tab == "/configuration")
    answer = contributor_client.get(f"/{workspace.slug}/runs/{number}{tab}")
    page = answer.content.decode()
    assert answer.status_code == 200
    assert "Interactive" in page and "Run again" not in page
    if number != run.number:
        assert f'href="/{workspace.slug}/runs/{run.number}">#{run.number}<' in page and "Same run from code" not in page


def test_its_head_has_one_phase(run: Run) -> None:
    assert [(phase.name, phase.state) for phase in header(run).phases] == [("Running", "now")]
    outside.finish(run, RunStatus.FAILED, {"type": "ValueError", "message": "bad"})
    head = header(run)
    assert [(phase.name, phase.state) for phase in head.phases] == [("Running", "broke")]
    (banner,) = head.banners
    assert banner.title.endswith(": ValueError: bad") and banner.advice


def test_lists_say_interactive_and_filter_by_kind_and_parent(
    contributor_client: Client, workspace: Workspace, run: Run
) -> None:
    child = outside.begin(workspace, None, "digits", parent=run, name="the-child")
    script = make_run(workspace, name="the-script", status=RunStatus.COMPLETED)

    def shown(query: str) -> set[int]:
        page = contributor_client.get(f"/{workspace.slug}/runs", {"q": query}).content.decode()
        return {number for number in (run.number, child.number, script.number) if f'id="row-{number}"' in page}

    assert shown("") == {run.number, script.number}
    assert shown("children:yes") == {run.number, child.number, script.number}
    assert shown("children:no") == {run.number, script.number}
    assert shown("kind:interactive children:yes") == {run.number, child.number}
    assert shown("kind:script") == {script.number} == shown("kind:script parent:none")
    assert shown("parent:any") == {child.number} == shown(f"parent:{run.number}") == shown(f"parent:#{run.number}")
    assert shown("parent:4711") == set()
    page = contributor_client.get(f"/{workspace.slug}/runs?q=kind:nothing").content.decode()
    assert "is no kind of run" in page
    for path in ("runs", "experiments/digits", "experiments", ""):
        page = contributor_client.get(f"/{workspace.slug}/{path}").content.decode()
        assert path == "experiments" or "Interactive" in page


def test_the_page_cancels_it_at_once(contributor_client: Client, workspace: Workspace, run: Run) -> None:
    assert contributor_client.post(f"/{workspace.slug}/runs/{run.number}/cancel").status_code == 302
    run.refresh_from_db()
    assert run.status == RunStatus.CANCELED
    other = outside.begin(workspace, None, "digits")
    contributor_client.post(f"/{workspace.slug}/runs/act", {"run": other.number, "action": "cancel"})
    other.refresh_from_db()
    assert other.status == RunStatus.CANCELED
