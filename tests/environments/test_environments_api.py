"""Environments and their builds over the REST API: each operation, what it refuses, and to whom."""

import json
import threading

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from environments.models import Build, BuildStatus, ComputeTarget, Environment, EnvironmentVersion, Label, Lock
from environments.setup import load_curated
from runs.logs import append
from runs.models import LogStream
from studio.accounts.models import Token
from studio.models import AuditEvent
from studio.workspaces.models import Role, Secret
from tests.environments.building import version_of
from tests.runs import factory

pytestmark = pytest.mark.django_db
PLATFORM = "linux-x86_64-py3.11"


class Api:
    def __init__(self, client, slug):
        self.client, self.base = client, f"/api/v1/{slug}/environments"

    def raw(self, method, path="", body=None, status=200, **more):
        data = {} if method == "get" else {"data": json.dumps(body) if body else "", "content_type": "application/json"}
        answer = getattr(self.client, method)(self.base + path, **data, **more)
        assert answer.status_code == status, answer.content.decode()
        if status >= 400:
            assert answer.headers["Content-Type"] == "application/problem+json"
        return answer

    def __call__(self, *args, **more):
        return self.raw(*args, **more).json()

    def mistakes(self, method, path, body=None, status=422):
        """field → (line, rule and fix) of a refusal."""
        found = self(method, path, body, status)
        assert found["status"] == status and found["detail"]
        return {error["field"]: (error.get("line"), f"{error['rule']} {error['fix']}") for error in found["errors"]}


@pytest.fixture
def api(contributor_client, workspace):
    return Api(contributor_client, workspace.slug)


@pytest.fixture
def mine(workspace):
    return version_of(workspace, "six==1.16.0")


@pytest.fixture
def curated(db):
    load_curated()


@pytest.fixture
def here(workspace):
    return factory.make_target(workspace, "here")


@pytest.fixture
def built(here, mine):
    packages = [
        {"name": "six", "version": "1.16.0", "license": "MIT", "modules": ["six"], "from": "pip"},
        {"name": "idna", "version": "3.7", "license": "BSD", "modules": ["idna"], "from": "pip"},
    ]
    return factory.make_build(
        here, mine, packages=packages, lock="six==1.16.0\nidna==3.7\n", platform=PLATFORM, size=4096, attempts=1,
        python="/srv/env/bin/python", ended_at=timezone.now(),
    )  # fmt: skip


def write_log(build, data):
    stream, _ = LogStream.objects.get_or_create(build=build, run=None, name="log")
    append(stream, stream.size, data)


# -- found


def test_the_list_has_the_newest_version_of_what_runs_may_use(api, workspace, foreign_workspace, curated, mine):
    two = version_of(workspace, "six==1.16.0", "idna")
    version_of(foreign_workspace, "six", name="theirs")
    Label.objects.create(environment=two.environment, name="stable", version=two)
    rows = {row["name"]: row for row in api("get")["environments"]}
    assert {"mine", "scikit-learn", "pytorch", "AzureML-Minimal"} <= set(rows) and "theirs" not in rows
    found = rows["mine"]
    assert (found["version"], found["versions"], found["labels"], found["curated"]) == (2, [2, 1], ["stable"], False)
    assert (found["kind"], found["definition"]) == ("packages", {"packages": ["six==1.16.0", "idna"]})
    assert found["key"] == two.key and found["refreshed"] is False and found["archived_at"] is None
    assert found["url"].endswith("/vision/environments/mine/2")
    assert rows["pytorch"]["curated"] and any("PyTorch" in word for word in rows["pytorch"]["frameworks"])


def test_an_own_environment_hides_the_curated_one_of_its_name(api, workspace, curated):
    version_of(workspace, "six", name="Scikit-Learn")
    rows = [row for row in api("get")["environments"] if row["name"].lower() == "scikit-learn"]
    assert [(row["name"], row["curated"]) for row in rows] == [("Scikit-Learn", False)]


@pytest.mark.parametrize(("words", "names"), [("six", ["mine"]), ("SIX mine", ["mine"]), ("six torch", []), ("", ["mine", "other"])])  # fmt: skip
def test_the_list_is_searched_by_words(api, workspace, mine, words, names):
    version_of(workspace, "numpy", name="other")
    rows = api("get", "", data={"search": words})["environments"] if words else api("get")["environments"]
    assert [row["name"] for row in rows] == names


