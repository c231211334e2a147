"""The `runstead` package as a run finds it: the part that logs, packed for the target's `lib/<sha256>/`."""

import hashlib
import io
import zipfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "sdk" / "src" / "runstead"
MODULES = (
    "__init__",
    "errors",
    "files",
    "images",
    "launch",
    "offline",
    "reading",
    "records",
    "run",
    "scalars",
    "schemas",
)
"""What works without the client: the standard library alone, loaded in milliseconds."""


@cache
def sdk_zip() -> tuple[str, bytes]:
    """(SHA-256 in hex, zip) with `runstead/<module>.py` inside.

    Stored, not compressed: the same sources give the same bytes whichever zlib a machine has.
    """
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        for name in MODULES:
            entry = zipfile.ZipInfo(f"runstead/{name}.py", (1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            entry.compress_type = zipfile.ZIP_STORED
            archive.writestr(entry, (SOURCE / f"{name}.py").read_bytes())
    packed = data.getvalue()
    return hashlib.sha256(packed).hexdigest(), packed
