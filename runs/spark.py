"""What spark-submit is told of a run: the target's settings, the environment's packages, the run's own over both."""

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from runs.distribution import spark_of

if TYPE_CHECKING:
    from runs.config import ScriptRunConfig
    from runs.frameworks import Place

FOLDER = "environment"
"""Where executors find the environment: below their working directory."""


def submit_options(config: "ScriptRunConfig", place: "Place") -> list[str]:
    """The options of spark-submit. What the build has resolved and packed is given as files, the rest by its name."""
    spark = spark_of(place.spark, config.spark, place.software)
    master = str(spark.get("master") or "local[*]")
    mode = str(spark.get("deploy_mode") or "client")
    conf: dict[str, str] = dict(spark["conf"])
    if master == "yarn":
        conf.setdefault(
            "spark.yarn.maxAppAttempts", "1"
        )  # a run starts once, whatever the cluster thinks of its driver
    files: list[str] = []
    jars, packages = _resolved(spark["packages"], place)
    if jars:
        # Options replace settings of the same meaning: what the settings name is named again. Some jars hold Python modules too.
        files += ["--jars", ",".join([*_listed(conf, "spark.jars"), *jars])]
        files += ["--py-files", ",".join([*_listed(conf, "spark.submit.pyFiles"), *jars])]
    archive = str(place.software.get("archive") or "")
    if archive and not master.startswith("local") and not _own_python(config, conf):
        there = _listed(conf, "spark.yarn.dist.archives" if master == "yarn" else "spark.archives")
        files += ["--archives", ",".join([*there, f"{_address(archive)}#{FOLDER}"])]
        conf["spark.pyspark.python"] = f"./{FOLDER}/bin/python"
        if mode == "client":
            conf["spark.pyspark.driver.python"] = (
                place.python
            )  # here the archive lies packed, and the environment beside it
    options = ["--master", master, "--deploy-mode", mode, "--name", place.name]
    for name, value in conf.items():
        options += ["--conf", f"{name}={value}"]
    for name, values in (("packages", packages), ("repositories", spark["repositories"])):
        if values:
            options += [f"--{name}", ",".join(values)]
    return [*options, *files]


def _resolved(wanted: list[str], place: "Place") -> tuple[list[str], list[str]]:
    """(jars that the build has resolved, packages that spark-submit is still to resolve).

    The target's packages may have changed since the build: then all are resolved anew, since the jars may be of versions that no
    longer go together.
    """
    done: list[str] = list(place.software.get("jars_of") or [])
    settled = {*(place.spark.get("packages") or []), *(place.software.get("packages") or [])}
    if not done or set(done) != settled:
        return [], wanted
    return [_address(path) for path in place.software.get("jars") or []], [one for one in wanted if one not in settled]


def _listed(conf: dict[str, str], name: str) -> list[str]:
    """The items of a setting, which is taken out: an option says it with more."""
    return [item for item in conf.pop(name, "").split(",") if item]


def _own_python(config: "ScriptRunConfig", conf: dict[str, Any]) -> bool:
    """Whether somebody has said which Python executors use."""
    return "spark.pyspark.python" in conf or "PYSPARK_PYTHON" in config.variables


def _address(path: str) -> str:
    # A path with a space and a '#' behind it is no address to Spark.
    return "file://" + quote(path)
