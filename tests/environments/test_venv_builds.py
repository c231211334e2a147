"""Virtual environments: resolved once, installed from the lock, from the index that is named and no other; by uv and by pip."""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from environments.builders import target_lock, target_python
from environments.builds import reason_text
from environments.definition import Definition
from environments.programs import own_uv
from tests.environments.test_builders import place, run_steps
from tests.environments.wheels import serving, wheel

PLATFORM = target_python.platform_of(sys.executable)
BOTH = pytest.mark.parametrize("installer", ["uv", "pip"])
QUIET = {"PIP_CONFIG_FILE": os.devnull, "HTTP_PROXY": "", "HTTPS_PROXY": ""}
AUTH = "ada:sword/fish 1@"


class Builder:
    """Builds below a folder, with one cache for all; each attempt in a folder of its own."""

    def __init__(self, folder: Path, installer: str, **index: object) -> None:
        self.folder = folder
        self.uv = own_uv() if installer == "uv" else None
        self.index = index
        self.count = 0
        self.output = ""
        self.seconds = 0.0

    def __call__(
        self, *packages: str, locks: dict[str, str] | None = None, python: str = "", env: dict[str, str] | None = None
    ):
        """The result of a build, or the line that says why there is none."""
        self.count += 1
        root = self.folder / f"target-{self.count}"
        where = place(root, uv=self.uv, attempt=f"{self.count:012x}{0:020x}")
        where = replace(where, index=self.index, locks=locks or {})
        definition = Definition(packages=packages, python_version=python)
        began = time.monotonic()
        code, self.output, result = run_steps("venv", definition, where, root / "build", **{**QUIET, **(env or {})})
        self.seconds = time.monotonic() - began
        if code == 0:
            return result
        written = root / "build" / "artifacts" / "result.json"
        said = json.loads(written.read_text()) if written.exists() else None
        return reason_text({"reason": "exit_code", "exit_code": code, "result": said}, self.output.encode())


@pytest.fixture
def wheels(tmp_path) -> Path:
    folder = tmp_path / "wheels"
    wheel(
        folder,
        "tiny-a",
        "1.0",
        "tiny-b>=1",
        'tiny-d; extra == "more"',
        'no-such; sys_platform == "win32"',
        headers="Provides-Extra: more\n",
    )
    wheel(folder, "tiny-b", "1.0")
    wheel(folder, "tiny-b", "2.0")
    wheel(folder, "tiny-c", "1.0", "tiny-b<2")
    wheel(folder, "tiny-d", "1.0")
    wheel(folder, "only-win", "1.0", tag="cp311-cp311-win_amd64")
    wheel(folder, "only-new", "1.0", headers="Requires-Python: >=3.99\n")
    return folder


@pytest.fixture
def index(wheels):
    with serving(wheels) as served:
        yield served


def imports(result: dict, code: str) -> str:
    return subprocess.check_output([result["python"], "-c", code], text=True).strip()


@BOTH
def test_what_is_resolved_once_is_installed_again_whatever_the_index_has_since(tmp_path, wheels, index, installer):
    build = Builder(tmp_path, installer, index_url=index.address)
    first = build("tiny-a[more]>=1", "tiny-c; python_version > '3'")
    assert first["platform"] == PLATFORM
    assert first["lock"] == "tiny-a==1.0\ntiny-b==1.0\ntiny-c==1.0\ntiny-d==1.0\n"
    assert first["lock_text"].count("--hash=sha256:") == 4
    assert index.address.split("//")[1] not in first["lock_text"]
    # Newer ones appear: the lock counts.
    wheel(wheels, "tiny-d", "2.0")
    wheel(wheels, "tiny-a", "1.5")
    again = build("tiny-a[more]>=1", "tiny-c; python_version > '3'", locks={PLATFORM: first["lock_text"]})
    assert (again["lock"], again["lock_text"]) == (first["lock"], first["lock_text"])
    assert f"as settled when this was first built for {PLATFORM}" in build.output
    refreshed = build("tiny-a[more]>=1", "tiny-c; python_version > '3'")
    assert refreshed["lock"] == "tiny-a==1.5\ntiny-c==1.0\ntiny-b==1.0\n".replace(
        "tiny-c==1.0\ntiny-b==1.0", "tiny-b==1.0\ntiny-c==1.0"
    )


