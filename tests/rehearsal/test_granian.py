"""Granian behind nginx on real machines: by its socket under supervisor, by a port under systemd, and without nginx."""

import shutil
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.rehearsal.builders.load import Load, loaded
from tests.rehearsal.builders.stack import Stack, asked, new_stack, tried, until

SERVING = {"app_server": "granian"}
# A package that keeps its static files inside, as Flask finds them there.
SHOP = {"source": "shop", "module": "shop.web", "callable": "create", "requirements": "requirements.txt"}
KINDS: dict[str, dict[str, Any]] = {
    "socket-supervisor": {
        "serving": SERVING,
        "sites": {
            "sky": {"site": {"server_name": "sky.example.test"}, "nginx": {"set_real_ip_from": ["10.0.0.0/8"]}},
            "shop": {"site": {"server_name": "sky.example.test", "location": "/shop/"}, "app": SHOP},
        },
    },
    "port-systemd": {
        "serving": {**SERVING, "process_manager": "systemd"},
        "granian": {"bind": "127.0.0.1:8000", "workers": 2, "blocking_threads": 2, "pid_file": True},
        "sites": {"sky": {"site": {"server_name": "sky.example.test"}}},
    },
}
WEB = """
import flask

application = flask.Flask(__name__)


@application.get("/healthz")
def health():
    return {"scheme": flask.request.scheme, "client": flask.request.remote_addr, "root": flask.request.script_root}


create = application
"""


LONG_SECONDS = 10
SLOW = f"""@app.route("/long")
def long():
    time.sleep({LONG_SECONDS})
    return "long"


"""


def without_nginx(server: str, **settings: str) -> dict[str, Any]:
    serving = {"app_server": server, "process_manager": "systemd", "front": "none"}
    return {"serving": serving, server: settings}


class Granian:
    """A stack that is up. kind: of KINDS."""

    def __init__(self, kind: str, stack: Stack) -> None:
        self.kind, self.stack = kind, stack
        self.address = stack.up().output("address")

    def get(self, path: str, **headers: str) -> httpx.Response:
        host = {"Host": "sky.example.test", **headers}
        return httpx.get(f"http://{self.address}{path}", headers=host, trust_env=False, timeout=10)

    def workers(self) -> set[str]:
        """Process ids of the workers that serve sky."""
        master = self.stack.shell("pgrep -o -u wsgi-sky -f [w]sgi_ecs_granian")
        return set(self.stack.shell(f"pgrep -P {master}").split())


@pytest.fixture(scope="module", params=tried(KINDS, "port-systemd"))
def served(request: pytest.FixtureRequest, project_copy: Any) -> Iterator[Granian]:
    stack = new_stack(project_copy, f"granian-{request.param}")
    package = stack.folder / "shop/shop"
    (package / "static").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "web.py").write_text(WEB)
    (package / "static/shop.css").write_text("b { color: green }\n")
    shutil.copy(stack.folder / "app/requirements.txt", stack.folder / "shop/requirements.txt")
    stack.settings = KINDS[request.param]
    try:
        yield Granian(request.param, stack)
    finally:
        stack.run("destroy")


def test_granian_serves_as_the_sites_own_user(served: Granian) -> None:
    assert served.get("/healthz").status_code == 200
    assert served.get("/Ada").status_code == 200
    users = set(served.stack.shell("ps -o user:20= -p $(pgrep -d, -f [w]sgi_ecs_granian)").split())
    assert users <= {"wsgi-sky", "wsgi-shop"}
    if served.kind == "socket-supervisor":
        assert served.stack.shell("stat -c '%G %a' /run/wsgi-ecs/sky/?.sock") == "wsgi-sky-web 660"


def test_a_package_with_its_own_static_files_serves_them_below_its_location(served: Granian) -> None:
    if "shop" not in served.stack.settings["sites"]:
        pytest.skip("one machine shows it")
    assert "color: green" in served.get("/shop/static/shop.css").text
    assert served.get("/shop/healthz").json()["root"] == "/shop"


