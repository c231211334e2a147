"""Which modules a Python source imports: a program of its own, because a hostile source may take a parser any time and memory.

Reads lines of JSON, ``{"source": base64}``, and answers each with ``{"imports": [[level, module, [names], line, need]], "marks": [...]}``
or ``{"line", "error"}``. ``need``: 0 it is made at once, 1 perhaps (in a function, under a condition), 2 it may fail and the script
goes on. Started as ``python -I -S import_scan.py``; limits itself before it reads anything.
"""

import ast
import base64
import json
import resource
import sys
import warnings

CPU_SECONDS = 3
MEMORY = 1 << 30
MOST = 2000
SURE, LATER, OPTIONAL = 0, 1, 2
HOOKS = {"addsitedir", "meta_path", "path_hooks"}
PERHAPS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.If, ast.While, ast.For, ast.Match)


def main() -> None:
    for name, value in (("RLIMIT_CPU", CPU_SECONDS), ("RLIMIT_AS", MEMORY), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        resource.setrlimit(getattr(resource, name), (value, value))
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        answer = look(base64.b64decode(json.loads(line)["source"]))
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def look(source: bytes) -> "dict[str, object]":
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return {"line": error.lineno or 1, "error": error.msg}
    except (ValueError, RecursionError, MemoryError, OverflowError):
        return {"line": 1, "error": "it holds a NUL, or is nested too deeply"}
    imports: list[list[object]] = []
    marks: set[str] = set()
    left: list[tuple[ast.AST, int]] = [(tree, SURE)]
    while left and len(imports) < MOST:
        node, need = left.pop()
        if isinstance(node, ast.Import):
            imports += [[0, alias.name, [], node.lineno, need] for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imports.append([node.level, node.module or "", [alias.name for alias in node.names], node.lineno, need])
        elif isinstance(node, ast.Try | ast.TryStar):
            inside = OPTIONAL if any(catches(handler) for handler in node.handlers) else need
            left += [(part, inside) for part in node.body]
            # What stands in for the one that failed: needed only then.
            left += [(part, OPTIONAL) for handler in node.handlers for part in handler.body]
            left += [(part, need) for part in [*node.orelse, *node.finalbody]]
        elif isinstance(node, ast.If) and (kind := test_of(node.test)):
            left += [(part, need) for part in (node.orelse if kind == "typing" else node.body)]
        elif isinstance(node, PERHAPS):
            left += [(part, max(need, LATER)) for part in ast.iter_child_nodes(node)]
        elif isinstance(node, ast.With) and any("suppress" in ast.dump(item.context_expr) for item in node.items):
            left += [(part, OPTIONAL) for part in node.body]
        else:
            if isinstance(node, ast.Attribute) and (
                node.attr in HOOKS or (node.attr == "path" and getattr(node.value, "id", "") == "sys")
            ):
                marks.add("path")
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "pip" in node.value[:200].split():
                marks.add("pip")  # it may install something itself
            left += [(part, need) for part in ast.iter_child_nodes(node)]
    imports.sort(key=lambda item: int(str(item[3])))
    return {"imports": imports, "marks": sorted(marks)}


def test_of(test: ast.expr) -> str:
    """``typing`` for what only a type checker reads, ``main`` for what the script itself always does, else empty."""
    if getattr(test, "id", getattr(test, "attr", "")) == "TYPE_CHECKING":
        return "typing"
    main = (
        isinstance(test, ast.Compare) and getattr(test.left, "id", "") == "__name__" and isinstance(test.ops[0], ast.Eq)
    )
    return "main" if main else ""


def catches(handler: ast.ExceptHandler) -> bool:
    """Whether an import that fails ends here."""
    if handler.type is None:
        return True
    names = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        getattr(name, "id", "") in {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
        for name in names
    )


if __name__ == "__main__":
    main()
