"""The part of the composer's form that says what starts the script, and how often."""

import re
from collections.abc import Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import ProhibitNullCharactersValidator

from runs.distribution import COUNT_WORDS
from runs.distribution import FIELDS as DISTRIBUTED
from runs.frameworks import FRAMEWORKS

# Names in ScriptRunConfig → names of the form's fields.
PARTS = {
    "distribution.process_count": "process_count",
    "distribution.worker_count": "worker_count",
    "distribution.parameter_server_count": "parameter_server_count",
    "distribution.backend": "backend",
    "spark": "spark_conf",
    "spark.conf": "spark_conf",
    "spark.packages": "spark_packages",
    "spark.repositories": "spark_repositories",
    "spark.deploy_mode": "deploy_mode",
}


class Text(forms.CharField):
    """A text as it was typed: not stripped, no limit but the request's, NUL refused."""

    def __init__(self) -> None:
        super().__init__(required=False, strip=False)
        self.validators = [
            ProhibitNullCharactersValidator(message="It holds a NUL, which no program can receive. Remove it.")
        ]


class FrameworkForm(forms.Form):
    """What another framework would read is kept in its field and not looked at."""

    framework = Text()
    process_count = Text()
    backend = Text()
    worker_count = Text()
    parameter_server_count = Text()
    spark_conf = Text()
    spark_packages = Text()
    spark_repositories = Text()
    deploy_mode = Text()

    def text(self, name: str) -> str:
        """What stands in a field now: typed, or filled in."""
        value = self[name].value()
        return "" if value is None else str(value)

    @property
    def framework_name(self) -> str:
        """The framework that is chosen now, known or not."""
        return self.text("framework").strip().lower() or "python"

    @property
    def framework_words(self) -> str:
        """The framework with the counts that are filled in: the summary of the folded fields."""
        known = FRAMEWORKS.get(self.framework_name)
        counts = [
            f"{self.text(name).strip()} {COUNT_WORDS[name]}"
            for name in DISTRIBUTED.get(self.framework_name, ())
            if name in COUNT_WORDS and name in self.fields and self.text(name).strip()
        ]
        return ", ".join([known.title if known else self.framework_name, *counts])

    @property
    def frameworks(self) -> list[tuple[str, str]]:
        return [(name, framework.title) for name, framework in FRAMEWORKS.items()]

    def clean_framework(self) -> str:
        return self.framework_name

    def _count(self, name: str) -> int | None:
        text = str(self.cleaned_data[name]).strip()
        if not text or name not in DISTRIBUTED.get(self.framework_name, ()):
            return None
        if not (text.isascii() and text.isdigit() and len(text) < 9):
            raise ValidationError(
                f"{text[:40]!r} is no number of {COUNT_WORDS[name]}. Write digits only, for example 2."
            )
        return int(text)

    def clean_process_count(self) -> int | None:
        return self._count("process_count")

    def clean_worker_count(self) -> int | None:
        return self._count("worker_count")

    def clean_parameter_server_count(self) -> int | None:
        return self._count("parameter_server_count")

    def clean_spark_conf(self) -> dict[str, str]:
        """A setting a line: ``name=value``, or ``name value`` as in Spark's own files."""
        found: dict[str, str] = {}
        for number, line in enumerate(str(self.cleaned_data["spark_conf"]).splitlines(), 1):
            if not line.strip() or self.framework_name != "pyspark":
                continue
            name, value, *_ = [*re.split(r"\s*=\s*|\s+", line.strip(), maxsplit=1), ""]
            if not value:
                raise ValidationError(
                    f"Line {number}: {line.strip()[:60]!r} has no value. Write spark.executor.memory=2g."
                )
            if name in found:
                raise ValidationError(f"Line {number}: {name[:60]} is there twice. Keep one.")
            found[name] = value
        return found

    def clean_spark_packages(self) -> list[str]:
        return self._each("spark_packages")

    def clean_spark_repositories(self) -> list[str]:
        return self._each("spark_repositories")

    def _each(self, name: str) -> list[str]:
        return str(self.cleaned_data[name]).replace(",", " ").split() if self.framework_name == "pyspark" else []

    def distribution(self, data: Mapping[str, Any]) -> dict[str, Any]:
        given = {name: data.get(name) for name in DISTRIBUTED.get(self.framework_name, ()) if name in self.fields}
        return {name: value for name, value in given.items() if value not in (None, "")}

    def spark(self, data: Mapping[str, Any]) -> dict[str, Any]:
        if self.framework_name != "pyspark":
            return {}
        given = {
            "conf": data.get("spark_conf"),
            "packages": data.get("spark_packages"),
            "repositories": data.get("spark_repositories"),
            "deploy_mode": str(data.get("deploy_mode") or "").strip(),
        }
        return {name: value for name, value in given.items() if value}


def framework_values(given: Mapping[str, Any]) -> dict[str, str]:
    """The form's texts for values as ``runs.snippets.from_yaml`` returns them."""
    distribution, spark = given.get("distribution") or {}, given.get("spark") or {}
    return {
        "framework": str(given.get("framework", "") or "python").lower(),
        **{name: str(distribution.get(name, "")) for name in (*COUNT_WORDS, "backend") if name != "node_count"},
        "spark_conf": "\n".join(f"{name}={value}" for name, value in dict(spark.get("conf") or {}).items()),
        "spark_packages": "\n".join(map(str, spark.get("packages") or [])),
        "spark_repositories": "\n".join(map(str, spark.get("repositories") or [])),
        "deploy_mode": str(spark.get("deploy_mode") or ""),
    }
