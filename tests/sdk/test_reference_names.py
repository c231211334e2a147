"""Names that notebooks of Azure Machine Learning use beside runs: they work, or say in words that they are not there yet."""

import html.parser
import inspect
import warnings
from pathlib import Path
from typing import Any

import pytest
import runstead
from runstead import (
    AmlCompute,
    ComputeTarget,
    CondaDependencies,
    Environment,
    Estimator,
    Experiment,
    Model,
    PyTorch,
    Run,
    RunConfiguration,
    ScriptRunConfig,
    UserError,
    Workspace,
)  # fmt: skip
from runstead.errors import NotYet, WorkspaceException
from runstead.keyvault import Keyvault
from runstead.notebook_html import table

from tests.sdk.conftest import Home


@pytest.mark.parametrize(
    "make",
    [
        lambda: Workspace(subscription_id="0-0", resource_group="rg", workspace_name="default"),
        lambda: Workspace("0-0", "rg", "default"),
        lambda: Workspace(workspace_name="default", auth=object(), _location="westeurope", sku="basic"),
        lambda: Workspace.get("default", subscription_id="0-0", resource_group="rg"),
    ],
)
def test_a_workspace_is_constructed_as_there(ws: Workspace, make: Any) -> None:
    made = make()
    assert (made.name, made.url, made.transport.token) == (ws.name, ws.url, ws.transport.token)


def test_a_workspace_that_is_not_there_or_has_no_name_is_said(ws: Workspace) -> None:
    with pytest.raises(WorkspaceException, match="'elsewhere'"):
        Workspace(subscription_id="0", resource_group="rg", workspace_name="elsewhere")
    with pytest.raises(UserError, match="workspace_name"):
        Workspace(subscription_id="0")
    with pytest.raises(UserError, match="Did you mean workspace_name"):
        Workspace(workspace_nam="default")


def test_secrets_go_in_by_the_names_of_a_key_vault_and_come_out_in_runs_alone(home: Home, ws: Workspace) -> None:
    vault = ws.get_default_keyvault()
    vault.set_secret("hub-token", "open sesame")
    vault.set_secrets({"other": "x"})
    assert {row["name"] for row in vault.list_secrets()} >= {"hub-token", "other"}
    for ask in (lambda: vault.get_secret("hub-token"), lambda: vault.get_secrets(["hub-token"])):
        with pytest.raises(NotYet, match="never leaves the studio but for runs"):
            ask()
    code = (
        "from azureml.core import Run\nrun = Run.get_context()\nrun.log('length', len(run.get_secret('hub-token')))\n"
        "try:\n    run.get_secret('absent')\nexcept ValueError as error:\n    print(error)\n"
    )
    config = ScriptRunConfig(home.project("vault", train=code), "train.py", environment="python")
    config.run_config.secrets["hub_token"] = "hub-token"
    run = Experiment(ws, "vault").submit(config)
    run.wait_for_completion()
    assert run.get_metrics() == {"length": 11}
    assert "this run has no variable absent" in run.read_log().decode()
    with pytest.raises(NotYet, match="never leaves"):
        run.get_secret("hub-token")


@pytest.mark.parametrize(
    "name", ["get_default_datastore", "set_default_datastore", "get_default_compute_target", "set_default_compute_target", "delete", "update"]
)  # fmt: skip
def test_methods_of_a_workspace_that_are_not_there_say_why(ws: Workspace, name: str) -> None:
    with pytest.raises(NotYet, match=f"Workspace.{name}: "):
        getattr(ws, name)("any")


@pytest.mark.parametrize("name", ["datastores", "datasets", "webservices", "images", "linked_services"])
def test_attributes_that_are_not_there_say_why_and_do_not_disturb_those_who_look_at_all(
    ws: Workspace, name: str
) -> None:
    with pytest.raises(NotYet, match=f"Workspace.{name}: "):
        getattr(ws, name)
    assert not hasattr(ws, name)
    assert name not in dict(inspect.getmembers(ws, lambda value: not callable(value)))


def test_models_are_not_served_and_their_frameworks_are_words() -> None:
    assert Model.Framework.SCIKITLEARN == "ScikitLearn"
    for name in ("deploy", "package", "profile"):
        with pytest.raises(NotYet, match="not served yet"):
            getattr(Model, name)(None, "svc", [])


