"""The run list: its page, the rows that are polled, the column picker and what can be done with selected runs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from runs import queries, submission
from runs.filters import Condition, Token, join, parse
from runs.listing import Listing, listing, names, revision
from runs.models import Experiment, Run, RunTag
from runs.queries import BadCursor, Filter, Order, count, order_of
from runs.status import ACTIVE
from runs.tags import parse_tags
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

MAX_SELECTED = 500
ANNOUNCED = 99
"""How many new runs are counted at most."""
WIDENING = frozenset({"archived", "parent", "children"})
"""Tokens that bring runs which the list leaves out otherwise."""
TABS = (
    ("All", ""),
    ("Mine", "user:me"),
    ("Active", "status:active"),
    ("Failed today", "status:failed ended:today"),
)


@dataclass(frozen=True)
class Scope:
    """To what a list keeps: all runs of a workspace, those of an experiment, or the children of a run."""

    experiment: Experiment | None = None
    parent: Run | None = None

    @property
    def conditions(self) -> list[Condition]:
        found = []
        if self.experiment is not None:
            found.append(Condition("r.experiment_id = %s", params=(self.experiment.pk,), alone=True))
        if self.parent is not None:
            found.append(Condition("r.parent_id = %s", params=(self.parent.pk,), alone=True))
        return found

    @property
    def named(self) -> dict[str, Any]:
        """As in an address."""
        return {
            "scope": self.experiment.name if self.experiment else "",
            "of": self.parent.number if self.parent else "",
        }

    @property
    def path(self) -> str:
        """Of its page, below the workspace."""
        if self.parent is not None:
            return f"runs/{self.parent.number}/children"
        return f"experiments/{self.experiment.name}" if self.experiment is not None else "runs"

    @property
    def purpose(self) -> Experiment | None:
        """The experiment that says which metric counts."""
        return self.experiment or (self.parent.experiment if self.parent is not None else None)


EVERYTHING = Scope()


@dataclass(frozen=True)
class Query:
    """What an address asks of the list."""

    tokens: tuple[Token, ...]
    order: Order
    columns: tuple[str, ...]
    scope: Scope = EVERYTHING

    @property
    def text(self) -> str:
        return join([token.text for token in self.tokens])

    def chosen(self, workspace: Workspace, extra: Sequence[Condition] = ()) -> Filter:
        return self.filter(workspace, self.tokens, extra)

    def filter(
        self, workspace: Workspace, tokens: Sequence[Token], extra: Sequence[Condition] = (), children: bool = False
    ) -> Filter:
        """Other tokens in the same scope."""
        children = children or self.scope.parent is not None
        return Filter.of(workspace, tokens, [*self.scope.conditions, *extra], children=children)


def asked(request: MemberRequest, scope: Scope = EVERYTHING) -> Query:
    text = join([part for part in request.GET.getlist("q") if part.strip()])
    return Query(
        tuple(parse(text, request.workspace, request.user)),
        order_of(request.GET.get("sort", ""), request.workspace),
        tuple(request.GET.getlist("cols")[:20]),
        scope,
    )


def address(request: HttpRequest, path: str = "", **changes: Any) -> str:
    """This page's address with other parameters. A position belongs to its filter and order and never survives them."""
    query = request.GET.copy()
    for name in ("after", "before", *changes):
        query.pop(name, None)
    for name, value in changes.items():
        if isinstance(value, (list, tuple)):
            query.setlist(name, [str(item) for item in value])
        elif value:
            query[name] = str(value)
    text = query.urlencode(safe=":/,")
    return (path or request.path) + (f"?{text}" if text else "")


def list_context(request: MemberRequest, scope: Scope = EVERYTHING) -> dict[str, Any]:
    """Everything a page with a run list needs. Raises BadCursor."""
    workspace = request.workspace
    query = asked(request, scope)
    chosen = query.chosen(workspace)
    after, before = request.GET.get("after", ""), request.GET.get("before", "")
    page = queries.page(chosen, query.order, after=after, before=before)
    shown = listing(page.ids, query.columns, scope.purpose, under=scope.parent)
    base = f"/{workspace.slug}/runs"
    first_page = not after and not before
    newest = query.order.kind == "number" and query.order.descending
    top = max((row.run.number for row in shown.rows), default=0)
    return {
        "section": "experiments" if scope.experiment else "runs",
        "base": base,
        "list": shown,
        "query": query,
        "chips": [
            {"token": token, "without": address(request, q=join([t.text for t in query.tokens if t is not token]))}
            for token in query.tokens
            if token.chip
        ],
        "kept": join([token.text for token in query.tokens if token.chip]),
        "typed": join([token.text for token in query.tokens if not token.chip]),
        "errors": [token for token in query.tokens if token.error],
        "tabs": tabs(request, query) if scope == EVERYTHING else [],
        "heads": heads(request, query, shown),
        "newer": address(request, before=page.newer) if page.newer else "",
        "older": address(request, after=page.older) if page.older else "",
        "first_page": first_page,
        "refresh": address(request),
        "counts": address(request, f"{base}/counts", **scope.named),
        "poll": poll_address(
            request, shown, base, top if first_page and newest else 0, revision(shown.active), scope, shown.best
        ),
        "may_act": request.may(Role.CONTRIBUTOR),
        "filtered": bool(query.tokens),
        "none_at_all": not shown.rows and not query.tokens and first_page,
        "drops": drops(request, query) if not shown.rows and query.tokens else [],
        "among_children": among_children(request, query) if not shown.rows else None,
        "selected_columns": [column.key for column in (*shown.metrics, *shown.parameters)],
    }


