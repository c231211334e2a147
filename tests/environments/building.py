"""What tests of builds share: an environment registered, and its build driven to the end as the attendant does it."""

import os

from environments import builds
from environments.definition import Definition
from environments.host import Host
from environments.models import Build, Environment
from environments.registry import register
from tests.environments.test_builders import make_wheel
from tests.waiting import until


def only_wheels(folder, monkeypatch) -> None:
    """Packages come from a folder of wheels alone."""
    make_wheel(folder)
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)


def version_of(workspace, *packages: str, name: str = "mine", **fields):
    environment, _ = Environment.objects.get_or_create(workspace=workspace, name=name)
    return register(environment, Definition(packages=packages, **fields).validated())


def ended(host: Host, build: Build) -> dict:
    """Wait for the end of the build's attempt: its evidence."""

    def look():
        found = host.inspect([build.attempt])[build.attempt]
        return found if found["exit"] or (found["claimed"] and found["sup"] == "free") else None

    return until(look, 90, what="the build's end")


def make(build: Build, host: Host) -> str:
    """Build to the end, as the attendant does; the log."""
    builds.new_attempt(build)
    builds.begin(build, host, build.target)
    record = ended(host, build)["exit"]
    log = host.read(build.attempt, "log")
    builds.finish(build, record, log)
    build.refresh_from_db()
    return log.decode()
