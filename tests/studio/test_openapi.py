"""The whole description of the REST API, asked with all that it allows and much that it does not: no error of ours, and no answer that
it does not tell of."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from django.core.handlers.wsgi import WSGIHandler
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, settings
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.feedback import FeedbackSources
from schemathesis.pytest._test_builder import build_operation_test
from schemathesis.specs.openapi.checks import positive_data_acceptance

from environments import registry
from environments.models import Build, Lock
from runs.models import Artifact, LogStream, MetricValue, RegisteredModel, Run, RunEvent, RunParameter
from runs.status import RunStatus
from studio import rest
from studio.accounts.models import Token, User
from studio.api import ROUTERS, api
from studio.workspaces.models import Role, Secret, Workspace
from tests.runs import factory
from tests.studio.world import World, fill

SCHEMA = json.loads(json.dumps(api.get_openapi_schema(), default=str))
OPERATIONS = [(method.upper(), path) for path, item in SCHEMA["paths"].items() for method in item]
FUZZED = 5
"""Random requests of an operation, beside those that try each of its parts at its limits."""
# These ask a machine, or start programs: a few times is enough. And they may go nowhere but here.
FEW = {("POST", "/targets"), ("POST", "/targets/{name}/test"), ("POST", "/targets/{name}/key/use"), ("POST", "/runs/check"),
       ("PATCH", "/targets/{name}"), ("DELETE", "/targets/{name}"), ("POST", "/environments/{reference}/builds")}  # fmt: skip
HERE = {"transport": "local", "options": {}}
# Names have rules that a schema does not tell, so that what it allows may be refused.
UNTOLD = [positive_data_acceptance]


def properties(operation: dict[str, Any]) -> dict[str, Any]:
    """What an answer 200 holds, by name."""
    schema = operation["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return dict(
        SCHEMA["components"]["schemas"].get(schema.get("$ref", "").rpartition("/")[2], {}).get("properties", {})
    )


def described() -> Any:
    """The description as schemathesis reads it. It takes a list with a kind for each place for an error: for it, each is of any of them."""

    def loosened(value: Any) -> Any:
        if isinstance(value, list):
            return [loosened(item) for item in value]
        if not isinstance(value, dict):
            return value
        found = {name: loosened(part) for name, part in value.items()}
        if isinstance(places := found.pop("prefixItems", None), list):
            found["items"] = {"anyOf": places}
        return found

    config = SchemathesisConfig.from_dict({"seed": 1, "generation": {"deterministic": True}})
    schema = schemathesis.openapi.from_dict(loosened(SCHEMA), config=config)
    schema.app = WSGIHandler()
    return schema


@pytest.fixture(scope="module")
def schema() -> Any:
    load_all_checks()
    schemathesis.serializer.alias("application/x-ndjson", "application/octet-stream")
    return described()


@pytest.fixture
def world(workspace: Workspace, owner: User, reader: User) -> World:
    made = fill(workspace, owner, reader, name="ours", number=7)
    Run.objects.update(status=RunStatus.COMPLETED)  # whoever follows its log is told all at once
    return made


@pytest.fixture
def authorization(world: World, owner: User) -> dict[str, str]:
    _, text = Token.issue(user=owner, workspace=world.workspace, name="schemathesis", scope=Role.OWNER)
    return {"Authorization": f"Bearer {text}"}


@pytest.fixture(autouse=True)
def one_connection(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Requests share the connection of the test, as those of Django's own client do."""
    monkeypatch.setattr(rest, "BAD_TOKENS", 10**6)
    for signal in (request_started, request_finished):
        signal.disconnect(close_old_connections)
    yield
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def there(world: World, path: str, name: str) -> str:
    """What an address names when it names something that is there."""
    values = world.values
    kind = path.removeprefix("/").partition("/")[0].removesuffix("s")
    if name == "slug":
        return world.workspace.slug
    if name == "version":
        return str(values["model_version"])
    if name == "name":
        return str(values[kind])
    return str({"id": values["token"], "path": "train.py"}.get(name, values.get(name, "")))


def meant(case: Any, part: ParameterLocation) -> bool:
    """Whether this part of a request is what the description allows."""
    component = case.meta.components.get(part)
    return component is None or component.mode == GenerationMode.POSITIVE