def test_the_list_asks_as_much_for_many_as_for_one(api, workspace, mine, django_assert_max_num_queries):
    for number in range(20):
        version_of(workspace, f"six=={number}", name=f"env{number}")
    with django_assert_max_num_queries(11):
        assert len(api("get")["environments"]) == 21


@pytest.mark.parametrize("reference", ["mine", "MINE", "mine:2", "mine@stable", "Mine@STABLE", "mine@latest"])
def test_a_reference_names_a_version(api, workspace, mine, reference):
    two = version_of(workspace, "idna")
    Label.objects.create(environment=two.environment, name="stable", version=two)
    factory.make_run(workspace, environment=two)
    found = api("get", f"/{reference}")
    assert (found["name"], found["version"], found["labels"], found["runs"]) == ("mine", 2, ["stable"], 1)
    assert api("get", "/mine:1")["labels"] == []


def test_a_name_of_old_finds_its_family(api, curated):
    assert api("get", "/AzureML-PyTorch-1.6-GPU")["name"] == "pytorch"


@pytest.mark.parametrize(
    ("reference", "fix"),
    [
        ("mien", "Did you mean mine?"),
        ("mine:7", "Its newest is 1."),
        ("mine:x", "Its newest is 1."),
        ("mine@stable", "It has no labels"),
        ("theirs", "Environments lists them."),
    ],
)
def test_what_is_not_there_says_what_is(api, foreign_workspace, mine, reference, fix):
    version_of(foreign_workspace, "six", name="theirs")
    _, told = api.mistakes("get", f"/{reference}", status=404)["environment"]
    assert fix in told and "theirs" not in told


def test_all_versions_are_listed_the_newest_first(api, workspace, mine, contributor):
    api("post", "/mine/refresh", status=201)
    api("post", "/mine:1/archive")
    api("put", "/mine:1/labels/old")
    one, two = reversed(api("get", "/mine/versions")["versions"])
    assert (one["version"], one["labels"], one["refreshed"], bool(one["archived_at"])) == (1, ["old"], False, True)
    assert (two["version"], two["labels"], two["refreshed"], two["archived_at"]) == (2, [], True, None)
    assert two["created_by"] == str(contributor) and two["key"] != one["key"]


# -- registered


def test_a_definition_is_kept_once(api, workspace, contributor):
    body = {"name": "fresh", "description": "Ours", "definition": {"packages": ["six"], "variables": {"A": "1"}}}
    found = api("post", body=body, status=201)
    assert (found["name"], found["version"], found["description"], found["notes"]) == ("fresh", 1, "Ours", [])
    assert found["created_by"] == str(contributor)
    assert api("post", body=body)["version"] == 1
    assert api("post", body={**body, "name": "FRESH"})["name"] == "fresh", "found without regard to case"
    changed = {"name": "fresh", "definition": {"packages": ["six", "idna"]}}
    found = api("post", body=changed, status=201)
    assert (found["version"], found["versions"], found["description"]) == (2, [2, 1], "Ours")
    assert api("post", body={**changed, "description": "Others"})["description"] == "Others"
    rows = EnvironmentVersion.objects.filter(environment__workspace=workspace)
    assert sorted(rows.values_list("number", flat=True)) == [1, 2]
    assert [event.subject for event in AuditEvent.objects.filter(action="environment.register").order_by("pk")] == [
        "fresh:1",
        "fresh:2",
    ]


@pytest.mark.django_db(transaction=True)
def test_many_who_register_the_same_at_once_get_one_version(workspace, contributor, client_of):
    answers = []

    def register():
        try:
            client = client_of(contributor)
            body = json.dumps({"name": "fresh", "definition": {"packages": ["six"]}})
            barrier.wait()
            answers.append(client.post("/api/v1/vision/environments", body, content_type="application/json"))
        finally:
            connection.close()

    barrier = threading.Barrier(8)
    threads = [threading.Thread(target=register) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} <= {200, 201}
    assert {answer.json()["version"] for answer in answers} == {1}
    assert Environment.objects.get(name="fresh").versions.count() == 1


def test_each_wrong_line_is_named_with_its_number(api):
    packages = ["six", "numpy==", "-e .", "pandas"]
    found = api("post", body={"name": "x", "definition": {"packages": packages, "python_version": "2.7"}}, status=422)
    told = [(error["field"], error.get("line"), error.get("text")) for error in found["errors"]]
    assert sorted(told, key=str) == [
        ("packages", 2, "numpy=="),
        ("packages", 3, "-e ."),
        ("python_version", None, None),
    ]
    assert all(error["rule"] and error["fix"] for error in found["errors"])
    assert "packages: Line 2" in found["detail"]
    assert not Environment.objects.filter(name="x").exists()


