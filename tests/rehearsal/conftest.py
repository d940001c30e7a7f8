"""Stacks on real machines: a copy of the project, a stack of its own, the command as a user runs it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.stack import PROJECT
from tests.rehearsal.builders.stack import Stack, new_stack

# The modules that take longest, the longest first: whatever begins last leaves the other workers idle.
LONGEST = (
    "test_fleet", "test_mysql", "test_scaling", "test_data", "test_life_of_a_stack", "test_family", "test_redis",
    "test_front", "test_shared_data", "test_faults", "test_preview", "test_fresh_host", "test_hangs", "test_sites",
    "test_updates", "test_alb", "test_host_keys", "test_guides", "test_tls", "test_managed_redis", "test_managed_mysql",
    "test_comes_back",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


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