def tabs(request: MemberRequest, query: Query) -> list[dict[str, Any]]:
    base = f"/{request.workspace.slug}/runs"
    here = query.text if request.path == base else None
    return [
        {"label": label, "address": f"{base}?q={text.replace(' ', '+')}" if text else base, "current": here == text,
         "id": label.lower().replace(" ", "-")}
        for label, text in TABS
    ]  # fmt: skip


def heads(request: MemberRequest, query: Query, shown: Listing) -> dict[str, Any]:
    """Per column the address that sorts by it: first the useful way, then the other."""

    def head(key: str, label: str, descending: bool, numeric: bool = False, mono: bool = False) -> dict[str, Any]:
        order = query.order
        current = key in {
            order.text.removeprefix("-"),
            f"{'metric' if order.kind == 'metric' else 'param'}.{order.name}",
        }
        if key == "started" and order.kind == "number":
            current = True
        way = not order.descending if current else descending
        return {
            "label": label,
            "address": address(request, sort=("-" if way else "") + key),
            "sort": ("descending" if order.descending else "ascending") if current else "",
            "num": numeric,
            "mono": mono,
        }

    return {
        "status": head("status", "Status", False),
        "name": head("name", "Run", False),
        "metrics": [head(c.key, c.name, not c.lower, True, True) for c in shown.metrics],
        "parameters": [head(c.key, c.name, False, True, True) for c in shown.parameters],
        "compute": head("compute", "Compute", False),
        "duration": head("duration", "Duration", True),
        "started": head("started", "Started", True),
        "owner": head("owner", "Owner", False),
    }


def drops(request: MemberRequest, query: Query) -> list[dict[str, Any]]:
    """For a list without rows: how many would match without each of its tokens."""
    found = []
    for token in [token for token in query.tokens if token.condition is not None][:4]:
        rest = [t for t in query.tokens if t is not token]
        number = count(query.filter(request.workspace, rest), 100)
        if number:
            found.append({"token": token, "count": number, "address": address(request, q=join([t.text for t in rest]))})
    return found


def among_children(request: MemberRequest, query: Query) -> dict[str, Any] | None:
    """For a list without rows: how many child runs, which it leaves out, would match."""
    number = count(query.filter(request.workspace, query.tokens, children=True), 100)
    return {"count": number, "address": address(request, q=f"{query.text} children:yes".strip())} if number else None


def poll_address(
    request: HttpRequest,
    shown: Listing,
    base: str,
    top: int,
    rev: str,
    scope: Scope,
    best: Sequence[float | None],
) -> str:
    """Where the page asks for news of its active rows; empty when none is active."""
    if not shown.active:
        return ""
    return address(
        request,
        f"{base}/rows",
        n=",".join(str(row.run.number) for row in shown.active),
        top=top or "",
        rev=rev,
        cols=shown.columns,
        best=",".join("" if value is None else repr(value) for value in best),
        **scope.named,
    )


@require_safe
@member(Role.READER)
def run_list(request: MemberRequest) -> HttpResponseBase:
    try:
        context = list_context(request)
    except BadCursor:
        return redirect(address(request))
    return render(request, "runs/list.html", context)


def scope_of(request: MemberRequest) -> Scope:
    """The scope of the page that asks. One that is gone has no runs any more."""
    name, number = request.GET.get("scope", ""), request.GET.get("of", "")
    if number:
        found = number.isdecimal() and len(number) < 19
        return Scope(parent=fetch(Run.objects.filter(workspace=request.workspace), number=int(number) if found else 0))
    return Scope(fetch(Experiment.objects.filter(workspace=request.workspace), name=name)) if name else EVERYTHING


@require_safe
@member(Role.READER)
def rows(request: MemberRequest) -> HttpResponseBase:
    """News of the rows that were active: 204 when nothing changed, else those rows and the next poll."""
    numbers = [int(n) for n in request.GET.get("n", "").split(",")[:100] if n.isdecimal() and len(n) < 19]
    scope = scope_of(request)
    query = asked(request, scope)
    ids = (
        Run.objects.filter(workspace=request.workspace, number__in=numbers)
        .order_by("-number")
        .values_list("pk", flat=True)
    )
    best = [figure(part) for part in request.GET.get("best", "").split(",")[:20]]
    shown = listing(list(ids), query.columns, scope.purpose, best, scope.parent)
    rev = revision(shown.rows)
    top_text = request.GET.get("top", "0")
    top = int(top_text) if top_text.isdecimal() and len(top_text) < 19 else 0
    new = count(query.chosen(request.workspace, [Condition("r.number > %s", params=(top,))]), ANNOUNCED) if top else 0
    mark = f"{rev}-{new}"
    if request.GET.get("rev") in {mark, rev if not new else mark}:
        return HttpResponse(status=204)
    base = f"/{request.workspace.slug}/runs"
    context = {
        "list": shown, "base": base, "swap": True, "new": new, "may_act": request.may(Role.CONTRIBUTOR),
        "poll": poll_address(request, shown, base, top, mark, scope, best),
        "refresh": address(request, f"/{request.workspace.slug}/{scope.path}",
                           n="", top="", rev="", scope="", of="", best="", cols=""),
    }  # fmt: skip
    return render(request, "runs/_poll.html", context)


