"""Every request that makes something, sent many times at once to a live studio: one thing is made, and the key is for it alone."""

import http.client
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.live import Studio

AT_ONCE = 20
MAKES_NOTHING = {
    "/snapshots/missing", "/runs/check", "/runs/heartbeat", "/runs/{number}/cancel", "/runs/{number}/finish", "/environments/check", "/environments/{reference}/archive",
    "/environments/{reference}/restore", "/environments/{reference}/builds/{target}/cancel", "/environments/{reference}/builds/{target}/retry",
    "/targets/{name}/test", "/targets/{name}/drain", "/targets/{name}/resume", "/targets/{name}/key/use",
}  # fmt: skip


class Api:
    """The studio as a program with a token sees it."""

    def __init__(self, studio: Studio) -> None:
        self.studio = studio
        self.token = studio.control("token", scope="owner")

    def __call__(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, Any]:
        data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        connection = http.client.HTTPConnection("127.0.0.1", self.studio.port, timeout=120)
        try:
            connection.request(
                method, f"/api/v1/default{path}", data, headers | ({"Idempotency-Key": key} if key else {})
            )
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(content) if content else None

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        status, answer = self(method, path, body)
        assert status < 300, (status, answer)
        return answer


@dataclass(frozen=True)
class Maker:
    """One operation that makes something. ``same``: what of an answer says which thing it is; ``count``: how many there are."""

    operation: str
    body: Any
    other: Any
    same: Callable[[Any], Any]
    count: Callable[[], int]
    values: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    """The values of another request, where the address is what tells requests apart."""

    def path(self, values: dict[str, str]) -> str:
        return self.operation.format(**{name: quote(value, safe="") for name, value in values.items()})


def makers(studio: Studio, api: Api, folder: Path) -> list[Maker]:
    """One for each operation, and what they need."""
    folder.mkdir()
    (folder / "train.py").write_text("print(1)\n")
    (first,) = studio.submit(folder)
    digest = studio.control("snapshot", id=first)
    files = api.ok("GET", f"/snapshots/{digest}")["files"]
    manifest = {"v": 1, "files": [["other.py", *files[0][1:]]], "links": [], "dirs": []}
    compact = json.dumps(manifest, separators=(",", ":")).encode()
    renamed = api.ok("POST", "/snapshots/missing", compact)["snapshot"]
    run = str(api.ok("POST", "/runs/interactive", {"experiment": "kept"})["number"])
    api.ok("PUT", f"/runs/{run}/artifacts/content?path=model.bin", b"weights")
    for name in ("base", "other"):
        api.ok("POST", "/environments", {"name": name, "definition": {}})
    for name in ("far", "farther"):
        studio.control("ssh_target", name=name, ssh={"host": "127.0.0.1", "port": 9, "user": "nobody"})

    def counted(path: str, of: str) -> Callable[[], int]:
        return lambda: len(api.ok("GET", path)[of])

    def runs_of(experiment: str) -> Callable[[], int]:
        return counted(f"/runs?experiment={experiment}", "runs")

    def points() -> int:
        return sum(series["count"] for series in api.ok("GET", f"/runs/{run}/metrics")["series"])

    def number(answer: Any) -> Any:
        return answer["number"]

    root = str(folder.parent / "second")
    return [
        Maker("/experiments", {"name": "once"}, {"name": "twice"}, lambda a: a["id"], counted("/experiments?search=once", "experiments")),
        Maker("/snapshots", {"snapshot": renamed}, {"snapshot": digest}, lambda a: a["snapshot"], counted("/snapshots", "snapshots")),
        Maker("/runs", {"experiment": "sent", "snapshot": digest, "script": "train.py"},
              {"experiment": "sent", "snapshot": digest, "script": "train.py", "name": "x"}, number, runs_of("sent")),
        Maker("/runs/interactive", {"experiment": "hand"}, {"experiment": "hand", "name": "x"}, number, runs_of("hand")),
        Maker("/runs/{number}/records", b'{"k":"loss","v":1}\n', b'{"k":"loss","v":2}\n', lambda a: a, points, {"number": run}),
        Maker("/models", {"name": "m", "run": int(run), "path": "model.bin"}, {"name": "n", "run": int(run), "path": "model.bin"},
              lambda a: a["version"], counted("/models", "models")),
        Maker("/tokens", {"name": "ci"}, {"name": "cd"}, lambda a: a["id"], counted("/tokens", "tokens")),
        Maker("/environments", {"name": "made", "definition": {}}, {"name": "made", "definition": {"packages": ["tiny"]}},
              lambda a: (a["name"], a["version"]), counted("/environments?search=made", "environments")),
        Maker("/environments/{reference}/clone", {"name": "copy"}, {"name": "named"}, lambda a: a["name"], counted("/environments", "environments"),
              {"reference": "base"}),
        Maker("/environments/{reference}/refresh", None, None, lambda a: a["version"], counted("/environments/base/versions", "versions"),
              {"reference": "base"}, {"reference": "other"}),
        Maker("/targets", {"name": "second", "options": {"root": root}}, {"name": "third", "options": {"root": root}},
              lambda a: a["name"], counted("/targets", "targets")),
        Maker("/environments/{reference}/builds", {"target": "local"}, {"target": "second"}, lambda a: a["created_at"],
              counted("/environments/other/builds", "builds"), {"reference": "other"}),
        Maker("/targets/{name}/key", None, None, lambda a: a["next_public_key"],
              lambda: int(bool(api.ok("GET", "/targets/far/key")["next_public_key"])), {"name": "far"}, {"name": "farther"}),
    ]  # fmt: skip


def check(api: Api, maker: Maker) -> None:
    """The same request many times at once, then another one with its key."""
    before = maker.count()
    path, key = maker.path(maker.values), f"key of {maker.operation}"[:64]
    start = threading.Barrier(AT_ONCE)

    def send() -> tuple[int, Any]:
        start.wait()
        return api("POST", path, maker.body, key)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [future.result() for future in [pool.submit(send) for _ in range(AT_ONCE)]]
    assert {status for status, _ in answers} <= {200, 201, 202}, (maker.operation, answers)
    assert len({json.dumps(maker.same(answer)) for _, answer in answers}) == 1, (maker.operation, answers)
    assert maker.count() == before + 1, maker.operation
    status, refusal = api("POST", maker.path(maker.elsewhere or maker.values), maker.other, key)
    assert (status, refusal["errors"][0]["field"]) == (422, "Idempotency-Key"), (maker.operation, refusal)
    assert maker.count() == before + 1, maker.operation
