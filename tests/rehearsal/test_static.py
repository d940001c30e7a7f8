"""What nginx serves of an application, and what of its folder comes along, on one machine with three sites."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.stack import Done, Stack, new_stack, traces

FACTORY = """\
from flask import Flask
from stacks.cards import CARDS


def create_app():
    app = Flask(__name__)
    app.add_url_rule("/healthz", view_func=lambda: CARDS)
    return app


app = create_app()
"""
PLAIN = """\
import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_files.settings")


def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"the application: " + environ["PATH_INFO"].encode()]
"""
DJANGO = """\
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
STATIC_URL = "assets/"
STATIC_ROOT = BASE_DIR / "collected"
"""
FILES = {
    # A Flask factory whose static folder is in its package, with files whose names look like a tool's own.
    "flask/wsgi.py": "from shop import app\n",
    "flask/shop/__init__.py": FACTORY,
    "flask/shop/static/style.css": "of the package",
    "flask/shop/static/page.1a2b3c4d.css": "first",
    "flask/shop/templates/page.html": "of the first release",
    "flask/shop/static/node_modules/lib/lib.js": "a library",
    "flask/stacks/__init__.py": "",
    "flask/stacks/cards.py": "CARDS = 'cards'\n",
    "flask/requirements.txt": "Flask==3.1.3\n",
    "flask/package.json": "{}",
    "flask/node_modules/build/tool.js": "a tool",
    # Django's own settings, read without Django.
    "django/site_files/__init__.py": "",
    "django/site_files/wsgi.py": PLAIN,
    "django/site_files/settings.py": DJANGO,
    "django/collected/admin.css": "collected",
    "django/requirements.txt": "",
    # Single files.
    "plain/app.py": PLAIN,
    "plain/static/robots.txt": "User-agent: *\n",
    "plain/static/favicon.ico": "an icon",
    "plain/requirements.txt": "",
}
NAMED = {"/robots.txt": "static/robots.txt", "/favicon.ico": "static/favicon.ico", "/missing.txt": "missing.txt"}


class Static:
    """The stack that is up. done: its first run."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.done: Done = stack.up()
        self.address = self.done.output("address")

    def get(self, site: str, path: str) -> httpx.Response:
        headers = {"Host": f"{site}.example.test"}
        return httpx.get(f"http://{self.address}{path}", headers=headers, trust_env=False, timeout=10)


def _site(folder: Path, name: str, module: str, **more: Any) -> dict[str, Any]:
    app = {"source": (folder / name).as_posix(), "module": module}
    return {"site": {"server_name": f"{name}.example.test"}, "app": app, **more}


@pytest.fixture(scope="module")
def static(project_copy: Path) -> Iterator[Static]:
    stack = new_stack(project_copy, "static")
    folder = stack.folder.parent / f"{stack.name}-applications"
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    stack.settings = {
        "sites": {
            "flask": _site(folder, "flask", "wsgi", serving={"app_server": "gunicorn"}, release={"keep": 2}),
            "django": _site(folder, "django", "site_files.wsgi"),
            "plain": _site(folder, "plain", "app", nginx={"static": NAMED}),
        }
    }
    try:
        yield Static(stack)
    finally:
        stack.run("destroy")


def test_the_static_folder_of_a_package_is_found_and_served_by_nginx(static: Static) -> None:
    answer = static.get("flask", "/static/style.css")
    # Flask itself would send no-cache.
    assert (answer.text, answer.headers["cache-control"]) == ("of the package", "max-age=3600")
    assert "site flask: /static/ is served by nginx from shop/static" in static.done.out


def test_names_that_look_like_a_tools_own_come_along_and_what_stays_behind_is_named(static: Static) -> None:
    assert static.get("flask", "/healthz").text == "cards"
    assert static.get("flask", "/static/node_modules/lib/lib.js").text == "a library"
    assert "site flask: left out: node_modules/ (1 file)" in static.done.out


def test_djangos_collected_files_are_served_at_their_url(static: Static) -> None:
    assert static.get("django", "/assets/admin.css").text == "collected"
    assert static.get("django", "/static/admin.css").text == "the application: /static/admin.css"
    assert "site django: /assets/ is served by nginx from collected" in static.done.out


def test_single_files_have_their_own_url_and_a_missing_one_is_the_applications(static: Static) -> None:
    robots = static.get("plain", "/robots.txt")
    assert (robots.text, robots.headers["content-type"]) == ("User-agent: *\n", "text/plain; charset=utf-8")
    assert static.get("plain", "/favicon.ico").text == "an icon"
    assert static.get("plain", "/favicon.ico/x").text == "the application: /favicon.ico/x"
    assert static.get("plain", "/missing.txt").text == "the application: /missing.txt"
    assert "has no file missing.txt, so nginx passes /missing.txt on to the application" in static.done.out


def test_a_name_that_no_site_has_reaches_no_application(static: Static) -> None:
    for name in ("plain.example.org", static.address):
        answer = httpx.get(f"http://{static.address}/", headers={"Host": name}, trust_env=False, timeout=10)
        assert answer.status_code == 404
        assert "the application" not in answer.text
    names = "django.example.test, flask.example.test, plain.example.test"
    assert f"the server answers to {names} only; a request to {static.address} itself gets 404" in static.done.out


def test_a_page_of_the_release_before_finds_its_files(static: Static) -> None:
    folder = Path(static.stack.settings["sites"]["flask"]["app"]["source"]) / "shop"
    assert static.get("flask", "/static/page.1a2b3c4d.css").text == "first"
    (folder / "static/page.1a2b3c4d.css").unlink()
    (folder / "templates/page.html").unlink()
    (folder / "static/page.5e6f7a8b.css").write_text("second")
    (folder / "static/style.css").write_text("of the second release")
    static.stack.up()
    old = static.get("flask", "/static/page.1a2b3c4d.css")
    assert (old.text, old.headers["cache-control"]) == ("first", "max-age=3600")
    assert old.headers["content-type"] == "text/css"
    assert old.headers["x-content-type-options"] == "nosniff"
    assert static.get("flask", "/static/page.5e6f7a8b.css").text == "second"
    assert static.get("flask", "/static/style.css").text == "of the second release"
    # Nothing else of the release before: neither by the folder beside, nor by the names that nginx has for itself.
    for path in (
        "/static/..%2ftemplates/page.html",
        "/static/%2e%2e/templates/page.html",
        "/static/none.css",
        "/static/lib/",
        "/.kept/static/page.1a2b3c4d.css",
        "/kept-1/app/shop/templates/page.html",
    ):
        assert static.get("flask", path).status_code == 404, path
    (folder / "static/page.5e6f7a8b.css").unlink()
    static.stack.up()
    assert static.get("flask", "/static/page.5e6f7a8b.css").text == "second"
    # release.keep is 2, so the first release is gone.
    assert static.get("flask", "/static/page.1a2b3c4d.css").status_code == 404


def test_destroy_leaves_neither_keys_nor_anything_else(static: Static) -> None:
    keys = static.stack.folder / ".rehearsal" / static.stack.name
    assert (keys / "id_ed25519").is_file()
    assert static.stack.run("destroy").code == 0
    assert not keys.exists()
    assert traces(static.stack) == set()
