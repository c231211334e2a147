"""A large history in seconds: ``python -m tests.bench.seed [runs]`` fills the workspace ``bench`` of the configured database.

Each run has 5 metrics, 5 parameters and 3 tags, like the histories that the list's goals speak of. The same number of
runs gives the same rows.
"""

import math
import random
import sys
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

METRICS = ("val/acc", "val/loss", "train/loss", "throughput", "epoch")
RATES = ("0.1", "0.01", "0.001", "0.0003")
TAGS = ("baseline", "ablation", "night", "draft", "ema", "mixup", "oom", "paper")
POINTS = 12
STATUSES = ("Completed",) * 16 + ("Failed",) * 3 + ("Canceled",)
BATCH = 5000


def seed(runs: int = 100_000, slug: str = "bench", random_seed: int = 7) -> float:
    """Fill an empty workspace; return the seconds that it took. Ten of the newest runs are still running."""
    from django.contrib.auth import get_user_model
    from django.db import connection, transaction

    from environments.models import ComputeTarget
    from runs.models import Experiment, MetricChunk, MetricSeries, Run, RunParameter, RunTag
    from studio.workspaces.models import Membership, Role, Workspace

    began = time.perf_counter()
    dice = random.Random(random_seed)
    now = datetime.now(UTC)
    user, _ = get_user_model().objects.get_or_create(email="bench@example.test", defaults={"name": "Bench"})
    workspace = Workspace.objects.create(slug=slug, name=slug, last_number=runs)
    Membership.objects.create(workspace=workspace, user=user, role=Role.OWNER)
    target = ComputeTarget.objects.create(workspace=workspace, name="box", slots=10)
    experiments = [
        Experiment.objects.create(workspace=workspace, name=f"experiment-{n}", created_by=user, last_run_at=now,
                                  primary_metric="val/acc" if n % 2 else "")
        for n in range(20)
    ]  # fmt: skip
    first = (Run.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1
    first_series = (MetricSeries.objects.order_by("-pk").values_list("pk", flat=True).first() or 0) + 1

    def run_rows() -> Iterator[dict[str, Any]]:
        for i in range(runs):
            started = now - timedelta(minutes=runs - i)
            running = i >= runs - 10
            ended = None if running else min(started + timedelta(seconds=60 + i * 7 % 9000), now)
            status = "Running" if running else STATUSES[i * 13 % len(STATUSES)]
            yield {
                "id": first + i, "workspace_id": workspace.pk, "number": i + 1, "uid": f"{slug}_{i}_{random_seed}",
                "experiment_id": experiments[i % 20].pk, "name": f"run-{i % 977}-{i}", "created_by_id": user.pk,
                "target_id": target.pk, "status": status, "launched": True, "created_at": started, "started_at": started,
                "ended_at": ended, "error": {"type": "ValueError", "message": "bad value"} if status == "Failed" else {},
                "reason": {"Failed": "exit_code", "Completed": "exited", "Canceled": "canceled"}.get(status, ""),
            }  # fmt: skip

    def value_of(metric: str, i: int) -> float:
        if metric == "epoch":
            return 11.0
        return {"val/acc": 0.9, "throughput": 3000.0}.get(metric, 1.5) * dice.random()

    finals = [[value_of(metric, i) for metric in METRICS] for i in range(runs)]
    steps = array("q", range(POINTS)).tobytes()

    def series_rows() -> Iterator[dict[str, Any]]:
        for i in range(runs):
            for m, metric in enumerate(METRICS):
                last = finals[i][m]
                yield {
                    "id": first_series + i * len(METRICS) + m, "run_id": first + i, "workspace_id": workspace.pk,
                    "name": metric, "count": POINTS, "last": last, "low": last * 0.5, "high": last * 1.1,
                    "low_step": 0, "high_step": 5, "last_step": POINTS - 1, "updated_at": now,
                }  # fmt: skip

    def chunk_rows() -> Iterator[dict[str, Any]]:
        for i in range(runs):
            times = array("d", (1.79e9 + i + n for n in range(POINTS))).tobytes()
            for m in range(len(METRICS)):
                last = finals[i][m]
                values = array("d", (last * (1 - math.exp(-n / 3)) for n in range(POINTS))).tobytes()
                yield {
                    "series_id": first_series + i * len(METRICS) + m, "position": 0, "count": POINTS,
                    "steps": steps, "times": times, "values": values,
                }  # fmt: skip

    def parameter_rows() -> Iterator[dict[str, Any]]:
        for i in range(runs):
            for name, value in (
                ("lr", RATES[i * 7 % 4]), ("batch", str(2 ** (5 + i % 6))), ("seed", str(i)),
                ("optimizer", ("adam", "sgd", "lamb")[i % 3]), ("dropout", f"{i % 10 / 10}"),
            ):  # fmt: skip
                number = None if name == "optimizer" else float(value)
                yield {
                    "run_id": first + i,
                    "workspace_id": workspace.pk,
                    "name": name,
                    "value": value,
                    "head": value,
                    "number": number,
                }

    def tag_rows() -> Iterator[dict[str, Any]]:
        for i in range(runs):
            for n in range(3):
                yield {
                    "run_id": first + i,
                    "workspace_id": workspace.pk,
                    "name": TAGS[(i + n * (1 + i % 2)) % 8],
                    "value": None,
                }

    with transaction.atomic():
        for model, rows in (
            (Run, run_rows()), (MetricSeries, series_rows()), (MetricChunk, chunk_rows()),
            (RunParameter, parameter_rows()), (RunTag, tag_rows()),
        ):  # fmt: skip
            insert(model, rows)
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            for model in (Run, MetricSeries, MetricChunk, RunParameter, RunTag):
                table = model._meta.db_table
                cursor.execute(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))")
            cursor.execute("ANALYZE")
    return time.perf_counter() - began


def insert(model: Any, rows: Iterable[dict[str, Any]]) -> None:
    """Insert rows given by column name, without building model objects; absent columns get the field's default."""
    from django.db import connection

    fields = list(model._meta.concrete_fields)
    cursor = connection.cursor()
    names: list[Any] = []
    fixed: list[Any] = []
    batch: list[Sequence[Any]] = []

    def flush() -> None:
        marks = ", ".join(["%s"] * len(names))
        columns = ", ".join(connection.ops.quote_name(field.column) for field in names)
        cursor.executemany(
            f"INSERT INTO {connection.ops.quote_name(model._meta.db_table)} ({columns}) VALUES ({marks})", batch
        )
        batch.clear()

    for row in rows:
        if not names:
            names = [field for field in fields if field.column in row or not field.primary_key]
            fixed = [
                None if field.column in row else field.get_db_prep_save(field.get_default(), connection)
                for field in names
            ]
            plain = {"CharField", "TextField", "FloatField", "BigAutoField", "BigIntegerField", "ForeignKey",
                     "PositiveBigIntegerField", "IntegerField", "BinaryField"}  # fmt: skip
            prepared = [field.get_internal_type() not in plain for field in names]
        batch.append(
            [
                (field.get_db_prep_save(row[field.column], connection) if prepare else row[field.column])
                if field.column in row else default
                for field, default, prepare in zip(names, fixed, prepared, strict=True)
            ]
        )  # fmt: skip
        if len(batch) >= BATCH:
            flush()
    if batch:
        flush()


if __name__ == "__main__":
    import os

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "studio.settings")
    import django

    django.setup()
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    print(f"{size:,} runs in {seed(size):.1f} s")
