"""Who may do what, and hostile input, byte by byte."""

import base64
import json
import socket
from collections.abc import Callable
from typing import Any

import mlflow
import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from runs.mlflow.urls import calls
from runs.mlflow.views import CALLS, FILES, OF_MODEL
from studio.workspaces.models import Role
from tests.mlflow_server.conftest import Server

FILE = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.mark.parametrize(
    "authorization", ["", "Bearer ", "Bearer wrong", "Bearer rst_wrong", "Basic !!!", "Basic Og==", "Digest x"]
)
def test_without_a_good_token_there_is_nothing(server: Server, authorization: str) -> None:
    paths = [
        "/api/2.0/mlflow/experiments/get?experiment_id=0",
        f"{FILE}?path=x",
        f"{FILE}/x/artifacts/y",
        "/api/3.0/mlflow/server-info",
    ]
    for path in paths:
        status, body, headers = server.request(
            "GET", path, headers={"Authorization": authorization, "Content-Type": ""}
        )
        assert (status, body["error_code"]) == (401, "UNAUTHENTICATED"), path
        assert headers["WWW-Authenticate"] == "Bearer"


def test_a_session_is_no_token(server: Server) -> None:
    """A browser's cookie must not let another site's page call: only the header counts."""
    answer = server.studio.control("signed_in_get", path="/api/2.0/mlflow/experiments/get?experiment_id=0")
    assert answer == 401


def test_the_token_may_be_a_password(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN", raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", server.tokens["contributor"])
    assert MlflowClient(server.url).get_experiment("0").name == "Default"
    basic = base64.b64encode(f"x:{server.tokens['reader']}".encode()).decode()
    status = server.request(
        "GET",
        "/api/2.0/mlflow/experiments/get?experiment_id=0",
        headers={"Authorization": f"Basic {basic}", "Content-Type": ""},
    )[0]
    assert status == 200


def test_the_workspace_may_stand_in_the_address(
    server: Server, client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = MlflowClient(f"{server.url}/default/mlflow")
    run = named.create_run("0").info.run_id
    named.log_text(run, "hello", "a/b.txt")
    assert client.get_run(run).info.run_id == run
    assert [f.path for f in named.list_artifacts(run)] == ["a"]
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.tokens["foreign"])
    with pytest.raises(MlflowException) as caught:
        named.get_run(run)
    assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_token_that_is_taken_away_ends_at_once(server: Server) -> None:
    secret = server.studio.control("token")
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": ""}
    path = "/api/2.0/mlflow/experiments/get?experiment_id=0"
    assert [server.request("GET", path, headers=headers)[0] for _ in range(6)] == [200] * 6
    server.studio.control("forget_token", text=secret)
    assert [server.request("GET", path, headers=headers)[0] for _ in range(6)] == [401] * 6


def every_call() -> list[tuple[str, str, Role]]:
    found = [(method, f"/api/2.0/mlflow/{name}", role) for (method, name), (role, _) in CALLS.items()]
    found += [
        (
            method,
            f"/api/2.0/mlflow/logged-models/m-0{'/' * bool(rest)}{rest}{'/k' * (rest == 'tags' and method == 'DELETE')}",
            role,
        )
        for (method, rest), (role, _) in OF_MODEL.items()
    ]
    return found + [(method, f"{FILE}/none/artifacts/x", role) for method, (role, _) in FILES.items()]


@pytest.mark.parametrize(("method", "path", "role"), every_call())
def test_a_reader_reads_and_changes_nothing(server: Server, method: str, path: str, role: Role) -> None:
    status, body, _ = server.request(method, path, {} if method not in {"GET", "HEAD"} else None, who="reader")
    if method == "HEAD":
        assert status == 404  # and no body
    elif role is Role.READER:
        assert status in {200, 400, 404}, body
    else:
        assert (status, body["error_code"]) == (403, "PERMISSION_DENIED")


