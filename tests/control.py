"""A process with the settings of a running studio, told by JSON lines what to do there: ``python -m tests.control``.

The tests' own process has a database of its own; this one opens the database of the studio under test, as the studio's
own programs do.
"""

import json
import os
import sys
import time
import uuid
from datetime import timedelta
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "studio.settings"
django.setup()

from django.db import close_old_connections  # noqa: E402
from django.db.models import Sum  # noqa: E402
from django.test import Client  # noqa: E402
from django.utils import timezone  # noqa: E402

from environments import builds  # noqa: E402
from environments.definition import Definition  # noqa: E402
from environments.models import Build, ComputeTarget, Environment, Lease, Lock  # noqa: E402
from environments.registry import named, refresh, register  # noqa: E402
from environments.target import open_target  # noqa: E402
from runs import logs, preparing, queue  # noqa: E402
from runs.config import ScriptRunConfig  # noqa: E402
from runs.models import Artifact, LogStream, MetricSeries, Run  # noqa: E402
from runs.snapshots import submit_folder  # noqa: E402
from runs.submission import cancel, submit  # noqa: E402
from studio.accounts.models import Token, User  # noqa: E402
from studio.models import Blob  # noqa: E402
from studio.queues import ring  # noqa: E402
from studio.workspaces.models import Membership, Workspace  # noqa: E402


def op_submit(folder, script="train.py", arguments=(), count=1, environment="python", target="local", **config):
    workspace = Workspace.objects.get(slug="default")
    user = User.objects.order_by("pk").first()
    snapshot, _ = submit_folder(workspace, Path(folder), user)
    place = ComputeTarget.objects.get(workspace=workspace, name=target)
    version = named(workspace, environment)
    return [
        submit(
            workspace=workspace, user=user, experiment="faults", target=place, environment=version, snapshot=snapshot,
            config=ScriptRunConfig(script=script, arguments=tuple(arguments), **config).validated(),
        ).pk
        for _ in range(count)
    ]  # fmt: skip


def op_token(scope="contributor", workspace="default", role="owner"):
    """The text of a new token, of a new member; the workspace is made when there is none."""
    place, _ = Workspace.objects.get_or_create(slug=workspace, defaults={"name": workspace.title()})
    user = User.objects.create_user(f"{uuid.uuid4().hex[:8]}@example.test")
    Membership.objects.create(workspace=place, user=user, role=role)
    return Token.issue(user=user, workspace=place, name="tests", scope=scope)[1]


def op_forget_token(text):
    return Token.objects.filter(digest=Token.hashed(text)).delete()[0]


def op_number(uid):
    return Run.objects.values_list("number", flat=True).get(uid=uid)


def op_page_text(path):
    """A page as an owner of the workspace sees it."""
    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.order_by("pk").first(), backend="django.contrib.auth.backends.ModelBackend")
    answer = client.get(path)
    assert answer.status_code == 200, answer.status_code
    return answer.content.decode()


def op_signed_in_get(path):
    """The status of an answer to a person with a session and no token."""
    client = Client(HTTP_HOST="localhost")
    client.force_login(User.objects.order_by("pk").first(), backend="django.contrib.auth.backends.ModelBackend")
    return client.get(path).status_code


FIELDS = ("id", "number", "status", "reason", "exit_code", "signal", "error", "attempt", "launched", "log_complete", "final", "cleaned_at",
          "unreachable_since", "bad_records", "waiting_for")  # fmt: skip


def op_runs(ids=None):
    rows = Run.objects.all() if ids is None else Run.objects.filter(pk__in=ids)
    return [{name: row[name] for name in FIELDS} for row in rows.order_by("pk").values(*FIELDS)]


def op_events(id):
    return [[e.old, e.new, e.reason, e.detail] for e in Run.objects.get(pk=id).events.all()]


def op_log(id, name="log"):
    """Size, SHA-256 and path of a copy of a run's log as the studio keeps it."""
    stream = LogStream.objects.filter(run_id=id, name=name).first()
    if stream is None:
        return {"size": 0, "sha256": None, "lines": 0}
    size, digest = logs.digest(stream)
    return {"size": size, "sha256": digest, "lines": stream.lines, "total": stream.total, "sealed": bool(stream.sealed)}


