"""What an MLflow store on this machine holds, read with the standard library alone: a SQLite file. Folders: `mlflow_folder`."""

from __future__ import annotations

import os
import sqlite3
from urllib.parse import unquote, urlsplit

from .errors import UserError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

    Point = Tuple[int, int, Any]

STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}


class Found:
    """An experiment, run, model or version of a store. Which attributes it has depends on what it is."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def open_store(text: str, artifacts: str = "") -> Any:
    """The store at a path or `sqlite:///` address. `artifacts`: where the files of `mlflow-artifacts:` addresses lie.

    Raises UserError.
    """
    path = text[len("sqlite:///") :] if text.startswith("sqlite:///") else local_path(text)
    if path is None:
        raise UserError("STORE: %r is not on this machine. Give a SQLite file or a folder such as ./mlruns." % text)
    path = os.path.abspath(os.path.expanduser(path))
    if os.path.isdir(path):
        from .mlflow_folder import FolderStore

        return FolderStore(path, artifacts)
    if not os.path.isfile(path):
        raise UserError("STORE: there is no file and no folder %s." % path)
    return SqliteStore(path, artifacts)


def local_path(address: str) -> Optional[str]:
    """The path of an address on this machine; None for one elsewhere."""
    parts = urlsplit(address)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return unquote(parts.path)
    return address if not parts.scheme or len(parts.scheme) == 1 else None


class Places:
    """Where the files of a store are."""

    def __init__(self, beside: str, artifacts: str) -> None:
        self._beside = beside
        self._artifacts = artifacts

    def folder(self, address: str) -> Optional[str]:
        """The folder of an artifact address, when it is on this machine."""
        if address.startswith("mlflow-artifacts:"):
            path = urlsplit(address).path.strip("/")
            found = os.path.join(self._artifacts, *path.split("/")) if self._artifacts and path else None
        else:
            found = local_path(address)
            if found is not None and not os.path.isabs(found):
                found = os.path.join(self._beside, found)
            if found is not None and not os.path.isdir(found):
                # The store was moved: its own folder is named as it was, and lies beside it.
                parts = found.replace("\\", "/").split("/")
                tails = [os.path.join(self._beside, *parts[n:]) for n in range(1, len(parts))]
                found = next((tail for tail in tails if os.path.isdir(tail)), found)
        return found


class SqliteStore:
    """A store of MLflow in a SQLite file, opened for reading only."""

    def __init__(self, path: str, artifacts: str) -> None:
        self.path = path
        self.places = Places(os.path.dirname(path), artifacts)
        try:
            self._db = sqlite3.connect("file:%s?mode=ro" % path.replace("?", "%3f").replace("#", "%23"), uri=True)
            self._db.row_factory = sqlite3.Row
            self._tables = {row[0] for row in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        except sqlite3.Error as error:
            raise UserError("STORE: %s cannot be read as a SQLite file: %s." % (path, error)) from None
        if not {"experiments", "runs", "metrics", "params", "tags"} <= self._tables:
            raise UserError("STORE: %s is a SQLite file, and no store of MLflow: it lacks its tables." % path)

    def _rows(self, table: str, where: str = "", *values: Any) -> List[sqlite3.Row]:
        if table not in self._tables:
            return []  # a store of an older MLflow
        return list(self._db.execute("SELECT * FROM %s %s" % (table, where), values))  # noqa: S608 words of our own

    def _pairs(self, table: str, where: str, *values: Any, key: str = "key", value: str = "value") -> Dict[str, str]:
        return {row[key]: row[value] or "" for row in self._rows(table, where, *values)}

    def experiments(self) -> List[Found]:
        """All experiments, deleted ones too."""
        return [
            Found(
                id=str(row["experiment_id"]), name=row["name"], deleted=row["lifecycle_stage"] == "deleted",
                tags=self._pairs("experiment_tags", "WHERE experiment_id = ?", row["experiment_id"]),
            )
            for row in self._rows("experiments", "ORDER BY experiment_id")
        ]  # fmt: skip

    def runs(self, experiment: Found) -> Iterator[Found]:
        """Runs of an experiment, in the order in which they began."""
        for row in self._rows("runs", "WHERE experiment_id = ? ORDER BY start_time, run_uuid", int(experiment.id)):
            yield Found(
                id=row["run_uuid"], name=row["name"] or "", status=row["status"] or "RUNNING", start=row["start_time"],
                end=row["end_time"], user=row["user_id"] or "", deleted=row["lifecycle_stage"] == "deleted",
                artifacts=row["artifact_uri"] or "", tags=self._pairs("tags", "WHERE run_uuid = ?", row["run_uuid"]),
                params=self._pairs("params", "WHERE run_uuid = ?", row["run_uuid"]),
                inputs=self._inputs(row["run_uuid"]), outputs=self._outputs(row["run_uuid"]),
            )  # fmt: skip

    def _inputs(self, run: str) -> List[Dict[str, Any]]:
        found = []
        for row in self._rows(
            "inputs", "WHERE source_type = 'DATASET' AND destination_type = 'RUN' AND destination_id = ?", run
        ):
            tags = self._pairs("input_tags", "WHERE input_uuid = ?", row["input_uuid"], key="name")
            for data in self._rows("datasets", "WHERE dataset_uuid = ?", row["source_id"]):
                dataset = {"name": data["name"], "digest": data["digest"]}
                for name in ("source_type", "source", "schema", "profile"):
                    if data["dataset_" + name] is not None:
                        dataset[name] = data["dataset_" + name]
                found.append({"dataset": dataset, "tags": tags})
        return found

    def _outputs(self, run: str) -> List[Tuple[str, int]]:
        rows = self._rows("inputs", "WHERE source_type = 'RUN_OUTPUT' AND source_id = ?", run)
        return [(row["destination_id"], row["step"] or 0) for row in rows]

    def points(self, run: Found) -> Iterator[Tuple[str, List[Point]]]:
        """(metric, points as (step, milliseconds, value)) of a run, in an order that stays."""
        name: Optional[str] = None
        points: List[Point] = []
        for row in self._db.execute(
            "SELECT key, step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY key, step, timestamp, value", (run.id,)
        ):  # fmt: skip
            if row["key"] != name and name is not None:
                yield name, points
                points = []
            name = row["key"]
            points.append((row["step"], row["timestamp"], float("nan") if row["is_nan"] else row["value"]))
        if name is not None:
            yield name, points

    def models(self, experiment: Found) -> List[Found]:
        """Logged models of an experiment."""
        found = []
        for row in self._rows("logged_models", "WHERE experiment_id = ?", int(experiment.id)):
            where, model = "WHERE model_id = ?", row["model_id"]
            found.append(
                Found(
                    id=model, name=row["name"], status=row["status"], type=row["model_type"] or "",
                    run=row["source_run_id"] or "", deleted=row["lifecycle_stage"] == "deleted",
                    artifacts=row["artifact_location"],
                    tags=self._pairs("logged_model_tags", where, model, key="tag_key", value="tag_value"),
                    params=self._pairs("logged_model_params", where, model, key="param_key", value="param_value"),
                )
            )  # fmt: skip
        return found

    def registered(self) -> List[Found]:
        """Registered models with their versions, oldest first."""
        return [
            Found(
                name=row["name"], description=row["description"] or "",
                tags=self._pairs("registered_model_tags", "WHERE name = ?", row["name"]),
                aliases={
                    alias["alias"]: int(alias["version"])
                    for alias in self._rows("registered_model_aliases", "WHERE name = ?", row["name"])
                },
                versions=[self._version(version) for version in self._rows("model_versions", "WHERE name = ? AND current_stage <> 'Deleted_Internal' ORDER BY version", row["name"])],
            )
            for row in self._rows("registered_models", "ORDER BY name")
        ]  # fmt: skip

    def _version(self, row: sqlite3.Row) -> Found:
        where = "WHERE name = ? AND version = ?"
        return Found(
            number=int(row["version"]), description=row["description"] or "", stage=row["current_stage"] or "None",
            source=row["source"] or "", run=row["run_id"] or "",
            tags=self._pairs("model_version_tags", where, row["name"], row["version"]),
        )  # fmt: skip
