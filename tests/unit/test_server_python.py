"""Whether an application fits the Python of its server: syntax, requires-python, and what the package index says."""

import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rehearsal.commands import overlay
from rehearsal.engine.stack import Stack
from schema.base import SettingsError
from settings import package_index, requirements, server_python
from settings.loader import parse

FILE = "stacks/Pulumi.dev.yaml"
PYTHON = {"install": "source", "version": "3.11.9", "archive": "python.tgz", "sha256": "ab" * 32}


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("x = 1\nif (y := x):\n    pass\n", 2),
        ("def f(a, /): pass\n", 1),
        ("match x:\n    case 1: pass\n", 2),
        ("from __future__ import annotations\n", 1),
        ("def f(:\n", 1),
        ("print(f'{1}')\nasync def f():\n    return [x async for x in y]\n", None),
        ("from __future__ import unicode_literals\n", None),
    ],
)
def test_syntax_that_python_3_6_does_not_read_is_found_with_its_line(code: str, line: int | None) -> None:
    found = server_python.syntax_error(code.encode(), (3, 6))
    assert (found[0] if found else None) == line
    if line and "(:" not in code:
        assert server_python.syntax_error(code.encode(), (3, 11)) is None


def test_syntax_that_this_python_does_not_know_is_left_to_a_newer_one() -> None:
    assert server_python.syntax_error(b"a newer syntax\n", (3, 99)) is None


@pytest.mark.parametrize(
    ("specifier", "version", "fits"),
    [
        (">=3.8", (3, 6), False),
        (">=3.6,<4", (3, 6), True),
        (">=3.11.4", (3, 11), True),
        ("<3.11", (3, 11), False),
        ("~=3.10", (3, 11), True),
        ("anything", (3, 6), None),
    ],
)
def test_a_requirement_of_python_fits_if_a_patch_version_does(
    specifier: str, version: tuple[int, int], fits: bool | None
) -> None:
    assert server_python.admits(specifier, version) is fits


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    for name, text in {"app.py": "app = None\n", "requirements.txt": "\n"}.items():
        (tmp_path / "app" / name).write_text(text)
    return tmp_path


def checked(project: Path, system: str, **config: Any) -> list[str]:
    return server_python.check(parse(config, FILE), system, project, FILE)


def refusal(project: Path, system: str, **config: Any) -> str:
    with pytest.raises(SettingsError) as error:
        checked(project, system, **config)
    return str(error.value)


def test_a_slip_is_not_blamed_on_the_servers_python(project: Path) -> None:
    (project / "app/app.py").write_text("app = None\ndef (\n")
    assert refusal(project, "debian12") == (
        f"{FILE}: app.source: app.py:2: syntax error (invalid syntax), and debian12 has Python 3.11; "
        "allowed: code that this Python reads"
    )


def test_what_the_entry_imports_is_refused_and_other_files_are_warned_of(project: Path) -> None:
    folder = project / "app"
    (folder / "app.py").write_text("from shop import views\n\ndef make():\n    import later\n")
    (folder / "shop").mkdir()
    for name in ("shop/__init__.py", "shop/views.py"):
        (folder / name).write_text("from .models import Row\n" if name.endswith("views.py") else "")
    (folder / "shop/models.py").write_text("Row = 1\nprint(a := 1)\n")
    (folder / "later.py").write_text("def f(a, /): pass\n")
    assert refusal(project, "centos7").startswith(f"{FILE}: app.source: shop/models.py:2: no Python of that version")
    assert "centos7 has Python 3.6; allowed: code for that Python, a server.os" in refusal(project, "centos7")
    assert checked(project, "debian12") == []
    assert checked(project, "centos7", python=PYTHON) == []
    (folder / "shop/models.py").write_text("Row = 1\n")
    (warning,) = checked(project, "centos7")
    assert warning.startswith("app.source: later.py:1: no Python of that version")


@pytest.mark.parametrize(
    ("name", "text", "start"),
    [
        ("pyproject.toml", '[project]\nrequires-python = ">=3.9"\n', "pyproject.toml: requires-python is >=3.9"),
        ("setup.cfg", "[options]\npython_requires = >=3.9\n", "setup.cfg: python_requires is >=3.9"),
    ],
)
def test_a_project_that_requires_another_python_is_refused(project: Path, name: str, text: str, start: str) -> None:
    (project / "app" / name).write_text(text)
    assert refusal(project, "centos7").startswith(f"{FILE}: app.source: {start}, and centos7 has Python 3.6; allowed:")
    assert checked(project, "ubuntu2204") == []
    newer = text.replace("3.9", "3.12")
    (project / "app" / name).write_text(newer)
    assert "and the site has Python 3.11; allowed:" in refusal(project, "centos7", python=PYTHON)
    (project / "app" / name).write_text("[project\nrequires-python")
    assert checked(project, "centos7") == []


def test_a_refusal_of_one_of_several_sites_names_the_site(project: Path) -> None:
    (project / "app/app.py").write_text("(a := 1)\n")
    assert "sites.shop.app.source: app.py:1" in refusal(project, "centos7", sites={"shop": {}})


def test_only_exact_pins_are_asked_about(project: Path) -> None:
    path = project / "app/requirements.txt"
    path.write_text('Flask==3.1.3 \\\n    --hash=sha256:00\nredis>=5\nx==1.* \ny==1 ; python_version < "3.7"\n')
    pins = requirements.installed(path, path.parent, "requirements.txt").pins
    assert [(pin.where, pin.name, pin.version) for pin in pins] == [
        ("requirements.txt line 1", "Flask", "3.1.3"),
        ("requirements.txt line 5", "y", "1"),
    ]


