"""Records become rows. Called inside the transaction that also moves the cursor over the bytes."""

from array import array
from collections.abc import Iterable
from datetime import UTC, datetime

from django.db.models import F, JSONField, Q
from django.db.models import Value as Expression
from django.utils import timezone

from runs.metrics import children
from runs.metrics.packing import Columns, append, summarize, update_many
from runs.metrics.records import Batch, Column, Value, Wish, read_records, read_samples
from runs.models import MetricSeries, MetricValue, ModelWish, Run, RunParameter, RunTag
from runs.submission import as_number

MAX_SERIES = 100_000
MAX_VALUES = 100_000
MAX_TAGS = 1_000
MAX_PARAMETERS = 10_000
MAX_PROPERTIES = 1_000
MAX_WISHES = 1_000
"""Of a script, with all that it has below its run: five hundred children of a thousand each would be half a million models."""
NOTHING = Expression(None, JSONField())
"""The JSON value null: None alone is the absence of one."""
SUMMARY = (
    "count", "last", "last_time", "low", "high", "low_step", "high_step", "last_step", "not_numbers", "ordered", "updated_at",
)  # fmt: skip


def apply_records(run: Run, data: bytes) -> None:
    """Apply whole lines of ``records.jsonl``, each exactly once; the caller moves ``records_offset`` itself.

    Never raises because of what the lines say: what is no record, or is over a limit, is counted in ``bad_records``.
    """
    apply_batch(run, read_records(data))


def apply_batch(run: Run, batch: Batch) -> None:
    """Apply what was read, as far as it is within the limits; what is not is refused in the batch."""
    over = "The run has as many {} as it may: {:,}."
    count = _apply_points(run, batch.points, system=False)
    batch.refuse(
        "A metric of this name holds the machine's samples, or " + over.format("metrics", MAX_SERIES), count=count
    )
    batch.refuse(over.format("logged values", MAX_VALUES), count=_apply_values(run, batch.values))
    batch.refuse(over.format("parameters", MAX_PARAMETERS), count=_apply_parameters(run, batch.parameters))
    batch.refuse(over.format("tags", MAX_TAGS), count=_apply_tags(run, batch))
    if batch.wishes:
        batch.refuse(over.format("wishes for models", MAX_WISHES), count=_apply_wishes(run, batch.wishes))
    if batch.children:
        told = children.found(run, batch)
        for child, of_child in told:
            apply_batch(child, of_child)
        children.end(told)
    if batch.above is not None:
        if run.parent_id is None:
            batch.refuse("The run has no parent.")
        else:
            apply_batch(Run.objects.select_for_update(no_key=True).get(pk=run.parent_id), batch.above)
    _apply_facts(run, batch)


def apply_samples(run: Run, data: bytes) -> None:
    """Apply whole lines of ``samples.jsonl`` as series ``system/…``."""
    batch = read_samples(data)
    _apply_points(run, batch.points, system=True)


def _apply_points(run: Run, points: dict[str, Column], *, system: bool) -> int:
    """Returns how many points were refused because the run has too many series or the name is taken."""
    if not points:
        return 0
    known = {series.name: series for series in _existing(run, list(points))}
    refused = 0
    names = [name for name in points if name not in known]
    if names and len(names) + len(known) > MAX_SERIES - (room := MetricSeries.objects.filter(run=run).count()):
        free = max(0, MAX_SERIES - room)
        for name in names[free:]:
            refused += len(points[name].values)
        names = names[:free]
    made = [MetricSeries(run=run, workspace_id=run.workspace_id, name=name, system=system) for name in names]
    MetricSeries.objects.bulk_create(made, batch_size=500)
    known |= {series.name: series for series in made}
    now = timezone.now()
    new: list[tuple[MetricSeries, Columns]] = []
    for name, column in points.items():
        series = known.get(name)
        if series is None:
            continue
        if series.system != system:
            refused += len(column.values)  # a script may not write into the samples, nor the other way
            continue
        new.append((series, _columns(series, column)))
    append(new)
    for series, columns in new:
        summarize(series, columns)
        series.updated_at = now
    update_many(MetricSeries, SUMMARY, [(*(getattr(series, name) for name in SUMMARY), series.pk) for series, _ in new])
    return refused


def _existing(run: Run, names: list[str]) -> Iterable[MetricSeries]:
    rows = MetricSeries.objects.filter(run=run)
    if len(names) > 5000:
        return rows
    return [
        series for first in range(0, len(names), 500) for series in rows.filter(name__in=names[first : first + 500])
    ]


