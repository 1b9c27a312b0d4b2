"""The house: floors, doors, faces. Reads the source, so it holds for code that no test runs."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import lionlite

pytestmark = pytest.mark.quick

PACKAGE = Path(lionlite.__file__).parent

FLOORS = {
    "display": 0,
    "exceptions": 0,
    "jsontext": 0,
    "unset": 0,
    "value": 0,
    "records": 1,
    "arguments": 2,
    "locks": 2,
    "scope": 2,
    "line": 3,
    "calls": 4,
    "limits": 4,
    "tokens": 4,
    "service": 5,
    "conversation": 6,
    "testing": 6,
    "demo": 7,
    "cli": 8,
    "__main__": 9,
    "__init__": 10,
}

DOORS = {
    "httpcore": "service/transport/",
    "httptools": "service/transport/",
    "httpx": "service/transport/",
    "msgspec": ("jsontext.py", "value.py"),
    "numpy": "demo.py",
    "pandas": "calls/runs/frames.py",
    "polars": "calls/runs/frames.py",
    "pyrate_limiter": "limits/",
    "pytest": "testing/plugin.py",
    "redis": "limits/stores/redis.py",
    "tiktoken": "tokens.py",
    "tqdm": "calls/progress.py",
}

# The face is lazy, so naming it costs nothing: the provider makes services by it, the command
# line asks it for the version.
USERS_OF_THE_FACE = {"testing/provider.py", "cli.py"}

MAX_LINES = 600
MAX_FUNCTION_LINES = 60


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(tree: ast.AST) -> list[str]:
    """Return every module that *tree* imports, those under TYPE_CHECKING included."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


def own_rooms(path: Path) -> set[str]:
    rooms = {
        parts[1] if len(parts := module.split(".")) > 1 else "__init__"
        for module in imported(tree_of(path))
        if module.split(".")[0] == "lionlite"
    }
    return rooms - {room_of(path)}


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_imports_go_strictly_downward(path: Path):
    floor = FLOORS[room_of(path)]

    too_high = {room for room in own_rooms(path) if FLOORS[room] >= floor}

    assert too_high <= ({"__init__"} if name_of(path) in USERS_OF_THE_FACE else set())


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_each_package_has_one_door(path: Path):
    packages = {module.split(".")[0] for module in imported(tree_of(path))}
    foreign = packages - set(sys.stdlib_module_names) - {"lionlite", "attrs"}

    wrong = {package for package in foreign if not name_of(path).startswith(DOORS[package])}

    assert wrong == set()


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_no_function_imports_our_own(path: Path):
    functions = [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]

    own = [m for function in functions for m in imported(function) if m.startswith("lionlite")]

    assert own == []


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_nothing_is_asynchronous_asserted_printed_or_swallowed(path: Path):
    tree = tree_of(path)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.AsyncFunctionDef, ast.Await, ast.Assert)):
            found.append(f"{node.lineno} {type(node).__name__}")
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
            found.append(f"{node.lineno} print")
        if isinstance(node, ast.ImportFrom) and any(alias.name == "*" for alias in node.names):
            found.append(f"{node.lineno} star import")
        if isinstance(node, ast.ExceptHandler) and len(node.body) == 1:
            found += [f"{node.lineno} pass"] if isinstance(node.body[0], ast.Pass) else []
    packages = {module.split(".")[0] for module in imported(tree)}

    assert found == []
    assert not packages & {"asyncio", "anyio", "trio"}


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_files_and_functions_stay_small(path: Path):
    long = [
        node.name
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and code_lines(node) > MAX_FUNCTION_LINES
    ]

    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
    assert long == []


def code_lines(function: ast.FunctionDef) -> int:
    doc = 0
    if ast.get_docstring(function) is not None:
        doc = function.body[0].end_lineno - function.body[0].lineno + 1
    return function.end_lineno - function.lineno + 1 - doc


@pytest.mark.parametrize("path", files(), ids=name_of)
def test_every_module_says_what_it_is_for(path: Path):
    assert ast.get_docstring(tree_of(path))


def test_the_face_is_sorted_complete_and_small():
    assert lionlite.__all__ == sorted(lionlite.__all__)
    assert len(lionlite.__all__) <= 30
    assert [name for name in lionlite.__all__ if getattr(lionlite, name, None) is None] == []


def test_the_face_shows_type_checkers_what_it_loads():
    tree = tree_of(PACKAGE / "__init__.py")
    shown = {module.rpartition(".")[2] for module in imported(tree)}

    assert set(lionlite.__all__) <= shown


@pytest.mark.parametrize("room", ["exceptions", "testing"])
def test_unknown_names_of_the_face_are_attribute_errors(room: str):
    with pytest.raises(AttributeError, match=f"no attribute '{room}s'"):
        getattr(lionlite, f"{room}s")


AUDIT = """
import json, os, sys, threading
seen = []
def watch(event, args):
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.fork", "os.system"):
        seen.append(event)
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        seen.append(f"open {args[0]}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
import lionlite
print(json.dumps({"seen": seen, "threads": threading.active_count(),
                  "loaded": sorted(m for m in ("httpx", "tiktoken", "pyrate_limiter", "msgspec")
                                   if m in sys.modules)}))
"""


def test_importing_opens_nothing_starts_nothing_and_loads_no_package():
    done = subprocess.run(
        [sys.executable, "-c", AUDIT], capture_output=True, text=True, check=True, timeout=60
    )

    assert json.loads(done.stdout) == {"seen": [], "threads": 1, "loaded": []}
