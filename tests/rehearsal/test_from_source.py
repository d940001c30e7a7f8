"""uWSGI, nginx and Python from their real sources, on a machine of their own."""

import functools
import gzip
import hashlib
import http.server
import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from rehearsal.cloud import image, trust
from rehearsal.cloud.images.debian12 import DEBIAN12
from rehearsal.commands.local_archives import replace_urls
from rehearsal.commands.stack_file import load
from tests.builders.stack import PROJECT
from tests.rehearsal.builders.python_source import OWN, PYTHON, python_from_source
from tests.rehearsal.builders.stack import Stack, asked, in_whole_runs, lxd

GUIDE = yaml.safe_load((PROJECT / "stacks/Pulumi.guide-emperor.yaml").read_text())["config"]
SOURCES: dict[str, dict[str, Any]] = {name: GUIDE[f"wsgi-ecs:{name}"] for name in ("uwsgi", "nginx")}
UWSGI, NGINX = (SOURCES[name]["version"] for name in ("uwsgi", "nginx"))
# The same sources under other versions: what is shown is the change, not another nginx.
SECOND, BROKEN = "1.22.2", "1.22.3"

pytestmark = [
    # They build Python, nginx and uWSGI several times.
    in_whole_runs,
    pytest.mark.skipif(
        not trust.packages(DEBIAN12.suite).sources, reason="only a Debian host has Debian's source packages"
    ),
]


def source(name: str, version: str, archive: Path | str, data: bytes) -> dict[str, Any]:
    """The guide's settings of a server with another archive."""
    return {**SOURCES[name], "version": version, "archive": str(archive), "sha256": hashlib.sha256(data).hexdigest()}


def test_a_rehearsal_takes_the_makers_own_files_from_the_registries(tmp_path: Path) -> None:
    guide = load(PROJECT, "guide-emperor")
    guide = replace(guide, config={**guide.config, "wsgi-ecs:python": json.dumps(PYTHON)})
    made, notes = replace_urls(guide, tmp_path)
    assert notes == [
        "nginx.archive: taken from Debian's source package, the same checksum",
        "uwsgi.archive: taken from the package index, the same checksum",
        "python.archive: taken from Debian's source package, the same checksum",
    ]
    sources = {**SOURCES, "python": PYTHON}
    for name, server in sources.items():
        file = tmp_path / server["sha256"]
        assert json.loads(made.config[f"wsgi-ecs:{name}"]) == {**server, "archive": str(file)}
        assert hashlib.sha256(file.read_bytes()).hexdigest() == server["sha256"]
    assert {path.name for path in tmp_path.iterdir()} == {server["sha256"] for server in sources.values()}


@pytest.fixture(scope="module")
def address(stack: Stack) -> str:
    stack.settings = {"serving": {"process_manager": "emperor"}, **SOURCES}
    done = stack.up()
    for name in SOURCES:
        assert f"{name}.archive: taken from " in done.text
        assert f"building {name} {SOURCES[name]['version']} from source, once" in done.text
    return done.output("address")


def test_no_path_of_this_host_is_remembered(stack: Stack, address: str) -> None:
    kept = json.dumps(lxd(f"/1.0/projects/wsgi-ecs-{stack.name}"))
    for server in SOURCES.values():
        assert server["sha256"] not in kept
        assert stack.shell(f"grep -rl {image.CACHE}/archives /srv /etc /usr/local /var/lib/wsgi-ecs || true") == ""


def test_nginx_has_what_a_site_may_ask_of_it(stack: Stack, address: str) -> None:
    """By its own check of a configuration that uses each module."""
    stack.shell(
        "set -e; cd $(mktemp -d);"
        "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -keyout key -out crt 2>/dev/null;"
        "printf '%s' 'events {} http { server { listen 8443 ssl http2; gzip_static on; set_real_ip_from 10.0.0.0/8;"
        " ssl_certificate '$PWD'/crt; ssl_certificate_key '$PWD'/key; location /s { stub_status; }"
        " location ~ ^/x { uwsgi_pass 127.0.0.1:3031; } } }' >nginx.conf;"
        "/usr/local/nginx/sbin/nginx -t -q -c $PWD/nginx.conf"
    )


