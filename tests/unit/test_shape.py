"""The house's rules that import-linter cannot see: sizes, names, habits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
FORBIDDEN_NAMES = {"utils", "util", "helpers", "common", "misc"}
# Who may catch everything: the edge, which must answer; the lifespan, which must report.
BROAD_HANDLERS = {"app/api/hot.py", "app/api/front.py"}
# Who may catch even cancellation: whoever settles accounts and raises it again.
CANCELLATION_HANDLERS = {"app/dispatch/attempt.py", "backends/upstream/transport.py"}
SOURCES = sorted(path for folder in ("app", "backends") for path in (ROOT / folder).rglob("*.py"))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.fixture(params=SOURCES, ids=name_of)
def source(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_file_and_functions_can_be_held_in_the_head(source: Path) -> None:
    text = source.read_text()
    assert text.count("\n") <= MAX_FILE_LINES
    long = [
        f"{function.name}: {lines}"
        for function in functions(ast.parse(text))
        if (lines := (function.end_lineno or 0) - function.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long


def test_every_module_says_why_it_exists(source: Path) -> None:
    tree = ast.parse(source.read_text())
    assert ast.get_docstring(tree), f"{name_of(source)} has no docstring"


def test_public_classes_and_functions_are_documented(source: Path) -> None:
    tree = ast.parse(source.read_text())
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    assert not bare, f"{name_of(source)}: {bare}"


def test_no_module_is_a_drawer_for_odds_and_ends(source: Path) -> None:
    assert source.stem not in FORBIDDEN_NAMES


def test_no_globals_and_no_swallowed_errors(source: Path) -> None:
    tree = ast.parse(source.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Global)]
    handlers = [node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)]
    caught = {name.id for node in handlers if node.type for name in ast.walk(node.type) if isinstance(name, ast.Name)}
    assert all(node.type is not None for node in handlers), "a bare except"
    assert "Exception" not in caught or name_of(source) in BROAD_HANDLERS
    assert "BaseException" not in caught or name_of(source) in CANCELLATION_HANDLERS


def test_routing_awaits_nothing() -> None:
    for path in SOURCES:
        if "app/routing/" in name_of(path) or name_of(path) == "app/metering/cost.py":
            awaiting = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Await)]
            assert not awaiting, name_of(path)


def test_no_file_names_a_registry_or_this_machine() -> None:
    forbidden = ["python" + "hosted", "npm" + "js.", "py" + "pi.org", "/wo" + "rk/"]
    checked = {".py", ".md", ".txt", ".toml", ".yml", ".yaml", ".sh", ".json", ""}
    for path in ROOT.rglob("*"):
        parts = path.relative_to(ROOT).parts
        hidden = any(name.startswith(".") and name != ".ci" for name in parts[:-1])
        if path.name == ".git" or hidden or "node_modules" in parts:
            continue  # tools' caches, the environments, git (a file where this is a worktree)
        if path.suffix not in checked or not path.is_file():
            continue
        text = path.read_text(errors="ignore")
        assert not [word for word in forbidden if word in text], path
