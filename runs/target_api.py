"""Compute targets over HTTP: attach, look, test, change, drain, detach; and pools of them, see ``runs.pool_api``. Here and not beside
the targets, because runs live on them."""

from datetime import datetime
from typing import Any, Literal

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from environments import at_once, attaching
from environments.at_once import NotPassed, Unconfirmed, Wanted
from environments.attaching import Refused
from environments.doctor import Step, examine
from environments.models import ComputeTarget, Pool
from environments.option_rules import without_secrets
from environments.options import TITLES, kind_of
from environments.target import health
from environments.transports.connection import fingerprint
from runs import pool_api
from runs.detaching import detach, live
from runs.models import Run
from runs.pool_api import PoolRemoved, PoolShown, only, pool_named, pools_of
from studio.accounts.models import User
from studio.once import claimed
from studio.rest import REFUSED, Body, Member, Position, Problem, Refusal, not_found, page_url, refused, slice_of
from studio.workspaces.models import Role

router = Router(tags=["targets"])


class Tested(Schema):
    """A step of the connection test. The first needed one that fails is the last."""

    title: str
    ok: bool
    detail: str
    fix: str
    milliseconds: float
    needed: bool


class Target(Schema):
    """A compute target. ``options`` are those of the documentation; credentials are named, never shown."""

    name: str
    kind: str
    type: str
    health: str
    health_detail: str
    enabled: bool
    quarantined_at: datetime | None
    quarantine_reason: str
    slots: int
    gpus: int
    running: int
    waiting: int
    options: dict[str, Any]
    credentials: list[str]
    public_key: str
    next_public_key: str
    host_keys: dict[str, str]
    facts: dict[str, Any]
    steps: list[Tested]
    checked_at: datetime | None
    last_seen_at: datetime | None
    unreachable_since: datetime | None
    last_error: str
    url: str


class Targets(Schema):
    """Targets and pools, by name."""

    targets: list[Target | PoolShown]
    next: str | None


class NewTarget(Body):
    """A machine to attach. ``fingerprint``: of the host's key, as you have compared it (``SHA256:…``); ``jump_fingerprint``: of the
    jump host's. Without ``password`` or ``private_key`` among ``credentials``, a remote target signs in with a key that the studio
    makes. ``anyway``: attach also when the connection test fails behind the host keys.

    With ``kind`` pool it is a pool instead: only ``members`` (names of attached targets in the order in which they are asked; null: all,
    by name), ``min_nodes``, ``max_nodes`` (null: all) and ``description`` are taken then."""

    name: str
    kind: Literal["target", "pool"] = "target"
    members: list[str] | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    description: str | None = None
    transport: str = "local"
    launcher: str = "process"
    options: dict[str, Any] = {}
    credentials: dict[str, str] = {}
    slots: int | None = None
    gpu_slots: int | None = None
    fingerprint: str = ""
    jump_fingerprint: str = ""
    anyway: bool = False


class Change(Body):
    """What is absent stays. ``options`` are merged, section by section; null takes one away. ``credentials``: null takes one away.
    ``gpu_slots``: null means as many as the last test found. Of a pool: ``name``, ``members``, ``min_nodes``, ``max_nodes`` (null means
    all) and ``description``."""

    name: str | None = None
    options: dict[str, Any] | None = None
    credentials: dict[str, str | None] | None = None
    slots: int | None = None
    gpu_slots: int | None = None
    members: list[str] | None = None
    min_nodes: int | None = None
    max_nodes: int | None = None
    description: str | None = None


class Trust(Body):
    """Fingerprints of host keys that you have compared: the keys that are shown now are pinned if they have them."""

    fingerprint: str = ""
    jump_fingerprint: str = ""


class TestResult(Schema):
    passed: bool
    steps: list[Tested]


class Detached(Schema):
    """``detached`` false: the runs are being canceled; ask again."""

    detached: bool
    live_runs: int


