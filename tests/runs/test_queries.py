"""The filter language as a table, and pages that visit each run once in any order."""

import random
from datetime import timedelta

import pytest
from django.utils import timezone

from runs import queries
from runs.filters import parse, split
from runs.models import Experiment, MetricSeries, Run, RunParameter, RunTag
from runs.queries import BadCursor, Filter, count, order_of, page
from studio.accounts.models import User
from studio.workspaces.models import Workspace


@pytest.fixture
def runs(workspace: Workspace, owner: User, contributor: User) -> list[Run]:
    """60 runs: metric acc on two thirds (with ties), parameter lr on all, text parameter opt, tags and states in turn."""
    experiments = [Experiment.objects.create(workspace=workspace, name=name) for name in ("alpha", "beta")]
    dice = random.Random(3)
    made = []
    for n in range(1, 61):
        started = None if n % 10 == 0 else timezone.now() - timedelta(hours=n)
        run = Run.objects.create(
            workspace=workspace, number=n, uid=f"r{n}", experiment=experiments[n % 2], name=f"run-{n % 7}_{n}",
            created_by=owner if n % 3 else contributor, started_at=started,
            status="Queued" if started is None else ("Completed", "Failed", "Running")[n % 3],
            ended_at=None if started is None or n % 3 == 2 else started + timedelta(seconds=dice.randrange(50)),
        )  # fmt: skip
        if n % 3:
            MetricSeries.objects.create(run=run, workspace=workspace, name="acc", count=1, last=n % 5 / 10)
        RunParameter.objects.create(
            run=run, workspace=workspace, name="lr", value=f"{n % 4}", head=f"{n % 4}", number=n % 4
        )
        RunParameter.objects.create(
            run=run, workspace=workspace, name="opt", value="adam" if n % 2 else "sgd", head="adam" if n % 2 else "sgd"
        )
        RunTag.objects.create(run=run, workspace=workspace, name="stage", value="final" if n % 2 else None)
        made.append(run)
    return made


def numbers(workspace: Workspace, user: User, text: str) -> set[int]:
    tokens = parse(text, workspace, user)
    assert not [token.error for token in tokens if token.error]
    found = Filter.of(workspace, tokens)
    ids = page(found, order_of("", workspace), size=1000).ids
    assert count(found) == len(ids)
    return set(Run.objects.filter(pk__in=ids).values_list("number", flat=True))


FILTERS = [
    ("", lambda n: True),
    ("status:failed", lambda n: n % 3 == 1 and n % 10),
    ("status:failed,completed", lambda n: n % 3 != 2 and n % 10),
    ("status:active", lambda n: n % 3 == 2 or n % 10 == 0),
    ("experiment:alpha", lambda n: n % 2 == 0),
    ("experiment:nothing", lambda n: False),
    ("user:me", lambda n: n % 3),
    ("user:contributor", lambda n: n % 3 == 0),
    ('user:"Cora Contributor"', lambda n: n % 3 == 0),
    ("tag:stage", lambda n: True),
    ("tag:stage=final", lambda n: n % 2),
    ("lr>1", lambda n: n % 4 > 1),
    ("lr>=1 lr<3", lambda n: 1 <= n % 4 < 3),
    ("lr!=2", lambda n: n % 4 != 2),
    ("lr=2.0", lambda n: n % 4 == 2),
    ("opt=adam", lambda n: n % 2),
    ("opt!=adam", lambda n: n % 2 == 0),
    ("acc>=0.3 lr=1 status:failed", lambda n: n % 3 == 1 and n % 10 and n % 5 >= 3 and n % 4 == 1),
    ("metric.acc<0.1", lambda n: n % 3 and n % 5 == 0),
    ("started:5h", lambda n: n % 10 and n < 5),
    ("run-3_", lambda n: n % 7 == 3),
    ("RUN-3_", lambda n: n % 7 == 3),
    ("name:_17", lambda n: n == 17),
    ("stag", lambda n: True),
    ("#12", lambda n: n == 12),
    ("%", lambda n: False),
    ("'; DROP", lambda n: False),
]


@pytest.mark.parametrize(("text", "expected"), FILTERS, ids=[text or "all" for text, _ in FILTERS])
def test_a_filter_keeps_what_it_says(runs: list[Run], workspace: Workspace, owner: User, text: str, expected) -> None:
    assert numbers(workspace, owner, text) == {run.number for run in runs if expected(run.number)}


