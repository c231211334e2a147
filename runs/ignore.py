"""Which files of a project folder are left out of its snapshot, and why.

One ignore file counts, the one in the folder's root: ``.runignore``, else ``.amlignore`` (even when empty),
else ``.gitignore``, in gitignore's syntax, applied as git does it (`runs/gitignore.py`).
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from runs.gitignore import Rules, lines_of

NAMES = (".runignore", ".amlignore", ".gitignore")
ALWAYS = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".DS_Store"})
VENV_MARK = "pyvenv.cfg"


@dataclass(frozen=True)
class IgnoreRules:
    """The rules of one folder. ``name`` is the file they come from, empty when there is none."""

    name: str = ""
    rules: Rules = field(default_factory=lambda: Rules(()), compare=False)

    @classmethod
    def of(cls, names: Collection[str], read: Callable[[str], bytes]) -> "IgnoreRules":
        """Choose among the names in the root and read the rules of the chosen file."""
        chosen = next((name for name in NAMES if name in names), "")
        return cls(chosen, Rules(lines_of(read(chosen)))) if chosen else cls()

    def why(self, path: str, *, folder: bool) -> str:
        """Why ``path`` is left out, or an empty text. A folder that is left out takes with it all that is in
        it: the caller never asks for what lies below one."""
        if path.rpartition("/")[2] in ALWAYS:
            return "always left out"
        line = self.rules.why(path, folder)
        return f"{line} in {self.name}" if line else ""