class Key(Schema):
    """``public_key``: the line of ``authorized_keys`` that the target is entered with, where the studio made that key;
    ``next_public_key``: the one that will replace it."""

    public_key: str
    next_public_key: str


@router.get("", auth=Member(Role.READER), response={200: Targets, REFUSED: Refusal})
def listed(request: HttpRequest, position: Query[Position]) -> dict[str, Any]:
    """Compute targets of the workspace and its pools (``kind`` pool), by name."""
    rows = [*targets_of(request), *pools_of(request)]
    page, following = slice_of(rows, lambda row: str(row.name), position)
    shown = [pool_api.shown(request, row) if isinstance(row, Pool) else described(request, row) for row in page]
    return {"targets": shown, "next": following}


@router.post("", auth=Member(Role.OWNER), response={200: Target | PoolShown, 201: Target | PoolShown, REFUSED: Refusal})
def attached(request: HttpRequest, data: NewTarget) -> Status[Any]:
    """Attach a machine after the connection test, or make a pool. Repeated, it answers 200 with the target of the first call.

    409 with ``host_key``: its host key has to be vouched for. 422 with ``steps``: the test failed; with ``public_key``: install this
    line there, then ask again.
    """
    given = data.model_dump(exclude_unset=True, exclude={"name", "kind"})
    if data.kind == "pool":
        pool, new = pool_api.created(request, data.name, given)
        return Status(201 if new else 200, pool)
    only(given, pool_api.TARGETS_OWN, "a target", "Send kind=pool to make a pool, or leave it out.")
    wanted = Wanted(
        data.name, data.transport, data.launcher, data.options, data.credentials, data.slots, data.gpu_slots,
        {"host": data.fingerprint, "jump": data.jump_fingerprint},
    )  # fmt: skip
    with claimed(request, data.model_dump()):
        try:
            target, new = at_once.attach(request.workspace, person(request), wanted, anyway=data.anyway)  # type: ignore[attr-defined]
        except Refused as error:
            raise refused(error.errors) from error
        except Unconfirmed as error:
            raise unconfirmed(error) from error
        except NotPassed as error:
            raise not_passed(error) from error
    return Status(201 if new else 200, described(request, target))


@router.get("/{name}", auth=Member(Role.READER), response={200: Target | PoolShown, REFUSED: Refusal})
def shown(request: HttpRequest, name: str) -> dict[str, Any]:
    """A target, or a pool with its members."""
    pool = pool_named(request, name)
    return pool_api.shown(request, pool) if pool is not None else described(request, find(request, name))


@router.patch("/{name}", auth=Member(Role.OWNER), response={200: Target | PoolShown, REFUSED: Refusal})
def changed(request: HttpRequest, name: str, data: Change | None = None) -> dict[str, Any]:
    """Change a target or a pool. Another address asks for its host key anew: test it with the fingerprint."""
    data = data or Change()
    given = data.model_dump(exclude_unset=True)
    if (pool := pool_named(request, name)) is not None:
        return pool_api.changed(request, pool, given)
    target = find(request, name)
    only(given, ("name", *pool_api.TARGETS_OWN), "a target", "Only a pool has that: leave it out.")
    gpus: int | str | None = data.gpu_slots
    if "gpu_slots" in data.model_fields_set and gpus is None:
        gpus = ""
    try:
        attaching.update(
            target, person(request), name=data.name, options=data.options, credentials=data.credentials, slots=data.slots,
            gpu_slots=gpus,
        )  # fmt: skip
    except Refused as error:
        raise refused(error.errors) from error
    return described(request, target)


