"""Signatures, defaults, attributes and warnings per class, against a table of the reference."""

import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import runstead
from hypothesis import given
from hypothesis import strategies as st
from runstead import (
    CondaDependencies,
    DockerConfiguration,
    Environment,
    Estimator,
    Experiment,
    HistoryConfiguration,
    MpiConfiguration,
    NotYet,
    PyTorch,
    PyTorchConfiguration,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    SKLearn,
    TensorFlow,
    TensorflowConfiguration,
    UserError,
    Workspace,
    yaml_text,
)
from runstead.run_sections import HdiConfiguration

REQUIRED = inspect.Parameter.empty
# Class.method → names in their order with their defaults; ours may have more behind them.
SIGNATURES: dict[str, dict[str, Any]] = {
    "Workspace.from_config": {"path": None},
    "Workspace.get": {"name": REQUIRED},
    "Workspace.write_config": {"path": None, "file_name": None},
    "Workspace.get_run": {"run_id": REQUIRED},
    "Experiment.__init__": {"workspace": REQUIRED, "name": REQUIRED},
    "Experiment.submit": {"config": REQUIRED, "tags": None},
    "Experiment.start_logging": {"outputs": None, "snapshot_directory": ".", "display_name": None},
    "Experiment.get_runs": {"type": None, "tags": None, "properties": None, "include_children": False},
    "Experiment.tag": {"key": REQUIRED, "value": None},
    "Experiment.set_tags": {"tags": REQUIRED},
    "Experiment.remove_tags": {"tags": REQUIRED},
    "Experiment.archive": {},
    "Experiment.reactivate": {},
    "Experiment.refresh": {},
    "Experiment.list": {"workspace": REQUIRED},
    "Experiment.delete": {"workspace": REQUIRED, "experiment_id": REQUIRED},
    "ScriptRunConfig.__init__": {
        "source_directory": REQUIRED, "script": None, "arguments": None, "run_config": None, "_telemetry_values": None,
        "compute_target": None, "environment": None, "distributed_job_config": None, "resume_from": None,
        "max_run_duration_seconds": 2592000, "command": None, "docker_runtime_config": None,
    },
    "RunConfiguration.__init__": {
        "script": None, "arguments": None, "framework": None, "communicator": None, "conda_dependencies": None, "command": None
    },
    "RunConfiguration.save": {"path": None, "name": None},
    "RunConfiguration.load": {"path": REQUIRED, "name": None},
    "DockerConfiguration.__init__": {"use_docker": False, "shared_volumes": True, "arguments": None, "shm_size": "2g"},
    "MpiConfiguration.__init__": {"process_count_per_node": 1, "node_count": 1},
    "PyTorchConfiguration.__init__": {"communication_backend": "Nccl", "process_count": None, "node_count": 1},
    "TensorflowConfiguration.__init__": {"worker_count": 1, "parameter_server_count": 1},
    "Environment.__init__": {"name": REQUIRED},
    "Environment.get": {"workspace": REQUIRED, "name": REQUIRED, "version": None, "label": None},
    "Environment.list": {"workspace": REQUIRED},
    "Environment.from_conda_specification": {"name": REQUIRED, "file_path": REQUIRED},
    "Environment.from_pip_requirements": {"name": REQUIRED, "file_path": REQUIRED, "pip_version": None},
    "Environment.from_existing_conda_environment": {"name": REQUIRED, "conda_environment_name": REQUIRED},
    "Environment.from_docker_image": {
        "name": REQUIRED, "image": REQUIRED, "container_registry": None, "conda_specification": None, "pip_requirements": None
    },
    "Environment.from_dockerfile": {"name": REQUIRED, "dockerfile": REQUIRED},
    "Environment.load_from_directory": {"path": REQUIRED},
    "Environment.register": {"workspace": REQUIRED},
    "Environment.clone": {"new_name": REQUIRED},
    "Environment.build": {"workspace": REQUIRED},
    "Environment.save_to_directory": {"path": REQUIRED},
    "Run.__init__": {"experiment": REQUIRED, "run_id": REQUIRED},
    "Run.get_context": {"allow_offline": True},
    "Run.log": {"name": REQUIRED, "value": REQUIRED, "description": "", "step": None},
    "Run.log_list": {"name": REQUIRED, "value": REQUIRED},
    "Run.log_row": {"name": REQUIRED, "description": None},
    "Run.log_table": {"name": REQUIRED, "value": REQUIRED},
    "Run.log_image": {"name": REQUIRED, "path": None, "plot": None},
    "Run.log_confusion_matrix": {"name": REQUIRED, "value": REQUIRED},
    "Run.log_accuracy_table": {"name": REQUIRED, "value": REQUIRED},
    "Run.log_residuals": {"name": REQUIRED, "value": REQUIRED},
    "Run.log_predictions": {"name": REQUIRED, "value": REQUIRED},
    "Run.get_metrics": {"name": None, "recursive": False},
    "Run.tag": {"key": REQUIRED, "value": None},
    "Run.set_tags": {"tags": REQUIRED},
    "Run.get_tags": {},
    "Run.remove_tags": {"tags": REQUIRED},
    "Run.add_properties": {"properties": REQUIRED},
    "Run.get_properties": {},
    "Run.child_run": {"name": None},
    "Run.create_children": {"count": None, "tag_key": None, "tag_values": None},
    "Run.get_children": {"recursive": False, "tags": None, "properties": None, "type": None, "status": None},
    "Run.submit_child": {"config": REQUIRED},
    "Run.upload_file": {"name": REQUIRED, "path_or_stream": REQUIRED},
    "Run.upload_files": {"names": REQUIRED, "paths": REQUIRED},
    "Run.upload_folder": {"name": REQUIRED, "path": REQUIRED},
    "Run.get_file_names": {},
    "Run.download_file": {"name": REQUIRED, "output_file_path": None},
    "Run.download_files": {"prefix": None, "output_directory": None},
    "Run.get_details": {},
    "Run.get_details_with_logs": {},
    "Run.get_all_logs": {"destination": None},
    "Run.get_status": {},
    "Run.get_environment": {},
    "Run.get_snapshot_id": {},
    "Run.wait_for_completion": {"show_output": False, "wait_post_processing": False, "raise_on_error": True},
    "Run.get_portal_url": {},
    "Run.cancel": {},
    "Run.complete": {},
    "Run.fail": {"error_details": None},
    "Run.start": {},
    "Run.flush": {},
    "Run.register_model": {"model_name": REQUIRED, "model_path": None, "tags": None, "properties": None},
    "ComputeTarget.attach": {"workspace": REQUIRED, "name": REQUIRED, "attach_configuration": REQUIRED},
    "ComputeTarget.create": {"workspace": REQUIRED, "name": REQUIRED, "provisioning_configuration": REQUIRED},
    "ComputeTarget.list": {"workspace": REQUIRED},
    "ComputeTarget.wait_for_completion": {"show_output": False},
    "ComputeTarget.get_status": {},
    "ComputeTarget.detach": {},
    "ComputeTarget.delete": {},
    "AmlCompute.provisioning_configuration": {
        "vm_size": "", "vm_priority": "dedicated", "min_nodes": 0, "max_nodes": None, "idle_seconds_before_scaledown": 1800
    },
    "AmlCompute.wait_for_completion": {
        "show_output": False, "min_node_count": None, "timeout_in_minutes": 25, "is_delete_operation": False
    },
    "AmlCompute.update": {"min_nodes": None, "max_nodes": None, "idle_seconds_before_scaledown": None},
    "AmlCompute.get_status": {},
    "AmlCompute.list_nodes": {},
    "AmlCompute.refresh_state": {},
    "AmlCompute.delete": {},
    "Model.__init__": {"workspace": REQUIRED, "name": None, "id": None, "tags": None, "properties": None, "version": None},
    "Model.register": {"workspace": REQUIRED, "model_path": REQUIRED, "model_name": REQUIRED, "tags": None, "properties": None, "description": None},
    "Model.list": {"workspace": REQUIRED, "name": None, "tags": None},
    "Model.download": {"target_dir": ".", "exist_ok": False},
}  # fmt: skip
# With these keywords, whatever their order.
KEYWORDS: dict[str, dict[str, Any]] = {
    "Run.download_files": {"append_prefix": True},
    "Run.restore_snapshot": {"path": None},
    "Run.register_model": {"description": None},
    "Experiment.submit": {"kwargs": REQUIRED},
    "Workspace.create": {"exist_ok": False},
    "CondaDependencies.create": {"pip_packages": None, "conda_packages": None, "python_version": None},
    "RemoteCompute.attach_configuration": {
        "address": None, "ssh_port": 22, "password": "", "private_key_file": "", "private_key_passphrase": "",
    },
    "HDInsightCompute.attach_configuration": {"address": None, "ssh_port": 22, "password": "", "private_key_file": ""},
    "Estimator.__init__": {
        "compute_target": None, "entry_script": None, "script_params": None, "node_count": 1, "process_count_per_node": 1,
        "use_gpu": False, "use_docker": True, "custom_docker_image": None, "user_managed": False, "conda_packages": None,
        "pip_packages": None, "conda_dependencies_file": None, "pip_requirements_file": None, "environment_variables": None,
        "environment_definition": None, "max_run_duration_seconds": None,
    },
}  # fmt: skip
MEMBERS = {
    "Workspace": "url resource_group location subscription_id compute_targets experiments environments models get_details "
    "get_mlflow_tracking_uri list",
    "Run": "parent tags properties get list",
    "ScriptRun": "id number type status experiment name display_name description",
    "SubmittedRun": "id number type status parent tags properties experiment name display_name description",
    "ComputeTarget": "name type provisioning_state",
    "AmlCompute": "name type provisioning_state provisioning_errors status scale_settings vm_size vm_priority serialize",
    "CondaDependencies": "add_conda_package remove_conda_package add_pip_package remove_pip_package add_channel remove_channel "
    "set_python_version serialize_to_string conda_packages pip_packages",
    "Model": "name id version tags properties description delete run_id",
}


