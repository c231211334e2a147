"""Pages of environments and compute, as people of each role see them."""

from datetime import timedelta

import pytest
from django.utils import timezone

from environments import builds
from environments.definition import Definition
from environments.models import Build, BuildStatus, ComputeTarget, Environment
from environments.registry import register
from environments.setup import first_start
from tests.runs.factory import make_run


@pytest.fixture
def target(workspace) -> ComputeTarget:
    return ComputeTarget.objects.create(
        workspace=workspace, name="local", slots=2, last_seen_at=timezone.now(),
        facts={"cpus": 2, "memory": 8 * 10**9, "disk": {"free": 60 * 10**9, "total": 100 * 10**9}, "gpus": [], "os": "Debian",
               "arch": "x86_64", "kernel": "6", "python": "/usr/bin/python3", "tools": {"uv": "/bin/uv", "git": None},
               "isolation": {"tier": "process", "detail": "no Landlock"}},
    )  # fmt: skip


@pytest.fixture
def version(workspace):
    environment = Environment.objects.create(workspace=workspace, name="mine", description="Ours")
    return register(environment, Definition(packages=("six==1.16.0",)).validated())


FORM = {
    "name": "fresh",
    "description": "",
    "kind": "packages",
    "packages": "numpy==2.0\nsix",
    "python_version": "",
    "variables": "A=1",
}


def test_the_list_shows_own_and_curated_environments_with_their_state(reader_client, workspace, target, version):
    first_start(workspace)
    Build.objects.create(
        target=target, key=version.key, version=version, status=BuildStatus.READY, ended_at=timezone.now()
    )
    page = reader_client.get("/vision/environments").content.decode()
    for text in ("mine", "curated", "scikit-learn", "Ready", "Not built yet", "The target's Python, 1 package"):
        assert text in page.replace("&#x27;", "'")
    assert "New environment" not in page


def test_a_contributor_makes_an_environment_and_a_version_of_it(contributor_client, workspace):
    answer = contributor_client.post("/vision/environments/new", FORM)
    assert answer.url == "/vision/environments/fresh/1"
    made = Environment.objects.get(workspace=workspace, name="fresh").versions.get()
    assert made.definition == {"packages": ["numpy==2.0", "six"], "variables": {"A": "1"}}
    page = contributor_client.get("/vision/environments/fresh/new").content.decode()
    assert "numpy==2.0\nsix" in page
    answer = contributor_client.post("/vision/environments/fresh/new", {**FORM, "packages": "numpy==2.1"})
    assert answer.url == "/vision/environments/fresh/2"
    # Unchanged: the same version again.
    assert (
        contributor_client.post("/vision/environments/fresh/new", {**FORM, "packages": "numpy==2.1"}).url == answer.url
    )
    assert contributor_client.get("/vision/environments/FRESH").url == "/vision/environments/fresh/2"


def test_a_rejected_form_names_every_line_and_field_and_keeps_what_was_typed(contributor_client, workspace):
    typed = {
        **FORM,
        "name": "AzureML-Mine",
        "packages": "numpy\n-e .\n<script>",
        "python_version": "2.7",
        "variables": "bad line",
    }
    answer = contributor_client.post("/vision/environments/new", typed)
    page = answer.content.decode()
    assert answer.status_code == 422
    for text in (
        "Names that begin with AzureML-",
        "Line 2",
        "Line 3",
        "an editable install",
        "3.11 or 3.11.7",
        "Line 1: write NAME=value",
    ):
        assert text in page
    assert "numpy\n-e .\n&lt;script&gt;</textarea>" in page
    assert "<script>" not in page.split("</head>")[1]
    assert "bad line</textarea>" in page
    assert not Environment.objects.filter(workspace=workspace).exists()


@pytest.mark.parametrize("name", ["MINE", "Scikit-Learn", "new", "", "-x", "a b", "ä"])
def test_a_name_that_is_taken_or_not_allowed_is_refused(contributor_client, workspace, version, name):
    first_start(workspace)
    before = Environment.objects.count()
    assert contributor_client.post("/vision/environments/new", {**FORM, "name": name}).status_code == 422
    assert Environment.objects.count() == before


def test_an_existing_interpreter_is_chosen_without_losing_the_packages_typed(contributor_client, workspace):
    typed = {**FORM, "kind": "interpreter", "interpreter_path": "bin/python"}
    page = contributor_client.post("/vision/environments/new", typed).content.decode()
    assert "must be an absolute path" in page.replace("&#x27;", "'")
    assert "numpy==2.0\nsix" in page
    contributor_client.post("/vision/environments/new", {**typed, "interpreter_path": "/usr/bin/python3"})
    made = Environment.objects.get(workspace=workspace, name="fresh").versions.get()
    assert made.definition == {"user_managed": True, "interpreter_path": "/usr/bin/python3", "variables": {"A": "1"}}


