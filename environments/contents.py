"""What is in an environment, in the words that people look for: its framework, its packages."""

import re
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from environments.definition import Definition
from environments.models import Build

FRAMEWORKS = {
    "torch": "PyTorch", "tensorflow": "TensorFlow", "tensorflow-cpu": "TensorFlow", "jax": "JAX", "pyspark": "Spark",
    "transformers": "Transformers", "lightning": "Lightning", "xgboost": "XGBoost", "lightgbm": "LightGBM",
    "scikit-learn": "scikit-learn", "mpi4py": "MPI", "horovod": "Horovod",
}  # fmt: skip
_CUDA = re.compile(r"(?:\+cu|cuda[-:/]?)(?P<major>1\d)[.]?(?P<minor>\d)")


@dataclass(frozen=True)
class Package:
    """One that is installed. ``asked``: the definition names it; the others came with those."""

    name: str
    version: str
    license: str = ""
    modules: list[str] = field(default_factory=list)
    source: str = ""
    asked: bool = False


def asked_for(definition: Definition) -> dict[str, str]:
    """Canonical name → exact version, or nothing where a range was given."""
    found: dict[str, str] = {}
    for line in definition.packages:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        exact = next((s.version for s in requirement.specifier if s.operator in {"==", "==="}), "")
        found[canonicalize_name(requirement.name)] = exact
    for line in definition.conda_packages:
        name, _, version = re.sub(r"^.*::", "", line.strip()).partition("=")
        name = re.split(r"[\s<>!~\[]", name.strip())[0]
        version = version.strip("= ").split("=")[0]
        found[canonicalize_name(name)] = version if re.fullmatch(r"[\w.+!-]+", version) else ""
    return found


def frameworks_of(definition: Definition) -> list[str]:
    """``PyTorch 2.4.1``, ``CUDA 12.4``: what the definition names of those that people choose environments by."""
    asked = asked_for(definition)
    found = [f"{word} {asked[name]}".strip() for name, word in FRAMEWORKS.items() if name in asked]
    if cuda := _CUDA.search(" ".join([*definition.packages, definition.index_url, definition.base_image])):
        found.append(f"CUDA {cuda['major']}.{cuda['minor']}")
    if definition.spark.get("packages") and "pyspark" not in asked:
        found.append("Spark packages")
    return found


def packages_of(build: Build, definition: Definition) -> list[Package]:
    """What the build found installed, by name; of one that recorded no more, names and versions."""
    asked = asked_for(definition)
    rows = build.packages or [named(line) for line in build.lock.splitlines() if line.strip()]
    found = [
        Package(
            name=str(row.get("name", "")),
            version=str(row.get("version", "")),
            license=str(row.get("license") or ""),
            modules=[str(name) for name in row.get("modules") or ()],
            source=str(row.get("from") or ""),
            asked=canonicalize_name(str(row.get("name", ""))) in asked,
        )
        for row in rows
    ]
    return sorted(found, key=lambda package: package.name.lower())


def named(line: str) -> dict[str, str]:
    name, _, version = line.strip().partition("==")
    if not version:
        name, _, version = line.strip().partition(" @ ")
    return {"name": name.strip(), "version": version.strip()}