def test_uv_and_pip_settle_the_same_packages_and_read_each_others_locks(tmp_path, wheels):
    uv, pip = (Builder(tmp_path / name, name, find_links=[str(wheels)], offline=True) for name in ("uv", "pip"))
    by_uv, by_pip = uv("tiny-a"), pip("tiny-a")
    assert by_uv["lock"] == by_pip["lock"] == "tiny-a==1.0\ntiny-b==2.0\n"
    assert by_uv["lock_text"] == by_pip["lock_text"]
    assert pip("tiny-a", locks={PLATFORM: by_uv["lock_text"]})["lock"] == by_uv["lock"]
    assert uv("tiny-a", locks={PLATFORM: by_pip["lock_text"]})["lock"] == by_uv["lock"]


@BOTH
def test_the_versions_of_another_platform_are_kept_where_they_fit_and_given_up_where_not(tmp_path, wheels, installer):
    build = Builder(tmp_path, installer, find_links=[str(wheels)], offline=True)
    theirs = "tiny-a==1.0 \\\n    --hash=sha256:00\ntiny-b==1.0+cu121 \\\n    --hash=sha256:11\n"
    assert build("tiny-a", locks={"linux-x86_64-py3.4": theirs})["lock"] == "tiny-a==1.0\ntiny-b==1.0\n"
    assert "trying the versions of linux-x86_64-py3.4" in build.output
    result = build("tiny-a", locks={"linux-x86_64-py3.4": theirs.replace("tiny-a==1.0", "tiny-a==0.1")})
    assert result["lock"] == "tiny-a==1.0\ntiny-b==2.0\n"
    assert "They do not all fit here" in build.output
    assert "error" not in build.output.lower()


@BOTH
def test_an_address_of_a_file_is_kept_in_the_lock_with_its_hash(tmp_path, wheels, index, installer):
    build = Builder(tmp_path, installer, index_url=index.address)
    address = index.address.replace("/simple", "/files/tiny_c-1.0-py3-none-any.whl")
    first = build(f"tiny-c @ {address}")
    assert f"tiny-c @ {address} \\\n    --hash=sha256:" in first["lock_text"]
    assert first["lock"] == f"tiny-b==1.0\ntiny-c @ {address}\n"
    assert build(f"tiny-c @ {address}", locks={PLATFORM: first["lock_text"]})["lock"] == first["lock"]


@pytest.fixture(params=["3.6", "3.8"])
def old_python(request) -> str:
    if next(target_python.candidates([f"python{request.param}"], ""), None) is None:
        pytest.skip(f"there is no Python {request.param} here")
    return request.param


HOME = {"HOME": str(Path.home())}  # where version managers keep interpreters


def test_an_old_pip_settles_versions_by_installing_and_says_so(tmp_path, wheels, old_python):
    build = Builder(tmp_path, "pip", find_links=[str(wheels)], offline=True)
    wanted = ("tiny-b<2", "tiny-a", "tiny-c")
    result = build(*wanted, python=old_python, env=HOME)
    assert result["lock"] == "tiny-a==1.0\ntiny-b==1.0\ntiny-c==1.0\n", build.output
    hashed = target_lock.hashed(result["lock_text"])
    assert hashed == ("cannot resolve before it installs" not in build.output)
    assert hashed or result["lock_text"] == result["lock"]
    again = build(*wanted, python=old_python, env=HOME, locks={result["platform"]: result["lock_text"]})
    assert again["lock"] == result["lock"]
    assert {one["name"]: one["modules"] for one in again["packages"]}["tiny-a"] == ["tiny_a"]


def test_versions_that_exclude_each_other_are_never_called_ready(tmp_path, wheels, old_python):
    build = Builder(tmp_path, "pip", find_links=[str(wheels)], offline=True)
    result = build("tiny-a", "tiny-c", python=old_python, env=HOME)
    if "cannot resolve before it installs" in build.output:
        assert "tiny-c 1.0 has requirement tiny-b<2, but you have tiny-b 2.0" in result
        assert "name one that does, or install uv or a newer pip" in result
    else:
        assert result["lock"] == "tiny-a==1.0\ntiny-b==1.0\ntiny-c==1.0\n", build.output


@BOTH
def test_an_index_without_hashes_settles_versions_alone_or_counts_them_itself(tmp_path, wheels, index, installer):
    index.hashes = False
    result = Builder(tmp_path, installer, index_url=index.address)("tiny-c")
    assert result["lock"] == "tiny-b==1.0\ntiny-c==1.0\n"
    assert target_lock.hashed(result["lock_text"])


# -- offline and private indexes ------------------------------------------------------------------------------------------


