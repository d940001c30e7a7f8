"""What nginx serves of an application, as the settings, Flask or Django have it."""

from pathlib import Path
from typing import Any

import pytest

from reference.samples import FILE
from serving import make_plan
from settings import SettingsError
from settings.loader import parse
from settings.static_files import resolve


def static_of(app: Path, module: str = "app", **nginx: Any) -> tuple[dict[str, str], list[str]]:
    """nginx.static of an application's folder, and what the user is warned of."""
    found, warnings = resolve(
        parse({"app": {"source": str(app), "module": module}, "nginx": nginx}, FILE), Path("/"), FILE
    )
    return found.sites[0].nginx.static, warnings


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.mark.parametrize("settings", [{"static": {"/static/": "collected"}}, {}])
def test_what_a_command_makes_on_another_server_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    write(tmp_path, {"wsgi.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'conf')\n"})
    write(tmp_path, {"conf.py": "STATIC_URL = '/static/'\nSTATIC_ROOT = 'collected'\n"})
    config = {
        "app": {"source": str(tmp_path), "module": "wsgi"},
        "nginx": settings,
        "release": {"before": "python manage.py collectstatic --noinput"},
    }
    found, _ = resolve(parse(config, FILE), Path("/"), FILE)
    assert found.sites[0].nginx.static == {"/static/": "collected"}
    apart = parse({**config, "topology": {"app_servers": 1}}, FILE)
    with pytest.raises(SettingsError, match=r"nginx\.static\./static/: collected would be made by release\.before"):
        resolve(apart, Path("/"), FILE)
    (tmp_path / "collected").mkdir()
    found, _ = resolve(apart, Path("/"), FILE)
    assert found.sites[0].nginx.static == {"/static/": "collected"}


def test_without_a_folder_the_application_answers(tmp_path: Path) -> None:
    (tmp_path / "shop/static").mkdir(parents=True)
    assert static_of(tmp_path) == ({}, [])
    (tmp_path / "static").mkdir()
    assert static_of(tmp_path) == ({"/static/": "static"}, [])


FLASK = "from flask import Flask\n\ndef create_app():\n    return Flask(__name__{})\n"


@pytest.mark.parametrize(
    ("module", "files", "static"),
    [
        ("shop", {"shop/__init__.py": FLASK, "shop/static/a": ""}, {"/static/": "shop/static"}),
        ("shop.web", {"shop/web.py": FLASK, "shop/static/a": ""}, {"/static/": "shop/static"}),
        ("shop", {"src/shop/__init__.py": FLASK, "src/shop/static/a": ""}, {"/static/": "src/shop/static"}),
        # The factory is in the package that the server's module imports.
        (
            "wsgi",
            {"wsgi.py": "from shop import create_app", "shop/__init__.py": FLASK, "shop/static/a": "", "static/b": ""},
            {"/static/": "shop/static"},
        ),
        (
            "shop.wsgi",
            {"shop/wsgi.py": "from . import web", "shop/web.py": FLASK, "shop/static/a": ""},
            {"/static/": "shop/static"},
        ),
        ("app", {"app.py": FLASK.format(", static_folder='public'"), "public/a": ""}, {"/public/": "public"}),
        (
            "app",
            {"app.py": FLASK.format(", static_url_path='/s', static_folder='public'"), "public/a": ""},
            {"/s/": "public"},
        ),
        # Flask serves it at the root, where the application's own pages are.
        ("app", {"app.py": FLASK.format(", static_url_path='', static_folder='public'"), "public/a": ""}, {}),
        ("app", {"app.py": FLASK.format(", static_folder='../public'"), "public/a": ""}, {}),
        ("app", {"app.py": "def app(", "static/a": ""}, {"/static/": "static"}),
        # An application without a framework.
        ("shop.web", {"shop/web.py": "def app(): pass", "shop/static/a": ""}, {"/static/": "shop/static"}),
    ],
)
def test_flasks_own_folder_is_found(tmp_path: Path, module: str, files: dict[str, str], static: dict[str, str]) -> None:
    write(tmp_path, {name: text.replace("{}", "") for name, text in files.items()})
    assert static_of(tmp_path, module) == (static, [])


WSGI = "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')\n"
BASE = "from pathlib import Path\nBASE_DIR = Path(__file__).resolve().parent.parent\nSTATIC_URL = 'static/'\n"
COLLECTED = "STATIC_ROOT = BASE_DIR / 'collected'"
OLD = "import os\nBASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))\nSTATIC_URL = '/assets/'\n"


