"""Files that people have already, read as definitions: what is taken, what is refused, and at which line."""

import json
import tracemalloc

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from runstead import definitions
from runstead.environment import Environment

from environments import documents, formats
from environments.definition import Definition, DefinitionError
from environments.formats import FormatError, read, to_yaml


@pytest.fixture(params=["libyaml", "python"])
def loader(request, monkeypatch):
    """Both of PyYAML's parsers: where libyaml is missing, Python reads."""
    if request.param == "python":
        monkeypatch.setattr(documents, "_LOADER", yaml.SafeLoader)
    elif not yaml.__with_libyaml__:
        pytest.skip("PyYAML is without libyaml here")


def refused(text, *args, **kwargs) -> FormatError:
    with pytest.raises(FormatError) as caught:
        read(text, *args, **kwargs)
    return caught.value


def only_line(text, *args, **kwargs) -> tuple[int, str, str]:
    (line,) = refused(text, *args, **kwargs).lines
    return line


# -- requirements ----------------------------------------------------------------------------------------------------------

REQUIREMENTS = """\
# What the models need
numpy==2.0   # pinned

torch>=2,<3; sys_platform == 'linux'
--extra-index-url https://wheels.example.org/cu124
pandas \\
    >=2
--index-url=https://mirror.example.org/simple
"""


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_requirements_file_is_read_with_its_indexes_which_are_told(ends, mark):
    found = read(mark + REQUIREMENTS.replace("\n", ends))
    assert found.kind == "requirements"
    assert found.definition.to_json() == {
        "packages": ["numpy==2.0", "torch>=2,<3; sys_platform == 'linux'", "pandas >=2"],
        "index_url": "https://mirror.example.org/simple",
        "extra_index_urls": ["https://wheels.example.org/cu124"],
    }
    assert found.notes == [
        "Line 5: packages may also come from https://wheels.example.org/cu124.",
        "Line 8: packages come from https://mirror.example.org/simple instead of the target's own index.",
    ]


BAD_LINES = [
    ("-i https://ada:secret@host.example/simple", "index_url", "holds credentials"),
    ("--index-url https://token@host.example/simple", "index_url", "holds credentials"),
    ("--extra-index-url https://ada:secret@host.example/simple", "extra_index_urls", "holds credentials"),
    ("--index-url https://host.example/$TOKEN/simple", "index_url", "'$'"),
    ("--index-url https://host.example/simple?token=1", "index_url", "'?' or '#'"),
    ("--index-url file:///srv/wheels", "index_url", "https://"),
    ("--index-url ../wheels", "index_url", "https://"),
    ("-i", "index_url", "needs one address"),
    ("--index-url=", "index_url", "needs one address"),
    ("-i https://a.example/x --extra-index-url https://b.example/x", "index_url", "a line of its own"),
    ("-e .", "packages", "editable"),
    ("--editable git+https://host.example/x", "packages", "editable"),
    ("-r other.txt", "packages", "Paste its lines here"),
    ("-c constraints.txt", "packages", "Paste its lines here"),
    ("--find-links /wheels", "packages", "--find-links"),
    ("--pre", "packages", "not an option known here"),
    ("--no-binary :all:", "packages", "not an option known here"),
    ("numpy==2.0 --hash=sha256:aa", "packages", "hashes"),
    ("numpy==2.0 \\\r\n    --hash=sha256:aa \\\r\n    --hash=sha256:bb", "packages", "hashes"),
    ("x @ https://ada:secret@host.example/x-1.0-py3-none-any.whl", "packages", "credentials"),
    ("git+https://host.example/x.git", "packages", "version-control"),
    ("./wheels/x.whl", "packages", "path on a machine"),
    ("numpy; $(touch /tmp/evil)", "packages", "not expanded"),
    ("num py", "packages", "PEP 508"),
    ("numpy=1.26.4=py311h_0", "packages", "PEP 508"),
    ("a" + " " * 150_000 + "b", "packages", "longer than 1,000"),
]


@pytest.mark.parametrize(("line", "field", "why"), BAD_LINES)
def test_a_line_of_requirements_that_cannot_be_used_is_named_with_the_fix(line, field, why):
    error = refused(f"# first\r\n\r\npandas\r\n{line}\r\n", "requirements")
    ((number, shown, message),) = error.lines
    assert (number, shown) == (4, line.split("\r\n")[0].strip()[:200])
    assert why in message
    assert error.errors == {field: f"Line 4: {message}"}
    assert error.by_field == {field: error.lines}
    assert error.elsewhere == {}