@pytest.mark.parametrize(
    ("definition", "field", "told"),
    [
        ({"pakages": ["six"]}, "pakages", "Did you mean packages?"),
        ({"packages": "six"}, "packages", "list of texts"),
        ({"packages": ["six", 7]}, "packages", "list of texts"),
        ({"packages": ["-i https://evil.example/simple"]}, "packages", "-i"),
        ({"packages": ["a @ https://user:pw@host.example/a.whl"]}, "packages", "credentials"),
        ({"packages": ["six==$(id)"]}, "packages", "not expanded"),
        ({"conda_packages": ["numpy >=1 <2 x y"]}, "conda_packages", ""),
        ({"conda_channels": ["https://u:p@host.example/c"]}, "conda_channels", "credentials"),
        ({"dockerfile": "# nothing\n"}, "dockerfile", "FROM"),
        ({"base_image": "Bad Image!", "user_managed": True}, "base_image", ""),
        ({"registry": {"address": "host.example", "password": "x"}}, "registry.secret", "secret of the workspace"),
        ({"docker": {"arguments": ["--privileged"]}}, "docker.arguments", "--privileged"),
        ({"docker": {"shm_bytes": "8g"}}, "docker.shm_bytes", ""),
        ({"spark": {"packages": ["nothing"]}}, "spark.packages", "group:artifact:version"),
        ({"variables": {"PATH": "x"}}, "variables", "PATH"),
        ({"variables": {"A": "a\u0000b"}}, "definition.variables.A", "NUL"),
        ({"user_managed": True, "packages": ["six"]}, "packages", "used as it is"),
        ({"index_url": "https://mirror.example/simple", "index_secret": "missing"}, "index_secret", "no secret named 'missing'"),
        (
            {"dockerfile": "FROM a\n", "registry": {"address": "host.example", "username": "u", "secret": "gone"}, "user_managed": True},
            "registry.secret", "no secret named 'gone'",
        ),
    ],
)  # fmt: skip
def test_a_wrong_definition_names_the_field_and_the_fix(api, definition, field, told):
    found = api.mistakes("post", "", {"name": "x", "definition": definition})
    assert field in found and told in found[field][1], found
    assert api.mistakes("post", "/check", {"definition": definition}) == found
    assert not Environment.objects.filter(name="x").exists()


def test_a_secret_of_the_workspace_may_be_named(api, workspace, foreign_workspace, owner):
    definition = {"packages": ["six"], "index_url": "https://mirror.example/simple", "index_secret": "MIRROR"}
    for place in (foreign_workspace, workspace):
        assert "index_secret" in api.mistakes("post", "", {"name": "x", "definition": definition})
        secret = Secret(workspace=place, name="MIRROR", created_by=owner)
        secret.seal("user:password")
        secret.save()
    found = api.raw("post", body={"name": "x", "definition": definition}, status=201).content.decode()
    assert "MIRROR" in found and "user:password" not in found


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "Name the environment"),
        ("a b", "letters, digits"),
        ("../x", "letters, digits"),
        ("x:1", "letters, digits"),
        ("x" * 256, "letters, digits"),
        ("builds", "address of the studio itself"),
        ("AzureML-Mine", "curated environments"),
    ],
)
def test_a_name_that_cannot_be_is_refused(api, curated, name, told):
    _, found = api.mistakes("post", "", {"name": name, "definition": {"packages": ["six"]}})["name"]
    assert told in found


@pytest.mark.parametrize(
    "body",
    [
        {"name": "x"},
        {"name": "x", "definition": {}, "text": "six"},
        {"name": "x", "definition": {"packages": ["six"]}, "description": "x" * 501},
        {"name": "x", "text": "packages: [six]\ndescription: " + "x" * 501},
        {"name": "x", "definition": {"packages": ["six"]}, "nmae": "y"},
        {"name": "x", "definition": ["six"]},
        {"name": 7, "definition": {"packages": ["six"]}},
        {"name": "x", "definition": {"packages": ["six"]}, "format": ["conda"]},
        {"name": "x\u0000", "definition": {"packages": ["six"]}},
    ],
)
def test_a_body_that_is_not_as_documented_is_refused(api, body):
    assert api.mistakes("post", "", body)
    assert not Environment.objects.exists()


