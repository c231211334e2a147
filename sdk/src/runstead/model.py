"""`Model`: what runs made, kept under a name in numbered versions."""

from __future__ import annotations

import os
import uuid
from urllib.parse import quote

from .errors import ModelNotFoundException, ModelPathNotFoundException, UserError
from .keywords import names_of, refuse
from .listing import wanted
from .needed import file_path, mapping, texts, workspace_of
from .not_yet import method
from .transport import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Mapping, Optional, Union

    from .submitted import SubmittedRun
    from .workspace import Workspace

PAGE = 200
EXPERIMENT = "models"
"""Where the runs are that keep the files of models which no run made."""


class Model:
    """A version of a registered model: `Model(ws, "digits")` is the newest, `Model(ws, "digits", version=3)` or
    `Model(ws, id="digits:3")` another. Raises ModelNotFoundException when there is none.
    """

    class Framework:
        """What `model_framework` may say; any other text, too."""

        CUSTOM = "Custom"
        MULTI = "Multi"
        ONNX = "Onnx"
        SCIKITLEARN = "ScikitLearn"
        TENSORFLOW = "TensorFlow"

    deploy = method("Model.deploy")
    package = method("Model.package")
    profile = method("Model.profile")
    print_configuration = method("Model.print_configuration")

    def __init__(
        self,
        workspace: Workspace,
        name: Optional[str] = None,
        id: Optional[str] = None,
        tags: Union[Mapping[str, Any], List[Any], None] = None,
        properties: Union[Mapping[str, Any], List[Any], None] = None,
        version: Optional[int] = None,
        run_id: Optional[str] = None,
        model_framework: Optional[str] = None,
        expand: bool = True,
        **kwargs: Any,
    ) -> None:
        refuse("Model", kwargs, names_of(Model.__init__))
        self.workspace = workspace
        if id is not None:
            name, colon, text = id.rpartition(":")
            if not colon or not text.isdigit():
                raise UserError("id: %r is no id of a model. Write name:version, for example digits:3." % id)
            version = int(text)
        if not name:
            raise UserError("name: the name or id of a model is needed.")
        self._row = _newest(workspace, name, version, _filters(tags), _filters(properties), run_id)

    @staticmethod
    def _of(workspace: Workspace, row: Dict[str, Any]) -> Model:
        made = object.__new__(Model)
        made.workspace = workspace
        made._row = row
        return made

    # What it is

    @property
    def name(self) -> str:
        return str(self._row["name"])

    @property
    def version(self) -> int:
        """Counts from 1 for each name."""
        return int(self._row["version"])

    @property
    def id(self) -> str:
        """`name:version`"""
        return "%s:%d" % (self.name, self.version)

    @property
    def description(self) -> str:
        return str(self._row["description"])

    @property
    def tags(self) -> Dict[str, Optional[str]]:
        return dict(self._row["tags"])

    @property
    def properties(self) -> Dict[str, str]:
        return dict(self._row["properties"])

    @property
    def created_time(self) -> str:
        """ISO 8601"""
        return str(self._row["created_at"])

    @property
    def created_by(self) -> Optional[str]:
        return self._row["created_by"]  # type: ignore[no-any-return]

    @property
    def model_framework(self) -> Optional[str]:
        return self.properties.get("framework")

    @property
    def model_framework_version(self) -> Optional[str]:
        return self.properties.get("framework_version")

    @property
    def run_id(self) -> Optional[str]:
        """Id of the run that made it."""
        return self._row["run_id"]  # type: ignore[no-any-return]

    @property
    def run(self) -> Optional[SubmittedRun]:
        """The run that made it."""
        return None if self.run_id is None else self.workspace.get_run(self.run_id)

    @property
    def url(self) -> str:
        """The id that a model has for other programs of this system."""
        return "runstead://models/%s" % self.id

    # Found and made

    @staticmethod
    def list(
        workspace: Workspace,
        name: Optional[str] = None,
        tags: Union[Mapping[str, Any], List[Any], None] = None,
        properties: Union[Mapping[str, Any], List[Any], None] = None,
        run_id: Optional[str] = None,
        latest: bool = False,
        dataset_id: Optional[str] = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: Optional[str] = None,
    ) -> List[Model]:
        """Every version that fits, names in order and the newest version of each first; `latest`: of each name the newest alone."""
        names = [name] if name is not None else [row["name"] for row in _models(workspace)]
        found = []
        for one in names:
            rows = [
                row
                for row in _versions(workspace, one)
                if _fits(row, _filters(tags), _filters(properties), run_id)
                and (model_framework is None or row["properties"].get("framework") == model_framework)
            ]
            found += [Model._of(workspace, row) for row in (rows[:1] if latest else rows)]
        return found

    @staticmethod
    def register(
        workspace: Workspace,
        model_path: Union[str, os.PathLike[str]],
        model_name: str,
        tags: Optional[Mapping[str, Any]] = None,
        properties: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        datasets: Any = None,
        model_framework: Optional[str] = None,
        model_framework_version: Optional[str] = None,
        child_paths: Optional[List[str]] = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> Model:
        """Keep a file or folder of this machine as the next version of a model. `child_paths`: of a folder, only these.

        Its files are kept with a run of their own, of the experiment `models`. Raises UserError.
        """
        from .experiment import Experiment

        path, tags = os.path.normpath(file_path("model_path", model_path)), texts("tags", tags)
        if not os.path.exists(path):
            raise UserError("model_path: there is no file or folder %r." % path)
        facts = {"framework": model_framework, "framework_version": model_framework_version}
        own = {**{key: value for key, value in facts.items() if value}, **mapping("properties", properties)}
        inner = os.path.basename(os.path.abspath(path))
        with Experiment(workspace, EXPERIMENT).start_logging(snapshot_directory=None, display_name=model_name) as run:
            if os.path.isdir(path) and child_paths is not None:
                for child in child_paths:
                    run.upload_file("%s/%s" % (inner, child), os.path.join(path, child))
            elif os.path.isdir(path):
                run.upload_folder(inner, path)
            else:
                run.upload_file(inner, path)
            return register_from_run(run, model_name, inner, tags, own, description)

    @staticmethod
    def get_model_path(model_name: str, version: Optional[int] = None, _workspace: Optional[Workspace] = None) -> str:
        """The path of the model's file or folder here: fetched once into `azureml-models/<name>/<version>`. Raises UserError."""
        from .kept import has_model
        from .workspace import Workspace

        found = Model(_workspace or Workspace.from_config(), model_name, version=version)
        folder = os.path.join("azureml-models", found.name, str(found.version))
        place = os.path.join(folder, found._base())
        # One of its files may have been taken away since.
        return place if has_model(found._files(), place) else found.download(folder, exist_ok=True)

    # What can be done with it

    def download(self, target_dir: str = ".", exist_ok: bool = False, exists_ok: Optional[bool] = None) -> str:
        """Fetch its file or folder into a folder, where it appears whole or not at all; its path there.

        Raises UserError when it is there, without `exist_ok`.
        """
        from .kept import fetch_model

        place = os.path.join(target_dir, self._base())
        if os.path.exists(place) and not (exist_ok or exists_ok):
            raise UserError("target_dir: %s is there already. Give exist_ok=True to replace it." % place)
        fetch_model(self.workspace, self.name, self.version, self._files(), place)
        return place

    def _files(self) -> Dict[str, Dict[str, Any]]:
        """What the studio says of its files, by their path below its own; that of a single file is empty."""
        from .files import plain_name

        # Names come from whoever made the model; the studio lets only plain relative ones in, and here they are looked at again.
        return {"" if self._is_file() else plain_name(row["path"]): row for row in self._row["files"]}

    def _is_file(self) -> bool:
        """Whether it is one file, and no folder."""
        files = self._row["files"]
        return len(files) == 1 and files[0]["path"] == self._row["path"].rpartition("/")[2]

    def _base(self) -> str:
        from .files import plain_name

        return plain_name(self._row["path"].rpartition("/")[2] or self.name)

    def update(
        self,
        tags: Optional[Mapping[str, Any]] = None,
        description: Optional[str] = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: Any = None,
    ) -> None:
        """Replace its tags, its description."""
        fields: Dict[str, Any] = {}
        if tags is not None:
            fields["tags"] = texts("tags", tags)
        if description is not None:
            fields["description"] = description
        if fields:
            self._row = self._ask("PATCH", fields)

    def add_tags(self, tags: Mapping[str, Any]) -> None:
        """Add tags, or give them other values."""
        self.update(tags={**self.tags, **texts("tags", tags)})

    def remove_tags(self, tags: List[str]) -> None:
        """Remove tags by name."""
        gone = [tags] if isinstance(tags, str) else list(tags)
        self.update(tags={key: value for key, value in self.tags.items() if key not in gone})

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Add properties, which cannot be changed afterwards."""
        self._row = self._ask("PATCH", {"properties": texts("properties", properties)})

    def delete(self) -> None:
        """Delete this version. The artifacts stay with their run."""
        self._ask("DELETE")

    def serialize(self) -> Dict[str, Any]:
        """Everything the studio says about it."""
        return dict(self._row)

    def _ask(self, method: str, body: Any = None) -> Any:
        path = "%s/versions/%d" % (_path(self.name), self.version)
        answer = self.workspace.transport.request(method, path, body)
        return answer.json() if answer.data else None

    def __deepcopy__(self, memo: Any) -> Model:
        return self

    def _repr_html_(self) -> str:
        from .notebook_html import table

        page = "%smodels/%s/%d" % (self.workspace.get_portal_url(), quote(self.name, safe=""), self.version)
        return table(page, name=self.name, version=self.version, framework=self.model_framework, run=self.run_id)

    def __repr__(self) -> str:
        return "Model(workspace=%r, name=%r, id=%r, version=%d)" % (self.workspace, self.name, self.id, self.version)


def register_from_run(
    run: Any,
    name: str,
    path: str,
    tags: Optional[Mapping[str, Any]],
    properties: Mapping[str, Any],
    description: Optional[str],
) -> Model:
    """Keep an artifact, or a folder of them, as the next version. Raises ModelPathNotFoundException."""
    path = path.replace(os.sep, "/").strip("/")
    if path.startswith("./"):
        path = path[2:]
    body = {
        "name": name, "run": run.number, "path": path, "tags": texts("tags", tags), "properties": texts("properties", properties),
        "description": description or "",
    }  # fmt: skip
    transport = run.workspace.transport
    try:
        answer = transport.request("POST", "models", body, headers={"Idempotency-Key": str(uuid.uuid4())})
    except ApiError as error:
        if not error.names("path"):
            raise
        field, _, told = str(error).partition(": ")
        raise ModelPathNotFoundException("model_path: %s" % (told if field == "path" else error)) from None
    return Model._of(run.workspace, answer.json())


def _newest(
    workspace: Workspace,
    name: str,
    version: Optional[int],
    tags: List[str],
    properties: List[str],
    run_id: Optional[str],
) -> Dict[str, Any]:
    rows = _versions(workspace, name)
    fitting = [row for row in rows if version in (None, row["version"]) and _fits(row, tags, properties, run_id)]
    if not fitting:
        there = ", ".join(str(row["version"]) for row in rows)
        raise ModelNotFoundException("version: %s has no such version. There are: %s." % (name, there or "none"))
    return fitting[0]


def _models(workspace: Workspace) -> List[Dict[str, Any]]:
    rows: List[Dict[str, Any]] = []
    query: Dict[str, Any] = {"limit": PAGE}
    while True:
        page = workspace_of(workspace).transport.request("GET", "models", query=query).json()
        rows += page["models"]
        if page["next"] is None:
            return rows
        query["after"] = page["next"]


def _versions(workspace: Workspace, name: str) -> List[Dict[str, Any]]:
    """Of a model, the newest first. Raises ModelNotFoundException when there is no such model."""
    try:
        found = workspace_of(workspace).transport.request("GET", _path(name)).json()
    except ApiError as error:
        if error.status != 404 or not error.names("model"):
            raise
        there = ", ".join(row["name"] for row in _models(workspace))
        raise ModelNotFoundException(
            "name: there is no model %r in workspace %s. There are: %s." % (name, workspace.name, there or "none")
        ) from None
    return list(found["all_versions"])


def _fits(row: Mapping[str, Any], tags: List[str], properties: List[str], run_id: Optional[str]) -> bool:
    for asked, part in ((tags, row["tags"]), (properties, row["properties"])):
        for text in asked:
            name, equals, value = text.partition("=")
            if name not in part or (equals and part[name] != value):
                return False
    return run_id in (None, row["run_id"])


def _filters(given: Union[Mapping[str, Any], List[Any], None]) -> List[str]:
    """Of the reference's two forms: a dict, or a list of names and of [name, value]."""
    if isinstance(given, (list, tuple)):
        return [one if isinstance(one, str) else "%s=%s" % (one[0], one[1]) for one in given]
    return wanted("tags", given)


def _path(name: str) -> str:
    return "models/" + quote(name, safe="")
