"""The documents, followed to the letter: their commands and programs are read from them, typed into a shell, and do what they say.

Only names are other ones: a table says which real machine, key or folder stands for each. Against real SSH servers, a Docker engine, Spark
and MPI. Every command of the documents is followed by some test here; the last one says so.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from environments.transports.connection import fingerprint
from tests.environments.docker_engine import IMAGE, engine_or_skip
from tests.environments.sshd import Server, server
from tests.environments.wheels import serving, wheel
from tests.faults.test_frameworks import infra
from tests.live import ROOT, Studio, free_port

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
PASSWORD = "a password of its own"
DOCUMENTS = {name: (ROOT / name).read_text() for name in ("README.md", "docs/targets.md", "docs/environments.md")}
# What a script is called that each section sends; the examples come with the studio, these do not.
SCRIPTS = {
    "train.py": "import getpass, os\nprint('trained by', getpass.getuser(), 'rank', os.environ.get('OMPI_COMM_WORLD_RANK', '-'))\n",
    "environment.yml": "name: ours\ndependencies:\n  - python\n  - pip:\n      - tiny-a==1.0\n",
}


def blocks(text: str, language: str) -> list[str]:
    return [block for name, block in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.S | re.M) if name == language]


def told(text: str) -> list[str]:
    """The commands of ``runstead`` that a document tells people to type, as they stand there."""
    joined = [block.replace("\\\n", " ") for block in blocks(text, "")]
    lines = [line.split("  #")[0].strip() for block in joined for line in block.splitlines()]
    lines += re.findall(r"\*\*Shell\*\*: `([^`]+)`", text) + re.findall(r"^Then `([^`]+)`", text, re.M)
    return [re.sub(r"\s+", " ", line) for line in lines if line.startswith("runstead ")]


ALL = list(dict.fromkeys(line for text in DOCUMENTS.values() for line in told(text)))
FOLLOWED: set[str] = set()


def python_of(document: str, words: str) -> str:
    """The Python of a document that holds these words."""
    (found,) = [block for block in blocks(DOCUMENTS[document], "python") if words in block]
    return found


class Guide:
    """A person at a shell: a home folder with a key, a project folder, ``runstead`` on the PATH."""

    def __init__(self, place: Path, live: Studio, box: Server) -> None:
        self.box, self.home, self.work = box, place / "home", place / "work"
        (self.home / ".ssh").mkdir(parents=True)
        key = self.home / ".ssh" / "id_ed25519"
        key.write_text(box.private_key)
        key.chmod(0o600)
        self.work.mkdir()
        for name, content in SCRIPTS.items():
            (self.work / name).write_text(content)
        shutil.copytree(ROOT / "examples", self.work / "examples")
        # It learns from scikit-learn, which takes the internet.
        (self.work / "examples/digits/train.py").write_text(SCRIPTS["train.py"])
        program = place / "bin" / "runstead"
        program.parent.mkdir()
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT / "sdk/src"} exec {sys.executable} -m runstead "$@"\n')
        program.chmod(0o755)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUNSTEAD_")}
        self.env = {
            **kept, "HOME": str(self.home), "PATH": f"{program.parent}:{os.environ['PATH']}", "RUNSTEAD_DATA_DIR": str(live.data_dir),
        }  # fmt: skip
        self.fingerprint = fingerprint(box.host_key).split()[-1]
        self.table = {
            **dict.fromkeys(("gpu3.example.org", "edge.example.org", "head.example.org"), f"{box.host} --port {box.port}"),
            "--user ada": f"--user {box.user}", "SHA256:…": self.fingerprint, "/scratch/runstead": str(place / "scratch"),
            "python:3.12-slim": IMAGE, "--env scikit-learn": "--env python", "--env pytorch": "--env torch-here",
        }  # fmt: skip

    def line(self, *words: str) -> str:
        """The one command of the documents that has these words in it."""
        (found,) = [line for line in ALL if all(word in line for word in words)]
        return found

    def shell(self, line: str, *, code: int = 0, stdin: str = "") -> str:
        """Type it; what it printed."""
        done = subprocess.run(
            ["sh", "-c", line], env=self.env, cwd=self.work, input=stdin, capture_output=True, text=True, timeout=240, check=False
        )  # fmt: skip
        assert done.returncode == code, f"{line}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def follow(self, line: str, more: str = "", *, code: int = 0, stdin: str = "", **others: str) -> str:
        """A command of the documents, its names replaced, and more words at its end."""
        assert line in ALL
        FOLLOWED.add(line)
        for name, real in {**others, **self.table}.items():
            line = line.replace(name, real)
        return self.shell(f"{line} {more}", code=code, stdin=stdin)

    def python(self, text: str, **others: str) -> str:
        """A program of the documents, likewise; what it printed."""
        names = {
            '"gpu3.example.org"': repr(self.box.host), "ssh_port=22": f"ssh_port={self.box.port}", '"ada"': repr(self.box.user),
            "SHA256:…": self.fingerprint, "/scratch/runstead": self.table["/scratch/runstead"], "/opt/ml/bin/python": "/usr/bin/python3",
        }  # fmt: skip
        for name, real in {**names, **others}.items():
            text = text.replace(name, real)
        env = {**self.env, "PYTHONPATH": str(ROOT / "sdk" / "src")}
        done = subprocess.run(
            [sys.executable, "-"], input=text, env=env, cwd=self.work, capture_output=True, text=True, timeout=240, check=False
        )  # fmt: skip
        assert done.returncode == 0, f"{text}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout + done.stderr

    def detach(self, name: str) -> None:
        assert "is detached" in self.shell(f"runstead detach {name}")


@pytest.fixture(scope="module")
def live(tmp_path_factory) -> Iterator[Studio]:
    made = Studio(tmp_path_factory.mktemp("guide") / "data").start()
    yield made
    assert made.stop() == 0, made.output.read_text()[-3000:]


@pytest.fixture(scope="module")
def box(index) -> Iterator[Server]:
    """The machine of the documents. Its pip is set to an index that is here."""
    with server(Path("/tmp/runstead-guide-box"), 2347, "rsguide", "PasswordAuthentication yes") as made:
        subprocess.run(["chpasswd"], input=f"{made.user}:{PASSWORD}", text=True, check=True)
        settings = made.home / ".config" / "pip" / "pip.conf"
        settings.parent.mkdir(parents=True)
        settings.write_text(f"[global]\nindex-url = {index.address}\n")
        subprocess.run(["chown", "-R", f"{made.user}:", made.home / ".config"], check=True)
        yield made


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    folder.chmod(0o755)
    wheel(folder, "tiny-a", "1.0", "tiny-b>=1")
    wheel(folder, "tiny-b", "2.0")
    with serving(folder) as found:
        yield found


@pytest.fixture(scope="module")
def guide(tmp_path_factory, live, box) -> Guide:
    return Guide(tmp_path_factory.mktemp("person"), live, box)


@pytest.fixture(scope="module")
def attached(guide) -> str:
    """gpu-box-3, as most of the documents have it."""
    guide.follow(guide.line("attach gpu-box-3"), f"--fingerprint {guide.fingerprint}")
    return "gpu-box-3"


# -- docs/targets.md, and the README's section about other machines


def test_a_second_folder_of_this_machine(guide):
    said = guide.follow(guide.line("attach scratch"))
    assert "scratch is attached: This machine, 2 slots." in said
    assert "trained by" in guide.shell("runstead run . --target scratch --follow -- train.py")
    guide.detach("scratch")
    guide.python(python_of("docs/targets.md", "LocalCompute.attach_configuration"))
    assert re.search(r"^scratch +This machine +Online +2 ", guide.shell("runstead targets"), re.M)
    guide.detach("scratch")


def test_a_remote_machine_shows_its_fingerprint_and_is_attached_with_it(guide, box):
    line = guide.line("attach gpu-box-3")
    said = guide.follow(line, code=1)
    assert f"--fingerprint {guide.fingerprint}" in said
    printed = subprocess.run(
        ["ssh-keygen", "-lf", box.state / "host_key_1.pub"], capture_output=True, text=True, check=True
    ).stdout
    assert guide.fingerprint in printed  # as the document has people compare it
    said = guide.follow(line, f"--fingerprint {guide.fingerprint}")
    for step in ("Host key", "Sign-in", "Python", "Disk", "Session"):
        assert re.search(rf"^ +ok +{step}\b.* ms", said, re.M) or f"ok    {step}" in said
    assert f"trained by {box.user}" in guide.follow(guide.line("run examples/digits", "--target gpu-box-3"))
    assert f"trained by {box.user}" in guide.follow("runstead run . --target gpu-box-3 --follow -- train.py")
    guide.detach("gpu-box-3")


def test_the_python_of_a_remote_machine_attaches_it_and_finds_it_again(guide):
    program = python_of("docs/targets.md", "RemoteCompute.attach_configuration")
    assert "Sign-in" in guide.python(program)
    assert "Sign-in" in guide.python(program)  # the way without the exception
    unpinned = re.sub(r" +host_key_fingerprint=.*\n", "", program).replace('"gpu-box-3"', '"gpu-box-4"')
    with pytest.raises(AssertionError, match=re.escape(f"host_key_fingerprint='{guide.fingerprint}'")):
        guide.python(unpinned)
    guide.detach("gpu-box-3")


def test_a_password_and_a_key_that_the_studio_makes(guide, box):
    line = guide.line("attach gpu-box-3")
    known = f"--fingerprint {guide.fingerprint}"
    without = {" --key ~/.ssh/id_ed25519": ""}
    guide.follow(line, f"{known} --password", stdin=f"{PASSWORD}\n", **without)
    assert f"trained by {box.user}" in guide.shell("runstead run . --target gpu-box-3 --follow -- train.py")
    guide.detach("gpu-box-3")
    # No --key, no --password: the line is printed; install it, repeat the command.
    said = guide.follow(line, known, code=1, **without)
    key = re.search(r"ssh-ed25519 AAAA\S+ \S+", said)[0]
    with box.authorized.open("a") as file:
        file.write(key + "\n")
    assert "gpu-box-3 is attached" in guide.follow(line, known, **without)
    # Another key later.
    new = guide.shell("runstead key gpu-box-3 --new").strip().splitlines()[-1]
    assert new.split()[1] != key.split()[1]
    guide.shell("runstead key gpu-box-3 --use", code=1)  # the old key stays until the new one has worked
    assert f"trained by {box.user}" in guide.shell("runstead run . --target gpu-box-3 --follow -- train.py")
    with box.authorized.open("a") as file:
        file.write(new + "\n")
    guide.shell("runstead key gpu-box-3 --use")
    assert "Sign-in" in guide.shell("runstead doctor gpu-box-3")
    guide.detach("gpu-box-3")


def test_a_machine_behind_a_jump_host(guide, box):
    assert "`--jump [USER@]HOST[:PORT]` (with `--jump-key`, `--jump-fingerprint`)" in DOCUMENTS["docs/targets.md"]
    with server(Path("/tmp/runstead-guide-gate"), 2348, "rsgate2", "AllowTcpForwarding yes") as gate:
        key = guide.home / "gate-key"
        key.write_text(gate.private_key)
        key.chmod(0o600)
        line, jump = guide.line("attach gpu-box-3"), f"--jump {gate.user}@{gate.host}:{gate.port} --jump-key {key}"
        theirs = fingerprint(gate.host_key).split()[-1]
        assert f"--jump-fingerprint {theirs}" in guide.follow(line, jump, code=1)
        jump += f" --jump-fingerprint {theirs}"
        assert f"--fingerprint {guide.fingerprint}" in guide.follow(line, jump, code=1)
        said = guide.follow(line, f"{jump} --fingerprint {guide.fingerprint}")
        assert "Sign-in of the jump host" in said
        assert f"trained by {box.user}" in guide.shell("runstead run . --target gpu-box-3 --follow -- train.py")
        guide.detach("gpu-box-3")


def test_docker_here_and_on_a_remote_machine(guide, box):
    engine_or_skip()
    said = guide.follow(
        guide.line("attach box --docker"), "--slots 1", **{"--memory 16GB": "--memory 512MB", "--cpus 4": "--cpus 1"}
    )
    assert "Docker engine" in said and "box is attached: Docker, 1 slot" in said
    assert "trained by" in guide.shell("runstead run . --target box --follow -- train.py")
    guide.detach("box")
    subprocess.run(["usermod", "-aG", "docker", box.user], check=True)
    try:
        assert "is attached: Docker, remote" in guide.follow(guide.line("attach gpu-docker"), f"--image {IMAGE}")
        assert "trained by" in guide.shell("runstead run . --target gpu-docker --follow -- train.py")
        guide.detach("gpu-docker")
    finally:
        subprocess.run(["gpasswd", "-d", box.user, "docker"], check=False, capture_output=True)
    owned = re.search(r"`docker images --filter (label=\S+)`", DOCUMENTS["docs/targets.md"])[1]
    volumes = re.search(r"`docker volume ls --filter (label=\S+)`", DOCUMENTS["docs/targets.md"])[1]
    for words in (["image", "ls", "-q", "--filter", owned], ["volume", "ls", "-q", "--filter", volumes]):
        subprocess.run(["docker", *words], check=True, capture_output=True)


@pytest.fixture
def spark(tmp_path, request) -> dict[str, str]:
    """A standalone master and a worker of this test's own."""
    ports = {name: str(free_port()) for name in ("SPARK_PORT", "SPARK_REST_PORT", "SPARK_UI_PORT")}
    env = {"INFRA_STATE": str(tmp_path), "INFRA_CACHE": os.environ.get("INFRA_CACHE", "/tmp/infra/cache"), **ports}
    script = ROOT / "tests/infra/spark.sh"
    request.addfinalizer(
        lambda: subprocess.run([script, "stop"], env={**os.environ, **env}, capture_output=True, check=True)
    )
    return infra("spark", **env)


