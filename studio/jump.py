"""What the jump box finds: pages by their words, runs by number and name, experiments by name."""

from dataclasses import dataclass
from urllib.parse import quote

from django.db.models import Q

from environments.models import ComputeTarget, Environment, Pool
from runs.models import Experiment, RegisteredModel, Run
from studio.workspaces.models import Workspace

LIMIT = 8
RECENT = 2000


@dataclass(frozen=True)
class Hit:
    address: str
    icon: str
    text: str
    note: str = ""


PAGES = (
    ("", "home", "Home", "start overview"),
    ("experiments", "flask", "Experiments", ""),
    ("runs", "runs", "Runs", "list history"),
    ("models", "cube", "Models", "registered versions"),
    ("runs/new", "plus", "New run", "start submit create"),
    ("compute", "server", "Compute", "targets machines slots queue"),
    ("environments", "layers", "Environments", "packages software python"),
    ("settings/members", "users", "Members", "settings people roles invite"),
    ("settings/tokens", "key", "Tokens", "settings api access"),
    ("settings/secrets", "shield", "Secrets", "settings variables passwords"),
    ("settings/general", "gear", "General settings", "rename workspace"),
)


def find(workspace: Workspace, query: str, *, staff: bool) -> list[tuple[str, list[Hit]]]:
    """Named groups of hits, at most ``LIMIT`` each; an empty query gives the pages and the newest runs."""
    base = f"/{workspace.slug}/"
    groups = [
        ("Runs", _runs(workspace, query, base)),
        ("Experiments", _experiments(workspace, query, base) if query else []),
        ("Models", _models(workspace, query, base) if query else []),
        ("Pages", _pages(query, base, staff)),
        ("Compute and environments", _resources(workspace, query, base) if query else []),
    ]
    return [(name, hits) for name, hits in groups if hits]


def _pages(query: str, base: str, staff: bool) -> list[Hit]:
    words = query.lower().split()
    pages = [Hit(base + path, icon, text) for path, icon, text, more in PAGES if _all_in(words, f"{text} {more}")]
    if staff and _all_in(words, "admin panel"):
        pages.append(Hit("/admin/", "shield", "Admin"))
    return [*pages, *([Hit("/account", "user", "Account", "")] if _all_in(words, "account password profile") else [])]


def _all_in(words: list[str], text: str) -> bool:
    text = text.lower()
    return all(word in text for word in words)


def _runs(workspace: Workspace, query: str, base: str) -> list[Hit]:
    """By number, by how the name begins (both indexed), then by any part of the name among the newest runs."""
    runs = Run.objects.filter(workspace=workspace, archived_at=None).select_related("experiment").order_by("-number")
    if not query:
        found = list(runs[:5])
    else:
        number = query.removeprefix("#")
        found = (
            list(runs.filter(number=int(number))) if number.isascii() and number.isdigit() and len(number) < 18 else []
        )
        begins = runs.filter(name__gte=query, name__lt=query + "\U0010ffff").order_by("name")
        newest = Run.objects.filter(workspace=workspace).order_by("-number").values("number")[RECENT : RECENT + 1]
        floor = next(iter(newest), {"number": 0})["number"]
        contains = runs.filter(Q(name__icontains=query) | Q(experiment__name__icontains=query), number__gt=floor)
        for more in (begins, contains):
            known = {run.pk for run in found}
            found += [run for run in more[:LIMIT] if run.pk not in known]
    return [
        Hit(f"{base}runs/{run.number}", "runs", run.name, f"#{run.number} · {run.experiment.name}")
        for run in found[:LIMIT]
    ]


def _experiments(workspace: Workspace, query: str, base: str) -> list[Hit]:
    rows = Experiment.objects.filter(workspace=workspace, name__icontains=query).order_by("name")[:LIMIT]
    return [Hit(f"{base}experiments/{row.name}", "flask", row.name) for row in rows]


def _models(workspace: Workspace, query: str, base: str) -> list[Hit]:
    rows = RegisteredModel.objects.filter(workspace=workspace, name__icontains=query, archived_at=None)
    return [Hit(f"{base}models/{quote(row.name, safe='')}", "cube", row.name) for row in rows.order_by("name")[:LIMIT]]


def _resources(workspace: Workspace, query: str, base: str) -> list[Hit]:
    targets = ComputeTarget.objects.attached().filter(workspace=workspace, name__icontains=query)[:LIMIT]
    environments = Environment.objects.filter(
        Q(workspace=workspace) | Q(workspace=None), name__icontains=query, archived_at=None
    )[:LIMIT]
    pools = Pool.objects.there().filter(workspace=workspace, name__icontains=query)[:LIMIT]
    return [
        *(Hit(f"{base}compute/{row.name}", "server", row.name, "compute") for row in targets),
        *(Hit(f"{base}compute/pools/{row.name}", "layers", row.name, "pool") for row in pools),
        *(Hit(f"{base}environments/{row.name}", "layers", row.name, "environment") for row in environments),
    ]