@router.delete(
    "/{name}", auth=Member(Role.OWNER), response={200: Detached | PoolRemoved, 202: Detached, REFUSED: Refusal}
)
def detached(request: HttpRequest, name: str, force: str = "") -> Status[Any]:
    """Take a target out of use: its credentials are wiped, its runs stay in the list, nothing is changed on the machine.

    With live runs 409. ``force=cancel``: nothing new starts there, they are canceled and the answer is 202: ask again until it is 200.
    ``force=abandon``, for a machine that is gone and does not answer: they fail.

    A pool is taken away, its targets stay. 409 while runs wait in it; ``force=cancel`` cancels those.
    """
    if (pool := pool_named(request, name)) is not None:
        return Status(200, pool_api.removed(request, pool, force))
    target = find(request, name)
    going = live(target)
    if going and not force:
        launched = sum(run.launched for run in going)
        rule = f"Runs that execute there: {launched}; that wait for it: {len(going) - launched}."
        fix = (
            "Wait for them, or send force=cancel: they are canceled first; their logs and outputs up to then are kept."
        )
        raise Problem.of(409, "runs", rule, fix, live_runs=[run.number for run in going[:1000]])
    try:
        done = detach(target, person(request), force or "refuse")
    except Refused as error:
        rule, stop, fix = str(error.errors.get("runs", error)).partition(". ")
        raise Problem.of(409, "runs", rule + stop.strip(), fix) from error
    return Status(200 if done else 202, {"detached": done, "live_runs": len(live(target))})


@router.post("/{name}/test", auth=Member(Role.CONTRIBUTOR), response={200: TestResult, REFUSED: Refusal})
def tested(request: HttpRequest, name: str, data: Trust | None = None) -> dict[str, Any]:
    """The connection test: each step timed, the fix beside the one that failed. With fingerprints, which needs an owner, the host
    keys that have them are pinned on the way."""
    target = find(request, name)
    trust = {"host": data.fingerprint, "jump": data.jump_fingerprint} if data else {}
    if not any(trust.values()):
        steps = examine(target)
    elif not request.membership.allows(Role.OWNER):  # type: ignore[attr-defined]
        raise Problem.of(403, "fingerprint", "To vouch for a host key needs the role owner.", "Ask an owner.")
    else:
        try:
            steps = at_once.confirmed(target, person(request), trust)
        except Unconfirmed as error:
            raise unconfirmed(error) from error
    return {"passed": all(step.ok or not step.needed for step in steps), "steps": steps}


@router.post("/{name}/drain", auth=Member(Role.OWNER), response={200: Target, REFUSED: Refusal})
def drained(request: HttpRequest, name: str) -> dict[str, Any]:
    """What runs goes on; nothing new starts there."""
    return enabled(request, name, False)


@router.post("/{name}/resume", auth=Member(Role.OWNER), response={200: Target, REFUSED: Refusal})
def resumed(request: HttpRequest, name: str) -> dict[str, Any]:
    """Start runs there again. Lifts a quarantine."""
    return enabled(request, name, True)


@router.get("/{name}/key", auth=Member(Role.READER), response={200: Key, REFUSED: Refusal})
def key(request: HttpRequest, name: str) -> dict[str, Any]:
    """The public half of the key that the studio made; empty where it made none."""
    return keys_of(find(request, name))


@router.post("/{name}/key", auth=Member(Role.OWNER), response={200: Key, REFUSED: Refusal})
def key_made(request: HttpRequest, name: str) -> dict[str, Any]:
    """Have the studio make a new key. Install ``next_public_key`` there, then use it; until then nothing changes."""
    target = find(request, name)
    if target.transport != "ssh":
        raise Problem.of(422, "name", "Nobody signs in to this target.", "Only remote targets have keys.")
    with claimed(request, None):
        attaching.make_key(target, person(request))
    return keys_of(target)


@router.post("/{name}/key/use", auth=Member(Role.OWNER), response={200: Key, REFUSED: Refusal})
def key_used(request: HttpRequest, name: str) -> dict[str, Any]:
    """Sign in with the new key; if that works it replaces what was used before, otherwise nothing changes."""
    target = find(request, name)
    try:
        attaching.use_new_key(target, person(request))
    except Refused as error:
        raise refused(error.errors) from error
    return keys_of(target)


def enabled(request: HttpRequest, name: str, on: bool) -> dict[str, Any]:
    target = find(request, name)
    if target.enabled != on or target.quarantined_at:
        attaching.set_enabled(target, person(request), on)
    return described(request, target)


