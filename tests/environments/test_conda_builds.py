"""Conda environments, really solved and installed from a real channel in a folder: by rattler, which nobody has to install, and by
conda's own programs as far as ``conda_program`` stands in for them."""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from environments.builders import on_conda, on_target, target_conda
from environments.builds import reason_text
from environments.definition import Definition
from environments.programs import own_uv
from tests.environments.conda_program import make_program
from tests.environments.test_builders import place, run_steps
from tests.environments.wheels import wheel
from tests.infra import conda_channel

TAG = target_conda.tag()
# A developer's own conda is none of the tests' business, but their Pythons are.
BARE = {"PATH": f"{Path(sys.executable).resolve().parent}:/usr/bin:/bin", "PIP_CONFIG_FILE": os.devnull}
PROGRAMS = [("micromamba", "1.5.8"), ("mamba", "2.1.0"), ("conda", "23.7.4"), ("conda", "24.9.0")]


@pytest.fixture(scope="module", autouse=True)
def no_conda_here() -> None:
    if next(target_conda.places_of_tools({}), None) is not None:
        pytest.skip("this machine has a conda of its own, which builds would find")


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A folder that other users may read, too."""
    folder = Path(tempfile.mkdtemp(prefix="conda-tests-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def channel(shared) -> str:
    folder = conda_channel.make_channel(shared / "channel", conda_channel.usual())
    return folder.as_uri()


@pytest.fixture(scope="module")
def wheels(shared) -> Path:
    """What a machine without any network is given: rattler for this kind of machine, and a small package."""
    folder = shared / "wheels"
    wheel(folder, "tiny-a", "1.0", "tiny-b>=1")
    wheel(folder, "tiny-b", "2.0")
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    subprocess.run([*argv, f"py-rattler=={on_conda.RATTLER}"], check=True)
    return folder


class Target:
    """A machine's root folder, in which each build has a key of its own."""

    def __init__(self, root: Path, wheels: Path, channel: str) -> None:
        self.root = root
        self.index = {"offline": True, "find_links": [str(wheels)], "conda_channels": [channel]}
        self.uv: str | None = own_uv()
        self.count = 0
        self.output = ""
        self.env: dict[str, str] = {}

    def __call__(
        self, *conda: str, pip: "tuple[str, ...]" = (), locks: "dict[str, str] | None" = None, same: bool = False, **fields
    ):  # fmt: skip
        """The result of a build, or the line that says why there is none. ``same``: another attempt of the build before."""
        self.count += 1
        where = place(self.root, uv=self.uv, attempt=f"{self.count:012x}{0:020x}")
        where = replace(where, index=self.index, locks=locks or {}, key=where.key if same else f"{self.count:064x}")
        definition = Definition(conda_packages=conda, packages=pip, **fields)
        folder = self.root / "builds" / where.attempt
        env = {**BARE, "HOME": str(self.root / "home"), **self.env}
        code, self.output, result = run_steps(definition.builder, definition, where, folder, **env)
        if code == 0:
            return result
        written = folder / "artifacts" / "result.json"
        said = json.loads(written.read_text()) if written.exists() else None
        return reason_text({"reason": "exit_code", "exit_code": code, "result": said}, self.output.encode())


@pytest.fixture(scope="module")
def rattler_there(shared, wheels, channel) -> Path:
    """A root in which rattler was fetched once."""
    target = Target(shared / "first", wheels, channel)
    result = target("data-files")
    assert isinstance(result, dict), target.output
    assert f"rattler {on_conda.RATTLER} makes the environment" in target.output
    return target.root


@pytest.fixture
def target(tmp_path, rattler_there, wheels, channel) -> Target:
    """A machine of its own whose cache has rattler, and nothing else."""
    name = f"rattler-{on_conda.RATTLER}"
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / name).symlink_to(rattler_there / "cache" / name)
    return Target(tmp_path, wheels, channel)


def imports(result: dict, code: str) -> str:
    return subprocess.check_output([result["python"], "-c", code], text=True).strip()


# -- by rattler


