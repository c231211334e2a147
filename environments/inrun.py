"""The `runstead` package as a run finds it, packed for the target's `lib/<sha256>/`; beside it `azureml`, which leads to it."""

import hashlib
import io
import runpy
import zipfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "sdk" / "src" / "runstead"
ALIAS = "azureml"
MARK = "runstead-alias"
"""Beside the alias, so that it is told from a real package of that name."""
LEFT_OUT = ("cli", "__main__", "widget", "runfile", "shell", "checkup", "following", "import_mlflow", "mlflow_")
"""Beginnings of the names of modules that show things or serve the command line. The others are of the standard library alone, and
load only when a script asks for them: one that imports `Workspace` beside `Run` runs too."""


def modules() -> dict[str, Path]:
    """Path in the zip → file."""
    own = {f"runstead/{path.name}": path for path in SOURCE.glob("*.py") if not path.name.startswith(LEFT_OUT)}
    alias = {f"runstead/{ALIAS}/{path.name}": path for path in (SOURCE / ALIAS).glob("*.py")}
    top = alias.pop(f"runstead/{ALIAS}/top.py")
    alias.pop(f"runstead/{ALIAS}/__main__.py")
    return dict(sorted({**own, **alias, f"{ALIAS}/__init__.py": top}.items()))


@cache
def alias_modules() -> frozenset[str]:
    """Modules of Azure Machine Learning's SDK that every run can import."""
    return frozenset(runpy.run_path(str(SOURCE / ALIAS / "names.py"))["MODULES"])


@cache
def sdk_zip() -> tuple[str, bytes]:
    """(SHA-256 in hex, zip) with `runstead/<module>.py` inside.

    Stored, not compressed: the same sources give the same bytes whichever zlib a machine has.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        contents = {name: path.read_bytes() for name, path in modules().items()}
        for name, content in {**contents, f"{ALIAS}/{MARK}": b""}.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED
            archive.writestr(entry, content)
    packed = data.getvalue()
    return hashlib.sha256(packed).hexdigest(), packed
