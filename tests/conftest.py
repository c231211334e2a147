"""Fixtures of every test: people by their role, a workspace, and another one that none of them belongs to."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from django.test import Client

from studio.accounts.models import User
from studio.workspaces.models import Membership, Role, Workspace
from tests.skips import pytest_make_collect_report, pytest_runtest_makereport  # noqa: F401

# No limit for one example: the machine may be doing something else.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")
PASSWORD = "correct horse battery staple"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes many minutes is for those who ask for it."""
    if not os.environ.get("RUNSTEAD_TEST_LONG"):
        long = [item for item in items if item.get_closest_marker("long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> None:
    """SQLite in a file, as in a studio: the database in memory, which Django takes by itself, knows no waiting for a lock."""
    from django.conf import settings

    for database in settings.DATABASES.values():
        if database["ENGINE"].endswith("sqlite3"):
            suffix = os.environ.get("PYTEST_XDIST_WORKER", "main")
            database.setdefault("TEST", {})["NAME"] = str(settings.DATA_DIR / f"test-{suffix}.sqlite3")


@pytest.fixture(autouse=True)
def plain_settings(settings, tmp_path: Path) -> None:
    """Static files without a manifest, quick password hashes, and one storage folder per test."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        "default": {
            **settings.STORAGES["default"],
            "OPTIONS": {**settings.STORAGES["default"]["OPTIONS"], "location": str(tmp_path / "storage")},
        },
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.LOCAL_ROOT = tmp_path / "local"


@pytest.fixture
def workspace(db: None) -> Workspace:
    return Workspace.objects.create(slug="vision", name="Vision")


@pytest.fixture
def foreign_workspace(db: None) -> Workspace:
    """A workspace that none of the people of the tests belongs to."""
    row = Workspace.objects.create(slug="foreign", name="Foreign")
    Membership.objects.create(
        workspace=row, user=User.objects.create_user("elsewhere@example.test", PASSWORD), role=Role.OWNER
    )
    return row


@pytest.fixture
def person(workspace: Workspace) -> Callable[..., User]:
    """Make a person: ``person(Role.READER)``; ``person(None)`` belongs to no workspace."""

    def make(role: Role | None, email: str = "", **fields: object) -> User:
        name = email or f"{role or 'stranger'}{User.objects.count()}@example.test"
        user = User.objects.create_user(name, PASSWORD, **fields)
        if role is not None:
            Membership.objects.create(workspace=workspace, user=user, role=role)
        return user

    return make


@pytest.fixture
def owner(person: Callable[..., User]) -> User:
    return person(Role.OWNER, "owner@example.test", name="Olive Owner")


@pytest.fixture
def contributor(person: Callable[..., User]) -> User:
    return person(Role.CONTRIBUTOR, "contributor@example.test", name="Cora Contributor")


@pytest.fixture
def reader(person: Callable[..., User]) -> User:
    return person(Role.READER, "reader@example.test", name="Rita Reader")


@pytest.fixture
def stranger(person: Callable[..., User]) -> User:
    """Signed in, and a member of nothing."""
    return person(None, "stranger@example.test")


@pytest.fixture
def client_of() -> Callable[[User | None], Client]:
    """A browser in which this person is signed in; ``client_of(None)`` is a visitor."""

    def make(user: User | None, **kwargs: object) -> Client:
        client = Client(**kwargs)
        if user is not None:
            client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        return client

    return make


@pytest.fixture
def owner_client(owner: User, client_of: Callable[[User | None], Client]) -> Client:
    return client_of(owner)


@pytest.fixture
def contributor_client(contributor: User, client_of: Callable[[User | None], Client]) -> Client:
    return client_of(contributor)


@pytest.fixture
def reader_client(reader: User, client_of: Callable[[User | None], Client]) -> Client:
    return client_of(reader)


@pytest.fixture
def stranger_client(stranger: User, client_of: Callable[[User | None], Client]) -> Client:
    return client_of(stranger)


@pytest.fixture
def visitor_client(db: None, client_of: Callable[[User | None], Client]) -> Client:
    return client_of(None)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """The data directory that the settings of this test session name."""
    from django.conf import settings

    yield Path(settings.DATA_DIR)
