"""docs/settings*.md are what the models, the Chinese texts and the program say.

`make docs` writes them again; read the difference before you commit it.
"""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from reference.allowed import allowed
from reference.effects import effects as effects_of_changes
from reference.pages import CHINESE, LANGUAGES, Language, page
from reference.rows import rows as all_rows
from tests.builders.certificates import Authority
from tests.builders.stack import PROJECT, ssh_key


@pytest.fixture(scope="module")
def effects(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Of every setting, in a folder with the files that the samples name."""
    folder = tmp_path_factory.mktemp("project")
    authority = Authority()
    one, other = (authority.sign("www.example.com") for _ in range(2))
    texts = {
        **{"c.pem": one.certificate, "k.pem": one.private_key, "other.pem": one.certificate + authority.pem},
        **{"d.pem": other.certificate, "l.pem": other.private_key, "ca.pem": authority.pem},
        **{
            "ssh": ssh_key()[0],
            "schema.sql": "",
            "other/app.py": "",
            "other/requirements.txt": "# another",
            "app/Procfile": "clock: x",
        },
    }
    names = ("app.py", "mysite/wsgi.py", "site.wsgi", "404.html", "requirements.txt", "other.txt", "static/x", "lib/x")
    for name, text in {**texts, **{f"app/{name}": "" for name in names}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = Path.cwd()
    os.chdir(folder)
    yield effects_of_changes()
    os.chdir(before)


@pytest.mark.parametrize("language", LANGUAGES, ids=lambda language: language.suffix or "en")
def test_the_page_is_what_the_program_says(language: Language, effects: dict[str, str]) -> None:
    path = PROJECT / f"docs/settings{language.suffix}.md"
    text = page(language, effects) + "\n"
    if os.environ.get("GOLDEN") == "write":
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_every_setting_has_a_chinese_description_and_none_is_stale() -> None:
    found = yaml.safe_load(CHINESE.read_text(encoding="utf-8"))
    rows = list(all_rows())
    keys = [row.key for row in rows]
    assert [key for key in keys if key not in found["keys"]] == []
    assert [key for key in found["keys"] if key not in keys] == []
    assert list(found["keys"]) == keys
    assert [row.key for row in rows if found["keys"][row.key]["en"] != row.description] == []


def test_every_type_has_a_chinese_description_and_none_is_stale() -> None:
    asked: list[str] = []

    class Asked(dict[str, str]):
        def __getitem__(self, text: str) -> str:
            asked.append(text)
            return text

    found = yaml.safe_load(CHINESE.read_text(encoding="utf-8"))["types"]
    words = LANGUAGES[1].words
    for row in all_rows():
        allowed(row.kind, dataclasses.replace(words, texts=Asked(found)))
    assert [text for text in dict.fromkeys(asked) if text not in found] == []
    assert [text for text in found if text not in asked] == []


def test_changes_do_what_the_readme_says_of_them(effects: dict[str, str]) -> None:
    known = {
        "server.os": "new server",
        "server.instance_type": "restart",
        "server.mirrors.index": "next server",
        "server.zone": "—",
        "access.http": "in place",
        "app.env": "in place",
        "app.module": "release",
        "uwsgi.processes": "release",
    }
    assert {key: effects[key] for key in known} == known