def test_a_model_is_registered_with_its_framework(ws: Workspace, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(b"x")
    model = Model.register(ws, tmp_path / "model.pkl", "digits", model_framework=Model.Framework.SCIKITLEARN)
    assert model.model_framework == "ScikitLearn"
    shown = model._repr_html_()
    assert f"{ws.get_portal_url()}models/digits" in shown


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Estimator(".", entry_scrip="train.py"), "entry_scrip: Estimator has no such argument. Did you mean entry_script"),
        (lambda: PyTorch(".", pip_pacakges=["x"]), "pip_pacakges: PyTorch has no such argument. Did you mean pip_packages"),
        (lambda: ScriptRunConfig(".", "a.py", compute_traget="local"), "Did you mean compute_target"),
        (lambda: ScriptRunConfig(None, "a.py"), "source_directory: the project's folder is needed"),
        (lambda: Environment("a").__setattr__("dokcer", None), "Did you mean docker"),
        (lambda: Environment("a").__setattr__("r", object()), "environments of R are not made yet"),
        (lambda: Environment("a").databricks, "it means nothing here"),
    ],
)  # fmt: skip
def test_what_is_misspelt_or_missing_is_refused_with_what_may_be_meant(make: Any, told: str) -> None:
    with pytest.raises((UserError, NotYet), match=told):
        make()


def test_internal_arguments_of_the_reference_are_taken(tmp_path: Path) -> None:
    assert Estimator(str(tmp_path), entry_script="a.py", _enable_optimized_mode=True).run_config.script == "a.py"


def test_pip_requirements_bring_the_files_that_they_name(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "requirements.txt").write_text("numpy>=1.20  # fast\n-r more/other.txt\nrequests\n")
    (tmp_path / "more/other.txt").write_text("--requirement=last.txt\nnumpy>=1.20\n")
    (tmp_path / "more/last.txt").write_text("six\n")
    made = Environment.from_pip_requirements("mine", tmp_path / "requirements.txt")
    assert sorted(made.python.conda_dependencies.pip_packages) == ["numpy>=1.20", "requests", "six"]
    (tmp_path / "more/last.txt").write_text("-r other.txt\n")
    with pytest.raises(UserError, match="names itself with -r"):
        Environment.from_pip_requirements("mine", tmp_path / "requirements.txt")


def test_requirements_of_one_name_are_merged() -> None:
    merged = CondaDependencies.merge_requirements(
        ["numpy>=1.20", "pandas", "NumPy<2", "a @ https://x.example/a.whl", "pandas"]
    )
    assert merged == ["numpy>=1.20,<2", "pandas", "a @ https://x.example/a.whl"]


def test_options_of_pip_without_meaning_warn_at_the_line_that_sets_them() -> None:
    made = CondaDependencies()
    with pytest.warns(UserWarning, match="--pre means nothing here") as caught:
        made.set_pip_option("--pre")
    assert caught[0].filename == __file__
    with pytest.raises(UserError, match="is not known"):
        made.set_pip_option("--trusted-host x")


def test_warnings_point_at_the_callers_line(tmp_path: Path) -> None:
    environment = Environment("mine")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        environment.python.conda_dependencies_file = "x.yml"
        environment.inferencing_stack_version = "1"
        ScriptRunConfig(tmp_path, "a.py", run_config=RunConfiguration(), compute_target="local")
        Estimator(tmp_path, entry_script="a.py", vm_size="big")
    assert len(caught) == 4
    assert {one.filename for one in caught} == {__file__}


class Page(html.parser.HTMLParser):
    """Every text and every attribute."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str | None] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name == "href"]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_what_a_notebook_shows_is_escaped_and_links_to_the_web_alone() -> None:
    page = Page(table('https://x.example/a?b="<>&', name="<script>alert(1)</script>", status='"><img src=x>'))
    assert set(page.tags) == {"table", "tr", "th", "td", "a"}
    assert page.links == ['https://x.example/a?b="<>&']
    assert "<script>alert(1)</script>" in page.texts
    assert "a" not in Page(table("javascript:alert(1)", name="x")).tags


def test_the_last_line_of_a_cell_shows_a_link_to_the_studio(home: Home, ws: Workspace) -> None:
    experiment = Experiment(ws, "shown")
    before = set(ws.experiments)
    pool = ComputeTarget.create(ws, "shown-pool", AmlCompute.provisioning_configuration(members=["local"]))
    pages = [Page(one._repr_html_()) for one in (ws, experiment, ws.compute_targets["local"], pool)]
    assert str(pages[-1].links[0]).endswith("/compute/pools/shown-pool")
    assert set(ws.experiments) == before  # looking makes nothing
    with experiment.start_logging(snapshot_directory=None) as run:
        pages.append(Page(run._repr_html_()))
    for page in pages:
        assert len(page.links) == 1
        assert str(page.links[0]).startswith(ws.get_portal_url())
    assert run.id in pages[-1].texts


def test_the_key_vault_is_found_by_its_module() -> None:
    from runstead.azureml.names import MODULES

    assert MODULES["azureml.core.keyvault"] == {"Keyvault": "keyvault"}
    assert {"DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE"} <= set(MODULES["azureml.core.environment"])
    assert "get_run" in MODULES["azureml.core"]
    assert Keyvault.__module__ == "runstead.keyvault"
    assert Run is runstead.Run
