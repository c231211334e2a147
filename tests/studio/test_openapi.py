"""The whole description of the REST API, asked with anything that it allows and much that it does not: no error of ours, and no
answer that it does not tell of."""

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
from django.http import HttpResponse
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.accounts.models import User
from studio.api import api
from studio.workspaces.models import Workspace
from tests.studio.world import World, fill

SCHEMA = json.loads(json.dumps(api.get_openapi_schema(), default=str))
OPERATIONS = [(method.upper(), path) for path, item in SCHEMA["paths"].items() for method in item]
EXAMPLES = 12
# These ask a machine, or start programs: a few times is enough. And they may go nowhere but here.
FEW = {("POST", "/targets"), ("POST", "/targets/{name}/test"), ("POST", "/targets/{name}/key/use"), ("POST", "/runs/check"),
       ("PATCH", "/targets/{name}"), ("DELETE", "/targets/{name}"), ("POST", "/environments/{reference}/builds")}  # fmt: skip
HERE = {"transport": st.sampled_from(["local", "telnet", ""]), "options": st.just({})}
TEXT = st.text(max_size=12) | st.sampled_from(
    [
        "",
        "../../etc/passwd",
        "%2e%2e",
        "a\0b",
        "\ud800",
        "' OR 1=1 --",
        "<script>",
        "x" * 5000,
        "é",
        "-1",
        "1e309",
        "NaN",
    ]
)
NUMBERS = st.integers(-3, 10) | st.sampled_from([2**31, 2**63 - 1, 2**63, -(2**63), 2**70])
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def of(schema: dict[str, Any], known: tuple[str, ...] = ()) -> st.SearchStrategy[Any]:
    """Values that a schema allows; texts are now and then names of things that are there."""
    if "$ref" in schema:
        return of(SCHEMA["components"]["schemas"][schema["$ref"].rpartition("/")[2]], known)
    for either in ("anyOf", "oneOf"):
        if either in schema:
            return st.one_of([of(part, known) for part in schema[either]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "const" in schema:
        return st.just(schema["const"])
    match schema.get("type"):
        case "string":
            return TEXT | st.sampled_from(known) if known else TEXT
        case "integer":
            return NUMBERS
        case "number":
            return st.floats() | NUMBERS
        case "boolean":
            return st.booleans()
        case "null":
            return st.none()
        case "array":
            return st.lists(of(schema.get("items", {}), known), max_size=3)
        case "object":
            return of_object(schema, known)
    return ANYTHING


def of_object(schema: dict[str, Any], known: tuple[str, ...]) -> st.SearchStrategy[Any]:
    properties = schema.get("properties", {})
    if not properties:
        more = schema.get("additionalProperties", {})
        return st.dictionaries(TEXT, of(more if isinstance(more, dict) else {}, known), max_size=3)
    required = set(schema.get("required", ()))
    parts = {name: of(part, known) for name, part in properties.items()}
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )


def values_of(world: World, path: str, name: str) -> str:
    """What an address names when it names something that is there."""
    values = world.values
    kind = path.removeprefix("/").partition("/")[0].removesuffix("s")
    if name == "version":
        return str(values["model_version"])
    if name == "name":
        return str(values[kind])
    return str({"id": values["token"], "path": "train.py"}.get(name, values.get(name, "")))


def sent(draw: Callable[..., Any], method: str, path: str, world: World) -> tuple[str, bytes, str]:
    """Address, body and content type of one request."""
    operation = SCHEMA["paths"][path][method.lower()]
    inside = path.partition("{slug}")[2]
    known = tuple(str(value) for value in world.values.values())
    query: list[str] = []
    address = path.replace("{slug}", world.workspace.slug)
    for parameter in operation.get("parameters", []):
        name = parameter["name"]
        if parameter["in"] == "path" and name != "slug":
            there = values_of(world, inside, name)
            value = there if draw(st.integers(0, 7)) < 7 else draw(of(parameter["schema"]))
            address = address.replace("{" + name + "}", spelled(value) or "-")
        elif parameter["in"] == "query" and (parameter.get("required") or draw(st.booleans())):
            value = draw(of(parameter["schema"], known))
            for item in value if isinstance(value, list) else [value]:
                query.append(f"{name}={spelled(item)}")
    content = operation.get("requestBody", {}).get("content", {})
    body, kind = b"", "application/json"
    if "application/json" in content:
        schema = of(content["application/json"]["schema"], known)
        if (method, inside) in FEW:
            schema = st.builds(
                lambda value, here: {**value, **here} if isinstance(value, dict) else value, schema, narrowed(inside)
            )
        body = json.dumps(draw(schema if draw(st.integers(0, 4)) else ANYTHING)).encode()
        if (method, inside) not in FEW:
            body = draw(st.just(body) | st.just(body) | st.binary(max_size=20) | st.just(b"[" * 5000))
    elif content:
        kind = next(iter(content))
        lines = st.lists(ANYTHING.map(lambda value: json.dumps(value).encode()), max_size=4).map(b"\n".join)
        body = draw(st.binary(max_size=60) | lines)
    return address + ("?" + "&".join(query) if query else ""), body, kind


def narrowed(inside: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        HERE if inside == "/targets" else {"options": st.just({})} if inside == "/targets/{name}" else {}
    )


def spelled(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.fixture
def world(workspace: Workspace, owner: User, reader: User) -> World:
    return fill(workspace, owner, reader, name="ours", number=7)


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=lambda part: str(part).removeprefix("/api/v1"))
def test_nothing_that_is_sent_makes_an_error_of_ours(
    method: str, path: str, world: World, owner_client: Client
) -> None:
    owner_client.raise_request_exception = False
    told = {int(code): item for code, item in SCHEMA["paths"][path][method.lower()]["responses"].items()}
    few = (method, path.partition("{slug}")[2]) in FEW

    @settings(
        max_examples=3 if few else EXAMPLES, deadline=None, derandomize=True, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def ask(data: st.DataObject) -> None:
        address, body, kind = sent(data.draw, method, path, world)
        answer = owner_client.generic(method, address, body, content_type=kind)
        check(answer, told, f"{method} {address} {body[:200]!r}")

    ask()


def check(answer: HttpResponse, told: dict[int, Any], asked: str) -> None:
    for close in getattr(answer, "_resource_closers", ()):
        close()  # what follows a log is not awaited
    words = "" if answer.streaming else answer.content[:500].decode(errors="replace")
    if re.search(r"%00", asked.split()[1]) and answer.status_code == 404:
        return  # refused before an operation is looked for
    assert answer.status_code < 500, f"{asked}: {answer.status_code} {words}"
    assert answer.status_code in told or answer.status_code == 304, (
        f"{asked}: {answer.status_code} is not told of; {words}"
    )
    if answer.status_code >= 400:
        refusal = json.loads(answer.content)
        assert answer.headers["Content-Type"] == "application/problem+json", asked
        assert {"type", "title", "status", "detail", "errors"} <= refusal.keys(), asked
        assert all({"field", "rule", "fix"} <= error.keys() for error in refusal["errors"]), asked


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
