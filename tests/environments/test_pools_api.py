"""Pools over the REST API: made, listed, changed, removed; and runs sent to them."""

import json

import pytest

from environments.models import ComputeTarget, Pool
from runs.models import Run
from studio.models import AuditEvent
from tests.runs import factory

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def api(owner_client, workspace):
    def call(method, path, body=None, status=200, **more):
        data = {} if method == "get" else {"data": json.dumps(body) if body else "", "content_type": "application/json"}
        answer = getattr(owner_client, method)(f"/api/v1/{workspace.slug}/{path}", **data, **more)
        assert answer.status_code == status, answer.content.decode()
        return answer.json()

    return call


@pytest.fixture
def boxes(workspace):
    return [factory.make_target(workspace, name) for name in ("b", "a", "c")]


@pytest.fixture
def pool(api, boxes):
    return api("post", "targets", {"name": "cluster", "kind": "pool", "max_nodes": 2}, 201)


@pytest.fixture
def submit(api, workspace):
    factory.make_version(None, "python", packages=["numpy"])
    digest = factory.make_snapshot(workspace, factory.SCRIPT).digest

    def call(status=200, **more):
        body = {"experiment": "digits", "snapshot": digest, "script": "train.py", "target": "cluster", **more}
        return api("post", "runs", body, status)

    return call


def test_a_pool_of_all_attached_targets_is_made_and_shown(api, pool, owner):
    assert [member["name"] for member in pool["members"]] == ["a", "b", "c"]
    assert (pool["min_nodes"], pool["max_nodes"], pool["usable"], pool["health"]) == (0, 2, 3, "3 of 3 usable")
    assert pool["nodes"] == {"idle": 3, "preparing": 0, "running": 0, "leaving": 0, "unusable": 0}
    assert pool["url"].endswith("/vision/compute/pools/cluster") and "No cloud machine" in pool["notice"]
    assert api("get", "targets/cluster") == pool
    assert [(row["name"], row["kind"]) for row in api("get", "targets")["targets"]][-2:] == [
        ("c", "This machine"),
        ("cluster", "pool"),
    ]
    assert AuditEvent.objects.get(action="pool.create").detail == "a, b, c"


def test_sent_again_it_is_the_same_one(api, boxes, pool):
    body = {"name": "cluster", "kind": "pool", "max_nodes": 2}
    api("post", "targets", body, 200)
    body = {"name": "other", "kind": "pool", "members": ["c", "a"]}
    first = api("post", "targets", body, 201, headers={"Idempotency-Key": "k1"})
    api("patch", "targets/other", {"members": ["a"]})
    again = api("post", "targets", body, 200, headers={"Idempotency-Key": "k1"})
    assert [one["name"] for one in first["members"]] == ["c", "a"] and [one["name"] for one in again["members"]] == [
        "a"
    ]
    error = api("post", "targets", {**body, "max_nodes": 1}, 422, headers={"Idempotency-Key": "k1"})
    assert error["errors"][0]["field"] == "Idempotency-Key"
    assert Pool.objects.count() == 2


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({"members": ["a", "cc"]}, "members", "Did you mean c?"),
        ({"members": []}, "members", "A pool needs at least one target."),
        ({"min_nodes": 2, "max_nodes": 1}, "min_nodes", "2 is more than 1, the most"),
        ({"name": "a"}, "name", "the name of an attached target"),
        ({"slots": 3}, "slots", "A pool has no slots."),
        ({"kind": "cloud"}, "kind", ""),
        ({"max_nodes": "many"}, "max_nodes", ""),
        ({"memebrs": ["a"]}, "memebrs", ""),
        ({"kind": "target", "members": ["a"]}, "members", "A target has no members."),
    ],
)
def test_what_is_wrong_is_named_with_its_field(api, boxes, body, field, words):
    error = api("post", "targets", {"name": "cluster", "kind": "pool", **body}, 422)
    (found,) = error["errors"]
    assert found["field"] == field and words in f"{found['rule']} {found['fix']}" and found["fix"]


def test_it_is_changed(api, pool):
    changed = api(
        "patch", "targets/cluster", {"members": ["c", "a"], "min_nodes": 1, "max_nodes": None, "description": "Both"}
    )
    assert [member["name"] for member in changed["members"]] == ["c", "a"]
    assert (changed["min_nodes"], changed["max_nodes"], changed["description"]) == (1, None, "Both")
    assert api("patch", "targets/cluster", {"name": "nodes"})["name"] == "nodes"
    assert api("patch", "targets/nodes", {"slots": 2}, 422)["errors"][0]["field"] == "slots"
    assert api("patch", "targets/a", {"max_nodes": 2}, 422)["errors"][0]["field"] == "max_nodes"
    assert AuditEvent.objects.filter(action="pool.edit").count() == 2