def test_both_are_installed_where_the_prefix_leads_and_belong_to_root(stack: Stack, address: str) -> None:
    assert f"nginx/{NGINX}" in stack.shell("/usr/local/nginx/sbin/nginx -v 2>&1")
    assert stack.shell("/usr/local/uwsgi/bin/uwsgi --version") == UWSGI
    assert stack.shell("readlink /usr/local/nginx /usr/local/uwsgi").split() == [
        f"/usr/local/nginx-{NGINX}",
        f"/usr/local/uwsgi-{UWSGI}",
    ]
    folders = f"/usr/local/nginx-{NGINX} /usr/local/uwsgi-{UWSGI}"
    assert stack.shell(f"find {folders} '(' -not -user root -o -perm /022 ')'") == ""
    # The tools of an installation stay for the next one.
    assert stack.shell("ls /var/lib/wsgi-build | grep -v '^uv-' || true") == ""


def test_they_serve_and_no_other_of_their_kind_does(stack: Stack, address: str) -> None:
    page = stack.get(address)
    assert page.status_code == 200
    assert page.headers["server"].startswith("nginx")
    running = stack.shell("for p in $(pgrep 'nginx|uwsgi'); do readlink /proc/$p/exe; done").split()
    assert set(running) == {
        f"/usr/local/nginx-{NGINX}/sbin/nginx",
        f"/usr/local/uwsgi-{UWSGI}/bin/uwsgi",
        # The emperor itself, which a server has from its first boot on.
        "/srv/wsgi-ecs/venvs/bootstrap/bin/uwsgi",
    }


def test_another_release_builds_nothing_again(stack: Stack, address: str) -> None:
    before = stack.shell("systemctl show -p MainPID nginx")
    stack.edit("app/app.py", "import flask\n", "import flask\n\n")
    done = stack.up()
    assert "from source" not in done.text
    assert "nginx.archive: taken from the rehearsal's cache, the same checksum" in done.text
    assert stack.shell("systemctl show -p MainPID nginx") == before


def test_a_wrong_checksum_is_refused_before_anything_happens(stack: Stack, address: str, tmp_path: Path) -> None:
    kept = stack.settings
    (tmp_path / "nginx.tar.gz").write_bytes(b"anything")
    stack.settings = {**kept, "nginx": source("nginx", NGINX, tmp_path / "nginx.tar.gz", b"something else")}
    done = stack.run("up")
    stack.settings = kept
    assert done.code == 2
    (line,) = [line for line in done.text.splitlines() if "sha256" in line]
    assert "nginx.sha256: " in line
    assert "allowed: " in line
    assert stack.get(address, "/healthz").status_code == 200


def test_an_archive_that_does_not_build_leaves_the_old_release_serving(
    stack: Stack, address: str, tmp_path: Path
) -> None:
    kept = stack.settings
    (tmp_path / "uwsgi").mkdir()
    (tmp_path / "uwsgi/uwsgiconfig.py").write_text("raise SystemExit('core/uwsgi.c:1: error: broken on purpose')\n")
    subprocess.run(["tar", "-czf", "broken.tar.gz", "uwsgi"], cwd=tmp_path, check=True)
    broken = tmp_path / "broken.tar.gz"
    stack.settings = {**kept, "uwsgi": source("uwsgi", "2.0.32", broken, broken.read_bytes())}
    done = stack.run("up")
    stack.settings = kept
    assert done.code == 1
    assert "release refused, the one before it still serves: uwsgi 2.0.32 does not build: " in done.text
    assert "broken on purpose" in done.text
    assert "next: choose another uwsgi.version" in done.text
    assert stack.get(address, "/healthz").status_code == 200
    assert "2.0.32" not in stack.shell("ls /usr/local")


def running(stack: Stack) -> str:
    """Path of the nginx that systemd has started."""
    return stack.shell("readlink /proc/$(systemctl show --value -p MainPID nginx)/exe")


def versions(stack: Stack) -> set[str]:
    return set(stack.shell("ls -d /usr/local/nginx*").split())


