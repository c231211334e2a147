"""MLflow's search of runs: its grammar, orders and pages, through its client; and what no search may be."""

import time
from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag, ViewType

from tests.mlflow_server.conftest import Server

Found = Callable[..., str]


@pytest.fixture
def found(client: MlflowClient, experiment: str) -> Found:
    """``found(filter, …)``: the names of the runs that a search finds, one letter each, in its order."""
    rows: dict[str, dict[str, Any]] = {
        "a": {
            "metrics": {"acc": 0.9, "val loss": 1.5, "x": 1.0},
            "params": {"lr": "0.1", "my p": "One"},
            "tags": {"stage": "final", "t.u": "1"},
        },
        "b": {
            "metrics": {"acc": 0.5, "val loss": 2.5, "x": float("nan")},
            "params": {"lr": "0.01", "my p": "two"},
            "tags": {"stage": "Final"},
        },
        "c": {"metrics": {"acc": -1e-3}, "params": {"lr": "10", "long": "y" * 200}, "tags": {"stage": "it's"}},
        "d": {"metrics": {}, "params": {"quote": 'say "so"', "pct": "50%_*"}, "tags": {}},
    }
    for n, (name, logged) in enumerate(rows.items()):
        run = client.create_run(experiment, start_time=1_700_000_000_000 + n * 1000, run_name=f"run {name}").info.run_id
        client.log_batch(
            run, [Metric(k, v, 1, 0) for k, v in logged["metrics"].items()], [Param(k, v) for k, v in logged["params"].items()],
            [RunTag(k, v) for k, v in logged["tags"].items()],
        )  # fmt: skip
        if name in "bc":
            client.set_terminated(run, "FAILED" if name == "c" else "FINISHED", end_time=1_700_000_100_000 + n)

    def search(where: str = "", **more: Any) -> str:
        return "".join(run.info.run_name[-1] for run in client.search_runs([experiment], where, **more))

    return search


@pytest.mark.parametrize(
    ("where", "names"),
    [
        ("", "dcba"),
        ("metrics.acc > 0.5", "a"),
        ("metrics.acc >= .5", "ba"),
        ("metric.acc < 0", "c"),
        ("metrics.acc <= -0.001", "c"),
        ("metrics.acc = 0.9", "a"),
        ("metrics.acc != 9e-1", "cb"),
        ("metrics.`val loss` > 2", "b"),
        ('metrics."val loss" < 2', "a"),
        ("metrics.x != 2", "ba"),
        ("metrics.x > 0", "a"),
        ("params.lr = '0.1'", "a"),
        ('params.lr = "0.1"', "a"),
        ("parameters.lr != '0.1'", "cb"),
        ("param.lr LIKE '0.%'", "ba"),
        ("params.`my p` ILIKE 'ONE'", "a"),
        ("params.`my p` LIKE 'one'", ""),
        ("params.`my p` LIKE '_ne'", "a"),
        ("params.long = '" + "y" * 200 + "'", "c"),
        ("params.long = '" + "y" * 199 + "'", ""),
        ("params.quote = 'say \"so\"'", "d"),
        ("params.pct LIKE '50%'", "d"),
        ("params.pct LIKE '%*'", "d"),
        ("params.pct ILIKE '%!%'", ""),
        ("params.lr IS NULL", "d"),
        ("params.lr IS NOT NULL AND params.lr != '10'", "ba"),
        ("tags.stage = 'final'", "a"),
        ("tag.stage ILIKE 'final'", "ba"),
        ("tags.stage LIKE 'F%'", "b"),
        ("tags.stage = \"it's\"", "c"),
        ("tags.stage = 'it''s'", "c"),
        ("tags.t.u = '1'", "a"),
        ("tags.`t.u` = '1'", "a"),
        ("tags.stage IS NULL", "d"),
        ("tags.`mlflow.runName` = 'run b'", "b"),
        ("attributes.run_name LIKE 'run %' and attributes.status = 'RUNNING'", "da"),
        ("run_name = 'run c'", "c"),
        ("attr.`run name` ILIKE 'RUN C'", "c"),
        ("attributes.status != 'RUNNING'", "cb"),
        ("attributes.status = 'FINISHED' AND metrics.acc > 0", "b"),
        ("status IN ('FAILED', 'FINISHED')", "cb"),
        ("attributes.start_time > 1700000000000 AND attributes.start_time <= 1700000002000", "cb"),
        ("attributes.created = 1700000000000", "a"),
        ("attributes.end_time >= 1700000100002", "c"),
        ("metrics.acc > 0 AND params.lr LIKE '0%' AND tags.stage = 'final' AND attributes.status = 'RUNNING'", "a"),
        ("attributes.artifact_uri LIKE 'mlflow-artifacts:/%'", "dcba"),
    ],
)  # fmt: skip
def test_filters(found: Found, where: str, names: str) -> None:
    assert found(where) == names


