"""Runs of a pool: placed in the order of its members, taken back while nothing has started, and started once."""

import threading
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from environments import attaching
from environments import pools as domain
from environments.attaching import Refused
from environments.models import BuildStatus, ComputeTarget, EnvironmentVersion, Lease, Pool
from runs import pools, silence, submission
from runs.attending import Attendant
from runs.config import ConfigError, ScriptRunConfig
from runs.detaching import detach
from runs.errands import Errands
from runs.house import waiting_targets
from runs.models import GivenUp, Run
from runs.session import Session
from runs.status import EndReason, RunStatus
from tests.runs.factory import make_build, make_run, make_snapshot, make_target, make_version

pytestmark = pytest.mark.django_db(transaction=True)
S = RunStatus


@pytest.fixture
def boxes(workspace):
    return [make_target(workspace, name) for name in ("a", "b", "c")]


@pytest.fixture
def pool(workspace, owner, boxes):
    return domain.create(workspace, owner, "cluster")[0]


@pytest.fixture
def send(workspace, contributor, pool):
    def call(count=1, **more):
        config = ScriptRunConfig(script="train.py", gpus=more.pop("gpus", 0))
        fields = {"target": pool, "environment": make_version(None), **more}
        made = [
            submission.submit(
                workspace=workspace, user=contributor, experiment="digits", config=config,
                snapshot=make_snapshot(workspace, {"train.py": b""}), **fields,
            )
            for _ in range(count)
        ]  # fmt: skip
        return made[0] if count == 1 else made

    return call


def places(runs):
    return [str(Run.objects.select_related("target").get(pk=run.pk).target or "") for run in runs]


def again(run):
    return Run.objects.select_related("target", "pool").get(pk=run.pk)


def test_runs_fill_the_members_in_their_order_and_the_rest_waits(send):
    runs = send(5)
    assert places(runs) == ["a", "b", "c", "", ""]
    assert again(runs[3]).waiting_for == "Pool cluster: its 3 targets are busy."
    assert [event.detail for event in runs[0].events.all()][1] == "Placed on a, of pool cluster."


def test_slots_count_before_the_next_member_is_asked(send, boxes):
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(slots=2)
    assert places(send(4)) == ["a", "a", "b", "c"]


def test_what_is_sent_to_a_member_directly_takes_its_slot(send, boxes, workspace):
    make_run(workspace, target=boxes[0])
    assert places(send(3)) == ["b", "c", ""]


def test_a_run_that_only_brings_its_outputs_home_leaves_its_slot(send, boxes, workspace):
    make_run(workspace, target=boxes[0], status=S.FINALIZING, launched=True)
    assert places([send()]) == ["a"]


def test_two_pools_share_a_member_without_giving_it_too_much(send, workspace, owner, pool):
    other = domain.create(workspace, owner, "other", members=["a"])[0]
    send(target=other)
    assert places(send(2)) == ["b", "c"]


def test_no_more_members_than_max_nodes_are_used_at_once(send, pool, owner):
    domain.update(pool, owner, max_nodes=2)
    runs = send(3)
    assert places(runs) == ["a", "b", ""]
    assert again(runs[2]).waiting_for == "Pool cluster: its 3 targets are busy (2), held back by the pool's limit (1)."


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"enabled": False}, "draining"),
        ({"quarantined_at": timezone.now()}, "quarantined"),
        ({"unreachable_since": timezone.now()}, "unreachable"),
    ],
)
def test_a_member_out_of_use_is_skipped_and_said(send, boxes, fields, word):
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(**fields)
    runs = send(3)
    assert places(runs) == ["b", "c", ""]
    assert again(runs[2]).waiting_for == f"Pool cluster: its 3 targets are {word} (1), busy (2)."


def test_one_that_was_never_contacted_is_given_runs(send, boxes):
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(last_seen_at=None)
    assert places([send()]) == ["a"]