@pytest.mark.parametrize("deed", ["test", "drain", "resume", "key", "key/use"])
def test_what_is_done_to_a_machine_is_not_done_to_a_pool(api, pool, deed):
    error = api("post", f"targets/cluster/{deed}", status=409)
    assert error["detail"] == "name: cluster is a pool, and this is done to a target. Name one of its members."


def test_runs_are_sent_to_it_by_name(api, pool, submit):
    runs = [submit() for _ in range(3)]
    assert [(run["pool"], run["target"]) for run in runs] == [("cluster", "a"), ("cluster", "b"), ("cluster", None)]
    assert runs[2]["waiting_for"] == "Pool cluster: its 3 targets are busy (2), held back by the pool's limit (1)."
    shown = api("get", "targets/cluster")
    assert (shown["waiting"], shown["unplaced"], shown["nodes"]["preparing"]) == (3, 1, 2)
    listed = api("get", "runs?q=target:cluster")["runs"]
    assert {run["number"] for run in listed} == {run["number"] for run in runs}
    assert api("post", f"runs/{runs[2]['number']}/cancel")["status"] == "Canceled"


def test_what_cannot_run_there_is_refused_by_its_field(api, pool, submit):
    error = submit(422, gpus=2)
    assert error["errors"][0]["field"] == "gpus" and "No target of cluster has a GPU" in error["detail"]
    assert "no compute target named clust, and no pool." in submit(422, target="clust")["detail"]


def test_a_run_for_it_is_checked_against_its_members(api, pool, submit, workspace, boxes):
    ComputeTarget.objects.filter(name="a").update(enabled=False)
    ComputeTarget.objects.filter(name="b").update(gpu_slots=1)
    digest = factory.make_snapshot(workspace, factory.SCRIPT).digest
    body = {"snapshot": digest, "script": "train.py", "target": "cluster"}
    found = api("post", "runs/check", body)
    texts = [check["text"] for check in found["checks"]]
    assert "2 of 3 targets of cluster are usable, 2 slots free, the first on b" in texts
    assert "python:1 is on 0 of 3 targets of cluster" in texts
    found = api("post", "runs/check", {**body, "gpus": 1})
    assert "a, c of cluster cannot take this run" in [check["text"] for check in found["checks"]]
    found = api("post", "runs/check", {**body, "gpus": 9})
    assert not found["passed"] and any("the largest, b, has 1 GPU" in check["text"] for check in found["checks"])


def test_it_is_removed_when_nothing_waits_or_with_what_waits(api, pool, submit):
    for _ in range(3):
        submit()
    Run.objects.filter(target__name="a").update(status="Running", launched=True)
    error = api("delete", "targets/cluster", status=409)
    assert error["errors"][0]["rule"] == "2 runs wait in cluster." and error["live_runs"] == 2
    assert api("delete", "targets/cluster?force=abandon", status=422)["errors"][0]["field"] == "force"
    assert api("delete", "targets/cluster?force=cancel") == {"removed": True, "canceled": 2}
    api("get", "targets/cluster", status=404)
    assert sorted(Run.objects.values_list("status", flat=True)) == ["CancelRequested", "Canceled", "Running"]
    api("post", "targets", {"name": "cluster", "kind": "pool"}, 201)


def test_a_pool_of_another_workspace_is_not_there(api, pool, foreign_workspace, client_of):
    elsewhere = client_of(foreign_workspace.memberships.get().user)
    for method in ("get", "patch", "delete"):
        path = f"/api/v1/{foreign_workspace.slug}/targets/cluster"
        assert getattr(elsewhere, method)(path, content_type="application/json").status_code == 404


def test_readers_look_and_do_not_change(pool, reader_client, contributor_client, workspace):
    base = f"/api/v1/{workspace.slug}/targets"
    assert reader_client.get(f"{base}/cluster").status_code == 200
    for client in (reader_client, contributor_client):
        assert client.delete(f"{base}/cluster").status_code == 403
        assert client.patch(f"{base}/cluster", "{}", content_type="application/json").status_code == 403
        body = json.dumps({"name": "x", "kind": "pool"})
        assert client.post(base, body, content_type="application/json").status_code == 403
