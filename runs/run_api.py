"""Runs over HTTP: list, look, change, cancel; and those that a client begins and ends itself."""

from difflib import get_close_matches
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Query, Schema

from runs import outside, queries, queue
from runs.changing import PropertyTaken, change, checked_properties
from runs.filters import Condition, Token, has_property, has_tag, marks, parse
from runs.listing import names
from runs.models import Experiment, Run
from runs.outside import MAX_RECORDS, Ended, NotOutside, RecordsRefused
from runs.queries import PLAIN, BadCursor, Cursor, Filter, Order, is_known, order_of
from runs.rest import (
    MAX_NUMBER,
    PAGE,
    RunShown,
    checked_tags,
    described,
    find_parent,
    find_run,
    find_snapshot,
    router,
    runs_of,
    short,
)
from runs.status import RunKind, RunStatus
from runs.submission import cancel
from studio.once import claimed, once
from studio.rest import (
    REFUSED,
    Body,
    Member,
    Problem,
    Refusal,
    idempotency_key,
    not_found,
    paged,
    person,
    read_body,
    workspace_of,
)
from studio.workspaces.models import Role, Workspace

MAX_PAGES_TAGS = 20
MAX_BEATS = 1000


class RunsPage(Schema):
    """``next``: the ``before`` of the page that follows; null on the last one."""

    runs: list[RunShown]
    next: int | str | None


class RunsWanted(Schema):
    """Which runs, in which order. ``q`` is the filter of the run list; ``order_by`` a column, a metric or ``param.<name>``, with ``-``
    in front for descending. Children are left out unless ``parent`` names theirs, ``q`` speaks of parents or children, or
    ``include_children`` is set."""

    before: str = ""
    limit: int = PAGE
    order_by: str = ""
    experiment: str | None = None
    status: list[RunStatus] = []
    kind: RunKind | None = None
    parent: int | None = None
    include_children: bool = False
    tag: list[str] = []
    property: list[str] = []
    q: str = ""
    archived: Literal["no", "yes", "any"] = "no"


class NewInteractive(Body):
    """A run that you execute yourself and tell of. ``parent`` is a run's number, ``snapshot`` the id of one that the workspace has.
    ``heartbeat``: you will be heard of every minute, by records or by ``POST runs/heartbeat``; a run whose client then is silent for long
    ends as Failed, and goes on when it is heard of again."""

    experiment: str
    name: str = ""
    tags: dict[str, str | None] = {}
    properties: dict[str, Any] = {}
    notes: str = ""
    parent: int | None = None
    snapshot: str | None = None
    heartbeat: bool = False


class RunChange(Body):
    """What is absent stays. ``tags`` are set, null makes a bare tag; ``properties`` are added, and a key that has another value is
    refused with 409."""

    name: str | None = None
    notes: str | None = None
    tags: dict[str, str | None] = {}
    remove_tags: list[str] = []
    properties: dict[str, Any] = {}
    archived: bool | None = None


class Failure(Body):
    type: str = ""
    message: str = ""
    detail: str = ""


class Ending(Body):
    status: Literal["Completed", "Failed", "Canceled"]
    error: str | Failure | None = None


class CanceledRun(RunShown):
    """``canceling``: whether this call ends it; false for a run that has ended."""

    canceling: bool


class Taken(Schema):
    """``records``: how many lines were applied."""

    records: int


class Beat(Body):
    """``runs``: their numbers. Those that are not there, or not interactive, are passed over."""

    runs: list[int]


class Heard(Schema):
    """Number → status now: somebody may have ended one meanwhile."""

    runs: dict[str, str]


@router.get("", auth=Member(Role.READER), response={200: RunsPage, REFUSED: Refusal})
def listed(request: HttpRequest, query: Query[RunsWanted]) -> dict[str, Any]:
    """The newest first, or as ``order_by`` says; runs without a value come last."""
    workspace = workspace_of(request)
    limit = paged(query.limit)
    order = order_in(query.order_by, workspace)
    before = query.before
    if order.kind == "number" and before.isascii() and before.isdigit() and len(before) < 19:
        before = Cursor(int(before), int(before)).write()
    children = query.include_children or query.parent is not None
    chosen = Filter.of(workspace, tokens_of(request, query), conditions_of(request, query), children=children)
    try:
        page = queries.page(chosen, order, after=before, size=limit)
    except BadCursor:
        raise Problem.of(422, "before", "It is no place in this list.", "Send 'next' of the page before.") from None
    rows = {run.pk: run for run in runs_of(request).filter(pk__in=page.ids).prefetch_related("tags")}
    runs = [rows[pk] for pk in page.ids if pk in rows]
    following: int | str | None = page.older or None
    if following and order.kind == "number" and runs:
        following = runs[-1].number
    return {"runs": [described(request, run) for run in runs], "next": following}


