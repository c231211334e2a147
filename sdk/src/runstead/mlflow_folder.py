"""What a folder such as `./mlruns` holds, in which MLflow kept its runs as files."""

from __future__ import annotations

import os
import re

from .errors import UserError
from .mlflow_stores import STATUSES, Found, Places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Tuple

    from .mlflow_stores import Point

RESERVED = ("models", "datasets", "traces", ".trash")
KEY = re.compile(r"((?:'(?:[^']|'')*'|\"(?:[^\"\\]|\\.)*\"|[^\s'\"#:][^:]*?)):(?: +(.*))?$")
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "e": "\x1b", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
           "a": "\a", "b": "\b", "v": "\v", "f": "\f"}  # fmt: skip


class FolderStore:
    """A store of MLflow in a folder; nothing in it is changed."""

    def __init__(self, path: str, artifacts: str) -> None:
        self.path = path
        self.places = Places(os.path.dirname(path), artifacts)
        if not self.experiments():
            raise UserError("STORE: %s is no store of MLflow: no experiment with a meta.yaml lies in it." % path)

    def experiments(self) -> List[Found]:
        """All experiments, deleted ones too."""
        found = []
        for base in (self.path, os.path.join(self.path, ".trash")):
            for name in _names(base):
                meta = read_meta(os.path.join(base, name)) if name not in RESERVED else {}
                if meta.get("experiment_id") is not None:
                    folder = os.path.join(base, name)
                    deleted = meta.get("lifecycle_stage") == "deleted"
                    tags = texts(os.path.join(folder, "tags"))
                    found.append(
                        Found(
                            id=str(meta["experiment_id"]), name=meta["name"], deleted=deleted, tags=tags, folder=folder
                        )
                    )
        return found

    def runs(self, experiment: Found) -> Iterator[Found]:
        """Runs of an experiment, in the order in which they began."""
        metas = []
        for name in _names(experiment.folder):
            folder = os.path.join(experiment.folder, name)
            meta = read_meta(folder) if name not in ("tags", *RESERVED) else {}
            if meta.get("run_id") or meta.get("run_uuid"):
                metas.append((meta.get("start_time") or 0, folder, meta))
        for start, folder, meta in sorted(metas, key=lambda item: item[:2]):
            own = os.path.join(folder, "artifacts")
            status = meta.get("status") or 1
            yield Found(
                id=str(meta.get("run_id") or meta["run_uuid"]), name=str(meta.get("run_name") or ""),
                status=STATUSES.get(status, "RUNNING"), start=start, end=meta.get("end_time"),
                user=str(meta.get("user_id") or ""), deleted=meta.get("lifecycle_stage") == "deleted",
                artifacts=own if os.path.isdir(own) else str(meta.get("artifact_uri") or ""),
                tags=texts(os.path.join(folder, "tags")), params=texts(os.path.join(folder, "params")), folder=folder,
                inputs=self._inputs(experiment.folder, folder), outputs=self._outputs(folder),
            )  # fmt: skip

    def _inputs(self, experiment: str, run: str) -> List[Dict[str, Any]]:
        found = []
        for name in _names(os.path.join(run, "inputs")):
            meta = read_meta(os.path.join(run, "inputs", name))
            data = read_meta(os.path.join(experiment, "datasets", str(meta.get("source_id"))))
            if meta.get("source_type") == "DATASET" and data.get("name"):
                fields = ("name", "digest", "source_type", "source", "schema", "profile")
                dataset = {field: str(data[field]) for field in fields if data.get(field) is not None}
                found.append({"dataset": dataset, "tags": {k: str(v) for k, v in (meta.get("tags") or {}).items()}})
        return found

    def _outputs(self, run: str) -> List[Tuple[str, int]]:
        metas = [read_meta(os.path.join(run, "outputs", name)) for name in _names(os.path.join(run, "outputs"))]
        return [
            (str(meta["destination_id"]), int(meta.get("step") or 0)) for meta in metas if meta.get("destination_id")
        ]

    def points(self, run: Found) -> Iterator[Tuple[str, List[Point]]]:
        """(metric, points as (step, milliseconds, value)) of a run, in an order that stays."""
        for name, path in files(os.path.join(run.folder, "metrics")):
            points = []
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    words = line.split()
                    if len(words) >= 2:
                        points.append((int(words[2]) if len(words) > 2 else 0, int(words[0]), float(words[1])))
            points.sort(key=lambda point: point[:2])
            yield name, points

    def models(self, experiment: Found) -> List[Found]:
        """Logged models of an experiment."""
        found = []
        for name in _names(os.path.join(experiment.folder, "models")):
            folder = os.path.join(experiment.folder, "models", name)
            meta = read_meta(folder)
            if meta.get("model_id"):
                own = os.path.join(folder, "artifacts")
                found.append(
                    Found(
                        id=str(meta["model_id"]), name=str(meta["name"]), status=meta.get("status") or 2,
                        type=str(meta.get("model_type") or ""), run=str(meta.get("source_run_id") or ""),
                        deleted=meta.get("lifecycle_stage") == "deleted", tags=texts(os.path.join(folder, "tags")),
                        params=texts(os.path.join(folder, "params")),
                        artifacts=own if os.path.isdir(own) else str(meta.get("artifact_location") or ""),
                    )
                )  # fmt: skip
        return found

    def registered(self) -> List[Found]:
        """Registered models with their versions, oldest first."""
        found = []
        for name in _names(os.path.join(self.path, "models")):
            folder = os.path.join(self.path, "models", name)
            meta = read_meta(folder)
            if not meta.get("name"):
                continue
            versions = []
            for part in _names(folder):
                version = read_meta(os.path.join(folder, part)) if part.startswith("version-") else {}
                if version.get("version") is not None and version.get("current_stage") != "Deleted_Internal":
                    versions.append(
                        Found(
                            number=int(version["version"]), description=str(version.get("description") or ""),
                            stage=str(version.get("current_stage") or "None"), source=str(version.get("source") or ""),
                            run=str(version.get("run_id") or ""), tags=texts(os.path.join(folder, part, "tags")),
                        )
                    )  # fmt: skip
            aliases = {alias: int(text) for alias, text in texts(os.path.join(folder, "aliases")).items()}
            found.append(
                Found(
                    name=str(meta["name"]), description=str(meta.get("description") or ""), aliases=aliases,
                    tags=texts(os.path.join(folder, "tags")), versions=sorted(versions, key=lambda one: one.number),
                )
            )  # fmt: skip
        return found


