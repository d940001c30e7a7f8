"""A stack that version 0.1.0 has made is upgraded by `up` alone, as CHANGELOG.md promises.

The tests of a stack run in this order.
"""

import gzip
import io
import json
import re
import shutil
import ssl
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.builders.certificates import Authority
from tests.builders.encrypted import PASSPHRASE, encrypt
from tests.builders.stack import PROJECT
from tests.rehearsal.builders.database import Databased
from tests.rehearsal.builders.preview import foretold, names, performed
from tests.rehearsal.builders.stack import CLIENT, lxd, new_stack, traces, tried

pytestmark = pytest.mark.skipif(CLIENT != "lxc", reason="version 0.1.0 rehearsed on LXD alone")

VERSION = "0.1.0"
DOMAIN = "www.example.test"
TOKEN = "correct-horse-battery-staple"
ENV = {"TOKEN": {"secure": encrypt(TOKEN)}}
FLASK = {"source": "samples/mysql-flask", "wsgi_file": "app.py", "callable": "app"}
KINDS: dict[str, dict[str, Any]] = {
    "mysql": {
        "app": {**FLASK, "env": ENV},
        "mysql": {"password": {"secure": encrypt("of the database")}, "schema_files": f"{FLASK['source']}/schema.sql"},
    },
    # The fixture gives the site a certificate.
    "systemd": {
        "serving": {"process_manager": "systemd", "app_server": "gunicorn"},
        "app": {"env": ENV},
        "site": {"server_name": DOMAIN},
    },
}
MANAGER = {"mysql": ["supervisor.service"], "systemd": []}


def files_of(version: str) -> bytes:
    """A tar archive of what git tracked in a version, whose commit CHANGELOG.md names.

    Skips the test if this clone does not have the commit.
    """
    changelog = (PROJECT / "CHANGELOG.md").read_text()
    found = re.search(rf"^## {re.escape(version)}\b.*?`([0-9a-f]{{7,40}})`", changelog, re.MULTILINE | re.DOTALL)
    assert found, f"CHANGELOG.md names no commit of version {version}"
    done = subprocess.run(["git", "archive", found[1]], cwd=PROJECT, capture_output=True)
    if done.returncode:
        reason = done.stderr.decode().strip()
        pytest.skip(f"git has no commit of version {version} ({reason}); `git fetch --unshallow` completes the history")
    return done.stdout


@dataclass
class Running(Databased):
    """A stack that the old version has made, in whose folder the new version's files are.

    kind: of KINDS. old: release that the old version applied. kept: what an upgrade must leave as it is. roots: of the
    site's certificate, None for a site without HTTPS.
    """

    kind: str = ""
    old: str = ""
    kept: dict[str, Any] = field(default_factory=dict)
    roots: ssl.SSLContext | None = None

    def get(self, address: str, path: str = "/", port: int = 443) -> httpx.Response:
        if not self.roots:
            return super().get(address, path)
        url, name = f"https://{address}:{port}{path}", {"sni_hostname": DOMAIN}
        with httpx.Client(verify=self.roots, trust_env=False, timeout=10) as client:
            return client.get(url, headers={"Host": DOMAIN}, extensions=name)

    def certify(self) -> None:
        """Give the site a certificate of its own."""
        authority = Authority()
        pair, ca = authority.sign(DOMAIN), self.folder.parent / f"{self.name}-ca.pem"
        ca.write_text(authority.pem)
        tls = {"certificate": pair.certificate, "private_key": {"secure": encrypt(pair.private_key)}, "ca": str(ca)}
        self.settings = {**self.settings, "tls": tls}
        self.roots = ssl.create_default_context(cadata=authority.pem)

    @property
    def code(self) -> str:
        """The application's module, relative to the project."""
        return f"{FLASK['source']}/app.py" if self.kind == "mysql" else "app/app.py"

    def state(self) -> dict[str, Any]:
        """What an upgrade leaves alone: objects in LXD, user data, boots, certificates with keys, running services.

        The services, by process id, are nginx and the process manager.
        """
        found: dict[str, Any] = {"traces": traces(self)}
        if self.roots:
            found["tls"] = self.on("", "sh", "-c", "cat /etc/wsgi-ecs/tls/* | sha256sum")
        services = ("nginx.service", *MANAGER[self.kind])
        found["services"] = {name: self.on("", "systemctl", "show", "-p", "MainPID", name) for name in services}
        for name, record in self.machines().items():
            config = lxd(f"/1.0/instances/{record['id']}?project={self.project}")["config"]
            texts = {key: value for key, value in config.items() if key.endswith("user-data")}
            assert texts
            found[name] = texts, self.on(name, "cat", "/proc/sys/kernel/random/boot_id", "/etc/machine-id")
        return found

    def release(self) -> str:
        """The release that serves."""
        return str(json.loads(self.on("", "cat", "/srv/wsgi-ecs/sites/app/current/state.json"))["release"])

    def application_environment(self) -> set[str]:
        """The environment of the application."""
        text = self.on("", "sh", "-c", "tr '\\0' '\\n' </proc/$(pgrep -n -u wsgi-app)/environ")
        return set(text.splitlines())


