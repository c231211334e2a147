"""Run configuration files as Azure Machine Learning's SDK wrote them by default, from 2018 to 2023: read without a word, and run."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from runstead import Experiment, RunConfiguration, ScriptRunConfig, Workspace, definitions
from runstead.errors import NotYet, UserError

from tests.sdk.conftest import SOURCE, Home

FILES = Path(__file__).parent / "runconfigs"
CONDA = "name: project_environment\ndependencies:\n- python=3.6.2\n\n- pip:\n  - azureml-defaults\n"


def project(folder: Path, file: str) -> Path:
    """A project as the SDK of that time left it; the name of its configuration is what stands behind the dash."""
    inner = folder / ("aml_config" if file.startswith("1.0") else ".azureml")
    inner.mkdir(parents=True)
    (inner / file.partition("-")[2]).write_text((FILES / file).read_text())
    (inner / "conda_dependencies.yml").write_text(CONDA)
    (folder / "train.py").write_text("from azureml.core import Run\nRun.get_context().log('acc', 0.5)\n")
    return folder


def loaded(folder: Path, file: str) -> RunConfiguration:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return RunConfiguration.load(project(folder, file), Path(file.partition("-")[2]).stem)


@pytest.mark.parametrize("file", sorted(path.name for path in FILES.iterdir()))
def test_a_default_file_is_read_without_a_word_and_means_no_image(file: str, tmp_path: Path) -> None:
    config = loaded(tmp_path, file)
    assert (config.script, config.target, config.node_count) == ("train.py", "local", 1)
    found = definitions.definition(config.environment)
    assert not {"base_image", "docker", "registry", "spark"} & set(found)
    assert found["variables"] == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    assert config.hdi.deploy_mode == ""


def test_what_each_says_is_there(tmp_path: Path) -> None:
    oldest, middle, newest = (loaded(tmp_path / name, name) for name in sorted(path.name for path in FILES.iterdir()))
    assert oldest.framework == "PySpark"
    assert oldest.environment.python.user_managed_dependencies
    assert middle.arguments == ["--lr", 0.1]
    assert definitions.definition(middle.environment)["python_version"] == "3.6.2"
    assert middle.environment.name == "project_environment"
    assert not newest.environment.name.startswith("AzureML-")  # a curated one, written out
    assert list(newest.environment.python.conda_dependencies.pip_packages) == [
        "azureml-core==1.50.0",
        "azureml-defaults==1.50.0",
    ]


@pytest.mark.parametrize(("key", "item"), [("dataReferences", "x: {dataStoreName: y}"), ("datacaches", "x: {name: y}")])
def test_data_of_a_store_is_refused_by_its_name(key: str, item: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.runconfig"
    file.write_text(f"script: train.py\n{key}:\n  {item}\n")
    with pytest.raises(NotYet, match=key):
        RunConfiguration.load(file)


@pytest.mark.parametrize("key", ["data", "outputData"])
def test_data_given_to_a_run_is_refused_when_it_is_submitted(key: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.runconfig"
    file.write_text(f"script: train.py\n{key}:\n  x: {{dataLocation: y}}\n")
    with pytest.raises(NotYet, match="data stores"):
        ScriptRunConfig(tmp_path, run_config=RunConfiguration.load(file)).request()


def test_an_unknown_key_is_still_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.runconfig"
    file.write_text("script: train.py\ndataReference: {}\n")
    with pytest.raises(UserError, match="'dataReference' is not known"):
        RunConfiguration.load(file)


@pytest.mark.parametrize(("enabled", "use", "image"), [(False, False, False), (True, False, True), (False, True, True)])
def test_a_base_image_counts_where_docker_is_enabled(enabled: bool, use: bool, image: bool, tmp_path: Path) -> None:
    text = (FILES / "1.0-local.runconfig").read_text().replace("enabled: false", f"enabled: {str(enabled).lower()}")
    text = text.replace("mcr.microsoft.com/azureml/base:0.2.4", "registry.example/base:1")
    (tmp_path / "conda_dependencies.yml").write_text(CONDA)
    (tmp_path / "aml_config").mkdir()
    (tmp_path / "aml_config/conda_dependencies.yml").write_text(CONDA)
    (tmp_path / "aml_config/mine.runconfig").write_text(text)
    config = RunConfiguration.load(tmp_path, "mine")
    config.docker.use_docker = use
    if use:
        config.environment.docker.enabled = True  # as submitting does
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = definitions.definition(config.environment)
    assert found.get("base_image") == ("registry.example/base:1" if image else None)
    assert any("docker.enabled is False" in str(one.message) for one in caught) is not image


def test_a_run_of_the_oldest_file_is_of_an_environment_named_after_the_experiment(home: Home, ws: Workspace) -> None:
    folder = project(home.folder / "oldest", "1.0-local.runconfig")
    config = RunConfiguration.load(folder, "local")
    config.framework = "Python"
    run = Experiment(ws, "first-steps").submit(ScriptRunConfig(folder, run_config=config))
    run.wait_for_completion()
    assert run.get_metrics() == {"acc": 0.5}
    assert run.get_environment().name == "first-steps-environment"


def test_what_reads_yaml_comes_with_the_client_and_is_loaded_only_when_a_file_is_read() -> None:
    listed = re.search(r"^dependencies = \[(.*)\]$", (SOURCE.parent / "pyproject.toml").read_text(), re.M)
    assert listed is not None and '"PyYAML>=6"' in listed[1]
    code = "import sys; from runstead import *; from runstead import cli, runfile; print('yaml' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
