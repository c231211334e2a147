"""The command `runstead import mlflow`: what an MLflow store holds, brought into the studio.

Everything keeps its id, so that addresses such as `runs:/<id>/model` go on to work. An import may be interrupted at any moment
and begun again: what is there already is counted and not sent twice.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from urllib.parse import quote

from . import config
from .errors import UserError
from .mlflow_calls import Mlflow, code, number
from .mlflow_folder import files
from .mlflow_stores import open_store
from .shell import add_json, print_json
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterator, List, Optional, Tuple

    from .mlflow_stores import Found

BATCH, ITEMS = 1000, 100
DONE = "imported"
EXAMPLES = """examples:
  runstead import mlflow mlflow.db
  runstead import mlflow ./mlruns
  runstead import mlflow mlflow.db --artifacts ./mlartifacts     of a server that kept the files itself
"""


def add(commands: Any) -> None:
    """Add the command to those of `runstead`."""
    parser = commands.add_parser("import", help="bring runs from elsewhere")
    parts = parser.add_subparsers(title="from", metavar="KIND", parser_class=type(parser))
    parts.required = True
    mlflow = parts.add_parser(
        "mlflow", help="a store of MLflow: a SQLite file, or a folder such as ./mlruns", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    mlflow.add_argument("store", metavar="STORE", help="the file or the folder; it is only read")
    mlflow.add_argument(
        "--artifacts", default="", metavar="FOLDER", help="where the files of mlflow-artifacts: addresses lie"
    )
    mlflow.add_argument("--no-artifacts", action="store_true", help="leave the files out")
    add_json(mlflow, "what was brought and what was not, as JSON")
    mlflow.set_defaults(call=_import)


def _import(options: argparse.Namespace, line: Optional[List[str]]) -> int:
    if options.artifacts and not os.path.isdir(options.artifacts):
        raise UserError("--artifacts: there is no folder %s." % options.artifacts)
    store = open_store(options.store, os.path.abspath(options.artifacts) if options.artifacts else "")
    found = config.find()
    job = Import(
        store,
        Mlflow(found["url"], found["workspace"], found["token"]),
        files=not options.no_artifacts,
        quiet=options.json,
    )
    job.run()
    if options.json:
        print_json({"counts": job.counts, "problems": job.problems})
    else:
        print(", ".join("%s %s" % (format(count, ","), name) for name, count in job.counts.items()))
        for problem in job.problems:
            print("not brought: %s" % problem, file=sys.stderr)
    return 1 if job.problems else 0


class Import:
    """One store into one workspace."""

    def __init__(self, store: Any, studio: Mlflow, *, files: bool = True, quiet: bool = False) -> None:
        self.store = store
        self.studio = studio
        self.with_files = files
        self.quiet = quiet
        self.counts = dict.fromkeys(
            ("experiments", "runs", "points", "parameters", "files", "logged models", "registered models", "versions"),
            0,
        )
        self.problems: List[str] = []
        self._told = 0.0

    def run(self) -> None:
        """Bring everything. What cannot be brought is a problem in words, and the rest goes on."""
        for experiment in self.store.experiments():
            key, deleted = self._experiment(experiment)
            for run in self.store.runs(experiment):
                self._try("run %s" % run.id, self._run, run, key)
            for model in self.store.models(experiment):
                self._try("logged model %s" % model.id, self._model, model, key)
            for run in self.store.runs(experiment):
                self._try("run %s" % run.id, self._end, run)
            if deleted:
                self.studio.call("experiments/delete", experiment_id=key)
        for model in self.store.registered():
            self._try("registered model %s" % model.name, self._registered, model)
        if not self.quiet and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr)

    def _try(self, what: str, work: Any, *arguments: Any) -> bool:
        """Whether it went well; if not, why is a problem in words."""
        told = len(self.problems)
        try:
            work(*arguments)
        except (ApiError, OSError, ValueError) as error:
            if isinstance(error, ApiError) and error.status in (401, 403):
                raise
            self.problems.append("%s: %s" % (what, error))
        self._tell()
        return len(self.problems) == told

    def _tell(self, force: bool = False) -> None:
        now = time.monotonic()
        if self.quiet or (now - self._told < (0.2 if sys.stderr.isatty() else 10) and not force):
            return
        self._told = now
        words = "%s runs, %s points, %s files" % tuple(
            format(self.counts[name], ",") for name in ("runs", "points", "files")
        )
        print(
            "\r\x1b[K%s" % words if sys.stderr.isatty() else words,
            end="" if sys.stderr.isatty() else "\n",
            file=sys.stderr,
            flush=True,
        )

    def _experiment(self, experiment: Found) -> Tuple[str, bool]:
        """Its id in the studio, and whether it is to be deleted at the end."""
        held = self.studio.ask("experiments/get-by-name", experiment_name=experiment.name)
        if held is None:
            key = self.studio.call("experiments/create", name=experiment.name)["experiment_id"]
        else:
            key = held["experiment"]["experiment_id"]
            if held["experiment"]["lifecycle_stage"] == "deleted":
                self.studio.call("experiments/restore", experiment_id=key)
        for name, value in experiment.tags.items():
            self.studio.call("experiments/set-experiment-tag", experiment_id=key, key=name, value=value)
        self.counts["experiments"] += 1
        return key, experiment.deleted

    def _run(self, run: Found, experiment: str) -> None:
        held = self.studio.ask("runs/held", run_id=run.id)
        if held is None:
            # One call makes the run; its tags come with it, and are the same when they come again.
            tags = [
                {"key": k, "value": v}
                for k, v in {"mlflow.user": run.user, **run.tags}.items()
                if v or k != "mlflow.user"
            ]
            body = {"experiment_id": experiment, "run_id": run.id, "start_time": run.start, "tags": tags}
            self.studio.call(
                "runs/create",
                **(dict(body, run_name=run.name) if run.name and "mlflow.runName" not in run.tags else body),
            )
            held = {"points": {}, "params": 0, "files": {}, "lifecycle_stage": "active", "imported": False}
        if not held["imported"]:
            if held["lifecycle_stage"] == "deleted":
                self.studio.call("runs/restore", run_id=run.id)
            params = list(run.params.items())
            for first in range(0, len(params), ITEMS):
                part = [{"key": k, "value": v} for k, v in params[first : first + ITEMS]]
                self.studio.call("runs/log-batch", run_id=run.id, params=part)
            self._points(run, held["points"])
            if run.inputs:
                inputs = [
                    dict(item, tags=[{"key": k, "value": v} for k, v in item["tags"].items()]) for item in run.inputs
                ]
                self.studio.call("runs/log-inputs", run_id=run.id, datasets=inputs)
            self._files("run %s" % run.id, run.artifacts, run.id + "/artifacts/", held["files"])
        self.counts["runs"] += 1

    def _points(self, run: Found, have: Dict[str, int]) -> None:
        """Points of a batch go together with how many there were before: repeated, it is refused and nothing is twice."""
        have = dict(have)
        for batch in self._batches(run, have):
            before = {name: have.get(name, 0) for name, _ in batch}
            points = [point for _, points in batch for point in points]
            try:
                self.studio.call("runs/log-batch", run_id=run.id, metrics=points, counts_before=before)
            except ApiError as error:
                now = (self.studio.ask("runs/held", run_id=run.id) or {"points": {}})["points"]
                after = {name: before[name] + len(points) for name, points in batch}
                if code(error) != "RESOURCE_CONFLICT" or any(now.get(name) != count for name, count in after.items()):
                    raise
            for name, points in batch:
                have[name] = have.get(name, 0) + len(points)
            self._tell()

    def _batches(self, run: Found, have: Dict[str, int]) -> Iterator[List[Tuple[str, List[Dict[str, Any]]]]]:
        batch: List[Tuple[str, List[Dict[str, Any]]]] = []
        room = BATCH
        for name, points in self.store.points(run):
            left = points[have.get(name, 0) :]
            while left:
                part, left = left[:room], left[room:]
                shown = [
                    {"key": name, "step": step, "timestamp": at, "value": number(value)} for step, at, value in part
                ]
                batch.append((name, shown))
                room -= len(part)
                if not room:
                    yield batch
                    batch, room = [], BATCH
        if batch:
            yield batch

    def _files(self, what: str, address: str, target: str, have: Dict[str, int]) -> None:
        if not self.with_files or not address:
            return
        folder = self.store.places.folder(address)
        if folder is None or (not os.path.isdir(folder) and "://" in address):
            self.problems.append(
                "%s: its files are at %s, which is not on this machine. See --artifacts." % (what, address)
            )
            return
        for name, path in files(folder):
            if have.get(name) != os.path.getsize(path):
                self.studio.put(target + name, path)
            self._tell()

    def _model(self, model: Found, experiment: str) -> None:
        if model.deleted:
            return
        held = self.studio.ask("logged-models/%s" % quote(model.id, safe=""))
        if held is None:
            body: Dict[str, Any] = {
                "experiment_id": experiment,
                "model_id": model.id,
                "name": model.name,
                "model_type": model.type,
            }
            if model.run:
                body["source_run_id"] = model.run
            for field, pairs in (("tags", model.tags), ("params", model.params)):
                body[field] = [{"key": k, "value": v} for k, v in pairs.items()]
            self.studio.call("logged-models", **body)
        if held is None or held["model"]["info"]["status"] == "LOGGED_MODEL_PENDING":
            self._files("logged model %s" % model.id, model.artifacts, "models/%s/artifacts/" % model.id, {})
            if str(model.status) in ("2", "3"):
                self.studio.request(
                    "PATCH", "mlflow/logged-models/%s" % quote(model.id, safe=""), {"status": str(model.status)}
                )
        self.counts["logged models"] += 1

    def _end(self, run: Found) -> None:
        """What a run made, how it ended; and whether all of it is there."""
        held = self.studio.ask("runs/held", run_id=run.id)
        if held is None:
            return  # the reason is told already
        if not held["imported"]:
            if run.outputs:
                self.studio.call(
                    "runs/outputs", run_id=run.id, models=[{"model_id": m, "step": s} for m, s in run.outputs]
                )
            if run.status not in ("RUNNING", "SCHEDULED"):
                self.studio.call("runs/update", run_id=run.id, status=run.status, end_time=run.end)
            self.studio.call("runs/set-tag", run_id=run.id, key=DONE, value="mlflow")
            if run.deleted:
                self.studio.call("runs/delete", run_id=run.id)
        self._compare(run, held)

    def _compare(self, run: Found, held: Dict[str, Any]) -> None:
        points = {name: len(points) for name, points in self.store.points(run)}
        for name in sorted(set(points) | set(held["points"])):
            if points.get(name, 0) != held["points"].get(name, 0):
                self.problems.append(
                    "run %s: the metric %s has %d points, in the store %d"
                    % (run.id, name, held["points"].get(name, 0), points.get(name, 0))
                )
        if held["params"] != len(run.params):
            self.problems.append(
                "run %s: it has %d parameters, in the store %d" % (run.id, held["params"], len(run.params))
            )
        self.counts["points"] += sum(points.values())
        self.counts["parameters"] += len(run.params)
        folder = self.store.places.folder(run.artifacts) if self.with_files and run.artifacts else None
        for name, path in files(folder) if folder else ():
            if held["files"].get(name) != os.path.getsize(path):
                self.problems.append("run %s: the file %s is not there, or not whole" % (run.id, name))
            self.counts["files"] += 1

    def _registered(self, model: Found) -> None:
        try:
            tags = [{"key": k, "value": v} for k, v in model.tags.items()]
            self.studio.call("registered-models/create", name=model.name, description=model.description, tags=tags)
        except ApiError as error:
            if code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        brought = [
            version
            for version in model.versions
            if self._try("version %d of %s" % (version.number, model.name), self._version, model, version)
        ]
        have = {version.number for version in brought}
        for alias, held in model.aliases.items():
            if held in have:
                self.studio.call("registered-models/alias", name=model.name, alias=alias, version=str(held))
        for version in brought:
            self._compare_version(model, version)
        self.counts["registered models"] += 1

    def _version(self, model: Found, version: Found) -> None:
        tags = [{"key": k, "value": v} for k, v in version.tags.items()]
        try:
            self.studio.call(
                "model-versions/create", name=model.name, version=version.number, source=self._source(version),
                description=version.description, tags=tags, **({"run_id": version.run} if version.run else {}),
            )  # fmt: skip
        except ApiError as error:
            if code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        # A call of its own: an import may have been cut off between the two.
        held = self._held_version(model, version)
        if version.run and held.get("run_id", version.run) != version.run:
            raise ValueError("the studio has another version of this number, of the run %s" % held["run_id"])
        if version.stage not in ("None", held["current_stage"]):
            self.studio.call(
                "model-versions/transition-stage", name=model.name, version=str(version.number), stage=version.stage
            )
        self.counts["versions"] += 1

    def _held_version(self, model: Found, version: Found) -> Any:
        held = self.studio.ask("model-versions/get", name=model.name, version=str(version.number))
        if held is None:
            raise ValueError("it was deleted in the studio, which gives its number to no other")
        return held["model_version"]

    def _compare_version(self, model: Found, version: Found) -> None:
        """What the store does not say, no stage or no alias, may have been said in the studio since."""
        held = self._held_version(model, version)
        what = "version %d of %s" % (version.number, model.name)
        if version.stage not in ("None", held["current_stage"]):
            self.problems.append("%s: its stage is %s, in the store %s" % (what, held["current_stage"], version.stage))
        for alias, held_by in model.aliases.items():
            if held_by == version.number and alias not in held["aliases"]:
                self.problems.append("%s: the alias %s is not there" % (what, alias))

    def _source(self, version: Found) -> str:
        """Where the files are now: an address with a run's folder becomes one with the run's id."""
        source = version.source.replace("\\", "/")
        mark = "/%s/artifacts/" % version.run
        if version.run and mark in source and not source.startswith(("runs:", "models:")):
            return "runs:/%s/%s" % (version.run, source.partition(mark)[2].strip("/"))
        if "/models/m-" in source and not source.startswith(("runs:", "models:")):
            return "models:/" + source.partition("/models/")[2].partition("/")[0]
        return version.source
