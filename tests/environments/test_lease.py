"""One owner of a target at a time, whatever races for it; run under SQLite, and by tests/faults/test_postgres.py under PostgreSQL."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.utils import timezone

from environments.models import ComputeTarget, Lease
from studio.workspaces.models import Workspace
from tests.waiting import until

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def target():
    workspace = Workspace.objects.create(slug="leases", name="Leases")
    return ComputeTarget.objects.create(workspace=workspace, name="contended")


def at_once(count, work):
    """Run ``work(number)`` in so many threads that begin together; what each returned."""
    barrier = threading.Barrier(count)

    def guarded(number):
        barrier.wait(10)
        try:
            return work(number)
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(guarded, range(count)))


def test_of_many_takers_one_gets_the_lease_each_round_with_a_greater_token(target):
    last = 0
    for _ in range(5):
        taken = [token for token in at_once(8, lambda n: Lease.take(target.pk, f"owner-{n}")) if token is not None]
        assert len(taken) == 1 and taken[0] > last
        last = taken[0]
        Lease.release(target.pk, last)


def test_of_many_robbers_of_an_expired_lease_one_wins_and_the_old_owner_has_lost(target):
    old = Lease.take(target.pk, "old")
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    taken = [token for token in at_once(8, lambda n: Lease.take(target.pk, f"robber-{n}")) if token is not None]
    assert len(taken) == 1
    assert Lease.renew("old", {target.pk: old}) == set()
    with transaction.atomic():
        assert not Lease.holds(target.pk, old)
        assert Lease.holds(target.pk, taken[0])


def test_who_holds_the_lease_inside_a_transaction_keeps_it_until_the_commit(target):
    """Between the question whether the token is the newest and the commit of what it allowed, nobody else gets a token."""
    token = Lease.take(target.pk, "writer")
    Lease.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    moments = {}

    def rob():
        try:
            assert Lease.take(target.pk, "robber") == token + 1
            moments["robbed"] = time.monotonic()
        finally:
            connection.close()

    thread = threading.Thread(target=rob)
    with transaction.atomic():
        assert Lease.holds(target.pk, token)
        thread.start()
        time.sleep(0.3)  # time for the robber to get ahead, if it could
        assert "robbed" not in moments
        moments["written"] = time.monotonic()
    until(lambda: "robbed" in moments, 10)
    thread.join()
    assert moments["robbed"] > moments["written"]


@pytest.mark.parametrize("hours", [-1, 1])
def test_machines_whose_clocks_differ_do_not_take_each_others_leases(target, monkeypatch, hours):
    """With SQLite there is one machine, and what looks like another's is its own from before its clock was set."""
    token = Lease.take(target.pk, "holder")
    real = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: real() + timedelta(hours=hours))
    if connection.vendor == "sqlite":
        assert Lease.take(target.pk, "the same machine") == token + 1
    else:
        assert Lease.take(target.pk, "other") is None and Lease.attended() == {target.pk}
        assert Lease.renew("holder", {target.pk: token}) == {target.pk}
        monkeypatch.undo()
        assert Lease.take(target.pk, "other") is None