@BOTH
def test_offline_with_a_folder_nothing_is_asked_and_a_missing_package_is_named_in_seconds(tmp_path, wheels, installer):
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty") as tripwire:
        # Whatever would go out has to pass here: proxies and indexes of the machine's own configuration.
        out = {
            "HTTP_PROXY": tripwire.address, "HTTPS_PROXY": tripwire.address, "ALL_PROXY": tripwire.address,
            "PIP_INDEX_URL": tripwire.address, "UV_DEFAULT_INDEX": tripwire.address, "PIP_EXTRA_INDEX_URL": tripwire.address,
        }  # fmt: skip
        build = Builder(tmp_path, installer, find_links=[str(wheels)], offline=True)
        assert build("tiny-a", env=out)["lock"] == "tiny-a==1.0\ntiny-b==2.0\n"
        said = build("tiny-a", "nosuch-package", env=out)
        assert "nosuch-package" in said
        assert build.seconds < 15
        assert not tripwire.asked
        # The wire works: without the word offline it is asked.
        build.index = {"find_links": [str(wheels)]}
        build("nosuch-package", env={**out, "NO_PROXY": "127.0.0.1"})
        assert tripwire.asked["/simple/nosuch-package/"] > 0


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
@BOTH
def test_a_machine_without_any_network_builds_from_its_folder(tmp_path, wheels, installer, monkeypatch):
    build = Builder(tmp_path, installer, find_links=[str(wheels)], offline=True)
    direct = subprocess.run

    def cut_off(argv, **options):
        return direct(["unshare", "--net", *argv], **options)

    monkeypatch.setattr(subprocess, "run", cut_off)
    assert build("tiny-a")["lock"] == "tiny-a==1.0\ntiny-b==2.0\n", build.output
    assert "nosuch-package" in build("nosuch-package")
    assert build.seconds < 10


@BOTH
def test_offline_the_index_that_is_named_is_asked_and_no_other(tmp_path, wheels, index, installer):
    (tmp_path / "empty").mkdir()
    with serving(tmp_path / "empty") as tripwire:
        out = {"PIP_EXTRA_INDEX_URL": tripwire.address, "UV_INDEX": tripwire.address, "PIP_INDEX_URL": tripwire.address}
        build = Builder(tmp_path, installer, index_url=index.address, offline=True)
        assert build("tiny-a", env=out)["lock"] == "tiny-a==1.0\ntiny-b==2.0\n"
        assert "nosuch-package" in build("nosuch-package", env=out)
        assert build.seconds < 15
        assert index.asked["/simple/nosuch-package/"] > 0
        assert not tripwire.asked


@BOTH
def test_a_private_index_gets_its_password_which_is_nowhere_else(tmp_path, wheels, index, installer, monkeypatch):
    index.auth = AUTH
    seen = record_arguments(tmp_path, monkeypatch)
    build = Builder(tmp_path, installer, index_url=index.address, private=[index.address])
    result = build("tiny-a", env={"RUNSTEAD_INDEX_AUTH": AUTH, "PIP_VERBOSE": "2", "RUST_LOG": "uv=debug"})
    assert result["lock"] == "tiny-a==1.0\ntiny-b==2.0\n", build.output
    secrets = [b"sword/fish", b"sword%2Ffish"]
    assert not any(word.decode() in build.output + json.dumps(result) for word in secrets)
    for path in tmp_path.rglob("*"):
        if path.is_file() and not path.is_symlink() and path.stat().st_size < 10 << 20:
            data = path.read_bytes()
            assert not any(word in data for word in secrets), path
    assert not any(word in seen.read_bytes() for word in secrets)


@BOTH
def test_a_password_is_not_given_to_an_index_it_is_not_for(tmp_path, wheels, index, installer):
    (tmp_path / "other").mkdir()
    wheel(tmp_path / "other", "tiny-z")
    with serving(tmp_path / "other") as other:
        got = []
        direct = other.respond
        other.respond = lambda request: (got.append(request.headers.get("Authorization")), direct(request))[1]
        index.auth = AUTH
        build = Builder(
            tmp_path, installer, index_url=index.address, extra_index_urls=[other.address], private=[index.address]
        )
        assert build("tiny-c", "tiny-z", env={"RUNSTEAD_INDEX_AUTH": AUTH})["lock"].count("\n") == 3
        assert got
        assert set(got) == {None}


def record_arguments(tmp_path: Path, monkeypatch) -> Path:
    """Every few milliseconds all command lines of this machine, in a file."""
    seen = tmp_path.parent / f"{tmp_path.name}-arguments"
    code = (
        "import glob,sys,time\nfound=set()\nwhile True:\n for p in glob.glob('/proc/[0-9]*/cmdline'):\n"
        "  try: found.add(open(p,'rb').read())\n  except OSError: pass\n"
        " open(sys.argv[1],'wb').write(b'\\n'.join(found)); time.sleep(0.01)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(seen)])
    monkeypatch.setattr(Builder, "__del__", lambda _: process.kill(), raising=False)
    return seen
