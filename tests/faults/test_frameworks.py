"""Distributed runs with the real programs: torchrun, mpirun, TensorFlow's processes, Spark. One log, the right end, no survivors."""

import hashlib
import json
import os
import re
import subprocess
import sys
import urllib.request
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.environments.docker_engine import engine_or_skip
from tests.faults.conftest import survivors
from tests.live import ROOT, free_port
from tests.waiting import until

SPARK = ROOT / "tests/infra/spark.sh"
pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]
# What programs between us and the script could take for their own, lose, or change.
NASTY = ["", ":", "--", "-np", "--conf", "$HOME", "a  b", "'\"\\", "new\nline", "\r", "é😀\u2028", "".join(map(chr, range(1, 256))), "x" * 100_000]  # fmt: skip
DIGESTS = [hashlib.sha256(word.encode()).hexdigest() for word in NASTY]
# Says who it is in one write, so that lines of several ranks do not mix; and then does what it is told.
HEAD = """
import hashlib, json, os, signal, sys, time
ARGV = [hashlib.sha256(os.fsencode(word)).hexdigest() for word in sys.argv[1:]]
def say(**what):
    os.write(1, (json.dumps(what) + "\\n").encode())
def stay():
    # A child that ignores TERM and has left group and session, beside a rank that ignores it too.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
    say(stays=os.getpid())
    time.sleep(600)
"""


def infra(name: str, **env: str) -> dict[str, str]:
    """Have something of tests/infra started; the details that it prints. Without root, and not in CI, the test is skipped."""
    done = subprocess.run(
        [ROOT / f"tests/infra/{name}.sh", "start"], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )  # fmt: skip
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"{name}.sh failed"]
        (pytest.fail if os.environ.get("CI") or os.getuid() == 0 else pytest.skip)(f"{name}: {said[0]}")
    return dict(line.split("=", 1) for line in done.stdout.splitlines())


@pytest.fixture
def project(tmp_path):
    def make(script: str, **files: str) -> Path:
        folder = tmp_path / "project"
        folder.mkdir(exist_ok=True)
        # Whatever starts the script must not take the project's modules for the standard library's.
        for name in ("json", "socket", "signal"):
            (folder / "sub").mkdir(exist_ok=True)
            (folder / "sub" / f"{name}.py").write_text("raise ImportError('of the project')\n")
        (folder / "train.py").write_text(HEAD + script)
        for name, text in files.items():
            (folder / name.replace("__", ".")).write_text(text)
        return folder

    return make


def said(studio, pk: int) -> list[dict]:
    """What the ranks said, in the order of the log."""
    text = studio.control("text", id=pk, limit=4_000_000)
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def whole(studio, row) -> None:
    """The log is what the target wrote, byte for byte, and says so."""
    log = studio.control("log", id=row["id"])
    assert (log["size"], log["sha256"]) == (row["final"]["log"]["bytes"], row["final"]["log"]["sha256"])
    assert row["log_complete"] is True


def tail(studio, row) -> str:
    """The end of the log, for the message of a test that failed."""
    return studio.control("text", id=row["id"])[-3000:] if studio.control("size", id=row["id"]) else "no log"


def completed(studio, folder: Path, *arguments: str, seconds: float = 120, **config) -> list[dict]:
    (row,) = studio.wait_for(studio.submit(folder, *arguments, **config), seconds=seconds)
    assert (row["status"], row["exit_code"]) == ("Completed", 0), f"{row} {tail(studio, row)}"
    whole(studio, row)
    return said(studio, row["id"])


def failed(studio, folder: Path, *arguments: str, seconds: float = 120, **config) -> dict:
    (row,) = studio.wait_for(studio.submit(folder, *arguments, **config), seconds=seconds)
    assert (row["status"], row["reason"]) == ("Failed", "exit_code"), f"{row} {tail(studio, row)}"
    whole(studio, row)
    text = studio.control("text", id=row["id"], limit=4_000_000)
    assert row["error"].get("line"), text[-3000:]
    # The line that the page leads to is where the rank itself said what was wrong.
    line = text.split("\n")[row["error"]["line"] - 1]
    assert line.rpartition("]: ")[2] == f"{row['error']['type']}: {row['error']['message']}"
    assert survivors(row["attempt"]) == []
    return row