@pytest.mark.parametrize(("text", "expected"), FILTERS, ids=[text or "all" for text, _ in FILTERS])
def test_large_sets_are_found_the_same_way_as_small_ones(
    runs: list[Run], workspace: Workspace, owner: User, text: str, expected, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "FEW", 0)
    assert numbers(workspace, owner, text) == {run.number for run in runs if expected(run.number)}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("lr>abc", "expected a number"),
        ("lr>", "a value is missing"),
        ("lr>nan", "expected a number"),
        ("acc=high", "it is a metric"),
        ("nothing>1", "no run has a metric or parameter named 'nothing'"),
        ("status:odd", "'odd' is no status"),
        ("status:", "a value is missing"),
        ("user:nobody", "nobody in this workspace is called 'nobody'"),
        ("started:soon", "'soon' is no time"),
        ("started:99999w", None),
        ("colour:red", "there is no filter colour:"),
        ("archived:maybe", "use yes, no or any"),
    ],
)
def test_a_bad_token_says_why_and_the_others_still_filter(
    runs: list[Run], workspace: Workspace, owner: User, text: str, error: str | None
) -> None:
    bad, good = parse(f"{text} lr=2", workspace, owner)
    assert (error in bad.error) if error else True
    assert good.condition is not None and not good.error


def test_people_of_other_workspaces_cannot_be_asked_for(
    runs: list[Run], workspace: Workspace, owner: User, foreign_workspace: Workspace
) -> None:
    (token,) = parse("user:elsewhere@example.test", workspace, owner)
    assert token.error


def test_quotes_hold_blanks_together() -> None:
    assert split('a "b c" user:"x y" lr>1') == ["a", '"b c"', 'user:"x y"', "lr>1"]
    assert split('un"closed here') == ['un"closed here']
    assert len(split("x " * 100)) == 20


ORDERS = ["", "-acc", "acc", "-param.lr", "opt", "-started", "started", "duration", "-duration", "name", "-name", "status", "-status",
          "compute", "owner", "-experiment", "nothing"]  # fmt: skip


@pytest.mark.parametrize("few", [0, 2000])
@pytest.mark.parametrize("sort", ORDERS)
@pytest.mark.parametrize("text", ["", "lr>0 opt=adam"])
def test_pages_visit_each_run_once_forward_and_back_while_new_runs_arrive(
    runs: list[Run], workspace: Workspace, owner: User, sort: str, text: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "FEW", few)
    chosen, order = Filter.of(workspace, parse(text, workspace, owner)), order_of(sort, workspace)
    whole = page(chosen, order, size=1000).ids
    pages = [page(chosen, order, size=7)]
    while pages[-1].older:
        Run.objects.create(
            workspace=workspace,
            number=100 + len(pages),
            uid=f"new{len(pages)}",
            experiment=runs[0].experiment,
            name="zzz",
        )
        pages.append(page(chosen, order, after=pages[-1].older, size=7))
    old = {run.pk for run in runs}
    seen = [pk for item in pages for pk in item.ids if pk in old]
    assert seen == list(whole)
    back = [pages[-1]]
    while back[0].newer:
        back.insert(0, page(chosen, order, before=back[0].newer, size=7))
    assert [pk for item in back for pk in item.ids if pk in old] == list(whole)


def test_runs_without_a_value_come_last_whichever_way(runs: list[Run], workspace: Workspace) -> None:
    by_id = {run.pk: run.number for run in runs}
    for sort in ("acc", "-acc"):
        found = [by_id[pk] for pk in page(Filter.of(workspace, []), order_of(sort, workspace), size=100).ids]
        values = [None if n % 3 == 0 else n % 5 for n in found]
        held = [value for value in values if value is not None]
        assert values[: len(held)] == held == sorted(held, reverse=sort.startswith("-"))
        assert found[len(held) :] == sorted(found[len(held) :], reverse=True)


@pytest.mark.parametrize("cursor", ["x", "W10", "bnVsbA", "W251bGwsLTFd", "W3t9LDFd", "é"])
def test_a_damaged_position_is_refused(workspace: Workspace, cursor: str) -> None:
    with pytest.raises(BadCursor):
        page(Filter.of(workspace, []), order_of("", workspace), after=cursor)


def test_archived_runs_and_those_of_other_workspaces_are_not_listed(
    runs: list[Run], workspace: Workspace, owner: User, foreign_workspace: Workspace
) -> None:
    other = Experiment.objects.create(workspace=foreign_workspace, name="alpha")
    Run.objects.create(workspace=foreign_workspace, number=1, uid="f1", experiment=other, name="run-3_")
    Run.objects.filter(number=12, workspace=workspace).update(archived_at=timezone.now())
    assert numbers(workspace, owner, "") == set(range(1, 61)) - {12}
    assert numbers(workspace, owner, "archived:yes") == {12}
    assert numbers(workspace, owner, "archived:any") == set(range(1, 61))
    assert len(numbers(workspace, owner, "run-3_")) == 9


def test_counts_end_at_their_limit(runs: list[Run], workspace: Workspace) -> None:
    assert count(Filter.of(workspace, []), 10) == 11