def test_a_spark_cluster_by_ssh_and_from_here_passes_every_step_and_counts_words(guide, live, spark):
    live.control("environment", name="spark-python", user_managed=True, interpreter_path="/usr/bin/python3")
    # Loopback is all that this cluster has; its worker is small.
    small = " ".join(
        f"--conf spark.{one}"
        for one in ("driver.host=127.0.0.1", "driver.bindAddress=127.0.0.1", "executor.memory=512m")
    )
    names = {"spark://head:7077": spark["SPARK_MASTER"], "/opt/spark": spark["SPARK_HOME"]}
    remote = " --host edge.example.org --user ada --key ~/.ssh/id_ed25519"
    for kind, more, others in (
        ("Spark cluster, remote", f"--fingerprint {guide.fingerprint}", {}), ("Spark cluster", "", {remote: ""}),
    ):  # fmt: skip
        said = guide.follow(guide.line("attach spark"), f"{small} {more}", **names, **others)
        assert "ok    Spark " in said and "ok    Spark master" in said and spark["SPARK_VERSION"] in said
        assert f"spark is attached: {kind}, " in said
        counted = guide.follow(
            guide.line("run examples/spark-wordcount"), **{"--framework": "--env spark-python --framework"}
        )
        assert len(re.findall(r"^ +\d+  \w+$", counted, re.M)) == 10
        guide.detach("spark")


