"""Stacks on real machines: a copy of the project, a stack of its own, the command as a user runs it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.stack import PROJECT
from tests.rehearsal.builders.stack import Stack, new_stack


@pytest.fixture(scope="session")
def project_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what git tracks, so that a test may edit it."""
    folder = tmp_path_factory.mktemp("project")
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=PROJECT, capture_output=True, text=True
    )
    for name in tracked.stdout.splitlines():
        if (PROJECT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(PROJECT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def stack(project_copy: Path, request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A stack of its own for each module, destroyed in the end whatever happened."""
    made = new_stack(project_copy, request.module.__name__.rsplit(".", 1)[-1].replace("_", "-"))
    yield made
    made.run("destroy")