def op_size(id):
    """Bytes of a run's log that readers of the database can see."""
    return LogStream.objects.filter(run_id=id, name="log").values_list("size", flat=True).first() or 0


def op_snapshot(id):
    return Run.objects.get(pk=id).snapshot.digest


def op_timed_snapshot(folder):
    workspace = Workspace.objects.get(slug="default")
    before = stored_bytes()
    began = time.monotonic()
    submit_folder(workspace, Path(folder), None)
    return {"seconds": time.monotonic() - began, "stored": stored_bytes() - before}


def stored_bytes():
    return Blob.objects.aggregate(total=Sum("length"))["total"] or 0


def op_text(id, name="log", limit=1_000_000):
    stream = LogStream.objects.get(run_id=id, name=name)
    return logs.Reader(stream).read(0, limit).decode("utf-8", "backslashreplace")


def op_cancel(id):
    return cancel(Run.objects.get(pk=id), None)


def op_artifacts(id):
    return [[a.path, a.size, a.digest, a.skipped] for a in Artifact.objects.filter(run_id=id)]


def op_metrics(id):
    return {s.name: [s.count, s.last] for s in MetricSeries.objects.filter(run_id=id, system=False)}


def op_uid(id):
    return Run.objects.get(pk=id).uid


def op_room(ids):
    """Of each target of these runs: its name and slots, the ids of all its runs, and what is given out twice."""
    return [
        {
            "target": target.name, "slots": target.slots, "uids": list(target.runs.values_list("uid", flat=True)),
            "twice": queue.oversubscribed(target),
        }
        for target in ComputeTarget.objects.filter(runs__in=ids).distinct()
    ]  # fmt: skip


def op_facts(name):
    """What the target said of itself when it was last probed."""
    return ComputeTarget.objects.get(name=name).facts


def op_attended():
    return Lease.live(timezone.now()).exists()


def op_environment(name, **definition):
    """A new environment of the workspace, which is what ``op_submit`` takes by this name."""
    row = Environment.objects.create(workspace=Workspace.objects.get(slug="default"), name=name)
    return str(register(row, Definition(**definition)))


def op_build(environment, target):
    """What is kept of an environment's newest build on a target."""
    rows = Build.objects.filter(target__name=target, version__environment__name=environment).order_by("-pk")
    return rows.values("status", "error", "python", "lock", "packages", "extras", "size", "attempt", "attempts").first()


def op_prewarm(environment, target):
    """Have an environment's newest version built."""
    place = ComputeTarget.objects.get(name=target)
    builds.ensure(place, named(place.workspace, environment))
    ring(place.pk)


def op_locks(environment):
    """What the newest version of an environment was resolved to, a text for each kind of machine."""
    version = named(Workspace.objects.get(slug="default"), environment)
    return list(Lock.objects.filter(workspace__slug="default", key=version.key).values_list("text", flat=True))


def op_refresh(environment):
    return str(refresh(named(Workspace.objects.get(slug="default"), environment)))


def op_target(root, slots=1, **options):
    """Another local target, whose runs lie below ``root``."""
    workspace = Workspace.objects.get(slug="default")
    return ComputeTarget.objects.create(
        workspace=workspace, name=Path(root).name, slots=slots, options={"root": root, **options}
    ).name


def op_docker_target(root, slots=1, base_image="studio/python:3.11-slim", name="docker", **docker):
    """A target on this machine's engine. ``docker``: its options."""
    workspace = Workspace.objects.get(slug="default")
    options = {"root": root, "docker": {"base_image": base_image, **docker}}
    return ComputeTarget.objects.create(
        workspace=workspace, name=name, slots=slots, launcher="docker", options=options
    ).name


def op_ssh_target(name="remote", slots=1, launcher="process", credentials=None, **options):
    """A target over SSH. ``options``: ``ssh`` with host, port, user, host_key; ``root`` and whatever else a target has."""
    workspace = Workspace.objects.get(slug="default")
    target = ComputeTarget(
        workspace=workspace, name=name, slots=slots, transport="ssh", launcher=launcher,
        options={"root": "~/.runstead", **options},
    )  # fmt: skip
    target.set_credentials(credentials or {})
    target.save()
    return target.name