def test_every_bad_line_is_named_at_once_and_doubles_by_the_lines_of_the_file():
    text = "# a\nnumpy\n-e .\n\n-i https://a.example/x\n-i https://b.example/x\nNumPy>2\n"
    assert [(number, message.split(". ")[0]) for number, _, message in refused(text).lines] == [
        (3, "-e: an editable install needs a folder on the target"),
        (6, "an index is already on line 5"),
        (7, "NumPy is already on line 2"),
    ]
    further = "# a\n\n--extra-index-url https://a.example/x\nnumpy\n--extra-index-url https://a.example/x\n"
    number, _, message = only_line(further)
    assert number == 5
    assert "on line 3 already" in message


def test_too_many_indexes_are_refused_where_they_begin():
    text = "six\n" + "".join(f"--extra-index-url https://host.example/{n}\n" for n in range(21))
    number, _, message = only_line(text)
    assert number == 2
    assert "the limit is 20" in message


def test_only_packages_count_for_the_limit_of_lines():
    found = read("# why\n\n" * 3_000 + "numpy\n")
    assert found.definition.packages == ("numpy",)
    number, shown, message = only_line("# names\n" + "".join(f"p{n}\n" for n in range(2_001)), "requirements")
    assert (number, shown) == (2_002, "p2000")
    assert "more than 2,000 lines" in message


def test_a_file_of_comments_asks_for_a_clean_environment_and_says_so():
    found = read("# nothing yet\n")
    assert found.definition == Definition()
    assert found.notes == ["It names no packages: the environment is a clean one."]


# -- conda's files ---------------------------------------------------------------------------------------------------------

CONDA = """\
name: vision
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python=3.11
  - numpy=1.26
  - conda-forge::pytorch>=2.4
  - pip
  - pip:
      - --index-url https://mirror.example.org/simple
      - wandb==0.18.0
variables:
  OMP_NUM_THREADS: 4
  DEBUG: on
  VERSION: 3.10
prefix: /home/ada/miniconda3/envs/vision
"""


@pytest.mark.usefixtures("loader")
def test_a_conda_file_is_read_as_its_values_are_written():
    found = read(CONDA)
    assert (found.kind, found.name, found.description) == ("conda", "vision", "")
    assert found.definition.to_json() == {
        "python_version": "3.11",
        "packages": ["wandb==0.18.0"],
        "index_url": "https://mirror.example.org/simple",
        "conda_channels": ["conda-forge"],
        "conda_packages": ["numpy=1.26", "conda-forge::pytorch>=2.4"],
        "variables": {"OMP_NUM_THREADS": "4", "DEBUG": "on", "VERSION": "3.10"},
    }
    assert found.notes == [
        "The channel nodefaults is left out: no channels are used but those that are named.",
        "Line 11: packages come from https://mirror.example.org/simple instead of the target's own index.",
        "Line 17: the prefix is left out. Each target has its own folder for environments.",
    ]


PIP_ALONE = "name: a\nchannels: [conda-forge]\ndependencies:\n  - python=3.11\n  - pip>=23\n  - pip:\n    - six\n"


@pytest.mark.parametrize(
    ("text", "definition"),
    [
        (PIP_ALONE, {"python_version": "3.11", "packages": ["six"]}),
        ("dependencies: [python, pip, {pip: [six]}]", {"packages": ["six"]}),
        ("dependencies: [python=3.10.4]", {"python_version": "3.10.4"}),
        ("dependencies: [python==3.10.4]", {"python_version": "3.10.4"}),
        ("dependencies: [python 3.10.*]", {"python_version": "3.10"}),
        ("dependencies:\n- pip:\n", {}),
        ("dependencies:\nchannels:\n- defaults\n", {}),
        # What pip alone cannot promise stays conda's.
        ("dependencies: ['python>=3.10', pip: [six]]", {"conda_packages": ["python>=3.10"], "packages": ["six"]}),
        ("dependencies: [conda-forge::python=3.11]", {"conda_packages": ["conda-forge::python=3.11"]}),
        ("dependencies: [python=3.11=h1_0]", {"conda_packages": ["python=3.11=h1_0"]}),
        ("dependencies: [numpy, pip]", {"conda_packages": ["numpy", "pip"]}),
        ("dependencies: [numpy, pip=24, pip: [six]]", {"conda_packages": ["numpy", "pip=24"], "packages": ["six"]}),
        ('{"dependencies": ["numpy"], "name": "j"}', {"conda_packages": ["numpy"]}),
    ],
)  # fmt: skip
def test_python_and_pip_alone_become_an_environment_of_pip_packages(text, definition):
    assert read(text, "conda").definition.to_json() == definition