def canceled(studio, folder: Path, *arguments: str, staying: int, seconds: float = 60, **config) -> dict:
    (pk,) = studio.submit(folder, *arguments, grace_seconds=1, **config)
    until(lambda: len([line for line in said_so_far(studio, pk) if "stays" in line]) >= staying, seconds)
    studio.control("cancel", id=pk)
    (row,) = studio.wait_for([pk], seconds=20)
    assert (row["status"], row["reason"]) == ("Canceled", "canceled"), row
    assert survivors(row["attempt"]) == []
    return row


def said_so_far(studio, pk: int) -> list[dict]:
    return said(studio, pk) if studio.control("size", id=pk) else []


# -- MPI -------------------------------------------------------------------------------------------------------------------

RANK = "rank, size = os.environ['OMPI_COMM_WORLD_RANK'], os.environ['OMPI_COMM_WORLD_SIZE']\n"


@pytest.fixture(scope="module")
def mpi():
    return infra("mpi")


def test_mpirun_starts_its_ranks_and_arguments_arrive_byte_for_byte(studio, project, mpi):
    folder = project(RANK + "say(rank=rank, size=size, argv=ARGV, cwd=os.listdir('.'))\nos.write(1, b'\\xff\\r\\n')\n")
    # More ranks than this machine has cores.
    ranks = completed(studio, folder, *NASTY, framework="mpi", distribution={"process_count": 5})
    assert sorted(line["rank"] for line in ranks) == ["0", "1", "2", "3", "4"]
    assert all(line["argv"] == DIGESTS and line["size"] == "5" and "train.py" in line["cwd"] for line in ranks)


def test_a_failing_rank_fails_the_run_with_its_own_error(studio, project, mpi):
    folder = project(RANK + "if rank == '1':\n    raise ValueError('rank 1 has no data')\ntime.sleep(600)\n")
    row = failed(studio, folder, framework="mpi", distribution={"process_count": 3}, grace_seconds=1)
    assert (row["exit_code"], row["error"]["message"]) == (1, "rank 1 has no data")


def test_cancel_ends_every_rank_and_what_they_started(studio, project, mpi):
    canceled(studio, project("stay()\n"), staying=4, framework="mpi", distribution={"process_count": 2})


# -- TensorFlow's processes ----------------------------------------------------------------------------------------------------

# Workers send a word to the parameter server at its address and get it back; no package is needed to prove that they can.
TALK = """
import socket
config = json.loads(os.environ["TF_CONFIG"])
task, cluster = config["task"], config["cluster"]
host, port = cluster[task["type"]][task["index"]].split(":")
if task["type"] == "ps":
    with socket.create_server((host, int(port))) as server:
        while True:
            line, _ = server.accept()
            with line:
                line.sendall(b"from ps %d to " % task["index"] + line.recv(100))
for place in cluster["ps"]:
    until = time.time() + 30
    while True:
        try:
            line = socket.create_connection(tuple(place.split(":")), 30)
            break
        except OSError:
            if time.time() > until:
                raise
            time.sleep(0.02)
    with line:
        line.sendall(b"worker %d" % task["index"])
        say(heard=line.recv(100).decode(), argv=ARGV, worker=task["index"])
"""


def test_workers_and_parameter_servers_find_each_other(studio, project):
    lines = completed(
        studio, project(TALK), *NASTY, framework="tensorflow",
        distribution={"worker_count": 3, "parameter_server_count": 2}, grace_seconds=2,
    )  # fmt: skip
    heard = sorted(line["heard"] for line in lines)
    assert heard == sorted(f"from ps {ps} to worker {worker}" for ps in range(2) for worker in range(3))
    assert all(line["argv"] == DIGESTS for line in lines)


