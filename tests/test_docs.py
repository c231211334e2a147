"""What the documents say is there, is there; what is there is said."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = (ROOT / "studio" / "settings.py").read_text()
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def read_settings() -> set[str]:
    return {
        f"RUNSTEAD_{name}" for name in re.findall(r"\b(?:setting|integer|boolean|listed)\(\s*\"([A-Z_]+)\"", SETTINGS)
    }


def test_every_setting_is_in_the_readme_and_no_other():
    told = set(re.findall(r"`(RUNSTEAD_[A-Z_]+)`", README))
    client = {
        name
        for path in (ROOT / "sdk" / "src").rglob("*.py")
        for name in re.findall(r"RUNSTEAD_[A-Z_]+", path.read_text())
    }
    assert read_settings() <= told
    assert told <= read_settings() | client


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_to_files_lead_somewhere(document):
    prose = re.sub(r"`[^`]*`", "", document.read_text())
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", prose):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_module_that_the_architecture_names_exists():
    text = (ROOT / "docs" / "architecture.md").read_text()
    for path in set(re.findall(r"`((?:studio|environments|runs|sdk|tests)/[\w/{},]+?(?:\.py|/))`", text)):
        if "{" not in path:
            assert (ROOT / path).exists(), path


@pytest.mark.parametrize("target", re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
def test_make_targets_for_people_are_explained(target):
    if target in {"up", "test", "check", "bench", "format", "lock", "migrations", "demo"}:
        assert f"make {target}" in (README + (ROOT / "CONTRIBUTING.md").read_text())


def test_the_contract_names_every_operation_of_the_agent():
    contract = (ROOT / "docs" / "run-directory.md").read_text()
    operations = (ROOT / "environments" / "agent" / "operations.py").read_text()
    for name in re.findall(r"def op_(\w+)", operations):
        assert f"| `{name.replace('_', '.', 1)}` |" in contract or f"| `{name}` |" in contract, name
