"""Runs below runs: begun by this process, or submitted."""

import pytest
from runstead import Experiment, RunsteadError, ScriptRunConfig, UserError, Workspace

from tests.sdk.conftest import Home


def test_children_are_begun_found_and_end_by_themselves(ws: Workspace) -> None:
    experiment = Experiment(ws, "family")
    parent = experiment.start_logging(display_name="parent")
    with parent.child_run("one") as child:
        child.log("a", 1)
        with child.child_run("below") as grandchild:
            grandchild.log("a", 2)
    assert (child.status, parent.get_status()) == ("Completed", "Running")
    assert child.parent.id == parent.id
    assert parent.parent is None
    assert [run.name for run in parent.get_children()] == ["one"]
    assert [run.name for run in parent.get_children(recursive=True)] == ["one", "below"]
    assert parent.get_metrics(recursive=True) == {parent.id: {}, child.id: {"a": 1.0}, grandchild.id: {"a": 2.0}}
    parent.complete()
    assert [run.name for run in experiment.get_runs()] == ["parent"]
    assert {run.name for run in experiment.get_runs(include_children=True)} == {"parent", "one", "below"}


def test_several_are_made_at_once_and_filtered(ws: Workspace) -> None:
    with Experiment(ws, "many").start_logging() as parent:
        assert len(parent.create_children(count=2)) == 2
        tuned = parent.create_children(tag_key="lr", tag_values=[0.1, 0.2])
        assert [run.tags["lr"] for run in tuned] == ["0.1", "0.2"]
        assert [run.id for run in parent.get_children(tags={"lr": "0.2"})] == [tuned[1].id]
        tuned[0].fail("worse")
        assert [run.id for run in parent.get_children(status="Failed")] == [tuned[0].id]
        for wrong in (
            {},
            {"count": 0},
            {"count": 1, "tag_key": "a", "tag_values": [1]},
            {"count": True},
            {"tag_key": "a"},
        ):
            with pytest.raises(UserError, match="count"):
                parent.create_children(**wrong)
        for run in parent.get_children(status="Running"):
            run.complete()


def test_a_configuration_is_submitted_below_a_run(home: Home, ws: Workspace) -> None:
    code = "from runstead import Run\nrun = Run.get_context()\nrun.log('own', 1)\nrun.parent.log('of the child', 2)\n"
    config = ScriptRunConfig(home.project("child", train=code), "train.py", environment="python")
    with Experiment(ws, "submits").start_logging() as parent:
        child = parent.submit_child(config, tags={"n": "1"})
        assert child.wait_for_completion()["status"] == "Completed"
    assert (child.parent.id, child.type, child.tags) == (parent.id, "script", {"n": "1"})
    assert (child.get_metrics(), parent.get_metrics()) == ({"own": 1.0}, {"of the child": 2.0})
    assert child.experiment.name == "submits"
    assert [run.id for run in parent.get_children(type="script")] == [child.id]


def test_inside_a_script_the_error_says_from_where_it_can_be_done(home: Home, ws: Workspace) -> None:
    code = "from runstead import Run\nrun = Run.get_context()\ntry:\n    run.submit_child(None)\nexcept Exception as e:\n    print(e)\n"
    config = ScriptRunConfig(home.project("inside", train=code), "train.py", environment="python")
    run = Experiment(ws, "inside").submit(config)
    run.wait_for_completion()
    assert b"A script does not reach the studio from its run" in run.read_log()
    assert run.id.encode() in run.read_log()
    assert issubclass(UserError, RunsteadError)