def found(path: str) -> Any:
    name, _, method = path.partition(".")
    from runstead import run, submitted

    owner = getattr(runstead, name, None) or getattr(run, name, None) or getattr(submitted, name)
    return getattr(owner, method) if method else owner


@pytest.mark.parametrize("path", SIGNATURES)
def test_names_order_and_defaults_are_those_of_the_reference(path: str) -> None:
    parameters = {name: p for name, p in inspect.signature(found(path)).parameters.items() if name != "self"}
    wanted = SIGNATURES[path]
    assert list(parameters)[: len(wanted)] == list(wanted)
    assert {name: parameters[name].default for name in wanted} == wanted
    for name in list(parameters)[len(wanted) :]:
        parameter = parameters[name]
        assert parameter.default is not REQUIRED or parameter.kind in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ), name


@pytest.mark.parametrize("path", KEYWORDS)
def test_keywords_are_taken(path: str) -> None:
    parameters = inspect.signature(found(path)).parameters
    for name, default in KEYWORDS[path].items():
        assert parameters[name].default == default, name


@pytest.mark.parametrize("name", MEMBERS)
def test_members_are_there(name: str) -> None:
    owner = found(name)
    assert [member for member in MEMBERS[name].split() if not hasattr(owner, member)] == []


def test_every_public_method_says_what_it_does() -> None:
    silent = []
    for name in runstead.__all__:
        owner = getattr(runstead, name)
        if inspect.isclass(owner):
            methods = inspect.getmembers(owner, inspect.isroutine)
            silent += [
                f"{name}.{n}"
                for n, m in methods
                if n[0] != "_"
                and (getattr(m, "__module__", None) or "").startswith("runstead")
                and not inspect.getdoc(m)
            ]
    assert silent == []


