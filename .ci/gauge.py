"""Print the shape of the package, as style guides measure it; exit 1 where a hard bound breaks.

Hard: files <= 600 lines, functions <= 60 (docstring aside), no assert, print or swallowed error
in the package, every public name documented, every public function annotated, fewer than ten
type: ignore. Printed only: medians, and test lines per source line.
"""

from __future__ import annotations

import ast
import re
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "lionlite"


def doc_lines(node):
    if ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def is_public(path, node):
    return not node.name.startswith("_") and not path.name.startswith("_")


def main():
    paths = sorted(PACKAGE.rglob("*.py"))
    sizes, functions, problems, raising, silent = [], [], [], 0, 0
    ignores = 0
    for path in paths:
        text = path.read_text(encoding="utf-8")
        ignores += len(re.findall(r"type: ignore", text))
        sizes.append((text.count("\n") + 1, path.relative_to(ROOT)))
        tree = ast.parse(text)
        for node in ast.walk(tree):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.FunctionDef):
                size = node.end_lineno - node.lineno + 1 - doc_lines(node)
                functions.append(size)
                if size > 60:
                    problems.append(f"{where} {node.name} has {size} lines")
                arguments = node.args
                named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
                bare = [a.arg for a in named if a.annotation is None and a.arg not in ("self", "cls")]
                if bare or node.returns is None:
                    problems.append(f"{where} {node.name} is not annotated")
                doc = ast.get_docstring(node) or ""
                raises = any(isinstance(n, ast.Raise) and n.exc for n in ast.walk(node))
                if doc and raises and is_public(path, node):
                    raising += 1
                    silent += "Raises" not in doc
            if node in faces(tree) and is_public(path, node):
                if ast.get_docstring(node) is None and "overload" not in decorators(node):
                    problems.append(f"{where} {node.name} has no docstring")
            if isinstance(node, ast.Assert):
                problems.append(f"{where} assert")
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                problems.append(f"{where} print")
            if isinstance(node, ast.ExceptHandler) and all(isinstance(b, ast.Pass) for b in node.body):
                problems.append(f"{where} swallows an error")
    longest = max(sizes)
    if longest[0] > 600:
        problems.append(f"{longest[1]} has {longest[0]} lines")
    if ignores >= 10:
        problems.append(f"{ignores} type: ignore")
    source = sum(size for size, _ in sizes)
    tests = sum(
        path.read_text(encoding="utf-8").count("\n") + 1 for path in (ROOT / "tests").rglob("*.py")
    )
    functions.sort()
    print(
        f"files {len(sizes)}, lines {source}, file median {statistics.median(s for s, _ in sizes):.0f}, "
        f"longest {longest[0]} ({longest[1]})\n"
        f"functions {len(functions)}, median {statistics.median(functions):.0f}, "
        f"p90 {functions[int(len(functions) * 0.9)]}, longest {functions[-1]}\n"
        f"raising functions with docstring {raising}, of them without Raises {silent}\n"
        f"type: ignore {ignores}; test lines per source line {tests / source:.2f}"
    )
    if silent:
        problems.append(f"{silent} raising public functions do not say Raises")
    for problem in problems:
        print("  broken:", problem)
    return 1 if problems else 0


def decorators(node):
    return {getattr(d, "id", getattr(d, "attr", "")) for d in node.decorator_list}


def faces(tree):
    """Return the functions and classes that stand in the module or in its classes."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    top = [node for node in tree.body if isinstance(node, kinds)]
    public = [node for node in top if isinstance(node, ast.ClassDef) and node.name[0] != "_"]
    return {*top, *(node for owner in public for node in owner.body if isinstance(node, kinds))}


if __name__ == "__main__":
    sys.exit(main())
