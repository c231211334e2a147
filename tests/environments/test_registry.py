"""Environments by name: found, registered, refreshed, labelled, archived, cloned."""

import json
import threading

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection

from environments import registry
from environments.definition import Definition
from environments.models import Environment, EnvironmentVersion
from environments.registry import NoSuchEnvironment, Refused
from environments.setup import load_curated
from studio.models import AuditEvent
from tests.environments.building import version_of


def numbers(environment) -> list[int]:
    return [version.number for version in environment.versions.all()]


def actions() -> list[tuple[str, str]]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", "subject"))


# -- names


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("azureml-TUTORIAL", "AzureML-Tutorial"),
        ("AzureML-Minimal", "AzureML-Minimal"),
        ("AzureML-PyTorch-1.6-GPU", "pytorch"),
        ("azureml-pytorch-1.10-ubuntu18.04-py38-cuda11-gpu", "pytorch"),
        ("AzureML-ACPT-pytorch-1.13-py38-cuda11.7-gpu", "pytorch"),
        ("AzureML-TensorFlow-2.3-CPU", "tensorflow"),
        ("AzureML-TensorFlow-2.3-GPU", "tensorflow-gpu"),
        ("AzureML-Scikit-learn-0.20.3", "scikit-learn"),
        ("sklearn", "scikit-learn"),
        ("AzureML-PySpark-MmlSpark-0.15", "pyspark"),
    ],
)
def test_names_that_scripts_of_2020_use_find_the_family(workspace, written, meant):
    load_curated()
    assert registry.named(workspace, written).environment.name == meant


def test_an_own_environment_of_that_name_comes_before_a_curated_ones_alias(workspace):
    load_curated()
    own = version_of(workspace, "six", name="azureml-pytorch-1.6-gpu")
    assert registry.named(workspace, "AzureML-PyTorch-1.6-GPU") == own


def test_a_foreign_workspaces_environment_is_not_found(workspace, foreign_workspace):
    version_of(foreign_workspace, "six", name="theirs")
    with pytest.raises(NoSuchEnvironment, match="There is no environment theirs"):
        registry.named(workspace, "theirs")


def test_a_version_is_named_by_number_by_label_or_is_the_latest(workspace):
    first, second = version_of(workspace, "six"), version_of(workspace, "six", "idna")
    registry.set_label(first, "stable")
    for text, version in (
        ("mine", second), ("MINE:1", first), (" mine : 2 ", second), ("mine@stable", first), ("mine@STABLE", first),
        ("mine:latest", second), ("mine@latest", second),
    ):  # fmt: skip
        assert registry.named(workspace, text) == version, text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mime", r"There is no environment mime\. Did you mean mine\?"),
        ("", "There is no environment"),
        ("mine:7", r"mine has no version 7\. Its newest is 1\."),
        ("mine:", "mine has no version without a number"),
        ("mine:1.5", r"mine has no version 1\.5"),
        ("mine:01", "mine has no version 01"),
        ("mine:٣", "mine has no version ٣"),
        ("mine:" + "9" * 400, "mine has no version 9999"),
        ("mine@prod", r"mine has no label @prod\. It has @stable\."),
        ("mine@", "mine has no label @"),
        ("mine@stable:1", "mine has no label @stable:1"),
        ("x\n" * 300, "There is no environment"),
    ],
)
def test_a_name_that_means_nothing_says_what_there_is(workspace, text, message):
    registry.set_label(version_of(workspace, "six"), "stable")
    with pytest.raises(NoSuchEnvironment, match=message) as raised:
        registry.named(workspace, text)
    assert len(str(raised.value)) < 500


# -- versions


def test_an_unchanged_definition_is_the_latest_version_and_who_made_one_is_kept(workspace, contributor):
    environment = Environment.objects.create(workspace=workspace, name="mine")
    one = registry.register(environment, Definition(packages=("six",)), contributor)
    assert registry.register(environment, Definition(packages=("six",)), contributor) == one
    assert (one.created_by, one.number, one.salt) == (contributor, 1, "")
    assert registry.register(environment, Definition(packages=("six",), variables={"A": "1"}), contributor).number == 2
    assert actions() == [("environment.register", "mine:1"), ("environment.register", "mine:2")]


def test_a_refreshed_version_has_the_same_definition_and_another_key_and_stays_the_latest(workspace, contributor):
    one = version_of(workspace, "six")
    two = registry.refresh(one, contributor)
    assert (two.number, two.definition, two.created_by) == (2, one.definition, contributor)
    assert two.key != one.key
    assert registry.refresh(one).key not in {one.key, two.key}
    # Registering what is there does not go back to the packages of before.
    assert version_of(workspace, "six").number == 3
    assert actions() == [("environment.refresh", "mine:2")]


