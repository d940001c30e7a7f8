"""Every guide's stack on a machine of its own: it serves, survives its troubles, and refuses a broken release."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.rehearsal.builders.machine import listens
from tests.rehearsal.builders.stack import Stack, tried, until


@dataclass(frozen=True)
class Guide:
    """A stack and what shows that it is the guide's set-up: where, by which server, and which processes.

    stats: port of uWSGI's statistics, 0 for none.
    """

    name: str
    port: int
    server: str
    nginx: bool
    stats: int
    # A pattern of the command line of the processes that run the application.
    processes: str
    # Lines that the machine's configuration must have.
    lines: tuple[str, ...]
    # A changed setting of another kind than the application's code.
    changed: str
    user: str = "wsgi-app"


GUIDES = (
    Guide(
        "guide-supervisor", 80, "uWSGI", True, 9191, "bin/uwsgi",
        ("wsgi-file = ", "processes = 4", "threads = 2", "socket = 127.0.0.1:808", "pidfile = ",
         "startsecs=3", "server 127.0.0.1:808", "client_max_body_size 100M;", "charset utf-8;"),
        "    processes: 4\n",
    ),
    Guide(
        "guide-supervisor-http", 8080, "uWSGI", False, 9191, "bin/uwsgi",
        ("http = 0.0.0.0:8080", "wsgi-file = ", "static-map = /static="),
        "    processes: 4\n",
    ),
    Guide(
        "guide-aliyun", 80, "uWSGI", True, 0, "bin/uwsgi",
        ("uwsgi_param UWSGI_PYHOME ", "uwsgi_param UWSGI_CHDIR ", "uwsgi_param UWSGI_SCRIPT wsgi:app;",
         "server 127.0.0.1:808", "processes = 4", "threads = 2"),
        "    processes: 4\n",
    ),
    Guide(
        "guide-emperor", 80, "uWSGI", True, 0, "bin/uwsgi --ini app-",
        ("wsgi-file = ", "callable = application", "processes = 8", "enable-threads = true", "pidfile = "),
        "    processes: 8\n",
        user="nginx",
    ),
    Guide(
        "guide-gunicorn", 8000, "gunicorn", True, 0, "bin/python[^ ]* [^ ]*bin/gunicorn",
        ('worker_class = "gevent"', "worker_connections = 10240", "backlog = min(5000, ", "max_requests_jitter = 3",
         "workers = 5", "server 127.0.0.1:500", "listen 8000", "client_max_body_size 75M;"),
        "    workers: auto\n",
    ),
    Guide(
        "guide-gunicorn-uwsgi", 8000, "uWSGI", True, 5002, "bin/uwsgi",
        ("chmod-socket = 600", "buffer-size = 65535", "thunder-lock = true", "stats-http = true",
         "static-map = /static=", "user nobody nogroup;", "threads = 4"),
        "    processes: 4\n",
        user="nobody",
    ),
)  # fmt: skip


@dataclass
class Served:
    """A guide's stack that is up."""

    guide: Guide
    stack: Stack
    address: str
    release: str

    def get(self, path: str) -> httpx.Response:
        return self.stack.get(self.address, path, self.guide.port)

    def health(self) -> dict[str, str]:
        answer: dict[str, str] = self.get("/healthz").json()
        return answer

    until = staticmethod(until)

    def pids(self) -> list[str]:
        """The processes of the application server, the oldest first."""
        return self.stack.shell(f"pgrep -f -- '^[^ ]*{self.guide.processes}'").split()


# One for each application server stands for the others, which differ in settings or build from source.
TRIED = tried((guide.name for guide in GUIDES), "guide-supervisor", "guide-gunicorn")


@pytest.fixture(
    scope="module",
    params=[guide for guide in GUIDES if guide.name in TRIED],
    ids=lambda guide: guide.name,
)
def served(request: pytest.FixtureRequest, project_copy: Path) -> Iterator[Served]:
    import secrets
    import shutil

    guide: Guide = request.param
    folder = project_copy.parent / f"{guide.name}-project"
    shutil.copytree(project_copy, folder, dirs_exist_ok=True)
    stack = GuideStack(folder, f"{guide.name}-{secrets.token_hex(2)}")
    shutil.copy(folder / f"stacks/Pulumi.{guide.name}.yaml", folder / f"stacks/Pulumi.{stack.name}.yaml")
    try:
        done = stack.up()
        yield Served(guide, stack, done.output("address"), done.output("release"))
    finally:
        stack.run("destroy")


class GuideStack(Stack):
    """Its file is the guide's own, as it stands."""

    def write(self) -> None:
        pass


def test_it_serves_the_page_through_the_guides_chain(served: Served) -> None:
    page = served.get("/")
    assert page.status_code == 200
    assert served.guide.server in page.text
    assert page.headers.get("server", "").startswith("nginx") == served.guide.nginx
    assert served.health() == {"status": "ok", "release": served.release}


