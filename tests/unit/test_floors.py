"""Promises of the house: which floor stands on which, how large a room may be, and that a kind is named once."""

import ast
from pathlib import Path
from typing import get_args

import pytest

from kinds import app_servers, process_managers, systems
from kinds.databases import DATABASES
from kinds.systems import Apt
from rehearsal.cloud.images import CLOUD_IMAGES, RECIPES, SUBSTITUTE
from settings import SiteSettings
from settings.stack import SITE_KEYS, Document
from tests.builders.stack import PROJECT
from tests.unit.machine import module

# Floor → the floors and Pulumi packages that it may import. Each stands on what is listed before it.
FLOORS: dict[str, set[str]] = {
    "contract": set(),
    "schema": {"contract"},
    "templates": {"jinja2"},
    "kinds": {"contract", "schema", "templates"},
    "inspection": set(),
    "settings": {"contract", "schema", "kinds", "inspection", "pulumi"},
    "serving": {"contract", "schema", "kinds", "templates", "settings"},
    "components": {
        "contract", "schema", "kinds", "templates", "settings", "serving",
        "pulumi", "pulumi_alicloud", "pulumi_command",
    },
    "machine": {"contract"},
    "operations": {"contract", "schema", "kinds"},
    "policy": set(),
    "rehearsal": {"contract", "schema", "kinds", "settings", "inspection", "operations", "pulumi"},
    "reference": {"contract", "schema", "kinds", "settings", "serving", "rehearsal"},
}  # fmt: skip
WATCHED = {*FLOORS, "pulumi", "pulumi_alicloud", "pulumi_command", "jinja2", "tests"}
PRODUCT = sorted(path for floor in FLOORS for path in (PROJECT / floor).rglob("*.py"))


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_stands_only_on_those_below_it(floor: str) -> None:
    for path in (PROJECT / floor).rglob("*.py"):
        assert not (imports(path) & WATCHED) - FLOORS[floor] - {floor}, path


@pytest.mark.parametrize("folder", ["app_servers", "process_managers", "systems", "databases"])
def test_a_kind_knows_no_other_of_its_folder(folder: str) -> None:
    rooms = {path.stem for path in (PROJECT / "kinds" / folder).glob("*.py")} - {"__init__", "base"}
    for room in rooms:
        text = (PROJECT / "kinds" / folder / f"{room}.py").read_text()
        others = {other for other in rooms - {room} if f"kinds.{folder}.{other} import" in text}
        # A system may be another one with some facts changed, and the emperor's unit is systemd's.
        assert folder == "systems" or others <= {"systemd"}, room


def test_a_kind_is_named_where_it_is_registered() -> None:
    assert get_args(app_servers.Name) == tuple(app_servers.APP_SERVERS)
    assert get_args(process_managers.Name) == tuple(process_managers.PROCESS_MANAGERS)
    assert get_args(systems.Name) == tuple(systems.SYSTEMS)
    for key, kind in (*app_servers.APP_SERVERS.items(), *DATABASES.items()):
        assert Document.model_fields[key].annotation is kind
    for manager in process_managers.PROCESS_MANAGERS.values():
        assert Document.model_fields[manager.key].annotation in manager.__mro__
    assert set(CLOUD_IMAGES.values()) == set(systems.SYSTEMS)
    assert SUBSTITUTE in set(RECIPES) <= set(systems.SYSTEMS)
    apt = {name for name, system in systems.SYSTEMS.items() if isinstance(system.packaging, Apt)}
    assert set(module("hints")._APT) == apt


def test_a_site_has_of_the_document_what_it_may_say_itself() -> None:
    for key in SITE_KEYS:
        assert SiteSettings.model_fields[key].annotation is Document.model_fields[key].annotation


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: path.relative_to(PROJECT).as_posix())
def test_a_module_and_its_functions_can_be_read_in_one_sitting(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and node.end_lineno:
            assert node.end_lineno - node.lineno < 60, node.name
