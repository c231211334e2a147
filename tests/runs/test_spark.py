"""What spark-submit is told of a run: what the build has made, and who wins where several say the same."""

import pytest

from runs.config import ScriptRunConfig
from runs.frameworks import FRAMEWORKS, Place

BUILT = {
    "packages": ["org.example:stripes:1.0"],
    "repositories": ["file:///srv/maven"],
    "jars": ["/root dir/jars/stripes.jar", "/root dir/jars/below.jar"],
    "jars_of": ["org.example:stripes:1.0"],
    "archive": "/root dir/environment.tar.gz",
}
JARS = "file:///root%20dir/jars/stripes.jar,file:///root%20dir/jars/below.jar"
ARCHIVE = "file:///root%20dir/environment.tar.gz#environment"


def told(software=BUILT, spark=None, variables=None, **target) -> dict[str, list[str]]:
    """Option → its values."""
    config = ScriptRunConfig(script="job.py", framework="pyspark", spark=spark or {}, variables=variables or {})
    place = Place(python="/env/bin/python", launch="/lib/launch.py", name="r", spark=target, software=software)
    words = FRAMEWORKS["pyspark"].argv(config, place)
    options = words[words.index("spark") + 2 : words.index("--")]
    found: dict[str, list[str]] = {}
    for name, value in zip(options[::2], options[1::2], strict=True):
        found.setdefault(name, []).append(value)
    return found


def test_what_the_build_resolved_is_given_as_files_and_no_repository_is_asked():
    found = told(master="spark://head:7077")
    assert found["--jars"] == [JARS]
    assert found["--py-files"] == [JARS]
    assert "--packages" not in found


def test_a_runs_own_packages_are_resolved_by_spark_beside_them():
    found = told(spark={"packages": ["org.example:own:2"], "repositories": ["https://maven.example.org"]})
    assert found["--packages"] == ["org.example:own:2"]
    assert found["--repositories"] == ["file:///srv/maven,https://maven.example.org"]
    assert found["--jars"] == [JARS]


def test_packages_that_no_build_resolved_are_named():
    found = told({"packages": ["org.example:stripes:1.0"]}, packages=["org.example:of-the-target:1"])
    assert found["--packages"] == ["org.example:of-the-target:1,org.example:stripes:1.0"]
    assert "--jars" not in found


def test_where_the_targets_packages_changed_since_the_build_all_are_resolved_anew():
    found = told(packages=["org.example:new:1"])
    assert found["--packages"] == ["org.example:new:1,org.example:stripes:1.0"]
    assert "--jars" not in found


def test_executors_get_the_archive_and_the_driver_uses_the_environment_beside_it():
    found = told(master="spark://head:7077", deploy_mode="client")
    assert found["--archives"] == [ARCHIVE]
    assert "spark.pyspark.python=./environment/bin/python" in found["--conf"]
    assert "spark.pyspark.driver.python=/env/bin/python" in found["--conf"]


def test_in_the_cluster_the_driver_uses_the_archive_too():
    found = told(master="yarn", deploy_mode="cluster")
    assert found["--archives"] == [ARCHIVE]
    assert not [setting for setting in found["--conf"] if "driver.python" in setting]


def test_on_one_machine_nothing_is_unpacked():
    assert "--archives" not in told(master="local[*]")


@pytest.mark.parametrize(
    "given", [{"spark": {"conf": {"spark.pyspark.python": "/opt/python"}}}, {"variables": {"PYSPARK_PYTHON": "/opt/python"}}]
)  # fmt: skip
def test_a_python_that_the_run_names_for_executors_is_left_to_it(given):
    found = told(master="spark://head:7077", **given)
    assert "--archives" not in found
    assert "spark.pyspark.python=./environment/bin/python" not in found.get("--conf", [])


def test_files_that_settings_name_are_kept_beside_those_of_the_build():
    conf = {"spark.jars": "/a.jar,/b.jar", "spark.archives": "/data.zip#data", "spark.submit.pyFiles": "/c.zip"}
    found = told(master="spark://head:7077", conf=conf)
    assert found["--jars"] == [f"/a.jar,/b.jar,{JARS}"]
    assert found["--archives"] == [f"/data.zip#data,{ARCHIVE}"]
    assert found["--py-files"] == [f"/c.zip,{JARS}"]
    assert not [setting for setting in found["--conf"] if setting.startswith(("spark.jars", "spark.archives"))]