def order_in(text: str, workspace: Workspace) -> Order:
    """What ``order_by`` says. Raises Problem for a name that no run could have a value for."""
    order = order_of(text, workspace)
    if not is_known(order, workspace):
        rule = f"No run has a metric or parameter named {order.name[:100]!r}, and no column is called so."
        close = get_close_matches(order.name, [*PLAIN, *(column.name for column in names(workspace, ""))], n=3)
        fix = f"Did you mean {' or '.join(close)}?" if close else f"The columns are: {', '.join(PLAIN)}."
        raise Problem.of(422, "order_by", rule, fix)
    return order


def tokens_of(request: HttpRequest, wanted: RunsWanted) -> list[Token]:
    """The words of the filter. Raises Problem naming each that cannot filter."""
    text = wanted.q if wanted.archived == "no" else f"{wanted.q} archived:{wanted.archived}"
    tokens = parse(text, workspace_of(request), person(request))
    if wrong := [token for token in tokens if token.error]:
        errors = [
            {"field": "q", "rule": f"{token.text[:80]}: {token.error}.", "fix": "Correct it, or leave it out."}
            for token in wrong
        ]
        raise Problem(422, "; ".join(error["rule"] for error in errors), errors)
    return tokens


def conditions_of(request: HttpRequest, wanted: RunsWanted) -> list[Condition]:
    workspace = workspace_of(request)
    found: list[Condition] = []
    if wanted.experiment is not None:
        pk = Experiment.objects.filter(workspace=workspace, name=wanted.experiment).values_list("pk", flat=True).first()
        found.append(Condition("r.experiment_id = %s", params=(pk or 0,), alone=True))
    if wanted.status:
        found.append(Condition(f"r.status IN ({marks(wanted.status)})", params=tuple(map(str, wanted.status))))
    if wanted.kind is not None:
        found.append(Condition("r.kind = %s", params=(str(wanted.kind),)))
    if wanted.parent is not None:
        parent = Run.objects.filter(workspace=workspace, number=min(max(wanted.parent, 0), MAX_NUMBER))
        found.append(
            Condition("r.parent_id = %s", params=(parent.values_list("pk", flat=True).first() or 0,), alone=True)
        )
    if len(wanted.tag) + len(wanted.property) > MAX_PAGES_TAGS:
        raise Problem.of(422, "tag", "There are too many of them.", f"Send {MAX_PAGES_TAGS} at most.")
    found += [has_tag(text, workspace) for text in wanted.tag]
    found += [has_property(text) for text in wanted.property]
    return found


@router.post("/interactive", auth=Member(Role.CONTRIBUTOR), response={200: RunShown, REFUSED: Refusal})
def begun(request: HttpRequest, data: NewInteractive) -> dict[str, Any]:
    """Begin a run that the studio does not execute. With ``Idempotency-Key`` a repeated request answers the run of the first."""
    with claimed(request, data.model_dump()):
        run = outside.begin(
            workspace_of(request),
            person(request),
            data.experiment,
            name=short("name", data.name, 255),
            tags=checked_tags(data.tags),
            properties=checked_properties(data.properties),
            parent=find_parent(request, data.parent),
            notes=data.notes,
            snapshot=find_snapshot(request, data.snapshot),
            heartbeat=data.heartbeat,
            request_id=idempotency_key(request),
        )
    return described(request, run)


@router.get("/by-id/{uid}", auth=Member(Role.READER), response={200: RunShown, REFUSED: Refusal})
def found_by_id(request: HttpRequest, uid: str) -> dict[str, Any]:
    """The run of an id, as ``Run.id`` and AZUREML_RUN_ID have it."""
    run = runs_of(request).filter(uid=uid).first()
    if run is None:
        raise not_found("run")
    return described(request, run)


