"""The pages that a reader begins with: their links lead somewhere, and they name one bare test command."""

import re
from pathlib import Path

import pytest

from tests.builders.stack import PROJECT

PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").rglob("*.md")])


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them: https://github.com/gjtorikian/html-pipeline"""
    headings = re.findall(r"(?m)^#+ (.*)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(PROJECT)))
def test_every_link_leads_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    for link in links:
        if link.startswith("https://"):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_readme_contributing_and_the_chinese_readme_name_one_bare_test_command() -> None:
    named = {
        command
        for name in ("README.md", "README.zh-CN.md", "CONTRIBUTING.md")
        for command in re.findall(r"`(pip install -r requirements\.txt[^`]*)`", (PROJECT / name).read_text("utf-8"))
    }
    assert named == {"pip install -r requirements.txt && pytest"}


def test_the_readme_names_the_bare_test_command_once_so_that_ci_can_take_it() -> None:
    assert len(re.findall(r"pip install -r requirements\.txt &&", (PROJECT / "README.md").read_text("utf-8"))) == 1
