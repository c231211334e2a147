"""What the tracking server refuses, byte by byte, and that a refusal leaves nothing behind."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from environments.agent.tracking.problems import Problem
from environments.agent.tracking.records import Records
from tests.agent_tracking.conftest import RUN_ID, TOKEN, Server

AUTHORIZED = f"Authorization: Bearer {TOKEN}"
LOG_METRIC = "POST /api/2.0/mlflow/runs/log-metric HTTP/1.1"
FILES = f"/api/2.0/mlflow-artifacts/artifacts/{RUN_ID}/artifacts"


@pytest.mark.parametrize("authorization", ["", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_a_wrong_token_is_refused(server: Server, authorization: str) -> None:
    status, body = server.request("GET", "/health", headers={"Authorization": authorization})
    assert (status, body["error_code"]) == (401, "UNAUTHENTICATED")


@pytest.mark.parametrize(
    "kind", ["text/html", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]
)
def test_another_content_type_is_a_json_error(server: Server, kind: str) -> None:
    body = {"run_id": RUN_ID, "key": "m", "value": 1}
    status, answer = server.request("POST", "/api/2.0/mlflow/runs/log-metric", body, {"Content-Type": kind})
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert server.records() == []


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ('{"key": "m", "value": 1e309}', "value"),
        ('{"key": "m", "value": -1e309}', "value"),
        ('{"key": "m", "value": "nan"}', "value"),
        ('{"key": "m", "value": "1"}', "value"),
        ('{"key": "m", "value": true}', "value"),
        ('{"key": "m", "value": null}', "value"),
        ('{"key": "m", "value": [1]}', "value"),
        ('{"key": "m"}', "value"),
        ('{"key": "m", "value": %s}' % ("9" * 400), "value"),
        ('{"key": "m", "value": 1, "step": 9223372036854775808}', "step"),
        ('{"key": "m", "value": 1, "step": "9223372036854775808"}', "step"),
        ('{"key": "m", "value": 1, "step": -9223372036854775809}', "step"),
        ('{"key": "m", "value": 1, "step": 1.5}', "step"),
        ('{"key": "m", "value": 1, "step": {}}', "step"),
        ('{"key": "m", "value": 1, "timestamp": -1}', "timestamp"),
        ('{"key": "", "value": 1}', "key"),
        ('{"key": null, "value": 1}', "key"),
        ('{"key": "../m", "value": 1}', "key"),
        ('{"key": "a//b", "value": 1}', "key"),
        ('{"key": "/a", "value": 1}', "key"),
        ('{"key": "a\\nb", "value": 1}', "key"),
        ('{"key": "<script>", "value": 1}', "key"),
        ('{"key": "%s", "value": 1}' % ("k" * 251), "key"),
    ],
)
def test_a_bad_point_is_refused_by_its_field(server: Server, text: str, field: str) -> None:
    body = text.replace("{", f'{{"run_id": "{RUN_ID}", ', 1).encode()
    status, answer = server.request("POST", "/api/2.0/mlflow/runs/log-metric", body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert f"'{field}'" in answer["message"]
    assert server.records() == []


@pytest.mark.parametrize(
    ("text", "value", "step"),
    [
        ('"value": NaN', "NaN", 0),
        ('"value": "-Infinity", "step": "7"', "-Infinity", 7),
        ('"value": 5, "step": 9223372036854775807', 5.0, 2**63 - 1),
        ('"value": 1e-320, "step": -9223372036854775808', 1e-320, -(2**63)),
    ],
)
def test_extreme_points_are_kept_exactly(server: Server, text: str, value: Any, step: int) -> None:
    body = f'{{"run_id": "{RUN_ID}", "key": "m/x y.z:1-é", "timestamp": 1795470000125, {text}}}'.encode()
    assert server.request("POST", "/api/2.0/mlflow/runs/log-metric", body) == (200, {})
    assert server.records() == [{"k": "m/x y.z:1-é", "v": value, "s": step, "t": 1795470000.125}]


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b"\xff\xfe", b'{"a":' * 100_000, b"null"])
def test_a_body_that_is_no_object_is_refused(server: Server, body: bytes) -> None:
    status, answer = server.request("POST", "/api/2.0/mlflow/runs/log-batch", body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_a_batch_is_all_or_nothing(server: Server) -> None:
    metrics = [{"key": "m", "value": i, "timestamp": 1, "step": i} for i in range(999)]
    bad = [*metrics, {"key": "m", "value": "x", "timestamp": 1, "step": 1}]
    status, answer = server.post("runs/log-batch", metrics=bad)
    assert status == 400
    assert "metrics[999].value" in answer["message"]
    status, answer = server.post(
        "runs/log-batch", metrics=metrics, params=[{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]
    )
    assert status == 400
    status, answer = server.post("runs/log-batch", metrics=metrics, tags=[{"key": "../t", "value": "1"}])
    assert status == 400
    status, answer = server.post("runs/log-batch", metrics=[*metrics, *metrics[:2]])
    assert status == 400
    assert "1000" in answer["message"]
    assert server.records() == []
    assert server.post("runs/log-batch", metrics=metrics, params=[{"key": "a", "value": "1"}]) == (200, {})
    assert len(server.records()) == 1000
    assert server.post("runs/log-batch", params=[{"key": "b", "value": "1"}, {"key": "a", "value": "2"}])[0] == 400
    assert len(server.records()) == 1000


def test_neighbours_of_one_step_share_a_line_and_repeats_of_a_name_do_not_get_lost(server: Server) -> None:
    metrics = [
        {"key": key, "value": value, "timestamp": 1000, "step": 1} for key, value in [("a", 1), ("b", 2), ("a", 3)]
    ]
    assert server.post("runs/log-batch", metrics=metrics)[0] == 200
    assert server.records() == [
        {"op": "batch", "t": 1.0, "s": 1, "m": {"a": 1.0, "b": 2.0}},
        {"k": "a", "v": 3.0, "s": 1, "t": 1.0},
    ]


@pytest.mark.parametrize(
    "call",
    ["log-metric", "log-batch", "log-parameter", "set-tag", "delete-tag", "update", "outputs", "log-inputs"],
)
@pytest.mark.parametrize("run_id", ["other", "", None, 7, {"a": 1}, f"{RUN_ID} "])
def test_another_run_does_not_exist(server: Server, call: str, run_id: Any) -> None:
    status, answer = server.post(f"runs/{call}", run_id=run_id, key="k", value="1")
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert server.records() == []


@pytest.mark.parametrize(
    "path",
    [
        "../evil", "%2e%2e/evil", "a/../../evil", "a/%2E%2E/b", "/etc/x", "%2Fetc/x", "a//b", "a/./b", "a%00b", "a%0Ab",
        "a%5Cb", "a%7Fb", "a%C2%85b", "x" * 256, "/".join(["d" * 200] * 6), "a/", "%FF",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_path_that_breaks_a_rule_is_refused_and_nothing_is_written(server: Server, path: str, method: str) -> None:
    status, answer = server.request(method, f"{FILES}/{path}", b"data" if method == "PUT" else None)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert [path.name for path in server.run_dir.iterdir()] == ["records.jsonl"]
    assert server.records() == []


def test_a_doubly_encoded_path_is_a_plain_name(server: Server) -> None:
    assert server.request("PUT", f"{FILES}/%252e%252e", b"x")[0] == 200
    assert (server.run_dir / "artifacts" / "%2e%2e").read_bytes() == b"x"


def test_links_are_never_followed(server: Server, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("s")
    base = server.run_dir / "artifacts"
    base.mkdir()
    (base / "folder").symlink_to(outside)
    (base / "file").symlink_to(outside / "secret")
    assert server.request("PUT", f"{FILES}/folder/new", b"x")[0] == 400
    assert server.request("GET", f"{FILES}/folder/secret")[0] == 404
    assert server.request("GET", f"{FILES}/file")[0] == 404
    assert server.request("GET", f"/api/2.0/mlflow-artifacts/artifacts?path={RUN_ID}/artifacts") == (
        200,
        {"files": []},
    )
    assert server.request("DELETE", f"{FILES}/folder")[0] == 200
    assert server.request("PUT", f"{FILES}/file", b"mine")[0] == 200
    assert (outside / "secret").read_text() == "s"
    assert not (base / "file").is_symlink()
    assert [path.name for path in outside.iterdir()] == ["secret"]


def test_artifacts_of_another_run_do_not_exist(server: Server) -> None:
    for path in ("other/artifacts/x", "models/m-1/artifacts/x", f"{RUN_ID}/other/x"):
        status, answer = server.request("PUT", f"/api/2.0/mlflow-artifacts/artifacts/{path}", b"x")
        assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert server.request("GET", "/api/2.0/mlflow-artifacts/artifacts?path=other/artifacts")[0] == 404


def test_an_upload_that_breaks_off_leaves_nothing(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(f"PUT {FILES}/cut HTTP/1.1\r\n{AUTHORIZED}\r\nContent-Length: 1000\r\n\r\nhalf".encode())
    deadline = time.monotonic() + 10
    while (
        list(server.run_dir.glob(".upload-*")) or not (server.run_dir / "records.jsonl").exists()
    ) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not list(server.run_dir.glob(".upload-*"))
    assert server.request("GET", f"{FILES}/cut")[0] == 404
    assert server.records() == []


def test_a_file_may_come_in_chunks_after_a_continue(server: Server) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        head = f"PUT {FILES}/c HTTP/1.1\r\n{AUTHORIZED}\r\nTransfer-Encoding: chunked\r\n"
        sock.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for letter in b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n":
            sock.sendall(bytes([letter]))
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    assert (server.run_dir / "artifacts/c").read_bytes() == b"abcde"


def test_requests_may_follow_each_other_without_waiting(server: Server) -> None:
    body = json.dumps({"run_id": RUN_ID, "key": "m", "value": 1, "timestamp": 1}).encode()
    head = f"{LOG_METRIC}\r\n{AUTHORIZED}\r\nContent-Type: application/json\r\n"
    one = head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(one * 50 + one.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\nConnection: close\r\n"))
        received = b""
        while piece := sock.recv(65536):
            received += piece
    assert received.count(b"HTTP/1.1 200 OK") == 51
    assert len(server.records()) == 51


@pytest.mark.parametrize(
    "text",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET http://x/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nnocolon\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 200_000,
    ],
)
def test_what_is_no_http_is_hung_up_on_and_the_next_client_is_served(server: Server, text: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
        try:
            sock.sendall(text)
            assert sock.recv(100) == b""
        except ConnectionError:
            pass
    assert server.post("runs/log-metric", key="m", value=1)[0] == 200


def test_a_refused_upload_gets_its_answer_although_it_goes_on_sending(server: Server) -> None:
    status, answer = server.request("PUT", f"{FILES}/../x", b"z" * 8_000_000)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")


def test_answers_do_not_wait_for_acknowledgements(server: Server) -> None:
    body = json.dumps({"run_id": RUN_ID, "key": "m", "value": 1, "timestamp": 1}).encode()
    head = f"{LOG_METRIC}\r\n{AUTHORIZED}\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        times = []
        for _ in range(300):
            start = time.perf_counter()
            # Head and body apart, as urllib3 sends them: delayed acknowledgements would cost 40 ms a call.
            sock.sendall(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body))
            sock.sendall(body)
            assert sock.recv(1000).endswith(b"{}")
            times.append(time.perf_counter() - start)
    assert sorted(times)[150] < 0.01


def test_points_that_the_script_wrote_itself_are_read_back(server: Server) -> None:
    with (server.run_dir / "records.jsonl").open("ab") as file:
        file.write(
            b'{"k": "m", "v": 1.5, "t": 2}\n{"k": "m", "v": "NaN", "t": 3}\n'
            b'not json\n[1]\n{"k": "m", "v": 2, "s": 9, "t": 4}\n{"k":'
        )
    _, answer = server.request("GET", f"/api/2.0/mlflow/metrics/get-history?run_id={RUN_ID}&metric_key=m&max_results=2")
    assert answer["metrics"] == [
        {"key": "m", "value": 1.5, "timestamp": 2000, "step": 0},
        {"key": "m", "value": "NaN", "timestamp": 3000, "step": 1},
    ]
    token = answer["next_page_token"]
    _, answer = server.request(
        "GET",
        f"/api/2.0/mlflow/metrics/get-history?run_id={RUN_ID}&metric_key=m&max_results=2&page_token={token}",
    )
    assert answer == {"metrics": [{"key": "m", "value": 2.0, "timestamp": 4000, "step": 9}]}
    _, answer = server.request("GET", f"/api/2.0/mlflow/runs/get?run_id={RUN_ID}")
    assert answer["run"]["data"]["metrics"] == [{"key": "m", "value": 2.0, "timestamp": 4000, "step": 9}]


def test_a_full_disk_is_an_error_that_clients_do_not_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(str(tmp_path / "records.jsonl"))
    whole = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: whole(fd, data[:5]))
    with pytest.raises(Problem) as caught:
        records.append(b'{"k": "m", "v": 1}\n')
    assert caught.value.status == 507
    monkeypatch.undo()
    records.append(b'{"k": "n", "v": 2}\n')
    assert (tmp_path / "records.jsonl").read_bytes() == b'{"k":\n{"k": "n", "v": 2}\n'
    records.refresh()
    assert list(records.latest) == ["n"]