def test_a_body_that_is_no_json_is_refused(api):
    answer = api.client.post(api.base, "{", content_type="application/json")
    assert answer.status_code in {400, 422} and answer.headers["Content-Type"] == "application/problem+json"


TEXTS = {
    "requirements": ("# ours\nsix==1.16.0\nidna  # names\n", {"packages": ["six==1.16.0", "idna"]}),
    "conda": (
        "name: vision\nchannels:\n- conda-forge\ndependencies:\n- python=3.11\n- numpy=1.26\n- pip\n- pip:\n  - six\n",
        {"python_version": "3.11", "packages": ["six"], "conda_channels": ["conda-forge"], "conda_packages": ["numpy=1.26"]},
    ),
    "dockerfile": ("FROM python:3.11-slim\n", {"user_managed": True, "dockerfile": "FROM python:3.11-slim\n"}),
    "definition": ("name: vision\ndescription: Ours\ndefinition:\n  packages: [six]\n", {"packages": ["six"]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS)
def test_the_text_of_a_file_is_read(api, kind):
    text, definition = TEXTS[kind]
    found = api("post", body={"name": "read", "format": kind, "text": text}, status=201)
    held = dict(found["definition"])
    if kind == "conda":  # 'pip' itself is what every such file lists
        held["conda_packages"] = [one for one in held["conda_packages"] if one != "pip"]
    assert held == definition
    assert api("post", body={"name": "read", "format": kind, "text": text})["version"] == 1


def test_a_text_says_its_name_and_description_itself(api):
    found = api("post", body={"text": TEXTS["definition"][0], "file_name": "vision.yml"}, status=201)
    assert (found["name"], found["description"]) == ("vision", "Ours")


@pytest.mark.parametrize(
    ("kind", "text", "line"),
    [
        ("requirements", "six\n-e .\n", 2),
        ("requirements", "six\n\n--index-url https://u:p@host.example/simple\n", 3),
        ("requirements", "six\n--frobnicate\n", 2),
        ("requirements", "a==1\nb==$(id)\n", 2),
        ("conda", "name: x\ndependencies:\n- !!python/object:os.system x\n", 3),
        ("conda", "name: x\na: &a [x]\ndependencies: *a\n", 2),
        ("conda", "name: x\ndependencies:\n- numpy==\n- six [\n", 4),
        ("dockerfile", "FROM a\nFRMO b\n", 2),
    ],
)
def test_a_wrong_text_names_its_line(api, kind, text, line):
    found = api("post", body={"name": "x", "format": kind, "text": text}, status=422)
    assert line in [error.get("line") for error in found["errors"]], found
    assert all(error["rule"] for error in found["errors"])


@pytest.mark.parametrize(
    ("kind", "text"),
    [("dockerfile", ""), ("dockerfile", "# no more\n"), ("conda", ""), ("conda", "x" * 1_000_001), ("nothing", "six")],
)
def test_a_text_that_says_nothing_is_refused(api, kind, text):
    assert api.mistakes("post", "", {"name": "x", "format": kind, "text": text})
    assert not Environment.objects.exists()


def test_checking_keeps_nothing(api, mine):
    found = api("post", "/check", {"definition": {"packages": ["six # comment", ""]}})
    assert (found["definition"], found["kind"], found["name"]) == ({"packages": ["six"]}, "packages", "")
    assert api("post", "/check", {"name": "mine", "definition": mine.definition})["key"] == mine.key
    assert "name" in api.mistakes("post", "/check", {"name": "a b", "definition": {"packages": ["six"]}})
    assert list(EnvironmentVersion.objects.all()) == [mine]


# -- curated ones


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/scikit-learn/refresh"),
        ("put", "/scikit-learn/labels/stable"),
        ("delete", "/scikit-learn/labels/stable"),
        ("post", "/scikit-learn/archive"),
        ("post", "/scikit-learn:1/archive"),
        ("post", "/SCIKIT-LEARN/restore"),
    ],
)
def test_curated_environments_cannot_be_changed_but_cloned(api, curated, method, path):
    _, told = api.mistakes(method, path, status=409)["environment"]
    assert "curated" in told and "environments/scikit-learn/clone" in told
    assert not Environment.objects.exclude(archived_at=None).exists() and not Label.objects.exists()