@pytest.mark.parametrize(("method", "path", "role"), [call for call in every_call() if call[2] is not Role.READER])
def test_what_cannot_be_undone_needs_an_owner(server: Server, method: str, path: str, role: Role) -> None:
    status, body, _ = server.request(method, path, {}, who="contributor")
    assert (status == 403) == (role is Role.OWNER), body
    assert server.request(method, path, {}, who="owner")[0] in {200, 400, 404}


def test_another_workspaces_things_are_not_there(client: MlflowClient, server: Server, experiment: str) -> None:
    run = client.create_run(experiment, run_name="hidden-name").info.run_id
    client.log_metric(run, "hidden-metric", 1.0)
    client.log_text(run, "hidden-text", "hidden.txt")
    model = client.create_logged_model(experiment, name="m", source_run_id=run)
    client.create_registered_model(f"r-{run}")
    version = client.create_model_version(f"r-{run}", f"runs:/{run}/hidden.txt", run)
    number = client.get_model_version_download_uri(f"r-{run}", version.version).split("/")[2]
    point = {"key": "m", "value": 1.0, "timestamp": 1, "step": 0}
    calls: list[tuple[str, str, Any]] = [
        ("GET", f"/api/2.0/mlflow/runs/get?run_id={run}", None),
        ("GET", f"/api/2.0/mlflow/experiments/get?experiment_id={experiment}", None),
        ("GET", f"/api/2.0/mlflow/metrics/get-history?run_id={run}&metric_key=hidden-metric", None),
        ("GET", f"/api/2.0/mlflow/metrics/get-history-bulk?run_id={run}&metric_key=hidden-metric", None),
        ("GET", f"/api/2.0/mlflow/artifacts/list?run_id={run}", None),
        ("GET", f"{FILE}?path={run}/artifacts", None),
        ("GET", f"{FILE}/{run}/artifacts/hidden.txt", None),
        ("PUT", f"{FILE}/{run}/artifacts/new.txt", b"x"),
        ("DELETE", f"{FILE}/{run}/artifacts/hidden.txt", None),
        ("GET", f"{FILE}/versions/{number}/artifacts/hidden.txt", None),
        ("GET", f"{FILE}?path=models/{model.model_id}/artifacts", None),
        ("GET", f"/api/2.0/mlflow/logged-models/{model.model_id}", None),
        ("PATCH", f"/api/2.0/mlflow/logged-models/{model.model_id}", {"status": "LOGGED_MODEL_READY"}),
        ("GET", f"/api/2.0/mlflow/registered-models/get?name=r-{run}", None),
        ("DELETE", "/api/2.0/mlflow/registered-models/delete", {"name": f"r-{run}"}),
        ("POST", "/api/2.0/mlflow/runs/log-metric", {"run_id": run, **point}),
        ("POST", "/api/2.0/mlflow/runs/log-batch", {"run_id": run, "metrics": [point]}),
        ("POST", "/api/2.0/mlflow/runs/log-parameter", {"run_id": run, "key": "p", "value": "1"}),
        ("POST", "/api/2.0/mlflow/runs/set-tag", {"run_id": run, "key": "t", "value": "1"}),
        ("POST", "/api/2.0/mlflow/runs/update", {"run_id": run, "status": "FAILED"}),
        ("POST", "/api/2.0/mlflow/runs/delete", {"run_id": run}),
        ("POST", "/api/2.0/mlflow/runs/create", {"experiment_id": experiment}),
        ("POST", "/api/2.0/mlflow/experiments/delete", {"experiment_id": experiment}),
        ("POST", "/api/2.0/mlflow/logged-models", {"experiment_id": experiment, "name": "x"}),
    ]
    for method, path, body in calls:
        status, answer, _ = server.request(method, path, body, who="foreign")
        assert status == 404, f"{method} {path}: {status} {answer}"
        assert "hidden" not in json.dumps(answer).replace("hidden.txt", "").replace("hidden-metric", "")
    assert server.post("runs/search", who="foreign", experiment_ids=[experiment])[1] == {"runs": []}
    assert server.post("logged-models/search", who="foreign", experiment_ids=[experiment])[1] == {"models": []}
    with server.acting("foreign") as other:
        own = other.create_run("0").info.run_id
        other.set_tag(own, "mlflow.parentRunId", run)
        assert other.search_runs(["0"], f"tags.mlflow.parentRunId = '{run}'")[0].info.run_id == own
    seen = client.get_run(run)
    assert (seen.info.status, seen.data.metrics, seen.data.params) == ("RUNNING", {"hidden-metric": 1.0}, {})