@pytest.mark.parametrize(
    "text", [CONDA.replace("  - nodefaults\n", ""), PIP_ALONE, "dependencies: [numpy, pip: [six]]\n"]
)
def test_the_same_file_means_the_same_to_the_sdk(tmp_path, text):
    path = tmp_path / "environment.yml"
    path.write_text(text.replace("on\n", "'on'\n").replace(": 3.10", ": '3.10'"))
    theirs = definitions.definition(Environment.from_conda_specification("x", path))
    assert Definition.from_json(theirs).validated().key() == read(text).definition.key()
    assert theirs == read(text).definition.to_json()


BAD_CONDA = [
    ("dependencies: numpy\n", 1, "dependencies: expected a list, one package a line behind '- ', got a text"),
    ("name: x\ndependencies:\n  numpy: 1\n", 3, "dependencies: expected a list"),
    ("dependencies:\n- pip:\n    a: b\n", 3, "pip: expected a list"),
    ("dependencies:\n- pip: six\n", 2, "pip: expected a list"),
    ("dependencies:\n- npm: [x]\n", 2, "'npm' is not a list in dependencies"),
    ("dependencies:\n- numpy\n-\n", 3, "an item without a text"),
    ("dependencies:\n- numpy\n- 3.11\n", 3, "an item must be a text, not a number"),
    ("dependencies:\n- numpy\n- [a]\n", 3, "an item must be a text, not a list"),
    ("dependencies:\n- numpy\n- yes\n", 3, "an item must be a text, not true or false"),
    ("dependencies:\n  - numpy\n    - pandas\n", 2, "line 3 goes on with it"),
    ("dependencies:\n- numpy\n# again\n- NumPy=1.26\n", 4, "numpy is already on line 2"),
    ("dependencies:\n- python=3.11\n- numpy\n- python>=3.10\n", 4, "python is already on line 2"),
    ("dependencies:\n- numpy\n- 'nonsense ('\n", 3, "is not a"),
    ("dependencies:\n- python=2.7\n", 2, "'2.7' is not a Python version"),
    ("dependencies:\n- six=1 # x\n- pip:\n  - six\n  - -r requirements.txt\n", 5, "Paste its lines here"),
    ("dependencies:\n- pip:\n  - six\n  - -e .\n", 4, "editable"),
    ("dependencies:\n- pip:\n  - six\n\n  - six>1\n", 5, "six is already on line 3"),
    ("dependencies:\n- pip:\n  - -i https://ada:secret@host.example/simple\n", 3, "holds credentials"),
    ("channels:\n- https://host.example/t/token123/x\ndependencies: [numpy]\n", 2, "token"),
    ("channels:\n- https://ada:secret@host.example/x\ndependencies: [numpy]\n", 2, "credentials"),
    ("channels:\n- conda-forge\n\n- conda-forge\ndependencies: [numpy]\n", 4, "on line 2 already"),
    ("channels: conda-forge\ndependencies: [numpy]\n", 1, "expected a list of texts"),
    ("dependencies: [numpy]\nvariables:\n  A: 1\n  PATH: /x\n", 4, "PATH is set by the studio"),
    ("dependencies: [numpy]\nvariables:\n  A:\n", 3, "A has no value"),
    ("dependencies: [numpy]\nvariables: [A]\n", 2, "expected names with values"),
    ("dependencies: [numpy]\nvariables:\n  A: [x]\n", 3, "expected a text, got a list"),
    ("dependencies: [numpy]\nplatforms: [linux-64]\n", 2, "'platforms' is not a field of a conda file"),
    ("dependancies: [numpy]\nchannels: [x]\n", 1, "Did you mean dependencies?"),
    ("dependencies: [numpy]\nname: [x]\n", 2, "name: expected a text, got a list"),
    ("- numpy\n- pandas\n", 1, "names with values are expected, not a list"),
    ("%YAML 1.1\n---\nnumpy\n", 3, "names with values are expected, not a text"),
]  # fmt: skip


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("text", "line", "why"), BAD_CONDA)
def test_what_is_wrong_in_a_conda_file_is_named_at_its_line(text, line, why):
    number, shown, message = only_line(text, "conda", "environment.yml")
    assert (number, shown) == (line, text.split("\n")[line - 1].strip())
    assert why in message


def test_wrong_lines_of_conda_and_of_pip_are_named_together():
    text = "channels: [a b]\ndependencies:\n- numpy>=\n- pip:\n  - -e .\n  - pan das\n"
    error = refused(text)
    assert [number for number, _, _ in error.lines] == [1, 3, 5, 6]
    assert set(error.errors) == {"conda_channels", "conda_packages", "packages"}
    assert error.errors["packages"].startswith("Line 5: ")
    assert error.errors["packages"].endswith("(1 more)")


