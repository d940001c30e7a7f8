"""The release tool's builds on this host: as the user of the tests, in folders of theirs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.machine import module


class Builder:
    """Builds as the user of the tests."""

    def __init__(self, home: Path) -> None:
        self.user = SimpleNamespace(pw_dir=str(home))

    def own(self, path: str) -> None: ...

    def end_leftovers(self) -> None: ...

    def run(self, *command: str, **options: Any) -> Any:
        return module("commands").run(*command, **options)


def builds_as_tests(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The tool's module of builds, whose user has a home in a folder."""
    tool = module("builds")
    (folder / "home").mkdir()
    monkeypatch.setattr(tool, "Builder", lambda: Builder(folder / "home"))
    monkeypatch.setattr(tool.files, "own", lambda path, group, mode: Path(path).chmod(mode))
    return tool
