"""Environments from Python and from the shell, against a live studio that builds from a package index on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runstead import (
    CondaDependencies,
    ContainerRegistry,
    Environment,
    Experiment,
    RunsteadError,
    ScriptRunConfig,
    SparkPackage,
    UserError,
    Workspace,
)
from runstead import environment_calls as calls
from runstead.definitions import definition
from runstead.environment import ImageBuildDetails
from runstead.transport import ApiError, Transport

from environments.models import Build, BuildStatus
from runs.logs import append
from runs.models import LogStream
from studio.accounts.models import Token
from tests.environments.building import version_of
from tests.environments.wheels import serving, wheel
from tests.live import ROOT, Studio
from tests.runs import factory
from tests.waiting import until

SDK = ROOT / "sdk" / "src"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    wheel(folder, "tiny-a", "1.0", "tiny-b>=1")
    wheel(folder, "tiny-b", "2.0")
    with serving(folder) as found:
        yield found


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    live = Studio(tmp_path_factory.mktemp("studio") / "data").start()
    yield live
    assert live.stop() == 0, live.output.read_text()[-3000:]


@pytest.fixture
def ws(studio, monkeypatch):
    for name in ("RUNSTEAD_URL", "RUNSTEAD_TOKEN", "RUNSTEAD_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RUNSTEAD_DATA_DIR", str(studio.data_dir))  # where the studio on this machine leaves its address
    return Workspace.from_config()


def tiny(name, index, *packages):
    """An environment of pip packages from the index."""
    made = Environment(name)
    made.python.conda_dependencies = CondaDependencies.create(
        pip_indexurl=index.address, pip_packages=list(packages or ["tiny-a"])
    )
    return made


# -- kept and found


def test_a_definition_is_kept_once_and_found_again(ws):
    made = Environment("kept")
    assert made.version is None
    made.python.conda_dependencies.add_pip_package("six==1.16.0")
    made.environment_variables = {"OMP_NUM_THREADS": "4"}
    assert made.register(ws) is made and made.version == "1"
    again = Environment("KEPT")
    again.python.conda_dependencies.add_pip_package("six==1.16.0")
    again.environment_variables = {"OMP_NUM_THREADS": "4"}
    again.register(ws)
    assert (again.name, again.version) == ("kept", "1"), "the same definition, the same version"
    again.python.conda_dependencies.add_pip_package("idna")
    assert again.register(ws).version == "2"
    newest, first = Environment.get(ws, "Kept"), Environment.get(ws, "kept", version=1)
    assert (newest.version, first.version) == ("2", "1")
    assert list(newest.python.conda_dependencies.pip_packages) == ["six==1.16.0", "idna"]
    assert definition(first) == {"packages": ["six==1.16.0"], "variables": {"OMP_NUM_THREADS": "4"}}
    calls.set_label(ws, "kept:1", "stable")
    assert Environment.get(ws, "kept", label="stable").version == "1"
    assert Environment.get(ws, "kept", label="latest").version == "2"


def test_the_list_has_own_and_curated_environments_by_name(ws):
    Environment("listed").register(ws)
    found = Environment.list(ws)
    assert found["listed"].version == "1" and not found["listed"].curated
    assert found["AzureML-Minimal"].curated and ws.environments.keys() == found.keys()


def test_what_is_not_there_names_what_is(ws):
    Environment("there").register(ws)
    for wanted, told in (
        ({"name": "nowhere"}, "name: there is no environment 'nowhere'. There are: .*there"),
        ({"name": "there", "version": 7}, "version: there has no version 7. There are: 1"),
        ({"name": "there", "label": "stable"}, "label: there has no label stable"),
        ({"name": "there", "version": 1, "label": "stable"}, "either a version or a label"),
    ):
        with pytest.raises(UserError, match=told):
            Environment.get(ws, **wanted)


def test_every_section_comes_back_as_it_went(ws):
    made = Environment("sections")
    made.docker.base_image = "ubuntu:24.04"
    made.docker.shm_size = "8g"
    made.docker.arguments = ["--ulimit", "nofile=1024:2048"]
    made.spark.repositories = ["https://repo.example/maven"]
    made.spark.packages = [SparkPackage("org.apache.spark", "spark-avro_2.13", "4.1.0")]
    made.environment_variables = {"A": "1", "EMPTY": ""}
    conda = CondaDependencies.create(
        python_version="3.11", conda_packages=["numpy=1.26", "scipy>=1.11,<2"], pip_packages=["six[extra]==1.16.0"],
        pip_indexurl="https://mirror.example/simple",
    )  # fmt: skip
    conda.add_channel("conda-forge")
    conda.set_pip_option("--extra-index-url https://other.example/simple")
    made.python.conda_dependencies = conda
    made.register(ws)
    found = Environment.get(ws, "sections")
    assert found.python.conda_dependencies == conda
    assert definition(found) == definition(made)
    assert found.register(ws).version == "1"


def test_the_studio_names_the_line_that_is_wrong(ws, tmp_path):
    wrong = Environment("wrong")
    wrong.python.conda_dependencies.set_pip_requirements(["six", "numpy==", "-e ."])
    with pytest.raises(ApiError, match="packages: Line 2") as caught:
        wrong.register(ws)
    assert [(error["field"], error["line"]) for error in caught.value.errors] == [("packages", 2), ("packages", 3)]
    assert wrong.version is None and "wrong" not in Environment.list(ws)


def test_a_curated_environment_is_cloned_and_then_ones_own(ws):
    curated = Environment.get(ws, "azureml-minimal")
    assert (curated.name, curated.curated, curated.reference(ws)) == ("AzureML-Minimal", True, "AzureML-Minimal:1")
    curated.python.conda_dependencies.add_pip_package("six")
    with pytest.raises(UserError, match="clone"):
        curated.reference(ws)
    with pytest.raises(ApiError, match="curated") as caught:
        curated.register(ws)
    assert caught.value.status == 409
    mine = curated.clone("minimal-and-six")
    assert (mine.version, mine.curated) == (None, False) and curated.name == "AzureML-Minimal"
    assert mine.register(ws).version == "1"
    mine.python.conda_dependencies.add_pip_package("idna")
    assert mine.reference(ws) == "minimal-and-six:2", "changed, it is registered where it is used"


# -- made from files

CONDA = """\
name: vision
channels:
  - conda-forge