def test_the_guides_values_are_in_force(served: Served) -> None:
    texts = served.stack.shell(
        "cat /srv/wsgi-ecs/sites/app/current/* /srv/wsgi-ecs/host/current/*.conf 2>/dev/null || true"
    )
    for line in served.guide.lines:
        assert line in texts, line


def test_a_static_file_comes_from_disk(served: Served) -> None:
    answer = served.get("/static/style.css")
    assert answer.status_code == 200
    assert answer.text == (served.stack.folder / "app/static/style.css").read_text()


def test_a_body_that_does_not_fit_in_memory_arrives(served: Served) -> None:
    # The page takes no POST, and reads none.
    answer = httpx.post(
        f"http://{served.address}:{served.guide.port}/", content=b"x" * 1_000_000, trust_env=False, timeout=20
    )
    assert answer.status_code == 405


def test_only_the_site_and_ssh_are_open(served: Served) -> None:
    assert listens(served.address, served.guide.port)
    for port in (served.guide.stats, served.guide.stats + 1, 5000, 5001, 8081, 9191):
        assert port == served.guide.port or not listens(served.address, port), port
    if served.guide.stats:
        inside = served.stack.shell("ss -Hltn | awk '{print $4}'").split()
        assert {f"127.0.0.1:{served.guide.stats + step}" for step in (0, 1)} & set(inside)


def test_nothing_that_handles_a_request_runs_as_root(served: Served) -> None:
    for pid in served.pids():
        assert served.stack.shell(f"ps -o user:20= -p {pid}") == served.guide.user


def test_a_killed_worker_comes_back(served: Served) -> None:
    before = served.pids()
    served.stack.shell(f"kill -9 {before[-1]}")

    def is_back() -> bool:
        now = served.pids()
        return before[-1] not in now and len(now) == len(before) and served.get("/healthz").status_code == 200

    served.until(is_back)


def test_a_killed_server_comes_back_over_its_stale_files(served: Served) -> None:
    old = served.pids()
    # All of it at once: nobody is left to remove the socket and the pidfile.
    served.stack.shell(f"kill -9 {' '.join(old)}")
    served.until(lambda: served.get("/healthz").status_code == 200 and not set(old) & set(served.pids()))


def test_a_changed_setting_is_a_new_release_on_the_same_machine(served: Served) -> None:
    boot = served.stack.shell("cat /proc/sys/kernel/random/boot_id")
    file = f"stacks/Pulumi.{served.stack.name}.yaml"
    served.stack.edit(file, served.guide.changed, served.guide.changed.split(":")[0] + ": 3\n")
    done = served.stack.up()
    assert done.output("release") != served.release
    served.release = done.output("release")
    served.until(lambda: served.health()["release"] == served.release, 5)
    assert served.stack.shell("cat /proc/sys/kernel/random/boot_id") == boot


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("import flask\n", "import flask\nimport no_such_module\n", "No module named 'no_such_module'"),
        ("def healthz():\n", "def healthz():\n    raise ValueError('broken on purpose')\n", "broken on purpose"),
    ],
    ids=["import", "probe"],
)
def test_a_broken_release_is_refused_and_the_old_one_answers(served: Served, old: str, new: str, line: str) -> None:
    kept = (served.stack.folder / "app/app.py").read_text()
    served.stack.edit("app/app.py", old, new)
    done = served.stack.run("up")
    (served.stack.folder / "app/app.py").write_text(kept)
    assert done.code == 1
    assert line in done.text
    served.until(lambda: served.health() == {"status": "ok", "release": served.release}, 5)


def test_a_rebooted_machine_serves_again(served: Served) -> None:
    boot = served.stack.shell("cat /proc/sys/kernel/random/boot_id")
    served.stack.run("ssh", "--", "systemctl reboot")
    served.until(
        lambda: (
            served.health()["release"] == served.release
            and served.stack.shell("cat /proc/sys/kernel/random/boot_id") != boot
        )
    )


def test_the_short_commands_stop_and_start_it(served: Served) -> None:
    served.stack.shell("wsgi-ecs-app stop")
    served.until(lambda: not served.stack.run("ssh", "--", f"pgrep -f -- '^[^ ]*{served.guide.processes}'").out, 40)
    served.stack.shell("wsgi-ecs-app start")
    served.until(lambda: served.get("/healthz").status_code == 200)
    served.stack.shell("wsgi-ecs-app reload")
    time.sleep(1)
    served.until(lambda: served.get("/healthz").status_code == 200)
    aliases = served.stack.shell(". /etc/profile.d/wsgi-ecs.sh; alias")
    assert f"{served.guide.server.lower()}-reload=" in aliases
