"""Which files of a project folder are left out of its snapshot, and why.

One ignore file counts, the one in the folder's root: ``.runignore``, else ``.amlignore`` (even when empty),
else ``.gitignore``, in gitignore's syntax.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from pathspec import GitIgnoreSpec

NAMES = (".runignore", ".amlignore", ".gitignore")
ALWAYS = frozenset({".git", "__pycache__", ".ipynb_checkpoints", ".DS_Store"})
VENV_MARK = "pyvenv.cfg"
NAMED = re.compile(r"\(\?P<\w+>")


@dataclass(frozen=True)
class IgnoreRules:
    """The rules of one folder. ``name`` is the file they come from, empty when there is none."""

    name: str = ""
    lines: tuple[str, ...] = ()
    spec: GitIgnoreSpec | None = field(default=None, compare=False)
    any_rule: re.Pattern[str] | None = field(default=None, compare=False)
    """Matches where any rule does: most files match none, and one look says so."""

    @classmethod
    def of(cls, names: Collection[str], read: Callable[[str], bytes]) -> "IgnoreRules":
        """Choose among the names in the root and read the rules of the chosen file."""
        chosen = next((name for name in NAMES if name in names), "")
        if not chosen:
            return cls()
        lines = tuple(read(chosen).decode("utf-8-sig", "replace").splitlines())
        spec = GitIgnoreSpec.from_lines(lines)
        rules = [p.regex.pattern for p in spec.patterns if p.include is not None and p.regex is not None]
        combined = "|".join(f"(?:{NAMED.sub('(?:', rule)})" for rule in rules)
        return cls(chosen, lines, spec, re.compile(combined)) if rules else cls(chosen, lines)

    def why(self, path: str, *, folder: bool) -> str:
        """Why ``path`` is left out, or an empty text. A folder that is left out takes with it all that is in
        it."""
        if path.rpartition("/")[2] in ALWAYS:
            return "always left out"
        name = f"{path}/" if folder else path
        if self.spec is None or self.any_rule is None or not self.any_rule.match(name):
            return ""
        found = self.spec.check_file(name)
        if not found.include:
            return ""
        rule = self.lines[found.index].strip() if found.index is not None else ""
        return f"{rule} in {self.name}"
