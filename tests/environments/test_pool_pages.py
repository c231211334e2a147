"""The pages of pools: listed, made, edited, looked at, removed; and pools in the composer and on a run's page."""

import pytest
from django.utils import timezone

from environments import pools as domain
from environments.models import ComputeTarget, Pool
from runs import pools
from runs.models import Run
from tests.runs import factory

pytestmark = pytest.mark.django_db


@pytest.fixture
def boxes(workspace):
    return [factory.make_target(workspace, name) for name in ("box-1", "box-2")]


@pytest.fixture
def pool(workspace, owner, boxes):
    return domain.create(workspace, owner, "cluster", max_nodes=1, description="Both boxes")[0]


def text(client, path, status=200, data=None):
    answer = client.get(path) if data is None else client.post(path, data)
    assert answer.status_code == status, answer.content.decode()
    return answer.content.decode()


FORM = {"name": "cluster", "description": "", "members": "box-2\r\nbox-1\r\n", "min_nodes": "1", "max_nodes": ""}


def test_a_pool_is_made_and_listed(owner_client, boxes):
    form = text(owner_client, "/vision/compute/pools/new")
    assert "box-1\nbox-2</textarea>" in form and "No cloud machine is started" in form
    assert owner_client.post("/vision/compute/pools/new", FORM).headers["Location"] == "/vision/compute/pools/cluster"
    made = Pool.objects.get()
    assert list(made.members.values_list("target__name", flat=True)) == ["box-2", "box-1"]
    again = owner_client.post("/vision/compute/pools/new", {**FORM, "name": "again", "members": "box-2, box-1,"})
    assert again.headers["Location"] == "/vision/compute/pools/again", "commas do as well"
    assert list(Pool.objects.get(name="again").members.values_list("target__name", flat=True)) == ["box-2", "box-1"]
    Pool.objects.get(name="again").delete()
    assert (made.min_nodes, made.max_nodes) == (1, None)
    listed = text(owner_client, "/vision/compute")
    assert 'href="/vision/compute/pools/cluster"' in listed and "2 of 2 usable" in listed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"members": "box-1\nbox-3"}, "&#x27;box-3&#x27; is not an attached target. Did you mean"),
        ({"members": ""}, "at least one target"),
        ({"min_nodes": "many"}, "many is no number of targets. Use 0 to 10,000."),
        ({"max_nodes": "0"}, "Use 1 to 10,000"),
        ({"name": "box-1"}, "the name of an attached target"),
        ({"name": ""}, "Name the pool"),
        ({"min_nodes": "2", "max_nodes": "1"}, "2 is more than 1, the most"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost(owner_client, boxes, change, words):
    typed = {**FORM, **change}
    page = text(owner_client, "/vision/compute/pools/new", 422, typed)
    assert words in page and "The pool was not made" in page
    assert f'value="{typed["min_nodes"]}"' in page and not Pool.objects.exists()


def test_all_that_is_wrong_is_said_at_once(owner_client, boxes):
    page = text(
        owner_client,
        "/vision/compute/pools/new",
        422,
        {**FORM, "name": "a b", "members": "", "min_nodes": "x", "max_nodes": "-1"},
    )
    assert all(f'id="{field}-error"' in page for field in ("name", "members", "min_nodes", "max_nodes"))


def test_a_pool_is_edited(owner_client, pool):
    page = text(owner_client, "/vision/compute/pools/cluster/edit")
    assert "box-1\nbox-2</textarea>" in page and 'value="1"' in page
    answer = owner_client.post("/vision/compute/pools/cluster/edit", {**FORM, "name": "nodes"})
    assert answer.headers["Location"] == "/vision/compute/pools/nodes"
    pool.refresh_from_db()
    assert (pool.name, pool.max_nodes, pool.min_nodes) == ("nodes", None, 1)
    text(owner_client, "/vision/compute/pools/nodes/edit", 422, {**FORM, "max_nodes": "x"})


def test_the_page_shows_members_with_their_states_and_what_runs_and_waits(
    owner_client, reader_client, workspace, pool, boxes
):
    ComputeTarget.objects.filter(pk=boxes[1].pk).update(unreachable_since=timezone.now())
    factory.make_run(workspace, pool=pool, target=boxes[0], status="Running", launched=True, name="first")
    waits = factory.make_run(workspace, pool=pool, target=None, name="second")
    pools.place(pool.pk)
    page = text(reader_client, "/vision/compute/pools/cluster")
    for words in ("Both boxes", "on box-1", "passed over: unreachable", "1 target at once", "0 of 1 free"):
        assert words in page, words
    assert "Pool cluster: its 2 targets are busy (1), unreachable (1)." in page
    assert "Edit" not in page and "/remove" not in page, "a reader cannot"
    assert "/remove" in text(owner_client, "/vision/compute/pools/cluster")
    assert "second" in text(reader_client, "/vision/compute/pools/cluster/live")
    assert "cluster" in text(reader_client, "/vision/compute/pools/rows")
    assert 'href="/vision/compute/pools/cluster"' in text(reader_client, "/vision/compute/box-1")
    run = text(reader_client, f"/vision/runs/{waits.number}")
    assert "not placed yet" in run and "Pool cluster: its 2 targets are busy (1), unreachable (1)." in run
    placed = text(reader_client, "/vision/runs/1")
    assert '<a href="/vision/compute/pools/cluster">cluster</a> → <a href="/vision/compute/box-1">box-1</a>' in placed
    assert reader_client.get("/vision/compute/cluster").headers["Location"] == "/vision/compute/pools/cluster"


def test_a_detached_member_is_said(reader_client, pool, boxes):
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(detached_at=timezone.now())
    page = text(reader_client, "/vision/compute/pools/cluster")
    assert "passed over: it was detached" in page and 'href="/vision/compute/box-1"' not in page


def test_too_few_targets_are_said(reader_client, pool, owner):
    domain.update(pool, owner, min_nodes=2, max_nodes=2)
    ComputeTarget.objects.filter(name="box-1").update(enabled=False)
    page = text(reader_client, "/vision/compute/pools/cluster")
    assert "1 of at least 2 targets is usable" in page and "Runs go to those that are." in page
    ComputeTarget.objects.update(enabled=False)
    page = text(reader_client, "/vision/compute/pools/cluster")
    assert "No target of cluster is usable: its runs wait" in page and "Runs go to those that are." not in page


def test_a_pool_is_removed_with_what_waits_in_it(owner_client, workspace, pool, boxes):
    waits = factory.make_run(workspace, pool=pool, target=None)
    page = text(owner_client, "/vision/compute/pools/cluster/remove")
    assert "1 run waits in it" in page and "Cancel 1 run and remove" in page
    assert "1 run waits in cluster" in text(
        owner_client, "/vision/compute/pools/cluster/remove", 422, {"what": "remove"}
    )
    assert (
        owner_client.post("/vision/compute/pools/cluster/remove", {"what": "cancel"}).headers["Location"]
        == "/vision/compute"
    )
    assert Run.objects.get(pk=waits.pk).status == "Canceled"
    text(owner_client, "/vision/compute/pools/cluster", 404)
    assert "cluster" in text(owner_client, f"/vision/runs/{waits.number}")


def test_the_composer_offers_pools_and_checks_against_their_members(contributor_client, workspace, pool, boxes):
    digest = factory.make_snapshot(workspace, factory.SCRIPT).digest
    version = factory.make_version(None, packages=["numpy"])
    factory.make_build(boxes[1], version)
    page = text(contributor_client, "/vision/runs/new")
    assert 'value="cluster"' in page and "2 of 2 usable, starts at once" in page
    form = {
        "snapshot": digest,
        "script": "train.py",
        "experiment": "digits",
        "target": "cluster",
        "environment": str(version),
    }
    checks = text(contributor_client, "/vision/runs/new/check", data=form)
    assert "base:1 is on 1 of 2 targets of cluster" in checks
    assert "2 of 2 targets of cluster are usable, 2 slots free, the first on box-1" in checks
    domain.update(pool, pool.created_by, min_nodes=2, max_nodes=2)
    ComputeTarget.objects.filter(name="box-2").update(enabled=False)
    checks = text(contributor_client, "/vision/runs/new/check", data=form)
    assert "1 of 2 targets of cluster is usable, 1 slot free, the first on box-1" in checks
    assert "cluster has too few usable targets: 1 of at least 2" in checks
    ComputeTarget.objects.filter(name="box-2").update(enabled=True)
    refused = text(contributor_client, "/vision/runs/new", 422, {**form, "gpus": "2"})
    assert "No target of cluster has a GPU" in refused
    assert contributor_client.post("/vision/runs/new", form).status_code == 302
    assert Run.objects.get().pool == pool
    again = text(contributor_client, "/vision/runs/new?from=1")
    assert 'name="target" value="cluster" checked' in again


def test_an_administrator_sees_pools(owner, pool, client_of):
    owner.is_staff = owner.is_superuser = True
    owner.save()
    page = text(client_of(owner), "/admin/environments/pool/")
    assert "box-1 (idle), box-2 (idle)" in page and "2 of 2 usable" in page
    text(client_of(owner), f"/admin/environments/pool/{pool.pk}/change/")