def _columns(series: MetricSeries, column: Column) -> Columns:
    """Points that came without a step get the series' running number."""
    steps = column.steps
    if None in steps:
        steps = [series.count + i if step is None else step for i, step in enumerate(steps)]
    return Columns(array("q", steps), array("d", column.times), array("d", column.values))  # type: ignore[arg-type]


def _apply_values(run: Run, values: list[Value]) -> int:
    if not values:
        return 0
    room = max(0, MAX_VALUES - MetricValue.objects.filter(run=run).count())
    MetricValue.objects.bulk_create(
        [
            MetricValue(
                run=run,
                name=v.name,
                kind=v.kind,
                data=NOTHING if v.data is None else v.data,
                at=datetime.fromtimestamp(v.at, UTC),
            )
            for v in values[:room]
        ],
        batch_size=500,
    )
    return max(0, len(values) - room)


def _apply_parameters(run: Run, found: dict[str, str]) -> int:
    """What a script logs wins over what its arguments say."""
    if not found:
        return 0
    names = set(RunParameter.objects.filter(run=run).values_list("name", flat=True))
    kept: dict[str, str] = {}
    for name, value in found.items():
        if name in names or len(names) < MAX_PARAMETERS:
            names.add(name)
            kept[name] = value
    RunParameter.objects.bulk_create(
        [
            RunParameter(
                run=run, workspace_id=run.workspace_id, name=name, value=value, head=value[:100],
                number=as_number(value), logged=True,
            )
            for name, value in kept.items()
        ],
        update_conflicts=True,
        unique_fields=["run", "name"],
        update_fields=["value", "head", "number", "logged"],
        batch_size=500,
    )  # fmt: skip
    return len(found) - len(kept)


def _apply_tags(run: Run, batch: Batch) -> int:
    if not batch.tags:
        return 0
    rows = RunTag.objects.filter(run=run)
    away = [name for name, value in batch.tags.items() if value is None]
    for first in range(0, len(away), 500):
        rows.filter(name__in=away[first : first + 500]).delete()
    names = set(rows.values_list("name", flat=True))
    kept: list[RunTag] = []
    refused = 0
    for name, value in batch.tags.items():
        if value is None:
            continue
        if name not in names and len(names) >= MAX_TAGS:
            refused += 1
            continue
        names.add(name)
        kept.append(RunTag(run=run, workspace_id=run.workspace_id, name=name, value=value[0]))
    RunTag.objects.bulk_create(
        kept, update_conflicts=True, unique_fields=["run", "name"], update_fields=["value"], batch_size=500
    )
    return refused


def _apply_wishes(run: Run, found: list[Wish]) -> int:
    known = set(ModelWish.objects.filter(run=run).values_list("key", flat=True))
    new = {wish.key: wish for wish in found if wish.key not in known}
    script = run.told_by_id or run.pk
    made = ModelWish.objects.filter(Q(run=script) | Q(run__told_by=script)).count() if new else 0
    room = max(0, MAX_WISHES - made)
    ModelWish.objects.bulk_create(
        [
            ModelWish(
                run=run, key=wish.key, name=wish.name, path=wish.path, tags=wish.tags, properties=wish.properties,
                description=wish.description, made_at=datetime.fromtimestamp(wish.at, UTC),
            )
            for wish in list(new.values())[:room]
        ]
    )  # fmt: skip
    return max(0, len(new) - room)


def _apply_facts(run: Run, batch: Batch) -> None:
    """Name, notes, properties and the count of bad lines: one update of the run, when there is any."""
    changed: dict[str, object] = {}
    if batch.name is not None:
        changed["name"] = run.name = batch.name
    if batch.note is not None:
        changed["notes"] = run.notes = batch.note
    if batch.properties:
        properties = dict(run.properties)
        for name, value in batch.properties:
            if name not in properties and len(properties) < MAX_PROPERTIES:
                properties[name] = value
            elif properties.get(name) != value:
                batch.refuse(
                    f"The property {name} has another value, and properties do not change once they are set."
                    if name in properties
                    else f"The run has as many properties as it may: {MAX_PROPERTIES:,}."
                )
        if properties != run.properties:
            changed["properties"] = run.properties = properties
    if batch.bad:
        run.bad_records += batch.bad
        changed["bad_records"] = F("bad_records") + batch.bad
    if changed:
        Run.objects.filter(pk=run.pk).update(**changed)