@pytest.fixture(scope="module", params=tried(KINDS, "systemd"))
def site(request: pytest.FixtureRequest, project_copy: Path) -> Iterator[Running]:
    """A stack of the old version that serves; the new version's files have come over the old ones as by `git pull`."""
    archive = files_of(VERSION)
    made = new_stack(project_copy, f"up-{request.param}")
    stack = Running(made.folder, made.name, KINDS[request.param], PASSPHRASE, kind=request.param)
    if stack.kind == "systemd":
        stack.certify()
    shutil.rmtree(stack.folder)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extractall(stack.folder, filter="data")
        tracked = [member.name for member in tar if not member.isdir()]
    try:
        done = stack.up()
        stack.address, stack.old = done.output("address"), done.output("release")
        if stack.kind == "mysql":
            assert stack.add("Zoë 🦉").status_code == 302
        stack.kept = stack.state()
        for name in tracked:
            (stack.folder / name).unlink()
        shutil.copytree(project_copy, stack.folder, dirs_exist_ok=True)
        yield stack
    finally:
        if traces(stack):
            stack.run("destroy", "--force")


def test_the_new_version_reads_what_the_old_version_has_written(site: Running) -> None:
    status = site.run("status")
    assert status.code == 0
    assert site.old in status.out
    assert "edited by hand" not in status.out
    assert site.state() == site.kept


def test_an_upgrade_with_a_broken_application_is_refused_and_the_old_release_serves_on(site: Running) -> None:
    if site.kind == "mysql":
        pytest.skip("the stack with MySQL shows an upgrade at the first attempt")
    site.edit(site.code, "import flask\n", "import flask\nimport nowhere_at_all\n")
    with site.asked() as answers:
        refused = site.run("up")
    site.edit(site.code, "import nowhere_at_all\n", "")
    assert refused.code == 1
    assert "No module named 'nowhere_at_all'" in refused.text
    assert {status for _, status in answers} == {200}
    assert site.release() == site.old


def test_an_upgrade_is_a_release_that_replaces_no_machine_and_loses_no_request(site: Running) -> None:
    with site.asked() as answers:
        done = site.up()
    parts = ("host", "site-app", *(["db-host"] if site.kind == "mysql" else []))
    releases = names(site, *(f"{part}-{step}" for part in parts for step in ("archive", "apply")))
    releases |= names(site, "ready", *(["db-ready"] if site.kind == "mysql" else []))
    if site.kind == "mysql":
        new = {("+", name) for name in names(site, "host-key", "db-host-key")}
        assert foretold(done) == {("+-", name) for name in releases} | {("~", *names(site, "db-settle"))} | new
    else:
        # The refused run has brought what the sites share, and has left records, which this run deletes.
        assert ("+-", *names(site, "site-app-apply")) in foretold(done)
        assert {name for _, name in foretold(done)} <= releases
    assert {name for _, name in performed(done)} <= {name for _, name in foretold(done)}
    assert len(answers) > 20
    assert {status for _, status in answers} == {200}
    assert done.output("release") == site.release() != site.old
    assert site.state() == site.kept