def test_the_application_knows_its_client_and_the_scheme_that_a_believed_proxy_names(served: Granian) -> None:
    if "shop" not in served.stack.settings["sites"]:
        pytest.skip("one machine shows it")
    found = served.get("/shop/healthz", **{"X-Forwarded-Proto": "https", "X-Forwarded-For": "192.0.2.9"}).json()
    assert found["scheme"] == "http", "nobody is believed here"
    assert found["client"].startswith("10.")


def test_a_release_loses_no_request(served: Granian) -> None:
    release = served.get("/healthz").json()["release"]
    with asked(lambda: served.get("/healthz")) as statuses:
        served.stack.edit("app/app.py", "GET /healthz ", "GET /healthz  ")
        served.stack.up()
    assert served.get("/healthz").json()["release"] != release
    assert len(statuses) > 20
    assert set(statuses) == {200}


def test_a_broken_release_is_refused_with_the_applications_own_lines(served: Granian) -> None:
    served.stack.edit("app/app.py", "import ", "import nowhere_at_all\nimport ")
    done = served.stack.run("up")
    served.stack.edit("app/app.py", "import nowhere_at_all\n", "")
    assert done.code == 1
    assert "No module named 'nowhere_at_all'" in done.text
    assert served.get("/healthz").status_code == 200


def test_a_killed_worker_and_a_killed_master_come_back(served: Granian) -> None:
    before = served.workers()
    served.stack.shell(f"kill -9 {max(before, key=int)}")
    until(lambda: len(served.workers()) == len(before) and served.get("/healthz").status_code == 200, 30)
    served.stack.shell("kill -9 $(pgrep -o -u wsgi-sky -f [w]sgi_ecs_granian)")
    # None of the old workers is left beside the new ones.
    until(lambda: not served.workers() & before and served.get("/healthz").status_code == 200, 30)


def test_nothing_runs_of_the_release_before(served: Granian) -> None:
    slot = served.stack.shell("readlink /srv/wsgi-ecs/sites/sky/current").rpartition("/")[2]
    other = "b" if slot == "a" else "a"
    assert served.stack.shell(f"pgrep -f '[s]ites/sky/slots/{slot}/'")
    assert served.stack.shell(f"pgrep -f '[s]ites/sky/slots/{other}/' || true") == ""


def test_without_nginx_each_server_gives_its_port_to_the_next(served: Granian) -> None:
    """Each release is another server's, so that each of them is the old program once."""
    if served.kind != "port-systemd":
        pytest.skip("one machine shows it")
    served.stack.edit("app/app.py", '@app.route("/favicon.ico")', f'{SLOW}@app.route("/favicon.ico")')
    served.stack.settings = without_nginx("granian", bind="0.0.0.0:8000")
    address = served.stack.up().output("address")
    answer = served.stack.get(address, "/healthz", 8000)
    assert (answer.status_code, answer.headers.get("server")) == (200, "granian")
    load, long = Load(address, address, port=8000), Load(address, address, ("/long",), port=8000, connections=1, rate=1)
    with loaded(load, least=3000):
        served.stack.settings = without_nginx("gunicorn", bind="0.0.0.0:8000")
        served.stack.up()
    # Granian's old workers end one after the other, and until the last has ended the kernel may give them a connection.
    assert load.tally.failed <= load.tally.requests / 500, load.tally
    load = Load(address, address, port=8000)
    with loaded(load, long, least=1):
        # A worker of gunicorn that is busy with a long request is not given another one.
        served.stack.settings = without_nginx("uwsgi", http="0.0.0.0:8000")
        served.stack.up()
    assert (load.tally.failed, long.tally.failed) == (0, 0), (load.tally, long.tally)
    assert load.tally.slowest < LONG_SECONDS, load.tally
    load = Load(address, address, port=8000)
    with loaded(load, least=3000):
        served.stack.edit("app/app.py", "GET /healthz ", "GET /healthz  ")
        served.stack.up()
    assert load.tally.failed == 0, load.tally
