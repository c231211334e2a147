"""Environments: the list, and the form that makes one or its next version."""

from dataclasses import dataclass
from typing import Any

from django.contrib import messages
from django.db import IntegrityError, transaction
from django.http import Http404, HttpResponse, HttpResponseBase, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from environments import registry, snippets
from environments.contents import frameworks_of
from environments.definition import Definition
from environments.filling import Filled, fill
from environments.forms import KINDS, EnvironmentForm, typed
from environments.models import ComputeTarget, Environment, EnvironmentVersion, Label
from environments.places import Place, places_of
from environments.registry import find, latest, register, visible
from studio.workspaces.access import MemberRequest, fetch, member
from studio.workspaces.models import Role, Workspace

FORM = ["GET", "HEAD", "POST"]
COUNTED = 1_000
"""Runs are counted up to here: nobody needs to know whether it was 61,204 or 61,205 that used an environment."""


@dataclass(frozen=True)
class Row:
    environment: Environment
    version: EnvironmentVersion
    definition: Definition
    frameworks: list[str]
    labels: list[Label]
    places: list[Place]
    used: int

    @property
    def seen(self) -> list[Place]:
        """Where it is or was built; of no place that is so the first, which says why not."""
        return [place for place in self.places if place.build] or self.places[:1]

    def has(self, words: list[str]) -> bool:
        """Whether each word is somewhere in what the row says, or in the packages that it names."""
        text = " ".join(
            [
                self.environment.name, self.environment.description, KINDS[typed(self.definition)["kind"]][0],
                *self.environment.aliases, *self.frameworks, *(f"@{label.name}" for label in self.labels),
                *self.definition.packages, *self.definition.conda_packages, self.definition.base_image,
            ]
        ).lower()  # fmt: skip
        return all(word in text for word in words)


def used_by(workspace: Workspace, environment: Environment) -> int:
    """How many of the workspace's runs used any version, counted to just past COUNTED."""
    rows = EnvironmentVersion.objects.filter(environment=environment, runs__workspace=workspace)
    return int(rows.values("runs")[: COUNTED + 1].count())


@require_GET
@member(Role.READER)
def listing(request: MemberRequest) -> HttpResponseBase:
    archived = "archived" in request.GET
    search = request.GET.get("q", "").strip()[:200]
    rows = visible(request.workspace).filter(archived_at__isnull=not archived)
    newest: dict[int, EnvironmentVersion] = {}
    # Archived versions first, so that they count only where there is no other.
    for version in EnvironmentVersion.objects.filter(environment__in=rows).order_by("number"):
        kept = newest.get(version.environment_id)
        if kept is None or version.archived_at is None or kept.archived_at is not None:
            newest[version.environment_id] = version
    targets = list(ComputeTarget.objects.attached().filter(workspace=request.workspace))
    places = places_of(newest.values(), targets)
    labels: dict[int, list[Label]] = {}
    for label in Label.objects.filter(environment__in=rows).select_related("version"):
        labels.setdefault(label.environment_id, []).append(label)
    shown = []
    for row in rows:
        if row.pk not in newest:
            continue
        definition = Definition.from_json(newest[row.pk].definition)
        made = Row(
            environment=row,
            version=newest[row.pk],
            definition=definition,
            frameworks=frameworks_of(definition),
            labels=labels.get(row.pk, []),
            places=places[newest[row.pk].key],
            used=used_by(request.workspace, row),
        )
        shown.append(made)
    found = [row for row in shown if row.has(search.lower().split())]
    page = {
        "section": "environments",
        "rows": sorted(found, key=lambda r: (r.environment.curated, r.environment.name.lower())),
        "total": len(shown),
        "search": search,
        "archived": archived,
        "has_archived": visible(request.workspace).filter(archived_at__isnull=False).exists(),
        "several": len(targets) > 1,
        "counted": COUNTED,
        "may_make": request.may(Role.CONTRIBUTOR),
    }
    return render(request, "environments/list.html", page)


def the_environment(request: MemberRequest, name: str) -> Environment:
    row = find(request.workspace, name)
    if row is None:
        raise Http404("No such page.")
    return row


def own(request: MemberRequest, name: str) -> Environment:
    """One that members may change: curated ones are the administrator's."""
    return fetch(Environment.objects.filter(workspace=request.workspace), name=name)


@require_http_methods(FORM)
@member(Role.CONTRIBUTOR)
def create(request: MemberRequest) -> HttpResponseBase:
    """A new environment; ``?from=name`` or ``?from=name/number`` begins with a copy."""
    source = source_of(request)
    initial: dict[str, str] = {}
    if source is not None:
        initial = typed(Definition.from_json(source.definition))
        initial["name"] = free_name(request.workspace, source.environment.name)
        initial["description"] = source.environment.description
    if request.method == "POST" and "fill" in request.POST:
        return filled_page(request, source=source)
    form = EnvironmentForm(request.workspace, None, posted(request), initial=initial)
    if request.method == "POST" and form.is_valid() and form.definition is not None:
        try:
            with transaction.atomic():
                row = Environment.objects.create(
                    workspace=request.workspace,
                    name=form.cleaned_data["name"],
                    description=form.cleaned_data["description"],
                )
                made = register(row, form.definition, request.user)
        except IntegrityError:  # made by somebody else at this moment
            form.add_error("name", f"{form.cleaned_data['name']} is in this workspace already. Choose another name.")
        else:
            return redirect("environments:version", request.workspace.slug, row.name, made.number)
    return form_page(request, form, source=source)


