"""Pools from Python and from the shell, against a live studio whose targets are folders of this machine with a slot each."""

import contextlib
import json
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest
from runstead import (
    AmlCompute,
    ComputeTarget,
    ComputeTargetException,
    Estimator,
    Experiment,
    LocalCompute,
    RunConfiguration,
    ScriptRunConfig,
    UserError,
    Workspace,
    cli,
)

from tests.sdk.conftest import Home
from tests.waiting import until

pytestmark = pytest.mark.timeout(300)
NAMES = ("node-a", "node-b", "node-c")
TRAIN = """import os, sys, time
said, stop = sys.argv[1], sys.argv[2]
with open(said, "a") as file:
    file.write(os.environ["AZUREML_RUN_ID"] + "\\n")
end = time.monotonic() + float(sys.argv[3])
while not os.path.exists(stop) and time.monotonic() < end:
    time.sleep(0.05)
"""


@pytest.fixture
def folder(home: Home, tmp_path: Path) -> Path:
    return home.project(tmp_path.name, train=TRAIN)


@pytest.fixture
def nodes(ws: Workspace, tmp_path: Path):
    """Three targets with a slot each."""
    made = {}
    for name in NAMES:
        configuration = LocalCompute.attach_configuration(root=str(tmp_path / name), slots=1)
        made[name] = ComputeTarget.attach(ws, name, configuration)
    yield made
    for target in sorted(ComputeTarget.list(ws), key=lambda target: target.type != "AmlCompute"):
        if target.name != "local":
            target.detach("cancel")


@pytest.fixture
def pool(ws: Workspace, nodes) -> AmlCompute:
    configuration = AmlCompute.provisioning_configuration(min_nodes=0, members=[*nodes.values()])
    with pytest.warns(UserWarning, match="No cloud machine is started"):
        made = ComputeTarget.create(ws, "cluster", configuration)
    assert isinstance(made, AmlCompute)
    return made


class Jobs:
    """Runs of a script that waits for a file; what was executed is in another one."""

    def __init__(self, ws: Workspace, folder: Path, tmp_path: Path) -> None:
        self.experiment = Experiment(ws, "pools")
        self.folder, self.said, self.stop = folder, tmp_path / "said", tmp_path / "stop"
        self.said.touch()

    def submit(self, count: int, target: object, seconds: float = 120):
        words = [str(self.said), str(self.stop), str(seconds)]
        config = ScriptRunConfig(self.folder, "train.py", words, compute_target=target, environment="python")
        return [self.experiment.submit(config) for _ in range(count)]

    def executed(self) -> Counter:
        return Counter(self.said.read_text().split())


@pytest.fixture
def jobs(ws: Workspace, folder: Path, tmp_path: Path):
    made = Jobs(ws, folder, tmp_path)
    yield made
    made.stop.touch()


def places(runs) -> list:
    return [run._fresh()["target"] for run in runs]


def run_id(home: Home, run) -> int:
    return next(row["id"] for row in home.studio.control("runs") if row["number"] == run.number)


def ended(runs, seconds: float = 90) -> bool:
    until(lambda: all(run.get_status() == "Completed" for run in runs), seconds)
    return True


def test_the_usual_way_of_scripts_find_or_create(ws, nodes, capsys):
    """The lines of a thousand notebooks."""
    try:
        compute_target = ComputeTarget(workspace=ws, name="cpu-cluster")
    except ComputeTargetException:
        with pytest.warns(UserWarning, match="no machines are made"):
            config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
        with pytest.warns(UserWarning, match="No cloud machine"):
            compute_target = ComputeTarget.create(ws, "cpu-cluster", config)
        compute_target.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
    assert "Succeeded" in capsys.readouterr().out
    assert (compute_target.type, compute_target.provisioning_state) == ("AmlCompute", "Succeeded")
    assert compute_target.members == ["local", *NAMES] == [node["nodeId"] for node in compute_target.list_nodes()]
    assert isinstance(ws.compute_targets["cpu-cluster"], AmlCompute)
    assert "cpu-cluster" in [target.name for target in ComputeTarget.list(ws)]
    status = compute_target.get_status().serialize()
    assert (status["currentNodeCount"], status["targetNodeCount"], status["allocationState"]) == (4, 4, "Steady")
    assert status["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": None}
    assert status["nodeStateCounts"]["idleNodeCount"] == 4 and status["errors"] is None
    compute_target.delete()
    with pytest.raises(ComputeTargetException, match="no compute target 'cpu-cluster'"):
        ComputeTarget(ws, "cpu-cluster")


