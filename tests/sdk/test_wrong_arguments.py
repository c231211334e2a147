"""Arguments of a wrong kind are refused by their names, whoever takes them, and nothing that was given is dropped without a word."""

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from runstead import (
    AmlCompute,
    ComputeTarget,
    CondaDependencies,
    Environment,
    Estimator,
    Experiment,
    LocalCompute,
    Model,
    MpiConfiguration,
    Run,
    RunConfiguration,
    RunDetails,
    ScriptRunConfig,
    SparkConfiguration,
    UserError,
    Workspace,
)
from runstead.checking import check
from runstead.keyvault import Keyvault

from tests.sdk.conftest import Home

NOBODY = Workspace("http://127.0.0.1:9", "w", "t")
"""Nothing listens there: what is refused before anything is sent says so at once."""
PAIRS = "a dict of names and texts is needed, got "
WORKSPACE = r"workspace: a Workspace is needed, for example Workspace.from_config\(\), got "


def spark(configuration: Any) -> dict[str, Any]:
    config = ScriptRunConfig(".", "a.py")
    config.run_config.framework = "PySpark"
    config.run_config.spark.configuration = configuration
    return config.request()


def nodes(part: str, count: Any) -> dict[str, Any]:
    config = ScriptRunConfig(".", "a.py", distributed_job_config=MpiConfiguration())
    (config.run_config.mpi if part else config.run_config).node_count = count
    return config.request()


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: Experiment(NOBODY, "x").submit(ScriptRunConfig(".", "a.py"), tags=["a"]), f"tags: {PAIRS}list"),
        (lambda: Experiment(NOBODY, "x").submit(ScriptRunConfig(".", "a.py"), tags="abc"), f"tags: {PAIRS}str"),
        (lambda: Experiment(NOBODY, "x").start_logging(tags=["a"]), f"tags: {PAIRS}list"),
        (lambda: Experiment(NOBODY, "x").start_logging(snapshot_directory=5), "snapshot_directory: a path is needed, got int"),
        (lambda: Experiment(NOBODY, "x").set_tags(["a"]), f"tags: {PAIRS}list"),
        (lambda: setattr(RunConfiguration(), "environment_variables", ["A=1"]), f"run_config.environment_variables: {PAIRS}list"),
        (lambda: setattr(RunConfiguration(), "environment_variables", "A=1"), f"run_config.environment_variables: {PAIRS}str"),
        (lambda: setattr(RunConfiguration(), "secrets", ["a"]), f"run_config.secrets: {PAIRS}list"),
        (lambda: setattr(RunConfiguration(), "mpi", 2), "run_config.mpi: a MpiConfiguration is needed, got 2"),
        (lambda: setattr(RunConfiguration(), "spark", {}), "run_config.spark: a SparkConfiguration is needed"),
        (lambda: spark(["x"]), f"spark.configuration: {PAIRS}list"),
        (lambda: SparkConfiguration(["x"]), f"configuration: {PAIRS}list"),
        (lambda: nodes("", "two"), "node_count: a whole number from 1 on is needed, got 'two'"),
        (lambda: nodes("mpi", 1.5), "mpi.node_count: a whole number from 1 on is needed, got 1.5"),
        (lambda: ScriptRunConfig(".", "a.py", {"--lr": 0.1}), r"arguments: a list is needed, for example \['--lr', 0.1\], got dict"),
        (lambda: ScriptRunConfig(".", "a.py", 5), "arguments: a list is needed"),
        (lambda: ScriptRunConfig(".", "a.py", distributed_job_config="mpi"), "distributed_job_config: a MpiConfiguration, "),
        (lambda: Estimator(".", script_params=["--a"]), "script_params: a dict of arguments and values is needed, got list"),
        (lambda: Estimator(".", node_count="two"), "node_count: a whole number from 1 on is needed, got 'two'"),
        (lambda: Estimator(".", process_count_per_node=None), "process_count_per_node: a whole number"),
        (lambda: Estimator(".", environment_variables=["A=1"]), f"environment_variables: {PAIRS}list"),
        (lambda: Estimator(None), "source_directory: a path is needed, got NoneType"),
        (lambda: Model.register(NOBODY, __file__, "m", tags=["a"]), f"tags: {PAIRS}list"),
        (lambda: Model.register(NOBODY, __file__, "m", properties="a"), f"properties: {PAIRS}str"),
        (lambda: Model.register(NOBODY, None, "m"), "model_path: a path is needed, got NoneType"),
        (lambda: Model._of(NOBODY, {"tags": {}}).add_tags(["a"]), f"tags: {PAIRS}list"),
        (lambda: Model._of(NOBODY, {"tags": {}}).update(tags="x"), f"tags: {PAIRS}str"),
        (lambda: Model._of(NOBODY, {}).add_properties(["x"]), f"properties: {PAIRS}list"),
        (lambda: Keyvault(NOBODY).set_secrets(["a"]), f"secrets_batch: {PAIRS}list"),
        (lambda: Environment.from_pip_requirements("mine", None), "file_path: a path is needed, got NoneType"),
        (lambda: Environment.from_conda_specification("mine", None), "file_path: a path is needed, got NoneType"),
        (lambda: Workspace.from_config(5), "path: a path is needed, got int"),
        (lambda: ComputeTarget.attach(NOBODY, "vm", "cfg"), "attach_configuration: make it with the attach_configuration of a kind"),
        (lambda: RunDetails("x").show(), "run_instance: a run is needed, .*, got 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_kind_is_refused_by_the_name_of_the_argument(call: Any, told: str) -> None:
    with pytest.raises(UserError, match=f"^{told}"):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda: Experiment("ws", "x"),
        lambda: Experiment.list("ws"),
        lambda: ComputeTarget("ws", "local"),
        lambda: ComputeTarget.list("ws"),
        lambda: ComputeTarget.attach("ws", "vm", LocalCompute.attach_configuration()),
        lambda: ComputeTarget.create("ws", "p", AmlCompute.provisioning_configuration()),
        lambda: Model("ws", "sk"),
        lambda: Model.list("ws"),
        lambda: Model.register("ws", __file__, "m"),
        lambda: Environment.get("ws", "um"),
        lambda: Environment.list("ws"),
        lambda: Environment("mine").register("ws"),
        lambda: Environment("mine", 1).build("ws"),
        lambda: Environment("mine", 1).get_builds("ws"),
        lambda: Keyvault("ws"),
        lambda: Run.get("ws", "y"),
        lambda: check("ws", ScriptRunConfig(".", "a.py")),
    ],
)
def test_a_workspace_is_none_by_its_name(call: Any) -> None:
    with pytest.raises(UserError, match=f"^{WORKSPACE}'ws'"):
        call()