def test_packages_are_solved_installed_and_described_and_know_their_place(target, channel):
    result = target("beta", pip=("tiny-a",))
    assert isinstance(result, dict), target.output
    prefix = str(Path(result["python"]).parents[1])
    assert imports(result, "import sys, alpha, beta, tiny_b, ssl; print(sys.prefix, alpha.VERSION)") == f"{prefix} 2.0"
    said = subprocess.check_output([f"{prefix}/bin/alpha-say"], text=True)
    assert said == "alpha 2.0\n"
    # Paths in texts and, padded to their length, in binary files.
    assert subprocess.check_output([f"{prefix}/bin/data-files"], text=True) == "1.5\n"
    binary = Path(prefix, "share/data-files/where.bin").read_bytes()
    assert f"{prefix}/share/data-files\0".encode() in binary
    assert len(binary) == len(conda_channel.data_package("data-files", "1.5").files["share/data-files/where.bin"])
    packages = {one["name"]: one for one in result["packages"]}
    assert packages["alpha"] == {
        "name": "alpha",
        "version": "2.0",
        "license": "MIT",
        "modules": ["alpha"],
        "from": "conda",
    }
    assert (packages["tiny-b"]["from"], packages["python"]["license"]) == ("pip", "Python-2.0")
    python = platform.python_version()
    assert result["lock"] == f"alpha==2.0\nbeta==1.0\ndata-files==1.5\npython=={python}\ntiny-a==1.0\ntiny-b==2.0\n"
    assert (result["version"], result["platform"]) == (python, TAG)
    assert result["extras"]["variables"]["CONDA_PREFIX"] == prefix
    entries, pip = target_conda.read_lock(result["lock_text"])
    assert [entry["url"].rsplit("/", 1)[1] for entry in entries] == [
        f"python-{python}-h0_0.conda", "data-files-1.5-h0_0.tar.bz2", "alpha-2.0-py_0.conda", "beta-1.0-py_0.conda",
    ]  # fmt: skip
    assert all(len(entry["sha256"]) == 64 and len(entry["md5"]) == 32 for entry in entries)
    assert all(entry["url"].startswith(channel) for entry in entries)
    assert pip.count("--hash=sha256:") == 2
    home = target.root / "home"
    assert not home.exists() or not list(home.rglob("environments.txt"))


def test_a_lock_gives_the_same_packages_when_the_channel_has_newer_ones(target, shared, channel):
    first = target("alpha", pip=("tiny-b",))
    newer = shared / "newer"
    shutil.copytree(shared / "channel", newer)
    conda_channel.make_channel(newer, [conda_channel.module("alpha", "3.0")])
    target.index = {**target.index, "conda_channels": [newer.as_uri()]}
    again = target("alpha", pip=("tiny-b",), locks={TAG: first["lock_text"]})
    assert (again["lock"], again["lock_text"]) == (first["lock"], first["lock_text"]), target.output
    assert "are known" in target.output
    assert "alpha==3.0" in target("alpha", pip=("tiny-b",))["lock"]


def test_another_kind_of_machine_gets_the_same_versions_where_it_can(target):
    theirs = "# platform: win-64\n@EXPLICIT\nhttps://host/c/noarch/alpha-1.0-py_0.tar.bz2#00\nhttps://host/c/win-64/vc-1-0.conda\n"
    assert "alpha==1.0\n" in target("alpha", locks={"conda-win-64": theirs})["lock"]
    result = target("alpha", locks={"conda-win-64": theirs.replace("alpha-1.0", "alpha-0.5")})
    assert "alpha==2.0\n" in result["lock"]
    assert "cannot all be had here" in target.output


@pytest.mark.parametrize(
    ("conda", "fields", "says"),
    [
        (("no-such-thing",), {}, "no package fits no-such-thing in the channels file://"),
        (("alpha>=9",), {}, "no package fits alpha >=9 in the channels"),
        (("alpha",), {"python_version": "3.1"}, "no package fits python 3.1.* in the channels"),
        (
            ("beta", "gamma"),
            {},
            "these packages do not go together: beta 1.0 needs alpha >=2; gamma 1.0 needs alpha <2",
        ),
    ],
)
def test_what_cannot_be_had_is_said_in_one_line(target, conda, fields, says):
    assert says in target(*conda, **fields)
    assert target.output.count("error: ") == 1


def test_a_damaged_or_replaced_archive_is_not_installed(target, shared, channel):
    lock = target("beta")["lock_text"]
    damaged = shared / "damaged"
    shutil.copytree(shared / "channel", damaged, dirs_exist_ok=True)
    path = damaged / "noarch" / "beta-1.0-py_0.conda"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    target.index = {**target.index, "conda_channels": [damaged.as_uri()]}
    for locks in ({}, {TAG: lock}):
        assert "beta-1.0-py_0.conda is not the file that was noted: its sha256 is" in target("beta", locks=locks)
    path.unlink()
    assert "beta-1.0-py_0.conda" in target("beta", locks={TAG: lock})


def test_a_channel_that_is_not_there_and_offline_without_one_say_so(target):
    target.index = {**target.index, "conda_channels": ["file:///nowhere/channel"]}
    assert "could not find subdir 'noarch' in channel 'file:///nowhere/channel" in target("alpha")
    target.index = {**target.index, "conda_channels": []}
    assert "is offline and has no conda channels of its own" in target("alpha", conda_channels=("conda-forge",))


def test_where_rattler_cannot_be_installed_the_way_out_is_named(tmp_path, channel):
    target = Target(tmp_path, tmp_path / "empty", channel)
    (tmp_path / "empty").mkdir()
    said = target("alpha")
    assert said.startswith(
        f"rattler {on_conda.RATTLER}, which makes conda environments where there is no conda, cannot be installed"
    )
    assert "Install micromamba there" in said