def test_runs_spread_in_order_and_the_rest_waits_its_turn(pool, jobs):
    runs = jobs.submit(5, pool)
    until(lambda: all(run.get_status() == "Running" for run in runs[:3]), 60)
    assert places(runs) == [*NAMES, None, None]
    assert runs[4]._fresh()["waiting_for"] == "Pool cluster: its 3 targets are busy."
    assert pool.get_status().node_state_counts.running_node_count == 3
    assert [node["nodeState"] for node in pool.list_nodes()] == ["running"] * 3
    runs[1].cancel()
    until(lambda: runs[3].get_status() == "Running", 60)
    assert places(runs)[3:] == ["node-b", None]
    runs[4].cancel()
    assert runs[4].get_status() == "Canceled", "nothing executes it: it ends at once"
    jobs.stop.touch()
    assert ended([runs[0], runs[2], runs[3]])
    assert max(jobs.executed().values()) == 1


def test_max_nodes_are_respected_and_raised(pool, jobs):
    pool.update(max_nodes=1)
    assert pool.scale_settings.maximum_node_count == 1
    runs = jobs.submit(2, "cluster")
    until(lambda: runs[0].get_status() == "Running", 60)
    assert places(runs) == ["node-a", None]
    pool.update(all_nodes=True)
    until(lambda: runs[1].get_status() == "Running", 60)
    assert places(runs) == ["node-a", "node-b"]


def test_a_drained_member_is_skipped_and_used_again_when_resumed(pool, nodes, jobs):
    nodes["node-a"].drain()
    runs = jobs.submit(3, pool)
    until(lambda: runs[1].get_status() == "Running", 60)
    assert places(runs) == ["node-b", "node-c", None]
    assert pool.list_nodes()[0]["nodeState"] == "leaving"
    nodes["node-a"].resume()
    until(lambda: runs[2].get_status() == "Running", 60)
    assert places(runs)[2] == "node-a"


