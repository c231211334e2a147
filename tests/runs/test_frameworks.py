"""Frameworks: the command line of each, what is refused, and the same run through form, snippets, REST and the Python client."""

import html
from typing import Any

import pytest
from django.test import Client
from runstead import (
    Experiment,
    MpiConfiguration,
    PyTorchConfiguration,
    RunConfiguration,
    TensorflowConfiguration,
    UserError,
)
from runstead import ScriptRunConfig as Config
from runstead import Workspace as Studio
from runstead import cli as shell

from environments.options import validate
from runs.command import argv, variables
from runs.config import ConfigError, ScriptRunConfig
from runs.frameworks import FRAMEWORKS, Place
from runs.models import Run
from runs.preparing import make_spec
from runs.snippets import RunRequest, YamlError, cli_argv, from_yaml, python, yaml_text
from runs.submission import command_text
from studio.accounts.models import Token, User
from studio.workspaces.models import Workspace
from tests.runs.factory import make_build, make_run, make_snapshot, make_target, make_version

SPARK = {
    "home": "/opt/spark",
    "master": "spark://m:7077",
    "conf": {"spark.a": "1", "spark.b": "1"},
    "packages": ["g:a:1"],
}
PLACE = Place(python="/env/bin/python", launch="/r/lib/d/runstead/launch.py", name="digits_1_ab", spark=SPARK)
LAUNCH = ["/env/bin/python", "-I", "/r/lib/d/runstead/launch.py"]
TORCHRUN = ["/env/bin/python", "-m", "torch.distributed.run", "--nnodes=1"]
MEETING = ["--rdzv_backend=c10d", "--rdzv_endpoint=localhost:0", "--rdzv_id=digits_1_ab", "--monitor_interval=0.5"]


def config(**fields: Any) -> ScriptRunConfig:
    return ScriptRunConfig(**{"script": "train.py", "arguments": ("--x", "$A"), **fields}).validated()


@pytest.mark.parametrize(
    ("asked", "line"),
    [
        ({}, ["/env/bin/python", "-u", "train.py", "--x", "1"]),
        ({"framework": "command", "script": "", "arguments": (), "command": ("$A", "$A")}, ["$A", "1"]),
        ({"framework": "pytorch"}, [*TORCHRUN, "--nproc_per_node=1", *MEETING, "train.py", "--x", "1"]),
        ({"framework": "pytorch", "gpus": 4}, [*TORCHRUN, "--nproc_per_node=4", *MEETING, "train.py", "--x", "1"]),
        (
            {"framework": "pytorch", "gpus": 4, "distribution": {"process_count": 2}},
            [*TORCHRUN, "--nproc_per_node=2", *MEETING, "train.py", "--x", "1"],
        ),
        ({"framework": "mpi", "distribution": {"process_count": 3}}, [*LAUNCH, "mpi", "3", "--", "train.py", "--x", "1"]),
        ({"framework": "tensorflow"}, [*LAUNCH, "processes", "1", "1", "--", "train.py", "--x", "1"]),
        (
            {"framework": "tensorflow", "distribution": {"worker_count": 4, "parameter_server_count": 0}},
            [*LAUNCH, "processes", "4", "0", "--", "train.py", "--x", "1"],
        ),
        (
            {"framework": "pyspark", "spark": {"conf": {"spark.b": "2"}, "packages": ["h:b:2"], "repositories": ["https://x.test/m"]}},
            [
                *LAUNCH, "spark", "/opt/spark", "--master", "spark://m:7077", "--deploy-mode", "client", "--name", "digits_1_ab",
                "--conf", "spark.a=1", "--conf", "spark.b=2", "--packages", "g:a:1,h:b:2", "--repositories", "https://x.test/m",
                "--", "train.py", "--x", "1",
            ],
        ),
    ],
)  # fmt: skip
def test_command_lines(asked: dict, line: list[str]) -> None:
    assert argv(config(**asked), PLACE, {"A": "1"}) == line


def test_spark_without_a_cluster_runs_on_the_target_itself() -> None:
    line = argv(config(framework="pyspark"), Place(python="python", launch="launch.py", name="n"), {})
    assert line[3:9] == ["spark", "", "--master", "local[*]", "--deploy-mode", "client"]


def test_a_driver_of_yarn_is_started_once() -> None:
    place = Place(python="python", launch="launch.py", name="n", spark={"master": "yarn", "deploy_mode": "cluster"})
    assert "spark.yarn.maxAppAttempts=1" in argv(config(framework="pyspark"), place, {})