def test_registering_under_the_name_of_a_curated_one_is_refused_with_the_fix(api, curated):
    body = {"name": "Scikit-Learn", "definition": {"packages": ["six"]}}
    assert "clone" in api.mistakes("post", "", body, status=409)["name"][1]


def test_a_clone_begins_with_the_definition_and_the_key(api, workspace, curated):
    source = api("get", "/scikit-learn")
    made = api("post", "/scikit-learn/clone", {"name": "ours"}, status=201)
    assert (made["name"], made["version"], made["curated"]) == ("ours", 1, False)
    assert (made["definition"], made["key"], made["description"]) == (
        source["definition"],
        source["key"],
        source["description"],
    )
    assert api("post", "/scikit-learn/clone", {"name": "ours"})["name"] == "ours", "repeated, it is the same copy"
    api("post", body={"name": "ours", "definition": {"packages": ["six"]}}, status=201)
    assert "already" in api.mistakes("post", "/scikit-learn/clone", {"name": "Ours"})["name"][1]
    assert "curated" in api.mistakes("post", "/ours/clone", {"name": "pytorch"})["name"][1]
    assert "Name the environment" in api.mistakes("post", "/ours/clone")["name"][1]


# -- refreshed, labelled, archived, compared


def test_refreshing_makes_a_version_that_is_resolved_anew_once_for_a_wish(api, mine):
    key = {"HTTP_IDEMPOTENCY_KEY": "3f0c"}
    made = api("post", "/mine/refresh", status=201, **key)
    assert (made["version"], made["refreshed"], made["definition"]) == (2, True, mine.definition)
    assert made["key"] != mine.key
    assert api("post", "/mine:1/refresh", **key)["version"] == api("post", "/mine/refresh", **key)["version"] == 2
    assert api("post", "/mine:1/refresh", status=201)["version"] == 3
    assert api("post", "/mine:1/refresh", status=201)["version"] == 4
    told = api("post", "/mine/refresh", status=422, HTTP_IDEMPOTENCY_KEY="x" * 65)["errors"]
    assert [error["field"] for error in told] == ["Idempotency-Key"]


def test_a_label_points_to_one_version_and_is_taken_away(api, workspace, mine):
    version_of(workspace, "idna")
    assert api("put", "/mine:1/labels/stable")["labels"] == ["stable"]
    assert api("put", "/mine/labels/Stable")["labels"] == ["stable"]
    assert api("get", "/mine@stable")["version"] == 2 and api("get", "/mine:1")["labels"] == []
    assert api.raw("delete", "/mine:1/labels/stable", status=204).content == b""
    api("delete", "/mine/labels/stable", status=404)
    for wrong in ("latest", "7", "a b", "x" * 65):
        assert "label" in api.mistakes("put", f"/mine/labels/{wrong}")


def test_an_archived_version_is_not_the_newest_and_still_there(api, workspace, mine):
    version_of(workspace, "idna")
    assert api("post", "/mine:2/archive")["archived_at"]
    assert api("post", "/mine:2/archive")["archived_at"], "repeated, nothing changes"
    found = api("get", "/mine")
    assert (found["version"], found["versions"]) == (1, [1]) and api("get", "/mine:2")["version"] == 2
    api("post", "/mine:1/archive")
    assert "Name one" in api.mistakes("get", "/mine", status=404)["environment"][1]
    assert len(api("get", "/mine/versions")["versions"]) == 2
    assert api("post", "/mine:2/restore")["archived_at"] is None
    assert api("get", "/mine")["version"] == 2


def test_an_archived_environment_is_not_listed_and_takes_no_new_version(api, mine):
    assert api("post", "/mine/archive")["environment_archived_at"]
    assert api("get")["environments"] == [] and api("get", "/mine")["version"] == 1
    assert [row["name"] for row in api("get", "?archived=true")["environments"]] == ["mine"]
    assert api("post", body={"name": "mine", "definition": mine.definition})["version"] == 1
    refused = api.mistakes("post", "", {"name": "mine", "definition": {"packages": ["idna"]}}, status=409)
    assert "environments/mine/restore" in refused["name"][1]
    assert api("post", "/mine/restore")["environment_archived_at"] is None
    assert [row["name"] for row in api("get")["environments"]] == ["mine"]
    actions = AuditEvent.objects.filter(subject="mine").values_list("action", flat=True)
    assert sorted(actions) == ["environment.archive", "environment.restore"]