def _names(folder: str) -> List[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def files(folder: str) -> Iterator[Tuple[str, str]]:
    """(name with `/`, path) of the files below a folder; links are not followed."""
    for base, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(base, name)
            if not os.path.islink(path) and os.path.isfile(path):
                yield os.path.relpath(path, folder).replace(os.sep, "/"), path


def texts(folder: str) -> Dict[str, str]:
    """A folder of files as names and contents: parameters and tags."""
    found = {}
    for name, path in files(folder):
        with open(path, encoding="utf-8", newline="") as file:
            found[name] = file.read()
    return found


def read_meta(folder: str) -> Dict[str, Any]:
    """`meta.yaml` of a folder; nothing where there is none."""
    try:
        with open(os.path.join(folder, "meta.yaml"), encoding="utf-8") as file:
            return mapping(file.read().splitlines())
    except (FileNotFoundError, NotADirectoryError):
        return {}


def mapping(lines: List[str]) -> Dict[str, Any]:
    """The mapping that MLflow writes: keys with plain or quoted values, long ones over several lines, mappings inside."""
    found: Dict[str, Any] = {}
    place = 0
    while place < len(lines):
        match = KEY.match(lines[place])
        place += 1
        if match is None:
            continue
        rest = []
        while place < len(lines) and (lines[place].startswith(" ") or not lines[place].strip()):
            rest.append(lines[place])
            place += 1
        key, value = str(scalar([match.group(1)])), (match.group(2) or "").strip()
        if not value and rest and KEY.match(rest[0].strip()):
            found[key] = mapping([line[2:] for line in rest])
        else:
            found[key] = scalar([value, *(line.strip() for line in rest)])
    return found


def scalar(lines: List[str]) -> Any:
    """A value, its lines folded as YAML does: one break is a blank, an empty line is a break."""
    text = ""
    for place, line in enumerate(lines):
        if place and not line:
            text += "\n"
        elif place and text.endswith("\\") and text[:1] == '"':
            text = text[:-1] + line.lstrip()  # a break that stands for nothing
        else:
            text += ("" if not place or text.endswith("\n") else " ") + line
    if text[:1] == "'" and len(text) > 1:
        return text[1:-1].replace("''", "'")
    if text[:1] == '"' and len(text) > 1:
        return re.sub(r"\\(x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|U[0-9A-Fa-f]{8}|.)", _escaped, text[1:-1], flags=re.DOTALL)
    if text in ("", "null", "~", "[]", "{}"):
        return {} if text == "{}" else [] if text == "[]" else None
    if re.match(r"[-+]?[0-9]+\Z", text):
        return int(text)
    return text


def _escaped(match: Any) -> str:
    word: str = match.group(1)
    return chr(int(word[1:], 16)) if word[0] in "xuU" and len(word) > 1 else ESCAPES.get(word, word)