@pytest.mark.parametrize(
    "location",
    ["file:///etc", "/etc", "//proc/self", "http://#/../", "../", "s3://bucket/x", "mlflow-artifacts:/../..", "mlflow-artifacts://host/x",
     "mlflow-artifacts:/x?y", "mlflow-artifacts:/x#y", "mlflow-artifacts:/%2e%2e/x", "dbfs:/x", "C:\\x", "ftp://h/", "x\0y"],
)  # fmt: skip
def test_no_place_of_a_client_is_taken(server: Server, location: str) -> None:
    status, body = server.post(
        "experiments/create", name=f"place-{location}".replace("\0", ""), artifact_location=location
    )
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), body
    name = f"place-{location}".replace("\0", "")
    assert server.post("experiments/search", filter="name = '" + name.replace("'", "''") + "'")[1]["experiments"] == []


@pytest.mark.parametrize(
    "path",
    ["{run}/artifacts/../x", "{run}/artifacts/%2e%2e/x", "{run}/artifacts/a/%2e%2e/%2e%2e/x", "{run}/artifacts//etc/passwd", "%2e%2e/%2e%2e/etc/passwd",
     "{run}/artifacts/a%5c..%5cb", "{run}/artifacts/a%0ab", "{run}/artifacts/%00", "{run}/artifacts/.", "{run}/artifacts/a/./b",
     "{run}/artifacts/" + "d/" * 600 + "x", "{run}/artifacts/" + "n" * 300, "{run}/x", "{run}", "models/x/artifacts/y", "versions/1e9/artifacts/y",
     "versions/999999/artifacts/y", "/etc/passwd"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_path_of_a_client_is_opened(client: MlflowClient, server: Server, method: str, path: str) -> None:
    run = client.create_run("0").info.run_id
    status, body, _ = server.request(
        method, f"{FILE}/{path.format(run=run)}", b"x" if method == "PUT" else None, who="owner"
    )
    assert status in {400, 404}, body
    assert client.list_artifacts(run) == []


def test_twice_quoted_names_are_names(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0").info.run_id
    assert server.request("GET", f"{FILE}/{run}/artifacts/%252e%252e/x")[0] == 404
    assert server.request("GET", f"{FILE}/{run}/artifacts/..%3b/..%3b/x")[0] == 404


def test_files_go_out_as_downloads_that_no_browser_runs(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0").info.run_id
    client.log_text(run, "<script>alert(1)</script>", "page.html")
    status, body, headers = server.request("GET", f"{FILE}/{run}/artifacts/page.html")
    assert (status, body) == (200, b"<script>alert(1)</script>")
    assert headers["Content-Disposition"].startswith("attachment")
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff" and "sandbox" in headers["Content-Security-Policy"]


def test_a_file_that_is_cut_off_is_not_kept(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0").info.run_id
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"PUT {FILE}/{run}/artifacts/half.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.tokens['contributor']}\r\nContent-Length: 1000\r\n\r\n"
        sock.sendall(head.encode() + b"x" * 500)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        answer = sock.recv(4096)
    assert b" 200 " not in answer.split(b"\r\n")[0]
    assert client.list_artifacts(run) == []


def test_a_body_without_a_length_is_taken_whole(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0").info.run_id
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"PUT {FILE}/{run}/artifacts/chunked.bin HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {server.tokens['contributor']}\r\nTransfer-Encoding: chunked\r\n\r\n"
        sock.sendall(head.encode() + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
        sock.settimeout(10)
        assert b" 200 " in sock.recv(4096).split(b"\r\n")[0]
    assert [(f.path, f.file_size) for f in client.list_artifacts(run)] == [("chunked.bin", 11)]


def cut(server: Server, method: str, path: str, body: bytes, announced: int, **headers: str) -> int:
    """The status of a request whose body ends before what it announced."""
    own = {"Authorization": f"Bearer {server.tokens['contributor']}", "Content-Length": str(announced), **headers}
    head = "".join(f"{name}: {value}\r\n" for name, value in own.items())
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n".encode() + body)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(10)
        return int((sock.recv(4096).split() or [b"", b"0"])[1])


def test_a_body_that_ends_early_changes_nothing(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0").info.run_id
    number = server.studio.control("number", uid=run)
    client.log_text(run, "the whole checkpoint", "model.bin")
    rest = f"/api/v1/default/runs/{number}"
    lines = [json.dumps({"k": "loss", "v": n, "s": n, "t": 1.0}).encode() + b"\n" for n in range(10)]
    whole = b"".join(lines)
    as_records = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "half-a-batch"}
    for path in (f"{rest}/artifacts/content?path=model.bin", f"{FILE}/{run}/artifacts/model.bin"):
        assert cut(server, "PUT", path, b"half", 2000, **{"Content-Type": "application/octet-stream"}) in {0, 400}
    assert cut(server, "POST", f"{rest}/records", b"".join(lines[:5]), len(whole), **as_records) in {0, 400}
    assert mlflow.artifacts.load_text(f"runs:/{run}/model.bin") == "the whole checkpoint"
    assert client.get_metric_history(run, "loss") == []
    status, body, _ = server.request("POST", f"{rest}/records", whole, as_records)
    assert status == 200, body
    assert [point.value for point in client.get_metric_history(run, "loss")] == list(range(10))


@pytest.mark.parametrize(
    "kind", ["text/html", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/xml"]
)
def test_another_content_type_is_a_json_error(client: MlflowClient, server: Server, kind: str) -> None:
    body = {"run_id": client.create_run("0").info.run_id, "key": "m", "value": 1}
    status, answer, _ = server.request("POST", "/api/2.0/mlflow/runs/log-metric", body, {"Content-Type": kind})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


@pytest.mark.parametrize("body", [b"{", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000, b"null", b"5"])
def test_a_body_that_is_no_object_is_a_json_error(server: Server, body: bytes) -> None:
    status, answer, _ = server.request("POST", "/api/2.0/mlflow/runs/log-batch", body)
    assert status == 400 and answer["error_code"] in {"BAD_REQUEST", "INVALID_PARAMETER_VALUE"}


def test_a_body_over_the_limit_is_refused(server: Server) -> None:
    status, answer, _ = server.request(
        "POST", "/api/2.0/mlflow/runs/log-batch", b'{"x": "' + b"y" * (33 * 1024 * 1024) + b'"}'
    )
    assert (status, answer["error_code"]) == (413, "REQUEST_LIMIT_EXCEEDED")


POINTS = [
    ('{"key": "m", "value": 1e309}', "value"), ('{"key": "m", "value": "nan"}', "value"), ('{"key": "m", "value": "1"}', "value"),
    ('{"key": "m", "value": true}', "value"), ('{"key": "m", "value": null}', "value"), ('{"key": "m", "value": [1]}', "value"),
    ('{"key": "m"}', "value"), ('{"key": "m", "value": NaN}', "value"), ('{"key": "m", "value": %s}' % ("9" * 400), "value"),
    ('{"key": "m", "value": 1, "step": 9223372036854775808}', "step"), ('{"key": "m", "value": 1, "step": "9223372036854775808"}', "step"),
    ('{"key": "m", "value": 1, "step": 1.5}', "step"), ('{"key": "m", "value": 1, "step": {}}', "step"),
    ('{"key": "m", "value": 1, "step": true}', "step"), ('{"key": "m", "value": 1, "timestamp": -1}', "timestamp"),
    ('{"key": "m", "value": 1, "timestamp": 1e30}', "timestamp"), ('{"key": "", "value": 1}', "key"), ('{"key": null, "value": 1}', "key"),
    ('{"key": "../m", "value": 1}', "key"), ('{"key": "a//b", "value": 1}', "key"), ('{"key": "/a", "value": 1}', "key"),
    ('{"key": "a\\nb", "value": 1}', "key"), ('{"key": "<script>", "value": 1}', "key"), ('{"key": "a\\u0000", "value": 1}', "key"),
    ('{"key": "%s", "value": 1}' % ("k" * 251), "key"), ('{"key": " ", "value": 1}', "key"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "field"), POINTS)
def test_a_bad_point_is_refused_by_its_field(client: MlflowClient, server: Server, text: str, field: str) -> None:
    run = client.create_run("0").info.run_id
    data = f'{{"run_id": "{run}", {text[1:]}'.encode()
    status, answer, _ = server.request("POST", "/api/2.0/mlflow/runs/log-metric", data)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert f"'{field}'" in answer["message"]
    assert client.get_run(run).data.metrics == {}


def test_text_that_no_database_takes_is_refused(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0").info.run_id
    for text in ("a\\u0000b", "\\ud800"):
        for call, body in (
            ("runs/set-tag", f'"key": "k", "value": "{text}"'),
            ("runs/log-parameter", f'"key": "k", "value": "{text}"'),
            ("runs/update", f'"run_name": "{text}"'),
        ):
            status, answer, _ = server.request(
                "POST", f"/api/2.0/mlflow/{call}", f'{{"run_id": "{run}", {body}}}'.encode()
            )
            assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), (call, text)


def test_markup_in_names_and_values_is_shown_as_text(client: MlflowClient, server: Server) -> None:
    run = client.create_run("0", run_name="<img src=x onerror=alert(1)>").info.run_id
    client.set_tag(run, "t", "<script>alert(2)</script>")
    client.log_param(run, "p", '"><script>alert(3)</script>')
    number = server.studio.control("number", uid=run)
    page = server.studio.control("page_text", path=f"/default/runs/{number}")
    assert "<script>alert" not in page and "<img src=x" not in page


def test_unknown_calls_and_methods_are_json_errors(server: Server) -> None:
    for method, path in [
        ("GET", "nothing"),
        ("POST", "runs/get"),
        ("GET", "runs/log-metric"),
        ("POST", "traces"),
        ("PUT", "runs/create"),
        ("GET", "logged-models/m-0/nothing"),
    ]:
        status, answer, _ = server.request(method, f"/api/2.0/mlflow/{path}", {} if method != "GET" else None)
        assert (status, answer["error_code"]) == (404, "ENDPOINT_NOT_FOUND"), path
    assert server.request("GET", "/health", headers={"Authorization": ""})[:2] == (200, b"OK")
    assert server.request("GET", "/version", headers={"Authorization": ""})[0] == 200


def test_a_deleted_run_takes_nothing(client: MlflowClient, refused: Callable[..., str]) -> None:
    run = client.create_run("0").info.run_id
    client.delete_run(run)
    for call in (lambda: client.log_metric(run, "m", 1.0), lambda: client.log_param(run, "p", "1"), lambda: client.set_tag(run, "t", "1"),
                 lambda: client.set_terminated(run), lambda: client.delete_run(run)):  # fmt: skip
        refused("INVALID_PARAMETER_VALUE", call)
    with pytest.raises(requests.HTTPError, match="must be in the 'active' state"):
        client.log_text(run, "x", "x.txt")


def test_every_address_of_the_tracking_server_needs_a_token(server: Server) -> None:
    """Two tell nobody anything: the version of the protocol, and that the studio is there."""
    found = {str(pattern.pattern): getattr(pattern.callback, "policy", "") for pattern in calls}
    assert {name for name, policy in found.items() if policy != "token"} == {"version", "health"}
    assert set(found.values()) == {"token", "public"}