def test_two_versions_are_compared_as_asked_and_as_installed(api, workspace, here, mine):
    two = version_of(workspace, "six==1.17.0", "idna", variables={"A": "1"})
    found = api("get", "/mine:1/compare?with=mine:2")
    assert (found["old"], found["new"], found["built"], found["same"]) == ("mine:1", "mine:2", False, False)
    assert found["changed"] == [{"name": "six", "old": "==1.16.0", "new": "==1.17.0"}]
    assert [row["name"] for row in found["added"]] == ["idna"] and found["removed"] == []
    assert found["fields"] == [{"name": "variables", "old": "", "new": "A=1"}]
    back = api("get", "/mine:2/compare", data={"with": "mine:1"})
    assert [row["name"] for row in back["removed"]] == ["idna"]
    assert api("get", "/mine/compare")["old"] == "mine:1", "without a word the one before"
    assert api("get", "/mine:2/compare?with=mine@latest")["same"]
    for version, lock in ((mine, "six==1.16.0\n"), (two, "six==1.17.0\nidna==3.7\n")):
        Lock.objects.create(workspace=workspace, key=version.key, platform=PLATFORM, text=lock)
    found = api("get", "/mine:1/compare?with=mine:2")
    assert found["built"] and found["platforms"] == [PLATFORM, PLATFORM]
    assert found["added"] == [{"name": "idna", "old": "", "new": "3.7"}]
    assert "first version" in api.mistakes("get", "/mine:1/compare")["with"][1]
    assert "with" in api.mistakes("get", "/mine:1/compare?with=mine:9", status=404)


# -- builds


def test_a_build_is_asked_for_once_and_described(api, here, mine):
    made = api("post", "/mine/builds", {"target": "here"}, status=202)
    assert (made["target"], made["status"], made["state"], made["attempts"]) == ("here", "Waiting", "Waiting", 0)
    api("post", "/mine:1/builds", {"target": "here"}, status=202)
    row = Build.objects.get()
    assert row.version == mine and api("get", "/mine/builds")["builds"] == [made]
    assert made["url"].endswith(f"/vision/environments/builds/{row.pk}/log")


def test_a_ready_build_is_there_at_once(api, built):
    found = api("post", "/mine/builds", {"target": "here"})
    assert (found["status"], found["size"], found["packages"], found["platform"]) == ("Ready", 4096, 2, PLATFORM)
    assert found["python"] == "/srv/env/bin/python" and api("get", "/mine/builds/here") == found


def test_a_build_is_of_the_target_named_local_unless_another_is(api, workspace, mine):
    assert "no compute target named local" in api.mistakes("post", "/mine/builds")["target"][1]
    factory.make_target(workspace, "local")
    assert api("post", "/mine/builds", status=202)["target"] == "local"


def test_a_target_that_cannot_is_refused(api, workspace, foreign_workspace, here):
    version_of(workspace, name="image", user_managed=True, base_image="python:3.11")
    assert "Docker target" in api.mistakes("post", "/image/builds", {"target": "here"})["target"][1]
    theirs = factory.make_target(foreign_workspace, "their-box")
    gone = factory.make_target(workspace, "gone", detached_at=timezone.now())
    for target in (theirs, gone):
        assert "no compute target" in api.mistakes("post", "/image/builds", {"target": target.name})["target"][1]
    factory.make_target(workspace, "engine", launcher="docker")
    api("post", "/image/builds", {"target": "engine"}, status=202)
    assert Build.objects.count() == 1


def test_a_failed_build_is_tried_again_and_any_other_left_alone(api, built):
    found = api("post", "/mine/builds/here/retry")
    assert (found["asked"], found["status"]) == (False, "Ready")
    for path in ("/mine/builds/here/retry", "/mine/builds"):
        Build.objects.update(status=BuildStatus.FAILED, error="no such package", ended_at=timezone.now())
        assert api("get", "/mine/builds/here")["error"] == "no such package"
        body = {"target": "here"} if path == "/mine/builds" else None
        found = api("post", path, body, status=202 if body else 200)
        assert (found["status"], found["error"], found["attempts"]) == ("Waiting", "", 0)
    Build.objects.update(status=BuildStatus.FAILED, ended_at=None)
    assert api("get", "/mine/builds/here")["state"] == "No longer there"