def test_a_curated_environment_is_cloned_and_not_refreshed(workspace, contributor):
    load_curated()
    curated = registry.named(workspace, "scikit-learn")
    with pytest.raises(Refused, match="Clone it"):
        registry.refresh(curated)
    clone = registry.clone(curated, workspace, "ours", contributor)
    assert (clone.environment.workspace, clone.number, clone.key) == (workspace, 1, curated.key)
    assert clone.environment.description == curated.environment.description
    again = registry.clone(registry.refresh(clone), workspace, "ours-2", contributor)
    assert again.key == registry.latest(clone.environment).key, "a clone begins with the packages of what is cloned"
    assert ("environment.clone", "ours:1") in actions()
    for name, rule in (("OURS", "already"), ("no name", "Use 1 to 255 letters")):
        with pytest.raises(Refused, match=rule) as raised:
            registry.clone(curated, workspace, name, contributor)
        assert set(raised.value.errors) == {"name"}


def test_an_archived_version_is_never_the_latest_and_keeps_its_number(workspace, contributor):
    one, two = version_of(workspace, "six"), version_of(workspace, "six", "idna")
    assert registry.archive_version(two, contributor)
    assert not registry.archive_version(two, contributor)
    assert registry.named(workspace, "mine") == one
    assert registry.named(workspace, "mine:2") == two
    # Registered again it is a version of its own: the archived one was put away for a reason.
    assert version_of(workspace, "six", "idna").number == 3
    assert registry.restore_version(two, contributor)
    assert not registry.restore_version(two, contributor)
    assert actions() == [("environment.archive", "mine:2"), ("environment.restore", "mine:2")]


def test_when_all_versions_are_archived_one_must_be_named(workspace):
    one = version_of(workspace, "six")
    registry.archive_version(one)
    assert registry.latest(one.environment) is None
    with pytest.raises(NoSuchEnvironment, match="All versions of mine are archived"):
        registry.named(workspace, "mine")
    assert registry.named(workspace, "mine:1") == one


@pytest.mark.django_db(transaction=True)
def test_many_that_register_and_refresh_at_once_get_numbers_without_gaps(workspace):
    environment = version_of(workspace, "six").environment
    start, failed = threading.Barrier(8), []

    def act(which: int) -> None:
        try:
            start.wait()
            if which % 2:
                registry.refresh(environment.versions.get(number=1))
            else:
                registry.register(environment, Definition(packages=("six", f"p{which % 4}")))
        except Exception as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=act, args=(which,)) for which in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    found = sorted(numbers(environment))
    assert found == list(range(1, len(found) + 1))
    assert EnvironmentVersion.objects.exclude(salt="").values("key").distinct().count() == 4


# -- labels


def test_a_label_is_moved_and_taken_away(workspace, contributor):
    one, two = version_of(workspace, "six"), version_of(workspace, "six", "idna")
    registry.set_label(one, "stable", contributor)
    registry.set_label(one, "stable", contributor)
    assert registry.set_label(two, "Stable", contributor).name == "stable", "one label, however it is written"
    assert registry.named(workspace, "mine@stable") == two
    assert registry.remove_label(one.environment, "STABLE", contributor)
    assert not registry.remove_label(one.environment, "stable", contributor)
    assert actions() == [
        ("environment.label", "mine:1"),
        ("environment.label", "mine:2"),
        ("environment.unlabel", "mine:2"),
    ]


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "3", "latest", "LATEST", "-x", "a@b", "a\n", "ä"])
def test_what_is_no_label_is_refused_with_the_rule(workspace, name):
    version = version_of(workspace, "six")
    with pytest.raises(Refused) as raised:
        registry.set_label(version, name)
    assert set(raised.value.errors) == {"label"}
    assert not version.environment.labels.exists()


# -- curated files of an administrator


@pytest.fixture
def curated(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    folder = tmp_path / "curated"
    folder.mkdir()

    def write(file: str, **fields) -> None:
        (folder / file).write_text(json.dumps(fields))

    return write


def test_an_administrator_adds_aliases_and_changes_them(workspace, curated):
    curated("house.json", name="house", aliases=["House-*"], definition={"packages": ["six"]})
    load_curated()
    assert registry.named(workspace, "house-2019").environment.name == "house"
    curated("house.json", name="house", aliases=["Villa-*"], definition={"packages": ["six"]})
    load_curated()
    assert registry.named(workspace, "villa-2019").number == 1
    with pytest.raises(NoSuchEnvironment):
        registry.named(workspace, "house-2019")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"aliases": "House-*"}, "aliases: expected a list of texts"),
        ({"aliases": ["*"]}, "found under almost every name"),
        ({"aliases": ["a b"]}, "is no pattern of a name"),
        ({"aliases": ["x" * 300]}, "is no pattern of a name"),
        ({"aliases": [f"a{n}" for n in range(200)]}, "200 of them; the limit is 100"),
        ({"aliases": ["SKLEARN"]}, "sklearn is scikit-learn already"),
        ({"aliases": ["PyTorch"]}, "pytorch is pytorch already"),
        ({"alias": ["x1"]}, "alias is not known"),
    ],
)
def test_aliases_that_cannot_be_are_refused_with_the_file_and_the_rule(workspace, curated, fields, message):
    curated("house.json", name="house", definition={"packages": ["six"]}, **fields)
    with pytest.raises(ImproperlyConfigured, match=rf"house\.json: .*{message}.*(Mend the file|Use another)"):
        load_curated()