@pytest.mark.parametrize("call", [lambda: Run("x", "y"), lambda: list(Run.list("x"))])
def test_an_experiment_is_none_by_its_name(call: Any) -> None:
    with pytest.raises(UserError, match=r"^experiment: an Experiment is needed, for example .*, got 'x'"):
        call()


def test_what_is_no_file_is_refused_inside_and_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from runstead.submitted import SubmittedRun

    monkeypatch.delenv("RUNSTEAD_RUN_DIR", raising=False)
    for run in (Run.get_context(), SubmittedRun(NOBODY, {"number": 1})):
        with pytest.raises(UserError, match=r"^path_or_stream: a path or an open file is needed, got NoneType"):
            run.upload_file("x", None)
        with pytest.raises(UserError, match=r"^path: a path is needed, got NoneType"):
            run.upload_folder("x", None)
        with pytest.raises(UserError, match=f"^properties: {PAIRS}str"):
            run.register_model("m", properties="a")


# Nothing is dropped without a word.


def test_unknown_keywords_are_told_with_what_may_be_meant(home: Home, ws: Workspace) -> None:
    config = ScriptRunConfig(home.project("told", train="print(1)"), "train.py", environment="python")
    experiment = Experiment(ws, "told")
    with pytest.warns(UserWarning) as caught:
        run = experiment.submit(config, tag={"stage": "prod"}, _internal=1, show_output=False)
    assert [str(one.message) for one in caught] == [
        "tag: submit has no such argument. Did you mean tags? It is left out."
    ]
    assert caught[0].filename == __file__
    run.cancel()
    with pytest.warns(UserWarning, match="nme: start_logging has no such argument"):
        parent = experiment.start_logging(snapshot_directory=None, nme="x")
    with (
        parent,
        pytest.warns(UserWarning, match="display_nam: submit_child has no such argument. Did you mean display_name"),
    ):
        parent.submit_child(config, display_nam="x").cancel()


def test_the_id_of_a_child_is_not_chosen_and_that_is_said(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = "run_id: the child has an id of its own, not 'mychild'"
    with Experiment(ws, "told").start_logging(snapshot_directory=None) as parent:
        with pytest.warns(UserWarning, match=told) as caught:
            named, bare = parent.child_run("k", run_id="mychild"), parent.child_run(run_id="mychild")
        assert {one.filename for one in caught} == {__file__}
        assert (named.name, bare.name) == ("k", "mychild")
        named.complete()
        bare.complete()
    monkeypatch.delenv("RUNSTEAD_RUN_DIR", raising=False)
    with pytest.warns(UserWarning, match=told):
        assert Run.get_context().child_run(run_id="mychild").name == "mychild"


@pytest.mark.parametrize(("given", "told"), [
    ({"script": "a.py"}, "script: give either script with arguments, or command"),
    ({"arguments": ["--lr", "0.1"]}, "arguments: give either script with arguments, or command, which has its words in itself"),
])  # fmt: skip
def test_beside_a_command_there_is_no_script_and_there_are_no_arguments(given: dict[str, Any], told: str) -> None:
    config = ScriptRunConfig("s", command=["python", "t.py"], **given)
    with pytest.raises(UserError, match=f"^{told}"):
        config.request()


def communicating(communicator: Any, framework: str = "Python") -> dict[str, Any]:
    config = ScriptRunConfig(".", "a.py")
    config.run_config.framework, config.run_config.communicator = framework, communicator
    config.run_config.mpi.process_count_per_node = 2
    return config.request()


def test_a_communicator_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UserError, match=r"^communicator: 'OpenMpii' is not known. Did you mean OpenMpi\?"):
        communicating("OpenMpii")
    with pytest.raises(UserError, match=r"^communicator: 'x' is not known. Use None, Mpi, "):
        communicating("x")
    for known in ("OpenMpi", "openmpi", "IntelMpi", "Mpi"):
        assert communicating(known)["distribution"] == {"process_count": 2}
    assert communicating(None)["framework"] == communicating("None")["framework"] == "python"
    with pytest.warns(UserWarning, match=r"communicator: Gloo means nothing with framework Python\. .* = 'PyTorch'"):
        communicating("Gloo")


