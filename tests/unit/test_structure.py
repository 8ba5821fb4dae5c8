"""Rules for the structure of the rooms: folders, names of modules and classes, log events, imports."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("schemas", "log", "storage", "producers", "projections", "consumers", "server", "stack")
MAX_MODULES_IN_A_FOLDER = 13
MAX_MODULES_IN_A_TEST_FOLDER = 24
MORE_MODULES = {
    "projections/runfold_projections/metrics": 18,  # fold, summaries, and a module for each table that holds them
    "stack/runfold_stack/commands": 14,  # a module per group of commands
}
"""Folders of rooms that may hold more modules than the others: how many."""
SHARED_CLASS_NAMES = {
    "projections": {"RunBranches"},
    "server": {"Filter", "KeyValue", "Query"},
}
"""Names that several classes of a room have, until they are renamed."""
LOG_METHODS = {"debug", "info", "warning", "error", "exception", "critical"}


@cache
def modules(room: str) -> dict[Path, ast.Module]:
    """Syntax trees by path, relative to the root."""
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in sorted((ROOT / room).rglob("*.py"))}


@pytest.mark.parametrize("room", ROOMS)
def test_a_folder_holds_about_a_dozen_modules(room: str) -> None:
    counts = Counter(str(path.parent) for path in modules(room) if path.name not in ("__init__.py", "__main__.py"))
    allowed = {folder: MORE_MODULES.get(folder, MAX_MODULES_IN_A_FOLDER) for folder in counts}
    assert {folder: n for folder, n in counts.items() if n > allowed[folder]} == {}


def test_a_test_folder_holds_about_two_dozen_modules() -> None:
    counts = Counter(str(path.parent) for path in modules("tests") if path.name not in ("__init__.py", "conftest.py"))
    assert {folder: n for folder, n in counts.items() if n > MAX_MODULES_IN_A_TEST_FOLDER} == {}


@pytest.mark.parametrize("room", [*ROOMS, "tests", "benchmarks"])
def test_no_module_is_named_for_being_left_over(room: str) -> None:
    vague = re.compile(r"(^|_)(pieces|utils?|helpers?|misc)$")
    assert [str(path) for path in modules(room) if vague.search(path.stem)] == []


@pytest.mark.parametrize("room", ROOMS)
def test_class_names_are_unique_in_a_room(room: str) -> None:
    names = Counter(
        node.name
        for tree in modules(room).values()
        for node in tree.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert {name for name, n in names.items() if n > 1} <= SHARED_CLASS_NAMES.get(room, set())


def log_events(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of a structlog logger."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LOG_METHODS:
            owner = node.func.value
            if isinstance(owner, ast.Call):
                owner = owner.func
            name = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
            if re.fullmatch(r"_?(log|logger|LOG|get_logger)", name):
                yield node


@pytest.mark.parametrize("room", ["consumers", "server", "stack"])
def test_log_events_are_snake_case(room: str) -> None:
    wrong = []
    for path, tree in modules(room).items():
        for call in log_events(tree):
            event = call.args[0] if call.args else None
            texts = [event] if not isinstance(event, ast.IfExp) else [event.body, event.orelse]
            named = all(
                isinstance(text, ast.Constant) and re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", str(text.value))
                for text in texts
            )
            if not named:
                wrong.append(f"{path}:{call.lineno}: {ast.unparse(call)[:80]}")
    assert wrong == []


@pytest.mark.parametrize("room", ROOMS)
def test_a_module_that_imports_inside_functions_says_why(room: str) -> None:
    reason = re.compile(r"(?i)#.*\b(import\w*|start\w*|load\w*|optional|extra)\b")
    silent = []
    for path, tree in modules(room).items():
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        inside = [n for f in functions for n in ast.walk(f) if isinstance(n, ast.Import | ast.ImportFrom)]
        if inside and not reason.search((ROOT / path).read_text()):
            silent.append(str(path))
    assert silent == []
