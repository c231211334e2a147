"""A `RunConfiguration` as a file: YAML with the keys of the reference, so that either side reads the other's."""

from __future__ import annotations

import os
from functools import partial

from . import environment as environments
from . import yaml_text
from .environment import Environment
from .errors import NotYet, UserError
from .needed import mapping
from .run_configuration import OWN as OWN_NAME
from .run_configuration import RunConfiguration, named
from .run_sections import CLUSTER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple, Union

    Path = Union[str, os.PathLike[str]]

FOLDERS = (".azureml", "aml_config", ".runstead")
ENDING = ".runconfig"
OURS = "runstead"
"""The section with what the reference has no place for."""
# Section → its attributes and their keys in the file.
SECTIONS: Dict[str, Dict[str, str]] = {
    "history": {
        "output_collection": "outputCollection",
        "snapshot_project": "snapshotProject",
        "directories_to_watch": "directoriesToWatch",
    },
    "docker": {
        "use_docker": "useDocker",
        "shared_volumes": "sharedVolumes",
        "arguments": "arguments",
        "shm_size": "shmSize",
    },
    "hdi": {"yarn_deploy_mode": "yarnDeployMode"},
    "tensorflow": {"worker_count": "workerCount", "parameter_server_count": "parameterServerCount"},
    "mpi": {"process_count_per_node": "processCountPerNode", "node_count": "nodeCount"},
    "pytorch": {
        "communication_backend": "communicationBackend",
        "process_count": "processCount",
        "node_count": "nodeCount",
    },
    "amlcompute": {
        "vm_size": "vmSize",
        "vm_priority": "vmPriority",
        "retain_cluster": "retainCluster",
        "cluster_max_node_count": "clusterMaxNodeCount",
        "name": "name",
    },
}
SIMPLE = {
    "script": "script",
    "command": "command",
    "arguments": "arguments",
    "framework": "framework",
    "communicator": "communicator",
    "max_run_duration_seconds": "maxRunDurationSeconds",
    "node_count": "nodeCount",
}
OWN = ("secrets", "memory_bytes", "gpus", "grace_seconds", "priority")


def save(config: RunConfiguration, path: Optional[Path], name: Optional[str], apart: bool) -> None:
    """Write the file, and the folder `.azureml` where it is missing."""
    name = name or config._name or named("target", config.target)
    place = os.fspath(path) if path is not None else config._path or os.getcwd()
    if not os.path.splitext(place)[1]:
        place = os.path.join(place, "" if os.path.basename(place) in FOLDERS else FOLDERS[0], name + ENDING)
    data = _written(config)
    os.makedirs(os.path.dirname(os.path.abspath(place)), exist_ok=True)
    if apart and isinstance(config.environment, Environment):
        beside = "%s_environment.yml" % name
        _put(os.path.join(os.path.dirname(place), beside), data["environment"])
        data["environment"] = beside
    _put(place, data)


def _put(place: str, data: Dict[str, Any]) -> None:
    with open(place, "w", encoding="utf-8") as file:
        file.write(yaml_text.write(data))


def _written(config: RunConfiguration) -> Dict[str, Any]:
    data: Dict[str, Any] = {key: getattr(config, name) for name, key in SIMPLE.items()}
    data["target"] = named("target", config.target)
    if isinstance(config.environment, Environment):
        data["environment"] = environments.as_dict(config.environment)
        data["environment"]["environmentVariables"].update(config.environment_variables)
    else:
        data["environment"] = config.environment
        data["environmentVariables"] = dict(config.environment_variables)
    for section, keys in SECTIONS.items():
        data[section] = {key: getattr(getattr(config, section), name) for name, key in keys.items()}
    if not config.hdi.deploy_mode:
        del data["hdi"]  # not said: the target's own
    spark = config.spark
    data["spark"] = {
        "configuration": dict(spark.configuration),
        "packages": list(spark.packages),
        "repositories": list(spark.repositories),
        "deployMode": spark.deploy_mode,
    }
    data["data"], data["outputData"] = dict(config.data), dict(config.output_data)
    data[OURS] = {name: getattr(config, name) for name in OWN}
    return data


def found(path: Path, name: Optional[str]) -> str:
    """The path of the file. Raises UserError."""
    base = os.fspath(path)
    if os.path.isfile(base):
        return base
    if not name:
        raise UserError("name: which configuration in %s? Its name, or the path of the file, is needed." % base)
    places = [
        os.path.join(base, folder, name + ending)
        for folder in ("", *FOLDERS)
        for ending in (ENDING, ".yml", ".yaml", "")
    ]
    for place in places:
        if os.path.isfile(place):
            return place
    raise UserError("name: there is no configuration %r in %s. It would be %s." % (name, base, places[4]))