@pytest.mark.parametrize(
    ("asked", "field", "says"),
    [
        ({"framework": "horovod"}, "framework", "Use one of: python, pyspark, pytorch, tensorflow, mpi, command."),
        ({"distribution": {"process_count": 2}}, "distribution.process_count", "starts one process. Remove it, or use pytorch"),
        ({"framework": "mpi", "distribution": {"process_count": 0}}, "distribution.process_count", "Use 1 to 1,024."),
        ({"framework": "mpi", "distribution": {"process_count": "2"}}, "distribution.process_count", "no number of processes"),
        ({"framework": "mpi", "distribution": {"process_count": True}}, "distribution.process_count", "no number"),
        ({"framework": "mpi", "distribution": {"backend": "gloo"}}, "distribution.backend", "reads process_count. Remove it."),
        ({"framework": "pytorch", "distribution": {"backend": "x"}}, "distribution.backend", "Use one of: nccl, gloo, mpi, ucc."),
        ({"framework": "tensorflow", "distribution": {"worker_count": -1}}, "distribution.worker_count", "Use 1 to 1,024."),
        ({"framework": "pytorch", "distribution": {"node_count": 2}}, "distribution.node_count", "one node here"),
        ({"framework": "python", "distribution": {"node_count": 2}}, "distribution.node_count", "Slurm and Ray"),
        ({"framework": "mpi", "distribution": {"ranks": 2}}, "distribution.ranks", "Use one of: process_count, worker_count"),
        ({"spark": {"conf": {"spark.a": "1"}}}, "spark", "has no use for Spark settings"),
        ({"framework": "pyspark", "spark": {"master": "local"}}, "spark.master", "Use one of: conf, packages"),
        ({"framework": "pyspark", "spark": {"conf": {"a": "1"}}}, "spark.conf", "names begin with 'spark.'"),
        ({"framework": "pyspark", "spark": {"conf": {"spark.master": "x"}}}, "spark.conf", "It is the target's"),
        ({"framework": "pyspark", "spark": {"conf": {"spark.x": "a\nb"}}}, "spark.conf", "one line"),
        ({"framework": "pyspark", "spark": {"packages": ["--jars"]}}, "spark.packages", "group:artifact:version"),
        ({"framework": "pyspark", "spark": {"repositories": ["ftp://x"]}}, "spark.repositories", "https://host/path"),
        ({"framework": "pyspark", "spark": {"deploy_mode": "x"}}, "spark.deploy_mode", "Use client or cluster."),
    ],
)  # fmt: skip
def test_what_is_refused_names_field_rule_and_fix(asked: dict, field: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(**asked)
    assert says in caught.value.errors[field], caught.value.errors


@pytest.mark.parametrize(
    "name",
    ["A;B", "A B", "1A", "", "LD_PRELOAD", "LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "BASH_ENV", "TMPDIR", "RUNSTEAD_X", "AZUREML_RUN_ID",
     "MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "CUDA_VISIBLE_DEVICES", "TF_CONFIG", "A=B", "Ä"],
)  # fmt: skip
def test_variables_that_the_studio_sets_or_that_are_no_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(variables={name: "x"})
    assert set(caught.value.errors) == {"variables"}


def test_one_form_is_kept_of_what_can_be_written_in_several() -> None:
    kept = config(framework="pytorch", distribution={"backend": "GLOO", "process_count": 2, "node_count": 1})
    assert kept.distribution == {"backend": "Gloo", "process_count": 2}
    assert ScriptRunConfig.from_json(kept.to_json()) == kept
    # Runs of before these fields were.
    old = {name: value for name, value in kept.to_json().items() if name not in {"distribution", "spark"}}
    assert ScriptRunConfig.from_json({**old, "framework": "python"}).distribution == {}


ASKED = {
    "pytorch": {"framework": "pytorch", "distribution": {"process_count": 2, "backend": "Gloo"}},
    "mpi": {"framework": "mpi", "distribution": {"process_count": 4}},
    "tensorflow": {"framework": "tensorflow", "distribution": {"worker_count": 2, "parameter_server_count": 0}},
    "pyspark": {
        "framework": "pyspark",
        "spark": {
            "conf": {"spark.executor.memory": "2g", "spark.x": "a b=c"},
            "packages": ["g:a:1", "g:b:2"],
            "repositories": ["https://x.test/m"],
            "deploy_mode": "client",
        },
    },
}
FORM = {
    "pytorch": {"framework": "pytorch", "process_count": "2", "backend": "Gloo", "worker_count": "x"},
    "mpi": {"framework": "mpi", "process_count": "4"},
    "tensorflow": {"framework": "tensorflow", "worker_count": "2", "parameter_server_count": "0"},
    "pyspark": {
        "framework": "pyspark",
        "spark_conf": "spark.executor.memory 2g\r\n\r\nspark.x = a b=c",
        "spark_packages": "g:a:1, g:b:2",
        "spark_repositories": "https://x.test/m",
        "deploy_mode": "client",
    },
}


@pytest.fixture
def studio(
    live_server: Any, workspace: Workspace, contributor: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> str:
    monkeypatch.setattr("runs.submission.ring", lambda target: None)
    make_target(workspace)
    make_version(None, "python")
    _, secret = Token.issue(user=contributor, workspace=workspace, name="test")
    for name, value in {"URL": live_server.url, "TOKEN": secret, "WORKSPACE": workspace.slug}.items():
        monkeypatch.setenv(f"RUNSTEAD_{name}", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "p").mkdir()
    (tmp_path / "p/train.py").write_text("print(1)\n")
    monkeypatch.chdir(tmp_path)
    return str(live_server.url)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("name", ASKED)
def test_every_snippet_starts_the_same_run(name: str, studio: str, workspace: Workspace) -> None:
    wanted = ScriptRunConfig(script="train.py", arguments=("--lr", "0.1"), **ASKED[name]).validated()
    version = str(make_version(None))
    asked = RunRequest(experiment="e", target="local", environment=version, config=wanted, folder="p")
    from pathlib import Path

    Path("run.yaml").write_text(yaml_text(asked))
    assert shell.main(cli_argv(asked)[1:]) == 0
    assert shell.main(["run", "p", "--file", "run.yaml"]) == 0
    exec(python(asked).replace("run.wait_for_completion(show_output=True)", ""), {})
    kept = [ScriptRunConfig.from_json(run.config) for run in Run.objects.order_by("number")]
    assert kept == [wanted] * 3


@pytest.mark.django_db(transaction=True)
def test_the_configuration_objects_of_the_reference(studio: str) -> None:
    ws = Studio.from_config()

    def submitted(configuration: Config) -> tuple[str, dict, dict]:
        run = Run.objects.get(number=Experiment(ws, "e").submit(configuration).number)
        return run.config["framework"], run.config["distribution"], run.config["spark"]

    # The article's own lines.
    src = Config(source_directory="p", script="train.py")
    src.run_config.framework = "pyspark"
    src.run_config.spark.configuration["spark.executor.memory"] = "1g"
    src.run_config.spark.configuration["spark.speculation"] = True
    conf = {"conf": {"spark.executor.memory": "1g", "spark.speculation": "true"}}
    assert submitted(src) == ("pyspark", {}, conf)
    assert submitted(Config("p", "train.py", distributed_job_config=MpiConfiguration(2))) == (
        "mpi",
        {"process_count": 2},
        {},
    )
    assert submitted(Config("p", "train.py", distributed_job_config=PyTorchConfiguration())) == (
        "pytorch",
        {"backend": "Nccl"},
        {},
    )
    assert submitted(Config("p", "train.py", distributed_job_config=TensorflowConfiguration(3))) == (
        "tensorflow", {"worker_count": 3, "parameter_server_count": 1}, {},
    )  # fmt: skip
    older = RunConfiguration(framework="Python", communicator="IntelMpi")
    older.mpi.process_count_per_node = 5
    assert submitted(Config("p", "train.py", run_config=older)) == ("mpi", {"process_count": 5}, {})
    with pytest.raises(Exception, match="one node here"):
        submitted(Config("p", "train.py", distributed_job_config=PyTorchConfiguration(node_count=2)))
    with pytest.raises(UserError, match="distributed_job_config"):
        Config("p", "train.py", distributed_job_config="mpi")
    with pytest.warns(UserWarning, match="distributed_job_config is ignored"):
        Config("p", "train.py", run_config=older, distributed_job_config=MpiConfiguration(2))


@pytest.mark.django_db(transaction=True)
def test_a_file_with_an_unknown_field_is_refused_by_name(studio: str, capsys: pytest.CaptureFixture[str]) -> None:
    from pathlib import Path

    Path("run.yaml").write_text("script: train.py\nframework: mpi\ndistribution: {ranks: 2}\n")
    with pytest.raises(SystemExit) as ended:
        shell.main(["run", "p", "--file", "run.yaml"])
    assert ended.value.code == 2
    assert "distribution.ranks: there is no such field. Use: process_count" in capsys.readouterr().err
    with pytest.raises(YamlError, match=r"distribution: 'ranks' is not known. Use: process_count"):
        from_yaml("distribution: {ranks: 2}")
    with pytest.raises(YamlError, match=r"spark.packages: expected a list"):
        from_yaml("spark: {packages: x}")


URL = "/vision/runs/new"


@pytest.fixture
def fields(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setattr("runs.submission.ring", lambda target: None)
    make_target(workspace)
    digest = make_snapshot(workspace, {"train.py": b"print(1)\n"}).digest
    return {
        "snapshot": digest,
        "script": "train.py",
        "experiment": "e",
        "target": "local",
        "environment": str(make_version(None)),
    }


@pytest.mark.parametrize("name", FORM)
def test_the_form_starts_it_and_is_filled_from_it(name: str, contributor_client: Client, fields: dict) -> None:
    assert contributor_client.post(URL, {**fields, **FORM[name]}).status_code == 302
    run = Run.objects.get()
    assert ScriptRunConfig.from_json(run.config) == ScriptRunConfig(script="train.py", **ASKED[name])
    again = html.unescape(contributor_client.get(f"{URL}?from={run.number}").content.decode())
    assert f'<option value="{name}" selected>' in again
    page = html.unescape(contributor_client.get(f"/vision/runs/{run.number}/configuration").content.decode())
    told = {
        "pytorch": "PyTorch, 2 processes",
        "mpi": "MPI, 4 processes",
        "tensorflow": "2 workers, 0 parameter servers",
        "pyspark": "PySpark on local[*]",
    }
    assert told[name] in page and FRAMEWORKS[name].title in page
    if name == "pyspark":
        assert "spark.executor.memory=2g\nspark.x=a b=c</textarea>" in again


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        ({"framework": "mpi", "process_count": "two"}, "Processes: 'two' is no number of processes. Write digits only"),
        ({"framework": "mpi", "process_count": "9999"}, "Processes: '9999' is no number of processes. Use 1 to 1,024."),
        ({"framework": "pytorch", "backend": "smoke"}, "Backend: 'smoke' is not known."),
        ({"framework": "pyspark", "spark_conf": "spark.a=1\nspark.b"}, "Spark settings: Line 2: 'spark.b' has no value."),
        ({"framework": "pyspark", "spark_conf": "spark.a=1\nspark.a=2"}, "Spark settings: Line 2: spark.a is there twice."),
        ({"framework": "pyspark", "spark_packages": "x; y"}, "Spark packages: 'x;' does not read like group:artifact:version."),
        ({"framework": "pyspark", "deploy_mode": "cluster"}, "Deploy mode: local[*] cannot place a Python driver in the cluster. Use client."),
        ({"framework": "horovod"}, "Framework: 'horovod' is not known."),
    ],
)  # fmt: skip
def test_the_form_refuses_and_keeps_what_was_typed(
    sent: dict, says: str, contributor_client: Client, fields: dict
) -> None:
    answer = contributor_client.post(URL, {**fields, **sent})
    text = html.unescape(answer.content.decode())
    assert answer.status_code == 422 and says in text.replace("</a>", ""), text[:3000]
    assert not Run.objects.exists()
    for name, value in sent.items():
        assert name in {"framework", "backend", "deploy_mode"} or value in text


def test_pasted_yaml_fills_the_folded_fields(contributor_client: Client, fields: dict) -> None:
    yaml = "framework: tensorflow\nscript: train.py\ndistribution: {worker_count: 3}\n"
    text = contributor_client.post(URL, {**fields, "fill": "1", "yaml": yaml}).content.decode()
    assert "TensorFlow, 3 workers</span>" in text


def test_the_specification_of_a_spark_run(workspace: Workspace) -> None:
    options = validate(
        "local", "process", {"spark": {"master": "spark://m:7077", "variables": {"JAVA_HOME": "/jdk", "A": "target"}}}
    )
    run = make_run(workspace, config=ScriptRunConfig(script="train.py", framework="pyspark", variables={"A": "run"}))
    run.target.options = options
    spec = make_spec(run, make_build(run.target, run.environment, python="/env/python"), "/r", "d" * 64)
    assert spec["argv"][:4] == ["/env/python", "-I", f"/r/lib/{'d' * 64}/runstead/launch.py", "spark"]
    assert (spec["env"]["JAVA_HOME"], spec["env"]["A"]) == ("/jdk", "run")
    assert spec["path"] == ["/env"]
    assert (spec["env"]["AZUREML_FRAMEWORK"], spec["env"]["AZUREML_COMMUNICATOR"]) == ("PySpark", "None")


@pytest.mark.parametrize(
    ("asked", "communicator", "line"),
    [
        ({}, "None", "python train.py"),
        (
            {"framework": "pytorch", "distribution": {"process_count": 2}},
            "Nccl",
            "torchrun --nproc_per_node 2 train.py",
        ),
        ({"framework": "mpi", "distribution": {"process_count": 2}}, "OpenMpi", "mpirun -np 2 python train.py"),
        ({"framework": "tensorflow"}, "ParameterServer", "python train.py"),
        ({"framework": "pyspark"}, "None", "spark-submit train.py"),
    ],
)
def test_what_a_script_and_a_person_are_told(asked: dict, communicator: str, line: str, workspace: Workspace) -> None:
    found = ScriptRunConfig(script="train.py", **asked).validated()
    assert variables(make_run(workspace), found)["AZUREML_COMMUNICATOR"] == communicator
    assert command_text(found) == line
