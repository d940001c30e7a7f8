# ruff: noqa: E501  The texts of small projects are lines of their own.
"""What is read from a project's files: small projects, each with what it says."""

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from inspection import health, needs, requirements, writes
from inspection.entry import entries
from inspection.paths import Paths
from inspection.project import Project
from inspection.report import inspect
from tests.builders.stack import PROJECT

Make = Callable[[dict[str, str]], Project]
PROJECTS = PROJECT / "tests/rehearsal/projects"


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(files: dict[str, str]) -> Project:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return Project(tmp_path)

    return made


FLASK = "from flask import Flask\napp = Flask(__name__)\n"
FACTORY = "from flask import Flask\ndef create_app(config=None):\n    app = Flask(__name__)\n    return app\n"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"app.py": FLASK}, "app:app"),
        ({"shop/__init__.py": FACTORY}, "shop:create_app()"),
        ({"shop/__init__.py": FACTORY, "wsgi.py": "from shop import create_app\napp = create_app()\n"}, "wsgi:app"),
        ({"shop/__init__.py": FACTORY, "shop/run.py": "from . import create_app\nx = create_app()\n"}, "shop.run:x"),
        ({"a.py": "import flask\nsite = flask.Flask('x')\n"}, "a:site"),
        ({"src/shop/web.py": FLASK, "src/shop/__init__.py": ""}, "shop.web:app"),
        ({"a.py": FLASK, "b.py": FLASK, "Procfile": "web: gunicorn -w 2 b:app --log-file -\n"}, "b:app"),
        ({"a.py": FLASK, "b.py": FLASK, ".flaskenv": "FLASK_APP=b.py\n"}, "b:app"),
        ({"app.py": "def application(environ, start_response):\n    return []\n"}, "app:application"),
        ({"main.py": "from fastapi import FastAPI\napp: FastAPI = FastAPI()\n"}, "main:app"),
        (
            {
                "p.py": "def main():\n    from pyramid.config import Configurator\n    return Configurator().make_wsgi_app()\n"
            },
            "p:main()",
        ),
        ({"d.py": "import dash\napp = dash.Dash()\nserver = app.server\n"}, "d:server"),
        ({"d.py": "from dash import Dash\napp = Dash()\nserver = app.server\n"}, "d:server"),
        (
            {"app.py": "try:\n    from flask import Flask\n    app = Flask('x')\nexcept ImportError:\n    raise\n"},
            "app:app",
        ),
        # None of these is what a server should load.
        ({"tests/app.py": FLASK, "venv/pyvenv.cfg": "", "venv/lib/app.py": FLASK, "test_app.py": FLASK}, None),
        ({"app.py": "from flask import Flask\nif __name__ == '__main__':\n    app = Flask('x')\n"}, None),
        ({"app.py": "from flask import Flask\ndef create_app(config):\n    return Flask('x')\n"}, None),
        ({"app.py": "class Flask: pass\napp = Flask()\n"}, None),
        ({"app.py": "print 'python 2'\n"}, None),
    ],
)
def test_the_application_is_found_where_it_is_made(make: Make, files: dict[str, str], found: str | None) -> None:
    first = next(iter(entries(make(files))), None)
    assert (first.name if first else None) == found


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("os.path.join(os.path.dirname(__file__), 'up')", "shop/up"),
        ("os.path.join(os.path.abspath(os.path.dirname(__file__)), '..', 'up')", "up"),
        ("BASE / 'media'", "media"),
        ("str(Path(__file__).resolve().parents[1] / 'a' / 'b')", "a/b"),
        ("Path(__file__).parent.joinpath('x')", "shop/x"),
        ("os.path.join(app.instance_path, 'x.db')", "instance/x.db"),
        ("os.environ.get('UP', 'up')", "up"),
        ("'./up/'", "up"),
        ("'/var/up'", None),
        ("os.environ['UP']", None),
        ("Path(os.environ['DATA_DIR']) / 'up'", None),
        ("os.path.join(BASE, '..', 'elsewhere')", None),
        ("LOOP", None),
    ],
)
def test_paths_are_computed_without_running_anything(make: Make, expression: str, found: str | None) -> None:
    text = f"import os\nBASE = Path(__file__).resolve().parent.parent\nLOOP = LOOP / 'x'\nX = {expression}\n"
    project = make({"shop/__init__.py": text, "app.py": ""})
    paths = Paths(project, "shop/__init__.py", ast.parse(text))
    assert paths.read(paths.values["X"]) == found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("app.config['SQLALCHEMY_DATABASE_URI'] = 'sqlite:///a.db'", ["instance"]),
        ("SQLALCHEMY_DATABASE_URI = 'sqlite:///' + os.path.join(BASE, 'a.db')", ["a.db"]),
        ("SQLALCHEMY_DATABASE_URI = os.environ.get('DB') or f'sqlite:///{BASE}/a.db'", []),
        ("SQLALCHEMY_DATABASE_URI = os.environ.get('DB') or 'sqlite:///' + str(BASE / 'a.db')", ["a.db"]),
        ("e = create_engine('sqlite:///data/a.db')", ["data/a.db"]),
        ("e = create_engine('sqlite:///:memory:')", []),
        ("c = sqlite3.connect('a.db')", ["a.db"]),
        ("c = sqlite3.connect(':memory:')", []),
        ("c = sqlite3.connect(os.environ['DB'])", []),
        ("os.makedirs(app.instance_path, exist_ok=True)\nc = sqlite3.connect(app.instance_path + '/x')", ["instance"]),
        ("UPLOAD_FOLDER = 'static/uploads'", ["static/uploads"]),
        ("app.config.update(UPLOAD_FOLDER=BASE / 'up')", ["up"]),
        ("h = logging.handlers.RotatingFileHandler('logs/a.log')", ["logs"]),
        ("MEDIA_ROOT = BASE / 'media'", ["media"]),
        ("DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': BASE / 'db.sqlite3'}}", ["db.sqlite3"]),
        ("DATABASES = {'default': {'ENGINE': 'django.db.backends.mysql', 'NAME': 'app'}}", []),
    ],
)  # fmt: skip
def test_what_an_application_writes_is_found(make: Make, code: str, found: list[str]) -> None:
    head = "import os, sqlite3, logging\nfrom pathlib import Path\nBASE = Path(__file__).parent\n"
    assert [item.path for item in writes.written(make({"app.py": head + code}))] == found