def test_the_higher_priority_goes_first_then_the_older(send, boxes):
    first = send(3)
    low, older, high = send(), send(), send(priority=5)
    again(first[1]).move_to(S.FAILED, reason=EndReason.STUDIO_ERROR)
    assert places([low, older, high]) == ["", "", "b"]
    again(first[2]).move_to(S.FAILED, reason=EndReason.STUDIO_ERROR)
    assert places([low, older]) == ["c", ""]


def test_gpus_are_given_where_they_are_free_and_small_runs_do_not_wait_for_large_ones(send, boxes):
    ComputeTarget.objects.filter(pk=boxes[1].pk).update(gpu_slots=2, slots=4)
    assert places([send(gpus=2)]) == ["b"]
    waits, small = send(gpus=1), send()
    assert places([waits, small]) == ["", "a"]
    assert again(waits).waiting_for == "Pool cluster: its 3 targets are too small (2), busy (1)."


def test_gpus_are_kept_for_a_run_that_has_waited_long(send, boxes):
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(gpu_slots=2, slots=4)
    one, two = send(gpus=1), send(gpus=2)
    Run.objects.filter(pk=two.pk).update(created_at=timezone.now() - timedelta(minutes=10))
    late = send(gpus=1)
    assert places([one, two, late]) == ["a", "", ""], "a GPU is free, and the older run needs it"
    again(one).move_to(S.FAILED, reason=EndReason.STUDIO_ERROR)
    assert places([two, late]) == ["a", ""]


def test_what_no_member_could_ever_take_is_refused_with_the_largest(send, boxes):
    ComputeTarget.objects.filter(pk=boxes[1].pk).update(gpu_slots=2)
    with pytest.raises(ConfigError, match="No target of cluster has 4 GPUs: the largest, b, has 2 GPUs") as error:
        send(gpus=4)
    assert set(error.value.errors) == {"gpus"}
    image = make_version(None, "image", dockerfile="FROM python:3.11")
    with pytest.raises(ConfigError, match="no target of cluster has a container engine"):
        send(environment=image)


def test_an_image_goes_to_the_member_with_an_engine(send, boxes):
    ComputeTarget.objects.filter(pk=boxes[2].pk).update(launcher="docker")
    image = make_version(None, "image", dockerfile="FROM python:3.11")
    assert places(send(2, environment=image)) == ["c", ""]


def test_a_slot_that_comes_free_is_given_to_who_waits(send):
    runs = send(4)
    again(runs[1]).move_to(S.CANCELED, reason=EndReason.CANCELED)
    assert places(runs) == ["a", "b", "c", "b"]


def test_cancelling_one_that_was_not_placed_ends_it_at_once(send, contributor):
    runs = send(4)
    assert submission.cancel(runs[3], contributor)
    assert again(runs[3]).status == S.CANCELED
    assert submission.cancel(runs[0], contributor)
    assert again(runs[0]).status == S.CANCEL_REQUESTED, "its attendant ends it"


def test_one_that_was_read_before_it_was_placed_is_not_cancelled_behind_its_attendant(send, contributor, boxes):
    runs = send(4)
    old = again(runs[3])
    again(runs[0]).move_to(S.CANCELED, reason=EndReason.CANCELED)
    assert old.target_id is None and again(old).target is not None
    assert submission.cancel(old, contributor)
    assert again(old).status == S.CANCEL_REQUESTED


# -- taken back


@pytest.mark.parametrize("status", [S.NOT_STARTED, S.PREPARING, S.QUEUED])
def test_what_was_not_launched_goes_elsewhere_when_its_target_is_lost(send, boxes, status):
    run = send()
    build = make_build(boxes[0], run.environment, BuildStatus.READY)
    attempt = "" if status == S.NOT_STARTED else "1" * 32
    Run.objects.filter(pk=run.pk).update(status=status, attempt=attempt, build=build, prepared_at=timezone.now())
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(unreachable_since=timezone.now())
    pools.settle(boxes[0].pk)
    run = again(run)
    assert (run.target, run.status, run.attempt, run.build, run.prepared_at) == (
        boxes[1],
        S.NOT_STARTED,
        "",
        None,
        None,
    )
    told = "a does not answer before the run had started there: back to pool cluster."
    assert told in [event.detail for event in run.events.all()]


