"""The pages of recipes: their settings are taken and rendered, and both languages say the same."""

import re
from typing import Any

import pytest
import yaml

from reference.samples import ACME, FILE, GIVEN
from settings.loader import parse
from settings.site import merged
from tests.builders.rendered import files
from tests.builders.stack import PROJECT
from tests.builders.structure import structure

LANGUAGES = ("", ".zh-CN")


def page(language: str) -> str:
    return (PROJECT / f"docs/recipes{language}.md").read_text(encoding="utf-8")


def blocks(language: str, kind: str) -> list[str]:
    """The code of a kind, such as yaml, sh, or what is printed, in its order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", page(language), re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == kind]


def plain(value: Any) -> Any:
    """A value with a text in place of each that is encrypted, as Pulumi gives it to the program."""
    if isinstance(value, dict):
        return "s3cr3t" if list(value) == ["secure"] else {name: plain(item) for name, item in value.items()}
    return value


def settings_of(block: str) -> dict[str, Any]:
    return {key.removeprefix("wsgi-ecs:"): plain(value) for key, value in yaml.safe_load(block).items()}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_recipe_is_taken_and_makes_files_that_can_be_read(language: str) -> None:
    found = blocks(language, "yaml")
    assert len(found) >= 13
    for block in found:
        made = files(merged({"server": {"os": "debian12"}}, settings_of(block)))
        assert [structure(name, text) for name, text in made]


def test_both_languages_have_the_same_blocks_in_the_same_order() -> None:
    def without_comments(text: str) -> str:
        return re.sub(r"(?m)\s+#.*$", "", text)

    one, other = (list(map(settings_of, blocks(language, "yaml"))) for language in LANGUAGES)
    assert one == other
    for kind in ("sh", ""):
        one_text, other_text = (list(map(without_comments, blocks(language, kind))) for language in LANGUAGES)
        assert one_text == other_text
        assert one_text


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_table_names_settings_that_there_are(language: str) -> None:
    """In the column of settings: `key: value`, with dots from the top, without below nginx."""
    rows = [row.split("|")[2] for row in page(language).splitlines() if row.startswith("|")]
    named = [code for row in rows for code in re.findall(r"`([a-z_.]+: [^`]+)`", row)]
    assert len(named) >= 17
    for one in named:
        ((key, value),) = yaml.safe_load(one).items()
        path = key.split(".") if "." in key else ["nginx", key]
        config: dict[str, Any] = {"topology": {"app_servers": 2}} if path[1] == "upstream" else {}
        needed = ACME if key in ("tls.directory", "tls.ca") else GIVEN
        config = merged(config, needed if path[0] == "tls" else {})
        if key == "static_immutable":
            config["nginx"] = {"static_expires": "1d"}
        if key in ("gunicorn.worker_class", "nginx.upstream.keepalive"):
            config |= {"serving": {"app_server": "gunicorn"}, "gunicorn": {"worker_class": "gthread"}}
        for name in reversed(path):
            value = {name: value}
        parse(merged(config, value), FILE)


def test_both_languages_have_the_same_rows_and_headings() -> None:
    shapes = [
        [re.match(r"#+|\|", line)[0] for line in page(language).splitlines() if re.match(r"#+ |\|", line)]  # type: ignore[index]
        for language in LANGUAGES
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_link_within_a_page_leads_somewhere(language: str) -> None:
    """As GitHub makes anchors of headings: https://github.com/gjtorikian/html-pipeline"""
    text = page(language)
    headings = re.findall(r"(?m)^#+ (.*)$", text)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    links = set(re.findall(r"\]\(#([^)]*)\)", text))
    assert links
    assert links <= anchors