def test_any_mapping_is_taken_and_none_is_an_empty_one() -> None:
    config = ScriptRunConfig(".", "a.py")
    config.run_config.environment_variables = MappingProxyType({"A": 1})
    config.run_config.secrets = None
    body = config.request()
    assert (body["variables"], body["secrets"]) == ({"A": "1"}, {})


def test_an_empty_dict_that_is_filled_later_counts() -> None:
    config, variables = ScriptRunConfig(".", "a.py"), {}
    config.run_config.environment_variables = variables
    variables["A"] = "1"
    assert config.request()["variables"] == {"A": "1"}


# What is said names the argument, and the fix.


@pytest.mark.parametrize(("version", "write"), [(3.8, "3.8"), (3.1, "3.10"), (3, "3.11")])
def test_a_version_as_a_number_is_told_how_to_be_written(version: Any, write: str) -> None:
    with pytest.raises(
        UserError, match=f"^python_version: a text is needed, got the number {version}: write '{write}'"
    ):
        CondaDependencies.create(python_version=version)
    with pytest.raises(UserError, match=f"^version: a text is needed, got the number {version}: write '{write}'"):
        CondaDependencies().set_python_version(version)


def test_examples_are_of_what_is_asked_for() -> None:
    with pytest.raises(UserError, match=r"^python_version: '2\.7' is no Python version"):
        CondaDependencies.create(python_version="2.7")
    with pytest.raises(UserError, match=r"^channel: a text is needed, for example 'conda-forge', got 5"):
        CondaDependencies().add_channel(5)
    with pytest.raises(UserError, match=r"^pip_package: a text is needed, for example 'numpy', got 5"):
        CondaDependencies().add_pip_package(5)


def test_a_configuration_that_is_not_there_is_said_not_to_be(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"subscription_id": "0", "workspace_name": "theirs"}')
    for path, told in (
        (tmp_path / "nope.json", "path: there is no file or folder '.*nope.json'. The working directory is "),
        (tmp_path, "path: neither .* nor a folder above it has a runstead.json or config.json with a 'url'"),
        (
            tmp_path / "config.json",
            "path: .*config.json is no JSON object with the 'url' of a studio. .*runstead login",
        ),
    ):
        with pytest.raises(UserError, match=f"^{told}"):
            Workspace.from_config(path)


def test_a_status_that_nobody_knows_is_refused_at_once_by_its_own_name(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = "^status: 'Bogus' is not known. Use NotStarted, .*, Canceled"
    experiment = Experiment(ws, "statuses")
    with experiment.start_logging(snapshot_directory=None) as parent:
        parent.child_run("one").complete()
        for ask in (parent.get_children, experiment.get_runs):
            with pytest.raises(UserError, match=told):
                ask(status="Bogus")
        assert [one.name for one in parent.get_children(status="completed")] == ["one"]
        assert [one.name for one in parent.get_children(status=["Failed", "Completed"])] == ["one"]
    monkeypatch.delenv("RUNSTEAD_RUN_DIR", raising=False)
    inside = Run.get_context()
    left = inside.child_run("status")
    left.fail("why")
    with pytest.raises(UserError, match=told):
        inside.get_children(status="Bogus")
    assert left.id in [one.id for one in inside.get_children(status="failed")]


def test_the_client_knows_every_status_of_the_studio() -> None:
    from runstead.status import STATUSES

    from runs.status import RunStatus

    assert set(STATUSES) == set(RunStatus.values)


@pytest.mark.parametrize("message", ["it broke.", "it broke"])
def test_a_failure_ends_in_one_dot(message: str) -> None:
    from runstead.submitted import SubmittedRun

    row = {"id": "a_1", "url": "http://127.0.0.1:9/x", "error": {"type": "ValueError", "message": message}}
    told = SubmittedRun(NOBODY, row).failure()
    assert told == "Run a_1 failed: ValueError: it broke. http://127.0.0.1:9/x"
