"""The notebooks of examples/, executed by a kernel as a person's are; and what `RunDetails` is in one."""

import asyncio
import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from tests.environments.sshd import Server, server
from tests.live import ROOT
from tests.sdk.conftest import Home

FOLDER = ROOT / "examples" / "notebooks"


@pytest.fixture(scope="module")
def sshd() -> Iterator[Server]:
    with server(Path("/tmp/runstead-sdk-notebook"), 2269, "nbhost") as found:
        yield found


def execute(home: Home, notebook: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Run all cells in the user's folder; the outputs of each code cell."""
    for name, value in home.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RUNSTEAD_DATA_DIR", raising=False)
    monkeypatch.setenv("IPYTHONDIR", str(home.folder / ".ipython"))
    folder = home.folder / "notebooks"
    if not folder.exists():
        shutil.copytree(FOLDER, folder)
    client = NotebookClient(notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    # In a thread, because a test of the browser may have left a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, client.async_execute()).result()
    return [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]


def text(outputs: Any) -> str:
    return "".join(
        out.get("text", "")
        + str(out.get("data", {}).get("text/plain", ""))
        + str(out.get("data", {}).get("text/html", ""))
        for out in outputs
    )


def test_training_locally(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = execute(home, nbformat.read(FOLDER / "train-locally.ipynb", 4), monkeypatch)
    shown = "\n".join(map(text, outputs))
    assert "Execution Summary" in shown and "epoch 59: loss" in shown
    assert "60 values, from" in shown
    slope = re.search(r'"slope": ([0-9.]+)', shown)
    assert slope and abs(float(slope[1]) - 3) < 0.5, slope
    assert "id='line:1'" in shown
    # The widget: what a front end draws is the state of its model.
    assert any("application/vnd.jupyter.widget-view+json" in out.get("data", {}) for cell in outputs for out in cell)


def test_a_remote_machine(home: Home, sshd: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    key = home.folder / "id_ed25519"
    key.write_text(sshd.private_key)
    key.chmod(0o600)
    notebook = nbformat.read(FOLDER / "remote-target.ipynb", 4)
    cell = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    digest = hashlib.sha256(base64.b64decode(sshd.host_key.split()[1])).digest()
    given = {
        "address": sshd.host, "ssh_port": sshd.port, "username": sshd.user, "private_key_file": str(key),
        "host_key_fingerprint": "SHA256:" + base64.b64encode(digest).decode().rstrip("="),
    }  # fmt: skip
    names = {line.partition(" =")[0] for line in cell.source.splitlines() if " = " in line and not line.startswith("#")}
    assert names == set(given)
    cell.source = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    outputs = execute(home, notebook, monkeypatch)
    shown = "\n".join(map(text, outputs))
    assert "Succeeded" in shown
    assert "local Completed" in shown and "gpu-box Completed" in shown
    assert (home.folder / "notebooks/from-afar/outputs/line.json").is_file()


def test_tracking_interactively(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = execute(home, nbformat.read(FOLDER / "track-interactively.ipynb", 4), monkeypatch)
    assert "/runs/" in text(outputs[1])
    assert "'score'" in text(outputs[2])
    assert "'Completed'" in text(outputs[3]) and "'grid'" in text(outputs[3])
    assert "out of ideas" in text(outputs[4])


SUBMIT = """
import time
from runstead import Environment, Experiment, RunDetails, ScriptRunConfig, Workspace
ws = Workspace.from_config()
run = Experiment(ws, "shown").submit(ScriptRunConfig("line", "train.py", environment="python"))
details = RunDetails(run)
details.show()
run.wait_for_completion()
details._thread.join(20)
assert not details._thread.is_alive()
"""


def test_the_widget_is_live_until_the_run_has_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        SUBMIT
        + "head, bar, metrics, log = details.widget.children\nprint(head.value, bar.value, bar.bar_style, metrics.value, log.value)\n"
    )
    shown = text(execute(home, notebook_of(code), monkeypatch)[0])
    assert ">Completed<" in shown and " 6 success " in shown
    assert "<polyline" in shown and "epoch 59" in shown


def test_without_ipywidgets_it_is_html_that_is_replaced(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import sys; sys.modules['ipywidgets'] = None\n" + SUBMIT
    outputs = execute(home, notebook_of(code), monkeypatch)[0]
    displays = [out for out in outputs if out.output_type == "display_data"]
    assert len(displays) == 1
    # It was shown at the submit, and is now what the last look found.
    html = displays[0].data["text/html"]
    assert ">Completed<" in html and "epoch 59" in html and "<polyline" in html


def notebook_of(code: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
