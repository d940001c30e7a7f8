"""The sample application's promises that hold without Flask, which a bare `pytest` does not have.

Its templates are rendered here with Jinja2 alone and a stand-in for Flask's `url_for`.
"""

import ast
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

APP = Path(__file__).parents[2] / "app"
SOURCE = (APP / "app.py").read_text(encoding="utf-8")
TREE = ast.parse(SOURCE)
TEMPLATES = sorted(path.name for path in (APP / "templates").iterdir())
PAGES = [name for name in TEMPLATES if name not in ("base.html", "say.html")]
FLASK = {"flask", "werkzeug", "jinja2", "markupsafe", "itsdangerous", "click"}
HAN = re.compile(r"[\u4e00-\u9fff]")
VOID = {"link", "meta", "img", "br"}
PAGE_VALUES: dict[str, Any] = {
    "release": "none",
    "machine": "app-1",
    "os_name": "Debian GNU/Linux 12 (bookworm)",
    "python": "3.11.2",
    "server": "Werkzeug",
    "server_version": "3.1.9",
    "worker": None,
    "pid": 4711,
    "since": "2025-01-02 03:04:05",
    "age": (3, "minutes", "分钟"),
    "origin": {
        "visitor": "192.0.2.7",
        "forwarded_for": "",
        "proxied": True,
        "scheme": "https",
        "host": "app.example.com",
    },
    "name": "Ada",
    "path": "/a/b",
}


def requirements() -> list[Requirement]:
    lines = (APP / "requirements.txt").read_text(encoding="ascii").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def pins(python: str) -> dict[str, str]:
    """Name → version of what pip installs for that Python; a name pinned twice fails."""
    chosen = [
        (canonicalize_name(requirement.name), str(requirement.specifier))
        for requirement in requirements()
        if requirement.marker is None or requirement.marker.evaluate({"python_version": python})
    ]
    assert len(dict(chosen)) == len(chosen), f"pinned twice for Python {python}: {chosen}"
    return dict(chosen)


def static_address(endpoint: str, **values: Any) -> str:
    """Flask's `url_for`, as far as the templates use it; a file that is not there fails."""
    if endpoint == "static":
        assert (APP / "static" / values["filename"]).is_file(), values["filename"]
        return f"/static/{values['filename']}"
    assert endpoint in functions(), f"no view function {endpoint}"
    return f"/{values.get('name', '')}"


def functions() -> set[str]:
    return {node.name for node in TREE.body if isinstance(node, ast.FunctionDef)}


def calls(function: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(TREE)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == function
    ]


