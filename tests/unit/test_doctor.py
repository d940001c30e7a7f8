"""`./rehearse doctor`: what it prints and writes, and that the settings take what it writes."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from rehearsal import cli
from rehearsal.commands import doctor, overlay, passphrase
from rehearsal.commands.stack_file import load
from settings import files
from settings.loader import read
from tests.builders.encrypted import PASSPHRASE
from tests.builders.stack import PROJECT

PROJECTS = ("gallery", "press", "chat")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout beside the three projects."""
    for name in PROJECTS:
        shutil.copytree(PROJECT / "tests/rehearsal/projects" / name, tmp_path / name)
    checkout = tmp_path / "checkout"
    (checkout / "stacks").mkdir(parents=True)
    (checkout / "Pulumi.yaml").write_text("name: wsgi-ecs\nstackConfigDir: stacks\n")
    monkeypatch.setattr(cli, "ROOT", checkout)
    monkeypatch.setenv("REHEARSE_FROM", str(tmp_path))
    monkeypatch.setenv(passphrase.VARIABLE, PASSPHRASE)
    return checkout


def run(*arguments: str, code: int = 0, given: str = "") -> str:
    done = CliRunner().invoke(cli.main, list(arguments), input=given)
    assert done.exit_code == code, done.output
    return done.output


def written(root: Path, stack: str) -> dict[str, Any]:
    return dict(yaml.safe_load((root / f"stacks/Pulumi.{stack}.yaml").read_text())["config"])


@pytest.mark.parametrize("name", PROJECTS)
def test_the_settings_take_what_is_written(root: Path, name: str) -> None:
    shown = run("doctor", name, "--stack", name)
    assert "would get" in shown
    assert "not written" not in shown
    assert not list((root / "stacks").iterdir()), "nothing is written without --write"
    run("doctor", name, "--stack", name, "--write")
    for line in shown.splitlines():
        if line.startswith("  ./rehearse secret set "):
            run(*line.partition("#")[0].split()[1:], given="a secret\n")
    stack = load(root, name)
    settings = read(stack.config, stack.project, "file")
    files.check(settings, root, "file")
    assert settings.sites[0].app.source == f"../{name}"
    assert doctor.hints(root, stack) == []
    again = run("doctor", name, "--stack", name, "--write")
    assert "gets\n" not in again
    assert "already set: app.source, app.module, " in again


def test_what_is_set_stays_with_its_comments(root: Path) -> None:
    before = "# Ours.\nconfig:\n  wsgi-ecs:app:\n    health: /mine  # a page\n  wsgi-ecs:server: {os: ubuntu2204}\n"
    (root / "stacks/Pulumi.shop.yaml").write_text(before)
    shown = run("doctor", "press", "--stack", "shop", "--write")
    assert "already set: app.health, server.os" in shown
    after = (root / "stacks/Pulumi.shop.yaml").read_text()
    kept = before.splitlines()[:-1]
    assert [line for line in after.splitlines() if line in kept] == kept
    assert written(root, "shop")["wsgi-ecs:app"]["health"] == "/mine"
    assert "    # Django is made in press/wsgi.py:7\n    module: press.wsgi\n" in after


def test_what_a_list_lacks_is_named_and_left_to_its_owner(root: Path) -> None:
    run("doctor", "press", "--stack", "a", "--write")
    path = root / "stacks/Pulumi.a.yaml"
    collect = "python manage.py collectstatic --noinput"
    path.write_text(path.read_text().replace(f", {collect}", ""))
    before = path.read_text()
    assert collect not in before
    shown = run("doctor", "press", "--stack", "a", "--write")
    assert f"already set, and lacks: release.before: {collect}  # before each release: Django's migrations; " in shown
    assert path.read_text() == before


def test_with_sites_the_site_of_the_folder_gets_its_settings(root: Path) -> None:
    sites = "config:\n  wsgi-ecs:sites:\n    shop: {app: {source: ../gallery}}\n    blog: {app: {source: ../press}}\n"
    (root / "stacks/Pulumi.two.yaml").write_text(sites)
    run("doctor", "press", "--stack", "two", "--write")
    config = written(root, "two")
    assert config["wsgi-ecs:sites"]["blog"]["app"]["module"] == "press.wsgi"
    assert config["wsgi-ecs:sites"]["shop"] == {"app": {"source": "../gallery"}}
    assert config["wsgi-ecs:server"]["os"] == "debian13"
    assert "sites: none has this folder; allowed: a site with app.source" in run(
        "doctor", "chat", "--stack", "two", "--write", code=2
    )


def test_without_a_folder_it_reads_the_one_of_the_stack(root: Path) -> None:
    (root / "stacks/Pulumi.a.yaml").write_text("config: {wsgi-ecs:app: {source: ../press}}\n")
    assert "Django, WSGI: press.wsgi:application" in run("doctor", "--stack", "a")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "nowhere: no folder; allowed: the folder of your project"),
        (".", "no application found; it may be in press: ./rehearse doctor "),
        ("checkout", "no application found; allowed: a folder with a Flask, Django or other WSGI or ASGI application"),
    ],
)
def test_a_folder_without_an_application_is_refused_in_one_line(root: Path, folder: str, message: str) -> None:
    shown = run("doctor", folder, "--write", code=2)
    assert message in shown
    assert len(shown.splitlines()) == 1
    assert not list((root / "stacks").iterdir())


def test_a_preview_names_variables_without_which_the_project_does_not_start(root: Path) -> None:
    (root.parent / "shop").mkdir()
    code = "import os\nfrom flask import Flask\napp = Flask('x')\napp.secret_key = os.environ['KEY']\n"
    (root.parent / "shop/app.py").write_text(code)
    (root.parent / "shop/requirements.txt").write_text("Flask\n")
    run("doctor", "shop", "--stack", "a", "--write")
    assert doctor.hints(root, load(root, "a")) == [
        "app.env.KEY: app.py:4 does not start without it; ./rehearse secret set app.env.KEY --stack a"
    ]
    run("secret", "set", "app.env.KEY", "--stack", "a", given="a secret\n")
    assert doctor.hints(root, load(root, "a")) == []


def test_a_preview_holds_advice_against_the_stacks_own_system_as_doctor_does(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(overlay, "refusal", lambda key, value, system, beside=(): asked.append(system))
    text = "config:\n  wsgi-ecs:server: {os: alinux3}\n  wsgi-ecs:app: {source: ../press}\n"
    (root / "stacks/Pulumi.a.yaml").write_text(text)
    for ask in (lambda: doctor.hints(root, load(root, "a")), lambda: run("doctor", "press", "--stack", "a")):
        asked.clear()
        assert ask()
        assert set(asked) == {"alinux3"}


def test_what_the_settings_refuse_is_not_written(root: Path) -> None:
    (root / "json.py").write_text("from flask import Flask\napp = Flask('x')\n")
    (root / "requirements.txt").write_text("Flask\n")
    shown = run("doctor", "checkout", "--stack", "a", "--write")
    assert "not written, since the settings refuse it: app.module: json: json is a module of Python itself" in shown
    assert written(root, "a")["wsgi-ecs:app"] == {"source": "./.", "callable": "app"}