def test_a_run_configuration_begins_with_the_defaults_of_the_reference() -> None:
    config = RunConfiguration()
    assert (config.target, config.framework, config.communicator, config.node_count) == ("local", "Python", "None", 1)
    assert (config.environment_variables, config.data, config.output_data, config.arguments) == ({}, {}, {}, [])
    assert (config.history.output_collection, config.history.snapshot_project, config.history.directories_to_watch) == (
        True,
        True,
        ["logs"],
    )
    assert (
        config.docker.use_docker,
        config.docker.shared_volumes,
        config.docker.arguments,
        config.docker.shm_size,
    ) == (False, True, [], "2g")
    assert config.hdi.yarn_deploy_mode == "cluster"
    assert (config.mpi.process_count_per_node, config.tensorflow.worker_count) == (1, 1)
    assert (config.pytorch.communication_backend, config.pytorch.process_count) == ("Nccl", None)
    assert "spark.app.name" in config.spark.configuration
    assert config.spark.configuration["spark.yarn.maxAppAttempts"] == 1
    environment = config.environment
    assert (environment.version, environment.python.interpreter_path, environment.python.user_managed_dependencies) == (
        None,
        "python",
        False,
    )
    docker = environment.docker
    assert (docker.enabled, docker.base_image, docker.shm_size, docker.arguments, docker.shared_volumes) == (
        False,
        None,
        "2g",
        [],
        True,
    )
    assert isinstance(environment.python.conda_dependencies, CondaDependencies)


