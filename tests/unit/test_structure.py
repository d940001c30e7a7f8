"""Promises of the code's structure, read from its syntax trees."""

import ast
import sys
from pathlib import Path

import pytest

from tests.builders.stack import PROJECT

COMPONENTS = sorted((PROJECT / "components").glob("*.py"))


def component_classes(path: Path) -> list[ast.ClassDef]:
    tree = ast.parse(path.read_text())
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any("ComponentResource" in ast.unparse(base) for base in node.bases)
    ]


CLASSES = [(path.name, node) for path in COMPONENTS for node in component_classes(path)]


def test_there_are_components() -> None:
    assert {node.name for _, node in CLASSES} == {
        "Network",
        "Server",
        "Release",
        "Fleet",
        "Disk",
        "Login",
        "ManagedMysql",
        "ManagedRedis",
        "Balancer",
        "Listeners",
        "Rollout",
        "Members",
        "SharedData",
        "Alarms",
    }


@pytest.mark.parametrize(("file", "node"), CLASSES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_component_registers_its_outputs_exactly_once_and_last(file: str, node: ast.ClassDef) -> None:
    init = next(item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__")
    calls = [c for c in ast.walk(init) if isinstance(c, ast.Call) and ast.unparse(c.func) == "self.register_outputs"]
    assert len(calls) == 1
    assert ast.unparse(init.body[-1]).startswith("self.register_outputs(")


@pytest.mark.parametrize(("file", "node"), CLASSES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_component_is_named_wsgi_module_class_and_is_the_parent_of_its_children(
    file: str, node: ast.ClassDef
) -> None:
    text = ast.unparse(node)
    assert f"super().__init__('wsgi:{file.removesuffix('.py')}:{node.name}', name, None, opts)" in text
    created = [
        c
        for c in ast.walk(node)
        if isinstance(c, ast.Call) and ast.unparse(c.func).startswith(("alicloud.", "command.remote.C"))
        and not ast.unparse(c.func).endswith("Args")
    ]  # fmt: skip
    assert created
    for call in created:
        opts = next(ast.unparse(k.value) for k in call.keywords if k.arg == "opts")
        assert opts == "child" or "parent=self" in opts


@pytest.mark.parametrize("path", COMPONENTS, ids=lambda path: path.name)
def test_no_resource_is_made_in_an_apply(path: Path) -> None:
    for call in (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)):
        if ast.unparse(call.func).endswith(".apply"):
            assert "alicloud." not in ast.unparse(call)
            assert "command." not in ast.unparse(call)


def test_the_program_is_short() -> None:
    lines = (PROJECT / "__main__.py").read_text().splitlines()
    assert len(lines) < 60


# Wing of the rehearsal → the wings that it may import.
WINGS = {"engine": {"engine"}, "cloud": {"engine", "cloud"}, "commands": {"engine", "cloud", "commands"}}


def imported_by(wing: str) -> dict[str, set[str]]:
    """Full name of each module or object that a wing imports, even inside functions → the files that import it."""
    found: dict[str, set[str]] = {}
    for path in (PROJECT / "rehearsal" / wing).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                found.setdefault(name, set()).add(path.name)
    return found


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_of_the_rehearsal_imports_no_wing_above_it(wing: str) -> None:
    found = {name: files for name, files in imported_by(wing).items() if name.split(".")[0] == "rehearsal"}
    assert found
    assert {name: files for name, files in found.items() if name.split(".")[1] not in WINGS[wing]} == {}


def test_the_engine_knows_neither_lxd_nor_a_screen() -> None:
    allowed = {"contract", "rehearsal", "pulumi", "google", "pydantic", *sys.stdlib_module_names}
    assert {name for name in imported_by("engine") if name.split(".")[0] not in allowed} == set()
    texts = [path.read_text() for path in (PROJECT / "rehearsal/engine").glob("*.py")]
    assert not [text for text in texts if "alicloud:" in text or "lxd" in text.lower()]


def test_the_cloud_knows_neither_settings_nor_a_screen() -> None:
    assert not {name.split(".")[0] for name in imported_by("cloud")} & {
        "settings",
        "schema",
        "rich",
        "click",
        "yaml",
        "httpx",
    }


def test_only_one_module_of_the_rehearsal_reads_settings() -> None:
    wings = PROJECT / "rehearsal"
    readers = [path.name for path in wings.rglob("*.py") if "stack.project}" in path.read_text()]
    assert readers == ["overlay.py"]
    of_settings = [files for name, files in imported_by("commands").items() if name.split(".")[0] == "settings"]
    assert set().union(*of_settings) <= {"overlay.py"}