def render(page: str, **changed: Any) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(APP / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals["url_for"] = static_address
    return environment.get_template(page).render(**{**PAGE_VALUES, **changed})


class Page(HTMLParser):
    """A page's tags and attributes, and its texts by the language of the innermost element that names one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[tuple[str, str]] = []
        self.pairs: list[list[str]] = []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if attributes.get("class") == "say":
            self.pairs.append(["", ""])
        if tag not in VOID:
            self.open.append((tag, attributes.get("lang") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if len(self.open) > 1 and self.open[-1][0] == "span" and self.open[-1][1]:
            self.pairs[-1][self.open[-1][1] != "en"] += data


def test_the_source_is_python_3_6() -> None:
    ast.parse(SOURCE, feature_version=(3, 6))


def test_the_module_offers_the_callable_app() -> None:
    names = [
        target.id
        for node in TREE.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert "app" in names


@pytest.mark.parametrize("path", ["/", "/healthz", "/<name>"])
def test_the_promised_addresses_have_routes(path: str) -> None:
    routes = [ast.literal_eval(call.args[0]) for call in calls("route")]
    assert path in routes


def test_every_requirement_is_pinned_exactly() -> None:
    for requirement in requirements():
        assert re.fullmatch(r"==[0-9][0-9.]*", str(requirement.specifier)), str(requirement)
        assert requirement.marker is not None, str(requirement)


@pytest.mark.parametrize(
    ("python", "flask"),
    [("3.6", "==2.0.3"), ("3.9", "==3.1.3"), ("3.10", "==3.1.3"), ("3.11", "==3.1.3"), ("3.13", "==3.1.3")],
)
def test_a_servers_python_gets_one_whole_flask(python: str, flask: str) -> None:
    chosen = pins(python)
    assert chosen["flask"] == flask
    assert chosen.keys() >= FLASK


@pytest.mark.parametrize("python", ["3.6", "3.9"])
def test_an_old_python_gets_the_backports(python: str) -> None:
    assert pins(python).keys() >= {"importlib-metadata", "zipp"}


@pytest.mark.parametrize("python", ["3.7", "3.8"])
def test_an_unsupported_python_gets_nothing(python: str) -> None:
    assert pins(python) == {}


def test_every_template_that_the_source_names_exists() -> None:
    named = {ast.literal_eval(call.args[0]) for call in calls("render_template")}
    assert named == set(PAGES)


def test_every_static_file_that_the_source_names_exists() -> None:
    for call in calls("url_for"):
        for keyword in call.keywords:
            if keyword.arg == "filename":
                assert (APP / "static" / ast.literal_eval(keyword.value)).is_file()


def test_the_page_gets_every_value_from_the_source() -> None:
    (index,) = [call for call in calls("render_template") if ast.literal_eval(call.args[0]) == "index.html"]
    given = {keyword.arg for keyword in index.keywords}
    assert given == PAGE_VALUES.keys() - {"release", "name", "path"}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_says_everything_in_both_languages(page: str) -> None:
    pairs = Page(render(page)).pairs
    assert len(pairs) >= 3
    for english, chinese in pairs:
        assert english.strip() and not HAN.search(english), (english, chinese)
        assert HAN.search(chinese), (english, chinese)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_needs_no_script_no_inline_style_and_nothing_from_elsewhere(page: str) -> None:
    for tag, attributes in Page(render(page)).elements:
        assert tag not in ("script", "style", "svg", "iframe"), tag
        assert not [name for name in attributes if name == "style" or name.startswith("on")], attributes
        for name in ("href", "src"):
            address = attributes.get(name)
            assert address is None or re.match(r"/(?!/)", address), address


@pytest.mark.parametrize("file", ["style.css", "logo.svg"])
def test_a_static_file_loads_nothing(file: str) -> None:
    text = (APP / "static" / file).read_text(encoding="utf-8")
    assert not re.search(r"@import|url\(|href|<script|style=", text)


def test_the_page_has_a_light_and_a_dark_look() -> None:
    css = (APP / "static" / "style.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = {name for name, value in re.findall(r"(--\w+): (#\w+);", light)}
    assert colours == set(re.findall(r"(--\w+): #\w+;", dark))
    assert "@media (prefers-color-scheme: dark)" in css


@pytest.mark.parametrize(
    ("page", "changed"),
    [
        ("name.html", {"name": "<script>x"}),
        ("not_found.html", {"path": "/<script>x"}),
        ("index.html", {"origin": {**PAGE_VALUES["origin"], "forwarded_for": "<script>x"}}),
    ],
)
def test_what_a_visitor_sends_is_escaped(page: str, changed: dict[str, Any]) -> None:
    text = render(page, **changed)
    assert "<script>" not in text
    assert "&lt;script&gt;x" in text


def test_the_page_names_the_worker_where_there_is_one() -> None:
    with_worker = render("index.html", server="uWSGI", server_version="2.0.31", worker=2)
    assert "<span>2</span> <small>pid 4711</small>" in with_worker
    assert "development server" not in with_worker
    assert "development server" in render("index.html")


def test_the_page_shows_a_proxy_only_where_one_was_seen() -> None:
    assert "反向代理" in render("index.html")
    assert "反向代理" not in render("index.html", origin={**PAGE_VALUES["origin"], "proxied": False})