def test_the_same_in_a_container(studio, project, tmp_path):
    engine_or_skip()
    target = studio.control("docker_target", root=str(tmp_path / "engine"))
    distribution = {"worker_count": 2, "parameter_server_count": 1}
    asked = {"framework": "tensorflow", "distribution": distribution, "target": target}
    lines = completed(studio, project(TALK), *NASTY, grace_seconds=1, **asked)
    assert sorted(line["heard"] for line in lines) == ["from ps 0 to worker 0", "from ps 0 to worker 1"]
    assert all(line["argv"] == DIGESTS for line in lines)
    canceled(studio, project("stay()\n"), staying=6, **asked)


def test_a_failing_worker_ends_the_others(studio, project):
    script = "task = json.loads(os.environ['TF_CONFIG'])['task']\nif task == {'type': 'worker', 'index': 1}:\n    raise KeyError('shard 1')\n"
    distribution = {"worker_count": 3, "parameter_server_count": 1}
    row = failed(
        studio, project(script + "stay()\n"), framework="tensorflow", distribution=distribution, grace_seconds=1
    )
    assert (row["exit_code"], row["error"]["type"]) == (1, "KeyError")


def test_a_worker_that_is_killed_ends_the_run_by_its_signal(studio, project):
    script = "if json.loads(os.environ['TF_CONFIG'])['task']['index'] == 1:\n    os.kill(os.getpid(), signal.SIGSEGV)\ntime.sleep(600)\n"
    (pk,) = studio.submit(
        project(script), framework="tensorflow", distribution={"worker_count": 2, "parameter_server_count": 0}
    )
    (row,) = studio.wait_for([pk])
    assert (row["status"], row["reason"], row["signal"]) == ("Failed", "signal", 11), row


def test_cancel_ends_every_worker_and_what_they_started(studio, project):
    distribution = {"worker_count": 2, "parameter_server_count": 1}
    canceled(studio, project("stay()\n"), staying=6, framework="tensorflow", distribution=distribution)


# -- PyTorch -------------------------------------------------------------------------------------------------------------------

REDUCE = """
import torch, torch.distributed as dist
names = ("MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE", "RANK", "LOCAL_RANK", "AZUREML_COMMUNICATOR")
dist.init_process_group(os.environ["AZUREML_COMMUNICATOR"].lower())
total = torch.tensor([dist.get_rank() + 1.0])
dist.all_reduce(total)
say(total=total.item(), argv=ARGV, **{name: os.environ[name] for name in names})
dist.barrier()
if "--fail" in sys.argv:
    if dist.get_rank() == 1:
        raise FloatingPointError("loss is nan")
    time.sleep(600)
if "--stay" in sys.argv:
    stay()
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def torch(studio):
    found = infra("torch")
    studio.control("environment", name="torch-python", user_managed=True, interpreter_path=found["TORCH_PYTHON"])
    return {
        "framework": "pytorch",
        "environment": "torch-python",
        "distribution": {"process_count": 2, "backend": "Gloo"},
    }


def test_torchrun_starts_processes_that_reduce_over_gloo(studio, project, torch):
    lines = completed(studio, project(REDUCE), *NASTY, **torch)
    assert sorted((line["RANK"], line["LOCAL_RANK"], line["WORLD_SIZE"], line["total"]) for line in lines) == [
        ("0", "0", "2", 3.0),
        ("1", "1", "2", 3.0),
    ]
    assert all(line["argv"] == DIGESTS and line["MASTER_ADDR"] and int(line["MASTER_PORT"]) for line in lines)


def test_a_failing_process_of_torchrun_is_named_not_its_wrapper(studio, project, torch):
    row = failed(studio, project(REDUCE), "--fail", grace_seconds=2, **torch)
    assert (row["exit_code"], row["error"]["type"]) == (1, "FloatingPointError"), row["error"]


def test_cancel_ends_torchrun_and_its_processes(studio, project, torch):
    canceled(studio, project(REDUCE), "--stay", staying=4, **torch)


def test_two_torchruns_at_once_do_not_meet_and_the_example_learns(studio, torch):
    folder = ROOT / "examples/spirals-ddp"
    ids = [pk for _ in range(2) for pk in studio.submit(folder, "--epochs", "25", **torch)]
    for row in studio.wait_for(ids, seconds=180):
        assert row["status"] == "Completed", studio.control("text", id=row["id"])[-3000:]
        text = studio.control("text", id=row["id"])
        assert "process 0 of 2 on cpu: 2000 of 4000 points" in text and "process 1 of 2 on cpu" in text
        count, accuracy = studio.control("metrics", id=row["id"])["val/accuracy"]
        assert count == 25 and accuracy > 0.9
        assert [path for path, *_ in studio.control("artifacts", id=row["id"])] == ["outputs/model.pt"]


# -- Spark ---------------------------------------------------------------------------------------------------------------------

JOB = """
from pyspark.sql import SparkSession
import helper
spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
where = context.parallelize(range(4), 2).map(helper.place).collect()
say(argv=ARGV, name=context.appName, master=context.master, sum=context.parallelize(range(100), 2).map(lambda n: n * n).sum(),
    executors=sorted(set(where)), driver=sys.executable, memory=context.getConf().get("spark.executor.memory"),
    cores=context.getConf().get("spark.cores.max"), unbuffered=sys.stdout.isatty())
