"""uWSGI and nginx from their real sources, on a machine of their own."""

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rehearsal import trust
from tests.rehearsal.conftest import Stack

UWSGI, NGINX = "2.0.31", "1.22.1"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The settings of both servers: uWSGI's source distribution, and the archive of Debian's source package."""
    folder = tmp_path_factory.mktemp("sources")
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-binary", ":all:", "--no-deps", f"uWSGI=={UWSGI}"]
    subprocess.run(pip, cwd=folder, check=True)
    for name in ("parts", "lists/partial"):
        (folder / name).mkdir(parents=True)
    # The first of this host's own package sources, for source packages.
    binary = trust.packages("bookworm").sources.splitlines()[0]
    (folder / "parts/source.list").write_text(binary.replace("deb ", "deb-src ", 1) + "\n")
    places = {"sourcelist": "/dev/null", "sourceparts": folder / "parts"}
    options = [f"-oDir::Etc::{name}={path}" for name, path in places.items()] + [f"-oDir::State::lists={folder}/lists"]
    for command in (["update"], ["source", "--download-only", "nginx"]):
        subprocess.run(["apt-get", "-q", *options, *command], cwd=folder, check=True)
    return {
        "uwsgi": source(UWSGI, folder / f"uwsgi-{UWSGI}.tar.gz"),
        "nginx": source(NGINX, folder / f"nginx_{NGINX}.orig.tar.gz"),
    }


def source(version: str, archive: Path) -> dict[str, Any]:
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    return {"install": "source", "version": version, "archive": str(archive), "sha256": sha256}


@pytest.fixture(scope="module")
def address(stack: Stack, sources: dict[str, dict[str, Any]]) -> str:
    stack.settings = {"serving": {"process_manager": "emperor"}, **sources}
    return stack.up().output("address")


def test_both_are_installed_where_the_prefix_leads_and_belong_to_root(stack: Stack, address: str) -> None:
    assert f"nginx/{NGINX}" in stack.shell("/usr/local/nginx/sbin/nginx -v 2>&1")
    assert stack.shell("/usr/local/uwsgi/bin/uwsgi --version") == UWSGI
    assert stack.shell("readlink /usr/local/nginx /usr/local/uwsgi").split() == [
        f"/usr/local/nginx-{NGINX}",
        f"/usr/local/uwsgi-{UWSGI}",
    ]
    folders = f"/usr/local/nginx-{NGINX} /usr/local/uwsgi-{UWSGI}"
    assert stack.shell(f"find {folders} '(' -not -user root -o -perm /022 ')'") == ""
    assert stack.shell("ls /var/lib/wsgi-build") == ""


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


def test_adding_touching_and_removing_a_vassal_leaves_the_others_alone(stack: Stack, address: str) -> None:
    """Another site beside the stack's own, as one would add it by hand: a slot of its own and a link to its file."""
    before = stack.shell("pgrep -f -- '--ini app-[ab]-'")
    stack.shell(
        "set -e; cp -a /srv/wsgi-ecs/app/slots/$(basename $(readlink /srv/wsgi-ecs/app/current)) /srv/wsgi-ecs/other;"
        "cd /srv/wsgi-ecs/other; sed -i 's,/app-[ab],/other,; s,^stats = .*,stats = 127.0.0.1:9299,' uwsgi.ini;"
        "install -o wsgi-app -g wsgi-app -m 0640 /dev/null /var/log/wsgi-ecs/other.log;"
        "ln -s /srv/wsgi-ecs/other/uwsgi.ini /etc/wsgi-ecs/vassals/other.ini"
    )
    stack.shell(until("grep -q 'spawned uWSGI worker 1' /var/log/wsgi-ecs/other.log"))
    assert stack.shell("pgrep -f -- '--ini othe[r].ini'")
    stack.shell("touch /srv/wsgi-ecs/other/uwsgi.ini")
    stack.shell(until("grep -q 'gracefully (RE)spawned' /var/log/wsgi-ecs/other.log"))
    stack.shell("rm /etc/wsgi-ecs/vassals/other.ini")
    stack.shell(until("! pgrep -f -- '--ini othe[r].ini' >/dev/null"))
    assert stack.shell("pgrep -f -- '--ini app-[ab]-'") == before
    stack.shell("rm -r /srv/wsgi-ecs/other")
    assert stack.get(address, "/healthz").status_code == 200


def until(condition: str) -> str:
    """A script that waits for a condition, 20 seconds at most, and fails when it does not come."""
    return f"for n in $(seq 100); do {{ {condition}; }} && exit 0; sleep 0.2; done; exit 1"


def test_another_release_builds_nothing_again(stack: Stack, address: str) -> None:
    before = stack.shell("systemctl show -p MainPID nginx")
    stack.edit("app/app.py", "import flask\n", "import flask\n\n")
    assert "from source" not in stack.up().text
    assert stack.shell("systemctl show -p MainPID nginx") == before


def test_a_wrong_checksum_is_refused_before_anything_happens(stack: Stack, address: str) -> None:
    kept = stack.settings
    stack.settings = {**kept, "nginx": {**kept["nginx"], "sha256": "0" * 64}}
    done = stack.run("up")
    stack.settings = kept
    assert done.code != 0
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
    stack.settings = {**kept, "uwsgi": source("2.0.32", tmp_path / "broken.tar.gz")}
    done = stack.run("up")
    stack.settings = kept
    assert done.code == 1
    assert "release refused, the one before it still serves: uwsgi 2.0.32 does not build: " in done.text
    assert "broken on purpose" in done.text
    assert "next: choose another uwsgi.version" in done.text
    assert stack.get(address, "/healthz").status_code == 200
    assert "2.0.32" not in stack.shell("ls /usr/local")


def test_systemd_starts_the_same_nginx(stack: Stack, address: str) -> None:
    stack.shell("systemctl restart nginx")
    main = stack.shell("readlink /proc/$(systemctl show --value -p MainPID nginx)/exe")
    assert main == f"/usr/local/nginx-{NGINX}/sbin/nginx"
    assert stack.get(address, "/healthz").status_code == 200