def test_a_ruin_of_a_killed_builder_is_cleared_and_a_whole_environment_is_taken_again(target):
    first = target("alpha", same=True)
    marker = Path(first["python"]).parents[2] / on_target.MARKER
    again = target("alpha", same=True)
    assert again == first
    assert "Already here" in target.output
    shutil.rmtree(Path(first["python"]).parents[1] / "conda-meta")
    rebuilt = target("alpha", same=True)
    assert rebuilt["python"] != first["python"] and not Path(first["python"]).exists()
    marker.unlink()
    assert target("alpha", same=True)["python"] not in {first["python"], rebuilt["python"]}


def test_pip_leaves_what_conda_has_installed_where_that_fits(target, shared, wheels):
    wheel(wheels, "alpha", "2.0")
    wheel(wheels, "alpha", "3.0")
    wheel(wheels, "needs-any", "1.0", "alpha")
    wheel(wheels, "needs-new", "1.0", "alpha>=3")
    result = target("alpha", pip=("needs-any",))
    assert target_conda.read_lock(result["lock_text"])[1].count("==") == 1, result["lock_text"]
    assert {one["name"]: one["from"] for one in result["packages"]}["alpha"] == "conda"
    result = target("alpha", pip=("needs-new",))
    assert next(one for one in result["packages"] if one["name"] == "alpha") == {
        "name": "alpha", "version": "3.0", "license": "", "modules": ["alpha"], "from": "pip",
    }  # fmt: skip
    assert "alpha==3.0\n" in result["lock"]


def test_what_activating_sets_is_noted_for_runs(target, shared):
    folder = shared / "activating"
    shutil.copytree(shared / "channel", folder)
    script = b'export TOOL_DATA="$CONDA_PREFIX/share/tool data"\nexport PATH="/elsewhere:$PATH"\necho noise\n'
    conda_channel.make_channel(
        folder, [conda_channel.Package("tool", "1.0", {"etc/conda/activate.d/tool.sh": script, "share/x": b"1"})]
    )
    target.index = {**target.index, "conda_channels": [folder.as_uri()]}
    result = target("tool")
    prefix = str(Path(result["python"]).parents[1])
    assert result["extras"]["variables"] == {
        "CONDA_PREFIX": prefix, "CONDA_DEFAULT_ENV": prefix, "CONDA_SHLVL": "1", "TOOL_DATA": f"{prefix}/share/tool data",
    }  # fmt: skip


# -- by conda, mamba or micromamba


@pytest.mark.parametrize(("kind", "version"), PROGRAMS)
def test_a_program_on_the_target_makes_the_same_environment(target, rattler_there, kind, version):
    expected = target("beta", pip=("tiny-b",))
    folder = target.root / "home" / ("miniforge3/bin" if kind == "conda" else "bin")
    program = make_program(folder, kind, version, rattler_there / "cache" / f"rattler-{on_conda.RATTLER}")
    found = target("beta", pip=("tiny-b",))
    assert isinstance(found, dict), target.output
    assert f"Made by {kind} {version} at {program}" in target.output
    assert (found["lock"], found["lock_text"]) == (expected["lock"], expected["lock_text"])
    again = target("beta", pip=("tiny-b",), locks={TAG: found["lock_text"]})
    assert isinstance(again, dict), target.output
    assert again["lock_text"] == found["lock_text"]
    assert "beta-1.0-py_0" in target("beta", locks={TAG: found["lock_text"].replace("/beta-1.0", "/lost/beta-1.0")})
    assert "nothere" in target("nothere")
    assert target.output.count("\nerror: ") == 1
    assert "alpha" in target("beta", "gamma")


def test_a_program_that_does_not_answer_is_passed_over(target):
    broken = target.root / "home" / "bin" / "conda"
    broken.parent.mkdir(parents=True)
    broken.write_text("#!/bin/sh\nexit 3\n")
    broken.chmod(0o755)
    assert "alpha==2.0\n" in target("alpha")["lock"]
    assert "Made by rattler" in target.output


# -- existing environments


def test_an_existing_environment_is_found_by_name_and_by_path(target):
    prefix = Path(target("alpha")["python"]).parents[1]
    home = target.root / "home"
    (home / ".conda").mkdir(parents=True)
    (home / ".conda" / "environments.txt").write_text(f"{prefix}\n/gone/vision\n")
    for name in (prefix.name, str(prefix)):
        result = target(conda_environment=name)
        assert isinstance(result, dict), target.output
        assert (result["python"], result["size"]) == (f"{prefix}/bin/python", 0)
        assert {one["name"]: one["from"] for one in result["packages"]} == {
            "alpha": "conda", "data-files": "conda", "python": "conda",
        }  # fmt: skip
        assert result["extras"]["variables"]["CONDA_PREFIX"] == str(prefix)
    elsewhere = target.root / "envs-of-the-group"
    elsewhere.mkdir()
    (elsewhere / "vision").symlink_to(prefix)
    target.env = {"CONDA_ENVS_PATH": str(elsewhere)}
    assert target(conda_environment="speech").startswith(
        f"no conda environment of the name speech is on this machine. There are: {prefix.name} ({prefix})."
    )
    assert "is not a folder on this machine. There are: " in target(conda_environment="/opt/nowhere")
