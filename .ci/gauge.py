"""Print the shape of the package, as style guides measure it; exit 1 where a hard bound breaks.

Hard: files <= 600 lines, functions <= 60 (docstring aside), no assert, print or swallowed error
in the package, every public name documented, every function annotated, every raising one says
Raises, fewer than ten "type: ignore". Printed only: medians, and test lines per source line.
"""

from __future__ import annotations

import ast
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE, MAX_FUNCTION, MAX_IGNORES = 600, 60, 9

Face = ast.FunctionDef | ast.ClassDef


def lines_of(path: Path) -> int:
    """Return the number of lines of the file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def code_lines(function: ast.FunctionDef) -> int:
    """Return the lines of *function* without its docstring."""
    first = function.body[0]
    has_doc = ast.get_docstring(function) is not None
    doc = (first.end_lineno or 0) - first.lineno + 1 if has_doc else 0
    return (function.end_lineno or 0) - function.lineno + 1 - doc


def faces(tree: ast.Module) -> list[Face]:
    """Return the public functions and classes of a module, and what its classes hold."""
    top = [node for node in tree.body if isinstance(node, Face)]
    owners = [node for node in top if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    inner = [node for owner in owners for node in owner.body if isinstance(node, Face)]
    return [node for node in (*top, *inner) if node.name[0] != "_"]


def is_overload(node: Face) -> bool:
    """Whether *node* only tells types."""
    return any(getattr(mark, "id", "") == "overload" for mark in node.decorator_list)


def is_bare(function: ast.FunctionDef) -> bool:
    """Whether an annotation is missing."""
    named = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return function.returns is None or any(
        argument.annotation is None and argument.arg not in {"self", "cls"} for argument in named
    )


def raises_silently(function: ast.FunctionDef) -> bool:
    """Whether *function* raises an error of its own and its docstring does not say so."""
    doc = ast.get_docstring(function) or ""
    raises = any(isinstance(node, ast.Raise) and node.exc for node in ast.walk(function))
    return raises and bool(doc) and "Raises" not in doc


def problems_of(tree: ast.Module) -> list[tuple[int, str]]:
    """Return line and name of everything in a module that breaks a bound."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and code_lines(node) > MAX_FUNCTION:
            found.append((node.lineno, f"{node.name}: {code_lines(node)} lines"))
        if isinstance(node, ast.FunctionDef) and is_bare(node):
            found.append((node.lineno, f"{node.name}: an annotation is missing"))
        if isinstance(node, ast.Assert):
            found.append((node.lineno, "assert"))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            found.append((node.lineno, "print"))
        if isinstance(node, ast.ExceptHandler) and isinstance(node.body[0], ast.Pass):
            found.append((node.lineno, "an error is swallowed"))
    for face in faces(tree):
        if ast.get_docstring(face) is None and not is_overload(face):
            found.append((face.lineno, f"{face.name}: no docstring"))
        if isinstance(face, ast.FunctionDef) and raises_silently(face):
            found.append((face.lineno, f"{face.name}: raises, and does not say so"))
    return found


def main() -> int:
    """Print the figures; return the exit code."""
    paths = sorted((ROOT / "lionlite").rglob("*.py"))
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    sizes = {path: lines_of(path) for path in paths}
    functions = sorted(
        code_lines(node)
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
    )
    ignores = sum(path.read_text(encoding="utf-8").count("type: ignore[") for path in paths)
    tests = sum(lines_of(path) for path in (ROOT / "tests").rglob("*.py"))
    longest = max(paths, key=lambda path: sizes[path])
    print(
        f"files {len(paths)}, lines {sum(sizes.values())}, median "
        f"{statistics.median(sizes.values()):.0f}, longest {sizes[longest]} "
        f"({longest.relative_to(ROOT)})\n"
        f"functions {len(functions)}, median {statistics.median(functions):.0f}, "
        f"p90 {functions[int(len(functions) * 0.9)]}, longest {functions[-1]}\n"
        f"type: ignore {ignores}; test lines per source line {tests / sum(sizes.values()):.2f}"
    )
    broken = [
        f"{path.relative_to(ROOT)}:{line} {what}"
        for path, tree in trees.items()
        for line, what in problems_of(tree)
    ]
    broken += [f"{path.relative_to(ROOT)}: {n} lines" for path, n in sizes.items() if n > MAX_FILE]
    broken += [f"{ignores} type: ignore"] if ignores > MAX_IGNORES else []
    for one in broken:
        print("  broken:", one)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