FILES = [
    ("flask-3.1.3-py3-none-any.whl", ">=3.9"),
    ("flask-3.1.3.tar.gz", ">=3.9"),
    ("flask-2.0.3-py3-none-any.whl", ">=3.6"),
    ("flask-0.1.tar.gz", ""),
]


class Index:
    """An index of a test. kind: html or json. asked: the paths."""

    def __init__(self) -> None:
        self.kind, self.asked = "html", list[str]()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                index.asked.append(self.path)
                is_there = self.path == "/simple/flask/"
                self.send_response(200 if is_there else 404)
                self.send_header("Content-Type", index.type)
                self.end_headers()
                if is_there:
                    self.wfile.write(index.text.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/simple"

    @property
    def type(self) -> str:
        return "text/html" if self.kind == "html" else "application/vnd.pypi.simple.v1+json"

    @property
    def text(self) -> str:
        if self.kind == "json":
            return json.dumps({"files": [{"filename": name, "requires-python": python} for name, python in FILES]})
        links = (
            f'<a href="../../f/{name}#sha256=0" data-requires-python="{python.replace(">", "&gt;")}">{name}</a>'
            for name, python in FILES
        )
        return "<br/>".join(links)


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Index]:
    made = Index()
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", made.url)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(package_index, "_silent", set())
    monkeypatch.chdir(tmp_path)
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize("kind", ["html", "json"])
def test_a_pin_that_no_file_offers_to_the_servers_python_is_refused(index: Index, project: Path, kind: str) -> None:
    index.kind = kind
    (project / "app/requirements.txt").write_text("# first\nFlask==3.1.3\nnowhere==1\n")
    assert refusal(project, "centos7") == (
        f"{FILE}: app.source: requirements.txt line 2: Flask==3.1.3 needs Python >=3.9, and centos7 has Python 3.6; "
        "allowed: another version of Flask, or a server.os or a python.version that fits"
    )
    assert checked(project, "centos7", python=PYTHON) == []
    asked = len(index.asked)
    assert checked(project, "debian12") == []
    assert "/simple/flask/" not in index.asked[asked:], "the answer is kept"
    (project / "app/requirements.txt").write_text("flask==2.0.3\n")
    assert checked(project, "centos7") == []
    (project / "app/requirements.txt").write_text("flask==0.1\n")
    assert checked(project, "centos7") == []
    (project / "app/requirements.txt").write_text('Flask==3.1.3; python_version >= "3.9"\n')
    assert checked(project, "centos7") == []


def test_the_names_of_private_packages_are_not_asked_for(index: Index, project: Path) -> None:
    (project / "app/requirements.txt").write_text("Flask==3.1.3\n")
    assert checked(project, "centos7", app={"pip": {"extra_index_url": "https://index.example.com/"}}) == []
    assert index.asked == []


@pytest.mark.parametrize("answers", ["not at all", "too late"])
def test_an_index_that_does_not_answer_is_a_line_and_not_waited_for(
    index: Index, project: Path, monkeypatch: Any, answers: str
) -> None:
    (project / "app/requirements.txt").write_text("Flask==3.1.3\nredis==5\n")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1] if answers == "too late" else 9
        monkeypatch.setenv("PIP_INDEX_URL", f"http://user:pass@127.0.0.1:{port}/simple")
        began = time.monotonic()
        (line,) = checked(project, "centos7")
        assert time.monotonic() - began < package_index.FIRST + 1
        again = time.monotonic()
        assert checked(project, "centos7") == [line]
        assert time.monotonic() - again < 1
    assert line == (
        "app.requirements: 127.0.0.1 has not answered within 1.5 s, so no pin was checked for the server's Python"
    )
    monkeypatch.setenv("PIP_INDEX_URL", "ftp://127.0.0.1/simple")
    assert checked(project, "centos7") == []


def test_the_index_is_pips_own_or_the_stacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PIP_NO_INDEX", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    own = tmp_path / "pip.conf"
    monkeypatch.setattr(package_index, "_config_files", lambda: [own])
    assert package_index.index_url(["https://m.example.com/simple/"]) == "https://m.example.com/simple/"
    own.write_text("[global]\nindex-url = https://own.example.com/simple/\n")
    assert package_index.index_url([]) == "https://own.example.com/simple/"
    monkeypatch.setenv("PIP_INDEX_URL", "https://env.example.com/simple/")
    assert package_index.index_url([]) == "https://env.example.com/simple/"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert package_index.index_url([]) is None


@pytest.mark.parametrize(
    ("system", "says"),
    [
        ("centos7", "centos7 has Python 3.6, and the rehearsal runs Python 3.11"),
        ("ubuntu2204", "3.10"),
        ("alinux3", ""),
    ],
)
def test_a_rehearsal_says_that_its_python_is_another(system: str, says: str) -> None:
    stack = Stack("wsgi-ecs", "dev", {"wsgi-ecs:server": json.dumps({"os": system})})
    changed, notes = overlay.rehearsed(stack, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI" + "A" * 43)
    # A system that is rehearsed as itself needs no other name.
    assert changed.config.get("rehearsal:os", json.loads(changed.config["wsgi-ecs:server"])["os"]) == system
    lines = [note for note in notes if "rehearsal runs Python" in note]
    assert (len(lines) == 1 and says in lines[0]) if says else lines == []