@pytest.mark.parametrize("given", [
    {"compute_target": "x"}, {"environment": Environment("x")}, {"distributed_job_config": MpiConfiguration()},
    {"max_run_duration_seconds": 5}, {"docker_runtime_config": DockerConfiguration()},
])  # fmt: skip
def test_beside_a_run_configuration_arguments_are_ignored_with_a_warning(given: dict[str, Any]) -> None:
    own = RunConfiguration()
    with pytest.warns(UserWarning, match=f"{next(iter(given))} is ignored because run_config is given"):
        config = ScriptRunConfig(".", "train.py", run_config=own, **given)
    assert config.run_config is own and own.target == "local" and own.max_run_duration_seconds is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ScriptRunConfig(".", "b.py", ["x"], run_config=own)


def test_script_arguments_and_command_given_here_win() -> None:
    own = RunConfiguration(script="a.py", arguments=["1"])
    assert ScriptRunConfig(".", run_config=own).request()["script"] == "a.py"
    config = ScriptRunConfig(".", "b.py", ["2"], run_config=own)
    assert (config.script, config.arguments) == ("b.py", ["2"])
    assert ScriptRunConfig(".", "a.py").request()["max_run_duration_seconds"] == 30 * 24 * 3600
    assert ScriptRunConfig(".", command="echo 'a b' c").request()["command"] == "echo 'a b' c"
    assert ScriptRunConfig(".", command=["echo", "a b"]).request()["command"] == ["echo", "a b"]
    assert ScriptRunConfig(".", command=["python", "--lr", 0.1]).request()["command"] == ["python", "--lr", "0.1"]


@pytest.mark.parametrize(
    "make", [lambda: ScriptRunConfig(".", "a.py", "--lr 0.1"), lambda: RunConfiguration("a.py", "--lr 0.1")]
)
def test_arguments_in_one_text_are_refused(make: Any) -> None:
    with pytest.raises(UserError, match=r"arguments: a list is needed, .*\['--lr', '0.1'\]"):
        make()


def test_the_mode_of_spark_is_told_only_when_it_was_said() -> None:
    config = ScriptRunConfig(".", "a.py")
    config.run_config.framework = "PySpark"
    assert "spark" not in config.request() or "deploy_mode" not in config.request()["spark"]
    config.run_config.hdi.yarn_deploy_mode = "client"
    assert config.request()["spark"]["deploy_mode"] == "client"
    config.run_config.spark.configuration["spark.executor.memory"] = "2g"
    assert config.request()["spark"]["conf"] == {"spark.executor.memory": "2g"}
    assert HdiConfiguration().deploy_mode == ""