def test_a_field_is_checked_while_the_form_is_being_filled_in(contributor_client, workspace):
    answer = contributor_client.post("/vision/environments/check?field=packages", {**FORM, "packages": "ok\nnum py"})
    assert "Line 2" in answer.content.decode()
    right = contributor_client.post("/vision/environments/check?field=packages", FORM).content.decode()
    assert "Line " not in right
    assert "env = Environment(&#x27;fresh&#x27;)" in right  # the same as code
    assert contributor_client.post("/vision/environments/check?field=nonsense", FORM).status_code == 404


def test_a_clone_of_a_curated_environment_begins_with_its_packages_and_a_free_name(contributor_client, workspace):
    first_start(workspace)
    page = contributor_client.get("/vision/environments/new?from=AzureML-Tutorial/1").content.decode()
    assert "tqdm==4.67.1" in page
    assert 'value="Tutorial"' in page
    assert contributor_client.get("/vision/environments/new?from=nothing").status_code == 404


def test_a_curated_environment_cannot_be_changed_by_members(contributor_client, owner_client, workspace):
    first_start(workspace)
    for client in (contributor_client, owner_client):
        assert client.post("/vision/environments/python/new", FORM).status_code == 404
        assert client.post("/vision/environments/python/archive").status_code == 404


def test_a_failed_build_shows_its_error_and_is_retried(contributor_client, reader_client, workspace, target, version):
    build = builds.ensure(target, version)
    Build.objects.filter(pk=build.pk).update(
        status=BuildStatus.FAILED, error="<b>six</b> was not found", ended_at=timezone.now(), attempts=1
    )
    page = reader_client.get("/vision/environments/mine/1").content.decode()
    assert "&lt;b&gt;six&lt;/b&gt; was not found" in page
    assert f"/vision/environments/builds/{build.pk}/log" in page
    assert "Retry" not in page
    assert reader_client.post(f"/vision/environments/builds/{build.pk}/retry").status_code == 403
    assert contributor_client.post(f"/vision/environments/builds/{build.pk}/retry").url == "/vision/environments/mine/1"
    build.refresh_from_db()
    assert build.status == BuildStatus.WAITING
    # While it waits the card polls; once it is ready it comes back without its trigger.
    assert "hx-trigger" in reader_client.get("/vision/environments/mine/1/builds").content.decode()
    Build.objects.filter(pk=build.pk).update(status=BuildStatus.READY)
    assert "hx-trigger" not in reader_client.get("/vision/environments/mine/1/builds").content.decode()


def test_a_version_is_built_on_a_target_before_a_run_needs_it(contributor_client, workspace, target, version):
    assert contributor_client.post("/vision/environments/mine/1/build", {"target": "local"}).status_code == 302
    assert Build.objects.get(target=target, key=version.key).status == BuildStatus.WAITING
    assert contributor_client.post("/vision/environments/mine/1/build", {"target": "elsewhere"}).status_code == 409


def test_archived_environments_are_kept_apart_and_come_back(contributor_client, workspace, version):
    contributor_client.post("/vision/environments/mine/archive")
    assert "/environments/mine/1" not in contributor_client.get("/vision/environments").content.decode()
    assert "/environments/mine/1" in contributor_client.get("/vision/environments?archived").content.decode()
    contributor_client.post("/vision/environments/mine/archive", {"restore": "1"})
    assert "/environments/mine/1" in contributor_client.get("/vision/environments").content.decode()


def test_the_page_of_a_target_says_what_runs_and_why_the_others_wait(reader_client, workspace, target, owner):
    running = [
        make_run(workspace, target=target, status="Running", launched=True, started_at=timezone.now()) for _ in range(2)
    ]
    waiting = [make_run(workspace, target=target, status="Queued") for _ in range(2)]
    noted = make_run(workspace, target=target, status="Preparing", waiting_for="Building the environment mine:1")
    page = reader_client.get("/vision/compute/local").content.decode()
    for run in [*running, *waiting, noted]:
        assert f"/vision/runs/{run.number}" in page
    for text in ("0 of 2 free", "All 2 slots are busy, next in line.", "1 run ahead", "Building the environment mine:1", "Online",
                 "Process only", "60 GB free of 100 GB"):  # fmt: skip
        assert text in page
    assert "Drain" not in page
    ComputeTarget.objects.update(
        unreachable_since=timezone.now(), last_error="refused", last_seen_at=timezone.now() - timedelta(hours=2)
    )
    page = reader_client.get("/vision/compute/local/live").content.decode()
    assert "Not reachable" in page
    assert "refused" in page