def test_a_line_of_spaces_is_answered_as_soon_as_any_other():
    """A comment was once looked for behind every space of it: a megabyte took days."""
    number, _, message = only_line("dependencies:\n- 'a" + " " * 900_000 + "b'\n", "conda")
    assert number == 2
    assert "longer than 500 characters" in message


# -- Dockerfiles -----------------------------------------------------------------------------------------------------------


def test_a_dockerfile_is_an_image_used_as_it_is():
    found = read(b"# syntax=docker/dockerfile:1\r\nFROM python:3.11-slim\r\nRUN pip install six\r\n")
    assert found.kind == "dockerfile"
    assert found.definition.to_json() == {
        "user_managed": True,
        "dockerfile": "# syntax=docker/dockerfile:1\nFROM python:3.11-slim\nRUN pip install six\n",
    }
    assert found.definition.kind == "image"


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("FROM python:3.11\n\nRUN echo \\\n  hi\nCOPY . /app\n", 5, "build context"),
        ("FROM python:3.11\nRUM x\n", 2, "Did you mean RUN?"),
        ("RUN pip install six\n", 1, "RUN comes before FROM"),
        ("# nothing\n", 1, "It is empty. Begin with FROM"),
    ],
)
def test_what_is_wrong_in_a_dockerfile_is_named_at_its_line(text, line, why):
    number, _, message = only_line(text, file_name="Dockerfile")
    assert number == line
    assert why in message


# -- definitions -----------------------------------------------------------------------------------------------------------

OURS = """\
name: vision-3
description: Ours
python_version: 3.10
packages:
  - torch==2.4.1
dockerfile: |
  FROM python:3.10-slim
  RUN apt-get update
user_managed: false
docker:
  shm_bytes: 8589934592
  arguments:
    - --ulimit memlock=-1
spark:
  repositories: [https://repo.example.org/maven]
variables: {A: 1}
index_secret:
"""


@pytest.mark.usefixtures("loader")
def test_a_definition_is_read_from_yaml_with_numbers_as_they_are_written():
    found = read(OURS)
    assert (found.kind, found.name, found.description) == ("definition", "vision-3", "Ours")
    assert found.definition.to_json() == {
        "python_version": "3.10",
        "packages": ["torch==2.4.1"],
        "dockerfile": "FROM python:3.10-slim\nRUN apt-get update\n",
        "docker": {"shm_bytes": 8589934592, "arguments": ["--ulimit memlock=-1"]},
        "spark": {"repositories": ["https://repo.example.org/maven"]},
        "variables": {"A": "1"},
    }


def test_a_definition_is_read_from_json_beside_its_name_or_below_it():
    inner = {"user_managed": True, "interpreter_path": "/usr/bin/python3", "variables": {"A": "ü😀"}}
    for data in ({"name": "x", **inner}, {"name": "x", "description": None, "definition": inner}):
        for text in (json.dumps(data), json.dumps(data, indent="\t", ensure_ascii=False)):
            found = read(text)
            assert (found.kind, found.name) == ("definition", "x")
            assert found.definition.to_json() == inner
    assert read('{"python_version": 3.10}').definition.python_version == "3.10"


BAD_OURS = [
    ("packages: numpy\n", 1, "packages: expected a list of texts"),
    ("packages:\n- numpy\n- num py\n", 3, "PEP 508"),
    ("packages: [\n  numpy,\n  -e .,\n]\n", 3, "editable"),
    ("name: x\npakages: [numpy]\n", 2, "'pakages' is not a field of an environment. Did you mean packages?"),
    ("name: x\nconda_chanels: [numpy]\n", 2, "Did you mean conda_channels?"),
    ("user_managed: 'true'\n", 1, "user_managed: expected true or false, got a text"),
    ("user_managed: true\npackages: [six]\n", 2, "nothing is installed"),
    ("python_version: '2.7'\n", 1, "not a Python version"),
    ("base_image: python:3.11\ndockerfile: |\n  FROM x\n", 1, "FROM names the image"),
    ("name: x\ndockerfile: |\n  FROM x\n\n  RUM y\n", 5, "Did you mean RUN?"),
    ('dockerfile: "FROM x\\nRUM y"\n', 1, "in its line 2: 'RUM'"),
    ("docker:\n  shm_bytes: 100\n", 2, "no size of shared memory"),
    ("docker:\n  shm_bytes: 2 GB\n", 2, "no size of shared memory"),
    ("docker:\n  arguments:\n  - --init\n  - --privileged\n", 4, "rights over the machine"),
    ("docker:\n  gpus: 1\n", 2, "not known"),
    ("docker: [x]\n", 1, "expected names with values"),
    ("registry:\n  address: registry.example.org\n  username: ada\n  password: hunter2\n  secret: x\n", 4, "A password is never part"),
    ("registry:\n  address: https://registry.example.org\n", 2, "not a host"),
    ("spark:\n  packages:\n  - org.example:a:1\n  - nonsense\n", 4, "group:artifact:version"),
    ("spark:\n  packages: org.example:a:1\n", 2, "expected a list of texts"),
    ("spark: x\n", 1, "expected names with values"),
    ("variables:\n  1A: x\n", 2, "not a variable's name"),
    ("extra_index_urls:\n- https://a.example/x\n- https://ada:secret@b.example/x\n", 3, "credentials"),
    ("name: x\ndefinition: 3\n", 2, "definition: expected the fields of a definition, got a number"),
    ("definition:\n  pakages: []\n", 2, "'pakages' is not a field of a definition"),
    ("definition:\n  packages: []\npackages: []\n", 3, "'packages' is not a field of an environment"),
    ('{\n"name": "x",\n"definition": {"packages": ["six"],\n"packges": []}}', 4, "Did you mean packages?"),
    ('{"packages": [\n"six",\n"-e ."\n]}', 3, "editable"),
    ('{"packages": [\n1]}', 2, "an item must be a text, not a number"),
]  # fmt: skip


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("text", "line", "why"), BAD_OURS)
def test_what_is_wrong_in_a_definition_is_named_at_its_line(text, line, why):
    number, shown, message = only_line(text)
    assert (number, shown) == (line, text.split("\n")[line - 1].strip())
    assert why in message