def test_a_second_up_changes_nothing(site: Running) -> None:
    release = site.release()
    done = site.up()
    assert foretold(done) == performed(done) == set()
    assert re.search(r"^\d+ unchanged$", done.out, re.MULTILINE)
    assert site.release() == release


def test_nothing_is_lost(site: Running) -> None:
    assert f"TOKEN={TOKEN}" in site.application_environment()
    assert site.old in site.on("", "ls", "/srv/wsgi-ecs/sites/app/releases").split()
    if site.kind == "mysql":
        assert "Zoë 🦉 was added on " in site.get(site.address, "/Zoë 🦉").text


def test_services_come_back_by_themselves_as_on_a_new_machine(site: Running) -> None:
    drop_ins = site.on("", "sh", "-c", "ls /etc/systemd/system/*.service.d/wsgi-ecs-restart.conf").split()
    units = [Path(path).parent.name.removesuffix(".d") for path in drop_ins]
    assert units == sorted(["nginx.service", "ssh.service", *MANAGER[site.kind]])
    for unit in units:
        shown = site.on("", "systemctl", "show", "-p", "Restart,StartLimitIntervalUSec,NeedDaemonReload", unit).split()
        assert set(shown) == {"Restart=always", "StartLimitIntervalUSec=0", "NeedDaemonReload=no"}, unit
    site.on("", "systemctl", "kill", "nginx")
    site.until(lambda: site.get(site.address, "/healthz").status_code == 200, 15)


def test_nothing_counts_as_edited_by_hand(site: Running) -> None:
    status = site.run("status")
    assert status.code == 0
    assert site.release() in status.out
    assert "edited by hand" not in status.out


def test_changed_code_is_released(site: Running) -> None:
    if site.kind == "systemd":
        pytest.skip("the upgrade of this stack has brought changed code, too")
    before = site.release()
    site.edit(site.code, "GET /healthz", "GET  /healthz")
    with site.asked() as answers:
        site.up()
    assert site.release() not in (before, site.old)
    assert {status for _, status in answers} == {200}
    assert f"TOKEN={TOKEN}" in site.application_environment()


def test_a_broken_release_leaves_the_one_before_it_serving(site: Running) -> None:
    if site.kind == "systemd":
        pytest.skip("the upgrade of this stack has shown a broken release")
    before = site.release()
    text = (site.folder / site.code).read_text()
    (site.folder / site.code).write_text(f"{text}\nimport nowhere_at_all\n")
    with site.asked() as answers:
        refused = site.run("up")
    (site.folder / site.code).write_text(text)
    assert refused.code == 1
    assert "No module named 'nowhere_at_all'" in refused.text
    assert {status for _, status in answers} == {200}
    assert site.release() == before


def test_rows_of_the_old_version_are_in_a_dump_and_come_back(site: Running) -> None:
    if site.kind != "mysql":
        pytest.skip("only one stack has MySQL")
    dump = site.folder / "app.sql.gz"
    done = site.run("backup", str(dump))
    assert done.code == 0, done.text
    assert "Zoë 🦉" in gzip.decompress(dump.read_bytes()).decode()
    site.on("db", "mysql", "-e", "DELETE FROM app.people")
    assert site.run("restore", str(dump)).code == 0
    assert "Zoë 🦉 was added on " in site.get(site.address, "/Zoë 🦉").text


def test_destroy_leaves_no_trace(site: Running) -> None:
    assert site.run("destroy", "--force").code == 0
    assert traces(site) == set()