def test_only_an_owner_drains_and_changes_slots(owner_client, contributor_client, workspace, target):
    assert contributor_client.post("/vision/compute/local/drain", {"drain": "1"}).status_code == 403
    assert contributor_client.post("/vision/compute/local/slots", {"slots": "5"}).status_code == 403
    owner_client.post("/vision/compute/local/drain", {"drain": "1"})
    target.refresh_from_db()
    assert not target.enabled
    assert "Draining" in owner_client.get("/vision/compute").content.decode()
    owner_client.post("/vision/compute/local/drain", {"resume": "1"})
    owner_client.post("/vision/compute/local/slots", {"slots": "5"})
    target.refresh_from_db()
    assert (target.enabled, target.slots) == (True, 5)
    for bad in ("0", "-1", "10001", "x", ""):
        assert owner_client.post("/vision/compute/local/slots", {"slots": bad}).status_code == 422
    target.refresh_from_db()
    assert target.slots == 5


def test_a_contributor_tests_the_connection_for_real(contributor_client, reader_client, workspace, target):
    assert reader_client.post("/vision/compute/local/test").status_code == 403
    page = contributor_client.post("/vision/compute/local/test", headers={"HX-Request": "true"}).content.decode()
    target.refresh_from_db()
    assert page.count("<li") == len(target.steps) > 6
    assert " ms" in page
    target.refresh_from_db()
    assert target.facts["python"]


def test_rows_of_a_foreign_workspace_do_not_exist_here(owner_client, foreign_workspace, workspace, target):
    theirs = ComputeTarget.objects.create(workspace=foreign_workspace, name="theirs")
    environment = Environment.objects.create(workspace=foreign_workspace, name="secret")
    version = register(environment, Definition(packages=("six",)))
    build = builds.ensure(theirs, version)
    for path in (
        "compute/theirs",
        "compute/theirs/live",
        "environments/secret",
        "environments/secret/1",
        "environments/new?from=secret",
    ):
        assert owner_client.get(f"/vision/{path}").status_code == 404
    for path in ("compute/theirs/test", "compute/theirs/drain", "compute/theirs/slots", "environments/secret/new",
                 "environments/secret/archive", "environments/secret/1/build", f"environments/builds/{build.pk}/retry"):  # fmt: skip
        assert owner_client.post(f"/vision/{path}", {"slots": 1, "target": "theirs"}).status_code == 404
    assert "secret" not in owner_client.get("/vision/environments").content.decode()


def test_the_administrator_sees_health_and_drains_targets(client_of, person, workspace, target):
    client = client_of(person(None, "root@example.test", is_staff=True, is_superuser=True))
    page = client.get("/admin/environments/computetarget/").content.decode()
    assert "Online" in page
    client.post("/admin/environments/computetarget/", {"action": "drain_all", "_selected_action": [target.pk]})
    target.refresh_from_db()
    assert not target.enabled
    answer = client.post(
        "/admin/environments/computetarget/", {"action": "test_all", "_selected_action": [target.pk]}, follow=True
    )
    assert f"{target.name} answers:" in answer.content.decode()
    for name in ("environment", "build"):
        assert client.get(f"/admin/environments/{name}/").status_code == 200


@pytest.mark.parametrize(
    ("changes", "title", "text"),
    [
        ({"launcher": "docker"}, "Container", "a container of its own"),
        ({"transport": "ssh", "options": {"ssh": {"user": "ada"}}}, "Process only", "the user ada"),
        ({"transport": "ssh", "options": {"ssh": {"user": "ada"}, "sandbox": True}}, "Kernel sandbox", "Landlock version 7."),
        ({}, "Kernel sandbox", "the studio&#x27;s user"),
    ],
)  # fmt: skip
def test_the_page_names_the_isolation_that_holds_for_runs_not_what_the_machine_could_do(
    reader_client, target, changes, title, text
):
    facts = {**target.facts, "isolation": {"tier": "landlock", "detail": "Landlock version 7"}}
    ComputeTarget.objects.filter(pk=target.pk).update(facts=facts, **changes)
    page = reader_client.get("/vision/compute/local").content.decode()
    shown = page[page.index("<h2>Isolation</h2>") :]
    shown = shown[: shown.index("</section>")]
    assert title in shown and text in shown


def test_a_quarantined_target_is_not_called_online(reader_client, target):
    ComputeTarget.objects.filter(pk=target.pk).update(quarantined_at=timezone.now(), quarantine_reason="5 runs failed")
    assert "Online" not in reader_client.get("/vision/compute").content.decode()
    assert "quarantined" in reader_client.get("/vision/").content.decode()