# -- YAML and JSON that are none, or that are more than is read ---------------------------------------------------------------

BAD_YAML = [
    ("a: &x [1]\n", 1, "anchors and aliases"),
    ("name: x\npackages: *x\n", 2, "anchors and aliases"),
    ("name: x\n<<: *x\n", 2, "anchors and aliases"),
    ("name: !!python/object/apply:os.system ['touch /tmp/evil']\n", 1, "tags (!name)"),
    ("name: x\npackages: !!set {a}\n", 2, "tags (!name)"),
    ("name: !mine x\n", 1, "tags (!name)"),
    ("%TAG ! tag:example.org,2000:\n---\nname: !x y\n", 3, "tags (!name)"),
    ("name: x\nname: y\n", 2, "name is there twice, first on line 1"),
    ("variables:\n  A: 1\n  A: 2\n", 3, "A is there twice, first on line 2"),
    ("name: x\n---\nname: y\n", 2, "a second document"),
    ("? [a, b]\n: c\n", 1, "a name is expected before the ':', not a list"),
    ("variables: {a: {b: {c: {d: {e: {f: {g: {h: {i: {j: {k: {l: 1}}}}}}}}}}}}\n", 1, "nested more than 12"),
    ("name: x\npackages:\n\t- six\n", 3, "indented with a tab"),
    ("name: @x\n", 1, "'@' cannot begin a value"),
    ("name: a: b\n", 1, "a ':' too many"),
    ("name: 'x\npackages: []\n", 1, "not closed"),
    ("name: [x\npackages: []\n", 2, "opened on line 1"),
    ("packages:\n  - six\n - numpy\n", 3, "begins in the same column"),
    ('name: "\\q"\n', 1, "this is no YAML: found unknown escape character"),
    ('name: "a\\0b"\n', 1, "NUL"),
    ("name: x\npackages\n", 2, "a ':' is missing"),
]


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize(("text", "line", "why"), BAD_YAML)
def test_yaml_that_is_none_or_more_than_is_read_is_refused_at_its_line(text, line, why):
    number, shown, message = only_line(text, "definition")
    assert (number, shown) == (line, text.split("\n")[line - 1].strip())
    assert why in message


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ('{"name": "x",\n}', 2, "a name in quotes"), ('{"name" "x"}', 1, "a ':' is missing"), ('{"name": x}', 1, "a value is expected"),
        ('{"name": "x"\n"packages": []}', 2, "opened on line 1"), ('{"packages": ["a" "b"]}', 1, "opened on line 1"),
        ('{"name": "x"} {}', 1, "something follows"), ('{"name": "x', 1, "unterminated string"), ('{"name": "\\q"}', 1, "invalid \\escape"),
        ('{"name": 01}', 1, "a value is expected"), ('{"name": NaN}', 1, "a value is expected"), ('{\n"a": "\\ud800"}', 2, "surrogate"),
        ('{"name": "x",\n"name": "y"}', 2, "name is there twice"), ('{"name":', 1, "a value is expected"),
        ('{"a":' + "[" * 20 + "]" * 20 + "}", 1, "nested more than 12"),
    ],
)  # fmt: skip
def test_json_that_is_none_is_refused_at_its_line(text, line, why):
    number, _, message = only_line(text, "definition")
    assert number == line
    assert why in message