def load(path: Path, name: Optional[str]) -> RunConfiguration:
    """Read the file. Unknown keys are refused by name."""
    place = found(path, name)
    data = yaml_text.read("path", place)
    if not isinstance(data, dict):
        raise UserError("path: %s holds no 'key: value' lines." % place)
    base = os.path.dirname(os.path.abspath(place))
    stem = name or os.path.splitext(os.path.basename(place))[0]
    config = RunConfiguration(_path=os.path.dirname(base) if os.path.basename(base) in FOLDERS else base, _name=stem)
    keys = {key: attribute for attribute, key in SIMPLE.items()}
    for key, value in data.items():
        if key == "hdi" and OURS not in data and value == {"yarnDeployMode": CLUSTER}:
            continue  # in every file of the reference, for any target
        _read(config, str(key), value, keys, base)
    return config


def _read(config: RunConfiguration, key: str, value: Any, keys: Dict[str, str], base: str) -> None:
    readers: Dict[str, Callable[[Any], None]] = {
        "target": lambda value: setattr(config, "target", value),
        "environment": lambda value: _environment(config, value, base),
        "environmentVariables": lambda value: config.environment_variables.update(_texts(key, value)),
        "spark": partial(_spark, config),
        "data": config.data.update,
        "outputData": config.output_data.update,
    }
    if value is None:
        return
    if key in keys:
        setattr(config, keys[key], value)
    elif key in readers:
        readers[key](value)
    elif key in SECTIONS:
        _section(getattr(config, key), key, value, [(own, theirs) for own, theirs in SECTIONS[key].items()])
    elif key == OURS:
        _section(config, key, value, [(name, name) for name in OWN])
    elif key.lower() in _OF_DATA:
        if value:
            raise NotYet(
                "path: %s: data stores are not mounted into runs yet. Take it out, and send the data with the folder, or read it where the "
                "target has it." % key
            )
    elif key.lower() not in _LEFT_OUT:
        known = (*keys, *readers, *SECTIONS, OURS)
        raise UserError("path: %r is not known in a run configuration. Use: %s." % (key, ", ".join(known)))


# What files of the reference hold, of any of its versions, in any case of letters: empty or refused, and what has no meaning here.
_OF_DATA = ("datareferences", "datacaches")
_LEFT_OUT = (
    "autoprepareenvironment", "exposedports", "paralleltask", "batchai", "aisupercomputer", "kubernetescompute", "cmk8scompute",
    "docker_compute", "useabsolutepath", "sourcedirectorydatastore", "identity", "credentialpassthrough", "services", "priority",
    "jobname", "maxrundurationsecondspernode", "applicationendpoints", "globaljobdispatcher", "commandreturncodeconfig", "scripttype",
    "instancetypes", "parameters", "snapshotid", "snapshots", "telemetryvalues",
)  # fmt: skip


def _section(section: Any, name: str, value: Any, pairs: List[Tuple[str, str]]) -> None:
    if not isinstance(value, dict):
        raise UserError("path: %s needs 'key: value' lines." % name)
    known = {theirs: own for own, theirs in pairs}
    for key, item in value.items():
        if key not in known:
            raise UserError("path: %s.%s is not known. Use: %s." % (name, key, ", ".join(known)))
        if item is not None:
            setattr(section, known[key], item)


def _environment(config: RunConfiguration, value: Any, base: str) -> None:
    if isinstance(value, str) and value.endswith((".yml", ".yaml")) and os.path.isfile(os.path.join(base, value)):
        value = yaml_text.read("path", os.path.join(base, value))
    if isinstance(value, dict):
        # What a run's variables were, the file keeps with the environment: there they mean the same.
        theirs = (
            str(value.get("name") or "").lower().startswith("azureml-")
        )  # a curated one, written out: names of the studio's
        value = environments.from_dict({**value, "name": None} if theirs else value, base, OWN_NAME)
    config.environment = value


def _spark(config: RunConfiguration, value: Any) -> None:
    if not isinstance(value, dict):
        raise UserError("path: spark needs 'key: value' lines.")
    config.spark.configuration = dict(mapping("path: spark.configuration", value.get("configuration") or None))
    config.spark.packages = list(value.get("packages") or [])
    config.spark.repositories = list(value.get("repositories") or [])
    config.spark.deploy_mode = value.get("deployMode") or ""


def _texts(field: str, value: Any) -> Dict[str, str]:
    if not isinstance(value, dict):
        raise UserError("path: %s needs 'NAME: value' lines." % field)
    return {str(name): str(item) for name, item in value.items()}
