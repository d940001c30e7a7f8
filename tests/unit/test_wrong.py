"""Stacks that are wrong: a file of wrong/ each, and the one line that it gets before anything is created.

The first line of a file is what `./rehearse up` says. A second one, `# with: …`, names what must be there, of `THERE`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from rehearsal import cli, host, lock
from tests.conftest import PROJECT

CASES = sorted((Path(__file__).parent / "wrong").glob("*.yaml"))
THERE: dict[str, Callable[[Path, pytest.MonkeyPatch], object]] = {}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of one's own that runs the program of this one, on a host that nothing is done to."""
    (tmp_path / "stacks").mkdir()
    for name in ("Pulumi.yaml", "__main__.py", "app", "samples"):
        (tmp_path / name).symlink_to(PROJECT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "ROOT", tmp_path)
    monkeypatch.setattr(cli, "_on_interrupt", lambda text: None)
    monkeypatch.setattr(lock, "_FOLDER", tmp_path)
    monkeypatch.setattr(host, "prepare", lambda say: pytest.fail("taken: it goes on to the host"))
    return tmp_path


def expected(case: Path) -> str:
    return case.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")


def config_of(case: Path) -> dict[str, Any]:
    """The product's own keys of a case, as they stand there."""
    config = yaml.safe_load(case.read_text(encoding="utf-8"))["config"]
    return {key.removeprefix("wsgi-ecs:"): value for key, value in config.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_wrong_stack_is_refused_in_one_line(case: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = case.read_text(encoding="utf-8")
    (project / f"stacks/Pulumi.{case.stem}.yaml").write_text(text, encoding="utf-8")
    second = text.splitlines()[1]
    if second.startswith("# with: "):
        THERE[second.removeprefix("# with: ")](project, monkeypatch)
    done = CliRunner().invoke(cli.main, ["up", "--stack", case.stem])
    assert done.output == f"{expected(case)}\n"
    assert done.exit_code == 2
    assert not (project / ".rehearsal").exists()


def test_there_are_many_and_each_says_what_is_allowed() -> None:
    assert len(CASES) >= 60
    assert len({expected(case) for case in CASES}) == len(CASES)
    for case in CASES:
        assert expected(case).startswith(f"rehearse: stacks/Pulumi.{case.stem}.yaml: ")
        assert "allowed" in expected(case)