@pytest.mark.parametrize(("change", "told"), [
    (lambda c: setattr(c, "enviroment", 1), r"run_config\.enviroment: there is no such attribute\. Did you mean environment\?"),
    (lambda c: setattr(c.history, "output_colection", 1), r"history\.output_colection.*Did you mean output_collection"),
    (lambda c: setattr(c.docker, "use_dockr", True), r"Did you mean use_docker"),
])  # fmt: skip
def test_a_misspelt_attribute_is_refused(change: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        change(RunConfiguration())


def test_what_means_nothing_here_warns_only_when_it_asks_for_something() -> None:
    config = RunConfiguration()
    with pytest.warns(UserWarning, match="logs/ is followed"):
        config.history.directories_to_watch = ["logs", "tb"]
    with pytest.warns(UserWarning, match="outputs/ is always collected"):
        HistoryConfiguration(output_collection=False)
    with pytest.warns(UserWarning, match="no machine is made"):
        config.amlcompute.vm_size = "STANDARD_D2_V2"
    config.data["x"] = object()
    with pytest.raises(NotYet, match="mounted"):
        ScriptRunConfig(".", "a.py", run_config=config).request()
    with pytest.raises(NotYet, match="resume_from"):
        ScriptRunConfig(".", "a.py", resume_from=object())


def test_a_configuration_is_saved_and_read_as_yaml(tmp_path: Path) -> None:
    config = RunConfiguration("train.py", ["--lr", 0.1, "a: b", "", "yes", "ümlaut\n"], "PyTorch")
    config.target = "gpu"
    config.environment_variables = {"SEED": "7"}
    config.environment.python.conda_dependencies = CondaDependencies.create(
        pip_packages=["numpy>=2"], python_version="3.11"
    )
    config.pytorch = PyTorchConfiguration("Gloo", 2)
    config.max_run_duration_seconds, config.node_count, config.gpus, config.priority = 60, 1, 2, 5
    config.spark.configuration["spark.executor.cores"] = 2
    config.secrets = {"KEY": "key"}
    config.hdi.yarn_deploy_mode = "client"
    config.save(tmp_path, "mine")
    assert (tmp_path / ".azureml/mine.runconfig").is_file()
    again = RunConfiguration.load(tmp_path, "mine")
    first, second = ScriptRunConfig(".", run_config=config), ScriptRunConfig(".", run_config=again)
    assert {**first.request(), "environment": 0, "variables": 0} == {
        **second.request(),
        "environment": 0,
        "variables": 0,
    }
    assert (
        again.environment.python.conda_dependencies.as_dict() == config.environment.python.conda_dependencies.as_dict()
    )
    assert {**again.environment.environment_variables, **again.environment_variables} == {"SEED": "7"}
    config.save(tmp_path, "apart", separate_environment_yaml=True)
    assert list(
        RunConfiguration.load(tmp_path / ".azureml/apart.runconfig").environment.python.conda_dependencies.pip_packages
    ) == ["numpy>=2"]
    named = RunConfiguration()
    named.environment = "AzureML-Minimal"
    named.save(tmp_path / "file.runconfig")
    assert RunConfiguration.load(tmp_path / "file.runconfig").environment == "AzureML-Minimal"
    RunConfiguration.delete(tmp_path, "mine")
    with pytest.raises(UserError, match="no configuration 'mine'"):
        RunConfiguration.load(tmp_path, "mine")


THEIRS = """
script: train.py
arguments: [--lr, 0.1]
target: cpu-cluster
framework: Python
communicator: None
maxRunDurationSeconds: 600
nodeCount: 1
environment:
  name: theirs
  version: null
  environmentVariables: {EXAMPLE_ENV_VAR: EXAMPLE_VALUE}
  python:
    userManagedDependencies: false
    interpreterPath: python
    condaDependenciesFile: conda.yml
  docker: {enabled: true, baseImage: "registry.example.org/base:1", sharedVolumes: true, shmSize: 1g, arguments: []}
  spark: {repositories: [], packages: [], precachePackages: true}
history:
  outputCollection: true
  snapshotProject: true
  directoriesToWatch: [logs]
spark: {configuration: {spark.app.name: Azure ML Experiment, spark.yarn.maxAppAttempts: 1}}
hdi: {yarnDeployMode: cluster}
tensorflow: {workerCount: 1, parameterServerCount: 1}
mpi: {processCountPerNode: 1}
data: {}
"""


def test_a_file_of_the_other_system_is_read(tmp_path: Path) -> None:
    (tmp_path / "aml_config").mkdir()
    (tmp_path / "aml_config/theirs.runconfig").write_text(THEIRS)
    (tmp_path / "aml_config/conda.yml").write_text("dependencies: [python=3.10, pip: [numpy]]\n")
    config = RunConfiguration.load(tmp_path, "theirs")
    body = ScriptRunConfig(".", run_config=config).request()
    assert (body["target"], body["script"], body["arguments"], body["max_run_duration_seconds"]) == (
        "cpu-cluster",
        "train.py",
        ["--lr", "0.1"],
        600,
    )
    environment = config.environment
    assert environment.docker.base_image == "registry.example.org/base:1" and environment.docker.shm_size == "1g"
    assert list(environment.python.conda_dependencies.pip_packages) == ["numpy"]
    # The file that its tools make names the packages from the project's root.
    from_root = THEIRS.replace("conda.yml", "aml_config/conda.yml")
    (tmp_path / "aml_config/theirs.runconfig").write_text(from_root)
    environment = RunConfiguration.load(tmp_path, "theirs").environment
    assert list(environment.python.conda_dependencies.pip_packages) == ["numpy"]
    (tmp_path / "wrong.runconfig").write_text("scrpt: a.py\n")
    with pytest.raises(UserError, match="'scrpt' is not known"):
        RunConfiguration.load(tmp_path / "wrong.runconfig")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), values, max_size=5))
