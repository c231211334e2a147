"""What an environment may ask for, and what its key depends on."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from environments.definition import Definition, DefinitionError
from environments.requirements import normal

REFUSED = [
    ("-i https://mirror.example/simple", "field of its own"),
    ("--index-url=https://mirror.example/simple", "field of its own"),
    ("--extra-index-url https://mirror.example/simple", "field of its own"),
    ("-f /wheels", "target's settings"),
    ("--find-links /wheels", "target's settings"),
    ("--trusted-host mirror.example", "target's settings"),
    ("-e .", "editable"),
    ("--editable git+https://host.example/x", "editable"),
    ("-r other.txt", "another file"),
    ("-c constraints.txt", "another file"),
    ("--pre", "not an option known here"),
    ("--config-settings x=y", "not an option known here"),
    ("git+https://host.example/x.git", "version-control"),
    ("x @ git+ssh://git@host.example/x.git", "version-control"),
    ("x @ hg+https://host.example/x", "version-control"),
    ("https://host.example/x-1.0-py3-none-any.whl", "package's name"),
    ("x @ https://ada:secret@host.example/x-1.0-py3-none-any.whl", "credentials"),
    ("x @ https://token@host.example/x-1.0-py3-none-any.whl", "credentials"),
    ("x @ file:///etc/passwd", "https:// or http://"),
    ("x @ //host.example/x.whl", "https:// or http://"),
    ("file:///etc/x.whl", "package's name"),
    ("./wheels/x.whl", "path on a machine"),
    ("/wheels/x.whl", "path on a machine"),
    ("~/x.whl", "path on a machine"),
    ("C:\\wheels\\x.whl", "path on a machine"),
    ("numpy; $(touch /tmp/evil)", "not expanded"),
    ("numpy==${VERSION}", "not expanded"),
    ("numpy `id`", "not expanded"),
    ("numpy==1.0 --hash=sha256:aa", "hashes"),
    ("numpy==1.0 \\", "hashes"),
    ("numpy=1.0", "PEP 508"),
    ("numpy==", "PEP 508"),
    ("num py", "PEP 508"),
    ("-", "not an option"),
    ("numpy; sys_platform = 'linux'", "PEP 508"),
    ("numpy; nonsense == 'x'", "PEP 508"),
    ("x" * 1001, "longer than 1,000"),
    ("numpy\0", "control character"),
    ("numpy\x1b[31m", "control character"),
]


@pytest.mark.parametrize(("line", "why"), REFUSED)
def test_a_line_that_is_no_requirement_is_refused_at_its_number_with_the_rule(line, why):
    with pytest.raises(DefinitionError) as caught:
        Definition(packages=("pandas", "# a comment", line)).validated()
    ((number, shown, message),) = caught.value.lines["packages"]
    assert number == 3
    assert shown == line.strip()[:200]
    assert why in message
    assert caught.value.errors["packages"].startswith("Line 3: ")


@pytest.mark.parametrize(
    "line",
    [
        "numpy", "numpy>=1.26,<3", "Scikit_Learn[alldeps] == 1.7.2", "torch; sys_platform == 'linux'", "numpy  # why",
        "x @ https://host.example/x-1.0-py3-none-any.whl#sha256=aa", "name~=2.0", "name!=2.1", "name===2.0+local", "\ufeffnumpy",
    ],
)  # fmt: skip
def test_a_requirement_is_taken_as_typed_without_its_comment(line):
    (kept,) = Definition.from_requirements(line).packages
    assert kept == line.strip("\ufeff").split("  #")[0]


def test_every_bad_line_is_named_at_once():
    with pytest.raises(DefinitionError) as caught:
        Definition.from_requirements("numpy\n-e .\nok==1\n\nnum py\nnumpy>2")
    assert [number for number, _, _ in caught.value.lines["packages"]] == [2, 5, 6]
    assert "already on line 1" in caught.value.lines["packages"][2][2]
    assert caught.value.errors["packages"].endswith("(2 more)")


def test_the_same_package_for_different_machines_is_no_duplicate():
    text = "torch==2.0; sys_platform == 'linux'\ntorch==2.1; sys_platform == 'darwin'"
    assert len(Definition.from_requirements(text).packages) == 2


def test_too_many_lines_are_refused():
    with pytest.raises(DefinitionError, match="more than 2,000 lines"):
        Definition.from_requirements("\n".join(f"p{i}" for i in range(2_001)))


@pytest.mark.parametrize(
    ("fields", "field", "why"),
    [
        ({"user_managed": True, "packages": ("numpy",)}, "packages", "nothing is installed"),
        ({"user_managed": True, "python_version": "3.11"}, "python_version", "its own version"),
        ({"interpreter_path": "/usr/bin/python3"}, "interpreter_path", "existing interpreter only"),
        ({"user_managed": True, "interpreter_path": "bin/python"}, "interpreter_path", "absolute path"),
        ({"user_managed": True, "interpreter_path": "/opt/../bin/python"}, "interpreter_path", "absolute path"),
        ({"user_managed": True, "interpreter_path": "-c"}, "interpreter_path", "begins with '-'"),
        ({"user_managed": True, "interpreter_path": "python; rm"}, "interpreter_path", "neither"),
        ({"user_managed": True, "interpreter_path": "/bin/py\nthon"}, "interpreter_path", "control character"),
        ({"python_version": "2.7"}, "python_version", "3.11 or 3.11.7"),
        ({"python_version": "3"}, "python_version", "3.11 or 3.11.7"),
        ({"python_version": "3.11; rm"}, "python_version", "3.11 or 3.11.7"),
        ({"variables": {"PATH": "/x"}}, "variables", "set by the studio"),
        ({"variables": {"LD_PRELOAD": "/x"}}, "variables", "set by the studio"),
        ({"variables": {"1A": "x"}}, "variables", "not a variable's name"),
        ({"variables": {"A": "x\0"}}, "variables", "NUL"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(fields, field, why):
    with pytest.raises(DefinitionError) as caught:
        Definition(**fields).validated()
    assert why in caught.value.errors[field]


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({"nonsense": 1}, "nonsense"), ({"packages": "numpy"}, "packages"), ({"packages": [1]}, "packages"),
        ({"variables": {"A": 1}}, "variables"), ({"user_managed": "yes"}, "user_managed"), ({"python_version": 3.11}, "python_version"),
    ],
)  # fmt: skip
def test_stored_data_of_a_wrong_shape_is_refused(data, field):
    with pytest.raises(DefinitionError) as caught:
        Definition.from_json(data)
    assert field in caught.value.errors


def test_a_definition_survives_being_stored():
    for definition in (
        Definition(),
        Definition(user_managed=True, interpreter_path="/usr/bin/python3"),
        Definition(packages=("numpy==2.0",), python_version="3.11", variables={"A": "1"}),
    ):
        assert Definition.from_json(definition.to_json()) == definition
        assert Definition.from_json(definition.to_json()).key() == definition.key()


PACKAGES = st.lists(
    st.builds(
        lambda name, version: f"{name}{version}",
        st.sampled_from(["numpy", "Scikit-Learn", "zope.interface", "a_b"]),
        st.sampled_from(["", "==1.0", ">=1,<2", ">1; python_version < '3.12'"]),
    ),
    unique_by=lambda line: normal(line).partition("[")[0],
    max_size=4,
)


@given(PACKAGES, st.randoms(use_true_random=False))
def test_the_key_does_not_depend_on_order_or_spelling(packages, chance):
    shuffled = list(packages)
    chance.shuffle(shuffled)
    respelled = [spell(line, chance) for line in shuffled]
    assert (
        Definition(packages=tuple(packages)).validated().key()
        == Definition(packages=tuple(respelled)).validated().key()
    )


def spell(line: str, chance: random.Random) -> str:
    """The same requirement written otherwise: case, separators, spaces, the order of its bounds."""
    line = line.replace("-", chance.choice("-_.")) if "==" not in line else line
    line = line.replace(">=1,<2", chance.choice([">=1,<2", "<2,>=1", " >= 1 , < 2"]))
    head = "".join(chance.choice([c.lower(), c.upper()]) if place < 4 else c for place, c in enumerate(line))
    return chance.choice(["", "  "]) + head + chance.choice(["", "  # a reason"])


def test_the_key_covers_what_changes_the_build_and_nothing_else():
    base = Definition(packages=("numpy==2.0",), python_version="3.11")
    assert base.key() == Definition(packages=("numpy==2.0",), python_version="3.11", variables={"A": "1"}).key()
    others = [
        Definition(packages=("numpy==2.1",), python_version="3.11"),
        Definition(packages=("numpy==2.0",), python_version="3.12"),
        Definition(packages=("numpy==2.0",)),
        Definition(packages=("numpy[extra]==2.0",), python_version="3.11"),
        Definition(packages=("numpy==2.0; sys_platform == 'linux'",), python_version="3.11"),
        Definition(packages=("numpy==2.0", "six"), python_version="3.11"),
        Definition(user_managed=True),
        Definition(user_managed=True, interpreter_path="/usr/bin/python3"),
        Definition(),
    ]
    assert len({base.key(), *(other.key() for other in others)}) == len(others) + 1


def test_a_conda_environment_of_the_target_has_one_spelling():
    short, long = Definition(conda_environment="ml"), Definition(conda_environment="ml", user_managed=True)
    assert short.validated() == long.validated()
    assert short.validated().to_json() == {"user_managed": True, "conda_environment": "ml"}
    assert short.key() == long.key() == short.validated().key()
