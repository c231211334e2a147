"""What the target itself says of a run before it is queued: through a real agent, of real interpreters, here and over SSH."""

import sys
import time
from pathlib import Path

import pytest
from django.core.cache import cache

from environments import builds, reaching
from environments.definition import Definition
from environments.models import BuildStatus, ComputeTarget, Environment
from environments.registry import register
from environments.target import open_target
from runs.config import ScriptRunConfig
from runs.examining import SECONDS, Examined, examine, known
from runs.preflight import Wanted
from tests.environments.building import make, only_wheels, version_of
from tests.environments.sshd import server
from tests.runs.factory import make_snapshot

BASE = f"/usr/bin/python{sys.version_info.major}"


@pytest.fixture(autouse=True)
def nothing_kept():
    cache.clear()
    yield
    reaching.close_all()
    cache.clear()


@pytest.fixture
def target(workspace, tmp_path, monkeypatch) -> ComputeTarget:
    only_wheels(tmp_path / "wheels", monkeypatch)
    return ComputeTarget.objects.create(workspace=workspace, name="local", slots=2)


@pytest.fixture
def built(target, workspace):
    """An environment with the package tiny-tool, ready on the target."""
    version = version_of(workspace, "tiny-tool")
    build = builds.ensure(target, version)
    with open_target(target) as host:
        make(build, host)
    assert build.status == BuildStatus.READY
    return version


@pytest.fixture
def plain(workspace):
    """The interpreter that is there."""
    environment = Environment.objects.create(workspace=workspace, name="plain")
    return register(environment, Definition(user_managed=True, interpreter_path=BASE).validated())


def wanted(workspace, target, version, script: str, files=(), **config) -> Wanted:
    snapshot = make_snapshot(workspace, {"train.py": script.encode(), **{name: text.encode() for name, text in files}})
    found = Wanted(workspace, ScriptRunConfig(script="train.py", **config), snapshot, target, version)
    found.config = found.config.validated(found.paths)
    return found


def told(found: Examined, level: str) -> list[str]:
    return [check.text for check in found.checks if check.level == level]


def fixes(found: Examined) -> list[str]:
    """Every warning and failure has one."""
    bad = [check for check in found.checks if check.level in {"warn", "fail"}]
    assert all(check.fix for check in bad)
    return [check.fix for check in bad]


def test_a_run_in_which_nothing_is_missing_passes(workspace, target, built):
    files = [("model/__init__.py", "from . import net\n"), ("model/net.py", "import json\n")]
    found = examine(wanted(workspace, target, built, "import os, tiny_tool\nfrom model import net\n", files))
    assert found.answered and found.passed and not found.warnings
    assert found.seconds < SECONDS
    assert any("parses under Python" in text for text in told(found, "ok"))


def test_the_module_paths_that_every_run_is_given_are_not_missing_and_others_of_that_name_are(workspace, target, plain):
    script = "from azureml.core import Run\nfrom azureml.core.run import Run\nimport azureml.train.estimator\nfrom runstead import Run\n"
    assert not told(examine(wanted(workspace, target, plain, script)), "fail")
    found = told(examine(wanted(workspace, target, plain, script + "import azureml.interpret\n")), "fail")
    assert len(found) == 1 and "azureml" in found[0]


def test_a_missing_package_is_named_with_its_line_and_the_name_under_which_it_is_installed(workspace, target, built):
    found = examine(wanted(workspace, target, built, "import tiny_tool\nimport yaml\nimport sklearn.svm\n"))
    assert found.answered and not found.passed
    assert told(found, "fail") == [
        "train.py, line 2 imports yaml, which mine:1 does not hold",
        "train.py, line 3 imports sklearn, which mine:1 does not hold",
    ]
    first, second = fixes(found)
    assert first == "Add pyyaml to the environment's packages." and "scikit-learn" in second


def test_an_import_that_the_script_survives_or_may_never_make_does_not_block(workspace, target, built):
    script = """
try:
    import cupy
except ImportError:
    cupy = None
def plot():
    import matplotlib.pyplot
"""
    found = examine(wanted(workspace, target, built, script))
    assert found.passed
    assert [text for text in told(found, "warn") if "matplotlib" in text]
    assert not [check for check in found.checks if "cupy" in check.text]


