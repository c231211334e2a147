"""The module paths of Azure Machine Learning as aliases: outside, inside runs, beside the real package, for a whole Python."""

import importlib
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
import runstead
from runstead import CondaDependencies, Environment, Experiment, RunsteadError, ScriptRunConfig, Workspace
from runstead import azureml as alias
from runstead.azureml.names import MODULES
from runstead.errors import NotYet, UserError

from tests.environments.wheels import wheel
from tests.sdk.conftest import SOURCE, Home

# What real scripts import, by the reference.
IMPORTS = """
import azureml.core
from azureml.core import Workspace, Experiment, Run, ScriptRunConfig, RunConfiguration, Environment, ComputeTarget, Model, VERSION
from azureml.core.run import Run
from azureml.core.workspace import Workspace
from azureml.core.experiment import Experiment
from azureml.core.environment import Environment, CondaDependencies
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.runconfig import RunConfiguration, CondaDependencies, MpiConfiguration, PyTorchConfiguration, DockerConfiguration
from azureml.core.runconfig import TensorflowConfiguration, HistoryConfiguration, DEFAULT_CPU_IMAGE
from azureml.core.script_run_config import ScriptRunConfig
from azureml.core.compute import ComputeTarget, RemoteCompute, HDInsightCompute, AmlCompute
from azureml.core.compute_target import ComputeTargetException
from azureml.core.model import Model
from azureml.exceptions import UserErrorException, ComputeTargetException, AzureMLException, ActivityFailedException
from azureml.train.estimator import Estimator
from azureml.train.dnn import PyTorch, TensorFlow, Mpi
from azureml.train.sklearn import SKLearn
from azureml.train.hyperdrive import HyperDriveConfig, RandomParameterSampling, choice, uniform, BanditPolicy, PrimaryMetricGoal
from azureml.train.hyperdrive.run import PrimaryMetricGoal
from azureml.widgets import RunDetails
from azureml.telemetry import set_diagnostics_collection
import azureml.pipeline.core as pc
from azureml.pipeline.core import Pipeline, PipelineData, PublishedPipeline, StepSequence
from azureml.pipeline.core.graph import PipelineParameter
from azureml.pipeline.core.run import PipelineRun
from azureml.pipeline.core.schedule import ScheduleRecurrence, Schedule
from azureml.pipeline.steps import PythonScriptStep, EstimatorStep, ParallelRunStep
import azureml.data
from azureml.data import OutputFileDatasetConfig, FileDataset
from azureml.data.data_reference import DataReference
from azureml.data.datapath import DataPath
from azureml.data.dataset_consumption_config import DatasetConsumptionConfig
from azureml.data.azure_storage_datastore import AzureFileDatastore, AzureBlobDatastore
from azureml.core import LinkedService
from azureml.core.webservice import Webservice, AciWebservice, AksWebservice, LocalWebservice
from azureml.core.image import Image, ContainerImage
from azureml.core.resource_configuration import ResourceConfiguration
from azureml.core.profile import ModelProfile
from azureml.core.compute import KubernetesCompute
from azureml.core.runconfig import EnvironmentDefinition
from azureml.core.conda_dependencies import TENSORFLOW_DEFAULT_VERSION
from azureml.train.automl import AutoMLConfig
from azureml.train.automl.run import AutoMLRun
from azureml.train.dnn import Horovod
from azureml.train.estimator import MMLBaseEstimator
import azureml.mlflow
from azureml.tensorboard import Tensorboard
from azureml.tensorboard.export import export_to_tensorboard
from azureml.opendatasets import MNIST
"""


@pytest.fixture
def installed() -> Iterator[None]:
    assert alias.install()
    yield
    alias.uninstall()


def test_every_import_of_real_scripts_works(installed: None) -> None:
    names: dict[str, object] = {}
    exec(IMPORTS, names)
    assert names["Run"] is runstead.Run
    assert names["Workspace"] is runstead.Workspace
    assert names["ComputeTargetException"] is runstead.ComputeTargetException
    assert names["PrimaryMetricGoal"].MAXIMIZE == "MAXIMIZE"
    assert names["VERSION"] == runstead.__version__
    names["set_diagnostics_collection"](send_diagnostics=True)
    assert names["pc"].Pipeline is names["Pipeline"]
    assert names["MMLBaseEstimator"] is runstead.Estimator


def test_every_name_of_the_table_exists(installed: None) -> None:
    for module, names in MODULES.items():
        loaded = importlib.import_module(module)
        for name in names:
            assert hasattr(loaded, name), (module, name)
        assert set(dir(loaded)) == set(names)


def test_what_is_not_there_yet_says_so_when_it_is_used_and_what_to_do(installed: None) -> None:
    from azureml.core import Dataset, Environment
    from azureml.train.hyperdrive import HyperDriveConfig, choice

    for use in (
        lambda: choice(1, 2),
        lambda: HyperDriveConfig(max_total_runs=3),
        lambda: Dataset.get_by_name(None, "x"),
    ):
        with pytest.raises(NotYet, match="not there yet") as caught:
            use()
        assert isinstance(caught.value, NotImplementedError)
        assert isinstance(caught.value, RunsteadError)
    with pytest.raises(ImportError):
        from azureml.core import NoSuchName  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        import azureml.nothing  # noqa: F401
    with pytest.raises(UserError):
        Environment("")


