"""Static files of front-end packages, served from ``node_modules`` by name."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage
from whitenoise.storage import CompressedManifestStaticFilesStorage

# Address below /static/ → file below node_modules/. Nothing else of these packages is reachable.
FILES = {
    "vendor/idiomorph-ext.js": "idiomorph/dist/idiomorph-ext.min.js",
    "vendor/uplot.js": "uplot/dist/uPlot.esm.js",
    "vendor/uplot.css": "uplot/dist/uPlot.min.css",
    "vendor/inter.woff2": "@fontsource-variable/inter/files/inter-latin-wght-normal.woff2",
    "vendor/jetbrains-mono.woff2": "@fontsource-variable/jetbrains-mono/files/jetbrains-mono-latin-wght-normal.woff2",
}


class HashedStaticFiles(CompressedManifestStaticFilesStorage):
    """File names with a digest, also in the imports of ES modules: a module must have one address, or it runs twice."""

    support_js_module_import_aggregation = True
    OURS = ("studio/", "runs/", "environments/")

    def url_converter(self, name: str, hashed_files: dict[str, str], template: str | None = None) -> Callable[..., str]:
        """Rewrite the imports of our own modules only: what packages import may be a file that is not served."""
        if name.endswith(".js") and not name.startswith(self.OURS):
            return unchanged
        convert: Callable[..., str] = super().url_converter(name, hashed_files, template)
        return convert


def unchanged(match: re.Match[str]) -> str:
    return match[0]


class NodePackageStorage(FileSystemStorage):
    """Reads a package's file under the short name that pages use."""

    def path(self, name: str) -> str:
        return str(settings.NODE_MODULES / FILES[name])


class NodePackageFinder(BaseFinder):
    storage = NodePackageStorage(location=str(settings.NODE_MODULES))

    def find(self, path: str, find_all: bool = False, **kwargs: Any) -> Any:
        found = [str(settings.NODE_MODULES / FILES[path])] if path in FILES else []
        return found if find_all else (found[0] if found else [])

    def list(self, ignore_patterns: Iterable[str] | None) -> Iterable[tuple[str, Any]]:
        for name, source in FILES.items():
            if Path(settings.NODE_MODULES / source).exists():
                yield name, self.storage