@router.get("/{int:number}", auth=Member(Role.READER), response={200: RunShown, REFUSED: Refusal})
def shown(request: HttpRequest, number: int) -> dict[str, Any]:
    """One run."""
    run = find_run(request, number)
    return {**described(request, run), "waiting_for": queue.why_waits(run)}


@router.patch("/{int:number}", auth=Member(Role.CONTRIBUTOR), response={200: RunShown, REFUSED: Refusal})
def changed(request: HttpRequest, number: int, data: RunChange | None = None) -> dict[str, Any]:
    """Change a run's name, notes and tags, archive or restore it, add properties: all of it or nothing."""
    run, data = find_run(request, number), data or RunChange()
    try:
        change(
            run, name=data.name, notes=data.notes, tags=checked_tags(data.tags), remove_tags=data.remove_tags,
            properties=data.properties, archived=data.archived,
        )  # fmt: skip
    except PropertyTaken as error:
        raise Problem.of(409, "properties", error.rule, error.fix) from error
    return described(request, find_run(request, number))


@router.post("/{int:number}/cancel", auth=Member(Role.CONTRIBUTOR), response={200: CanceledRun, REFUSED: Refusal})
def canceled(request: HttpRequest, number: int) -> dict[str, Any]:
    """Ask for the end of a run. A run that has ended is answered as it is, with ``canceling`` false."""
    run = find_run(request, number)
    canceling = cancel(run, person(request))
    return {**described(request, run), "canceling": canceling}


@router.post("/{int:number}/finish", auth=Member(Role.CONTRIBUTOR), response={200: RunShown, REFUSED: Refusal})
def finished(request: HttpRequest, number: int, data: Ending | None = None) -> dict[str, Any]:
    """End a run that you began. Repeated it changes nothing; 409 for a run of a target, and for one that ended otherwise."""
    run = find_run(request, number)
    if data is None:
        raise Problem.of(422, "status", "It is missing.", "Send Completed, Failed or Canceled.")
    error = data.error.model_dump() if isinstance(data.error, Failure) else data.error
    try:
        outside.finish(run, RunStatus(data.status), error)
    except (NotOutside, Ended) as refusal:
        raise Problem.of(409, "status", refusal.rule, refusal.fix, run_status=run.status) from refusal
    return described(request, run)


@router.post("/heartbeat", auth=Member(Role.CONTRIBUTOR), response={200: Heard, REFUSED: Refusal})
def heartbeat(request: HttpRequest, data: Beat) -> dict[str, Any]:
    """Say that the clients of interactive runs are there: every minute or more often, while they send no records. A run that was
    ended because nobody heard of it goes on."""
    if len(data.runs) > MAX_BEATS:
        raise Problem.of(422, "runs", f"There are {len(data.runs):,} of them.", f"Send {MAX_BEATS:,} at most.")
    numbers = [number for number in data.runs if 0 < number <= MAX_NUMBER]
    runs = Run.objects.filter(workspace=workspace_of(request), number__in=numbers, kind=RunKind.INTERACTIVE)
    return {"runs": {str(run.number): run.status for run in outside.hear(list(runs))}}


@router.post("/{int:number}/records", auth=Member(Role.CONTRIBUTOR), response={200: Taken, REFUSED: Refusal}, openapi_extra={
    "requestBody": {"required": False, "content": {"application/x-ndjson": {"schema": {"type": "string", "format": "binary"}}}}
})  # fmt: skip
def taken(request: HttpRequest, number: int) -> dict[str, Any]:
    """Lines of JSON as in a run directory's ``records.jsonl``, plain or gzip, up to 16 MB: metrics, parameters, tags, tables. All of
    them are applied or none. With ``Idempotency-Key`` a repeated request applies nothing again."""
    run = find_run(request, number)
    lines = read_body(request, MAX_RECORDS)

    def take() -> dict[str, Any]:
        try:
            return {"records": outside.take_records(run, lines)}
        except RecordsRefused as error:
            where = f"line {error.line}" if error.line else "body"
            raise Problem.of(422, where, error.rule, error.fix, line=error.line) from error

    return once(request, lines, take)