ROUTES = """
from flask import Blueprint, redirect
bp = Blueprint('bp', __name__, url_prefix='/shop')
@bp.route('/ping', methods=['POST'])
def pinged(): return ''
@bp.get('/<name>/health')
def of(name): return ''
@bp.get('/')
def index(): return 'shop'
"""


@pytest.mark.parametrize(
    ("files", "url"),
    [
        ({"app.py": FLASK + "@app.route('/')\ndef i(): return ''\n@app.route('/healthz')\ndef h(): return ''\n"}, "/healthz"),
        ({"app.py": FLASK + "@app.route('/')\ndef i(): return redirect('/x')\n@app.get('/x')\ndef h(): return ''\n"}, "/x"),
        ({"app.py": FLASK + "@app.route('/')\n@login_required\ndef i(): return ''\n"}, None),
        ({"app.py": FLASK + "@app.route('/in')\ndef i():\n    if request.method == 'POST':\n        return redirect('/')\n    return ''\n"}, "/in"),
        ({"app.py": FLASK + "@app.route('/in')\ndef i():\n    if not user:\n        return redirect('/')\n    return ''\n"}, None),
        ({"t.py": "from bottle import get, redirect, route\n@route('/')\ndef i(): redirect('/x')\n@route('/a', method='POST')\ndef a(): pass\n@get('/x')\ndef x(): return ''\n"}, "/x"),
        ({"d.py": "from dash import Dash\napp = Dash()\nserver = app.server\n"}, "/"),
        ({"d.py": "from dash import Dash\napp = Dash(url_base_pathname='/d/')\nserver = app.server\n"}, None),
        ({"f.py": "import falcon\nclass Q:\n    def on_get(self, q, r): pass\nclass P:\n    def on_post(self, q, r): pass\napi = falcon.App()\napi.add_route('/p', P())\napi.add_route('/quote', Q())\n"}, "/quote"),
        ({"app.py": FLASK + "def i(): return ''\ndef o(): return redirect('/')\napp.add_url_rule('/o', 'o', o)\napp.add_url_rule('/i', view_func=i)\n"}, "/i"),
        ({"app.py": FLASK + ROUTES}, "/shop/"),
        ({"app.py": FLASK + ROUTES + "app.register_blueprint(bp, url_prefix='/s')\n"}, "/s/"),
        ({"app.py": FLASK}, None),
    ],
)  # fmt: skip
def test_a_page_for_the_health_check_is_one_that_answers_2xx_to_anybody(
    make: Make, files: dict[str, str], url: str | None
) -> None:
    found = health.page(make(files), "Flask")
    assert (found.url if found else None) == url


