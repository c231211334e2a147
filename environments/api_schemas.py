"""What the API about environments takes and answers."""

from datetime import datetime
from typing import Any

from ninja import Schema

from studio.rest import Body

REFUSED = frozenset({400, 401, 403, 404, 409, 415, 422, 429})


class EnvironmentMistake(Schema):
    """``line`` and ``text``: where it is, in a list of the definition or in the text that was sent; lines count from 1."""

    field: str
    rule: str
    fix: str
    line: int | None = None
    text: str | None = None


class EnvironmentRefusal(Schema):
    """``application/problem+json``: a mistake for each field, or for each of its lines that is wrong."""

    title: str
    status: int
    detail: str
    errors: list[EnvironmentMistake]


class NewEnvironment(Body):
    """An environment, or the next version of one: either ``definition``, or ``text`` of a file as people have it already.

    ``format``: conda, requirements, dockerfile or definition; left out, it is told from ``file_name`` and the text. ``name`` and
    ``description`` may be said by the text; ``description``: null leaves the one that is there.
    """

    name: str = ""
    description: str | None = None
    definition: dict[str, Any] | None = None
    format: str = ""
    text: str | None = None
    file_name: str = ""


class Version(Schema):
    """A version of an environment. ``labels``: those that point to it; ``versions``: the numbers that are offered, the newest first;
    ``key``: the same for all versions that are one build; ``refreshed``: resolved anew, apart from those with the same definition."""

    name: str
    version: int
    kind: str
    curated: bool
    description: str
    definition: dict[str, Any]
    frameworks: list[str]
    labels: list[str]
    versions: list[int]
    key: str
    refreshed: bool
    created_at: datetime
    created_by: str | None
    archived_at: datetime | None
    environment_archived_at: datetime | None
    url: str


class VersionShown(Version):
    """``runs``: how many runs of the workspace used this version."""

    runs: int


class VersionRegistered(Version):
    """``notes``: what of a text was left out, or read otherwise than its own tool does."""

    notes: list[str]


class Environments(Schema):
    environments: list[Version]
    next: str | None


class VersionNumbered(Schema):
    version: int
    labels: list[str]
    key: str
    refreshed: bool
    created_at: datetime
    created_by: str | None
    archived_at: datetime | None


class Versions(Schema):
    versions: list[VersionNumbered]
    next: str | None


class EnvironmentChecked(Schema):
    """What would be registered."""

    name: str
    description: str
    definition: dict[str, Any]
    kind: str
    key: str
    notes: list[str]


class Difference(Schema):
    """Empty texts: not there."""

    name: str
    old: str
    new: str


class Comparison(Schema):
    """``added``, ``removed``, ``changed``: packages, as installed where ``built``, else as the definitions ask for them; ``asked``: what
    the definitions ask for; ``fields``: what else of them differs. ``platforms``: of the two builds that are compared."""

    old: str
    new: str
    same: bool
    built: bool
    platforms: list[str]
    added: list[Difference]
    removed: list[Difference]
    changed: list[Difference]
    asked: list[Difference]
    fields: list[Difference]


class CloneWanted(Body):
    """``name``: of the copy."""

    name: str = ""


class Build(Schema):
    """An environment made real on one target. ``state``: the status in words, which also says that it is being canceled, or was there
    once; ``python``: the interpreter of runs; ``size`` in bytes; ``waiting_for``: the target that resolves the same packages just now;
    ``packages``: how many are known to be in it; ``attempts``: how often it was begun, each time with a new log."""

    target: str
    status: str
    state: str
    error: str
    waiting_for: str
    canceling: bool
    attempts: int
    python: str
    image: str
    platform: str
    size: int | None
    packages: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    used_at: datetime | None
    url: str


class Builds(Schema):
    builds: list[Build]
    next: str | None


class BuildAsked(Build):
    """``asked``: whether this request changed anything; false where the build was not, or no more, in a state to be."""

    asked: bool


class BuildWanted(Body):
    """``target``: name of the compute target."""

    target: str = "local"


class Package(Schema):
    """``modules``: names that can be imported; ``source``: pip or conda; ``asked``: the definition names it, and it did not come
    along with another."""

    name: str
    version: str
    license: str
    modules: list[str]
    source: str
    asked: bool


class Packages(Schema):
    """``lock``: the same, one exact requirement a line."""

    target: str
    platform: str
    packages: list[Package]
    lock: str
    next: str | None


class Lock(Schema):
    """``platform``: the kind of machine; ``packages``: how many it names."""

    platform: str
    created_at: datetime
    packages: int


class Locks(Schema):
    locks: list[Lock]
    next: str | None