def test_distributed_training_on_a_remote_machine(guide, live, attached):
    found = infra("torch")
    infra("mpi")
    # The interpreter of the tests may lie in a home folder that is closed to the box's user: its packages under the machine's own.
    python = guide.box.home / "torch"
    subprocess.run(["/usr/bin/python3", "-m", "venv", "--without-pip", python], check=True)
    (packages,) = (Path(found["TORCH_PYTHON"]).parent.parent / "lib").glob("python3*/site-packages")
    (own,) = (python / "lib").glob("python3*/site-packages")
    (own / "torch.pth").write_text(f"{packages}\n")
    live.control("environment", name="torch-here", user_managed=True, interpreter_path=str(python / "bin" / "python"))
    said = guide.follow(guide.line("--framework pytorch"), "--epochs 1 --points 400")
    assert "loss" in said
    said = guide.follow(guide.line("--framework mpi"))
    assert sorted(re.findall(r"rank (\d)", said)) == ["0", "1", "2", "3"]


# -- docs/environments.md, and the README's first steps


def test_environments_from_a_shell(guide, attached):
    assert "AzureML-Minimal" in guide.follow("runstead envs")
    assert "vision" in guide.follow(guide.line("envs register"))
    said = guide.follow(guide.line("envs build"))
    assert "+ Record what was installed" in said
    guide.follow(guide.line("envs label"))
    assert "tiny-a" in guide.follow(guide.line("envs show"))
    assert "2" in guide.follow(guide.line("envs refresh"))
    said = guide.follow(guide.line("envs diff"))
    assert guide.shell("runstead envs diff vision:1 python", code=1) != said
    assert "trained by" in guide.shell("runstead run . --env vision@stable --target gpu-box-3 --follow -- train.py")


