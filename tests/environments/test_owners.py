"""A lease of a process that is proven dead is free at once; every doubt leaves it to its holder."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from environments.models import Lease
from environments.owners import is_gone, own_name
from tests.runs.factory import make_target
from tests.waiting import until

NAMING = "from environments.owners import own_name; print(own_name(), flush=True); import time; time.sleep(60)"


@pytest.fixture
def other():
    """A process that can hold leases, and its name."""
    process = subprocess.Popen([sys.executable, "-c", NAMING], stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()


def test_a_living_process_is_not_gone_however_long_it_is_frozen(other):
    process, name = other
    assert not is_gone(own_name())
    assert not is_gone(name)
    process.send_signal(signal.SIGSTOP)
    assert not is_gone(name)


def test_a_killed_process_is_gone_before_anybody_has_buried_it(other):
    process, name = other
    process.kill()
    until(lambda: is_gone(name), 5)
    assert process.returncode is None
    process.wait()
    assert is_gone(name)


def test_a_number_that_another_process_was_given_does_not_keep_the_dead_alive():
    boot, space, pid, start, rest = own_name().split(".")
    assert is_gone(".".join([boot, space, pid, str(int(start) - 1), rest]))


@pytest.mark.parametrize("change", [{0: "another-boot"}, {1: "1"}])
def test_nothing_is_known_of_another_machine_or_container(change, other):
    process, name = other
    process.kill()
    process.wait()
    parts = name.split(".")
    for place, text in change.items():
        parts[place] = text
    assert not is_gone(".".join(parts))


@pytest.mark.parametrize("missing", ["boot_id", "pid"])
def test_a_system_that_does_not_tell_its_machines_apart_proves_nothing(missing, other, monkeypatch):
    process, name = other
    process.kill()
    process.wait()
    real = {"boot_id": Path.read_text, "pid": Path.stat}[missing]

    def refuse(path, *args, **kwargs):
        if path.name == missing:
            raise FileNotFoundError(path)
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, real.__name__, refuse)
    assert not is_gone(name)
    assert not is_gone(own_name())
    assert own_name().split(".")[0] != own_name().split(".")[0]


@pytest.mark.parametrize("name", ["", "host-123-abc", "a.b.c.d.e", "...."])
def test_other_names_are_nobody_that_can_be_looked_up(name):
    assert not is_gone(name)


def test_names_fit_their_column_and_differ():
    assert len(own_name()) <= Lease._meta.get_field("owner").max_length
    assert own_name() != own_name()


def test_the_lease_of_the_dead_is_taken_at_once_and_that_of_the_living_is_not(workspace, other):
    process, name = other
    target = make_target(workspace)
    first = Lease.take(target.pk, name)
    assert Lease.take(target.pk, own_name()) is None
    assert Lease.attended() == {target.pk}
    process.kill()
    process.wait()
    assert Lease.attended() == set()
    second = Lease.take(target.pk, own_name())
    assert second == first + 1
    assert not Lease.holds(target.pk, first)
    assert Lease.objects.get(pk=target.pk).expires_at > timezone.now() + timedelta(seconds=3)
    assert os.getpid() == int(Lease.objects.get(pk=target.pk).owner.split(".")[2])
