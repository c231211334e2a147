"""The steps of a build, and what they do on a target: run here as the supervisor would run them, with real interpreters."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import fields
from pathlib import Path

import pytest

from environments.build_spec import NOT_PASSED, passed_variables
from environments.builders import BUILDERS, Place, on_target, target_index
from environments.builds import first_error
from environments.definition import Definition
from environments.programs import own_uv

BASE = f"/usr/bin/python{sys.version_info.major}"
KEY, ATTEMPT = "a" * 64, "b" * 32


def place(root: Path, *, uv: str | None = None, avoid: str = "", attempt: str = ATTEMPT) -> Place:
    return Place(root=str(root), key=KEY, attempt=attempt, tools={"uv": uv}, avoid=avoid)


def run_steps(
    kind: str, definition: Definition, where: Place, folder: Path, *, user: str | None = None, **variables: str
):
    """Run a builder's steps as a supervisor does, as another user by the system's Python; return (exit code, output, result)."""
    (folder / "artifacts").mkdir(parents=True, exist_ok=True)
    (folder / "spec.json").write_text(json.dumps({"build": where.wish(definition)}))
    output = ""
    for step in BUILDERS[kind](definition, where):
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "RUNSTEAD_RUN_DIR": str(folder),
            **variables,
            **step["env"],
        }
        done = subprocess.run(
            [BASE if user else sys.executable, *step["argv"][1:]],
            env=env, cwd=folder, text=True, capture_output=True, check=False, user=user,
        )  # fmt: skip
        output += done.stdout + done.stderr
        if done.returncode:
            return done.returncode, output, None
    return 0, output, json.loads((folder / "artifacts" / "result.json").read_text())


def test_there_is_a_builder_for_every_definition():
    of_containers = {"docker_image"}  # chosen by the target, whatever the definition
    kinds = (Definition(), Definition(user_managed=True), Definition(conda_packages=("numpy",)))
    assert {kind.builder for kind in kinds} == set(BUILDERS) - of_containers


def test_a_plan_names_verbs_and_no_shell_and_the_rest_is_in_the_specification(tmp_path):
    definition, where = Definition(packages=("numpy; sys_platform == 'linux'",)), place(tmp_path, uv="/opt/uv")
    steps = BUILDERS["venv"](definition, where)
    assert [step["title"] for step in steps] == [
        "Create a virtual environment with the machine's own Python 3",
        "Resolve 1 package and what it needs",
        "Install it with uv",
        "Record what was installed",
    ]
    assert [(step["argv"][:2], step["argv"][3:]) for step in steps] == [
        (["python3", "-c"], [verb]) for verb in ("create", "resolve", "install", "record")
    ]
    wish = where.wish(definition)
    assert wish["definition"] == {"packages": ["numpy; sys_platform == 'linux'"]}
    assert wish["prefix"] == f"{tmp_path}/envs/{KEY}/{ATTEMPT[:12]}"


def test_the_program_on_the_target_knows_every_field_of_a_definition():
    empty = {one.name: getattr(Definition(), one.name) for one in fields(Definition)}
    assert {name: [] if value == () else value for name, value in empty.items()} == on_target.DEFINITION


def test_without_packages_nothing_is_installed(tmp_path):
    assert [step["argv"][3] for step in BUILDERS["venv"](Definition(), place(tmp_path))] == ["create", "record"]


def test_an_existing_interpreter_is_checked_and_its_packages_listed(tmp_path):
    definition = Definition(user_managed=True, interpreter_path=sys.executable)
    code, output, result = run_steps("interpreter", definition, place(tmp_path), tmp_path / "build")
    assert code == 0, output
    assert result["python"] == sys.executable
    assert result["version"] == ".".join(map(str, sys.version_info[:3]))
    assert "pytest==" + pytest.__version__ in result["lock"].splitlines()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: None, "does not exist on this machine"),
        (lambda p: p.write_text("#!/bin/sh\n"), "cannot be executed"),
        (lambda p: (p.write_text("#!/bin/sh\necho hello\n"), p.chmod(0o755)), "is not a Python 3 interpreter"),
        (lambda p: (p.write_text("#!/nowhere\n"), p.chmod(0o755)), "is not a Python 3 interpreter"),
    ],
)
def test_a_path_that_is_no_interpreter_fails_with_the_reason_and_what_there_is(tmp_path, make, why):
    path = tmp_path / "python"
    make(path)
    definition = Definition(user_managed=True, interpreter_path=str(path))
    code, output, _ = run_steps("interpreter", definition, place(tmp_path), tmp_path / "build")
    assert code == 1
    assert why in first_error(output.encode())


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become the user whom the folder is closed to")
@pytest.mark.parametrize(
    "asked",
    [{"interpreter_path": "closed/env/bin/python"}, {"interpreter_path": "link"}, {"conda_environment": "closed/env"}],
    ids=["interpreter", "link", "conda environment"],
)
def test_what_the_user_may_not_reach_is_told_apart_from_what_is_not_there(tmp_path, asked):
    folder, home = Path(tempfile.mkdtemp()), tmp_path / "closed"
    try:
        prefix = home / "env"
        (prefix / "bin").mkdir(parents=True)
        (prefix / "bin" / "python").symlink_to(BASE)
        (tmp_path / "link").symlink_to(prefix / "bin" / "python")
        home.chmod(0o700)
        (folder / "artifacts").mkdir()
        shutil.chown(folder, "nobody")
        shutil.chown(folder / "artifacts", "nobody")
        for above in (tmp_path, *tmp_path.parents):
            if not above.stat().st_mode & 0o001:
                above.chmod(above.stat().st_mode | 0o011)
        definition = Definition(user_managed=True, **{name: str(tmp_path / path) for name, path in asked.items()})
        code, output, _ = run_steps(definition.builder, definition, place(folder), folder, user="nobody")
    finally:
        shutil.rmtree(folder)
    assert code == 1
    assert f"cannot be reached: the folder {home} is closed to the user nobody" in first_error(output.encode())


def test_the_default_interpreter_is_not_the_studios_own(tmp_path):
    where = place(tmp_path, avoid=sys.prefix)
    code, output, result = run_steps("interpreter", Definition(user_managed=True), where, tmp_path / "build")
    assert code == 0, output
    assert not result["python"].startswith(sys.prefix + "/")


def test_a_name_that_is_not_on_the_path_is_said(tmp_path):
    definition = Definition(user_managed=True, interpreter_path="python-of-nobody")
    code, output, _ = run_steps("interpreter", definition, place(tmp_path), tmp_path / "build")
    assert code == 1
    assert "no program named python-of-nobody" in output


def test_a_python_version_that_is_not_there_fails_naming_what_is(tmp_path):
    code, output, _ = run_steps("venv", Definition(python_version="3.99"), place(tmp_path), tmp_path / "build")
    assert code == 1
    here = ".".join(map(str, sys.version_info[:3]))
    assert first_error(output.encode()).startswith("Python 3.99 is not on this machine. Found:")
    assert here in output


@pytest.mark.parametrize("with_uv", [True, False])
def test_a_virtual_environment_is_whole_and_independent_of_how_it_is_made(tmp_path, with_uv):
    wheel = make_wheel(tmp_path / "wheels")
    where = place(tmp_path, uv=own_uv() if with_uv else None)
    settings = {"PIP_FIND_LINKS": str(wheel.parent), "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": os.devnull}
    definition = Definition(packages=("Tiny_Tool==1.0",))
    code, output, result = run_steps("venv", definition, where, tmp_path / "build", **settings)
    assert code == 0, output
    assert "tiny-tool==1.0" in result["lock"].splitlines()
    assert result["size"] > 0
    # Nothing was moved: the console script of the package names its interpreter and starts.
    script = Path(result["python"]).parent / "tiny-tool"
    assert subprocess.check_output([script], text=True) == "tiny\n"
    assert subprocess.check_output(
        [result["python"], "-c", "import tiny_tool; print(tiny_tool.__cached__)"], text=True
    ).strip()
    assert list((Path(where.prefix) / "lib").rglob("tiny_tool/__pycache__/*.pyc"))
    assert json.loads((tmp_path / "envs" / KEY / ".runstead.json").read_text())["python"] == result["python"]


def test_what_a_killed_builder_left_is_cleared_and_cannot_be_taken_for_an_environment(tmp_path):
    ruin = tmp_path / "envs" / KEY / "0123456789ab"
    (ruin / "bin").mkdir(parents=True)
    (ruin / "bin" / "python").write_text("")
    code, output, result = run_steps("venv", Definition(), place(tmp_path, uv=own_uv()), tmp_path / "build")
    assert code == 0, output
    assert not ruin.exists()
    assert result["python"] == f"{tmp_path}/envs/{KEY}/{ATTEMPT[:12]}/bin/python"


def test_a_whole_environment_is_used_again_and_a_damaged_one_is_not(tmp_path):
    definition = Definition()
    first = run_steps("venv", definition, place(tmp_path, uv=own_uv()), tmp_path / "one")[2]
    again = place(tmp_path, uv=own_uv(), attempt="c" * 32)
    code, output, second = run_steps("venv", definition, again, tmp_path / "two")
    assert (code, second["python"]) == (0, first["python"])
    assert "Already here" in output
    shutil.rmtree(Path(first["python"]).parent.parent / "bin")
    third = run_steps("venv", definition, place(tmp_path, uv=own_uv(), attempt="d" * 32), tmp_path / "three")[2]
    assert third["python"] == f"{tmp_path}/envs/{KEY}/{'d' * 12}/bin/python"


def test_the_settings_of_pip_are_said_in_the_words_of_uv(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_", "SSL_"))]:
        monkeypatch.delenv(name)
    links = tmp_path / "wheels"
    links.mkdir()
    config = tmp_path / "pip.conf"
    config.write_text(
        f"[global]\nindex-url = https://one.example/simple\nextra-index-url =\n  https://two.example/simple\n  https://three.example/simple\n"
        f"cert = /etc/ca.pem\nfind_links = {links} /nowhere\n[install]\ntrusted-host = one.example\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "90")
    monkeypatch.setenv("UV_CONFIG_FILE", "/etc/uv.toml")
    monkeypatch.setenv("UV_SYSTEM_CERTS", "0")
    said = target_index.uv_settings()
    assert said == {
        "UV_DEFAULT_INDEX": "https://one.example/simple",
        "UV_INDEX": "https://two.example/simple https://three.example/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(links),
        "UV_INSECURE_HOST": "one.example",
        "UV_HTTP_TIMEOUT": "90",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://mine.example/simple")
    assert "UV_DEFAULT_INDEX" not in target_index.uv_settings()


def test_only_variables_about_fetching_packages_leave_the_studio():
    given = {
        "UV_DEFAULT_INDEX": "i", "PIP_INDEX_URL": "i", "HTTPS_PROXY": "p", "https_proxy": "p", "SSL_CERT_FILE": "c", "NO_PROXY": "n",
        "RUNSTEAD_SECRET_KEY": "s", "AWS_SECRET_ACCESS_KEY": "s", "PATH": "p", "UV_CACHE_DIR": "/x", "PIP_TARGET": "/x", "UV_PYTHON": "3.9",
    }  # fmt: skip
    assert set(passed_variables(given)) == {
        "UV_DEFAULT_INDEX",
        "PIP_INDEX_URL",
        "HTTPS_PROXY",
        "https_proxy",
        "SSL_CERT_FILE",
        "NO_PROXY",
    }
    assert NOT_PASSED.match("UV_PROJECT_ENVIRONMENT")


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (b"+ Install\nerror: No solution found\n  cause: Because x\n      y\n\nhint: z\n", "No solution found: Because x y"),
        (b"  \xc3\x97 No solution found when resolving:\n  \xe2\x95\xb0\xe2\x94\x80\xe2\x96\xb6 Because a was not found and you\n      require a.\n",
         "No solution found when resolving: Because a was not found and you require a."),
        (b"Collecting x\nERROR: Could not find a version of x\nERROR: No matching distribution\n", "Could not find a version of x"),
        (b"\x1b[31merror\x1b[39m: red\n", "red"),
        (b"all is well\n", ""),
        (b"\xff\xfe error: not at the start\nerror: yes\n", "yes"),
    ],
)  # fmt: skip
def test_the_first_error_of_a_log_becomes_one_line(log, line):
    assert first_error(log) == line


def make_wheel(folder: Path) -> Path:
    """A pure-Python wheel with a console script, made here: no index and no network."""
    import zipfile

    folder.mkdir(parents=True)
    path = folder / "tiny_tool-1.0-py3-none-any.whl"
    files = {
        "tiny_tool/__init__.py": "def main():\n    print('tiny')\n",
        "tiny_tool-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: tiny-tool\nVersion: 1.0\n",
        "tiny_tool-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "tiny_tool-1.0.dist-info/entry_points.txt": "[console_scripts]\ntiny-tool = tiny_tool:main\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(
            "tiny_tool-1.0.dist-info/RECORD", "".join(f"{n},,\n" for n in [*files, "tiny_tool-1.0.dist-info/RECORD"])
        )
    return path