def test_the_directory_of_an_attempt_that_was_given_up_is_remembered(send, boxes):
    run = send()
    assert pools.back(again(run), "is draining") and not GivenUp.objects.exists(), "nothing was laid out"
    pools.place(run.pool_id)
    Run.objects.filter(pk=run.pk).update(status=S.PREPARING, attempt="1" * 32)
    assert pools.back(again(run), "is draining")
    assert list(GivenUp.objects.values_list("target__name", "attempt")) == [("a", "1" * 32)]


def test_pools_that_share_members_give_none_of_them_too_much_at_once(workspace, contributor, owner, boxes, send):
    """Two pools, four threads each, and runs that end meanwhile."""
    ComputeTarget.objects.update(slots=2)
    sharing = [
        domain.create(workspace, owner, name, members=members)[0] for name, members in (("x", "abc"), ("y", "cba"))
    ]
    for pool in sharing:
        for _ in range(6):
            make_run(workspace, pool=pool, target=None)
    start = threading.Barrier(8)

    def work(pool):
        start.wait()
        pools.place(pool.pk)
        connection.close()

    threads = [threading.Thread(target=work, args=(pool,)) for pool in sharing * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = [Run.objects.filter(target=box).count() for box in boxes]
    assert counts == [2, 2, 2], "every slot is given, once"


def test_what_was_launched_stays(send, boxes):
    run = send()
    Run.objects.filter(pk=run.pk).update(status=S.QUEUED, attempt="1" * 32, launched=True)
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(enabled=False)
    pools.settle(boxes[0].pk)
    assert (again(run).target, again(run).launched) == (boxes[0], True)


def test_the_reconciler_does_what_nobody_did(send, boxes):
    runs = send(4)
    ComputeTarget.objects.filter(pk=boxes[1].pk).update(quarantined_at=timezone.now())
    Run.objects.filter(pk=runs[0].pk).update(status=S.CANCELED, ended_at=timezone.now())  # as if its hook had been lost
    pools.sweep()
    assert places(runs[1:]) == ["a", "c", ""], "the older one first"


def test_a_run_on_a_target_that_left_the_pool_is_taken_back_too(send, pool, boxes, owner):
    runs = send(2)
    domain.update(pool, owner, members=["b", "c"])
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(enabled=False)
    pools.sweep()
    assert places(runs) == ["c", "b"]


def test_a_pool_that_cannot_be_placed_keeps_no_other_from_it(send, pool, boxes, workspace, owner, contributor):
    ComputeTarget.objects.update(slots=2)
    other = domain.create(workspace, owner, "other", members=["c"])[0]
    broken = make_version(workspace, "broken")
    spoiled = make_run(workspace, pool=pool, target=None, environment=broken)
    run = make_run(workspace, pool=other, target=None)
    EnvironmentVersion.objects.filter(pk=broken.pk).update(definition={"kind": 5, "packages": 5})
    pools.sweep()
    assert places([spoiled, run]) == ["", "c"]


def test_runs_that_wait_for_gpus_are_not_read_while_none_is_free(workspace, pool, boxes):
    """Else each submit reads ten thousand rows, and nobody else can write meanwhile."""
    gpu = {"gpus": [{"index": 0, "name": "A100", "memory": 1}]}
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(slots=9, facts=gpu)
    make_run(workspace, target=boxes[0], gpus=1, status=S.RUNNING, launched=True)
    for _ in range(5):
        make_run(workspace, pool=pool, target=None, gpus=1)
    last = make_run(workspace, pool=pool, target=None)
    with CaptureQueriesContext(connection) as queries:
        assert pools.place(pool.pk) == 1
    assert places([last]) == ["a"]
    read = [q["sql"] for q in queries if "config" in q["sql"] and q["sql"].startswith("SELECT")]
    assert read and all('"runs_run"."gpus" = 0' in sql for sql in read)


def test_what_never_ends_is_found_by_the_index_of_what_has_not_ended(send, pool):
    """A target's history may be a hundred thousand runs; the sweep and the placing look every second."""
    if connection.vendor != "sqlite":
        pytest.skip("PostgreSQL plans by what the tables hold, and these are nearly empty.")
    send(4)
    for look in (lambda: domain.nodes(pool), waiting_targets, lambda: silence.mark(timezone.now())):
        with CaptureQueriesContext(connection) as queries:
            look()
        for query in queries:
            if 'FROM "runs_run"' not in query["sql"] or not query["sql"].startswith("SELECT"):
                continue
            with connection.cursor() as cursor:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                plan = " ".join(row[-1] for row in cursor.fetchall())
            assert "USING INDEX run_" in plan or "USING COVERING INDEX run_" in plan, (query["sql"], plan)


def test_a_member_that_does_not_answer_is_tried_while_runs_wait_for_it(send, boxes):
    ComputeTarget.objects.filter(pk__in=[box.pk for box in boxes]).update(unreachable_since=timezone.now())
    assert waiting_targets() == set()
    run = send()
    assert again(run).target is None
    assert waiting_targets() == {box.pk for box in boxes}


def test_detaching_a_member_sends_its_waiting_run_elsewhere(send, boxes, owner):
    runs = send(2)
    assert detach(boxes[0], owner)
    assert places(runs) == ["c", "b"]
    Run.objects.filter(pk=runs[1].pk).update(status=S.RUNNING, launched=True)
    with pytest.raises(Refused, match="1 run has not ended on b"):
        detach(boxes[1], owner)


def test_a_refused_detach_leaves_everything_where_it_is(send, boxes, owner):
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(slots=2)
    runs = send(2)
    Run.objects.filter(pk=runs[0].pk).update(status=S.RUNNING, launched=True)
    with pytest.raises(Refused):
        detach(boxes[0], owner)
    assert places(runs) == ["a", "a"]


def session_of(target, token=None):
    token = token or Lease.take(target.pk, "me")
    session = Session(
        ComputeTarget.objects.get(pk=target.pk), token, None, Errands("test", lambda: None), threading.Event()
    )
    session.sent = []
    session.send_launch = lambda starting: session.sent.extend(watched.attempt for watched in starting)
    return session


def prepared(session, run):
    """A run that a session has made ready, as the database and the session know it."""
    session.load()
    session.take()
    held = session.rows[run.pk]
    assert held.move_to(S.QUEUED)
    return held


def test_an_attendant_with_an_old_row_can_do_nothing_with_a_run_that_went_elsewhere(send, boxes):
    run = send()
    old = session_of(boxes[0])
    held = prepared(old, run)
    attempt = held.attempt
    assert pools.back(again(run), "is draining")
    pools.place(run.pool_id)  # back on the same target, before its attendant has looked again
    assert again(run).target == boxes[0]
    old.launch()
    assert (old.sent, again(run).launched) == ([], False), "it would have started the attempt that was given up"
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(enabled=False)
    pools.settle(boxes[0].pk)
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(enabled=True)
    new = session_of(boxes[1])
    prepared(new, run)
    held.status = S.QUEUED
    old.launch()
    assert (old.sent, again(run).launched) == ([], False), "it is queued again, and elsewhere"
    held.status = S.PREPARING
    assert not held.move_to(S.QUEUED, only=held.as_held)
    old.work = [held]
    held.status = S.CANCEL_REQUESTED
    old.cancel()
    old.failed(("run", run.pk), ValueError("the old attempt could not be laid out"))
    assert again(run).status == S.QUEUED
    new.launch()
    assert len(new.sent) == 1 and new.sent != [attempt]
    assert (again(run).target, again(run).launched, again(run).attempt) == (boxes[1], True, new.sent[0])


def test_a_session_reads_a_run_anew_that_came_back_to_it(send, boxes):
    run = send()
    session = session_of(boxes[0])
    first = prepared(session, run).attempt
    pools.back(again(run), "is draining")
    pools.place(run.pool_id)
    second = prepared(session, run).attempt
    assert first != second == again(run).attempt
    session.launch()
    assert session.sent == [second]


def test_a_run_that_came_back_and_is_to_be_cancelled_ends(send, boxes, contributor):
    """Taken back, placed here again and cancelled, all between two looks of the attendant: it still has the row of the first attempt."""
    run = send()
    session = session_of(boxes[0])
    prepared(session, run)
    pools.back(again(run), "does not answer")
    pools.place(run.pool_id)
    assert again(run).target == boxes[0] and submission.cancel(again(run), contributor)
    session.load()
    session.cancel()
    assert again(run).status == S.CANCELED


def test_who_writes_several_runs_does_it_in_the_order_of_their_ids(send, boxes, owner):
    """Or PostgreSQL ends one of two who wait for each other: a detach writes its runs in this order."""
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(slots=3)
    runs = send(3)
    Run.objects.filter(pk=runs[2].pk).update(priority=9)
    session = session_of(boxes[0])
    session.load()
    updates = []
    for act in (session.take, session.launch):
        with CaptureQueriesContext(connection) as queries:
            act()
        for held in session.rows.values():
            if held.status == S.PREPARING:
                held.move_to(S.QUEUED)
        told = [query["sql"] for query in queries if query["sql"].startswith('UPDATE "runs_run"')]
        updates.append([run.pk for sql in told for run in runs if f'"runs_run"."id" = {run.pk}' in sql])
    assert updates == [[run.pk for run in runs]] * 2


def test_launched_and_taken_back_exclude_each_other(send, boxes, owner):
    """Both at the same moment, again and again: the run is launched where it is, or it is elsewhere, never both."""
    for number in range(24):
        run = send()
        here = again(run).target
        session = session_of(here)
        prepared(session, run)
        start = threading.Barrier(2)

        def launch(session=session, start=start):
            start.wait()
            session.launch()
            connection.close()

        def take_back(run=run, start=start):
            old = again(run)
            start.wait()
            pools.back(old, "is draining")
            connection.close()

        threads = [
            threading.Thread(target=call) for call in ((launch, take_back) if number % 2 else (take_back, launch))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        row = again(run)
        launched = bool(session.sent)
        assert row.launched == launched
        assert (
            (row.target == here and row.attempt == session.sent[0])
            if launched
            else (row.target is None and not row.attempt)
        )
        Run.objects.filter(pk=run.pk).update(status=S.CANCELED, ended_at=timezone.now())
        Lease.release(here.pk, session.token)


def test_a_target_that_is_lost_gives_its_waiting_runs_back_only_while_it_is_ours(send, boxes):
    run = send()
    token = Lease.take(boxes[0].pk, "me")
    attendant = Attendant(boxes[0].pk, token, "me")
    Lease.objects.filter(target=boxes[0]).update(token=token + 1)
    attendant.silent(12)
    assert again(run).target == boxes[0], "another attendant has it, which may have launched it"
    Lease.objects.filter(target=boxes[0]).update(token=token)
    attendant.silent(12)
    assert again(run).target == boxes[1]


# -- the pool itself


def test_two_who_change_a_pool_at_once_keep_what_the_other_changed(pool, owner):
    other = Pool.objects.get(pk=pool.pk)
    domain.update(pool, owner, max_nodes=2)
    domain.update(other, owner, description="shared")
    kept = Pool.objects.get(pk=pool.pk)
    assert (kept.max_nodes, kept.description) == (2, "shared")
    assert (other.max_nodes, other.description) == (2, "shared")


def test_names_are_shared_with_targets(workspace, owner, pool, boxes):
    with pytest.raises(Refused, match="A is the name of an attached target"):
        domain.create(workspace, owner, "A")
    with pytest.raises(Refused, match="CLUSTER is the name of a pool"):
        attaching.update(boxes[0], owner, name="CLUSTER")
    with pytest.raises(Refused, match="another pool named Cluster"):
        domain.create(workspace, owner, "Cluster", members=["a"])
    assert attaching.check_name(ComputeTarget(workspace=workspace), "cluster")


def test_two_who_give_the_same_name_at_once_do_not_both_get_it(workspace, owner, boxes):
    """A target renamed and a pool made, at the same moment."""
    for number in range(8):
        start, results = threading.Barrier(2), []
        name = f"taken-{number}"

        def attempt(call, start=start, results=results):
            start.wait()
            try:
                call()
                results.append("given")
            except Refused:
                results.append("refused")
            finally:
                connection.close()

        calls = (
            lambda name=name: domain.create(workspace, owner, name, members=["b"]),
            lambda name=name: attaching.update(ComputeTarget.objects.get(pk=boxes[0].pk), owner, name=name),
        )
        threads = [threading.Thread(target=attempt, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == ["given", "refused"]


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        ({"members": ["a", "bb"]}, "members", "'bb' is not an attached target. Did you mean b?"),
        ({"members": ["zebra"]}, "members", "There are: a, b, c."),
        ({"members": []}, "members", "at least one target"),
        ({"members": ["a", "a"]}, "members", "a is named twice"),
        ({"members": ["cluster"]}, "members", "'cluster' is a pool itself"),
        ({"min_nodes": 3, "max_nodes": 2}, "min_nodes", "3 is more than 2, the most"),
        ({"min_nodes": 4}, "min_nodes", "the pool has 3 targets"),
        ({"max_nodes": 0}, "max_nodes", "Use 1 to 10,000"),
        ({"min_nodes": -1}, "min_nodes", "Use 0 to 10,000"),
        ({"description": "x" * 501}, "description", "longer than 500"),
        ({"name": "attach"}, "name", "an address of the studio itself"),
        ({"name": "no name"}, "name", ""),
        ({"name": ""}, "name", "Name the pool"),
    ],
)
def test_what_is_wrong_is_named_by_its_field(workspace, owner, pool, asked, field, words):
    with pytest.raises(Refused) as error:
        domain.create(workspace, owner, **{"name": "other", **asked})
    assert words in error.value.errors[field]


def test_asked_again_for_the_same_it_is_the_same(workspace, owner, pool):
    assert domain.create(workspace, owner, "cluster") == (pool, False)
    with pytest.raises(Refused):
        domain.create(workspace, owner, "cluster", max_nodes=1)


def test_members_that_were_detached_stay_and_are_said(workspace, owner, pool, boxes):
    attaching.detach(boxes[0], owner)
    found = domain.nodes(pool)
    assert [(node.target.name, node.state) for node in found] == [("a", "unusable"), ("b", "idle"), ("c", "idle")]
    domain.update(pool, owner, members=["a", "c"])
    assert [node.target.name for node in domain.nodes(pool)] == ["a", "c"]
    assert domain.counts(domain.nodes(pool))["unusable"] == 1


def test_it_says_when_it_has_too_few(workspace, owner, pool, boxes):
    domain.update(pool, owner, min_nodes=3)
    assert domain.pool_health(pool, domain.nodes(pool)).words == "3 of 3 usable"
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(enabled=False)
    assert domain.pool_health(pool, domain.nodes(pool)).words == "Too few targets: 2 of at least 3"


def test_it_is_not_removed_while_runs_wait_in_it(send, pool, owner, contributor):
    runs = send(4)
    Run.objects.filter(pk__in=[run.pk for run in runs[:3]]).update(status=S.RUNNING, launched=True)
    with pytest.raises(Refused, match="1 run waits in cluster"):
        domain.remove(pool, owner)
    submission.cancel(runs[3], contributor)
    domain.remove(pool, owner)
    with pytest.raises(ConfigError, match="cluster was removed"):
        send()
    assert again(runs[0]).pool == pool


def test_what_waits_is_read_piece_by_piece(send, boxes, monkeypatch):
    """Runs at the head that nobody can take now do not keep the others."""
    monkeypatch.setattr(pools, "PIECE", 2)
    ComputeTarget.objects.filter(pk=boxes[0].pk).update(gpu_slots=1, slots=9)
    send(gpus=1)
    large = send(5, gpus=1)
    assert set(places(large)) == {""}
    assert places(send(2)) == ["a", "a"]
