"""The form of an environment, filled in from a pasted text or a file."""

import html
import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from environments.definition import Definition
from environments.formats import to_yaml
from environments.models import Environment
from environments.registry import register

NEW = "/vision/environments/new"
CONDA = """\
name: vision-3
channels:
  - conda-forge
dependencies:
  - python=3.11
  - numpy=1.26
  - pip:
      - wandb==0.18.0
variables:
  OMP_NUM_THREADS: 4
prefix: /home/ada/envs/vision
"""


def filled(client, source="", file=None, url=NEW, **fields):
    data = {"fill": "1", "source": source, "name": "", "kind": "packages", **fields}
    if file is not None:
        data["file"] = SimpleUploadedFile(*file)
    return client.post(url, data)


def shown(answer) -> str:
    return html.unescape(answer.content.decode())


def values(answer) -> dict[str, str]:
    """What the form would send."""
    form = answer.context["form"]
    return {name: str(form[name].value() or "") for name in form.fields}


def test_a_pasted_conda_file_fills_in_the_form_and_the_form_makes_the_environment(contributor_client, workspace):
    answer = filled(contributor_client, CONDA)
    assert answer.status_code == 200
    assert not Environment.objects.filter(workspace=workspace).exists()
    page = shown(answer)
    assert "Filled in from a conda file. Look it over." in page
    assert "the prefix is left out" in page
    assert 'value="conda" checked' in page
    assert 'value="vision-3"' in page
    assert "wandb==0.18.0</textarea>" in page
    assert CONDA not in page
    assert contributor_client.post(NEW, values(answer)).url == "/vision/environments/vision-3/1"
    assert Environment.objects.get(workspace=workspace).versions.get().definition == {
        "python_version": "3.11",
        "packages": ["wandb==0.18.0"],
        "conda_channels": ["conda-forge"],
        "conda_packages": ["numpy=1.26"],
        "variables": {"OMP_NUM_THREADS": "4"},
    }


@pytest.mark.parametrize(
    ("file", "what", "kind", "field", "text"),
    [
        (("requirements.txt", b"numpy==2.0 # x\r\nsix\r\n"), "requirements.txt, read as a requirements file", "packages", "packages", "numpy==2.0\nsix"),
        (("frozen.txt", "numpy\n".encode("utf-16")), "frozen.txt, read as a requirements file", "packages", "packages", "numpy"),
        (("environment.yml", CONDA.encode()), "environment.yml, read as a conda file", "conda", "conda_packages", "numpy=1.26"),
        (("Dockerfile", b"FROM python:3.11\r\nRUN x\r\n"), "Dockerfile, read as a Dockerfile", "dockerfile", "dockerfile", "FROM python:3.11\nRUN x\n"),
        (("e.yaml", b"base_image: python:3.11\nuser_managed: true\n"), "e.yaml, read as an environment's definition", "image", "image", "python:3.11"),
        (("e.json", b'{"definition": {"conda_environment": "ml"}}'), "e.json, read as an environment's definition", "conda_environment", "conda_environment", "ml"),
    ],
)  # fmt: skip
def test_a_file_fills_in_the_form_and_comes_before_what_is_pasted(contributor_client, file, what, kind, field, text):
    answer = filled(contributor_client, "left = from [before", file)
    assert answer.status_code == 200
    assert f"Filled in from {what}. Look it over." in shown(answer)
    assert "left = from [before" not in shown(answer)
    found = values(answer)
    assert (found["kind"], found[field]) == (kind, text)


DEFINITIONS = [
    Definition(packages=("torch==2.4.1",), python_version="3.11", index_url="https://mirror.example.org/simple", docker={"shm_bytes": 2**33}),
    Definition(conda_packages=("numpy=1.26",), conda_channels=("conda-forge",), packages=("six",), variables={"A": "1", "B": "x y"}),
    Definition(user_managed=True, dockerfile="FROM python:3.11\nRUN a \\\n\t&& b  \n", docker={"arguments": ["--init"]}),
    Definition(user_managed=True, base_image="host:5000/a:1", interpreter_path="/opt/python", registry={"address": "host:5000"}),
    Definition(dockerfile="FROM python:3.11\n", packages=("six",), spark={"packages": ["org.a:b_2.13:1.0"]}),
    Definition(user_managed=True, conda_environment="/opt/conda/envs/ml"),
    Definition(user_managed=True, interpreter_path="/usr/bin/python3"),
]  # fmt: skip


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_the_yaml_of_an_environment_makes_the_same_environment_again(contributor_client, workspace, definition):
    text = to_yaml(definition, name="again", description="Ours, «once» more")
    answer = filled(contributor_client, text)
    assert contributor_client.post(NEW, values(answer)).url == "/vision/environments/again/1"
    made = Environment.objects.get(workspace=workspace, name="again")
    assert made.description == "Ours, «once» more"
    assert made.versions.get().definition == definition.to_json()