if "--stay" in sys.argv:
    def hang(numbers):
        time.sleep(600)
        return numbers
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(stays=os.getpid())
    context.parallelize(range(2), 2).mapPartitions(hang).count()
open("outputs/done.txt", "w").write("done")
raise RuntimeError("no such word: \u017c\u00f3\u0142w")
"""
HELPER = "import sys\n\n\ndef place(number):\n    return sys.executable\n"


@pytest.fixture(scope="module")
def spark(studio, tmp_path_factory, request):
    """A standalone master with one worker of this file alone; the target that names it, and its page."""
    folder = tmp_path_factory.mktemp("spark")
    ports = {name: str(free_port()) for name in ("SPARK_PORT", "SPARK_REST_PORT", "SPARK_UI_PORT")}
    cache = os.environ.get("INFRA_CACHE", "/tmp/infra/cache")
    env = {"INFRA_STATE": str(folder), "INFRA_CACHE": cache, **ports}
    request.addfinalizer(
        lambda: subprocess.run([SPARK, "stop"], env={**os.environ, **env}, capture_output=True, check=True)
    )
    found = infra("spark", **env)
    options = {
        "home": found["SPARK_HOME"],
        "master": found["SPARK_MASTER"],
        "deploy_mode": "client",
        "conf": {"spark.cores.max": "2", "spark.executor.memory": "640m"},
        "variables": {"SPARK_CONF_DIR": found["SPARK_CONF_DIR"], "SPARK_LOCAL_IP": "127.0.0.1"},
    }
    studio.control("environment", name="spark-python", user_managed=True, interpreter_path=found["PYSPARK_PYTHON"])
    assert studio.control("target", root=str(folder / "cluster"), spark=options) == "cluster"
    return {**found, "python": found["PYSPARK_PYTHON"], "options": options}


def applications(spark) -> list[str]:
    """Names of the applications that the master has running."""
    with urllib.request.urlopen(spark["SPARK_UI"] + "/json/", timeout=10) as answer:
        return [row["name"] for row in json.load(answer)["activeapps"]]


def test_spark_submit_on_a_cluster_with_arguments_and_modules_of_the_project(studio, project, spark):
    row = failed(
        studio, project(JOB, helper__py=HELPER), *NASTY, framework="pyspark", environment="spark-python", target="cluster",
        spark={"conf": {"spark.executor.memory": "512m"}}, variables={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    lines = said(studio, row["id"])
    assert len(lines) == 1, studio.control("text", id=row["id"])[-4000:]
    line = lines[0]
    assert line["argv"] == DIGESTS
    assert line["sum"] == sum(n * n for n in range(100))
    assert line["master"] == spark["SPARK_MASTER"]
    # The target's settings, with the run's over them.
    assert (line["cores"], line["memory"]) == ("2", "512m")
    assert line["driver"] == spark["python"] and line["executors"] == [spark["python"]]
    assert line["name"] == studio.control("uid", id=row["id"])
    # The driver's exit code and its own error are the run's.
    assert (row["exit_code"], row["error"]["type"], row["error"]["message"]) == (
        1,
        "RuntimeError",
        "no such word: żółw",
    )
    assert [path for path, *_ in studio.control("artifacts", id=row["id"])] == ["outputs/done.txt"]
    until(lambda: applications(spark) == [], 20)


STRIPES = "org.example:stripes:1.0"
ZEBRA = """
from pyspark.sql import SparkSession
def look(number):
    import sys
    try:
        import zebra_words
        return (zebra_words.WORD, sys.prefix)
    except ImportError as error:
        return (str(error), sys.prefix)