def test_yaml_written_here_is_read_as_it_was_by_everybody(data: dict[str, Any]) -> None:
    import yaml

    assert yaml.safe_load(yaml_text.write(data)) == data or data == {}


def test_an_estimator_is_a_script_run_configuration(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("pandas\n")
    made = Estimator(
        tmp_path, compute_target="gpu", entry_script="train.py", script_params={"--lr": 0.1, "--fast": "", "--name": "a b"},
        pip_packages=["numpy"], conda_packages=["scipy"], pip_requirements_file="requirements.txt", use_gpu=True,
        environment_variables={"A": "1"}, max_run_duration_seconds=60,
    )  # fmt: skip
    body = made.script_run_config().request()
    assert (body["script"], body["arguments"]) == ("train.py", ["--lr", "0.1", "--fast", "--name", "a b"])
    assert (body["target"], body["gpus"], body["variables"], body["max_run_duration_seconds"]) == (
        "gpu",
        1,
        {"A": "1"},
        60,
    )
    assert list(made.conda_dependencies.pip_packages) == ["pandas", "numpy"]
    assert list(made.conda_dependencies.conda_packages) == ["scipy"]
    assert Estimator(tmp_path, entry_script="a.py", process_count_per_node=4).script_run_config().request()[
        "distribution"
    ] == {"process_count": 4}
    image = Estimator(tmp_path, entry_script="a.py", custom_docker_image="registry.example.org/i:1", user_managed=True)
    assert image.run_config.environment.docker.base_image == "registry.example.org/i:1"
    for kind, package in ((PyTorch, "torch"), (TensorFlow, "tensorflow"), (SKLearn, "scikit-learn")):
        assert list(kind(tmp_path, entry_script="a.py").conda_dependencies.pip_packages) == [package]
        assert list(kind(tmp_path, entry_script="a.py", framework_version="2.1").conda_dependencies.pip_packages) == [
            package + "==2.1.*"
        ]
        assert list(
            kind(tmp_path, entry_script="a.py", pip_packages=[package + "==1.0"]).conda_dependencies.pip_packages
        ) == [package + "==1.0"]
    own = Environment("own")
    assert Estimator(tmp_path, entry_script="a.py", environment_definition=own).run_config.environment is own
    with pytest.raises(UserError, match="environment_definition"):
        Estimator(tmp_path, entry_script="a.py", environment_definition=own, pip_packages=["x"])
    gloo = PyTorch(tmp_path, entry_script="a.py", distributed_training=PyTorchConfiguration("Gloo", 2))
    assert gloo.script_run_config().request()["distribution"] == {"process_count": 2, "backend": "Gloo"}


@pytest.mark.parametrize("name", ["", "-a", "a b", "a" * 256, "a.b", "é", None, 7])
def test_names_of_experiments_follow_the_rule(name: Any) -> None:
    with pytest.raises(UserError, match="name"):
        Experiment(Workspace("http://127.0.0.1:9", "w", "t"), name)
    assert Experiment(Workspace("http://127.0.0.1:9", "w", "t"), "a" * 255).name


def test_a_distribution_is_one_of_three(tmp_path: Path) -> None:
    job = TensorflowConfiguration(2, 1)
    assert ScriptRunConfig(".", "a.py", distributed_job_config=job).request()["distribution"] == {
        "worker_count": 2,
        "parameter_server_count": 1,
    }
    assert isinstance(Run, type)
