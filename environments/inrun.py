"""The `runstead` package that scripts import inside runs, packed for targets."""

import hashlib
import io
import zipfile
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "sdk" / "src"
_EPOCH = (1980, 1, 1, 0, 0, 0)


@lru_cache(maxsize=1)
def sdk_zip() -> tuple[str, bytes]:
    """(SHA-256, zip) of the package; the same bytes for the same sources."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(SOURCE.rglob("*")):
            if path.is_file() and (path.suffix == ".py" or path.name == "py.typed"):
                name = zipfile.ZipInfo(path.relative_to(SOURCE).as_posix(), _EPOCH)
                archive.writestr(name, path.read_bytes(), zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    return hashlib.sha256(data).hexdigest(), data
