"""What a build adds where runs use Spark: which steps, and the archive for executors. With a real cluster: tests/faults/test_frameworks.py."""

import hashlib
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from environments.builders import on_spark, spark
from environments.definition import Definition

CLUSTER = {"master": "spark://head:7077"}


def verbs(definition: Definition, options) -> list[str]:
    return [step["argv"][3] for step in spark.plan(definition, options)]


def test_only_what_executors_elsewhere_lack_is_packed():
    assert verbs(Definition(packages=("numpy",)), CLUSTER) == ["archive"]
    assert verbs(Definition(conda_packages=("numpy",)), CLUSTER) == ["archive"]
    assert verbs(Definition(), CLUSTER) == []
    assert verbs(Definition(user_managed=True), CLUSTER) == []
    assert verbs(Definition(packages=("numpy",)), {"master": "local[*]"}) == []
    assert verbs(Definition(packages=("numpy",)), None) == []


def test_packages_of_the_environment_and_of_the_target_are_resolved_with_the_build():
    asked = Definition(user_managed=True, spark={"packages": ["org.example:one:1"]})
    assert verbs(asked, CLUSTER) == verbs(asked, None) == ["jars"]
    assert verbs(Definition(packages=("numpy",)), {**CLUSTER, "packages": ["org.example:two:1"]}) == ["jars", "archive"]


@pytest.fixture
def environment(tmp_path) -> Path:
    """A virtual environment with links of each kind."""
    prefix = tmp_path / "envs" / "one"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    packages = prefix / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"
    (packages / "zebra").mkdir()
    (packages / "zebra/__init__.py").write_text("WORD = 'zebra'\n")
    (packages / "zebra/__pycache__").mkdir()
    (packages / "zebra/__pycache__/x.pyc").write_text("byte code")
    (packages / "pyspark/jars").mkdir(parents=True)
    (packages / "pyspark/jars/spark.jar").write_text("large")
    (tmp_path / "elsewhere.so").write_text("a library")
    (packages / "outside.so").symlink_to(tmp_path / "elsewhere.so")
    (packages / "inside.py").symlink_to(packages / "zebra/__init__.py")
    return prefix


def test_the_archive_works_where_the_environment_is_not(environment, tmp_path):
    on_spark.pack(str(environment), str(tmp_path / "one.tar.gz"))
    there = tmp_path / "worker" / "environment"
    there.mkdir(parents=True)
    # As Spark unpacks it.
    subprocess.run(["tar", "-xzf", tmp_path / "one.tar.gz", "-C", there], check=True)
    environment.rename(tmp_path / "gone")
    (tmp_path / "elsewhere.so").unlink()
    said = subprocess.check_output(
        [there / "bin/python", "-c", "import zebra, inside, sys; print(zebra.WORD, inside.WORD, sys.prefix)"], text=True
    )
    assert said.split() == ["zebra", "zebra", str(there)]
    packages = next(there.glob("lib/python3*/site-packages"))
    assert (packages / "outside.so").read_text() == "a library", "what a link led to outside is there itself"
    assert (packages / "inside.py").readlink() == Path("zebra/__init__.py")


def test_the_archive_leaves_out_byte_code_and_the_jars_that_executors_have(environment, tmp_path):
    on_spark.pack(str(environment), str(tmp_path / "one.tar.gz"))
    with tarfile.open(tmp_path / "one.tar.gz") as tar:
        names = tar.getnames()
    assert any(name.endswith("zebra/__init__.py") for name in names)
    assert not [name for name in names if "__pycache__" in name or "pyspark/jars" in name]


def test_the_same_environment_gives_the_same_bytes(environment, tmp_path):
    def digest(name: str) -> str:
        on_spark.pack(str(environment), str(tmp_path / name))
        return hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()

    first = digest("one.tar.gz")
    for path in environment.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    assert digest("two.tar.gz") == first


def test_an_archive_appears_whole_or_not_at_all(environment, tmp_path):
    unreadable = environment / "lib" / "loop"
    unreadable.symlink_to(tmp_path / "fifo")
    os.mkfifo(tmp_path / "fifo")
    (environment / "bin" / "gone").symlink_to("/does/not/exist")
    on_spark.pack(str(environment), str(tmp_path / "one.tar.gz"))  # neither is a file to read: nothing hangs
    with pytest.raises(OSError):
        on_spark.pack(str(tmp_path / "nowhere"), str(tmp_path / "two.tar.gz"))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("two")]


def test_an_offline_target_asks_only_the_repositories_that_are_named(tmp_path):
    path = on_spark._only(["file:///srv/a&b", "https://maven.example.org/x"], str(tmp_path / "settings.xml"))
    from xml.etree import ElementTree

    found = ElementTree.parse(path)
    assert [one.get("root") for one in found.iter("ibiblio")] == ["file:///srv/a&b", "https://maven.example.org/x"]
    assert found.find("settings").get("defaultResolver") == found.find("resolvers/chain").get("name")
    with pytest.raises(on_spark.Failed, match="offline, and no repository"):
        on_spark._only([], str(tmp_path / "settings.xml"))