def filled_to(size: int, head: str, part: str) -> str:
    return head + part * ((size - len(head)) // len(part))


LARGE = {
    "aliases": (filled_to(999_000, "a: &a [x]\n", "- *a\n") + "\t: never reached [", 1, "anchors and aliases"),
    "laughs": (
        "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 'x'}]\n" for n in range(30)), 1, "anchors and aliases",
    ),
    "undefined aliases": (filled_to(999_000, "packages:\n", "- *a\n"), 2, "anchors and aliases"),
    "brackets": (filled_to(999_000, "a: ", "["), 1, "nested more than 12"),
    "braces": (filled_to(999_000, "a: ", "{a: "), 1, "nested more than 12"),
    "indents": ("".join(f"{' ' * n}a:\n" for n in range(1_000)), 12, "nested more than 12"),
    "items": (filled_to(999_000, "packages:\n", "- a\n"), 19_999, "more than 20,000 values"),
    "names": ("".join(f"a{n}: b\n" for n in range(90_000)), 10_000, "more than 20,000 values"),
    "brackets of JSON": (filled_to(999_000, '{"a": ', "["), 1, "nested more than 12"),
    "objects of JSON": (filled_to(999_000, '{"a": ', '{"a":'), 1, "nested more than 12"),
    "items of JSON": (filled_to(999_000, '{"packages": ["a"', ',\n"a"'), 19_998, "more than 20,000 values"),
}  # fmt: skip


@pytest.mark.usefixtures("loader")
@pytest.mark.parametrize("which", LARGE)
def test_a_megabyte_made_to_grow_is_refused_while_it_is_read_and_never_becomes_values(which):
    """What follows is never reached: after the aliases comes a line that is no YAML, and it is not what is told."""
    text, line, why = LARGE[which]
    assert len(text) <= documents.MAX_BYTES
    tracemalloc.start()
    try:
        number, _, message = only_line(text, "definition")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert why in message
    assert number == line
    assert peak < 30_000_000, "a tree of the whole text would need more"


def test_of_very_many_wrong_fields_the_first_are_named():
    error = refused("".join(f"nonsense{n}: 1\n" for n in range(9_000)), "definition")
    assert 100 <= len(error.lines) <= 101


# -- characters ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_of_every_unicode_encoding_with_a_mark_are_read(encoding):
    assert read("# für\nnumpy\n".encode(encoding)).definition.packages == ("numpy",)


@pytest.mark.parametrize(
    ("data", "line", "shown", "why"),
    [
        ("numpy\r\n# für\r\n".encode("latin-1"), 2, "# f\ufffdr", "is not UTF-8: byte 0xfc"),
        (b"numpy\rok\r\xff", 3, "\ufffd", "is not UTF-8: byte 0xff"),
        ("numpy\n".encode("utf-16-le"), 1, None, "NUL"),
        ("numpy\n# f\ufffdr", 2, "# f\ufffdr", "could not be read"),
        ("numpy\nsix\x07", 2, None, "U+0007"),
        ("numpy\nsix\x1b[31m", 2, None, "U+001B"),
        ("numpy\nsix\u2028torch", 2, None, "U+2028"),
        ("numpy\nsix\ud800", 2, None, "U+D800"),
        (b"\x1f\x8b\x08\x00", 1, None, "is not UTF-8"),
        (b"PK\x03\x04", 1, None, "U+0003"),
    ],
)
def test_what_is_no_text_is_refused_at_its_line(data, line, shown, why):
    number, text, message = only_line(data)
    assert number == line
    assert shown is None or text == shown
    assert why in message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "empty"), (b"", "empty"), (" \n\t\n", "empty"), ("\ufeff", "empty"),
        ("x" * 1_000_001, "larger than 1,000,000 bytes"), (b"x" * 1_000_001, "larger than 1,000,000 bytes"),
        ("ü" * 500_001, "larger than 1,000,000 bytes"), (b"\xff\xfex", "not valid UTF-16"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["", *formats.KINDS])
def test_what_is_empty_or_too_large_is_refused_whatever_it_should_be(data, why, kind):
    error = refused(data, kind)
    assert error.lines == []
    assert why in error.errors["text"]
    assert error.elsewhere == error.errors


def test_a_document_of_comments_alone_is_empty():
    assert "empty" in refused("# nothing\n", "conda").errors["text"]