@contextmanager
def served(stack: Stack, files: dict[str, bytes], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A web server of this host that the stack's machine reaches: its URL, and who asked for what."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    host = stack.shell("ip -4 route show default").split()[2]
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, code: Any = "-", size: Any = "-") -> None:
            asked.append(f"{self.path} {int(code)}")

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer((host, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://{host}:{server.server_port}", asked
        finally:
            server.shutdown()


def test_a_url_is_downloaded_by_the_machine_and_another_version_takes_over(
    stack: Stack, address: str, tmp_path: Path
) -> None:
    # Packed again: a file that no registry has.
    data = gzip.compress(gzip.decompress((image.CACHE / "archives" / SOURCES["nginx"]["sha256"]).read_bytes()), 1)
    with served(stack, {"nginx.tar.gz": data}, tmp_path) as (url, asked):
        stack.settings = {**stack.settings, "nginx": source("nginx", SECOND, f"{url}/nginx.tar.gz", data)}
        done = stack.up()
    assert "nginx.archive: not in Debian's source package, so the machine downloads it" in done.text
    assert asked == ["/nginx.tar.gz 200"]
    assert running(stack) == f"/usr/local/nginx-{SECOND}/sbin/nginx"
    assert stack.shell("readlink /usr/local/nginx") == f"/usr/local/nginx-{SECOND}"
    assert stack.get(address, "/healthz").status_code == 200
    # What was there before is kept, for the way back.
    assert versions(stack) == {"/usr/local/nginx", f"/usr/local/nginx-{NGINX}", f"/usr/local/nginx-{SECOND}"}


def test_a_url_that_gives_another_file_or_none_is_refused(stack: Stack, address: str, tmp_path: Path) -> None:
    kept = stack.settings
    with served(stack, {"nginx.tar.gz": b"another"}, tmp_path) as (url, _):
        stack.settings = {**kept, "nginx": source("nginx", BROKEN, f"{url}/nginx.tar.gz", b"wanted")}
        other = stack.run("up")
        stack.settings = {**kept, "nginx": source("nginx", BROKEN, f"{url}/no-such.tar.gz", b"wanted")}
        none = stack.run("up")
    stack.settings = kept
    assert (other.code, none.code) == (1, 1)
    assert f"nginx.sha256: {url}/nginx.tar.gz has {hashlib.sha256(b'another').hexdigest()}; allowed: " in other.text
    assert f"{url}/no-such.tar.gz cannot be downloaded: HTTP Error 404" in none.text
    assert running(stack) == f"/usr/local/nginx-{SECOND}/sbin/nginx"


def test_a_refused_release_goes_back_to_the_nginx_before_it(stack: Stack, address: str, tmp_path: Path) -> None:
    """An nginx that builds and takes every configuration, and then does not start."""
    kept = stack.settings
    folder = tmp_path / "nginx"
    folder.mkdir()
    (folder / "nginx").write_text('#!/bin/sh\nfor word; do [ "$word" = -t ] && exit 0; done\nexit 1\n')
    rules = "all:\\ninstall:\\n\\tinstall -D nginx $(DESTDIR)%s/sbin/nginx\\n"
    (folder / "configure").write_text(f"#!/bin/sh\nprintf '{rules}' ${{1#--prefix=}} >Makefile\n")
    (folder / "configure").chmod(0o755)
    subprocess.run(["tar", "-czf", "broken.tar.gz", "nginx"], cwd=tmp_path, check=True)
    broken = tmp_path / "broken.tar.gz"
    stack.settings = {**kept, "nginx": source("nginx", BROKEN, broken, broken.read_bytes())}
    done = stack.run("up")
    stack.settings = kept
    assert done.code == 1
    assert f"nginx {BROKEN} is built" in done.text
    assert "release refused, the one before it still serves: nginx does not start" in done.text
    assert running(stack) == f"/usr/local/nginx-{SECOND}/sbin/nginx"
    assert stack.shell("readlink /usr/local/nginx") == f"/usr/local/nginx-{SECOND}"
    assert stack.get(address, "/healthz").status_code == 200


def test_what_nothing_needs_is_removed_and_nothing_else(stack: Stack, address: str) -> None:
    stack.shell("mkdir /usr/local/nginx-0.9; touch /usr/local/nginx-0.9/built.json; mkdir /usr/local/nginx-own")
    stack.settings = {**stack.settings, "nginx": SOURCES["nginx"], "release": {"keep": 1}}
    # Built long ago, and still there.
    assert "from source" not in stack.up().text
    assert running(stack) == f"/usr/local/nginx-{NGINX}/sbin/nginx"
    ours = {"/usr/local/nginx", f"/usr/local/nginx-{NGINX}", f"/usr/local/nginx-{SECOND}"}
    assert versions(stack) == {*ours, "/usr/local/nginx-0.9", "/usr/local/nginx-own"}
    assert stack.shell("ls -d /usr/local/uwsgi-*") == f"/usr/local/uwsgi-{UWSGI}"


def test_systemd_starts_the_same_nginx(stack: Stack, address: str) -> None:
    stack.shell("systemctl restart nginx")
    assert running(stack) == f"/usr/local/nginx-{NGINX}/sbin/nginx"
    assert stack.get(address, "/healthz").status_code == 200


@pytest.fixture(scope="module")
def python(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return python_from_source(tmp_path_factory.mktemp("python"))


def with_python(stack: Stack, python: dict[str, Any]) -> dict[str, Any]:
    """The stack's settings with another site beside the first, which alone gets the Python."""
    sites = {"app": {"python": python}, "plain": {"site": {"location": "/plain/"}}}
    # The release before it is kept, and with it the uWSGI for the OS's Python.
    return {**stack.settings, "sites": sites, "release": {"keep": 2}}


def pythons(stack: Stack) -> str:
    return stack.shell("cd /usr/local; ls -d python* uwsgi* || true")


def test_a_site_changes_to_its_own_python_beside_the_old_release(
    stack: Stack, address: str, python: dict[str, Any]
) -> None:
    stack.settings = with_python(stack, python)
    with asked(lambda: stack.get(address, "/healthz")) as statuses:
        done = stack.run("up", seconds=1800)
    assert done.code == 0, done.text
    assert set(statuses) == {200}
    assert re.search(rf"python {OWN} is built \([0-9]+ s\)", done.text)
    assert f"Python {OWN}" in stack.get(address).text
    assert "Python 3.11.2" in stack.get(address, "/plain/").text
    uwsgi = f"uwsgi-{UWSGI}-usr-local-python-{OWN}"
    assert set(pythons(stack).split()) == {"python", f"python-{OWN}", "uwsgi", f"uwsgi-{UWSGI}", uwsgi}
    running = stack.shell("for p in $(pgrep uwsgi); do readlink /proc/$p/exe; done").split()
    assert {f"/usr/local/{uwsgi}/bin/uwsgi", f"/usr/local/uwsgi-{UWSGI}/bin/uwsgi"} <= set(running)
    code = "import ssl, sys, zlib; print(sys.version.split()[0], sys.base_prefix)"
    ran = stack.run("run", "--site", "app", "--", "python", "-c", code)
    assert ran.out.split() == [OWN, f"/usr/local/python-{OWN}"]
    assert stack.shell(f"find /usr/local/python-{OWN} '(' -not -user root -o -perm /022 ')'") == ""


def test_a_python_that_does_not_come_leaves_the_old_release_serving(
    stack: Stack, address: str, python: dict[str, Any], tmp_path: Path
) -> None:
    kept, there = stack.settings, pythons(stack)
    stack.settings = with_python(stack, {**python, "sha256": "ab" * 32})
    wrong = stack.run("up")
    (tmp_path / "Python").mkdir()
    configure = tmp_path / "Python/configure"
    configure.write_text("#!/bin/sh\necho 'configure: error: broken on purpose'; exit 1\n")
    configure.chmod(0o755)
    subprocess.run(["tar", "-czf", "broken.tgz", "Python"], cwd=tmp_path, check=True)
    broken = (tmp_path / "broken.tgz").read_bytes()
    sha256 = hashlib.sha256(broken).hexdigest()
    stack.settings = with_python(
        stack, {**python, "version": "3.12.1", "archive": str(tmp_path / "broken.tgz"), "sha256": sha256}
    )
    failed = stack.run("up")
    # What serves was built from another archive of the same version.
    stack.settings = with_python(stack, {**python, "archive": str(tmp_path / "broken.tgz"), "sha256": sha256})
    other = stack.run("up")
    stack.settings = kept
    assert (wrong.code, failed.code, other.code) == (2, 1, 1)
    assert "sites.app.python.sha256: " in wrong.text
    assert "python 3.12.1 does not build: ./configure" in failed.text
    assert "configure: error: broken on purpose" in failed.text
    assert "next: choose another python.version" in failed.text
    assert f"/usr/local/python-{OWN} was built from another archive, and a kept release runs on it" in other.text
    assert pythons(stack) == there
    assert f"Python {OWN}" in stack.get(address).text


def test_a_python_is_removed_when_no_kept_release_runs_on_it(stack: Stack, address: str) -> None:
    sites = {**stack.settings["sites"], "app": {}}
    stack.settings = {**stack.settings, "sites": sites, "release": {"keep": 1}}
    with asked(lambda: stack.get(address, "/healthz")) as statuses:
        assert "from source" not in stack.up().text
    assert set(statuses) == {200}
    assert "Python 3.11.2" in stack.get(address).text
    assert set(pythons(stack).split()) == {"uwsgi", f"uwsgi-{UWSGI}"}