def lose(root: Path) -> None:
    """The machine's folder cannot be used, and its agent is gone."""
    root.rename(root.with_name("away"))
    root.write_text("no folder")
    for process in psutil.process_iter(["cmdline"]):
        if any(str(root) in word for word in process.info["cmdline"] or ()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def find(root: Path) -> None:
    root.unlink()
    root.with_name("away").rename(root)


def test_one_that_does_not_answer_is_passed_over_and_used_again_when_it_does(ws, pool, nodes, jobs, tmp_path):
    first = jobs.submit(1, "node-a", seconds=0)
    assert ended(first)
    lose(tmp_path / "node-a")
    runs = jobs.submit(3, pool)
    until(lambda: runs[2].get_status() == "Running" or places(runs)[0] != "node-a", 60)
    until(lambda: sorted(filter(None, places(runs))) == ["node-b", "node-c"], 60)
    until(
        lambda: "unreachable (1)" in next(run for run in runs if not run._fresh()["target"])._fresh()["waiting_for"], 60
    )
    assert pool.get_status().errors[0]["error"]["message"].startswith("node-a: Not reachable")
    with pytest.warns(UserWarning, match=r"2 of 3 targets are usable. Away: node-a \(Not reachable\)"):
        pool.wait_for_completion(min_node_count=3, timeout_in_minutes=0.01)
    find(tmp_path / "node-a")
    pool.wait_for_completion(min_node_count=3, timeout_in_minutes=1)
    until(lambda: all(run.get_status() == "Running" for run in runs), 60)
    assert sorted(places(runs)) == list(NAMES)
    jobs.stop.touch()
    assert ended(runs)
    assert jobs.executed() == {run.id: 1 for run in [*first, *runs]}


def test_workers_that_are_killed_and_members_that_come_and_go_lose_and_double_nothing(
    home, pool, nodes, jobs, tmp_path
):
    """While runs are placed, prepared, taken back and started."""
    runs = jobs.submit(12, pool, seconds=0.3)
    for step in range(12):
        time.sleep(0.15 + 0.05 * (step % 4))  # the moment of the kill is what is tested
        node = nodes[NAMES[step % 3]]
        node.drain()
        if step % 2:
            home.studio.kill_workers()
        time.sleep(0.1 * (step % 3))
        node.resume()
    assert ended(runs, 180)
    assert jobs.executed() == {run.id: 1 for run in runs}
    assert set(places(runs)) <= set(NAMES)
    back = [
        event
        for run in runs
        for event in home.studio.control("events", id=run_id(home, run))
        if "back to pool" in event[3]
    ]
    assert back, "no run was taken back: the test has met nothing"
    folders = [tmp_path / name / "runs" for name in NAMES]
    until(
        lambda: not [one for folder in folders for one in folder.iterdir()], 60, what="attempts that were given up stay"
    )


def test_a_pool_is_named_wherever_a_target_is(ws, home, pool, jobs, capsys, tmp_path, monkeypatch):
    jobs.stop.touch()
    words = [str(jobs.said), str(jobs.stop), "0"]
    configuration = RunConfiguration("train.py", words)
    configuration.target, configuration.environment = "cluster", "python"
    runs = [jobs.experiment.submit(ScriptRunConfig(jobs.folder, run_config=configuration))]
    estimator = Estimator(
        str(jobs.folder), compute_target=pool, entry_script="train.py", user_managed=True, use_docker=False,
        script_params={words[0]: words[1], words[2]: ""},
    )  # fmt: skip
    runs.append(jobs.experiment.submit(estimator))
    file = tmp_path / "run.yaml"
    file.write_text(f"target: cluster\nenvironment: python\nscript: train.py\narguments: {json.dumps(words)}\n")
    monkeypatch.setenv("HOME", str(home.folder))
    capsys.readouterr()
    for options in (["--target", "cluster", "--", "train.py", *words], ["--file", str(file)]):
        assert cli.main(["run", str(jobs.folder), "--experiment", "pools", "--json", *options]) == 0
        runs.append(ws.get_run(json.loads(capsys.readouterr().out)["id"]))
    assert ended(runs)
    assert {run._fresh()["pool"] for run in runs} == {"cluster"}
    assert cli.main(["targets"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("cluster"))
    assert line.split() == ["cluster", "Pool", "3", "of", "3", "usable", "3", "0", "0", "0"]
    assert cli.main(["targets", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out) if row["kind"] == "pool"] == ["cluster"]
    assert runs[0].get_details()["target"] in NAMES
    assert cli.main(["detach", "cluster"]) == 0
    assert capsys.readouterr().out == "cluster is removed. Its targets, and the runs on them, stay.\n"


def test_what_is_wrong_is_said_before_and_by_the_studio(ws, pool, nodes, jobs):
    with pytest.raises(UserError, match="max_nodes: it is 2, less than min_nodes, 3"):
        AmlCompute.provisioning_configuration(min_nodes=3, max_nodes=2)
    with pytest.raises(UserError, match="members: a list"):
        AmlCompute.provisioning_configuration(members="node-a")
    with pytest.raises(UserError, match="provisioning_configuration"):
        ComputeTarget.create(ws, "pool", object())
    with pytest.raises(ComputeTargetException, match=r"'node-x' is not an attached target. Did you mean node-"):
        ComputeTarget.create(ws, "other", AmlCompute.provisioning_configuration(members=["node-x"]))
    with pytest.raises(ComputeTargetException, match="the name of an attached target"):
        ComputeTarget.create(ws, "node-a", AmlCompute.provisioning_configuration(members=["node-b"]))
    with pytest.raises(ComputeTargetException, match="It is 4, and the pool has 3 targets"):
        pool.update(min_nodes=4)
    with pytest.raises(ComputeTargetException, match="is a pool, and this is done to a target"):
        pool.test()
    runs = jobs.submit(4, pool)
    with pytest.raises(ComputeTargetException, match=r"waits? in cluster"):
        pool.delete()
    pool.delete(cancel_runs=True)
    assert runs[3].get_status() == "Canceled"
    jobs.stop.touch()


def test_it_is_changed_from_python(ws, pool, nodes):
    pool.update(min_nodes=2, members=["node-c", nodes["node-a"]], description="Two of them")
    again = ComputeTarget(ws, "cluster")
    assert (again.members, again.scale_settings.minimum_node_count) == (["node-c", "node-a"], 2)
    assert again.description == "Two of them" and again.slots == 2 and again.kind == "Pool"
    nodes["node-a"].drain()
    again.refresh_state()
    assert (str(again.status), again.status.allocation_state) == ("Too few targets: 1 of at least 2", "Resizing")
    assert again.serialize()["url"].endswith("/compute/pools/cluster")