@pytest.mark.parametrize(
    ("settings", "static"),
    [
        ({"settings.py": BASE + "STATIC_ROOT = BASE_DIR / 'collected'"}, {"/static/": "collected"}),
        ({"settings.py": BASE + "STATIC_ROOT = str(BASE_DIR / 'collected')"}, {"/static/": "collected"}),
        ({"settings.py": BASE + "STATIC_ROOT = BASE_DIR.joinpath('collected')"}, {"/static/": "collected"}),
        ({"settings.py": OLD + "STATIC_ROOT = os.path.join(BASE_DIR, 'collected')"}, {"/assets/": "collected"}),
        # Settings of an environment, which import the others.
        (
            {
                "settings/__init__.py": "from .base import *",
                "settings/base.py": BASE.replace("parent.parent", "parents[2]")
                + "STATIC_ROOT = BASE_DIR / 'collected'",
            },
            {"/static/": "collected"},
        ),
        ({"settings.py": BASE + "STATIC_ROOT = 'collected'"}, {"/static/": "collected"}),
        ({"settings.py": BASE + "STATIC_ROOT = env('ROOT')"}, {}),
        ({"settings.py": BASE + "STATIC_ROOT = '/var/www/static'"}, {}),
        ({"settings.py": BASE + "STATIC_ROOT = BASE_DIR / 'missing'"}, {}),
        ({"settings.py": BASE + "STATIC_ROOT = BASE_DIR / 'collected'\nSTATIC_URL = 'https://cdn.example/'"}, {}),
    ],
)
def test_djangos_own_folder_is_found(tmp_path: Path, settings: dict[str, str], static: dict[str, str]) -> None:
    write(tmp_path, {"shop/wsgi.py": WSGI, "shop/static/a": "", "collected/a": ""})
    write(tmp_path / "shop", settings)
    assert static_of(tmp_path, "shop.wsgi") == (static, [])


def test_what_was_found_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"shop/__init__.py": FLASK.replace("{}", ""), "shop/static/a": ""})
    app = {"source": str(tmp_path), "module": "shop"}
    found, _ = resolve(parse({"app": app}, FILE), Path("/"), FILE)
    assert list(found.notes) == ["/static/ is served by nginx from shop/static"]
    found, _ = resolve(parse({"sites": {"one": {"app": app, "site": {"location": "/one/"}}}}, FILE), Path("/"), FILE)
    assert list(found.notes) == ["site one: /one/static/ is served by nginx from shop/static"]
    found, _ = resolve(parse({"app": app, "nginx": {"static": {"/s/": "shop/static"}}}, FILE), Path("/"), FILE)
    assert not found.notes


@pytest.mark.parametrize("path", ["shop/static", "shop", "shop/static/uploads"])
def test_what_was_found_and_is_persistent_is_left_to_the_application(tmp_path: Path, path: str) -> None:
    write(
        tmp_path, {"shop/__init__.py": FLASK.replace("{}", ""), "shop/static/a": "", "run.py": "from shop import app"}
    )
    app = {"source": str(tmp_path), "module": "run", "persistent": [path]}
    found, _ = resolve(parse({"app": app}, FILE), Path("/"), FILE)
    assert not found.sites[0].nginx.static
    assert list(found.notes) == [
        f"/static/ is answered by the application and not by nginx, because app.persistent keeps {path}; "
        "data.served can have nginx serve it"
    ]
    own = {"app": {**app, "persistent": ["instance"]}}
    found, _ = resolve(parse(own, FILE), Path("/"), FILE)
    assert found.sites[0].nginx.static == {"/static/": "shop/static"}
    found, _ = resolve(parse({**own, "data": {"served": {"/static/": "media"}}}, FILE), Path("/"), FILE)
    assert not found.sites[0].nginx.static


def test_what_a_user_named_and_is_missing_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"media/a": "", "files/robots.txt": ""})
    named = {"/media/": "media", "/s/": "built", "/robots.txt": "files/robots.txt", "/favicon.ico": "favicon.ico"}
    static, warnings = static_of(tmp_path, static=named)
    assert static == {"/media/": "media", "/robots.txt": "files/robots.txt"}
    assert warnings == [
        f"nginx.static: {tmp_path} has no folder built, so nginx passes /s/ on to the application",
        f"nginx.static: {tmp_path} has no file favicon.ico, so nginx passes /favicon.ico on to the application",
    ]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path, {"static/robots.txt": ""})
    for url, path, text in (
        ("/robots/", "static/robots.txt", "is a file; allowed: a folder, or the URL path without / at its end"),
        ("/static", "static", "is a folder; allowed: a file, or the URL path with / at its end"),
    ):
        with pytest.raises(SettingsError, match=rf"nginx\.static\.{url}: {path} {text}"):
            static_of(tmp_path, static={url: path})


def test_a_location_is_left_out_with_its_folder(tmp_path: Path) -> None:
    found, _ = resolve(parse({"app": {"source": str(tmp_path)}}, FILE), Path("/"), FILE)
    assert "location /static/" not in make_plan(found).sites[0].configs["server.conf"]


def test_a_file_has_a_location_of_its_own() -> None:
    text = (
        make_plan(parse({"nginx": {"static": {"/favicon.ico": "static/favicon.ico"}}}, FILE))
        .sites[0]
        .configs["server.conf"]
    )
    block = text.split("location = /favicon.ico {")[1].split("\n    }")[0]
    assert "alias @@view_dir@@/release/app/static/favicon.ico;" in block
