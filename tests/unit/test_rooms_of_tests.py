"""Promises of the tests' own structure, read from their syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.stack import PROJECT

TESTS = PROJECT / "tests"
# Applications and programs that tests run on machines are no tests.
RUN_ELSEWHERE = (TESTS / "rehearsal/front", TESTS / "rehearsal/programs", TESTS / "rehearsal/cases")
MODULES = sorted(path for path in TESTS.rglob("*.py") if not any(map(path.is_relative_to, RUN_ELSEWHERE)))
PRODUCT = sorted({*PROJECT.glob("*.py"), *PROJECT.glob("[!.]*/**/*.py")} - {*TESTS.rglob("*.py")})
MUTABLE = {"list", "dict", "set", "defaultdict", "deque", "Counter"}
CHANGES = {
    "append", "extend", "insert", "remove", "pop", "popitem", "clear", "sort", "reverse",
    "add", "discard", "update", "setdefault", "appendleft", "popleft",
}  # fmt: skip


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted name of each module and of each name that a module imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def collections_of(tree: ast.Module) -> set[str]:
    """Return the names of a module's lists, dicts and sets."""
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            called = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).rpartition(".")[2] in MUTABLE
            literal = isinstance(node.value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp)
            if called or literal:
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
    return found


def changed(function: ast.AST, names: set[str]) -> Iterator[str]:
    """Yield what a function does to one of the names: sets a key, calls a method that changes it, says `global`."""
    for node in ast.walk(function):
        if isinstance(node, ast.Global):
            yield ast.unparse(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            if isinstance(node.value, ast.Name) and node.value.id in names:
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CHANGES:
            if isinstance(node.func.value, ast.Name) and node.func.value.id in names:
                yield ast.unparse(node)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name) and node.target.id in names:
            yield ast.unparse(node)


def relative(path: Path) -> str:
    return str(path.relative_to(PROJECT))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_module_imports_a_test_module_or_a_conftest(path: Path) -> None:
    names = {part for name in imported(ast.parse(path.read_text())) for part in name.split(".") if "tests" in name}
    assert {name for name in names if name.startswith("test_") or name == "conftest"} == set()


@pytest.mark.parametrize("path", PRODUCT, ids=relative)
def test_nothing_that_is_no_test_imports_one(path: Path) -> None:
    assert [name for name in imported(ast.parse(path.read_text())) if name.split(".")[0] == "tests"] == []


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_no_test_changes_what_belongs_to_its_module(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = collections_of(tree)
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert [text for function in functions for text in changed(function, names)] == []