@pytest.mark.parametrize(
    ("files", "file", "names"),
    [
        ({"requirements.txt": "Flask>=3 # web\n-r more.txt\ngit+https://x/y\nmy_pkg[a]==1; python_version>'3'\n"}, "requirements.txt", {"flask", "my-pkg"}),
        ({"requirements/prod.txt": "psycopg2\n"}, "requirements/prod.txt", {"psycopg2"}),
        ({"pyproject.toml": "[project]\ndependencies=['Flask']\n"}, "pyproject.toml", {"flask"}),
        ({"pyproject.toml": "[tool.poetry.dependencies]\npython='^3.11'\nflask='*'\n", "poetry.lock": "[[package]]\nname='rq'\n"}, "poetry.lock", {"python", "flask", "rq"}),
        ({"pyproject.toml": "not toml"}, "pyproject.toml", set()),
        ({}, None, set()),
    ],
)  # fmt: skip
def test_the_requirements_are_read_as_projects_write_them(
    make: Make, files: dict[str, str], file: str | None, names: set[str]
) -> None:
    project = make(files)
    assert (requirements.file(project), requirements.names(project)) == (file, names)


def test_requirements_of_powershell_are_read(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("mysqlclient==2.2\r\n", encoding="utf-16")
    assert requirements.names(Project(tmp_path)) == {"mysqlclient"}


@pytest.mark.parametrize(
    ("text", "found"),
    [("requires-python = '>=3.12'", ">=3.12"), ("name = 'x'", None)],
)
def test_the_python_that_is_asked_for(make: Make, text: str, found: str | None) -> None:
    assert requirements.python(make({"pyproject.toml": f"[project]\n{text}\n"})) == found


def test_celery_and_rq_are_processes(make: Make) -> None:
    project = make(
        {
            "tasks.py": "from celery import Celery\nqueue = Celery('x', broker='redis://')\nqueue.conf.beat_schedule = {}\n"
        }
    )
    found = {name: command.command for name, command in needs.processes(project, {"celery"}).items()}
    assert found == {
        "worker": "celery -A tasks:queue worker --loglevel info",
        "beat": "celery -A tasks:queue beat --loglevel info",
    }
    assert needs.uses_redis(project, {"celery"})
    assert not needs.uses_redis(project, {"flask"})
    assert list(needs.processes(make({"tasks.py": ""}), {"rq"})) == ["worker"]


def test_variables_without_a_default_are_needed(make: Make) -> None:
    text = (
        "import os\nfrom decouple import config\nA = os.environ['A']\nB = os.environ.get('B')\nos.environ['C'] = ''\n"
        "if 'D' in os.environ:\n    D = os.environ['D']\nE = config('E')\nF = config('F', default=1)\nG = os.environ['DATA_DIR']\n"
    )
    assert needs.environment(make({"app.py": text})) == {"A": "app.py:3", "E": "app.py:8"}


def test_nothing_of_a_project_is_run(make: Make) -> None:
    project = make({"app.py": f"{FLASK}open('ran', 'w')\n", "setup.py": "open('ran', 'w')\n"})
    inspect(project.folder)
    assert not (project.folder / "ran").exists()


@pytest.mark.parametrize("text", ["\0", "x = (" * 500, "def f(:\n", "app = Flask(", "a" * 2_000_000])
def test_unreadable_files_are_no_error(make: Make, text: str) -> None:
    names = ("app.py", "Procfile", "requirements.txt", "pyproject.toml", ".flaskenv", "manage.py")
    assert inspect(make(dict.fromkeys(names, text)).folder).entry is None


def advice(name: str) -> dict[str, object]:
    return {item.key: item.value for item in inspect(PROJECTS / name).advice}


def test_the_gallery_says_what_it_needs() -> None:
    assert advice("gallery") == {
        "app.module": "gallery",
        "app.callable": "create_app()",
        "app.health": "/",
        "app.persistent": ["instance", "uploads"],
        "release.before": ["flask --app gallery:create_app db upgrade"],
        "redis": {},
    }
    assert ("Procfile", "worker: python -m gallery.worker", "") in inspect(PROJECTS / "gallery").findings


def test_the_press_says_what_it_needs() -> None:
    assert advice("press") == {
        "app.module": "press.wsgi",
        "app.callable": "application",
        "app.health": "/ping/",
        "app.persistent": ["media"],
        "data.served": {"/media/": "media"},
        "release.before": ["python manage.py migrate --noinput", "python manage.py collectstatic --noinput"],
        "schedule.expire-drafts.command": "python manage.py expire_drafts",
        "schedule.expire-drafts.at": "0 3 * * *",
        "mysql.database": "app",
        "server.packages": ["default-libmysqlclient-dev", "pkg-config"],
    }
    left = [step for step, _ in inspect(PROJECTS / "press").left]
    assert left == ["secret set app.env.SECRET_KEY", "secret set mysql.password"]
    assert "mariadb-devel" in str(inspect(PROJECTS / "press", is_red_hat=True).advice)


def test_the_chat_says_what_it_needs() -> None:
    assert advice("chat") == {
        "app.module": "chat.main",
        "app.callable": "app",
        "app.health": "/api/status",
        "serving.app_server": "granian",
        "granian.interface": "asgi",
        "nginx.websocket": ["/ws/"],
    }


DJANGO = {
    "manage.py": "",
    "requirements.txt": "Django\n",
    "shop/wsgi.py": "from django.core.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n",
    "shop/urls.py": "from django.contrib import admin\nurlpatterns = [path('admin/', admin.site.urls)]\n",
}
STARTED = """
ROOT_URLCONF = 'shop.urls'
SECRET_KEY = 'django-insecure-1'
DEBUG = True
ALLOWED_HOSTS = []
INSTALLED_APPS = ['django.contrib.staticfiles']
"""


def test_django_as_startproject_makes_it_is_told_what_a_server_needs(make: Make) -> None:
    report = inspect(make({**DJANGO, "shop/settings.py": STARTED}).folder)
    assert [step for step, _ in report.left] == ["STATIC_ROOT", "ALLOWED_HOSTS", "DEBUG", "SECRET_KEY"]
    assert dict(report.left)["ALLOWED_HOSTS"].startswith("shop/settings.py:5 allows no domain")
    assert {item.key: item.value for item in report.advice}["app.health"] == "/admin/login/"


@pytest.mark.parametrize(
    "settings",
    [
        "DEBUG = 'x' in os.environ\nALLOWED_HOSTS = os.environ['H'].split(',')\nSECRET_KEY = f()\nSTATIC_ROOT = 's'\n",
        "if x:\n    DEBUG = True\n    ALLOWED_HOSTS = ['localhost']\nSTATIC_ROOT = f()\n",
        "DEBUG = False\nALLOWED_HOSTS = ['localhost', '.example.com']\nSTATIC_ROOT = 's'\n",
    ],
)
def test_settings_that_know_of_a_server_are_left_alone(make: Make, settings: str) -> None:
    report = inspect(make({**DJANGO, "shop/settings.py": f"ROOT_URLCONF = 'shop.urls'\n{settings}"}).folder)
    assert not [step for step, _ in report.left if not step.startswith("secret set")]


def test_static_files_that_only_the_platform_of_a_procfile_collects_are_collected(make: Make) -> None:
    files = {**DJANGO, "shop/settings.py": "STATIC_ROOT = 's'\n", "Procfile": "release: ./m a && b\n"}
    found = {item.key: item.value for item in inspect(make(files).folder).advice}
    assert found["release.before"] == ["./m a", "b", "python manage.py collectstatic --noinput"]
    project = make({**files, "Procfile": "release: python manage.py collectstatic --noinput\n"})
    assert "release.before" not in {item.key for item in inspect(project.folder).advice}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"d.py": "from dash import Dash\nsite = Dash(__name__)\n"}, "d.py:2: a server loads the Flask of a Dash; add the line server = site.server below"),
        ({"t.py": "from bottle import route, run\n@route('/')\ndef i(): return ''\n"}, "t.py:3: Bottle's default application has no name here; add the lines"),
        ({"t.py": "import bottle\n@bottle.get('/')\ndef i(): return ''\n"}, "t.py:3: Bottle's default application"),
        ({"a.py": "from flask import Flask\nif __name__ == '__main__':\n    app = Flask('x')\n"}, "a.py:3: Flask is made below if __name__"),
        ({"a.py": "from flask import Flask\ndef make(config, x=1):\n    return Flask('x')\n"}, "a.py:2: make() needs config, which a server does not give"),
        ({"a.py": "import streamlit as st\nst.title('x')\n"}, "a.py: Streamlit has a server of its own"),
        ({"a.py": "from aiohttp import web\n"}, "a.py: aiohttp has a server of its own"),
        ({"a.py": "import json\nimport aiohttp\n"}, ""),
    ],
)  # fmt: skip
def test_what_is_almost_an_application_says_what_it_lacks(make: Make, files: dict[str, str], said: str) -> None:
    report = inspect(make(files).folder)
    assert report.entry is None
    assert report.almost.startswith(said) and bool(report.almost) == bool(said)