def targets_of(request: HttpRequest) -> Any:
    return ComputeTarget.objects.attached().filter(workspace=request.workspace)  # type: ignore[attr-defined]


def find(request: HttpRequest, name: str) -> ComputeTarget:
    target: ComputeTarget | None = targets_of(request).filter(name=name).first()
    if target is None:
        pool_api.refuse_pool(request, name)
        raise not_found("target")
    return target


def person(request: HttpRequest) -> User:
    return request.user  # type: ignore[return-value]  # signed in: Member saw to it


def described(request: HttpRequest, target: ComputeTarget) -> dict[str, Any]:
    """A target as the API shows it."""
    state = health(target)
    active = Run.objects.filter(target=target, ended_at__isnull=True)
    stored = target.get_credentials()
    since = f"{state.verb} {state.since.isoformat(timespec='seconds')}" if state.since else ""
    owner = request.membership.allows(Role.OWNER)  # type: ignore[attr-defined]
    options = {name: value for name, value in target.options.items() if name != "typed"}
    return {
        "name": target.name,
        "kind": TITLES[kind_of(target.transport, target.launcher, target.options)],
        "type": f"{target.transport}/{target.launcher}",
        "health": state.words,
        "health_detail": since,
        "enabled": target.enabled,
        "quarantined_at": target.quarantined_at,
        "quarantine_reason": target.quarantine_reason,
        "slots": target.slots,
        "gpus": target.gpus,
        "running": active.filter(launched=True).count(),
        "waiting": active.filter(launched=False).count(),
        "options": options if owner else without_secrets(options),
        "credentials": sorted(name for name in stored if name in attaching.CREDENTIALS),
        **keys_of(target),
        "host_keys": host_keys(target),
        "facts": target.facts,
        "steps": target.steps,
        "checked_at": target.checked_at,
        "last_seen_at": target.last_seen_at,
        "unreachable_since": target.unreachable_since,
        "last_error": target.last_error,
        "url": page_url(request, f"compute/{target.name}"),  # type: ignore[arg-type]
    }


def keys_of(target: ComputeTarget) -> dict[str, str]:
    ssh = target.options.get("ssh") or {}
    return {"public_key": ssh.get("public_key", ""), "next_public_key": attaching.next_key(target)}


def host_keys(target: ComputeTarget) -> dict[str, str]:
    """Fingerprints of the pinned keys: of the host, and of the jump host."""
    ssh = target.options.get("ssh") or {}
    hops = {"host": ssh.get("host_key"), "jump": (ssh.get("jump") or {}).get("host_key")}
    return {hop: fingerprint(line) for hop, line in hops.items() if line}


def unconfirmed(error: Unconfirmed) -> Problem:
    field = "jump_fingerprint" if error.hop == "jump" else "fingerprint"
    shown = error.shown.split()[-1]
    if error.said:
        rule = f"{error}. You expect {error.said}."
        fix = "If you are sure that the machine's key is the one shown, send its fingerprint; otherwise somebody stands between."
    else:
        rule = f"{error} Nobody has confirmed it yet."
        fix = f"Compare it with the machine's (there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub), then send {field}={shown}."
    return Problem.of(
        409, field, rule, fix, code="host_key", host=error.host, hop=error.hop, host_key=error.key, fingerprint=shown
    )  # fmt: skip


def not_passed(error: NotPassed) -> Problem:
    failed = error.failed
    fix = failed.fix
    if error.public_key and failed.title.startswith("Sign-in"):
        fix = f"Add this line to ~/.ssh/authorized_keys there, then ask again: {error.public_key}"
    return Problem.of(
        422, "test", f"{failed.title} failed: {failed.detail}", fix or "Mend it and ask again, or attach anyway.", code="test_failed",
        steps=[tested_step(step) for step in error.steps], public_key=error.public_key,
    )  # fmt: skip


def tested_step(step: Step) -> dict[str, Any]:
    return {name: getattr(step, name) for name in Tested.model_fields}