@require_http_methods(FORM)
@member(Role.CONTRIBUTOR)
def new_version(request: MemberRequest, name: str) -> HttpResponseBase:
    row = own(request, name)
    before = latest(row)
    if request.method == "POST" and "fill" in request.POST:
        return filled_page(request, environment=row, before=before)
    initial = {"name": row.name, "description": row.description}
    if before is not None:
        initial |= typed(Definition.from_json(before.definition))
    form = EnvironmentForm(request.workspace, row, posted(request), initial=initial)
    if request.method == "POST" and form.is_valid() and form.definition is not None:
        Environment.objects.filter(pk=row.pk).update(description=form.cleaned_data["description"])
        made = register(row, form.definition, request.user)
        if before is not None and made.pk == before.pk:
            messages.info(request, f"The definition is unchanged, so this is still version {made.number}.")
        return redirect("environments:version", request.workspace.slug, row.name, made.number)
    return form_page(request, form, environment=row, before=before)


def posted(request: MemberRequest) -> QueryDict | None:
    return request.POST if request.method == "POST" else None


def filled_page(request: MemberRequest, **words: Any) -> HttpResponse:
    """The form filled in from a file or a pasted text. What cannot be read stays where it was typed, beside its errors."""
    found = fill(request.POST.get("source", ""), request.FILES.get("file"), request.POST.get("source_name", ""))
    values = {name: str(request.POST.get(name, "")) for name in EnvironmentForm.base_fields}
    if found.definition is not None:
        values |= typed(found.definition)
        values["name"] = values["name"] or found.name
        values["description"] = values["description"] or found.description
    form = EnvironmentForm(request.workspace, words.get("environment"), None, initial=values)
    return form_page(request, form, filled=found, **words)


def form_page(request: MemberRequest, form: EnvironmentForm, **words: Any) -> HttpResponse:
    filled: Filled | None = words.get("filled")
    shown = form
    if not form.is_bound:  # what is filled in, as it would be sent
        shown = EnvironmentForm(request.workspace, words.get("environment"), {**form.initial})
        shown.is_valid()
    page = {
        "section": "environments",
        "form": form,
        "kinds": [(value, *told) for value, told in KINDS.items()],
        "secrets": list(request.workspace.secrets.values_list("name", flat=True)),
        "snippets": snippets_of(shown),
        **words,
    }
    refused = form.errors or (filled is not None and filled.definition is None)
    return render(request, "environments/form.html", page, status=422 if refused else 200)


def source_of(request: MemberRequest) -> EnvironmentVersion | None:
    """The version named by ``?from=``; 404 when there is none."""
    name, _, number = request.GET.get("from", "").partition("/")
    if not name:
        return None
    rows = the_environment(request, name).versions.select_related("environment")
    row = fetch(rows, number=int(number)) if number.isdecimal() else latest(the_environment(request, name))
    if row is None:
        raise Http404("No such page.")
    return row


def free_name(workspace: Workspace, name: str) -> str:
    """A name for a copy: ``name-copy``, ``name-copy-2``, …, without the prefix of curated ones."""
    base = name[len("AzureML-") :] if name.lower().startswith("azureml-") else f"{name}-copy"
    taken = {n.lower() for n in visible(workspace).values_list("name", flat=True)}
    number, candidate = 1, base
    while candidate.lower() in taken:
        number += 1
        candidate = f"{base}-{number}"
    return candidate


def snippets_of(form: EnvironmentForm) -> list[tuple[str, str]]:
    """What the form says, as code; nothing while it says nothing that could be made."""
    definition, name = form.definition, str(form["name"].value() or "")
    if definition is None or set(form.errors) - {"name"}:
        return []
    return snippets.of_version(name or "my-environment", str(form["description"].value() or ""), definition)


@require_POST
@member(Role.CONTRIBUTOR)
def check(request: MemberRequest) -> HttpResponseBase:
    """The errors of one field, while the form is being filled in."""
    field = request.GET.get("field", "")
    data = QueryDict(mutable=True)
    data.update({name: value for name, value in request.POST.items() if isinstance(value, str)})
    form = EnvironmentForm(request.workspace, None, data)
    form.is_valid()
    if field not in form.fields:
        raise Http404("No such field.")
    page = {
        "errors": form.errors.get(field, []),
        "lines": form.lines.get(field, []),
        "snippets": snippets_of(form),
    }
    return render(request, "environments/_checked.html", page)


@require_POST
@member(Role.CONTRIBUTOR)
def archive(request: MemberRequest, name: str) -> HttpResponseBase:
    """Archived ones are not offered for new runs; what ran in them stays as it is."""
    row = own(request, name)
    restore = "restore" in request.POST
    (registry.restore if restore else registry.archive)(row, request.user)
    messages.success(request, f"{row.name} was {'restored' if restore else 'archived'}.")
    return redirect("environments:list", request.workspace.slug)