def figure(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@require_safe
@member(Role.READER)
def counts(request: MemberRequest) -> HttpResponseBase:
    """How many runs the list and its tabs have; asked after the rows are shown."""
    workspace, scope = request.workspace, scope_of(request)
    query = asked(request, scope)
    total = count(query.filter(workspace, [token for token in query.tokens if token.key in WIDENING]))
    matched = count(query.chosen(workspace)) if any(token.condition for token in query.tokens) else total
    found = []
    if scope == EVERYTHING:
        for label, text in TABS[1:]:
            tokens = parse(text, workspace, request.user)
            found.append({"id": label.lower().replace(" ", "-"), "count": words(count(Filter.of(workspace, tokens)))})
    return render(request, "runs/_counts.html", {"total": words(total), "matched": words(matched), "tabs": found})


def words(number: int) -> str:
    return f"{queries.COUNTED:,}+" if number > queries.COUNTED else f"{number:,}"


@require_safe
@member(Role.READER)
def columns(request: MemberRequest) -> HttpResponseBase:
    """The column picker's list: what is chosen, then what the search finds."""
    text = request.GET.get("search", "").replace("\0", "")[:250]
    chosen = request.GET.getlist("cols")[:20]
    found = [column for column in names(request.workspace, text) if column.key not in chosen]
    return render(request, "runs/_columns.html", {"chosen": chosen if not text else [], "found": found, "search": text})


@require_POST
@member(Role.CONTRIBUTOR)
def act(request: MemberRequest) -> HttpResponseBase:
    """Tag, cancel, archive or restore the selected runs. Answers JSON to the page's script and a redirect to a plain form."""
    numbers = {int(n) for n in request.POST.getlist("run")[: MAX_SELECTED + 1] if n.isdecimal() and len(n) < 19}
    action = request.POST.get("action", "")
    runs = Run.objects.filter(workspace=request.workspace, number__in=numbers)
    error, text, undo = "", "", ""
    if not numbers:
        error = "No run is selected. Select one or more first."
    elif len(numbers) > MAX_SELECTED:
        error = f"More than {MAX_SELECTED} runs are selected. Select fewer."
    elif action == "archive":
        done = runs.filter(archived_at=None).exclude(status__in=ACTIVE).update(archived_at=timezone.now())
        left = len(numbers) - done
        text = f"{plural(done)} archived" + (f"; {left} left, active or archived already" if left else "")
        undo = "restore" if done else ""
    elif action == "restore":
        text = f"{plural(runs.exclude(archived_at=None).update(archived_at=None))} restored"
    elif action == "cancel":
        done = sum(submission.cancel(run, request.user) for run in runs.filter(status__in=ACTIVE))
        text = f"{plural(done)} asked to end"
    elif action == "tag":
        error, text = tag(request, list(runs))
    else:
        error = "There is no such action. Use tag, cancel, archive or restore."
    if request.headers.get("Accept", "").startswith("application/json"):
        return JsonResponse({"error": error} if error else {"text": text, "undo": undo}, status=422 if error else 200)
    if error:
        messages.error(request, error)
    else:
        messages.success(request, text)
    return redirect(back(request))


def tag(request: MemberRequest, runs: list[Run]) -> tuple[str, str]:
    try:
        tags = parse_tags(request.POST.get("tags", ""))
    except ValueError as wrong:
        return f"Tags: {wrong}", ""
    if not tags:
        return "Tags: none is given. Write baseline, or stage=final.", ""
    with transaction.atomic():
        RunTag.objects.bulk_create(
            [
                RunTag(run=run, workspace=request.workspace, name=name, value=value)
                for run in runs
                for name, value in tags.items()
            ],
            update_conflicts=True,
            unique_fields=["run", "name"],
            update_fields=["value"],
        )
    return "", f"{plural(len(runs))} tagged"


def plural(number: int) -> str:
    return "1 run" if number == 1 else f"{number:,} runs"


def back(request: MemberRequest) -> str:
    """The list that the form was on: only ever a page of this workspace."""
    wanted = request.POST.get("next", "")
    prefix = f"/{request.workspace.slug}/"
    safe = wanted.startswith(prefix) and "\\" not in wanted and "\n" not in wanted and "\r" not in wanted
    return wanted if safe else f"{prefix}runs"


urlpatterns = [
    path("runs", run_list, name="runs"),
    path("runs/rows", rows, name="runs-rows"),
    path("runs/counts", counts, name="runs-counts"),
    path("runs/columns", columns, name="runs-columns"),
    path("runs/act", act, name="runs-act"),
]
