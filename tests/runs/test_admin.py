"""The administration looks at runs and archives them; it makes, deletes and moves none."""

from django.test import Client

from runs.models import Run
from studio.accounts.models import User
from studio.workspaces.models import Workspace
from tests.runs.factory import make_run


def test_runs_and_experiments_are_listed_and_mostly_read_only(db: None, workspace: Workspace) -> None:
    run = make_run(workspace, name="<b>bold</b>")
    client = Client()
    client.force_login(
        User.objects.create_superuser("root@example.test", "x"), backend="django.contrib.auth.backends.ModelBackend"
    )
    for address in ("/admin/runs/run/", "/admin/runs/experiment/", f"/admin/runs/run/{run.pk}/change/"):
        response = client.get(address)
        assert response.status_code == 200
        assert b"<b>bold</b>" not in response.content
    assert f"/vision/runs/{run.number}" in client.get(f"/admin/runs/run/{run.pk}/change/").content.decode()
    for address in ("/admin/runs/run/add/", f"/admin/runs/run/{run.pk}/delete/", "/admin/runs/experiment/add/"):
        assert client.get(address).status_code == 403
    client.post(f"/admin/runs/run/{run.pk}/change/", {"status": "Completed", "name": "new"})
    client.post("/admin/runs/run/", {"action": "archive", "_selected_action": [run.pk]})
    row = Run.objects.get()
    assert row.status == "NotStarted" and row.archived_at is not None