def op_change_target(name, **fields):
    """Change columns as an editing person would: the attendant is rung."""
    target = ComputeTarget.objects.get(name=name)
    if "credentials" in fields:
        target.set_credentials(fields.pop("credentials"))
    for field, value in fields.items():
        setattr(target, field, value)
    target.save()
    ring(target.pk)


def op_health(name):
    """When the target was last seen, since when it does not answer, what was said then; whether and why it is quarantined."""
    target = ComputeTarget.objects.get(name=name)
    return {
        "seen": target.last_seen_at, "unreachable_since": target.unreachable_since, "error": target.last_error,
        "quarantined_at": target.quarantined_at, "quarantine_reason": target.quarantine_reason,
    }  # fmt: skip


def op_capacity():
    """Slots of the local target, and the interpreter that its runs use."""
    target = ComputeTarget.objects.get(name="local")
    return target.slots, target.builds.get(version__environment__name="python").python


def op_seed(runs):
    from tests.bench.seed import seed

    return seed(runs)


def op_page(path, times):
    """Milliseconds that the server needs for a page, signed in; the first call is not counted."""
    client = Client(HTTP_HOST="localhost")
    client.force_login(
        User.objects.get(email="bench@example.test"), backend="django.contrib.auth.backends.ModelBackend"
    )
    taken = []
    for _ in range(times + 1):
        began = time.perf_counter()
        answer = client.get(path)
        taken.append((time.perf_counter() - began) * 1000)
        assert answer.status_code == 200, answer.status_code
    return taken[1:]


def op_silence(number, seconds):
    """As if nothing had been heard of the client of an interactive run for so long."""
    return Run.objects.filter(number=number).update(heard_at=timezone.now() - timedelta(seconds=seconds))


def op_heard(number):
    """Seconds since something was heard of the client of an interactive run."""
    return (timezone.now() - Run.objects.get(number=number).heard_at).total_seconds()


def op_slots(count, name="local"):
    return ComputeTarget.objects.filter(name=name).update(slots=count)


def op_timed_ship(folder, target):
    """Seconds for a folder to become a snapshot, for its contents to be on a target, and for a run's folder to be laid out of
    them. The connection is open before, as an attendant's is."""
    row = ComputeTarget.objects.get(name=target)
    attempt = uuid.uuid4().hex
    spec = {
        "attempt": attempt, "kind": "run", "argv": ["true"], "cwd": "code", "env": {}, "secrets": {}, "limits": {}, "grace": 1,
        "token": attempt, "sample_seconds": 2, "tracking": None, "isolate": [],
    }  # fmt: skip
    with open_target(row) as host:
        began = time.monotonic()
        snapshot, _ = submit_folder(row.workspace, Path(folder), None)
        stored = time.monotonic()
        preparing.ship(snapshot, host, compress=row.transport != "local")
        shipped = time.monotonic()
        host.prepare("runs", attempt, spec, snapshot.digest)
        ready = time.monotonic()
        host.remove("runs", attempt)
    return {"snapshot": stored - began, "ship": shipped - stored, "lay_out": ready - shipped}


def op_log_delays(ids, seconds, every=4):
    """Milliseconds from a print of a time to the moment at which a reader of the rows has it; of each ``every``-th run."""
    streams = {row.pk: row for row in LogStream.objects.filter(run_id__in=ids[::every], name="log")}
    sizes = {pk: row.size for pk, row in streams.items()}
    delays, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        for row in LogStream.objects.filter(pk__in=streams):
            if row.size > sizes[row.pk]:
                data = logs.Reader(row).read(sizes[row.pk], row.size - sizes[row.pk])
                now, sizes[row.pk] = time.time(), row.size
                delays += [(now - float(line)) * 1000 for line in data.split(b"\n") if line]
        time.sleep(0.02)
    return delays


def main():
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        close_old_connections()  # the server of the database may have been started anew
        try:
            answer = {"result": globals()["op_" + request.pop("op")](**request)}
        except Exception as error:  # the other side raises it again
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=str), flush=True)


if __name__ == "__main__":
    main()