@pytest.mark.parametrize(
    ("code", "requirements", "workers"),
    [
        ("from flask_socketio import SocketIO\nsocketio = SocketIO(app)\n", "flask-socketio\n", 1),
        ("from flask_sock import Sock\nsock = Sock(app)\n@sock.route('/ws')\ndef w(s): pass\n", "flask-sock\n", None),
    ],
)
def test_websockets_of_wsgi_are_given_threads(make: Make, code: str, requirements: str, workers: int | None) -> None:
    found = {
        item.key: item.value
        for item in inspect(make({"app.py": FLASK + code, "requirements.txt": requirements}).folder).advice
    }
    assert (found["serving.app_server"], found["gunicorn.worker_class"]) == ("gunicorn", "gthread")
    assert found.get("gunicorn.workers") == workers
    assert found["nginx.websocket"] == [{"flask-sock\n": "/ws"}.get(requirements, "/socket.io/")]


@pytest.mark.parametrize(
    ("route", "paths"), [("/ws", ["/ws"]), ("/ws/{name}", ["/ws/"]), ("/ws/room-{n}", ["/ws/"]), ("/{x}", [])]
)
def test_a_websocket_is_named_by_its_path_or_by_the_folder_of_it(tmp_path: Path, route: str, paths: list[str]) -> None:
    (tmp_path / "main.py").write_text(
        f"from fastapi import FastAPI\napp = FastAPI()\n@app.websocket('{route}')\nasync def f(s): ...\n"
    )
    found = {item.key: item.value for item in inspect(tmp_path).advice}
    assert found.get("nginx.websocket", []) == paths