def test_a_build_is_canceled(api, here, built, contributor):
    assert api("post", "/mine/builds/here/cancel")["asked"] is False
    Build.objects.update(status=BuildStatus.BUILDING)
    found = api("post", "/mine/builds/here/cancel")
    assert (found["asked"], found["canceling"], found["state"]) == (True, True, "Canceling")
    assert api("post", "/mine/builds/here/cancel")["asked"] is False
    Build.objects.update(status=BuildStatus.WAITING, cancel_requested_at=None)
    found = api("post", "/mine/builds/here/cancel")
    assert (found["status"], found["canceling"]) == ("Failed", False) and str(contributor) in found["error"]


def test_a_build_that_waits_for_another_target_says_so(api, workspace, here, mine):
    other = factory.make_target(workspace, "other")
    factory.make_build(other, mine, BuildStatus.BUILDING, started_at=timezone.now(), attempts=1)
    assert api("post", "/mine/builds", {"target": "here"}, status=202)["waiting_for"] == "other"
    assert [row["target"] for row in api("get", "/mine/builds")["builds"]] == ["here", "other"]


def test_packages_of_a_build_are_found_by_name_licence_and_module(api, built):
    found = api("get", "/mine/builds/here/packages")
    assert [(one["name"], one["version"], one["license"], one["asked"]) for one in found["packages"]] == [
        ("idna", "3.7", "BSD", False),
        ("six", "1.16.0", "MIT", True),
    ]
    assert (found["lock"], found["platform"]) == ("six==1.16.0\nidna==3.7\n", PLATFORM)
    assert [one["name"] for one in api("get", "/mine/builds/here/packages?search=mit")["packages"]] == ["six"]


def test_locks_are_listed_and_read(api, workspace, foreign_workspace, mine):
    Lock.objects.create(workspace=workspace, key=mine.key, platform=PLATFORM, text="six==1.16.0 --hash=sha256:00\n")
    Lock.objects.create(workspace=foreign_workspace, key=mine.key, platform="other", text="theirs==1.0\n")
    (found,) = api("get", "/mine/locks")["locks"]
    assert (found["platform"], found["packages"]) == (PLATFORM, 1)
    answer = api.raw("get", f"/mine/locks/{PLATFORM}")
    assert answer.content == b"six==1.16.0 --hash=sha256:00\n"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="mine-1-{PLATFORM}.txt"'
    api("get", "/mine/locks/other", status=404)


def test_the_log_of_a_build_is_read_from_an_offset(api, built):
    write_log(built, b"resolving\ninstalled 2 packages\n")
    answer = api.raw("get", "/mine/builds/here/log")
    assert answer.content == b"resolving\ninstalled 2 packages\n"
    assert {name: answer.headers[f"Runstead-{name}"] for name in ("Log-Size", "Build-Status", "Build-Attempt")} == {
        "Log-Size": "31", "Build-Status": "Ready", "Build-Attempt": "1",
    }  # fmt: skip
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert api.raw("get", "/mine/builds/here/log?offset=10&limit=9").content == b"installed"
    assert api.raw("get", "/mine/builds/here/log?offset=31").content == b""
    for wrong in ("offset=-1", "limit=0", "offset=x"):
        api.mistakes("get", f"/mine/builds/here/log?{wrong}")


def test_a_build_that_is_to_be_tried_again_has_no_log_yet(api, built):
    write_log(built, b"error: it failed\n")
    Build.objects.update(status=BuildStatus.FAILED, ended_at=timezone.now())
    api("post", "/mine/builds/here/retry")
    answer = api.raw("get", "/mine/builds/here/log")
    assert answer.content == b"" and answer.headers["Runstead-Build-Attempt"] == "0"


def test_the_description_of_the_api_says_where_a_mistake_is(client):
    schema = client.get("/api/v1/openapi.json").json()
    kinds = schema["components"]["schemas"]
    assert set(kinds["EnvironmentRefusal"]["properties"]) == {"title", "status", "detail", "errors"}
    assert set(kinds["EnvironmentMistake"]["properties"]) == {"field", "rule", "fix", "line", "text"}
    register = schema["paths"]["/api/v1/{slug}/environments"]["post"]
    assert {"200", "201", "409", "422"} <= set(register["responses"])
    assert {"definition", "text", "format"} <= set(kinds["NewEnvironment"]["properties"])


# -- to whom

READS = ["", "/mine", "/mine/versions", "/mine/compare?with=mine", "/mine/builds", "/mine/builds/here", "/mine/builds/here/packages",
         "/mine/builds/here/log", "/mine/locks", f"/mine/locks/{PLATFORM}"]  # fmt: skip