def test_whatever_is_not_there_yet_raises_by_its_name_when_it_is_used(installed: None) -> None:
    listed = {name for names in MODULES.values() for name, home in names.items() if home == "not_yet"}
    listed -= {"PrimaryMetricGoal"}  # words alone
    from runstead import not_yet

    for name in sorted(listed):
        for use in (
            lambda name=name: getattr(not_yet, name)("x", y=1),
            lambda name=name: getattr(not_yet, name).get("x"),
        ):
            with pytest.raises(NotYet, match=rf"^{name}: \w"):
                use()


@pytest.mark.parametrize("where", ["outside", "in a run"])
def test_open_data_sets_are_those_of_their_own_package_where_it_is_installed(
    where: str, in_run: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "real/azureml/opendatasets"
    inner.mkdir(parents=True)
    (inner / "__init__.py").write_text("class MNIST:\n    real = True\n")
    code = "from azureml.core import Run; from azureml.opendatasets import MNIST; print(MNIST.real, Run.__module__)"
    path = [SOURCE, tmp_path / "real"] if where == "outside" else [in_run, tmp_path / "real"]
    more = {} if where == "outside" else {"RUNSTEAD_RUN_DIR": str(tmp_path)}
    done = python(INSTALL + code if where == "outside" else code, *path, **more)
    assert done.stdout.splitlines()[-1:] == ["True runstead.run"], done.stderr
    done = python(code, in_run, RUNSTEAD_RUN_DIR=str(tmp_path))
    assert "NotYet: MNIST: " in done.stderr and "azureml-opendatasets" in done.stderr


def test_the_exceptions_have_one_base(installed: None) -> None:
    from azureml import exceptions

    for name in MODULES["azureml.exceptions"]:
        assert issubclass(getattr(exceptions, name), exceptions.AzureMLException), name


def test_uninstalled_it_is_gone() -> None:
    alias.install()
    importlib.import_module("azureml.core")
    alias.uninstall()
    assert not any(name.partition(".")[0] == "azureml" for name in sys.modules)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("azureml.core")


def real_package(folder: Path, *, whole: bool) -> Path:
    """A package of somebody else's under this name: the SDK, or only a plug-in of it."""
    inner = folder / "azureml" / ("core" if whole else "plugin")
    inner.mkdir(parents=True)
    (inner / "__init__.py").write_text("class Run:\n    real = True\n")
    if whole:
        (folder / "azureml/__init__.py").write_text(
            "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\nreal = True\n"
        )
    return folder


def python(code: str, *path: Path | str, **env: str) -> subprocess.CompletedProcess[str]:
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, path)), **env}
    return subprocess.run([sys.executable, "-S", "-c", code], env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def in_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that runs are given, unpacked."""
    import io
    import zipfile

    from environments import inrun

    folder = tmp_path_factory.mktemp("lib")
    with zipfile.ZipFile(io.BytesIO(inrun.sdk_zip()[1])) as archive:
        archive.extractall(folder)
    return folder


INSTALL = "import runstead.azureml; print(runstead.azureml.install());"


@pytest.mark.parametrize("given", ["installed", "as runs are given it"])
def test_outside_a_run_it_gives_way_to_the_real_package(given: str, in_run: Path, tmp_path: Path) -> None:
    real = real_package(tmp_path, whole=True)
    code = "from azureml.core import Run; import azureml; print(Run.real, azureml.real)"
    done = python(code, in_run, real) if given != "installed" else python(INSTALL + code, SOURCE, real)
    assert done.stdout.splitlines()[-1] == "True True", done.stderr
    assert given != "installed" or done.stdout.startswith("False\n")


@pytest.mark.parametrize("given", ["installed", "as runs are given it", "installed behind it"])
def test_in_a_run_the_real_package_is_not_what_is_found(given: str, in_run: Path, tmp_path: Path) -> None:
    real = real_package(tmp_path, whole=True)
    (real / "azureml/interpret").mkdir()
    (real / "azureml/interpret/__init__.py").write_text("real = True\n")
    code = (
        "import azureml.core.run; from azureml.core import Run; from azureml import interpret;"
        "print(Run.__module__, azureml.core.run.Run is Run, interpret.real)"
    )
    path = {"installed": [SOURCE, real], "installed behind it": [real, SOURCE]}.get(given, [in_run, real])
    done = python(code if given.startswith("as") else INSTALL + code, *path, RUNSTEAD_RUN_DIR=str(tmp_path))
    assert done.stdout.splitlines()[-1] == "runstead.run True True", done.stderr


@pytest.fixture(scope="module")
def with_the_real_one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has a package named azureml-core installed, built from source here; what it logs is lost, as theirs would be."""
    from environments.programs import own_uv

    folder = tmp_path_factory.mktemp("real")
    source = folder / "source"
    core = source / "azureml/core"
    core.mkdir(parents=True)
    (source / "azureml/__init__.py").write_text("__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n")
    text = "class Run:\n    @classmethod\n    def get_context(cls):\n        return cls()\n    def log(self, name, value):\n        print('lost')\n"
    (core / "__init__.py").write_text(text)
    built = wheel(
        folder / "wheels", "azureml-core", "1.60.0",
        files={str(path.relative_to(source)): path.read_text() for path in source.rglob("*.py")},
    )  # fmt: skip
    uv = own_uv()
    assert uv is not None
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder / "venv"], check=True)
    own = folder / "venv/bin/python"
    subprocess.run([uv, "pip", "install", "-q", "--offline", "--python", own, built], check=True)
    done = subprocess.run(
        [own, "-c", "from azureml.core import Run; Run.get_context().log('a', 1)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "lost\n"
    return own


def test_a_run_logs_to_the_studio_also_where_the_real_package_is_installed(
    home: Home, ws: Workspace, with_the_real_one: Path
) -> None:
    code = "from azureml.core import Run\nrun = Run.get_context()\nrun.log('acc', 0.5)\nprint(run.experiment.name)\n"
    environment = Environment("has-the-real-one")
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = str(with_the_real_one)
    config = ScriptRunConfig(home.project("real", train=code), "train.py", environment=environment)
    run = Experiment(ws, "real").submit(config)
    run.wait_for_completion()
    assert run.get_metrics() == {"acc": 0.5}
    assert b"lost" not in run.read_log()


def test_an_environment_that_lists_the_real_package_is_made_without_it(home: Home, ws: Workspace) -> None:
    code = "from azureml.core import Run\nrun = Run.get_context()\nrun.log('acc', 0.5)\nprint(run.experiment.name)\n"
    environment = Environment("as-in-their-notebooks")
    environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["azureml-defaults", "azureml-sdk"])
    config = ScriptRunConfig(home.project("lists", train=code), "train.py", environment=environment)
    with pytest.warns(UserWarning, match="azureml-defaults, azureml-sdk are not installed") as caught:
        run = Experiment(ws, "lists").submit(config)
    assert {one.filename for one in caught} == {__file__}
    run.wait_for_completion()
    assert run.get_metrics() == {"acc": 0.5}
    kept = Environment.get(ws, "as-in-their-notebooks")
    assert list(kept.python.conda_dependencies.pip_packages) == ["azureml-defaults", "azureml-sdk"]
    assert "azureml-defaults, azureml-sdk are not installed" in kept.build(ws).get_log()


@pytest.mark.parametrize("where", ["outside", "in a run"])
def test_it_stands_beside_a_plug_in_of_the_real_package(where: str, in_run: Path, tmp_path: Path) -> None:
    real = real_package(tmp_path, whole=False)
    code = "from azureml.plugin import Run as Plugin; from azureml.core import Run; print(Plugin.real, Run.__module__)"
    done = python(code, in_run, real) if where == "in a run" else python(INSTALL + code, SOURCE, real)
    assert done.stdout.splitlines()[-1] == "True runstead.run", done.stderr


def test_a_script_that_imports_it_runs_on_the_local_target(home: Home, ws: Workspace) -> None:
    code = (
        "import argparse\nfrom azureml.core import Run, Workspace\nfrom azureml.core.run import _OfflineRun\n"
        "run = Run.get_context()\nassert not isinstance(run, _OfflineRun)\n"
        "run.log('accuracy', 0.9)\nrun.log_list('losses', [1, 2])\nrun.tag('done')\n"
        "print(run.id, run.experiment.name, run.experiment.workspace.name)\n"
        "try:\n    Workspace.from_config()\nexcept Exception as error:\n    print(type(error).__name__, error)\n"
    )
    config = ScriptRunConfig(home.project("theirs", train=code), "train.py", environment="python")
    run = Experiment(ws, "theirs").submit(config)
    run.wait_for_completion(show_output=True)
    assert run.get_metrics() == {"accuracy": 0.9, "losses": [1, 2]}
    assert run.get_tags() == {"done": None}
    log = run.read_log().decode()
    assert f"{run.id} theirs default" in log
    assert "A run has no sign-in" in log


def test_for_a_whole_python_it_is_one_command_and_another_takes_it_back(tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=False)
    own = tmp_path / "venv/bin/python"
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE)}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([own, *words], env=env, capture_output=True, text=True, check=False)

    assert run("-c", "import azureml.core").returncode == 1
    assert "are now names of runstead" in run("-m", "runstead.azureml").stdout
    assert run("-c", "from azureml.core import Run; print(Run.__module__)").stdout == "runstead.run\n"
    assert "Removed" in run("-m", "runstead.azureml", "--remove").stdout
    assert run("-c", "import azureml.core").returncode == 1
    assert "was not installed" in run("-m", "runstead.azureml", "--remove").stdout