def place(case: Any, world: World, inside: str, count: int) -> None:
    """Have a request name what is there: always in its path, every second time elsewhere."""
    case.path_parameters |= {
        name: there(world, inside, name)
        for name in case.path_parameters
        if name == "slug" or meant(case, ParameterLocation.PATH)
    }
    values = {**world.values, "path": world.values["output"], "environment": world.values["reference"], "snapshot": world.values["digest"],
              "name": world.values["metric"], "run": world.values["number"]}  # fmt: skip
    if count % 2 and meant(case, ParameterLocation.QUERY) and case.query:
        case.query |= {name: values[name] for name in case.query if name in values}
    if isinstance(case.body, dict):
        known = ("snapshot", "target", "environment", "experiment", "run", "path")
        if count % 2 and meant(case, ParameterLocation.BODY):
            case.body |= {name: values[name] for name in known if isinstance(case.body.get(name), str | int)}
        if (case.method, inside) in FEW:
            case.body |= {name: here for name, here in HERE.items() if isinstance(case.body.get(name), type(here))}


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: str(part).removeprefix("/api/v1"))
def test_answers_are_as_described_whatever_is_sent(
    method: str, path: str, schema: Any, world: World, authorization: dict[str, str], settings: Any
) -> None:
    """Each request meets the same rows: what it changed is undone."""
    settings.ALLOWED_HOSTS = ["localhost"]
    inside = path.partition("{slug}")[2]
    asked = 0

    def ask(case: Any) -> None:
        nonlocal asked
        asked += 1
        if (method, inside) in FEW and meant(case, ParameterLocation.BODY) and asked > 2 * FUZZED:
            return
        place(case, world, inside, asked)
        with transaction.atomic():
            case.call_and_validate(headers=authorization, excluded_checks=UNTOLD)
            transaction.set_rollback(True)

    # What schemathesis' own collector makes of an operation. It would build the requests of all of them whenever tests are collected.
    test = build_operation_test(
        config=schema.config, operation=schema[path][method], test_func=ask, given_kwargs={}, feedback=FeedbackSources(),
        explicit_settings=LIMITS,
    )  # fmt: skip
    test()
    assert asked > FUZZED


LIMITS = settings(
    max_examples=FUZZED, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: str(part).removeprefix("/api/v1"))
