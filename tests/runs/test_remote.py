"""Runs and cleanings on a machine behind a real SSH server, by a real attendant."""

import json
from pathlib import Path

import pytest
from django.utils import timezone

from environments.agent import isolation
from environments.definition import Definition
from environments.models import ComputeTarget, Environment
from environments.registry import register
from runs import submission
from runs.config import ScriptRunConfig
from runs.logs import Reader
from runs.models import LogStream
from runs.status import RunStatus
from tests.environments.agent.test_cleaning import age
from tests.environments.sshd import server
from tests.runs.factory import make_run
from tests.runs.test_building import attending, status_of
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)

SLEEPER = b"import os, time; open('outputs/mine', 'w').write('mine'); print('here', flush=True); time.sleep(300)\n"
PRYING = b"""
import glob, json, os
root = os.path.dirname(os.path.dirname(os.environ['RUNSTEAD_RUN_DIR']))
def reads(pattern):
    for path in glob.glob(root + pattern, recursive=True):
        if path.startswith(os.environ['RUNSTEAD_RUN_DIR']) or not os.path.isfile(path):
            continue
        try:
            open(path, 'rb').read(1)
            return True
        except OSError:
            pass
    return False
seen = {part: reads('/' + part + '/**') for part in ('runs', 'builds', 'blobs', 'agent', 'lib')}
seen['tier'] = json.load(open(os.environ['RUNSTEAD_RUN_DIR'] + '/state.json'))['isolation']
seen['home'] = os.access(os.path.expanduser('~/.cache'), os.W_OK)
os.makedirs(os.path.expanduser('~/.cache/somebody'))
print(json.dumps(seen))
"""


@pytest.fixture(scope="module")
def sshd():
    with server(Path("/tmp/runstead-remote"), 2487, "spacehost") as found:
        yield found


@pytest.fixture
def target(workspace, sshd):
    target = ComputeTarget(
        workspace=workspace, name="remote", transport="ssh", slots=3, options={**sshd.options(), "python": "/usr/bin/python3", "sandbox": True}
    )  # fmt: skip
    target.set_credentials({"private_key": sshd.private_key})
    target.save()
    return target


@pytest.fixture
def version(workspace):
    environment = Environment.objects.create(workspace=workspace, name="there")
    return register(environment, Definition(user_managed=True, interpreter_path="/usr/bin/python3").validated())


def log_of(run) -> str:
    stream = LogStream.objects.filter(run=run, name="log").first()
    return Reader(stream).read(0, stream.size).decode() if stream is not None else ""


def test_runs_of_a_remote_machine_are_kept_apart_and_it_is_cleaned(workspace, target, version, sshd):
    def submit(script: bytes):
        config = ScriptRunConfig(script="train.py", grace_seconds=1)
        return make_run(
            workspace, target=target, environment=version, files={"train.py": script}, config=config,
            status=RunStatus.NOT_STARTED,
        )  # fmt: skip

    root = sshd.home / ".runstead"
    sleeper = submit(SLEEPER)
    with attending(target) as attendant:
        until(lambda: "here" in log_of(sleeper), 60)
        prying = submit(PRYING)
        attendant.wake()
        until(lambda: status_of(prying) == RunStatus.COMPLETED, 60, what=log_of(prying))
        seen = json.loads(log_of(prying))
        assert seen["home"]
        if isolation._abi() >= 1:
            assert {part for part, read in seen.items() if read is True} == {"lib", "home"}
            assert seen["tier"] == "landlock"

        # An old left-over goes, what lives stays.
        sleeper.refresh_from_db()
        (leftover,) = (root / "builds").iterdir()
        for folder in (leftover, root / "runs" / sleeper.attempt):
            age(folder, 30)
        ComputeTarget.objects.filter(pk=target.pk).update(clean_requested_at=timezone.now())
        attendant.wake()
        until(lambda: ComputeTarget.objects.get(pk=target.pk).clean_requested_at is None, 30)
        target.refresh_from_db()
        assert target.cleaning["removed"]["builds"] == 1, target.cleaning
        assert target.cleaning["live"] == 1
        assert not leftover.exists()
        assert (root / "runs" / sleeper.attempt / "code" / "outputs" / "mine").exists()
        # The end, asked for as a person would.
        submission.cancel(sleeper, None)
        attendant.wake()
        until(lambda: status_of(sleeper) == RunStatus.CANCELED, 30)