# -- what it is ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "file_name", "kind"),
    [
        ("numpy\n", "requirements.txt", "requirements"), ("numpy\n", "", "requirements"), ("name\n", "", "requirements"),
        ("shell>=1\n", "", "requirements"), ("--index-url https://a.example/x\nsix", "", "requirements"),
        ("FROM python\n", "", "dockerfile"), ("# a\n\nfrom python\n", "", "dockerfile"), ("ARG A=1\nFROM python", "", "dockerfile"),
        ("FROM python\n", "Dockerfile", "dockerfile"), ("FROM python\n", "C:\\x\\gpu.Dockerfile", "dockerfile"),
        ("FROM python\n", "Containerfile", "dockerfile"), ("FROM python\n", "Dockerfile.txt", "dockerfile"),
        ("name: x\ndependencies: [numpy]\n", "", "conda"), ("# a\n---\nchannels: [a]\ndependencies: [numpy]", "", "conda"),
        ("dependencies: [numpy]\n", "environment.yml", "conda"), ("dependencies: [numpy]", "environment.txt", "conda"),
        ("name: x\n", "", "definition"), ("packages: [six]\n", "env.yaml", "definition"), ('"packages": [six]\n', "", "definition"),
        ("{packages: [six]}\n", "", "definition"), ('{"packages": ["six"]}\n', "", "definition"), ("{}", "env.json", "definition"),
    ],
)  # fmt: skip
def test_what_a_file_is_follows_from_its_name_or_its_contents(text, file_name, kind):
    assert read(text, file_name=file_name).kind == kind


def test_a_kind_that_is_named_counts_and_one_that_is_none_is_refused():
    assert read("name: x\n", "conda", "Dockerfile").kind == "conda"
    assert "PEP 508" in only_line("name: x\n", "requirements")[2]
    assert "Use requirements, conda, dockerfile, definition" in refused("six", "poetry").errors["format"]


# -- there and back --------------------------------------------------------------------------------------------------------

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
# What YAML has a meaning for, and what lines end with.
AWKWARD = st.sampled_from(
    ["yes", "null", "~", "3.10", "1e3", "0x1F", "2024-01-01", "- a", "a: b", "# a", "&a", "*a", "!a", "%a", "@a", "'", '"', " a ",
     "a\n", "\n", "\n\n a\n", "a\n\n", "a\n  ", "\ta\nb", "a\tb\n", "a \nb", "a\r\nb", "a\x85b", "\u2028", "\ufeff", "\ufffd", "\x7f",
     "😀", "---", "...", "|", ">", "{", "[", "a" * 200]
)  # fmt: skip
VALUES = TEXT | AWKWARD
NAMES = st.sampled_from(["A", "yes", "null", "y", "on", "_1", "N" * 140]) | st.from_regex(
    r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True
)
PACKAGES = st.sampled_from(
    ["six", "numpy==2.0", "torch>=2,<3; sys_platform == 'linux'", "x[a,b] @ https://h.example/x.whl#sha256=a"]
)
CONDA_SPECS = st.sampled_from(
    ["numpy=1.26", "conda-forge::pytorch>=2.4", "python>=3.10", "mkl[version='>=1,<2',build=a*]"]
)
COMMANDS = st.lists(
    st.tuples(st.sampled_from(["RUN ", "# ", "ENV A=", "RUN\t"]), VALUES.map(lambda text: "".join(text.split("\n"))))
)
LISTS = {"max_size": 3, "unique": True}
CONTAINERS = st.fixed_dictionaries(
    {},
    optional={
        "shm_bytes": st.integers(64 * 1024, 2**50),
        "arguments": st.lists(st.sampled_from(["--init", "--ulimit nofile=1:2", "--env A='b c'"]), **LISTS),
    },
)
SPARK = st.fixed_dictionaries(
    {},
    optional={
        "packages": st.lists(st.sampled_from(["org.a:b_2.13:1.0", "c:d:2"]), **LISTS),
        "repositories": st.lists(st.just("https://repo.example.org/maven"), max_size=1),
    },
)
DOCKERFILES = COMMANDS.map(lambda parts: "\n".join(["FROM python", *(f"{word}{rest}" for word, rest in parts)]) + "\n")
EVERY = {
    "registry": st.just({"address": "registry.example.org:5000", "username": "1e3", "secret": "a"}),
    "docker": CONTAINERS,
    "spark": SPARK,
    "variables": st.dictionaries(NAMES, VALUES, max_size=4),
}
BUILT = EVERY | {
    "python_version": st.sampled_from(["3.1", "3.10", "3.11.7"]),
    "packages": st.lists(PACKAGES, **LISTS).map(tuple),
    "index_url": st.just("https://mirror.example.org/simple"),
    "extra_index_urls": st.just(("http://[::1]:8080/x",)),
    "index_secret": st.sampled_from(["pypi", "1.5", "yes"]),
    "conda_channels": st.lists(st.sampled_from(["conda-forge", "file:///srv/a"]), **LISTS).map(tuple),
    "conda_packages": st.lists(CONDA_SPECS, **LISTS).map(tuple),
}
AS_IT_IS = EVERY | {"interpreter_path": st.sampled_from(["python3", "/opt/a b/bin/python"])}
IMAGES = {"base_image": st.sampled_from(["python:3.11", "host:5000/a/b@sha256:" + "0" * 64])}
FILES = {"dockerfile": DOCKERFILES}
EXISTING = {"user_managed": st.just(True)}
DEFINITIONS = st.one_of(
    st.fixed_dictionaries({}, optional=BUILT),
    st.fixed_dictionaries(IMAGES, optional=BUILT),
    st.fixed_dictionaries(FILES, optional=BUILT),
    st.fixed_dictionaries(EXISTING, optional=AS_IT_IS),
    st.fixed_dictionaries(EXISTING | IMAGES, optional=AS_IT_IS),
    st.fixed_dictionaries(EXISTING | FILES, optional=AS_IT_IS),
    st.fixed_dictionaries({"conda_environment": st.sampled_from(["base", "/opt/conda/envs/a"])}, optional=EVERY),
)