def test_a_parameter_and_a_field_that_there_are_not_are_named_with_close_ones(
    method: str, path: str, world: World, owner_client: Client
) -> None:
    operation = SCHEMA["paths"][path][method.lower()]
    inside = path.partition("{slug}")[2]
    address = re.sub(r"{(\w+)}", lambda match: there(world, inside, match[1]), path)
    known = [parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"]
    for wrong in (*(name + "x" for name in known), "something else"):
        refused(owner_client.generic(method, address + f"?{wrong}=1", b"{}", "application/json"), wrong, known)
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = next(re.finditer(r"schemas/(\w+)", json.dumps(body)), None)
    if name:
        fields = list(SCHEMA["components"]["schemas"][name[1]]["properties"])
        for wrong in (*(name + "x" for name in fields), "something else"):
            refused(owner_client.generic(method, address, json.dumps({wrong: 1}), "application/json"), wrong, fields)


def refused(answer: Any, wrong: str, known: list[str]) -> None:
    assert answer.status_code == 422, answer.content
    error = next(error for error in answer.json()["errors"] if error["field"] == wrong)
    assert "There is no such" in error["rule"]
    close = wrong.removesuffix("x")
    assert (
        error["fix"].startswith("Did you mean") and close in error["fix"]
        if close in known
        else "There are" in error["fix"]
    )


def test_no_two_shapes_share_a_name() -> None:
    """The description names them by their class: of two with one name it would show one."""
    found: dict[str, set[object]] = {}
    for router in ROUTERS.values():
        for view in router.path_operations.values():
            for operation in view.operations:
                for model in (*operation.models, *operation.response_models.values()):
                    for part in shapes(model):
                        found.setdefault(part.__name__, set()).add(part)
    assert {"RunShown", "NewRun", "Version"} <= found.keys()
    shared = {name for name, models in found.items() if len(models) > 1 and name not in NINJAS}
    assert not shared


LISTS = {
    path: path.rpartition("/")[2]
    for path, item in SCHEMA["paths"].items()
    if "get" in item and properties(item["get"]).get(path.rpartition("/")[2], {}).get("type") in {"array", "object"}
}


def test_the_lists_are_found() -> None:
    assert {"runs", "environments", "versions", "builds", "locks", "targets", "secrets", "tokens", "models", "experiments", "snapshots",
            "artifacts", "logs", "events", "params", "packages", "values", "workspaces"} == set(LISTS.values())  # fmt: skip


@pytest.mark.parametrize("path", LISTS)
def test_every_list_has_pages_of_a_bounded_size(path: str, world: World, owner: User, owner_client: Client) -> None:
    for name in ("b", "c"):
        more(world, owner, name)
    operation, rows = SCHEMA["paths"][path]["get"], LISTS[path]
    named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    place = next(iter(named & {"after", "before"}))
    assert "next" in properties(operation) and "limit" in named
    address = re.sub(r"{(\w+)}", lambda match: there(world, path.partition("{slug}")[2], match[1]), path)
    whole = owner_client.get(address, {"limit": 10**9}).json()
    assert whole["next"] is None and (len(whole[rows]) > 1 or rows in SINGLE)
    found, after = [], ""
    while after is not None:
        page = owner_client.get(address, {"limit": 1, **({place: after} if after else {})}).json()
        assert len(page[rows]) == 1
        found += page[rows].items() if isinstance(page[rows], dict) else page[rows]
        after = page["next"]
    assert found == (list(whole[rows].items()) if isinstance(whole[rows], dict) else whole[rows])
    for wrong in ("0", "-1", "x"):
        assert owner_client.get(address, {"limit": wrong}).json()["errors"][0]["field"] == "limit"


SINGLE = {"workspaces"}  # the owner is a member of one


def more(world: World, owner: User, name: str) -> None:
    """Another row of each kind."""
    workspace, run = world.workspace, world.run
    target = factory.make_target(workspace, f"{name}-box")
    version = world.run.environment
    assert version is not None
    factory.make_build(target, version)
    Lock.objects.create(workspace=workspace, key=version.key, platform=f"{name}-platform", text="")
    registry.refresh(factory.make_version(workspace, f"{name}-env"))
    registry.refresh(version)
    Build.objects.filter(target=run.target, key=version.key).update(
        packages=[{"name": "tiny", "version": n} for n in "12"]
    )
    factory.make_run(workspace, files={"train.py": name.encode()}, experiment=f"{name}-experiment", target=target)
    Artifact.objects.create(run=run, path=f"{name}.txt", size=0)
    LogStream.objects.create(run=run, name=f"logs/{name}.txt")
    RunParameter.objects.create(run=run, workspace=workspace, name=name, value="1")
    RunEvent.objects.create(run=run, detail=name)
    MetricValue.objects.create(run=run, name=name, kind="list", data=[1], at=timezone.now())
    RegisteredModel.objects.create(workspace=workspace, name=f"{name}-model")
    Token.issue(user=owner, workspace=workspace, name=name)
    secret = Secret(workspace=workspace, name=name, created_by=owner)
    secret.seal("x")
    secret.save()


# Made for each operation, and not shown.
NINJAS = {"NinjaResponseSchema", "QueryParams", "PathParams", "BodyParams", "HeaderParams", "FileParams", "FormParams"}


def shapes(kind: Any) -> Iterator[Any]:
    """All models inside a type."""
    if isinstance(kind, type) and hasattr(kind, "model_fields"):
        yield kind
        for field in kind.model_fields.values():
            yield from shapes(field.annotation)
    for part in getattr(kind, "__args__", ()):
        yield from shapes(part)


def test_the_walk_sees_the_api() -> None:
    """A walk that finds nothing would pass every test above."""
    assert SCHEMA["openapi"].startswith("3.1") and len(OPERATIONS) > 70


def test_every_operation_tells_its_refusals_its_parameters_and_its_name() -> None:
    seen: set[str] = set()
    for path, item in SCHEMA["paths"].items():
        for method, operation in item.items():
            where = f"{method} {path}"
            named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), where
            assert {"401", "403", "404", "413", "422", "429"} <= set(operation["responses"]), where
            assert any(code < "300" for code in operation["responses"]), where
            assert operation.get("summary"), where
            assert operation["operationId"] not in seen, where
            seen.add(operation["operationId"])
            for code, answer in operation["responses"].items():
                if code >= "400":
                    assert list(answer["content"]) == ["application/problem+json"], where


def test_what_it_refers_to_is_there() -> None:
    refs = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(SCHEMA)))
    assert refs <= set(SCHEMA["components"]["schemas"])