def test_imports_are_followed_into_the_project(workspace, target, built):
    files = [("data/__init__.py", ""), ("data/load.py", "import pandas\nfrom . import gone\n")]
    found = examine(wanted(workspace, target, built, "from data.load import rows\n", files))
    texts = told(found, "fail") + told(found, "warn")
    assert any(text.startswith("data/load.py, line 1 imports pandas") for text in texts)
    fixes(found)


def test_syntax_is_that_of_the_environments_python(workspace, target, plain):
    """A source that the studio's own Python could read, too, is read by the target's."""
    found = examine(wanted(workspace, target, plain, "print('a'\n"))
    (text,) = told(found, "fail")
    assert text.startswith("train.py, line 1: ")
    assert "Read with Python" in next(check.detail for check in found.checks if check.level == "fail")


@pytest.mark.parametrize("version", ["3.6", "3.8"])
def test_syntax_that_an_older_python_does_not_have_is_told_at_its_line(workspace, target, version):
    path = next(iter(sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python3"))), None)
    if path is None:
        pytest.skip(f"there is no Python {version} here")
    environment = Environment.objects.create(workspace=workspace, name="old")
    old = register(environment, Definition(user_managed=True, interpreter_path=str(path)).validated())
    found = examine(wanted(workspace, target, old, "x = 1\nmatch x:\n    case 1:\n        pass\n"))
    (text,) = told(found, "fail")
    assert text.startswith("train.py, line 2: ")


def test_paths_in_arguments_are_looked_for_on_the_target(workspace, target, plain, tmp_path):
    (tmp_path / "rows.csv").write_text("1")
    (tmp_path / "shut").mkdir(mode=0o700)
    arguments = (
        "--data", str(tmp_path / "rows.csv"), "--weights", str(tmp_path / "gone.pt"), "--out", str(tmp_path / "new"),
        f"--config={tmp_path}/shut/../nowhere/a.yaml", "--home", "~/data", "--rate", "$RATE", "--name", "$NAME",
    )  # fmt: skip
    found = examine(wanted(workspace, target, plain, "import sys\n", arguments=arguments, variables={"NAME": "x"}))
    assert found.passed
    warned = told(found, "warn")
    assert f"{tmp_path}/gone.pt is not on local" in warned
    assert any("nowhere/a.yaml" in text for text in warned)
    assert "~/data is passed as it is: there is no shell that would complete ~" in warned
    assert "$RATE in the arguments stays as it is: the run has no variable RATE" in warned
    assert not [text for text in warned if "$NAME" in text or "rows.csv" in text or f"{tmp_path}/new " in text]
    fixes(found)


def test_an_interpreter_that_is_not_there_fails_before_anything_is_queued(workspace, target):
    environment = Environment.objects.create(workspace=workspace, name="gone")
    gone = register(environment, Definition(user_managed=True, interpreter_path="/opt/none/bin/python").validated())
    found = examine(wanted(workspace, target, gone, "import os\n"))
    assert told(found, "fail") == ["The interpreter /opt/none/bin/python on local: there is none"]
    fixes(found)


def test_an_environment_that_nobody_has_built_is_judged_by_the_names_that_it_asks_for(workspace, target):
    found = examine(wanted(workspace, target, version_of(workspace, "pandas"), "import pandas, numpy, torch\n"))
    assert found.answered and found.passed  # a guess does not block
    assert [text for text in told(found, "warn") if "torch" in text]
    assert not [text for text in told(found, "warn") if "pandas" in text]


def test_an_image_on_a_target_of_processes_is_refused(workspace, target):
    environment = Environment.objects.create(workspace=workspace, name="image")
    image = register(environment, Definition(user_managed=True, base_image="python:3.12-slim").validated())
    found = examine(wanted(workspace, target, image, "import os\n"))
    assert told(found, "fail") == [
        "image:1 is made of the image python:3.12-slim, and local starts processes, no containers"
    ]


def test_hostile_sources_end_neither_the_studio_nor_the_target(workspace, target, plain):
    deep = "(" * 100_000 + ")" * 100_000
    files = [("deep.py", deep), ("nul.py", "x = 1\0\n"), ("late.py", "x = " + "1+" * 200_000 + "1\n")]
    begun = time.monotonic()
    found = examine(wanted(workspace, target, plain, "import deep, nul, late\n", files))
    assert time.monotonic() - begun < SECONDS + 1
    assert found.answered
    fixes(found)


def test_the_answer_is_kept_for_a_minute_and_asked_for_anew_when_the_run_is_another(workspace, target, plain):
    this = wanted(workspace, target, plain, "import os\n")
    found = examine(this)
    assert known(this) == found == examine(this)
    assert known(wanted(workspace, target, plain, "import sys\n")) is None
    assert known(wanted(workspace, target, plain, "import os\n", arguments=("--data", "/srv"))) is None
    assert examine(this, anew=True).at > found.at


def test_a_target_that_does_not_answer_blocks_nothing_and_takes_three_seconds_at_most(workspace, plain):
    ssh = {"host": "192.0.2.1", "port": 22, "user": "ada", "host_key": "", "jump": None}
    silent = ComputeTarget.objects.create(
        workspace=workspace, name="silent", transport="ssh", options={"root": "~/.runstead", "ssh": ssh}
    )
    begun = time.monotonic()
    found = examine(wanted(workspace, silent, plain, "import os, numpy\n"))
    assert time.monotonic() - begun < SECONDS + 0.5
    assert not found.answered and found.passed
    assert any(text.startswith("silent does not answer") for text in told(found, "warn"))
    fixes(found)


def test_over_ssh_the_machines_own_interpreter_answers_and_the_connection_stays_warm(workspace, plain):
    with server(Path("/tmp/runstead-test-examining"), 2391, "examhost") as sshd:
        remote = ComputeTarget(workspace=workspace, name="remote", transport="ssh", options=sshd.options())
        remote.set_credentials({"private_key": sshd.private_key})
        remote.save()
        (sshd.home / "rows.csv").write_text("1")
        arguments = ("--data", f"{sshd.home}/rows.csv", "--weights", f"{sshd.home}/gone.pt")
        this = wanted(workspace, remote, plain, "import nowhere_to_be_found\n", arguments=arguments)
        found = examine(this)
        assert found.answered, found.checks
        assert told(found, "fail") == ["train.py, line 1 imports nowhere_to_be_found, which plain:1 does not hold"]
        assert f"{sshd.home}/gone.pt is not on remote" in told(found, "warn")
        signed_in = sshd.log().count("Accepted publickey")
        assert examine(this, anew=True).answered
        assert sshd.log().count("Accepted publickey") == signed_in


# -- from the page and over the API


@pytest.fixture
def offered(workspace, target, plain):
    snapshot = make_snapshot(workspace, {"train.py": b"import os\nimport zebra_stripes\n"})
    return {
        "snapshot": snapshot.digest, "script": "train.py", "experiment": "digits", "framework": "python", "target": "local",
        "environment": "plain:1",
    }  # fmt: skip


def test_the_page_asks_when_the_typing_pauses_and_shows_what_would_fail(contributor_client, workspace, offered):
    review_ = contributor_client.post("/vision/runs/new/check", offered).content.decode()
    assert "data-pending" in review_ and "Asking local" in review_
    page = contributor_client.post("/vision/runs/new/examine", offered).content.decode()
    assert "data-fails" in page and "data-pending" not in page
    assert "train.py, line 2 imports zebra_stripes, which plain:1 does not hold" in page
    # From now on the page knows, and does not ask again.
    assert "data-pending" not in contributor_client.post("/vision/runs/new/check", offered).content.decode()


def test_over_the_api_everything_is_told_and_nothing_is_started(contributor_client, reader_client, workspace, offered):
    body = {
        "experiment": "digits", "snapshot": offered["snapshot"], "target": "local", "environment": "plain",
        "script": "train.py", "secrets": {"TOKEN": "hf"},
    }  # fmt: skip
    path = "/api/v1/vision/runs/check"
    assert reader_client.post(path, body, content_type="application/json").status_code == 403
    answer = contributor_client.post(path, body, content_type="application/json").json()
    assert answer["passed"] is False and answer["answered"] is True
    failed = {check["text"].partition(":")[0] for check in answer["checks"] if check["level"] == "fail"}
    assert "train.py, line 2 imports zebra_stripes, which plain" in failed
    assert any("hf" in check["text"] for check in answer["checks"])
    assert not workspace.runs.exists()
    assert answer["seconds"] < SECONDS