def made(fields) -> Definition:
    try:
        return Definition(**fields).validated()
    except DefinitionError:
        assume(False)
        raise


@given(DEFINITIONS, VALUES, VALUES)
@example({}, "", "")
@example({"variables": {"A": "a\ufffdb", "B": "a\n\ufffd"}}, "\ufffd", "dependencies:\n")
@example({"user_managed": True, "dockerfile": "FROM python\r\nRUN a\t \n\n\n"}, "FROM x", "")
def test_yaml_of_a_definition_is_read_back_unchanged(fields, name, description):
    definition = made(fields)
    text = to_yaml(definition, name=name, description=description)
    found = read(text)
    assert (found.kind, found.notes) == ("definition", [])
    assert (found.name, found.description, found.definition) == (name, description, definition)
    assert read(text.encode(), "definition").definition == definition


@given(DEFINITIONS, VALUES)
def test_json_of_a_definition_is_read_back_unchanged(fields, name):
    definition = made(fields)
    found = read(json.dumps({"name": name, "definition": definition.to_json()}))
    assert (found.kind, found.name, found.definition) == ("definition", name, definition)


def test_the_yaml_is_for_people_blocks_for_texts_of_several_lines_and_one_item_a_line():
    definition = Definition(
        packages=("torch==2.4.1", "a" * 90 + " @ https://host.example/" + "b" * 90),
        python_version="3.10",
        dockerfile="FROM python:3.10\n\nRUN a \\\n\t&& b  \n",
        docker={"shm_bytes": 2**33},
        variables={"DEBUG": "on", "TEXT": "a\nb"},
    )
    assert to_yaml(definition, name="vision-3", description="Für alle 😀") == (
        "name: vision-3\n"
        "description: Für alle 😀\n"
        "python_version: '3.10'\n"
        "packages:\n"
        "  - torch==2.4.1\n"
        f"  - {'a' * 90} @ https://host.example/{'b' * 90}\n"
        "dockerfile: |\n"
        "  FROM python:3.10\n"
        "\n"
        "  RUN a \\\n"
        "  \t&& b  \n"
        "docker:\n"
        "  shm_bytes: 8589934592\n"
        "variables:\n"
        "  DEBUG: 'on'\n"
        "  TEXT: |-\n"
        "    a\n"
        "    b\n"
    )


# -- anything --------------------------------------------------------------------------------------------------------------

WORDS = st.sampled_from(
    ["name", "packages", "dependencies", "variables", ":", ": ", "- ", "\n", "\n  ", "\t", "[", "]", "{", "}", ",", "'", '"', "&a", "*a",
     "!x", "|", ">", "#", " #", "FROM x", "numpy", "pip", "-i ", "https://a.example", "\\", "?", "3.10", "~", "---", "\r", "\ufffd", "\0"]
)  # fmt: skip


@given(
    st.lists(WORDS | st.text(max_size=3), max_size=30).map("".join) | st.binary(max_size=40),
    st.sampled_from(["", *formats.KINDS]),
)
def test_whatever_is_sent_is_read_or_refused_with_lines_that_it_has(text, kind):
    try:
        found = read(text, kind)
    except FormatError as error:
        assert error.errors
        lines = documents.decoded(text).count("\n") + 1 if error.lines and "text" not in error.errors else 10**6
        assert all(0 < number <= lines and message for number, _, message in error.lines)
    else:
        assert found.kind in formats.KINDS
        assert found.definition == found.definition.validated()
