"""Packages that only serve Azure Machine Learning's service: left out when an environment is made, and said wherever one looks."""

import subprocess

import pytest

from environments import builds, service_only
from environments.api_input import wanted
from environments.api_schemas import NewEnvironment
from environments.definition import Definition
from environments.models import ComputeTarget
from runs.preflight import check_environment
from studio.workspaces.models import Workspace
from tests.environments.building import version_of

pytestmark = pytest.mark.django_db
BOTH = Definition(packages=("azureml-defaults==1.48.0", "numpy>=1.20", "azureml_train_automl[x]"), python_version="")


@pytest.mark.parametrize(
    "line",
    [
        "azureml-sdk[notebooks]", "azureml.core >= 1.20", "AzureML_Defaults", "azureml-train-automl-client==1.5", "azureml-pipeline-steps",
        "azureml-dataset-runtime[pandas,fuse]~=1.4", "azureml-contrib-notebook", "conda-forge::azureml-core=1.3", "azureml-mlflow",
    ],
)  # fmt: skip
def test_what_serves_the_service_alone_is_told_by_its_name(line):
    assert service_only.is_service_only(line)


@pytest.mark.parametrize(
    "line",
    ["azureml-interpret", "azureml-dataprep", "azureml-metrics", "azureml-inference-server-http", "azureml-corelib", "mlflow", "azure-core", "numpy"],
)  # fmt: skip
def test_what_is_of_use_by_itself_is_installed(line):
    assert not service_only.is_service_only(line)


def test_the_rest_is_installed_and_the_definition_and_its_key_stay_as_they_are():
    key = BOTH.key()
    assert service_only.installed(BOTH).packages == ("numpy>=1.20",)
    assert BOTH.packages[0] == "azureml-defaults==1.48.0"
    assert BOTH.key() == key != Definition(packages=("numpy>=1.20",)).key()
    plain = Definition(packages=("numpy",))
    assert service_only.installed(plain) is plain
    assert service_only.note(plain) == ""
    assert service_only.note(BOTH).startswith("azureml-defaults==1.48.0, azureml_train_automl[x] are not installed: ")
    conda = Definition(conda_packages=("python=3.8", "azureml-sdk"), packages=("azureml-defaults",))
    assert service_only.installed(conda).conda_packages == ("python=3.8",)


@pytest.mark.parametrize(
    ("others", "brought"), [((), ("mlflow-skinny",)), (("mlflow==2.9",), ("mlflow==2.9",)), (("MLflow_skinny",),) * 2]
)
def test_the_client_of_mlflow_comes_although_the_package_that_brings_it_does_not(others, brought):
    made = Definition(packages=("azureml-mlflow", "azureml-core", *others))
    assert service_only.installed(made).packages == brought
    comes = service_only.note(made).endswith(" In place of azureml-mlflow comes mlflow-skinny.")
    assert comes is not bool(others)


def test_a_build_makes_the_rest_and_says_in_its_log_what_is_left_out_and_why(workspace):
    target = ComputeTarget.objects.create(workspace=workspace, name="box")
    build = builds.ensure(target, version_of(workspace, *BOTH.packages))
    builds.new_attempt(build)
    spec = builds.spec(build, target, "/root-of-target")
    assert spec["build"]["definition"]["packages"] == ["numpy>=1.20"]
    first = spec["steps"][0]
    assert first["title"] == "Leave out 2 packages of Azure Machine Learning's service"
    done = subprocess.run(first["argv"], capture_output=True, text=True, check=True)
    assert done.stdout == service_only.note(BOTH) + "\n"


def test_whoever_registers_or_chooses_it_is_told(workspace: Workspace):
    asked = wanted(workspace, NewEnvironment(name="theirs", text="azureml-sdk\nnumpy\n", format="requirements"))
    assert asked.definition.packages == ("azureml-sdk", "numpy")
    assert "azureml-sdk is not installed" in asked.notes[-1]
    target = ComputeTarget.objects.create(workspace=workspace, name="box")
    version = version_of(workspace, *asked.definition.packages)
    said = [check for check in check_environment(version, target) if "left out" in check.text]
    assert len(said) == 1
    assert "azureml-sdk is not installed" in said[0].detail


def test_the_environments_page_says_it(workspace, reader_client):
    version_of(workspace, *BOTH.packages)
    page = reader_client.get(f"/{workspace.slug}/environments/mine/1").content.decode()
    assert "azureml-defaults==1.48.0, azureml_train_automl[x] are not installed" in page