def test_the_yaml_and_json_that_a_page_shows_can_be_pasted(contributor_client, reader_client, workspace):
    row = Environment.objects.create(workspace=workspace, name="mine", description="Ours")
    register(row, Definition(packages=("six==1.16.0",), variables={"A": "on"}).validated())
    page = reader_client.get("/vision/environments/mine/1")
    for language, text in page.context["snippets"]:
        if language in {"YAML", "JSON"}:
            found = values(filled(contributor_client, text))
            assert (found["name"], found["description"]) == ("mine", "Ours")
            assert (found["packages"], found["variables"]) == ("six==1.16.0", "A=on")


def test_what_was_typed_already_stays_and_a_name_is_not_replaced(contributor_client):
    answer = filled(contributor_client, CONDA, name="my-own", shm_size="2 GB")
    found = values(answer)
    assert found["name"] == "my-own"
    assert found["conda_channels"] == "conda-forge"


def test_a_text_that_cannot_be_read_stays_with_its_lines_named(contributor_client, workspace):
    text = "numpy\n-e .\n<script>alert(1)</script>\n"
    answer = filled(contributor_client, text, name="kept", description="typed")
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "Line 2" in page
    assert "Line 3" in page
    assert "an editable install" in page
    assert "numpy\n-e .\n&lt;script&gt;alert(1)&lt;/script&gt;\n</textarea>" in page
    assert "<script>alert" not in page
    assert values(answer)["name"] == "kept"
    assert values(answer)["description"] == "typed"
    assert values(answer)["packages"] == ""
    assert not Environment.objects.filter(workspace=workspace).exists()


def test_a_file_that_cannot_be_read_is_shown_to_be_mended_and_keeps_its_name(contributor_client):
    bad = "name: x\r\ndependencies: numpy\r\n"
    answer = filled(contributor_client, file=("environment.yml", bad.encode()))
    assert answer.status_code == 422
    page = shown(answer)
    assert "name: x\ndependencies: numpy\n</textarea>" in page
    assert 'name="source_name" value="environment.yml"' in page
    assert "Line 2" in page
    assert "dependencies: expected a list" in page
    # Sent again as text, it is still known for what it is.
    mended = filled(contributor_client, "name: x\n", source_name="environment.yml")
    assert "Filled in from environment.yml, read as" in shown(mended)


@pytest.mark.parametrize(
    ("source", "file", "why"),
    [
        ("", None, "Choose a file, or paste its text here."), (" \n", None, "Choose a file"), ("", ("a.txt", b""), "The text is empty"),
        ("", ("a.txt", b"x" * 1_000_001), "larger than 1,000,000 bytes"), ("x" * 1_000_001, None, "larger than 1,000,000 bytes"),
        ("", ("a.txt", "# für".encode("latin-1")), "is not UTF-8: byte 0xfc"), ("", ("a.txt", b"\x00\x01"), "NUL"),
        ("a: &a [x]\n" + "b: *a\n" * 150_000, None, "anchors and aliases"), ("a: !!python/name:os.system\n", None, "tags (!name)"),
        ("FROM python\nCOPY . /x\n", None, "build context"), ("", ("Dockerfile", b"# nothing\n"), "It is empty. Begin with FROM"),
        ("\n".join(f"p{n} {n}" for n in range(300)), None, "300 lines cannot be used; these are the first 100"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("url", [NEW, "/vision/environments/mine/new"])
def test_what_cannot_be_read_is_said(contributor_client, workspace, source, file, why, url):
    Environment.objects.create(workspace=workspace, name="mine")
    answer = filled(contributor_client, source, file, url)
    assert answer.status_code == 422
    assert why in shown(answer)


def test_a_new_version_is_filled_in_and_keeps_its_name(contributor_client, workspace):
    row = Environment.objects.create(workspace=workspace, name="mine", description="Ours")
    register(row, Definition(packages=("six",)).validated())
    url = "/vision/environments/mine/new"
    answer = filled(contributor_client, CONDA, url=url, description="Ours")
    assert answer.status_code == 200
    assert contributor_client.post(url, values(answer)).url == "/vision/environments/mine/2"
    assert row.versions.get(number=2).definition["conda_packages"] == ["numpy=1.26"]


@pytest.mark.parametrize("value", ["a\nb", "a\nB=c", " a "])
def test_a_variable_that_the_form_cannot_hold_is_told(contributor_client, value):
    text = json.dumps({"name": "x", "variables": {"A": value}})
    assert "cannot be typed here" in shown(filled(contributor_client, text))
    assert "cannot be typed here" not in shown(filled(contributor_client, '{"variables": {"A": "a b"}}'))


def test_readers_and_strangers_fill_in_nothing(reader_client, stranger_client):
    assert filled(reader_client, CONDA).status_code in {403, 404}
    assert filled(stranger_client, CONDA).status_code == 404
