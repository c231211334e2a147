"""The module paths of Azure Machine Learning's SDK as aliases of this package: `import runstead.azureml; runstead.azureml.install()`.

Scripts that import `azureml.core` then run unchanged. Where the real package is installed it is found instead, except in a run of
the studio: from there it could not reach its service, and what it logs would be lost. `python -m runstead.azureml` does it for every
program of this Python, `--remove` takes it back.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import os
import sys

from .names import MODULES, OF_THEIR_OWN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, List, Optional, Sequence

ROOT = "azureml"


def install() -> bool:
    """Make the aliases importable in this process. False when the real package is there, which then stays what is found."""
    if not any(isinstance(finder, Finder) for finder in sys.meta_path):
        if in_run():
            sys.meta_path.insert(0, Finder())
        else:
            # Behind the others: whatever is really there comes first.
            sys.meta_path.append(Finder())
        importlib.invalidate_caches()
    return not gives_way()


def uninstall() -> None:
    """Take the aliases away again; those that were imported too."""
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, Finder)]
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == ROOT and isinstance(getattr(module, "__loader__", None), Loader):
            del sys.modules[name]


def real() -> bool:
    """Whether `azureml.core` of somebody else can be imported."""
    return any(os.path.isdir(os.path.join(folder, "core")) for folder in portions())


def in_run() -> bool:
    """Whether this process belongs to a run of the studio."""
    return bool(os.environ.get("RUNSTEAD_RUN_DIR"))


def gives_way() -> bool:
    """Whether the real package is what is found."""
    return not in_run() and real()


def portions(but: str = "") -> List[str]:
    """Folders named `azureml` on the path: that of the real package, or of parts of it such as plug-ins. `but`: not this one."""
    found = []
    for entry in sys.path:
        folder = os.path.join(entry or os.getcwd(), ROOT)
        if os.path.isdir(folder) and os.path.realpath(folder) != os.path.realpath(but) and not _ours(folder):
            found.append(folder)
    return found


def _installed(name: str) -> bool:
    """Whether a part of the namespace is there as a package of somebody else's."""
    return any(os.path.isdir(os.path.join(folder, name.partition(".")[2])) for folder in portions())


def _ours(folder: str) -> bool:
    return os.path.isfile(os.path.join(folder, MARK))


MARK = "runstead-alias"
"""A file beside the alias package that runs are given."""


class Finder(importlib.abc.MetaPathFinder):
    """Finds the names of the table, unless the real package is there and this is no run."""

    def find_spec(
        self, fullname: str, path: Optional[Sequence[str]] = None, target: Optional[ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if fullname not in MODULES or gives_way() or (fullname in OF_THEIR_OWN and _installed(fullname)):
            return None
        spec = importlib.machinery.ModuleSpec(fullname, Loader(), is_package=_is_package(fullname))
        if fullname == ROOT and spec.submodule_search_locations is not None:
            # Other parts of the namespace, such as plug-ins, are found below it.
            spec.submodule_search_locations.extend(portions())
        return spec


class Loader(importlib.abc.Loader):
    """Makes a module whose names are loaded when they are asked for."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[ModuleType]:
        return None

    def exec_module(self, module: ModuleType) -> None:
        names = MODULES[module.__name__]

        def load(name: str) -> Any:
            if name not in names:
                raise AttributeError(
                    "module %r has no attribute %r here. There are: %s."
                    % (module.__name__, name, ", ".join(sorted(names)))
                )
            home, _, own = names[name].partition(":")
            value = getattr(importlib.import_module("runstead." + home), own or name)
            module.__dict__[name] = value
            return value

        module.__dict__["__getattr__"] = load
        module.__dict__["__dir__"] = lambda: sorted(names)
        module.__dict__["__all__"] = sorted(name for name in names if not name.startswith("_"))
        module.__doc__ = "Names of %s, as runstead has them." % module.__name__


def _is_package(name: str) -> bool:
    return any(other.startswith(name + ".") for other in MODULES)


def stand_in(namespace: Any) -> None:
    """What the file `azureml/__init__.py` of a run does: be the real package where there is one, else make the aliases importable."""
    found = portions(os.path.dirname(namespace["__file__"]))
    namespace["__path__"] = found
    if in_run() or not any(os.path.isdir(os.path.join(folder, "core")) for folder in found):
        install()
        return
    for folder in found:
        path = os.path.join(folder, "__init__.py")
        if os.path.isfile(path):
            namespace["__file__"] = path
            with open(path, "rb") as file:
                exec(compile(file.read(), path, "exec"), namespace)  # noqa: S102 what importing it would do
            return