WRITES = [
    ("post", ""), ("post", "/check"), ("post", "/mine/clone"), ("post", "/mine/refresh"), ("put", "/mine/labels/stable"),
    ("delete", "/mine/labels/stable"), ("post", "/mine/archive"), ("post", "/mine/restore"), ("post", "/mine/builds"),
    ("post", "/mine/builds/here/cancel"), ("post", "/mine/builds/here/retry"),
]  # fmt: skip
KEPT = (Environment, EnvironmentVersion, Label, Build)


def state():
    return [list(model.objects.order_by("pk").values()) for model in KEPT]


@pytest.fixture
def world(workspace, built, mine):
    Lock.objects.create(workspace=workspace, key=mine.key, platform=PLATFORM, text="six==1.16.0\n")
    Label.objects.create(environment=mine.environment, name="stable", version=mine)
    Build.objects.update(status=BuildStatus.FAILED, ended_at=timezone.now())


@pytest.mark.parametrize("path", READS)
def test_a_reader_reads(world, reader_client, stranger_client, visitor_client, path):
    Api(reader_client, "vision").raw("get", path)
    Api(stranger_client, "vision").raw("get", path, status=404)
    Api(visitor_client, "vision").raw("get", path, status=401)


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_a_reader_changes_nothing(world, reader_client, stranger_client, visitor_client, method, path):
    before = state()
    body = {"name": "fresh", "definition": {"packages": ["idna"]}} if path in {"", "/check"} else None
    for client, status in ((reader_client, 403), (stranger_client, 404), (visitor_client, 401)):
        Api(client, "vision").raw(method, path, body, status=status)
    assert state() == before


@pytest.mark.parametrize(("method", "path"), [("get", path) for path in READS[1:]] + WRITES[2:])
def test_what_is_of_a_foreign_workspace_is_not_there(world, foreign_workspace, client_of, method, path):
    """An owner of another workspace, by the names of ours."""
    elsewhere = client_of(foreign_workspace.memberships.get().user)
    before = state()
    Api(elsewhere, "foreign").raw(method, path, status=404)
    Api(elsewhere, "vision").raw(method, path, status=404)
    assert state() == before


def test_a_build_of_a_foreign_target_is_not_there(api, workspace, foreign_workspace, curated):
    version = Environment.objects.get(name="scikit-learn").versions.get()
    theirs = factory.make_target(foreign_workspace, "their-box")
    factory.make_build(theirs, version, lock="six==1\n")
    assert api("get", "/scikit-learn/builds")["builds"] == []
    for path in ("", "/packages", "/log"):
        api("get", f"/scikit-learn/builds/their-box{path}", status=404)


def test_a_program_comes_with_a_token_of_its_role(workspace, contributor, here):
    body = json.dumps({"name": "fresh", "definition": {"packages": ["six"]}})
    for scope, status in ((Role.READER, 403), (Role.CONTRIBUTOR, 201)):
        _, secret = Token.issue(user=contributor, workspace=workspace, name=scope, scope=scope)
        headers = {"HTTP_AUTHORIZATION": f"Bearer {secret}"}
        answer = Client().post("/api/v1/vision/environments", body, content_type="application/json", **headers)
        assert answer.status_code == status, answer.content
    assert ComputeTarget.objects.filter(name="here").exists() and Environment.objects.get().name == "fresh"


def test_a_conda_environment_registered_here_and_by_the_page_is_one_version(api, contributor_client, workspace):
    made = api("post", "", {"name": "ml", "definition": {"conda_environment": "ml-2024"}}, 201)
    assert (made["version"], made["definition"]) == (1, {"user_managed": True, "conda_environment": "ml-2024"})
    fields = {"name": "ml", "kind": "conda_environment", "conda_environment": "ml-2024"}
    assert contributor_client.post(f"/{workspace.slug}/environments/ml/new", fields).url.endswith("/environments/ml/1")
    assert Environment.objects.get(name="ml").versions.count() == 1


def test_a_description_is_no_longer_in_a_text_than_beside_it(api):
    text = f"name: x\ndescription: {'a' * 501}\npackages: [six]\n"
    assert "500 characters" in api.mistakes("post", "", {"text": text})["description"][1]
    assert (
        "500 characters"
        in api.mistakes("post", "", {"name": "x", "description": "a" * 501, "definition": {}})["description"][1]
    )
    assert not Environment.objects.filter(name="x").exists()