dependencies:
  - python=3.11
  - numpy=1.26
  - pip
  - pip:
      - --extra-index-url https://mirror.example/simple
      - six==1.16.0
variables:
  SEED: "7"
"""


def test_a_conda_file_is_read_as_the_studio_reads_it(ws, tmp_path):
    (tmp_path / "environment.yml").write_text(CONDA)
    made = Environment.from_conda_specification("from-conda", tmp_path / "environment.yml").register(ws)
    row = calls.register_text(ws, "from-conda", "conda", CONDA)
    assert row["version"] == int(made.version) == 1, "both have the same definition"
    assert row["definition"] == {
        "python_version": "3.11", "conda_channels": ["conda-forge"], "conda_packages": ["numpy=1.26"], "packages": ["six==1.16.0"],
        "extra_index_urls": ["https://mirror.example/simple"], "variables": {"SEED": "7"},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\ndependencies:\n- !!python/object:os.system x\n", "is no YAML"),
        ("name: x\na: &a [x]\ndependencies: [x]\n", "no YAML|'a' is not known"),
        ("- six\n", "must hold 'name: …'"),
        ("dependancies:\n- six\n", "'dependancies' is not known in it"),
        ("dependencies: six\n", "dependencies needs a list"),
    ],
)
def test_a_conda_file_that_cannot_be_read_is_refused_here(tmp_path, text, told):
    (tmp_path / "environment.yml").write_text(text)
    with pytest.raises(UserError, match=told):
        Environment.from_conda_specification("x", tmp_path / "environment.yml")


def test_a_requirements_file_is_read(ws, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("# ours\nsix==1.16.0  # exact\n\nidna\n--index-url https://mirror.example/simple\n")
    made = Environment.from_pip_requirements("from-pip", str(path)).register(ws)
    assert definition(Environment.get(ws, "from-pip")) == {
        "packages": ["six==1.16.0", "idna"],
        "index_url": "https://mirror.example/simple",
    }
    with pytest.warns(UserWarning, match="pip_version means nothing"):
        Environment.from_pip_requirements("from-pip", path, pip_version="24.0")
    with pytest.raises(UserError, match=r"file_path: .*none\.txt cannot be read"):
        Environment.from_pip_requirements("from-pip", tmp_path / "none.txt")
    assert made.version == "1"


def test_a_dockerfile_is_taken_as_text_path_and_open_file(ws, tmp_path):
    text = "FROM python:3.11-slim\nRUN pip install six\n"
    path = tmp_path / "Dockerfile"
    path.write_text(text)
    with path.open() as file:
        for given in (text, path, str(path), file):
            made = Environment.from_dockerfile("from-dockerfile", given).register(ws)
            assert made.version == "1" and made.docker.enabled
    found = Environment.get(ws, "from-dockerfile")
    assert found.docker.base_dockerfile == text and found.python.user_managed_dependencies
    (tmp_path / "requirements.txt").write_text("six\n")
    with_packages = Environment.from_dockerfile("more", text, pip_requirements=tmp_path / "requirements.txt")
    assert definition(with_packages) == {"dockerfile": text, "packages": ["six"]}
    with pytest.raises(ApiError, match="dockerfile: Line 2") as caught:
        Environment.from_dockerfile("x", "FROM a\nFRMO b\n").register(ws)
    assert caught.value.status == 422


def test_an_image_needs_its_registrys_password_once_and_never_shows_it(ws):
    registry = ContainerRegistry("registry.example:5000", "robot", "pass-phrase")
    made = Environment.from_docker_image("from-image", "registry.example:5000/team/vision:2", registry).register(ws)
    assert made.docker.base_image_registry.password is None
    found = Environment.get(ws, "from-image")
    assert (found.docker.base_image, found.python.user_managed_dependencies) == (made.docker.base_image, True)
    registry = found.docker.base_image_registry
    assert (registry.username, registry.secret, registry.password) == ("robot", "registry-from-image", None)
    assert "pass-phrase" not in json.dumps(calls.fetch(ws, "from-image"))
    with pytest.raises(ApiError, match="no secret named 'nothing'"):
        Environment.from_docker_image("x", "a", ContainerRegistry("registry.example", "u", secret="nothing")).register(
            ws
        )
    image = Environment.from_docker_image("image", "python:3.11")
    with pytest.raises(ApiError, match="local has no container engine"):
        image.build(ws)


def test_an_existing_conda_environment_is_named(ws):
    Environment.from_existing_conda_environment("existing", "/opt/conda/envs/vision").register(ws)
    assert Environment.get(ws, "existing").python.conda_environment == "/opt/conda/envs/vision"
    with pytest.raises(UserError, match="conda_environment_name"):
        Environment.from_existing_conda_environment("existing", "")


# -- as files


def test_a_folder_holds_what_was_saved(ws, tmp_path):
    made = tiny("saved", type("index", (), {"address": "https://mirror.example/simple"}), "six==1.16.0")
    made.python.conda_dependencies.set_python_version("3.11")
    made.docker.base_dockerfile = "FROM ubuntu:24.04\n"
    made.docker.base_image_registry = ContainerRegistry("registry.example", "robot", "pass-phrase", "KEY")
    made.spark.packages = ["org.apache.spark:spark-avro_2.13:4.1.0"]
    made.environment_variables = {"A": "1"}
    folder = tmp_path / "env"
    made.save_to_directory(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "BaseDockerfile", "azureml_environment.json", "conda_dependencies.yml",
    ]  # fmt: skip
    assert not any("pass-phrase" in path.read_text() for path in folder.iterdir())
    with pytest.raises(UserError, match="overwrite=True"):
        made.save_to_directory(folder)
    made.save_to_directory(folder, overwrite=True)
    found = Environment.load_from_directory(folder)
    assert (found.name, definition(found)) == ("saved", definition(made))
    assert CondaDependencies(folder / "conda_dependencies.yml").as_dict() == made.python.conda_dependencies.as_dict()


def test_a_folder_without_an_environment_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"azureml_environment\.json cannot be read"):
        Environment.load_from_directory(tmp_path)
    for text in ("{", "[]"):
        (tmp_path / "azureml_environment.json").write_text(text)
        with pytest.raises(UserError, match="is no JSON"):
            Environment.load_from_directory(tmp_path)


# -- built


def test_a_build_is_followed_to_its_end_and_a_run_uses_it(ws, index, tmp_path, capsys):
    made = tiny("built", index)
    details = made.build(ws)
    assert made.version == "1" and isinstance(details, ImageBuildDetails)
    details.wait_for_completion(show_output=True)
    shown = capsys.readouterr().out
    assert (details.status, details.error) == ("Ready", "")
    assert "tiny-a" in shown and shown.endswith("built:1 on local: Ready\n")
    assert details.get_log() and details.get_log() in shown
    (row,) = made.get_builds(ws)
    assert (row["target"], row["status"]) == ("local", "Ready") and row["size"] > 0
    assert details.serialize()["python"] == row["python"]
    asked = sum(index.asked.values())
    assert made.build(ws, "local").status == "Ready", "there is nothing to build"
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("import tiny_a, tiny_b; print(tiny_a.version, tiny_b.version)\n")
    run = Experiment(ws, "built").submit(ScriptRunConfig(project, "train.py", environment=made))
    run.wait_for_completion()
    assert "1.0 2.0" in run.read_log(0).decode()
    assert sum(index.asked.values()) == asked, "the run asked the index for nothing"


def test_a_run_registers_the_environment_that_it_brings(ws, index, tmp_path):
    (tmp_path / "train.py").write_text("import tiny_b; print(tiny_b.__file__)\n")
    made = tiny("brought", index, "tiny-b")
    run = Experiment(ws, "brought").submit(ScriptRunConfig(tmp_path, "train.py", environment=made))
    run.wait_for_completion()
    assert "tiny_b/__init__.py" in run.read_log(0).decode()
    assert made.version is None, "what was given is not changed, a copy was submitted"
    assert list(Environment.get(ws, "brought").python.conda_dependencies.pip_packages) == ["tiny-b"]


def test_a_failed_build_says_why_and_is_tried_again(ws, index, capsys):
    made = tiny("failing", index, "tiny-c")
    with pytest.raises(RunsteadError, match=r"the build of failing:1 on local failed: .*tiny-c") as caught:
        made.build(ws).wait_for_completion(show_output=True)
    assert not isinstance(caught.value, UserError)
    assert "tiny-c" in capsys.readouterr().out
    wheel(index.folder, "tiny-c", "1.0")
    details = made.build(ws)
    details.wait_for_completion(show_output=False)
    assert details.status == "Ready" and "failed" not in details.get_log().lower()
    assert capsys.readouterr().out == ""


def following_of(kind, run):
    words = ["-m", "runstead", "logs", "-f", str(run.number)]
    if kind == "Python":
        words = [
            "-c",
            f"from runstead import Workspace; Workspace.from_config().get_run({run.id!r}).wait_for_completion(show_output=True)",
        ]
    return [sys.executable, "-u", *words]


@pytest.mark.parametrize("kind", ["Python", "shell"])
def test_while_a_run_is_prepared_the_log_of_the_build_is_shown_apart_from_its_own(ws, index, tmp_path, kind):
    name = f"slow-{kind.lower()}"
    wheel(index.folder, name, "1.0")
    (tmp_path / "train.py").write_text("print('from the script')\n")
    config = ScriptRunConfig(tmp_path, "train.py", environment=tiny(name, index, name))
    out, err = tmp_path / "out", tmp_path / "err"
    with index.held(f"/simple/{name}/"):
        run = Experiment(ws, name).submit(config)
        until(lambda: index.asked[f"/simple/{name}/"], 60)
        with out.open("wb") as first, err.open("wb") as second:
            following = subprocess.Popen(
                following_of(kind, run),
                env={**os.environ, "PYTHONPATH": str(SDK)},
                stdout=first,
                stderr=second,
                stdin=subprocess.DEVNULL,
            )
        shown = out if kind == "Python" else err
        until(lambda: "Resolve 1 package" in shown.read_text(), 60, what="the build's log while it goes on")
        assert "from the script" not in out.read_text()
    assert following.wait(60) == 0
    log = Environment.get(ws, name).build(ws).get_log()
    assert log.rstrip("\n") in shown.read_text()
    if kind == "shell":
        assert out.read_text() == "from the script\n"
        assert f"[Build of {name}:1 on local]\n" in err.read_text()
    else:
        before, script = out.read_text().split("Streaming log\n=============\n\n")
        assert f"Streaming build of {name}:1 on local\n===" in before and log.rstrip("\n") in before
        assert script.startswith("from the script\n\nExecution Summary")


def test_an_index_with_a_password_is_read_by_the_name_of_a_secret(ws, tmp_path):
    folder = tmp_path / "private"
    wheel(folder, "tiny-p", "1.0")
    with serving(folder) as private:
        private.auth = "robot:pass-phrase"
        calls.keep_password(ws, "PRIVATE_INDEX", "robot:pass-phrase")
        made = tiny("private", private, "tiny-p")
        made.python.conda_dependencies.index_secret = "PRIVATE_INDEX"
        details = made.build_local(ws)
        details.wait_for_completion(show_output=False)
        assert details.status == "Ready" and "pass-phrase" not in details.get_log()


def test_a_build_goes_to_a_target_that_is_there(ws, index):
    with pytest.raises(ApiError, match="no compute target named moon"):
        tiny("moon", index).build(ws, "moon")


# -- the log, where it is long or begins anew: rows stand for a builder that writes as it likes


@pytest.fixture
def rows(live_server, workspace, contributor):
    """A workspace of the client, and a build in it that goes on."""
    build = factory.make_build(
        factory.make_target(workspace, "local"), version_of(workspace, "six"), BuildStatus.BUILDING, attempts=1
    )
    _, secret = Token.issue(user=contributor, workspace=workspace, name="test")
    return Workspace(live_server.url, workspace.slug, secret), build


def written(build, data):
    stream, _ = LogStream.objects.get_or_create(build=build, run=None, name="log")
    append(stream, stream.size, data)


@pytest.mark.django_db(transaction=True)
def test_a_log_that_is_longer_than_an_answer_is_read_whole(rows):
    ws, build = rows
    text = "".join(f"line {number} é\n" for number in range(120_000)).encode()
    written(build, text)
    assert len(text) > 1024 * 1024
    assert calls.build_log(ws, "mine:1", "local") == (text, len(text), "1")
    assert calls.build_log(ws, "mine:1", "local", len(text) - 3, "1") == (text[-3:], len(text), "1")
    assert calls.build_log(ws, "mine:1", "local", len(text), "1") == (b"", len(text), "1")


@pytest.mark.django_db(transaction=True)
def test_following_prints_a_log_that_begins_anew_from_its_beginning(rows, capsys, monkeypatch):
    """A builder was killed and another took over, while the client followed."""
    ws, build = rows
    written(build, "first é".encode()[:-1])
    asked = Transport.request

    def meanwhile(self, method, path, *args, **more):
        answer = asked(self, method, path, *args, **more)
        if path.endswith("/log") and answer.data.startswith(b"first"):
            LogStream.objects.filter(build=build).delete()
            Build.objects.filter(pk=build.pk).update(attempts=2)
            written(build, b"second try\n")
        elif path.endswith("/log") and answer.data:
            Build.objects.filter(pk=build.pk).update(status=BuildStatus.READY)
        return answer

    monkeypatch.setattr(Transport, "request", meanwhile)
    details = ImageBuildDetails(ws, "mine:1", calls.build_on(ws, "mine:1", "local"))
    details.wait_for_completion(show_output=True)
    shown = capsys.readouterr().out
    assert shown.startswith("first ") and shown.endswith("second try\nmine:1 on local: Ready\n")


@pytest.mark.django_db(transaction=True)
def test_a_lost_reply_refreshes_once(rows, monkeypatch):
    import http.client

    ws, build = rows
    whole, lost = http.client.HTTPConnection.getresponse, []

    def losing(self):
        answer = whole(self)
        if not lost:
            lost.append(answer.read())
            raise ConnectionResetError("lost")
        return answer

    monkeypatch.setattr(http.client.HTTPConnection, "getresponse", losing)
    assert calls.refresh(ws, "mine")["version"] == 2 and lost
    assert build.version.environment.versions.count() == 2


# -- from the shell


def shell(ws, *words, code=0):
    done = subprocess.run(
        [sys.executable, "-m", "runstead", "envs", *words], env={**os.environ, "PYTHONPATH": str(SDK)}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_register_show_label_and_list_from_a_shell(ws, tmp_path):
    path = tmp_path / "requirements.txt"
    path.write_text("six==1.16.0\n")
    assert shell(ws, "register", str(path), "--name", "shell")[0] == "shell:1\n"
    assert shell(ws, "register", str(path), "--name", "shell")[0] == "shell:1\n"
    (tmp_path / "definition.yml").write_text("packages: [six==1.17.0, idna]\nvariables: {A: '1'}\ndescription: Ours\n")
    out, _ = shell(ws, "register", str(tmp_path / "definition.yml"), "--name", "shell", "--json")
    assert json.loads(out)["version"] == 2
    assert shell(ws, "label", "shell:1", "stable")[0] == "shell@stable is shell:1\n"
    out, _ = shell(ws, "show", "shell@stable")
    assert out.splitlines()[0] == "shell:1 @stable" and "  six==1.16.0" in out.splitlines()
    out, _ = shell(ws, "show", "shell", "--json")
    row = json.loads(out)
    assert (row["version"], row["description"], row["builds"]) == (2, "Ours", [])
    lines = shell(ws)[0].splitlines()
    assert lines[0].split() == ["NAME", "VERSION", "KIND", "WHOSE", "DESCRIPTION"]
    assert ["shell", "2", "packages", "workspace", "Ours"] in [line.split() for line in lines]
    assert any(line.startswith("AzureML-Minimal") and "curated" in line for line in lines)
    assert "shell" in [row["name"] for row in json.loads(shell(ws, "--json")[0])]


def test_diff_tells_what_differs_and_exits_with_one(ws, tmp_path):
    path = tmp_path / "requirements.txt"
    for text in ("six==1.16.0\nidna\n", "six==1.17.0\npandas\n"):
        path.write_text(text)
        shell(ws, "register", str(path), "--name", "differing")
    out, _ = shell(ws, "diff", "differing:1", "differing:2", code=1)
    assert out.splitlines()[0] == "differing:1 -> differing:2"
    assert [line.strip() for line in out.splitlines()[2:]] == [
        "- idna any version",
        "+ pandas any version",
        "~ six ==1.16.0 -> ==1.17.0",
    ]
    assert "are the same" in shell(ws, "diff", "differing:2", "differing")[0]
    assert json.loads(shell(ws, "diff", "differing:1", "differing:2", "--json", code=1)[0])["same"] is False
    assert "Did you mean differing?" in shell(ws, "diff", "differing:1", "diffring", code=1)[1]


def test_refresh_and_build_follow_from_a_shell(ws, index):
    tiny("followed", index).register(ws)
    out, _ = shell(ws, "build", "followed", "--follow")
    assert "tiny-a" in out and out.endswith("followed:1 on local: Ready\n")
    assert shell(ws, "build", "followed")[0] == "followed:1 on local: Ready\n"
    out, _ = shell(ws, "show", "followed")
    assert ["local", "Ready"] in [line.split()[:2] for line in out.splitlines()]
    assert shell(ws, "refresh", "followed")[0].startswith("followed:2: ")
    wheel(index.folder, "tiny-b", "2.1")
    row = json.loads(shell(ws, "build", "followed", "--follow", "--json")[0])
    assert (row["status"], row["target"]) == ("Ready", "local")
    out, _ = shell(ws, "diff", "followed:1", "followed:2", code=1)
    assert "  ~ tiny-b 2.0 -> 2.1" in out.splitlines() and out.splitlines()[1].startswith("installed (")


def test_a_build_that_fails_exits_with_one(ws, index):
    tiny("broken", index, "nowhere-to-be-found").register(ws)
    out, said = shell(ws, "build", "broken", "--follow", code=1)
    assert "nowhere-to-be-found" in out and "the build of broken:1 on local failed" in said
    row = json.loads(shell(ws, "build", "broken", "--follow", "--json", code=1)[0])
    assert row["status"] == "Failed" and "nowhere-to-be-found" in row["error"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["show", "nowhere"], "name: there is no environment 'nowhere'. There are: "),
        (["show", "python:99"], "version: python has no version 99. There are: 1"),
        (["build", "python", "--target", "moon"], "target: There is no compute target named moon."),
        (["refresh", "python"], "Clone it"),
        (["label", "python", "stable"], "Clone it"),
        (["register", "none.txt", "--name", "x"], "FILE: none.txt cannot be read"),
        (["register", "environment", "--name", "x"], "what is environment? Say it: --format requirements"),
        (["register", "requirements.txt", "--name", "x"], "packages: Line 2"),
        (["register", "conda.yml", "--name", "x"], "Line 3"),
        (["register", "requirements.txt", "--name", "python"], "python is curated"),
        (["register", "Dockerfile", "--name", "x"], "empty"),
    ],
)
def test_a_wrong_call_names_the_field_and_the_fix(ws, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    Path("requirements.txt").write_text("six\n-e .\n" if "x" in words else "six\n")
    Path("environment").write_text("six\n")
    Path("conda.yml").write_text("name: x\ndependencies:\n- numpy==\n")
    Path("Dockerfile").write_text("")
    _, said = shell(ws, *words, code=1)
    assert told in said
    assert "x" not in Environment.list(ws)