def jar(number):
    import stripes  # a Python module that lies in the jar
    return stripes.COLOURS
spark = SparkSession.builder.getOrCreate()
context = spark.sparkContext
found = sorted(set(context.parallelize(range(8), 4).map(look).collect()))
loader = context._jvm.java.lang.Thread.currentThread().getContextClassLoader()
resource = loader.getResource("stripes.txt")
stripes = context.parallelize([0], 1).map(jar).collect() if resource else []
say(executors=found, driver=look(0), resource=resource and resource.toString(), stripes=stripes)
spark.stop()
"""


@pytest.fixture(scope="module")
def zebra(studio, spark, tmp_path_factory):
    """A Spark target that installs from a folder of wheels alone, an environment with a package of it and one of a Maven
    repository in a folder; that folder, which nothing may ask once the environment is built."""
    folder = tmp_path_factory.mktemp("zebra")
    wheels, maven = folder / "wheels", folder / "maven"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "zebra_words-1.2-py3-none-any.whl", "w") as wheel:
        about = "zebra_words-1.2.dist-info"
        wheel.writestr("zebra_words/__init__.py", "WORD = 'zebra'\n")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: zebra-words\nVersion: 1.2\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    place = maven / "org/example/stripes/1.0"
    place.mkdir(parents=True)
    with zipfile.ZipFile(place / "stripes-1.0.jar", "w") as jar:
        jar.writestr("META-INF/MANIFEST.MF", "Manifest-Version: 1.0\n\n")
        jar.writestr("stripes.txt", "black and white\n")
        jar.writestr("stripes.py", "COLOURS = 2\n")
    (place / "stripes-1.0.pom").write_text(
        "<project xmlns='http://maven.apache.org/POM/4.0.0'><modelVersion>4.0.0</modelVersion>"
        "<groupId>org.example</groupId><artifactId>stripes</artifactId><version>1.0</version></project>"
    )
    studio.control(
        "target", root=str(folder / "zebras"), spark=spark["options"],
        packages={"find_links": [str(wheels)], "offline": True},
    )  # fmt: skip
    repositories = [maven.as_uri()]
    studio.control(
        "environment", name="zebra", packages=["zebra-words"],
        spark={"packages": [STRIPES], "repositories": repositories},
    )  # fmt: skip
    studio.control(
        "environment", name="no-such-jar", packages=["zebra-words"],
        spark={"packages": ["org.example:spots:9.9"], "repositories": repositories},
    )  # fmt: skip
    return maven


def test_executors_import_what_only_the_archive_holds_and_runs_ask_no_repository(studio, project, spark, zebra):
    (line,) = completed(studio, project(ZEBRA), framework="pyspark", environment="zebra", target="zebras")
    ((word, prefix),) = line["executors"]
    assert word == "zebra"
    # Unpacked below the executor's own folder; the interpreter of the worker has no such package.
    assert prefix.startswith(str(Path(spark["SPARK_CONF_DIR"]).parent / "work")) and prefix.endswith("/environment")
    assert "/zebras/envs/" in line["driver"][1]
    assert (line["stripes"], line["resource"].rpartition("/")[2]) == ([2], "stripes.txt")
    build = studio.control("build", environment="zebra", target="zebras")
    assert build["extras"]["jars_of"] == [STRIPES] and len(build["extras"]["jars"]) == 1
    assert Path(build["extras"]["archive"]).is_file()

    # A second run asks no repository; and with the interpreter that the worker has by itself, executors find no such package.
    zebra.rename(zebra.parent / "gone")
    try:
        (line,) = completed(
            studio, project(ZEBRA), framework="pyspark", environment="zebra", target="zebras",
            spark={"conf": {"spark.pyspark.python": spark["python"]}},
        )  # fmt: skip
    finally:
        (zebra.parent / "gone").rename(zebra)
    assert [word for word, _ in line["executors"]] == ["No module named 'zebra_words'"]
    assert line["stripes"] == [2]


def test_a_spark_package_that_does_not_exist_fails_the_run_with_its_name(studio, project, spark, zebra):
    config = {"framework": "pyspark", "environment": "no-such-jar", "target": "zebras"}
    (row,) = studio.wait_for(studio.submit(project(ZEBRA), **config), seconds=120)
    assert (row["status"], row["reason"]) == ("Failed", "environment_failed")
    assert row["error"]["message"].startswith("the Spark package org.example:spots:9.9 was not found (not found).")
    assert zebra.as_uri() in row["error"]["message"]


def test_the_lines_of_the_article_count_words_on_the_cluster(studio, spark):
    text = (ROOT / "examples/spark-wordcount/README.md").read_text()
    lines = [
        line[4:] for line in text[text.index("    from runstead") :].splitlines() if line.startswith("    ") or not line
    ]
    code = "\n".join(lines).replace('"pyspark")', '"spark-python")')
    assert 'run_config.framework = "pyspark"' in code
    env = {**studio.env, "PYTHONPATH": str(ROOT / "sdk/src")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "examples", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "Status: Completed" in done.stdout, done.stdout[-3000:] + done.stderr
    texts = [path.read_text() for path in (ROOT / "examples/spark-wordcount/texts").iterdir()]
    word, count = Counter(re.findall(r"[a-z]+(?:[-'][a-z]+)*", "\n".join(texts).lower())).most_common(1)[0]
    assert f"{count:5d}  {word}\n" in done.stdout, done.stdout[-3000:]
    row = studio.control("runs")[-1]
    metrics = studio.control("metrics", id=row["id"])
    assert metrics["lines"] == [1, 36] and metrics["words"][1] > 200, metrics
    assert [path for path, *_ in studio.control("artifacts", id=row["id"])] == ["outputs/words.csv"]


def test_cancel_ends_the_driver_and_the_application_on_the_cluster(studio, project, spark):
    row = canceled(
        studio, project(JOB, helper__py=HELPER), "--stay", staying=1, framework="pyspark", environment="spark-python", target="cluster",
    )  # fmt: skip
    assert row["exit_code"] != 0
    until(lambda: applications(spark) == [], 20)


def test_a_python_driver_in_a_standalone_cluster_is_refused_with_the_fix(studio, project, spark):
    with pytest.raises(AssertionError, match=r"cannot place a Python driver in the cluster. Use client."):
        studio.submit(
            project("pass\n"),
            framework="pyspark",
            environment="spark-python",
            target="cluster",
            spark={"deploy_mode": "cluster"},
        )
