"""A root folder that is exchanged for another one loses no run; a person may accept it."""

import pytest

from environments.host import Host
from environments.models import ComputeTarget
from environments.target import RootChanged, accept_new_root, check_root, note_probe
from environments.transports.local import LocalTransport

pytestmark = pytest.mark.django_db


@pytest.fixture
def target(workspace):
    return ComputeTarget.objects.create(workspace=workspace, name="here", transport="local", launcher="process")


def test_a_root_is_remembered_also_after_a_probe(target, tmp_path):
    with Host(LocalTransport(), str(tmp_path / "root")) as host:
        check_root(target, host, in_use=True)
        note_probe(target, host.probe())
        target.refresh_from_db()
        assert target.facts["root_id"] == host.facts["root_id"]
        assert target.facts["cpus"]
        check_root(target, host, in_use=True)


def test_another_folder_in_its_place_stops_what_should_hold_runs_until_it_is_accepted(target, tmp_path):
    root, aside = tmp_path / "root", tmp_path / "aside"
    with Host(LocalTransport(), str(root)) as host:
        check_root(target, host, in_use=False)
        known = host.facts["root_id"]
        root.rename(aside)  # as an unmount does, under a live connection
        with pytest.raises(RootChanged):
            check_root(target, host, in_use=True)
    with Host(LocalTransport(), str(root)) as host:
        with pytest.raises(RootChanged) as raised:
            check_root(target, host, in_use=True)
        assert (raised.value.permanent, raised.value.code) == (True, "root_changed")
        assert str(root) in str(raised.value) and raised.value.fix
        target.refresh_from_db()
        assert target.facts["root_id"] == known
        accept_new_root(target)
        check_root(target, host, in_use=True)
        target.refresh_from_db()
        assert target.facts["root_id"] == host.facts["root_id"] != known


def test_an_empty_target_takes_whatever_folder_is_there(target, tmp_path):
    for name in ("one", "two"):
        with Host(LocalTransport(), str(tmp_path / name)) as host:
            check_root(target, host, in_use=False)
            target.refresh_from_db()
            assert target.facts["root_id"] == host.facts["root_id"]