def test_environments_from_python(guide, index):
    text = python_of("docs/environments.md", "CondaDependencies.create").replace(
        '"3.11"', repr(f"3.{sys.version_info.minor}")
    )
    wish = 'pip_packages=["tiny-a==1.0", "tiny-b"]'
    said = guide.python(
        text.replace('pip_packages=["torch==2.13.0", "timm"]', wish + f', pip_indexurl="{index.address}"'),
        vision="sight",
    )
    assert "+ Record what was installed" in said and "sight 1" in said
    before = "from runstead import Environment, Workspace\nws = Workspace.from_config()\n"
    guide.python(before + python_of("docs/environments.md", "interpreter_path") + "env.register(ws)\n")
    assert "trained by" in guide.shell("runstead run . --env user-managed-env --follow -- train.py")


def test_an_offline_target_takes_what_is_in_its_folder_and_names_what_is_not(guide, box, index):
    shutil.copytree(index.folder, box.home / "wheels")
    names = {"/srv/wheels": f"{box.home}/wheels", "file:///srv/channel": f"file://{box.home}/channel"}
    guide.follow(guide.line("attach cluster"), f"--fingerprint {guide.fingerprint}", **names)
    (guide.work / "lacking.txt").write_text("no-such-thing\n")
    (guide.work / "here.txt").write_text("tiny-a\n")
    for name in ("here", "lacking"):
        guide.shell(f"runstead envs register {name}.txt --name {name}")
    asked = sum(index.asked.values())
    assert "+ Record what was installed" in guide.shell("runstead envs build here --target cluster --follow")
    assert "no-such-thing" in guide.shell("runstead envs build lacking --target cluster --follow", code=1)
    assert sum(index.asked.values()) == asked, "an offline target asked the machine's own index"
    guide.detach("cluster")


def test_the_first_steps_of_the_readme(guide):
    assert "trained by" in guide.follow(guide.line("run examples/digits --env scikit-learn --follow"))


def test_every_command_of_the_documents_was_followed():
    assert len(ALL) > 15
    assert set(ALL) == FOLLOWED, set(ALL) - FOLLOWED
