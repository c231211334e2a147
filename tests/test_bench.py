"""A part of the benchmark that cannot be measured is told, and costs nothing of the others."""

import json
import sys
from types import SimpleNamespace

import pytest

from tests.bench import __main__ as bench
from tests.bench import docker
from tests.bench.report import Lacking


def test_a_part_without_its_server_and_one_that_breaks_leave_the_others_measured(monkeypatch, tmp_path, capsys):
    def lacks(report, folder):
        raise Lacking("no Docker engine:\ninstall docker.io")

    def breaks(report, folder):
        report.add("begun", "s", [1.0])
        raise ValueError("a bug")

    parts = {
        "ssh": lacks,
        "docker": breaks,
        "runs": lambda report, folder: report.add("run", "ms", [3.0, 4.0], goal="≤ 5"),
    }
    monkeypatch.setattr(bench, "import_module", lambda name: SimpleNamespace(measure=parts[name.rpartition(".")[2]]))
    monkeypatch.setattr(sys, "argv", ["bench", *parts])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert ended.value.code == 1
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["ssh"] == {"not measured": "no Docker engine: install docker.io"}
    assert found["docker"] == {"not measured": "it broke: a bug"}
    assert (found["begun"]["median"], found["run"]["median"], found["run"]["goal"]) == (1.0, 3.5, "≤ 5")
    assert "ssh: not measured: no Docker engine: install docker.io" in capsys.readouterr().out


def test_only_what_lacks_is_no_failure(monkeypatch, tmp_path):
    def lacks(report, folder):
        raise Lacking("no SSH server")

    monkeypatch.setattr(bench, "import_module", lambda name: SimpleNamespace(measure=lacks))
    monkeypatch.setattr(sys, "argv", ["bench", "ssh"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        bench.main()
    assert not ended.value.code


def test_the_part_of_containers_needs_an_engine_and_says_so(monkeypatch, tmp_path):
    script = tmp_path / "docker.sh"
    script.write_text("#!/bin/sh\necho 'docker.sh: needs root' >&2; exit 1\n")
    script.chmod(0o755)
    monkeypatch.setattr(docker, "SCRIPT", script)
    with pytest.raises(Lacking, match="needs root"):
        docker.measure(None, tmp_path)