def test_ids_users_and_times_of_runs(client: MlflowClient, experiment: str, found: Found) -> None:
    runs = {run.info.run_name[-1]: run for run in client.search_runs([experiment])}
    ids = {name: run.info.run_id for name, run in runs.items()}
    assert found(f"attributes.run_id = '{ids['a']}'") == "a"
    assert found(f"run_id IN ('{ids['a']}', '{ids['c']}')") == "ca"
    assert found(f"run_id NOT IN ('{ids['a']}', '{ids['c']}')") == "db"
    assert found(f"attributes.user_id = '{runs['a'].info.user_id}'") == "dcba"
    assert found("attributes.user_id = 'nobody'") == ""
    assert found(f"artifact_uri = '{runs['b'].info.artifact_uri}'") == "b"


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (["metrics.acc DESC"], "abcd"),
        (["metrics.acc"], "cbad"),
        (["metric.`val loss` DESC"], "badc"),
        (["params.lr ASC"], "bacd"),
        (["params.lr DESC", "metrics.acc"], "cabd"),
        (["tags.stage"], "bacd"),
        (["attributes.start_time ASC"], "abcd"),
        (["start_time DESC"], "dcba"),
        (["attributes.end_time DESC"], "cbda"),
        (["attributes.run_name"], "abcd"),
        (["status", "run_name DESC"], "cbda"),
        (["metrics.nothing DESC"], "dcba"),
        (["metrics.acc desc", "attributes.start_time DESC"], "abcd"),
    ],
)  # fmt: skip
def test_orders(found: Found, order: list[str], names: str) -> None:
    assert found(order_by=order) == names


@pytest.mark.parametrize(
    "order", [[], ["metrics.acc DESC"], ["params.lr"], ["tags.stage"], ["end_time", "metrics.acc"], ["run_name DESC"]]
)
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_pages_hold_each_run_once_in_the_order_of_one_page(
    client: MlflowClient, experiment: str, found: Found, order: list[str], size: int
) -> None:
    whole, token, pages = found(order_by=order), None, []
    for _ in range(6):
        page = client.search_runs([experiment], max_results=size, order_by=order, page_token=token)
        pages.append("".join(run.info.run_name[-1] for run in page))
        token = page.token
        if not token:
            break
    assert "".join(pages) == whole and all(len(page) == size for page in pages[:-1])


def test_deleted_runs_are_found_by_those_who_ask_for_them(client: MlflowClient, experiment: str, found: Found) -> None:
    run = client.search_runs([experiment], "run_name = 'run b'")[0].info.run_id
    client.delete_run(run)
    assert found() == "dca"
    assert found(run_view_type=ViewType.DELETED_ONLY) == "b"
    assert found(run_view_type=ViewType.ALL) == "dcba"


def test_several_experiments_and_those_that_are_not_there(client: MlflowClient, experiment: str, found: Found) -> None:
    other = client.create_experiment(f"other-{time.time_ns()}")
    client.create_run(other)
    assert len(client.search_runs([experiment, other])) == 5
    assert len(client.search_runs([experiment, "999999"])) == 4
    assert client.search_runs(["999999"]) == []


@pytest.mark.parametrize(
    "where",
    [
        "metrics.acc", "metrics.acc >", "metrics.acc > 'a'", "metrics.acc LIKE '1'", "params.lr > '1'", "params.lr = 1", "params.lr = lr",
        "metrics.acc > 1 OR metrics.acc < 0", "metrics.acc > 1 AND", "AND", "tags.a = 'b", "foo.a = 'b'", "a = 'b'", "attributes.nothing = 'x'",
        "attributes.start_time LIKE '1'", "attributes.start_time > 'x'", "run_name IN ('a')", "run_id IN ()", "run_id IN ('a'", "run_id IN 'a'",
        "metrics.acc IS NULL", "tags.a IS 'b'", "dataset.size = 'x'", "1 = 1", "'a' = 'a'", "metrics.acc > 1; DROP TABLE runs_run",
        "params.a = 'x' -- comment", "metrics.acc > 1e999", "metrics.acc > nan", "\x01", "(metrics.acc > 1)", "tags.a == 'b'",
        " AND ".join(["tags.a = 'b'"] * 101),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_in_words(server: Server, where: str) -> None:
    status, body = server.post("runs/search", experiment_ids=["0"], filter=where)
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), body
    assert body["message"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("order_by", ["metrics.acc sideways"]), ("order_by", [""]), ("order_by", ["foo.a"]), ("order_by", ["metrics.a", "metrics.a DESC"]),
        ("order_by", ["nothing"]), ("order_by", "start_time"), ("order_by", [1]), ("max_results", 50001), ("max_results", -1),
        ("max_results", "many"), ("page_token", "junk"), ("page_token", "b2Zmc2V0Oi0x"), ("experiment_ids", "0"), ("experiment_ids", [0]),
        ("run_view_type", "SOME"), ("filter", 5), ("filter", "x" * 200_000),
    ],
)  # fmt: skip
def test_what_is_no_search_is_refused_by_its_field(server: Server, field: str, value: Any) -> None:
    status, body = server.post("runs/search", **{"experiment_ids": ["0"], field: value})
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE"), body


def test_text_in_a_filter_is_never_sql(client: MlflowClient, experiment: str, found: Found) -> None:
    for text in ("' OR 1=1 --", "'; DROP TABLE runs_run; --", "%s", "{run}", "\\' OR 1=1", "?", "%(x)s"):
        quoted = text.replace("'", "''")
        for where in (
            f"params.lr = '{quoted}'",
            f"tags.stage = '{quoted}'",
            f"run_name = '{quoted}'",
            f"dataset.name = '{quoted}'",
        ):
            assert found(where) == "", where
    assert found("params.`lr\" OR 1=1` = 'x'") == ""
    assert found() == "dcba"
